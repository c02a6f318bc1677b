"""Fold events into the state at a position.

The view answers what exists, who is whose parent and which prefix is unique, at one position of
the log. There is one `apply`: the live view, the replay at startup, as-of and `verify` all call it.
It has no opinions: no clock, no input or output, no judgement (that is `decide`); it refuses only
what no sound log can hold.

A frozen view shares what does not change with the live one. A deleted image orphans its children
without any work: a parent counts only if its `created` is older than the record that made it the
parent, which no image created again can satisfy. The index of children is built when first asked
for and kept up to date from then on.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import chain

import msgspec

from eventstore import clock, digest, digest_set
from eventstore.columns import Columns, Row, State
from eventstore.errors import CorruptionError, ImageNotFoundError
from eventstore.events import (
    Created,
    Described,
    Event,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.image import Image
from eventstore.states import States
from eventstore.table import Table

ReadConfig = Callable[[bytes], bytes]
"""Returns the checked bytes of the config under a 32-byte digest."""


class ImageView:
    """The images at a position; the live one moves, all others are frozen."""

    def __init__(
        self,
        states: States | Mapping[bytes, State] | None = None,
        *,
        position: int = 0,
        time_ns: int = 0,
        read_config: ReadConfig | None = None,
    ) -> None:
        """Take `states` as they are at `position`, whose record has `time_ns`."""
        self._states = states if isinstance(states, States) else States(changes=dict(states or {}))
        self._position = self._base_position = position
        self._time_ns = time_ns
        self._read_config = read_config
        self._hidden: set[bytes] = set()
        self._dropped_through = 0
        # Most parents have one child, for which a set would be much too large.
        self._children: dict[bytes, bytes | set[bytes]] | None = None

    # What the store, the fold and the rules read: digests of 32 bytes.

    def state(self, image: bytes) -> State | None:
        """Return what is known of an image, None if it is not there."""
        return self._states.get(image)

    def shows(self, image: bytes) -> bool:
        """Tell whether an image is there and not hidden for want of its layers."""
        return self._states.get(image) is not None and image not in self._hidden

    def parent_of(self, image: bytes) -> bytes | None:
        """Return the parent of an image if it has one that is still there."""
        return self._states.parent_of(image)

    def children_of(self, parents: AbstractSet[bytes]) -> Iterator[tuple[bytes, State]]:
        """Iterate over the images whose parent is one of some, and their states."""
        for image, parent in self._states.parents():
            state = self._states.get(image) if parent in parents else None
            if state is not None:
                yield image, state

    def digests(self) -> Iterator[bytes]:
        """Iterate over the digests of all images, hidden ones too, sorted."""
        return chain.from_iterable(self._states.digests())

    def hide(self, image: bytes) -> None:
        """Leave an image out of counts, search, children, map and heads."""
        self._hidden.add(image)

    def reveal(self, image: bytes) -> None:
        """Take back `hide`."""
        self._hidden.discard(image)

    def is_hidden(self, image: bytes) -> bool:
        """Tell whether an image is left out for want of its layers."""
        return image in self._hidden

    def freeze(self) -> ImageView:
        """Return a view of this position that never moves; nothing is hidden in it."""
        frozen = ImageView(
            self._states.copy(),
            position=self._position,
            time_ns=self._time_ns,
            read_config=self._read_config,
        )
        frozen._base_position = self._base_position
        frozen._dropped_through = self._dropped_through
        return frozen

    def branch(self, read_config: ReadConfig | None) -> ImageView:
        """Return a view that starts as this one and moves on without it, at no cost.

        It must not be used once this one has moved.
        """
        branch = ImageView(
            self._states.branch(),
            position=self._position,
            time_ns=self._time_ns,
            read_config=read_config,
        )
        branch._dropped_through = self._dropped_through
        if self._hidden:
            branch._hidden = set(self._hidden)
        return branch

    def lay_over(self, table: Table, frozen: ImageView) -> None:
        """Hold as changes only what has changed since `frozen`, whose images `table` holds.

        Where the view has come to lie over another table since, as that of another thread which was
        faster, it stays as it is: its changes are no longer counted from where those of `frozen`
        are, and of an image that was deleted twice they do not tell which of the two it was.
        """
        if frozen._states.table is not self._states.table:
            return
        self._states.lay_over(table, frozen._states.changes)
        self._base_position = frozen._position

    def become(self, same: ImageView) -> None:
        """Lie over what another view of the same position lies over, which is not used any more."""
        self._states.become(same._states)
        self._base_position = same._base_position

    @property
    def changes(self) -> int:
        """Return how many images are held as changes over the table below."""
        return len(self._states.changes)

    def load(self) -> None:
        """Read what has not been read yet, so that nothing need be read later."""
        self._states.table.load()

    def rows(self) -> Iterator[tuple[bytes, State]]:
        """Iterate over digests, sorted, and states, with parents that are gone left out.

        Two views are equal if and only if their rows are.
        """
        return self._states.rows()

    def columns(
        self, length: int, replaced: list[tuple[bytes, Row]] | None = None
    ) -> Iterator[Columns]:
        """Iterate over the rows in columns, at most twice `length` images at a time.

        Args:
            length: how many images at least, where there are more than that.
            replaced: takes the rows that were otherwise, or not, in the snapshot below, sorted.
        """
        return self._states.columns(length, [] if replaced is None else replaced)

    @property
    def base_position(self) -> int:
        """Return the position of what the view was made of; records were applied from there on.

        Of an image that lost its parent before it, no trace of that parent is left; of one that
        lost it later there is, so that the deletion of the parent can be taken back.
        """
        return self._base_position

    @property
    def origin(self) -> tuple[int, bytes] | None:
        """Return position and digest of the whole snapshot that the view lies over, if it does."""
        return self._states.table.origin

    @property
    def digest(self) -> str:
        """Return the SHA-256 of position, time and rows, in hex: equal views have equal digests."""
        start = msgspec.msgpack.encode((self._position, self._time_ns))
        return self._hashed(start).hex()

    @property
    def rows_digest(self) -> bytes:
        """Return the SHA-256 of the rows alone: what is there, whenever that was so."""
        return self._hashed(b"")

    def _hashed(self, start: bytes) -> bytes:
        encoder = msgspec.msgpack.Encoder()
        hasher = hashlib.sha256(start)
        for row in self.rows():
            hasher.update(encoder.encode(row))
        return hasher.digest()

    def apply(self, record: Record) -> None:
        """Move the view over the next record.

        Raises:
            CorruptionError: it is not the next, or says what cannot have happened.
        """
        self.apply_event(record.position, record.time_ns, record.event)

    def apply_event(self, position: int, time_ns: int, event: Event) -> None:
        """Move the view over the next record, given as its parts.

        Raises:
            CorruptionError: it is not the next, or says what cannot have happened.
        """
        self.apply_events(((position, time_ns, event),))

    def apply_events(self, events: Iterable[tuple[int, int, Event]]) -> None:
        """Move the view over the next records, given as positions, times and events.

        Raises:
            CorruptionError: one is not the next, or says what cannot have happened; the view is
                where those before it lead.
        """
        states = self._states
        known, replace = states.get, states.replace
        last, last_ns = self._position, self._time_ns
        holes = self._dropped_through + 1  # the first position before which none is missing
        try:
            for position, time_ns, event in events:
                image = event.digest
                state = known(image)
                if (position != last + 1 and not last < position <= holes) or time_ns < last_ns:
                    raise CorruptionError(f"record {position} does not follow", position=position)
                kind = type(event)
                if kind is Created:
                    if state is not None:
                        raise _impossible(position, "creates an image that is there")
                    states.add(image, State(position, position, None, 0, None, False))
                elif kind is Redacted:
                    if state is not None:
                        replace(image, _with_last(state, position))
                elif state is None:
                    if image and position >= holes:  # else its beginning may have been dropped
                        raise _impossible(position, "is about an image that is not there")
                elif isinstance(event, LastUpdatedSet):
                    created, parent, at = state.created, state.parent, state.parent_at
                    replace(
                        image,
                        State(created, position, parent, at, event.instant_ns, state.built),
                    )
                elif isinstance(event, ParentSet):
                    self._set_parent(image, state, position, event.parent)
                elif kind is MarkedBuilt:
                    created, parent, at = state.created, state.parent, state.parent_at
                    replace(image, State(created, position, parent, at, state.last_updated, True))
                elif isinstance(event, Tagged | Untagged | Described):  # not the view's business
                    replace(image, _with_last(state, position))
                else:
                    self._remove(image)
                last, last_ns = position, time_ns
        finally:
            self._position, self._time_ns = last, last_ns

    def expect_dropped(self, through: int) -> None:
        """Take it from here on that records up to a position may be missing, for they were dropped.

        A view that starts at the first record then still leads, there and after, to what all of
        them would: what was dropped is of images that are not there any more.
        """
        self._dropped_through = through

    def skip_to(self, position: int, time_ns: int) -> None:
        """Move over records that were dropped, to one of them, whose time is known."""
        self._position, self._time_ns = position, time_ns

    def take_back(self, states: Mapping[bytes, State | None], position: int, time_ns: int) -> None:
        """Move the view back to a position.

        Args:
            states: what was known, at that position, of each image that has records after it.
            position: where to.
            time_ns: the time of the record there.
        """
        for image, state in states.items():
            self._states.put(image, state)
        self._children = None
        self._position = position
        self._time_ns = time_ns

    def _set_parent(self, image: bytes, state: State, position: int, parent: bytes | None) -> None:
        at, there = 0, False
        if parent is not None:
            at = position
            there = self._states.get(parent) is not None
            if not there and position > self._dropped_through:
                raise _impossible(position, "names a parent that is not there")
        if self._children is not None:
            self._unlink(image)
            if parent is not None and there:
                _link(self._children, image, parent)
        self._states.replace(
            image, State(state.created, position, parent, at, state.last_updated, state.built)
        )

    def _remove(self, image: bytes) -> None:
        if self._children is not None:
            self._unlink(image)
            self._children.pop(image, None)
        self._hidden.discard(image)
        self._states.remove(image)

    def _unlink(self, image: bytes) -> None:
        """Take an image out of the children of the parent that it has now."""
        parent = self.parent_of(image)
        if parent is None or self._children is None:
            return
        siblings = self._children[parent]
        if isinstance(siblings, set) and len(siblings) > 1:
            siblings.discard(image)
        else:
            del self._children[parent]

    def _child_index(self) -> dict[bytes, bytes | set[bytes]]:
        if self._children is None:
            index: dict[bytes, bytes | set[bytes]] = {}
            for image, parent in self._states.parents():
                if parent in index:
                    _link(index, image, parent)
                else:
                    index[parent] = image
            self._children = index
        return self._children

    def _shown_children(self, image: bytes) -> list[bytes]:
        found = self._child_index().get(image, ())
        children = (found,) if isinstance(found, bytes) else found
        return sorted(child for child in children if child not in self._hidden)

    def _require(self, image_id: str) -> State:
        state = self._states.get(digest.require(image_id))
        if state is None:
            raise ImageNotFoundError(image_id)
        return state

    # What users read: ids as text.

    @property
    def position(self) -> int:
        """Return the position that this view is of; 0 is the empty log."""
        return self._position

    @property
    def time_ns(self) -> int:
        """Return the time of the record at the position, nanoseconds since 1970; 0 without one."""
        return self._time_ns

    @property
    def time(self) -> datetime | None:
        """Return the time of the record at the position, None for the empty log."""
        return clock.to_datetime(self._time_ns) if self._position else None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._states) - len(self._hidden)

    def __contains__(self, image_id: object) -> bool:
        """Tell whether the image is there; what is no id is not."""
        image = digest.parse(image_id) if isinstance(image_id, str) else None
        return image is not None and self.shows(image)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of all images, sorted."""
        return iter(digest.to_texts(self._shown()))

    def _shown(self) -> list[bytes]:
        """Return the digests of all images that are not hidden, sorted."""
        hidden = self._hidden
        if not hidden:
            return list(self.digests())
        return [image for image in self.digests() if image not in hidden]

    def get(self, image_id: str) -> Image:
        """Return an image, decoded from the bytes it was created with.

        Raises:
            ImageNotFoundError: it is not there.
            CorruptionError: the stored bytes are not those it was created with.
        """
        parent_id = self.get_parent(image_id)
        if self._read_config is None:
            raise ImageNotFoundError(image_id)
        config = self._read_config(digest.require(image_id))
        return Image.from_checked(config, image_id, parent_id)

    def get_parent(self, image_id: str) -> str | None:
        """Return the id of an image's parent, None if it has none.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        image = digest.require(image_id)
        parent = self._states.parent_of(image)
        if parent is not None:
            return digest.to_text(parent)
        if self._states.get(image) is None:
            raise ImageNotFoundError(image_id)
        return None

    def get_last_updated(self, image_id: str) -> datetime | None:
        """Return when an image was last updated, None if that was never set.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        state = self._require(image_id)
        return None if state.last_updated is None else clock.to_datetime(state.last_updated)

    def is_built_locally(self, image_id: str) -> bool:
        """Tell whether an image was built on this host.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        return self._require(image_id).built

    def children(self, image_id: str) -> list[str]:
        """Return the ids of the images whose parent this one is, sorted.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        image = digest.require(image_id)
        if not self.shows(image):
            raise ImageNotFoundError(image_id)
        return [digest.to_text(child) for child in self._shown_children(image)]

    def search(self, term: str) -> str:
        """Return the id of the one image that `term` names.

        Args:
            term: hex digits, `sha256:` and hex digits, or a whole id.

        Raises:
            ImageNotFoundError: none is named.
            AmbiguousDigestError: more than one is.
        """
        return digest.to_text(digest_set.lookup(term, self._shown_matches))

    def _shown_matches(self, low: bytes, high: bytes) -> list[bytes]:
        hidden = self._hidden
        if not hidden:
            return self._states.matches(low, high)
        shown = (image for image in self._states.between(low, high) if image not in hidden)
        return digest_set.first_of(shown)

    def matches(self, low: bytes, high: bytes) -> list[bytes]:
        """Return the first digests, hidden ones too, from `low` through `high`."""
        return self._states.matches(low, high)

    def map(self) -> ImageMap:
        """Return all images by id; each is decoded when it is asked for."""
        return ImageMap(self.freeze(), self._shown())

    def heads(self) -> ImageMap:
        """Return the images without children by id; each is decoded when it is asked for."""
        if not self._hidden:
            return ImageMap(self.freeze(), self._states.heads())
        heads = [image for image in self._shown() if not self._shown_children(image)]
        return ImageMap(self.freeze(), heads)


class ImageMap(Mapping[str, Image]):
    """Images by id as they were when it was made; decodes only what is asked for."""

    def __init__(self, view: ImageView, images: list[bytes]) -> None:
        """Hold `images`, sorted, as they are in `view`, which must not move."""
        self._view = view
        self._images = images

    def __getitem__(self, image_id: str) -> Image:
        """Return one image, decoded."""
        if image_id not in self:
            raise KeyError(image_id)
        return self._view.get(image_id)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, sorted."""
        return iter(digest.to_texts(self._images))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __contains__(self, image_id: object) -> bool:
        """Tell whether the image is among them, without decoding it."""
        image = digest.parse(image_id) if isinstance(image_id, str) else None
        if image is None:
            return False
        at = bisect_left(self._images, image)
        return at < len(self._images) and self._images[at] == image

    def __repr__(self) -> str:
        """Show the ids."""
        return f"ImageMap({list(self)!r})"


def fold(view: ImageView, records: Iterable[Record]) -> ImageView:
    """Apply many records to a view, in order, and return it.

    Raises:
        CorruptionError: a record does not follow, or says what cannot have happened.
    """
    view.apply_events((record.position, record.time_ns, record.event) for record in records)
    return view


def _link(index: dict[bytes, bytes | set[bytes]], image: bytes, parent: bytes) -> None:
    """Note that an image is a child of another."""
    siblings = index.get(parent)
    if siblings is None:
        index[parent] = image
    elif isinstance(siblings, set):
        siblings.add(image)
    elif siblings != image:
        index[parent] = {siblings, image}


def _with_last(state: State, position: int) -> State:
    """Return what is known of an image whose stream goes on with a record that changes nothing."""
    return State(
        state.created, position, state.parent, state.parent_at, state.last_updated, state.built
    )


def _impossible(position: int, what: str) -> CorruptionError:
    return CorruptionError(f"record {position} {what}", position=position)
