"""Gather the records of one commit before any of them is written.

Events are decided on a branch of the live view, so each sees those before it; nothing reaches the
live view or the disk until the whole batch does. `write` puts everything into one LMDB transaction.
A commit may hold the records of several callers: `begin` says where those of the next one start.
"""

from __future__ import annotations

from collections.abc import Callable

from eventstore import clock, codec, configs, dropped, hashes, log, names, scrubbing
from eventstore.errors import CorruptionError
from eventstore.events import (
    Created,
    Deleted,
    Described,
    Event,
    Manifest,
    Named,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.lmdb_transaction import Transaction
from eventstore.view import ImageView, ReadConfig

LastNamed = Callable[[str], tuple[int, Named | None]]
"""Returns position and event of the last record about a name, 0 and None where there is none."""


class Batch:
    """Records that will be appended together, or not at all.

    Attributes:
        view: the view as it will be; reads of the transaction go here.
        records: what will be appended, in order.
        start: the position that it follows.
        configs: digest to config bytes of what will be created.
        lost: digests of what will be created without its config, which nobody has any more.
        marks: digest to position of the record by which its config will be redacted.
        named: name to the last record about it that will be appended: position and event.
        described: digest to the manifests that will be noted of its present life, the oldest first.
        manifests: digest to all manifests of its present life, of images that were asked about.
        horizon: how far the log is compacted by one of the records, None if by none.
        compacted_through: how far the log is compacted before them.
        ahead_ns: by how much the time of a record had to be later than the clock's, at most.
    """

    def __init__(
        self,
        live: ImageView,
        *,
        actor: str,
        now: Callable[[], int],
        tombstone: Callable[[bytes], int],
        redaction: Callable[[bytes], Record | None],
        read_config: ReadConfig,
        last_named: LastNamed,
    ) -> None:
        """Start from `live`, which must not move while the batch is gathered.

        Args:
            live: the newest view.
            actor: who appends.
            now: the clock.
            tombstone: gives the last position of an image that is gone, 0 for none, as of `live`.
            redaction: gives the record that redacted a config, None for none, as of `live`.
            read_config: gives the config of an image.
            last_named: gives the last record about a name, as of `live`.
        """
        self.actor = actor
        self.records: list[Record] = []
        self.configs: dict[bytes, bytes] = {}
        self.lost: set[bytes] = set()
        self.ahead_ns = 0
        self.start = live.position
        self._now = now
        self._tombstone = tombstone
        self._redaction = redaction
        self.marks: dict[bytes, int] = {}
        self._last_named = last_named
        self.named: dict[str, tuple[int, Named]] = {}
        self.described: dict[bytes, list[Manifest]] = {}
        self.manifests: dict[bytes, set[Manifest]] = {}
        self.horizon: dropped.Horizon | None = None
        self.compacted_through = 0
        self._gone: dict[bytes, int] = {}
        self._raised: set[bytes] = set()  # those that have a tombstone, and are there again
        self.view = live.branch(_reading_first(self.configs, read_config))
        self.begin("")

    def begin(self, reason: str) -> None:
        """Let the next record be the first of a transaction.

        Args:
            reason: why, for its records that give no reason of their own.
        """
        self._reason = reason
        self._first = self.view.position + 1

    def add(self, event: Event, reason: str) -> None:
        """Take an event in and move the batch's view over it; nothing is changed if this raises.

        Its time is the clock's, but never before that of the record before it.

        Raises:
            StoreUsageError: the clock gives no time.
            CorruptionError: what is stored of the image makes no sense.
        """
        view = self.view
        now = max(clock.reading(self._now), 0)
        time_ns = max(now, view.time_ns)
        position = view.position + 1
        image = event.digest
        state = view.state(image)
        record = codec.encode(
            position,
            time_ns=time_ns,
            actor=self.actor,
            reason=reason or self._reason,
            batch=self._first,
            previous=self._gone_at(image) if state is None else state.last,
            event=event,
        )
        self._take(record)
        if time_ns - now > self.ahead_ns:
            self.ahead_ns = time_ns - now

    def take(self, record: Record) -> None:
        """Take in a record of another log as it is, whose next it must be here, too.

        Raises:
            CorruptionError: it does not follow, or says what cannot have happened.
        """
        image = record.event.digest
        state = self.view.state(image)
        previous = self._gone_at(image) if state is None else state.last
        event, follows = record.event, self._leads_to(record.previous, previous)
        if isinstance(event, Tagged | Untagged):
            known = self.last_named(event.name)[0]
            follows = follows and self._leads_to(event.before, known)
        if not follows or not 0 < record.batch <= record.position:
            raise CorruptionError(
                f"record {record.position} does not follow", position=record.position
            )
        self._take(record)

    def _leads_to(self, before: int, known: int) -> bool:
        """Tell whether what a record of another log names as before it is so here.

        Where that log was compacted, what it had not forgotten yet may be forgotten here.
        """
        return before == known or (not known and before <= self.compacted_through)

    def _take(self, record: Record) -> None:
        event, image = record.event, record.event.digest
        self.view.apply(record)
        self.records.append(record)
        if isinstance(event, Created):
            self.marks.pop(image, None)
        elif isinstance(event, Redacted):
            self.marks[image] = record.position
            self.configs.pop(image, None)
        elif isinstance(event, Tagged | Untagged):
            self.named[event.name] = record.position, event
        elif isinstance(event, Described):
            self.described.setdefault(image, []).append(event.manifest)
            if image in self.manifests:
                self.manifests[image].add(event.manifest)
        elif isinstance(event, Deleted):
            self.described.pop(image, None)
            self.manifests.pop(image, None)
        if isinstance(event, Deleted | Redacted) and self.view.state(image) is None:
            self._gone[image] = record.position

    def redaction(self, image: bytes) -> Record | None:
        """Return the record by which the config of an image is redacted here, None if it is not."""
        if image in self.configs:
            return None
        position = self.marks.get(image)
        return self.records[position - self.start - 1] if position else self._redaction(image)

    def was_there(self, image: bytes) -> bool:
        """Tell whether an image is there, or ever was."""
        return self.view.state(image) is not None or self._gone_at(image) > 0

    def last_named(self, name: str) -> tuple[int, Named | None]:
        """Return the last record about a name: its position, 0 for none, and its event."""
        return self.named.get(name) or self._last_named(name)

    def _gone_at(self, image: bytes) -> int:
        """Return the last position of an image that is not there, 0 if it never was."""
        gone = self._gone.get(image) if image else 0  # one about the log has no stream
        if gone is not None:
            return gone
        gone = self._tombstone(image)
        if gone:
            self._raised.add(image)
        return gone

    def write(self, txn: Transaction) -> None:
        """Put records, configs, tombstones and names into a write transaction.

        Raises:
            CorruptionError: the log has moved since the batch was begun.
        """
        log.append_all(txn, self.records)
        log.note_end(txn, self.view.position)
        hashes.extend(txn, self.start, self.view.position, appended=self.records)
        for image, config in self.configs.items():
            configs.put(txn, image, config)
        for image in self.lost:
            configs.put_lost(txn, image)
        for image, position in self.marks.items():
            configs.put_mark(txn, image, position)
            scrubbing.note(txn, position)
        for image, position in self._gone.items():
            if self.view.state(image) is None:
                log.put_tombstone(txn, image, position)
        for image in self._raised:
            if self.view.state(image) is not None:
                log.drop_tombstone(txn, image)
        for name, (position, _) in self.named.items():
            names.put(txn, name, position)
        if self.horizon is not None:
            dropped.note(txn, self.horizon)


def _reading_first(pending: dict[bytes, bytes], read_config: ReadConfig) -> ReadConfig:
    """Return what gives the configs that are pending, and those that are stored.

    It does not lead to the batch: what its view leads to again is only freed by the collector.
    """

    def read(image: bytes) -> bytes:
        config = pending.get(image)
        return read_config(image) if config is None else config

    return read
