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
import logging
import os
import re
import resource
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.errors import (
    CorruptionError,
    EventStoreError,
    StoreIOError,
    StoreNotFoundError,
    StoreUsageError,
    UnknownFormatError,
    refused,
)

DATA, LOCK, UNFINISHED = "data.mdb", "lock.mdb", "data.mdb.new"
NETWORK_FILE_SYSTEMS = re.compile(
    "afs|beegfs|ceph|cifs|coda|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|smb3|smbfs"
    "|fuse[.](cephfs|glusterfs|rclone|s3fs|sshfs)"
)
# The first page begins with its number and flags; then LMDB says that it is LMDB, and which.
_MAGIC, _VERSION = struct.pack("=L", 0xBEEFC0DE), struct.pack("=L", 1)
_MAGIC_OFFSET, _META_LENGTH = 16, 152
_ROOM_MIN = 1 << 16  # with less than this left, a write may be cut short
_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOUNTS = "/proc/self/mountinfo"

logger = logging.getLogger(__name__)


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


def prepare(path: Path, *, create: bool) -> None:
    """Make the directory of a store if that is asked for, and refuse what can be no store.

    Args:
        path: the directory.
        create: make it, mode 0700, and those above it, if they are missing.

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
        elif not path.joinpath(DATA).exists():
            raise StoreNotFoundError(str(path))
        else:
            _refuse_network(path)
        for name in (DATA, LOCK):
            _refuse_strange(path / name)


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
    if path.name == DATA:
        _refuse_foreign(path)


def _refuse_foreign(path: Path) -> None:
    """Refuse what is no file of LMDB 0.9 before LMDB puts a lock file beside it."""
    with path.open("rb") as file:
        start = file.read(_META_LENGTH)
    at = start.find(_MAGIC)
    if start[_MAGIC_OFFSET:].startswith(_MAGIC + _VERSION):
        return
    if at < 0 or len(start) < _META_LENGTH:
        raise CorruptionError(f"{path} is no LMDB file, so it is no store's: choose another folder")
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
    if NETWORK_FILE_SYSTEMS.fullmatch(kind):
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
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # LMDB says better what is wrong, or does without on a medium that is read only
    with _translated(path):
        try:
            found = os.fstat(handle)
            if found.st_blocks * 512 < found.st_size or not found.st_size:
                os.posix_fallocate(handle, 0, found.st_size or length)
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
            StoreIOError: a file was removed, moved or replaced since it was opened.
        """
        for path, opened in self._opened:
            if _identity(path) != opened:
                raise StoreIOError(
                    path,
                    "it was removed, moved or replaced while it was open, so nothing is written:"
                    " close the store, and open the one that is there now",
                )


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, None if there is none of that name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def cut_short(path: Path, error: Exception) -> bool:
    """Tell whether LMDB speaks of a write that had no room for its end: it calls that EIO.

    Args:
        path: the store's directory.
        error: what LMDB said.
    """
    if os.strerror(errno.EIO) not in str(error):
        return False
    try:
        disk, size = os.statvfs(path), path.joinpath(DATA).stat().st_size
    except OSError:
        return False
    room = disk.f_bavail * disk.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY:
        room = min(room, limit - size)
    return room < _ROOM_MIN


def sync(path: Path) -> None:
    """Bring a file to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
