"""Snapshots: taken by policy, pruned by a rule that keeps the stated bound, never trusted."""

from __future__ import annotations

import logging
import random
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import ImageStore, SnapshotInfo, replay, snapshots
from making import config, id_of
from store.children import run

A = id_of(config("a"))


def farthest(store: ImageStore) -> int:
    """Return how many records as-of reads at the worst position, from what snapshots there are."""
    known = [0, *(found.position for found in store.snapshots())]
    ends = [*(position - 1 for position in known[1:]), store.position]
    return max(end - start for start, end in zip(known, ends, strict=True))


@pytest.fixture
def small_interval(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make the policy's floor small, so that short histories go through it many times."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 16)
    return 16


@pytest.mark.parametrize("batch", [1, 5, 15, 16, 17, 100])
def test_the_policy_keeps_the_bound_of_as_of_whatever_the_batches(
    store_path: Path, small_interval: int, batch: int
) -> None:
    """At every moment, for one-by-one appends and for batches longer than the interval."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        for start in range(0, 400, batch):
            with store.transaction():
                for number in range(start, start + batch):
                    store.set_last_updated(A, number)
            assert farthest(store) <= 2 * small_interval
        assert list(store.verify()) == []
        digests = [store.as_of(position=p).digest for p in range(store.position + 1)]
        for found in store.snapshots():
            snapshots.drop(store._environment, found.position)
        assert [store.as_of(position=p).digest for p in range(store.position + 1)] == digests


def test_the_bound_holds_over_reopening_and_demand(store_path: Path, small_interval: int) -> None:
    """Snapshots on demand add to those of the policy, and pruning keeps what as-of needs."""
    for number in range(200):
        with ImageStore.open(store_path) as store:
            store.create(config(str(number)))
            if number % 7 == 0:
                store.take_snapshot()
            assert farthest(store) <= 2 * max(small_interval, len(store) // 4)
    assert number == 199
    with ImageStore.open(store_path) as store:
        assert len(store.snapshots()) < 200 // 7


def test_the_interval_grows_with_the_images() -> None:
    """So that writing snapshots costs a bounded number of rows an event."""
    assert snapshots.interval(0) == snapshots.INTERVAL_MIN == 4096
    assert snapshots.interval(100_000) == 25_000


@given(st.lists(st.integers(1, 6_000), max_size=60), st.integers(0, 40_000))
def test_pruning_never_breaks_the_bound_and_never_drops_the_newest(
    gaps: list[int], images: int
) -> None:
    """Whatever snapshots there are: no gap grows beyond the interval because of it."""
    positions = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    known = [SnapshotInfo(position, 0, images) for position in positions]
    dropped = set(snapshots.superfluous(known))
    kept = [0, *(position for position in positions if position not in dropped)]
    assert not positions or positions[-1] in kept
    for before, after in pairwise(kept):
        least = min((p for p in positions if p > before), default=after)
        limit = max(snapshots.interval(images), snapshots.INTERVAL_MIN)
        assert after - before <= limit or after == least
    for position, left, right in zip(kept[1:-1], kept, kept[2:], strict=False):
        assert position in kept
        assert right - left > snapshots.INTERVAL_MIN or left == 0


def test_opening_starts_from_the_newest_snapshot_and_decodes_no_config(store_path: Path) -> None:
    """Records before it are not read: they may even be damaged, which `verify` then says."""
    with ImageStore.open(store_path) as store:
        for number in range(20):
            store.create(config(str(number)))
        store.take_snapshot()
        store.create(config("after"))
        digest = store.view().digest
    with lmdb.open(str(store_path), max_dbs=16) as env:
        records, configs = env.open_db(b"log"), env.open_db(b"configs")
        with env.begin(write=True) as txn:
            txn.put((3).to_bytes(8, "big"), b"damaged", db=records)
            txn.drop(configs, delete=False)
    with ImageStore.open(store_path) as store:
        assert store.view().digest == digest
        assert len(store) == 21
        kinds = {problem.kind for problem in store.verify()}
        assert {"log", "config"} <= kinds


def damaged(raw: bytes) -> list[bytes]:
    """Return a value with single bits flipped, cut, longer, empty."""
    step = max(len(raw) // 24, 1)
    flipped = []
    for index in range(0, len(raw), step):
        copy = bytearray(raw)
        copy[index] ^= 1 << index % 8
        flipped.append(bytes(copy))
    return [*flipped, raw[:-1], raw + b"\0", b""]


def test_any_damage_to_a_snapshot_is_ignored_with_a_warning_and_reported(
    store_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Header and chunks alike; the store opens from further back, and answers the same."""
    monkeypatch.setattr(snapshots, "CHUNK_LENGTH", 400)
    with ImageStore.open(store_path) as store:
        for number in range(1_100):
            if number % 500 == 0:
                store.take_snapshot()
            with store.transaction():
                store.create(config(str(number)))
        newest = store.take_snapshot().position
        digest = store.view().digest
    with lmdb.open(str(store_path), max_dbs=16) as env:
        handle = env.open_db(b"snapshots")
        with env.begin(db=handle) as txn:
            prefix = newest.to_bytes(8, "big")
            values = {bytes(key): bytes(value) for key, value in txn.cursor() if key[:8] == prefix}
    assert len(values) == 19
    for key, raw in values.items():
        for wrong in [*damaged(raw)[:: 1 if key[8:] == b"\0\0\0\0" else 6], None]:
            with lmdb.open(str(store_path), max_dbs=16) as env:
                handle = env.open_db(b"snapshots")
                with env.begin(write=True, db=handle) as txn:
                    txn.put(key, wrong) if wrong is not None else txn.delete(key)
            caplog.clear()
            with ImageStore.open(store_path, read_only=True) as store:
                assert store.view().digest == digest
                # A header that is gone makes it no snapshot at all; all else is said.
                if wrong is not None or key[8:] != b"\0\0\0\0":
                    assert "ignoring a damaged snapshot" in caplog.text
                    assert caplog.records[0].levelno == logging.WARNING
            with lmdb.open(str(store_path), max_dbs=16) as env:
                handle = env.open_db(b"snapshots")
                with env.begin(write=True, db=handle) as txn:
                    txn.put(key, raw)


def test_verify_reports_a_snapshot_that_proves_itself_but_lies(store_path: Path) -> None:
    """Its digests are right, its rows are another history's: only a replay finds that."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        store.create(config("b"))
        view = store.as_of(position=1)
        lie = type(view)(
            dict(view.rows()), position=2, time_ns=store.view().time_ns, read_config=None
        )
        snapshots.put(store._environment, lie)
        problems = list(store.verify())
    assert [(problem.kind, problem.position) for problem in problems] == [("snapshot", 2)]


def test_a_snapshot_beyond_the_log_is_no_snapshot_of_it(store_path: Path) -> None:
    """As after a log was cut in a store that notes no end: it is reported, and not used."""
    with ImageStore.open(store_path) as store:
        for number in range(5):
            store.create(config(str(number)))
        store.take_snapshot()
    with lmdb.open(str(store_path), max_dbs=16) as env:
        handle, main = env.open_db(b"log"), env.open_db()
        with env.begin(write=True, db=handle) as txn:
            txn.delete((5).to_bytes(8, "big"))
            txn.delete(b"end", db=main)
    with ImageStore.open(store_path, read_only=True) as store:
        assert (store.position, len(store)) == (4, 4)
        assert "snapshot" in {problem.kind for problem in store.verify()}


def test_a_snapshot_that_cannot_be_written_does_not_fail_the_append(
    store_path: Path,
    small_interval: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event is on disk; the cache is not, and that is said.

    A snapshot of so many images needs some hundred pages, an append a few: it is what fails first.
    """
    monkeypatch.setattr(snapshots, "INTERVAL_SHARE", 1_000_000)
    with ImageStore.open(store_path, map_size=1 << 22, map_size_max=1 << 22) as store:
        with store.transaction():
            images = [store.create(config(str(number))) for number in range(5_000)]
        position = store.position
        while "no snapshot taken" not in caplog.text:
            store.set_last_updated(images[0], position)
            position += 1
        assert store.position == position
        assert store.create(config("one more")) in store
    with ImageStore.open(store_path) as store:
        assert (len(store), store.position) == (len(images) + 1, position + 1)
        assert {problem.kind for problem in store.verify()} <= {"snapshot"}


@pytest.mark.parametrize("newer", [True, False])
def test_of_two_threads_that_take_snapshots_the_slower_one_undoes_nothing(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    """The live view stays over the newer snapshot, and keeps what changed meanwhile without one."""
    begun, go_on = threading.Event(), threading.Event()
    load = replay.table_of

    def slow(*arguments: object) -> object:
        table = load(*arguments)  # type: ignore[arg-type]
        if threading.current_thread().name == "slow":
            begun.set()
            assert go_on.wait(10)
        return table

    monkeypatch.setattr(replay, "table_of", slow)
    with ImageStore.open(store_path) as store:
        first = [store.create(config(str(number))) for number in range(5)]
        thread = threading.Thread(target=store.take_snapshot, name="slow")
        thread.start()
        assert begun.wait(10)
        store.delete(first[0])
        later = [store.create(config(str(number))) for number in range(5, 9)]
        if newer:
            store.take_snapshot()
        go_on.set()
        thread.join()
        assert list(store) == sorted([*first[1:], *later])
        assert store.view().digest == replay.from_nothing(store._environment, 10).digest


def test_threads_that_store_and_prune_at_once_leave_only_what_can_be_read(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What one is about to store, or has just stored, no other takes for what was left behind.

    Between two commits of one, others do theirs, as those of other processes would.
    """
    for name, value in (("INTERVAL_MIN", 12), ("CHUNK_LENGTH", 4), ("CHUNKS_A_WRITE", 1)):
        monkeypatch.setattr(snapshots, name, value)
    monkeypatch.setattr(snapshots, "DELETIONS_MAX", 3)
    with ImageStore.open(store_path) as store:

        def live(name: str) -> None:
            choose = random.Random(name)
            for number in range(40):
                store.create(config(f"{name} {number}"))
                if choose.random() < 0.5:
                    store.take_snapshot()
                for found in store.snapshots()[choose.randrange(1, 20) :][:1]:
                    snapshots.drop(store._environment, found.position)
                store.as_of(position=choose.randrange(store.position)).rows()

        threads = [threading.Thread(target=live, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store) == store.position == 160
        assert list(store.verify()) == []
    assert caplog.text == ""


def test_no_snapshot_goes_that_others_lie_over_and_none_lies_over_one_that_is_gone(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked in the very commit that changes it, whatever was read before."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 1)
    environment = store._environment
    for number in range(3):
        store.create(config(str(number)))
        store.take_snapshot()
    assert not snapshots.drop(environment, 3, spare=True)
    newest = next(snapshots.newest(environment, 3))
    with environment.read() as txn:
        pieces = snapshots._keys_of(txn, 3)
    assert not snapshots._make_difference(environment, 3, newest.digest, [], over=9)
    put = partial(snapshots._put_header, header=newest, pieces=len(pieces) - 1, instead=bytes(32))
    assert not environment.write(put)
    snapshots._clear(environment, 3)
    with environment.read() as txn:
        assert snapshots._keys_of(txn, 3) == pieces
    assert snapshots.drop(environment, 2, spare=True)
    assert [found.position for found in store.snapshots()] == [1, 3]


def test_a_snapshot_that_is_overtaken_by_a_later_one_takes_nothing_from_the_view(
    store: ImageStore,
) -> None:
    """Threads may store snapshots at once, and the earlier one may be the last to be done."""
    first = store.create(config("first"))
    with store._lock:
        earlier = store._live.freeze()
    second = store.create(config("second"))
    store.take_snapshot()
    store._store_snapshot(earlier)
    assert sorted(store) == sorted([first, second])
    assert store.create(config("second")) == second
    assert store.position == 2


def test_damage_to_a_snapshot_that_thousands_lie_over_is_passed_over_at_once(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of those would lead to the next one, deeper than the stack of Python is."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 2)
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        for number in range(400):
            store.set_last_updated(A, number)
        assert len(store.snapshots()) > 150
        newest = store.snapshots()[-1].position
        environment = store._environment
        with environment.read() as txn:
            chunk = snapshots._keys_of(txn, newest)[1]
        environment.write(lambda txn: txn.put("snapshots", chunk, b"damaged", replace=True))
    with ImageStore.open(store_path) as store:
        assert list(store) == [A]
        assert {problem.position for problem in store.verify()} == {newest}


def test_a_store_that_only_reads_does_not_hold_ever_more(
    store_path: Path, small_interval: int
) -> None:
    """While another process writes for long, its view moves over the snapshots that that takes."""
    script = """
        from eventstore import snapshots
        snapshots.INTERVAL_MIN = 16
        with ImageStore.open(path) as store:
            for number in range(60):
                store.create(config(f"{store.position} {number}"))
            store.delete(store.search(list(store)[0]))
    """
    ImageStore.open(store_path).close()
    with ImageStore.open(store_path, read_only=True) as store:
        for turn in range(1, 6):
            run(dedent(script), store_path)
            heads = store.heads()
            assert len(store) == len(heads) == len(list(store)) == turn * 59
            assert store.view().changes <= 61 + 3 * snapshots.interval(len(store))
        assert store.view().base_position > 100
        expected = replay.from_nothing(store._environment, store.position)
        assert store.view().digest == expected.digest
