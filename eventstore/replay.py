"""Rebuild the view at a position: the best snapshot at or before it, and the records after that.

Used by open and by as-of alike. Takes the header of one snapshot, of its chunks those that are
needed, when they are needed, and, by the policy in `snapshots`, at most
``2 * snapshots.interval(images)`` records. A chunk that turns out to be damaged or gone, even long
after, is made good from further back: what a view says does not depend on the caches.

Where the log was compacted, nothing leans on what lies before the horizon: no snapshot from there
is used, and what was folded meanwhile is thrown away. Folded from the first record on, what is left
leads to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from eventstore import codec, dropped, log, snapshots
from eventstore.columns import Columns, State
from eventstore.errors import CompactedError, CorruptionError
from eventstore.events import Created
from eventstore.lmdb_env import Environment
from eventstore.snapshot_headers import Header
from eventstore.snapshots import Layout
from eventstore.states import States
from eventstore.table import Table
from eventstore.view import ImageView, ReadConfig


def view_at(
    environment: Environment, position: int, read_config: ReadConfig | None = None
) -> ImageView:
    """Return the view at a position that the log has reached.

    Raises:
        CompactedError: what it was made of was dropped.
        CorruptionError: a record on the way is damaged.
    """
    while True:
        compacted = _horizon(environment)
        if position < compacted.through:
            raise CompactedError(position, compacted.through)
        try:
            view = _snapshot_view(environment, compacted.through, position, read_config)
            return fold_log(view, environment, position)
        except CompactedError:
            if _horizon(environment) == compacted:
                raise
            # Else it has gone on meanwhile, over what the view was made of.


def _horizon(environment: Environment) -> dropped.Horizon:
    with environment.read() as txn:
        return dropped.horizon(txn)


def _snapshot_view(
    environment: Environment, since: int, through: int, read_config: ReadConfig | None = None
) -> ImageView:
    """Return the view of the newest snapshot of a range of positions, else the empty one."""
    for header in snapshots.newest(environment, through):
        if header.position < since:
            break
        try:
            states = _states(environment, header)
        except CorruptionError as error:
            snapshots.warn(environment, error)
            continue
        return ImageView(
            states, position=header.position, time_ns=header.time_ns, read_config=read_config
        )
    return ImageView(read_config=read_config)


def _states(environment: Environment, header: Header) -> States:
    if header.firsts is None:  # of the first version, which was read as a whole
        with environment.read() as txn:
            return States(changes=snapshots.load(txn, header))
    return States(table_of(environment, header))


def table_of(environment: Environment, header: Header) -> Table:
    """Return the table of a snapshot whose header checks; no chunk is read yet of a whole one.

    Raises:
        CorruptionError: one that it is to be read by way of is damaged or gone.
    """
    with environment.read() as txn:
        layout = snapshots.Layout(txn, header)

    def read_chunk(number: int) -> Columns:
        with environment.read() as txn:
            return layout.columns(txn, number)

    return Table(
        header.images,
        layout.firsts,
        read_chunk,
        partial(_digest_at, environment),
        partial(_otherwise, environment, layout),
        None if header.over else (header.position, header.digest),
    )


def _digest_at(environment: Environment, position: int) -> bytes:
    with environment.read() as txn:
        event = log.read_one(txn, position).event
    if not isinstance(event, Created):
        raise CorruptionError(f"record {position} is no Created", position=position)
    return event.digest


def _otherwise(
    environment: Environment, layout: Layout, error: CorruptionError
) -> Iterator[tuple[bytes, State]]:
    """Return the rows of a snapshot that cannot be read as it was laid out.

    Where a writer has changed the layout meanwhile they are read anew, else from further back.
    """
    position = through = layout.header.position
    spoilt: set[int] = set()
    with environment.read() as txn:
        there = all(snapshots.is_there(txn, header) for header in (layout.header, layout.whole))
    if there:
        snapshots.warn(environment, error)
        spoilt.add(layout.whole.position)
        through -= 1
    while True:
        since = _horizon(environment)
        try:
            view = _loaded(environment, since.through, through, spoilt)
            return fold_log(view, environment, position).rows()
        except CompactedError:
            if _horizon(environment) == since or position < since.through:
                raise


def _loaded(environment: Environment, since: int, through: int, spoilt: set[int]) -> ImageView:
    """Return the view of the newest snapshot at or before a position that can be read whole.

    It is read at once: were it read when needed, each damaged one would lead to the next, and
    thousands may lie over a single one that is damaged.

    Args:
        environment: where they lie.
        since: the position before which none counts.
        through: the position.
        spoilt: the positions of those that are known to be damaged.
    """
    with environment.read() as txn:
        for header in snapshots.sound(txn).values():
            if {header.position, header.over} & spoilt:
                spoilt.add(header.position)
            elif since <= header.position <= through:
                try:
                    states = States(changes=snapshots.load(txn, header))
                except CorruptionError as error:
                    snapshots.warn(environment, error)
                    spoilt |= {header.position, error.position or header.position}
                else:
                    return ImageView(states, position=header.position, time_ns=header.time_ns)
    return ImageView()


def from_nothing(environment: Environment, position: int) -> ImageView:
    """Return the view at a position, every record folded, no snapshot looked at.

    Raises:
        CorruptionError: a record is damaged.
    """
    return fold_log(ImageView(), environment, position)


def fold_log(view: ImageView, environment: Environment, position: int) -> ImageView:
    """Move a view over the records up to a position, and return it.

    Raises:
        CompactedError: some of them were dropped, now or just before, that it would have needed.
        CorruptionError: one is missing or damaged, or says what cannot have happened.
    """
    start, before = view.position, _horizon(environment)
    if not start:
        view.expect_dropped(before.through)
    try:
        for page in log.pages(environment, start, position):
            view.apply_events(codec.decode_events(page))
    finally:
        compacted = _horizon(environment)
        through = compacted.through
        # What brought an image may have been read before it was dropped, and what ended it not.
        is_mixed = not start and (through, compacted.dropped) != (before.through, before.dropped)
        if position < through or 0 < start < through or is_mixed:
            raise CompactedError(position, through)
    if view.position < position:  # it is the horizon, and was dropped itself
        view.skip_to(position, compacted.time_ns)
    return view


def fill_snapshots(environment: Environment, after: int, before: int) -> None:
    """Store the snapshots that a long batch jumped over, so that as-of keeps its bound.

    Args:
        environment: where they belong.
        after: position of the last snapshot, 0 for none.
        before: position of the one that comes next.
    """
    view = view_at(environment, max(after, _horizon(environment).through))
    while True:
        target = view.position + snapshots.interval(len(view))
        if target >= before:
            return
        fold_log(view, environment, target)
        header = snapshots.put(environment, view)
        if header is not None:
            view.lay_over(table_of(environment, header), view.freeze())
