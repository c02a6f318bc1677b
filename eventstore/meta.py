"""Read and write what a store says of itself: its format, its id, when it was made."""

from __future__ import annotations

import uuid

from msgspec import Struct

from eventstore.clock import Clock
from eventstore.errors import UnknownFormatError
from eventstore.lmdb_env import Environment, Transaction

FORMAT = 1
_DATABASE = "meta"


class Identity(Struct, frozen=True):
    """The id of a store and when it was made, nanoseconds since 1970, UTC."""

    store_id: str
    created_ns: int


def prepare(environment: Environment, now: Clock) -> Identity:
    """Return the identity of a store, given to it now if it is new.

    Raises:
        UnknownFormatError: the format is not ours, or of a later version.
    """
    with environment.read() as txn:
        identity = _read(environment, txn)
    if identity is not None:
        return identity
    if environment.read_only:
        raise UnknownFormatError(
            f"{environment.path} holds no store", found=None, supported=(FORMAT,)
        )

    def work(txn: Transaction) -> Identity:
        found = _read(environment, txn)
        if found is not None:
            return found
        identity = Identity(str(uuid.uuid4()), now())
        txn.put(_DATABASE, b"format", str(FORMAT).encode())
        txn.put(_DATABASE, b"store_id", identity.store_id.encode())
        txn.put(_DATABASE, b"created_ns", str(identity.created_ns).encode())
        return identity

    return environment.write(work)


def _read(environment: Environment, txn: Transaction) -> Identity | None:
    found = txn.get(_DATABASE, b"format")
    if found is None and txn.entries("log") == 0:
        return None
    if found != str(FORMAT).encode():
        text = None if found is None else found.decode("ascii", "replace")
        raise UnknownFormatError(
            f"{environment.path} is a store of format {text}; this version reads {FORMAT}",
            found=text,
            supported=(FORMAT,),
        )
    store_id = (txn.get(_DATABASE, b"store_id") or b"").decode("ascii", "replace")
    created = txn.get(_DATABASE, b"created_ns") or b"0"
    return Identity(store_id, int(created) if created.isdigit() else 0)
