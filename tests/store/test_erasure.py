"""Destroy configs, and look for what is left of them in every file of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore import (
    CorruptionError,
    ErasureUnfinishedError,
    ImageStore,
    RedactedError,
    check_store,
    configs,
    lmdb_pages,
    scrubbing,
)
from eventstore.lmdb_pages import PageFile
from making import config, id_of
from store import children
from traces import WINDOW, count, fill, secret_config, traces_of, writing_around


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("size", [300, 1_500, 3_000, 40_000])
@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_no_byte_is_left_in_any_file(
    store: ImageStore, store_path: Path, kind: str, size: int, gone: bool
) -> None:
    """Stored in whatever way and place, and copied by whatever came after, it is nowhere."""
    secret = secret_config(kind, size)
    assert (configs.pack(secret)[0] == configs.PACKED) == (kind == "packed")
    traces = traces_of(secret)
    before = fill(store, "before", 12)
    image_id = store.create(secret)
    store.set_parent(before[0], image_id)
    others = fill(store, "after", 25)
    store.take_snapshot()
    for other in others[::3]:
        store.delete(other)
    if gone:
        store.delete(image_id)
    store.take_snapshot()
    assert count(store_path, traces) > min(size, 1_000) // 4
    position = store.redact(image_id, reason="a secret")
    assert count(store_path, traces) == 0
    assert position == store.position
    for other in (*before, *others[1::3]):
        assert store.get(other).id == other
    fill(store, "later", 40)
    assert count(store_path, traces) == 0
    store.close()
    assert count(store_path, traces) == 0


@pytest.mark.parametrize("size", [300, 3_000])
def test_no_byte_comes_back_from_the_memory_of_another_process(store_path: Path, size: int) -> None:
    """LMDB writes pages made of used memory; who wrote the config must not write it again."""
    secret = secret_config("plain", size)
    traces = traces_of(secret)
    file = store_path.parent / "secret"
    file.write_bytes(secret)
    with children.speaking(writing_around("pass"), store_path, file) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ImageStore.open(store_path) as store:
            store.redact(id_of(secret), reason="a secret")
            assert count(store_path, traces) == 0
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            assert count(store_path, traces) == 0
            assert len(store) == 91
            assert list(store.verify()) == []


# Where old bytes may stay, made by hand, for LMDB does so only now and then.


def _in_gap(pages: PageFile, database: bytes) -> int:
    meta = max(pages.metas(), key=lambda found: found.commit)
    tree = pages.trees(meta, [])[database] if database != b"free" else meta.free
    return _gap_of(pages, tree.root)


def _gap_of(pages: PageFile, number: int) -> int:
    raw = pages.page(number)
    assert raw is not None
    _, _, _, lower, upper = lmdb_pages.HEADER.unpack_from(raw)
    assert upper - lower >= WINDOW
    return number * pages.page_size + lower


def _in_free_page(pages: PageFile) -> int:
    meta = max(pages.metas(), key=lambda found: found.commit)
    _, free = pages.free_pages(meta, [])
    return max(free) * pages.page_size + 100


def _behind_value(pages: PageFile) -> int:
    meta = max(pages.metas(), key=lambda found: found.commit)
    for _, raw in pages.leaves(pages.trees(meta, [])[b"configs"], "configs", []):
        for node in lmdb_pages.nodes(raw):
            run = pages.run(raw, node)
            if run:
                return run.start * pages.page_size + lmdb_pages.HEADER_SIZE + node.size
    raise AssertionError("no value has pages of its own")


PLACES: dict[str, Callable[[PageFile], int]] = {
    "free page": _in_free_page,
    "room in the log's root": lambda pages: _in_gap(pages, b"log"),
    "room in the configs' root": lambda pages: _in_gap(pages, b"configs"),
    "room in the snapshots' root": lambda pages: _in_gap(pages, b"snapshots"),
    "behind a value": _behind_value,
    "behind the last page": lambda pages: pages.size,
    "far behind the last page": lambda pages: pages.size + 10_000,
}


@pytest.mark.parametrize("place", PLACES)
def test_bytes_are_destroyed_wherever_lmdb_may_leave_them(store_path: Path, place: str) -> None:
    """Each place is planted with what was a piece of the config once."""
    secret = secret_config("plain", 900)
    with ImageStore.open(store_path) as store:
        image_id = store.create(secret)
        fill(store, "other", 60)
        store.create(secret_config("plain", 5_000, seed=2))
        store.take_snapshot()
    trace = bytes(range(100, 100 + WINDOW))
    with PageFile(store_path / "data.mdb") as pages:
        offset = PLACES[place](pages)
    with open(store_path / "data.mdb", "r+b") as file:
        file.seek(offset)
        file.write(trace)
    with ImageStore.open(store_path) as store:
        assert count(store_path, {trace}) == 1
        store.redact(image_id, reason="a secret")
        assert count(store_path, {trace}) == 0
        assert list(store.verify()) == []


def test_what_is_in_use_is_all_that_is_left(store: ImageStore, store_path: Path) -> None:
    """Of other configs, too, nothing is left that no entry holds: nothing escapes the walk."""
    for at in range(60):
        store.create(secret_config("plain", 100 + at * 61, seed=at))
        if at % 7 == 0:
            store.take_snapshot()
    image_id = store.create(secret_config("plain", 700, seed=99))
    store.redact(image_id, reason="a secret")
    store.close()
    with PageFile(store_path / "data.mdb") as pages:
        metas = pages.metas()
        _, free = pages.free_pages(max(metas, key=lambda found: found.commit), [])
        # The commit that takes the note away gives up a few pages of `meta` again.
        dirty = [number for number in free if (pages.page(number) or b"").strip(b"\0")]
    assert len(dirty) < 12


# What a reader, an interrupted erasure, and a power cut leave.


def test_a_reader_that_began_before_is_waited_for(
    store: ImageStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads is not touched; the record is there, and the next call ends it."""
    monkeypatch.setattr(scrubbing, "READERS_WAIT_SECONDS", 0.2)
    secret = secret_config("packed", 3_000)
    image_id = store.create(secret)
    with children.speaking(
        """
import lmdb
env = lmdb.open(path, readonly=True, max_dbs=16)
handle = env.open_db(b"configs", create=False)
with env.begin(db=handle) as txn:
    say("began")
    sys.stdin.readline()
    say(len(txn.get(bytes.fromhex(sys.argv[2]))))
""",
        store_path,
        image_id.removeprefix("sha256:"),
    ) as process:
        with pytest.raises(ErasureUnfinishedError) as caught:
            store.redact(image_id, reason="a secret")
        assert caught.value.processes == (process.pid,)
        with pytest.raises(RedactedError):
            store.get(image_id)
        said, _ = process.communicate("\n")
        assert int(said) == len(configs.pack(secret))
    assert count(store_path, traces_of(secret)) > 0
    position = store.position
    assert store.redact(image_id, reason="a secret") == position == store.position
    assert count(store_path, traces_of(secret)) == 0


def test_a_redaction_while_threads_read_and_write_reaches_its_end(store: ImageStore) -> None:
    """Those who come and go do not keep it from ending, and lose nothing."""
    others = fill(store, "other", 10)
    secrets = [secret_config("plain", 2_000, seed=at) for at in range(4)]
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            wrong.extend(other for other in others if store.get(other).id != other)

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.create(config(f"beside {number}"))

    threads = [threading.Thread(target=work) for work in (read, read, write)]
    for thread in threads:
        thread.start()
    try:
        for secret in secrets:
            store.redact(store.create(secret), reason="a secret")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    for secret in secrets:
        assert count(Path(store.path), traces_of(secret)) == 0


@pytest.mark.parametrize("writes", [0, 1, 2, 5, 9])
def test_a_process_killed_in_the_middle_leaves_a_sound_store_and_the_next_ends_it(
    store_path: Path, writes: int
) -> None:
    """Killed before any write of a zero, and after some of them."""
    secret = secret_config("plain", 30_000)
    with ImageStore.open(store_path) as store:
        image_id = store.create(secret)
        fill(store, "other", 50)
        store.take_snapshot()
    script = """
store = ImageStore.open(path)
left, write = int(sys.argv[3]), os.pwrite
def pwrite(*arguments):
    global left
    if store.redaction(sys.argv[2]):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return write(*arguments)
os.pwrite = pwrite
store.redact(sys.argv[2], reason="a secret")
"""
    with children.started(script, store_path, image_id, writes) as process:
        process.communicate(timeout=60)
        assert process.returncode == -9
    assert list(check_store(store_path)) == []
    assert count(store_path, traces_of(secret)) > 0 or writes
    with ImageStore.open(store_path) as store:
        assert count(store_path, traces_of(secret)) == 0
        assert list(store.verify()) == []
        assert len(store) == 51
        assert [record.position for record in store.records(image_id)] == [1, store.position]


@pytest.mark.parametrize(
    ("place", "bit"), [(0, 1), (10, 1), (10, 4), (12, 2), (13, 8), (14, 2), (15, 8)]
)
@pytest.mark.parametrize("name", [b"log", b"configs"])
def test_an_unsound_file_is_not_touched(
    store_path: Path, name: bytes, place: int, bit: int
) -> None:
    """Where a page's head is bent, nothing says which bytes are nobody's.

    The page is bent when nobody writes any more, so that LMDB does not look at it.
    """
    with ImageStore.open(store_path) as store:
        fill(store, "other", 60)
        environment = store._environment
        for _ in range(2):
            environment.write(lambda txn: scrubbing.note(txn, 1))
        with PageFile(store_path / "data.mdb") as pages:
            meta = max(pages.metas(), key=lambda found: found.commit)
            tree = pages.trees(meta, [])[name]
            assert tree.depth > 1
            number, raw = list(pages.leaves(tree, "", []))[1]
            offset = number * pages.page_size + place
        with open(store_path / "data.mdb", "r+b") as file:
            file.seek(offset)
            file.write(bytes([raw[place] ^ bit]))
        bent = (store_path / "data.mdb").read_bytes()[number * len(raw) :][: len(raw)]
        with pytest.raises(CorruptionError, match="nothing was destroyed"):
            scrubbing.finish(environment)
        after = (store_path / "data.mdb").read_bytes()[number * len(raw) :][: len(raw)]
        assert after == bent


def test_the_next_open_only_warns_while_a_reader_is_there(
    store_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open does not wait, and does not fail; the one after the reader has gone destroys."""
    monkeypatch.setattr(scrubbing, "READERS_WAIT_SECONDS", 0.1)
    secret = secret_config("plain", 2_000)
    with ImageStore.open(store_path) as store:
        image_id = store.create(secret)
    script = """
import lmdb
env = lmdb.open(path, readonly=True, max_dbs=16)
with env.begin() as txn:
    say("began")
    sys.stdin.readline()
"""
    with children.speaking(script, store_path):
        with ImageStore.open(store_path) as store, pytest.raises(ErasureUnfinishedError):
            store.redact(image_id, reason="a secret")
        ImageStore.open(store_path).close()
        assert "not destroyed yet" in caplog.text
        assert count(store_path, traces_of(secret)) > 0
    with ImageStore.open(store_path, read_only=True):
        assert count(store_path, traces_of(secret)) > 0
    ImageStore.open(store_path).close()
    assert count(store_path, traces_of(secret)) == 0
