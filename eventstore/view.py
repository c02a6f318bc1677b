"""Fold events into the state at a position.

The view answers what exists, who is whose parent and which prefix is unique, at one position of
the log. There is one `apply`: the live view, the replay at startup, as-of and `verify` all call it.
It has no opinions: no clock, no input or output, no judgement (that is `decide`); it refuses only
what no sound log can hold.

States are immutable and replaced, so a frozen view shares them with the live one. A deleted image
orphans its children without any work: a parent counts only if its `created` is older than the
record that made it the parent, which no image created again can satisfy. The indexes of children
and of digests are built when first asked for and kept up to date from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from eventstore import clock, digest
from eventstore.digest_set import DigestSet
from eventstore.errors import CorruptionError, ImageNotFoundError
from eventstore.events import (
    Created,
    Deleted,
    Event,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Record,
)
from eventstore.image import Image

ReadConfig = Callable[[bytes], bytes]
"""Returns the checked bytes of the config under a 32-byte digest."""


class State(Struct, frozen=True, gc=False, array_like=True):
    """What is known of one image.

    Attributes:
        created: position of the record that created it.
        last: position of the last record of its stream.
        parent: digest of the parent that it was given, or None.
        parent_at: position of the record that gave it, 0 without one.
        last_updated: nanoseconds since 1970, or None if never set.
        built: whether it was built on this host.
    """

    created: int
    last: int
    parent: bytes | None
    parent_at: int
    last_updated: int | None
    built: bool


class ImageView:
    """The images at a position; the live one moves, all others are frozen."""

    def __init__(
        self,
        states: MutableMapping[bytes, State] | None = None,
        *,
        position: int = 0,
        time_ns: int = 0,
        read_config: ReadConfig | None = None,
    ) -> None:
        """Take `states` as they are at `position`, whose record has `time_ns`."""
        self._states: MutableMapping[bytes, State] = {} if states is None else states
        self._position = position
        self._time_ns = time_ns
        self._read_config = read_config
        self._hidden: set[bytes] = set()
        self._children: dict[bytes, set[bytes]] | None = None
        self._digests: DigestSet | None = None

    # What the store, the fold and the rules read: digests of 32 bytes.

    def state(self, image: bytes) -> State | None:
        """Return what is known of an image, None if it is not there."""
        return self._states.get(image)

    def shows(self, image: bytes) -> bool:
        """Tell whether an image is there and not hidden for want of its layers."""
        return image in self._states and image not in self._hidden

    def parent_of(self, image: bytes) -> bytes | None:
        """Return the parent of an image if it has one that is still there."""
        state = self._states.get(image)
        if state is None or state.parent is None:
            return None
        parent = self._states.get(state.parent)
        if parent is None or parent.created > state.parent_at:
            return None
        return state.parent

    def digests(self) -> Iterable[bytes]:
        """Return the digests of all images, hidden ones too, in no order."""
        return self._states.keys()

    def hide(self, image: bytes) -> None:
        """Leave an image out of counts, search, children, map and heads."""
        self._hidden.add(image)
        if self._digests is not None:
            self._digests.remove(image)

    def reveal(self, image: bytes) -> None:
        """Take back `hide`."""
        self._hidden.discard(image)
        if self._digests is not None and image in self._states:
            self._digests.add(image)

    def is_hidden(self, image: bytes) -> bool:
        """Tell whether an image is left out for want of its layers."""
        return image in self._hidden

    def freeze(self) -> ImageView:
        """Return a view of this position that never moves; nothing is hidden in it."""
        return ImageView(
            dict(self._states),
            position=self._position,
            time_ns=self._time_ns,
            read_config=self._read_config,
        )

    def branch(self, read_config: ReadConfig | None) -> ImageView:
        """Return a view that starts as this one and moves on without it, at no cost.

        It must not be used once this one has moved.
        """
        branch = ImageView(
            _Overlay(self._states),
            position=self._position,
            time_ns=self._time_ns,
            read_config=read_config,
        )
        branch._hidden = set(self._hidden)
        return branch

    def rows(self) -> Iterator[tuple[bytes, State]]:
        """Iterate over digests, sorted, and states, with parents that are gone left out.

        Two views are equal if and only if their rows are.
        """
        for image in sorted(self._states):
            state = self._states[image]
            if state.parent_at and self.parent_of(image) is None:
                state = State(state.created, state.last, None, 0, state.last_updated, state.built)
            yield image, state

    @property
    def digest(self) -> str:
        """Return the SHA-256 of position, time and rows, in hex: equal views have equal digests."""
        encoder = msgspec.msgpack.Encoder()
        hasher = hashlib.sha256(encoder.encode((self._position, self._time_ns)))
        for row in self.rows():
            hasher.update(encoder.encode(row))
        return hasher.hexdigest()

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
        image = event.digest
        state = self._states.get(image)
        if position != self._position + 1 or time_ns < self._time_ns:
            raise CorruptionError(f"record {position} does not follow", position=position)
        if isinstance(event, Created):
            if state is not None:
                raise _impossible(position, "creates an image that is there")
            self._add(image, State(position, position, None, 0, None, False))
        elif state is None:
            raise _impossible(position, "is about an image that is not there")
        elif isinstance(event, ParentSet):
            if event.parent is not None and event.parent not in self._states:
                raise _impossible(position, "names a parent that is not there")
            self._set_parent(image, state, position, event.parent)
        elif isinstance(event, LastUpdatedSet):
            self._states[image] = State(
                state.created,
                position,
                state.parent,
                state.parent_at,
                event.instant_ns,
                state.built,
            )
        elif isinstance(event, MarkedBuilt):
            self._states[image] = State(
                state.created, position, state.parent, state.parent_at, state.last_updated, True
            )
        elif isinstance(event, Deleted):
            self._remove(image)
        self._position = position
        self._time_ns = time_ns

    def _add(self, image: bytes, state: State) -> None:
        self._states[image] = state
        if self._digests is not None:
            self._digests.add(image)

    def _set_parent(self, image: bytes, state: State, position: int, parent: bytes | None) -> None:
        if self._children is not None:
            self._unlink(image)
            if parent is not None:
                self._children.setdefault(parent, set()).add(image)
        at = 0 if parent is None else position
        self._states[image] = State(
            state.created, position, parent, at, state.last_updated, state.built
        )

    def _remove(self, image: bytes) -> None:
        if self._children is not None:
            self._unlink(image)
            self._children.pop(image, None)
        if self._digests is not None:
            self._digests.remove(image)
        self._hidden.discard(image)
        del self._states[image]

    def _unlink(self, image: bytes) -> None:
        """Take an image out of the children of the parent that it has now."""
        parent = self.parent_of(image)
        if parent is None or self._children is None:
            return
        siblings = self._children[parent]
        siblings.discard(image)
        if not siblings:
            del self._children[parent]

    def _child_index(self) -> dict[bytes, set[bytes]]:
        if self._children is None:
            index: dict[bytes, set[bytes]] = {}
            for image, state in self._states.items():
                if state.parent is not None and self.parent_of(image) is not None:
                    index.setdefault(state.parent, set()).add(image)
            self._children = index
        return self._children

    def _shown_children(self, image: bytes) -> list[bytes]:
        found = self._child_index().get(image, ())
        return sorted(child for child in found if child not in self._hidden)

    def _require(self, image_id: str) -> tuple[bytes, State]:
        image = digest.require(image_id)
        state = self._states.get(image)
        if state is None:
            raise ImageNotFoundError(image_id)
        return image, state

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
        return iter([digest.to_text(image) for image in sorted(self._states) if self.shows(image)])

    def get(self, image_id: str) -> Image:
        """Return an image, decoded from the bytes it was created with.

        Raises:
            ImageNotFoundError: it is not there.
            CorruptionError: the stored bytes are not those it was created with.
        """
        image, _ = self._require(image_id)
        return self._decode(image, self.parent_of(image))

    def _decode(self, image: bytes, parent: bytes | None) -> Image:
        if self._read_config is None:
            raise ImageNotFoundError(digest.to_text(image))
        decoded = Image.from_stored(self._read_config(image))
        if parent is None:
            return decoded
        return msgspec.structs.replace(decoded, parent=digest.to_text(parent))

    def get_parent(self, image_id: str) -> str | None:
        """Return the id of an image's parent, None if it has none.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        image, _ = self._require(image_id)
        parent = self.parent_of(image)
        return None if parent is None else digest.to_text(parent)

    def get_last_updated(self, image_id: str) -> datetime | None:
        """Return when an image was last updated, None if that was never set.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        _, state = self._require(image_id)
        return None if state.last_updated is None else clock.to_datetime(state.last_updated)

    def is_built_locally(self, image_id: str) -> bool:
        """Tell whether an image was built on this host.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        return self._require(image_id)[1].built

    def children(self, image_id: str) -> list[str]:
        """Return the ids of the images whose parent this one is, sorted.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        image, _ = self._require(image_id)
        if image in self._hidden:
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
        return digest.to_text(self._digest_set().lookup(term))

    def _digest_set(self) -> DigestSet:
        if self._digests is None:
            self._digests = DigestSet(image for image in self._states if image not in self._hidden)
        return self._digests

    def matches(self, low: bytes, high: bytes) -> list[bytes]:
        """Return the first digests, hidden ones too, from `low` through `high`."""
        hidden = [image for image in self._hidden if low <= image <= high]
        return sorted([*self._digest_set().between(low, high), *hidden])

    def map(self) -> ImageMap:
        """Return all images by id; each is decoded when it is asked for."""
        return ImageMap(self, sorted(image for image in self._states if self.shows(image)))

    def heads(self) -> ImageMap:
        """Return the images without children by id; each is decoded when it is asked for."""
        parents = self._child_index()
        if not self._hidden:
            return ImageMap(self, sorted(self._states.keys() - parents.keys()))
        shown = (image for image in self._states if self.shows(image))
        return ImageMap(self, sorted(image for image in shown if not self._shown_children(image)))


class ImageMap(Mapping[str, Image]):
    """Images by id as they were when it was made; decodes only what is asked for."""

    def __init__(self, view: ImageView, images: list[bytes]) -> None:
        """Hold the parents of `images` as they are in `view` now."""
        self._view = view
        self._parents = {digest.to_text(image): view.parent_of(image) for image in images}

    def __getitem__(self, image_id: str) -> Image:
        """Return one image, decoded."""
        parent = self._parents[image_id]
        return self._view._decode(digest.require(image_id), parent)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, sorted."""
        return iter(self._parents)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._parents)

    def __contains__(self, image_id: object) -> bool:
        """Tell whether the image is among them, without decoding it."""
        return image_id in self._parents

    def __repr__(self) -> str:
        """Show the ids."""
        return f"ImageMap({list(self._parents)!r})"


_ABSENT: Any = object()


class _Overlay(MutableMapping[bytes, State]):
    """A mapping that keeps its changes apart from the one that it starts from."""

    def __init__(self, base: MutableMapping[bytes, State]) -> None:
        self._base = base
        self._changes: dict[bytes, State | None] = {}
        self._length = len(base)

    def __getitem__(self, key: bytes) -> State:
        value = self._changes[key] if key in self._changes else self._base.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: bytes, default: Any = None) -> Any:
        value = self._changes.get(key, _ABSENT)
        if value is _ABSENT:
            return self._base.get(key, default)
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        value = self._changes.get(key, _ABSENT)  # type: ignore[call-overload]
        return key in self._base if value is _ABSENT else value is not None

    def __setitem__(self, key: bytes, value: State) -> None:
        if key not in self:
            self._length += 1
        self._changes[key] = value

    def __delitem__(self, key: bytes) -> None:
        if key not in self:
            raise KeyError(key)
        self._length -= 1
        self._changes[key] = None

    def __iter__(self) -> Iterator[bytes]:
        for key in self._base:
            if key not in self._changes:
                yield key
        for key, value in self._changes.items():
            if value is not None:
                yield key

    def __len__(self) -> int:
        return self._length


def fold(view: ImageView, records: Iterable[Record]) -> ImageView:
    """Apply many records to a view, in order, and return it.

    Raises:
        CorruptionError: a record does not follow, or says what cannot have happened.
    """
    for record in records:
        view.apply(record)
    return view


def _impossible(position: int, what: str) -> CorruptionError:
    return CorruptionError(f"record {position} {what}", position=position)
