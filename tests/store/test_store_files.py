"""Let the files of a store answer badly: a disk that does not say is no lost file."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import ImageStore, StoreIOError, store_files
from making import config
from store.children import run

LIMITED = """
import resource
from pathlib import Path
from eventstore import store_files
store = ImageStore.open(path)
store.create(config("a"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for offset in (0, 4096):
    say(outcome(lambda: store_files.write_again(Path(path), offset, 4096)))
"""


def test_a_page_that_is_cut_short_as_it_is_written_again_has_no_room(store_path: Path) -> None:
    """A write that ends early says why at its next byte: a full disk is no failing one."""
    assert run(LIMITED, store_path) == ["StoreFullError", "StoreFullError"]
    with ImageStore.open(store_path) as store:
        assert len(store) == 1
        assert list(store.verify()) == []


def loop(path: Path) -> None:
    """Make a link to itself, of which no answer can be had."""
    path.symlink_to(path.name)


def test_names_that_cannot_be_looked_up_are_not_noted_as_absent(tmp_path: Path) -> None:
    """Else every later write would find the files replaced, and be refused for ever."""
    loop(tmp_path / store_files.LOCK)
    with pytest.raises(OSError, match="symbolic links"):
        store_files.Names(tmp_path)


def test_a_name_that_cannot_be_looked_up_refuses_one_write_and_not_the_next(
    store: ImageStore, store_path: Path
) -> None:
    """What the disk does not say now, it may say at the next write."""
    lock, aside = store_path / store_files.LOCK, store_path / "aside"
    lock.rename(aside)
    loop(lock)
    with pytest.raises(StoreIOError):
        store.create(config("refused"))
    lock.unlink()
    aside.rename(lock)
    store.create(config("taken"))
    assert len(store) == 1
