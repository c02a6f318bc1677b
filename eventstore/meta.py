"""Read and write what a store says of itself: its format, its id, when it was made, of what.

A store that was salvaged from another is a fork of it: it has an id of its own, and keeps the
other's id and the last position that they share. What is said is sealed by a CRC-32, in the entry
`seal`; stores of the first version have none.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from zlib import crc32

from msgspec import Struct

from eventstore.clock import Clock
from eventstore.errors import CorruptionError, UnknownFormatError
from eventstore.lmdb_env import Environment, Transaction

FORMAT = 1
_DATABASE = "meta"
_SEAL = b"seal"
_SEALED = (b"format", b"store_id", b"created_ns", b"forked_from", b"forked_at")


class Fork(Struct, frozen=True):
    """The store that another one was made from, and the last position that they share."""

    store_id: str
    position: int


class Identity(Struct, frozen=True):
    """The id of a store and when it was made, nanoseconds since 1970, UTC."""

    store_id: str
    created_ns: int
    fork: Fork | None = None


def founding(now: Clock, fork: Fork | None = None) -> Callable[[Transaction], None]:
    """Return what writes the identity of a new store.

    Args:
        now: gives nanoseconds since 1970, UTC.
        fork: what it is made from, None for a store of its own.
    """

    def write(txn: Transaction) -> None:
        txn.put(_DATABASE, b"format", str(FORMAT).encode())
        txn.put(_DATABASE, b"store_id", str(uuid.uuid4()).encode())
        txn.put(_DATABASE, b"created_ns", str(now()).encode())
        if fork is not None:
            txn.put(_DATABASE, b"forked_from", fork.store_id.encode())
            txn.put(_DATABASE, b"forked_at", str(fork.position).encode())
        txn.put(_DATABASE, _SEAL, _seal(txn))

    return write


def is_sealed(txn: Transaction) -> bool:
    """Tell whether what the store says of itself is sealed; that of the first version is not."""
    return txn.get(_DATABASE, _SEAL) is not None


def _seal(txn: Transaction) -> bytes:
    said = [(name, txn.get(_DATABASE, name)) for name in _SEALED]
    return b"%08x" % crc32(repr(said).encode())


def read(environment: Environment) -> Identity:
    """Return the identity of a store.

    Raises:
        UnknownFormatError: the format is not ours, or of another version.
        CorruptionError: what it says of itself is damaged.
    """
    with environment.read() as txn:
        return read_in(txn)


def read_in(txn: Transaction) -> Identity:
    """Return the identity of a store in an open transaction.

    Raises:
        UnknownFormatError: as `read`.
        CorruptionError: as `read`.
    """
    found = txn.get(_DATABASE, b"format")
    if found != str(FORMAT).encode():
        text = None if found is None else found.decode("ascii", "replace")
        raise UnknownFormatError(
            f"{txn.path} is a store of format {text}; this version reads {FORMAT}",
            found=text,
            supported=(FORMAT,),
        )
    seal = txn.get(_DATABASE, _SEAL)
    if seal is not None and seal != _seal(txn):
        raise CorruptionError(f"{txn.path}: what the store says of itself is damaged")
    store_id = (txn.get(_DATABASE, b"store_id") or b"").decode("ascii", "replace")
    created = txn.get(_DATABASE, b"created_ns") or b"0"
    return Identity(store_id, int(created) if created.isdigit() else 0, _fork(txn))


def _fork(txn: Transaction) -> Fork | None:
    origin, at = txn.get(_DATABASE, b"forked_from"), txn.get(_DATABASE, b"forked_at") or b"0"
    if origin is None:
        return None
    return Fork(origin.decode("ascii", "replace"), int(at) if at.isdigit() else 0)
