"""Build every state of the files that a power cut could leave, open each, and look for a loss.

    crash_states.py [--budget N] [--seed N] [--workers N] [--weaken NAME] [--stop-at N]

A workload is traced at the level of system calls (see `workload`, `system_calls`). The power is
then cut after each operation. What had been synced by then is there; of the rest, anything may
be: all of it, none, each page missing or alone, each page torn at any 512-byte sector, and
random subsets, up to a budget of states a cut. Names behave likewise: without a sync of their
folder, any last ones may be missing. This is a stricter disk than any file system in use.

Of each state is asked: the store opens; `verify` and LMDB's structure check find nothing; its
position is one that the workload had reached, and at least the last one acknowledged; the view
there, and at every acknowledged position, is what it was, also replayed from the first record;
work goes on; a backup that has its name is whole. The exit code is 1 if any state fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from eventstore import ImageStore, replay
from system_calls import Make, Operation, Remove, Rename, Resize, Said, Sync, Write, trace
from workload import BACKUP, SOURCE, STORE, WEAKENINGS, config, view_digest

PAGE, SECTOR = 4096, 512
TOP = Path(__file__).resolve().parent.parent
SOURCE_ARCHIVE = TOP / "tests" / "data" / "docker" / "crash-20.10.24-2.tar.gz"
Change = Write | Resize
NameChange = Make | Rename | Remove
State = dict[str, bytes | None]
GROUP, SECONDS_MAX = 256, 60
Choose = Callable[[Change], Change | None]


@dataclass
class Inode:
    """What a file surely holds, and what was done to it since it was last synced."""

    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """What must be true of a state.

    Attributes:
        acknowledged: positions of the store that were acknowledged before the cut.
        backup: the position of a backup that was acknowledged, or None.
        views: the digest of the view at every position that a step ended at.
    """

    acknowledged: tuple[int, ...]
    backup: int | None
    views: dict[int, str]


Trial = tuple[State, Expected]


class Disk:
    """The files and names, as operations change them, and what a cut could leave of them."""

    def __init__(self) -> None:
        """Begin with an empty folder."""
        self.inodes: list[Inode] = []
        self.names: dict[str, int | None] = {}
        self.durable_names: dict[str, int | None] = {}
        self.pending_names: list[tuple[NameChange, int | None]] = []

    def do(self, operation: Operation) -> None:
        """Let one operation happen."""
        if isinstance(operation, Make | Rename | Remove):
            self._do_name(operation)
        elif isinstance(operation, Sync):
            self._sync(operation.path)
        elif isinstance(operation, Write | Resize):
            inode = self.inodes[self._inode(operation.path)]
            if isinstance(operation, Write) and operation.durable:
                inode.durable = applied(inode.durable, [operation])
                inode.pending.append(operation)  # it lies over what is pending there, too
            else:
                inode.pending.extend(pieces(operation))

    def _inode(self, path: str) -> int:
        number = self.names[path]
        assert number is not None
        return number

    def _do_name(self, operation: NameChange) -> None:
        number: int | None = None
        if isinstance(operation, Make) and not operation.folder:
            number = len(self.inodes)
            self.inodes.append(Inode())
        change_names(self.names, operation, number)
        self.pending_names.append((operation, number))

    def _sync(self, path: str) -> None:
        if self.names.get(path) is not None:
            inode = self.inodes[self._inode(path)]
            inode.durable, inode.pending = applied(inode.durable, inode.pending), []
            return
        left: list[tuple[NameChange, int | None]] = []
        for operation, number in self.pending_names:
            if str(Path(operation.path).parent) == path:
                change_names(self.durable_names, operation, number)
            else:
                left.append((operation, number))
        self.pending_names = left

    def state(self, choose: Choose, names_kept: int) -> State:
        """Return the files, with what is chosen of the changes and so many of the pending names."""
        names = dict(self.durable_names)
        for operation, number in self.pending_names[:names_kept]:
            change_names(names, operation, number)
        state: State = {}
        for path, inode in names.items():
            state[path] = None if inode is None else self._content(self.inodes[inode], choose)
        return state

    def _content(self, inode: Inode, choose: Choose) -> bytes:
        chosen = [
            change if isinstance(change, Write) and change.durable else choose(change)
            for change in inode.pending
        ]
        return applied(inode.durable, [change for change in chosen if change is not None])

    def states(self, budget: int, chance: random.Random) -> Iterator[State]:
        """Iterate over what a cut now could leave, the most telling first."""
        names = len(self.pending_names)
        yield self.state(lambda change: change, names)
        yield self.state(lambda _: None, names)
        yield self.state(lambda _: None, 0)
        for number in range(names):
            yield self.state(lambda change: change, number)
        units = [change for inode in self.inodes for change in inode.pending]
        variants = [(unit, kind) for unit in units for kind in range(2 + 2 * (PAGE // SECTOR - 1))]
        if len(variants) > budget // 2:
            variants = chance.sample(variants, budget // 2)
        for unit, kind in variants:
            yield self.state(partial(varied, unit=unit, kind=kind), names)
        for _ in range(min(budget // 2, 2 ** min(len(units), 16))):
            share = chance.random()
            lost = {id(unit) for unit in units if chance.random() < share}
            yield self.state(partial(without, lost=lost), chance.randint(0, names))


def without(change: Change, lost: set[int]) -> Change | None:
    """Return a change unless it is one of those that are lost."""
    return None if id(change) in lost else change


def varied(change: Change, *, unit: Change, kind: int) -> Change | None:
    """Return a change, where one unit is missing (0), alone (1), or torn at a sector (above).

    An even kind loses the end of the torn one, an odd kind its beginning.
    """
    if change is not unit:
        return None if kind == 1 else change
    if kind == 1:
        return change
    if kind == 0 or isinstance(change, Resize):
        return None
    at = kind // 2 * SECTOR
    if kind % 2:
        if at >= len(change.data):
            return None
        return Write(change.path, change.offset + at, change.data[at:], durable=False)
    return Write(change.path, change.offset, change.data[:at], durable=False)


def change_names(names: dict[str, int | None], operation: NameChange, number: int | None) -> None:
    """Let names come, move or go."""
    if isinstance(operation, Make):
        names[operation.path] = number
    elif isinstance(operation, Remove):
        names.pop(operation.path, None)
    else:
        for path in [path for path in names if is_below(path, operation.path)]:
            names[operation.target + path.removeprefix(operation.path)] = names.pop(path)


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it."""
    return path == folder or path.startswith(folder + "/")


def pieces(change: Change) -> Iterator[Change]:
    """Cut a write at the borders of pages, for each page reaches the disk by itself."""
    if isinstance(change, Resize):
        yield change
        return
    at = 0
    while at < len(change.data):
        end = at + PAGE - (change.offset + at) % PAGE
        yield Write(change.path, change.offset + at, change.data[at:end], durable=False)
        at = end


def applied(content: bytes, changes: Sequence[Change]) -> bytes:
    """Return a file's content after some changes; what was skipped over reads as zeros."""
    if not changes:
        return content
    result = bytearray(content)
    for change in changes:
        if isinstance(change, Resize):
            result = result[: change.size].ljust(change.size, b"\0")
            continue
        if len(result) < change.offset:
            result.extend(bytes(change.offset - len(result)))
        result[change.offset : change.offset + len(change.data)] = change.data
    return bytes(result)


def violation(state: State, root: str, expected: Expected) -> str | None:
    """Lay a state out, open it, and return what is wrong with it, None if nothing is.

    Args:
        state: paths and contents; None is a folder.
        root: the folder that the paths begin with.
        expected: what must be true.
    """
    folder = Path(tempfile.mkdtemp(prefix="crash-state-", dir=fast_folder()))
    try:
        for path in sorted(state):
            content, target = state[path], folder / path.removeprefix(root).lstrip("/")
            if content is None:
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif target.parent.exists():
                target.write_bytes(content)
        return store_violation(folder, expected) or backup_violation(folder, expected)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace(str(folder), "…")
    finally:
        shutil.rmtree(folder)


def store_violation(folder: Path, expected: Expected) -> str | None:
    """Return what is wrong with the store in a folder."""
    must_be_there = bool(expected.acknowledged)
    with ImageStore.open(folder / STORE, map_size=1 << 20, create=not must_be_there) as store:
        position = store.position
        if position not in expected.views:
            return f"it ends at {position}, in the middle of a batch"
        if position < max(expected.acknowledged, default=0):
            return f"it ends at {position}, and {max(expected.acknowledged)} was acknowledged"
        for reached in {position, *expected.acknowledged}:
            if reached < store.horizon.through:
                continue
            if view_digest(store.as_of(position=reached)) != expected.views[reached]:
                return f"the view at {reached} is another"
        replayed = replay.from_nothing(store._environment, position)
        if view_digest(replayed) != expected.views[position]:
            return "a replay gives another view"
        problems = [problem.message for problem in store.verify()]
        if problems:
            return problems[0]
        store.create(config("after the cut"))
        if store.position != position + 1:
            return "work does not go on"
    return None


def backup_violation(folder: Path, expected: Expected) -> str | None:
    """Return what is wrong with the backup in a folder, if it is there or must be."""
    if expected.backup is None and not folder.joinpath(BACKUP).exists():
        return None
    with ImageStore.open(folder / BACKUP, create=False, map_size=1 << 20) as store:
        position = store.position
        if view_digest(store.as_of(position=position)) != expected.views.get(position):
            return f"the backup, at {position}, is not what it was"
        problems = [problem.message for problem in store.verify()]
        return problems[0] if problems else None


def fast_folder() -> str | None:
    """Return a folder in memory where there is one; what is cut is made up in any case."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def record(folder: Path, weaken: str | None) -> list[Operation]:
    """Run the workload in a folder, and return what it did."""
    unpack_source(folder)
    command = [sys.executable, str(Path(__file__).with_name("workload.py")), str(folder)]
    if weaken is not None:
        command += ["--weaken", weaken]
    return trace(command, folder, folder.with_name("calls"))


def unpack_source(folder: Path) -> None:
    """Make a folder for the workload, with the Docker data root that it reads."""
    with tarfile.open(SOURCE_ARCHIVE) as archive:
        archive.extractall(folder, filter="tar")
    (folder / SOURCE_ARCHIVE.name.removesuffix(".tar.gz")).rename(folder / SOURCE)


def cuts(operations: Sequence[Operation], budget: int, chance: random.Random) -> Iterator[Trial]:
    """Iterate over all states, each once, and what must be true of each."""
    said = [json.loads(operation.text) for operation in operations if isinstance(operation, Said)]
    views = {line["position"]: line["view"] for line in said}
    disk, seen = Disk(), set[bytes]()
    acknowledged: tuple[int, ...] = ()
    backup: int | None = None
    for operation in [*operations, Sync("")]:
        if isinstance(operation, Said):
            line = json.loads(operation.text)
            acknowledged = (*acknowledged, line["position"])
            backup = line["position"] if line["store"] == BACKUP else backup
            continue
        for state in disk.states(budget, chance):
            mark = hashlib.sha256(repr((sorted(state), acknowledged, backup)).encode())
            for path in sorted(state):
                mark.update(hashlib.sha256(state[path] or b"").digest())
            if mark.digest() not in seen:
                seen.add(mark.digest())
                yield state, Expected(acknowledged, backup, views)
        if operation != Sync(""):
            disk.do(operation)


def main() -> int:
    """Cut the power everywhere, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=int, default=200, help="states a cut, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    parser.add_argument("--stop-at", type=int, default=10**9, help="end at so many violations")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crash-states-") as top:
        folder = Path(top).resolve() / "folder"
        folder.mkdir()
        operations = record(folder, options.weaken)
        tried, found = try_all(operations, str(folder), options)
    seconds = time.monotonic() - began
    for text, count in sorted(found.items(), key=lambda item: -item[1])[:10]:
        print(f"  {count:6}  {text}")
    print(
        f"{len(operations)} operations, {tried} crash states, {sum(found.values())} violations,"
        f" {seconds:.0f} s (budget {options.budget}, seed {options.seed})"
    )
    return 1 if found else 0


def try_all(
    operations: Sequence[Operation], root: str, options: argparse.Namespace
) -> tuple[int, dict[str, int]]:
    """Try every state in other processes; return how many, and the violations with their counts."""
    tried, found = 0, dict[str, int]()
    trials = cuts(operations, options.budget, random.Random(options.seed))
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.workers) as pool:
        # A pool takes in all that it can get: a bounded number at a time keeps memory bounded.
        while group := [(state, root, expected) for state, expected in islice(trials, GROUP)]:
            for text in pool.imap_unordered(isolated_violation, group, chunksize=8):
                tried += 1
                if text is not None:
                    found[text] = found.get(text, 0) + 1
            if sum(found.values()) >= options.stop_at:
                break
    return tried, found


def isolated_violation(trial: tuple[State, str, Expected]) -> str | None:
    """Look at a state in a process of its own.

    Args:
        trial: the arguments of `violation`.
    """
    return isolated(partial(violation, *trial))


def isolated(look: Callable[[], str | None]) -> str | None:
    """Call a function in a process of its own, for LMDB may end the one that opens a bad file.

    Returns:
        What the function returned, or how its process ended.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        signal.alarm(SECONDS_MAX)
        os.write(writing, (look() or "").encode()[:4096])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        text = answer.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        ended = f"exit code {status}" if status > 0 else signal.Signals(-status).name
        return f"the process that opened it was ended by {ended}"
    return text or None


if __name__ == "__main__":
    raise SystemExit(main())
