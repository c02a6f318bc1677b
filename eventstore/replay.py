"""Rebuild the view at a position: the best snapshot at or before it, and the records after that.

Used by open and by as-of alike. Reads one snapshot and, by the policy in `snapshots`, at most
``2 * snapshots.interval(images)`` records.
"""

from __future__ import annotations

from eventstore import log, snapshots
from eventstore.lmdb_env import Environment
from eventstore.view import ImageView, ReadConfig, fold


def view_at(
    environment: Environment, position: int, read_config: ReadConfig | None = None
) -> ImageView:
    """Return the view at a position that the log has reached.

    Raises:
        CorruptionError: a record on the way is damaged.
    """
    found = snapshots.newest(environment, position)
    if found is None:
        view = ImageView(read_config=read_config)
    else:
        header, states = found
        view = ImageView(
            states, position=header.position, time_ns=header.time_ns, read_config=read_config
        )
    return fold(view, log.read(environment, view.position, position))


def from_nothing(environment: Environment, position: int) -> ImageView:
    """Return the view at a position, every record folded, no snapshot looked at.

    Raises:
        CorruptionError: a record is damaged.
    """
    return fold(ImageView(), log.read(environment, 0, position))


def fill_snapshots(environment: Environment, after: int, before: int) -> None:
    """Store the snapshots that a long batch jumped over, so that as-of keeps its bound.

    Args:
        environment: where they belong.
        after: position of the last snapshot, 0 for none.
        before: position of the one that comes next.
    """
    view = view_at(environment, after)
    while True:
        target = view.position + snapshots.interval(len(view))
        if target >= before:
            return
        fold(view, log.read(environment, view.position, target))
        snapshots.put(environment, view)
