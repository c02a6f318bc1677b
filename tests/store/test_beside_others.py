"""Work beside others: readers that died or sleep, snapshots that are pruned, layers under reads."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import (
    EventStoreError,
    ImageStore,
    ImageView,
    MemoryLayerStore,
    lmdb_pages,
    reader_slots,
    snapshots,
)
from eventstore.columns import Columns, Row
from eventstore.lmdb_env import DATABASES
from making import config
from store.children import run, speaking, started

READING = """
store = ImageStore.open(path)
with store._environment.read():
    say("reading")
    time.sleep(60)
"""


def test_a_reader_that_was_killed_pins_nothing_while_the_writer_stays_open(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody opens the store again, and the file stops growing."""
    monkeypatch.setattr(reader_slots, "READER_CHECK_SECONDS", 0.0)
    with ImageStore.open(store_path) as store:
        image_id = store.create(config("a"))
        with speaking(READING, store_path) as reader:
            for number in range(50):
                store.set_last_updated(image_id, number)
            pinned = store.size_on_disk()
            reader.kill()
            reader.wait()
            for number in range(150):
                store.set_last_updated(image_id, number)
            assert store.size_on_disk() <= pinned + (64 << 10)


def test_a_reader_that_sleeps_in_a_read_is_named_once(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator learns which process keeps the file growing; readers that come and go do not."""
    monkeypatch.setattr(reader_slots, "READER_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(reader_slots, "READER_ASLEEP_SECONDS", 0.2)
    with ImageStore.open(store_path) as store, caplog.at_level(logging.WARNING):
        image_id = store.create(config("a"))

        def write_for_a_while() -> None:
            for number in range(8):
                store.set_last_updated(image_id, number)
                store.get(image_id)
                threading.Event().wait(0.05)

        write_for_a_while()
        assert caplog.records == []
        with speaking(READING, store_path) as reader:
            write_for_a_while()
            write_for_a_while()
        (said,) = (record.getMessage() for record in caplog.records)
        assert f"process {reader.pid} " in said


def test_every_delete_says_what_it_released_whatever_other_threads_read(store_path: Path) -> None:
    """A thread that reads may fold a record before the one that wrote it; no reference is lost."""
    layers = MemoryLayerStore()
    stacks = [f"sha256:{number:064x}" for number in range(1, 41)]
    for stack in stacks:
        layers.add([stack], diff_size=1)
    done = threading.Event()
    interval = sys.getswitchinterval()
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:

        def read() -> None:
            while not done.is_set():
                assert store.position >= 0

        threads = [threading.Thread(target=read) for _ in range(3)]
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for stack in stacks:
                root = {"type": "layers", "diff_ids": [stack]}
                value = {"comment": stack, "os": "linux", "rootfs": root}
                released = store.delete(store.create(json.dumps(value).encode()))
                assert [layer.chain_id for layer in released] == [stack]
        finally:
            done.set()
            sys.setswitchinterval(interval)
            for thread in threads:
                thread.join()
        assert layers.references() == {}


def test_what_a_transaction_took_and_did_not_use_is_given_back(store_path: Path) -> None:
    """A create that fails inside a transaction that then succeeds holds no layer."""
    layers = MemoryLayerStore()
    stack = f"sha256:{1:064x}"
    layers.add([stack], diff_size=1)
    root = {"type": "layers", "diff_ids": [stack]}
    raw = json.dumps({"os": "linux", "rootfs": root}).encode()
    times = iter([1, None, 3])
    with ImageStore.open(
        store_path, layers=layers, operating_system="linux", now=lambda: next(times)
    ) as store:
        with store.transaction():
            with pytest.raises(EventStoreError):
                store.create(raw)
            store.create(config("a"))
        assert layers.references() == {}
        assert len(store) == 1


def test_verify_does_not_take_a_snapshot_that_is_pruned_meanwhile_for_damage(
    store_path: Path,
) -> None:
    """On a store that others write to, no cache that goes is a problem."""
    script = """
with ImageStore.open(path) as store:
    image_id = store.create(config("a"))
    say("open")
    for number in range(100_000):
        store.set_last_updated(image_id, number)
        store.take_snapshot()
"""
    with speaking(script, store_path), ImageStore.open(store_path) as store:
        position = store.position
        while store.position < position + 30:
            assert list(store.verify()) == []


def test_a_snapshot_whose_chunks_were_pruned_while_it_was_stored_does_not_count(
    store: ImageStore,
) -> None:
    """Two processes store one and a third drops it: no header stays without its chunks."""
    store.create(config("a"))
    taken = store.take_snapshot()
    environment = store._environment

    class Pruned(ImageView):
        def columns(
            self, length: int, replaced: list[tuple[bytes, Row]] | None = None
        ) -> Iterator[Columns]:
            for _ in range(snapshots.CHUNKS_A_WRITE):
                yield from super().columns(length, replaced)
            snapshots.drop(environment, taken.position)

    view = store.as_of(position=taken.position)
    pruned = Pruned(dict(view.rows()), position=1, time_ns=view.time_ns)
    assert snapshots.put(environment, pruned) is None
    assert store.snapshots() == []
    assert list(store.verify()) == []
    assert store.take_snapshot() == taken
    assert len(store.snapshots()) == 1


def test_all_slots_taken_is_one_clear_error_and_free_ones_work_at_once(store_path: Path) -> None:
    """A caller who needs one is told to end readers; what needs none goes on."""
    said = run(
        "import contextlib\n"
        "store = ImageStore.open(path)\n"
        "image = store.create(config('a'))\n"
        "with contextlib.ExitStack() as stack:\n"
        "    try:\n"
        "        while True: stack.enter_context(store._environment.read())\n"
        "    except StoreIOError as error: say('slots' in str(error))\n"
        "    calls = (lambda: store.position, lambda: store.create(config('b')),\n"
        "        lambda: store.get(image), lambda: store.as_of(position=1),\n"
        "        lambda: list(store.records()), lambda: store.take_snapshot())\n"
        "    say(*[outcome(call) for call in calls])\n"
        "say(store.position, store.create(config('b')) in store, len(list(store.verify())))\n",
        store_path,
    )
    looked = said[1].split()
    assert looked[0] == "1"
    assert looked[1].startswith("sha256:")
    assert [said[0], *looked[2:], said[2]] == ["True", *["StoreIOError"] * 4, "2 True 0"]


REFERENCES = """
import hashlib, json, random
from collections import Counter
sys.setswitchinterval(1e-4)
name, layers = sys.argv[2], MemoryLayerStore()
stacks = [f"sha256:{number:064x}" for number in range(1, 6)]
for stack in stacks:
    layers.add([stack], diff_size=1)
chains = [RootFS("layers", (stack,)).chain_id() for stack in stacks]
held = [layers.get(chain) for chain in chains]
def raw(number):
    root = {"type": "layers", "diff_ids": [stacks[number % 5]]}
    return json.dumps({"comment": str(number), "os": "linux", "rootfs": root}).encode()
ids = ["sha256:" + hashlib.sha256(raw(number)).hexdigest() for number in range(20)]
store = ImageStore.open(path, layers=layers, operating_system="linux", actor=name)
end = time.monotonic() + 2
def change(chance):
    number = chance.randrange(20)
    try:
        store.create(raw(number)) if chance.random() < 0.5 else store.delete(ids[number])
    except ImageNotFoundError:
        pass
def work(seed):
    chance = random.Random(f"{name} {seed}")
    while time.monotonic() < end:
        change(chance)
        try:
            with store.transaction():
                change(chance)
                change(chance)
                if chance.random() < 0.3:
                    raise KeyError
        except KeyError:
            len(store)
def look():
    while time.monotonic() < end:
        store.position
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
threads += [threading.Thread(target=look) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say("written")
sys.stdin.readline()
expected = Counter(chains)
expected.update(chains[number % 5] for number in range(20) if ids[number] in store)
say(dict(expected) == dict(layers.references()), store.position)
"""


@pytest.mark.slow
def test_references_to_layers_are_those_of_the_images_that_are_there(store_path: Path) -> None:
    """Whichever thread or process created and deleted, failed or read in between."""
    with (
        started(REFERENCES, store_path, "one") as one,
        started(REFERENCES, store_path, "other") as other,
    ):
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
        said = [process.communicate("go on\n", timeout=30)[0].split() for process in (one, other)]
    assert [words[0] for words in said] == ["True", "True"]
    assert said[0] == said[1]
    assert int(said[0][1]) > 20


def test_a_store_that_grows_while_its_heads_are_looked_at_is_not_cut_short(
    store: ImageStore, store_path: Path
) -> None:
    """A commit may come between any two reads of a file that is being checked."""
    with lmdb_pages.PageFile(store_path / "data.mdb") as pages:
        with store.transaction():
            for number in range(500):
                store.create(config(f"meanwhile {number}"))
        assert lmdb_pages.head_fault(pages, DATABASES) is None


def test_as_of_a_time_is_not_ahead_of_what_was_read(
    store: ImageStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append of another process between two looks at the log is not part of the answer."""
    store.create(config("before"))
    real = store._position_at

    def after_an_append(time: int) -> int:
        run('ImageStore.open(path).create(config("between"))', store_path)
        return real(time)

    monkeypatch.setattr(store, "_position_at", after_an_append)
    for expected in (1, 2):
        assert store.as_of(time=2**62).position == expected
    assert store.position_at(2**62) == 2
    assert store.position == 2
