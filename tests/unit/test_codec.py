"""The documented example, the older shapes, and the shapes that are still to come."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from eventstore import (
    CorruptionError,
    Described,
    ImageStore,
    LastUpdatedSet,
    Manifest,
    ManifestLayer,
    MarkedBuilt,
    Redacted,
    Tagged,
    UnknownFormatError,
    Untagged,
    codec,
    digest,
    log,
)
from making import config


def sealed(position: int, value: object) -> bytes:
    """Return the stored bytes of a record with any content, its checksum right."""
    payload = msgspec.msgpack.encode(value)
    return payload + crc32(payload, crc32(position.to_bytes(8, "big"))).to_bytes(4, "big")


def test_the_example_in_the_docstring_is_right() -> None:
    """Whoever writes a reader of the format starts from these bytes."""
    assert codec.__doc__ is not None
    (line,) = re.findall(r"^    (96 .*)$", codec.__doc__, re.MULTILINE)
    raw = bytes.fromhex(line.replace("(32 times 00)", "00 " * 32))
    record = codec.decode(1, raw)
    assert record.event == MarkedBuilt(bytes(32))
    assert (record.time_ns, record.actor, record.reason) == (7, "a", "")
    assert (record.batch, record.previous) == (1, 0)
    encoded = codec.encode(
        1, time_ns=7, actor="a", reason="", batch=1, previous=0, event=MarkedBuilt(bytes(32))
    )
    assert encoded.raw == raw


def test_the_tags_in_the_docstring_are_those_of_the_code() -> None:
    """Each tag stands in the table, with the name of its event."""
    assert codec.__doc__ is not None
    table = re.findall(r"^    \[(\d+), .*?\]\s+(\w+)", codec.__doc__, re.MULTILINE)
    assert [int(tag) for tag, _ in table] == list(codec.TAGS)


def test_what_redacted_stores_is_its_tag_and_the_digest() -> None:
    """These bytes are read for ever."""
    raw = bytes.fromhex("9607a161a0010092" + "09c420" + "00" * 32)
    raw += crc32(raw, crc32((1).to_bytes(8, "big"))).to_bytes(4, "big")
    assert codec.decode(1, raw).event == Redacted(bytes(32))
    record = codec.encode(
        1, time_ns=7, actor="a", reason="", batch=1, previous=0, event=Redacted(bytes(32))
    )
    assert record.raw == raw


def test_the_bytes_of_described_stay_as_they_are() -> None:
    """Time 7, by `a`, without a reason; a manifest of 400 bytes, and one layer of 7."""
    layer = ManifestLayer("t/l", b"\x01" + b"\x22" * 32, 7)
    event = Described(bytes(32), Manifest(b"\x11" * 32, "t/m", 400, (layer,)))
    raw = bytes.fromhex(
        f"96 07 a1 61 a0 01 00 93 0b c4 20 {'00' * 32} 94 c4 20 {'11' * 32} a3 74 2f 6d cd 01 90"
        f" 91 93 a3 74 2f 6c c4 21 01 {'22' * 32} 07"
    )
    raw += crc32(raw, crc32((1).to_bytes(8, "big"))).to_bytes(4, "big")
    encoded = codec.encode(1, time_ns=7, actor="a", reason="", batch=1, previous=0, event=event)
    assert encoded.raw.hex() == raw.hex()
    assert codec.decode(1, raw).event == event


SHA256, TEXT = b"\1" + b"\2" * 32, b"\0sha512:" + b"a" * 128


@pytest.mark.parametrize(
    "manifest",
    [
        [b"\1" * 31, "t", 1, []],
        [b"\1" * 32, "t\x1b", 1, []],
        [b"\1" * 32, "t" * 256, 1, []],
        [b"\1" * 32, "\u00e9", 1, []],
        [b"\1" * 32, "t", -1, []],
        [b"\1" * 32, "t", 2**63, []],
        [b"\1" * 32, "t", 1, [["t", SHA256, 1]] * 1025],
        [b"\1" * 32, "t", 1, [["t", SHA256[:-1], 1]]],
        [b"\1" * 32, "t", 1, [["t", TEXT + b"a", 1]]],
        [b"\1" * 32, "t", 1, [["t", b"\0sha512:\n", 1]]],
        [b"\1" * 32, "t", 1, [["t", b"\0\xff", 1]]],
        [b"\1" * 32, "t", 1, [["t\n", SHA256, 1]]],
        [b"\1" * 32, "t", 1, [["t", SHA256, -1]]],
        [b"\1" * 32, "t", 1, [["t", SHA256]]],
        [b"\1" * 32, "t", 1],
        None,
    ],
    ids=str,
)
def test_a_record_of_what_can_be_no_manifest_is_corruption(manifest: object) -> None:
    """Nobody could have appended it; it is without bounds, or may steer a terminal."""
    with pytest.raises(CorruptionError):
        codec.decode(9, sealed(9, [1, "a", "", 9, 0, [11, b"\0" * 32, manifest]]))


def test_a_manifest_at_its_bounds_is_read() -> None:
    """The refusals above are of these bounds and of nothing else."""
    layers = [["t" * 255, TEXT, 2**63 - 1]] * 1024
    manifest = [b"\1" * 32, "", 0, layers]
    codec.decode(9, sealed(9, [1, "a", "", 9, 0, [11, b"\0" * 32, manifest]]))


@pytest.mark.parametrize(("tag", "shape"), [(7, Tagged), (8, Untagged)])
def test_the_bytes_of_an_event_about_a_name_stay_as_they_are(
    tag: int, shape: type[Tagged | Untagged]
) -> None:
    """Time 7, by `a`, without a reason, in batch 5, after 4; the name `h/a:1`, after record 3."""
    checksums = {7: "f735b27d", 8: "2fe014c2"}
    event = shape(bytes(32), "h/a:1", 3)
    raw = bytes.fromhex(f"96 07 a1 61 a0 05 04 94 0{tag} c4 20 {'00' * 32} a5 68 2f 61 3a 31 03")
    raw += bytes.fromhex(checksums[tag])
    encoded = codec.encode(5, time_ns=7, actor="a", reason="", batch=5, previous=4, event=event)
    assert encoded.raw.hex() == raw.hex()
    assert codec.decode(5, raw).event == event


@pytest.mark.parametrize("name", ["", "a" * 481, "\u00e9", "a\n", "a\x1b"])
@pytest.mark.parametrize("tag", [7, 8])
def test_a_record_of_what_can_be_no_name_is_corruption(tag: int, name: str) -> None:
    """Nobody could have appended it, and it may steer a terminal."""
    with pytest.raises(CorruptionError):
        codec.decode(9, sealed(9, [1, "a", "", 9, 0, [tag, b"\0" * 32, name, 0]]))


def test_the_first_shape_of_last_updated_set_means_the_time_of_its_record() -> None:
    """An older record opens as today's event, and keeps its bytes."""
    raw = sealed(3, [17, "a", "", 3, 1, [3, b"\x11" * 32]])
    record = codec.decode(3, raw)
    assert record.event == LastUpdatedSet(b"\x11" * 32, 17)
    assert record.raw == raw


def test_a_store_with_a_record_of_the_first_shape_opens_and_answers(store_path: Path) -> None:
    """On a real disk, with snapshot and as-of, an old record is as good as a new one."""
    time_ns = 1_700_000_000_000_000_000
    with ImageStore.open(store_path, now=lambda: time_ns) as store:
        image_id = store.create(config("old"))
        raw = sealed(2, [time_ns + 5, "old", "", 2, 1, [3, digest.require(image_id)]])
        old = codec.decode(2, raw)
        store._environment.write(lambda txn: (log.append(txn, old), log.note_end(txn, 2)))
    with ImageStore.open(store_path) as store:
        state = store.view().state(digest.require(image_id))
        assert state is not None
        assert state.last_updated == time_ns + 5
        assert [record.raw for record in store.records(image_id)][1] == raw
        store.set_built_locally(image_id)
        store.take_snapshot()
        assert list(store.verify()) == []
    with ImageStore.open(store_path) as store:
        assert store.as_of(position=2).get_last_updated(image_id) is not None


@pytest.mark.parametrize("tag", [0, 12, 100, 2**40])
def test_a_tag_of_a_later_version_is_named_and_never_skipped(tag: int) -> None:
    """The bytes are sound, so the answer is to update, not to restore."""
    raw = sealed(9, [1, "a", "", 9, 0, [tag, b"\0" * 32, "more"]])
    with pytest.raises(UnknownFormatError) as caught:
        codec.decode(9, raw)
    assert (caught.value.found, caught.value.position) == (tag, 9)
    assert caught.value.supported == codec.TAGS


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        None,
        "text",
        [1, "a", "", 9, 0],
        [1, "a", "", 9, 0, []],
        [1, "a", "", 9, 0, [4, 5]],
        [1, "a", "", 9, 0, ["4", b"\0" * 32]],
        ["1", "a", "", 9, 0, [4, b"\0" * 32]],
        [1, b"a", "", 9, 0, [4, b"\0" * 32]],
    ],
)
def test_sound_bytes_of_another_shape_are_corruption(value: object) -> None:
    """A checksum that fits does not make sense of nonsense."""
    with pytest.raises(CorruptionError):
        codec.decode(9, sealed(9, value))
