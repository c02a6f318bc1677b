"""Gather the records of one commit before any of them is written.

Events are decided on a branch of the live view, so each sees those before it; nothing reaches the
live view or the disk until the whole batch does. `write` puts everything into one LMDB transaction.
A commit may hold the records of several callers: `begin` says where those of the next one start.
"""

from __future__ import annotations

from collections.abc import Callable

from eventstore import clock, codec, configs, log, names
from eventstore.events import Deleted, Event, Named, Record, Tagged, Untagged
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
        named: name to the last record about it that will be appended: position and event.
        ahead_ns: by how much the time of a record had to be later than the clock's, at most.
    """

    def __init__(
        self,
        live: ImageView,
        *,
        actor: str,
        now: Callable[[], int],
        tombstone: Callable[[bytes], int],
        read_config: ReadConfig,
        last_named: LastNamed,
    ) -> None:
        """Start from `live`, which must not move while the batch is gathered.

        Args:
            live: the newest view.
            actor: who appends.
            now: the clock.
            tombstone: gives the last position of an image that is gone, 0 for none, as of `live`.
            read_config: gives the config of an image.
            last_named: gives the last record about a name, as of `live`.
        """
        self.actor = actor
        self.records: list[Record] = []
        self.configs: dict[bytes, bytes] = {}
        self.ahead_ns = 0
        self.start = live.position
        self._now = now
        self._tombstone = tombstone
        self._last_named = last_named
        self.named: dict[str, tuple[int, Named]] = {}
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
        view.apply(record)
        self.records.append(record)
        if time_ns - now > self.ahead_ns:
            self.ahead_ns = time_ns - now
        if isinstance(event, Deleted):
            self._gone[image] = position
        elif isinstance(event, Tagged | Untagged):
            self.named[event.name] = position, event

    def last_named(self, name: str) -> tuple[int, Named | None]:
        """Return the last record about a name: its position, 0 for none, and its event."""
        return self.named.get(name) or self._last_named(name)

    def _gone_at(self, image: bytes) -> int:
        """Return the last position of an image that is not there, 0 if it never was."""
        gone = self._gone.get(image)
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
        for image, config in self.configs.items():
            configs.put(txn, image, config)
        for image, position in self._gone.items():
            if self.view.state(image) is None:
                log.put_tombstone(txn, image, position)
        for image in self._raised:
            if self.view.state(image) is not None:
                log.drop_tombstone(txn, image)
        for name, (position, _) in self.named.items():
            names.put(txn, name, position)


def _reading_first(pending: dict[bytes, bytes], read_config: ReadConfig) -> ReadConfig:
    """Return what gives the configs that are pending, and those that are stored.

    It does not lead to the batch: what its view leads to again is only freed by the collector.
    """

    def read(image: bytes) -> bytes:
        config = pending.get(image)
        return read_config(image) if config is None else config

    return read
