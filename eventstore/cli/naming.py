"""Find the image that a user means by a prefix of its id, or by its name."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime

from eventstore import digest, references
from eventstore.cli import output
from eventstore.errors import (
    AmbiguousDigestError,
    Deletion,
    EventStoreError,
    ImageNotFoundError,
    InvalidReferenceError,
    TagNotFoundError,
)
from eventstore.events import Record, Redacted, Tagged
from eventstore.store import ImageStore
from eventstore.view import ImageView

SEE_LISTING = "`eventstore ls --all` lists what is there, `eventstore search --all` what ever was"


_LOOKED_UP_MAX = 256


class NotThenError(ImageNotFoundError):
    """The image was there at another moment, and is not at the one that was asked about.

    Attributes:
        position: the moment.
        first: the record that created it later, None if it had been deleted by then.
    """

    def __init__(
        self,
        term: str,
        position: int,
        *,
        deleted: Deletion | None = None,
        first: Record | None = None,
    ) -> None:
        super().__init__(term, deleted=deleted)
        self.position = position
        self.first = first


def explanation(error: ImageNotFoundError) -> str:
    """Return what is wrong and where to look, the ages of what happened included."""
    if isinstance(error, NotThenError) and error.first is not None:
        first = error.first
        return (
            f"{error.describe()}: it was not there yet at @{error.position};"
            f" it was created at @{first.position} by {first.actor} {_ago(first.time)}"
        )
    if error.deleted is None:
        return f"{error.describe()}: {SEE_LISTING}"
    said, at = error.describe(_ago(error.deleted.time)), error.deleted.position - 1
    log = f"`eventstore log {digest.short(error.deleted.image_id)}`"
    if isinstance(error, NotThenError):
        return f"{said}; see {log}, or add --at @{at} to see it as it was"
    return f"{said}; see {log}"


def _ago(moment: datetime) -> str:
    age = output.age(moment)
    return age if age.startswith("in ") or age == "now" else f"{age} ago"


@contextmanager
def _listing(store: ImageStore) -> Generator[None]:
    """Let an error of the block that a term means several images say what they are, in notes."""
    try:
        yield
    except AmbiguousDigestError as error:
        for image_id in error.candidates:
            short = digest.short(image_id)
            alike = [one for one in error.candidates if digest.short(one) == short]
            error.add_note(f"  {short if len(alike) == 1 else image_id}  {_age(store, image_id)}")
        raise


def _age(store: ImageStore, image_id: str) -> str:
    """Return when an image was created or deleted last, as far as that can be read."""
    try:
        exists = store.blame(image_id).exists
    except EventStoreError as error:
        return str(error)
    said = "created" if exists.value else "deleted"
    return f"{said} {_ago(exists.record.time)}, at @{exists.record.position}"


def find(store: ImageStore, view: ImageView, term: str) -> str:
    """Return the id of the image in `view` that `term` names.

    Names come last, so that nothing that means an id can be given another meaning.

    Raises:
        NotThenError: it was there at another time.
        ImageNotFoundError: it never was.
        AmbiguousDigestError: `term` names several.
    """
    with _listing(store):
        try:
            return view.search(term)
        except ImageNotFoundError as error:
            named = _named(store, term, view.position)
            if named is not None and named in view:
                return named
            meant = find_ever(store, term)
            if meant in view:  # it had the name at another time
                raise
            raise _not_then(store, view, term, meant) from error


def find_present(store: ImageStore, term: str) -> str:
    """Return the id of the image that is there now and that `term` names, for a command to change.

    Raises:
        ImageNotFoundError: there is none.
        AmbiguousDigestError: `term` names several.
    """
    with _listing(store):
        try:
            return store.search(term)
        except ImageNotFoundError:
            return store.resolve(term)


def find_ever(store: ImageStore, term: str) -> str:
    """Return the id of the image, there now or ever before, that `term` names.

    A name means what it means now, and one that means nothing now the image that had it last:
    whoever asks what became of `app:1.0` knows no more of it.

    Raises:
        ImageNotFoundError: there never was one.
        AmbiguousDigestError: `term` names several.
    """
    try:
        return find_meant(store, term)
    except ImageNotFoundError:
        last = _last_meant(store, term)
        if last is None:
            raise
        return last


def find_meant(store: ImageStore, term: str) -> str:
    """Return the id of the image, there now or ever before, that `term` names; names mean now.

    For what cannot be undone, a name that an image has lost is too little.

    Raises:
        ImageNotFoundError: there never was one.
        AmbiguousDigestError: `term` names several.
    """
    with _listing(store):
        try:
            return store.search_history(term)
        except ImageNotFoundError:
            return store.resolve(term)


class ShortIds:
    """Gives ids the short form in which a store tells an image from all others that it ever had.

    The first are looked up one by one; who asks for more wants a long list, and one look at all
    ids is cheaper then.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._known: dict[str, str] = {}
        self._alike: set[str] | None = None

    def __call__(self, image_id: str | None) -> str:
        """Return the short form of an id, of twelve digits or more; a dash for none."""
        if image_id is None:
            return "-"
        found = self._known.get(image_id)
        if found is None:
            found = self._known[image_id] = self._look_up(image_id)
        return found

    def _look_up(self, image_id: str) -> str:
        if len(self._known) == _LOOKED_UP_MAX:
            self._alike = self._store._alike(digest.SHORT_LENGTH // 2)
        if self._alike is not None and image_id not in self._alike:
            return digest.short(image_id)
        for length in range(digest.SHORT_LENGTH, digest.DIGEST_SIZE * 2):
            found = digest.short(image_id, length)
            try:
                self._store.search_history(found)
            except AmbiguousDigestError:
                continue
            except EventStoreError:  # it is not there, or what would tell is damaged
                pass
            return found
        return digest.short(image_id, digest.DIGEST_SIZE * 2)


def by_image(store: ImageStore, view: ImageView) -> dict[str, list[str]]:
    """Return the names of the images of a view, in their familiar form, by id."""
    found: dict[str, list[str]] = {}
    for name, image_id in store.tags(view.position).items():
        found.setdefault(image_id, []).append(references.shown(name))
    return found


def given(names: Sequence[str]) -> list[str]:
    """Return the names that people gave; one with a digest says what the registry had."""
    return [name for name in names if "@" not in name]


def _named(store: ImageStore, term: str, position: int) -> str | None:
    try:
        return store.resolve(term, as_of=position)
    except ImageNotFoundError:
        return None


def _last_meant(store: ImageStore, term: str) -> str | None:
    """Return the image that a name was given to last, None if it is no name or never was one."""
    try:
        found = store.tag_records(term)
    except (InvalidReferenceError, TagNotFoundError):
        return None
    return next((one.image_id for one in reversed(found) if isinstance(one.event, Tagged)), None)


def _not_then(store: ImageStore, view: ImageView, term: str, image_id: str) -> NotThenError:
    """Return the error that says when an image was there, seen from where it is not."""
    stream = store.records(image_id, through=view.position, reverse=True)
    before = next((record for record in stream if not isinstance(record.event, Redacted)), None)
    if before is None:
        return NotThenError(term, view.position, first=next(store.records(image_id)))
    return NotThenError(term, view.position, deleted=before)
