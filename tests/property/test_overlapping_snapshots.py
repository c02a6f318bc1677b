"""Snapshots that are under way at once: whichever ends when, the live view stays what it was."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from eventstore import ImageStore, ImageView, InvalidParentError, replay
from eventstore.columns import Columns, State, row_of
from eventstore.events import Created, Deleted, ParentSet
from eventstore.table import Table
from making import config, id_of

IMAGES = [config(name) for name in "ab"]


def step(store: ImageStore, under_way: list[ImageView], choose: random.Random) -> None:
    """Take one step; what is refused is left out."""
    kind = choose.choice(["create", "create", "delete", "delete", "parent", "begin", "end"])
    raw, image, other = choose.choice(IMAGES), *(id_of(choose.choice(IMAGES)) for _ in "ab")
    if kind == "begin":  # a thread takes what its snapshot will hold
        under_way.append(store.view().freeze())
    elif kind == "end" and under_way:  # one of them has stored it
        store._store_snapshot(under_way.pop(choose.randrange(len(under_way))))
    elif kind == "create":
        store.create(raw)
    elif kind == "delete" and image in store:
        store.delete(image)
    elif kind == "parent" and image in store and other in store:
        with suppress(InvalidParentError):  # it would be its own ancestor
            store.set_parent(image, other)


@pytest.mark.parametrize("seed", range(12))
def test_snapshots_under_way_at_once_leave_the_view_as_it_was(store: ImageStore, seed: int) -> None:
    """Whichever of them ends when, what was deleted stays so, and what is there is."""
    under_way: list[ImageView] = []
    choose = random.Random(seed)
    for _ in range(150):
        step(store, under_way, choose)
        known = replay.from_nothing(store._environment, store.position)
        assert store.view().digest == known.digest
        assert len(store) == len(known)
        assert store.as_of(position=store.position).digest == known.digest


def test_a_deletion_between_two_snapshots_is_not_taken_for_an_older_one(store: ImageStore) -> None:
    """The case that lets a deleted image come back, step by step."""
    image = store.create(config("1"))
    store.delete(image)
    older = store.view().freeze()  # the image is gone here,
    store.create(config("1"))
    newer = store.view().freeze()  # there again,
    store.delete(image)  # and gone again
    store._store_snapshot(older)
    store._store_snapshot(newer)
    assert image not in store
    assert list(store) == []


def test_a_table_that_is_replaced_within_a_question_answers_it_all_the_same() -> None:
    """A thread asks for a parent, and between two looks another lays a newer table underneath."""
    parent, child = bytes(31) + b"\1", bytes(31) + b"\2"
    view = ImageView()
    for at, event in enumerate(
        (Created(parent, None, "linux"), Created(child, None, "linux"), ParentSet(child, parent)), 1
    ):
        view.apply_event(at, at, event)
    older = view.freeze()

    def table(rows: list[tuple[bytes, State, int]], before: list[ImageView]) -> Table:
        """Return a table of rows; to read it lets the view lie over what `before` says."""

        def read(number: int) -> Columns:
            for newest in before:
                view.lay_over(table([(child, State(2, 3, None, 0, None, False), 0)], []), newest)
            image, state, at = rows[number]
            return Columns.of([(image, row_of(state, at))])

        firsts = [image for image, _, _ in rows]  # each has a chunk of its own
        return Table(len(rows), firsts, read, {1: parent, 2: child}.__getitem__, lambda _: ())

    newer: list[ImageView] = []
    rows = [
        (parent, State(1, 1, None, 0, None, False), 0),
        (child, State(2, 3, parent, 3, None, False), 1),
    ]
    view.lay_over(table(rows, newer), older)
    view.apply_event(4, 4, Deleted(parent))
    newer.append(view.freeze())
    assert view.parent_of(child) is None
