"""Lay the states of many images out in columns: the shape of a snapshot's chunk.

A chunk is decoded by a handful of copies, whatever the number of its images, and what is not asked
for never becomes an object. Its bytes::

    1 byte        width of a position: 4, or 8 once positions need more
    n × 32 bytes  digests, sorted
    n × width     created: position of the record that created it
    n × width     last: position of the last record of its stream
    n × width     parent: the parent's `created`, 0 without a parent
    n × width     parent_at: position of the record that gave it, 0 without one
    n × 8 bytes   last_updated: nanoseconds since 1970, signed, 0 if never set
    n × 1 byte    flags: 1 built here, 2 last_updated is set

Numbers are little-endian. A parent is named by its `created`, which no other image and no other
life of the same image shares; it takes 4 bytes instead of 32. Only a parent that is there is named.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import compress

from msgspec import Struct

from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CorruptionError

BUILT, UPDATED = 1, 2
_POSITION_TYPES = {4: "I", 8: "Q"}
_INSTANT_SIZE = 8

Row = tuple[int, int, int, int, int, int]
"""What the columns hold of one image, in their order, the digest apart."""


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


class Columns:
    """The states of the images of one chunk, sorted by digest."""

    __slots__ = (
        "_digests",
        "_starts",
        "_together",
        "created",
        "flags",
        "last",
        "parent",
        "parent_at",
        "updated",
    )

    def __init__(
        self, together: bytes, numbers: Sequence[array[int]], updated: array[int], flags: bytes
    ) -> None:
        """Take over the columns.

        Args:
            together: the digests, one behind the other.
            numbers: created, last, parent and parent_at.
            updated: last_updated.
            flags: flags.
        """
        self._together = together
        self._digests: list[bytes] | None = None
        self.created, self.last, self.parent, self.parent_at = numbers
        self.updated = updated
        self.flags = flags
        self._starts: array[int] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.flags)

    def image(self, at: int) -> bytes:
        """Return the digest that stands at `at`."""
        return self._together[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]

    @property
    def digests(self) -> list[bytes]:
        """Return all digests, each an object of its own once they are asked for."""
        if self._digests is None:
            content = self._together
            ends = range(0, len(content), DIGEST_SIZE)
            self._digests = [content[at : at + DIGEST_SIZE] for at in ends]
        return self._digests

    @property
    def starts(self) -> array[int]:
        """Return the first 8 bytes of each digest as a number.

        They lie side by side, so that a bisection waits little for the memory.
        """
        if self._starts is None:
            starts = array("Q", self._together)[:: DIGEST_SIZE // 8]
            if sys.byteorder == "little":
                starts.byteswap()
            self._starts = starts
        return self._starts

    @classmethod
    def of(cls, rows: Sequence[tuple[bytes, Row]]) -> Columns:
        """Return the columns of some rows, which are sorted by digest."""
        digests = [image for image, _ in rows]
        columns = list(zip(*(row for _, row in rows), strict=True)) or [()] * 6
        wide = max(columns[1], default=0) >= 1 << 32
        kind = _POSITION_TYPES[8 if wide else 4]
        numbers = [array(kind, column) for column in columns[:4]]
        return cls(b"".join(digests), numbers, array("q", columns[4]), bytes(columns[5]))

    def rows(self, through: int | None = None) -> Iterable[tuple[bytes, Row]]:
        """Iterate over digests and rows, or those whose streams end at or before a position."""
        numbers = (self.created, self.last, self.parent, self.parent_at)
        found = zip(*numbers, self.updated, self.flags, strict=True)
        if through is None:
            return zip(self.digests, found, strict=True)
        keep = [last <= through for last in self.last]
        return zip(compress(self.digests, keep), compress(found, keep), strict=True)

    def past(self, position: int, rows: Sequence[tuple[bytes, Row]]) -> Columns:
        """Return what the columns were at a position before theirs.

        Args:
            position: which one; an image whose stream has gone on since was otherwise, or not.
            rows: what was otherwise of the images in the range of these columns, sorted.
        """
        if not rows and max(self.last, default=0) <= position:
            return self
        otherwise = {image for image, _ in rows}
        keep = [
            last <= position and image not in otherwise
            for image, last in zip(self.digests, self.last, strict=True)
        ]
        digests = list(compress(self.digests, keep))
        # What is gone may have had the only positions that are too great for these columns.
        wide = max((row[1] for _, row in rows), default=0) >= 1 << 32
        kind = _POSITION_TYPES[8 if wide else self.created.itemsize]
        numbers = (self.created, self.last, self.parent, self.parent_at)
        columns = [array(kind, compress(column, keep)) for column in numbers]
        columns.append(array("q", compress(self.updated, keep)))
        flags = bytearray(compress(self.flags, keep))
        for image, row in rows:
            at = bisect_left(digests, image)
            digests.insert(at, image)
            for column, value in zip(columns, row, strict=False):
                column.insert(at, value)
            flags.insert(at, row[5])
        return Columns(b"".join(digests), columns[:4], columns[4], bytes(flags))

    def find(self, image: bytes) -> int:
        """Return where an image stands, -1 if it is not there."""
        at = self.place(image)
        return at if self.image(at) == image else -1

    def place(self, image: bytes) -> int:
        """Return where an image stands, or would."""
        at = bisect_left(self._starts or self.starts, int.from_bytes(image[:8], "big"))
        while at < len(self.flags) and self.image(at) < image:
            at += 1  # another that starts with the same 8 bytes
        return at

    def state(self, at: int, parent: bytes | None) -> State:
        """Return the state of the image that stands at `at`, its parent given as a digest."""
        flags = self.flags[at]
        return State(
            self.created[at],
            self.last[at],
            parent,
            self.parent_at[at],
            self.updated[at] if flags & UPDATED else None,
            bool(flags & BUILT),
        )

    def encode(self) -> bytes:
        """Return the bytes of the chunk."""
        numbers = (self.created, self.last, self.parent, self.parent_at)
        parts = [bytes([self.created.itemsize]), self._together]
        parts += [_little_endian(column).tobytes() for column in (*numbers, self.updated)]
        return b"".join([*parts, self.flags])


def row_of(state: State, parent: int) -> Row:
    """Return a state as the columns hold it, its parent given as its `created`, 0 for none."""
    updated = state.last_updated
    flags = (BUILT if state.built else 0) | (0 if updated is None else UPDATED)
    at = state.parent_at if parent else 0
    return state.created, state.last, parent, at, updated or 0, flags


def decode(payload: bytes) -> Columns:
    """Return the columns that a chunk's bytes hold; the inverse of `encode`.

    Raises:
        CorruptionError: they are of no such shape.
    """
    kind = _POSITION_TYPES.get(payload[0]) if payload else None
    if kind is None:
        raise CorruptionError("a chunk that says no width of its positions")
    width = payload[0]
    count, rest = divmod(len(payload) - 1, DIGEST_SIZE + 4 * width + _INSTANT_SIZE + 1)
    if rest:
        raise CorruptionError("a chunk that is cut")
    start = 1 + count * DIGEST_SIZE
    together = payload[1:start]
    numbers: list[array[int]] = []
    for _ in range(4):
        numbers.append(_array(kind, payload[start : start + count * width]))
        start += count * width
    updated = _array("q", payload[start : start + count * _INSTANT_SIZE])
    return Columns(together, numbers, updated, payload[start + count * _INSTANT_SIZE :])


def _array(kind: str, content: bytes) -> array[int]:
    return _little_endian(array(kind, content))


def _little_endian(column: array[int]) -> array[int]:
    """Return a column with its bytes swapped, on machines where they lie the other way."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column
