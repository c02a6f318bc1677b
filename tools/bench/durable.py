"""Create images one by one, each on disk before the next: from one thread, and from sixteen.

Floor: an LMDB commit of the very same keys and values into the same databases, and sqlite3 with
the same bytes. Blocks of creates and of their floors take turns. Parsing and checking are ours to
pay. The slower the disk, the kinder the ratio; so the same is shown on a file system in memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import floors
import histories
import peer
import runner
from eventstore import ImageStore
from runner import Bound, Result, Settings

BLOCK = 20
MEMORY = "/dev/shm"
THREADS = 16
LMDB, SQLITE, PEER = "LMDB commit of the same bytes", "sqlite3, WAL, FULL", "eventsourcing, SQLite"


class Parts:
    """The store and its floors, side by side on one file system."""

    def __init__(self, folder: Path) -> None:
        """Make all of them, empty."""
        self.store = ImageStore.open(folder / "store", actor="bench@host", operating_system="linux")
        self.lmdb = floors.RawLMDB(folder / "lmdb")
        self.sqlite = floors.RawSQLite(folder / "sqlite")
        self.peer = peer.opened(folder / "peer")
        self.configs = map(histories.config, iter(range(10**9)))

    def next_configs(self, count: int) -> list[bytes]:
        """Return configs that nobody has seen yet."""
        return [next(self.configs) for _ in range(count)]

    def close(self) -> None:
        """Close all of them."""
        for part in (self.store, self.lmdb, self.sqlite, self.peer):
            if part is not None:
                part.close()


def batches(configs: list[bytes], length: int) -> list[list[tuple[str, bytes]]]:
    """Return ids and configs in batches, as the peer takes them."""
    images = [("sha256:" + hashlib.sha256(found).hexdigest(), found) for found in configs]
    return [images[start : start + length] for start in range(0, len(images), length)]


def one_by_one(parts: Parts, blocks: int) -> Iterator[tuple[str, float]]:
    """Create in blocks, each followed by its floors, and yield what each block took."""
    for _ in range(blocks):
        configs = parts.next_configs(BLOCK)
        after = parts.store.position
        yield "ours", runner.clocked_each(parts.store.create, configs)
        puts = floors.puts_of(parts.store, after)
        yield LMDB, runner.clocked_each(parts.lmdb.write, puts)
        yield SQLITE, runner.clocked_each(parts.sqlite.write, puts)
        if parts.peer is not None:
            yield PEER, runner.clocked_each(parts.peer.create, batches(configs, 1))


def together(parts: Parts, each: int) -> Iterator[tuple[str, float]]:
    """Create from one thread and then from many, and yield what each took."""
    configs = parts.next_configs(each)
    after = parts.store.position
    yield "one thread", runner.clocked_each(parts.store.create, configs)
    parts.lmdb.write(chain.from_iterable(floors.puts_of(parts.store, after)))
    shares = [parts.next_configs(each) for _ in range(THREADS)]
    after = parts.store.position
    yield "threads", in_threads(parts.store, shares)
    puts = floors.puts_of(parts.store, after)
    groups = [
        list(chain.from_iterable(puts[start : start + THREADS]))
        for start in range(0, len(puts), THREADS)
    ]
    yield "groups", runner.clocked_each(parts.lmdb.write, groups)


def in_threads(store: ImageStore, shares: list[list[bytes]]) -> float:
    """Let each thread create its share, all starting at once; return what all of it took."""
    ready = threading.Barrier(len(shares) + 1)
    failed: list[BaseException] = []

    def work(share: list[bytes]) -> None:
        try:
            ready.wait()
            for found in share:
                store.create(found)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    if failed:
        raise failed[0]
    return spent


def summed(takes: int, work: Callable[[], Iterator[tuple[str, float]]]) -> dict[str, list[float]]:
    """Return the sums of what `work` yields, by name and take; the first take does not count."""
    seconds: dict[str, list[float]] = {}
    for number in range(takes + 1):
        sums: dict[str, float] = {}
        for name, spent in work():
            sums[name] = sums.get(name, 0.0) + spent
        for name, spent in sums.items():
            seconds.setdefault(name, []).extend([spent] if number else [])
    return seconds


def without_disk(takes: int, blocks: int) -> dict[str, list[float]]:
    """Do the same on a file system in memory: what is left where a disk costs nothing."""
    if not os.access(MEMORY, os.W_OK):
        return {}
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-", dir=MEMORY) as folder:
        parts = Parts(Path(folder))
        seconds = summed(takes, lambda: one_by_one(parts, blocks))
        parts.close()
    return seconds


def measure(settings: Settings) -> Result:
    """Measure both."""
    blocks, each = settings.pick(3, 10), settings.pick(8, 32)
    result = Result("durable create")
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        parts = Parts(Path(folder))
        single = summed(settings.takes, lambda: one_by_one(parts, blocks))
        many = summed(settings.takes, lambda: together(parts, each))
        parts.close()
    ours, count = single["ours"], blocks * BLOCK
    in_memory = without_disk(settings.takes, blocks)
    result.rows = [
        runner.cost(
            "one by one",
            ours,
            count=count,
            unit="µs",
            beside=(LMDB, single[LMDB]),
            bound=Bound("≤", 1.3, of_ratio=True),
        ),
        runner.cost("one by one", ours, count=count, unit="µs", beside=(SQLITE, single[SQLITE])),
        runner.rate(
            f"{THREADS} threads at once",
            many["threads"],
            count=each * THREADS,
            beside=("one thread", many["one thread"]),
            beside_count=each,
            bound=Bound("≥", 4, of_ratio=True),
        ),
        runner.rate(
            f"{THREADS} threads at once",
            many["threads"],
            count=each * THREADS,
            beside=(f"LMDB, {THREADS} creates a commit", many["groups"]),
        ),
    ]
    if in_memory:
        beside = (LMDB, in_memory[LMDB])
        row = runner.cost(
            "one by one, no disk", in_memory["ours"], count=count, unit="µs", beside=beside
        )
        result.rows.insert(2, row)
    if PEER in single:
        result.rows.append(
            runner.cost("one by one", ours, count=count, unit="µs", beside=(PEER, single[PEER]))
        )
    else:
        result.notes.append(peer.MISSING)
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
