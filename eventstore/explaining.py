"""Let an error that says that an image is not there say as well whether it ever was.

Only when such an error leaves a method of an open store is the image looked up among those that are
gone; what finds its image pays nothing. The method has ended by then, so the look-up is within no
read, and holds no lock that it did not find held. Whatever goes wrong in it is kept to itself: the
error that is raised is the one that was to be raised.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from eventstore import digest, digest_set, dropped, log
from eventstore.errors import CompactedError, EventStoreError, ImageNotFoundError
from eventstore.events import Deleted, Record
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction


class Explaining(Protocol):
    """A store, as far as it is asked here."""

    _environment: Environment
    _horizon: dropped.Horizon

    def _catch_up(self) -> None:
        """Fold what has been committed."""


_S = TypeVar("_S", bound=Explaining)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def explained(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Return a method whose `ImageNotFoundError` says who deleted the image, if anybody did."""

    @wraps(method)
    def explaining(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except ImageNotFoundError as error:
            explain(self, error)
            raise

    return explaining


def answered(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Return a method that only reads, and reads anew where a compaction has overtaken it.

    What it was made of was dropped under it; from the new horizon on there is an answer.
    """

    @wraps(method)
    def answering(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except CompactedError:
            return _anew(self, lambda: method(self, *args, **kwargs))

    return answering


def answered_explained(
    method: Callable[Concatenate[_S, _P], _T],
) -> Callable[Concatenate[_S, _P], _T]:
    """Return a method that is both `answered` and `explained`, at the price of one."""

    @wraps(method)
    def answering(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except ImageNotFoundError as error:
            explain(self, error)
            raise
        except CompactedError:
            return _anew(self, lambda: explained(method)(self, *args, **kwargs))

    return answering


def _anew(store: Explaining, read: Callable[[], _T]) -> _T:
    """Read again from the new horizon on, and again if that moves meanwhile."""
    while True:
        store._catch_up()
        through = store._horizon.through
        try:
            return read()
        except CompactedError:
            store._catch_up()
            if store._horizon.through == through:
                raise


def explain(store: Explaining, error: ImageNotFoundError) -> None:
    """Note on an error who deleted the image, if anybody did; for what must not cost a call."""
    if error.deleted is None:
        error.deleted = _deletion(store, error.term)


def _deletion(store: Explaining, term: str) -> Record | None:
    """Return the record by which the one image that a term names was deleted, None if none was."""
    # No image that is there answers to the term, so those that are gone tell alone; a look at the
    # view as well would have to wait for a moment in which nobody writes.
    with suppress(EventStoreError), store._environment.read() as txn:

        def gone(low: bytes, high: bytes) -> list[bytes]:
            return digest_set.first_of(log.tombstones_matching(txn, low, high))

        return last_deletion(txn, digest.parse(term) or digest_set.lookup(term, gone))
    return None


def last_deletion(txn: Transaction, image: bytes) -> Record | None:
    """Return the record by which an image that is gone was deleted last, None of any other.

    Raises:
        CorruptionError: a record on the way is damaged.
    """
    position = log.tombstone(txn, image)
    while position:  # what was redacted after it was deleted has one more record
        record = log.read_one(txn, position)
        if record.event.digest != image or record.previous >= position:
            return None
        if isinstance(record.event, Deleted):
            return record
        position = record.previous
    return None
