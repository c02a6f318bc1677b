"""Keep, beside the log, which record is the last about each name.

The records about a name, `Tagged` and `Untagged`, each say where the one before them lies, so that
a name's history is a chain as the stream of an image is. Where the chain ends is noted here, in the
transaction that appends the record::

    meta    "name:" and the name    position, 8 bytes; CRC-32, 4 bytes, of the key and the position

It is derived from the log: `verify` derives it again, and `salvage` makes it anew. A name that was
taken away stays, for its history does; it goes when a compaction drops the last record about it,
which leads to nothing that anybody may still ask for. A name means an image only as long as the
life of the image lasts that it was given to; an image that is deleted loses its names without a
further record.
"""

from __future__ import annotations

from collections.abc import Iterator

from eventstore import log
from eventstore.errors import CorruptionError
from eventstore.events import Named, Record, Tagged, Untagged
from eventstore.lmdb_transaction import Transaction

_DATABASE = "meta"
_PREFIX = b"name:"


def head(txn: Transaction, name: str) -> int:
    """Return the position of the last record about a name, 0 if there is none.

    Raises:
        CorruptionError: what is noted there is no position.
    """
    key = _key(name)
    value = txn.get(_DATABASE, key)
    return 0 if value is None else unpack(key, value)


def put(txn: Transaction, name: str, position: int) -> None:
    """Note which record is the last about a name."""
    key = _key(name)
    txn.put(_DATABASE, key, log.pack_note(key, position), replace=True)


def stored(txn: Transaction, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys of names behind one of them, sorted, and what is noted of each."""
    for key, value in txn.scan(_DATABASE, max(after, _PREFIX)):
        if not key.startswith(_PREFIX):
            return
        if key != after:
            yield key, value


def name_of(key: bytes) -> str:
    """Return the name that a key is of."""
    return key.removeprefix(_PREFIX).decode("utf-8", "backslashreplace")


def unpack(key: bytes, value: bytes) -> int:
    """Return the position that is noted under the key of a name.

    Raises:
        CorruptionError: it is not what was noted.
    """
    if len(value) != log.NOTE_SIZE:
        raise CorruptionError(f"what is noted of the name {name_of(key)} is damaged")
    return log.unpack_note(key, value, f"what is noted of the name {name_of(key)}")


def last(txn: Transaction, name: str) -> tuple[int, Named | None]:
    """Return the last record about a name: its position, 0 for none, and its event.

    Raises:
        CorruptionError: it is damaged, or about something else.
    """
    position = head(txn, name)
    event = event_at(txn, name, position) if position else None
    return (0, None) if event is None else (position, event)


def event_at(txn: Transaction, name: str, position: int) -> Named | None:
    """Return the event of the record at a position, which is about a name; None if it was dropped.

    Raises:
        CorruptionError: it is damaged, or about something else.
    """
    record = log.find(txn, position)
    return None if record is None else named(record, name)


def named(record: Record, name: str) -> Named:
    """Return the event of a record that is about a name, and leads further back.

    Raises:
        CorruptionError: it is not.
    """
    event = record.event
    if not isinstance(event, Tagged | Untagged) or event.name != name:
        raise CorruptionError(
            f"record {record.position} is not about the name {name}", position=record.position
        )
    if event.before >= record.position:
        raise CorruptionError(
            f"record {record.position} is not one of its name's history", position=record.position
        )
    return event


def at(txn: Transaction, name: str, position: int, through: int) -> tuple[int, Named | None]:
    """Return the last record about a name that is not behind a position.

    Args:
        txn: where to read.
        name: which name.
        position: of a record about it to walk back from, 0 for none.
        through: the inclusive bound.

    Raises:
        CorruptionError: a record on the way is damaged, or leads astray.
    """
    while position:
        event = event_at(txn, name, position)
        if event is None:
            break
        if position <= through:
            return position, event
        position = event.before
    return 0, None


def drop(txn: Transaction, key: bytes, through: int) -> None:
    """Forget a name, given as its key, unless there is a record about it behind a position."""
    value = txn.get(_DATABASE, key)
    if value is not None and unpack(key, value) <= through:
        txn.delete(_DATABASE, key)


def _key(name: str) -> bytes:
    return _PREFIX + name.encode()
