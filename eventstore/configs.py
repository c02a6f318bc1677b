"""Keep image configs by their digest, and check them whenever they are read.

A config is written in the transaction of the `Created` that names it, never changed, and kept after
`Deleted`: the past stays readable. The first byte of a value says how the rest is stored::

    0  config           as it is
    1                   it was lost before the store was salvaged from a damaged one
    2  packed           packed, see config_packing

Written is what is shorter, 0 or 2; all are read, in whatever mixture. A value that a version does
not know is no damage, and is said to be what it is.
"""

from __future__ import annotations

from eventstore import config_packing, digest
from eventstore.errors import CorruptionError, UnknownFormatError
from eventstore.lmdb_transaction import Transaction

PLAIN, LOST, PACKED = 0, 1, 2
_DATABASE = "configs"
_PLAIN, _LOST, _PACKED = bytes([PLAIN]), bytes([LOST]), bytes([PACKED])


def put(txn: Transaction, key: bytes, config: bytes) -> None:
    """Store a config under its digest; one that is there already stays, unless it was lost."""
    value = pack(config)
    if not txn.add(_DATABASE, key, value) and txn.get(_DATABASE, key) == _LOST:
        txn.put(_DATABASE, key, value, replace=True)


def put_lost(txn: Transaction, key: bytes) -> None:
    """Note that the config under a digest was lost, unless it is there."""
    txn.add(_DATABASE, key, _LOST)


def is_lost(value: bytes) -> bool:
    """Tell whether a stored value says that the config was lost before the store was salvaged."""
    return value == _LOST


def is_gone(txn: Transaction, key: bytes) -> bool:
    """Tell whether a config is known to be there no more."""
    return is_lost(txn.get(_DATABASE, key) or b"")


def get(txn: Transaction, key: bytes) -> bytes:
    """Return the config under a digest, its digest checked.

    Raises:
        CorruptionError: it is not there, or its bytes are not those that were stored.
    """
    value = txn.get(_DATABASE, key)
    if value is None:
        image_id = digest.to_text(key)
        raise CorruptionError(f"the config of {image_id} is missing", digest=image_id)
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
    if value[:1] not in (_PLAIN, _PACKED):
        raise UnknownFormatError(
            f"the config of {image_id} is stored in a way that this version does not know",
            found=value[:1].hex(),
            supported=(PLAIN, PACKED),
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
