"""Pack configs and get them back; feed the unpacking with what was never packed."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import config_packing
from eventstore.config_packing import pack, unpack
from eventstore.config_words import WORDS
from eventstore.image import CONFIG_SIZE_MAX

# Bytes that were packed once, by a compressor that tried little and by one that tried hard.
KEPT_EASILY = (
    "c32c32403d7ea01a44daa35afe033a1b9a7281c50c70641ec8872721e05401780437bde8f0b6c3f353957024"
    "29a31003632b03132b03533d432363135333730b4b50f011484a086df8c21a2d29801d892b21501405861402"
    "50c40100363c213a"
)
KEPT_HARD = (
    "abc6354f45d3e20ddcb706f11103bd79f9e011dcf4a2c3db0ecf4f55c291a48c420c8cad0c4cac0c4cf50c8d"
    "8c4d4ccdcc2d2ca30827258436129202d891b81202455160482100451c00b6dfd929"
)
KEPT_CONFIG = (
    '{"architecture":"arm64","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:'
    '/usr/bin:/sbin:/bin"],"Cmd":["serve"],"Labels":{"note":"größe"}},"created":"2026-01-02T03:'
    '04:05.123456789Z","history":[{"created":"2026-01-02T03:04:05Z","created_by":"/bin/sh -c '
    '#(nop)  CMD [\\"serve\\"]","empty_layer":true}],"os":"linux","rootfs":{"type":"layers",'
    '"diff_ids":["sha256:' + "1" * 64 + '"]}}'
).encode()
WORDS_DIGEST = "2ffdacd5a1cf83c833bde6014dad356ea555b7810da56f09db300fe87e0704d5"
pieces = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100).map(str.encode),
    st.builds(
        lambda start, length: WORDS[start : start + length],
        st.integers(0, len(WORDS)),
        st.integers(0, 3_000),
    ),
    st.builds(lambda piece, count: piece * count, st.binary(max_size=9), st.integers(0, 5_000)),
)
contents = st.lists(pieces, max_size=8).map(b"".join)


def sealed(stream: bytes) -> bytes:
    """Return a stream with its checksum, as one who forges would."""
    return stream + zlib.crc32(stream).to_bytes(4, "big")


def deflated(content: bytes, *, words: bytes = WORDS, level: int = 6, strategy: int = 0) -> bytes:
    """Return a stream that any compressor might have made."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -13, 8, strategy, words)
    return packer.compress(content) + packer.flush()


def test_the_example_in_the_docstring_is_right() -> None:
    """Whoever writes a reader of the format starts from these bytes."""
    (line,) = re.findall(r"^    (ab .*)$", config_packing.__doc__ or "", re.MULTILINE)
    assert unpack(bytes.fromhex(line)) == b'{"os":"linux"}'


@pytest.mark.parametrize("packed", [KEPT_EASILY, KEPT_HARD])
def test_what_was_packed_once_is_read_for_ever(packed: str) -> None:
    """However hard its compressor tried."""
    assert unpack(bytes.fromhex(packed)) == KEPT_CONFIG


def test_the_words_never_change() -> None:
    """Other words are another format: every config that was packed needs these."""
    assert hashlib.sha256(WORDS).hexdigest() == WORDS_DIGEST


def test_all_words_are_within_reach_of_the_first_byte() -> None:
    """Deflate points back by less than its window, by 262 bytes less."""
    assert len(WORDS) <= (1 << 13) - 262


@given(contents)
def test_unpack_is_the_inverse_of_pack(content: bytes) -> None:
    """Whatever the bytes, also those far longer than the window."""
    assert unpack(pack(content)) == content


@given(contents, st.integers(0, 9), st.integers(0, 4))
def test_what_other_compressors_make_is_read(content: bytes, level: int, strategy: int) -> None:
    """Another version of zlib, or a port of it, writes the same format."""
    assert unpack(sealed(deflated(content, level=level, strategy=strategy))) == content


@given(st.binary(max_size=400))
def test_noise_is_refused_or_read_but_raises_nothing(noise: bytes) -> None:
    """With a checksum that fits, too."""
    assert unpack(noise) is None or noise
    found = unpack(sealed(noise))
    assert found is None or len(found) <= CONFIG_SIZE_MAX


def test_no_bit_may_change() -> None:
    """Also where the stream would mean the same without it."""
    packed = pack(KEPT_CONFIG)
    same = 0
    for bit in range(len(packed) * 8):
        wrong = bytearray(packed)
        wrong[bit // 8] ^= 1 << bit % 8
        assert unpack(bytes(wrong)) is None
        same += unpack(sealed(bytes(wrong[:-4]))) == KEPT_CONFIG
    assert same > 0, "then the checksum proves nothing here"


def test_what_is_cut_or_goes_on_is_refused() -> None:
    """By its checksum, and where that was forged by the stream's own end."""
    packed = pack(KEPT_CONFIG)
    for length in range(len(packed)):
        assert unpack(packed[:length]) is None
        assert unpack(sealed(packed[: min(length, len(packed) - 5)])) is None
    for more in (b"\0", b"more", packed):
        assert unpack(packed + more) is None
        assert unpack(sealed(packed[:-4] + more)) is None


@pytest.mark.parametrize("bits", [13, 29], ids=["zlib", "gzip"])
def test_other_wrappings_are_refused(bits: int) -> None:
    """The missing header is the format."""
    packer = zlib.compressobj(6, zlib.DEFLATED, bits)
    assert unpack(sealed(packer.compress(KEPT_CONFIG) + packer.flush())) is None


@pytest.mark.parametrize("words", [WORDS[:-1], WORDS + b"!", WORDS[::-1]])
def test_other_words_give_other_bytes_or_none(words: bytes) -> None:
    """The digest of a config is what tells: nothing here can."""
    assert unpack(sealed(deflated(KEPT_CONFIG))) == KEPT_CONFIG
    assert unpack(sealed(deflated(KEPT_CONFIG, words=words))) != KEPT_CONFIG


@pytest.mark.parametrize(
    ("size", "is_read"),
    [(CONFIG_SIZE_MAX, True), (CONFIG_SIZE_MAX + 1, False), (1 << 27, False)],
)
def test_no_more_than_a_config_may_have_is_unpacked(size: int, is_read: bool) -> None:
    """What would be a hundred megabytes is given up after sixteen."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -13, zdict=WORDS)
    part = bytes(1 << 20)
    stream = b"".join(packer.compress(part) for _ in range(size >> 20))
    packed = sealed(stream + packer.compress(bytes(size % (1 << 20))) + packer.flush())
    tracemalloc.start()
    try:
        found = unpack(packed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found == bytes(size)) if is_read else (found is None)
    assert peak < 3 * CONFIG_SIZE_MAX


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("end", [b"", b"x", bytes(range(256)) * 1_000])
def test_the_largest_config_is_read_however_it_ends(level: int, end: bytes) -> None:
    """The end of a stream is seen although there is no room for another byte."""
    content = bytes(CONFIG_SIZE_MAX - len(end)) + end
    assert unpack(sealed(deflated(content, level=level))) == content
    assert unpack(sealed(deflated(content + b"y", level=level))) is None


def test_what_all_configs_share_is_packed_away() -> None:
    """A small config becomes a fourth, where packing it alone would leave more than half."""
    assert len(pack(KEPT_CONFIG)) * 4 < len(KEPT_CONFIG)
    assert len(zlib.compress(KEPT_CONFIG, 9)) * 2 > len(KEPT_CONFIG)


@pytest.mark.parametrize(
    ("version", "strategy"),
    [
        ("1.2.11", zlib.Z_DEFAULT_STRATEGY),
        ("1.2.9.1-motley", zlib.Z_DEFAULT_STRATEGY),
        ("", zlib.Z_DEFAULT_STRATEGY),
        ("1.2.12", zlib.Z_FIXED),
        ("1.3", zlib.Z_FIXED),
        ("1.3.1.zlib-ng", zlib.Z_FIXED),
    ],
)
def test_fixed_codes_are_left_to_versions_that_can_make_them(version: str, strategy: int) -> None:
    """Before 1.2.12 the input could make zlib write outside its memory."""
    assert config_packing._strategy(version) == strategy
