"""Read which image a name means, now or at any moment, and what happened to a name.

A name's records are a chain that leads back from its last one, so its meaning at a position costs
what it was changed since. Whether the image was still there then is told by the image's stream.
"""

from __future__ import annotations

from datetime import datetime

from eventstore import decide, digest, log, names, references
from eventstore.errors import (
    CorruptionError,
    ImageNotFoundError,
    InvalidReferenceError,
    TagNotFoundError,
)
from eventstore.events import Created, Deleted, Named, Record, Tagged
from eventstore.explaining import answered, answered_explained
from eventstore.lmdb_transaction import Transaction
from eventstore.reader import StoreReader


class NameReader(StoreReader):
    """What can be read of the names of images."""

    @answered
    def resolve(self, term: str, *, as_of: datetime | int | None = None) -> str:
        """Return the id of the image that a name means, or else that `term` is the start of.

        In a transaction it sees this thread's own writes, unless a moment is given.

        Args:
            term: a name in any form, such as `app` or `app:1.0`; else what `search` takes.
            as_of: a position or an aware datetime, inclusive; now if not given.

        Raises:
            ImageNotFoundError: none is named, or it was not there at that moment.
            AmbiguousDigestError: it is no name, and the start of more than one id.
            StoreUsageError: there is no such moment.
        """
        position = None if as_of is None else self._at(as_of)
        try:
            name = references.canonical(term)
        except InvalidReferenceError:
            image = None
        else:
            image = self._meant_now(name) if position is None else self._meant_at(name, position)
        if image is not None:
            return digest.to_text(image)
        return self.search(term) if position is None else self.as_of(position=position).search(term)

    @answered
    def tags(self, as_of: datetime | int | None = None) -> dict[str, str]:
        """Return all names, canonical and sorted, with the ids of the images that they mean.

        In a transaction it sees this thread's own writes, unless a moment is given.

        Args:
            as_of: a position or an aware datetime, inclusive; now if not given.

        Raises:
            StoreUsageError: there is no such moment.
        """
        position = self._committed() if as_of is None else self._at(as_of)
        last = self._last_named_at(position)
        view = None if as_of is None else self.as_of(position=position)
        if view is not None:
            images = {name: decide.meant(view, *found) for name, found in last.items()}
            return _as_text(images)
        with self._lock:
            batch = self._batch
            live = self._view()
            if batch is not None and live is batch.view:
                last.update(batch.named)
            elif live.position > position:  # others have written since
                last = self._last_named_at(live.position)
            images = {name: decide.meant(live, *found) for name, found in last.items()}
            hidden = {image for image in images.values() if image and not live.shows(image)}
        return _as_text({name: image for name, image in images.items() if image not in hidden})

    @answered_explained
    def names(self, image_id: str) -> list[str]:
        """Return the names of an image, canonical and sorted; costs what `tags` does.

        Raises:
            ImageNotFoundError: it is not there.
        """
        if image_id not in self:
            raise ImageNotFoundError(str(image_id))
        return [name for name, image in self.tags().items() if image == image_id]

    def tag_records(self, name: str) -> list[Record]:
        """Return all committed records about a name, oldest first, at the cost of their number.

        That an image lost its names because it was deleted is in the records of that image.

        Raises:
            InvalidReferenceError: it is no name.
            TagNotFoundError: there was never an image of that name.
        """
        found = self._records_of_name(references.canonical(name))
        if not found:
            raise TagNotFoundError(name)
        return found

    def _records_of_name(self, canonical: str) -> list[Record]:
        """Return all committed records about a name, oldest first."""
        with self._environment.read() as txn:
            position = names.head(txn, canonical)
        found: list[Record] = []
        while position:
            with self._environment.read() as txn:  # a page a transaction
                for _ in range(log.PAGE_LENGTH):
                    record = log.find(txn, position)
                    if record is None:  # what came before was dropped
                        position = 0
                        break
                    position = names.named(record, canonical).before
                    found.append(record)
                    if not position:
                        break
        found.reverse()
        return found

    def _meant_now(self, name: str) -> bytes | None:
        """Return the image that a name means in the view that reads are answered from."""
        with self._lock:
            view, batch = self._view(), self._batch
            if batch is not None and view is batch.view:
                last = batch.last_named(name)
            else:

                def look(txn: Transaction, _: None) -> tuple[int, Named | None]:
                    return names.last(txn, name)

                last = self._at_view(lambda: None, look)
                view = self._live
            image = decide.meant(view, *last)
            return image if image is not None and view.shows(image) else None

    def _meant_at(self, name: str, position: int) -> bytes | None:
        """Return the image that a name meant at a position."""
        with self._environment.read() as txn:
            at, event = names.at(txn, name, names.head(txn, name), position)
        if not isinstance(event, Tagged):
            return None
        head = self._head(event.digest)
        if head < at and (head or at > self._horizon.through):
            raise CorruptionError(f"record {at} is about no image's life", position=at)
        if head < at:
            return None  # its life has ended, and the record of that was dropped
        since = log.stream(self._environment, event.digest, head, at, position, reverse=True)
        ended = any(isinstance(one.event, Deleted | Created) for one in since)
        return None if ended else event.digest

    def _last_named_at(self, through: int) -> dict[str, tuple[int, Named]]:
        """Return the last record about each name that is not behind a position.

        No name leaves the index that means anything, so it can be read a page a transaction.
        """
        found: dict[str, tuple[int, Named]] = {}
        after = b""
        while True:
            length = 0
            with self._environment.read() as txn:
                for key, value in names.stored(txn, after):
                    after, length = key, length + 1
                    name = names.name_of(key)
                    at, event = names.at(txn, name, names.unpack(key, value), through)
                    if event is not None:
                        found[name] = at, event
                    if length == log.PAGE_LENGTH:
                        break
            if length < log.PAGE_LENGTH:
                return found


def _as_text(images: dict[str, bytes | None]) -> dict[str, str]:
    return {name: digest.to_text(image) for name, image in images.items() if image is not None}
