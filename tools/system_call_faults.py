"""Let every system call on a store's files fail, one after the other, and look for a loss.

    system_call_faults.py [--budget N] [--seed N] [--kinds A,B] [--calls A,B] [--weaken NAME]

A workload (see `workload`) is run once without a fault, to learn which calls it makes on what lies
in its folder: the store, its backup, the Docker data root that it reads. It is then run again and
again under strace, each time with one fault:

    eio, enospc     one call fails with that error, once                    (injected)
    kill            the process is killed as it enters the call             (injected)
    burst           a few calls from this one on fail, whatever they are    (injected)
    lasting         this call and all later ones that write, sync, open or name fail (injected)
    short           a write ends in its middle, and the next is refused     (real: RLIMIT_FSIZE)

What strace injects is simulated: the kernel does nothing and says that it failed. A short write is
the kernel's own. What a failed sync may leave on a disk is the matter of `failed_syncs`.

Of each run is asked: the process ends well, or by our kill, in time; all that it met were errors of
ours; a step that was refused changed nothing; once the fault has passed, the same open store does
all that follows. Of the files afterwards: the store opens; nothing acknowledged is missing and
nothing refused is there; the views at all acknowledged positions are what they were; `verify` finds
nothing; work goes on; a backup is whole, and there only if it was acknowledged.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import eventstore
from crash_states import fast_folder, unpack_source
from eventstore import EventStoreError, ImageStore, replay
from system_calls import Resize, Write, trace, tracer
from workload import BACKUP, FAULT_WEAKENINGS, SEVERAL, SOURCE, STORE, config, view_digest

SECONDS_MAX = 60
WORKLOAD = Path(__file__).with_name("workload.py")
# A call that is missing here is one that the workload does not make on its files.
BROKEN = (
    *("write", "pwrite64", "writev", "pwritev", "fdatasync", "fsync", "ftruncate", "fallocate"),
    *("openat", "rename", "mkdir", "unlink", "unlinkat", "rmdir", "chmod"),
)
KINDS = ("eio", "enospc", "kill", "burst", "lasting", "short")
# What says that the disk, not the step, is to blame; other refusals follow from earlier ones.
OF_THE_DISK = ("StoreFullError", "StoreIOError", "StoreClosedError", "CorruptionError")
BURSTS = (2, 5)
_T = TypeVar("_T")
MORE = 24  # further steps, in which a burst that is under way at the end runs out


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one run.

    Attributes:
        kind: one of `KINDS`.
        name: what it is, for people.
        calls: the system calls that are traced.
        injections: what strace is told to do to them.
        arguments: what the workload is told.
    """

    kind: str
    name: str
    calls: tuple[str, ...]
    injections: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass
class Verdict:
    """What came of one run.

    Attributes:
        fault: what went wrong.
        met: how many calls failed, or were cut short.
        refused: whether a step was refused with steps after it.
        went_on: whether all of those that came after the fault were done.
        violations: what is wrong, and should not be.
    """

    fault: Fault
    met: int = 0
    refused: bool = False
    went_on: bool = False
    violations: list[str] = field(default_factory=list)


def watched(folder: Path) -> list[str]:
    """Return the options of strace for every path that the workload uses."""
    store = [folder / STORE / name for name in ("data.mdb", "lock.mdb", "data.mdb.new")]
    backup = [folder / name for name in (BACKUP, f".{BACKUP}.0")]
    paths = [folder, folder / STORE, *store, *backup, *(path / "data.mdb" for path in backup)]
    paths += [folder / SOURCE, *sorted(folder.joinpath(SOURCE).rglob("*"))]
    return [option for path in paths for option in ("-P", str(path))]


def command(folder: Path, into: Path, fault: Fault | None, weaken: str | None) -> list[str]:
    """Return the command that runs the workload in a folder with a fault."""
    found = tracer()
    assert found is not None
    options = [found, "-f", "-y", "-qq", "-s", "1000", "-o", str(into), *watched(folder)]
    if fault is not None:
        options += ["-e", "trace=" + ",".join(fault.calls)]
        options += [option for text in fault.injections for option in ("-e", f"inject={text}")]
    options += [sys.executable, str(WORKLOAD), str(folder)]
    options += () if fault is None else fault.arguments
    return options + ([] if weaken is None else ["--weaken", weaken])


def calls_made(folder: Path, into: Path) -> list[str]:
    """Run the workload without a fault; return the names of the calls that it makes on its files.

    Calls of other threads than the first are counted with those: strace counts each thread's own.
    """
    subprocess.run(command(folder, into, None, None), check=True, stdout=subprocess.DEVNULL)
    lines = into.read_text("ascii").splitlines()
    found = [re.match(r"\d+ +(\w+)\(", line) for line in lines]
    return [match[1] for match in found if match is not None]


def all_faults(calls: Sequence[str], sizes: Sequence[tuple[int, bool]]) -> Iterator[Fault]:
    """Iterate over every fault, kind by kind, in the order of the calls."""
    numbers: Counter[str] = Counter()
    numbered = list[tuple[str, int, dict[str, int]]]()
    for call in calls:
        numbered.append((call, numbers[call] + 1, dict(numbers)))
        numbers[call] += 1
    for error in ("EIO", "ENOSPC"):
        for call, number, _ in numbered:
            injection = f"{call}:error={error}:when={number}"
            yield Fault(error.lower(), injection, (call,), (injection,))
    for call, number, _ in numbered:
        injection = f"{call}:signal=KILL:when={number}"
        yield Fault("kill", injection, (call,), (injection,))
    broken = [entry for entry in numbered if entry[0] in BROKEN]
    for length in BURSTS:
        for call, number, before in broken:
            name = f"{length} of each from {call} {number} on"
            yield _many("burst", name, before, "..{}", length)
    for call, number, before in broken:
        yield _many("lasting", f"all from {call} {number} on", before, "+", 1)
    for size, open_first in sizes:
        arguments = ("--file-size-max", str(size), *(["--open-first"] if open_first else []))
        calls_cut = ("write", "pwrite64", "writev", "pwritev", "fallocate", "ftruncate")
        yield Fault("short", " ".join(arguments), calls_cut, (), arguments)


def _many(kind: str, name: str, before: dict[str, int], ending: str, length: int) -> Fault:
    """Return the fault of all calls in `BROKEN`, after so many of each have been made."""
    injections = []
    for call in BROKEN:
        first = before.get(call, 0) + 1
        when = f"{first}{ending.format(first + length - 1)}"
        injections.append(f"{call}:error=EIO:when={when}")
    return Fault(kind, name, tuple(BROKEN), tuple(injections), ("--more", str(MORE)))


def file_sizes(folder: Path, into: Path) -> list[tuple[int, bool]]:
    """Return limits that cut every write that makes a file grow, and if the store opens before.

    Each write is cut behind its first byte, in its middle and before its last byte.
    """
    operations = trace([sys.executable, str(WORKLOAD), str(folder)], folder, into)
    lengths: dict[str, int] = {}
    found: dict[tuple[int, bool], None] = {}
    for operation in operations:
        if not isinstance(operation, Write | Resize):
            continue
        end = (
            operation.offset + len(operation.data)
            if isinstance(operation, Write)
            else operation.size
        )
        old = lengths.get(operation.path, 0)
        if end > old:
            made_by_open = operation.path.endswith((".new", "lock.mdb"))
            start = max(old, operation.offset) if isinstance(operation, Write) else old
            for limit in (start + 1, (start + end) // 2 + 7, end - 1):
                found[limit, not made_by_open] = None
            lengths[operation.path] = end
    return list(found)


def attempt(fault: Fault, template: Path, weaken: str | None) -> Verdict:
    """Run the workload with a fault in a folder of its own, and judge what came of it."""
    verdict = Verdict(fault)
    with tempfile.TemporaryDirectory(prefix="fault-", dir=template.parent) as top:
        folder, into = Path(top) / "folder", Path(top) / "calls"
        shutil.copytree(template, folder, symlinks=True)
        try:
            ended = subprocess.run(
                command(folder, into, fault, weaken),
                check=False,
                capture_output=True,
                timeout=SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            verdict.violations.append("it hangs")
            return verdict
        verdict.met = faults_met(fault, into.read_text("ascii", "replace"))
        said = [json.loads(line) for line in ended.stdout.splitlines()]
        complaint = ended.stderr.decode(errors="replace").strip().splitlines()
        verdict.violations += end_violations(fault, ended.returncode, complaint)
        verdict.violations += said_violations(fault, said)
        note_going_on(verdict, said)
        verdict.violations += file_violations(fault, folder, said)
    return verdict


def faults_met(fault: Fault, lines: str) -> int:
    """Return how many calls failed by injection, or wrote less than they were asked to."""
    if fault.kind != "short":
        return lines.count("(INJECTED)") + lines.count("+++ killed by SIGKILL +++")
    met = 0
    for line in lines.splitlines():
        found = re.search(r" (\w+)\(.* = (-?\d+)( EFBIG)?", line)
        if found is None or found[1] == "ftruncate":
            continue
        if found[1] == "writev":
            asked = sum(map(int, re.findall(r"iov_len=(\d+)", line)))
        else:
            asked = int(re.findall(r", (\d+)", line)[1 if found[1] == "fallocate" else 0])
        met += found[3] is not None or (found[1] != "fallocate" and 0 <= int(found[2]) < asked)
    return met


def end_violations(fault: Fault, code: int, complaint: Sequence[str]) -> Iterator[str]:
    """Iterate over what is wrong with the end of the process."""
    if fault.kind == "kill" and code == -9:
        return
    if code:
        yield f"it ended with {code}: {complaint[-1] if complaint else 'without a word'}"


def said_violations(fault: Fault, said: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Iterate over what is wrong with what was acknowledged and refused."""
    before: dict[str, Any] = {"position": 0}
    may_change = False
    for line in said:
        refused, step = line.get("refused"), line["step"]
        may_change |= step in SEVERAL
        if refused is not None and not _is_ours(refused):
            yield f"{step} was refused with {refused}"
        if fault.kind == "short" and refused in OF_THE_DISK and refused != "StoreFullError":
            yield f"{step} had no room, and was refused with {refused}"
        if "unreadable" in line and fault.kind in ("eio", "enospc", "short"):
            yield f"the store cannot be read after {step}: {line['unreadable']}"
        if "position" not in line:
            continue
        if line["position"] < before["position"]:
            yield f"{step} took the store back from {before['position']}"
        same = (line["position"], line["view"]) == (before["position"], before.get("view"))
        if refused is not None and "view" in before and not same and not may_change:
            yield f"{step} was refused, and changed something"
        may_change = False
        before = line
    if fault.kind in ("eio", "enospc", "short"):
        disk = [line["step"] for line in said if line.get("refused") in OF_THE_DISK]
        if len(disk) > 1:
            yield f"one fault had {len(disk)} steps refused: {', '.join(disk[:4])}"
    if fault.kind == "burst" and said and said[-1].get("refused") in OF_THE_DISK:
        yield f"work does not go on after the faults: {said[-1]['step']} was refused"


def _is_ours(name: str) -> bool:
    """Tell whether an error is one that users are told of."""
    found = getattr(eventstore, name, None)
    return name in eventstore.__all__ and issubclass(found or object, EventStoreError)


def note_going_on(verdict: Verdict, said: Sequence[dict[str, Any]]) -> None:
    """Note whether a store went on after a refusal."""
    blamed = [line.get("refused") in OF_THE_DISK for line in said]
    if verdict.fault.kind not in ("lasting", "kill") and any(blamed[:-1]):
        verdict.refused = True
        verdict.went_on = not blamed[-1]


def file_violations(fault: Fault, folder: Path, said: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Iterate over what is wrong with the files that a run left behind."""
    lines = [line for line in said if "position" in line]
    last = lines[-1]["position"] if lines else 0
    views = {line["position"]: line["view"] for line in lines}
    try:
        with ImageStore.open(folder / STORE, map_size=1 << 20, create=not lines) as store:
            exactly = fault.kind != "kill" and not said_nothing_since(said)
            yield from store_violations(store, views, last, exactly=exactly)
        yield from backup_violations(fault, folder, said)
    except (EventStoreError, AssertionError) as error:
        yield f"afterwards: {type(error).__name__}: {error}"


def said_nothing_since(said: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a step of several commits was refused, and nothing could be read since."""
    return any(line["step"] in SEVERAL for line in said[last_readable(said) :])


def last_readable(said: Sequence[dict[str, Any]]) -> int:
    """Return how many lines there are up to the last that says where the store is."""
    return max((number for number, line in enumerate(said, 1) if "position" in line), default=0)


def store_violations(
    store: ImageStore, views: dict[int, str], last: int, *, exactly: bool
) -> Iterator[str]:
    """Iterate over what is wrong with the store, which ends where it was left, or later."""
    position = store.position
    if position < last:
        yield f"it ends at {position}, and {last} was acknowledged"
        return
    if exactly and position != last:
        yield f"it ends at {position}, and all after {last} was refused"
    for reached, digest in views.items():
        if reached < store.horizon.through:
            continue
        if view_digest(store.as_of(position=reached)) != digest:
            yield f"the view at {reached} is another"
    replayed = replay.from_nothing(store._environment, position)
    if view_digest(replayed) != view_digest(store.as_of(position=position)):
        yield "a replay gives another view"
    yield from (problem.message for problem in store.verify())
    store.create(config("after the fault"))
    if store.position != position + 1:
        yield "work does not go on in a new process"


def backup_violations(fault: Fault, folder: Path, said: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Iterate over what is wrong with the backup, or with its absence."""
    line = next((line for line in said if line["step"] == "backup"), None)
    backup, unfinished = folder / BACKUP, folder / f".{BACKUP}.0"
    if fault.kind in ("eio", "enospc", "short") and unfinished.exists():
        yield "half a backup is left"
    if line is None or "refused" in line:
        if line is not None and fault.kind not in ("burst", "lasting") and backup.exists():
            yield "the backup was refused, and is there"
        if not backup.exists():
            return
    with ImageStore.open(backup, create=False, map_size=1 << 20) as store:
        stated = {} if line is None else line
        if "view" in stated and stated["view"] != view_digest(store.view()):
            yield "the backup is not what was backed up"
        yield from (f"the backup: {problem.message}" for problem in store.verify())


def chosen(every: Sequence[_T], budget: int | None, seed: int) -> list[_T]:
    """Return so many of them all, evenly spread."""
    if budget is None or budget >= len(every):
        return list(every)
    share, offset = len(every) / budget, random.Random(seed).random()
    return [every[int((number + offset) * share)] for number in range(budget)]


def run_all(faults: Sequence[Fault], template: Path, options: argparse.Namespace) -> list[Verdict]:
    """Return the verdicts of all faults, or of those before the first violation."""
    context = multiprocessing.get_context("spawn")
    verdicts: list[Verdict] = []
    judge = partial(attempt, template=template, weaken=options.weaken)
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        for verdict in pool.map(judge, faults):
            verdicts.append(verdict)
            if verdict.violations and options.first:
                pool.shutdown(cancel_futures=True)
                break
    return verdicts


def report(verdicts: Sequence[Verdict]) -> int:
    """Print what was tried, by kind, and what is wrong; return how many violations there are."""
    for kind in KINDS:
        mine = [verdict for verdict in verdicts if verdict.fault.kind == kind]
        refused = [verdict for verdict in mine if verdict.refused]
        print(
            f"  {kind:8} {len(mine):4} runs, {sum(verdict.met > 0 for verdict in mine):4} met"
            f" their fault; work went on in {sum(verdict.went_on for verdict in refused)}"
            f" of {len(refused)} in which something was refused"
        )
    found = Counter[str]()
    for verdict in verdicts:
        for text in verdict.violations:
            found[text] += 1
            if found[text] == 1:
                print(f"  {verdict.fault.name}: {text}")
    for text, count in found.most_common(10):
        print(f"  {count:6}  {text}")
    return sum(found.values())


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=int, default=None, help="faults to try; all, if not given")
    parser.add_argument("--seed", type=int, default=1, help="which faults, with a budget")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--calls", default=None, help="only faults that begin with these calls")
    parser.add_argument("--workers", type=int, default=min(2, multiprocessing.cpu_count()))
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--weaken", choices=sorted(FAULT_WEAKENINGS), default=None)
    return parser.parse_args()


def main() -> int:
    """Let calls fail, and print what was tried and found."""
    options = parsed()
    if tracer() is None:
        raise SystemExit("strace is needed (Debian: apt install strace), and leave to trace")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="system-call-faults-", dir=fast_folder()) as top:
        folders = [Path(top).resolve() / name for name in ("template", "traced", "sized")]
        for folder in folders:
            unpack_source(folder)
        template, traced, sized = folders
        into = traced.with_suffix(".calls")
        faults = list(all_faults(calls_made(traced, into), file_sizes(sized, into)))
        if options.calls is not None:
            faults = [fault for fault in faults if fault.name.split(":")[0] in options.calls]
        faults = [fault for fault in faults if fault.kind in options.kinds.split(",")]
        verdicts = run_all(chosen(faults, options.budget, options.seed), template, options)
    violations = report(verdicts)
    met = sum(verdict.met > 0 for verdict in verdicts)
    refused = [verdict for verdict in verdicts if verdict.refused]
    print(
        f"{met} of {len(faults)} faults, work went on in"
        f" {sum(verdict.went_on for verdict in refused)} of {len(refused)}, {violations}"
        f" violations, {time.monotonic() - began:.0f} s (budget {options.budget},"
        f" seed {options.seed})"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
