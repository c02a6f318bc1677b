"""Look at the past at the cost of what lies between: neighbours of a view, and differences.

A view at any position comes from `replay`. One that was made is kept, and a view near it, such as
the next place of a slider, is made of it: forward by folding the records between, backward by
taking them back. What an image was before a record is told by its stream, whose records name the
one before them; so neither way is bounded by snapshots, and no undo log is kept. Streams longer
than `STREAM_MAX` are not walked; then a view is made anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventstore import diff, dropped, log, replay, snapshots
from eventstore.columns import State
from eventstore.diff import ViewDiff
from eventstore.errors import CompactedError, CorruptionError
from eventstore.events import Created, Deleted, LastUpdatedSet, MarkedBuilt, ParentSet
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.view import ImageView, ReadConfig

STEPS_MAX = 2_048
STREAM_MAX = 64
Head = Callable[[bytes], int]
"""Returns the position of the last record of an image, 0 if it was never there."""


class _NotKnownError(Exception):
    """The records between do not tell, or too many would have to be read."""


class Past:
    """The views of the past of one open store."""

    def __init__(self, environment: Environment, read_config: ReadConfig) -> None:
        """Keep no view yet."""
        self._environment = environment
        self._read_config = read_config
        self._lock = threading.Lock()
        self._kept: ImageView | None = None

    def forget_locks(self) -> None:
        """Let a child of `fork` meet no lock of a thread that it does not have."""
        self._lock = threading.Lock()
        self._kept = None

    def forget(self) -> None:
        """Keep no view, as at the start."""
        with self._lock:
            self._kept = None

    def refuse_dropped(self, position: int) -> None:
        """Refuse what was found of a position before the horizon: it may lack what was dropped.

        A compaction notes the horizon before it drops anything; so this is asked at the end.
        """
        with self._environment.read() as txn:
            through = dropped.horizon(txn).through
        if position < through:
            raise CompactedError(position, through)

    def view_at(self, position: int, present: ImageView | None = None) -> ImageView:
        """Return the frozen view at a position that the log has reached.

        Args:
            position: which one.
            present: a frozen view of now, to start from if it is near.

        Raises:
            CompactedError: what it was made of was dropped.
            CorruptionError: a record on the way is damaged.
        """
        with self._lock:
            view, self._kept = self._kept, None
        near = [found for found in (view, present) if found is not None]
        near.sort(key=lambda found: abs(found.position - position))
        moved = self._moved(near[0], position) if near else None
        if moved is None:
            moved = replay.view_at(self._environment, position, self._read_config)
        self.refuse_dropped(position)
        if moved.changes > 2 * snapshots.interval(len(moved)):
            return moved  # one that goes on for ever would hold ever more
        frozen = moved.freeze()
        with self._lock:
            self._kept = moved
        return frozen

    def _moved(self, view: ImageView, position: int) -> ImageView | None:
        """Return a view moved to a position, None if that is far."""
        if abs(view.position - position) > STEPS_MAX:
            return None
        try:
            if position >= view.position:
                return replay.fold_log(view, self._environment, position)
            with self._environment.read() as txn:
                states = self._before(view, position, txn)
                time_ns = log.read_one(txn, position).time_ns if position else 0
        except (_NotKnownError, CompactedError, CorruptionError):
            return None  # damage behind the position is none of its business
        # The view may have to read as well: not within another read.
        view.take_back(states, position, time_ns)
        return view

    def _before(
        self, view: ImageView, position: int, txn: Transaction
    ) -> dict[bytes, State | None]:
        """Return what was known at a position of the images that have records after it."""
        before: dict[bytes, int] = {}
        deleted: set[bytes] = set()
        for record in log.scan(txn, position, view.position):
            if not record.image_id:
                continue
            before.setdefault(record.event.digest, record.previous)
            if isinstance(record.event, Deleted):
                deleted.add(record.event.digest)
        states = {image: _state_at(txn, head) for image, head in before.items()}
        if position < view.base_position and any(states[image] for image in deleted):
            raise _NotKnownError  # who its children were is not known any more
        return states

    def diff(self, before: int, after: int, head: Head) -> ViewDiff | None:
        """Return what differs between two positions, at the cost of the records between them.

        Where an image was deleted between them, who its children were is told by a view of the
        lower position, which costs what `view_at` does.

        Args:
            before: one of them.
            after: the other.
            head: tells where the stream of an image ends; asked with no transaction open.

        Returns:
            The difference; None where only two whole views can tell: the stream of an image is too
            long to walk, or leads to a damaged record, which those views may have no need of.

        Raises:
            CompactedError: what it would be made of was dropped.
        """
        low, high = min(before, after), max(before, after)
        try:
            changes = _Changes(self._environment, low, high)
            if changes.deleted:
                changes.add_orphans(self.view_at(low))
            heads = {image: head(image) for image in changes.others()}
            changes.look_up(heads)
        except (_NotKnownError, CorruptionError):
            return None
        finally:
            self.refuse_dropped(low)
        views = {low: ImageView(changes.was, position=low)}
        views.setdefault(high, ImageView(changes.became, position=high))
        return diff.between(views[before], views[after])


class _Changes:
    """What the records between two positions changed, and what they do not say themselves.

    However many there are, they are read a page a transaction: a long one keeps LMDB from reusing
    pages, and those who must be alone waiting.

    Attributes:
        was: the states at the lower position of the images that the records are about.
        became: the same at the higher one. Of parents there is as much as tells who has one.
        deleted: those of the lower position that were deleted on the way.
    """

    def __init__(self, environment: Environment, low: int, high: int) -> None:
        self._environment, self._low = environment, low
        last: dict[bytes, int] = {}
        first: dict[bytes, int] = {}
        deleted: set[bytes] = set()
        for record in log.read(environment, low, high):
            image = record.event.digest
            if not image:
                continue
            first.setdefault(image, record.previous)
            last[image] = record.position
            if isinstance(record.event, Deleted):
                deleted.add(image)
        self.was = self._states(first, _state_at)
        self.deleted = deleted & self.was.keys()
        self.became = self._states(last, _state_at)

    def _states(
        self, heads: dict[bytes, int], look: Callable[[Transaction, int], State | None]
    ) -> dict[bytes, State]:
        """Return what `look` finds of images by where a stream of theirs ends."""
        found: dict[bytes, State] = {}
        pending = list(heads.items())
        for start in range(0, len(pending), log.PAGE_LENGTH):
            with self._environment.read() as txn:
                for image, head in pending[start : start + log.PAGE_LENGTH]:
                    state = look(txn, head)
                    if state is not None:
                        found[image] = state
        return found

    def add_orphans(self, view: ImageView) -> None:
        """Add the images that lost their parent with no record of their own."""
        for image, state in view.children_of(self.deleted):
            if image not in self.was:
                self.was[image] = self.became[image] = state

    def others(self) -> set[bytes]:
        """Return the parents that no record between is about."""
        states = [*self.was.items(), *self.became.items()]
        parents = {state.parent for _, state in states if state.parent is not None}
        return parents - self.was.keys() - self.became.keys()

    def look_up(self, heads: dict[bytes, int]) -> None:
        """Add the parents that no record between is about: they are at both positions, or not."""
        found = self._states(heads, self._state_before)
        self.was.update(found)
        self.became.update(found)

    def _state_before(self, txn: Transaction, head: int) -> State | None:
        """Return what was known at the lower position of an image whose stream ends at `head`."""
        position = head
        for _ in range(STREAM_MAX):
            if position <= self._low:
                return _state_at(txn, position)
            position = log.read_one(txn, position).previous
        raise _NotKnownError


def _state_at(txn: Transaction, head: int) -> State | None:
    """Return what was known of an image when its stream ended at `head`.

    Raises:
        _NotKnownError: its stream is longer than `STREAM_MAX`.
    """
    position = head
    parent: ParentSet | None = None
    parent_at, last_updated, built = 0, None, False
    for _ in range(STREAM_MAX):
        if not position:
            return None
        record = log.find(txn, position)
        if record is None:
            return None  # what is dropped is of a life that has ended
        event = record.event
        if isinstance(event, Created):
            given = None if parent is None else parent.parent
            at = 0 if given is None else parent_at
            return State(position, head, given, at, last_updated, built)
        if isinstance(event, Deleted):
            return None
        if isinstance(event, ParentSet) and parent is None:
            parent, parent_at = event, position
        elif isinstance(event, LastUpdatedSet) and last_updated is None:
            last_updated = event.instant_ns
        elif isinstance(event, MarkedBuilt):
            built = True
        position = record.previous
    raise _NotKnownError
