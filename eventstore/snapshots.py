"""Store views, so that a replay need not start from nothing.

A snapshot is a cache that must prove itself. It lies in chunks, so that no value needs many pages
in a row::

    (position, 0)         header: [position, time_ns, images, [SHA-256 of each chunk], SHA-256 of
                          the msgpack array of the four fields before]
    (position, 1 … n)     msgpack map digest -> state, up to 1,024 images each, sorted by digest

The header is written last: without it the chunks are nothing. Whatever does not check is ignored
with a warning, and the replay goes back further. Deleting all snapshots changes nothing but time.

The policy: one is taken when the records after the newest reach
``interval(images) = max(INTERVAL_MIN, images // INTERVAL_SHARE)``, so writing them costs a bounded
number of rows an event. One is dropped when its two neighbours alone are within that interval of
each other. A batch longer than an interval gets snapshots in its middle. Hence as-of at any
position reads one snapshot and at most ``2 * interval(images)`` records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import islice, pairwise

import msgspec
from msgspec import Struct

from eventstore import codec
from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CorruptionError
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.notices import Notices
from eventstore.view import ImageView, State

INTERVAL_MIN = 4096
INTERVAL_SHARE = 4
CHUNK_LENGTH = 1024
_DATABASE = "snapshots"
_CHUNK_KEY_SIZE = 4

logger = Notices(__name__)


class Header(Struct, frozen=True, array_like=True):
    """What a snapshot says of itself."""

    position: int
    time_ns: int
    images: int
    chunks: list[bytes]
    digest: bytes


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


def _header_digest(position: int, time_ns: int, images: int, chunks: list[bytes]) -> bytes:
    return hashlib.sha256(_encoder.encode((position, time_ns, images, chunks))).digest()


def put(environment: Environment, view: ImageView) -> None:
    """Store a frozen view, chunk by chunk, each in a transaction of its own, the header last.

    Writers of other threads and processes wait for one chunk at most. When this returns, the
    snapshot is on disk; when it is cut short, nothing counts.

    Args:
        environment: where to store it.
        view: a view that nobody moves.

    Raises:
        StoreFullError: there is no room for it.
    """
    position = view.position
    digests: list[bytes] = []
    rows = view.rows()
    while chunk := dict(islice(rows, CHUNK_LENGTH)):
        payload = _encoder.encode(chunk)
        digests.append(hashlib.sha256(payload).digest())
        key = _key(position, len(digests))
        environment.write(partial(_put, key=key, payload=payload))
    header = Header(
        position,
        view.time_ns,
        len(view),
        digests,
        _header_digest(position, view.time_ns, len(view), digests),
    )
    environment.write(partial(_put_header, header=header))


def _put_header(txn: Transaction, *, header: Header) -> None:
    """Let a snapshot count, unless another process has pruned some of its chunks meanwhile."""
    numbers = range(1, len(header.chunks) + 1)
    if all(txn.has(_DATABASE, _key(header.position, number)) for number in numbers):
        _put(txn, key=_key(header.position, 0), payload=_encoder.encode(header))


def _put(txn: Transaction, *, key: bytes, payload: bytes) -> None:
    txn.put(_DATABASE, key, payload, replace=True)


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
    expected = _header_digest(header.position, header.time_ns, header.images, header.chunks)
    if header.digest != expected or header.position != position:
        raise CorruptionError(f"snapshot {position}: header does not check")
    return header


def load(txn: Transaction, header: Header) -> dict[bytes, State]:
    """Return the states that a snapshot holds, sorted by digest, every chunk checked.

    Raises:
        CorruptionError: a chunk is not what was written.
    """
    states: dict[bytes, State] = {}
    for number, expected in enumerate(header.chunks, 1):
        payload = txn.get(_DATABASE, _key(header.position, number))
        if payload is None or hashlib.sha256(payload).digest() != expected:
            raise CorruptionError(f"snapshot {header.position}: chunk {number} does not check")
        try:
            states.update(_rows_decoder.decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptionError(f"snapshot {header.position}: malformed chunk") from error
    if len(states) != header.images:
        raise CorruptionError(f"snapshot {header.position}: wrong number of images")
    digests = {len(image) for image in states}
    digests.update(len(state.parent) for state in states.values() if state.parent is not None)
    if not digests <= {DIGEST_SIZE}:
        raise CorruptionError(f"snapshot {header.position}: names what is no digest")
    return states


def newest(environment: Environment, through: int) -> tuple[Header, dict[bytes, State]] | None:
    """Return the newest sound snapshot at or before a position, None if there is none.

    One that does not check is passed over with a warning.
    """
    with environment.read() as txn:
        for position, raw in headers(txn):
            if position > through:
                continue
            try:
                header = parse_header(position, raw)
                return header, load(txn, header)
            except CorruptionError as error:
                logger.warning("%s: ignoring a damaged snapshot: %s", environment.path, error)
    return None


def listed(environment: Environment) -> list[SnapshotInfo]:
    """Return the snapshots whose headers check, oldest first."""
    found: list[SnapshotInfo] = []
    with environment.read() as txn:
        for position, raw in headers(txn):
            try:
                header = parse_header(position, raw)
            except CorruptionError as error:
                logger.warning("%s: ignoring a damaged snapshot: %s", environment.path, error)
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
    """Delete a snapshot: its header first, so that no half of it counts."""

    def work(txn: Transaction) -> None:
        txn.delete(_DATABASE, _key(position, 0))
        prefix = codec.position_key(position)
        chunks: list[bytes] = []
        for key, _ in txn.scan(_DATABASE, prefix):
            if not key.startswith(prefix):
                break
            chunks.append(key)
        for key in chunks:
            txn.delete(_DATABASE, key)

    environment.write(work)


def prune(environment: Environment) -> list[int]:
    """Delete the snapshots that as-of does not need; return their positions."""
    dropped = superfluous(listed(environment))
    for position in dropped:
        drop(environment, position)
    return dropped
