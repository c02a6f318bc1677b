"""Have what a store proves judged by code that is not ours, and break what it derives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import DummySigner
from tlog_scales.tlog import ConsistencyProof, InclusionProof
from tlog_scales.writer import TilesWriter

from eventstore import (
    Checkpoint,
    CorruptionError,
    ImageStore,
    StoreUsageError,
    check_store,
    hashes,
    leaf_hash,
    merkle,
    verify_consistency,
    verify_inclusion,
)
from making import config
from store.children import run

LENGTH = 1025


def fill(store: ImageStore, length: int) -> None:
    """Append records up to a position, in batches of many sizes."""
    image_id = store.create(config("filled"))
    instant = 0
    while store.position < length:
        with store.transaction():
            for _ in range(min(1 + instant % 97, length - store.position)):
                instant += 1
                store.set_last_updated(image_id, instant)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageStore, TilesReader]]:
    """Return a store of 1,025 records, and a foreign reader of a foreign tree of the same."""
    folder = tmp_path_factory.mktemp("logged")
    with ImageStore.open(folder / "store", actor="tester@host") as store:
        fill(store, LENGTH)
        writer = TilesWriter.create(folder / "tiles", "example.org/log")
        for record in store.records():
            writer.add_leaf(record.raw)
        writer.commit([DummySigner()])
        reader = TilesReader(LocalBackend(folder / "tiles"))
        reader.set_size(LENGTH)
        yield store, reader


def test_a_foreign_verifier_agrees_at_every_size(logged: tuple[ImageStore, TilesReader]) -> None:
    """Checkpoint, inclusion and consistency at the sizes 1 to 1,025."""
    store, foreign = logged
    chance = random.Random(5)
    leaves = {record.position: leaf_hash(record.raw) for record in store.records()}
    roots = {0: merkle.EMPTY_ROOT}
    for size in range(1, LENGTH + 1):
        roots[size] = foreign.mth(0, size)
        assert store.checkpoint(size) == Checkpoint(size, roots[size])
        for position in {1, size, (size + 1) // 2, chance.randint(1, size)}:
            proof = store.inclusion_proof(position, at=size)
            InclusionProof(position - 1, size, proof).check(leaves[position], roots[size])
            assert verify_inclusion(
                Checkpoint(size, roots[size]), position, leaves[position], proof
            )
        for old in {0, 1, size - 1, size, size // 2, chance.randint(0, size)}:
            proof = store.consistency_proof(old, size)
            ConsistencyProof(old, size, list(proof)).check(roots[old], roots[size])
            assert verify_consistency(
                Checkpoint(old, roots[old]), Checkpoint(size, roots[size]), proof
            )


def test_our_paths_are_those_of_the_foreign_log(logged: tuple[ImageStore, TilesReader]) -> None:
    """Hash by hash, at the present size."""
    store, foreign = logged
    for position in range(1, LENGTH + 1, 7):
        found = foreign.get_inclusion_proof(position - 1, LENGTH).node_hashes
        assert store.inclusion_proof(position) == found
        found = foreign.get_consistency_proof(position, LENGTH).node_hashes
        assert store.consistency_proof(position) == found


def test_a_proof_reads_a_few_hundred_records_however_long_the_log_is(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """511 records at most, wherever the record lies."""
    fill(store, 256 * 256 + 300)
    read: list[bytes] = []

    def counted(raw: bytes) -> bytes:
        read.append(raw)
        return leaf_hash(raw)

    monkeypatch.setattr(hashes, "leaf_hash", counted)
    for position in (1, 700, 256 * 200 + 128, 256 * 256, 256 * 256 + 1, store.position):
        proof = store.inclusion_proof(position)
        assert len(read) <= 511
        assert len(proof) <= 18
        read.clear()
        store.consistency_proof(position)
        assert len(read) <= 511
        read.clear()
    store.checkpoint()
    assert len(read) <= 255


def entries(path: Path) -> dict[bytes, bytes]:
    """Return the stored hashes of a store that is closed."""
    with lmdb.open(str(path), max_dbs=8) as env, env.begin(db=env.open_db(b"meta")) as txn:
        return {key: value for key, value in txn.cursor() if key.startswith(b"hash")}


def change(path: Path, changes: dict[bytes, bytes | None]) -> None:
    """Put or remove entries of the database meta of a store that is closed."""
    with lmdb.open(str(path), max_dbs=8) as env:
        meta = env.open_db(b"meta")
        with env.begin(db=meta, write=True) as txn:
            for key, value in changes.items():
                if value is None:
                    txn.delete(key)
                else:
                    txn.put(key, value)


def test_what_is_stored_is_what_verify_derives(store_path: Path) -> None:
    """One hash for every 256 records, and one more for 65,536; each that is bent is reported."""
    with ImageStore.open(store_path) as store:
        fill(store, 256 * 257)
        assert list(store.verify()) == []
    stored = entries(store_path)
    assert sorted(stored) == [
        *(hashes.key_of(8, index) for index in range(257)),
        hashes.key_of(16, 0),
    ]
    for key in (hashes.key_of(8, 0), hashes.key_of(8, 256), hashes.key_of(16, 0)):
        other = hashes.pack(key, bytes(32))
        change(store_path, {key: other})
        assert [problem.kind for problem in check_store(store_path)] == ["hash"]
        change(store_path, {key: stored[key]})
    beyond = hashes.key_of(8, 257)
    change(store_path, {beyond: hashes.pack(beyond, bytes(32))})
    assert [problem.kind for problem in check_store(store_path)] == ["hash"]
    change(store_path, {beyond: None})
    assert list(check_store(store_path)) == []


@pytest.mark.parametrize("how", ["lost", "flipped", "cut", "some"])
def test_hashes_that_are_lost_or_bent_change_no_answer(store_path: Path, how: str) -> None:
    """They are derived again: a cache has no say."""
    with ImageStore.open(store_path) as store:
        fill(store, 3000)
        right = [store.checkpoint(size) for size in range(0, 3001, 100)]
    stored = entries(store_path)
    bent: dict[bytes, bytes | None] = {}
    for number, (key, value) in enumerate(stored.items()):
        if how == "flipped":
            bent[key] = value[:5] + bytes([value[5] ^ 1]) + value[6:]
        elif how == "cut":
            bent[key] = value[:20]
        elif how == "lost" or number % 2:
            bent[key] = None
    change(store_path, bent)
    with ImageStore.open(store_path, read_only=True) as store:
        assert [store.checkpoint(size) for size in range(0, 3001, 100)] == right
        proof = store.consistency_proof(700, 3000)
        assert verify_consistency(store.checkpoint(700), store.checkpoint(3000), proof)


@pytest.mark.parametrize("before", [0, 1, 255, 256, 300])
def test_a_transaction_that_fills_tiles_stores_the_hashes_of_its_records(
    store_path: Path, before: int
) -> None:
    """They are made of what is in memory, wherever in a tile the transaction begins."""
    with ImageStore.open(store_path) as store:
        image_id = store.create(config("a"))
        for count in (before, 1_000):
            with store.transaction():
                for _ in range(count):
                    store.set_last_updated(image_id, store.view().position)
        raws = [record.raw for record in store.records()]
    stored = entries(store_path)
    assert len(stored) == len(raws) // 256
    for index in range(len(stored)):
        key = hashes.key_of(8, index)
        root = merkle.root_of(raws[256 * index : 256 * (index + 1)])
        assert hashes.unpack(key, stored[key]) == root


def test_a_store_of_an_earlier_version_catches_up(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded number of hashes a commit, in a row, until none is missing."""
    monkeypatch.setattr(hashes, "CATCH_UP_MAX", 3)
    monkeypatch.setattr(hashes.extend, "__kwdefaults__", {"limit": 3, "appended": ()})
    with ImageStore.open(store_path) as store:
        fill(store, 256 * 10)
    complete = entries(store_path)
    change(store_path, dict.fromkeys(complete))
    for count in (4, 8, 12):
        with ImageStore.open(store_path) as store:
            fill(store, store.position + 256)
        assert sorted(entries(store_path)) == [hashes.key_of(8, at) for at in range(count)]
    with ImageStore.open(store_path) as store:
        fill(store, store.position + 256)
    assert len(entries(store_path)) == store_length(store_path) // 256
    assert list(check_store(store_path)) == []


def store_length(path: Path) -> int:
    """Return the position of a store that is closed."""
    with ImageStore.open(path, read_only=True) as store:
        return store.position


def test_a_damaged_record_is_proved_by_nobody_and_stops_no_writer(store_path: Path) -> None:
    """Its tile has no hash, the rest goes on."""
    with ImageStore.open(store_path) as store:
        image_id = store.create(config("a"))
        for instant in range(1, 251):
            store.set_last_updated(image_id, instant)
        store.take_snapshot()
    with lmdb.open(str(store_path), max_dbs=8) as env:
        log = env.open_db(b"log")
        with env.begin(db=log, write=True) as txn:
            key = (100).to_bytes(8, "big")
            raw = bytearray(txn.get(key))
            raw[10] ^= 1
            txn.put(key, bytes(raw))
    with ImageStore.open(store_path, create=False) as store:
        for instant in range(1, 11):
            store.set_last_updated(image_id, instant)
        assert store.position == 261
        with pytest.raises(CorruptionError) as caught:
            store.checkpoint()
        assert caught.value.position == 100
        assert store.checkpoint(99).position == 99
    assert entries(store_path) == {}


def test_pending_records_are_no_part_of_the_log(store: ImageStore) -> None:
    """What may still be given up is not proved."""
    image_id = store.create(config("a"))
    before = store.checkpoint()
    with store.transaction():
        store.set_built_locally(image_id)
        assert store.checkpoint() == before
        with pytest.raises(StoreUsageError):
            store.inclusion_proof(2)
    assert store.checkpoint().position == 2
    assert verify_inclusion(store.checkpoint(), 2, store.leaf_hash(2), store.inclusion_proof(2))


def test_questions_that_have_no_answer_are_refused(store: ImageStore) -> None:
    """Positions that the log has not, checkpoints before the record, sizes the wrong way round."""
    store.create(config("a"))
    store.create(config("b"))
    for ask in (
        lambda: store.checkpoint(3),
        lambda: store.checkpoint(-1),
        lambda: store.checkpoint(True),
        lambda: store.inclusion_proof(0),
        lambda: store.inclusion_proof(3),
        lambda: store.inclusion_proof(2, at=1),
        lambda: store.inclusion_proof(1, at=0),
        lambda: store.consistency_proof(2, 1),
        lambda: store.consistency_proof(1, 3),
        lambda: store.leaf_hash(0),
    ):
        with pytest.raises(StoreUsageError):
            ask()
    assert store.checkpoint(0) == Checkpoint(0, merkle.EMPTY_ROOT)


def test_what_another_process_appended_is_proved_at_once(store: ImageStore) -> None:
    """A checkpoint is of the newest commit, whoever made it."""
    store.create(config("a"))
    before = store.checkpoint()
    run("with ImageStore.open(path) as store: store.create(config('b'))", store.path)
    after = store.checkpoint()
    assert after.position == before.position + 1
    assert verify_consistency(before, after, store.consistency_proof(before.position))


def test_proofs_hold_over_a_redaction(store: ImageStore) -> None:
    """Those that were made before, and those that are made after of what was before."""
    secret = store.create(config("secret"))
    fill(store, 600)
    before = store.checkpoint()
    raws = [record.raw for record in store.records()]
    old = {at: store.inclusion_proof(at) for at in (1, 2, 256, 257, 600)}
    at = store.redact(secret, reason="a key")
    after = store.checkpoint()
    assert [record.raw for record in store.records(through=600)] == raws
    assert verify_consistency(before, after, store.consistency_proof(600))
    for position, proof in old.items():
        leaf = leaf_hash(raws[position - 1])
        assert verify_inclusion(before, position, leaf, proof)
        assert store.inclusion_proof(position, at=600) == proof
        assert verify_inclusion(after, position, leaf, store.inclusion_proof(position))
    assert verify_inclusion(after, at, store.leaf_hash(at), store.inclusion_proof(at))
