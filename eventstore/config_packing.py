"""Make a config's bytes few, and have them back exactly: raw deflate after a list of shared words.

The bytes::

    packed   = stream checksum
    stream   = a deflate stream (RFC 1951) and nothing else, in a window of 8 kB in which
               config_words.WORDS stand already
    checksum = CRC-32 of the stream, 4 bytes big-endian

What was packed once must be readable for ever, so all of this is the format; how hard the
compressor tries is not, and its output differs between versions of zlib. A worked example, which a
test decodes; the config is `{"os":"linux"}`::

    ab 46 36 a9 16 00 0a db 99 22

The checksum is there because a config's digest says nothing of bits that change nothing: those
behind the end of the stream, and those that point to the same word elsewhere. No bit of a stored
config may change unseen. So what zlib is given is what it once made, or is forged.

The figures behind the choice are printed by `tools/bench/packing.py`. Most of a config is
what every config has, so the words matter more than the effort, and level 1 is enough. Huffman
codes of a config's own (a fifth smaller) cost as much again when it is read, so the fixed ones are
used. A window of 8 kB instead of 32, and less memory beside it, make the copy of a compressor that
has seen the words already cheap, which is much cheaper than showing them to a new one.

Unpacking trusts nothing: it ends at `CONFIG_SIZE_MAX`, and whatever is not one whole stream and its
checksum is None. It cannot tell another config that was packed from the right one; whoever asks has
a digest.
"""

from __future__ import annotations

import re
import zlib
from zlib import crc32, decompressobj

from eventstore.config_words import WORDS
from eventstore.image import CONFIG_SIZE_MAX

_WINDOW_BITS = -13  # 8 kB; below zero: no header
_LEVEL, _MEMORY_LEVEL = 1, 6
_CHECKSUM_SIZE = 4


def _strategy(version: str) -> int:
    """Return the strategy that a version of zlib can be trusted with.

    Before 1.2.12 fixed codes could make it write outside its memory (CVE-2018-25032).
    """
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    return zlib.Z_FIXED if numbers >= (1, 2, 12) else zlib.Z_DEFAULT_STRATEGY


_packer = zlib.compressobj(
    _LEVEL,
    zlib.DEFLATED,
    _WINDOW_BITS,
    _MEMORY_LEVEL,
    _strategy(zlib.ZLIB_RUNTIME_VERSION),
    WORDS,
)


def pack(config: bytes) -> bytes:
    """Return a config's bytes packed; they may be more than they were."""
    packer = _packer.copy()
    stream = packer.compress(config) + packer.flush()
    return stream + crc32(stream).to_bytes(_CHECKSUM_SIZE, "big")


def unpack(packed: bytes) -> bytes | None:
    """Return what was packed, None if this is not what `pack` makes of a config.

    It never returns more than `CONFIG_SIZE_MAX` bytes, and does not take much more memory than so
    many need: a stream that goes on has not ended there.
    """
    stream = packed[:-_CHECKSUM_SIZE]
    if crc32(stream).to_bytes(_CHECKSUM_SIZE, "big") != packed[-_CHECKSUM_SIZE:]:
        return None
    unpacker = decompressobj(_WINDOW_BITS, WORDS)
    try:
        config = unpacker.decompress(stream, CONFIG_SIZE_MAX)
    except zlib.error:
        return None
    return config if unpacker.eof and not unpacker.unused_data else None
