"""Store views, so that a replay need not start from nothing.

A snapshot is a cache that must prove itself. It lies in chunks, and one that is used is read chunk
by chunk when needed. Chunks lie in pieces of a page each, so that any page that is free will do::

    (position, 0)         header: [position, time_ns, images, [SHA-256 of each chunk], SHA-256 of
                          the msgpack array of the other fields, [first digest of each chunk], n,
                          over]
    (position, n + 64 c + p)  piece p of chunk c: 4,080 bytes, the last one less. A chunk has 1,024
                          to 2,048 images, sorted by digest; see `columns`

The newest is whole. One that it takes the place of becomes a difference `over` it, which holds only
the rows that were otherwise: an image is as the newer one has it if its stream ends at or before
the position, else as its row says, else not there. So the past takes little room, and is read by
way of the snapshots after it. Where all the differences on such a way would hold more rows than
there are images, one is left whole, so that no way is longer than two whole snapshots.

The header is written last: without it the chunks are nothing. Chunks are numbered from an `n` of
chance, so that two processes which store the same view do not write over each other. Whatever does
not check is ignored with a warning, and the replay goes back further. Deleting all snapshots
changes nothing but time. Those of the first version, whose header ends with the digest and whose
chunks are msgpack maps, digest to state, numbered from 1, are read as well.

The policy: one is taken when the records after the newest reach
``interval(images) = max(INTERVAL_MIN, images // INTERVAL_SHARE)``, so writing them costs a bounded
number of rows an event. One is dropped when its two neighbours alone are within that interval of
each other. A batch longer than an interval gets snapshots in its middle. Hence as-of at any
position reads the differences between the newest snapshot and the nearest one before it, of the
newest what is asked for, and at most ``2 * interval(images)`` records.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise

import msgspec
from msgspec import Struct

from eventstore import codec, columns, dropped
from eventstore.columns import Columns, Row, State
from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CompactedError, CorruptionError
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.notices import Notices
from eventstore.snapshot_headers import PIECES_MAX, Header, parse_header, wrong
from eventstore.view import ImageView

INTERVAL_MIN = 4096
INTERVAL_SHARE = 4
CHUNK_LENGTH = 1024
CHUNKS_A_WRITE = 4
PIECE_SIZE = 4_080  # what LMDB lays into one page of 4 kB, and less than that elsewhere
DELETIONS_MAX = 1_024
CHAIN_MIN = 16
_DATABASE = "snapshots"
_CHUNK_KEY_SIZE = 4
_NUMBER_MAX = (1 << 8 * _CHUNK_KEY_SIZE) - 1
_POSITION_MAX = (1 << 8 * codec.KEY_SIZE) - 1

logger = Notices(__name__)


class SnapshotInfo(Struct, frozen=True):
    """A snapshot as it is listed: its position, its time, its number of images."""

    position: int
    time_ns: int
    images: int


_rows_decoder = msgspec.msgpack.Decoder(dict[bytes, State])


def interval(images: int) -> int:
    """Return the number of records after which a store of so many images takes a snapshot."""
    return max(INTERVAL_MIN, images // INTERVAL_SHARE)


def _key(position: int, chunk: int) -> bytes:
    return codec.position_key(position) + chunk.to_bytes(_CHUNK_KEY_SIZE, "big")


def put(environment: Environment, view: ImageView) -> Header | None:
    """Store a frozen view, a few chunks at a time, the header last.

    Writers of other threads and processes wait for those few chunks at most. When this returns, the
    snapshot is on disk; when it is cut short, nothing counts. The snapshot that the view lies over
    becomes a difference over it.

    Args:
        environment: where to store it.
        view: a view that nobody moves.

    Returns:
        Its header, None if another process has pruned some of its chunks meanwhile, or compacted
        the log over what the view was made of.

    Raises:
        StoreFullError: there is no room for it.
    """
    replaced: list[tuple[bytes, Row]] = []
    header = Header(view.position, view.time_ns, len(view), [], b"")
    try:
        header, pieces = _write(environment, header, view.columns(CHUNK_LENGTH, replaced))
    except CompactedError:
        return None
    if not environment.write(partial(_put_header, header=header, pieces=pieces, instead=None)):
        return None
    _clear(environment, header.position)  # of one that this one has taken the place of
    if view.origin is not None and view.origin[0] < view.position:
        position, seal = view.origin
        with environment.read() as txn:
            chunks = _chunks_over(txn, position) + len(replaced) // CHUNK_LENGTH
        if chunks <= max(header.images // CHUNK_LENGTH, CHAIN_MIN):
            with suppress(CompactedError):  # then it is gone
                _make_difference(environment, position, seal, replaced, view.position)
    return header


def _chunks_over(txn: Transaction, position: int) -> int:
    """Return how many chunks the differences have that are read by way of a snapshot."""
    there = sound(txn)
    total, waiting = 0, [position]
    while waiting:
        lying = _lying_over(there, waiting.pop())
        total += sum(len(header.chunks) for header in lying)
        waiting += [header.position for header in lying]
    return total


def _write(
    environment: Environment, header: Header, chunks: Iterable[Columns]
) -> tuple[Header, int]:
    """Write the chunks of a snapshot.

    Returns:
        The header that will make them count, and the number of their pieces.
    """
    pieces = 0
    start = 1 + int.from_bytes(os.urandom(_CHUNK_KEY_SIZE), "big") // 2
    digests: list[bytes] = []
    firsts: list[bytes] = []
    waiting: list[tuple[bytes, bytes]] = []
    for found in chunks:
        payload = found.encode()
        waiting.append((_key(header.position, start + PIECES_MAX * len(digests)), payload))
        digests.append(hashlib.sha256(payload).digest())
        firsts.append(found.image(0))
        pieces += _pieces(payload)
        if len(waiting) == CHUNKS_A_WRITE:
            environment.write(partial(_put_chunks, chunks=waiting))
            waiting = []
    if waiting:
        environment.write(partial(_put_chunks, chunks=waiting))
    header = msgspec.structs.replace(header, chunks=digests, firsts=firsts, start=start)
    return msgspec.structs.replace(header, digest=header.seal()), pieces


def _put_chunks(txn: Transaction, *, chunks: list[tuple[bytes, bytes]]) -> None:
    through = dropped.horizon(txn).through
    for key, payload in chunks:
        position, first = key[: codec.KEY_SIZE], _number(key)
        if position < codec.position_key(through):  # it would bring back what was dropped
            raise CompactedError(int.from_bytes(position, "big"), through)
        for number in range(_pieces(payload)):
            piece = payload[number * PIECE_SIZE : (number + 1) * PIECE_SIZE]
            txn.put(_DATABASE, position + (first + number).to_bytes(_CHUNK_KEY_SIZE, "big"), piece)


def _pieces(payload: bytes) -> int:
    """Return in how many pieces a chunk lies; the last is shorter than a piece may be."""
    return len(payload) // PIECE_SIZE + 1


def _numbers(header: Header) -> range:
    """Return the numbers that the pieces of a snapshot may have."""
    if header.firsts is None:
        return range(header.start, header.start + len(header.chunks))
    return range(header.start, header.start + len(header.chunks) * PIECES_MAX)


def _put_header(txn: Transaction, *, header: Header, pieces: int, instead: bytes | None) -> bool:
    """Let a snapshot count, unless another process has pruned something of it meanwhile.

    That may be some of its chunks, or the one that it would have to be read by way of.

    Args:
        txn: where to write.
        header: makes it count.
        pieces: how many must be there.
        instead: the digest of the header that must be there, if one must.
    """
    numbers = _numbers(header)
    there = sum(_number(key) in numbers for key in _keys_of(txn, header.position))
    if there != pieces:
        return False
    if instead is not None:
        raw = raw_header(txn, header.position)
        if raw is None or parse_header(header.position, raw).digest != instead:
            return False
    if header.over and raw_header(txn, header.over) is None:
        return False
    txn.put(_DATABASE, _key(header.position, 0), header.encode(), replace=True)
    return True


def _make_difference(
    environment: Environment,
    position: int,
    seal: bytes,
    rows: list[tuple[bytes, Row]],
    over: int,
) -> bool:
    """Let a snapshot be a difference over a newer one from here on; tell whether it is.

    Args:
        environment: where they lie.
        position: of the older one.
        seal: the digest of its header; one that is not the same any more is left as it is.
        rows: what was otherwise in it, sorted.
        over: position of the newer one.
    """
    with environment.read() as txn:
        raw = raw_header(txn, position)
        header = None if raw is None else parse_header(position, raw)
    if header is None or header.digest != seal:
        return False
    parts = (rows[start : start + CHUNK_LENGTH] for start in range(0, len(rows), CHUNK_LENGTH))
    less = msgspec.structs.replace(header, over=over)
    less, pieces = _write(environment, less, (Columns.of(part) for part in parts))
    done = environment.write(partial(_put_header, header=less, pieces=pieces, instead=seal))
    _clear(environment, position)
    return done


def _number(key: bytes) -> int:
    return int.from_bytes(key[codec.KEY_SIZE :], "big")


def _keys_of(txn: Transaction, position: int) -> list[bytes]:
    """Return the keys of all that lies under a position."""
    prefix = codec.position_key(position)
    found: list[bytes] = []
    for key in txn.keys(_DATABASE, prefix):
        if not key.startswith(prefix):
            break
        found.append(key)
    return found


def headers(txn: Transaction, through: int = _POSITION_MAX) -> Iterator[tuple[int, bytes]]:
    """Iterate over the positions of snapshots, newest first, and their headers' bytes.

    Args:
        txn: where to read.
        through: the newest position that counts.
    """
    start = _key(through, _NUMBER_MAX)
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
        start = _key(position - 1, _NUMBER_MAX)


def raw_header(txn: Transaction, position: int) -> bytes | None:
    """Return the header's bytes of the snapshot at a position, None if there is none."""
    return txn.get(_DATABASE, _key(position, 0))


def _chunk(txn: Transaction, header: Header, number: int) -> bytes:
    """Return the bytes of a chunk by its number, from 0.

    Raises:
        CorruptionError: it is not what was written.
    """
    if header.firsts is None:
        payload = txn.get(_DATABASE, _key(header.position, header.start + number)) or b""
    else:
        payload = b"".join(_pieces_of(txn, header, number))
    if hashlib.sha256(payload).digest() != header.chunks[number]:
        raise wrong(header.position, f"has a chunk, {number + 1}, that does not check")
    return payload


def _pieces_of(txn: Transaction, header: Header, chunk: int) -> Iterator[bytes]:
    first = header.start + chunk * PIECES_MAX
    for number in range(first, first + PIECES_MAX):
        piece = txn.get(_DATABASE, _key(header.position, number)) or b""
        yield piece
        if len(piece) < PIECE_SIZE:
            return


def read_columns(txn: Transaction, header: Header, number: int) -> Columns:
    """Return a chunk by its number, from 0.

    Raises:
        CorruptionError: it is not what was written.
    """
    found = columns.decode(_chunk(txn, header, number))
    if header.firsts is None or found.image(0) != header.firsts[number]:
        raise wrong(header.position, f"has a chunk, {number + 1}, that starts otherwise")
    return found


def resolve(txn: Transaction, header: Header) -> tuple[Header, list[tuple[bytes, Row]]]:
    """Return the whole snapshot that one is to be read by way of, and what was otherwise, sorted.

    Raises:
        CorruptionError: one on the way is damaged, or gone.
    """
    position = header.position
    over: list[dict[bytes, Row]] = []
    while header.over:
        over.append(dict(_rows(txn, header, position)))
        raw = raw_header(txn, header.over)
        if raw is None:
            raise wrong(header.over, f"is gone, and that at {position} lies over it")
        header = parse_header(header.over, raw)
    rows: dict[bytes, Row] = {}
    for part in reversed(over):  # those of the nearest one hold
        rows.update(part)
    return header, sorted(rows.items())


class Layout:
    """How to read a snapshot chunk by chunk, whether it is whole or a difference."""

    def __init__(self, txn: Transaction, header: Header) -> None:
        """Look at the snapshots that it is to be read by way of.

        Raises:
            CorruptionError: one of them is damaged or gone, or of the first version.
        """
        self.header = header
        self.whole, self._rows = resolve(txn, header)
        if self.whole.firsts is None:
            raise wrong(header.position, "lies over one of another shape")
        self.firsts = list(self.whole.firsts)
        if header.over:
            # Images that are gone may come before all that are there.
            self.firsts[:1] = [bytes(DIGEST_SIZE)] if self.firsts or self._rows else []
        images = [image for image, _ in self._rows]
        self._bounds = [bisect_left(images, first) for first in self.firsts] + [len(images)]

    def columns(self, txn: Transaction, number: int) -> Columns:
        """Return a chunk by its number, from 0.

        Raises:
            CorruptionError: it is not what was written.
        """
        found = Columns.of([])
        if number < len(self.whole.chunks):
            found = read_columns(txn, self.whole, number)
        if not self.header.over:
            return found
        rows = self._rows[self._bounds[number] : self._bounds[number + 1]]
        return found.past(self.header.position, rows)


def load(txn: Transaction, header: Header) -> dict[bytes, State]:
    """Return the states that a snapshot holds, sorted by digest, every chunk checked.

    Raises:
        CorruptionError: a chunk is not what was written.
    """
    states = _states_of(txn, header) if header.firsts is None else _states_in(txn, header)
    if len(states) != header.images:
        raise wrong(header.position, "has a wrong number of images")
    return states


def _states_of(txn: Transaction, header: Header) -> dict[bytes, State]:
    """Return the states of a snapshot of the first version."""
    states: dict[bytes, State] = {}
    for number in range(len(header.chunks)):
        try:
            states.update(_rows_decoder.decode(_chunk(txn, header, number)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise wrong(header.position, "has a malformed chunk") from error
    digests = {len(image) for image in states}
    digests.update(len(state.parent) for state in states.values() if state.parent is not None)
    if not digests <= {DIGEST_SIZE}:
        raise wrong(header.position, "names what is no digest")
    return states


def _states_in(txn: Transaction, header: Header) -> dict[bytes, State]:
    layout = Layout(txn, header)
    parts = [layout.columns(txn, number) for number in range(len(layout.firsts))]
    created = {at: image for part in parts for image, (at, *_) in part.rows()}
    states: dict[bytes, State] = {}
    for part in parts:
        for at, image in enumerate(part.digests):
            parent = part.parent[at]
            if parent and parent not in created:
                raise wrong(header.position, "names a parent that is not there")
            states[image] = part.state(at, created[parent] if parent else None)
    if sorted(states) != list(states):
        raise wrong(header.position, "is not sorted")
    return states


def newest(environment: Environment, through: int = _POSITION_MAX) -> Iterator[Header]:
    """Iterate over the snapshots at or before a position whose headers check, newest first.

    Each is read when it is asked for: who opens a store needs one of them. One whose header does
    not check is passed over with a warning.
    """
    while through >= 0:
        with environment.read() as txn:
            position, raw = next(headers(txn, through), (-1, b""))
        if position < 0:
            return
        try:
            yield parse_header(position, raw)
        except CorruptionError as error:
            warn(environment, error)
        through = position - 1


def is_there(txn: Transaction, header: Header) -> bool:
    """Tell whether a snapshot is still there, and none in its place."""
    return raw_header(txn, header.position) == header.encode()


def warn(environment: Environment, error: CorruptionError) -> None:
    """Say that a damaged snapshot is ignored."""
    logger.warning("%s: ignoring a damaged snapshot: %s", environment.path, error)


def listed(environment: Environment) -> list[SnapshotInfo]:
    """Return the snapshots whose headers check, oldest first."""
    found = [SnapshotInfo(it.position, it.time_ns, it.images) for it in newest(environment)]
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


def drop(environment: Environment, position: int, *, spare: bool = False) -> bool:
    """Delete a snapshot, and those that can only be read by way of it.

    If it is a difference, those below it are first made differences over the one above. What others
    do meanwhile is looked at again: none is left that cannot be read.

    Args:
        environment: where it lies.
        position: of the snapshot.
        spare: leave it where others would have to go too.

    Returns:
        Whether it is gone.
    """
    while not environment.write(partial(_drop_header, position=position)):
        with environment.read() as txn:
            there = sound(txn)
            lower = [(it, _over_the_next(txn, it, there)) for it in _lying_over(there, position)]
        for header, rows in lower:
            if rows is not None:
                over = there[position].over
                with suppress(CompactedError):
                    _make_difference(environment, header.position, header.digest, rows, over)
                    continue
            elif spare:
                return False
            drop(environment, header.position)
    _clear(environment, position)
    return True


def _drop_header(txn: Transaction, *, position: int) -> bool:
    """Let a snapshot count no more, unless one lies over it; tell whether it does not."""
    if _lying_over(sound(txn), position):
        return False
    txn.delete(_DATABASE, _key(position, 0))
    return True


def _lying_over(there: dict[int, Header], position: int) -> list[Header]:
    """Return the headers of the differences over the snapshot at a position."""
    return [header for header in there.values() if header.over and header.over == position]


def _over_the_next(
    txn: Transaction, header: Header, there: dict[int, Header]
) -> list[tuple[bytes, Row]] | None:
    """Return the rows of a difference as one over the next but one, if it can be read like that."""
    this = there.get(header.over)
    if this is None or this.over not in there:
        return None
    try:
        rows = dict(_rows(txn, this, header.position))
        rows.update(_rows(txn, header, header.position))
    except CorruptionError:
        return None
    return sorted(rows.items())


def _rows(txn: Transaction, header: Header, through: int) -> Iterator[tuple[bytes, Row]]:
    """Iterate over the rows of a snapshot's own whose streams end at or before a position."""
    for number in range(len(header.chunks)):
        yield from read_columns(txn, header, number).rows(through)


def _clear(environment: Environment, position: int) -> None:
    """Delete what lies under a position and is not of the snapshot there, if there is one.

    Which one is there is asked each time: another process may have stored one since. Others wait
    for a bounded part of that at a time.
    """

    def strays(txn: Transaction) -> list[bytes]:
        raw = raw_header(txn, position)
        kept = range(1) if raw is None else _numbers(parse_header(position, raw))
        return [key for key in _keys_of(txn, position) if 0 != _number(key) not in kept]

    def work(txn: Transaction) -> None:
        for key in strays(txn)[:DELETIONS_MAX]:
            txn.delete(_DATABASE, key)

    with suppress(CorruptionError):  # where a header is damaged, all is left as it is
        while True:
            with environment.read() as txn:
                if not strays(txn):
                    return
            environment.write(work)


def sound(txn: Transaction) -> dict[int, Header]:
    """Return the headers that check, by position, newest first."""
    found: dict[int, Header] = {}
    for position, raw in headers(txn):
        with suppress(CorruptionError):
            found[position] = parse_header(position, raw)
    return found


def prune(environment: Environment) -> list[int]:
    """Delete the snapshots that as-of does not need; return their positions.

    What others left behind that were cut short goes as well, and all from before the position that
    the log was compacted up to: they hold what was dropped.
    """
    there = listed(environment)
    with environment.read() as txn:
        through = dropped.horizon(txn).through
    gone = [it.position for it in there if it.position < through]
    for position in gone:
        drop(environment, position)
    doomed = superfluous([it for it in there if it.position >= through])
    gone += [position for position in doomed if drop(environment, position, spare=True)]
    for position in _strays(environment):
        _clear(environment, position)
    return gone


def _strays(environment: Environment) -> set[int]:
    """Return the positions under which more lies than a snapshot, or none at all."""
    with environment.read() as txn:
        there = sound(txn)
        newest_position = max(there, default=0)
        found: set[int] = set()
        for key in txn.keys(_DATABASE, b""):
            position = int.from_bytes(key[: codec.KEY_SIZE], "big")
            header = there.get(position)
            if header is not None:
                if _number(key) and _number(key) not in _numbers(header):
                    found.add(position)
            elif position < newest_position and raw_header(txn, position) is None:
                found.add(position)
    return found
