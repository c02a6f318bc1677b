"""Copy a store while it is written to, and refuse to write over anything."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from eventstore import (
    DestinationExistsError,
    EventStoreError,
    ImageStore,
    StoreClosedError,
    StoreUsageError,
    snapshots,
)
from making import config


def test_a_backup_is_one_moment_of_a_store_that_writers_go_on_with(
    store: ImageStore, tmp_path: Path
) -> None:
    """Each copy is whole, sound, and of a position that the store had."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            with store.transaction():
                store.create(config(f"{number} 0"))
                store.create(config(f"{number} 1"))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = store.position
            position = store.backup(tmp_path / f"copy-{number}")
            after = store.position
            with ImageStore.open(tmp_path / f"copy-{number}") as copy:
                assert before <= copy.position <= after
                assert copy.position == position
                assert len(copy) == copy.position
                assert copy.position % 2 == 0
                assert copy.store_id == store.store_id
                assert list(copy.verify()) == []
                assert copy.as_of(position=before).digest == store.as_of(position=before).digest
    finally:
        done.set()
        writer.join()


def test_a_backup_is_as_private_as_a_store_and_goes_its_own_way(
    store: ImageStore, tmp_path: Path
) -> None:
    """Mode 0700 and 0600, no scraps beside it; writing to it changes nothing here."""
    store.create(config("a"))
    target = tmp_path / "deeper" / "copy"
    store.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "data.mdb").stat().st_mode) == 0o600
    assert os.listdir(target.parent) == ["copy"]
    with ImageStore.open(target) as copy:
        copy.create(config("b"))
        assert len(copy) == 2
    assert len(store) == 1


@pytest.mark.parametrize("kind", ["file", "empty folder", "store itself", "dangling link"])
def test_a_backup_overwrites_nothing(store: ImageStore, tmp_path: Path, kind: str) -> None:
    """Whatever is at the destination stays as it is."""
    store.create(config("a"))
    target = Path(store.path) if kind == "store itself" else tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "empty folder":
        target.mkdir()
    elif kind == "dangling link":
        target.symlink_to("nowhere")
    with pytest.raises(StoreUsageError, match="exists"):
        store.backup(target)
    if kind == "file":
        assert target.read_text() == "mine"
    assert len(store) == 1


@pytest.mark.parametrize("name", ["file/below", "a\0b", "x" * 300])
def test_a_destination_that_cannot_be_made_is_an_error_of_ours(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    """And leaves no scraps."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EventStoreError):
        store.backup(tmp_path / name)
    assert set(os.listdir(tmp_path)) <= {"file", "store"}


@pytest.mark.parametrize("below", ["copy", "deeper/copy"])
def test_a_backup_does_not_lie_in_the_store(store: ImageStore, tmp_path: Path, below: str) -> None:
    """It would go when the store goes; a link does not hide where it would lie."""
    (tmp_path / "link").symlink_to(store.path)
    for path in (Path(store.path), tmp_path / "link"):
        with pytest.raises(StoreUsageError, match="in the store itself"):
            store.backup(path / below)
    assert sorted(os.listdir(store.path)) == ["data.mdb", "lock.mdb"]


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "x" * 255, "with spaces", "a\nb"])
def test_any_name_that_a_file_system_takes_will_do(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    """Not UTF-8, and as long as names may be: the unfinished copy has no longer name."""
    store.create(config("a"))
    assert store.backup(tmp_path / name) == 1
    with ImageStore.open(tmp_path / name, read_only=True) as copy:
        assert len(copy) == 1


def test_of_backups_to_one_name_at_once_one_wins(store: ImageStore, tmp_path: Path) -> None:
    """The others are told that the name is taken, and leave nothing."""
    store.create(config("a"))
    barrier, errors = threading.Barrier(6), list[EventStoreError]()

    def work() -> None:
        barrier.wait()
        try:
            store.backup(tmp_path / "copy")
        except EventStoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [DestinationExistsError] * 5
    assert sorted(os.listdir(tmp_path)) == ["copy", "store"]


def test_a_closed_store_takes_no_backup(store_path: Path, tmp_path: Path) -> None:
    """And leaves no scraps."""
    store = ImageStore.open(store_path)
    store.close()
    with pytest.raises(StoreClosedError):
        store.backup(tmp_path / "copy")
    assert os.listdir(tmp_path) == ["store"]


def test_verify_takes_no_snapshot_for_damaged_that_a_writer_drops_meanwhile(
    store_path: Path,
) -> None:
    """The headers were listed before; what is gone by then is not looked at."""
    with ImageStore.open(store_path) as store:
        for name in "abc":
            store.create(config(name))
            store.take_snapshot()
        kept = [found.position for found in store.snapshots()]
        if len(kept) < 2:  # the policy may drop at once what this test needs
            for position in (1, 2):
                snapshots.put(store._environment, store.as_of(position=position))
            kept = [found.position for found in store.snapshots()]
        assert kept == [1, 2, 3]
        with store._environment.read() as txn:
            key = next(key for key in txn.keys("snapshots", snapshots._key(1, 1)))
        store._environment.write(
            lambda txn: txn.put("snapshots", key, b"damaged", replace=True),
        )
        problems = store.verify()
        assert next(problems).position == 1
        snapshots.drop(store._environment, 2)
        assert list(problems) == []
