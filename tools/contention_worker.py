"""Be one of the processes that fight over a store; `contention.py` starts it.

    contention_worker.py ROLE STORE HISTORIES NAME [options]

`crowd` changes and reads from several threads, perhaps to a doom; `forks` does so and forks in the
middle; `holds` keeps read transactions open; `asleep` keeps iterations half done; `calls` opens the
store and reads once. What the parent waits for is said on standard output.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

from contention_hand import IMAGES, Hand
from contention_weakenings import WEAKENINGS, replace
from eventstore import EventStoreError, ImageStore, StoreForkedError, StoreIOError, lmdb_env

MAP_SIZE = 1 << 30
CHILD_SECONDS = 30
DOOMS = ("random", "inside", "commit", "reading")
HELD_SECONDS = 600
OPENED, TOLD = 10, 11  # how a child that was forked ends


def say(*words: object) -> None:
    """Write one line by one system call."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


class Worker:
    """A process with the store open, and a hand for each of its threads."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Open the store; everything before this may fail, nothing after it."""
        self.options = options
        self.name: str = options.name
        self.chance = random.Random(f"{options.seed} {options.name}")
        self.store = ImageStore.open(options.store, actor=self.name, map_size=MAP_SIZE)
        self.end = 0.0
        self.running = threading.Event()
        self.running.set()
        self.parked = 0
        self.parking = threading.Lock()

    def hand(self, thread: object) -> Hand:
        """Return a hand for a thread of this process."""
        return Hand(self.store, self.options.histories, f"{self.name}.{thread}", self.options.seed)

    def over(self) -> bool:
        """Tell whether the time is up; wait first while all threads are to stand still."""
        if not self.running.is_set():
            with self.parking:
                self.parked += 1
            self.running.wait()
            with self.parking:
                self.parked -= 1
        return time.monotonic() >= self.end

    def crowd(self) -> None:
        """Change and read from all threads until the time is up, or the doom comes."""
        threads = self.start()
        if self.options.doom in ("inside", "commit", "reading"):
            time.sleep(self.chance.uniform(0.05, 0.4))
            getattr(self, "doom_" + self.options.doom)()
        for thread in threads:
            thread.join()

    def start(self) -> list[threading.Thread]:
        """Start all threads."""
        self.end = time.monotonic() + self.options.seconds
        works: list[Callable[[], None]] = []
        for number in range(self.options.writers + self.options.readers):
            hand = self.hand(number)
            step = hand.write if number < self.options.writers else hand.read
            works.append(partial(hand.run, step, self.over))
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        return threads

    def doom_inside(self) -> None:
        """Stay in a transaction, with the lock of all writers, until the parent kills."""
        hand = self.hand("doomed")
        name = hand._begin(alone=False)
        with self.store.transaction(reason=name):
            self.store.set_last_updated(self.store.create(b'{"rootfs":{"type":"layers"}}'))
            say("inside")
            time.sleep(HELD_SECONDS)

    def doom_reading(self) -> None:
        """Stay in a read until the parent kills."""
        with self.store._environment.read():
            say("reading")
            time.sleep(HELD_SECONDS)

    def doom_commit(self) -> None:
        """Let the kernel end this process some microseconds into a commit, of any thread."""
        real = lmdb_env.WriteSession.commit
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

        def commit(session: lmdb_env.WriteSession) -> None:
            signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(1e-6, 120e-6))
            real(session)

        replace(lmdb_env.WriteSession, "commit", commit)
        time.sleep(HELD_SECONDS)

    def forks(self) -> None:
        """Fork in the middle of everything, also in a transaction of the thread that forks."""
        threads = self.start()
        hand = self.hand("forking")
        counts: Counter[str] = Counter()

        def step() -> None:
            how = self.chance.choice(("inside", "busy", "quiet"))
            if how == "inside":
                self.fork_inside(hand, counts)
                return
            if how == "quiet":
                self.running.clear()
                while self.parked < sum(thread.is_alive() for thread in threads):
                    time.sleep(0.0005)
            self.fork(hand, counts, how)
            self.running.set()

        hand.run(step, self.over)
        self.running.set()
        for thread in threads:
            thread.join()
        for what, count in counts.items():
            say("did", count, what)

    def fork_inside(self, hand: Hand, counts: Counter[str]) -> None:
        """Fork in the middle of a transaction of this very thread, and go on with it."""
        name = hand._begin(alone=False)
        with self.store.transaction(reason=name) as transaction:
            self.store.create(f'{{"comment":"{name}","rootfs":{{}}}}'.encode())
            self.fork(hand, counts, "inside")
            self.store.delete(self.store.create(f'{{"comment":"{name}+","rootfs":{{}}}}'.encode()))
            records = transaction._batch.records
            events = [(type(one.event).__name__, one.image_id) for one in records]
            hand.say("leaving", name, events)
        hand._end(name, "acknowledged", events)

    def fork(self, hand: Hand, counts: Counter[str], how: str) -> None:
        """Fork, and wait for what becomes of the child."""
        counts[f"forks ({how})"] += 1
        child = os.fork()
        if not child:
            signal.alarm(CHILD_SECONDS)
            try:
                os._exit(self.be_child(counts.total(), how))
            except BaseException as error:
                hand.say("wrong", f"in a child: {type(error).__name__}: {error}")
            os._exit(1)
        status = os.waitpid(child, 0)[1]
        if status == OPENED << 8:
            counts["children that opened their own"] += 1
        elif status == TOLD << 8 and how != "quiet":
            counts["children told that they were forked too early"] += 1
        else:
            hand.say("wrong", f"a child, forked {how}, ended with status {status}")

    def be_child(self, number: int, how: str) -> int:
        """Be refused by what was inherited at every call, and open a store of one's own.

        That is refused as well where the parent was inside the store as it forked: LMDB lets no
        file be opened twice in a process, and what its threads held cannot be let go of here.
        """
        store = self.store
        calls: list[Callable[[], object]] = [
            lambda: store.position,
            lambda: len(store),
            lambda: store.get(IMAGES[0]),
            lambda: store.as_of(position=0),
            lambda: list(store.records()),
            lambda: store.create(b'{"comment":"child","rootfs":{}}', reason="child"),
            store.take_snapshot,
        ]
        for call in calls:
            try:
                found: object = call()
            except StoreForkedError:
                continue
            raise AssertionError(f"it was answered {found!r}")
        name = f"{self.name}f{number}"
        try:
            own_store = ImageStore.open(self.options.store, actor=name, map_size=MAP_SIZE)
        except StoreForkedError:
            return TOLD
        with own_store as self.store:
            self.name = name
            own = self.hand(0)
            for _ in range(4):
                own.read()
                if how != "inside":  # the parent, in its transaction, waits for this child
                    own.write()
        return OPENED

    def holds(self) -> None:
        """Hold read transactions, as many as there are slots for, until told to let go."""
        with ExitStack() as stack:
            count = 0
            try:
                while count < self.options.count:
                    stack.enter_context(self.store._environment.read())
                    count += 1
            except StoreIOError:
                pass
            say("holding", count)
            sys.stdin.readline()
        say("free")

    def asleep(self) -> None:
        """Keep iterations of every kind half done until told to go on, and end them."""
        store, hand = self.store, self.hand(0)
        position = store.position
        whole = store.records(through=position)
        backward = store.records(through=position, reverse=True)
        stream = store.records(IMAGES[0])
        followed = store.follow(0)
        images = iter(store.map().items())
        for iterator in (whole, backward, stream, followed, images):
            next(iterator)
        view = store.as_of(position=position)
        digest = view.digest
        say("asleep")
        sys.stdin.readline()
        found = [one.position for one in (*whole, *stream)] + [one.position for one in backward]
        if len(found) < 2 * (position - 1) or view.digest != digest or not list(images):
            hand.say("wrong", "what was half read does not go on")
        if len(list(islice(followed, position - 1))) != position - 1:
            hand.say("wrong", "what was half followed does not go on")
        say("ended")


def calls(options: argparse.Namespace) -> None:
    """Open the store and read once, and say what came of it."""
    try:
        with ImageStore.open(options.store, actor=options.name, map_size=MAP_SIZE) as store:
            say("served", store.position)
    except EventStoreError as error:
        say(type(error).__name__)


def main() -> None:
    """Play a role."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("crowd", "forks", "holds", "asleep", "calls"))
    parser.add_argument("store", type=Path)
    parser.add_argument("histories", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--writers", type=int, default=0)
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--doom", choices=DOOMS, default=None)
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    options = parser.parse_args()
    if options.weaken is not None:
        WEAKENINGS[options.weaken]()
    if options.role == "calls":
        calls(options)
        return
    worker = Worker(options)
    say("open")
    getattr(worker, options.role)()


if __name__ == "__main__":
    main()
