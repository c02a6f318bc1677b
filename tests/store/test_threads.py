"""Share one store among threads: whole batches, one order, and a clean end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
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


def test_a_close_while_another_thread_looks_at_the_past(store_path: Path) -> None:
    """It takes stock of all views that were handed out, while more are."""
    store = ImageStore.open(store_path)
    store.create(config("a"))
    views = [store.as_of(position=1) for _ in range(20_000)]
    switch = sys.getswitchinterval()

    def look() -> None:
        with suppress(StoreClosedError):
            while True:
                views.append(store.as_of(position=1))

    thread = threading.Thread(target=look)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        store.close()
        thread.join(30)
    finally:
        sys.setswitchinterval(switch)
    assert not thread.is_alive()
