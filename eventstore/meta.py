"""Read and write what a store says of itself: its format, its id, when it was made."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from msgspec import Struct

from eventstore.clock import Clock
from eventstore.errors import UnknownFormatError
from eventstore.lmdb_env import Environment, Transaction

FORMAT = 1
_DATABASE = "meta"
_DIGITS_MAX = 19  # what 64 bits hold


class Identity(Struct, frozen=True):
    """The id of a store and when it was made, nanoseconds since 1970, UTC."""

    store_id: str
    created_ns: int


def founding(now: Clock) -> Callable[[Transaction], None]:
    """Return what writes the identity of a new store."""

    def write(txn: Transaction) -> None:
        txn.put(_DATABASE, b"format", str(FORMAT).encode())
        txn.put(_DATABASE, b"store_id", str(uuid.uuid4()).encode())
        txn.put(_DATABASE, b"created_ns", str(now()).encode())

    return write


def read(environment: Environment) -> Identity:
    """Return the identity of a store.

    Raises:
        UnknownFormatError: the format is not ours, or of another version.
    """
    with environment.read() as txn:
        return _read(environment, txn)


def _read(environment: Environment, txn: Transaction) -> Identity:
    found = txn.get(_DATABASE, b"format")
    if found != str(FORMAT).encode():
        text = None if found is None else found.decode("ascii", "replace")
        raise UnknownFormatError(
            f"{environment.path} is a store of format {text}; this version reads {FORMAT}",
            found=text,
            supported=(FORMAT,),
        )
    store_id = (txn.get(_DATABASE, b"store_id") or b"").decode("ascii", "replace")
    created = txn.get(_DATABASE, b"created_ns") or b"0"
    known = created.isdigit() and len(created) <= _DIGITS_MAX
    return Identity(store_id, int(created) if known else 0)
