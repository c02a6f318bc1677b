"""Give images names and take them away; ask what a name means, now and at every moment before."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import (
    AmbiguousDigestError,
    CorruptionError,
    ImageNotFoundError,
    ImageStore,
    InvalidReferenceError,
    Tagged,
    TagNotFoundError,
    Untagged,
    digest,
    names,
    restore,
    salvage,
)
from making import config, id_of

A, B = id_of(config("a")), id_of(config("b"))
APP = "docker.io/library/app:latest"


@pytest.fixture
def tagged(store: ImageStore) -> ImageStore:
    """Return a store where `app` meant A at 3, B at 4, nothing at 5, and A again at 6."""
    store.create(config("a"))
    store.create(config("b"))
    store.tag("app", A)
    store.tag("app:latest", B)
    store.untag("docker.io/app")
    store.tag("app", A)
    return store


def test_a_name_means_what_it_was_last_given_to(tagged: ImageStore) -> None:
    """Every form of the name leads there."""
    assert tagged.resolve("app") == tagged.resolve(APP) == A
    assert tagged.tags() == {APP: A}
    assert (tagged.names(A), tagged.names(B)) == ([APP], [])
    assert [tagged.resolve(A[7:20]), tagged.resolve(A)] == [A, A]


def test_every_moment_has_its_own_meaning(tagged: ImageStore) -> None:
    """By position and by time, at the cost of the name's own records."""
    meanings = {3: A, 4: B, 6: A}
    for position in range(7):
        wanted = meanings.get(position)
        assert tagged.tags(position) == ({APP: wanted} if wanted else {})
        if wanted is None:
            with pytest.raises(ImageNotFoundError):
                tagged.resolve("app", as_of=position)
        else:
            assert tagged.resolve("app", as_of=position) == wanted
    (fourth,) = tagged.records(after=3, through=4)
    assert tagged.resolve("app", as_of=fourth.time) == B


def test_the_same_again_is_no_event(tagged: ImageStore) -> None:
    """What did not happen is not in the log."""
    tagged.tag("app", A)
    assert tagged.position == 6


def test_the_records_of_a_name_are_a_chain(tagged: ImageStore) -> None:
    """The reflog of a name holds its records, oldest first, and nothing else."""
    tagged.tag("other", A)
    a, b = digest.require(A), digest.require(B)
    events = [record.event for record in tagged.tag_records("app")]
    assert events == [Tagged(a, APP, 0), Tagged(b, APP, 3), Untagged(b, APP, 4), Tagged(a, APP, 5)]
    assert [record.position for record in tagged.records(A)] == [1, 3, 6, 7]


def test_what_cannot_be_is_refused_and_changes_nothing(tagged: ImageStore) -> None:
    """An unknown image, an unknown name, a name that Docker refuses."""
    with pytest.raises(ImageNotFoundError):
        tagged.tag("app", id_of(config("c")))
    for call in (tagged.untag, tagged.tag_records):
        with pytest.raises(TagNotFoundError):
            call("never")
    for call in (tagged.untag, tagged.tag_records, lambda name: tagged.tag(name, A)):
        with pytest.raises(InvalidReferenceError):
            call("UPPER")
    with pytest.raises(AmbiguousDigestError):
        tagged.resolve("")
    with pytest.raises(ImageNotFoundError):
        tagged.names(id_of(config("c")))
    assert tagged.position == 6


def test_a_deleted_image_loses_its_names_and_does_not_get_them_back(tagged: ImageStore) -> None:
    """Created again it is another life, in which nobody has named it."""
    tagged.delete(A)
    for _ in range(2):
        assert tagged.tags() == {}
        with pytest.raises(ImageNotFoundError):
            tagged.resolve("app")
        with pytest.raises(TagNotFoundError):
            tagged.untag("app")
        tagged.create(config("a"))
    for position in (7, 8):
        assert tagged.tags(position) == {}
        with pytest.raises(ImageNotFoundError):
            tagged.resolve("app", as_of=position)
    assert tagged.resolve("app", as_of=6) == A
    tagged.tag("app", A)
    assert tagged.tags() == {APP: A}
    assert tagged.tag_records("app")[-1].event == Tagged(digest.require(A), APP, 6)


def test_a_transaction_sees_its_own_names_and_leaves_none_if_it_fails(tagged: ImageStore) -> None:
    """Its names lie over those of the log, deletions too."""
    with pytest.raises(ZeroDivisionError), tagged.transaction():
        tagged.tag("app", B)
        tagged.tag("new", B)
        assert tagged.resolve("app") == tagged.resolve("new") == B
        assert tagged.tags() == {APP: B, "docker.io/library/new:latest": B}
        tagged.delete(B)
        assert tagged.tags() == {}
        tagged.tag("app", A)
        assert tagged.tags() == {APP: A}
        assert tagged.resolve("app", as_of=4) == B
        raise ZeroDivisionError
    assert tagged.tags() == {APP: A}
    with tagged.transaction():
        tagged.tag("app", B)
        tagged.untag("app")
        tagged.tag("app", B)
    assert [record.event.before for record in tagged.tag_records("app")][-3:] == [6, 7, 8]


def test_names_change_nothing_that_a_diff_shows(tagged: ImageStore) -> None:
    """A difference is one of images."""
    found = tagged.diff(2, 6)
    assert (found.created, found.deleted, found.changed) == ([], [], [])


def test_other_stores_and_copies_see_the_same(
    tagged: ImageStore, store_path: Path, tmp_path: Path
) -> None:
    """Opened again, backed up and restored."""
    tagged.take_snapshot()
    tagged.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with ImageStore.open(tmp_path / "restored") as copy:
        assert copy.tags() == {APP: A}
        assert copy.resolve("app", as_of=4) == B
        copy.untag("app")
        assert list(copy.verify()) == []


def test_many_names_are_read_a_page_at_a_time(store: ImageStore) -> None:
    """More names than a page holds, and each of the past too."""
    store.create(config("a"))
    with store.transaction():
        for number in range(2_500):
            store.tag(f"app:{number:04}", A)
    assert len(store.tags()) == len(store.names(A)) == 2_500
    assert len(store.tags(1_025)) == 1_024


@pytest.mark.parametrize("damage", ["bent", "cut", "gone", "moved", "made up"])
def test_verify_finds_a_place_that_the_log_does_not_give(store_path: Path, damage: str) -> None:
    """The index is derived, so it is derived again, and a salvage makes it anew."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        store.tag("app", A)
        store.tag("other", A)
        store.untag("other")
        key = b"name:" + APP.encode()

        def bend(txn) -> None:
            value = txn.get("meta", key)
            if damage == "bent":
                txn.put("meta", key, bytes([value[0] ^ 1]) + value[1:], replace=True)
            elif damage == "cut":
                txn.put("meta", key, value[:8], replace=True)
            elif damage == "gone":
                txn.delete("meta", key)
            elif damage == "moved":
                names.put(txn, APP, 3)
            else:
                names.put(txn, "docker.io/library/never:1", 2)

        store._environment.write(bend)
        assert {problem.kind for problem in store.verify()} == {"name"}
        if damage in ("bent", "cut", "moved"):
            with pytest.raises(CorruptionError):
                store.resolve("app")
    salvage(store_path, store_path.with_name("salvaged"))
    with ImageStore.open(store_path.with_name("salvaged")) as store:
        assert list(store.verify()) == []
        assert store.tags() == {APP: A}
