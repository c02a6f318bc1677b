"""Read and write what a store says of itself: its format, its id, when it was made, its forks.

Keys of the database `meta`, all values text::

    format         1
    store_id       a UUID, given once
    created_ns     when the store was made: nanoseconds since 1970, UTC
    forked_from    id of the store that this one is a copy of; only in copies
    forked_at      the last position that both have; only in copies
    forks_before   JSON: the forks of that store itself, nearest first; only in copies of copies
    seal           CRC-32 of all that, in hex; stores of the first version have none

Two stores with one id have one history. A copy that may be appended to is another history, so it
gets an id of its own, and says up to which position it holds the records of the other.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec
from msgspec import Struct

from eventstore import clock
from eventstore.errors import CorruptionError, UnknownFormatError
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction

FORMAT = 1
_DATABASE = "meta"
_SEAL = b"seal"
_SEALED = (b"format", b"store_id", b"created_ns", b"forked_from", b"forked_at", b"forks_before")
_SHOWN_LENGTH_MAX = 40
_STORE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"-?[0-9]{1,19}")


class Fork(Struct, frozen=True):
    """Where a copy left another store.

    Attributes:
        store_id: the id of the other store.
        position: the last position up to which both hold the same records.
    """

    store_id: str
    position: int


class Identity(Struct, frozen=True):
    """What a store says of itself.

    Attributes:
        store_id: its id.
        created_ns: when it was made, nanoseconds since 1970, UTC.
        fork: what it is a copy of; None if it was made empty, or that could not be salvaged.
        forks_before: the forks of what it is a copy of, nearest first.
    """

    store_id: str
    created_ns: int
    fork: Fork | None = None
    forks_before: tuple[Fork, ...] = ()

    @property
    def forks(self) -> tuple[Fork, ...]:
        """Return this store's fork, that of the store it names, and so on; nearest first."""
        return () if self.fork is None else (self.fork, *self.forks_before)


def founding(
    now: clock.Clock, fork: Fork | None = None, before: Sequence[Fork] = ()
) -> Callable[[Transaction], None]:
    """Return what writes the identity of a new store, in place of one that was copied with it.

    Args:
        now: gives the time.
        fork: what the new store is a copy of, None if it is none.
        before: the forks of that one, nearest first.
    """

    def write(txn: Transaction) -> None:
        created_ns = max(clock.reading(now), 0)
        values = {
            b"format": str(FORMAT),
            b"store_id": str(uuid.uuid4()),
            b"created_ns": str(created_ns),
        }
        if fork is not None:
            values |= {b"forked_from": fork.store_id, b"forked_at": str(fork.position)}
        if before:
            values[b"forks_before"] = msgspec.json.encode(before).decode()
        for key, value in values.items():
            txn.put(_DATABASE, key, value.encode(), replace=True)
        txn.put(_DATABASE, _SEAL, _seal(txn), replace=True)

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
        CorruptionError: the store does not say who it is.
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
        text = None if found is None else _shown(found)
        raise UnknownFormatError(
            f"{txn.path} is a store of format {text!r}; this version reads {FORMAT}",
            found=text,
            supported=(FORMAT,),
        )
    identity = _said(txn)
    seal = txn.get(_DATABASE, _SEAL)
    if seal is not None and seal != _seal(txn):
        raise CorruptionError(
            f"{txn.path}: what the store says of itself is damaged; restore a backup"
        )
    return identity


def _said(txn: Transaction) -> Identity:
    """Return what the single values say, each of which has the form of its key."""
    store_id = _text(txn, b"store_id", _STORE_ID)
    created_ns = int(_text(txn, b"created_ns", _NUMBER))
    if not clock.STORED_MIN_NS <= created_ns <= clock.STORED_MAX_NS:
        raise _damaged(txn, b"created_ns", str(created_ns).encode())
    if txn.get(_DATABASE, b"forked_from") is None:
        return Identity(store_id, created_ns)
    fork = Fork(
        _text(txn, b"forked_from", _STORE_ID),
        int(_text(txn, b"forked_at", _NUMBER)),
    )
    return Identity(store_id, created_ns, fork, _forks_before(txn))


def _forks_before(txn: Transaction) -> tuple[Fork, ...]:
    raw = txn.get(_DATABASE, b"forks_before") or b"[]"
    try:
        return msgspec.json.decode(raw, type=tuple[Fork, ...])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _damaged(txn, b"forks_before", raw) from error


def _text(txn: Transaction, key: bytes, form: re.Pattern[str]) -> str:
    """Return a value that has the form of its key.

    Raises:
        CorruptionError: it is missing, or is of no such form.
    """
    found = txn.get(_DATABASE, key)
    text = "" if found is None else found.decode("ascii", "replace")
    if form.fullmatch(text) is None:
        raise _damaged(txn, key, found)
    return text


def _damaged(txn: Transaction, key: bytes, found: bytes | None) -> CorruptionError:
    said = "nothing" if found is None else repr(_shown(found))
    return CorruptionError(
        f"{txn.path} does not say who it is: its {key.decode()} is {said}; restore a backup"
    )


def _shown(value: bytes) -> str:
    """Return what can be shown of a value that may be anything."""
    more = "…" if len(value) > _SHOWN_LENGTH_MAX else ""
    return value[:_SHOWN_LENGTH_MAX].decode("ascii", "replace") + more
