"""Write to one path from several processes, kill them, and let the store grow under them.

Invariants: (1) positions are gapless and in one order for all; (2) a batch is contiguous; (3) what
was acknowledged is there; (4) each process sees what others committed before its read; (5) the
auditor's reading finds nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from eventstore import ImageStore, StoreFullError
from making import config

WRITER = Path(__file__).with_name("writer.py")


def start(path: Path, name: str, count: int, *more: str) -> subprocess.Popen[str]:
    """Start a writer and wait until it has the store open."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), name, str(count), *more],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def finish(process: subprocess.Popen[str]) -> list[list[int]]:
    """Wait for a writer, and return the numbers of each line that it printed."""
    assert process.stdout is not None
    with process.stdout:
        out = process.stdout.read()  # `communicate` would lose what `readline` has read ahead
    process.wait(timeout=120)
    return [[int(word) for word in line.split()] for line in out.splitlines()]


def check(store: ImageStore) -> None:
    """Hold the log against invariants 1, 2 and 5."""
    records = list(store.records())
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert record.batch <= record.position
        first = records[record.batch - 1]
        assert (first.actor, first.reason) == (record.actor, record.reason)
    for before, after in pairwise(records):
        assert before.time_ns <= after.time_ns
        if before.batch != after.batch:
            assert after.batch == after.position
    assert list(store.verify()) == []


@pytest.mark.parametrize("writers", [2, 4])
def test_processes_writing_at_once_make_one_order_and_see_each_other(
    store_path: Path, writers: int
) -> None:
    """Each one's own batches stay in order, none is lost, and everyone's are seen at once."""
    with ImageStore.open(store_path, actor="here", map_size=1 << 30) as store:
        processes = [start(store_path, f"w{number}", 25) for number in range(writers)]
        seen = 0
        while any(process.poll() is None for process in processes):
            position = store.position
            assert position >= seen
            assert len(store) >= position == len(list(store.records(through=position)))
            seen = position
            store.create(config(f"here {position}"))
        reports = [finish(process) for process in processes]
        assert store.position == len(store)
        check(store)
        by_actor: dict[str, list[str]] = {}
        for record in store.records():
            by_actor.setdefault(record.actor, []).append(record.reason)
        for number, report in enumerate(reports):
            name = f"w{number}"
            expected = [f"{name} {batch}" for batch in range(25) for _ in range(2)]
            assert by_actor[name] == expected
            for batch, last, others in report:
                mine = 2 * (batch + 1)
                # All that lay before its own batch was there when it read.
                assert others >= last - mine
                assert store.as_of(position=last).position == last


def test_a_write_is_seen_by_the_very_next_read_of_another_process(store_path: Path) -> None:
    """No polling, no delay: what is acknowledged there is there here."""
    with ImageStore.open(store_path, map_size=1 << 30) as store:
        process = start(store_path, "other", 30)
        assert process.stdout is not None
        for _ in range(30):
            _, last, _ = process.stdout.readline().split()
            assert store.position >= int(last)
            assert len(store) >= int(last)
        finish(process)


def test_follow_sees_what_other_processes_write(store_path: Path) -> None:
    """Each record once, in order."""
    with ImageStore.open(store_path, map_size=1 << 30) as store:
        process = start(store_path, "other", 20)
        found = []
        for record in store.follow(0):
            found.append(record.position)
            if len(found) == 40:
                break
        assert found == list(range(1, 41))
        finish(process)


def test_the_map_grows_under_several_processes(store_path: Path) -> None:
    """Opened far too small, it doubles as often as needed; nobody loses or sees garbage."""
    small = 1 << 18
    with ImageStore.open(store_path, actor="here", map_size=small) as store:
        processes = [start(store_path, f"w{number}", 40, str(small)) for number in range(2)]
        filler = "filler " * 2_000
        for number in range(60):
            store.create(config(f"here {number}"), reason=filler)
            assert store.get(next(iter(store))).root_fs.type == "layers"
        for process in processes:
            assert len(finish(process)) == 40
        assert len(store) == 60 + 2 * 80
        check(store)
    assert (store_path / "data.mdb").stat().st_size > small


def test_a_store_that_may_not_grow_says_so_and_changes_nothing(store_path: Path) -> None:
    """The limit is named; reads go on; with more room it goes on writing."""
    with ImageStore.open(store_path, map_size=1 << 18, map_size_max=1 << 19) as store:
        store.create(config("a"))
        image_id = next(iter(store))
        with pytest.raises(StoreFullError) as caught:
            for number in range(10_000):
                store.set_last_updated(image_id, number, reason="filler " * 1_000)
        assert caught.value.map_size == 1 << 19
        position = store.position
        assert 1 < position < 10_000
        assert len(list(store.records())) == position
        assert list(store.verify()) == []
    with ImageStore.open(store_path) as store:
        assert store.position == position
        store.set_built_locally(image_id)


@pytest.mark.slow
def test_killed_writers_lose_nothing_that_was_acknowledged(store_path: Path) -> None:
    """Twenty kills, at any moment of a loop of commits; each time the store opens and is sound."""
    acknowledged: set[str] = set()
    for number in range(20):
        process = start(store_path, f"w{number}", 1_000)
        killer = threading.Timer(0.02 + 0.01 * number, process.send_signal, [signal.SIGKILL])
        killer.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                batch = line.split()[0]
                acknowledged |= {f"w{number} {batch} {part}" for part in range(2)}
        process.wait()
        process.stdout.close()
        with ImageStore.open(store_path, map_size=1 << 30) as store:
            kept = {image.comment for image in store.map().values()}
            assert acknowledged <= kept
            assert len(kept) % 2 == 0
    assert acknowledged
    with ImageStore.open(store_path) as store:
        check(store)


def test_a_killed_reader_does_not_stop_writers(store_path: Path) -> None:
    """Its slot in LMDB's table of readers is cleared by the next open."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    script = (
        "import sys, time\nfrom eventstore import ImageStore\n"
        "store = ImageStore.open(sys.argv[1])\n"
        "with store._environment.read():\n    print('reading', flush=True)\n    time.sleep(60)\n"
    )
    for _ in range(5):
        reader = subprocess.Popen(
            [sys.executable, "-c", script, str(store_path)], stdout=subprocess.PIPE
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        reader.kill()
        reader.wait()
        reader.stdout.close()
        with ImageStore.open(store_path) as store:
            image_id = next(iter(store))
            with store.transaction():
                for number in range(200):
                    store.set_last_updated(image_id, store.position + number)
            size = store.size_on_disk()
    assert size < 1 << 20
