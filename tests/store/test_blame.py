"""Tell what happened to an image through others, who made it what it is, and since when."""

from __future__ import annotations

import random
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    Blame,
    Deleted,
    ImageNotFoundError,
    ImageStore,
    ImageView,
    InvalidParentError,
    Record,
    StoreUsageError,
    Tagged,
)
from making import config, id_of

A, B, C = (id_of(config(name)) for name in "abc")
APP = "docker.io/library/app:latest"


@pytest.fixture
def family(store: ImageStore) -> ImageStore:
    """Return a store with a parent A and its child B, which is called `app`."""
    for name in "abc":
        store.create(config(name))
    store.set_parent(B, A)
    store.tag("app", B)
    return store


def positions(store: ImageStore, image_id: str, **bounds: int) -> list[int]:
    """Return the positions of the story of an image."""
    return [record.position for record in store.story(image_id, **bounds)]


def test_the_story_tells_which_deletion_orphaned_an_image(family: ImageStore) -> None:
    """Though it is a record of the parent's; a later deletion of the parent is none of it."""
    family.delete(A, reason="prune")
    family.create(config("a"))
    family.delete(A)
    assert [record.position for record in family.records(B)] == [2, 4, 5]
    assert positions(family, B) == [2, 4, 5, 6]
    assert [one.position for one in family.story(B, reverse=True)] == [6, 5, 4, 2]
    assert positions(family, B, after=4, through=5) == [5]
    assert positions(family, B, through=5) == [2, 4, 5]
    fact = family.blame(B).parent
    assert fact is not None
    assert (fact.value, fact.record.position, fact.record.reason) == (None, 6, "prune")


def test_a_parent_that_was_left_before_it_was_deleted_orphaned_nobody(family: ImageStore) -> None:
    """Left for another one, or by the image's own deletion."""
    family.set_parent(B, C)
    family.delete(A)
    assert positions(family, B) == [2, 4, 5, 6]
    family.delete(B)
    family.delete(C)
    assert positions(family, B) == [2, 4, 5, 6, 8]


def test_each_time_that_an_image_was_orphaned_is_told(family: ImageStore) -> None:
    """Also twice by the same parent."""
    family.delete(A)
    family.create(config("a"))
    family.set_parent(B, A)
    family.delete(A)
    assert positions(family, B) == [2, 4, 5, 6, 8, 9]


def test_a_parent_deleted_while_another_one_was_had_orphaned_nobody(family: ImageStore) -> None:
    """Though the image had it before and has it again."""
    family.set_parent(B, C)
    family.delete(A)
    family.create(config("a"))
    family.set_parent(B, A)
    family.delete(A)
    assert positions(family, B) == [2, 4, 5, 6, 9, 10]


def test_the_story_tells_who_took_a_name(family: ImageStore) -> None:
    """But not who was given one that was free again."""
    family.tag("app", C)
    assert positions(family, B) == [2, 4, 5, 6]
    assert family.blame(B).names == ()
    assert [fact.value for fact in family.blame(C).names] == [APP]
    family.delete(C)
    family.tag("app", B)
    family.untag("app")
    family.tag("app", A)
    assert positions(family, B) == [2, 4, 5, 6, 8, 9]
    assert positions(family, C) == [3, 6, 7]


def test_what_was_never_set_is_so_since_the_creation(family: ImageStore) -> None:
    """And of an image that is gone, only that is known."""
    found = family.blame(C)
    assert found.parent is not None and found.built is not None and found.last_updated is not None
    records = {found.exists.record, found.parent.record, found.built.record}
    assert {record.position for record in records | {found.last_updated.record}} == {3}
    assert (found.parent.value, found.built.value, found.last_updated.value) == (None, False, None)
    family.redact(C, reason="secret")
    family.delete(C)
    gone = family.blame(C)
    (deleted,) = family.records(C, after=6)
    assert gone == Blame(C, 7, type(gone.exists)(False, deleted))
    assert family.blame(C, as_of=6).exists.value is True
    for as_of in (0, 2):
        with pytest.raises(ImageNotFoundError):
            family.blame(C, as_of=as_of)
    with pytest.raises(ImageNotFoundError):
        family.story(id_of(b"never"))


def lived(store: ImageStore, seed: int) -> None:
    """Let a store live at random, in batches and without."""
    choose = random.Random(seed)
    configs = [config(str(number)) for number in range(5)]
    for _ in range(choose.randrange(10, 60)):
        images, what = list(store), choose.random()
        if what < 0.35 or not images:
            store.create(choose.choice(configs), allow_redacted=choose.random() < 0.9)
            continue
        image = choose.choice(images)
        if what < 0.5:
            store.delete(image)
        elif what < 0.7:
            with suppress(InvalidParentError):
                store.set_parent(image, choose.choice([None, *images]))
        elif what < 0.78:
            store.set_last_updated(image, choose.randrange(3) * 1_000)
        elif what < 0.85:
            store.set_built_locally(image)
        elif what < 0.95:
            store.tag(choose.choice(["a", "b"]), image)
        else:
            for name in list(store.tags())[:1]:
                store.untag(name)


def facts_at(store: ImageStore, image: str, position: int) -> dict[str, object]:
    """Return what is known of an image at a position, by the store's other reads."""
    view = store.as_of(position=position)
    if image not in view:
        return {"exists": False}
    named = {name: True for name, meant in store.tags(position).items() if meant == image}
    return {
        "exists": True,
        "parent": view.get_parent(image),
        "built": view.is_built_locally(image),
        "last_updated": view.get_last_updated(image),
        **named,
    }


def blamed(found: Blame) -> dict[str, tuple[object, Record]]:
    """Return the facts of a blame by name, with their records."""
    facts: dict[str, tuple[object, Record]] = {
        "exists": (found.exists.value, found.exists.record),
        **{fact.value: (True, fact.record) for fact in found.names},
    }
    for name in ("parent", "built", "last_updated"):
        fact = getattr(found, name)
        if fact is not None:
            facts[name] = fact.value, fact.record
    return facts


@given(st.integers(0, 2**32))
def test_each_fact_came_to_be_with_the_record_that_is_blamed(seed: int) -> None:
    """It is what the view says; it was so ever since that record, and was not before it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageStore.open(Path(folder) / "store", actor="a") as store,
    ):
        lived(store, seed)
        for image in {record.image_id for record in store.records()}:
            check_blame(store, image, random.Random(seed).randrange(store.position + 1))
            check_blame(store, image, store.position)


def check_blame(store: ImageStore, image: str, position: int) -> None:
    """Hold the blame of an image at a position against what was known at each position."""
    then = [facts_at(store, image, at) for at in range(position + 1)]
    if not any(facts["exists"] for facts in then):
        with pytest.raises(ImageNotFoundError):
            store.blame(image, as_of=position)
        return
    found = blamed(store.blame(image, as_of=position))
    assert {name: value for name, (value, _) in found.items()} == then[position]
    story = list(store.story(image, through=position))
    for name, (value, record) in found.items():
        assert record in story
        # A created image has values that it never got, though it may have had them in a life before
        # this one; so it does not count that it was gone in between.
        assert all(name in facts and facts[name] == value for facts in then[record.position :])
        before = then[record.position - 1]
        made_anew = record.image_id == image and not before["exists"]
        assert made_anew or before.get(name) != value
    own = {record.position for record in store.records(image, through=position)}
    assert own <= {record.position for record in story}
    others = [record for record in story if record.position not in own]
    assert all(isinstance(record.event, Deleted | Tagged) for record in others)
    # What is not of its story changed nothing of it; what is of others in it, changed something.
    told = {record.position for record in story}
    for at in range(1, position + 1):
        if at not in told:
            assert then[at] == then[at - 1]
        elif at not in own:
            assert then[at] != then[at - 1]


@given(st.integers(0, 2**32))
def test_bisect_finds_what_a_linear_search_does(seed: int) -> None:
    """For what goes from false to true once in any range, in few views."""
    choose = random.Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageStore.open(Path(folder) / "store", actor="a") as store,
    ):
        lived(store, seed)
        after, through = sorted(choose.randrange(store.position + 1) for _ in range(2))
        for image in {record.image_id for record in store.records()}:
            for predicate in ("there", "gone"):
                check_bisect(store, image, predicate == "there", after, through)


def check_bisect(store: ImageStore, image: str, there: bool, after: int, through: int) -> None:
    """Hold the first record after which an image is there, or not, against a look at all."""
    seen: list[int] = []

    def predicate(view: ImageView) -> bool:
        seen.append(view.position)
        return (image in view) == there

    held = [predicate(store.as_of(position=at)) for at in range(after, through + 1)]
    seen.clear()
    if held[0]:
        with pytest.raises(StoreUsageError):
            store.bisect(predicate, after=after, through=through)
        return
    found = store.bisect(predicate, after=after, through=through)
    assert len(seen) <= 2 + (through - after).bit_length()
    if not held[-1]:
        assert found is None
        return
    assert found is not None
    assert held[found.position - after] and not held[found.position - after - 1]
    if held == sorted(held):
        assert found.position == after + held.index(True)


def test_bisect_refuses_what_is_no_range(family: ImageStore) -> None:
    """Nothing can begin to hold there."""
    for after, through in ((-1, 2), (3, 2), (0, 9), (9, 9)):
        with pytest.raises(StoreUsageError):
            family.bisect(lambda view: False, after=after, through=through)
    assert family.bisect(lambda view: False, after=2, through=2) is None
    found = family.bisect(lambda view: B in view and view.get_parent(B) == A)
    assert found is not None and found.position == 4


def test_nobody_is_blamed_for_what_a_compaction_dropped(store: ImageStore) -> None:
    """The parent that was deleted long ago came again, and was deleted again: by another."""
    for name in "abc":
        store.create(config(name))
    store.set_parent(B, A)
    store.set_parent(C, A)
    store.delete(A)
    store.create(config("a"))
    store.set_parent(C, A)
    store.set_built_locally(B)
    horizon = store.position
    store.compact(position=horizon)
    compacted = store.position
    store.delete(A)
    deleted = store.position
    assert [record.position for record in store.story(B, after=horizon)] == [compacted]
    assert [record.position for record in store.story(C, after=horizon)] == [deleted]
    blamed = store.blame(B).parent
    assert blamed is not None
    assert blamed.record.position == compacted
    blamed = store.blame(C).parent
    assert blamed is not None
    assert blamed.record.position == deleted
    store.set_parent(B, C)
    own = [2, 4, horizon, store.position]
    assert [record.position for record in store.story(B)] == own
