"""A store signs no two checkpoints that contradict each other, whatever happens to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import pytest
from tlog_scales.tlog import Checkpoint as ForeignCheckpoint
from tlog_scales.tlog import ConsistencyProof

from eventstore import (
    Checkpoint,
    CorruptionError,
    ImageStore,
    ProofError,
    StoreReadOnlyError,
    StoreUsageError,
    ed25519,
    notes,
    restore,
    signing,
)
from making import config

KEY = notes.SigningKey("log.example", bytes(range(32)))


def fill(store: ImageStore, names: str) -> None:
    """Create images of one letter each."""
    for name in names:
        store.create(config(name))


def checked(note: notes.Note) -> notes.LogCheckpoint:
    """Return what a note says, once its signature is checked."""
    notes.verify(notes.parse_note(note.encode()), [KEY.verifier])
    return notes.parse_checkpoint(note.text)


def test_a_signed_checkpoint_names_the_store_and_what_it_holds(store: ImageStore) -> None:
    """Also that of the empty log; the same one may be signed again."""
    for names in ("", "abc", ""):
        fill(store, names)
        said = checked(signing.sign_checkpoint(store, KEY))
        assert said.origin == f"eventstore/{store.store_id}"
        assert said.checkpoint == store.checkpoint() == signing.signed_before(store)


def test_a_foreign_verifier_finds_signed_checkpoints_consistent(store: ImageStore) -> None:
    """Each with all that came before it, as `tlog-scales` checks."""
    signed = []
    for name in "abcdefghi":
        fill(store, name)
        text = signing.sign_checkpoint(store, KEY).encode().decode()
        signed.append(ForeignCheckpoint.from_text(text))
    for new in signed:
        for old in signed[: new.size]:
            path = store.consistency_proof(old.size, new.size)
            ConsistencyProof(old.size, new.size, path).check(old.root_hash, new.root_hash)


def test_what_is_signed_is_on_disk_before_it_is_signed(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops us between the two holds no signature that we do not know of."""
    fill(store, "ab")
    seen = []

    def look(seed: bytes, message: bytes) -> bytes:
        seen.append(signing.signed_before(store))
        raise KeyboardInterrupt

    monkeypatch.setattr(ed25519, "sign", look)
    with pytest.raises(KeyboardInterrupt):
        signing.sign_checkpoint(store, KEY)
    assert seen == [store.checkpoint()]


def test_no_earlier_checkpoint_is_signed_after_a_later_one(store: ImageStore) -> None:
    """Of an earlier position; the same one is."""
    fill(store, "abc")
    first = signing.sign_checkpoint(store, KEY, 2)
    assert checked(first).checkpoint == store.checkpoint(2)
    signing.sign_checkpoint(store, KEY)
    with pytest.raises(ProofError, match="signed already"):
        signing.sign_checkpoint(store, KEY, 2)
    assert signing.signed_before(store) == store.checkpoint(3)


def test_no_other_root_of_the_same_or_a_greater_size_is_signed(
    store_path: Path, tmp_path: Path
) -> None:
    """Two copies of one store: what one signed and noted, the other cannot contradict."""
    with ImageStore.open(store_path) as store:
        fill(store, "ab")
    shutil.copytree(store_path, tmp_path / "twin")
    with ImageStore.open(store_path) as store:
        fill(store, "c")
        signing.sign_checkpoint(store, KEY)
        key = signing._key(signing.origin_of(store.store_id))
    with lmdb.open(str(store_path), max_dbs=16) as env, env.begin() as txn:
        noted = txn.get(key, db=env.open_db(b"meta", txn, create=False))
    with lmdb.open(str(tmp_path / "twin"), max_dbs=16) as env:
        handle = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(key, noted, db=handle)
    with ImageStore.open(tmp_path / "twin") as twin:
        for names in ("d", "e"):
            with pytest.raises(ProofError):
                signing.sign_checkpoint(twin, KEY)
            fill(twin, names)
            with pytest.raises(ProofError, match="the past was changed"):
                signing.sign_checkpoint(twin, KEY)


def test_a_damaged_note_of_what_was_signed_is_found(store_path: Path) -> None:
    """Nothing is signed then; every bit counts."""
    with ImageStore.open(store_path) as store:
        fill(store, "ab")
        signing.sign_checkpoint(store, KEY)
        key = signing._key(signing.origin_of(store.store_id))
    with lmdb.open(str(store_path), max_dbs=16) as env, env.begin() as txn:
        noted = txn.get(key, db=env.open_db(b"meta", txn, create=False))
    for at in range(0, len(noted) * 8, 7):
        wrong = bytearray(noted)
        wrong[at // 8] ^= 1 << at % 8
        with lmdb.open(str(store_path), max_dbs=16) as env:
            handle = env.open_db(b"meta")
            with env.begin(write=True) as txn:
                txn.put(key, bytes(wrong), db=handle)
        with ImageStore.open(store_path) as store, pytest.raises(CorruptionError):
            signing.sign_checkpoint(store, KEY)


def test_a_restored_copy_signs_for_an_origin_of_its_own(store: ImageStore, tmp_path: Path) -> None:
    """What the other signed binds it to nothing, and it cannot speak for the other."""
    fill(store, "abc")
    signing.sign_checkpoint(store, KEY)
    theirs = signing.origin_of(store.store_id)
    store.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with ImageStore.open(tmp_path / "restored") as restored:
        assert signing.signed_before(restored) is None
        assert signing.signed_before(restored, theirs) == store.checkpoint(3)
        with pytest.raises(ProofError, match="signs for no other log"):
            signing.sign_checkpoint(restored, KEY, origin=theirs)
        assert checked(signing.sign_checkpoint(restored, KEY, 1)).origin.endswith(restored.store_id)
        assert list(restored.verify()) == []


def test_an_origin_ends_with_the_id_of_the_store(store: ImageStore) -> None:
    """What stands before it is free, and is one line."""
    fill(store, "a")
    good = f"ci.example/logs/{store.store_id}"
    assert checked(signing.sign_checkpoint(store, KEY, origin=good)).origin == good
    for wrong in ("", "x", f"x{store.store_id}", f"a\n/{store.store_id}", f"{good}/x", "x" * 500):
        with pytest.raises(ProofError):
            signing.sign_checkpoint(store, KEY, origin=wrong)


def test_who_cannot_write_signs_nothing(store: ImageStore, store_path: Path) -> None:
    """For nothing could be noted; nor does a thread in a transaction wait for itself."""
    fill(store, "a")
    with store.transaction(), pytest.raises(StoreUsageError):
        signing.sign_checkpoint(store, KEY)
    store.close()
    with (
        ImageStore.open(store_path, read_only=True) as reading,
        pytest.raises(StoreReadOnlyError),
    ):
        signing.sign_checkpoint(reading, KEY)


def test_who_signs_meanwhile_is_not_overlooked(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what was signed and the note of what will be, another may sign."""
    fill(store, "abc")
    signing.sign_checkpoint(store, KEY, 1)
    refuse = signing._refuse_contradiction

    def interleaved(store: ImageStore, old: Checkpoint, new: Checkpoint) -> None:
        refuse(store, old, new)
        monkeypatch.setattr(signing, "_refuse_contradiction", refuse)
        signing.sign_checkpoint(store, KEY, 3)

    monkeypatch.setattr(signing, "_refuse_contradiction", interleaved)
    with pytest.raises(ProofError, match="signed already"):
        signing.sign_checkpoint(store, KEY, 2)
    assert signing.signed_before(store) == store.checkpoint(3)
