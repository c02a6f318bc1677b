"""Answer from a snapshot where it lies: rows sorted by digest, read chunk by chunk when needed.

A table never changes. What has been read of it stays in memory in columns, some 60 bytes an image,
and what was asked for as objects. What has not been asked for costs nothing, so that opening a
store takes the same time whatever the number of its images. A chunk that is gone or damaged is made
good by the one who gave the table, from the log; what a table says never changes by that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from eventstore.columns import Columns, Row, State, row_of
from eventstore.errors import CorruptionError

ReadChunk = Callable[[int], Columns]
"""Returns a chunk by its number, from 0, or raises `CorruptionError`."""

Otherwise = Callable[[CorruptionError], Iterable[tuple[bytes, State]]]
"""Returns all rows, sorted, found in another way, because of an error."""


class Table:
    """The states of images at a position, none of which ever changes."""

    def __init__(
        self,
        images: int,
        firsts: Sequence[bytes],
        read_chunk: ReadChunk,
        digest_at: Callable[[int], bytes],
        otherwise: Otherwise,
        origin: tuple[int, bytes] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            images: how many there are.
            firsts: the first digest of each chunk.
            read_chunk: reads one.
            digest_at: returns the digest of the image that the record at a position created, or
                raises `CorruptionError`.
            otherwise: returns all rows where a chunk cannot be read.
            origin: position and digest of the snapshot that it is, if it is a whole one.
        """
        self.images = images
        self.firsts = firsts
        self.origin = origin
        self._read_chunk = read_chunk
        self._digest_at = digest_at
        self._otherwise = otherwise
        self._chunks: list[Columns | None] = [None] * len(firsts)
        self._known: dict[bytes, State] = {}
        self._by_created: dict[int, bytes] | None = None

    def get(self, image: bytes) -> State | None:
        """Return the state of an image, None if it is not there."""
        state = self._known.get(image)
        if state is not None or not self.firsts:
            return state
        number = bisect_right(self.firsts, image) - 1
        if number < 0:
            return None
        columns = self.chunk(number)
        at = columns.find(image)
        if at < 0:
            return None
        parent = columns.parent[at]
        state = columns.state(at, self.digest_of(parent) if parent else None)
        self._known[image] = state
        return state

    def created(self, image: bytes) -> int:
        """Return the position of the record that created an image, 0 if it is not there."""
        state = self._known.get(image)
        if state is not None:
            return state.created
        number = bisect_right(self.firsts, image) - 1
        if number < 0:
            return 0
        columns = self.chunk(number)
        at = columns.find(image)
        return 0 if at < 0 else columns.created[at]

    def chunk(self, number: int) -> Columns:
        """Return a chunk, read if it has not been."""
        found = self._chunks[number]
        if found is not None:
            return found
        try:
            found = self._read_chunk(number)
        except CorruptionError as error:
            chunks = self._made_good(error)
            self._chunks = list(chunks)
            return chunks[number]
        self._chunks[number] = found
        return found

    def chunks(self) -> Iterator[Columns]:
        """Iterate over all chunks, in the order of their digests."""
        return map(self.chunk, range(len(self.firsts)))

    def load(self) -> None:
        """Read all that has not been read, so that nothing need be read later."""
        self._by_created = self._creations()

    def _made_good(self, error: CorruptionError) -> list[Columns]:
        """Return all chunks, with the bounds that they had, from rows found in another way."""
        rows = list(self._otherwise(error))
        created = {image: state.created for image, state in rows}
        parts: list[list[tuple[bytes, Row]]] = [[] for _ in self.firsts]
        for image, state in rows:
            number = max(bisect_right(self.firsts, image) - 1, 0)
            parent = 0 if state.parent is None else created.get(state.parent, 0)
            parts[number].append((image, row_of(state, parent)))
        return [Columns.of(part) for part in parts]

    def digest_of(self, created: int) -> bytes:
        """Return the digest of the image that the record at a position created."""
        if self._by_created is None:
            try:
                return self._digest_at(created)
            except CorruptionError:
                pass  # the table knows as well, if all of it is looked at
            self._by_created = self._creations()
        found = self._by_created.get(created)
        if found is None:
            raise CorruptionError(f"a parent created by record {created} is not there")
        return found

    def _creations(self) -> dict[int, bytes]:
        """Return the digests of all images by the records that created them."""
        if self._by_created is not None:
            return self._by_created
        found: dict[int, bytes] = {}
        for columns in self.chunks():
            found.update(zip(columns.created, columns.digests, strict=True))
        return found

    def parents(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the images that have a parent, and their parents."""
        ids = self._creations()
        for columns in self.chunks():
            for image, parent in zip(columns.digests, columns.parent, strict=True):
                if parent and parent in ids:
                    yield image, ids[parent]

    def rows(self) -> Iterator[tuple[bytes, State]]:
        """Iterate over digests, sorted, and states."""
        ids = self._creations()
        for columns in self.chunks():
            for at, (image, parent) in enumerate(zip(columns.digests, columns.parent, strict=True)):
                yield image, columns.state(at, ids.get(parent) if parent else None)

    def matches(self, low: bytes, high: bytes, limit: int) -> list[bytes]:
        """Return the first `limit` digests from `low` through `high`, sorted."""
        found: list[bytes] = []
        number = max(bisect_right(self.firsts, low) - 1, 0)
        while number < len(self.firsts):
            columns = self._chunks[number] or self.chunk(number)
            start, count = columns.place(low), len(columns)
            for at in range(start, count):
                image = columns.image(at)
                if image > high or len(found) == limit:
                    return found
                found.append(image)
            number += 1
        return found

    def between(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Iterate over the digests from `low` through `high`, sorted."""
        number = max(bisect_right(self.firsts, low) - 1, 0)
        while number < len(self.firsts) and self.firsts[number] <= high:
            columns = self.chunk(number)
            for at in range(columns.place(low), len(columns)):
                image = columns.image(at)
                if image > high:
                    return
                yield image
            number += 1


def _nothing(number: int) -> Columns:
    raise CorruptionError(f"there is no chunk {number}")


def _no_digest(created: int) -> bytes:
    raise CorruptionError(f"there is no record {created}")


def _no_rows(error: CorruptionError) -> Iterable[tuple[bytes, State]]:
    raise error


EMPTY = Table(0, (), _nothing, _no_digest, _no_rows)
"""The table of no image."""
