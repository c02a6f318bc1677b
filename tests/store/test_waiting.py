"""Wait for another process's transaction, and die, be closed or read on meanwhile."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from eventstore import ImageStore
from making import config, id_of
from store.children import run, speaking

HOLDER = """
with ImageStore.open(path, actor="holder") as store, store.transaction():
    store.create(config("held"))
    say("inside")
    time.sleep(60)
"""


def test_a_writer_that_waits_for_a_killed_process_goes_on(store_path: Path) -> None:
    """The lock of the dead is passed on, what it had pending is gone."""
    with ImageStore.open(store_path) as store:
        for number in range(3):
            with speaking(HOLDER, store_path) as holder:
                writer = threading.Thread(target=store.create, args=(config(str(number)),))
                writer.start()
                writer.join(timeout=0.1)
                assert writer.is_alive()
                assert len(store) == number
                holder.send_signal(signal.SIGKILL)
                writer.join(timeout=20)
                assert not writer.is_alive()
        assert sorted(store) == sorted(id_of(config(str(number))) for number in range(3))
        assert list(store.verify()) == []


def test_readers_do_not_wait_for_writers(store_path: Path) -> None:
    """Neither the present nor the past nor a copy needs the writer's lock."""
    with ImageStore.open(store_path) as store:
        image_id = store.create(config("a"))
        with speaking(HOLDER, store_path):
            assert store.get(image_id).comment == "a"
            assert list(store.as_of(position=1)) == [image_id]
            assert len(list(store.records())) == 1
            assert list(store.verify()) == []
            store.backup(store_path.with_name("copy"))
            assert (len(store), store.position) == (1, 1)


def test_a_store_is_opened_for_reading_while_another_process_writes(store_path: Path) -> None:
    """Opening for reading waits for nobody, and what is pending is not seen."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    with speaking(HOLDER, store_path), ImageStore.open(store_path, read_only=True) as store:
        assert len(store) == 1


def test_closing_while_a_writer_waits_for_another_process_ends_both_cleanly(
    store_path: Path,
) -> None:
    """The writer is told that the store is closed, or has written; nobody hangs."""
    script = """
store = ImageStore.open(path)
store.create(config("a"))
say("open")
sys.stdin.readline()
ended = []
writer = threading.Thread(target=lambda: ended.append(outcome(lambda: store.create(config("b")))))
writer.start()
time.sleep(0.2)
closer = threading.Thread(target=store.close)
closer.start()
wait_until(lambda: outcome(lambda: store.position) == "StoreClosedError")
say("closing", len(ended))
writer.join()
closer.join()
with ImageStore.open(path) as store:
    there = len(store)
    say(ended[0] if there == 1 else ended[0].startswith("sha256:"))
    store.create(config("c"))
    say(len(list(store.verify())))
"""
    with speaking(script, store_path) as process:
        with speaking(HOLDER, store_path):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout is not None
            assert process.stdout.readline() == "closing 0\n"
        said, complaint = process.communicate(timeout=30)
    assert complaint == ""
    assert said.splitlines() in (["StoreClosedError", "0"], ["True", "0"])


def test_closing_while_another_thread_is_in_a_transaction_waits_for_it(store_path: Path) -> None:
    """What its block has done is committed, or it is told; in no case both."""
    said = run(
        "from eventstore import snapshots\n"
        "snapshots.INTERVAL_MIN = 2\n"
        "store = ImageStore.open(path)\n"
        "def change():\n"
        "    with store.transaction():\n"
        "        for number in range(5):\n            store.create(config(number))\n"
        "        closer.start()\n"
        "        wait_until(lambda: store._environment._closing)\n"
        "    return 5\n"
        "closer = threading.Thread(target=store.close)\n"
        "found = outcome(change)\n"
        "closer.join()\n"
        "with ImageStore.open(path) as store:\n"
        "    say(found if found == 'StoreClosedError' else 'committed', len(store))\n",
        store_path,
    )
    assert said in (["committed 5"], ["StoreClosedError 0"])


def test_two_threads_that_open_at_once_get_one_store_and_one_refusal(store_path: Path) -> None:
    """Never two: LMDB must not open a file twice in a process."""
    said = run(
        "for number in range(100):\n"
        "    gate, found = threading.Barrier(2), []\n"
        "    def work():\n"
        "        gate.wait()\n"
        "        found.append(outcome(lambda: ImageStore.open(path)))\n"
        "    threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    opened = [one for one in found if isinstance(one, ImageStore)]\n"
        "    assert len(opened) == 1 and 'StoreInUseError' in found, found\n"
        "    opened[0].close()\n"
        "say('done')\n",
        store_path,
    )
    assert said == ["done"]


def test_a_close_that_has_returned_allows_the_next_open_in_every_thread(store_path: Path) -> None:
    """Also for the second of two that close at once."""
    said = run(
        "for number in range(30):\n"
        "    store = ImageStore.open(path)\n"
        "    inside, found = threading.Event(), []\n"
        "    def hold():\n"
        "        with store.transaction():\n"
        "            inside.set()\n"
        "            time.sleep(0.02)\n"
        "    holder = threading.Thread(target=hold)\n"
        "    holder.start()\n"
        "    inside.wait()\n"
        "    def close():\n"
        "        store.close()\n"
        "        found.append(len(store._environment._visits))\n"
        "    closers = [threading.Thread(target=close) for _ in range(2)]\n"
        "    for closer in closers: closer.start()\n"
        "    for closer in closers: closer.join()\n"
        "    holder.join()\n"
        "    assert found == [0, 0], found\n"
        "    with ImageStore.open(path) as store: pass\n"
        "say('done')\n",
        store_path,
    )
    assert said == ["done"]


def test_a_snapshot_that_finds_no_room_keeps_no_thread_waiting(store_path: Path) -> None:
    """To settle its commit waits for all transactions, also one whose thread reads before it ends.

    A limit on the size of files stands for a full disk.
    """
    said = run(
        "import resource\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = ImageStore.open(path)\n"
        "with store.transaction():\n"
        "    image = [store.create(config(number)) for number in range(3000)][0]\n"
        "size = os.stat(path + '/data.mdb').st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "end, found = time.monotonic() + 4, set()\n"
        "def work(call):\n"
        "    while time.monotonic() < end:\n"
        "        found.add(outcome(call))\n"
        "calls = (\n"
        "    lambda: store.take_snapshot() and None,\n"
        "    lambda: store.set_last_updated(image),\n"
        "    lambda: store.get(image) and None,\n"
        ")\n"
        "threads = [threading.Thread(target=work, args=(call,)) for call in calls]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "say(*sorted(found - {None}))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "store.set_last_updated(image)\n"
        "store.close()\n",
        store_path,
    )
    assert said == ["StoreFullError"]


INTERRUPTED = """
import random
armed = False
def interrupt(*_):
    global armed
    if armed:  # one may be seen late, when the next has been set already
        armed = False
        raise KeyboardInterrupt
sys.unraisablehook = lambda _: None  # Python passes over one in a callback of a weak reference
signal.signal(signal.SIGALRM, interrupt)
faulthandler.dump_traceback_later(30, exit=True)
chance, end, acknowledged, interrupts = random.Random(1), time.monotonic() + 4, [], 0
store = ImageStore.open(path)
began = time.perf_counter()
for number in range(20): store.create(config(f"first {number}"))
mean = (time.perf_counter() - began) / 20
number = 0
while time.monotonic() < end:
    number += 1
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, mean * 1.3))
        acknowledged.append(store.create(config(number)))
        if number % 5 == 0:
            store.close()
            store = ImageStore.open(path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
        try:
            acknowledged.append(store.create(config(f"then {number}")))
        except StoreUsageError:
            pass
        store.close()
    if store._environment._closing:
        store = ImageStore.open(path)
signal.setitimer(signal.ITIMER_REAL, 0)
store.close()
with ImageStore.open(path) as store:
    lost = [image for image in acknowledged if image not in store]
    say(interrupts > 5, len(lost), len(list(store.verify())))
os._exit(0)
"""


def test_an_interrupt_at_any_point_loses_nothing_and_leaves_nothing_locked(
    store_path: Path,
) -> None:
    """Who handles it may write, close and open again, at once."""
    assert run(INTERRUPTED, store_path) == ["True 0 0"]


INTERRUPTED_FIRST = """
sys.unraisablehook = lambda _: None
def interrupting(after):
    left = [after]
    def interrupt(frame, event, _called):
        # Python looks for signals as a function begins, and after a call.
        left[0] -= event in ("call", "c_return")
        if left[0] <= 0 and not frame.f_code.co_filename.endswith("_weakrefset.py"):
            sys.setprofile(None)
            raise KeyboardInterrupt
    return interrupt
whole, after, failed = False, 0, set()
while not whole:
    after += 1
    store = ImageStore.open(path)
    try:
        sys.setprofile(interrupting(after))
        try:
            store.create(config(f"interrupted {after}"))
        finally:
            sys.setprofile(None)
        whole = True
    except KeyboardInterrupt:  # its traceback keeps the frames that were cut off
        failed.add(outcome(lambda: store.create(config(f"then {after}")) and None))
    store.close()
say(after > 50, *failed)
"""


def test_the_first_write_may_be_interrupted_at_any_call_and_another_follow(
    store_path: Path,
) -> None:
    """It settles what a process before it may have left, in a transaction that must end, too."""
    assert run(INTERRUPTED_FIRST, store_path) == ["True None"]
