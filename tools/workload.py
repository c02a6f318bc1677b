"""Do everything that writes a store's files, one durable step after the other, and say so.

For the tools that cut the power and that let system calls fail: `workload.py FOLDER`. What it
writes lies in FOLDER; `FOLDER/source` must hold a Docker data root. On standard output, a JSON line
a step, each by one system call, once the step has been acknowledged or refused::

    {"step": "create a", "store": "store", "position": 1, "view": digest of the view there}
    {"step": "create b", "store": "store", "refused": "StoreFullError", "position": …, "view": …}

Nothing depends on time or chance, so that two runs make the same system calls. Every step is one
batch at most.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from eventstore import EventStoreError, ImageStore, ImageView
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync

STORE, BACKUP, SOURCE = "store", "backup", "source"
MAP_SIZE = 1 << 17
TIME_NS = 1_700_000_000_000_000_000
Step = tuple[str, Callable[[], object]]


def view_digest(view: ImageView) -> str:
    """Return a digest of all that a view knows."""
    return hashlib.sha256(repr(list(view.rows())).encode()).hexdigest()


def config(name: str, size: int = 0) -> bytes:
    """Return an image config of about `size` bytes that differs from others in its name."""
    value = {"comment": name, "author": "x" * size, "rootfs": {"type": "layers"}}
    return json.dumps(value).encode()


class Workload:
    """The steps, on an open store."""

    def __init__(self, store: ImageStore, folder: Path) -> None:
        """Take over an open store in `folder`."""
        self.store = store
        self.folder = folder

    def steps(self) -> Iterator[Step]:
        """Iterate over the names of all steps and what each does."""
        store = self.store
        a, b, c, large = (self._id(name) for name in ("a", "b", "c", "large"))
        yield "create a", partial(store.create, config("a"), reason="first")
        yield "create b", partial(store.create, config("b"))
        yield "set parent", partial(store.set_parent, b, a)
        yield "mark built", partial(store.set_built_locally, b)
        yield "touch", partial(store.set_last_updated, a, 5)
        yield "transaction", partial(self._transaction, "first", 12)
        yield "snapshot", store.take_snapshot
        yield "delete", partial(store.delete, a, reason="no longer needed")
        yield "sync", self._sync
        for number in range(3):
            yield f"large config {number}", partial(store.create, config(f"large {number}", 40_000))
        yield "backup", partial(store.backup, self.folder / BACKUP)
        yield "create large", partial(store.create, config("large", 100_000))
        yield "delete large", partial(store.delete, large)
        yield "again", partial(store.create, config("a"))
        yield "second transaction", partial(self._transaction, "second", 40)
        yield "second snapshot", store.take_snapshot
        yield "create c", partial(store.create, config("c"))
        yield "delete c", partial(store.delete, c)
        yield "third snapshot", store.take_snapshot

    def _id(self, name: str) -> str:
        raw = config(name, 100_000 if name == "large" else 0)
        return "sha256:" + hashlib.sha256(raw).hexdigest()

    def _transaction(self, name: str, images: int) -> None:
        with self.store.transaction(reason=f"{name} transaction"):
            previous: str | None = None
            for number in range(images):
                created = self.store.create(config(f"{name} {number}"))
                self.store.set_parent(created, previous)
                previous = created

    def _sync(self) -> None:
        found = DockerImageDB.find(self.folder / SOURCE).read(operating_system="linux")
        sync(self.store, found.images, found.passed_over, allow_mass_delete=True)


def say(step: str, store: ImageStore, error: EventStoreError | None = None) -> None:
    """Write one line about a step by one system call, with what the store answers now."""
    view = store.as_of(position=store.position)
    said: dict[str, Any] = {
        "step": step,
        "store": BACKUP if step == "backup" else STORE,
        "position": view.position,
        "view": view_digest(view),
    }
    if error is not None:
        said["refused"] = type(error).__name__
    os.write(sys.stdout.fileno(), json.dumps(said).encode() + b"\n")


def run(folder: Path, *, map_size_max: int | None) -> None:
    """Do all steps; after one that was refused, go on with the next on the same open store."""
    ticks = iter(range(TIME_NS, TIME_NS + 10**15, 10**9))
    with ImageStore.open(
        folder / STORE,
        actor="workload",
        operating_system="linux",
        map_size=MAP_SIZE,
        map_size_max=map_size_max,
        now=lambda: next(ticks),
    ) as store:
        say("open", store)
        for name, work in Workload(store, folder).steps():
            try:
                work()
            except EventStoreError as error:
                say(name, store, error)
            else:
                say(name, store)


def main() -> None:
    """Run the steps, or a weakened store through them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--map-size-max", type=int, default=None)
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    options = parser.parse_args()
    if options.weaken is not None:
        WEAKENINGS[options.weaken]()
    run(options.folder, map_size_max=options.map_size_max)


def _without_sync() -> None:
    """Let LMDB trust the disk to have everything at once."""
    real = lmdb.open

    def unsynced(path: str, **options: Any) -> lmdb.Environment:
        return real(path, **{**options, "sync": False})

    lmdb.open = unsynced  # type: ignore[assignment]


def _without_metasync() -> None:
    """Let LMDB put the page that makes a commit count on disk when it likes."""
    real = lmdb.open

    def unsynced(path: str, **options: Any) -> lmdb.Environment:
        return real(path, **{**options, "metasync": False})

    lmdb.open = unsynced  # type: ignore[assignment]


def _without_fsync() -> None:
    """Leave new names and copies to the kernel."""
    os.fsync = lambda fd: None  # noqa: ARG005 (the name is part of its type)


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-sync": _without_sync,
    "no-metasync": _without_metasync,
    "no-fsync": _without_fsync,
}

if __name__ == "__main__":
    main()
