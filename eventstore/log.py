"""Append records to the log and read them: ranges, forward and backward, and streams.

The log knows no rules of images. It guarantees that positions are gapless from 1, that a record is
stored once and never changed, that each names the record of the same image before it, and that
every record read has been checked. A compaction may drop records; reads pass over those, once
`dropped` has confirmed each, and a stream ends where one is missing for that reason. Beside the
log, each commit notes where it ends, so that a last record that vanishes is missed; and where the
stream of an image that is gone ends::

    main        "end"       position, 8 bytes; CRC-32, 4 bytes, of "end" and the position
    tombstones  digest      position, 8 bytes; CRC-32, 4 bytes, of the digest and the position

Stores of the first version have no "end", and tombstones without CRC. Reading the stream of one
image follows the pointers from record to record, so its cost is the number of the image's records,
whatever the length of the log. Reads are done a page at a time, each in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from eventstore import codec, dropped
from eventstore.errors import CompactedError, CorruptionError
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
    entries = txn.entries(_LOG)
    if entries != last and entries + dropped.horizon(txn).dropped != last:
        raise CorruptionError(
            f"{txn.path}: the log ends at {last}, and holds {entries} records", position=last
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
    return codec.sealed(name, codec.position_key(position))


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

    LMDB refuses a position that is not behind all that are there.

    Raises:
        CorruptionError: a position does not follow the one before it.
    """
    position = last_position(txn)
    entries: list[tuple[bytes, bytes]] = []
    for record in records:
        position += 1
        if record.position != position:
            raise CorruptionError(f"record {record.position} does not follow", position=position)
        entries.append((codec.position_key(position), record.raw))
    txn.append_all(_LOG, entries)


def drop(txn: Transaction, position: int) -> bool:
    """Take the record at a position out, whose hash is kept; tell whether it was there."""
    return txn.delete(_LOG, codec.position_key(position))


def has(txn: Transaction, record: Record) -> bool:
    """Tell whether a record has been appended, just as it is."""
    return txn.get(_LOG, codec.position_key(record.position)) == record.raw


def read_one(txn: Transaction, position: int) -> Record:
    """Return the record at a position.

    Raises:
        CompactedError: it was dropped.
        CorruptionError: it is missing or damaged.
    """
    record = find(txn, position)
    if record is None:
        raise CompactedError(position, dropped.horizon(txn).through)
    return record


def find(txn: Transaction, position: int) -> Record | None:
    """Return the record at a position, None if it was dropped.

    Raises:
        CorruptionError: it is missing or damaged.
    """
    raw = txn.get(_LOG, codec.position_key(position))
    if raw is not None:
        return codec.decode(position, raw)
    if not dropped.has(txn, position):
        raise CorruptionError(f"record {position} is missing", position=position)
    return None


def _followed(
    txn: Transaction, entries: Iterable[tuple[bytes, bytes]], after: int, through: int
) -> Iterator[tuple[int, bytes]]:
    """Iterate over the positions in (after, through] and the bytes of their records.

    Raises:
        CorruptionError: one is missing, and was not dropped.
    """
    expected = after + 1
    if expected > through:
        return
    for key, raw in entries:
        position = int.from_bytes(key, "big") if len(key) == codec.KEY_SIZE else 0
        if position != expected:
            if position < expected:
                break
            _refuse_missing(txn, expected, min(position - 1, through))
            if position > through:
                return
        yield position, raw
        if position == through:
            return
        expected = position + 1
    _refuse_missing(txn, expected, through)


def _refuse_missing(txn: Transaction, first: int, last: int) -> None:
    missing = dropped.first_missing(txn, first, last)
    if missing:
        raise CorruptionError(f"record {missing} is missing", position=missing)


def scan(txn: Transaction, after: int, through: int) -> Iterator[Record]:
    """Iterate over the records in (after, through], forward, in an open transaction.

    Raises:
        CorruptionError: one is missing or damaged.
    """
    entries = txn.scan(_LOG, codec.position_key(after + 1))
    for position, raw in _followed(txn, entries, after, through):
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
            if _is_whole(page, after + length, length):
                after += length
            else:
                end = through
                if len(page) == length and len(page[-1][0]) == codec.KEY_SIZE:
                    end = min(through, int.from_bytes(page[-1][0], "big"))
                found = list(_followed(txn, page, after, end))
                page = [(codec.position_key(position), raw) for position, raw in found]
                after = end
        if page:
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
    if not reverse:
        for found in pages(environment, after, through):
            for key, raw in found:
                yield codec.decode(int.from_bytes(key, "big"), raw)
        return
    while after < through:
        low = max(after, through - PAGE_LENGTH)
        with environment.read() as txn:
            page = list(scan(txn, low, through))
        through = low
        yield from reversed(page)


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
                record = find(txn, position)
                if record is None:
                    position = 0
                    break
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

    Times never decrease along the log, so bisection finds it. Of records that were dropped, nothing
    but the time of that at the horizon is known: before it, the last of those that are kept counts.
    """
    low, high = 0, last_position(txn)
    while low < high:
        middle = (low + high + 1) // 2
        found = next(txn.scan(_LOG, codec.position_key(middle)), None)
        if found is None:
            raise CorruptionError(f"record {middle} is missing", position=middle)
        record = codec.decode(int.from_bytes(found[0], "big"), found[1])
        if record.position <= high and record.time_ns <= time_ns:
            low = record.position
        else:
            high = middle - 1
    compacted = dropped.horizon(txn)
    return max(low, compacted.through) if compacted.time_ns <= time_ns else low


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
