"""Say what a snapshot says of itself: its header, which makes its chunks count.

See `snapshots` for where it lies, and what its parts are for.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from eventstore.digest import DIGEST_SIZE
from eventstore.errors import CorruptionError

PIECES_MAX = 64
_NUMBER_MAX = (1 << 32) - 1


class Header(Struct, frozen=True, array_like=True):
    """What a snapshot says of itself; the last three are missing in those of the first version."""

    position: int
    time_ns: int
    images: int
    chunks: list[bytes]
    digest: bytes
    firsts: list[bytes] | None = None
    start: int = 1
    over: int = 0

    def seal(self) -> bytes:
        """Return the digest that the header must have."""
        fields: tuple[object, ...] = (self.position, self.time_ns, self.images, self.chunks)
        if self.firsts is not None:
            fields = (*fields, self.firsts, self.start, self.over)
        return hashlib.sha256(_encoder.encode(fields)).digest()

    def encode(self) -> bytes:
        """Return the bytes that are stored; the inverse of `parse_header`."""
        return _encoder.encode(self)


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)


def parse_header(position: int, raw: bytes) -> Header:
    """Return a checked header.

    Raises:
        CorruptionError: it is not what was written under this position.
    """
    try:
        header = _header_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(position, "has a malformed header") from error
    if header.digest != header.seal() or header.position != position:
        raise wrong(position, "has a header that does not check")
    if header.firsts is None and (header.start, header.over) != (1, 0):
        raise wrong(position, "has a header of no version")
    if header.images < 0:
        raise wrong(position, "has a header of no snapshot")
    if header.firsts is not None and (
        len(header.firsts) != len(header.chunks)
        or any(len(first) != DIGEST_SIZE for first in header.firsts)
        or not 0 < header.start <= _NUMBER_MAX - len(header.chunks) * PIECES_MAX
        or sorted(set(header.firsts)) != header.firsts
        or (header.over and header.over <= position)
    ):
        raise wrong(position, "has a header of no snapshot")
    return header


def wrong(position: int, what: str) -> CorruptionError:
    """Return the error that says what is wrong with a snapshot."""
    return CorruptionError(f"snapshot {position} {what}", position=position)
