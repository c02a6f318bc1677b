"""Take back what was done: append what compensates it, as one new batch.

History is never rewritten. What is decided, and what stands in the way, is in `undoing`; here is
gathered what it looks at. All of that happens inside of the transaction that appends the events,
so that nobody can change anything in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventstore import configs, digest, log, names, undoing
from eventstore.batch import Batch
from eventstore.decide import meant
from eventstore.errors import (
    CompactedError,
    ImageNotFoundError,
    LayerMissingError,
    StoreUsageError,
    UndoError,
    UnsupportedOSError,
)
from eventstore.events import (
    Created,
    Deleted,
    Event,
    Manifest,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.undoing import Meaning, Span, Undone
from eventstore.view import ImageView
from eventstore.writer import StoreWriter, checked_text


class StoreUndoer(StoreWriter):
    """How a store takes back what was done."""

    def undo(
        self,
        position: int,
        *,
        whole_batch: bool = True,
        reason: str = "",
        dry_run: bool = False,
    ) -> Undone:
        """Take back the batch that a record is in, by a new batch: all of it, or nothing.

        Every fact that it changed gets the value from before. What it deleted is created again,
        with parent, children, marks and names; what it created is deleted, if nothing was done with
        it since. Children and names of what was deleted that are another's by now stay there.

        Args:
            position: of any record of the batch.
            whole_batch: False takes back that one record only.
            reason: why; what is undone goes before it.
            dry_run: find out what would be done, and append nothing. Layers are not looked for: to
                take one that nobody holds and give it back would remove it.

        Raises:
            UndoError: something cannot be taken back, or was changed since; it lists what.
            CompactedError: the log was compacted up to where the batch begins, or further.
            StoreUsageError: the log has no such position, or this thread is in a transaction.
            StoreReadOnlyError: the store was opened for reading only.
            StoreFullError: there is no room; nothing was changed.
        """
        if self._checked(position) == 0:
            raise StoreUsageError("there is no record at position 0")
        records = self._batch_of(position) if whole_batch else (self._record(position),)
        if records[0].position <= self.horizon.through:
            raise CompactedError(position, self.horizon.through)
        why = f"undo of {undoing.name_of(records)}"
        return self._undo(records, _joined(why, reason), dry_run=dry_run)

    def restore_image(self, image_id: str, *, reason: str = "", dry_run: bool = False) -> Undone:
        """Bring a deleted image back as it was just before it was deleted the last time.

        Args:
            image_id: a whole id.
            reason: why; that it is restored goes before it.
            dry_run: find out what would be done, and append nothing.

        Raises:
            ImageNotFoundError: it never was there.
            UndoError: it is there, or cannot come back; it lists why.
            StoreUsageError: this thread is in a transaction.
            StoreReadOnlyError: the store was opened for reading only.
            StoreFullError: there is no room; nothing was changed.
        """
        stream = self.records(image_id, reverse=True)
        record = next((one for one in stream if not isinstance(one.event, Redacted)), None)
        if record is None:
            raise ImageNotFoundError(image_id)
        if not isinstance(record.event, Deleted):
            raise UndoError(f"the deletion of {image_id}", ["it is there"])
        why = f"restore of {digest.short(image_id)}, deleted at @{record.position}"
        return self._undo((record,), _joined(why, reason), dry_run=dry_run)

    def _add_created(self, batch: Batch, created: Created, config: bytes, reason: str) -> None:
        """Add that an image was created, with its config, and a reference to its layers."""
        raise NotImplementedError

    def _record(self, position: int) -> Record:
        with self._environment.read() as txn:
            return log.read_one(txn, position)

    def _batch_of(self, position: int) -> tuple[Record, ...]:
        """Return the records of the batch that a record is in."""
        first = self._record(position).batch
        if first - 1 < self._horizon.through:
            raise CompactedError(first - 1, self._horizon.through)  # some of them may be gone
        found: list[Record] = []
        for record in log.read(self._environment, first - 1, self._committed()):
            if record.batch != first:
                break
            found.append(record)
        return tuple(found)

    def _undo(self, records: tuple[Record, ...], reason: str, *, dry_run: bool) -> Undone:
        with self.transaction(reason=reason) as transaction:
            batch = transaction._batch
            events = undoing.decide(self._span(batch, records))
            if not dry_run:
                self._add_all(batch, events, undoing.name_of(records))
        positions = tuple(record.position for record in records)
        return Undone(positions, tuple(events), tuple(transaction.records))

    def _add_all(self, batch: Batch, events: Iterable[Event], what: str) -> None:
        """Add the events; that layers are missing is an obstacle."""
        obstacles: list[str] = []
        for event in events:
            if not isinstance(event, Created):
                if obstacles:
                    break
                batch.add(event, "")
                continue
            try:
                self._add_created(batch, event, self._read_config(event.digest), "")
            except (LayerMissingError, UnsupportedOSError) as error:
                obstacles.append(f"{digest.short(event.image_id)} cannot come back: {error.reason}")
        if obstacles:
            raise UndoError(what, obstacles)

    def _span(self, batch: Batch, records: tuple[Record, ...]) -> Span:
        """Gather what the decision looks at, in the transaction that will append."""
        first, last = records[0].position, records[-1].position
        before = self.as_of(position=first - 1)
        after = self.as_of(position=last)

        def changed(image: bytes, kinds: tuple[type[Event], ...]) -> int:
            since = self.records(digest.to_text(image), after=last)
            found = next((one.position for one in since if isinstance(one.event, kinds)), 0)
            return found or self._head(image)

        def described(image: bytes) -> list[Manifest]:
            head = self._head(image)
            return [*reversed(self._described_by(image, head, first - 1) or [])]

        return Span(
            records=records,
            before=before,
            after=after,
            now=batch.view,
            meanings=self._meanings(batch, records, before, after),
            changed=changed,
            created=self._created_event,
            described=described,
            missing=self._missing,
        )

    def _meanings(
        self, batch: Batch, records: tuple[Record, ...], before: ImageView, after: ImageView
    ) -> dict[str, Meaning]:
        """Return what each name that the records changed meant, and means."""
        said = [one.event.name for one in records if isinstance(one.event, Tagged | Untagged)]
        gone = {one.event.digest for one in records if isinstance(one.event, Deleted)}
        found = dict.fromkeys(said, True)
        if gone:
            for name, (at, event) in self._last_named_at(before.position).items():
                if meant(before, at, event) in gone:
                    found.setdefault(name, False)
        meanings: dict[str, Meaning] = {}
        for name, is_said in found.items():
            last = batch.last_named(name)
            with self._environment.read() as txn:
                was = names.at(txn, name, last[0], before.position)
                became = names.at(txn, name, last[0], after.position)
            meanings[name] = Meaning(
                before=meant(before, *was),
                after=meant(after, *became),
                now=meant(batch.view, *last),
                said=is_said,
                last=last[0],
            )
        return meanings

    def _missing(self, image: bytes) -> str:
        """Say why the config of an image cannot be had, nothing if it can."""
        with self._environment.read() as txn:
            redaction = configs.redaction(txn, image)
            if redaction is not None:
                return f"its config was redacted at @{redaction.position}"
            return "its config was lost" if configs.is_gone(txn, image) else ""


def _joined(why: str, reason: str) -> str:
    checked_text("reason", reason)
    return f"{why}: {reason}" if reason else why
