"""Docker's own cases for its image store and the files below it, by their names.

Each is played on the real store and on the model. What Docker puts on disk by hand is created here,
and its restore is closing and opening again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import lmdb
import pytest

from contract.subjects import Subject, live_then_reopened
from eventstore import (
    CorruptionError,
    EventStoreError,
    ImageNotFoundError,
    ImageStore,
    InvalidImageError,
    configs,
)
from making import config, id_of


@pytest.mark.parametrize(
    "refused",
    [
        b"{}",
        b"",
        b"invalid",
        b"[]",
        b'{"rootfs": null}',
        b'{"rootfs": {"type": "layers"}, "history": [{"created_by": "step"}]}',
    ],
)
def test_create(subject: Subject, refused: bytes) -> None:
    """TestCreate: what is no image config is refused, and nothing is left of it."""
    store = subject.store
    with pytest.raises(InvalidImageError):
        store.create(refused)
    assert (len(store), store.position, list(store)) == (0, 0, [])
    assert len(subject.reopen()) == 0


def test_create_the_same_bytes_again(subject: Subject) -> None:
    """TestCreate: the same bytes are the same image; a single other byte makes another."""
    store = subject.store
    first = store.create(config("abc", layers=1))
    assert first == id_of(config("abc", layers=1)) == store.create(config("abc", layers=1))
    assert (len(store), store.position) == (1, 1)
    second = store.create(config("abc", layers=1) + b"\n")
    assert (sorted([first, second]), 2) == (list(store), store.position)


def test_restore(subject: Subject) -> None:
    """TestRestore: a store over the same data answers alike; what was refused is not in it."""
    store = subject.store
    id1 = store.create(config("abc"))
    with pytest.raises(InvalidImageError):
        store.create(b"invalid")
    id2 = store.create(config("def", layers=1))
    store.set_parent(id2, id1)

    store = subject.reopen()

    assert sorted(store.map()) == sorted([id1, id2])
    img1, img2 = store.get(id1), store.get(id2)
    assert (img1.id, img1.comment, img1.parent) == (id1, "abc", None)
    assert (img2.id, img2.comment, img2.parent) == (id2, "def", id1)
    assert store.get_parent(id1) is None
    assert store.get_parent(id2) == id1
    assert store.children(id1) == [id2]
    assert list(store.heads()) == [id2]
    digits = id1.removeprefix("sha256:")
    assert store.search(id1[:10]) == id1
    assert store.search(digits[:6]) == id1
    with pytest.raises(ImageNotFoundError) as missed:
        store.search(digits[1:6])
    assert missed.value.term == digits[1:6]


def test_add_delete(subject: Subject) -> None:
    """TestAddDelete: a deleted image is gone, and its child stays without a parent."""
    store = subject.store
    id1 = store.create(b'{"comment": "added", "rootfs": {"type": "layers", "diff_ids": ["aa"]}}')
    assert id1 == "sha256:9d9c374d4fd8bf96b210bf11c4c79d5399750f332d86388415693b1fc97f01c2"
    assert store.get(id1).comment == "added"
    id2 = store.create(config("def", layers=1))
    store.set_parent(id2, id1)
    assert store.get_parent(id2) == id1

    assert store.delete(id1) == []

    with pytest.raises(ImageNotFoundError):
        store.get(id1)
    assert store.get(id2).parent is None
    assert store.get_parent(id2) is None
    assert (len(store), id1 in store, id2 in store) == (1, False, True)


def test_search_after_delete(subject: Subject) -> None:
    """TestSearchAfterDelete: a short id finds an image until it is deleted."""
    store = subject.store
    image = store.create(config("abc"))
    assert store.search(image[:15]) == image
    store.delete(image)
    for term in (image[:15], image, image.removeprefix("sha256:")[:8]):
        with pytest.raises(ImageNotFoundError):
            store.search(term)


@pytest.mark.parametrize("image", ["i_dont_exists", "", "sha256:", id_of(b"never created")])
def test_delete_not_existing(subject: Subject, image: str) -> None:
    """TestDeleteNotExisting: deleting what is not there says so, and does nothing."""
    store = subject.store
    kept = store.create(config("kept"))
    with pytest.raises(ImageNotFoundError) as missed:
        store.delete(image)
    assert missed.value.term == image
    assert (list(store), store.position) == ([kept], 1)


def test_delete_twice(subject: Subject) -> None:
    """TestDeleteNotExisting: an image can be deleted once."""
    store = subject.store
    image = store.create(config("once"))
    store.delete(image)
    with pytest.raises(ImageNotFoundError):
        store.delete(image)
    assert store.position == 2


def test_parent_reset(subject: Subject) -> None:
    """TestParentReset: an image with a new parent is no child of the old one any more."""
    store = subject.store
    child, old, new = (store.create(config(name)) for name in ("abc1", "abc2", "abc3"))
    store.set_parent(child, old)
    assert store.children(old) == [child]
    assert sorted(store.heads()) == sorted([child, new])

    store.set_parent(child, new)

    for answering in live_then_reopened(subject):
        assert answering.children(old) == []
        assert answering.children(new) == [child]
        assert sorted(answering.heads()) == sorted([child, old])


def test_get_and_set_last_updated(subject: Subject) -> None:
    """TestGetAndSetLastUpdated: an image was never updated until it is; then that is kept."""
    store = subject.store
    image, other = store.create(config("abc1")), store.create(config("abc2"))
    assert store.get_last_updated(image) is None

    store.set_last_updated(image)

    first = store.get_last_updated(image)
    assert first is not None
    assert first.utcoffset() is not None
    assert store.get_last_updated(other) is None
    assert subject.reopen().get_last_updated(image) == first
    subject.store.set_last_updated(image)
    second = subject.store.get_last_updated(image)
    assert second is not None
    assert first < second


def test_store_len(subject: Subject) -> None:
    """TestStoreLen: the length is the number of images, which is that of the map."""
    store = subject.store
    images = {store.create(config(f"abc{number}")) for number in range(10)}
    for answering in live_then_reopened(subject):
        assert len(answering) == len(answering.map()) == len(images) == 10
    subject.store.delete(images.pop())
    assert len(subject.store) == len(subject.store.map()) == 9


def test_is_built_locally(subject: Subject) -> None:
    """SetBuiltLocally, IsBuiltLocally: the mark is one image's own, and lasts."""
    store = subject.store
    built, pulled = store.create(config("built")), store.create(config("pulled"))
    assert not store.is_built_locally(built)
    store.set_built_locally(built)
    for answering in live_then_reopened(subject):
        assert answering.is_built_locally(built) is True
        assert answering.is_built_locally(pulled) is False


def test_fs_get_set(subject: Subject) -> None:
    """TestFSGetSet: content is found under its SHA-256, byte for byte, and under no other name."""
    store = subject.store
    contents = [config("foobar"), config("long") + b" " * 8192]
    for content in contents:
        expected = "sha256:" + hashlib.sha256(content).hexdigest()
        assert store.create(content) == expected
    reopened = subject.reopen()
    for content in contents:
        assert reopened.get(id_of(content)).raw_json == content
    for name in ("foobar:abc", "sha256:abc", id_of(contents[0]) + "a", id_of(b"something else")):
        with pytest.raises(ImageNotFoundError):
            reopened.get(name)


def test_fs_metadata_get_set(subject: Subject) -> None:
    """TestFSMetadataGetSet: what is set of one image is not of another, nor of an unknown one."""
    store = subject.store
    foo, bar = store.create(config("foo")), store.create(config("bar"))
    store.set_last_updated(foo)
    store.set_built_locally(foo)
    store.set_parent(bar, foo)
    assert (store.get_parent(foo), store.get_parent(bar)) == (None, foo)
    assert store.get_last_updated(bar) is None
    assert not store.is_built_locally(bar)

    before, unknown = store.position, id_of(b"baz")
    for ask in (
        store.set_last_updated,
        store.get_last_updated,
        store.set_built_locally,
        store.is_built_locally,
        store.get_parent,
    ):
        with pytest.raises(ImageNotFoundError) as missed:
            ask(unknown)
        assert missed.value.term == unknown
    with pytest.raises(ImageNotFoundError):
        store.set_parent(unknown, foo)
    assert store.position == before


def test_fs_delete(subject: Subject) -> None:
    """TestFSDelete: deleting one leaves the other, with all that is known of it, until it goes."""
    store = subject.store
    foo, bar = store.create(config("foo")), store.create(config("bar"))
    store.set_built_locally(bar)
    store.delete(foo)
    with pytest.raises(ImageNotFoundError):
        store.get(foo)
    assert store.get(bar).comment == "bar"
    assert store.is_built_locally(bar)
    store.delete(bar)
    with pytest.raises(ImageNotFoundError):
        store.get(bar)
    assert list(subject.reopen()) == []


def test_fs_walker(subject: Subject) -> None:
    """TestFSWalker: walking meets every image once, and ends when the walker wants it to."""
    store = subject.store
    assert list(store) == []
    images = sorted(store.create(config(name)) for name in ("foo", "bar", "baz"))
    for answering in live_then_reopened(subject):
        assert list(answering) == images
    for met in subject.store:
        assert met == images[0]
        break
    subject.store.delete(images[1])
    assert list(subject.store) == [images[0], images[2]]


def test_fs_get_invalid_data(store_path: Path) -> None:
    """TestFSGetInvalidData: content that is not what its name says is not given out."""
    with ImageStore.open(store_path) as store:
        image = store.create(config("foobar"))
    with (
        lmdb.open(str(store_path), max_dbs=16, map_size=1 << 30) as env,
        env.begin(write=True, db=env.open_db(b"configs")) as txn,
    ):
        key = bytes.fromhex(image.removeprefix("sha256:"))
        assert txn.get(key) == configs.pack(config("foobar"))
        assert txn.put(key, configs.pack(config("foobaz")))
    with ImageStore.open(store_path) as store:
        with pytest.raises(CorruptionError) as damaged:
            store.get(image)
        assert damaged.value.digest == image
        assert [problem.image_id for problem in store.verify()] == [image]


def test_fs_invalid_root(tmp_path: Path) -> None:
    """TestFSInvalidRoot: a store is not opened where a file is in the way, which stays as it is."""
    in_the_way = tmp_path / "root"
    in_the_way.write_bytes(b"precious")
    for root in (in_the_way, in_the_way / "store"):
        with pytest.raises(EventStoreError):
            ImageStore.open(root)
    assert in_the_way.read_bytes() == b"precious"
