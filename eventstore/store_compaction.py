"""Compact an open store: say so in the log, drop, and destroy."""

from __future__ import annotations

import threading
from datetime import datetime
from functools import partial

from eventstore import compaction, dropped, log, scrubbing
from eventstore.batch import Batch
from eventstore.compaction import Compaction
from eventstore.errors import CompactedError, CorruptionError, StoreUsageError
from eventstore.events import Compacted, Record
from eventstore.lmdb_transaction import Transaction
from eventstore.progress import Progress
from eventstore.store_undo import StoreUndoer
from eventstore.writer import checked_text


class StoreCompactor(StoreUndoer):
    """How a store forgets what only its past needs."""

    def compact(
        self,
        *,
        position: int | None = None,
        time: datetime | int | None = None,
        reason: str = "",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Compaction:
        """Drop the records and configs that only the past before a moment needs.

        From then on no earlier moment can be looked at, undone or exported: that raises
        `CompactedError`. Everything from the moment on is what it was: views, names, and who is to
        blame for what is so. Every checkpoint and proof still holds, of any position, for the
        hashes stay; and a `Compacted` in the log says what was done, by whom and why. What is kept
        in detail says `compaction`. What was dropped is destroyed, as by `redact`.

        Where the log was compacted up to there already, only what that left undone is done. Other
        writers wait for a bounded number of records at a time, and once, at the end, for as long as
        `redact` makes them wait. Views of other processes, and those that they gave out, answer
        with `CompactedError` where they would have to read what was dropped.

        Args:
            position: the first position that can be looked at from then on.
            time: the same as an aware datetime, or nanoseconds since 1970, UTC; inclusive.
            reason: why.
            dry_run: count what would be dropped, and change nothing.
            progress: is told of how far in the log it is; what was dropped before it raised stays
                so, as after a kill.

        Raises:
            StoreUsageError: not exactly one moment was given, the log has no such moment, or this
                thread is in a transaction.
            ErasureUnfinishedError: all was dropped, and its bytes are there: compact again.
            CorruptionError: the log is damaged.
            StoreReadOnlyError: the store was opened for reading only.
            StoreFullError: there is no room; what was dropped until then stays so.
        """
        if (position is None) == (time is None):
            raise StoreUsageError("compact takes either a position or a time")
        checked_text("reason", reason)
        if self._owner == threading.get_ident():
            raise StoreUsageError("compact outside of the transaction: it is commits of its own")
        wanted = self._checked(position) if time is None else self.position_at(time)
        if not wanted:
            raise StoreUsageError("there is no record up to that moment: nothing could be dropped")
        while True:
            through = max(wanted, self.horizon.through)
            try:
                return self._compact(through, reason, dry_run=dry_run, progress=progress)
            except CompactedError:
                if self.horizon.through <= through:
                    raise
                # Else another process has gone further meanwhile, and it is done again from there.

    def _compact(
        self, through: int, reason: str, *, dry_run: bool, progress: Progress | None = None
    ) -> Compaction:
        compact = partial(compaction.compact, self._environment, through, progress=progress)
        if dry_run:
            return compact(by=0, dry_run=True)
        noted = self.horizon
        if through > noted.through:
            self._load_given()  # while what they lie over can still be read
            compaction.take_snapshot(self._environment, through)
            noted = self._note_horizon(through, reason)
            through = noted.through
        if noted.unfinished:
            found = compact(by=noted.by, dry_run=False)
        else:
            found = Compaction(through, noted.by, 0, through - noted.dropped, 0, 0, 0, False)
        scrubbing.finish(self._environment)
        return found

    def compact_as_recorded(self, record: Record) -> None:
        """Drop what a `Compacted` of this log says was dropped, where it came by an import.

        Two logs that are one must forget alike: what goes on in one may lean on that it is gone.

        Args:
            record: that record.

        Raises:
            StoreUsageError: it is no such record.
            ErasureUnfinishedError: all was dropped, and its bytes are there: compact again.
            CorruptionError: what is here does not lead to what it says.
        """
        event = record.event
        if not isinstance(event, Compacted):
            raise StoreUsageError(f"record {record.position} is no compaction")
        if event.through <= self.horizon.through:
            if self.horizon.unfinished:
                self._compact(self.horizon.through, "", dry_run=False)
            return
        view = self.as_of(position=event.through).rows_digest
        is_same = self.checkpoint(event.through).root_hash == event.root_hash
        if not is_same or event.view not in (view, b""):
            raise CorruptionError(
                f"record {record.position} was made of another log", position=record.position
            )
        self._load_given()
        compaction.take_snapshot(self._environment, event.through)
        time_ns = self._time_at(event.through)

        def note(txn: Transaction) -> dropped.Horizon:
            before = dropped.horizon(txn)
            noted = dropped.Horizon(
                event.through, record.position, time_ns, before.dropped, unfinished=True
            )
            dropped.note(txn, noted)
            return noted

        noted = self._environment.write(note)
        with self._lock:
            self._move_behind(noted)
        self._compact(event.through, "", dry_run=False)

    def _note_horizon(self, through: int, reason: str) -> dropped.Horizon:
        """Append that the log is compacted, and let nobody here lean on what is before."""
        root_hash = self.checkpoint(through).root_hash
        view = self.as_of(position=through).rows_digest

        def judge(batch: Batch, reason: str) -> None:
            if through <= self._horizon.through:
                return  # another process was faster
            batch.add(Compacted(through, root_hash, view), reason)
            batch.horizon = dropped.Horizon(
                through,
                batch.view.position,
                self._time_at(through),
                self._horizon.dropped,
                unfinished=True,
            )

        self._mutate(reason, judge)
        with self._lock:
            with self._environment.read() as txn:
                noted = dropped.horizon(txn)
            self._move_behind(noted)
        return noted

    def _time_at(self, position: int) -> int:
        with self._environment.read() as txn:
            return log.read_one(txn, position).time_ns
