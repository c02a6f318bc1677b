"""Redact configs: what is said of it afterwards, and who goes on as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eventstore import (
    Created,
    Deleted,
    ImageNotFoundError,
    ImageStore,
    MemoryLayerStore,
    Redacted,
    RedactedError,
    StoreUsageError,
    configs,
    digest,
    restore,
    salvage,
    scrubbing,
)
from eventstore.sources.found import SourceImage
from eventstore.sync import sync
from making import config, id_of
from traces import count, fill, secret_config, traces_of


def test_who_reads_it_is_told_who_when_and_why(store: ImageStore) -> None:
    """Now, at any moment of the past, and by way of maps; all else can be read on."""
    image_id = store.create(config("secret"))
    child = store.create(config("child"))
    store.set_parent(child, image_id)
    store.set_built_locally(image_id)
    before = store.position
    at = store.redact(image_id, reason="a key was in it")
    record = store.redaction(image_id)
    assert record is not None
    assert record.event == Redacted(digest.require(image_id))
    assert record.previous == before
    for look in (
        store.get,
        store.as_of(position=before).get,
        store.as_of(position=at).get,
        store.map().__getitem__,
        store.as_of(position=1).heads().__getitem__,
    ):
        with pytest.raises(RedactedError) as caught:
            look(image_id)
        error = caught.value
        assert (error.image_id, error.position, error.time) == (image_id, at, record.time)
        assert (error.actor, error.reason) == ("tester@host", "a key was in it")
        for word in ("tester@host", "a key was in it", f"@{at}", str(record.time.year)):
            assert word in str(error)
    assert store.get(child).parent == image_id
    assert store.children(image_id) == [child]
    assert store.search(image_id[:20]) == store.search_history(image_id[:20]) == image_id
    assert store.is_built_locally(image_id)
    assert store.diff(before, at).changed == []
    store.set_last_updated(image_id)
    store.set_parent(image_id, None)
    store.delete(image_id)
    with pytest.raises(RedactedError):
        store.as_of(position=at).get(image_id)
    assert store.redaction(child) is None


def test_an_image_that_is_gone_can_be_redacted_and_its_stream_goes_on(store: ImageStore) -> None:
    """The record is the last of its stream, wherever that is looked up."""
    image_id = store.create(config("secret"))
    store.create(config("other"))
    store.delete(image_id)
    digests = [store.as_of(position=at).digest for at in range(4)]
    at = store.redact(image_id, reason="a secret")
    assert [record.position for record in store.records(image_id)] == [1, 3, at]
    assert image_id not in store
    assert [store.as_of(position=back).digest for back in range(4)] == digests
    assert store.as_of(position=at).rows is not None
    assert store.search_history(image_id) == image_id
    assert list(store.verify()) == []
    store.take_snapshot()
    assert store.create(config("secret"), allow_redacted=True) == image_id
    records = list(store.records(image_id))
    assert [record.previous for record in records] == [0, 1, 3, at]
    assert store.get(image_id).raw_json == config("secret")
    assert store.redaction(image_id) is None


def test_the_same_config_is_refused_unless_it_is_asked_for(store: ImageStore) -> None:
    """What is created again although it was redacted is deleted first, and stays what it was."""
    image_id, child = store.create(config("secret")), store.create(config("child"))
    parent = store.create(config("parent"))
    store.set_parent(image_id, parent)
    store.set_parent(child, image_id)
    store.set_built_locally(image_id)
    store.set_last_updated(image_id, 17)
    at = store.redact(image_id, reason="a secret")
    for create in (store.create, store.adopt):
        with pytest.raises(RedactedError):
            create(config("secret"))
    with pytest.raises(RedactedError), store.transaction():
        store.create(config("secret"))
    assert store.position == at
    store.create(config("secret"), allow_redacted=True, reason="it was none")
    events = [type(record.event) for record in store.records(image_id, after=at)]
    assert events[:2] == [Deleted, Created]
    assert store.get(image_id).raw_json == config("secret")
    assert store.get_parent(image_id) == parent
    assert store.children(image_id) == [child]
    assert store.is_built_locally(image_id)
    assert {record.batch for record in store.records(after=at)} == {at + 1}
    assert store.create(config("secret")) == image_id
    assert store.redact(image_id, reason="it was one") == store.position


def test_what_cannot_be_redacted_is_refused(store: ImageStore) -> None:
    """Without a reason, in a transaction, or what never was: nothing is changed."""
    image_id = store.create(config("a"))
    for reason in ("", "  \n"):
        with pytest.raises(StoreUsageError):
            store.redact(image_id, reason=reason)
    with pytest.raises(StoreUsageError), store.transaction():
        store.redact(image_id, reason="why")
    with pytest.raises(ImageNotFoundError):
        store.redact(id_of(b"never"), reason="why")
    assert store.position == 1
    assert store.redact(image_id, reason="why") == store.redact(image_id, reason="again") == 2


def test_verify_misses_neither_a_mark_without_record_nor_a_config_that_is_there(
    store_path: Path,
) -> None:
    """A mark is no way to make a config vanish; nor does a redaction stay half done unseen."""
    with ImageStore.open(store_path) as store:
        first, second = store.create(config("a")), store.create(config("b"))
        store.redact(second, reason="why")
        environment = store._environment
        environment.write(lambda txn: configs.put_mark(txn, digest.require(first), 1))
        (problem,) = store.verify()
        assert (problem.kind, problem.image_id) == ("config", first)
        with pytest.raises(scrubbing.CorruptionError):
            store.get(first)
        environment.write(
            lambda txn: txn.put(
                "configs", digest.require(first), configs.pack(config("a")), replace=True
            )
        )
        assert list(store.verify()) == []
        environment.write(
            lambda txn: txn.put(
                "configs", digest.require(second), configs.pack(config("b")), replace=True
            )
        )
        (problem,) = store.verify()
        assert (problem.kind, problem.image_id, problem.position) == ("config", second, 3)
        environment.write(lambda txn: configs.put_mark(txn, digest.require(second), 3))
        assert list(store.verify()) == []
        environment.write(lambda txn: txn.delete("meta", b"redacted"))
        (problem,) = store.verify()
        assert (problem.kind, problem.position) == ("meta", 3)
        environment.write(lambda txn: txn.put("meta", b"redacted", b"nonsense"))
        (problem,) = store.verify()
        assert problem.kind == "meta"


# Copies, sources and layers.


def test_copies_keep_the_mark_and_hold_no_byte(store: ImageStore, tmp_path: Path) -> None:
    """Backup, restore and salvage of what was redacted are of what is left."""
    secret = secret_config("plain", 2_500)
    image_id = store.create(secret)
    fill(store, "other", 20)
    shutil.copytree(store.path, tmp_path / "old")
    store.redact(image_id, reason="a secret")
    store.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    store.close()
    salvage(store.path, tmp_path / "salvaged")
    for name in ("backup", "restored", "salvaged"):
        assert count(tmp_path / name, traces_of(secret)) == 0
        with ImageStore.open(tmp_path / name) as copy:
            assert list(copy.verify()) == []
            with pytest.raises(RedactedError):
                copy.get(image_id)
            with pytest.raises(RedactedError):
                copy.create(secret)
    with ImageStore.open(tmp_path / "old") as old:
        assert old.get(image_id).raw_json == secret


def test_a_salvaged_config_beside_the_store_is_destroyed_too(
    store: ImageStore, store_path: Path
) -> None:
    """`salvage` keeps configs of no image as files; such an image may be created again."""
    secret = secret_config("plain", 2_500)
    folder = store_path / "salvaged" / "configs"
    folder.mkdir(parents=True)
    image_id = store.create(secret)
    file = folder / image_id.removeprefix("sha256:")
    file.write_bytes(secret)
    folder.joinpath("other").write_bytes(b"other")
    store.redact(image_id, reason="a secret")
    assert not file.exists()
    assert folder.joinpath("other").exists()
    assert count(store_path, traces_of(secret)) == 0


@pytest.mark.parametrize("gone", [False, True])
def test_a_source_that_still_has_it_does_not_bring_it_back(
    store: ImageStore, store_path: Path, gone: bool
) -> None:
    """What is there stays there, redacted; what is gone is passed over, and that is said."""
    secret = secret_config("plain", 2_000)
    image_id, child = id_of(secret), id_of(config("child"))
    source = [
        SourceImage(image_id, secret, built_locally=True),
        SourceImage(child, config("child"), parent=image_id),
    ]
    sync(store, source)
    store.redact(image_id, reason="a secret")
    if gone:
        store.delete(image_id)
    source[0] = SourceImage(image_id, secret)  # it has lost a fact, as one that was pulled anew
    report = sync(store, source)
    assert (image_id in store) == (not gone)
    assert [entry.name for entry in report.passed_over] == ([image_id] if gone else [])
    assert all("a secret" in entry.detail for entry in report.passed_over)
    assert store.get_parent(child) == (None if gone else image_id)
    assert sync(store, source).position == store.position == report.position
    assert count(store_path, traces_of(secret)) == 0


def test_a_store_with_layers_opens_without_the_config(store_path: Path) -> None:
    """What opening needs of an image stands in its record."""
    raw = config("layered", layers=2)
    with ImageStore.open(store_path, operating_system="linux") as store:
        diff_ids = store.get(store.create(raw)).root_fs.diff_ids
        store.redact(id_of(raw), reason="a secret")
    layers = MemoryLayerStore()
    layers.add(diff_ids)
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        assert list(store) == [id_of(raw)]
        with pytest.raises(RedactedError):
            store.get(id_of(raw))
        store.create(raw, allow_redacted=True)
        assert store.get(id_of(raw)).raw_json == raw
        assert layers.references()[store.get(id_of(raw)).root_fs.chain_id()] == 1
        store.redact(id_of(raw), reason="once more")
        assert len(store.delete(id_of(raw))) == 2
