"""Open a store whose file ends before pages that its newest commit took and gave up unwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventstore import CorruptionError, ImageStore, check_store
from eventstore.lmdb_pages import PageFile
from making import config, id_of


def _tail(path: Path) -> tuple[int, int, int]:
    """Return the last page in use, the last one that the newest commit counts, and their size."""
    with PageFile(path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        _, free = pages.free_pages(newest, [])
        used = newest.last_page
        while used in free:
            used -= 1
        return used, newest.last_page, pages.page_size


@pytest.fixture
def short(store_path: Path) -> Path:
    """Return a store whose file ends before free pages, as large batches leave it at times."""
    used = last = size = 0
    with ImageStore.open(store_path, actor="tester@host") as store:
        for number in range(200):
            with store.transaction():
                images = [store.create(config(f"{number} {one}")) for one in range(10)]
            with store.transaction():
                for image in images[1:]:
                    store.delete(image)
            store.take_snapshot()
            used, last, size = _tail(store_path)
            if number > 5 and used < last:
                break
    assert used < last
    os.truncate(store_path / "data.mdb", (used + 1) * size)
    return store_path


def test_it_opens_and_all_that_a_store_does_goes_on(short: Path, tmp_path: Path) -> None:
    """LMDB never reads those pages; the list of free ones has all of them."""
    for read_only in (True, False):
        with ImageStore.open(short, read_only=read_only, check_structure=True) as store:
            assert list(store.verify()) == []
    assert list(check_store(short)) == []
    with ImageStore.open(short) as store:
        store.backup(tmp_path / "copy")
        store.redact(id_of(config("0 0")), reason="secret")
        store.create(config("new"))
    with ImageStore.open(tmp_path / "copy", read_only=True) as copy:
        assert list(copy.verify()) == []
    with ImageStore.open(short) as store:
        assert list(store.verify()) == []


def test_one_page_more_is_missed(short: Path) -> None:
    """A page that is not free was cut off: that is damage."""
    used, _, size = _tail(short)
    os.truncate(short / "data.mdb", used * size)
    with pytest.raises(CorruptionError, match="cut short"):
        ImageStore.open(short)
