"""Read by which manifests the places that held an image led to it.

A manifest is known of one life of an image, as its parent and its names are: an image that was
deleted and created again has none until a source tells of one again.
"""

from __future__ import annotations

from datetime import datetime

from eventstore import digest, log
from eventstore.batch import Batch
from eventstore.errors import ImageNotFoundError
from eventstore.events import Created, Deleted, Described, Manifest
from eventstore.explaining import answered
from eventstore.name_reader import NameReader


class ManifestReader(NameReader):
    """What can be read of the manifests of images."""

    @answered
    def manifests(self, image_id: str, *, as_of: datetime | int | None = None) -> list[Manifest]:
        """Return the manifests that are known to lead to an image, the newest first.

        Each is there once, however many places had it. Only what is committed counts, as in
        `records`; it costs what the image's records do.

        Args:
            image_id: a whole id.
            as_of: a position or an aware datetime, inclusive; now if not given.

        Raises:
            ImageNotFoundError: it is not there, or was not at that moment.
            StoreUsageError: there is no such moment.
            CompactedError: it was dropped.
            CorruptionError: a record on the way is damaged.
        """
        position = self._at(as_of)
        image = digest.require(image_id)
        head = self._head(image)
        found = self._described_by(image, head, position) if head else None
        self._past.refuse_dropped(position)
        if found is None:
            raise ImageNotFoundError(image_id)
        return found

    def _described_by(self, image: bytes, head: int, through: int) -> list[Manifest] | None:
        """Return the manifests of the life that an image is in, None if it is in none."""
        found: dict[Manifest, None] = {}
        for record in log.stream(self._environment, image, head, 0, through, reverse=True):
            if isinstance(record.event, Created):
                return list(found)
            if isinstance(record.event, Deleted):
                return None
            if isinstance(record.event, Described):
                found.setdefault(record.event.manifest)
        return None

    def _described_in(self, batch: Batch, image: bytes) -> list[Manifest]:
        """Return the manifests that are known of an image in a batch, the newest first."""
        state = batch.view.state(image)
        found = [*reversed(batch.described.get(image, []))]
        if state is not None and state.created <= batch.start:
            with self._lock:
                committed = self._live.state(image)
            if committed is not None and committed.created == state.created:
                found += self._described_by(image, committed.last, batch.start) or []
        return found
