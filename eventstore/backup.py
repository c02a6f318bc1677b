"""Copy a store into a new directory, whole or not at all.

A backup is the store at one position, between two batches: the same id, the same records, byte for
byte, while writers go on. It is the same history for as long as nobody appends to it, so open it
with `read_only=True`, and let `restore` make the copy that work goes on with: that one gets an id
of its own.

A copy is made beside its destination in a folder `.eventstore-unfinished-…`, brought to disk, and
given its name. A process that is killed leaves either nothing of that name or the whole copy; what
it leaves of the other name is of no use, and may be removed when no backup or restore is running.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from eventstore import log, store_files
from eventstore.errors import (
    DestinationExistsError,
    EventStoreError,
    StoreFullError,
    StoreUsageError,
    refused,
)
from eventstore.lmdb_env import Environment

UNFINISHED_PREFIX = ".eventstore-unfinished-"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def copy_environment(environment: Environment, destination: str | os.PathLike[str]) -> int:
    """Write a consistent, compact copy of an environment; writers may go on meanwhile.

    Args:
        environment: what to copy.
        destination: a directory that does not exist yet.

    Returns:
        The position of the copy.

    Raises:
        DestinationExistsError: the destination exists, as whatever.
        StoreUsageError: it is no path, or lies in the store itself.
        StoreFullError: there is no room for the copy.
        StoreIOError: the operating system refuses.
    """
    with whole_or_absent(destination, environment.path) as partial:
        return copy_newest(environment, partial)


def copy_newest(environment: Environment, folder: Path) -> int:
    """Write the newest commit of an environment into an empty folder; return its position."""
    with environment.read() as txn:
        position = log.last_position(txn)
        environment.copy(folder, txn)
    folder.joinpath(store_files.DATA).chmod(0o600)
    return position


def refuse_taken(target: Path) -> None:
    """Refuse a destination that is there in any form, a dangling link included.

    Raises:
        DestinationExistsError: it is there.
    """
    if os.path.lexists(target):
        raise DestinationExistsError(str(target))


@contextmanager
def whole_or_absent(destination: str | os.PathLike[str], source: Path) -> Generator[Path]:
    """Give an empty folder to fill, and give it its name when the block has ended well.

    When this ends without an error, the copy and its name are on disk. When it raises, nothing is
    left but folders above the destination that were missing.

    Args:
        destination: the name, which must be free.
        source: the store that is copied, in which no copy of it may lie.

    Raises:
        DestinationExistsError: the destination exists.
        StoreUsageError: it is no path, or lies in the source.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    target = store_files.located(destination)
    try:
        import shutil  # before there is anything to clear away; opening a store needs neither
        import tempfile

        refuse_taken(target)
        _refuse_inside(target, source)
        store_files.make_directories(target.parent)
        # An interrupt may come at any point: what is made has a name before it is there.
        free_name = tempfile.mktemp  # pyright: ignore[reportDeprecated] (a race only fails here)
        partial = Path(free_name(prefix=UNFINISHED_PREFIX, dir=target.parent))
        is_ours = True
        try:
            try:
                partial.mkdir(mode=0o700)
            except OSError:
                is_ours = False
                raise
            yield partial
            for path in (*sorted(partial.iterdir()), partial):
                store_files.sync(path)
            _give_name(partial, target)
            try:
                store_files.sync_names(target.parent)
            except BaseException:
                target.rename(partial)  # what was refused is not there
                raise
        except BaseException:
            if is_ours:
                shutil.rmtree(partial, ignore_errors=True)
            raise
    except StoreFullError as error:
        if error.map_size is not None:
            raise
        # What was refused names the store that is copied, or a name that is gone already.
        raise StoreFullError(f"{target}: there is no room for it", path=str(target)) from error
    except EventStoreError:
        raise
    except ValueError as error:
        raise StoreUsageError(f"{str(target)!r} is no path: {error}") from error
    except OSError as error:
        raise refused(str(target), error) from error


def _give_name(partial: Path, target: Path) -> None:
    """Rename; an empty folder that came into being meanwhile is the most that could be lost."""
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            raise DestinationExistsError(str(target)) from error
        raise


def _refuse_inside(target: Path, source: Path) -> None:
    """Refuse a copy that would go when the store goes."""
    above = Path(os.path.realpath(target.parent))
    for folder in (above, *above.parents):
        if folder.exists() and folder.samefile(source):
            raise StoreUsageError(f"{target} lies in the store itself: choose another place")
