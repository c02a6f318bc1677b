"""An error that says that an image is not there says whether it ever was, and who deleted it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from eventstore import ImageNotFoundError, ImageStore
from making import config, id_of

A, B, NEVER = (id_of(config(name)) for name in ("a", "b", "never"))
READS: list[Callable[[ImageStore, str], object]] = [
    lambda store, image: store.get(image),
    lambda store, image: store.get_parent(image),
    lambda store, image: store.get_last_updated(image),
    lambda store, image: store.is_built_locally(image),
    lambda store, image: store.children(image),
    lambda store, image: store.search(image),
    lambda store, image: store.search(image[7:20]),
    lambda store, image: store.resolve(image[:20]),
    lambda store, image: store.names(image),
]
WRITES: list[Callable[[ImageStore, str], object]] = [
    lambda store, image: store.delete(image),
    lambda store, image: store.set_parent(image, None),
    lambda store, image: store.set_parent(B, image),
    lambda store, image: store.set_last_updated(image),
    lambda store, image: store.set_built_locally(image),
    lambda store, image: store.tag("app", image),
]


@pytest.fixture
def bereft(store: ImageStore) -> ImageStore:
    """Return a store that holds B, and from which A was deleted at 3 for a reason."""
    store.create(config("a"))
    store.create(config("b"))
    store.delete(A, reason="nightly prune")
    return store


def error_of(call: Callable[[ImageStore, str], object], store: ImageStore, image: str) -> object:
    """Return the error that a call ends with."""
    with pytest.raises(ImageNotFoundError) as caught:
        call(store, image)
    return caught.value


@pytest.mark.parametrize("call", READS + WRITES)
def test_who_asks_for_a_deleted_image_is_told_who_deleted_it(
    bereft: ImageStore, call: Callable[[ImageStore, str], object]
) -> None:
    """By every read and every mutator, alone and in a transaction; of others nothing is said."""
    (deleted,) = bereft.records(A, after=2)
    error = error_of(call, bereft, A)
    assert isinstance(error, ImageNotFoundError)
    assert error.deleted == deleted
    assert error.term in A
    assert str(error) == (
        f"no such image: {error.term}: deleted at @3 by tester@host:"
        f' "nightly prune"; see `eventstore log {A[7:19]}`'
    )
    never = error_of(call, bereft, NEVER)
    assert isinstance(never, ImageNotFoundError)
    assert (never.deleted, str(never)) == (None, f"no such image: {never.term}")
    bereft.redact(A, reason="a key")
    with bereft.transaction():
        bereft.create(config("c"))
        assert getattr(error_of(call, bereft, A), "deleted", None) == deleted
    assert bereft.position == 5


def test_the_error_can_be_sent_to_another_process(bereft: ImageStore) -> None:
    """With all that it says."""
    error = error_of(READS[0], bereft, A)
    assert isinstance(error, ImageNotFoundError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.term, again.deleted, str(again)) == (error.term, error.deleted, str(error))
    plain = pickle.loads(pickle.dumps(ImageNotFoundError("x")))
    assert (plain.term, plain.deleted, str(plain)) == ("x", None, "no such image: x")


def test_what_is_long_is_cut_and_what_is_empty_left_out(store: ImageStore) -> None:
    """A reason may be as long as its writer likes."""
    for reason, shown in (("", "; see"), ("x" * 5_000, f': "{"x" * 200}…"; see')):
        store.create(config("a"))
        store.delete(A, reason=reason)
        assert f"by tester@host{shown}" in str(error_of(READS[0], store, A))


def test_the_last_deletion_counts_and_a_pending_one_does_not(bereft: ImageStore) -> None:
    """An image that came back is there; in a transaction only what is committed is told."""
    bereft.create(config("a"))
    with pytest.raises(RuntimeError), bereft.transaction():
        bereft.delete(A)
        error = error_of(READS[0], bereft, A)
        assert isinstance(error, ImageNotFoundError) and error.deleted is None
        raise RuntimeError
    bereft.delete(A, reason="again")
    error = error_of(READS[0], bereft, A)
    assert isinstance(error, ImageNotFoundError) and error.deleted is not None
    assert (error.deleted.position, error.deleted.reason) == (5, "again")


def test_views_of_the_past_say_what_they_know(bereft: ImageStore) -> None:
    """They know of no other moment."""
    for position in (0, 3):
        with pytest.raises(ImageNotFoundError) as caught:
            bereft.as_of(position=position).get(A)
        assert caught.value.deleted is None


def test_what_cannot_be_explained_is_raised_as_it_is(store_path: Path) -> None:
    """Damage met on the way to the explanation makes no other error of it."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        store.create(config("b"))
        store.delete(A)
    with lmdb.open(str(store_path), max_dbs=16) as raw:
        tombstones = raw.open_db(b"tombstones", create=False)
        with raw.begin(write=True) as txn:
            assert txn.put(bytes.fromhex(A[7:]), b"x" * 12, db=tombstones)
    with ImageStore.open(store_path) as store:
        for call in READS + WRITES[1:5]:
            error = error_of(call, store, A)
            assert isinstance(error, ImageNotFoundError) and error.deleted is None


def test_threads_whose_mutators_share_a_commit_are_each_told_their_own(bereft: ImageStore) -> None:
    """While others write, and nobody waits for ever."""
    for number in range(8):
        bereft.delete(bereft.create(config(f"gone {number}")), reason=str(number))
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        image = id_of(config(f"gone {number}"))
        for turn in range(20):
            bereft.create(config(f"other {number} {turn}"))
            error = error_of(WRITES[turn % 2], bereft, image)
            assert isinstance(error, ImageNotFoundError) and error.deleted is not None
            assert error.term == error.deleted.image_id == image
            found[number] = error.deleted.reason

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: str(number) for number in range(8)}
