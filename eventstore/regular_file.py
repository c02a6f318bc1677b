"""Read small regular files of folders that another program, or an attacker, has filled.

A caller names one folder, whose path is followed as any path is. From there on nothing leads away:
folders are opened one in another, and a link is never followed, in whichever place. A pipe is not
waited for, a device is not even opened, and no more bytes are read than the caller allows; a file
that is larger is not read at all. What this user may not read is an error of its own: taking it
for absent would make an image that is there look deleted.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from types import TracebackType
from typing import Self

from eventstore.errors import SourceError

# A handle that only stands for a place needs no right to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINK = (errno.ELOOP, errno.EMLINK)
Stamp = tuple[int, int, int, int, int]
"""Inode, mode, size, time of the last write, time of the last change, both in nanoseconds."""


class IrregularFileError(Exception):
    """An entry that is there and cannot be taken; never leaves the package.

    Attributes:
        kind: `not-a-file`, `too-large` or `unreadable`.
        detail: what is wrong, for people.
        unsure: whether the program whose folder it is could still take it: it would follow a link
            and wait for a pipe, and the disk may have failed only now.
    """

    def __init__(self, kind: str, detail: str, *, unsure: bool = False) -> None:
        self.kind = kind
        self.detail = detail
        self.unsure = unsure
        super().__init__(detail)


class Folder:
    """A folder that is held open, so that what is read through it lies in it."""

    def __init__(
        self, handle: int, above: Path | Folder, name: str = "", *, listed: bool = False
    ) -> None:
        """Take over an open handle; callers use `open` and `below`."""
        self._handle = handle
        self._above, self._name = above, name
        self._listed = listed  # whether the handle itself may be listed

    @property
    def path(self) -> Path:
        """Return how the folder was come to, for messages; most are never asked."""
        above = self._above.path if isinstance(self._above, Folder) else self._above
        return above / self._name

    @classmethod
    def open(cls, path: Path, *below: str) -> Folder | None:
        """Return the folder at a path, or one some folders further down; None if there is none.

        Args:
            path: is followed, wherever it leads.
            below: names of folders, each in the one before; none of them may be a link.

        Raises:
            IrregularFileError: one of those below is no folder, or the disk fails.
            SourceError: this user may not go there.
        """
        try:
            found: Folder | None = cls(os.open(path, _FOLDER), path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise not_allowed(path, error) from error
        for name in below:
            assert found is not None
            with found as above:
                found = above.below(name)
            if found is None:
                return None
        return found

    def below(self, name: str) -> Folder | None:
        """Return a folder in this one, None if there is nothing of that name.

        Raises:
            IrregularFileError: it is no folder, or the disk fails.
            SourceError: this user may not go there.
        """
        return self._below(name, _FOLDER)

    def below_to_list(self, name: str) -> Folder | None:
        """Return a folder in this one as `below`, ready to be listed: that spares system calls.

        Raises:
            IrregularFileError: it is no folder, or the disk fails.
            SourceError: this user may not go there, or not list it.
        """
        return self._below(name, _LISTED)

    def _below(self, name: str, how: int) -> Folder | None:
        try:
            handle = os.open(name, how | os.O_NOFOLLOW, dir_fd=self._handle)
            return Folder(handle, self, name, listed=how == _LISTED)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise not_allowed(self.path / name, error) from error
        except OSError as error:
            if error.errno in _LINK or self.is_link(name):
                raise _link() from error
            if error.errno == errno.ENOTDIR:
                raise IrregularFileError("not-a-file", "it is no folder") from error
            raise _unreadable(error) from error

    def is_link(self, name: str) -> bool:
        """Tell whether there is a link of that name."""
        try:
            status = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return False
        return S_ISLNK(status.st_mode)

    def has(self, name: str) -> bool:
        """Tell whether there is anything of that name.

        Raises:
            SourceError: it cannot be told.
        """
        try:
            os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise not_allowed(self.path / name, error) from error
        return True

    def stamp(self, name: str) -> Stamp | None:
        """Return what tells an entry from one that takes its place; None if it cannot be told."""
        try:
            status = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return None
        return (
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def names(self) -> list[str]:
        """Return the names of all that lies here, sorted.

        Raises:
            SourceError: this user may not list it, or the disk fails.
        """
        return sorted(self.entries())

    def entries(self) -> dict[str, bool]:
        """Return the names of all that lies here, in no order, and whether each is a regular file.

        Raises:
            SourceError: this user may not list it, or the disk fails.
        """
        try:
            if self._listed:
                return _entries(self._handle)
            handle = os.open(".", _LISTED, dir_fd=self._handle)
            try:
                return _entries(handle)
            finally:
                _close(handle)
        except OSError as error:
            raise not_allowed(self.path, error) from error

    def read(self, name: str, size_max: int, *, regular: bool = False) -> bytes | None:
        """Return the bytes of a regular file, None if there is no file of that name.

        Args:
            name: the file.
            size_max: the bytes that it may have.
            regular: whether it is a regular file, as `entries` has just told; what it is is looked
                at again once it is open.

        Raises:
            IrregularFileError: it is no regular file, too large, or the disk fails.
            SourceError: this user may not read it.
        """
        try:
            if not regular:
                # Opening a device may already do something, so what it is comes first.
                status = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
                if not S_ISREG(status.st_mode) or status.st_size > size_max:
                    raise _refusal(status.st_mode, size_max)
            handle = os.open(name, _FILE, dir_fd=self._handle)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise not_allowed(self.path / name, error) from error
        except OSError as error:
            if error.errno in _LINK:
                raise _link() from error
            if error.errno == errno.ENXIO:
                raise _not_a_file(unsure=True) from error
            raise _unreadable(error) from error
        try:
            status = os.fstat(handle)
            size = status.st_size
            if not S_ISREG(status.st_mode) or size > size_max:
                raise _refusal(status.st_mode, size_max)
            content = os.read(handle, size + 1)
            if len(content) == size:
                return content  # one byte more was asked for, and there was none: that is all
            content += _read_on(handle, size_max + 1 - len(content))
        except OSError as error:
            raise _unreadable(error) from error
        finally:
            _close(handle)
        if len(content) > size_max:
            raise _too_large(size_max)
        return content

    def close(self) -> None:
        """Give the handle back; closing twice is no error."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            _close(handle)

    def __enter__(self) -> Self:
        """Return the folder."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def not_allowed(path: Path, error: OSError) -> SourceError:
    """Return the error that says that a part of a source cannot be read."""
    reason = error.strerror or str(error)
    return SourceError(str(path), f"cannot be read: {reason}")


def _entries(handle: int) -> dict[str, bool]:
    """Return what a folder holds; file systems tell a file's kind together with its name."""
    with os.scandir(handle) as found:
        return {entry.name: entry.is_file(follow_symlinks=False) for entry in found}


def _close(handle: int) -> None:
    """Give a handle back; nothing was written that this could lose."""
    try:  # `suppress` would take half as long as reading the file did
        os.close(handle)
    except OSError:
        return


def _refusal(mode: int, size_max: int) -> IrregularFileError:
    """Return why something is not read: it is no regular file, or larger than it may be."""
    if S_ISREG(mode):
        return _too_large(size_max)
    return _link() if S_ISLNK(mode) else _not_a_file(unsure=not S_ISDIR(mode))


def _link() -> IrregularFileError:
    return IrregularFileError("not-a-file", "it is a link, which is not followed", unsure=True)


def _not_a_file(*, unsure: bool) -> IrregularFileError:
    return IrregularFileError("not-a-file", "it is no regular file", unsure=unsure)


def _too_large(size_max: int) -> IrregularFileError:
    return IrregularFileError("too-large", f"it has more than {size_max} bytes")


def _unreadable(error: OSError) -> IrregularFileError:
    return IrregularFileError("unreadable", error.strerror or str(error), unsure=True)


def _read_on(handle: int, size: int) -> bytes:
    """Read until the end or until `size` bytes: one call may return fewer, and a file may grow."""
    parts: list[bytes] = []
    while size and (part := os.read(handle, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
