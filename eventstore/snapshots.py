"""Store views, so that a replay need not start from nothing.

A snapshot is a cache that must prove itself. It lies in chunks, so that no value needs many pages
in a row, and one that is used is read chunk by chunk when needed::

    (position, 0)         header: [position, time_ns, images, [SHA-256 of each chunk], SHA-256 of
                          the msgpack array of the other fields, [first digest of each chunk], n]
    (position, n …)       chunks of 1,024 to 2,048 images each, sorted by digest; see `columns`

The header is written last: without it the chunks are nothing. Chunks are numbered from an `n` of
chance, so that two processes which store the same view do not write over each other. Whatever does
not check is ignored with a warning, and the replay goes back further. Deleting all snapshots
changes nothing but time. Those of the first version, whose header ends with the digest and whose
chunks are msgpack maps, digest to state, numbered from 1, are read as well.

The policy: one is taken when the records after the newest reach
``interval(images) = max(INTERVAL_MIN, images // INTERVAL_SHARE)``, so writing them costs a bounded
number of rows an event. One is dropped when its two neighbours alone are within that interval of
each other. A batch longer than an interval gets snapshots in its middle. Hence as-of at any
position reads one snapshot and at most ``2 * interval(images)`` records.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import msgspec
from msgspec import Struct

from eventstore import codec, columns
from eventstore.columns import Columns, State
from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CorruptionError
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.view import ImageView

INTERVAL_MIN = 4096
INTERVAL_SHARE = 4
CHUNK_LENGTH = 1024
CHUNKS_A_WRITE = 4
_DATABASE = "snapshots"
_CHUNK_KEY_SIZE = 4
_NUMBER_MAX = (1 << 32) - 1

logger = logging.getLogger(__name__)


class Header(Struct, frozen=True, array_like=True):
    """What a snapshot says of itself; the last two are missing in those of the first version."""

    position: int
    time_ns: int
    images: int
    chunks: list[bytes]
    digest: bytes
    firsts: list[bytes] | None = None
    start: int = 1

    def seal(self) -> bytes:
        """Return the digest that the header must have."""
        fields: tuple[object, ...] = (self.position, self.time_ns, self.images, self.chunks)
        if self.firsts is not None:
            fields = (*fields, self.firsts, self.start)
        return hashlib.sha256(_encoder.encode(fields)).digest()


class SnapshotInfo(Struct, frozen=True):
    """A snapshot as it is listed: its position, its time, its number of images."""

    position: int
    time_ns: int
    images: int


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)
_rows_decoder = msgspec.msgpack.Decoder(dict[bytes, State])


def interval(images: int) -> int:
    """Return the number of records after which a store of so many images takes a snapshot."""
    return max(INTERVAL_MIN, images // INTERVAL_SHARE)


def _key(position: int, chunk: int) -> bytes:
    return codec.position_key(position) + chunk.to_bytes(_CHUNK_KEY_SIZE, "big")


def put(environment: Environment, view: ImageView) -> Header | None:
    """Store a frozen view, a few chunks at a time, the header last.

    Writers of other threads and processes wait for those few chunks at most. When this returns, the
    snapshot is on disk; when it is cut short, nothing counts.

    Args:
        environment: where to store it.
        view: a view that nobody moves.

    Returns:
        Its header, None if another process has pruned some of its chunks meanwhile.

    Raises:
        StoreFullError: there is no room for it.
    """
    digests: list[bytes] = []
    firsts: list[bytes] = []
    start = 1 + secrets.randbelow(_NUMBER_MAX - len(view))
    waiting: list[tuple[bytes, bytes]] = []
    for found in view.columns(CHUNK_LENGTH):
        payload = found.encode()
        waiting.append((_key(view.position, start + len(digests)), payload))
        digests.append(hashlib.sha256(payload).digest())
        firsts.append(found.digests[0])
        if len(waiting) == CHUNKS_A_WRITE:
            environment.write(partial(_put_chunks, chunks=waiting))
            waiting = []
    header = Header(view.position, view.time_ns, len(view), digests, b"", firsts, start)
    header = msgspec.structs.replace(header, digest=header.seal())
    return header if environment.write(partial(_put_last, chunks=waiting, header=header)) else None


def _put_chunks(txn: Transaction, *, chunks: list[tuple[bytes, bytes]]) -> None:
    for key, payload in chunks:
        txn.put(_DATABASE, key, payload)


def _put_last(txn: Transaction, *, chunks: list[tuple[bytes, bytes]], header: Header) -> bool:
    """Let a snapshot count, unless another process has pruned some of its chunks meanwhile."""
    _put_chunks(txn, chunks=chunks)
    numbers = range(header.start, header.start + len(header.chunks))
    if not all(txn.has(_DATABASE, _key(header.position, number)) for number in numbers):
        return False
    for key in _keys_of(txn, header.position):
        number = int.from_bytes(key[codec.KEY_SIZE :], "big")
        if number not in numbers and number:
            txn.delete(_DATABASE, key)  # of one that this one takes the place of
    txn.put(_DATABASE, _key(header.position, 0), _encoder.encode(header), replace=True)
    return True


def _keys_of(txn: Transaction, position: int) -> list[bytes]:
    """Return the keys of all that lies under a position."""
    prefix = codec.position_key(position)
    found: list[bytes] = []
    for key in txn.keys(_DATABASE, prefix):
        if not key.startswith(prefix):
            break
        found.append(key)
    return found


def headers(txn: Transaction) -> Iterator[tuple[int, bytes]]:
    """Iterate over the positions of all snapshots, newest first, and their headers' bytes."""
    start = b"\xff" * (codec.KEY_SIZE + _CHUNK_KEY_SIZE)
    while True:
        found = next(txn.scan(_DATABASE, start, reverse=True), None)
        if found is None:
            return
        position = int.from_bytes(found[0][: codec.KEY_SIZE], "big")
        header = raw_header(txn, position)
        if header is not None:
            yield position, header
        if position == 0:
            return
        start = _key(position - 1, 0xFFFFFFFF)


def raw_header(txn: Transaction, position: int) -> bytes | None:
    """Return the header's bytes of the snapshot at a position, None if there is none."""
    return txn.get(_DATABASE, _key(position, 0))


def parse_header(position: int, raw: bytes) -> Header:
    """Return a checked header.

    Raises:
        CorruptionError: it is not what was written under this position.
    """
    try:
        header = _header_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptionError(f"snapshot {position}: malformed header") from error
    if header.digest != header.seal() or header.position != position:
        raise CorruptionError(f"snapshot {position}: header does not check")
    if header.firsts is not None and (
        len(header.firsts) != len(header.chunks)
        or any(len(first) != DIGEST_SIZE for first in header.firsts)
        or not 0 < header.start <= _NUMBER_MAX - len(header.chunks)
        or sorted(set(header.firsts)) != header.firsts
    ):
        raise CorruptionError(f"snapshot {position}: header is of no snapshot")
    return header


def _chunk(txn: Transaction, header: Header, number: int) -> bytes:
    """Return the bytes of a chunk by its number, from 0.

    Raises:
        CorruptionError: it is not what was written.
    """
    payload = txn.get(_DATABASE, _key(header.position, header.start + number))
    if payload is None or hashlib.sha256(payload).digest() != header.chunks[number]:
        raise CorruptionError(f"snapshot {header.position}: chunk {number + 1} does not check")
    return payload


def read_columns(txn: Transaction, header: Header, number: int) -> Columns:
    """Return a chunk by its number, from 0.

    Raises:
        CorruptionError: it is not what was written.
    """
    found = columns.decode(_chunk(txn, header, number))
    if header.firsts is None or found.digests[:1] != [header.firsts[number]]:
        raise CorruptionError(f"snapshot {header.position}: chunk {number + 1} starts otherwise")
    return found


def load(txn: Transaction, header: Header) -> dict[bytes, State]:
    """Return the states that a snapshot holds, sorted by digest, every chunk checked.

    Raises:
        CorruptionError: a chunk is not what was written.
    """
    states = _states_of(txn, header)
    if len(states) != header.images:
        raise CorruptionError(f"snapshot {header.position}: wrong number of images")
    digests = {len(image) for image in states}
    digests.update(len(state.parent) for state in states.values() if state.parent is not None)
    if not digests <= {DIGEST_SIZE}:
        raise CorruptionError(f"snapshot {header.position}: names what is no digest")
    return states


def _states_of(txn: Transaction, header: Header) -> dict[bytes, State]:
    numbers = range(len(header.chunks))
    states: dict[bytes, State] = {}
    if header.firsts is None:
        for number in numbers:
            try:
                states.update(_rows_decoder.decode(_chunk(txn, header, number)))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise CorruptionError(f"snapshot {header.position}: malformed chunk") from error
        return states
    parts = [read_columns(txn, header, number) for number in numbers]
    created = {at: image for part in parts for image, (at, *_) in part.rows()}
    for part in parts:
        for at, image in enumerate(part.digests):
            parent = part.parent[at]
            if parent and parent not in created:
                raise CorruptionError(f"snapshot {header.position}: a parent is not there")
            states[image] = part.state(at, created[parent] if parent else None)
    if sorted(states) != list(states):
        raise CorruptionError(f"snapshot {header.position}: not sorted")
    return states


def newest(environment: Environment, through: int) -> Iterator[Header]:
    """Iterate over the snapshots at or before a position whose headers check, newest first.

    One whose header does not check is passed over with a warning.
    """
    with environment.read() as txn:
        found = [(position, raw) for position, raw in headers(txn) if position <= through]
    for position, raw in found:
        try:
            yield parse_header(position, raw)
        except CorruptionError as error:
            warn(environment, error)


def is_there(txn: Transaction, header: Header) -> bool:
    """Tell whether a snapshot is still there, and none in its place."""
    return raw_header(txn, header.position) == _encoder.encode(header)


def warn(environment: Environment, error: CorruptionError) -> None:
    """Say that a damaged snapshot is ignored."""
    logger.warning("%s: ignoring a damaged snapshot: %s", environment.path, error)


def listed(environment: Environment) -> list[SnapshotInfo]:
    """Return the snapshots whose headers check, oldest first."""
    found: list[SnapshotInfo] = []
    with environment.read() as txn:
        for position, raw in headers(txn):
            try:
                header = parse_header(position, raw)
            except CorruptionError as error:
                warn(environment, error)
                continue
            found.append(SnapshotInfo(position, header.time_ns, header.images))
    return found[::-1]


def superfluous(snapshots: list[SnapshotInfo]) -> list[int]:
    """Return the positions of snapshots that can go without as-of losing its bound.

    Args:
        snapshots: all of them, oldest first. The newest always stays.
    """
    dropped: list[int] = []
    kept = SnapshotInfo(0, 0, 0)
    for this, following in pairwise(snapshots):
        if following.position - kept.position <= interval(kept.images):
            dropped.append(this.position)
        else:
            kept = this
    return dropped


def drop(environment: Environment, position: int) -> None:
    """Delete a snapshot."""

    def work(txn: Transaction) -> None:
        for key in _keys_of(txn, position):
            txn.delete(_DATABASE, key)

    environment.write(work)


def prune(environment: Environment) -> list[int]:
    """Delete the snapshots that as-of does not need; return their positions."""
    dropped = superfluous(listed(environment))
    for position in dropped:
        drop(environment, position)
    return dropped
