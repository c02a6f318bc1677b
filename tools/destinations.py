"""Try every kind of destination of a backup and of a restore, for `backups.py`.

Stated behaviour, for both::

    a name that is free, also deeper, relative, with a trailing slash, spaces,
    line breaks, 255 bytes, bytes that are no UTF-8, as bytes      whole copy
    another file system; a folder that may be written, not read   whole copy
    a source on a read-only file system; a copy of a copy         whole copy
    a file, folder, link (dangling, too), pipe, socket, the store DestinationExistsError
    in the store, also by a link                                  StoreUsageError
    empty text; a NUL                                             StoreUsageError
    below a file or a dangling link; 256 bytes; a folder or a
    file system that may not be written                           StoreIOError
    a source whose lock file may not be written                   StoreIOError
    two at once to one name                          one copy, one DestinationExistsError

What is refused leaves everything as it was, and no scraps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventstore import ImageStore, restore
from eventstore.backup import UNFINISHED_PREFIX
from evidence import NOBODY, Evidence, Outcome, fingerprint, in_child, mounted
from hostile_plants import make_socket
from workload import config, view_digest

TAKEN, USAGE, REFUSED = "DestinationExistsError", "StoreUsageError", "StoreIOError"
Name = str | bytes
Copy = Callable[[Path, Name], object]


def back_up(source: Path, destination: Name) -> None:
    """Copy with a store that is open for writing."""
    with ImageStore.open(source, create=False) as store:
        store.backup(destination)  # type: ignore[arg-type]


def back_up_read_only(source: Path, destination: Name) -> None:
    """Copy with a store that is open for reading."""
    with ImageStore.open(source, read_only=True) as store:
        store.backup(destination)  # type: ignore[arg-type]


def make_new(source: Path, destination: Name) -> None:
    """Restore."""
    restore(source, destination)  # type: ignore[arg-type]


COPIES: tuple[Copy, ...] = (back_up, back_up_read_only, make_new)


class Trial(NamedTuple):
    """A destination, and what must come of it; it is relative to the folder or absolute."""

    name: str
    destination: Name
    error: str = ""
    user: int | None = None
    makes_folders: bool = False


def _free(folder: Path) -> Iterator[Trial]:
    folder.joinpath("sub").mkdir()
    yield Trial("a new name", "copy")
    yield Trial("an absolute one", str(folder / "copy"))
    yield Trial("deeper", "deeper/and deeper/copy", makes_folders=True)
    yield Trial("a trailing slash", "copy/")
    yield Trial("dots", "./sub/../copy")
    yield Trial("spaces and more", " with spaces ☃ ")
    yield Trial("a line break", "line\nbreak")
    yield Trial("no UTF-8", os.fsdecode(b"caf\xe9"))
    yield Trial("bytes", b"copy")
    yield Trial("255 bytes", "x" * 255)


def _taken(folder: Path, source: Path) -> Iterator[Trial]:
    folder.joinpath("file").write_text("mine")
    folder.joinpath("empty").mkdir()
    folder.joinpath("full").mkdir()
    folder.joinpath("full", "file").write_text("mine")
    folder.joinpath("dangling").symlink_to("nowhere")
    folder.joinpath("link to a folder").symlink_to("empty")
    folder.joinpath("link to a file").symlink_to("file")
    folder.joinpath("link to the store").symlink_to(source)
    os.mkfifo(folder / "pipe")
    make_socket(folder / "socket")
    for name in sorted(os.listdir(folder)):
        yield Trial(name, name, TAKEN)
    yield Trial("an empty folder with a slash", "empty/", TAKEN)
    yield Trial("the store itself", str(source), TAKEN)
    yield Trial("here", ".", TAKEN)
    yield Trial("above", "..", TAKEN)


def _wrong(folder: Path, source: Path) -> Iterator[Trial]:
    folder.joinpath("file").write_text("mine")
    folder.joinpath("dangling").symlink_to("nowhere")
    folder.joinpath("link").symlink_to(source)
    yield Trial("in the store", str(source / "copy"), USAGE)
    yield Trial("deep in the store", str(source / "deeper" / "copy"), USAGE)
    yield Trial("in the store by a link", "link/copy", USAGE)
    yield Trial("an empty text", "", USAGE)
    yield Trial("a NUL", "a\0b", USAGE)
    yield Trial("below a file", "file/copy", REFUSED)
    yield Trial("below a dangling link", "dangling/copy", REFUSED)
    yield Trial("256 bytes", "x" * 256, REFUSED)
    yield Trial("a very long path", "x/" * 5_000 + "copy", REFUSED)


def _of_others(folder: Path, source: Path) -> Iterator[Trial]:
    for path in (source, *source.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    for name, mode in (("may not be written", 0o555), ("may only be written", 0o333)):
        folder.joinpath(name).mkdir()
        os.chown(folder / name, NOBODY, NOBODY)
        folder.joinpath(name).chmod(mode)
    yield Trial("a folder that may not be written", "may not be written/copy", REFUSED, NOBODY)
    yield Trial("a folder that may not be read", "may only be written/copy", "", NOBODY)


class Destinations:
    """A source, and a folder in which destinations are tried."""

    def __init__(self, folder: Path, evidence: Evidence) -> None:
        """Make the source in the folder."""
        self.folder, self.evidence = folder, evidence
        self.source = folder / "source of copies"
        with ImageStore.open(self.source, operating_system="linux") as store:
            for number in range(3):
                store.create(config(f"image {number}"))
            self.view = view_digest(store.as_of(position=3))
            self.store_id = store.store_id

    def place(self) -> Path:
        """Return a new, empty folder."""
        found = self.folder / "place"
        found.mkdir(mode=0o777)
        return found

    def try_one(self, copy: Copy, trial: Trial, place: Path, source: Path | None = None) -> None:
        """Copy, and check what came of it."""
        before = fingerprint(place), sorted(os.listdir(self.source))
        what = f"{copy.__name__}: {trial.name}"
        done = in_child(
            partial(_from, place, copy, source or self.source, trial.destination), user=trial.user
        )
        self.evidence.tried("destinations")
        self.evidence.check(
            done.error == trial.error, f"{what}: {done.error or 'no error'} {done.text}"
        )
        if not done.error:
            self._check_copy(place, trial, what, restored=copy is make_new)
        else:
            self._check_refusal(trial, done, what)
            after = fingerprint(place), sorted(os.listdir(self.source))
            self.evidence.check(after == before, f"{what}: a refusal that changed something")

    def _check_copy(self, place: Path, trial: Trial, what: str, *, restored: bool) -> None:
        target = place / os.fsdecode(trial.destination)
        if not trial.error:
            with ImageStore.open(target, read_only=True) as store:
                sound = not list(store.verify()) and view_digest(store.view()) == self.view
                own = store.store_id != self.store_id
                fork = store.fork
            self.evidence.check(sound, f"{what}: a copy that is not whole")
            self.evidence.check(
                own == restored and (fork is not None) == restored, f"{what}: the wrong id"
            )
            shutil.rmtree(target)
            if trial.makes_folders:
                shutil.rmtree(place / Path(os.fsdecode(trial.destination)).parts[0])
        scraps = [name for name in os.listdir(place) if name.startswith(UNFINISHED_PREFIX)]
        self.evidence.check(not scraps, f"{what}: scraps")

    def _check_refusal(self, trial: Trial, done: Outcome, what: str) -> None:
        """Check that the message names the destination."""
        name = os.fsdecode(trial.destination).rstrip("/").rpartition("/")[2]
        named = name.strip(".") in done.text or repr(name)[1:-1] in done.text
        self.evidence.check(named and "\n" not in done.text, f"{what}: says {done.text!r}")

    def try_all(self, trials: Callable[..., Iterator[Trial]], *arguments: Path) -> None:
        """Try destinations with every way of copying."""
        place = self.place()
        for trial in trials(place, *arguments):
            for copy in COPIES:
                self.try_one(copy, trial, place)
        shutil.rmtree(place)

    def try_mounts(self) -> None:
        """Try file systems other than that of the source, and some that are not writable."""
        place, evidence = self.place(), self.evidence
        with mounted(place / "other", "-t", "tmpfs", "-o", "size=8m", "none") as may:
            if not may:
                evidence.not_tried("other file systems: a tmpfs may not be mounted")
            for copy in COPIES if may else ():
                self.try_one(copy, Trial("another file system", "other/copy"), place)
        with mounted(place / "other", "-t", "tmpfs", "-o", "size=8m,ro", "none") as may:
            for copy in COPIES if may else ():
                trial = Trial("a read-only file system", "other/copy", REFUSED)
                self.try_one(copy, trial, place)
        with mounted(place / "other", "--bind", "-o", "ro", str(self.source)) as may:
            # Linux takes `ro` from a bind mount in the same step with util-linux 2.27 or later.
            for copy in COPIES[1:] if may else ():
                trial = Trial("a source that is read-only", "copy")
                self.try_one(copy, trial, place, place / "other")
        shutil.rmtree(place)

    def try_copies(self) -> None:
        """Copy a copy, and a source that this user may not write to."""
        place = self.place()
        back_up(self.source, str(place / "first"))
        for copy in COPIES:
            self.try_one(copy, Trial("a copy of a copy", "copy"), place, place / "first")
        if os.geteuid() == 0:
            for path, mode in (("first/data.mdb", 0o444), ("first", 0o555)):
                place.joinpath(path).chmod(mode)
            place.chmod(0o777)
            for copy in COPIES[1:]:
                done = in_child(partial(_from, place, copy, place / "first", "copy"), user=NOBODY)
                self.evidence.tried("destinations")
                self.evidence.check(
                    done.error == REFUSED and str(place / "first") in done.text,
                    f"{copy.__name__}: a source without permission: {done.error} {done.text}",
                )
        shutil.rmtree(place)

    def try_races(self, rounds: int) -> None:
        """Let two copy to one name at once: one copy is there, and one error."""
        place = self.place()
        back_up(self.source, str(self.folder / "second source"))
        for _ in range(rounds):
            children = [
                _started(partial(_from, place, copy, source, "copy"))
                for copy, source in (
                    (back_up_read_only, self.source),
                    (make_new, self.folder / "second source"),
                )
            ]
            codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)
            self.evidence.tried("races of two copies to one name")
            self.evidence.check(codes == [0, 1], f"two copies to one name ended with {codes}")
            with ImageStore.open(place / "copy", read_only=True) as store:
                self.evidence.check(not list(store.verify()), "a race left no whole copy")
            self.evidence.check(os.listdir(place) == ["copy"], "a race left scraps")
            shutil.rmtree(place / "copy")
        shutil.rmtree(self.folder / "second source")
        shutil.rmtree(place)


def _from(folder: Path, copy: Copy, source: Path, destination: Name) -> None:
    """Copy with a folder as the current one."""
    os.chdir(folder)
    copy(source, destination)


def _started(call: Callable[[], object]) -> int:
    """Do something in a child that says by its exit code how it ended: 1 is a taken name."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            call()
            code = 0
        except Exception as error:
            code = 1 if type(error).__name__ == TAKEN else 2
        finally:
            os._exit(code)
    return child


def try_destinations(folder: Path, evidence: Evidence, *, may_mount: bool) -> None:
    """Try all of them."""
    trying = Destinations(folder, evidence)
    trying.try_all(_free)
    trying.try_all(_taken, trying.source)
    trying.try_all(_wrong, trying.source)
    trying.try_copies()
    trying.try_races(10)
    if may_mount:
        trying.try_mounts()
    else:
        evidence.not_tried("other file systems: only root may mount them")
    if os.geteuid() == 0:
        trying.try_all(_of_others, trying.source)
    else:
        evidence.not_tried("other users: only root can become one")
    shutil.rmtree(trying.source)
