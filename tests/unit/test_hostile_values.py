"""Values of the wrong type, length or depth, where a checksum or a caller vouches for them."""

from __future__ import annotations

from zlib import crc32

import msgspec
import pytest

from eventstore import CorruptionError, ImageNotFoundError, codec
from eventstore.digest_set import DigestSet

D = b"\x11" * 32


def sealed(payload: bytes) -> bytes:
    """Return a payload with the checksum that fits position 1."""
    return payload + crc32(payload, crc32((1).to_bytes(8, "big"))).to_bytes(4, "big")


@pytest.mark.parametrize("event", [[4, D[:31]], [4, D + b"\0"], [2, D, D[:5]], [1, b"", None, ""]])
def test_a_digest_of_another_length_is_corruption(event: list[object]) -> None:
    """A key of the view is 32 bytes, or the record is damaged."""
    with pytest.raises(CorruptionError):
        codec.decode(1, sealed(msgspec.msgpack.encode([1, "a", "", 1, 0, event])))


def test_bytes_nested_deeper_than_the_stack_are_corruption() -> None:
    """An array in an array, a hundred thousand times, is no crash and no foreign error."""
    with pytest.raises(CorruptionError):
        codec.decode(1, sealed(b"\x91" * 100_000 + b"\x90"))
    envelope = bytes.fromhex("9601a161a00100")
    with pytest.raises(CorruptionError):
        codec.decode(1, sealed(envelope + b"\x91" * 100_000 + b"\x90"))


@pytest.mark.parametrize("term", [None, 5, b"abc", ["abc"]])
def test_what_is_no_text_names_no_image(term: object) -> None:
    """A wrong type is an error of ours."""
    with pytest.raises(ImageNotFoundError):
        DigestSet([D]).lookup(term)  # type: ignore[arg-type]
