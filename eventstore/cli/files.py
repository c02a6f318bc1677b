"""Write what a command makes into files that are there whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from eventstore.errors import DestinationExistsError, refused

_KEPT_LENGTH = 50  # of a name that may be as long as names can be


def write_new(name: str, content: bytes, mode: int) -> None:
    """Write a new file, whole or not at all.

    Raises:
        DestinationExistsError: there is something of that name.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, mode)
    except FileExistsError as error:
        raise DestinationExistsError(name) from error
    except (OSError, ValueError) as error:
        raise refused(name, error if isinstance(error, OSError) else OSError(str(error))) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise refused(name, error) from error
        raise


def write_over(name: str, content: bytes, mode: int) -> None:
    """Write a file, whole or not at all; it takes the place of one that is there.

    Of a link, what it leads to is replaced. Nothing but a file is: a device or a pipe would be gone
    for all who use it.

    Raises:
        DestinationExistsError: there is something of that name that is no file.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    target = os.path.realpath(name)
    if os.path.lexists(name) and not os.path.isfile(target):
        raise DestinationExistsError(name)
    folder, base = os.path.split(target)
    unfinished = os.path.join(folder, f"{base[:_KEPT_LENGTH]}.unfinished-{os.getpid()}")
    write_new(unfinished, content, mode)
    try:
        os.replace(unfinished, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(unfinished)
        if isinstance(error, OSError):
            raise refused(name, error) from error
        raise
