"""Note manifests of images: what is kept, for how long, and what it changes (nothing else)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    Described,
    ImageNotFoundError,
    ImageStore,
    Manifest,
    ManifestLayer,
    Record,
    StoreUsageError,
    UndoError,
    digest,
    log,
    restore,
    salvage,
)
from eventstore.events import pack_chain
from making import config

LAYER = ManifestLayer("application/gzip", pack_chain("sha256:" + "6" * 64), 7)
ONE = Manifest(b"\1" * 32, "application/json", 400, (LAYER, LAYER))
TWO = Manifest(b"\2" * 32, "application/json", 192, ())


def test_they_are_given_newest_first_and_each_once(store: ImageStore) -> None:
    """The same again is no event, whether something came in between or not."""
    image_id = store.create(config("app"))
    assert store.manifests(image_id) == []
    store.describe(image_id, ONE, reason="why")
    store.describe(image_id, ONE)
    store.describe(image_id, TWO)
    store.describe(image_id, ONE)
    assert store.manifests(image_id) == [TWO, ONE]
    assert store.position == 3
    record = next(store.records(after=1))
    assert (record.event, record.reason) == (Described(digest.require(image_id), ONE), "why")
    assert [store.manifests(image_id, as_of=at) for at in (1, 2, 3)] == [[], [ONE], [TWO, ONE]]
    assert ONE.layers[0].digest == "sha256:" + "6" * 64
    assert ONE.digest == "sha256:" + "01" * 32


def test_in_a_transaction_the_same_again_is_no_event(store: ImageStore) -> None:
    """Of an image that is new in it, that was there, and that comes back in it."""
    old = store.create(config("old"))
    store.describe(old, ONE)
    with store.transaction():
        new = store.create(config("new"))
        for _ in range(2):
            for image_id in (old, new):
                store.describe(image_id, ONE)
                store.describe(image_id, TWO)
        store.delete(old)
        store.create(config("old"))
        store.describe(old, TWO)
        store.describe(old, TWO)
    assert store.position == 2 + 1 + 2 + 1 + 2 + 1
    assert (store.manifests(old), store.manifests(new)) == ([TWO], [TWO, ONE])


def test_a_transaction_reads_the_records_of_an_image_once(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an import of many manifests of one image costs the square of their number."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    readings: list[bytes] = []
    stream = log.stream

    def counted(environment: Any, image: bytes, *more: Any, **options: Any) -> Iterator[Record]:
        readings.append(image)
        return stream(environment, image, *more, **options)

    monkeypatch.setattr(log, "stream", counted)
    with store.transaction():
        for number in range(10):
            store.describe(image_id, Manifest(bytes([number]) * 32, "application/json", 1, ()))
    assert (len(store.manifests(image_id)), len(readings)) == (11, 2)


def test_views_know_nothing_of_them(store: ImageStore) -> None:
    """Apart from the position of the image's last record."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    assert store.diff(1, 2).changed == []
    assert store.blame(image_id).exists.record.position == 1
    assert [one.position for one in store.story(image_id)] == [1, 2]


def test_they_end_with_the_life_of_the_image(store: ImageStore) -> None:
    """As its names do; the past is as it was."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    store.delete(image_id)
    for call in (
        lambda: store.manifests(image_id),
        lambda: store.manifests(image_id, as_of=0),
        lambda: store.manifests("sha256:" + "0" * 64),
        lambda: store.describe(image_id, ONE),
    ):
        with pytest.raises(ImageNotFoundError):
            call()
    assert store.manifests(image_id, as_of=2) == [ONE]
    store.create(config("app"))
    assert store.manifests(image_id) == []


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(b"\1" * 31, "t", 1, ()),
        Manifest(b"\1" * 32, "\x1b", 1, ()),
        Manifest(b"\1" * 32, "t", 2**63, ()),
        Manifest(b"\1" * 32, "t", 1, (LAYER,) * 1025),
        Manifest(b"\1" * 32, "t", 1, (ManifestLayer("t", b"\2", 1),)),
    ],
)
def test_what_is_beyond_the_bounds_is_refused(store: ImageStore, manifest: Manifest) -> None:
    """What is written can be read again."""
    image_id = store.create(config("app"))
    with pytest.raises(StoreUsageError):
        store.describe(image_id, manifest)
    assert store.position == 1


def test_undo_brings_them_back_with_their_image(store: ImageStore) -> None:
    """They stay where the image does, and go where it goes; alone they cannot be undone."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    store.describe(image_id, TWO)
    store.delete(image_id)
    store.undo(4)
    assert store.manifests(image_id) == [TWO, ONE]
    position = store.position
    with pytest.raises(UndoError, match="manifests stays as long as the image does"):
        store.undo(2)
    assert store.position == position
    with store.transaction():
        other = store.create(config("other"))
        store.describe(other, ONE)
        store.describe(image_id, Manifest(b"\3" * 32, "t", 1, ()))
    store.undo(store.position)
    assert other not in store
    assert len(store.manifests(image_id)) == 3


def test_a_config_that_was_redacted_comes_back_with_them(store: ImageStore) -> None:
    """And while it is redacted they are there, for they say nothing of what is in it."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    store.describe(image_id, TWO)
    store.redact(image_id, reason="a secret")
    assert store.manifests(image_id) == [TWO, ONE]
    store.create(config("app"), allow_redacted=True)
    assert store.manifests(image_id) == [TWO, ONE]


def test_other_ways_keep_them(store: ImageStore, tmp_path: Path) -> None:
    """A backup, a restored store, a salvaged one, and a compacted one."""
    image_id = store.create(config("app"))
    store.describe(image_id, ONE)
    store.tag("app", image_id)
    store.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    salvage(tmp_path / "backup", tmp_path / "salvaged")
    for name in ("restored", "salvaged"):
        with ImageStore.open(tmp_path / name) as other:
            assert other.manifests(image_id) == [ONE]
            assert list(other.verify()) == []
    store.compact(position=3)
    assert store.manifests(image_id) == [ONE]
    store.describe(image_id, ONE)
    assert store.position == 4
