"""Use a store from inside its own transaction, in every way that somebody will try."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from eventstore import (
    ImageNotFoundError,
    ImageStore,
    InvalidImageError,
    StoreFullError,
    StoreUsageError,
)
from making import config, id_of
from store.children import run

A, B, C = (id_of(config(name)) for name in "abc")


@pytest.mark.parametrize("reverse", [False, True])
def test_records_are_readable_in_a_transaction(store: ImageStore, reverse: bool) -> None:
    """What is pending may be left out or not, but it is no damage of the log."""
    store.create(config("a"))
    with store.transaction():
        store.create(config("b"))
        store.set_built_locally(A)
        positions = sorted(record.position for record in store.records(reverse=reverse))
        assert positions in ([1], [1, 2, 3])
        assert next(store.records(A)).position == 1


def test_the_past_is_readable_in_a_transaction(store: ImageStore, tmp_path: Path) -> None:
    """Every question about what was committed has its answer."""
    store.create(config("a"))
    store.take_snapshot()
    with store.transaction():
        store.create(config("b"))
        assert list(store.as_of(position=1)) == [A]
        assert list(store.as_of(time=store.as_of(position=1).time_ns)) == [A]
        assert store.search_history(A) == A
        assert A in store.diff(0).created
        assert [found.position for found in store.snapshots()] == [1]
        assert list(store.verify()) == []
        store.backup(tmp_path / "copy")
    with ImageStore.open(tmp_path / "copy") as copy:
        assert list(copy) == [A]


def test_follow_in_a_transaction_yields_what_was_committed(store: ImageStore) -> None:
    """Pending records are nobody's yet."""
    store.create(config("a"))
    with store.transaction():
        store.create(config("b"))
        assert next(store.follow(0)).position == 1


def test_a_snapshot_in_a_transaction_does_not_hang_or_harm_it(store_path: Path) -> None:
    """It may be refused; what the transaction does is kept."""
    said = run(
        "store = ImageStore.open(path)\n"
        "store.create(config(1))\n"
        "with store.transaction():\n"
        "    store.create(config(2))\n"
        "    try:\n        store.take_snapshot()\n"
        "    except EventStoreError:\n        pass\n"
        "    store.create(config(3))\n"
        "say(store.position, len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["3 0"]


def test_closing_in_a_transaction_does_not_hang(store_path: Path) -> None:
    """It may be refused or end the transaction; the store opens again, sound."""
    said = run(
        "store = ImageStore.open(path)\n"
        "store.create(config(1))\n"
        "try:\n"
        "    with store.transaction():\n"
        "        store.create(config(2))\n"
        "        store.close()\n"
        "except StoreUsageError:\n    pass\n"
        "store.close()\n"
        "with ImageStore.open(path) as store:\n"
        "    say(store.position in (1, 2), len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["True 0"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_whatever_leaves_a_transaction_gives_it_up(
    store: ImageStore, kind: type[BaseException]
) -> None:
    """An interrupt from the keyboard is no commit."""
    with pytest.raises(kind), store.transaction():
        store.create(config("a"))
        raise kind
    assert (store.position, A in store) == (0, False)
    store.create(config("b"))


@pytest.mark.parametrize("single", [True, False])
def test_an_interrupt_as_a_transaction_begins_leaves_none_for_its_handler_to_write_into(
    store: ImageStore, single: bool
) -> None:
    """The traceback that is being handled would keep it open, and drop it later, unwritten."""

    def interrupt(_frame: FrameType, event: str, called: object) -> None:
        inside = event == "c_return" and store._batch is not None
        if inside and (single or called is next):
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        if single:
            store.create(config("a"))
        else:
            with store.transaction():
                store.create(config("a"))
    except KeyboardInterrupt:
        store.create(config("b"))
    assert (list(store), store.position) == ([B], 1)


def test_a_transaction_that_is_dropped_is_given_up_and_the_next_one_works(
    store: ImageStore,
) -> None:
    """One that was never begun does nothing; one that was begun holds no lock for ever."""
    store.transaction()
    entered = store.transaction()
    entered.__enter__()
    store.create(config("a"))
    del entered
    assert (store.position, A in store) == (0, False)
    store.create(config("b"))


@pytest.mark.parametrize(
    "refused",
    [
        lambda store: store.create(b"no config"),
        lambda store: store.create(config("c"), reason="x" * 65_537),
        lambda store: store.create("text"),
        lambda store: store.delete(C),
        lambda store: store.delete(A, reason="\ud800"),
        lambda store: store.set_parent(A, C),
        lambda store: store.set_parent(C, A),
        lambda store: store.set_last_updated(A, 2**64),
        lambda store: store.set_built_locally(A[:20]),
    ],
)
def test_what_is_refused_in_a_transaction_leaves_no_trace_in_it(
    store: ImageStore, refused: Callable[[ImageStore], object]
) -> None:
    """The rest is appended, and nothing of what was refused: no record, no config."""
    with store.transaction() as transaction:
        store.create(config("a"))
        with pytest.raises((InvalidImageError, ImageNotFoundError, StoreUsageError)):
            refused(store)
        store.create(config("b"))
    assert [record.image_id for record in transaction.records] == [A, B]


def test_a_mutators_own_reason_goes_before_that_of_the_transaction(store: ImageStore) -> None:
    """Record by record."""
    with store.transaction(reason="all") as transaction:
        store.create(config("a"), reason="own")
        store.create(config("b"))
    assert [record.reason for record in transaction.records] == ["own", "all"]
    assert transaction.records == list(store.records())


def test_a_transaction_that_finds_no_room_changes_nothing_in_memory_either(
    store_path: Path,
) -> None:
    """Memory moves after the commit; a smaller batch may still fit."""
    with ImageStore.open(store_path, map_size=1 << 18, map_size_max=1 << 18) as store:
        store.create(config("a"))
        before = store.position, store.view().digest, list(store.heads())
        with pytest.raises(StoreFullError), store.transaction():
            store.delete(A)
            for number in range(100):
                store.create(config(str(number)), reason="x" * 10_000)
        assert (store.position, store.view().digest, list(store.heads())) == before
        assert list(store.verify()) == []
        store.create(config("b"))
        assert list(store.records())[-1].image_id == B


def test_transactions_of_two_threads_wait_for_each_other(store: ImageStore) -> None:
    """The second decides on what the first has left."""
    store.create(config("a"))
    order: list[str] = []

    def other() -> None:
        with store.transaction(reason="second"):
            order.append("second")
            store.create(config("a"))
            store.create(config("c"))

    with store.transaction(reason="first"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=0.1)
        store.delete(A)
        order.append("first")
    thread.join(timeout=20)
    assert order == ["first", "second"]
    kinds = [(type(record.event).__name__, record.reason) for record in store.records(after=1)]
    assert kinds == [("Deleted", "first"), ("Created", "second"), ("Created", "second")]


def test_a_verification_left_half_way_holds_nothing_back(store_path: Path) -> None:
    """Between two problems the store can be written, grown and closed."""
    said = run(
        "import lmdb\n"
        "with ImageStore.open(path) as store:\n"
        "    for number in range(5):\n        store.create(config(number))\n"
        "    store.delete(store.create(config(5)))\n"
        "    store.take_snapshot()\n"
        "with lmdb.open(path, max_dbs=16) as env:\n"
        "    for name in (b'log', b'configs', b'snapshots', b'tombstones'):\n"
        "        handle = env.open_db(name)\n"
        "        with env.begin(write=True, db=handle) as txn:\n"
        "            key = bytes(next(txn.cursor().iternext(values=False)))\n"
        "            if name != b'log':\n                txn.put(key, b'?')\n"
        "for steps in range(1, 4):\n"
        "    store = ImageStore.open(path, map_size=1 << 17)\n"
        "    problems = store.verify()\n"
        "    for _ in range(steps):\n        next(problems)\n"
        "    image_id = next(iter(store))\n"
        "    for number in range(100):\n"
        "        store.set_last_updated(image_id, number, reason='x' * 5_000)\n"
        "    store.close()\n"
        "    say(store.path == path)\n",
        store_path,
    )
    assert said == ["True"] * 3


def test_a_verification_that_has_found_an_identity_damaged_holds_nothing_back(
    store_path: Path,
) -> None:
    """It has no transaction open when it says so; another thread can close the store."""
    said = run(
        "store = ImageStore.open(path)\n"
        "if os.fork() == 0:\n"
        "    import lmdb\n"
        "    with lmdb.open(path, max_dbs=16) as env:\n"
        "        with env.begin(write=True, db=env.open_db(b'meta')) as txn:\n"
        "            txn.put(b'created_ns', b'?')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "problems = store.verify()\n"
        "say(next(problems).kind)\n"
        "closer = threading.Thread(target=store.close, daemon=True)\n"
        "closer.start()\n"
        "closer.join(5)\n"
        "say(closer.is_alive())\n",
        store_path,
    )
    assert said == ["meta", "False"]
