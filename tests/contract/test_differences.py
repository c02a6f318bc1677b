"""Where the store means to differ from Docker's: a test for each row of the table in the design.

What the model can answer too is played on both; what is about the log, the disk or the layers, on
the real store alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import lmdb
import pytest

from contract.subjects import KnownLayer, KnownLayers, Subject, live_then_reopened
from eventstore import (
    AmbiguousDigestError,
    Created,
    Deleted,
    Image,
    ImageNotFoundError,
    ImageStore,
    InvalidImageError,
    InvalidParentError,
    LayerMetadata,
    LayerMissingError,
    MarkedBuilt,
    ParentSet,
    StoreFullError,
    StoreReadOnlyError,
    UnsupportedOSError,
)
from making import config, id_of

UNKNOWN = id_of(b"never created")


def chain_id_of(raw: bytes) -> str:
    """Return the chain id of the layers that a config names."""
    return Image.from_json(raw).root_fs.chain_id()


def stored_configs(path: Path) -> int:
    """Return how many configs a closed store has on disk."""
    with (
        lmdb.open(str(path), max_dbs=16, map_size=1 << 30, readonly=True) as env,
        env.begin() as txn,
    ):
        return int(txn.stat(env.open_db(b"configs", txn, create=False))["entries"])


def alike(digits: int) -> Iterator[bytes]:
    """Yield configs whose ids all start with the same digits as the first one's."""
    first = config("alike")
    start = id_of(first)[: len("sha256:") + digits]
    yield first
    for number in count():
        raw = config(f"alike {number}")
        if id_of(raw).startswith(start):
            yield raw


# `SetParent` of what is not there fails, but leaves a phantom child.


def test_unknown_parent_or_image_leaves_no_phantom_child(subject: Subject) -> None:
    """A parent that is not there, or a child that is not, is refused; nothing changes."""
    store = subject.store
    child, parent, gone = (store.create(config(name)) for name in ("child", "parent", "gone"))
    store.set_parent(child, parent)
    store.delete(gone)
    before = store.position
    for image, wanted, missing in (
        (UNKNOWN, parent, UNKNOWN),
        (child, UNKNOWN, UNKNOWN),
        (child, gone, gone),
        (gone, parent, gone),
        (UNKNOWN, None, UNKNOWN),
        (child, "", ""),
        (child, parent.removeprefix("sha256:"), parent.removeprefix("sha256:")),
    ):
        with pytest.raises(ImageNotFoundError) as missed:
            store.set_parent(image, wanted)
        assert missed.value.term == missing
    for answering in live_then_reopened(subject):
        assert answering.position == before
        assert answering.children(parent) == [child]
        assert answering.get_parent(child) == parent
        assert list(answering.heads()) == [child]


# An image is accepted as its own ancestor.


def test_image_may_not_be_its_own_ancestor(subject: Subject) -> None:
    """Neither the image itself nor any descendant becomes its parent; nothing changes."""
    store = subject.store
    line = [store.create(config(f"generation {number}")) for number in range(4)]
    for parent, child in pairwise(line):
        store.set_parent(child, parent)
    before = store.position
    for wanted in line:
        with pytest.raises(InvalidParentError):
            store.set_parent(line[0], wanted)
    with pytest.raises(InvalidParentError):
        store.set_parent(line[2], line[3])
    for answering in live_then_reopened(subject):
        assert answering.position == before
        assert [answering.get_parent(image) for image in line] == [None, *line[:-1]]

    subject.store.set_parent(line[3], line[0])
    subject.store.set_parent(line[1], line[3])
    assert subject.store.children(line[3]) == [line[1]]


# `Create` that fails on a missing layer leaves the config on disk.


def test_failed_create_leaves_nothing(store_path: Path) -> None:
    """A create that fails leaves no image, no event, no reference and no config."""
    kept, missing = config("kept", layers=1), config("missing", layers=2)
    foreign = config("foreign", layers=1, os="windows")
    layers = KnownLayers([chain_id_of(kept), chain_id_of(foreign)])
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        image = store.create(kept)
        for refused, error in (
            (missing, LayerMissingError),
            (foreign, UnsupportedOSError),
            (b'{"comment": "no rootfs"}', InvalidImageError),
        ):
            with pytest.raises(InvalidImageError) as raised:
                store.create(refused)
            assert raised.type is error
            assert id_of(refused) not in store
            with pytest.raises(ImageNotFoundError):
                store.get(id_of(refused))
            with pytest.raises(ImageNotFoundError):
                store.search(id_of(refused))
        assert (store.position, list(store)) == (1, [image])
        assert layers.references() == {chain_id_of(kept): 1}
        assert list(store.verify()) == []
    assert stored_configs(store_path) == 1


def test_create_in_a_transaction_that_fails_leaves_nothing(store_path: Path) -> None:
    """Where one create of a transaction fails, the others leave neither config nor reference."""
    good, missing = config("good", layers=1), config("missing", layers=1)
    layers = KnownLayers([chain_id_of(good)])
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        with pytest.raises(LayerMissingError), store.transaction():
            store.create(good)
            assert layers.references() == {chain_id_of(good): 1}
            store.create(missing)
        assert (store.position, len(store), layers.references()) == (0, 0, {})
    assert stored_configs(store_path) == 0


# `GetParent` without a parent is an error.


def test_image_without_a_parent_has_none(subject: Subject) -> None:
    """No parent is `None`; only an unknown image is not found."""
    store = subject.store
    image, parent = store.create(config("image")), store.create(config("parent"))
    assert store.get_parent(image) is None
    assert store.get(image).parent is None
    store.set_parent(image, parent)
    assert store.get_parent(image) == store.get(image).parent == parent
    store.set_parent(image, None)
    assert store.get_parent(image) is None
    assert store.children(parent) == []
    for unknown in (UNKNOWN, "", image.removeprefix("sha256:"), image.upper()):
        with pytest.raises(ImageNotFoundError) as missed:
            store.get_parent(unknown)
        assert missed.value.term == unknown


# `IsBuiltLocally`, `GetLastUpdated` and `Children` of an unknown id: false, zero, empty.


@pytest.mark.parametrize("ask", ["is_built_locally", "get_last_updated", "children"])
def test_unknown_image_is_no_answer(subject: Subject, ask: str) -> None:
    """An id that was never there, is gone, or is only the start of one is not found."""
    store = subject.store
    image, gone = store.create(config("image")), store.create(config("gone"))
    for each in (image, gone):
        store.set_built_locally(each)
        store.set_last_updated(each)
    store.delete(gone)
    getattr(store, ask)(image)
    for unknown in (UNKNOWN, gone, image[:20], image.removeprefix("sha256:"), ""):
        with pytest.raises(ImageNotFoundError) as missed:
            getattr(store, ask)(unknown)
        assert missed.value.term == unknown
        with pytest.raises(ImageNotFoundError):
            getattr(subject.reopen(), ask)(unknown)
        store = subject.store


# An ambiguous prefix is an error without a type.


def test_ambiguous_prefix_names_its_candidates(subject: Subject) -> None:
    """A prefix of two images names both; one more digit, or one image less, is enough."""
    store = subject.store
    configs = alike(2)
    first, second = sorted(store.create(next(configs)) for _ in range(2))
    other = next(raw for raw in map(config, map(str, count())) if id_of(raw)[7] != first[7])
    store.create(other)
    for term in (first[7:9], first[:9], first[7:8], "", first[:8]):
        with pytest.raises(AmbiguousDigestError) as asked:
            store.search(term)
        assert asked.value.term == term
        wanted = sorted([first, second, id_of(other)]) if not term else [first, second]
        assert list(asked.value.candidates) == wanted

    differ = next(at for at in range(len(first)) if first[at] != second[at])
    assert store.search(first[: differ + 1]) == first
    assert store.search(second[7 : differ + 1]) == second
    store.delete(first)
    assert store.search(second[7:9]) == second
    assert subject.reopen().search(second[7:9]) == second


# Setting the same parent, or marking built twice, rewrites a file.


def test_what_changes_nothing_is_no_event(subject: Subject) -> None:
    """The same parent, the same mark, the same instant and the same config again are no events."""
    store = subject.store
    image, parent = store.create(config("image")), store.create(config("parent"))
    again = [
        lambda: store.set_parent(image, parent),
        lambda: store.set_built_locally(image),
        lambda: store.set_last_updated(image, 1_700_000_000_000_000_000),
        lambda: store.create(config("image")),
    ]
    for change in again:
        change()
    before = store.position
    assert before == 5
    for change in again:
        change()
    store.set_parent(parent, None)
    assert store.position == before
    store = subject.reopen()
    for change in again:
        change()
    assert store.position == before


# Errors of `fs.Delete` are dropped.


def test_delete_that_cannot_be_written_says_so_and_deletes_nothing(store_path: Path) -> None:
    """A delete for which there is no room is an error; the image is there until one succeeds."""
    size = 256 * 1024
    with ImageStore.open(store_path, map_size=size, map_size_max=size) as store:
        parent, child = store.create(config("parent")), store.create(config("child"))
        store.set_parent(child, parent)
        with pytest.raises(StoreFullError):
            for number in count():
                store.set_last_updated(parent, number, reason="filler " * 1000)
        before = store.position
        with pytest.raises(StoreFullError):
            store.delete(parent, reason="x" * 65_000)
        assert (store.position, len(store), store.get_parent(child)) == (before, 2, parent)
    with ImageStore.open(store_path) as store:
        assert (store.position, len(store), store.get_parent(child)) == (before, 2, parent)
        store.delete(parent, reason="x" * 65_000)
        assert (store.position, list(store), store.get_parent(child)) == (before + 1, [child], None)
        assert list(store.verify()) == []


def test_delete_in_a_store_opened_for_reading_says_so(store_path: Path) -> None:
    """A store that may not write refuses to delete, and still has the image."""
    with ImageStore.open(store_path) as store:
        image = store.create(config("image"))
    with ImageStore.open(store_path, read_only=True) as store:
        with pytest.raises(StoreReadOnlyError):
            store.delete(image)
        assert list(store) == [image]


class StubbornLayers(KnownLayers):
    """A layer store that cannot let go of anything."""

    def release(self, layer: KnownLayer) -> list[LayerMetadata]:
        """Fail."""
        raise OSError(f"{layer.chain_id} is busy")


def test_error_of_the_layer_store_is_not_dropped(store_path: Path) -> None:
    """What the layer store has to say of a release reaches the caller; the event stands."""
    raw = config("image", layers=1)
    layers = StubbornLayers([chain_id_of(raw)])
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        image = store.create(raw)
        with pytest.raises(OSError, match="is busy"):
            store.delete(image)
        assert (store.position, list(store)) == (2, [])
        second = store.create(config("second"))
        assert list(store) == [second]
    with ImageStore.open(store_path) as store:
        assert list(store) == [second]
        assert list(store.verify()) == []


# Below the table: what deleting and creating again mean.


def test_deleting_a_parent_orphans_its_children_without_events(subject: Subject) -> None:
    """Deleting a parent is one event; its children are orphans, and its grandchildren are not."""
    store = subject.store
    parent, *children = [store.create(config(f"image {number}")) for number in range(4)]
    grandchild = store.create(config("grandchild"))
    for child in children:
        store.set_parent(child, parent)
    store.set_parent(grandchild, children[0])
    before = store.position

    store.delete(parent)

    for answering in live_then_reopened(subject):
        assert answering.position == before + 1
        assert [answering.get_parent(child) for child in children] == [None] * 3
        assert [answering.get(child).parent for child in children] == [None] * 3
        assert answering.get_parent(grandchild) == children[0]
        assert sorted(answering.heads()) == sorted([*children[1:], grandchild])
    assert subject.store.create(config("image 0")) == parent
    assert subject.store.children(parent) == []
    assert subject.store.get_parent(children[0]) is None
    subject.store.set_parent(children[0], parent)
    assert subject.store.position == before + 3
    assert subject.reopen().children(parent) == [children[0]]


def test_past_before_a_delete_keeps_the_family(store: ImageStore) -> None:
    """As of the moment before, the parent is still the parent; the log has one `Deleted`."""
    parent, child = store.create(config("parent")), store.create(config("child"))
    store.set_parent(child, parent)
    before = store.position
    store.delete(parent, reason="cleaning up")
    after = list(store.records(after=before))
    assert [type(record.event) for record in after] == [Deleted]
    assert (after[0].image_id, after[0].reason) == (parent, "cleaning up")
    past = store.as_of(position=before)
    assert past.get_parent(child) == past.get(child).parent == parent
    assert past.children(parent) == [child]
    assert past.get(parent).raw_json == config("parent")


def test_image_created_again_starts_clean(subject: Subject) -> None:
    """An image that comes back has no parent, no child, no mark and no last update."""
    store = subject.store
    image, parent, child = (store.create(config(name)) for name in ("image", "parent", "child"))
    store.set_parent(image, parent)
    store.set_parent(child, image)
    store.set_built_locally(image)
    store.set_last_updated(image)
    store.delete(image)

    assert store.create(config("image")) == image

    for answering in live_then_reopened(subject):
        assert answering.get_parent(image) is None
        assert answering.children(image) == []
        assert answering.children(parent) == []
        assert answering.get_parent(child) is None
        assert answering.is_built_locally(image) is False
        assert answering.get_last_updated(image) is None
        assert answering.get(image).raw_json == config("image")


def test_stream_of_an_image_created_again_goes_on(store: ImageStore) -> None:
    """All that ever happened to an image is one stream, each record naming the one before it."""
    image, parent = store.create(config("image")), store.create(config("parent"))
    store.set_parent(image, parent)
    store.delete(image)
    store.create(config("image"))
    store.set_built_locally(image)
    stream = list(store.records(image))
    kinds = [type(record.event) for record in stream]
    assert kinds == [Created, ParentSet, Deleted, Created, MarkedBuilt]
    assert [record.position for record in stream] == [1, 3, 4, 5, 6]
    assert [record.previous for record in stream] == [0, 1, 3, 4, 5]
    assert list(store.records(image, reverse=True)) == stream[::-1]
