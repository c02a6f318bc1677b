"""Let threads share commits: each is judged alone, and none returns before its event is on disk."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from eventstore import (
    ImageNotFoundError,
    ImageStore,
    Layer,
    LayerMetadata,
    MemoryLayerStore,
    StoreClosedError,
    StoreFullError,
    turns,
)
from making import config, id_of
from store.children import run, speaking

A, B, C = (id_of(config(name)) for name in "abc")


class Caller(threading.Thread):
    """One call in a thread of its own, and what came of it."""

    def __init__(self, store: ImageStore, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.found: object = None
        self.error: BaseException | None = None
        waiting = len(store._turns._queue)
        self.start()
        end = time.monotonic() + 20
        while len(store._turns._queue) == waiting and self.is_alive() and time.monotonic() < end:
            time.sleep(0.001)

    def run(self) -> None:
        """Call."""
        try:
            self.found = self.call()
        except BaseException as error:
            self.error = error

    def outcome(self) -> object:
        """Wait for the end, and return what was raised or returned."""
        self.join(timeout=30)
        assert not self.is_alive()
        return self.found if self.error is None else self.error


def stacked(layer: str) -> bytes:
    """Return the config of an image with one layer."""
    root = {"type": "layers", "diff_ids": [layer]}
    return json.dumps({"os": "linux", "rootfs": root}).encode()


@contextmanager
def held(store: ImageStore) -> Iterator[None]:
    """Keep the lead, so that those who come queue up in the order in which they come."""
    request = turns.Request(None)
    store._turns.lead(request)
    try:
        yield
    finally:
        store._turns.leave(request)


def test_those_who_wait_share_a_commit_and_are_batches_of_their_own(store: ImageStore) -> None:
    """Each with its own reason; one that comes later sees those before it."""
    before = store._environment.commit_number()
    with held(store):
        callers = [
            Caller(store, lambda: store.create(config("a"), reason="one")),
            Caller(store, lambda: store.create(config("b"), reason="two")),
            Caller(store, lambda: store.set_parent(B, A, reason="three")),
            Caller(store, lambda: store.create(config("a"), reason="again")),
            Caller(store, lambda: store.delete(A)),
        ]
    assert [caller.outcome() for caller in callers] == [A, B, None, A, []]
    assert store._environment.commit_number() == before + 1
    found = [(one.position, one.batch, one.previous, one.reason) for one in store.records()]
    assert found == [(1, 1, 0, "one"), (2, 2, 0, "two"), (3, 3, 2, "three"), (4, 4, 1, "")]


def test_what_one_caller_did_wrong_is_its_own_error(tmp_path: Path) -> None:
    """It leaves no record, no config and no reference to a layer; the others are served."""
    layers = MemoryLayerStore()
    layer = f"sha256:{1:064x}"
    chain = layers.add([layer])
    layers.get(chain)  # as a builder does: the last to let go takes the layer away
    said: Iterator[Any] = iter([1, 2, "never", 4, 5, 6, 7])
    with ImageStore.open(
        tmp_path / "store", layers=layers, operating_system="linux", now=lambda: next(said)
    ) as store:
        with held(store):
            callers = [
                Caller(store, lambda: store.create(config("a"))),
                Caller(store, lambda: store.create(stacked(layer))),
                Caller(store, lambda: store.delete(C)),
                Caller(store, lambda: store.create(config("c"))),
            ]
        found = [caller.outcome() for caller in callers]
        assert (found[0], found[3]) == (A, C)
        assert "never" in str(found[1])
        assert isinstance(found[2], ImageNotFoundError)
        assert found[2].term == C
        assert [record.image_id for record in store.records()] == [A, C]
        assert layers.references() == {chain: 1}
        assert list(store.verify()) == []
        assert store.create(stacked(layer)) == id_of(stacked(layer))
        assert layers.references() == {chain: 2}


def test_what_a_delete_released_goes_to_who_deleted(tmp_path: Path) -> None:
    """Not to who led, nor to the next."""
    layers = MemoryLayerStore()
    diff_ids = [f"sha256:{number:064x}" for number in (1, 2)]
    chains = [layers.add([diff_id]) for diff_id in diff_ids]
    with ImageStore.open(tmp_path / "store", layers=layers, operating_system="linux") as store:
        images = [store.create(stacked(diff_id)) for diff_id in diff_ids]
        with held(store):
            callers = [
                Caller(store, lambda: store.create(config("a"))),
                Caller(store, lambda: store.delete(images[1])),
                Caller(store, lambda: store.delete(images[0])),
            ]
        found = [caller.outcome() for caller in callers]
        assert found[0] == A
        for released, chain in zip(found[1:], reversed(chains), strict=True):
            assert isinstance(released, list)
            assert [one.chain_id for one in released] == [chain]
        assert layers.references() == {}


class Failing(MemoryLayerStore):
    """A layer store that releases as long as no error is left to raise."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def release(self, layer: Layer) -> list[LayerMetadata]:
        """Release a layer, or raise the next error."""
        if self.errors:
            raise self.errors.pop(0)
        return super().release(layer)


def test_what_a_delete_released_is_returned_though_its_leader_was_interrupted(
    tmp_path: Path,
) -> None:
    """It was committed, and is folded by the next who looks."""
    layers = Failing(KeyboardInterrupt())
    diff_ids = [f"sha256:{number:064x}" for number in (1, 2)]
    chains = [layers.add([diff_id]) for diff_id in diff_ids]
    with ImageStore.open(tmp_path / "store", layers=layers, operating_system="linux") as store:
        images = [store.create(stacked(diff_id)) for diff_id in diff_ids]
        with held(store):
            callers = [Caller(store, partial(store.delete, image)) for image in images]
        found = [caller.outcome() for caller in callers]
        assert isinstance(found[0], KeyboardInterrupt)
        assert isinstance(found[1], list)
        assert [one.chain_id for one in found[1]] == [chains[1]]
        assert len(store) == 0


def test_what_was_committed_is_no_failure_whatever_a_layer_store_does_then(
    tmp_path: Path,
) -> None:
    """It fails once more as the store looks for what an interrupt has left; the event is there."""
    layers = Failing(KeyboardInterrupt(), RuntimeError("no"))
    diff_ids = [f"sha256:{number:064x}" for number in (1, 2)]
    for diff_id in diff_ids:
        layers.add([diff_id])
    with ImageStore.open(tmp_path / "store", layers=layers, operating_system="linux") as store:
        images = [store.create(stacked(diff_id)) for diff_id in diff_ids]
        with held(store):
            callers = [Caller(store, partial(store.delete, image)) for image in images]
            callers.append(Caller(store, lambda: store.create(config("a"))))
        found = [caller.outcome() for caller in callers]
        assert isinstance(found[0], KeyboardInterrupt)
        assert found[1:] == [[], A]
        assert list(store) == [A]
        assert list(store.verify()) == []


def test_a_commit_that_fails_fails_for_all_and_changes_nothing(store_path: Path) -> None:
    """Each caller has an error of its own; the next calls are served."""
    with ImageStore.open(store_path, map_size=1 << 18, map_size_max=1 << 18) as store:
        store.create(config("a"))
        before = store.position, store.view().digest
        with held(store):
            callers = [
                Caller(store, lambda name=name: store.create(config(name), reason="x" * 60_000))
                for name in "bcdefg"
            ]
            callers.append(Caller(store, lambda: store.create(config("a"))))
            callers.append(Caller(store, lambda: store.delete(C)))
        found = [caller.outcome() for caller in callers]
        assert found.pop(6) == A
        assert all(isinstance(error, StoreFullError) for error in found)
        assert len({id(error) for error in found}) == len(found)
        assert len({str(error) for error in found}) == 1
        assert all(error.__cause__ is not None for error in found[1:] if isinstance(error, OSError))
        assert (store.position, store.view().digest) == before
        assert store.create(config("b")) == B
        assert list(store.verify()) == []


@pytest.mark.parametrize("bound", ["REQUESTS_MAX", "SIZE_MAX"])
def test_a_commit_takes_no_more_than_its_bound(
    store: ImageStore, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left over is taken by the next."""
    size = len(config("a"))
    monkeypatch.setattr(turns, bound, 3 if bound == "REQUESTS_MAX" else 2 * size)
    before = store._environment.commit_number()
    with held(store):
        callers = [
            Caller(store, lambda name=name: store.create(config(name))) for name in "abcdefg"
        ]
    assert [caller.outcome() for caller in callers] == [id_of(config(one)) for one in "abcdefg"]
    assert store._environment.commit_number() == before + 3


def test_a_transaction_is_not_overtaken_by_those_behind_it(store: ImageStore) -> None:
    """It leads alone; whoever came after it sees what it has done."""

    def transact() -> None:
        with store.transaction(reason="whole"):
            store.delete(A)
            store.create(config("b"))

    before = store._environment.commit_number()
    with held(store):
        callers = [
            Caller(store, lambda: store.create(config("a"))),
            Caller(store, transact),
            Caller(store, lambda: store.create(config("a"))),
            Caller(store, lambda: store.set_parent(A, B)),
        ]
    assert [caller.outcome() for caller in callers] == [A, None, A, None]
    assert [record.batch for record in store.records()] == [1, 2, 2, 4, 5]
    assert store._environment.commit_number() == before + 3


def test_a_transaction_has_its_turn_beside_threads_that_never_rest(store: ImageStore) -> None:
    """And they have theirs beside transactions."""
    image = store.create(config("a"))
    over = threading.Event()
    counts = [0] * 5

    def work(number: int) -> None:
        while not over.is_set():
            if number:
                store.set_last_updated(image)
            else:
                with store.transaction():
                    store.set_last_updated(image)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while min(counts) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join(timeout=30)
    assert min(counts) >= 5


@pytest.mark.parametrize("first", [True, False])
def test_an_interrupt_at_any_call_of_one_thread_leaves_the_others_served_once(
    store: ImageStore, first: bool
) -> None:
    """Whether it leads or waits; what it wanted is there once or not at all, and nobody hangs."""
    whole, number = False, 0
    while not whole:
        number += 1
        whole = _interrupted(store, f"{first} {number}", number * 7, first=first)
    assert number > 5
    assert list(store.verify()) == []


def _interrupted(store: ImageStore, name: str, after: int, *, first: bool) -> bool:
    """Interrupt one of several that share a commit; tell whether it had ended before."""
    left = [after]

    def interrupt(frame: FrameType, event: str, _called: object) -> None:
        if event not in ("call", "c_return"):
            return  # Python looks for signals as a function begins, and after a call
        left[0] -= 1
        # It passes over one in a callback of a weak reference, or of the collector.
        code = frame.f_code
        callback = code.co_filename.endswith("_weakrefset.py") or code.co_name == "gc_callback"
        if left[0] <= 0 and not callback:
            sys.setprofile(None)
            raise KeyboardInterrupt

    def victim() -> str:
        sys.setprofile(interrupt)
        try:
            return store.create(config(f"{name} victim"))
        finally:
            sys.setprofile(None)

    touched = store.create(config("a"))
    reasons = [f"{name} {part}" for part in range(3)]
    calls: list[Callable[[], object]] = [
        lambda part=part: store.set_last_updated(touched, after * 4 + part, reason=reasons[part])
        for part in range(3)
    ]
    calls.insert(0 if first else 2, victim)
    start = store.position
    with held(store):
        callers = [Caller(store, call) for call in calls]
    found = [caller.outcome() for caller in callers]
    ended = found.pop(0 if first else 2)
    assert found == [None] * 3
    assert isinstance(ended, KeyboardInterrupt) or ended == id_of(config(f"{name} victim"))
    appended = [record.reason for record in store.records(after=start)]
    assert sorted(reason for reason in appended if reason) == reasons
    assert appended.count("") <= 1
    with store.transaction():
        assert store.position == start + len(appended)
    return not isinstance(ended, KeyboardInterrupt)


def test_a_request_is_not_taken_for_served_because_its_leaders_came_back(tmp_path: Path) -> None:
    """Who was cut off may try again, alone; where times are held, the record is the same again."""
    interrupts: list[bool] = []

    def now() -> int:
        if interrupts and interrupts.pop(0):
            raise KeyboardInterrupt
        return 1

    with ImageStore.open(tmp_path / "store", now=now) as store:
        store.create(config("a"))
        interrupts += [False, True]  # as the second of the group is judged, the first is cut off

        def try_twice() -> None:
            with pytest.raises(KeyboardInterrupt):
                store.set_last_updated(A, 5)
            store.set_last_updated(A, 5)

        with held(store):
            callers = [
                Caller(store, try_twice),
                Caller(store, lambda: store.create(config("b"))),
            ]
        assert [caller.outcome() for caller in callers] == [None, B]
        assert interrupts == []
        assert [record.image_id for record in store.records()] == [A, A, B]
        assert B in store


def test_who_is_interrupted_while_waiting_is_out_of_the_queue(store_path: Path) -> None:
    """Nobody has taken it along, so nobody will."""
    said = run(
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "store = ImageStore.open(path)\n"
        "inside, over = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with store.transaction():\n"
        "        inside.set()\n"
        "        over.wait()\n"
        "holder = threading.Thread(target=hold)\n"
        "holder.start()\n"
        "inside.wait()\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "try:\n"
        "    store.create(config('a'))\n"
        "except KeyboardInterrupt:\n"
        "    say('interrupted', len(store._turns._queue))\n"
        "over.set()\n"
        "holder.join()\n"
        "store.create(config('b'))\n"
        "say(store.position)\n",
        store_path,
    )
    assert said == ["interrupted 0", "1"]


def test_closing_while_others_wait_tells_each_of_them(store_path: Path) -> None:
    """Or they are on disk; nobody hangs."""
    store = ImageStore.open(store_path)
    with held(store):
        callers = [Caller(store, lambda name=name: store.create(config(name))) for name in "abc"]
        closer = threading.Thread(target=store.close)
        closer.start()
        closer.join(timeout=20)
    found = [caller.outcome() for caller in callers]
    assert all(isinstance(error, StoreClosedError) for error in found)
    assert len({id(error) for error in found}) == 3
    with ImageStore.open(store_path) as again:
        assert again.position == 0


CROWD = """
store = ImageStore.open(path, actor="crowd")
def work(thread):
    number = 0
    while True:
        number += 1
        os.write(1, (store.create(config(f"{name} {thread} {number}")) + "\\n").encode())
for thread in range(16):
    threading.Thread(target=work, args=(thread,)).start()
"""


def test_what_was_acknowledged_to_any_thread_survives_a_kill(store_path: Path) -> None:
    """Sixteen threads share commits until the process is killed in the middle of one."""
    for name in range(4):
        with speaking(f"name = {name}\n{CROWD}", store_path) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline() for _ in range(100 + 37 * name)]
            process.kill()
            acknowledged += process.stdout.readlines()
        with ImageStore.open(store_path) as store:
            whole = [line.strip() for line in acknowledged if line.endswith("\n")]
            assert [image for image in whole if image not in store] == []
            assert list(store.verify()) == []
