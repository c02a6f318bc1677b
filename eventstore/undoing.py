"""Decide what takes back the records between two positions: the compensating events.

What the records changed is what differs between the view before them and the view after them.
Each fact that differs gets the value that it had before, if it still has the one that they left;
if it has another one now, somebody has changed it since, and that is not undone behind their back:
it is an obstacle, as is what no event can bring back. Either there is no obstacle, or nothing is
done. What is known of an image's manifests is no fact of a view, and true of the same bytes for
ever: it stays as long as the image does, and comes back with it.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from eventstore import digest
from eventstore.columns import State
from eventstore.errors import UndoError
from eventstore.events import (
    Compacted,
    Created,
    Deleted,
    Described,
    Event,
    LastUpdatedSet,
    Manifest,
    MarkedBuilt,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.view import ImageView


class Undone(Struct, frozen=True):
    """What was undone, and by what.

    Attributes:
        undone: the positions of the records that were taken back.
        events: what takes them back, in order.
        records: what was appended; none in a dry run.
    """

    undone: tuple[int, ...]
    events: tuple[Event, ...]
    records: tuple[Record, ...]


class Meaning(Struct, frozen=True):
    """What a name meant before the records, after them, and means now; None is no image.

    Attributes:
        before: the image that had it before them.
        after: the image that had it after them.
        now: the image that has it now.
        said: whether one of the records is about the name; if not, its image was deleted.
        last: the position of the last record about the name.
    """

    before: bytes | None
    after: bytes | None
    now: bytes | None
    said: bool
    last: int


class Span(Struct, frozen=True):
    """The records to take back, and what the decision may look at.

    Attributes:
        records: the records, in order and without gaps.
        before: the view before them.
        after: the view after them.
        now: the view now.
        meanings: of each name that they changed.
        changed: gives the position of the first record after them that is about an image and of
            one of some kinds, else that of the last one about it.
        created: gives the `Created` at a position.
        described: gives the manifests that were known of an image before the records, oldest first.
        missing: says why the config of an image cannot be had, empty if it can.
    """

    records: tuple[Record, ...]
    before: ImageView
    after: ImageView
    now: ImageView
    meanings: dict[str, Meaning]
    changed: Callable[[bytes, tuple[type[Event], ...]], int]
    created: Callable[[int], Created]
    described: Callable[[bytes], list[Manifest]]
    missing: Callable[[bytes], str]

    @property
    def last(self) -> int:
        """Return the position of the last of the records."""
        return self.records[-1].position


def name_of(records: tuple[Record, ...]) -> str:
    """Return how records without gaps are named in a reason."""
    first, last = records[0].position, records[-1].position
    return f"@{first}" if first == last else f"@{first} to @{last}"


def decide(span: Span) -> list[Event]:
    """Return the events that take the records back: creations first, deletions last.

    Raises:
        UndoError: something cannot be taken back; it lists all that stands in the way.
    """
    return _Decision(span).events()


class _Decision:
    """The events that are wanted so far, by kind, and what stands in their way."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._obstacles: list[str] = []
        self._created: list[Created] = []
        self._facts: list[Event] = []
        self._named: list[Event] = []
        self._deleted: dict[bytes, None] = {}
        self._there: set[bytes] = set()  # of those that are created again
        self._parents: dict[bytes, bytes | None] = {}
        events = [record.event for record in span.records]
        self._parented = {one.digest for one in events if isinstance(one, ParentSet | Created)}
        self._gone = {one.digest for one in events if isinstance(one, Deleted)}

    def events(self) -> list[Event]:
        """Look at everything that the records changed, and return what takes it back."""
        span = self._span
        for record in span.records:
            if isinstance(record.event, Redacted):
                self._refuse(f"{_short(record.event.digest)} was redacted at @{record.position}")
            elif isinstance(record.event, Compacted):
                self._refuse(f"@{record.position} is a compaction, and what it dropped is gone")
        if all(isinstance(record.event, Described) for record in span.records):
            self._refuse("what is known of manifests stays as long as the image does")
        changed = [record.event.digest for record in reversed(span.records) if record.image_id]
        for image in dict.fromkeys(changed):
            self._take_back(image)
        self._adopt_orphans()
        self._keep_children()
        for name in sorted(span.meanings):
            self._rename(name, span.meanings[name])
        parents = self._in_order()
        if self._obstacles:
            raise UndoError(name_of(span.records), self._obstacles)
        deleted = [Deleted(image) for image in self._deleted]
        return [*self._created, *parents, *self._facts, *self._named, *deleted]

    def _refuse(self, obstacle: str) -> None:
        self._obstacles.append(obstacle)

    def _take_back(self, image: bytes) -> None:
        span = self._span
        before, after, now = (view.state(image) for view in (span.before, span.after, span.now))
        if before is None and after is not None:
            self._delete(image, after, now)
        elif before is not None and after is None:
            self._create(image, before, now)
        elif before is not None and after is not None:
            if now is None or now.created != after.created:
                at = span.changed(image, (Deleted,))
                self._refuse(f"{_short(image)} was deleted since, at @{at}")
            else:
                self._change(image, before, after, now)

    def _delete(self, image: bytes, after: State, now: State | None) -> None:
        """Delete an image that the records created, if nothing was done with it since."""
        span = self._span
        if now is None or now.created != after.created:
            at = span.changed(image, (Deleted,))
            self._refuse(f"{_short(image)} was deleted since, at @{at}")
        elif now.last != after.last:
            at = span.changed(image, ())
            self._refuse(f"{_short(image)} has changed since, at @{at}")
        else:
            self._deleted[image] = None

    def _create(self, image: bytes, before: State, now: State | None) -> None:
        """Create an image again that the records deleted, as it was before them."""
        span = self._span
        missing = span.missing(image)
        if now is not None:
            self._refuse(f"{_short(image)} was created again since, at @{now.created}")
        elif missing:
            self._refuse(f"{_short(image)} cannot come back: {missing}")
        elif (at := span.changed(image, (Created,))) > span.last:
            self._refuse(f"{_short(image)} was created again since, at @{at}")
        else:
            self._created.append(span.created(before.created))
            self._there.add(image)
            parent = span.before.parent_of(image)
            if parent is not None:
                self._parents[image] = parent
            if before.last_updated is not None:
                self._facts.append(LastUpdatedSet(image, before.last_updated))
            if before.built:
                self._facts.append(MarkedBuilt(image))
            self._facts.extend(Described(image, found) for found in span.described(image))

    def _change(self, image: bytes, before: State, after: State, now: State) -> None:
        """Give the facts of an image that was there all along the values from before."""
        span = self._span
        views = (span.before, span.after, span.now)
        was, became, parent = (view.parent_of(image) for view in views)
        if was != became and image in self._parented:
            if parent != became:
                at = span.changed(image, (ParentSet,))
                if at <= span.last and became is not None:
                    at = span.changed(became, (Deleted,))
                self._refuse(f"the parent of {_short(image)} was changed since, at @{at}")
            else:
                self._parents[image] = was
        if before.last_updated != after.last_updated:
            if now.last_updated != after.last_updated:
                at = span.changed(image, (LastUpdatedSet,))
                self._refuse(f"the last update of {_short(image)} was changed since, at @{at}")
            elif before.last_updated is None:
                self._refuse(f"the last update of {_short(image)} cannot be unset")
            else:
                self._facts.append(LastUpdatedSet(image, before.last_updated))
        if after.built and not before.built:
            self._refuse(f"the mark that {_short(image)} was built here cannot be unset")
        elif before.built and not now.built:
            self._facts.append(MarkedBuilt(image))

    def _adopt_orphans(self) -> None:
        """Give children back to images that were deleted, if they are there and have no parent."""
        span = self._span
        children = span.before.children_of(self._gone) if self._gone else ()
        for child, state in sorted(children, key=lambda pair: pair[0]):
            now = span.now.state(child)
            if now is None or now.created != state.created or child in self._parents:
                continue
            if span.after.parent_of(child) is None and span.now.parent_of(child) is None:
                self._parents[child] = span.before.parent_of(child)

    def _keep_children(self) -> None:
        """Refuse to delete an image that has got a child since."""
        if not self._deleted:
            return
        children = self._span.now.children_of(self._deleted.keys())
        for child, state in sorted(children, key=lambda pair: pair[0]):
            if child not in self._parents and child not in self._deleted:
                self._refuse(
                    f"{_short(state.parent or b'')} is the parent of {_short(child)} since"
                    f" @{state.parent_at}"
                )

    def _rename(self, name: str, meaning: Meaning) -> None:
        """Let a name mean what it meant before."""
        if meaning.before == meaning.after:
            return
        if meaning.now != meaning.after:
            if meaning.said:
                at = meaning.last
                if at <= self._span.last and meaning.after is not None:
                    at = self._span.changed(meaning.after, (Deleted,))
                self._refuse(f"the name {name} was changed since, at @{at}")
            return
        if meaning.before is not None:
            if self._will_be_there(meaning.before):
                self._named.append(Tagged(meaning.before, name, meaning.last))
            elif meaning.before not in self._gone:  # else an obstacle says already why
                self._refuse(f"{_short(meaning.before)}, which had the name {name}, is gone")
        elif meaning.now is not None and meaning.now not in self._deleted:
            self._named.append(Untagged(meaning.now, name, meaning.last))

    def _will_be_there(self, image: bytes) -> bool:
        return image in self._there or self._span.now.state(image) is not None

    def _in_order(self) -> list[Event]:
        """Return the changes of parents, ancestors first, so that no ring is ever closed."""
        ordered: list[Event] = []
        done: set[bytes] = set()
        for image, parent in self._parents.items():
            if parent is not None and not (self._will_be_there(parent) or parent in self._gone):
                above = f"{_short(parent)}, the parent of {_short(image)}"
                self._refuse(f"{above}, is gone: bring it back first")
            path: dict[bytes, None] = {}
            ancestor: bytes | None = image
            while ancestor is not None and ancestor not in done and ancestor not in path:
                path[ancestor] = None
                ancestor = self._parent_then(ancestor)
            if ancestor in path:
                self._refuse(f"{_short(image)} would be its own ancestor")
            done.update(path)
            ordered.extend(
                ParentSet(one, self._parents[one]) for one in reversed(path) if one in self._parents
            )
        return ordered

    def _parent_then(self, image: bytes) -> bytes | None:
        """Return the parent that an image will have."""
        if image in self._parents:
            return self._parents[image]
        return self._span.now.parent_of(image)


def _short(image: bytes) -> str:
    return digest.short(digest.to_text(image))
