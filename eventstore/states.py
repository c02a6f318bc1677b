"""Hold the states of a view: a table that never changes, and what has changed since, over it.

Whoever copies a view copies the changes only, and whoever branches one copies nothing. How many
changes there may be is bounded by the policy of snapshots: each new one becomes the table under a
live view, and what it holds is no change any more. States are immutable and replaced.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from operator import itemgetter

from eventstore.columns import Columns, Row, State, row_of
from eventstore.digest_set import CANDIDATES_MAX, DigestSet, first_of
from eventstore.table import EMPTY, Table

GONE = State(0, 0, None, 0, None, False)
"""What stands among the changes for an image that is in the table and is not there any more."""


class States:
    """The images that are there, by digest; changes lie over a table."""

    def __init__(
        self, table: Table = EMPTY, changes: dict[bytes, State] | None = None, length: int = -1
    ) -> None:
        """Take a table, and changes over it.

        Args:
            table: what was there at some position.
            changes: images that are there otherwise, or `GONE`.
            length: how many images there are; counted if not given.
        """
        self.table = table
        self._ask_table: Callable[[bytes], State | None]
        self._ask_created: Callable[[bytes], int]
        self._lay(table)
        self.changes: dict[bytes, State] = {} if changes is None else changes
        self._is_flat = True
        self._added: DigestSet | None = None
        if length < 0:
            length = table.images + sum(
                (state is not GONE) - (table.get(image) is not None)
                for image, state in self.changes.items()
            )
        self._length = length

    def _lay(self, table: Table) -> None:
        """Have what is no change answered by a table."""
        self.table = table
        self._ask_table = table.get if table.firsts else _NO_STATES.get
        self._ask_created = table.created

    def __len__(self) -> int:
        """Return the number of images."""
        return self._length

    def get(self, image: bytes) -> State | None:
        """Return what is known of an image, None if it is not there."""
        state = self.changes.get(image)
        if state is None:
            return self._ask_table(image)
        return None if state is GONE else state

    def parent_of(self, image: bytes) -> bytes | None:
        """Return the parent of an image if it has one that is still there."""
        changes = self.changes  # from one look: the table may be another one a moment later
        state = changes.get(image)
        if state is not None:
            return self._parent_in(state)
        state = self._ask_table(image)
        if state is None or state.parent is None or state.parent not in changes:
            return None if state is None else state.parent  # a table names none that is gone
        return self._parent_in(state)

    def _parent_in(self, state: State) -> bytes | None:
        """Return the parent that an image of some state has, if it is still there."""
        parent = state.parent
        if parent is None or not 0 < self.created(parent) <= state.parent_at:
            return None
        return parent

    def created(self, image: bytes) -> int:
        """Return the position of the record that created an image, 0 if it is not there."""
        state = self.changes.get(image)
        return self._ask_created(image) if state is None else state.created

    def add(self, image: bytes, state: State) -> None:
        """Take in an image that is not there."""
        self.changes[image] = state
        self._length += 1
        if self._added is not None and self._under(image) is None:
            self._added.add(image)

    def replace(self, image: bytes, state: State) -> None:
        """Take in what is known now of an image that is there."""
        self.changes[image] = state

    def remove(self, image: bytes) -> None:
        """Take out an image that is there."""
        self.changes[image] = GONE
        self._length -= 1
        if self._added is not None:
            self._added.remove(image)

    def put(self, image: bytes, state: State | None) -> None:
        """Take in what is known of an image, None if it is not there, whatever was known before."""
        known = self.get(image)
        if state is None:
            if known is not None:
                self.remove(image)
        elif known is None:
            self.add(image, state)
        else:
            self.replace(image, state)

    def _under(self, image: bytes) -> State | None:
        """Return what is known of an image without the changes that are these states' own."""
        return self._ask_table(image)

    def _flat(self) -> States:
        """Return these states as changes over the table."""
        return self

    def copy(self) -> States:
        """Return states that are the same now and stay so."""
        flat = self._flat()
        return States(flat.table, dict(flat.changes), flat._length)

    def branch(self) -> States:
        """Return states that start as these and go on apart, at no cost.

        They must not be used once these have changed.
        """
        return _Branch(self)

    def lay_over(self, table: Table, held: Mapping[bytes, State]) -> None:
        """Put another table under what has changed since it was taken.

        Args:
            table: what was there at some position in the past of these states.
            held: the changes that these states had at that position, over the table that they have.
        """
        changes = {
            image: state for image, state in self.changes.items() if held.get(image) is not state
        }
        # In this order: a thread that decides, on a branch, finds an image in one of the two.
        self._lay(table)
        self.changes = changes
        self._added = None

    def become(self, same: States) -> None:
        """Hold what other states hold, which are of the same position, in the way they do."""
        flat = same._flat()
        self._lay(flat.table)
        self.changes = flat.changes
        self._added = None

    # All of them.

    def digests(self) -> Iterator[list[bytes]]:
        """Iterate over lists of digests; all of them together are sorted."""
        flat = self._flat()
        changes = flat.changes
        for columns, changed in flat._parts():
            if not changed:
                yield columns.digests
                continue
            merged = [image for image in columns.digests if image not in changes]
            merged += [image for image in changed if changes[image] is not GONE]
            merged.sort()
            yield merged

    def _parts(self) -> Iterator[tuple[Columns, list[bytes]]]:
        """Iterate over the chunks of the table, each with the changed images of its range."""
        changed = sorted(self.changes)
        if not self.table.firsts:
            yield _NO_COLUMNS, changed
            return
        bounds = [bisect_left(changed, first) for first in self.table.firsts[1:]]
        start = 0
        for columns, end in zip(self.table.chunks(), [*bounds, len(changed)], strict=True):
            yield columns, changed[start:end]
            start = end

    def rows(self) -> Iterator[tuple[bytes, State]]:
        """Iterate over digests, sorted, and states, with parents that are gone left out."""
        flat = self._flat()
        changes = flat.changes
        changed = (item for item in sorted(changes.items()) if item[1] is not GONE)
        kept = (row for row in flat.table.rows() if row[0] not in changes)
        for image, state in merge(kept, changed, key=itemgetter(0)) if changes else kept:
            yield image, flat._with_parent(state)

    def _with_parent(self, state: State) -> State:
        """Return a state, without its parent where that is gone."""
        if not state.parent_at and state.parent is None:
            return state
        if self._parent_in(state) is not None:
            return state
        return State(state.created, state.last, None, 0, state.last_updated, state.built)

    def parents(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the images that have a parent which is there, and their parents."""
        flat = self._flat()
        ended = flat._ended()
        for image, parent in flat.table.parents():
            if image not in flat.changes and parent not in ended:
                yield image, parent
        for image, state in flat.changes.items():
            if state.parent is not None and flat.parent_of(image) is not None:
                yield image, state.parent

    def heads(self) -> list[bytes]:
        """Return the digests of the images without children, sorted.

        A parent is told by the record that created it, so no index of digests is built.
        """
        flat = self._flat()
        changes = flat.changes
        parents: set[int] = set()
        for columns, changed in flat._parts():
            if changed:
                pairs = zip(columns.digests, columns.parent, strict=True)
                parents.update(parent for image, parent in pairs if image not in changes)
            else:
                parents.update(columns.parent)
        for image in changes:
            parent = flat.parent_of(image)
            if parent is not None:
                parents.add(flat.created(parent))
        heads: list[bytes] = []
        for columns, changed in flat._parts():
            found = [
                image
                for image, created in zip(columns.digests, columns.created, strict=True)
                if created not in parents
            ]
            if changed:
                found = [image for image in found if image not in changes]
                found += [image for image in changed if changes[image].created not in parents]
                found = sorted(image for image in found if changes.get(image) is not GONE)
            heads += found
        return heads

    def _ended(self) -> dict[bytes, int]:
        """Return the images of the table whose life then has ended, and where that had begun."""
        ended: dict[bytes, int] = {}
        for image, state in self.changes.items():
            created = self.table.created(image)
            if created and created != state.created:
                ended[image] = created
        return ended

    def between(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Iterate over the digests from `low` through `high`, sorted."""
        changes = self.changes
        if not changes:
            return self._under_between(low, high)
        kept = (image for image in self._under_between(low, high) if changes.get(image) is not GONE)
        return merge(kept, self._added_images().between(low, high))

    def matches(self, low: bytes, high: bytes) -> list[bytes]:
        """Return the first `CANDIDATES_MAX` digests from `low` through `high`, sorted."""
        if not self.changes and self._is_flat:
            return self.table.matches(low, high, CANDIDATES_MAX)
        return first_of(self.between(low, high))

    def _under_between(self, low: bytes, high: bytes) -> Iterator[bytes]:
        return self.table.between(low, high)

    def _added_images(self) -> DigestSet:
        """Return the images that are there because of these states' own changes."""
        if self._added is None:
            self._added = DigestSet(
                image
                for image, state in self.changes.items()
                if state is not GONE and self._under(image) is None
            )
        return self._added

    def columns(self, length: int, replaced: list[tuple[bytes, Row]]) -> Iterator[Columns]:
        """Iterate over the present states in chunks of at most twice `length` images.

        Args:
            length: of a chunk.
            replaced: takes the rows of the table that are not so any more, sorted.
        """
        flat = self._flat()
        ended = set(flat._ended().values())
        for columns, changed in flat._parts():
            if not changed and ended.isdisjoint(columns.parent):
                if len(columns):
                    yield columns
                continue
            rows = sorted(flat._merged(columns, changed, ended, replaced).items())
            step = length if len(rows) > 2 * length else max(len(rows), 1)
            for start in range(0, len(rows), step):
                yield Columns.of(rows[start : start + step])

    def _merged(
        self,
        columns: Columns,
        changed: list[bytes],
        ended: set[int],
        replaced: list[tuple[bytes, Row]],
    ) -> dict[bytes, Row]:
        """Return the rows of a chunk as they are now."""
        rows = dict(columns.rows())
        before: dict[bytes, Row] = {}
        if not ended.isdisjoint(columns.parent):
            before.update((image, row) for image, row in rows.items() if row[2] in ended)
            rows.update((image, (*row[:2], 0, 0, *row[4:])) for image, row in before.items())
        for image in changed:
            if image in rows:
                before.setdefault(image, rows[image])
            state = self.changes[image]
            if state is GONE:
                rows.pop(image, None)
                continue
            parent = self.parent_of(image)
            rows[image] = row_of(state, 0 if parent is None else self.created(parent))
        replaced += sorted(before.items())
        return rows


class _Branch(States):
    """States that start as others; what has changed since is their own."""

    def __init__(self, start: States) -> None:
        super().__init__(start.table, {}, len(start))
        self._ask_table = start.get
        self._ask_created = start.created
        self._is_flat = False
        self._start = start

    def parent_of(self, image: bytes) -> bytes | None:
        """Return the parent of an image if it has one that is still there."""
        if image in self.changes:
            return super().parent_of(image)
        parent = self._start.parent_of(image)
        if parent is None or parent not in self.changes:
            return parent
        state = self._start.get(image)
        return None if state is None else self._parent_in(state)

    def _under_between(self, low: bytes, high: bytes) -> Iterator[bytes]:
        return self._start.between(low, high)

    def _flat(self) -> States:
        start = self._start._flat()
        return States(start.table, {**start.changes, **self.changes}, len(self))


_NO_COLUMNS = Columns.of([])
_NO_STATES: dict[bytes, State] = {}
