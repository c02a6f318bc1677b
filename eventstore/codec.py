"""Turn records into the bytes that the log stores, and back.

Layout of a record, the value under its position::

    msgpack array   [time, actor, reason, batch, previous, event]
    4 bytes         CRC-32, big-endian, of the 8-byte big-endian position and the msgpack bytes

The event is itself an array that starts with its tag::

    [1, digest, chain, os]      Created
    [2, digest, parent]         ParentSet
    [3, digest]                 LastUpdatedSet, first shape: the instant is the record's time
    [4, digest]                 MarkedBuilt
    [5, digest]                 Deleted
    [6, digest, instant_ns]     LastUpdatedSet
    [7, digest, name, before]   Tagged
    [8, digest, name, before]   Untagged
    [9, digest]                 Redacted
    [10, through, root hash, rows]
                                Compacted; the digest of the rows there, 32 bytes or none
    [11, digest, manifest]      Described; the manifest is [digest, media type, size, layers], and
                                each of its layers [media type, packed digest, size]

Times are nanoseconds since 1970, digests and root hashes 32 raw bytes, names canonical text; batch,
previous, before and through are positions. The checksum covers the position, so a record that lies
under another's key does not check. For example `MarkedBuilt` of the digest `00 … 00`, appended
first, at time 7, by `a`, without a reason, is::

    96 07 a1 61 a0 01 00 92 04 c4 20 (32 times 00) b6 d0 6d 96

Bytes that are stored are never written again in another shape. A tag that is retired stays readable
by its upcaster here; an unknown tag is an error that names it, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CorruptionError, UnknownFormatError
from eventstore.events import (
    Compacted,
    Created,
    Deleted,
    Described,
    Event,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
    is_chain,
    is_manifest,
    is_name,
)

CHECKSUM_SIZE = 4
KEY_SIZE = 8
TAGS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


class LastUpdatedSetFirst(Struct, frozen=True, gc=False, array_like=True, tag=3):
    """The first shape of `LastUpdatedSet`, which meant "now" and carried no instant."""

    digest: bytes


_Stored = (
    Created
    | ParentSet
    | LastUpdatedSetFirst
    | LastUpdatedSet
    | MarkedBuilt
    | Deleted
    | Tagged
    | Untagged
    | Redacted
    | Compacted
    | Described
)


class Envelope(Struct, frozen=True, gc=False, array_like=True):
    """What is stored of a record, its position apart."""

    time_ns: int
    actor: str
    reason: str
    batch: int
    previous: int
    event: _Stored


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def position_key(position: int) -> bytes:
    """Return the key of a position: 8 bytes, big-endian, so that key order is log order."""
    return position.to_bytes(KEY_SIZE, "big")


def encode(
    position: int,
    *,
    time_ns: int,
    actor: str,
    reason: str,
    batch: int,
    previous: int,
    event: Event,
) -> Record:
    """Return the record of an event at a position, its stored bytes made.

    Args:
        position: its number in the log, from 1.
        time_ns: nanoseconds since 1970, UTC.
        actor: who appends it.
        reason: why.
        batch: position of the first record of the transaction.
        previous: position of the image's record before, or 0.
        event: what happened.
    """
    payload = _encoder.encode(Envelope(time_ns, actor, reason, batch, previous, event))
    checksum = crc32(payload, crc32(position_key(position)))
    raw = payload + checksum.to_bytes(CHECKSUM_SIZE, "big")
    return Record(position, time_ns, actor, reason, batch, previous, event, raw)


def decode(position: int, raw: bytes) -> Record:
    """Return the record that `raw` holds; the inverse of `encode`.

    Raises:
        CorruptionError: the checksum or the shape is wrong.
        UnknownFormatError: the bytes check, but a later version wrote them.
    """
    envelope = decode_envelope(position, raw)
    return Record(
        position,
        envelope.time_ns,
        envelope.actor,
        envelope.reason,
        envelope.batch,
        envelope.previous,
        upcast(envelope.event, envelope.time_ns),
        raw,
    )


def decode_events(stored: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[int, int, Event]]:
    """Iterate over the positions, times and events of records: what a fold needs, all checked.

    Does as `decode` in a third of the time; what that would refuse is refused by it.

    Args:
        stored: the keys of positions, and what is stored under them.

    Raises:
        CorruptionError: as `decode`.
        UnknownFormatError: as `decode`.
    """
    decode_payload = _decoder.decode
    for key, raw in stored:
        payload = raw[:-CHECKSUM_SIZE]
        try:
            envelope = decode_payload(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            envelope = decode_envelope(int.from_bytes(key, "big"), raw)
        event = envelope.event
        checksum = crc32(payload, crc32(key)).to_bytes(CHECKSUM_SIZE, "big")
        if not raw.endswith(checksum) or not _well_shaped(event):
            decode_envelope(int.from_bytes(key, "big"), raw)  # says what is wrong
        if isinstance(event, LastUpdatedSetFirst):
            event = LastUpdatedSet(event.digest, envelope.time_ns)
        yield int.from_bytes(key, "big"), envelope.time_ns, event


def sealed(key: bytes, value: bytes) -> bytes:
    """Return a value with the checksum of it and its key behind it, as small notes are stored."""
    return value + crc32(value, crc32(key)).to_bytes(CHECKSUM_SIZE, "big")


def checksum_matches(key: bytes, raw: bytes) -> bool:
    """Tell whether the bytes under the key of a position are those that were stored there."""
    checksum = crc32(raw[:-CHECKSUM_SIZE], crc32(key)).to_bytes(CHECKSUM_SIZE, "big")
    return len(raw) > CHECKSUM_SIZE and raw.endswith(checksum)


def decode_envelope(position: int, raw: bytes) -> Envelope:
    """Return what is stored, checked, its event not yet upcast.

    Raises:
        CorruptionError: as `decode`.
        UnknownFormatError: as `decode`.
    """
    payload = raw[:-CHECKSUM_SIZE]
    checksum = int.from_bytes(raw[-CHECKSUM_SIZE:], "big")
    if len(raw) <= CHECKSUM_SIZE or crc32(payload, crc32(position_key(position))) != checksum:
        raise CorruptionError(f"record {position}: checksum does not match", position=position)
    try:
        envelope = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(position, payload, error) from error
    if not _well_shaped(envelope.event):
        raise CorruptionError(f"record {position} names no digest, or no name", position=position)
    return envelope


def _well_shaped(event: _Stored) -> bool:
    """Tell whether what stands for digests can be one; the types are checked already."""
    if isinstance(event, Compacted):
        lengths = len(event.root_hash), len(event.view)
        return event.through > 0 and lengths in ((DIGEST_SIZE, DIGEST_SIZE), (DIGEST_SIZE, 0))
    if len(event.digest) != DIGEST_SIZE:
        return False
    if isinstance(event, Created):
        chain = event.chain
        if chain is None or (len(chain) == 1 + DIGEST_SIZE and chain[0] == 1):
            return True
        return is_chain(chain)
    if isinstance(event, ParentSet):
        return event.parent is None or len(event.parent) == DIGEST_SIZE
    if isinstance(event, Tagged | Untagged):
        return is_name(event.name) and event.before >= 0
    if isinstance(event, Described):
        return is_manifest(event.manifest)
    return True


def upcast(event: _Stored, time_ns: int) -> Event:
    """Return a stored event in today's shape."""
    if isinstance(event, LastUpdatedSetFirst):
        return LastUpdatedSet(event.digest, time_ns)
    return event


def _explain(position: int, payload: bytes, error: Exception) -> CorruptionError:
    """Tell bytes of a later version from bytes that make no sense."""
    try:
        value: Any = msgspec.msgpack.decode(payload)
        tag = value[5][0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        tag = None
    if isinstance(tag, int) and tag not in TAGS:
        return UnknownFormatError(
            f"record {position} is of kind {tag}, written by a later version",
            found=tag,
            supported=TAGS,
            position=position,
        )
    return CorruptionError(f"record {position} is malformed: {error}", position=position)
