"""Append records to the log and read them: ranges, forward and backward, and streams.

The log knows no rules of images. It guarantees that positions are gapless from 1, that a record is
stored once and never changed, that each names the record of the same image before it, and that
every record read has been checked. Beside the log, each commit notes where it ends, so that a last
record that vanishes is missed; and where the stream of an image that is gone ends::

    main        "end"       position, 8 bytes; CRC-32, 4 bytes, of "end" and the position
    tombstones  digest      position, 8 bytes; CRC-32, 4 bytes, of the digest and the position

Stores of the first version have no "end", and tombstones without CRC. Reading the stream of one
image follows the pointers from record to record, so its cost is the number of the image's records,
whatever the length of the log. Reads are done a page at a time, each in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from zlib import crc32

from eventstore import codec
from eventstore.errors import CorruptionError
from eventstore.events import Record
from eventstore.lmdb_env import MAIN, Environment
from eventstore.lmdb_transaction import Transaction

PAGE_LENGTH = 1024
_LOG = "log"
_TOMBSTONES = "tombstones"
_END = b"end"
NOTE_SIZE = codec.KEY_SIZE + codec.CHECKSUM_SIZE


def last_position(txn: Transaction) -> int:
    """Return the position of the last record, 0 for the empty log."""
    key = txn.last_key(_LOG)
    return 0 if key is None else int.from_bytes(key, "big")


def checked_end(txn: Transaction) -> int:
    """Return the position of the last record, and make sure that it is the last one appended.

    Raises:
        CorruptionError: records at the end, or the note of it, were lost.
    """
    last = last_position(txn)
    end = noted_end(txn)
    if end is not None and end != last:
        raise CorruptionError(
            f"{txn.path}: the log ends at {last}, and {end} is the last record that was appended",
            position=min(last, end) + 1,
        )
    if txn.entries(_LOG) != last:
        raise CorruptionError(
            f"{txn.path}: the log ends at {last}, and holds {txn.entries(_LOG)} records",
            position=last,
        )
    return last


def noted_end(txn: Transaction) -> int | None:
    """Return the position that is noted as the last one, None in a store that notes none.

    Raises:
        CorruptionError: the note is damaged.
    """
    value = txn.get(MAIN, _END)
    return None if value is None else unpack_note(_END, value, "the note of the log's end")


def note_end(txn: Transaction, position: int) -> None:
    """Note which record is the last."""
    txn.put(MAIN, _END, pack_note(_END, position), replace=True)


def pack_note(name: bytes, position: int) -> bytes:
    """Return a position as it is noted under a name."""
    key = codec.position_key(position)
    return key + crc32(key, crc32(name)).to_bytes(codec.CHECKSUM_SIZE, "big")


def unpack_note(name: bytes, value: bytes, what: str) -> int:
    """Return the position that is noted under a name; the inverse of `pack_note`.

    Raises:
        CorruptionError: it is not what was noted.
    """
    position = int.from_bytes(value[: codec.KEY_SIZE], "big")
    if len(value) not in (codec.KEY_SIZE, NOTE_SIZE) or (
        len(value) == NOTE_SIZE and value != pack_note(name, position)
    ):
        raise CorruptionError(f"{what} is damaged")
    return position


def append(txn: Transaction, record: Record) -> None:
    """Put a record at the end of the log.

    It counts as durable when the transaction has been committed, not before.

    Raises:
        CorruptionError: its position does not follow the last one.
    """
    if record.position != last_position(txn) + 1:
        raise CorruptionError(f"record {record.position} does not follow", position=record.position)
    txn.append(_LOG, codec.position_key(record.position), record.raw)


def append_all(txn: Transaction, records: Sequence[Record]) -> None:
    """Put records at the end of the log, as `append` does one by one.

    How many there are tells the last position, for there is no gap; LMDB refuses one that is there.

    Raises:
        CorruptionError: a position does not follow the one before it.
    """
    position = txn.entries(_LOG)
    entries: list[tuple[bytes, bytes]] = []
    for record in records:
        position += 1
        if record.position != position:
            raise CorruptionError(f"record {record.position} does not follow", position=position)
        entries.append((codec.position_key(position), record.raw))
    txn.append_all(_LOG, entries)


def has(txn: Transaction, record: Record) -> bool:
    """Tell whether a record has been appended, just as it is."""
    return txn.get(_LOG, codec.position_key(record.position)) == record.raw


def read_one(txn: Transaction, position: int) -> Record:
    """Return the record at a position.

    Raises:
        CorruptionError: it is missing or damaged.
    """
    raw = txn.get(_LOG, codec.position_key(position))
    if raw is None:
        raise CorruptionError(f"record {position} is missing", position=position)
    return codec.decode(position, raw)


def _followed(
    entries: Iterable[tuple[bytes, bytes]], after: int, through: int
) -> Iterator[tuple[int, bytes]]:
    """Iterate over the positions in (after, through] and the bytes of their records.

    Raises:
        CorruptionError: one is missing.
    """
    expected = after + 1
    if expected > through:
        return
    for key, raw in entries:
        if key != codec.position_key(expected):
            break
        yield expected, raw
        if expected == through:
            return
        expected += 1
    raise CorruptionError(f"record {expected} is missing", position=expected)


def scan(txn: Transaction, after: int, through: int) -> Iterator[Record]:
    """Iterate over the records in (after, through], forward, in an open transaction.

    Raises:
        CorruptionError: one is missing or damaged.
    """
    entries = txn.scan(_LOG, codec.position_key(after + 1))
    for position, raw in _followed(entries, after, through):
        yield codec.decode(position, raw)


def pages(
    environment: Environment, after: int, through: int
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Iterate over the keys of the positions in (after, through], and the bytes of their records.

    Each list is of a transaction of its own.

    Raises:
        CorruptionError: one is missing.
    """
    while after < through:
        length = min(through - after, PAGE_LENGTH)
        with environment.read() as txn:
            page = txn.page(_LOG, codec.position_key(after + 1), length)
        after += length
        if not _is_whole(page, after, length):
            for _ in _followed(page, after - length, after):
                pass  # it says which is missing
        yield page


def _is_whole(page: list[tuple[bytes, bytes]], last: int, length: int) -> bool:
    """Tell whether a page is of consecutive positions up to a last one.

    Keys are different and sorted. So many that have the size of a position, from one that is not
    less than the first to the last, are all that there can be.
    """
    return (
        len(page) == length
        and page[-1][0] == codec.position_key(last)
        and set(map(len, map(itemgetter(0), page))) == {codec.KEY_SIZE}
    )


def read(
    environment: Environment, after: int, through: int, *, reverse: bool = False
) -> Iterator[Record]:
    """Iterate over the records in (after, through], a page a transaction.

    Raises:
        CorruptionError: one is missing or damaged.
    """
    while after < through:
        if reverse:
            low, high = max(after, through - PAGE_LENGTH), through
            through = low
        else:
            low, high = after, min(through, after + PAGE_LENGTH)
            after = high
        with environment.read() as txn:
            page = list(scan(txn, low, high))
        yield from reversed(page) if reverse else page


def stream(
    environment: Environment,
    image: bytes,
    head: int,
    after: int,
    through: int,
    *,
    reverse: bool = False,
) -> Iterator[Record]:
    """Iterate over the records of one image in (after, through].

    Args:
        environment: where they lie.
        image: the digest of the image.
        head: position of the last record of the image, 0 for none.
        after: exclusive lower bound.
        through: inclusive upper bound.
        reverse: newest first.

    Raises:
        CorruptionError: one is missing or damaged, or the chain leads astray.
    """
    backward = _stream_backward(environment, image, head, after, through)
    yield from backward if reverse else reversed(list(backward))


def _stream_backward(
    environment: Environment, image: bytes, head: int, after: int, through: int
) -> Iterator[Record]:
    position = head
    while position > after:
        page: list[Record] = []
        with environment.read() as txn:
            while position > after and len(page) < PAGE_LENGTH:
                record = read_one(txn, position)
                if record.previous >= position or record.event.digest != image:
                    raise CorruptionError(
                        f"record {position} is not one of its image's stream", position=position
                    )
                if position <= through:
                    page.append(record)
                position = record.previous
        yield from page


def position_at(txn: Transaction, time_ns: int) -> int:
    """Return the position of the last record whose time is at most `time_ns`, 0 for none.

    Times never decrease along the log, so bisection finds it.
    """
    low, high = 0, last_position(txn)
    while low < high:
        middle = (low + high + 1) // 2
        if read_one(txn, middle).time_ns <= time_ns:
            low = middle
        else:
            high = middle - 1
    return low


def tombstone(txn: Transaction, image: bytes) -> int:
    """Return the position of the last record of an image that is gone, 0 if there is none.

    Raises:
        CorruptionError: what is noted there is no position.
    """
    value = txn.get(_TOMBSTONES, image)
    return 0 if value is None else unpack_note(image, value, f"the tombstone of {image.hex()}")


def has_tombstones(txn: Transaction) -> bool:
    """Tell whether any image is gone."""
    return txn.entries(_TOMBSTONES) > 0


def put_tombstone(txn: Transaction, image: bytes, position: int) -> None:
    """Note where the stream of an image that is gone ends."""
    txn.put(_TOMBSTONES, image, pack_note(image, position), replace=True)


def drop_tombstone(txn: Transaction, image: bytes) -> None:
    """Forget where the stream of an image ended: it goes on."""
    txn.delete(_TOMBSTONES, image)


def tombstones(txn: Transaction) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the digests of images that are gone, sorted, and what is noted of each."""
    yield from txn.scan(_TOMBSTONES)


def tombstones_matching(txn: Transaction, low: bytes, high: bytes) -> Iterator[bytes]:
    """Iterate over the digests of images that are gone, from `low` through `high`."""
    for image, _ in txn.scan(_TOMBSTONES, low):
        if image > high:
            return
        yield image
