"""Say, of each thing that is known of an image, which record made it so.

The story of an image is its own records and those of others that changed it: the deletion of its
parent, and a name of its that was given to another. `judge` folds that story, as the view folds
the whole log, and keeps with each fact the record that it came from. It is pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Generic, TypeVar

from msgspec import Struct

from eventstore.errors import CorruptionError
from eventstore.events import (
    Compacted,
    Created,
    Deleted,
    Described,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
)

_T = TypeVar("_T")


class Fact(Struct, Generic[_T], frozen=True):
    """What is so, and why.

    Attributes:
        value: what is so.
        record: the record that made it so; where nothing ever did, the one that created the image.
    """

    value: _T
    record: Record


class Blame(Struct, frozen=True):
    """The facts of an image at a position, each with the record that made it so.

    Attributes:
        image_id: the image.
        position: what came after it was not looked at.
        exists: whether the image is there; if not, all else is absent.
        parent: the id of its parent, None if it has none. Where the parent was deleted, the record
            is that deletion, or the compaction that dropped it.
        built: whether it was marked as built on this host.
        last_updated: when it was last updated, None if that was never set.
        names: its names, canonical and sorted.
    """

    image_id: str
    position: int
    exists: Fact[bool]
    parent: Fact[str | None] | None = None
    built: Fact[bool] | None = None
    last_updated: Fact[datetime | None] | None = None
    names: tuple[Fact[str], ...] = ()


def judge(image_id: str, position: int, story: Iterable[Record]) -> Blame:
    """Return who is to blame for what an image is.

    Args:
        image_id: the image.
        position: how far the story goes.
        story: its records and those of others that changed it, oldest first, from its first on.

    Raises:
        CorruptionError: the story says what cannot have happened.
    """
    exists: Fact[bool] | None = None
    parent: Fact[str | None] | None = None
    built: Fact[bool] | None = None
    last_updated: Fact[datetime | None] | None = None
    names: dict[str, Fact[str]] = {}
    for record in story:
        event = record.event
        if event.image_id != image_id:
            if isinstance(event, Deleted | Compacted):
                parent = Fact(None, record)
            elif isinstance(event, Tagged):
                names.pop(event.name, None)
        elif isinstance(event, Created):
            exists, parent, built = Fact(True, record), Fact(None, record), Fact(False, record)
            last_updated = Fact(None, record)
        elif isinstance(event, Deleted):
            exists, parent, built, last_updated = Fact(False, record), None, None, None
            names = {}
        elif isinstance(event, ParentSet):
            parent = Fact(event.parent_id, record)
        elif isinstance(event, MarkedBuilt):
            built = Fact(True, record)
        elif isinstance(event, LastUpdatedSet):
            last_updated = Fact(event.instant, record)
        elif isinstance(event, Tagged):
            names[event.name] = Fact(event.name, record)
        elif isinstance(event, Untagged):
            names.pop(event.name, None)
        else:
            assert isinstance(event, Redacted | Described)  # what they say is none of these facts
    if exists is None:
        raise CorruptionError(f"no record says that {image_id} was created", digest=image_id)
    named = tuple(names[name] for name in sorted(names))
    return Blame(image_id, position, exists, parent, built, last_updated, named)
