"""Decode configs: fields, times, chain ids, limits; and nothing but our error for nonsense."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import History, Image, InvalidImageError, RootFS
from eventstore.go_json import VALUES_MAX
from eventstore.image import CONFIG_SIZE_MAX, parse_instant

ROOT = {"type": "layers"}


def decode(**fields: object) -> Image:
    """Decode a config with these fields."""
    return Image.from_json(json.dumps({"rootfs": ROOT, **fields}).encode())


def test_fields_are_the_json_keys_in_snake_case() -> None:
    """Docker's and OCI's keys alike."""
    image = decode(
        **{
            "os.version": "10.0",
            "os.features": ["win32k"],
            "docker_version": "28.5.2",
            "config": {
                "WorkingDir": "/w",
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
                "Env": ["A=b"],
                "Labels": {"a": "b"},
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
                "StopTimeout": 0,
            },
            "history": [{"created_by": "x", "empty_layer": True}],
        }
    )
    assert image.os_version == "10.0"
    assert image.os_features == ("win32k",)
    assert image.docker_version == "28.5.2"
    assert image.config is not None
    assert image.config.working_dir == "/w"
    assert set(image.config.exposed_ports or ()) == {"80/tcp", "443/tcp"}
    assert image.config.env == ("A=b",)
    assert image.config.labels == {"a": "b"}
    assert image.config.healthcheck is not None
    assert image.config.healthcheck.interval == 5
    assert image.config.stop_timeout == 0
    assert image.history[0].empty_layer


def test_raw_json_is_the_exact_bytes_and_the_id_their_digest() -> None:
    """White space, order and unknown keys are kept: they are what was hashed."""
    raw = b' {"rootfs" :{"type":"layers"}, "unknown": 1, "zzz":[] }\n'
    image = Image.from_json(raw)
    assert image.raw_json == raw
    assert image.id == "sha256:" + hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-10-08T18:27:41Z", datetime(2024, 10, 8, 18, 27, 41, tzinfo=UTC)),
        ("2024-10-08T20:27:41+02:00", datetime(2024, 10, 8, 18, 27, 41, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("2024-02-29T23:59:59.999999999Z", datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_created_is_an_aware_datetime_in_utc(text: str, expected: datetime) -> None:
    """Offsets are taken into account, nanoseconds cut to microseconds."""
    created = decode(created=text).created
    assert created == expected
    assert created is not None
    assert created.utcoffset() == timedelta(0)


def test_times_are_kept_as_they_are_written_and_read_when_asked_for() -> None:
    """An image's and a step's alike; the instant is exact."""
    image = decode(
        created="2024-10-08T20:27:41.123456789+02:00",
        history=[{"created": "1970-01-01T00:00:00.000000001Z", "empty_layer": True}],
    )
    assert image.created_text == "2024-10-08T20:27:41.123456789+02:00"
    assert image.created_ns == 1_728_412_061_123_456_789
    (step,) = image.history
    assert (step.created_text, step.created_ns) == ("1970-01-01T00:00:00.000000001Z", 1)
    assert step.created == datetime(1970, 1, 1, tzinfo=UTC)
    assert (History().created, History().created_ns) == (None, None)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ('"StopTimeout":5,"StopTimeout":null', None),
        ('"StopTimeout":null,"StopTimeout":5', 5),
        ('"stoptimeout":5,"StopTimeout":null', None),
        ('"StopTimeout":5,"stoptimeout":null', None),
    ],
)
def test_a_null_takes_a_stop_timeout_away(members: str, expected: int | None) -> None:
    """It is a pointer in Docker's struct, which Go's decoder sets to nil."""
    image = Image.from_json(b'{"rootfs":{},"config":{%s}}' % members.encode())
    assert image.config is not None
    assert image.config.stop_timeout == expected


def test_a_config_whose_digest_is_known_is_decoded_as_any_other() -> None:
    """Written as tools do or not; only the parent is the caller's."""
    for raw in (b'{"rootfs":{},"os":"linux"}', b'{"rootfs":{},"OS":"linux"}'):
        image, parent = Image.from_stored(raw), "sha256:" + "0" * 64
        assert Image.from_checked(raw, image.id) == image
        assert Image.from_checked(raw, image.id, parent).parent == parent
        assert Image.from_checked(raw, image.id, parent).os == "linux"


def test_created_may_be_absent_or_null() -> None:
    """Then it is not known."""
    assert decode().created is None
    assert decode(created=None).created is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2024-10-08",
        "2024-13-08T18:27:41Z",
        "2023-02-29T00:00:00Z",
        "2024-10-08T18:27:41",
        "2024-10-08T24:00:00Z",
        "2024-10-08T18:27:41Z\n",
        "٢024-10-08T18:27:41Z",
    ],
)
def test_what_go_refuses_as_a_time_is_refused(text: str) -> None:
    """As a whole: a config with such a time is no image."""
    assert parse_instant(text) is None
    with pytest.raises(InvalidImageError):
        decode(created=text)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2262, 1, 1)), st.integers(0, 999))
def test_instants_are_exact_to_the_nanosecond(moment: datetime, nanoseconds: int) -> None:
    """Nine digits come back as they went in."""
    text = f"{moment.isoformat(timespec='microseconds')}{nanoseconds:03}Z"
    whole = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert parse_instant(text) == whole * 1000 + nanoseconds


def test_the_chain_id_follows_the_oci_rule() -> None:
    """ChainID(L0|...|Ln) = SHA-256 of ChainID(L0|...|Ln-1), a space, and DiffID(Ln)."""
    layers = tuple(f"sha256:{number:064x}" for number in (1, 2, 3))
    first = layers[0]
    second = "sha256:" + hashlib.sha256(f"{first} {layers[1]}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {layers[2]}".encode()).hexdigest()
    assert RootFS("layers", ()).chain_id() == ""
    assert RootFS("layers", layers[:1]).chain_id() == first
    assert RootFS("layers", layers[:2]).chain_id() == second
    assert RootFS("layers", layers).chain_id() == third
    assert RootFS("layers", layers[::-1]).chain_id() != third


def test_more_than_16_mib_are_refused_and_just_that_is_taken() -> None:
    """The limit is stated, and exact."""
    frame = b'{"rootfs":{"type":"layers"},"comment":"%s"}'
    room = CONFIG_SIZE_MAX - len(frame) + 2
    assert len(Image.from_json(frame % (b"x" * room)).comment) == room
    with pytest.raises(InvalidImageError):
        Image.from_json(frame % (b"x" * (room + 1)))


def test_more_values_than_any_tool_writes_are_refused_in_either_way_of_decoding() -> None:
    """Even where all else is as tools write it."""
    empty = b'"",' * VALUES_MAX + b'""'
    with pytest.raises(InvalidImageError, match="values"):
        Image.from_json(b'{"rootfs":{},"config":{"Env":[' + empty + b"]}}")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"{}",
        b"[]",
        b"1",
        b'"text"',
        b'{"rootfs":null}',
        b'{"rootfs":[]}',
        b'{"rootfs":{"diff_ids":"x"}}',
        b'{"rootfs":{"type":5}}',
        b'{"rootfs":{}} {}',
        b'{"rootfs":{}',
        b'\xef\xbb\xbf{"rootfs":{}}',
        b'{"rootfs":{},"created":NaN}',
        b'{"rootfs":{},"Size":1e999}',
        b'{"rootfs":{},"Size":99999999999999999999999999}',
        b'{"rootfs":{},"Size":1.5}',
        b"[" * 100_000,
        b'{"rootfs":{},"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"rootfs":{},"Size":' + b"9" * 1_000_000 + b"}",
        b"\x00" * 100,
        b"\xff" * 100,
    ],
    ids=range(23),
)
def test_nonsense_is_an_invalid_image_with_a_reason(raw: bytes) -> None:
    """Whatever it is, the error is ours and says something."""
    with pytest.raises(InvalidImageError) as caught:
        Image.from_json(raw)
    assert caught.value.reason


@pytest.mark.parametrize("value", [None, "text", bytearray(b"{}"), memoryview(b"{}"), 5])
def test_what_is_not_bytes_is_refused(value: object) -> None:
    """The id is a digest of bytes, so nothing else will do."""
    with pytest.raises(InvalidImageError):
        Image.from_json(value)  # type: ignore[arg-type]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
keys = st.sampled_from(
    ["rootfs", "Rootfs", "config", "history", "created", "os", "Size", "os.features", "id"]
)


@given(st.dictionaries(keys, json_values))
def test_any_json_is_an_image_or_an_invalid_image(value: dict[str, object]) -> None:
    """No value of any field makes anything else escape, and what is taken can be used."""
    raw = json.dumps(value).encode()
    try:
        image = Image.from_json(raw)
    except InvalidImageError:
        return
    assert image.raw_json == raw
    assert isinstance(image.root_fs.chain_id(), str)
    assert image.created is None or image.created.tzinfo is not None


@given(st.binary(max_size=64))
def test_any_bytes_are_an_image_or_an_invalid_image(raw: bytes) -> None:
    """No bytes make anything else escape."""
    try:
        Image.from_json(raw)
    except InvalidImageError as error:
        assert error.reason
