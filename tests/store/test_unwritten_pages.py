"""Open a store whose file ends before pages that its newest commit took and gave up unwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import Ticking
from eventstore import CorruptionError, ImageStore, check_store
from eventstore.lmdb_pages import PageFile
from making import config, id_of


def _missing(path: Path) -> int:
    """Return how many pages the file has less than its newest commit says."""
    with PageFile(path / "data.mdb") as pages:
        return max(pages.metas(), key=lambda meta: meta.commit).last_page + 1 - pages.pages


@pytest.fixture
def short(store_path: Path, clock: Ticking) -> Path:
    """Return a store that large batches have left so."""
    with ImageStore.open(store_path, actor="tester@host", now=clock) as store:
        for _ in range(10):
            with store.transaction():
                images = [store.create(config(str(number))) for number in range(1_010)]
                for number, image in enumerate(images):
                    if number % 10:
                        store.set_parent(image, images[number - 1])
                    if number % 2:
                        store.set_built_locally(image)
                    if number % 3:
                        store.set_last_updated(image, number)
                    if number % 7 == 0:
                        store.tag(f"app:{number}", image)
            if _missing(store_path) > 0:
                break
            with store.transaction():
                for image in images[:1_000]:
                    store.delete(image)
    assert _missing(store_path) > 0
    return store_path


def test_it_opens_and_all_that_a_store_does_goes_on(short: Path, tmp_path: Path) -> None:
    """LMDB never reads those pages; the list of free ones has all of them."""
    for read_only in (True, False):
        with ImageStore.open(short, read_only=read_only, check_structure=True) as store:
            assert list(store.verify()) == []
    assert list(check_store(short)) == []
    with ImageStore.open(short) as store:
        store.backup(tmp_path / "copy")
        store.redact(id_of(config("5")), reason="secret")
        store.create(config("new"))
    with ImageStore.open(tmp_path / "copy", read_only=True) as copy:
        assert list(copy.verify()) == []
    with ImageStore.open(short) as store:
        assert list(store.verify()) == []


def test_one_page_more_is_missed(short: Path) -> None:
    """A page that is not free was cut off: that is damage."""
    with PageFile(short / "data.mdb") as pages:
        size, kept, page_size = pages.size, pages.pages, pages.page_size
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        _, free = pages.free_pages(newest, [])
    while kept - 1 in free:
        kept -= 1
    os.truncate(short / "data.mdb", (kept - 1) * page_size)
    assert (kept - 1) * page_size < size
    with pytest.raises(CorruptionError, match="cut short"):
        ImageStore.open(short)
