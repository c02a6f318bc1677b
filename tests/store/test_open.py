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
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUsageError,
    UnknownFormatError,
    host,
    store_files,
)
from making import config, id_of
from store.children import PACKAGE

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


@pytest.mark.parametrize("content", [b"not LMDB" * 1024, b"x", b"SQLite format 3\0".ljust(4096)])
def test_beside_a_file_that_is_not_lmdb_no_lock_file_is_put(
    store_path: Path, content: bytes
) -> None:
    """A folder that is not ours is left as it is, names included."""
    store_path.mkdir()
    (store_path / "data.mdb").write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(CorruptionError, match="no LMDB file"):
            ImageStore.open(store_path, read_only=read_only)
    assert os.listdir(store_path) == ["data.mdb"]


def test_a_file_of_lmdb_1_is_of_an_unknown_format(store_path: Path) -> None:
    """The library reads it by itself; we do not, for nothing of ours was tried with it."""
    store_path.mkdir()
    with lmdb.open(str(store_path), max_dbs=16, lib_version=1) as env:
        for name in ("meta", "log", "configs", "snapshots", "tombstones"):
            env.open_db(name.encode())
    with pytest.raises(UnknownFormatError) as caught:
        ImageStore.open(store_path)
    assert (caught.value.found, caught.value.supported) == ("03000000", ("01000000",))


def test_a_new_store_is_of_lmdb_0_9_whatever_the_process_says(store_path: Path) -> None:
    """A variable of the environment changes what the library makes; it must not change ours."""
    script = "import sys; from eventstore import ImageStore; ImageStore.open(sys.argv[1]).close()"
    subprocess.run(
        [sys.executable, "-P", "-c", script, store_path],
        check=True,
        env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": "1", "PYTHONPATH": PACKAGE},
    )
    assert (store_path / "data.mdb").read_bytes()[16:24] == b"\xde\xc0\xef\xbe\x01\0\0\0"
    ImageStore.open(store_path).close()


def test_a_link_to_what_is_not_there_is_no_empty_store(store_path: Path) -> None:
    """A disk that is not mounted must not be hidden behind a new store."""
    store_path.mkdir()
    (store_path / "data.mdb").symlink_to("/nowhere/data.mdb")
    with pytest.raises(CorruptionError, match="link to what is not there"):
        ImageStore.open(store_path)
    assert os.listdir(store_path) == ["data.mdb"]
    assert (store_path / "data.mdb").is_symlink()


def test_unnamed_keys_are_of_another_program(store_path: Path) -> None:
    """LMDB calls that an incompatible operation; to users it is a foreign file."""
    store_path.mkdir()
    with lmdb.open(str(store_path)) as env, env.begin(write=True) as txn:
        txn.put(b"meta", b"value of theirs")
    with pytest.raises(UnknownFormatError, match="another program"):
        ImageStore.open(store_path)


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


def test_a_relative_path_means_the_same_wherever_the_process_goes(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size, errors and a map that is opened again are asked for later."""
    monkeypatch.chdir(store_path.parent)
    with ImageStore.open(store_path.name) as store:
        monkeypatch.chdir("/")
        store.create(config("a"))
        assert store.size_on_disk() > 0
        assert store.path == str(store_path)
    with ImageStore.open(os.fsencode(store_path)) as store:  # type: ignore[arg-type]
        assert len(store) == 1


def test_an_empty_text_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the current folder, in which nobody wants a store."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUsageError, match="no path"):
        ImageStore.open("")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_whose_files_were_taken_away_acknowledges_nothing(
    store_path: Path, name: str, replaced: bool
) -> None:
    """What is appended to a file without a name is lost; reads answer from what was open."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        content = (store_path / name).read_bytes()
        (store_path / name).unlink()
        if replaced:
            (store_path / name).write_bytes(content)
        with pytest.raises(StoreIOError, match="removed, moved or replaced") as caught:
            store.create(config("b"))
        assert caught.value.path == str(store_path / name)
        with pytest.raises(StoreIOError), store.transaction():
            pass
        assert (list(store), store.position) == ([A], 1)
    if replaced or name == "lock.mdb":
        with ImageStore.open(store_path, create=False) as store:
            store.create(config("b"))
            assert len(store) == 2


def test_a_store_that_took_the_name_of_another_is_not_written_to_by_who_has_that_one_open(
    store_path: Path,
) -> None:
    """Its writers hold another lock, so even a page written as it is could undo their commit."""
    other = store_path.with_name("other")
    for path in (store_path, other):
        with ImageStore.open(path) as store:
            store.create(config("a"))
    with ImageStore.open(store_path) as store:
        store_path.rename(store_path.with_name("aside"))
        other.rename(store_path)
        before = (store_path / "data.mdb").stat().st_mtime_ns
        with pytest.raises(StoreIOError, match="removed, moved or replaced"):
            store.create(config("b"))
    assert (store_path / "data.mdb").stat().st_mtime_ns == before


ROOT = "36 35 0:1 / / rw - ext4 a rw\n"


@pytest.mark.parametrize(
    ("mounts", "path", "kind"),
    [
        (ROOT, "/data/store", "ext4"),
        (ROOT + "37 36 0:2 / /data rw shared:1 - nfs4 b rw\n", "/data/x", "nfs4"),
        (ROOT + "37 36 0:2 / /data rw - nfs4 b rw\n", "/database", "ext4"),
        (ROOT + "37 36 0:2 / /my\\040data rw - cifs b rw\n", "/my data/x", "cifs"),
        (ROOT + "37 36 0:2 / /a\\134b rw - nfs b rw\n", "/a\\b/x", "nfs"),
        (ROOT + "37 36 0:2 / /a\\011b rw - nfs b rw\n", "/a\tb/x", "nfs"),
        (ROOT + "37 36 0:2 / /a\\012b rw - nfs b rw\n", "/a\nb/x", "nfs"),
        (ROOT + "37 36 0:2 / /daten-ä☃ rw - nfs b rw\n", "/daten-ä☃/x", "nfs"),
        (ROOT + "37 36 0:2 / /a\u2028\xa0b rw - nfs b rw\n", "/a\u2028\xa0b/x", "nfs"),
        (ROOT + "37 36 0:2 / /\udce9 rw - nfs b rw\n", "/\udce9/x", "nfs"),
        (ROOT + "37 36 0:2 / /d rw - nfs b rw\n38 36 0:3 / /d rw - xfs c rw\n", "/d/x", "xfs"),
        ("37 36 0:2 / /a rw - nfs b rw\n", "/elsewhere", "unknown"),
        ("", "/data", "unknown"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_mount_it_lies_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, path: str, kind: str
) -> None:
    """The longest mount point counts, the later one of two; spaces and the like are escaped."""
    planted = tmp_path / "mountinfo"
    planted.write_text(mounts, encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(store_files, "_MOUNTS", str(planted))
    assert store_files.file_system(Path(path)) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "lustre"])
def test_a_store_on_a_network_file_system_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With planted mounts, for there is no such file system here; the type is named."""
    planted = tmp_path / "mountinfo"
    planted.write_text(
        f"36 35 0:1 / / rw - ext4 a rw\n37 36 0:2 / {tmp_path}/mounted rw - {kind} b rw\n"
    )
    monkeypatch.setattr(store_files, "_MOUNTS", str(planted))
    (tmp_path / "mounted").mkdir()
    path = tmp_path / "mounted" / "store"
    with pytest.raises(StoreUsageError, match=f"network file system \\({kind}\\)"):
        ImageStore.open(path)
    with pytest.raises(StoreNotFoundError):
        ImageStore.open(path, read_only=True)
    assert not path.exists()
    ImageStore.open(tmp_path / "store").close()


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
