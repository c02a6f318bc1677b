"""Make stores of backups: checked, under an id of their own, and over nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from conftest import Ticking
from eventstore import (
    CorruptionError,
    DestinationExistsError,
    EventStoreError,
    Fork,
    ImageStore,
    StoreInUseError,
    StoreNotFoundError,
    StoreUsageError,
    backup,
    configs,
    meta,
    restore,
)
from eventstore.lmdb_env import Environment
from making import config, id_of


@pytest.fixture
def source(store: ImageStore, tmp_path: Path) -> Path:
    """Return a backup of a store with five records, which has gone on since."""
    for name in "abc":
        store.create(config(name))
    store.set_parent(id_of(config("b")), id_of(config("a")))
    store.take_snapshot()
    store.delete(id_of(config("c")))
    assert store.backup(tmp_path / "backup") == 5
    store.create(config("later"))
    return tmp_path / "backup"


def test_a_restored_store_says_what_it_forks_from_and_goes_its_own_way(
    store: ImageStore, source: Path, tmp_path: Path, clock: Ticking
) -> None:
    """The records up to the fork are the same bytes, the id is not; both stores go on."""
    made_at = clock.now_ns + 1_000_000_000
    fork = restore(source, tmp_path / "restored", now=clock)
    assert fork == Fork(store.store_id, 5)
    with ImageStore.open(tmp_path / "restored") as restored:
        assert (restored.fork, restored.forks) == (fork, (fork,))
        assert restored.store_id != store.store_id
        assert restored.created.timestamp() == made_at / 1e9
        assert [record.raw for record in restored.records()] == [
            record.raw for record in store.records(through=5)
        ]
        assert restored.view().digest == store.as_of(position=5).digest
        restored.create(config("here only"))
        assert list(restored.verify()) == []
        assert len(restored.snapshots()) == 1
    assert (store.fork, store.forks) == (None, ())
    with ImageStore.open(source, read_only=True) as unchanged:
        assert (unchanged.position, unchanged.fork) == (5, None)
        assert unchanged.store_id == store.store_id


def test_a_restored_store_is_private_and_nothing_lies_beside_it(
    source: Path, tmp_path: Path
) -> None:
    """Mode 0700 and 0600 whatever the umask, folders above are made, one file, no scraps."""
    target = tmp_path / "deeper" / "restored"
    previous = os.umask(0)
    try:
        restore(source, target)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "data.mdb").stat().st_mode) == 0o600
    assert os.listdir(target) == ["data.mdb"]
    assert os.listdir(target.parent) == ["restored"]


def test_copies_of_copies_keep_every_fork(source: Path, tmp_path: Path) -> None:
    """The nearest comes first; a backup of a restored store keeps its id and its forks."""
    forks: tuple[Fork, ...] = ()
    previous = source
    for number in range(3):
        path = tmp_path / f"restored {number}"
        forks = (restore(previous, path), *forks)
        with ImageStore.open(path) as restored:
            assert restored.forks == forks
            restored.create(config(f"only in {number}"))
            restored.backup(tmp_path / f"backup {number}")
        previous = tmp_path / f"backup {number}"
        with ImageStore.open(previous, read_only=True) as copy:
            assert (copy.forks, copy.store_id) == (restored.forks, restored.store_id)
    assert [fork.position for fork in forks] == [7, 6, 5]
    assert len({fork.store_id for fork in forks}) == 3


def test_the_empty_store_can_be_restored(store: ImageStore, tmp_path: Path) -> None:
    """It forks at position 0."""
    assert store.backup(tmp_path / "backup") == 0
    assert restore(tmp_path / "backup", tmp_path / "restored") == Fork(store.store_id, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("mine"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        os.mkfifo,
    ],
    ids=["file", "empty folder", "dangling link", "pipe"],
)
def test_a_restore_overwrites_nothing(
    source: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Whatever is at the destination stays as it is, and is named."""
    target = tmp_path / "target"
    make(target)
    before = target.lstat()
    with pytest.raises(DestinationExistsError) as caught:
        restore(source, target)
    assert caught.value.path == str(target)
    assert target.lstat() == before


@pytest.mark.parametrize("damage", ["record", "config", "snapshot"])
def test_a_damaged_backup_is_refused_and_the_damage_named(
    source: Path, tmp_path: Path, damage: str
) -> None:
    """Also where only a cache is damaged: what is restored must verify."""
    with ImageStore.open(source, read_only=True) as copy:
        value = next(copy.records(after=1)).raw if damage == "record" else packed("a")
    with closing(lmdb.open(str(source), max_dbs=8)) as env:
        snapshots = env.open_db(b"snapshots")
        with env.begin(db=snapshots) as txn, txn.cursor() as cursor:
            if damage == "snapshot":
                assert cursor.last()
                value = bytes(cursor.value())
    _damage(source, value)
    with pytest.raises(CorruptionError, match=f"damaged.*{damage}") as caught:
        restore(source, tmp_path / "restored")
    if damage == "record":
        assert caught.value.position == 2
    if damage == "config":
        assert caught.value.digest == id_of(config("a"))
    assert sorted(os.listdir(tmp_path)) == ["backup", "store"]


def test_a_damaged_backup_is_refused_before_anything_is_made(source: Path, tmp_path: Path) -> None:
    """Not even the folders above the destination."""
    _damage(source, packed("a"))
    with pytest.raises(CorruptionError):
        restore(source, tmp_path / "deeper" / "restored")
    assert sorted(os.listdir(tmp_path)) == ["backup", "store"]


def test_a_copy_that_a_disk_wrote_wrong_does_not_get_its_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given to users has been read again; a bit that flips on the way is planted here."""
    real = backup.copy_newest

    def flip(environment: Environment, folder: Path) -> int:
        position = real(environment, folder)
        _damage(folder, packed("a"))
        return position

    monkeypatch.setitem(restore.__globals__, "copy_newest", flip)
    with pytest.raises(CorruptionError, match="config"):
        restore(source, tmp_path / "restored")
    assert sorted(os.listdir(tmp_path)) == ["backup", "store"]


def packed(name: str) -> bytes:
    """Return the config of an image as it stands in the file."""
    return configs.pack(config(name))


def _damage(folder: Path, value: bytes) -> None:
    """Flip a bit in a value."""
    data = bytearray((folder / "data.mdb").read_bytes())
    data[data.index(value) + len(value) // 2] ^= 1
    (folder / "data.mdb").write_bytes(data)


def test_what_is_no_backup_is_refused(store: ImageStore, source: Path, tmp_path: Path) -> None:
    """Nothing, a folder of nothing, a store that is open here, a destination in the backup."""
    (tmp_path / "empty").mkdir()
    for wrong in ("missing", "empty"):
        with pytest.raises(StoreNotFoundError) as caught:
            restore(tmp_path / wrong, tmp_path / "restored")
        assert caught.value.path == str(tmp_path / wrong)
    with pytest.raises(StoreInUseError):
        restore(store.path, tmp_path / "restored")
    with pytest.raises(StoreUsageError, match="in the store itself"):
        restore(source, source / "restored")
    with pytest.raises(EventStoreError):
        restore("", tmp_path / "restored")
    assert sorted(os.listdir(tmp_path)) == ["backup", "empty", "store"]


def test_a_leftover_of_a_killed_restore_is_in_nobodys_way(source: Path, tmp_path: Path) -> None:
    """It has a name by which it can be known, and stays until somebody removes it."""
    leftover = tmp_path / f"{backup.UNFINISHED_PREFIX}abc"
    leftover.mkdir()
    (leftover / "data.mdb").write_bytes(b"half")
    restore(source, tmp_path / "restored")
    assert (leftover / "data.mdb").read_bytes() == b"half"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("store_id", None),
        ("store_id", b"\xff" * 36),
        ("created_ns", b"9" * 5_000),
        ("created_ns", b"9" * 19),
        ("forked_at", b""),
        ("forked_from", b"nobody"),
        ("forks_before", b"{"),
    ],
)
def test_a_store_that_does_not_say_who_it_is_is_damaged(
    source: Path, tmp_path: Path, key: str, value: bytes | None
) -> None:
    """The identity is part of what is kept; half of it is no identity."""
    path = tmp_path / "restored"
    restore(source, path)
    with closing(lmdb.open(str(path), max_dbs=8)) as env:
        handle = env.open_db(b"meta")
        with env.begin(write=True, db=handle) as txn:
            assert txn.delete(key.encode()) if value is None else txn.put(key.encode(), value)
    with pytest.raises(CorruptionError, match=key):
        ImageStore.open(path)


def test_founding_takes_a_fork_alone(tmp_path: Path, clock: Ticking) -> None:
    """Whoever rebuilds a store by other means says what it forks from in the same way."""
    fork = Fork("00000000-0000-0000-0000-000000000000", 7)
    environment = Environment(tmp_path / "made", initialise=meta.founding(clock, fork=fork))
    with closing(environment):
        identity = meta.read(environment)
    assert (identity.fork, identity.forks, identity.forks_before) == (fork, (fork,), ())
