"""Keep image configs by their digest, and check them whenever they are read.

A config is written in the transaction of the `Created` that names it, never changed, and kept after
`Deleted`: the past stays readable. The first byte of a value says how the rest is stored: 0 is the
bytes as they are, 1 that they were lost before the store was salvaged from a damaged one.
"""

from __future__ import annotations

from eventstore import digest
from eventstore.errors import CorruptionError, UnknownFormatError
from eventstore.lmdb_transaction import Transaction

PLAIN, LOST = 0, 1
_DATABASE = "configs"


def put(txn: Transaction, key: bytes, config: bytes) -> None:
    """Store a config under its digest; one that is there already stays, unless it was lost."""
    found = txn.get(_DATABASE, key)
    if found is None or is_lost(found):
        txn.put(_DATABASE, key, bytes([PLAIN]) + config, replace=True)


def put_lost(txn: Transaction, key: bytes) -> None:
    """Note that the config under a digest was lost."""
    txn.put(_DATABASE, key, bytes([LOST]))


def is_lost(value: bytes) -> bool:
    """Tell whether a stored value says that the config was lost before the store was salvaged."""
    return value == bytes([LOST])


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


def unpack(key: bytes, value: bytes) -> bytes:
    """Return the config that a stored value holds, its digest checked.

    Raises:
        CorruptionError: its bytes are not those that were stored.
    """
    image_id = digest.to_text(key) if len(key) == digest.DIGEST_SIZE else key.hex()
    if is_lost(value):
        raise CorruptionError(
            f"the config of {image_id} was lost before this store was salvaged", digest=image_id
        )
    if value[:1] != bytes([PLAIN]):
        raise UnknownFormatError(
            f"the config of {image_id} is stored in a way that this version does not know",
            found=value[:1].hex(),
            supported=(PLAIN,),
        )
    config = value[1:]
    if digest.digest_of(config) != key:
        raise CorruptionError(f"the config of {image_id} is damaged", digest=image_id)
    return config
