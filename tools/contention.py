"""Let processes and threads fight over one store, and look for one total order in what they saw.

    contention.py --mode MODE [--seconds S] [--seed N] [--weaken NAME]

    processes   8 processes that write and 8 that read, begun together on a path without a store
    threads     32 threads of one process on one store, 16 that write and 16 that read
    mixed       4 processes of 4 threads each
    killed      processes of threads, killed again and again: at random, in a transaction with the
                lock of all writers, some microseconds into a commit, in a read
    slots       all of LMDB's slots for readers taken by processes, which then let go or are killed
    asleep      iterations that are left half done, and a process stopped in the middle of a read
    fork        processes that fork in the middle of everything

What every thread did and saw is held against the log by `history_checker`, whose numbered list says
what must be true; then the store is verified, and its view is compared with a replay from the first
record. The store lies in memory where that is possible: what is attacked here is order, not the
disk (see `crash_states`). The exit code is 1 if anything is violated.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from contention_hand import IMAGES, Hand, Told, load
from contention_weakenings import WEAKENINGS
from contention_worker import DOOMS, MAP_SIZE
from crash_states import fast_folder
from eventstore import (
    EventStoreError,
    ImageStore,
    ImageView,
    ParentSet,
    Record,
    StoreIOError,
    log,
    reader_slots,
    replay,
    snapshots,
)
from eventstore.lmdb_env import Environment
from history_checker import Entry, violations

WORKER = Path(__file__).with_name("contention_worker.py")
PATIENCE_SECONDS = 60
CHECK_SECONDS = 300
GROWTH_WRITES = 400
GROWTH_MAX = 1024  # bytes a write; a record takes some 150, a pinned page 4,096
Process = subprocess.Popen[str]


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, level: int) -> None:
        """Keep nothing yet."""
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a message."""
        self.texts.append(record.getMessage())


class Attack:
    """A store, the processes that fight over it, and what was tried and found."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        """Begin with no store in an empty folder."""
        self.options = options
        self.seconds: float = options.seconds
        self.store = folder / "store"
        self.histories = folder / "histories"
        self.histories.mkdir()
        self.chance = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.found: list[str] = []
        self.started: list[Process] = []
        self.end = time.monotonic() + self.seconds
        self.most: dict[str, int] = {}
        self.slowest = 0.0

    def again(self, rounds: int, *, at_least: int = 1) -> bool:
        """Tell whether there is time for another round; a weakened run ends when it has found."""
        if self.options.weaken is not None and self.found:
            return False
        return rounds < at_least or time.monotonic() < self.end

    # Processes.

    def start(self, role: str, name: str, **more: object) -> Process:
        """Start a process in a role."""
        command = [sys.executable, "-Wignore::DeprecationWarning", str(WORKER), role]
        command += [str(self.store), str(self.histories), name]
        options = {"seconds": self.seconds, "seed": self.options.seed, **more}
        if self.options.weaken is not None:
            options["weaken"] = self.options.weaken
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        self.counts["processes"] += 1
        return process

    def wait_for(self, process: Process, word: str) -> list[str]:
        """Wait until a process says a line that begins with a word, and return its words."""
        assert process.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS + self.seconds, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.split()[:1] == [word]:
                    return line.split()
        finally:
            timer.cancel()
        self.found.append(f"process: one ended, or hung, before it said {word!r}")
        return [word, "0"]

    def tell(self, process: Process) -> None:
        """Tell a process to go on."""
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()

    def finish(self, process: Process, *, killed: bool = False) -> str:
        """Wait for the end of a process; a bad one is a violation, unless it was killed."""
        try:
            said, complaint = process.communicate(timeout=self.seconds + PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.found.append("process: one hung")
            return ""
        if (process.returncode or complaint) and not killed:
            last = complaint.strip().splitlines()[-1:] or [""]
            self.found.append(f"process: one ended with {process.returncode}: {last[0]}")
        return said

    def end_all(self) -> None:
        """Leave no process behind."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def within_patience(self, what: str, work: Callable[[], None]) -> None:
        """Do something that must not wait for ever: there is no getting out of LMDB's lock."""
        began = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if thread.is_alive():
            self.found.append(f"hang: {what} did not go on within {PATIENCE_SECONDS} s")
            self.finish_now()

    def finish_now(self) -> None:
        """End at once, for a thread hangs."""
        self.end_all()
        self.show()
        print(f"{self.said()}, {len(self.found)} violations, ended early", flush=True)
        os._exit(1)

    # Modes.

    def processes(self) -> None:
        """Let 8 processes write and 8 read, begun together."""
        crowd = [self.start("crowd", f"w{number}", writers=1) for number in range(8)]
        crowd += [self.start("crowd", f"r{number}", readers=1) for number in range(8)]
        for process in crowd:
            self.finish(process)

    def threads(self) -> None:
        """Let 32 threads of one process share one store."""
        self.finish(self.start("crowd", "p", writers=16, readers=16))

    def mixed(self) -> None:
        """Let processes of several threads write and read."""
        crowd = [self.start("crowd", f"p{n}", writers=2, readers=2) for n in range(4)]
        for process in crowd:
            self.finish(process)

    def killed(self) -> None:
        """Kill processes in groups, and see that those that are left go on."""
        with self.open() as store:
            hand = Hand(store, self.histories, "main.0", self.options.seed)
            number = rounds = 0
            while self.again(rounds):
                rounds += 1
                # Whoever is killed with the lock comes first: the others wait for it.
                dooms = sorted([*DOOMS, "commit", "random"], key=lambda doom: doom != "inside")
                group: list[tuple[str, Process]] = []
                for doom in dooms:
                    number += 1
                    more = {"writers": 2, "readers": 1, "doom": doom}
                    group.append((doom, self.start("crowd", f"k{number}", **more)))
                for doom, process in group:
                    self.kill(doom, process)
                    self.within_patience(f"a writer, after one was killed ({doom}),", hand.write)
                    self.within_patience(f"a reader, after one was killed ({doom}),", hand.read)
            for number in range(3):
                self.kill("reading", self.start("crowd", f"last{number}", doom="reading"))
            self.look_for_growth(store, hand)

    def kill(self, doom: str, process: Process) -> None:
        """Kill a process where its doom lies."""
        if doom == "commit":
            try:
                process.wait(self.seconds + PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.found.append("process: one was to die in a commit, and hung")
        else:
            self.wait_for(process, "open" if doom == "random" else doom)
            if doom == "random":
                time.sleep(self.chance.uniform(0, 0.4))
        process.kill()
        self.finish(process, killed=True)
        self.counts[f"killed ({doom})"] += 1

    def look_for_growth(self, store: ImageStore, hand: Hand) -> None:
        """Hold the file to its size beside readers that died, once they may have been noticed."""
        until = time.monotonic() + reader_slots.READER_CHECK_SECONDS * 1.2
        while time.monotonic() < until:
            self.touch(store, hand)
        self.growth("after the kills", store, hand, bounded=True)

    def touch(self, store: ImageStore, hand: Hand) -> None:
        """Append one small record."""
        if IMAGES[0] not in store:
            hand.create(0)
        name = hand._begin(alone=True)
        store.set_last_updated(IMAGES[0], reason=name)
        hand._end(name, "acknowledged", [("LastUpdatedSet", IMAGES[0])])

    def growth(self, when: str, store: ImageStore, hand: Hand, *, bounded: bool) -> None:
        """Measure by how much the file grows with a write, and perhaps hold it to a bound."""
        before = store.size_on_disk()
        for _ in range(GROWTH_WRITES):
            self.touch(store, hand)
        each = (store.size_on_disk() - before) // GROWTH_WRITES
        self.counts[f"growth measurements {when}"] += 1
        self.most[when] = max(self.most.get(when, 0), each)
        if bounded and each > GROWTH_MAX:
            self.found.append(f"growth: {each} bytes a write {when}")

    def slots(self) -> None:
        """Take all slots of readers, see who is refused and how, and free them in either way."""
        with self.open() as store:
            hand = Hand(store, self.histories, "main.0", self.options.seed)
            for _ in range(20):
                hand.write()
            rounds = 0
            while self.again(rounds, at_least=2):
                rounds += 1
                holders = [self.start("holds", f"h{n}", count=700) for n in range(2)]
                taken = sum(int(self.wait_for(one, "holding")[1]) for one in holders)
                self.counts["slots taken"] += taken
                if taken < 1000:
                    self.found.append(f"slots: only {taken} could be taken")
                self.refused(store)
                let_go = rounds % 2 == 0
                for holder in holders:
                    if let_go:
                        self.tell(holder)
                        self.wait_for(holder, "free")
                    else:
                        holder.kill()
                    self.finish(holder, killed=not let_go)
                self.counts["times let go" if let_go else "times killed"] += 1
                self.served(store, hand)

    def refused(self, store: ImageStore) -> None:
        """Hold every call to one error of ours while no slot is free, and to leave nothing."""
        # Looking for commits needs none, and what writes reads where it writes.
        calls: list[Callable[[], object]] = [
            lambda: store.search_history("0"),
            lambda: store._read_config(bytes(32)),
            lambda: list(store.records()),
            lambda: store.as_of(position=1),
            lambda: store.diff(1),
            lambda: list(store.verify()),
            store.take_snapshot,
        ]
        with ExitStack() as stack:
            with suppress(StoreIOError):
                stack.enter_context(store._environment.read())  # the slot that LMDB kept for us
            for call in calls:
                try:
                    call()
                except StoreIOError:
                    self.counts["calls refused"] += 1
                except Exception as error:
                    self.found.append(f"slots: a call raised {type(error).__name__}: {error}")
                else:
                    self.found.append("slots: a call was answered without a slot")
        said = self.finish(self.start("calls", "caller")).split()
        if said[:1] != ["StoreIOError"]:
            self.found.append(f"slots: an open without a slot: {said}")
        self.counts["opens refused"] += 1

    def served(self, store: ImageStore, hand: Hand) -> None:
        """Hold the store to work at once when slots are free again."""
        try:
            for work in (hand.read, hand.write, hand.verify, store.take_snapshot):
                work()
                self.counts["calls served again"] += 1
        except EventStoreError as error:
            self.found.append(f"slots: still refused: {error}")
        said = self.finish(self.start("calls", "caller")).split()
        if said[:1] != ["served"]:
            self.found.append(f"slots: an open with free slots: {said}")

    def asleep(self) -> None:
        """Write beside iterations that are left half done, and beside a read that is stopped."""
        reader_slots.READER_CHECK_SECONDS, reader_slots.READER_ASLEEP_SECONDS = 0.1, 0.5
        warnings = Kept(logging.WARNING)
        logging.getLogger("eventstore").addHandler(warnings)
        with self.open() as store:
            hand = Hand(store, self.histories, "main.0", self.options.seed)
            for number in range(1, 5):
                hand.create(number)
            for _ in range(3):
                self.growth("alone", store, hand, bounded=False)
            rounds = 0
            while self.again(rounds):
                rounds += 1
                self.sleep_between_pages(store, hand, f"s{rounds}")
                self.sleep_in_a_read(store, hand, f"s{rounds}h", warnings.texts)

    def sleep_between_pages(self, store: ImageStore, hand: Hand, name: str) -> None:
        """Stop a process whose iterations are half done: nothing may grow."""
        sleeper = self.start("asleep", name)
        self.wait_for(sleeper, "asleep")
        sleeper.send_signal(signal.SIGSTOP)
        self.growth("beside iterations asleep", store, hand, bounded=True)
        sleeper.send_signal(signal.SIGCONT)
        self.tell(sleeper)
        self.wait_for(sleeper, "ended")
        self.finish(sleeper)

    def sleep_in_a_read(self, store: ImageStore, hand: Hand, name: str, warned: list[str]) -> None:
        """Stop a process in a read: the file grows, the operator is told, and then it ends."""
        sleeper = self.start("holds", name, count=1)
        self.wait_for(sleeper, "holding")
        sleeper.send_signal(signal.SIGSTOP)
        self.growth("beside a read asleep", store, hand, bounded=False)
        until = time.monotonic() + reader_slots.READER_ASLEEP_SECONDS * 10
        while time.monotonic() < until and not _names(warned, sleeper.pid):
            self.touch(store, hand)
        if not _names(warned, sleeper.pid):
            self.found.append("asleep: no warning named the process that is asleep in a read")
        self.counts["sleepers named"] += _names(warned, sleeper.pid)
        sleeper.send_signal(signal.SIGCONT)
        self.tell(sleeper)
        self.wait_for(sleeper, "free")
        self.finish(sleeper)
        self.growth("after a read asleep", store, hand, bounded=True)

    def fork(self) -> None:
        """Let processes with threads fork, also in a transaction."""
        crowd = [self.start("forks", f"p{n}", writers=2, readers=1) for n in range(2)]
        for process in crowd:
            for line in self.finish(process).splitlines():
                if line.startswith("did "):
                    _, count, what = line.split(maxsplit=2)
                    self.counts[what] += int(count)

    # Judgement.

    def open(self) -> ImageStore:
        """Open the store in this process, weakened as the others are."""
        if self.options.weaken is not None:
            WEAKENINGS[self.options.weaken]()
        return ImageStore.open(self.store, actor="main", map_size=MAP_SIZE)

    def judge(self) -> None:
        """Hold everything against the log, in a process of its own: the file may be broken."""
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            future = pool.submit(judgement, self.store, self.histories)
            try:
                counts, found = future.result(CHECK_SECONDS)
            except (BrokenProcessPool, EventStoreError, OSError, TimeoutError) as error:
                self.found.append(f"log: it could not be judged: {type(error).__name__}: {error}")
                print("".join(traceback.format_exception(error)))
                print(f"from the first record on: {replayed(self.store)}")
                return
        self.counts.update(counts)
        self.found.extend(found)

    def show(self) -> None:
        """Print what was found, the most frequent first, and what was measured."""
        for text, count in Counter(self.found).most_common(10):
            print(f"  {count:6}  {text}")
        for when, most in self.most.items():
            print(f"{most} bytes a write at most, {when}")
        if self.slowest:
            print(f"{self.slowest:.2f} s at most until others went on after a kill")

    def said(self) -> str:
        """Return what was tried, in words."""
        return ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)


def _names(warned: list[str], pid: int) -> bool:
    return any(f"process {pid} " in text for text in warned)


def replayed(store_path: Path) -> str:
    """Say what a replay of a store that cannot be judged gives: is it the log, or a snapshot?"""
    try:
        with closing(Environment(store_path, read_only=True)) as environment:
            with environment.read() as txn:
                end = log.last_position(txn)
                headers = [position for position, _ in snapshots.headers(txn)]
            return f"{len(replay.from_nothing(environment, end))} images; snapshots {headers}"
    except EventStoreError as error:
        return f"{type(error).__name__}: {error}"


def judgement(store_path: Path, histories: Path) -> tuple[Counter[str], list[str]]:
    """Return counts of what was done, and everything that is wrong with the log and histories."""
    told = load(histories)
    with ImageStore.open(store_path, create=False, map_size=MAP_SIZE) as store:
        records = list(store.records())
        found = [*told.wrong, *violations([_entry(record) for record in records], told.histories)]
        found += _view_faults(records, told)
        found += [f"verify: {problem.message}" for problem in store.verify()]
        if store.view().digest != replay.from_nothing(store._environment, len(records)).digest:
            found.append("view: the live one is not what a replay gives")
    counts = Counter[str](records=len(records))
    names = {record.reason for record in records}
    for write in told.histories.writes:
        if write.outcome == "leaving":
            counts["writes killed in the commit"] += 1
            counts["of them committed"] += write.name in names
        else:
            outcomes = {"failed": "writes refused or failed", "inside": "killed in a transaction"}
            counts[outcomes.get(write.outcome, "writes acknowledged")] += 1
    counts["reads"] = len(told.histories.reads)
    counts["views of the past"] = len(told.views)
    counts["stretches of records"] = len(told.histories.stretches)
    return counts, found


def _entry(record: Record) -> Entry:
    event = record.event
    return Entry(
        record.position,
        record.batch,
        record.actor,
        record.reason,
        type(event).__name__,
        record.image_id,
        event.parent_id if isinstance(event, ParentSet) else None,
        zlib.crc32(record.raw),
    )


def _view_faults(records: list[Record], told: Told) -> Iterator[str]:
    """Compare views that were seen with a replay from the first record."""
    asked = {position for _, position, _ in told.views}
    view = ImageView()
    digests = {0: view.digest}
    for record in records:
        view.apply(record)
        if record.position in asked:
            digests[record.position] = view.digest
    for thread, position, digest in told.views:
        if digests.get(position) != digest:
            yield f"view: {thread} saw another at {position} than a replay gives"


def main() -> int:
    """Fight in one mode, and print what was tried and found."""
    modes = ("processes", "threads", "mixed", "killed", "slots", "asleep", "fork")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mode", choices=modes, default="processes")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="contention-", dir=fast_folder()) as folder:
        attack = Attack(options, Path(folder))
        try:
            getattr(attack, options.mode)()
        finally:
            attack.end_all()
        seconds = time.monotonic() - began
        attack.judge()
    attack.show()
    print(
        f"{attack.said()}, {len(attack.found)} violations, {seconds:.0f} s"
        f" (mode {options.mode}, seed {options.seed})"
    )
    return 1 if attack.found else 0


if __name__ == "__main__":
    raise SystemExit(main())
