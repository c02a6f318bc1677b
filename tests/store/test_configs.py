"""Store configs packed and as they are, in one store, and let all that reads a store read both."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from contract.recorded import configs as recorded_configs
from eventstore import (
    CorruptionError,
    ImageStore,
    InvalidImageError,
    UnknownFormatError,
    check_store,
    configs,
    digest,
    restore,
    salvage,
)
from eventstore.config_words import WORDS
from making import config, id_of, zero_free_pages

NAMES = ("a", "b", "c", "d")
RAW = {id_of(config(name)): config(name) for name in NAMES}


def sealed(stream: bytes) -> bytes:
    """Return the value that a packed config would have, whatever its stream."""
    return b"\2" + stream + zlib.crc32(stream).to_bytes(4, "big")


@contextmanager
def opened(path: Path) -> Iterator[lmdb.Transaction]:
    """Open the configs of a closed store for writing, as an attacker would."""
    with lmdb.open(str(path), max_dbs=16) as env:
        handle = env.open_db(b"configs")
        with env.begin(write=True, db=handle) as txn:
            yield txn


def stored(path: Path) -> dict[bytes, bytes]:
    """Return the configs of a closed store, as they are stored."""
    with opened(path) as txn:
        return {bytes(key): bytes(value) for key, value in txn.cursor()}


def set_stored(path: Path, image_id: str, value: bytes) -> None:
    """Store other bytes for the config of an image, and leave no copy of what was there."""
    with opened(path) as txn:
        txn.put(digest.require(image_id), value)
    zero_free_pages(path)


@pytest.fixture
def mixed(store_path: Path) -> Path:
    """Return a store in which two configs are as an earlier version left them, and two packed."""
    with ImageStore.open(store_path) as store:
        assert [store.create(config(name)) for name in NAMES] == list(RAW)
    with opened(store_path) as txn:
        for image_id in list(RAW)[:2]:
            txn.put(digest.require(image_id), b"\0" + RAW[image_id])
    return store_path


def assert_whole(path: Path) -> None:
    """Make sure that a store has all configs and is sound."""
    with ImageStore.open(path) as store:
        assert {image_id: image.raw_json for image_id, image in store.map().items()} == RAW
        assert list(store.verify()) == []
    assert list(check_store(path)) == []


def test_the_shorter_form_is_written(store_path: Path) -> None:
    """Few bytes that no config shares are left as they are."""
    noise = b'{"rootfs":{},"comment":"%s"}' % "".join(map(chr, range(0x4E00, 0x4EFF))).encode()
    with ImageStore.open(store_path) as store:
        packed, plain = store.create(config("a", layers=3)), store.create(noise)
        assert store.get(plain).raw_json == noise
        assert store.get(packed).raw_json == config("a", layers=3)
    values = stored(store_path)
    assert values[digest.require(plain)] == b"\0" + noise
    value = values[digest.require(packed)]
    assert value[0] == configs.PACKED
    assert len(value) < len(config("a", layers=3)) * 3 // 4


def test_every_recorded_config_comes_back_to_the_byte(store_path: Path) -> None:
    """Those that Docker accepts; the others, too, are bytes that can be packed."""
    _, rows = recorded_configs()
    kept = 0
    with ImageStore.open(store_path) as store:
        for row in rows:
            raw = base64.b64decode(row["config_b64"])
            assert configs.unpack(digest.digest_of(raw), configs.pack(raw)) == raw
            try:
                image_id = store.create(raw)
            except InvalidImageError:
                continue
            assert store.get(image_id).raw_json == raw
            kept += 1
        assert kept > 50
        assert list(store.verify()) == []


def test_both_forms_are_read_verified_backed_up_restored_and_salvaged(
    mixed: Path, tmp_path: Path
) -> None:
    """Old stores go on as they are, and nothing of them is written anew."""
    before = stored(mixed)
    assert sorted(value[0] for value in before.values()) == [0, 0, 2, 2]
    assert_whole(mixed)
    with ImageStore.open(mixed) as store:
        store.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    for copy in (mixed, tmp_path / "backup", tmp_path / "restored"):
        assert stored(copy) == before
        assert_whole(copy)
    report = salvage(mixed, tmp_path / "salvaged")
    assert (report.lost, report.configs_beside) == ((), 0)
    assert_whole(tmp_path / "salvaged")


def test_a_large_config_is_read_page_by_page(store_path: Path, tmp_path: Path) -> None:
    """Salvage and verify read packed ones from overflow pages without LMDB."""
    digits = hashlib.shake_256(b"large").hexdigest(10_000)
    raw = json.dumps({"rootfs": {"type": "layers"}, "comment": digits}).encode()
    with ImageStore.open(store_path) as store:
        image_id = store.create(raw)
    value = stored(store_path)[digest.require(image_id)]
    assert value[0] == configs.PACKED
    assert len(value) > 3 * 4096
    report = salvage(store_path, tmp_path / "salvaged")
    assert report.lost == ()
    with ImageStore.open(tmp_path / "salvaged") as store:
        assert store.get(image_id).raw_json == raw


BAD = {
    "empty": b"",
    "no stream": b"\2",
    "a checksum alone": sealed(b""),
    "cut": configs.pack(config("a"))[:-1],
    "cut, sealed": sealed(configs.pack(config("a"))[1:-5]),
    "longer": configs.pack(config("a")) + b"\0",
    "longer, sealed": sealed(configs.pack(config("a"))[1:-4] + b"\0"),
    "another config": configs.pack(config("b")),
    "another config as it is": b"\0" + config("b"),
    "a zlib stream": sealed(zlib.compress(config("a"))),
    "a bomb": sealed(zlib.compress(bytes(1 << 26), wbits=-13)),
    "a reserved block": sealed(b"\x07"),
    "words alone": sealed(WORDS[:100]),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_what_was_not_packed_here_is_damage_of_this_one_image(
    mixed: Path, tmp_path: Path, value: bytes
) -> None:
    """`get`, verify and salvage name the image, no error of zlib's comes out, the rest is there."""
    victim, *others = RAW
    set_stored(mixed, victim, value)
    with ImageStore.open(mixed) as store:
        with pytest.raises(CorruptionError) as caught:
            store.get(victim)
        if value:
            assert caught.value.digest == victim
        assert [store.get(image_id).raw_json for image_id in others] == list(RAW.values())[1:]
        assert [(p.kind, p.image_id) for p in store.verify()] == [("config", victim)]
    report = salvage(mixed, tmp_path / "salvaged")
    assert [(loss.kind, loss.image_id) for loss in report.lost] == [("config", victim)]
    assert [(p.kind, p.image_id) for p in check_store(tmp_path / "salvaged")] == [("lost", victim)]


@pytest.mark.parametrize("form", [1, 4, 5, 255])
@pytest.mark.parametrize("rest", [configs.pack(config("a"))[1:], config("a")])
def test_a_form_that_is_not_known_is_said_to_be_unknown(
    mixed: Path, form: int, rest: bytes
) -> None:
    """It may be of a later version, and is no damage then."""
    victim = id_of(config("a"))
    set_stored(mixed, victim, bytes([form]) + rest)
    with ImageStore.open(mixed) as store:
        with pytest.raises(UnknownFormatError) as caught:
            store.get(victim)
        assert (caught.value.found, caught.value.supported) == (f"{form:02x}", (0, 2, 3))
        assert [(p.kind, p.image_id) for p in store.verify()] == [("config", victim)]


def test_a_config_that_is_there_stays_and_a_lost_one_is_replaced(mixed: Path) -> None:
    """What is stored already is not written again, in whichever form it is."""
    plain, _, packed, lost = RAW
    with opened(mixed) as txn:
        txn.put(digest.require(lost), bytes([configs.LOST]))
    before = stored(mixed)
    with ImageStore.open(mixed) as store:
        for image_id in (plain, packed, lost):
            store.delete(image_id)
            assert store.create(RAW[image_id]) == image_id
    after = stored(mixed)
    assert {key for key in after if after[key] != before[key]} == {digest.require(lost)}
    assert after[digest.require(lost)] == configs.pack(RAW[lost])
    assert_whole(mixed)


def test_an_earlier_commit_gives_a_packed_config_back(mixed: Path, tmp_path: Path) -> None:
    """Salvage finds it in a page that nothing leads to any more."""
    victim = list(RAW)[3]
    with opened(mixed) as txn:
        txn.put(digest.require(victim), b"\2gone")
    report = salvage(mixed, tmp_path / "salvaged")
    assert report.lost == ()
    shutil.rmtree(mixed)
    assert_whole(tmp_path / "salvaged")
