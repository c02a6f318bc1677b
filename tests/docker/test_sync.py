"""Sync lists of images into a store: every kind of difference, and histories nobody thought of."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    Created,
    Deleted,
    ImageStore,
    InvalidImageError,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
)
from eventstore.sources.found import SourceImage
from eventstore.sync import sync
from making import config, id_of

A, B, C = (config(name) for name in "abc")
Facts = dict[str, tuple[str | None, int | None, bool]]


def image(
    raw: bytes, parent: bytes | None = None, updated: int | None = None, *, built: bool = False
) -> SourceImage:
    """Return an image as a source has it."""
    above = None if parent is None else id_of(parent)
    return SourceImage(id_of(raw), raw, above, updated, built)


def facts(store: ImageStore) -> Facts:
    """Return parents, last updates and built marks by id."""
    found: Facts = {}
    for image_id in store:
        state = store.view().state(bytes.fromhex(image_id[7:]))
        assert state is not None
        found[image_id] = (store.get_parent(image_id), state.last_updated, state.built)
    return found


def test_only_what_differs_is_appended(store: ImageStore) -> None:
    """A new parent, a new time and a mark are one record each; the rest stays as it is."""
    sync(store, [image(A), image(B, updated=5), image(C, A)])
    report = sync(store, [image(A, built=True), image(B, A, updated=6), image(C, A)])
    events = [record.event for record in store.records(after=report.after)]
    assert {type(event) for event in events} == {ParentSet, LastUpdatedSet, MarkedBuilt}
    assert len(events) == 3
    assert (report.parents_set, report.last_updated_set, report.marked_built) == (1, 1, 1)
    assert report.unchanged == 1


def test_what_a_source_has_decoded_is_taken_over_only_with_its_own_bytes(
    store: ImageStore,
) -> None:
    """An image's id is the SHA-256 of its config, whoever says otherwise."""
    decoded = Created(bytes.fromhex(id_of(A)[7:]), None, "linux")
    sync(store, [SourceImage(id_of(A), A, created=decoded)])
    (record,) = store.records()
    assert record.event == decoded
    assert store.get(id_of(A)).raw_json == A
    with pytest.raises(InvalidImageError):
        sync(store, [SourceImage(id_of(A), A), SourceImage(id_of(B), B, created=decoded)])
    assert store.position == 1
    other = Created(bytes.fromhex(id_of(C)[7:]), None, "linux")
    with pytest.raises(InvalidImageError):
        sync(store, [SourceImage(id_of(A), A), SourceImage(id_of(C), B, created=other)])
    assert store.position == 1


def test_an_image_that_lost_its_parent_to_a_deletion_is_no_further_event(
    store: ImageStore,
) -> None:
    """Docker removes a parent's file; here the deletion says it already."""
    sync(store, [image(A), image(B, A)])
    report = sync(store, [image(B)])
    assert [type(record.event) for record in store.records(after=report.after)] == [Deleted]
    assert report.parents_set == 0


def test_what_docker_never_takes_away_means_that_the_image_was_created_again(
    store: ImageStore,
) -> None:
    """A lost mark or time can only come from a removal and a new pull or load."""
    sync(store, [image(A, updated=5), image(B, built=True), image(C, A)])
    report = sync(store, [image(A), image(B), image(C, A)])
    assert report.recreated == sorted([id_of(A), id_of(B)])
    assert facts(store) == {
        id_of(A): (None, None, False),
        id_of(B): (None, None, False),
        id_of(C): (id_of(A), None, False),
    }


def test_images_that_change_places_make_no_cycle_on_the_way(store: ImageStore) -> None:
    """Child and parent swapped between two syncs, as a whole chain turned round."""
    sync(store, [image(A), image(B, A), image(C, B)])
    sync(store, [image(C), image(B, C), image(A, B)])
    assert store.get_parent(id_of(A)) == id_of(B)
    assert store.get_parent(id_of(B)) == id_of(C)
    assert store.get_parent(id_of(C)) is None


def test_a_dry_run_says_the_same_and_does_nothing(store: ImageStore) -> None:
    """The numbers are those of the run that follows, but nothing is appended."""
    sync(store, [image(A, updated=5), image(B, A)])
    wanted = [image(A), image(C, A, updated=7, built=True)]
    before = store.position
    planned = sync(store, wanted, dry_run=True)
    assert store.position == before == planned.position
    done = sync(store, wanted)
    assert done.position > before
    for name in ("created", "deleted", "recreated", "parents_set", "last_updated_set"):
        assert getattr(planned, name) == getattr(done, name)


@st.composite
def hosts(draw: st.DrawFn) -> list[SourceImage]:
    """Draw what a host may list: some of eight images, parents without cycles, facts."""
    raws = draw(st.permutations([config(str(number)) for number in range(8)]))
    count = draw(st.integers(0, 8))
    images: list[SourceImage] = []
    for number, raw in enumerate(raws[:count]):
        above = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
        parent = None if above is None else raws[above]
        updated = draw(st.one_of(st.none(), st.integers(0, 3)))
        images.append(image(raw, parent, updated, built=draw(st.booleans())))
    return images


@given(st.lists(hosts(), min_size=1, max_size=6))
def test_after_any_sequence_of_syncs_the_store_equals_the_source_each_time(
    moments: list[list[SourceImage]],
) -> None:
    """Whatever came before, a sync makes the store equal to the source; a second adds nothing."""
    with (
        TemporaryDirectory() as folder,
        ImageStore.open(Path(folder) / "store", actor="tester") as store,
    ):
        ends: list[tuple[int, Facts]] = []
        for images in moments:
            report = sync(store, images, allow_mass_delete=True)
            assert facts(store) == {
                each.image_id: (each.parent, each.last_updated_ns, each.built_locally)
                for each in images
            }
            assert sync(store, images).position == report.position
            ends.append((report.position, facts(store)))
        for position, then in ends:
            view = store.as_of(position=position)
            assert {key: view.get_parent(key) for key in view} == {
                key: parent for key, (parent, _, _) in then.items()
            }
        assert list(store.verify()) == []
