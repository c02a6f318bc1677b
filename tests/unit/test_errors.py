"""Errors are cut by the caller's next move; the hierarchy is part of the API."""

from __future__ import annotations

import pytest

import eventstore
from eventstore import EventStoreError

PARENTS = {
    "ImageNotFoundError": (EventStoreError, LookupError),
    "AmbiguousDigestError": (EventStoreError, LookupError),
    "RedactedError": (EventStoreError,),
    "ErasureUnfinishedError": (eventstore.StoreUsageError,),
    "InvalidImageError": (EventStoreError, ValueError),
    "UnsupportedOSError": (eventstore.InvalidImageError,),
    "LayerMissingError": (eventstore.InvalidImageError,),
    "InvalidParentError": (EventStoreError, ValueError),
    "LayerNotFoundError": (EventStoreError, LookupError),
    "SourceError": (EventStoreError,),
    "MassDeleteError": (EventStoreError,),
    "ProofError": (EventStoreError, ValueError),
    "StoreUsageError": (EventStoreError,),
    "StoreClosedError": (eventstore.StoreUsageError,),
    "StoreReadOnlyError": (eventstore.StoreUsageError,),
    "StoreForkedError": (eventstore.StoreUsageError,),
    "StoreInUseError": (eventstore.StoreUsageError,),
    "InvalidReferenceError": (EventStoreError, ValueError),
    "TagNotFoundError": (EventStoreError, LookupError),
    "CompactedError": (EventStoreError, LookupError),
    "UndoError": (EventStoreError,),
    "StoreNotFoundError": (eventstore.StoreUsageError,),
    "DestinationExistsError": (eventstore.StoreUsageError,),
    "StoreFullError": (EventStoreError, OSError),
    "StoreIOError": (EventStoreError, OSError),
    "StoreLostError": (eventstore.StoreIOError,),
    "CorruptionError": (EventStoreError,),
    "PastChangedError": (eventstore.CorruptionError,),
    "UnknownFormatError": (eventstore.CorruptionError,),
}


@pytest.mark.parametrize("name", PARENTS)
def test_each_error_has_the_parents_that_the_design_gives_it(name: str) -> None:
    """Callers catch by these classes."""
    for parent in PARENTS[name]:
        assert issubclass(getattr(eventstore, name), parent)


def test_every_exported_error_is_in_the_table() -> None:
    """A new error must be placed."""
    exported = {name for name in eventstore.__all__ if name.endswith("Error")}
    assert exported == set(PARENTS) | {"EventStoreError"}


def test_what_a_program_needs_stands_in_attributes() -> None:
    """Not only in the text."""
    ambiguous = eventstore.AmbiguousDigestError("ab", ["sha256:ab1", "sha256:ab2"])
    assert (ambiguous.term, ambiguous.candidates) == ("ab", ("sha256:ab1", "sha256:ab2"))
    assert eventstore.ImageNotFoundError("x").term == "x"
    assert eventstore.InvalidImageError("why").reason == "why"
    assert eventstore.LayerNotFoundError("sha256:0").chain_id == "sha256:0"
    full = eventstore.StoreFullError("full", path="p", map_size=5)
    assert (full.path, full.map_size) == ("p", 5)
    damaged = eventstore.CorruptionError("bad", position=7, digest="sha256:1")
    assert (damaged.position, damaged.digest) == (7, "sha256:1")
    unknown = eventstore.UnknownFormatError("new", found=9, supported=[1], position=3)
    assert (unknown.found, unknown.supported, unknown.position) == (9, (1,), 3)
