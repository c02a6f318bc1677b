"""Values of the wrong type, length or depth, where a checksum or a caller vouches for them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from eventstore import (
    CorruptionError,
    Image,
    ImageNotFoundError,
    ImageView,
    InvalidImageError,
    InvalidParentError,
    clock,
    codec,
    decide,
    go_json,
    meta,
    snapshot_headers,
    snapshots,
)
from eventstore.cli import moments
from eventstore.columns import State
from eventstore.digest_set import DigestSet, first_of, lookup
from eventstore.image import parse_instant
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction

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
    members = DigestSet([D])
    with pytest.raises(ImageNotFoundError):
        lookup(term, lambda *bounds: first_of(members.between(*bounds)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "chain", [b"", b"\x01", b"\x01" + D + b"\0", b"\x02" + D, b"\x00\xff\xfe", D]
)
def test_a_chain_id_that_cannot_be_read_back_is_corruption(chain: bytes) -> None:
    """It is not let in to fail later, when someone prints it."""
    event = [1, D, chain, "linux"]
    with pytest.raises(CorruptionError):
        codec.decode(1, sealed(msgspec.msgpack.encode([1, "a", "", 1, 0, event])))


def test_a_snapshot_header_nested_deeper_than_the_stack_is_corruption() -> None:
    """An element that no header has may be anything."""
    header = msgspec.msgpack.encode([1, 2, 3, [], b""])
    deep = b"\x96" + header[1:] + b"\x91" * 100_000 + b"\x90"
    with pytest.raises(CorruptionError):
        snapshot_headers.parse_header(1, deep)


@pytest.mark.parametrize(
    "fields", [{"start": -5}, {"over": 1}, {"over": 2}, {"firsts": [], "images": -1}]
)
def test_a_snapshot_header_that_leads_astray_is_corruption(fields: dict[str, object]) -> None:
    """To itself, round in a ring, where no chunk can lie, or to fewer images than none."""
    header = snapshot_headers.Header(1, 1, 0, [], b"")
    header = msgspec.structs.replace(header, **fields)
    header = msgspec.structs.replace(header, digest=header.seal())
    with pytest.raises(CorruptionError):
        snapshot_headers.parse_header(1, header.encode())


@pytest.fixture
def environment(store_path: Path) -> Environment:
    """Return the environment of a new store."""
    return Environment(store_path, initialise=meta.founding(clock.system_clock))


def test_a_snapshot_of_what_is_no_digest_is_not_loaded(environment: Environment) -> None:
    """Though all of its own digests check, it could not be answered for."""
    chunk = msgspec.msgpack.encode({D[:5]: State(1, 1, None, 0, None, False)})
    header = snapshot_headers.Header(1, 1, 1, [hashlib.sha256(chunk).digest()], b"")
    header = msgspec.structs.replace(header, digest=header.seal())
    raw = msgspec.msgpack.encode([1, 1, 1, header.chunks, header.digest])

    def lay(txn: Transaction) -> None:
        txn.put("snapshots", snapshots._key(1, 1), chunk)
        txn.put("snapshots", snapshots._key(1, 0), raw)

    environment.write(lay)
    with environment.read() as txn:
        assert snapshot_headers.parse_header(1, raw) == header
        with pytest.raises(CorruptionError, match="no digest"):
            snapshots.load(txn, header)


def test_a_creation_time_of_thousands_of_digits_is_damage(environment: Environment) -> None:
    """Python itself refuses to read it."""
    environment.write(lambda txn: txn.put("meta", b"created_ns", b"9" * 5000, replace=True))
    with pytest.raises(CorruptionError, match="created_ns"):
        meta.read(environment)


def test_a_ring_of_parents_in_a_damaged_log_is_walked_once() -> None:
    """Looking for an ancestor ends, also where the ancestors do not."""
    ring = {
        bytes([number]) * 32: State(1, 1, bytes([(number + 1) % 3]) * 32, 2, None, False)
        for number in range(3)
    }
    view = ImageView({**ring, D: State(1, 1, None, 0, None, False)}, position=5)
    assert decide.set_parent(view, D, bytes(32))
    with pytest.raises(InvalidParentError):
        decide.set_parent(view, bytes(32), bytes([2]) * 32)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"\xe2\x82", "\ufffd\ufffd"),
        (b"\xe2\x82a", "\ufffd\ufffda"),
        (b"\xf0\x9f\x92", "\ufffd" * 3),
        (b"\xed\xa0\x80", "\ufffd" * 3),
        (b"\xc0\x80", "\ufffd" * 2),
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),
        (b"\\ud800", "\ufffd"),
        (b"\\ud800\\ud800", "\ufffd" * 2),
        (b"\\ud83d\\ude00", "\U0001f600"),
        (b"\\ude00\\ud83d", "\ufffd" * 2),
        (b"\\ud800\\u0041", "\ufffdA"),
    ],
)
def test_each_byte_that_is_no_utf8_becomes_one_replacement_as_in_go(raw: bytes, text: str) -> None:
    """Go's `unquoteBytes` moves on by what `utf8.DecodeRune` gives: one byte where it fails."""
    image = Image.from_json(b'{"comment": "' + raw + b'", "rootfs": {}}')
    assert image.comment == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-10-08T8:27:41Z", "2024-10-08T08:27:41Z"),
        ("2024-10-08T08:27:41,5Z", "2024-10-08T08:27:41.5Z"),
        ("2024-10-08T08:27:41+00:60", "2024-10-08T07:27:41Z"),
        ("2024-10-08T08:27:41-24:00", "2024-10-09T08:27:41Z"),
        ("2024-10-08T08:27:41.1234567899Z", "2024-10-08T08:27:41.123456789Z"),
    ],
)
def test_times_that_go_takes_though_rfc_3339_does_not(text: str, same: str) -> None:
    """Go's `time.Parse` is lenient, and `UnmarshalJSON` with it (go.dev/issue/54580)."""
    assert parse_instant(text) == parse_instant(same) is not None


@pytest.mark.parametrize(
    "text",
    [
        "2024-10-08T24:00:00Z",
        "2024-10-08T8:7:41Z",
        "2024-1-08T08:27:41Z",
        "2024-10-08T08:27:60Z",
        "2024-10-08T08:27:41+25:00",
        "2024-10-08T08:27:41+00:61",
        "2024-10-08T08:27:41+1:00",
        "2024-10-08T08:27:41.Z",
        "2024-10-08t08:27:41Z",
        "2024-10-08T08:27:41z",
    ],
)
def test_times_that_go_refuses(text: str) -> None:
    """Only an hour may have one digit; an offset has at most 24 hours and 60 minutes."""
    assert parse_instant(text) is None


def test_a_config_of_too_many_values_is_refused_before_it_is_decoded() -> None:
    """Memory grows with the number of values; a million labels are let through."""
    many = b",".join([b"[]"] * (go_json.VALUES_MAX // 2))
    with pytest.raises(InvalidImageError, match="more than 2097152 values"):
        Image.from_json(b'{"rootfs": {}, "x": [' + many + b"]}")


def test_equal_keys_cost_no_more_than_others() -> None:
    """A large map is merged in place, not copied for each of thousands of empty ones."""
    labels = b",".join(b'"%x":""' % number for number in range(20_000))
    raw = b'{"rootfs": {}, "config": {"Labels": {' + labels + b"}" + b',"Labels":{}' * 20_000
    began = time.process_time()
    image = Image.from_json(raw + b',"Labels":{"last":"one"}}}')
    assert time.process_time() - began < 2
    assert image.config is not None
    assert image.config.labels is not None
    assert len(image.config.labels) == 20_001


def test_equal_keys_share_nothing_between_configs() -> None:
    """What is merged in place is this config's own."""
    raw = b'{"rootfs": {}, "history": [null, {"author": "a"}], "history": [{"comment": "c"}]}'
    for _ in range(2):
        (step,) = Image.from_stored(raw).history
        assert (step.author, step.comment) == ("", "c")
    assert Image.from_stored(b'{"rootfs": {}, "history": [null]}').history[0].comment == ""


def test_the_place_of_an_error_is_named_and_cut() -> None:
    """A refusal is short, however long the key is."""
    key = "k" * 100_000
    with pytest.raises(InvalidImageError) as caught:
        Image.from_json(b'{"rootfs": {}, "config": {"Labels": {"%s": 5}}}' % key.encode())
    assert str(caught.value).startswith("invalid image: config.Labels.kkk")
    assert len(str(caught.value)) < 300
    with pytest.raises(InvalidImageError, match=r"history\.1\.created: is no RFC 3339 time"):
        Image.from_json(b'{"rootfs": {}, "history": [{}, {"created": "today"}]}')


def test_a_long_phrase_is_no_moment_at_once() -> None:
    """The phrases of times are tried in many ways, each of which takes longer for longer ones."""
    began = time.process_time()
    assert moments._phrase("2 hours ago " * 10_000) is None
    assert time.process_time() - began < 1
