"""Fold events in memory: what each means, what cannot have happened, what stays apart."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest

from eventstore import (
    CorruptionError,
    Created,
    Deleted,
    Event,
    ImageNotFoundError,
    ImageView,
    InvalidParentError,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Redacted,
    codec,
    columns,
    decide,
    diff,
    digest,
)
from eventstore.columns import Columns
from eventstore.view import fold

A, B, C, D = (digest.digest_of(name) for name in (b"a", b"b", b"c", b"d"))
IDS = {raw: digest.to_text(raw) for raw in (A, B, C, D)}


def view_of(*events: Event) -> ImageView:
    """Fold events into a new view, a nanosecond apart."""
    view = ImageView()
    for position, event in enumerate(events, 1):
        view.apply_event(position, position, event)
    return view


def create(*images: bytes) -> Iterable[Created]:
    """Iterate over the creations of some images without layers."""
    return [Created(image, None, "linux") for image in images]


def test_deleting_a_parent_orphans_its_children_in_the_same_step() -> None:
    """No further event: the parent is gone, so there is none."""
    view = view_of(*create(A, B, C), ParentSet(B, A), ParentSet(C, A))
    assert view.children(IDS[A]) == sorted([IDS[B], IDS[C]])
    view.apply_event(6, 6, Deleted(A))
    assert view.get_parent(IDS[B]) is None
    assert set(view.heads()) == {IDS[B], IDS[C]}


@pytest.mark.parametrize("indexed", [False, True])
def test_an_image_created_again_is_nobodys_parent_and_clean(indexed: bool) -> None:
    """Neither its old children nor its old facts come back, whether indexes were built or not."""
    view = view_of(*create(A, B), ParentSet(B, A), LastUpdatedSet(A, 5), MarkedBuilt(A))
    if indexed:
        assert view.children(IDS[A]) == [IDS[B]]
    view.apply_event(6, 6, Deleted(A))
    view.apply_event(7, 7, Created(A, None, "linux"))
    assert view.get_parent(IDS[B]) is None
    assert view.children(IDS[A]) == []
    assert view.get_last_updated(IDS[A]) is None
    assert not view.is_built_locally(IDS[A])
    view.apply_event(8, 8, ParentSet(B, A))
    assert view.children(IDS[A]) == [IDS[B]]


@pytest.mark.parametrize(
    "event",
    [
        Created(A, None, "linux"),
        ParentSet(B, A),
        ParentSet(A, B),
        LastUpdatedSet(B, 1),
        MarkedBuilt(B),
        Deleted(B),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_cannot_have_happened_is_corruption_and_changes_nothing(event: Event) -> None:
    """A second creation, and anything about an image that is not there."""
    view = view_of(*create(A))
    before = view.digest
    with pytest.raises(CorruptionError) as caught:
        view.apply_event(2, 2, event)
    assert caught.value.position == 2
    assert view.digest == before


def test_a_redaction_moves_only_the_end_of_a_stream() -> None:
    """Of an image that is there; one that is gone stays gone, and the view goes on."""
    view = view_of(*create(A, B), ParentSet(B, A), MarkedBuilt(B), LastUpdatedSet(B, 7))
    before = dict(view.rows())
    view.apply_event(6, 6, Redacted(B))
    state = view.state(B)
    assert state is not None
    assert state.last == 6
    assert msgspec.structs.replace(state, last=before[B].last) == before[B]
    view.apply_event(7, 7, Deleted(B))
    rows = dict(view.rows())
    view.apply_event(8, 8, Redacted(B))
    assert (view.position, dict(view.rows())) == (8, rows)


@pytest.mark.parametrize(("position", "time_ns"), [(1, 5), (3, 5), (0, 5), (2, 0)])
def test_a_record_that_does_not_follow_is_corruption(position: int, time_ns: int) -> None:
    """Positions have no gaps, times never decrease."""
    view = view_of(*create(A))
    with pytest.raises(CorruptionError):
        view.apply_event(position, time_ns, Deleted(A))


def test_a_frozen_view_does_not_move() -> None:
    """Whatever happens to the view that it came from."""
    view = view_of(*create(A, B), ParentSet(B, A))
    frozen = view.freeze()
    digest_before, children = frozen.digest, frozen.children(IDS[A])
    view.apply_event(4, 4, Deleted(A))
    view.apply_event(5, 5, MarkedBuilt(B))
    assert (frozen.digest, frozen.children(IDS[A])) == (digest_before, children)
    assert IDS[A] in frozen
    assert IDS[A] not in view


def test_a_branch_goes_its_own_way() -> None:
    """It sees what it started from and its own changes; the base sees nothing."""
    view = view_of(*create(A, B), ParentSet(B, A))
    before = view.digest
    branch = view.branch(None)
    branch.apply_event(4, 4, Deleted(A))
    branch.apply_event(5, 5, Created(C, None, ""))
    branch.apply_event(6, 6, Created(A, None, ""))
    assert (len(branch), len(view)) == (3, 2)
    assert set(branch) == {IDS[A], IDS[B], IDS[C]}
    assert branch.get_parent(IDS[B]) is None
    assert view.digest == before
    assert view.get_parent(IDS[B]) == IDS[A]


def test_equal_states_have_equal_digests_whatever_the_order_in_memory() -> None:
    """The digest is of what is known, sorted, not of a dictionary's order."""
    states = dict(view_of(*create(A, B, C, D), ParentSet(B, A)).rows())
    shuffled = list(states.items())
    random.Random(5).shuffle(shuffled)
    one = ImageView(dict(sorted(states.items())), position=5, time_ns=5)
    other = ImageView(dict(shuffled), position=5, time_ns=5)
    assert one.digest == other.digest
    assert one.digest != ImageView(states, position=6, time_ns=5).digest
    assert one.digest != ImageView(states, position=5, time_ns=6).digest


def test_indexes_built_late_equal_those_that_were_kept() -> None:
    """Children and prefixes answer alike, whenever they are first asked for."""
    events = [*create(A, B, C), ParentSet(B, A), ParentSet(C, B), ParentSet(B, None), Deleted(A)]
    kept = ImageView()
    assert kept.heads() == {}
    with pytest.raises(ImageNotFoundError):
        kept.search("ab")
    for position, event in enumerate(events, 1):
        kept.apply_event(position, position, event)
    late = view_of(*events)
    assert list(kept.heads()) == list(late.heads())
    for image in (B, C):
        assert kept.children(IDS[image]) == late.children(IDS[image])
        assert kept.search(IDS[image][7:20]) == late.search(IDS[image][7:20])


def test_fold_is_apply_over_records() -> None:
    """The same view comes out of records as of their events."""
    events = [*create(A, B), ParentSet(B, A)]
    records = [
        codec.encode(n, time_ns=n, actor="", reason="", batch=n, previous=0, event=event)
        for n, event in enumerate(events, 1)
    ]
    assert fold(ImageView(), records).digest == view_of(*events).digest


def test_rules_refuse_and_leave_the_view_alone() -> None:
    """Each refusal of `decide`, and the view after it."""
    view = view_of(*create(A, B, C), ParentSet(B, A), ParentSet(C, B))
    before = view.digest
    for parent in (A, B, C):
        with pytest.raises(InvalidParentError):
            decide.set_parent(view, A, parent)
    for refused in (
        lambda: decide.set_parent(view, D, A),
        lambda: decide.set_parent(view, A, D),
        lambda: decide.delete(view, D),
        lambda: decide.mark_built(view, D),
        lambda: decide.set_last_updated(view, D, 1),
    ):
        with pytest.raises(ImageNotFoundError) as caught:
            refused()
        assert caught.value.term == IDS[D]
    assert view.digest == before


def test_rules_give_no_event_for_what_is_so_already() -> None:
    """What did not happen is not in the log."""
    view = view_of(*create(A, B), ParentSet(B, A), MarkedBuilt(A), LastUpdatedSet(A, 7))
    assert decide.create(view, A, None, "linux") == []
    assert decide.set_parent(view, B, A) == []
    assert decide.set_parent(view, A, None) == []
    assert decide.mark_built(view, A) == []
    assert decide.set_last_updated(view, A, 7) == []
    assert decide.set_parent(view, B, None) == [ParentSet(B, None)]
    assert decide.set_last_updated(view, A, 8) == [LastUpdatedSet(A, 8)]


def test_a_difference_names_each_image_once_with_what_changed() -> None:
    """Created, deleted, changed, and changed by the loss of a parent."""
    before = view_of(*create(A, B, C), ParentSet(B, A))
    after = before.freeze()
    for position, event in enumerate([Deleted(A), Created(D, None, ""), MarkedBuilt(C)], 5):
        after.apply_event(position, position, event)
    found = diff.between(before, after)
    assert (found.created, found.deleted) == ([IDS[D]], [IDS[A]])
    changes = {change.image_id: change for change in found.changed}
    assert changes[IDS[B]].parent == (IDS[A], None)
    assert changes[IDS[C]].built_locally == (False, True)
    assert set(changes) == {IDS[B], IDS[C]}
    back = diff.between(after, before)
    assert (back.created, back.deleted) == (found.deleted, found.created)
    assert not diff.between(before, before)


def test_an_image_deleted_and_created_again_between_is_marked_so() -> None:
    """Even where all its facts are as they were."""
    before = view_of(*create(A, B))
    after = before.freeze()
    after.apply_event(3, 3, Deleted(A))
    after.apply_event(4, 4, Created(A, None, "linux"))
    (change,) = diff.between(before, after).changed
    assert (change.image_id, change.recreated) == (IDS[A], True)


def test_columns_of_the_past_may_need_wider_positions_than_those_of_now() -> None:
    """The image with the great position was deleted, and all that is left is older."""
    great = (1 << 32) + 5
    now = Columns.of([(bytes([2]) * 32, (5, 6, 0, 0, 0, 0))])
    gone = (bytes([1]) * 32, (7, great, 5, great, -1, 3))
    then = now.past(great + 5, [gone])
    assert list(then.rows()) == [gone, *now.rows()]
    assert list(columns.decode(then.encode()).rows()) == list(then.rows())
