"""Copy a store into a new directory, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from eventstore import store_files
from eventstore.errors import EventStoreError, StoreUsageError, refused
from eventstore.lmdb_env import Environment


def copy_environment(environment: Environment, destination: str | os.PathLike[str]) -> Path:
    """Write a consistent, compact copy of an environment; writers may go on meanwhile.

    The copy is made beside `destination` and renamed when it is whole and on disk.

    Args:
        environment: what to copy.
        destination: a directory that does not exist yet.

    Raises:
        StoreUsageError: the destination exists.
        StoreFullError: there is no room for the copy.
        StoreIOError: the operating system refuses.
    """
    target = Path(destination).absolute()
    try:
        if os.path.lexists(target):
            raise StoreUsageError(f"{target} exists already: a backup overwrites nothing")
        store_files.make_directories(target.parent)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            environment.copy(partial)
            (partial / "data.mdb").chmod(0o600)
            for path in (partial / "data.mdb", partial):
                store_files.sync(path)
            partial.rename(target)
            try:
                store_files.sync_names(target.parent)
            except BaseException:
                target.rename(partial)  # what was refused is not there
                raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except EventStoreError:
        raise
    except ValueError as error:
        raise StoreUsageError(f"{str(target)!r} is no path: {error}") from error
    except OSError as error:
        raise refused(str(target), error) from error
    return target
