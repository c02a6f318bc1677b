"""Gather the records of one transaction before any of them is written.

Events are decided on a branch of the live view, so each sees those before it; nothing reaches the
live view or the disk until the whole batch does. `write` puts everything into one LMDB transaction.
"""

from __future__ import annotations

from collections.abc import Callable

from eventstore import clock, codec, configs, log
from eventstore.events import Deleted, Event, Record
from eventstore.lmdb_transaction import Transaction
from eventstore.view import ImageView, ReadConfig


class Batch:
    """Records that will be appended together, or not at all.

    Attributes:
        view: the view as it will be; reads of the transaction go here.
        records: what will be appended, in order.
        configs: digest to config bytes of what will be created.
        ahead_ns: by how much the time of a record had to be later than the clock's, at most.
    """

    def __init__(
        self,
        live: ImageView,
        *,
        actor: str,
        reason: str,
        now: Callable[[], int],
        tombstone: Callable[[bytes], int],
        read_config: ReadConfig,
    ) -> None:
        """Start from `live`, which must not move while the batch is gathered."""
        self.actor = actor
        self.reason = reason
        self.records: list[Record] = []
        self.configs: dict[bytes, bytes] = {}
        self.ahead_ns = 0
        self._now = now
        self._tombstone = tombstone
        self._read_config = read_config
        self._first = live.position + 1
        self._gone: dict[bytes, int] = {}
        self.view = live.branch(self._config)

    def _config(self, image: bytes) -> bytes:
        pending = self.configs.get(image)
        return self._read_config(image) if pending is None else pending

    def add(self, event: Event, reason: str) -> None:
        """Take an event in and move the batch's view over it.

        Its time is the clock's, but never before that of the record before it.

        Raises:
            StoreUsageError: the clock gives no time.
        """
        now = max(clock.reading(self._now), 0)
        time_ns = max(now, self.view.time_ns)
        position = self.view.position + 1
        record = codec.encode(
            position,
            time_ns=time_ns,
            actor=self.actor,
            reason=reason or self.reason,
            batch=self._first,
            previous=self._previous(event.digest),
            event=event,
        )
        self.view.apply(record)
        self.records.append(record)
        self.ahead_ns = max(self.ahead_ns, time_ns - now)
        if isinstance(event, Deleted):
            self._gone[event.digest] = position

    def _previous(self, image: bytes) -> int:
        state = self.view.state(image)
        if state is not None:
            return state.last
        return self._gone.get(image) or self._tombstone(image)

    def write(self, txn: Transaction) -> None:
        """Put records, configs and tombstones into a write transaction.

        Raises:
            CorruptionError: the log has moved since the batch was begun.
        """
        touched: dict[bytes, int] = {}
        for record in self.records:
            log.append(txn, record)
            touched[record.event.digest] = record.position
        log.note_end(txn, self.view.position)
        for image, config in self.configs.items():
            configs.put(txn, image, config)
        for image, position in touched.items():
            if self.view.state(image) is None:
                log.put_tombstone(txn, image, position)
            else:
                log.drop_tombstone(txn, image)
