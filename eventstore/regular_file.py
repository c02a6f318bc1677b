"""Read small regular files of folders that another program, or an attacker, has filled.

A link in the last place is not followed, a pipe is not waited for, a device is not read, and no
more bytes are read than the caller allows. A file that this user may not read is an error of its
own: taking it for absent would make an image that is there look deleted.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from eventstore.errors import SourceError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_REGULAR = (errno.ELOOP, errno.EMLINK, errno.ENXIO)


class IrregularFileError(Exception):
    """An entry that is there and cannot be taken; never leaves the package.

    Attributes:
        kind: `not-a-file`, `too-large` or `unreadable`.
        detail: what is wrong, for people.
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(detail)


def read(path: Path, size_max: int) -> bytes | None:
    """Return the bytes of a regular file, None if there is no file of that name.

    Args:
        path: the file.
        size_max: the bytes that it may have.

    Raises:
        IrregularFileError: it is no regular file, too large, or the disk fails.
        SourceError: this user may not read it.
    """
    try:
        handle = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise not_allowed(path, error) from error
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise IrregularFileError("not-a-file", "it is a link or a socket") from error
        raise IrregularFileError("unreadable", error.strerror or str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IrregularFileError("not-a-file", "it is no regular file")
        content = _read_all(handle, size_max + 1)
    except OSError as error:
        raise IrregularFileError("unreadable", error.strerror or str(error)) from error
    finally:
        with suppress(OSError):  # nothing was written that a close could lose
            os.close(handle)
    if len(content) > size_max:
        raise IrregularFileError("too-large", f"it has more than {size_max} bytes")
    return content


def names(folder: Path) -> list[str] | None:
    """Return the names in a folder, sorted; None if there is no such folder.

    Raises:
        SourceError: this user may not read it, or the disk fails.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise not_allowed(folder, error) from error


def not_allowed(path: Path, error: OSError) -> SourceError:
    """Return the error that says that a part of a source cannot be read."""
    reason = error.strerror or str(error)
    return SourceError(str(path), f"cannot be read: {reason}")


def _read_all(handle: int, size: int) -> bytes:
    """Read until the end or until `size` bytes: one call may return fewer."""
    parts: list[bytes] = []
    while size and (part := os.read(handle, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
