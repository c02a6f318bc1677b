"""Prove, and check, what a log holds: the Merkle tree of RFC 6962 over the bytes of its records.

The entry of a position is the record's exact stored bytes, so a root hash speaks for everything a
record says: position, time, actor, reason and event, and for all those before it. These functions
are pure. Who checks needs no store, only a root hash that was obtained before, or from somebody who
is trusted; nothing here trusts who gives the proof.

The tree of n entries splits at the greatest power of two below n, so each of its nodes covers
either a whole power of two of entries, which never changes, or the right edge. Proofs are made from
the first kind alone; where those come from is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from msgspec import Struct

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"

Subtree = Callable[[int, int], bytes]
"""Returns the hash over the entries `index << level` up to `(index + 1) << level`, from 0."""


class Checkpoint(Struct, frozen=True):
    """What an outsider keeps of a log: how long it was, and the hash of all that it held.

    Attributes:
        position: the position of the last record that it covers; 0 is the empty log.
        root_hash: the root of the tree of the records up to there, 32 bytes.
    """

    position: int
    root_hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry, such as `Record.raw` (RFC 6962, section 2.1)."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node from those of its two sides (RFC 6962, section 2.1)."""
    return sha256(_NODE + left + right).digest()


def pyramid(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Return the rows of nodes over some hashes, the lowest first; what has no other side ends."""
    rows = [list(hashes)]
    while len(rows[-1]) > 1:
        below = rows[-1]
        sides = zip(below[::2], below[1::2], strict=False)
        rows.append([sha256(_NODE + left + right).digest() for left, right in sides])
    return rows


def root_of(entries: Sequence[bytes]) -> bytes:
    """Return the root hash over entries that are all at hand."""
    rows = pyramid([leaf_hash(entry) for entry in entries])
    return root_at(len(entries), lambda level, index: rows[level][index])


def root_at(size: int, subtree: Subtree) -> bytes:
    """Return the root hash over the first `size` entries.

    Args:
        size: how many, from 0.
        subtree: gives the hashes of whole powers of two.
    """
    return _over(0, size, subtree) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that entry `index` is one of the first `size` (RFC 9162, 2.1.3.1).

    Args:
        index: which entry, from 0, below `size`.
        size: of how many.
        subtree: gives the hashes of whole powers of two.
    """
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_over(middle, end, subtree))
            end = middle
        else:
            path.append(_over(start, middle, subtree))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the first `old` entries are the start of the first `new` (2.1.4.1).

    Args:
        old: the smaller size; with 0, or both the same, the proof is empty.
        new: the greater size.
        subtree: gives the hashes of whole powers of two.
    """
    path: list[bytes] = []
    start, end = 0, new
    if old in (0, new):
        return path
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_over(middle, end, subtree))
            end = middle
        else:
            path.append(_over(start, middle, subtree))
            start = middle
    if start:  # else it is the old root itself, which whoever checks has
        path.append(_over(start, end, subtree))
    return path[::-1]


class Frontier:
    """The left edge of a log: what is needed of its first records to hash on from there.

    Attributes:
        position: of how many records.
        hashes: the hashes over their whole powers of two, the greatest first; one for each bit that
            is set in the position.
    """

    def __init__(self, position: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Take an edge over.

        Raises:
            ValueError: so many records have another number of hashes, or those are none.
        """
        if position < 0 or position.bit_count() != len(hashes) or not _are_hashes(hashes):
            raise ValueError(f"no frontier of {position} records")
        self.position = position
        self.hashes = list(hashes)

    @classmethod
    def at(cls, position: int, subtree: Subtree) -> Frontier:
        """Return the edge of the first records of a log."""
        levels = [level for level in range(position.bit_length()) if position >> level & 1]
        found = [subtree(level, (position >> level) - 1) for level in reversed(levels)]
        return cls(position, found)

    def add(self, leaf: bytes) -> None:
        """Move over the next record, given as its leaf hash."""
        found, position = leaf, self.position
        while position & 1:
            found, position = node_hash(self.hashes.pop(), found), position >> 1
        self.hashes.append(found)
        self.position += 1

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the records up to here."""
        if not self.hashes:
            return Checkpoint(0, EMPTY_ROOT)
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return Checkpoint(self.position, found)


def verify_inclusion(
    checkpoint: Checkpoint, position: int, leaf: bytes, proof: Sequence[bytes]
) -> bool:
    """Tell whether a record lies at a position of the log that a checkpoint is of.

    Args:
        checkpoint: what is trusted.
        position: where the record is said to lie, from 1.
        leaf: the `leaf_hash` of its stored bytes.
        proof: as `ImageStore.inclusion_proof` gives it.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 < position <= checkpoint.position or not _are_hashes([leaf, *proof]):
        return False
    index, last, found = position - 1, checkpoint.position - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if index & 1 or index == last:
            found = node_hash(sibling, found)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and found == checkpoint.root_hash


def verify_consistency(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> bool:
    """Tell whether a log only grew between two checkpoints: all that the old one covers stands.

    Args:
        old: the earlier one.
        new: the later one.
        proof: as `ImageStore.consistency_proof` gives it.

    Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old.position <= new.position or not _are_hashes(proof):
        return False
    if old.position == new.position:
        return not proof and old.root_hash == new.root_hash
    if old.position == 0:
        return not proof and old.root_hash == EMPTY_ROOT
    path = list(proof)
    if old.position & (old.position - 1) == 0:
        path.insert(0, old.root_hash)
    if not path:
        return False
    index, last = old.position - 1, new.position - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and first == old.root_hash and second == new.root_hash


def _are_hashes(hashes: Sequence[bytes]) -> bool:
    return all(len(found) == HASH_SIZE for found in hashes)


def _split(size: int) -> int:
    """Return the greatest power of two below a size of 2 or more."""
    return 1 << (size - 1).bit_length() - 1


def _over(start: int, end: int, subtree: Subtree) -> bytes:
    """Return the hash over the entries from `start` to `end`, a node of some tree of this shape."""
    parts: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(subtree(level, start >> level))
        start += 1 << level
    found = parts.pop()
    while parts:
        found = node_hash(parts.pop(), found)
    return found
