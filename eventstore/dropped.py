"""Keep the hashes of the records that a compaction dropped, and how far it went.

A record that is dropped leaves the log, and its leaf hash stays, so that the root hash of every
position, and every proof, is what it was. The hashes of up to 40 consecutive positions lie in one
row, three of which fill a page; so a dropped record takes some 35 bytes. Keys of the database
`meta`::

    "dropped", row    which of the positions of the row were dropped, a bit each, the lowest first,
                      5 bytes; their leaf hashes, 32 bytes each; CRC-32, 4 bytes, of key and that
    "compacted"       msgpack: [through, by, time, dropped, unfinished]; CRC-32, 4 bytes, of the key
                      and that

Row r, 8 bytes, is of the positions 40 r + 1 to 40 r + 40. No moment before `through` can be looked
at; `by` is the position of the `Compacted` that says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from eventstore import codec
from eventstore.errors import CorruptionError
from eventstore.lmdb_transaction import Transaction

ROW_LENGTH = 40
PREFIX = b"dropped"
NOTE = b"compacted"
_META = "meta"
_BITS_SIZE, _INDEX_SIZE, _HASH_SIZE = ROW_LENGTH // 8, 8, 32


class Horizon(Struct, frozen=True, array_like=True):
    """How far the log has been compacted.

    Attributes:
        through: the first position that can be looked at; 0 if the log is whole.
        by: the position of the record that says so.
        time_ns: the time of the record at `through`, nanoseconds since 1970, UTC.
        dropped: how many records have been dropped.
        unfinished: whether some are left that should be.
    """

    through: int = 0
    by: int = 0
    time_ns: int = 0
    dropped: int = 0
    unfinished: bool = False

    def with_more(self, count: int) -> Horizon:
        """Return what is so when some more records have been dropped."""
        return msgspec.structs.replace(self, dropped=self.dropped + count)

    def finished(self) -> Horizon:
        """Return what is so when all have been dropped that should be."""
        return msgspec.structs.replace(self, unfinished=False)


NOWHERE = Horizon()
"""That of a log that was never compacted."""


def horizon(txn: Transaction) -> Horizon:
    """Return how far the log has been compacted.

    Raises:
        CorruptionError: what is noted of that is damaged.
    """
    value = txn.get(_META, NOTE)
    if value is None:
        return NOWHERE
    said = value[: -codec.CHECKSUM_SIZE]
    if value == codec.sealed(NOTE, said):
        try:
            return msgspec.msgpack.decode(said, type=Horizon)
        except msgspec.MsgspecError:
            pass
    raise CorruptionError("the note of how far the log was compacted is damaged")


def note(txn: Transaction, found: Horizon) -> None:
    """Note how far the log has been compacted."""
    txn.put(_META, NOTE, codec.sealed(NOTE, msgspec.msgpack.encode(found)), replace=True)


def _key(row: int) -> bytes:
    return PREFIX + row.to_bytes(_INDEX_SIZE, "big")


def unpack(key: bytes, value: bytes) -> dict[int, bytes]:
    """Return the leaf hashes of a row by position, in order.

    Raises:
        CorruptionError: it is not what was stored.
    """
    row = int.from_bytes(key[len(PREFIX) :], "big")
    first = row * ROW_LENGTH + 1
    bits = int.from_bytes(value[:_BITS_SIZE], "little")
    said = value[: -codec.CHECKSUM_SIZE]
    size = _BITS_SIZE + bits.bit_count() * _HASH_SIZE
    if len(said) != size or value != codec.sealed(key, said) or len(key) != len(_key(0)):
        text = f"the hashes of the dropped records {first} to {first + ROW_LENGTH - 1} are damaged"
        raise CorruptionError(text, position=first)
    positions = [first + at for at in range(ROW_LENGTH) if bits >> at & 1]
    starts = range(_BITS_SIZE, size, _HASH_SIZE)
    return {
        position: said[start : start + _HASH_SIZE]
        for position, start in zip(positions, starts, strict=True)
    }


def _pack(row: int, found: dict[int, bytes]) -> bytes:
    bits = sum(1 << (position - 1) % ROW_LENGTH for position in found)
    said = bits.to_bytes(_BITS_SIZE, "little") + b"".join(found[at] for at in sorted(found))
    return codec.sealed(_key(row), said)


def leaves(txn: Transaction, first: int, last: int) -> dict[int, bytes]:
    """Return the leaf hashes of the dropped records from `first` through `last`, by position.

    Raises:
        CorruptionError: what is stored of them is damaged.
    """
    found: dict[int, bytes] = {}
    end = _key((last - 1) // ROW_LENGTH)
    for key, value in txn.scan(_META, _key((first - 1) // ROW_LENGTH)):
        if key > end:
            break
        row = unpack(key, value).items()
        found.update((position, leaf) for position, leaf in row if first <= position <= last)
    return found


def rows(txn: Transaction) -> Iterator[tuple[bytes, list[int]]]:
    """Iterate over the keys of all rows, and of which positions each is; of none if damaged."""
    for key, value in txn.scan(_META, PREFIX):
        if not key.startswith(PREFIX):
            return
        try:
            yield key, list(unpack(key, value))
        except CorruptionError:
            yield key, []


def has(txn: Transaction, position: int) -> bool:
    """Tell whether the record at a position was dropped.

    Raises:
        CorruptionError: as `leaves`.
    """
    return bool(leaves(txn, position, position))


def first_missing(txn: Transaction, first: int, last: int) -> int:
    """Return the first of the positions from `first` through `last` that was not dropped, else 0.

    Raises:
        CorruptionError: as `leaves`.
    """
    expected = first
    for position in leaves(txn, first, last):
        if position != expected:
            return expected
        expected += 1
    return 0 if expected > last else expected


def add(txn: Transaction, found: dict[int, bytes]) -> None:
    """Keep the leaf hashes of records that are dropped in the same transaction.

    Raises:
        CorruptionError: what is stored of others beside them is damaged.
    """
    rows: dict[int, dict[int, bytes]] = {}
    for position, leaf in found.items():
        rows.setdefault((position - 1) // ROW_LENGTH, {})[position] = leaf
    for row, more in rows.items():
        key = _key(row)
        there = txn.get(_META, key)
        known = {} if there is None else unpack(key, there)
        txn.put(_META, key, _pack(row, known | more), replace=True)
