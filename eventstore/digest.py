"""Turn image ids into 32 raw bytes and back.

An id is text at the API, `"sha256:<64 lower-case hex digits>"`, and 32 bytes inside: half the
memory, and an order that is the order of the text. SHA-256 is the only algorithm, as it is in
Docker's image store.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_hex
from collections.abc import Sequence
from functools import lru_cache

from eventstore.errors import ImageNotFoundError

ALGORITHM = "sha256"
PREFIX = ALGORITHM + ":"
DIGEST_SIZE = 32
SHORT_LENGTH = 12
PARSED_MAX = 1 << 14
_BETWEEN = "\n" + PREFIX
_DIGITS_START = len(PREFIX)
_ID_LENGTH = _DIGITS_START + 64


def digest_of(content: bytes) -> bytes:
    """Return the SHA-256 of `content`, 32 bytes."""
    return hashlib.sha256(content).digest()


def to_text(digest: bytes) -> str:
    """Return the id that stands for 32 raw bytes; the inverse of `parse`."""
    return PREFIX + digest.hex()


def to_texts(digests: Sequence[bytes]) -> list[str]:
    """Return the ids that stand for many digests, at a third of the cost of one by one."""
    if not digests:
        return []
    return (PREFIX + b"".join(digests).hex("\n", DIGEST_SIZE).replace("\n", _BETWEEN)).split("\n")


def parse(text: str) -> bytes | None:
    """Return the 32 bytes of a well-formed id, or None.

    Well formed is what Docker takes for a SHA-256 digest: the prefix and 64 lower-case hex
    digits, nothing around them. The last `PARSED_MAX` answers are kept: who asks for an image asks
    for it again, and looking up costs a fourth of parsing. Nothing longer than an id is kept.
    """
    return _parse(text) if len(text) == _ID_LENGTH else None


@lru_cache(PARSED_MAX)
def _parse(text: str) -> bytes | None:
    try:
        digest = a2b_hex(text[_DIGITS_START:])
    except ValueError:
        return None
    # Capitals, which `a2b_hex` takes too, and any other prefix do not come back.
    return digest if PREFIX + digest.hex() == text else None


def require(image_id: str) -> bytes:
    """Return the 32 bytes of `image_id`; whatever is not an id names no image.

    Raises:
        ImageNotFoundError: it is not a whole, well-formed id.
    """
    digest = parse(image_id) if isinstance(image_id, str) else None
    if digest is None:
        raise ImageNotFoundError(str(image_id))
    return digest


def short(image_id: str, length: int = SHORT_LENGTH) -> str:
    """Return the first `length` hex digits of an id, as Docker's listings show it."""
    return image_id.removeprefix(PREFIX)[:length]
