"""Give the store clocks that jump, stand, run apart, or are no clocks; as-of keeps one answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from eventstore import ImageStore, LastUpdatedSet, StoreUsageError, clock
from eventstore.cli.main import run as command
from eventstore.cli.moments import position_of
from making import config
from store.children import started

NOW = 1_700_000_000 * clock.NANOSECONDS
YEAR_2100 = clock.to_nanoseconds(datetime(2100, 1, 1, tzinfo=UTC))
HOUR = 3_600 * clock.NANOSECONDS


def fail() -> int:
    """Be a clock that fails."""
    raise OSError("no clock here")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: 1_700_000_000.5,
        lambda: float("nan"),
        lambda: None,
        lambda: "now",
        lambda: True,
        lambda: datetime.now(UTC),
        fail,
    ],
)
def test_what_is_no_clock_is_refused_before_anything_is_written(
    store_path: Path, broken: Callable[[], int]
) -> None:
    """Seconds as a float, once stored, could never be read again."""
    with pytest.raises(StoreUsageError):
        ImageStore.open(store_path, now=broken)
    with ImageStore.open(store_path) as store:
        image_id = store.create(config("a"))
    with ImageStore.open(store_path, now=broken) as store:
        with pytest.raises(StoreUsageError):
            store.create(config("b"))
        with pytest.raises(StoreUsageError):
            store.set_last_updated(image_id)
        with pytest.raises(StoreUsageError):
            store.delete(image_id)
        assert (store.position, list(store)) == (1, [image_id])
    with ImageStore.open(store_path) as store:
        assert list(store.verify()) == []


@pytest.mark.parametrize(
    ("says", "recorded", "updated"),
    [
        (0, 0, 0),
        (-5, 0, -5),
        (-(10**30), 0, clock.STORED_MIN_NS),
        (10**30, clock.STORED_MAX_NS, clock.STORED_MAX_NS),
    ],
)
def test_clocks_out_of_range_are_taken_to_the_nearest_end(
    store_path: Path, says: int, recorded: int, updated: int
) -> None:
    """Every record has a time, and every time finds it."""
    with ImageStore.open(store_path, now=lambda: says) as store:
        store.set_last_updated(store.create(config("a")))
        created, touched = store.records()
        assert created.time_ns == touched.time_ns == recorded
        assert isinstance(touched.event, LastUpdatedSet)
        assert touched.event.instant_ns == updated
        assert store.position_at(recorded) == 2
        assert store.position_at(recorded - 1) == 0
        assert store.as_of(time=touched.time).position == 2
        assert list(store.verify()) == []
        assert store.created.year >= 1970


def test_a_clock_that_was_in_2100_holds_times_there_and_says_so_once(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each stretch of held times, not for each record."""
    times = iter([NOW, NOW, YEAR_2100, NOW + HOUR, NOW, YEAR_2100 + 5, NOW])
    with (
        ImageStore.open(store_path, now=lambda: next(times)) as store,
        caplog.at_level(logging.WARNING),
    ):
        warned = []
        for number in range(6):
            store.create(config(str(number)))
            warned.append(len(caplog.records))
        assert warned == [0, 0, 1, 1, 1, 2]
        assert "2100-01-01" in caplog.records[0].getMessage()
        recorded = [record.time_ns for record in store.records()]
        assert recorded == [NOW, *[YEAR_2100] * 3, *[YEAR_2100 + 5] * 2]
        assert store.position_at(NOW + HOUR) == 1
        assert store.position_at(YEAR_2100) == 4
        assert store.position_at(YEAR_2100 + 5) == 6


def test_a_clock_that_is_set_back_by_less_than_a_minute_is_no_news(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clocks of hosts are set by seconds every day."""
    times = iter([NOW, NOW, NOW - 59 * clock.NANOSECONDS])
    with ImageStore.open(store_path, now=lambda: next(times)) as store:
        store.create(config("a"))
        store.create(config("b"))
    assert caplog.records == []


def test_two_processes_with_clocks_hours_apart_record_one_order_of_times(store_path: Path) -> None:
    """Whoever is behind takes over the time of whoever is ahead."""
    script = """
shift, name = int(sys.argv[2]), sys.argv[3]
with ImageStore.open(path, actor=name, now=lambda: time.time_ns() + shift) as store:
    for number in range(40):
        store.create(config(f"{name} {number}"))
"""
    with ImageStore.open(store_path) as store:
        with (
            started(script, store_path, -5 * HOUR, "behind") as one,
            started(script, store_path, 5 * HOUR, "ahead") as other,
        ):
            assert (one.wait(60), other.wait(60)) == (0, 0)
        records = list(store.records())
        times = [record.time_ns for record in records]
        assert len(records) == 80
        assert times == sorted(times)
        for record in records:
            answer = store.position_at(record.time_ns)
            assert answer >= record.position
            assert records[answer - 1].time_ns == record.time_ns
        assert list(store.verify()) == []


def test_a_copy_that_is_taken_to_a_host_with_a_slower_clock_goes_on(store_path: Path) -> None:
    """Its past keeps its answers, and its future never goes before that."""
    copy = store_path.with_name("copy")
    with ImageStore.open(store_path, now=lambda: NOW) as store:
        store.create(config("a"))
        store.backup(copy)
    with ImageStore.open(copy, now=lambda: NOW - 5 * HOUR) as store:
        store.create(config("b"))
        assert [record.time_ns for record in store.records()] == [NOW, NOW]
        assert store.position_at(NOW - HOUR) == 0
        assert store.position_at(NOW) == 2


def test_the_hour_that_a_clock_change_repeats_has_two_answers_by_its_zone(
    store_path: Path,
) -> None:
    """In Berlin 02:30 came twice on 2023-10-29; `fold` says which is meant."""
    first = datetime(2023, 10, 29, 0, 30, tzinfo=UTC)
    times = iter(clock.to_nanoseconds(first + timedelta(hours=hour)) for hour in (0, 0, 1))
    with ImageStore.open(store_path, now=lambda: next(times)) as store:
        store.create(config("a"))
        store.create(config("b"))
        berlin = datetime(2023, 10, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        assert store.position_at(berlin) == 1
        assert store.position_at(berlin.replace(fold=1)) == 2
        assert position_of(store, "2023-10-29T02:30+02:00") == 1
        assert position_of(store, "2023-10-29T02:30+01:00") == 2


@pytest.mark.parametrize(
    ("time", "expected"),
    [(-(10**40), 0), (10**40, 2), (NOW - 1, 0), (NOW, 1), (NOW + 1, 1), (NOW + HOUR, 2)],
)
def test_every_time_has_an_answer(store_path: Path, time: int, expected: int) -> None:
    """Also those that no clock can say."""
    times = iter([NOW, NOW, NOW + HOUR])
    with ImageStore.open(store_path, now=lambda: next(times)) as store:
        store.create(config("a"))
        store.create(config("b"))
        assert store.as_of(time=time).position == expected


def test_info_says_that_the_log_is_ahead_of_the_clock(
    store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks at a store whose clock was once in 2100 is told what that means."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    assert command(["-s", str(store_path), "info"]) == 0
    assert "ahead" not in capsys.readouterr().out
    with ImageStore.open(store_path, now=lambda: YEAR_2100) as store:
        store.create(config("b"))
    assert command(["-s", str(store_path), "info"]) == 0
    assert "ahead of this host's clock" in capsys.readouterr().out
    assert command(["-s", str(store_path), "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_ahead_of_clock"] > 1_000_000
