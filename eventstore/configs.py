"""Keep image configs by their digest, and check them whenever they are read.

A config is written in the transaction of the `Created` that names it, never changed, and kept after
`Deleted`: the past stays readable. Only a redaction puts a mark in its place. The first byte of a
value says how the rest is stored::

    0  config           as it is
    1                   it was lost before the store was salvaged from a damaged one
    2  packed           packed, see config_packing
    3  position, CRC    it was redacted by the record at the position, 8 bytes; CRC-32, 4 bytes, of
                        the digest and the position

Written is what is shorter, 0 or 2; all are read, in whatever mixture. A value that a version does
not know is no damage, and is said to be what it is.
"""

from __future__ import annotations

from eventstore import config_packing, digest, log
from eventstore.errors import CorruptionError, RedactedError, UnknownFormatError
from eventstore.events import Record, Redacted
from eventstore.lmdb_transaction import Transaction

PLAIN, LOST, PACKED, REDACTED = 0, 1, 2, 3
_DATABASE = "configs"
_PLAIN, _LOST, _PACKED = bytes([PLAIN]), bytes([LOST]), bytes([PACKED])
_REDACTED = bytes([REDACTED])


def put(txn: Transaction, key: bytes, config: bytes) -> None:
    """Store a config under its digest; one that is there already stays.

    It takes the place of a mark, that it was lost or redacted: whoever calls has judged that.
    """
    value = pack(config)
    if txn.add(_DATABASE, key, value):
        return
    stored = txn.get(_DATABASE, key) or b""
    if is_lost(stored) or stored[:1] == _REDACTED:
        txn.put(_DATABASE, key, value, replace=True)


def put_lost(txn: Transaction, key: bytes) -> None:
    """Note that the config under a digest was lost, unless it is there.

    Where it was redacted, and created again since, it is lost as well: the mark says no more.
    """
    if not txn.add(_DATABASE, key, _LOST) and (txn.get(_DATABASE, key) or b"")[:1] == _REDACTED:
        txn.put(_DATABASE, key, _LOST, replace=True)


def put_mark(txn: Transaction, key: bytes, position: int) -> None:
    """Put in the place of a config that the record at a position redacted it."""
    txn.put(_DATABASE, key, _REDACTED + log.pack_note(key, position), replace=True)


def redacted_at(key: bytes, value: bytes) -> int:
    """Return the position of the record that redacted a config, 0 if its value is no such mark."""
    position = int.from_bytes(value[1:9], "big")
    return position if value == _REDACTED + log.pack_note(key, position) else 0


def redaction(txn: Transaction, key: bytes) -> Record | None:
    """Return the record that redacted the config under a digest, None if none did.

    Raises:
        CorruptionError: the record that the mark names is not there, or is another.
    """
    position = redacted_at(key, txn.get(_DATABASE, key) or b"")
    if not position:
        return None
    record = log.read_one(txn, position)
    if not isinstance(record.event, Redacted) or record.event.digest != key:
        image_id = digest.to_text(key)
        raise CorruptionError(
            f"the config of {image_id} is marked as redacted, and record {position} says no such"
            " thing",
            digest=image_id,
        )
    return record


def refusal(record: Record) -> RedactedError:
    """Return the error that says who redacted a config, when and why."""
    return RedactedError(
        record.image_id,
        position=record.position,
        actor=record.actor,
        time=record.time,
        reason=record.reason,
    )


def is_lost(value: bytes) -> bool:
    """Tell whether a stored value says that the config was lost before the store was salvaged."""
    return value == _LOST


def is_gone(txn: Transaction, key: bytes) -> bool:
    """Tell whether a config is known to be there no more: lost, or redacted."""
    value = txn.get(_DATABASE, key) or b""
    return is_lost(value) or redacted_at(key, value) > 0


def get(txn: Transaction, key: bytes) -> bytes:
    """Return the config under a digest, its digest checked.

    Raises:
        CorruptionError: it is not there, or its bytes are not those that were stored.
        RedactedError: they were destroyed.
    """
    value = txn.get(_DATABASE, key)
    if value is None:
        image_id = digest.to_text(key)
        raise CorruptionError(f"the config of {image_id} is missing", digest=image_id)
    if value[:1] == _REDACTED:
        record = redaction(txn, key)
        if record is not None:
            raise refusal(record)
    return unpack(key, value)


def pack(config: bytes) -> bytes:
    """Return the value that a config is stored as: packed, or as it is if that is shorter."""
    packed = config_packing.pack(config)
    return _PACKED + packed if len(packed) < len(config) else _PLAIN + config


def unpack(key: bytes, value: bytes) -> bytes:
    """Return the config that a stored value holds, its digest checked.

    Raises:
        CorruptionError: its bytes are not those that were stored.
    """
    config = content(value)
    if config is not None and digest.digest_of(config) == key:
        return config
    image_id = digest.to_text(key) if len(key) == digest.DIGEST_SIZE else key.hex()
    if is_lost(value):
        raise CorruptionError(
            f"the config of {image_id} was lost before this store was salvaged", digest=image_id
        )
    if redacted_at(key, value):
        raise CorruptionError(
            f"the config of {image_id} was redacted by record {redacted_at(key, value)}",
            digest=image_id,
        )
    if value[:1] not in (_PLAIN, _PACKED, _REDACTED):
        raise UnknownFormatError(
            f"the config of {image_id} is stored in a way that this version does not know",
            found=value[:1].hex(),
            supported=(PLAIN, PACKED, REDACTED),
        )
    raise CorruptionError(f"the config of {image_id} is damaged", digest=image_id)


def content(value: bytes) -> bytes | None:
    """Return the config that a stored value claims to hold, None if it can hold none.

    Nothing says that it is the right one: whoever has its digest must check.
    """
    form = value[:1]
    if form == _PACKED:
        return config_packing.unpack(value[1:])
    return value[1:] if form == _PLAIN else None
