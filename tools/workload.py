"""Do everything that writes a store's files, one durable step after the other, and say so.

For the tools that cut the power and that let system calls fail: `workload.py FOLDER`. What it
writes lies in FOLDER; `FOLDER/source` must hold a Docker data root. On standard output, a JSON line
a step, each by one system call, once the step has been acknowledged or refused::

    {"step": "create a", "store": "store", "position": 1, "view": digest of the view there}
    {"step": "create b", "store": "store", "refused": "StoreFullError", "position": …, "view": …}

A step that was refused is not tried again; the next one follows on the same open store. An open
that is refused is tried again, a few times. Where the store cannot even be read after a
refusal, `unreadable` names the error in place of position and view. With `--file-size-max`, no file
may grow beyond so many bytes (the kernel cuts the write there, and refuses the next) until a step
has been refused for it; with `--open-first`, that begins when the store is open. `--more N` creates
N further images at the end.

Nothing depends on time or chance, so that two runs make the same system calls. Every step is one
batch at most; those of `SEVERAL` make more commits beside, and one of them may be refused when the
batch is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import lmdb

from eventstore import (
    EventStoreError,
    ImageStore,
    ImageView,
    StoreIOError,
    lmdb_env,
    lmdb_transaction,
    store_files,
)
from eventstore.lmdb_env import Environment, WriteSession
from eventstore.lmdb_transaction import MapFullError
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync

STORE, BACKUP, SOURCE = "store", "backup", "source"
MAP_SIZE = 1 << 17
OPENS_MAX = 60
TIME_NS = 1_700_000_000_000_000_000
Step = tuple[str, Callable[[], object]]
SEVERAL = ("redact", "compact", "compact all")


def view_digest(view: ImageView) -> str:
    """Return a digest of all that a view knows."""
    return hashlib.sha256(repr(list(view.rows())).encode()).hexdigest()


def config(name: str, size: int = 0) -> bytes:
    """Return an image config of about `size` bytes that differs from others in its name.

    They are digits without order: of an `x` that is repeated, packing would leave no large value.
    """
    digits = hashlib.shake_256(name.encode()).hexdigest((size + 1) // 2)[:size]
    value = {"comment": name, "author": digits, "rootfs": {"type": "layers"}}
    return json.dumps(value).encode()


class Workload:
    """The steps, on an open store."""

    def __init__(self, store: ImageStore, folder: Path, more: int = 0) -> None:
        """Take over an open store in `folder`; at the end, create so many `more` images."""
        self.store = store
        self.folder = folder
        self.more = more

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
        yield "tag", partial(store.tag, "app:1.0", b)
        yield "tag another", partial(store.tag, "app:1.0", a)
        yield "redact", partial(store.redact, large, reason="a secret")
        yield "undo", self._undo
        yield "compact", partial(self._compact, 20)
        yield "untag", partial(store.untag, "app:1.0")
        yield "compact all", partial(self._compact, 0)
        for number in range(self.more):
            yield f"one more, {number}", partial(store.create, config(f"more {number}"))

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

    def _undo(self) -> None:
        *_, last = self.store.records(self._id("c"))
        self.store.undo(last.position)

    def _compact(self, left: int) -> None:
        self.store.compact(position=self.store.position - left)

    def _sync(self) -> None:
        found = DockerImageDB.find(self.folder / SOURCE).read(operating_system="linux")
        sync(self.store, found.images, found.passed_over, names=found.names, allow_mass_delete=True)


def say(step: str, store: ImageStore | None, error: EventStoreError | None = None) -> None:
    """Write one line about a step by one system call, with what the store answers now."""
    said: dict[str, Any] = {"step": step, "store": BACKUP if step == "backup" else STORE}
    if error is not None:
        said["refused"] = type(error).__name__
    if store is not None:
        try:
            view = store.as_of(position=store.position)
        except EventStoreError as unreadable:
            said["unreadable"] = type(unreadable).__name__
        else:
            said |= {"position": view.position, "view": view_digest(view)}
    os.write(sys.stdout.fileno(), json.dumps(said).encode() + b"\n")


def opened(folder: Path, map_size_max: int | None) -> ImageStore:
    """Open the store, and try again if that is refused."""
    ticks = iter(range(TIME_NS, TIME_NS + 10**15, 10**9))
    for tries_left in reversed(range(OPENS_MAX)):
        try:
            return ImageStore.open(
                folder / STORE,
                actor="workload",
                operating_system="linux",
                map_size=MAP_SIZE,
                map_size_max=map_size_max,
                now=lambda: next(ticks),
            )
        except EventStoreError as error:
            say("open", None, error)
            limit_file_size(None)
            if not tries_left:
                raise SystemExit(0) from error
    raise AssertionError


def run(options: argparse.Namespace) -> None:
    """Do all steps; after one that was refused, go on with the next on the same open store."""
    # A backup is made under a name that depends on chance otherwise.
    tempfile._name_sequence = map(str, count())  # type: ignore[attr-defined]
    limit_file_size(None if options.open_first else options.file_size_max)
    with opened(options.folder, options.map_size_max) as store:
        say("open", store)
        if options.open_first:
            limit_file_size(options.file_size_max)
        for name, work in Workload(store, options.folder, options.more).steps():
            try:
                work()
            except EventStoreError as error:
                say(name, store, error)
                limit_file_size(None)
            else:
                say(name, store)


def limit_file_size(limit: int | None) -> None:
    """Let no file of this process grow beyond a limit, or take the limit away."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if limit is None else limit, hard))


def main() -> None:
    """Run the steps, or a weakened store through them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--map-size-max", type=int, default=None)
    parser.add_argument("--file-size-max", type=int, default=None)
    parser.add_argument("--open-first", action="store_true")
    parser.add_argument("--more", type=int, default=0)
    weakenings = WEAKENINGS | FAULT_WEAKENINGS
    parser.add_argument("--weaken", choices=sorted(weakenings), default=None)
    options = parser.parse_args()
    if options.weaken is not None:
        weakenings[options.weaken]()
    run(options)


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


def _acknowledge_early() -> None:
    """Say that a batch is on disk before LMDB has agreed, and pass over what it says."""
    real = WriteSession.commit

    def swallowing(session: WriteSession) -> None:
        try:
            real(session)
        except MapFullError:
            raise
        except EventStoreError:
            return

    WriteSession.commit = swallowing  # type: ignore[assignment, method-assign]


def _untranslated() -> None:
    """Let errors of LMDB and of the operating system pass as they are."""

    def passing(path: Path, error: Exception) -> Exception:
        return error

    for module in (lmdb_env, lmdb_transaction):
        module.ours = passing  # type: ignore[attr-defined]


def _without_reconnect() -> None:
    """Give the store up, too, when LMDB has given its files up."""

    def given_up(environment: Environment) -> None:
        raise StoreIOError(str(environment.path), "the files are not opened again")

    Environment._connect_again = given_up  # type: ignore[assignment, method-assign]


def _without_settling() -> None:
    """Write on after a failed commit without a look at what the disk may have of it."""
    real = Environment.commit_failed

    def failed(environment: Environment) -> None:
        real(environment)
        environment._unsettled = False

    Environment.commit_failed = failed  # type: ignore[assignment, method-assign]


def _without_settling_at_open() -> None:
    """Trust that no process before left a failed commit behind."""
    real = Environment._connect

    def connect(environment: Environment, map_size: int) -> None:
        real(environment, map_size)
        if not environment._broken:
            environment._unsettled = False

    Environment._connect = connect  # type: ignore[assignment, method-assign]


def _settle_by_sync() -> None:
    """After a failed commit, trust a sync that succeeds to have written what failed before."""

    def synced(path: Path, offset: int, length: int) -> None:
        store_files.sync(path / store_files.DATA)

    store_files.write_again = synced


def _sparse_lock_file() -> None:
    """Leave the lock file's place on disk to be found when it is first written to."""
    store_files.fill_lock_file = lambda path, length: None  # noqa: ARG005 (a caller names them)


FAULT_WEAKENINGS: dict[str, Callable[[], None]] = {
    "acknowledge-early": _acknowledge_early,
    "no-reconnect": _without_reconnect,
    "no-settling": _without_settling,
    "no-settling-at-open": _without_settling_at_open,
    "settle-by-sync": _settle_by_sync,
    "sparse-lock-file": _sparse_lock_file,
    "untranslated": _untranslated,
}
WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-sync": _without_sync,
    "no-metasync": _without_metasync,
    "no-fsync": _without_fsync,
}

if __name__ == "__main__":
    main()
