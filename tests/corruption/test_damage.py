"""Damage a store on disk in every way: it is found, and nothing wrong is answered.

Damage is done through LMDB itself, on a closed store, to keys and values; `tools/rot.py` goes on
from here, and damages the pages of the file as well.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from eventstore import (
    CorruptionError,
    EventStoreError,
    ImageNotFoundError,
    ImageStore,
    check_store,
    codec,
    digest,
)
from making import config, id_of

A, B, C = (id_of(config(name)) for name in "abc")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small store that has everything: batches, facts, a deleted image, a snapshot."""
    path = tmp_path_factory.mktemp("pristine") / "store"
    with ImageStore.open(path, actor="a@b", now=lambda: 10**18) as store:
        store.create(config("a"), reason="first")
        with store.transaction(reason="batch"):
            store.create(config("b"))
            store.set_parent(B, A)
            store.set_built_locally(B)
        store.create(config("c"))
        store.set_last_updated(A, 5)
        store.delete(C)
    return path


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    """Return a copy to be damaged."""
    return shutil.copytree(pristine, tmp_path / "store")


@contextmanager
def opened(path: Path, database: str) -> Iterator[lmdb.Transaction]:
    """Open one database of a closed store for writing, as an attacker would."""
    with lmdb.open(str(path), max_dbs=16) as env:
        handle = env.open_db(database.encode())
        with env.begin(write=True, db=handle) as txn:
            yield txn


def entries(path: Path, database: str) -> dict[bytes, bytes]:
    """Return all keys and values of a database."""
    with opened(path, database) as txn:
        return {bytes(key): bytes(value) for key, value in txn.cursor()}


def key(position: int) -> bytes:
    """Return the key of a record."""
    return position.to_bytes(8, "big")


def kinds(path: Path) -> set[str]:
    """Return the kinds of the problems that verify finds, or `refused` if it does not open."""
    try:
        with ImageStore.open(path, read_only=True) as store:
            return {problem.kind for problem in store.verify()}
    except CorruptionError:
        return {"refused"}


def test_the_pristine_store_is_sound(path: Path) -> None:
    """What follows is caused by the damage alone."""
    assert kinds(path) == set()


def test_every_flipped_byte_of_every_record_stops_the_open_and_is_located(path: Path) -> None:
    """No byte of the log can change unseen, and the record is named."""
    for name, raw in entries(path, "log").items():
        for index in range(len(raw)):
            wrong = bytearray(raw)
            wrong[index] ^= 0x40
            with opened(path, "log") as txn:
                txn.put(name, bytes(wrong))
            with pytest.raises(CorruptionError) as caught:
                ImageStore.open(path, read_only=True)
            assert caught.value.position == int.from_bytes(name, "big")
        with opened(path, "log") as txn:
            txn.put(name, raw)
    assert kinds(path) == set()


def test_every_flipped_bit_of_every_config_is_found(path: Path) -> None:
    """`get` refuses it and names the image; verify reports it; the log still opens."""
    for name, raw in entries(path, "configs").items():
        for bit in range(0, len(raw) * 8, 5):
            wrong = bytearray(raw)
            wrong[bit // 8] ^= 1 << bit % 8
            with opened(path, "configs") as txn:
                txn.put(name, bytes(wrong))
            with ImageStore.open(path, read_only=True) as store:
                view = store.as_of(position=5)
                with pytest.raises(CorruptionError) as caught:
                    view.get(digest.to_text(name))
                if bit >= 8:
                    assert caught.value.digest == digest.to_text(name)
                assert [p.image_id for p in store.verify()] == [digest.to_text(name)]
        with opened(path, "configs") as txn:
            txn.put(name, raw)


def resealed(position: int, raw: bytes) -> bytes:
    """Return a record's bytes as if it had been appended at another position."""
    payload = raw[:-4]
    checksum = codec.crc32(payload, codec.crc32(codec.position_key(position)))
    return payload + checksum.to_bytes(4, "big")


DAMAGES: dict[str, Callable[[lmdb.Transaction], object]] = {
    "drop first": lambda txn: txn.delete(key(1)),
    "drop middle": lambda txn: txn.delete(key(4)),
    "swap": lambda txn: swap(txn, 3, 4),
    "duplicate at end": lambda txn: txn.put(key(8), bytes(txn.get(key(7)))),
    "gap before a new one": lambda txn: txn.put(key(9), resealed(9, bytes(txn.get(key(7))))),
    "empty": lambda txn: txn.put(key(2), b""),
    "short key": lambda txn: txn.put(b"\0\0\0\3", b"x"),
    "long key": lambda txn: txn.put(key(3) + b"\0", b"x"),
    "resealed swap": lambda txn: swap(txn, 1, 5, reseal=True),
    "resealed repeat": lambda txn: txn.put(key(8), resealed(8, bytes(txn.get(key(5))))),
    "resealed deletion of nothing": lambda txn: txn.put(
        key(8), resealed(8, bytes(txn.get(key(7))))
    ),
    "everything": lambda txn: [txn.delete(key(position)) for position in range(1, 8)],
}


def swap(txn: lmdb.Transaction, one: int, other: int, *, reseal: bool = False) -> None:
    """Exchange two records, with checksums that fit their new places if `reseal`."""
    first, second = bytes(txn.get(key(one))), bytes(txn.get(key(other)))
    txn.put(key(one), resealed(one, second) if reseal else second)
    txn.put(key(other), resealed(other, first) if reseal else first)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_log_that_lost_gained_or_moved_records_is_found(path: Path, name: str) -> None:
    """Also where the checksums were made to fit."""
    with opened(path, "log") as txn:
        DAMAGES[name](txn)
    assert kinds(path)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_log_never_makes_anything_foreign_escape(path: Path, name: str) -> None:
    """Whatever is asked of it, the answer or one of our errors."""
    with opened(path, "log") as txn:
        DAMAGES[name](txn)
    try:
        with ImageStore.open(path) as store:
            for ask in (
                lambda: list(store.records()),
                lambda: list(store.records(reverse=True)),
                lambda: [list(store.records(image_id)) for image_id in (A, B, C)],
                lambda: [store.get(image_id) for image_id in store],
                lambda: [store.as_of(position=p) for p in range(store.position + 1)],
                lambda: store.as_of(time=10**18),
                lambda: store.search_history("a"),
                lambda: store.create(config("new")),
                store.take_snapshot,
                lambda: list(store.verify()),
            ):
                try:
                    ask()
                except EventStoreError:
                    continue
    except CorruptionError:
        return


@pytest.mark.parametrize(
    ("position", "field", "value"),
    [(3, "previous", 1), (3, "previous", 0), (7, "previous", 4), (4, "batch", 1), (5, "batch", 4)],
)
def test_a_forged_envelope_whose_checksum_fits_is_found(
    path: Path, position: int, field: str, value: int
) -> None:
    """Streams and batches are derived again, so a pointer cannot lead elsewhere unseen."""
    with opened(path, "log") as txn:
        record = codec.decode(position, bytes(txn.get(key(position))))
        envelope = {
            name: getattr(record, name)
            for name in ("time_ns", "actor", "reason", "batch", "previous", "event")
        }
        forged = codec.encode(position, **(envelope | {field: value}))
        assert forged.raw != record.raw
        txn.put(key(position), forged.raw)
    with ImageStore.open(path, read_only=True) as store:
        found = [(problem.kind, problem.position) for problem in store.verify()]
    assert found
    assert found[0] == ("log", position)


def test_configs_that_are_missing_or_of_no_image_are_found(path: Path) -> None:
    """The log says which there must be."""
    raw = digest.require(A)
    kept = entries(path, "configs")[raw]
    with opened(path, "configs") as txn:
        txn.delete(raw)
    with ImageStore.open(path, read_only=True) as store:
        with pytest.raises(CorruptionError):
            store.get(A)
        assert [problem.image_id for problem in store.verify()] == [A]
    with opened(path, "configs") as txn:
        txn.put(raw, kept)
        txn.put(digest.digest_of(b"planted"), b"\0planted")
    assert kinds(path) == {"config"}


@pytest.mark.parametrize("wrong", [None, key(2), key(99), b"", b"x" * 40])
def test_a_tombstone_that_is_missing_or_wrong_is_found(path: Path, wrong: bytes | None) -> None:
    """It says where the stream of a deleted image ends."""
    with opened(path, "tombstones") as txn:
        if wrong is None:
            txn.delete(digest.require(C))
        else:
            txn.put(digest.require(C), wrong)
    assert kinds(path) == {"tombstone"}
    with ImageStore.open(path, read_only=True) as store:
        try:
            found = list(store.records(C))
            assert found == [record for record in found if record.image_id == C]
        except EventStoreError:
            pass


def test_a_tombstone_of_an_image_that_is_there_is_found(path: Path) -> None:
    """Planted, it must not hide the image."""
    with opened(path, "tombstones") as txn:
        txn.put(digest.require(A), key(1))
    assert kinds(path) == {"tombstone"}
    with ImageStore.open(path) as store:
        assert A in store


def test_a_lost_tombstone_does_not_make_an_image_look_never_known(path: Path) -> None:
    """Not found would be a wrong answer: what was there cannot be told, and that is said."""
    with opened(path, "tombstones") as txn:
        txn.delete(digest.require(C))
    with ImageStore.open(path, read_only=True) as store:
        for ask in (
            lambda: store.records(C),
            lambda: store.search_history(C),
            lambda: store.search_history(C[7:19]),
            lambda: store.search_history(""),
        ):
            with pytest.raises(CorruptionError):
                ask()
        assert store.search_history(A) == store.search(A) == A
        with pytest.raises(ImageNotFoundError):
            store.records(id_of(b"never there"))


def test_every_flipped_bit_of_a_tombstone_is_refused_where_it_is_read(path: Path) -> None:
    """It could lead to an earlier deletion of the same image, and hide what came later."""
    raw = entries(path, "tombstones")[digest.require(C)]
    for bit in range(len(raw) * 8):
        wrong = bytearray(raw)
        wrong[bit // 8] ^= 1 << bit % 8
        with opened(path, "tombstones") as txn:
            txn.put(digest.require(C), bytes(wrong))
        with ImageStore.open(path, read_only=True) as store, pytest.raises(CorruptionError):
            store.records(C)
    assert kinds(path) == {"tombstone"}


def test_what_a_store_says_of_itself_is_sealed(path: Path) -> None:
    """A store that answers to another id, or was made another day, is refused."""
    for name, raw in entries(path, "meta").items():
        for wrong in (raw[:-1] + bytes([raw[-1] ^ 1]), raw + b"0", b""):
            with opened(path, "meta") as txn:
                txn.put(name, wrong)
            assert kinds(path) == {"refused"}
        with opened(path, "meta") as txn:
            txn.put(name, raw)
    assert kinds(path) == set()


@pytest.mark.parametrize("through", [7, 6, 4])
def test_a_log_that_lost_its_end_does_not_open_and_is_named(path: Path, through: int) -> None:
    """Each commit notes where it ends; without, this would be an older store, and look sound."""
    with opened(path, "log") as txn:
        for position in range(through, 8):
            txn.delete(key(position))
    with pytest.raises(CorruptionError) as caught:
        ImageStore.open(path)
    assert caught.value.position == through
    assert ("log", through) in [(problem.kind, problem.position) for problem in check_store(path)]


def test_a_position_far_beyond_the_log_ends_no_check_in_endless_work(path: Path) -> None:
    """A flipped bit in a key must not make `verify` look for a million billion records."""
    with opened(path, "log") as txn:
        txn.put(key(7 + (1 << 60)), bytes(txn.get(key(7))))
        txn.delete(key(7))
    found = [(problem.kind, problem.position) for problem in check_store(path)]
    assert ("log", 7) in found
    assert len(found) < 10


@pytest.mark.parametrize("kept", [0, 1, 100, 4_096, 8_192, 12_288, 20_000])
def test_a_file_that_was_cut_is_refused_or_answers_nothing_wrong(path: Path, kept: int) -> None:
    """As after a disk gave up in the middle; in a process of its own, for LMDB maps the file."""
    os.truncate(path / "data.mdb", kept)
    script = (
        "import sys\nfrom eventstore import EventStoreError, ImageStore\n"
        "try:\n    with ImageStore.open(sys.argv[1], read_only=True) as store:\n"
        "        print(len(store), len(list(store.verify())))\n"
        "except EventStoreError as error:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (0, "refused\n")


def no_more_than(size: int) -> Callable[[], None]:
    """Return what limits the files that a child process may write."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_fails_the_append_and_loses_nothing(path: Path) -> None:
    """What was acknowledged is there, what was refused is not, and with room it goes on."""
    script = (
        "import sys\nfrom eventstore import ImageStore, StoreFullError, StoreIOError\n"
        "with ImageStore.open(sys.argv[1]) as store:\n"
        "    image_id = next(iter(store))\n"
        "    for number in range(100_000):\n"
        "        try:\n            store.set_last_updated(image_id, number, reason='x' * 1000)\n"
        "        except (StoreFullError, StoreIOError):\n            break\n"
        "    print(store.position, len(list(store.records())), len(list(store.verify())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=no_more_than(1 << 19),
    )
    assert done.stderr == ""
    position, records, problems = map(int, done.stdout.split())
    assert (records, problems) == (position, 0)
    assert 7 < position < 100_000
    with ImageStore.open(path) as store:
        assert store.position == position
        store.set_built_locally(A)
        assert list(store.verify()) == []
