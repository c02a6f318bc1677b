"""Sign checkpoints of a store, and never two that contradict each other.

Whoever holds a signed checkpoint can show that the log was changed after it. So a log must never
sign a checkpoint that does not go with all those it signed before, and has to know them: the last
one is brought to disk before the signature is made. It stands in the database `meta`::

    meta    "signed:", origin    position, 8 bytes; root hash, 32 bytes; CRC-32, 4 bytes, of all

An origin ends with the id of its store, `eventstore/<store id>` if nothing else is said. A restored
copy has another id, so it signs for another origin: what it appends is another history. The note of
the old origin is copied with it, and is never looked at there.

What no store can see by itself is that its files were replaced by older ones; somebody outside who
kept a checkpoint can (`audit`).
"""

from __future__ import annotations

import threading
from zlib import crc32

from eventstore import codec, meta, notes
from eventstore.errors import CorruptionError, ProofError, StoreUsageError
from eventstore.lmdb_transaction import Transaction
from eventstore.merkle import HASH_SIZE, Checkpoint, verify_consistency
from eventstore.store import ImageStore

ORIGIN_PREFIX = "eventstore/"
ORIGIN_LENGTH_MAX = 400
_META = "meta"
_SIGNED = b"signed:"


def origin_of(store_id: str) -> str:
    """Return the origin that names the log of a store."""
    return ORIGIN_PREFIX + store_id


def sign_checkpoint(
    store: ImageStore,
    key: notes.SigningKey,
    position: int | None = None,
    *,
    origin: str | None = None,
) -> notes.Note:
    """Return a signed checkpoint of a store, once the store has noted on disk that it signs it.

    Should the process end between the two, the note stands and no signature was given away: the
    same checkpoint, or a later one, can be signed after it.

    Args:
        store: open for writing.
        key: by which to sign.
        position: of which log, the present one if not given.
        origin: names the log; it has to end with the store's id, after a slash.

    Raises:
        ProofError: it contradicts one that was signed before, or the origin is of another store.
        StoreUsageError: the log has no such position, or this thread is in a transaction.
        StoreReadOnlyError: opened for reading only.
        StoreFullError: there is no room; nothing was signed.
        CorruptionError: a record, or the note of what was signed, is damaged.
    """
    origin = origin_of(store.store_id) if origin is None else origin
    _refuse_foreign(store, origin)
    if store._owner == threading.get_ident():
        raise StoreUsageError("end the transaction of this thread before signing")
    new = store.checkpoint(position)
    text = notes.LogCheckpoint(origin, new).text
    while True:
        old = signed_before(store, origin)
        if old is not None:
            _refuse_contradiction(store, old, new)
        if _persist(store, origin, old, new):
            return notes.signed(notes.Note(text), key)


def signed_before(store: ImageStore, origin: str | None = None) -> Checkpoint | None:
    """Return the last checkpoint that a store has signed, or was about to; None for none.

    Raises:
        CorruptionError: the note of it is damaged.
    """
    key = _key(origin_of(store.store_id) if origin is None else origin)
    with store._environment.read() as txn:
        return _read(txn, key)


def _refuse_foreign(store: ImageStore, origin: str) -> None:
    """Refuse an origin by which another store, or nobody, could be meant.

    Raises:
        ProofError: it is.
    """
    if len(origin.encode()) > ORIGIN_LENGTH_MAX or any(sign < " " for sign in origin):
        raise ProofError(f"an origin is one line of at most {ORIGIN_LENGTH_MAX} bytes")
    if not origin.endswith(f"/{store.store_id}"):
        raise ProofError(
            f"{origin} does not end with /{store.store_id}: this store signs for no other log"
        )


def _refuse_contradiction(store: ImageStore, old: Checkpoint, new: Checkpoint) -> None:
    """Refuse a checkpoint that does not go with the last one that was signed.

    Raises:
        ProofError: it does not.
    """
    if new.position < old.position:
        raise ProofError(
            f"a checkpoint at @{old.position} was signed already, so none at @{new.position} is"
        )
    proof = store.consistency_proof(old.position, new.position)
    if not verify_consistency(old, new, proof):
        raise ProofError(
            f"the log is not the one whose checkpoint at @{old.position} was signed:"
            " nothing is signed, for the past was changed"
        )


def _persist(store: ImageStore, origin: str, old: Checkpoint | None, new: Checkpoint) -> bool:
    """Note on disk what is about to be signed; tell whether nobody signed in between."""
    key = _key(origin)

    def work(txn: Transaction) -> bool:
        if meta.read_in(txn).store_id != store.store_id or _read(txn, key) != old:
            return False
        if new != old:
            txn.put(_META, key, _pack(key, new), replace=True)
        return True

    return store._environment.write(work)


def _key(origin: str) -> bytes:
    return _SIGNED + origin.encode()


def _pack(key: bytes, found: Checkpoint) -> bytes:
    value = codec.position_key(found.position) + found.root_hash
    return value + crc32(value, crc32(key)).to_bytes(codec.CHECKSUM_SIZE, "big")


def _read(txn: Transaction, key: bytes) -> Checkpoint | None:
    value = txn.get(_META, key)
    if value is None:
        return None
    position = int.from_bytes(value[: codec.KEY_SIZE], "big")
    found = Checkpoint(position, value[codec.KEY_SIZE : codec.KEY_SIZE + HASH_SIZE])
    if value != _pack(key, found):
        raise CorruptionError(f"{txn.path}: the note of what was signed is damaged")
    return found
