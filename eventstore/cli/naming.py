"""Find the image that a user means by a prefix of its id, or by its name."""

from __future__ import annotations

from eventstore import digest, references
from eventstore.errors import ImageNotFoundError
from eventstore.events import Deleted, Redacted
from eventstore.store import ImageStore
from eventstore.view import ImageView


class ImageGoneError(ImageNotFoundError):
    """The image was there once, and is not at the moment asked about."""

    def __init__(self, term: str, image_id: str, explanation: str) -> None:
        self.image_id = image_id
        super().__init__(term)
        self.args = (f"{digest.short(image_id)} {explanation}",)


def find(store: ImageStore, view: ImageView, term: str) -> str:
    """Return the id of the image in `view` that `term` names.

    Names come last, so that nothing that means an id can be given another meaning.

    Raises:
        ImageGoneError: it was there at another time.
        ImageNotFoundError: it never was.
        AmbiguousDigestError: `term` names several.
    """
    try:
        return view.search(term)
    except ImageNotFoundError as error:
        named = _named(store, term, view.position)
        if named is not None and named in view:
            return named
        image_id = store.search_history(term)
        raise ImageGoneError(term, image_id, _when(store, view, image_id)) from error


def find_present(store: ImageStore, term: str) -> str:
    """Return the id of the image that is there now and that `term` names, for a command to change.

    Raises:
        ImageNotFoundError: there is none.
        AmbiguousDigestError: `term` names several.
    """
    try:
        return store.search(term)
    except ImageNotFoundError:
        return store.resolve(term)


def find_ever(store: ImageStore, term: str) -> str:
    """Return the id of the image, there now or ever before, that `term` names; names mean now.

    Raises:
        ImageNotFoundError: there never was one.
        AmbiguousDigestError: `term` names several.
    """
    try:
        return store.search_history(term)
    except ImageNotFoundError:
        return store.resolve(term)


def by_image(store: ImageStore, view: ImageView) -> dict[str, list[str]]:
    """Return the names of the images of a view, in their familiar form, by id."""
    found: dict[str, list[str]] = {}
    for name, image_id in store.tags(view.position).items():
        found.setdefault(image_id, []).append(references.shown(name))
    return found


def _named(store: ImageStore, term: str, position: int) -> str | None:
    try:
        return store.resolve(term, as_of=position)
    except ImageNotFoundError:
        return None


def _when(store: ImageStore, view: ImageView, image_id: str) -> str:
    """Say when the image was there, seen from a position where it is not."""
    stream = store.records(image_id, through=view.position, reverse=True)
    before = next((record for record in stream if not isinstance(record.event, Redacted)), None)
    if before is None:
        first = next(store.records(image_id))
        return f"was not there yet at @{view.position}; it was created at @{first.position}"
    assert isinstance(before.event, Deleted)
    return (
        f"was deleted at @{before.position}; add --at @{before.position - 1} to see it as it was,"
        f" or use `eventstore log {digest.short(image_id)}`"
    )
