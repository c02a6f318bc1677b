"""Open, close, and everything that can be wrong with a path, a process or an argument."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from eventstore import (
    CorruptionError,
    EventStoreError,
    ImageStore,
    StoreClosedError,
    StoreForkedError,
    StoreInUseError,
    StoreIOError,
    StoreReadOnlyError,
    StoreUsageError,
    UnknownFormatError,
    host,
)
from making import config, id_of

A = id_of(config("a"))
READS: dict[str, Callable[[ImageStore], object]] = {
    "get": lambda store: store.get(A),
    "get_parent": lambda store: store.get_parent(A),
    "get_last_updated": lambda store: store.get_last_updated(A),
    "is_built_locally": lambda store: store.is_built_locally(A),
    "children": lambda store: store.children(A),
    "search": lambda store: store.search(A),
    "search_history": lambda store: store.search_history(A),
    "map": lambda store: store.map(),
    "heads": lambda store: store.heads(),
    "len": len,
    "contains": lambda store: A in store,
    "iter": list,
    "position": lambda store: store.position,
    "as_of": lambda store: store.as_of(position=0),
    "as_of time": lambda store: store.as_of(time=0),
    "records": lambda store: list(store.records()),
    "diff": lambda store: store.diff(0),
    "snapshots": lambda store: store.snapshots(),
    "verify": lambda store: list(store.verify()),
    "refresh": lambda store: store.refresh(),
    "view": lambda store: store.view(),
}
WRITES: dict[str, Callable[[ImageStore], object]] = {
    "create": lambda store: store.create(config("new")),
    "adopt": lambda store: store.adopt(config("new")),
    "delete": lambda store: store.delete(A),
    "set_parent": lambda store: store.set_parent(A, None),
    "set_last_updated": lambda store: store.set_last_updated(A),
    "set_built_locally": lambda store: store.set_built_locally(A),
    "take_snapshot": lambda store: store.take_snapshot(),
    "transaction": lambda store: store.transaction().__enter__(),
}


def test_a_new_store_is_a_private_directory(store_path: Path) -> None:
    """Mode 0700, files 0600, whatever the umask; parents are made."""
    path = store_path / "deeper"
    previous = os.umask(0)
    try:
        with ImageStore.open(path) as store:
            assert (len(store), store.position) == (0, 0)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("data.mdb", "lock.mdb"):
        assert stat.S_IMODE((path / name).stat().st_mode) == 0o600


def test_what_was_written_is_there_after_reopening_with_the_same_identity(
    store_path: Path,
) -> None:
    """Id and creation time are given once."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        identity = store.store_id, store.created
    with ImageStore.open(store_path) as store:
        assert list(store) == [A]
        assert (store.store_id, store.created) == identity


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_that_is_not_there_is_not_made_unless_asked(
    store_path: Path, read_only: bool
) -> None:
    """A typo in a path must not look like an empty store."""
    with pytest.raises(StoreUsageError, match="no store"):
        ImageStore.open(store_path, create=False, read_only=read_only)
    with pytest.raises(StoreUsageError, match="no store"):
        ImageStore.open(store_path, read_only=True)
    assert not store_path.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """Nor is what lies below a file."""
    path = tmp_path / "file"
    path.write_text("mine")
    for wrong in (path, path / "below"):
        with pytest.raises((StoreUsageError, StoreIOError)):
            ImageStore.open(wrong)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["a\0b", "x" * 5_000], ids=["nul", "long"])
def test_what_is_no_path_is_an_error_of_ours(path: str) -> None:
    """Not a ValueError of the operating system's."""
    with pytest.raises(EventStoreError):
        ImageStore.open(path)


@pytest.mark.parametrize("content", [b"not LMDB" * 1024, b"\0" * 8192, b"x"], ids=range(3))
def test_a_file_that_is_not_lmdb_is_corruption_and_stays_as_it_is(
    store_path: Path, content: bytes
) -> None:
    """Never repaired, never overwritten."""
    store_path.mkdir()
    (store_path / "data.mdb").write_bytes(content)
    with pytest.raises((CorruptionError, StoreIOError)):
        ImageStore.open(store_path)
    assert (store_path / "data.mdb").read_bytes() == content


def test_an_lmdb_file_of_somebody_else_is_not_taken_over(store_path: Path) -> None:
    """A log without our format's mark is not ours."""
    store_path.mkdir()
    with lmdb.open(str(store_path), max_dbs=16) as env:
        handle = env.open_db(b"log")
        with env.begin(write=True, db=handle) as txn:
            txn.put(b"theirs", b"value")
    with pytest.raises(UnknownFormatError):
        ImageStore.open(store_path)


def test_a_format_of_a_later_version_is_named(store_path: Path) -> None:
    """What was found and what is supported stand in attributes."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    with lmdb.open(str(store_path), max_dbs=16) as env:
        handle = env.open_db(b"meta")
        with env.begin(write=True, db=handle) as txn:
            txn.put(b"format", b"2")
    with pytest.raises(UnknownFormatError) as caught:
        ImageStore.open(store_path)
    assert (caught.value.found, caught.value.supported) == ("2", (1,))


def test_a_second_open_in_one_process_is_refused_by_any_name(
    store: ImageStore, tmp_path: Path
) -> None:
    """LMDB must not open a file twice in a process; a link is the same store."""
    (tmp_path / "link").symlink_to(store.path)
    for path in (store.path, tmp_path / "link", Path(store.path) / ".." / "store"):
        with pytest.raises(StoreInUseError):
            ImageStore.open(path)
    store.create(config("still works"))


def test_after_closing_it_opens_again_and_closing_twice_is_no_error(store_path: Path) -> None:
    """The refusal ends with the close, also after a failed open."""
    for _ in range(3):
        store = ImageStore.open(store_path)
        store.close()
        store.close()


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_closed_store_says_so_to_every_call(store_path: Path, name: str) -> None:
    """Nothing is answered from memory, nothing crashes."""
    store = ImageStore.open(store_path)
    store.create(config("a"))
    store.close()
    with pytest.raises(StoreClosedError):
        (READS | WRITES)[name](store)


@pytest.mark.parametrize("name", WRITES)
def test_a_store_opened_for_reading_refuses_every_change(store_path: Path, name: str) -> None:
    """And answers every read."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    with ImageStore.open(store_path, read_only=True) as store:
        with pytest.raises(StoreReadOnlyError):
            WRITES[name](store)
        for read in READS.values():
            read(store)


def test_a_child_of_fork_is_told_to_open_its_own(store: ImageStore) -> None:
    """LMDB's locks do not survive fork; the parent goes on, the child can open again."""
    store.create(config("a"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        for call in (*READS.values(), *WRITES.values()):
            try:
                call(store)
                said += b"-"
            except StoreForkedError:
                said += b"F"
            except BaseException as error:
                said += type(error).__name__.encode()
        store.close()
        with ImageStore.open(store.path) as own:
            said += b"%d" % len(own)
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 1000) == b"F" * (len(READS) + len(WRITES)) + b"1"
    os.close(reading)
    store.create(config("parent goes on"))


def test_the_actor_is_the_user_at_the_host_unless_given(store_path: Path) -> None:
    """Every record says who."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        assert [record.actor for record in store.records()] == [host.default_actor()]
        assert "@" in host.default_actor()
    with ImageStore.open(store_path, actor="") as store:
        store.create(config("b"))
        assert [record.actor for record in store.records(after=1)] == [""]


@pytest.mark.parametrize("text", ["x" * 65_537, "é" * 32_769, "\ud800", 5, b"bytes"])
def test_texts_that_cannot_be_stored_are_refused(
    store: ImageStore, tmp_path: Path, text: object
) -> None:
    """Too long, not Unicode, not text: for actor and reason alike, and nothing is appended."""
    with pytest.raises(StoreUsageError):
        ImageStore.open(tmp_path / "other", actor=text)  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()
    with pytest.raises(StoreUsageError):
        store.create(config("a"), reason=text)  # type: ignore[arg-type]
    assert store.position == 0


def test_texts_of_just_the_limit_and_of_any_script_are_kept(store: ImageStore) -> None:
    """64 KiB of UTF-8, and control characters, come back as they went in."""
    for number, text in enumerate(("x" * 65_536, "é" * 32_768, "\0\x1b\n☃")):
        store.create(config(str(number)), reason=text)
        assert next(store.records(after=number)).reason == text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_store_that_may_not_be_written_is_an_error_of_ours(
    tmp_path: Path, store_path: Path
) -> None:
    """As another user: no permission on the directory above, or on the store."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    script = tmp_path / "as_nobody.py"
    script.write_text(
        "import os, sys\nfrom eventstore import ImageStore, StoreIOError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        ImageStore.open(path)\n"
        "    except StoreIOError as error:\n        print('refused', error.path == path)\n"
    )
    done = subprocess.run(
        [sys.executable, script, store_path, tmp_path / "new"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("refused True\nrefused True\n", "")
