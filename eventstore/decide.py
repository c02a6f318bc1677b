"""Judge what may happen: a view and an intent go in, events come out, or an error.

These functions are pure. They see the view, change nothing, and know neither disk nor clock, so
every rule of the store can be tried in memory. An intent that would change nothing gives no event:
what did not happen is not in the log.
"""

from __future__ import annotations

from eventstore import digest
from eventstore.columns import State
from eventstore.errors import ImageNotFoundError, InvalidParentError, TagNotFoundError
from eventstore.events import (
    Created,
    Deleted,
    Event,
    LastUpdatedSet,
    MarkedBuilt,
    Named,
    ParentSet,
    Tagged,
    Untagged,
)
from eventstore.view import ImageView


def create(view: ImageView, image: bytes, chain: bytes | None, os: str) -> list[Event]:
    """Return what creating an image means: nothing if it is there."""
    return [] if view.state(image) is not None else [Created(image, chain, os)]


def delete(view: ImageView, image: bytes) -> list[Event]:
    """Return what deleting an image means.

    Raises:
        ImageNotFoundError: it is not there, or its layers are not.
    """
    if not view.shows(image):
        raise ImageNotFoundError(digest.to_text(image))
    return [Deleted(image)]


def set_parent(view: ImageView, image: bytes, parent: bytes | None) -> list[Event]:
    """Return what giving an image a parent means; None takes the one it has away.

    Raises:
        ImageNotFoundError: one of the two is not there.
        InvalidParentError: the image would be its own ancestor.
    """
    _require(view, image)
    if parent is not None and not view.shows(parent):
        raise ImageNotFoundError(digest.to_text(parent))
    if view.parent_of(image) == parent:
        return []
    ancestor = parent
    seen: set[bytes] = set()  # a damaged log may hold a ring, which has no end
    while ancestor is not None and ancestor not in seen:
        seen.add(ancestor)
        if ancestor == image:
            raise InvalidParentError(
                f"{digest.to_text(image)} would be its own ancestor"
                f" with the parent {digest.to_text(parent or b'')}"
            )
        ancestor = view.parent_of(ancestor)
    return [ParentSet(image, parent)]


def set_last_updated(view: ImageView, image: bytes, instant_ns: int) -> list[Event]:
    """Return what setting the last update of an image means.

    Raises:
        ImageNotFoundError: it is not there.
    """
    if _require(view, image).last_updated == instant_ns:
        return []
    return [LastUpdatedSet(image, instant_ns)]


def mark_built(view: ImageView, image: bytes) -> list[Event]:
    """Return what marking an image as built here means.

    Raises:
        ImageNotFoundError: it is not there.
    """
    return [] if _require(view, image).built else [MarkedBuilt(image)]


def facts_of(view: ImageView, image: bytes) -> list[Event]:
    """Return what makes an image, deleted and created again, what it is now, children included."""
    state = _require(view, image)
    facts: list[Event] = []
    parent = view.parent_of(image)
    if parent is not None:
        facts.append(ParentSet(image, parent))
    if state.last_updated is not None:
        facts.append(LastUpdatedSet(image, state.last_updated))
    if state.built:
        facts.append(MarkedBuilt(image))
    children = sorted(child for child, _ in view.children_of({image}))
    return facts + [ParentSet(child, image) for child in children]


def tag(view: ImageView, image: bytes, name: str, last: tuple[int, Named | None]) -> list[Event]:
    """Return what giving an image a name means.

    Args:
        view: the view.
        image: which image.
        name: the name, canonical.
        last: position and event of the last record about it, 0 and None where there is none.

    Raises:
        ImageNotFoundError: the image is not there.
    """
    if not view.shows(image):
        raise ImageNotFoundError(digest.to_text(image))
    position, event = last
    return [] if meant(view, position, event) == image else [Tagged(image, name, position)]


def untag(view: ImageView, name: str, last: tuple[int, Named | None]) -> list[Event]:
    """Return what taking a name away means; the arguments are as those of `tag`.

    Raises:
        TagNotFoundError: no image has it.
    """
    position, event = last
    image = meant(view, position, event)
    if image is None:
        raise TagNotFoundError(name)
    return [Untagged(image, name, position)]


def meant(view: ImageView, position: int, event: Named | None) -> bytes | None:
    """Return the image that a name means in a view, None if it means none.

    Args:
        view: the view.
        position: of the last record about the name that is not behind the view's.
        event: what it says, None if there is no such record.
    """
    if not isinstance(event, Tagged):
        return None
    state = view.state(event.digest)
    # The image may have been deleted since, and created again: that is another life.
    return None if state is None or state.created > position else event.digest


def _require(view: ImageView, image: bytes) -> State:
    state = view.state(image)
    if state is None:
        raise ImageNotFoundError(digest.to_text(image))
    return state
