"""Look after the files of a store before LMDB maps them, and make them durable by name.

A store is a directory (mode 0700) that holds `data.mdb` and `lock.mdb` (mode 0600). LMDB trusts
what it finds there, and some of what it could find would hang it, kill it or let it lose data.
What is guaranteed here: a data file has its name only when it is whole and on disk, and the name is
on disk too; what is no regular file is never opened; a file system of the network is refused,
because other hosts see neither LMDB's locks nor its map; and no read of the lock file can meet a
hole that a full disk cannot fill, which would end the process with a bus error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import ref

from eventstore.errors import (
    CorruptionError,
    EventStoreError,
    StoreFullError,
    StoreInUseError,
    StoreLostError,
    StoreNotFoundError,
    StoreUsageError,
    UnknownFormatError,
    refused,
)
from eventstore.notices import Notices

DATA, LOCK, UNFINISHED = "data.mdb", "lock.mdb", "data.mdb.new"
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs"),
        *("fuse.cephfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
# The first page begins with its number and flags; then LMDB says that it is LMDB, and which.
_MAGIC, _VERSION = struct.pack("=L", 0xBEEFC0DE), struct.pack("=L", 1)
_MAGIC_OFFSET, _META_LENGTH = 16, 152
_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOUNTS = "/proc/self/mountinfo"
_ROOM_MIN = 1 << 18
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)

_open_lock = threading.Lock()
_open_files: dict[tuple[int, int], ref[Claim]] = {}


class Claim:
    """That a process has a store open, for as long as this is there and not given back."""

    __slots__ = ("__weakref__", "identity", "pid")

    def __init__(self, identity: tuple[int, int]) -> None:
        """Claim the data file of that identity for this process."""
        self.identity = identity
        self.pid = os.getpid()


def _forget_lock() -> None:
    """Let a child of `fork` meet no lock that another thread of the parent held."""
    global _open_lock  # noqa: PLW0603 (a lock that was held at the fork is held for ever)
    _open_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)

logger = Notices(__name__)


def located(path: str | os.PathLike[str]) -> Path:
    """Return a path that means the same wherever the process goes.

    Args:
        path: as users give it; bytes are a path, too.

    Raises:
        StoreUsageError: it is empty.
        StoreIOError: the folder that it counts from is gone.
    """
    text = os.fsdecode(path)
    if not text:
        raise StoreUsageError("an empty text is no path: say where the store is")
    try:
        return Path(text).absolute()
    except OSError as error:
        raise refused(text, error) from error


def prepare(path: Path, *, create: bool, damaged: bool = False) -> None:
    """Make the directory of a store if that is asked for, and refuse what can be no store.

    Args:
        path: the directory.
        create: make it, mode 0700, and those above it, if they are missing.
        damaged: take a data file that LMDB would not open, for it will not be asked to.

    Raises:
        StoreNotFoundError: nothing is there and `create` is off.
        StoreUsageError: it is no directory, it is no path, or it lies on a file system of the
            network.
        StoreIOError: the operating system refuses.
        CorruptionError: the data file is empty, no file, or none of LMDB's.
        UnknownFormatError: it is of another version of LMDB.
    """
    with _translated(path):
        if path.exists() and not path.is_dir():
            raise StoreUsageError(f"{path} is not a directory, so it is no store")
        if create:
            _refuse_network(path)
            make_directories(path, 0o700)
        elif not is_there(path):
            raise StoreNotFoundError(str(path))
        else:
            _refuse_network(path)
        for name in (DATA, LOCK):
            _refuse_strange(path / name)
        if not damaged:
            _refuse_foreign(path / DATA)


def is_there(path: Path) -> bool:
    """Tell whether a store's data file has its name; a disk that does not say is no answer.

    Raises:
        StoreIOError: the operating system refuses to tell.
    """
    with _translated(path):
        try:
            path.joinpath(DATA).stat()
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
    return True


def _refuse_strange(path: Path) -> None:
    """Refuse what LMDB would wait for, or would take for a store that it may make."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            # To make a new file there would hide what a disk holds that is not mounted.
            raise CorruptionError(
                f"{path} is a link to what is not there: bring that back"
            ) from error
        return
    if not stat.S_ISREG(found.st_mode):
        raise CorruptionError(f"{path} is no regular file, so it is no store's")
    if path.name == DATA and not found.st_size:
        raise CorruptionError(
            f"{path} is empty: a store never leaves it so; fetch the backup, or remove the file"
            " to begin a new store"
        )


def _refuse_foreign(path: Path) -> None:
    """Refuse what is no file of LMDB 0.9 before LMDB puts a lock file beside it."""
    try:
        with path.open("rb") as file:
            start = file.read(_META_LENGTH)
    except FileNotFoundError:
        return
    at = start.find(_MAGIC)
    if start[_MAGIC_OFFSET:].startswith(_MAGIC + _VERSION):
        return
    if at < 0 or len(start) < _META_LENGTH:
        raise CorruptionError(
            f"{path} is no LMDB file: it is another program's, or its beginning is destroyed"
        )
    raise UnknownFormatError(
        f"{path} is a file of another LMDB, or of another machine; this version reads that of 0.9",
        found=start[at + len(_MAGIC) :][: len(_VERSION)].hex(),
        supported=(_VERSION.hex(),),
    )


def make_directories(path: Path, mode: int = 0o777) -> None:
    """Make a directory and those above it; when this returns, their names are on disk."""
    if path.is_dir():
        return
    make_directories(path.parent)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    sync_names(path.parent)


def file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on, `unknown` if nobody says.

    Args:
        path: a path, of which the last parts may not be there yet.
    """
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            lines = mounts.read().removesuffix("\n").split("\n")
    except OSError:
        return "unknown"
    real = os.path.realpath(path)
    best, kind = "", "unknown"
    for line in filter(None, lines):
        before, _, after = line.partition(" - ")
        # Blanks, line breaks and backslashes stand there as octal numbers; nothing else does.
        point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        if _is_below(real, point) and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _refuse_network(path: Path) -> None:
    kind = file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUsageError(
            f"{path} lies on a network file system ({kind}), where locks and shared memory do not"
            " hold among hosts: keep the store on a local disk"
        )
    if kind == "overlay":
        logger.info("%s lies on an overlay: it lasts as long as the container does", path)


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep every other process that makes a store in this directory waiting.

    Raises:
        StoreIOError: the operating system refuses.
    """
    with _translated(path):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def publish(path: Path) -> None:
    """Give the finished data file its name; when this returns, both are on disk.

    Raises:
        StoreIOError: the operating system refuses.
    """
    with _translated(path):
        sync(path / UNFINISHED)
        path.joinpath(UNFINISHED).rename(path / DATA)
        sync_names(path)
        sync_names(path.parent)


def fill_lock_file(path: Path, length: int) -> None:
    """Give every byte of the lock file its place on disk; make the file if it is not there.

    LMDB leaves it sparse, and maps it: a process that then marks its slot on a full disk is killed.
    The length of a file that is there stays, for other processes have mapped it.

    Args:
        path: the store's directory.
        length: bytes that a new file gets.

    Raises:
        StoreFullError: there is no room for it.
    """
    with _translated(path):
        try:
            handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _REFUSED:
                return  # LMDB refuses as well, or does without on a medium that is read only
            raise
        try:
            size = os.fstat(handle).st_size
            if not os.pread(handle, 4, 0).strip(b"\0"):
                size = max(size, length)  # LMDB has not set it up, or a full disk cut it short
            if _has_holes(handle, size):
                os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)


class Names:
    """The names of the files of an open store, and which files had them."""

    def __init__(self, path: Path) -> None:
        """Take note of the files that have just been opened for writing.

        Not of what they were before: an overlay moves a file when it is first opened so.
        """
        names = (str(path / DATA), str(path / LOCK))
        self._opened = tuple((name, _identity(name)) for name in names)

    def refuse_lost(self) -> None:
        """Refuse to write to files that have lost their names.

        An event in a data file that nobody will open again is lost when it is acknowledged; and who
        has another lock file does not wait for this process, so that one of two commits is lost.

        Raises:
            StoreLostError: a file was removed, moved or replaced since it was opened.
            StoreIOError: that cannot be told.
        """
        for path, opened in self._opened:
            try:
                lost = _identity(path) != opened
            except OSError as error:
                raise refused(path, error) from error
            if lost:
                raise StoreLostError(
                    path,
                    "it was removed, moved or replaced while it was open, so nothing is written:"
                    " close the store, and open the one that is there now",
                )


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, None if there is none of that name."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def _has_holes(handle: int, size: int) -> bool:
    """Tell whether some of the first bytes of a file may have no place on disk."""
    found = os.fstat(handle)
    if found.st_size < size or found.st_blocks * 512 < size:
        return True
    return os.lseek(handle, 0, os.SEEK_HOLE) < size


def write_again(path: Path, offset: int, length: int) -> None:
    """Bring bytes of the data file to disk that the kernel may take for written, and are not.

    A sync that has failed leaves it at that; so the same bytes are written once more. Nobody else
    may write there meanwhile.

    Raises:
        StoreIOError: the operating system refuses.
    """
    with _translated(path):
        handle = os.open(path / DATA, os.O_RDWR | os.O_CLOEXEC)
        try:
            data = os.pread(handle, length, offset)
            if len(data) != length:
                raise OSError(errno.EIO, "a page could not be read to be written again")
            written = 0
            while written < length:  # what cuts a write short says why at the next
                written += os.pwrite(handle, data[written:], offset + written)
            os.fsync(handle)
        finally:
            os.close(handle)


def no_room(data: Path) -> StoreFullError | None:
    """Return the error that says that a data file cannot grow, None if nothing says so.

    This tells a full disk from a failing one where LMDB does not: it calls a write that ends short
    an I/O error. What such a write left of the room counts as none. The file's length is what it
    was when this returns; nobody else may write to it meanwhile.

    Args:
        data: the file.
    """
    try:
        with _translated(data.parent):
            handle = os.open(data, os.O_RDWR | os.O_CLOEXEC)
            try:
                size = os.fstat(handle).st_size
                try:
                    os.posix_fallocate(handle, size, _ROOM_MIN)
                finally:
                    os.ftruncate(handle, size)
            finally:
                os.close(handle)
    except StoreFullError as error:
        return error
    except EventStoreError:
        return None
    return None


def is_cut(path: Path, needed: int) -> bool:
    """Tell whether a data file ends before its last page: to read there would kill the process.

    Raises:
        StoreIOError: the operating system refuses.
    """
    with _translated(path):
        return path.joinpath(DATA).stat().st_size < needed


def identity(path: Path) -> tuple[int, int]:
    """Return what tells the data file of a store from every other file.

    Raises:
        StoreIOError: the operating system refuses.
    """
    with _translated(path):
        found = path.joinpath(DATA).stat()
    return found.st_dev, found.st_ino


def claim(path: Path) -> Claim:
    """Note that this process opens a store: LMDB must not open a file twice in one process.

    Returns:
        What `release` takes. When nobody has it any more, an interrupt has cut the open off, and
        nothing is claimed.

    Raises:
        StoreInUseError: it is open already.
        StoreIOError: the operating system refuses.
    """
    claimed = Claim(identity(path))
    with _open_lock:
        before = _open_files.get(claimed.identity, lambda: None)()
        if before is not None and before.pid == claimed.pid:
            raise StoreInUseError(
                f"{path} is open in this process already: share that store, it is safe"
                " among threads"
            )
        _open_files[claimed.identity] = ref(claimed)
    return claimed


def release(claimed: Claim) -> None:
    """Note that this process has closed a store."""
    with _open_lock:
        if _open_files.get(claimed.identity, lambda: None)() is claimed:
            del _open_files[claimed.identity]


def sync(path: Path) -> None:
    """Bring a file to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(top: Path) -> None:
    """Bring all files and names below a folder to disk."""
    for folder, _, names in os.walk(top):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def sync_names(path: Path) -> None:
    """Bring the names in a directory to disk, unless this user may not read it."""
    with suppress(PermissionError):
        sync(path)


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except EventStoreError:
        raise
    except ValueError as error:
        raise StoreUsageError(f"{str(path)!r} is no path: {error}") from error
    except OSError as error:
        raise refused(str(path), error) from error
