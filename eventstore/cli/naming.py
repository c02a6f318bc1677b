"""Find the image that a user means by a prefix of its id."""

from __future__ import annotations

from eventstore import digest
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

    Raises:
        ImageGoneError: it was there at another time.
        ImageNotFoundError: it never was.
        AmbiguousDigestError: `term` names several.
    """
    try:
        return view.search(term)
    except ImageNotFoundError as error:
        image_id = store.search_history(term)
        raise ImageGoneError(term, image_id, _when(store, view, image_id)) from error


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
