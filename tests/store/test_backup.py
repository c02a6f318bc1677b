"""Copy a store while it is written to, and refuse to write over anything."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from eventstore import EventStoreError, ImageStore, StoreUsageError
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
            store.backup(tmp_path / f"copy-{number}")
            after = store.position
            with ImageStore.open(tmp_path / f"copy-{number}") as copy:
                assert before <= copy.position <= after
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
