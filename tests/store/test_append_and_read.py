"""Append one by one and in batches, and read the log in every direction, now and as it was."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import Ticking
from eventstore import (
    Deleted,
    EventStoreError,
    ImageNotFoundError,
    ImageStore,
    InvalidParentError,
    LastUpdatedSet,
    StoreUsageError,
)
from making import config, id_of

A, B, C = (id_of(config(name)) for name in "abc")


class UnwantedError(Exception):
    """Thrown into a transaction."""


def fill(store: ImageStore) -> None:
    """Append eight records about three images, one of them deleted and created again."""
    store.create(config("a"), reason="1")
    with store.transaction(reason="batch"):
        store.create(config("b"))
        store.set_parent(store.search(B), A)
        store.set_built_locally(B)
    store.create(config("c"), reason="5")
    store.delete(A, reason="6")
    store.create(config("a"), reason="7")
    store.delete(C)


def test_positions_have_no_gap_and_records_name_batch_and_previous(store: ImageStore) -> None:
    """The envelope is what the design says, record by record."""
    fill(store)
    envelopes = [(r.position, r.batch, r.previous, r.reason) for r in store.records()]
    assert envelopes == [
        (1, 1, 0, "1"),
        (2, 2, 0, "batch"),
        (3, 2, 2, "batch"),
        (4, 2, 3, "batch"),
        (5, 5, 0, "5"),
        (6, 6, 1, "6"),
        (7, 7, 6, "7"),
        (8, 8, 5, ""),
    ]


def test_records_are_read_in_ranges_both_ways(store: ImageStore) -> None:
    """Every (after, through], of all images and of each, forward and backward."""
    fill(store)
    everything = list(store.records())
    for image_id in (None, A, B, C):
        stream = [r for r in everything if image_id in (None, r.image_id)]
        for after in range(-1, 10):
            for through in (None, *range(10)):
                end = 8 if through is None else through
                expected = [r for r in stream if after < r.position <= end]
                found = list(store.records(image_id, after=after, through=through))
                assert found == expected
                backward = store.records(image_id, after=after, through=through, reverse=True)
                assert list(backward) == expected[::-1]


def test_a_log_longer_than_a_page_reads_whole(store: ImageStore) -> None:
    """Pages are an implementation's matter: nothing is lost or doubled between them."""
    store.create(config("a"))
    with store.transaction():
        for number in range(2_500):
            store.set_last_updated(A, number)
    positions = list(range(1, 2_502))
    assert [r.position for r in store.records()] == positions
    assert [r.position for r in store.records(reverse=True)] == positions[::-1]
    assert [r.position for r in store.records(A)] == positions
    assert [r.position for r in store.records(A, reverse=True)] == positions[::-1]


def test_records_of_an_image_that_never_was_are_an_error(store: ImageStore) -> None:
    """A typo must not look like an empty history."""
    fill(store)
    for wrong in ("sha256:" + "0" * 64, "", A[:20]):
        with pytest.raises(ImageNotFoundError):
            store.records(wrong)


def test_times_never_decrease_even_if_the_clock_does(store_path: Path) -> None:
    """The clock may jump a year back; as-of by time keeps one answer."""
    times = iter([5, 9, 3, -7, 9, 12, 1])
    with ImageStore.open(store_path, now=lambda: next(times)) as store:
        for number in range(6):
            store.create(config(str(number)))
        assert [r.time_ns for r in store.records()] == [9, 9, 9, 9, 12, 12]
        expected = {0: 0, 8: 0, 9: 4, 11: 4, 12: 6, 99: 6}
        assert {t: store.position_at(t) for t in expected} == expected


def test_a_clock_beyond_64_bits_is_taken_to_their_end(store_path: Path) -> None:
    """A broken clock is no reason to refuse, and none to crash."""
    with ImageStore.open(store_path, now=lambda: 2**80) as store:
        store.set_last_updated(store.create(config("a")))
        created, updated = store.records()
        assert created.time_ns == updated.time_ns == 2**63 - 1
        assert isinstance(updated.event, LastUpdatedSet)
        assert updated.event.instant_ns == 2**63 - 1


def test_an_error_inside_a_transaction_gives_everything_up(store: ImageStore) -> None:
    """Log, view, configs and later appends are as if it had never been begun."""
    fill(store)
    before = store.position, store.view().digest
    with pytest.raises(UnwantedError), store.transaction():
        store.create(config("d"))
        store.delete(B)
        raise UnwantedError
    assert (store.position, store.view().digest) == before
    assert id_of(config("d")) not in store
    assert store.create(config("d")) in store
    assert store.position == before[0] + 1


def test_a_refused_mutation_inside_a_transaction_may_be_caught(store: ImageStore) -> None:
    """What was refused is not in the batch; the rest is."""
    with store.transaction() as transaction:
        store.create(config("a"))
        with pytest.raises(InvalidParentError):
            store.set_parent(A, A)
        store.create(config("b"))
    assert [type(r.event).__name__ for r in transaction.records] == ["Created", "Created"]


def test_an_empty_transaction_appends_nothing(store: ImageStore) -> None:
    """No record, no batch."""
    with store.transaction() as transaction:
        pass
    assert (store.position, transaction.records) == (0, [])


def test_a_transaction_in_a_transaction_is_refused_and_harms_neither(store: ImageStore) -> None:
    """Nesting has no meaning that would not surprise somebody."""
    with store.transaction():
        store.create(config("a"))
        with pytest.raises(StoreUsageError), store.transaction():
            pass
        store.create(config("b"))
    assert len(store) == 2


def test_a_transaction_sees_its_own_writes_and_others_do_not(store: ImageStore) -> None:
    """Other threads read the state before, without waiting."""
    store.create(config("a"))
    seen: list[object] = []
    with store.transaction():
        store.create(config("b"))
        store.delete(A)
        assert list(store) == [B]
        assert store.get(B).comment == "b"
        assert store.position == 3
        reader = threading.Thread(target=lambda: seen.extend((list(store), store.position)))
        reader.start()
        reader.join(timeout=20)
        assert seen == [[A], 1]
    assert list(store) == [B]


def test_an_image_deleted_and_created_in_one_batch_keeps_its_stream(store: ImageStore) -> None:
    """The chain of `previous` runs through it all."""
    store.create(config("a"))
    with store.transaction():
        store.delete(A)
        store.create(config("a"))
        store.delete(A)
    assert [r.previous for r in store.records(A)] == [0, 1, 2, 3]
    assert store.search_history(A[7:15]) == A
    assert A not in store


def test_the_past_is_found_by_prefix(store: ImageStore) -> None:
    """Deleted images and present ones, unique or not."""
    fill(store)
    for image_id in (A, B, C):
        assert store.search_history(image_id[7:27]) == image_id
    with pytest.raises(ImageNotFoundError):
        store.search(C)
    with pytest.raises(EventStoreError):
        store.search_history("")


def test_as_of_a_time_includes_the_whole_of_its_microsecond(store_path: Path) -> None:
    """Records carry nanoseconds, datetimes do not: none is lost at the edge."""
    times = iter([1_000_001_999, 1_000_001_999, 1_000_002_000, 1_000_002_000])
    with ImageStore.open(store_path, now=lambda: next(times)) as store:
        store.create(config("a"))
        store.create(config("b"))
        moment = datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)
        assert store.as_of(time=moment).position == 1
        assert store.as_of(time=1_000_001_998).position == 0
        assert store.as_of(time=1_000_001_999).position == 1
        assert store.as_of(time=moment + timedelta(microseconds=1)).position == 2
        east = moment.astimezone().replace(microsecond=1)
        assert store.as_of(time=east).position == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"position": 1, "time": 1},
        {"position": -1},
        {"position": 9},
        {"position": 1.0},
        {"position": True},
        {"position": "1"},
        {"time": datetime(2026, 1, 1)},
        {"time": "2026-01-01"},
        {"time": 1.5},
    ],
)
def test_a_moment_that_is_none_is_refused(store: ImageStore, arguments: dict[str, object]) -> None:
    """Both, neither, out of range, of the wrong type, without a zone."""
    fill(store)
    with pytest.raises(StoreUsageError):
        store.as_of(**arguments)  # type: ignore[arg-type]


def test_a_view_of_the_past_stays_as_it_is_while_writers_go_on(store: ImageStore) -> None:
    """Also where it was the newest position when it was taken."""
    fill(store)
    view = store.as_of(position=store.position)
    before = view.digest, list(view), view.children(A)
    store.set_parent(B, A)
    store.delete(A)
    assert (view.digest, list(view), view.children(A)) == before
    assert view.get(A).raw_json == config("a")


def test_deleted_images_are_whole_in_the_past(store: ImageStore) -> None:
    """The config is kept, so the past can be read."""
    fill(store)
    view = store.as_of(position=5)
    assert view.get(C).raw_json == config("c")
    assert view.get_parent(B) == A
    assert store.as_of(position=6).get_parent(B) is None


def test_diff_takes_positions_times_and_views(store: ImageStore, clock: Ticking) -> None:
    """They mean the same moment."""
    fill(store)
    time = list(store.records())[4].time
    by_position = store.diff(5)
    assert store.diff(store.as_of(position=5)) == by_position == store.diff(time)
    assert (by_position.before, by_position.after) == (5, 8)
    assert by_position.deleted == [C]
    assert clock.now_ns > 0


def test_delete_appends_what_happened_and_the_reason(store: ImageStore) -> None:
    """The last record of the stream."""
    fill(store)
    last = next(store.records(C, reverse=True))
    assert isinstance(last.event, Deleted)
    assert last.actor == "tester@host"


@pytest.mark.parametrize("instant", ["now", 1.5, True, 2**63, -(2**63) - 1, datetime(2026, 1, 1)])
def test_a_last_update_that_is_no_instant_is_refused(store: ImageStore, instant: object) -> None:
    """Wrong type, no zone, or beyond what 64 bits of nanoseconds hold."""
    store.create(config("a"))
    with pytest.raises(StoreUsageError):
        store.set_last_updated(A, instant)  # type: ignore[arg-type]
    assert store.position == 1


@pytest.mark.parametrize("instant", [0, -1, 2**63 - 1, -(2**63), 1_600_000_000_123_456_789])
def test_a_last_update_is_exact(store: ImageStore, instant: int) -> None:
    """To the nanosecond in the record, to the microsecond as a datetime."""
    store.create(config("a"))
    store.set_last_updated(A, instant)
    event = next(store.records(reverse=True)).event
    assert getattr(event, "instant_ns") == instant  # noqa: B009 (only this event has it)
    moment = store.get_last_updated(A)
    assert moment is not None
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == (
        instant // 1000
    )


def test_follow_yields_each_record_once_and_ends_with_the_store(store_path: Path) -> None:
    """From a position, or from now; other threads write meanwhile."""
    store = ImageStore.open(store_path)
    store.create(config("0"))
    seen: list[int] = []
    from_now: list[int] = []
    late = store.follow()
    threads = [
        threading.Thread(target=lambda: seen.extend(r.position for r in store.follow(0))),
        threading.Thread(target=lambda: from_now.extend(r.position for r in late)),
    ]
    for thread in threads:
        thread.start()
    for number in range(1, 50):
        store.create(config(str(number)))
    deadline = threading.Event()
    while len(from_now) < 49 or len(seen) < 50:
        deadline.wait(0.01)
    store.close()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert seen == list(range(1, 51))
    assert from_now == list(range(2, 51))
