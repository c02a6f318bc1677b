"""What a page is made of: whole, and of one store, whatever happens to that meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore import CompactedError, ImageStore
from eventstore.events import KINDS, Record
from eventstore.page.history import gather, instant_of
from making import config, id_of


class Compacting:
    """A store that is compacted while its records are read."""

    def __init__(self, store: ImageStore, at: int) -> None:
        """Wait until the record at a position is read."""
        self._store = store
        self._at = at

    def __getattr__(self, name: str) -> Any:
        """Be the store in all else."""
        return getattr(self._store, name)

    def records(self, **bounds: int) -> Iterator[Record]:
        """Iterate over the records as the store does."""
        for record in self._store.records(**bounds):
            yield record
            if record.position == self._at:
                self._store.compact(position=self._store.position - 5, reason="a test")


@pytest.mark.parametrize("at", [1, 1000, 2399])
def test_a_compaction_meanwhile_shifts_no_record(store: ImageStore, at: int) -> None:
    """Positions are counted: a page without what was dropped would say all of the rest wrong."""
    for part in range(4):
        with store.transaction():
            for number in range(300):
                store.create(config(f"{part} {number}"))
            for number in range(300):
                store.delete(id_of(config(f"{part} {number}")))
    compacting: Any = Compacting(store, at)
    with pytest.raises(CompactedError):
        gather(compacting, title="a store", since=0)
    again: Any = Compacting(store, store.position - 3)
    gathered = gather(again, title="a store")
    since, count = gathered["since"]["position"], len(gathered["records"]["kind"])
    assert since == store.horizon.through > 0
    assert since + count == store.position
    kinds = [gathered["kinds"][number] for number in gathered["records"]["kind"]]
    assert kinds == [KINDS[type(record.event)] for record in store.records(after=since)]


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 10**9


@pytest.mark.parametrize("second", [0, 1, -1, 1_700_000_000, -3_000_000_000, 8_000_000_000])
def test_what_was_within_a_second_is_behind_its_beginning(second: int) -> None:
    """A moment that is written as a second means the records up to it, as `--at` does."""
    start = second * SECOND
    assert instant_of(start) == second * 10**6
    for within in (1, 999, 1000, 1001, SECOND // 2, SECOND - 1):
        assert second * 10**6 < instant_of(start + within) < (second + 1) * 10**6


@pytest.mark.parametrize("year", [1, 1600, 1677, 1684, 1970, 2254, 2261, 9999])
def test_any_year_survives_the_numbers_of_a_browser(year: int) -> None:
    """They hold 53 bits; rounding must not make a second of it that it was not."""
    start = (datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
    for within in (0, 1, 999_999_999):
        instant = instant_of(start * SECOND + within)
        assert int(float(instant)) == instant
        assert instant // 10**6 == start


def test_times_are_those_of_the_log(store: ImageStore, clock: Any) -> None:
    """In order, also where several lie within a microsecond."""
    for step in (1, 1, 500, 499, 999_998_999, 1, 2, 10**9):
        clock.now_ns += step - SECOND
        store.create(config(str(clock.now_ns)))
    gathered = gather(store, title="a store")
    total, times = 0, []
    for delta in gathered["records"]["time"]:
        total += delta
        times.append(total)
    assert times == sorted(times)
    for record, time in zip(store.records(), times, strict=True):
        seconds = record.time_ns // SECOND
        assert time // 10**6 == seconds
        assert (time > seconds * 10**6) == (record.time_ns > seconds * SECOND)
