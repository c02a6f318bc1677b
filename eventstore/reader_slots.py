"""Watch over the readers of an environment: clear those that died, name those that sleep.

A read transaction pins the pages of the commit that it sees: while it lasts, no page that is freed
can be used again, and every write makes the file grow by the pages it changes, some 5 to 20 KiB.
LMDB neither notices that a reader has died in a read nor says that one sleeps there. So a writer
looks at them itself, at most once in `READER_CHECK_SECONDS`: what a dead reader pinned is free
again from that write on, also if nobody ever opens the store anew, and a live one that has been in
the same read for `READER_ASLEEP_SECONDS` is named in a warning, once. Nothing is done to it: it may
be a backup of a large store, and only an operator can tell.

That a reader lives is known by a lock of its process on `lock.mdb`, which the operating system
takes away when it ends, and also when it closes that file by any other handle: a program must not
open the lock file of a store that it has open (a copy of a store is made by `backup`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from eventstore.notices import Notices

READER_CHECK_SECONDS = 1.0
READER_ASLEEP_SECONDS = 60.0
_COLUMNS = 3  # of LMDB's table: process, thread, commit that is read

logger = Notices(__name__)


class ReaderWatch:
    """What one process knows of the readers of one environment."""

    def __init__(self, path: Path) -> None:
        """Begin with nothing seen of the store at `path`."""
        self._path = path
        self._checked = float("-inf")
        self._since: dict[tuple[str, ...], float] = {}

    def look(self, env: Any) -> None:
        """Clear the slots of the dead and warn of the sleeping, unless that was done just now.

        Args:
            env: LMDB's environment, which must stay open meanwhile.
        """
        now = time.monotonic()
        if now - self._checked < READER_CHECK_SECONDS:
            return
        self._checked = now
        reading = _rows(env)
        self._since = {row: self._since.get(row, now) for row in reading}
        for row, begun in self._since.items():
            if now - begun >= READER_ASLEEP_SECONDS:
                self._since[row] = float("inf")  # it is named once
                logger.warning(
                    "%s: process %s has been in one read since commit %s: until it goes on or is"
                    " ended, no page that is freed can be used again, and the file grows",
                    self._path,
                    row[0],
                    row[2],
                )


def readers_of(env: Any) -> list[tuple[int, int]]:
    """Return the process and the commit of each reader that lives.

    Args:
        env: LMDB's environment, which must stay open meanwhile.
    """
    return [(int(row[0]), int(row[2])) for row in _rows(env)]


def _rows(env: Any) -> list[tuple[str, ...]]:
    """Return the lines of LMDB's table of those who read now; the slots of the dead are cleared."""
    env.reader_check()
    rows: list[tuple[str, ...]] = [tuple(line.split()) for line in env.readers().splitlines()]
    return [row for row in rows if len(row) == _COLUMNS and row[2].isdigit()]
