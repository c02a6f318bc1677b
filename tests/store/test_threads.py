"""Share one store among threads: whole batches, one order, and a clean end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from eventstore import ImageStore, StoreClosedError
from making import config
from store.children import run


def together(*works: Callable[[], None]) -> None:
    """Run functions in threads at once; the first error is raised here."""
    errors: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def guarded(work: Callable[[], None]) -> None:
        gate.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_batches_of_many_threads_are_whole_and_in_one_order(store: ImageStore) -> None:
    """Every batch is contiguous, every position is used once, nothing is lost."""

    def writer(name: str) -> Callable[[], None]:
        def work() -> None:
            for number in range(10):
                with store.transaction(reason=name):
                    for part in range(3):
                        store.create(config(f"{name} {number} {part}"))

        return work

    together(*(writer(str(number)) for number in range(6)))
    records = list(store.records())
    assert [record.position for record in records] == list(range(1, 181))
    for start in range(0, 180, 3):
        batch = records[start : start + 3]
        assert {record.batch for record in batch} == {start + 1}
        assert len({record.reason for record in batch}) == 1
    assert len(store) == 180


def test_readers_never_see_half_a_batch(store: ImageStore) -> None:
    """Pairs are created and deleted together, so every count is even."""
    done = threading.Event()
    odd: list[int] = []

    def write() -> None:
        try:
            for number in range(60):
                with store.transaction():
                    pair = [store.create(config(f"{number} {half}")) for half in (0, 1)]
                if number % 3 == 0:
                    with store.transaction():
                        for image_id in pair:
                            store.delete(image_id)
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            counts = [len(store), len(store.map()), len(store.as_of(position=store.position))]
            odd.extend(count for count in counts if count % 2)
            for image_id in store.map():
                assert image_id.startswith("sha256:")

    together(write, read, read, read)
    assert odd == []


def test_snapshots_may_be_taken_while_others_write(store: ImageStore) -> None:
    """Each is of one position, and proves itself."""

    def write() -> None:
        for number in range(60):
            store.create(config(str(number)))

    def snapshot() -> None:
        for _ in range(15):
            store.take_snapshot()

    together(write, snapshot, snapshot)
    assert list(store.verify()) == []
    assert len(store) == 60


def test_closing_under_readers_and_writers_gives_them_one_clear_error(store_path: Path) -> None:
    """No crash, no foreign error, and what was acknowledged is there."""
    store = ImageStore.open(store_path)
    acknowledged: list[str] = []
    started = threading.Event()

    def write() -> None:
        try:
            for number in range(100_000):
                acknowledged.append(store.create(config(str(number))))
                started.set()
        except StoreClosedError:
            return

    def read() -> None:
        try:
            while True:
                list(store)
                list(store.records(reverse=True, after=max(store.position - 5, 0)))
        except StoreClosedError:
            return

    def close() -> None:
        started.wait(20)
        threading.Event().wait(0.2)
        store.close()

    together(write, read, read, close)
    with ImageStore.open(store_path) as again:
        assert set(acknowledged) <= set(again)
        assert list(again.verify()) == []


def test_looks_for_commits_race_with_growth_reconnects_and_closes(store_path: Path) -> None:
    """They take no lock: each is answered or told that the store is closed, and nothing crashes."""
    said = run(
        "end, number, wrong = time.monotonic() + 4, 0, []\n"
        "def look():\n"
        "    seen = 0\n"
        "    try:\n"
        "        while True:\n"
        "            found = store._environment.commit_number()\n"
        "            if found < seen: wrong.append((found, seen))\n"
        "            seen = found\n"
        "            len(store)\n"
        "    except StoreClosedError:\n"
        "        pass\n"
        "    except BaseException as error:\n"
        "        wrong.append(repr(error))\n"
        "while time.monotonic() < end:\n"
        "    store = ImageStore.open(path, map_size=1 << 17)\n"
        "    threads = [threading.Thread(target=look) for _ in range(4)]\n"
        "    for thread in threads: thread.start()\n"
        "    for part in range(12):\n"
        "        number += 1\n"
        "        store.create(config(number), reason='x' * 20_000)\n"
        "        if part % 5 == 4: store._environment._break()\n"
        "    store.close()\n"
        "    for thread in threads: thread.join()\n"
        "with ImageStore.open(path) as store:\n"
        "    say(wrong, store.position == number > 24)\n",
        store_path,
    )
    assert said == ["[] True"]


def test_a_close_beside_threads_that_look_at_the_past_ends_all_of_them(store_path: Path) -> None:
    """They are told that the store is closed; what they were given before answers on."""
    said = run(
        "sys.setswitchinterval(1e-5)\n"
        "wrong = []\n"
        "def look():\n"
        "    given = []\n"
        "    try:\n"
        "        while True:\n"
        "            given += [store.as_of(position=number) for number in range(20)]\n"
        "            del given[:-100]\n"
        "    except StoreClosedError:\n"
        "        pass\n"
        "    except BaseException as error:\n"
        "        wrong.append(repr(error))\n"
        "for number in range(20):\n"
        "    store = ImageStore.open(path)\n"
        "    store.create(config(number))\n"
        "    while store.position < 20: store.set_last_updated(next(iter(store)))\n"
        "    threads = [threading.Thread(target=look) for _ in range(3)]\n"
        "    for thread in threads: thread.start()\n"
        "    time.sleep(0.03)\n"
        "    try:\n"
        "        store.close()\n"
        "    except RuntimeError as error:\n"
        "        say(repr(error))\n"
        "        os._exit(0)\n"
        "    for thread in threads: thread.join()\n"
        "say(wrong)\n",
        store_path,
    )
    assert said == ["[]"]


def test_a_thread_that_writes_all_the_time_lets_others_in(store: ImageStore) -> None:
    """Whoever waits for the turn gets it before one that comes later."""
    commits, stop = [0], threading.Event()

    def busy() -> None:
        while not stop.is_set():
            store.create(config(f"busy {commits[0]}"))
            commits[0] += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        while commits[0] < 3:
            time.sleep(0.001)
        before = commits[0]
        for _ in range(20):
            store._environment.write(lambda txn: None)
        between = commits[0] - before
    finally:
        stop.set()
        thread.join()
    assert between <= 60
