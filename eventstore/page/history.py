"""Gather what the page shows: a state, the records behind it, and what is known of each image.

The browser folds the records itself, by the rules of `view`, so a move of the slider asks nobody.
Records are given in columns, and texts once, in a list that the columns point into; a record takes
some 30 bytes. Where a part of the log is asked for, or the log was compacted, the state at its
beginning is given as well. Instants are microseconds since 1970, which a number in JavaScript holds
whole from 1685 to 2255, and whole seconds outside of that. Every text has been made printable. What
comes later is given as `updates`, which name what they are about by itself and need no columns.

Positions are counted, not given; so a page is made of all records from its beginning on or not at
all, also where a compaction drops some meanwhile.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from eventstore import digest, printable, references
from eventstore.configs import get as config_of
from eventstore.errors import CompactedError, CorruptionError, InvalidImageError, RedactedError
from eventstore.events import (
    KINDS,
    Compacted,
    Created,
    Described,
    Event,
    LastUpdatedSet,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.image import Image
from eventstore.progress import Progress, counted
from eventstore.story import StoryReader

VERSION = 1
TEXT_LENGTH_MAX = 300
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_NANOSECONDS = 1_000  # in a microsecond
_SECOND = 1_000_000
_EXACT_MAX = 2**53


def gather(
    store: StoryReader,
    *,
    title: str,
    since: int | datetime | None = None,
    live: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return all that a page shows, as JSON values; see `PageHistory`.

    Where a compaction goes over the beginning meanwhile, it begins anew behind that. `progress` is
    told of records, and then of images.

    Raises:
        CompactedError: the beginning was asked for, and nothing is known of it any more.
        StoreUsageError: the log has no such position.
        CorruptionError: a record is damaged.
    """
    while True:
        try:
            history = PageHistory(store, since=since)
            return history.gathered(title=title, live=live, progress=progress)
        except CompactedError:
            if since is not None:
                raise


def instant_of(time_ns: int) -> int:
    """Return an instant as the page has it, so that it is in the same second as before.

    People write whole seconds. What was within a second must not fall on its beginning: it would be
    taken for no later than that.
    """
    instant = time_ns // _NANOSECONDS
    if abs(instant) >= _EXACT_MAX:
        return instant // _SECOND * _SECOND
    return instant + (instant % _SECOND == 0 and time_ns % _NANOSECONDS > 0)


class _Numbers(dict[str, int]):
    """Numbers of texts, in the order in which they were met; what is asked for gets one."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


class PageHistory:
    """What the page shows of a store, from a position on."""

    def __init__(self, store: StoryReader, *, since: int | datetime | None = None) -> None:
        """Look where the history begins.

        Args:
            store: an open store.
            since: a position or an aware datetime; as far back as there is anything if not given.

        Raises:
            CompactedError: nothing is known of that moment any more.
            StoreUsageError: the log has no such position.
        """
        self._store = store
        horizon = store.horizon.through
        first = horizon if since is None else since
        at = store.position_at(first) if isinstance(first, datetime) else first
        self.since = store.as_of(position=at).position
        self._images = _Numbers()
        self._names = _Numbers()
        self._texts = _Numbers()

    def gathered(
        self, *, title: str, live: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Return all that the page shows, through the last record there is now, as JSON values.

        Args:
            title: what the page is called.
            live: whether `updates` will follow.
            progress: is told of records, and then of images.

        Raises:
            CompactedError: a compaction has gone over the beginning meanwhile.
            CorruptionError: a record is damaged.
        """
        store = self._store
        since, records = self._beginning(), self._columns(progress)
        shown = {
            "version": VERSION,
            "title": self._text(title),
            "store": store.store_id,
            "live": live,
            "since": since,
            "kinds": list(KINDS.values()),
            "records": records,
            "images": self._facts(progress),
            "names": [references.shown(name) for name in self._names],
        }
        horizon = store.horizon.through
        if horizon > self.since:  # it is noted before anything is dropped
            raise CompactedError(self.since, horizon)
        return shown | {"texts": list(self._texts)}

    def updates(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return the records behind a position, at most so many, each with all that it is about."""
        through = min(after + limit, self._store.position)
        return [self._update(one) for one in self._store.records(after=after, through=through)]

    def _text(self, text: str) -> str:
        cut = text if len(text) <= TEXT_LENGTH_MAX else text[:TEXT_LENGTH_MAX] + "…"
        return printable.printable(cut)

    def _number(self, text: str) -> int:
        return self._texts[self._text(text)]

    def _beginning(self) -> dict[str, Any]:
        """Return the state that the records follow."""
        view = self._store.as_of(position=self.since)
        images: list[list[int | None]] = []
        for image, state in view.rows():
            updated = None if state.last_updated is None else instant_of(state.last_updated)
            parent = -1 if state.parent is None else self._images[digest.to_text(state.parent)]
            number = self._images[digest.to_text(image)]
            images.append(
                [number, state.created, parent, state.parent_at, updated, int(state.built)]
            )
        names = [
            [self._names[name], self._images[image]]
            for name, image in self._store.tags(self.since).items()
        ]
        time = instant_of(view.time_ns)
        return {"position": self.since, "time": time, "images": images, "names": names}

    def _columns(self, progress: Progress | None) -> dict[str, list[int]]:
        """Return the records in columns."""
        parts = ("time", "kind", "image", "of", "batch", "who", "why")
        columns: dict[str, list[int]] = {part: [] for part in parts}
        add = [columns[part].append for part in parts]
        before, total = 0, self._store.position - self.since
        for record in counted(self._store.records(after=self.since), progress, total):
            now = instant_of(record.time_ns)
            event = record.event
            row = (
                now - before,
                _KIND_NUMBERS[type(event)],
                self._images[event.image_id] if event.image_id else -1,
                self._of(event),
                record.position - record.batch,
                self._number(record.actor),
                self._number(record.reason),
            )
            for append, value in zip(add, row, strict=True):
                append(value)
            before = now
        return columns

    def _of(self, event: Event) -> int:
        """Return what an event says, apart from its kind and its image: a number, or one's own."""
        if isinstance(event, ParentSet):
            return -1 if event.parent_id is None else self._images[event.parent_id]
        if isinstance(event, LastUpdatedSet):
            return instant_of(event.instant_ns)
        if isinstance(event, Tagged | Untagged):
            return self._names[event.name]
        if isinstance(event, Described):
            return self._number(event.manifest.digest)
        return event.through if isinstance(event, Compacted) else -1

    def _facts(self, progress: Progress | None) -> dict[str, list[Any]]:
        """Return what the configs of all images say, in columns; texts as their numbers."""
        images = counted(self._images, progress, len(self._images))
        rows = [(image_id, *self._fact(image_id)) for image_id in images]
        columns = list(zip(*rows, strict=True)) or [()] * 6
        ids, created, platform, layers, by, note = columns
        return {
            "id": [image_id.removeprefix("sha256:") for image_id in ids],
            "created": list(created),
            "platform": list(map(self._number, platform)),
            "layers": list(layers),
            "by": list(map(self._number, by)),
            "note": list(map(self._number, note)),
        }

    def _fact(self, image_id: str) -> tuple[int | None, str, int | None, str, str]:
        """Return what an image's config says, or at the end why it says nothing.

        That is when it was created, for which platform, the number of its layers, and what made
        the last one.
        """
        found = self._read(image_id)
        if isinstance(found, str):
            return None, "", None, "", self._text(found)
        created = None if found.created_ns is None else instant_of(found.created_ns)
        layers = len(found.root_fs.diff_ids)
        return created, self._text(found.platform), layers, self._text(found.last_step), ""

    def _read(self, image_id: str) -> Image | str:
        """Return an image without a parent, or why its config cannot be read."""
        key = digest.require(image_id)
        try:
            with self._store._environment.read() as txn:
                return Image.from_checked(config_of(txn, key), image_id)
        except RedactedError as error:
            return str(error)
        except (CorruptionError, InvalidImageError):
            return "no sound config"

    def _update(self, record: Record) -> dict[str, Any]:
        """Return a record that needs no columns."""
        event = record.event
        of: object = None
        if isinstance(event, ParentSet):
            of = event.parent_id and event.parent_id.removeprefix("sha256:")
        elif isinstance(event, Tagged | Untagged):
            of = references.shown(event.name)
        elif isinstance(event, Described):
            of = event.manifest.digest
        elif isinstance(event, LastUpdatedSet | Compacted):
            of = self._of(event)
        return {
            "position": record.position,
            "time": instant_of(record.time_ns),
            "kind": _KIND_NUMBERS[type(event)],
            "image": event.image_id.removeprefix("sha256:") if event.image_id else None,
            "of": of,
            "batch": record.position - record.batch,
            "who": self._text(record.actor),
            "why": self._text(record.reason),
            "facts": self._fact(event.image_id) if isinstance(event, Created | Redacted) else None,
        }
