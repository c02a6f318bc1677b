"""Keep interior hashes of the log's Merkle tree, so that a proof need not hash the whole log.

They are derived from the records and from nothing else. Every 256 records, the commit that
completes them stores one hash; over every 256 of those one more; and so on::

    meta    "hash", level, index    32 bytes; CRC-32, 4 bytes, of the key and the hash

The level is 8 for 256 records, 16 for 65,536, …, one byte; the index counts from 0, 8 bytes. What
lies between is made again when it is asked for: a proof reads at most 511 records, and 511 hashes
of each stored level. Losing them costs time only: one that is missing, or does not check, is
derived from what lies below it. So is what stores of an earlier version do not have; each commit to
such a store adds up to `CATCH_UP_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventstore import codec, dropped
from eventstore.errors import CorruptionError
from eventstore.events import Record
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.merkle import HASH_SIZE, leaf_hash, pyramid

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
CATCH_UP_MAX = 64
PREFIX = b"hash"
_META, _LOG = "meta", "log"
_INDEX_SIZE = 8


def key_of(level: int, index: int) -> bytes:
    """Return the key of the hash over the records `index << level` up to `(index + 1) << level`."""
    return PREFIX + bytes([level]) + index.to_bytes(_INDEX_SIZE, "big")


def pack(key: bytes, found: bytes) -> bytes:
    """Return a hash as it is stored under a key."""
    return codec.sealed(key, found)


def unpack(key: bytes, value: bytes) -> bytes | None:
    """Return the hash that is stored under a key, None if it does not check."""
    found = value[:HASH_SIZE]
    return found if value == pack(key, found) else None


def extend(
    txn: Transaction,
    before: int,
    after: int,
    *,
    limit: int = CATCH_UP_MAX,
    appended: Sequence[Record] = (),
) -> None:
    """Store the hashes of what has become complete, in the transaction that appended it.

    Args:
        txn: the write transaction; the records are in it already.
        before: the last position before them.
        after: the last position now.
        limit: how many tiles of earlier records, at most, to store where they are missing.
        appended: the records behind `before`, if they are at hand: they need not be read again.
    """
    first, end = before // TILE_WIDTH, after // TILE_WIDTH
    if first == end:
        return
    if first and not txn.has(_META, key_of(TILE_HEIGHT, first - 1)):
        missing = _first_missing(txn, first)
        end = min(end, missing + limit + end - first)
        first = missing
    for index in range(first, end):
        try:
            known = index * TILE_WIDTH - before  # of the records, those before this tile
            if known >= 0 and known + TILE_WIDTH <= len(appended):
                whole = appended[known : known + TILE_WIDTH]
                _store(txn, TILE_HEIGHT, index, [leaf_hash(record.raw) for record in whole])
            else:
                _store(txn, TILE_HEIGHT, index, _leaves(txn, index, TILE_WIDTH))
        except CorruptionError:  # of an earlier record: a cache has no right to say no
            return
        level, above = TILE_HEIGHT, index
        while (above + 1) % TILE_WIDTH == 0:
            above >>= TILE_HEIGHT
            below = _sound(txn, level, above * TILE_WIDTH, TILE_WIDTH)
            if len(below) < TILE_WIDTH:
                break  # one is damaged: what is above it is made when it is asked for
            level += TILE_HEIGHT
            _store(txn, level, above, list(below.values()))


def _first_missing(txn: Transaction, end: int) -> int:
    """Return the first of the tiles below `end` whose hash is not stored; they are in a row."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        if txn.has(_META, key_of(TILE_HEIGHT, middle)):
            low = middle + 1
        else:
            high = middle
    return low


def _store(txn: Transaction, level: int, index: int, below: list[bytes]) -> None:
    key = key_of(level, index)
    txn.put(_META, key, pack(key, pyramid(below)[-1][0]), replace=True)


def _leaves(txn: Transaction, tile: int, width: int) -> list[bytes]:
    """Return the hashes of the first records of a tile.

    Raises:
        CorruptionError: one is missing, or is not what was stored.
    """
    start = tile * TILE_WIDTH + 1
    found: list[bytes] = []
    for position, raw, leaf in _entries(txn, start, start + width - 1):
        if raw is not None and not codec.checksum_matches(codec.position_key(position), raw):
            raise CorruptionError(f"record {position}: checksum does not match", position=position)
        found.append(leaf)
    return found


def _entries(txn: Transaction, start: int, end: int) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Iterate over positions, the bytes of their records, None if dropped, and the leaf hashes.

    Raises:
        CorruptionError: a record is missing.
    """
    page = txn.page(_LOG, codec.position_key(start), end - start + 1)
    raws = {int.from_bytes(key, "big"): raw for key, raw in page if len(key) == codec.KEY_SIZE}
    is_whole = len(page) == end - start + 1 and page[-1][0] == codec.position_key(end)
    gone = {} if is_whole else dropped.leaves(txn, start, end)
    for position in range(start, end + 1):
        raw = raws.get(position)
        leaf = gone.get(position) if raw is None else leaf_hash(raw)
        if leaf is None:
            raise CorruptionError(f"record {position} is missing", position=position)
        yield position, raw, leaf


def leaves(environment: Environment, last: int) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Iterate over all positions up to a last one: the bytes of their records, and the leaf hashes.

    The bytes are None where the record was dropped. Each tile is read in a transaction of its own.

    Raises:
        CorruptionError: a record is missing.
    """
    for start in range(1, last + 1, TILE_WIDTH):
        with environment.read() as txn:
            found = list(_entries(txn, start, min(start + TILE_WIDTH - 1, last)))
        yield from found


def _sound(txn: Transaction, level: int, start: int, count: int) -> dict[int, bytes]:
    """Return the hashes of a level that are stored and check, by index, in order."""
    sound: dict[int, bytes] = {}
    for key, value in txn.page(_META, key_of(level, start), count):
        index = int.from_bytes(key[-_INDEX_SIZE:], "big")
        if key != key_of(level, index) or index >= start + count:
            break
        found = unpack(key, value)
        if found is not None:
            sound[index] = found
    return sound


def stored(txn: Transaction) -> dict[bytes, bytes]:
    """Return all that is stored of hashes, as it lies there, by key."""
    found: dict[bytes, bytes] = {}
    for key, value in txn.scan(_META, PREFIX):
        if not key.startswith(PREFIX):
            break
        found[key] = value
    return found


class Derivation:
    """The hashes that a log should have stored, derived from its records one by one."""

    def __init__(self) -> None:
        """Start at the first record."""
        self._pending: dict[int, list[bytes]] = {}
        self._count = 0

    def add(self, leaf: bytes) -> dict[bytes, bytes]:
        """Take the hash of the next record in; return keys and values of what it completes."""
        self._count += 1
        complete: dict[bytes, bytes] = {}
        level, found = 0, leaf
        while True:
            row = self._pending.setdefault(level, [])
            row.append(found)
            if len(row) < TILE_WIDTH:
                return complete
            found = pyramid(row)[-1][0]
            row.clear()
            level += TILE_HEIGHT
            key = key_of(level, (self._count >> level) - 1)
            complete[key] = pack(key, found)


class Tree:
    """The hashes of the first `size` records, read as they are asked for and kept meanwhile.

    Each tile is read in a transaction of its own: what is below `size` never changes.
    """

    def __init__(self, environment: Environment, size: int) -> None:
        """Look at a log that has reached `size`."""
        self._environment = environment
        self._size = size
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}

    def subtree(self, level: int, index: int) -> bytes:
        """Return the hash over the records `index << level` up to `(index + 1) << level`, from 0.

        Raises:
            CorruptionError: a record is missing.
        """
        # A hash at the top of a tile is better read, as one of the tile above, than made.
        row = (level - 1) % TILE_HEIGHT + 1 if level else 0
        if row == TILE_HEIGHT:
            return self._tile(level, index >> TILE_HEIGHT)[0][index % TILE_WIDTH]
        tile = self._tile(level - row, index << row >> TILE_HEIGHT)
        return tile[row][index % (TILE_WIDTH >> row)]

    def _tile(self, level: int, number: int) -> list[list[bytes]]:
        """Return the rows of a tile, as far as it is complete, those of its own level first."""
        rows = self._tiles.get((level, number))
        if rows is None:
            start = number * TILE_WIDTH
            width = min(TILE_WIDTH, (self._size >> level) - start)
            rows = self._tiles[level, number] = pyramid(self._hashes(level, start, width))
        return rows

    def _hashes(self, level: int, start: int, width: int) -> list[bytes]:
        if level == 0:
            with self._environment.read() as txn:
                return _leaves(txn, start // TILE_WIDTH, width)
        with self._environment.read() as txn:
            sound = _sound(txn, level, start, width)
        return [sound.get(at) or self._made(level, at) for at in range(start, start + width)]

    def _made(self, level: int, index: int) -> bytes:
        """Return a hash that is not stored, made of those below it."""
        below = level - TILE_HEIGHT
        return pyramid(self._hashes(below, index * TILE_WIDTH, TILE_WIDTH))[-1][0]
