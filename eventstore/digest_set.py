"""Find the one image that a prefix names.

The rules are those of Docker's `digestset.Lookup`: hex digits match as a prefix, `sha256:` and
digits likewise, a whole digest exactly; more than one match is ambiguous, case counts, and the
empty term matches everything. Adding and removing cost the same whatever the size: digests lie
sorted in pieces of bounded length, found by two bisections.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from eventstore import digest
from eventstore.errors import AmbiguousDigestError, ImageNotFoundError

PIECE_LENGTH = 1024
CANDIDATES_MAX = 16


class DigestSet:
    """A sorted set of 32-byte digests that answers to unique prefixes."""

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        """Build the set; `digests` may come in any order, each once."""
        ordered = sorted(digests)
        self._pieces = [
            ordered[start : start + PIECE_LENGTH] for start in range(0, len(ordered), PIECE_LENGTH)
        ]
        self._firsts = [piece[0] for piece in self._pieces]

    def __len__(self) -> int:
        """Return the number of digests."""
        return sum(map(len, self._pieces))

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the digests in order."""
        for piece in self._pieces:
            yield from piece

    def __contains__(self, value: bytes) -> bool:
        """Tell whether the digest is in the set."""
        index, offset = self._locate(value)
        piece = self._pieces[index] if self._pieces else []
        return offset < len(piece) and piece[offset] == value

    def add(self, value: bytes) -> None:
        """Add a digest; one that is there already stays once."""
        if not self._pieces:
            self._pieces.append([value])
            self._firsts.append(value)
            return
        if value in self:
            return
        index, _ = self._locate(value)
        piece = self._pieces[index]
        insort(piece, value)
        if len(piece) > 2 * PIECE_LENGTH:
            self._pieces[index : index + 1] = [piece[:PIECE_LENGTH], piece[PIECE_LENGTH:]]
            self._firsts[index : index + 1] = [piece[0], piece[PIECE_LENGTH]]
        else:
            self._firsts[index] = piece[0]

    def remove(self, value: bytes) -> None:
        """Remove a digest; one that is not there is no error."""
        if value not in self:
            return
        index, offset = self._locate(value)
        piece = self._pieces[index]
        del piece[offset]
        if piece:
            self._firsts[index] = piece[0]
        else:
            del self._pieces[index]
            del self._firsts[index]

    def _locate(self, value: bytes) -> tuple[int, int]:
        """Return the piece, and the place in it, where `value` is or belongs."""
        index = max(bisect_right(self._firsts, value) - 1, 0)
        return index, bisect_left(self._pieces[index], value) if self._pieces else 0

    def between(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Iterate over the digests from `low` through `high`, sorted."""
        if not self._pieces:
            return
        index, offset = self._locate(low)
        while index < len(self._pieces):
            piece = self._pieces[index]
            while offset < len(piece):
                if piece[offset] > high:
                    return
                yield piece[offset]
                offset += 1
            index, offset = index + 1, 0


def bounds(term: str) -> tuple[bytes, bytes] | None:
    """Return the least and the greatest digest that a term can name, None if it can name none."""
    if not isinstance(term, str):
        return None
    if term == digest.PREFIX:
        return None  # to Docker the prefix alone is neither a digest nor the start of one
    digits = term.removeprefix(digest.PREFIX)
    least = digits.ljust(64, "0")
    try:
        low = bytes.fromhex(least)
    except ValueError:
        return None
    if low.hex() != least:
        return None  # it takes capitals and spaces for digits as well
    return low, bytes.fromhex(digits.ljust(64, "f"))


def first_of(digests: Iterable[bytes]) -> list[bytes]:
    """Return the first `CANDIDATES_MAX` digests: who has many candidates is told some."""
    return list(islice(digests, CANDIDATES_MAX))


def lookup(term: str, matches_between: Callable[[bytes, bytes], list[bytes]]) -> bytes:
    """Return the one digest that a term names.

    Args:
        term: hex digits, `sha256:` and hex digits, or a whole id.
        matches_between: returns the first digests from a least through a greatest one, sorted.

    Raises:
        ImageNotFoundError: none is named.
        AmbiguousDigestError: more than one is; it names the first of them.
    """
    found = bounds(term)
    matches = [] if found is None else matches_between(*found)
    if not matches:
        raise ImageNotFoundError(term)
    if len(matches) > 1:
        raise AmbiguousDigestError(term, [digest.to_text(match) for match in matches])
    return matches[0]
