"""Open stores of others, and stores on other file systems, for `opening.py`.

As a user who is not root and owns nothing but what is said::

    a store of root's; a folder of mode 000 above it        StoreIOError
    data.mdb of mode 000                                    StoreIOError
    data.mdb of mode 400                                    StoreIOError; with read_only: -
    lock.mdb of mode 400, or none in a folder of mode 500   StoreIOError: LMDB's readers write there
    a folder of mode 500 that has both files                -
    a folder of mode 300                                    -
    a new store in a folder of mode 500                     StoreIOError
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventstore import ImageStore
from evidence import NOBODY, Evidence, fingerprint, in_child, mounted
from opening_cases import MISSING, MODES, OPENS, REFUSED, make, nothing, open_and_look


class Stranger(NamedTuple):
    """Modes of a store's files, and what comes of opening it in each mode."""

    name: str
    change: Callable[[Path], None]
    default: str
    read_only: str
    create_false: str


def _modes(**modes: int) -> Callable[[Path], None]:
    """Return what sets modes of `folder`, `data`, `lock` and `above` of a store of nobody's."""

    def change(path: Path) -> None:
        places = {
            "data": path / "data.mdb",
            "lock": path / "lock.mdb",
            "folder": path,
            "above": path.parent,
        }
        for place in places.values():
            os.chown(place, NOBODY, NOBODY)
        for name in places:
            if modes.get(name, -1) == 0 and name == "lock":
                places[name].unlink()
            elif name in modes:
                places[name].chmod(modes[name])

    return change


def _readable(path: Path) -> None:
    for place, mode in ((path / "data.mdb", 0o644), (path / "lock.mdb", 0o644), (path, 0o755)):
        place.chmod(mode)


def _nothing(path: Path) -> None:
    shutil.rmtree(path)
    os.chown(path.parent, NOBODY, NOBODY)
    path.parent.chmod(0o500)


STRANGERS = (
    Stranger("a store of its own", _modes(), OPENS, OPENS, OPENS),
    Stranger("a store of root's", nothing, REFUSED, REFUSED, REFUSED),
    Stranger("a store of root's that others may read", _readable, REFUSED, REFUSED, REFUSED),
    Stranger("above of mode 000", _modes(above=0o000), REFUSED, REFUSED, REFUSED),
    Stranger("folder of mode 000", _modes(folder=0o000), REFUSED, REFUSED, REFUSED),
    Stranger("folder of mode 500", _modes(folder=0o500), OPENS, OPENS, OPENS),
    Stranger("folder of mode 300", _modes(folder=0o300), OPENS, OPENS, OPENS),
    Stranger("folder of 500, no lock", _modes(lock=0, folder=0o500), REFUSED, REFUSED, REFUSED),
    Stranger("data of mode 000", _modes(data=0o000), REFUSED, REFUSED, REFUSED),
    Stranger("data of mode 400", _modes(data=0o400), REFUSED, OPENS, REFUSED),
    Stranger("lock of mode 400", _modes(lock=0o400), REFUSED, REFUSED, REFUSED),
    Stranger("a new store in a folder of mode 500", _nothing, REFUSED, MISSING, MISSING),
)


def try_strangers(folder: Path, evidence: Evidence) -> None:
    """Open them all as a user who is not root."""
    if os.geteuid() != 0:
        evidence.not_tried("strangers: only root can become another user")
        return
    above = folder / "above"
    for stranger in STRANGERS:
        expected = (stranger.default, stranger.read_only, stranger.create_false)
        for (mode, options), error in zip(MODES.items(), expected, strict=True):
            above.mkdir()
            path = above / "store"
            make(path)
            stranger.change(path)
            before = fingerprint(above)
            done = in_child(partial(open_and_look, path, options, folder), user=NOBODY, seconds=10)
            what = f"{stranger.name}, {mode}"
            evidence.tried("opens by strangers")
            evidence.check(done.error == error, f"{what}: {done.error or 'opens'} {done.text}")
            if error:
                evidence.check(str(path) in done.text, f"{what}: does not name the path")
                after = fingerprint(above)
                for files in (before, after):
                    files.pop("store/lock.mdb", None)  # LMDB's own, and it may have looked
                evidence.check(after == before, f"{what}: files were changed")
            above.chmod(0o700)
            shutil.rmtree(above)


def try_mounts(folder: Path, evidence: Evidence, *, may_mount: bool) -> None:
    """Open stores on file systems that are read-only, and on an overlay."""
    evidence.not_tried("a real network file system; the parser is tried with planted mounts")
    if not may_mount:
        evidence.not_tried("read-only file systems and overlays: only root may mount them")
        return
    _try_read_only(folder, evidence)
    _try_overlay(folder, evidence)


def _try_read_only(folder: Path, evidence: Evidence) -> None:
    """A store on a medium that cannot be written is read without a lock file, and not changed."""
    source = folder / "written"
    source.mkdir()
    make(source / "store")
    make(source / "without lock")
    source.joinpath("without lock", "lock.mdb").unlink()
    with mounted(folder / "medium", "--bind", "-o", "ro", str(source)) as may:
        medium = folder / "medium"
        if not may:
            evidence.not_tried("a read-only file system: it may not be mounted")
            return
        before = fingerprint(medium)
        for name in ("store", "without lock", "new"):
            for mode, options in MODES.items():
                error = OPENS if mode == "read_only" else REFUSED
                if name == "new":
                    error = REFUSED if mode == "default" else MISSING
                done = in_child(partial(open_and_look, medium / name, options, folder), seconds=10)
                evidence.tried("opens on a read-only file system")
                what = f"{name} on a read-only file system, {mode}"
                evidence.check(done.error == error, f"{what}: {done.error or 'opens'} {done.text}")
                if error == REFUSED:
                    evidence.check("Read-only file system" in done.text, f"{what}: {done.text}")
        evidence.check(fingerprint(medium) == before, "a read-only file system was changed")
    shutil.rmtree(source)


class _Kept(logging.Handler):
    """Keep what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _open_and_listen(path: Path) -> list[str]:
    kept, logger = _Kept(), logging.getLogger("eventstore")
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    open_and_look(path, {}, path.parent)
    return kept.said


def _try_overlay(folder: Path, evidence: Evidence) -> None:
    """A store in a container's own layers works, and the log says that it goes with them."""
    with mounted(folder / "layers", "-t", "tmpfs", "-o", "size=16m", "none") as may:
        if not may:
            evidence.not_tried("an overlay: a tmpfs may not be mounted")
            return
        lower, upper, work = folder / "lower", folder / "layers" / "upper", folder / "layers" / "w"
        for place in (lower, upper, work):
            place.mkdir()
        make(lower / "below")
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        with mounted(folder / "overlay", "-t", "overlay", "-o", options, "none") as may_overlay:
            if not may_overlay:
                evidence.not_tried("an overlay: it may not be mounted")
                return
            for name in ("new", "below"):
                path = folder / "overlay" / name
                done = in_child(partial(_open_and_listen, path), seconds=10)
                evidence.tried("opens on an overlay")
                evidence.check(
                    not done.error and any("overlay" in text for text in done.value),
                    f"{name} on an overlay: {done.error} {done.text} {done.value}",
                )
        with ImageStore.open(lower / "below", read_only=True) as store:
            evidence.check(len(store) == 3, "a layer below an overlay was changed")
