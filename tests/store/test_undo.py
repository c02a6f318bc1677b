"""Take back what was done, by new records only, and refuse what cannot come back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    ImageNotFoundError,
    ImageStore,
    MemoryLayerStore,
    RootFS,
    StoreUsageError,
    UndoError,
    digest,
)
from eventstore.view import ImageView
from making import config, id_of
from store.test_layers import L1, L2, stacked

A, B, C, D = (id_of(config(name)) for name in "abcd")
APP, WEB = "docker.io/library/app:latest", "docker.io/library/web:latest"
Facts = tuple[dict[str, Any], dict[str, str]]


def facts_of(store: ImageStore, view: ImageView) -> Facts:
    """Return all that users can see of a moment, apart from positions and times of records."""
    images = {
        image: (
            view.get_parent(image),
            view.get_last_updated(image),
            view.is_built_locally(image),
            view.children(image),
            image in view.heads(),
            view.get(image).raw_json,
        )
        for image in view
    }
    return images, store.tags(view.position)


def now(store: ImageStore) -> Facts:
    """Return all that users can see now."""
    return facts_of(store, store.as_of(position=store.position))


def then(store: ImageStore, position: int) -> Facts:
    """Return all that users could see at a position."""
    return facts_of(store, store.as_of(position=position))


def refused(store: ImageStore, position: int, *, whole_batch: bool = True) -> tuple[str, ...]:
    """Return the obstacles of an undo, which changes nothing."""
    end = store.position
    with pytest.raises(UndoError) as caught:
        store.undo(position, whole_batch=whole_batch)
    assert store.position == end
    return caught.value.obstacles


@pytest.fixture
def family(store: ImageStore) -> ImageStore:
    """Return a store with A, B below A and C below B, each a batch; B has a name and marks."""
    for name in "abc":
        store.create(config(name))
    store.set_parent(B, A)
    store.set_parent(C, B)
    store.set_last_updated(B, 5)
    store.set_built_locally(B)
    store.tag("app", B)
    assert store.position == 8
    return store


def test_the_undo_of_a_prune_of_a_thousand_images_gives_the_same_view(store: ImageStore) -> None:
    """One batch took them; one batch brings all of them back, and one takes them again."""
    with store.transaction():
        images = [store.create(config(str(number))) for number in range(1_010)]
        for number, image in enumerate(images):
            if number % 10:
                store.set_parent(image, images[number - 1])
            if number % 2:
                store.set_built_locally(image)
            if number % 3:
                store.set_last_updated(image, number)
            if number % 7 == 0:
                store.tag(f"app:{number}", image)
    before = store.position
    with store.transaction(reason="nightly prune"):
        for image in images[:1_000]:
            store.delete(image)
    after = store.position
    tried = store.undo(after, dry_run=True)
    assert (tried.records, store.position) == ((), after)
    done = store.undo(after - 500, reason="a mistake")
    assert done.events == tried.events == tuple(record.event for record in done.records)
    assert done.undone == tuple(range(before + 1, after + 1))
    assert {record.batch for record in done.records} == {after + 1}
    assert {record.reason for record in done.records} == {
        f"undo of @{before + 1} to @{after}: a mistake"
    }
    assert now(store) == then(store, before)
    print(f"{len(done.undone)} records undone by {len(done.records)}, same view")
    store.undo(store.position)
    assert now(store) == then(store, after)
    store.undo(store.position)
    assert now(store) == then(store, before)


def test_what_was_deleted_comes_back_with_all_that_was_known(family: ImageStore) -> None:
    """Its parent, child, name and marks."""
    family.delete(B)
    family.undo(9)
    assert now(family) == then(family, 8)
    assert family.get_parent(C) == B
    assert family.resolve("app") == B


def test_each_fact_gets_the_value_from_before(family: ImageStore) -> None:
    """Parents, last updates and names; a name that was new is taken away."""
    changes: list[Callable[[], object]] = [
        lambda: family.set_parent(C, A),
        lambda: family.set_parent(B, None),
        lambda: family.set_last_updated(B, 9),
        lambda: family.tag("app", A),
        lambda: family.untag("app"),
        lambda: family.tag("web", A),
        lambda: family.create(config("d")),
    ]
    for change in changes:
        change()
        end = family.position
        done = family.undo(end)
        assert [record.reason for record in done.records] == [f"undo of @{end}"]
        assert now(family) == then(family, 8)


def test_a_batch_can_be_undone_whole_or_in_part(store: ImageStore) -> None:
    """By any of its positions."""
    with store.transaction():
        store.create(config("a"))
        store.create(config("b"))
        store.set_parent(B, A)
        store.tag("app", B)
    store.undo(4, whole_batch=False)
    store.undo(3, whole_batch=False)
    assert (store.get_parent(B), store.tags()) == (None, {})
    assert "changed since" in refused(store, 2)[0]
    store.undo(5)
    store.undo(6)
    assert now(store) == then(store, 4)
    with store.transaction():
        store.create(config("c"))
        store.set_built_locally(C)
        store.set_parent(C, B)
        store.set_last_updated(C, 1)
        store.tag("app", C)
    store.undo(store.position - 2)
    assert now(store) == then(store, 4)


def test_children_and_names_that_are_anothers_by_now_stay_there(family: ImageStore) -> None:
    """The deletion freed them."""
    family.delete(B)
    family.set_parent(C, A)
    family.tag("app", A)
    family.undo(9)
    assert (family.get_parent(C), family.get_parent(B)) == (A, A)
    assert (family.resolve("app"), family.is_built_locally(B)) == (A, True)


@pytest.mark.parametrize(
    ("undone", "since", "obstacle"),
    [
        ("create d", "mark d", "has changed since, at @10"),
        ("create d", "parent c d", "is the parent of"),
        ("create d", "delete d", "was deleted since, at @10"),
        ("delete c", "create c", "was created again since, at @10"),
        ("delete c", "create c, delete c", "was created again since, at @10"),
        ("delete b", "delete a", "the parent of"),
        ("delete c", "redact c", "its config was redacted at @10"),
        ("redact c", "", "was redacted at @9"),
        ("parent c a", "parent c b", "the parent of"),
        ("parent c a", "delete a", "was changed since, at @10"),
        ("parent c a", "delete b", "is gone"),
        ("update a", "", "the last update of"),
        ("update b", "update b", "was changed since, at @10"),
        ("mark a", "", "cannot be unset"),
        ("mark a", "delete a", "was deleted since, at @10"),
        ("tag a", "tag b", "was changed since, at @10"),
        ("tag a", "delete a", "was changed since, at @10"),
        ("tag a", "delete b", "is gone"),
        ("untag", "tag a", "was changed since, at @10"),
        ("parent b none", "parent a c", "would be its own ancestor"),
    ],
)
def test_what_cannot_come_back_is_an_obstacle(
    family: ImageStore, undone: str, since: str, obstacle: str
) -> None:
    """Each names what stands in the way, and where it happened."""
    for step in [undone, *filter(None, since.split(", "))]:
        _do(family, *step.split())
    said = refused(family, 9)
    assert any(obstacle in one for one in said)
    with pytest.raises(UndoError) as tried:
        family.undo(9, dry_run=True)
    assert tried.value.obstacles == said


def _do(store: ImageStore, what: str, name: str = "", parent: str = "") -> None:
    image = id_of(config(name))
    match what:
        case "create":
            store.create(config(name))
        case "delete":
            store.delete(image)
        case "redact":
            store.redact(image, reason="secret")
        case "parent":
            store.set_parent(image, None if parent == "none" else id_of(config(parent)))
        case "update":
            store.set_last_updated(image, 100 + store.position)
        case "mark":
            store.set_built_locally(image)
        case "tag":
            store.tag("app", image)
        case _:
            store.untag("app")


def test_all_obstacles_are_listed_and_nothing_else_is_done(family: ImageStore) -> None:
    """All or nothing; the message has the first few."""
    with family.transaction():
        family.set_built_locally(A)
        family.set_last_updated(A, 1)
        family.set_last_updated(C, 1)
        family.set_built_locally(C)
        family.untag("app")
    assert len(refused(family, 9)) == 4
    with pytest.raises(UndoError, match="; and 1 more"):
        family.undo(9)
    assert family.tags() == {}


def test_positions_and_places_that_cannot_be_are_refused(family: ImageStore) -> None:
    """No such record; a transaction is open, whose end is the caller's."""
    for position in (0, -1, 9):
        with pytest.raises(StoreUsageError):
            family.undo(position)
    with family.transaction(), pytest.raises(StoreUsageError):
        family.undo(8)
    with pytest.raises(StoreUsageError):
        family.undo(8, reason="x" * 70_000)
    assert family.position == 8


def test_a_deleted_image_is_restored_as_it_was_at_the_end(family: ImageStore) -> None:
    """Of several lives the last counts; in the middle of a batch just before its own record."""
    family.delete(C)
    family.create(config("c"))
    family.set_built_locally(C)
    with family.transaction():
        family.delete(C)
        family.delete(B)
    with pytest.raises(UndoError, match="it is there"):
        family.restore_image(A)
    with pytest.raises(ImageNotFoundError):
        family.restore_image(D)
    done = family.restore_image(C, reason="needed")
    assert done.undone == (12,)
    assert done.records[0].reason == f"restore of {digest.short(C)}, deleted at @12: needed"
    assert (family.is_built_locally(C), family.get_parent(C)) == (True, None)
    family.restore_image(B)
    assert (family.get_parent(B), family.resolve("app"), family.children(B)) == (A, B, [])
    family.redact(C, reason="secret")
    family.delete(C)
    with pytest.raises(UndoError, match="redacted"):
        family.restore_image(C)


def test_layers_are_taken_again_and_missing_ones_are_obstacles(tmp_path: Path) -> None:
    """What a refused undo has taken is given back; a dry run takes nothing, and removes nothing."""
    layers = MemoryLayerStore()
    layers.add([L1], diff_size=10)
    layers.add([L1, L2], diff_size=10)
    low, high = stacked("low", L1), stacked("high", L1, L2)
    with ImageStore.open(tmp_path / "store", layers=layers, operating_system="linux") as store:
        with store.transaction():
            store.create(low)
            store.create(high)
        held = layers.references()
        with store.transaction():
            store.delete(id_of(high))
            store.delete(id_of(low))
        assert layers.references() == {}
        assert len(refused(store, 3)) == 2
        layers.add([L1], diff_size=10)
        (obstacle,) = refused(store, 3)
        assert digest.short(id_of(high)) in obstacle
        assert layers.references() == {}
        layers.add([L1, L2], diff_size=10)
        assert len(store.undo(3, dry_run=True).events) == 2
        store.undo(3)
        assert layers.references() == held
        assert now(store) == then(store, 2)
        assert RootFS("layers", (L1, L2)).chain_id() in layers.references()
        assert list(store.verify()) == []


_names = st.sampled_from("abcd")
_steps = st.one_of(
    st.tuples(st.sampled_from(["create", "create", "delete", "update", "mark", "tag"]), _names),
    st.tuples(st.just("parent"), _names, st.sampled_from(["a", "b", "c", "d", "none"])),
    st.tuples(st.just("untag")),
)


@given(st.lists(st.lists(_steps, min_size=1, max_size=8), min_size=2, max_size=8))
def test_any_batch_is_undone_or_refused_as_a_whole(batches: list[list[tuple[str, ...]]]) -> None:
    """Right after it: the view and the names from before, or no record at all."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageStore.open(Path(folder) / "store", actor="tester@host") as store,
    ):
        for batch in batches:
            before = store.position
            with store.transaction():
                for step in batch:
                    try:
                        _do(store, *step)
                    except (LookupError, ValueError):
                        continue
            after = store.position
            if after == before:
                continue
            try:
                done = store.undo(after)
            except UndoError:
                assert store.position == after
                continue
            assert now(store) == then(store, before)
            assert not any(_has_ring(store, record.position) for record in done.records)
            if done.records:
                try:
                    store.undo(store.position)
                except UndoError:
                    continue
                assert now(store) == then(store, after)
        assert list(store.verify()) == []


def _has_ring(store: ImageStore, position: int) -> bool:
    view = store.as_of(position=position)
    for image in view:
        seen, ancestor = {image}, view.get_parent(image)
        while ancestor is not None:
            if ancestor in seen:
                return True
            seen.add(ancestor)
            ancestor = view.get_parent(ancestor)
    return False
