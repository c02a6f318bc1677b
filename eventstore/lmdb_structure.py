"""Ask LMDB's own offline check about the structure of a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventstore import store_files
from eventstore.errors import refused


def structure_faults(path: Path) -> list[str]:
    """Return what LMDB's offline check, which maps nothing, finds wrong with a store at rest.

    Raises:
        StoreIOError: the operating system refuses.
    """
    try:
        import lmdb.verify  # only a check of a whole file needs it

        untyped: Any = lmdb.verify
        return [str(fault) for fault in untyped.verify(str(path / store_files.DATA))]
    except OSError as error:
        raise refused(str(path), error) from error
    except Exception as error:  # whatever a hostile file makes it stumble over
        return [f"the check of the file's structure ended early: {error}"]
