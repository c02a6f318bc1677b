"""Say what differs between two views.

A difference is stated per image: created, deleted, or what of it changed. An image that was deleted
and created again in between counts as changed where its facts differ.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from eventstore import clock, digest
from eventstore.columns import State
from eventstore.view import ImageView


class ImageChange(Struct, frozen=True):
    """What changed of an image that both views have; pairs are (before, after)."""

    image_id: str
    parent: tuple[str | None, str | None] | None = None
    last_updated: tuple[datetime | None, datetime | None] | None = None
    built_locally: tuple[bool, bool] | None = None
    recreated: bool = False


class ViewDiff(Struct, frozen=True):
    """What it takes to get from one view to another; each list is sorted by id."""

    before: int
    after: int
    created: list[str]
    deleted: list[str]
    changed: list[ImageChange]

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        return bool(self.created or self.deleted or self.changed)


def between(before: ImageView, after: ImageView) -> ViewDiff:
    """Return what differs between two views of one store."""
    old, new = set(before.digests()), set(after.digests())
    changes = (_change(before, after, image) for image in sorted(old & new))
    return ViewDiff(
        before.position,
        after.position,
        [digest.to_text(image) for image in sorted(new - old)],
        [digest.to_text(image) for image in sorted(old - new)],
        [change for change in changes if change is not None],
    )


def _change(before: ImageView, after: ImageView, image: bytes) -> ImageChange | None:
    was, now = before.state(image), after.state(image)
    parents = before.parent_of(image), after.parent_of(image)
    if was is None or now is None or (was == now and parents[0] == parents[1]):
        return None
    change = ImageChange(
        digest.to_text(image),
        None if parents[0] == parents[1] else (_text(parents[0]), _text(parents[1])),
        None if was.last_updated == now.last_updated else (_moment(was), _moment(now)),
        None if was.built == now.built else (was.built, now.built),
        was.created != now.created,
    )
    nothing = not change.recreated and not (change.parent or change.last_updated)
    return None if nothing and change.built_locally is None else change


def _text(image: bytes | None) -> str | None:
    return None if image is None else digest.to_text(image)


def _moment(state: State) -> datetime | None:
    return None if state.last_updated is None else clock.to_datetime(state.last_updated)
