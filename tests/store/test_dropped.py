"""Damage what is left of dropped records: nothing that was lost passes for dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from eventstore import (
    Compacted,
    CorruptionError,
    ImageStore,
    check_store,
    codec,
    dropped,
    log,
    merkle,
)
from making import config, id_of


@pytest.fixture
def old(store_path: Path) -> Iterator[ImageStore]:
    """Return a store with 7 records, the first and the third of which are dropped by 5."""
    with ImageStore.open(store_path) as store:
        for name in "ab":
            store.create(config(name))
        store.delete(id_of(config("a")))
        store.tag("b", id_of(config("b")))
        for name in "cde":
            store.create(config(name))
        yield store


def _changed(path: Path, change: Any) -> None:
    with lmdb.open(str(path), max_dbs=16, map_size=1 << 30) as env:
        handles = {name: env.open_db(name) for name in (b"meta", b"log")}
        with env.begin(write=True) as txn:
            change(txn, handles)


def _drop(key: bytes, database: bytes = b"meta") -> Any:
    return lambda txn, handles: txn.delete(key, db=handles[database])


def _flip(key: bytes, at: int) -> Any:
    def change(txn: Any, handles: Any) -> None:
        value = bytearray(txn.get(key, db=handles[b"meta"]))
        value[at] ^= 1
        txn.put(key, bytes(value), db=handles[b"meta"])

    return change


ROW = dropped.PREFIX + bytes(8)


@pytest.mark.parametrize(
    "change",
    [
        _drop(ROW),
        _flip(ROW, 0),
        _flip(ROW, 6),
        _flip(ROW, -1),
        _drop((2).to_bytes(8, "big"), b"log"),
        _drop((6).to_bytes(8, "big"), b"log"),
    ],
)
def test_what_was_not_dropped_but_lost_is_missed(old: ImageStore, change: Any) -> None:
    """A record without its hash, a hash that is bent; nothing passes for dropped."""
    path = old.path
    old.compact(position=5)
    old.close()
    _changed(Path(path), change)
    assert [problem.kind for problem in check_store(path)][:1] in (["hash"], ["log"])
    with pytest.raises(CorruptionError), ImageStore.open(path) as store:
        list(store.records())


@pytest.mark.parametrize("change", [_drop(dropped.NOTE), _flip(dropped.NOTE, 1)])
def test_a_store_without_its_horizon_does_not_open(old: ImageStore, change: Any) -> None:
    """It would show a past that never was."""
    path = old.path
    old.compact(position=5)
    old.close()
    _changed(Path(path), change)
    assert list(check_store(path)) != []
    with pytest.raises(CorruptionError):
        ImageStore.open(path)


def test_a_horizon_that_no_record_says_is_a_problem(old: ImageStore) -> None:
    """Whoever drops records and says nothing is found out."""
    path = Path(old.path)
    old.compact(position=5)
    horizon = old.horizon
    old.close()
    for wrong in (
        dropped.Horizon(6, horizon.by, horizon.time_ns, 2),
        dropped.Horizon(5, 4, horizon.time_ns, 2),
        dropped.Horizon(5, 99, horizon.time_ns, 2),
    ):
        with ImageStore.open(path) as store:
            store._environment.write(lambda txn, wrong=wrong: dropped.note(txn, wrong))
        assert "meta" in {problem.kind for problem in check_store(path)}
        with ImageStore.open(path) as store:
            store._environment.write(lambda txn: dropped.note(txn, horizon))
    assert list(check_store(path)) == []


def test_rows_are_read_as_they_were_written_and_joined(store: ImageStore) -> None:
    """Over the edges of rows, in any order; and no more than was asked for."""
    leaves = {position: bytes([position]) * 32 for position in (1, 39, 40, 41, 80, 81, 200)}
    environment = store._environment
    for position in (200, 40, 1, 81, 39, 80, 41):
        environment.write(lambda txn, at=position: dropped.add(txn, {at: leaves[at]}))
    with environment.read() as txn:
        assert dropped.leaves(txn, 1, 1_000) == leaves
        for first, last in ((1, 1), (2, 38), (39, 41), (40, 80), (81, 81), (82, 199), (200, 999)):
            expected = {at: leaf for at, leaf in leaves.items() if first <= at <= last}
            assert dropped.leaves(txn, first, last) == expected
        assert [dropped.first_missing(txn, *span) for span in ((39, 41), (39, 42), (1, 2))] == [
            0, 42, 2]  # fmt: skip
        assert dict(dropped.rows(txn))[ROW] == [1, 39, 40]
    assert {problem.kind for problem in store.verify()} == {"hash"}  # none of these was dropped
    for key in (ROW[:-1] + bytes([row]) for row in (0, 1, 2, 4)):
        environment.write(lambda txn, key=key: txn.delete("meta", key))


def test_a_record_that_is_made_pass_for_dropped_is_missed(old: ImageStore) -> None:
    """By whoever moves its hash beside the others and counts it: its life goes on behind it."""
    path, image = old.path, id_of(config("b"))
    old.set_last_updated(image)
    old.compact(position=5)
    with old._environment.read() as txn:
        horizon, record = dropped.horizon(txn), log.read_one(txn, 4)

    def forge(txn: Any) -> None:
        log.drop(txn, 4)
        dropped.add(txn, {4: merkle.leaf_hash(record.raw)})
        dropped.note(txn, horizon.with_more(1))

    old._environment.write(forge)
    old.close()
    assert "log" in {problem.kind for problem in check_store(path)}


def test_a_last_record_that_is_made_pass_for_dropped_is_missed(store_path: Path) -> None:
    """Nothing goes on behind it, the count and all hashes fit, and no snapshot is left to tell."""
    with ImageStore.open(store_path) as store:
        store.delete(store.create(config("a")))
        image = store.create(config("b"))
        store.set_last_updated(image)
        done = store.compact(position=4)
        with store._environment.read() as txn:
            horizon, record = dropped.horizon(txn), log.read_one(txn, 4)

        def forge(txn: Any) -> None:
            log.drop(txn, 4)
            dropped.add(txn, {4: merkle.leaf_hash(record.raw)})
            dropped.note(txn, horizon.with_more(1))
            for key in list(txn.keys("snapshots", b"")):
                txn.delete("snapshots", key)

        root = store.checkpoint().root_hash
        store._environment.write(forge)
        assert store.checkpoint().root_hash == root
    (problem,) = check_store(store_path)
    assert (problem.kind, problem.position) == ("log", done.by)
    assert "more was dropped than record 5 knew of" in problem.message


def test_a_horizon_with_another_time_is_a_problem(old: ImageStore) -> None:
    """By it a moment would be looked up; whether its record is kept or not."""
    path = old.path
    for position in (3, 4):
        with ImageStore.open(path) if position == 4 else old as store:
            store.compact(position=position)
            horizon = store.horizon
            for time_ns in (horizon.time_ns - 10**15, 0):
                wrong = dropped.Horizon(position, horizon.by, time_ns, horizon.dropped)
                store._environment.write(lambda txn, wrong=wrong: dropped.note(txn, wrong))
                assert "meta" in {problem.kind for problem in store.verify()}
            store._environment.write(lambda txn, right=horizon: dropped.note(txn, right))
            assert list(store.verify()) == []


def test_a_record_that_is_dropped_behind_the_horizon_is_a_problem(old: ImageStore) -> None:
    """Its hash is there, and the count is right; but no compaction says so."""
    path = Path(old.path)
    old.compact(position=5)
    leaf, horizon = old.leaf_hash(6), old.horizon

    def drop(txn: Any) -> None:
        assert log.drop(txn, 6)
        dropped.add(txn, {6: leaf})
        dropped.note(txn, horizon.with_more(1))

    old._environment.write(drop)
    old.close()
    found = [problem for problem in check_store(path) if problem.kind == "log"]
    assert [problem.position for problem in found][:1] == [6]
    assert "no compaction says so" in found[0].message


def test_what_is_left_must_be_what_the_compaction_said_it_was(old: ImageStore) -> None:
    """One who drops something else, and makes the hashes fit, is found out by the root hash."""
    path = Path(old.path)
    by = old.compact(position=5).by
    record = next(old.records(after=by - 1))
    forged = codec.encode(
        by,
        time_ns=record.time_ns,
        actor=record.actor,
        reason=record.reason,
        batch=record.batch,
        previous=0,
        event=Compacted(5, bytes(32)),
    )
    old._environment.write(
        lambda txn: txn.put("log", codec.position_key(by), forged.raw, replace=True)
    )
    old.close()
    (problem,) = check_store(path)
    assert (problem.kind, problem.position) == ("log", by)
    assert "is not what record" in problem.message
