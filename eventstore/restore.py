"""Make a store of a backup: whole, checked, under a new id, and never over something else.

A restored copy that is appended to is another history than the one it comes from, even if that one
is lost. So it gets an id of its own and says from which store it forks, and at which position: up
to there the records of both are the same, byte for byte.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from eventstore import clock, meta, store_files
from eventstore.backup import copy_newest, refuse_taken, whole_or_absent
from eventstore.errors import CorruptionError
from eventstore.lmdb_env import Environment
from eventstore.progress import Progress
from eventstore.verify import verify


def restore(
    backup: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    now: clock.Clock = clock.system_clock,
    progress: Progress | None = None,
) -> meta.Fork:
    """Make a new store from a backup, or from any other store.

    The backup is verified before it is copied, and the copy before it gets its name. When this
    returns, the new store is on disk; when it raises, there is nothing of that name. The backup's
    data is never written to.

    Args:
        backup: the directory of the backup.
        destination: a directory that does not exist yet.
        now: gives the time that the new store is made at.
        progress: is told of how many records are verified; twice, as the backup and the copy are.

    Returns:
        What the new store forks from: the id of the backup's store and the position.

    Raises:
        DestinationExistsError: the destination exists, as whatever.
        StoreNotFoundError: there is no backup.
        StoreInUseError: the backup is open in this process.
        CorruptionError: the backup is damaged; the message names the damage.
        StoreFullError: there is no room for the copy.
        StoreIOError: the operating system refuses.
    """
    source = store_files.located(backup)
    refuse_taken(store_files.located(destination))
    with closing(Environment(source, read_only=True)) as environment:
        identity = meta.read(environment)
        _refuse_damaged(environment, source, progress)
        with whole_or_absent(destination, source) as partial:
            position = copy_newest(environment, partial)
            fork = meta.Fork(identity.store_id, position)
            with closing(Environment(partial)) as copy:
                copy.write(meta.founding(now, fork, identity.forks))
                _refuse_damaged(copy, source, progress)
            partial.joinpath(store_files.LOCK).unlink()
    return fork


def _refuse_damaged(environment: Environment, source: Path, progress: Progress | None) -> None:
    """Refuse what does not verify.

    What was lost before a store was salvaged is noted there, and stays noted in a copy of it.

    Raises:
        CorruptionError: with the first problem that there is.
    """
    for problem in verify(environment, progress):
        if problem.kind == "lost":
            continue
        raise CorruptionError(
            f"{source} is damaged, so nothing is made of it: {problem.message}",
            position=problem.position,
            digest=problem.image_id,
        )
