"""Let a sync of the disk fail, go on, cut the power, and look for a loss.

    failed_syncs.py [--points N] [--only TEXT] [--budget N] [--seed N] [--weaken NAME]

A sync that fails leaves the disk in doubt: each page may have reached it or not, and the kernel may
take it for written from then on, so that the next sync succeeds without it. The workload (see
`workload`) is run once for each sync of its files, which strace makes fail: those of new pages, of
LMDB's meta pages (which are synced as they are written), of names and of backups. For each meta
page it is run twice more: with the sync that should have set that right failing as well, and with
the process killed there, and another one begun. It goes on, and the power is cut (as in
`crash_states`, with the same disk) after each operation, until further steps have been
acknowledged. What was in doubt stays so until it has been written and synced anew.

Of each state is asked what `crash_states` asks. The batch that was refused may be there, whole,
until a later one has been acknowledged; after that it must not be. The failure is simulated; what
the disk did of it is made up, every way it could be. The exit code is 1 if any state fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crash_states import (
    Change,
    Disk,
    Expected,
    Inode,
    State,
    applied,
    fast_folder,
    isolated,
    pieces,
    unpack_source,
    violation,
)
from system_call_faults import chosen
from system_calls import Operation, Resize, Said, Sync, Write, trace, tracer
from workload import BACKUP, FAULT_WEAKENINGS

WORKLOAD = Path(__file__).with_name("workload.py")
ACKNOWLEDGED_AFTER = 2
Trial = tuple[State, tuple[Expected, ...]]


class DoubtfulDisk(Disk):
    """A disk whose syncs may fail; what was in doubt then, stays so until it is written anew."""

    def do(self, operation: Operation) -> None:
        """Let one operation happen, or fail."""
        if isinstance(operation, Sync) and operation.failed:
            if self.names.get(operation.path) is not None:
                inode = self.inodes[self._inode(operation.path)]
                inode.pending = [in_doubt(change) for change in inode.pending]
        elif isinstance(operation, Write) and operation.failed:
            self.inodes[self._inode(operation.path)].pending.extend(pieces_in_doubt(operation))
        else:
            super().do(operation)

    def _sync(self, path: str) -> None:
        if self.names.get(path) is None:
            super()._sync(path)
            return
        inode = self.inodes[self._inode(path)]
        inode.durable, inode.pending = synced(inode)


def in_doubt(change: Change) -> Change:
    """Return a change as one that no sync will bring to disk any more."""
    assert isinstance(change, Write), "what does a failed sync leave of a length?"
    return replace(change, durable=False, failed=True)


def pieces_in_doubt(operation: Write) -> Iterator[Change]:
    """Cut a write at the borders of pages, all of them in doubt."""
    return (in_doubt(piece) for piece in pieces(operation))


def synced(inode: Inode) -> tuple[bytes, list[Change]]:
    """Return what a sync leaves durable, and what stays in doubt."""
    left: list[Change] = []
    sure: list[Change] = []
    for number, change in enumerate(inode.pending):
        if not (isinstance(change, Write) and change.failed):
            sure.append(change)
        elif not any(covers(later, change) for later in inode.pending[number + 1 :]):
            left.append(change)
    return applied(inode.durable, sure), left


def covers(later: Change, change: Write) -> bool:
    """Tell whether a sure change lies over one in doubt: it does so whole, or not at all."""
    if isinstance(later, Resize) or later.failed:
        return False
    begin, end = later.offset, later.offset + len(later.data)
    if end <= change.offset or change.offset + len(change.data) <= begin:
        return False
    assert begin <= change.offset and change.offset + len(change.data) <= end
    return True


def points(calls: Path) -> list[tuple[str, ...]]:
    """Return the injections of every run, from strace's lines of a run without any."""
    numbers: Counter[str] = Counter()
    found: list[tuple[str, ...]] = []
    for line in calls.read_text("ascii").splitlines():
        name = re.match(r"\d+ +(\w+)\(", line)
        if name is None or name[1] not in ("fdatasync", "fsync", "pwrite64"):
            continue
        numbers[name[1]] += 1
        failing = f"{name[1]}:error=EIO:when={numbers[name[1]]}"
        if name[1] != "pwrite64":
            found.append((failing,))
        elif re.search(r", 120, (32|4128)\) ", line):
            settling = f"when={numbers['fsync'] + 1}"
            found += [(failing,), (failing, f"fsync:error=EIO:{settling}")]
            found.append((failing, f"fsync:signal=KILL:{settling}"))
    return found


def cuts(
    operations: Sequence[Operation], whole: Sequence[Operation], budget: int, chance: random.Random
) -> Iterator[Trial]:
    """Iterate over the states that a cut could leave from the failure on, each once.

    Args:
        operations: what the workload did.
        whole: what it did without a failure.
        budget: states a cut, at most.
        chance: for what is drawn.
    """
    lines = list(said(operations))
    views = {line["position"]: line["view"] for line in lines if "position" in line}
    disk, seen = DoubtfulDisk(), set[bytes]()
    expected = Expected((), None, views)
    doubtful = with_refused(expected, lines, list(said(whole)))
    failed, refused, acknowledged_after, before = False, False, 0, 0
    for operation in operations:
        if isinstance(operation, Said):
            line = json.loads(operation.text)
            refused = refused or "refused" in line
            if "refused" not in line:
                expected = acknowledging(expected, line)
                before = before if failed else line["position"]
                acknowledged_after += failed and (refused or line["position"] > before)
            if acknowledged_after >= ACKNOWLEDGED_AFTER:
                return
            continue
        disk.do(operation)
        failed = failed or (isinstance(operation, Sync | Write) and operation.failed)
        if not failed:
            continue
        allowed: tuple[Expected, ...] = (expected,)
        if not acknowledged_after:
            allowed += (replace(expected, views=doubtful.views),)
        for state in disk.states(budget, chance):
            mark = hashlib.sha256(repr((sorted(state), expected.acknowledged)).encode())
            for path in sorted(state):
                mark.update(hashlib.sha256(state[path] or b"").digest())
            if mark.digest() not in seen:
                seen.add(mark.digest())
                yield state, allowed


def said(operations: Sequence[Operation]) -> Iterator[dict[str, Any]]:
    """Iterate over what the workload said."""
    for operation in operations:
        if isinstance(operation, Said):
            yield json.loads(operation.text)


def acknowledging(expected: Expected, line: dict[str, Any]) -> Expected:
    """Return what must be true once a line was said."""
    backup = line["position"] if line["store"] == BACKUP else expected.backup
    acknowledged = (*expected.acknowledged, line["position"])
    return replace(expected, acknowledged=acknowledged, backup=backup)


def with_refused(
    expected: Expected, lines: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]]
) -> Expected:
    """Return what may be true as well: the batch that failed first is there, whole.

    It is that of the step that was refused, or of the one that was under way at the kill.
    """
    for line, unfailed in zip(lines, whole, strict=False):
        if line["step"] != unfailed["step"] or "refused" in line:
            views = {**expected.views, unfailed["position"]: unfailed["view"]}
            return replace(expected, views=views)
    return expected


def judged_alone(trial: Trial, root: str) -> str | None:
    """Do as `judged`, in a process of its own."""
    return isolated(partial(judged, trial, root))


def judged(trial: Trial, root: str) -> str | None:
    """Return what is wrong with a state, None if it is as one of those that are allowed."""
    state, allowed = trial
    found: str | None = None
    for expected in allowed:
        text = violation(state, root, expected)
        if text is None:
            return None
        found = found or text
    return found


def workload(folder: Path, weaken: str | None) -> list[str]:
    """Return the command that runs the workload in a folder."""
    command = [sys.executable, str(WORKLOAD), str(folder)]
    return command + ([] if weaken is None else ["--weaken", weaken])


def trials_of(
    injections: tuple[str, ...], whole: Sequence[Operation], top: Path, options: argparse.Namespace
) -> tuple[list[Trial], str]:
    """Let syncs fail; return the states to try, none if not all failed, and their root."""
    with tempfile.TemporaryDirectory(dir=top) as name:
        folder = Path(name) / "folder"
        unpack_source(folder)
        command = workload(folder, options.weaken)
        operations = trace(command, folder, Path(name) / "calls", injections)
        if "KILL" in injections[-1]:
            operations += trace(command, folder, Path(name) / "calls")
    failures = sum(isinstance(done, Sync | Write) and done.failed for done in operations)
    if failures != sum("error" in text for text in injections):
        print(f"  {' and '.join(injections)}: not tried, for {failures} calls failed")
        return [], str(folder)
    return list(cuts(operations, whole, options.budget, random.Random(options.seed))), str(folder)


def try_all(
    runs: Sequence[tuple[str, ...]],
    whole: Sequence[Operation],
    top: Path,
    options: argparse.Namespace,
) -> tuple[int, int, Counter[str]]:
    """Try the states of all runs; return how many runs and states there were, and what is wrong."""
    context = multiprocessing.get_context("spawn")
    points, states, found = 0, 0, Counter[str]()
    with context.Pool(options.workers) as pool:
        for injections in runs:
            trials, root = trials_of(injections, whole, top, options)
            points += bool(trials)
            states += len(trials)
            texts: Counter[str] = Counter()
            for text in pool.imap_unordered(partial(judged_alone, root=root), trials, chunksize=8):
                texts.update([] if text is None else [text])
            for text, count in texts.items():
                print(f"  {' and '.join(injections)}: {text} ({count} states)")
            found += texts
            if found and options.first:
                break
    return points, states, found


def main() -> int:
    """Let syncs fail, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", type=int, default=None, help="runs; all, if not given")
    parser.add_argument("--only", default="", help="only failures that have this in their name")
    parser.add_argument("--budget", type=int, default=20, help="states a cut, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=min(2, multiprocessing.cpu_count()))
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--weaken", choices=sorted(FAULT_WEAKENINGS), default=None)
    options = parser.parse_args()
    if tracer() is None:
        raise SystemExit("strace is needed (Debian: apt install strace), and leave to trace")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="failed-syncs-", dir=fast_folder()) as name:
        top = Path(name).resolve()
        folder, calls = top / "folder", top / "calls"
        unpack_source(folder)
        whole = trace(workload(folder, options.weaken), folder, calls)
        every = points(calls)
        wanted = [run for run in every if options.only in " and ".join(run)]
        runs = chosen(wanted, options.points, options.seed)
        tried, states, found = try_all(runs, whole, top, options)
    print(
        f"{tried} of {len(every)} failures of a sync, {states} crash states,"
        f" {sum(found.values())} violations, {time.monotonic() - began:.0f} s"
        f" (budget {options.budget}, seed {options.seed})"
    )
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
