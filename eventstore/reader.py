"""Read a store: the newest state, the past, and what comes.

Every read asks for the number of the newest commit, folds what is new, and answers from memory; so
a write from any process is seen by the next read here. A lock guards the view, held for the length
of one read; a commit that waits for the disk does not hold it. Reads of the past and of records go
to the log itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakSet, ref

from eventstore import (
    clock,
    configs,
    digest,
    dropped,
    log,
    meta,
    past,
    replay,
    retained,
    scrubbing,
    snapshots,
)
from eventstore.batch import Batch
from eventstore.errors import (
    CompactedError,
    CorruptionError,
    EventStoreError,
    ImageNotFoundError,
    StoreClosedError,
    StoreUsageError,
)
from eventstore.events import Created, Record, Redacted
from eventstore.explaining import answered, answered_explained
from eventstore.image import Image
from eventstore.layers import LayerMetadata, LayerStore
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.tracing import traced
from eventstore.view import ImageMap, ImageView

FOLLOW_INTERVAL_SECONDS = 0.05
_K = TypeVar("_K")
_T = TypeVar("_T")
_readers: WeakSet[StoreReader] = WeakSet()


def _forget_all_locks() -> None:
    for reader in _readers:
        reader._forget_locks()


os.register_at_fork(after_in_child=_forget_all_locks)


class StoreReader:
    """What can be read of an open store; `ImageStore` adds what can be written."""

    def __init__(
        self,
        environment: Environment,
        *,
        layers: LayerStore | None,
        operating_system: str,
    ) -> None:
        """Take over an open environment and fold its log."""
        self._environment = environment
        self._lock = threading.RLock()
        self._given: set[ref[ImageView]] = set()
        self._append_lock = threading.RLock()  # no interrupt leaves its `with` locked
        self._appended = threading.Condition(self._append_lock)
        self._owner: int | None = None
        self._batch: Batch | None = None
        self._committing: dict[int, bytes] = {}
        self._released: dict[int, list[LayerMetadata]] = {}
        self._identity = meta.read(environment)
        self._retained = retained.Retained(layers, operating_system, self._created_event)
        with environment.read() as txn:
            self._seen = txn.number
            position = log.checked_end(txn)
            self._any_redacted = scrubbing.is_any_redacted(txn)
            self._horizon = dropped.horizon(txn)
        self._live = replay.view_at(environment, position, self._read_config)
        self._laid_at = 0
        self._past = past.Past(environment, self._read_config)
        self._retained.restore(self._live)
        _readers.add(self)

    def _forget_locks(self) -> None:
        """Let a child of `fork` meet no lock and no transaction of the parent's threads."""
        self._lock = threading.RLock()
        self._append_lock = threading.RLock()
        self._appended = threading.Condition(self._append_lock)
        self._owner = self._batch = None
        self._past.forget_locks()

    def close(self) -> None:
        """Close the store, once what is under way has ended; closing twice is no error.

        Raises:
            StoreUsageError: this thread is in a transaction.
        """
        if self._owner == threading.get_ident():
            raise StoreUsageError("end the transaction of this thread before closing the store")
        self._load_given()
        self._environment.close()
        with self._append_lock:
            self._appended.notify_all()

    def _load_given(self) -> None:
        """Let the views that were given out need no more reading."""
        # What a copy is made of meanwhile stays as it is, unlike what is iterated over: other
        # threads may be given views now.
        for reference in self._given.copy():
            view = reference()
            if view is not None:
                with suppress(EventStoreError):  # closed already, or broken: it answers what it can
                    view.load()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    # Reads.

    def _view(self) -> ImageView:
        """Return the view to read: this thread's transaction, or the newest commit."""
        batch = self._batch
        if batch is not None and self._owner == threading.get_ident():
            return batch.view
        if self._environment.commit_number() != self._seen:
            self._catch_up()
        return self._live

    def view(self) -> ImageView:
        """Return the view that reads are answered from now.

        It moves on with the next read or write of any thread; `as_of` gives one that does not.
        """
        with self._lock:
            return self._view()

    def _catch_up(self) -> None:
        """Fold what has been committed, by whichever process, since the last look."""
        with self._lock:
            if self._environment.commit_number() == self._seen:
                return
            while True:
                with self._environment.read() as txn:
                    number, last = txn.number, log.checked_end(txn)
                    compacted = dropped.horizon(txn)
                try:
                    if compacted.through != self._horizon.through:
                        self._move_behind(compacted)
                    self._horizon = compacted
                    for record in log.read(self._environment, self._live.position, last):
                        if record.position > self._live.position:  # a layer store may read between
                            self._fold(record)
                except (CompactedError, CorruptionError):
                    if not self._is_overtaken(compacted):
                        raise
                else:
                    if self._live.position >= last or not self._is_overtaken(compacted):
                        break
            self._seen = number
            self._lay_over_newest()

    def _is_overtaken(self, known: dropped.Horizon) -> bool:
        """Tell whether a compaction has gone further, and may have dropped what was to be read."""
        with self._environment.read() as txn:
            return dropped.horizon(txn).through != known.through

    def _move_behind(self, compacted: dropped.Horizon) -> None:
        """Lean on nothing that a compaction drops.

        A store that last looked before the horizon cannot fold what lies between. It starts anew,
        unless it holds layers for each image that came and went.
        """
        live = self._live
        if live.position < compacted.through and self._retained.active:
            raise CompactedError(live.position, compacted.through)
        newer = replay.view_at(
            self._environment, max(live.position, compacted.through), self._read_config
        )
        if newer.position == live.position:
            live.become(newer)
        else:
            self._live = newer
        self._past.forget()
        self._horizon = compacted

    def _lay_over_newest(self) -> None:
        """Lay the view over a newer snapshot where it has moved far from its own.

        Who takes snapshots does so anyway; but a store that only reads, while others write, would
        hold ever more as changes.
        """
        limit = 2 * snapshots.interval(len(self._live))
        base = max(self._live.base_position, self._laid_at)
        if self._live.changes <= limit or self._live.position - base <= limit:
            return
        self._laid_at = self._live.position
        with suppress(CorruptionError):  # what is known is answered from, as before
            newer = replay.view_at(self._environment, self._live.position)
            if newer.base_position > self._live.base_position:
                self._live.become(newer)

    def _fold(self, record: Record) -> None:
        """Move the view over a committed record, and the references to layers with it.

        A record of this store's own may be met here by a thread that reads, before the one that
        committed it gets on: it has its reference already, and what it released is the writer's.
        """
        self._live.apply(record)
        if isinstance(record.event, Redacted):
            self._any_redacted = True
        if self._committing.get(record.position) == record.raw:
            released = self._retained.settle(record)
            if released:
                self._released[record.position] = released
        else:
            self._retained.follow(self._live, record)

    def refresh(self) -> int:
        """Catch up with other processes, as every read does, and return the position."""
        return self.position

    @property
    def position(self) -> int:
        """Return the position of the last record, 0 for the empty log."""
        with self._lock:
            return self._view().position

    @property
    def store_id(self) -> str:
        """Return the id that the store was given when it was made."""
        return self._identity.store_id

    @property
    def fork(self) -> meta.Fork | None:
        """Return from which store this one forks, and at which position; None if from none."""
        return self._identity.fork

    @property
    def forks(self) -> tuple[meta.Fork, ...]:
        """Return `fork`, the fork of the store that it names, and so on; the nearest first."""
        return self._identity.forks

    @property
    def created(self) -> datetime:
        """Return when the store was made."""
        return clock.to_datetime(self._identity.created_ns)

    @property
    def path(self) -> str:
        """Return the store's directory."""
        return str(self._environment.path)

    def size_on_disk(self) -> int:
        """Return the bytes that the store's data takes on disk."""
        return self._environment.size_on_disk()

    def __len__(self) -> int:
        """Return the number of images."""
        with self._lock:
            return len(self._view())

    def __contains__(self, image_id: object) -> bool:
        """Tell whether the image is there."""
        try:
            with self._lock:
                return image_id in self._view()
        except CompactedError:
            return image_id in set(self)  # that looks anew where a compaction overtakes it

    @answered
    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of all images as they are now, sorted."""
        with self._lock:
            return iter(self._view())

    @answered_explained
    def get(self, image_id: str) -> Image:
        """Return an image, decoded from the bytes it was created with.

        Raises:
            ImageNotFoundError: it is not there.
            CorruptionError: the stored bytes are not those it was created with.
            RedactedError: they were destroyed; it says by whom, when and why.
        """
        with self._lock:
            return self._view().get(image_id)

    @answered_explained
    def get_parent(self, image_id: str) -> str | None:
        """Return the id of an image's parent, None if it has none.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        with self._lock:
            return self._view().get_parent(image_id)

    @answered_explained
    def get_last_updated(self, image_id: str) -> datetime | None:
        """Return when an image was last updated, None if that was never set.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        with self._lock:
            return self._view().get_last_updated(image_id)

    @answered_explained
    def is_built_locally(self, image_id: str) -> bool:
        """Tell whether an image was built on this host.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        with self._lock:
            return self._view().is_built_locally(image_id)

    @answered_explained
    def children(self, image_id: str) -> list[str]:
        """Return the ids of the images whose parent this one is, sorted.

        Raises:
            ImageNotFoundError: the image is not there.
        """
        with self._lock:
            return self._view().children(image_id)

    @answered_explained
    def search(self, term: str) -> str:
        """Return the id of the one image that `term` names.

        Args:
            term: hex digits, `sha256:` and hex digits, or a whole id.

        Raises:
            ImageNotFoundError: none is named.
            AmbiguousDigestError: more than one is.
        """
        with self._lock:
            return self._view().search(term)

    @answered
    def map(self) -> ImageMap:
        """Return all images by id; each is decoded when it is asked for."""
        with self._lock:
            return self._view().map()

    @answered
    def heads(self) -> ImageMap:
        """Return the images without children by id; each is decoded when it is asked for."""
        with self._lock:
            return self._view().heads()

    # The past.

    @traced("as_of")
    def as_of(
        self, *, position: int | None = None, time: datetime | int | None = None
    ) -> ImageView:
        """Return the frozen view at a position or a time, inclusive.

        Reads the snapshots back to the newest one before it, and at most
        ``2 * snapshots.interval(images)`` records; of a position near the last one that was looked
        at, or near the present, only the records between. The view can be read after the store is
        closed, but for configs.
        Nothing is hidden in it: which layers are there now says nothing of then.

        Args:
            position: 0 to the last position.
            time: an aware datetime, the whole of its microsecond included, or nanoseconds since
                1970, UTC.

        Raises:
            StoreUsageError: not exactly one was given, or the log has no such position.
            CompactedError: what it was made of was dropped.
        """
        if (position is None) == (time is None):
            raise StoreUsageError("as_of takes either a position or a time")
        with self._lock:
            at = self._checked(position) if time is None else self.position_at(time)
            near = self._live.position - at <= past.STEPS_MAX
            present = self._live.freeze() if near else None
        view = self._past.view_at(at, present)
        self._given.add(ref(view, self._given.discard))
        return view

    def _checked(self, position: object) -> int:
        """Return a position that the log has reached.

        Raises:
            StoreUsageError: it is none.
        """
        last = self._committed()
        if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position <= last:
            raise StoreUsageError(f"there is no position {position!r}: the log ends at {last}")
        return position

    def position_at(self, time: datetime | int) -> int:
        """Return the position of the last record at or before a time, 0 if there is none.

        Args:
            time: as in `as_of`.
        """
        with self._lock:
            self._catch_up()
            # Another process may have appended since; what is asked is of this moment.
            return min(self._position_at(time), self._live.position)

    def _position_at(self, time: datetime | int) -> int:
        if isinstance(time, datetime):
            if time.tzinfo is None:
                raise StoreUsageError(f"{time} has no time zone, so it names no instant")
            time = clock.to_nanoseconds(time) + 999
        elif not isinstance(time, int) or isinstance(time, bool):
            raise StoreUsageError(f"{time!r} is neither a datetime nor nanoseconds")
        with self._environment.read() as txn:
            return log.position_at(txn, time)

    @answered
    def records(
        self,
        image_id: str | None = None,
        *,
        after: int = 0,
        through: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Record]:
        """Iterate over committed records in (after, through], of one image or of all.

        The records of one image, deleted ones too, cost time in proportion to their number. What a
        compaction dropped is passed over.

        Args:
            image_id: a whole id, or None for all images.
            after: exclusive lower bound.
            through: inclusive upper bound, the last position now if not given.
            reverse: newest first.

        Raises:
            ImageNotFoundError: the image was never there.
        """
        last = self._committed()
        through = last if through is None else min(through, last)
        after = max(after, 0)
        if image_id is None:
            return log.read(self._environment, after, through, reverse=reverse)
        image = digest.require(image_id)
        head = self._head(image)
        if not head:
            raise ImageNotFoundError(image_id)
        return log.stream(self._environment, image, head, after, through, reverse=reverse)

    def _committed(self) -> int:
        """Return the position of the newest commit, also in a transaction with pending records."""
        with self._lock:
            self._catch_up()
            return self._live.position

    def _head(self, image: bytes) -> int:
        """Return the position of the last record of an image, 0 if it was never there."""
        with self._lock:
            self._catch_up()
            return self._at_view(
                lambda: self._live.state(image),
                lambda txn, state: self._head_in(txn, image) if state is None else state.last,
            )

    def _head_in(self, txn: Transaction, image: bytes) -> int:
        """Return the position of the last record of an image that is gone, 0 if it never was there.

        Raises:
            CorruptionError: it once was, as its config says, and its tombstone is lost.
        """
        head = log.tombstone(txn, image)
        if not head and txn.get("configs", image) is not None:
            raise CorruptionError(f"the tombstone of {digest.to_text(image)} is missing")
        return head

    def _at_view(self, known: Callable[[], _K], look: Callable[[Transaction, _K], _T]) -> _T:
        """Look at the store as of the very commit that the view is of, knowing what the view says.

        The view is asked first, for it may have to read as well: a read within another could wait
        for one who waits for that.
        """
        while True:
            self._catch_up()
            found = known()
            with self._environment.read() as txn:
                if txn.number == self._seen:  # nobody has committed between the two
                    return look(txn, found)

    def _at(self, moment: datetime | int | None) -> int:
        """Return the position that a moment means.

        Raises:
            CompactedError: no such moment can be looked at any more.
        """
        if moment is None:
            return self._committed()
        is_time = isinstance(moment, datetime)
        position = self.position_at(moment) if is_time else self._checked(moment)
        if position < self._horizon.through:
            raise CompactedError(position, self._horizon.through)
        return position

    def follow(
        self, after: int | None = None, *, stop: threading.Event | None = None
    ) -> Iterator[Record]:
        """Wait for records from any process, and yield each once, in order.

        It ends when the store is closed.

        Args:
            after: start behind this position; None starts at the present one.
            stop: ends it when set, within a twentieth of a second.

        Raises:
            StoreLostError: the store was removed, moved or replaced; nothing would ever come.
        """
        position = self._committed() if after is None else after
        return self._follow(position, stop)

    def _follow(self, position: int, stop: threading.Event | None) -> Iterator[Record]:
        while stop is None or not stop.is_set():
            try:
                last = self._committed()
                if last > position:
                    for record in log.read(self._environment, position, last):
                        position = record.position
                        yield record
                    position = max(position, last)  # the last ones may have been dropped
                    continue
                self._environment.refuse_lost()
            except StoreClosedError:
                return
            with self._append_lock:
                self._appended.wait(FOLLOW_INTERVAL_SECONDS)

    def snapshots(self) -> list[snapshots.SnapshotInfo]:
        """Return the snapshots that there are, oldest first."""
        return snapshots.listed(self._environment)

    def _read_config(self, image: bytes) -> bytes:
        with self._environment.read() as txn:
            return configs.get(txn, image)

    def _tombstone(self, image: bytes) -> int:
        with self._environment.read() as txn:
            return log.tombstone(txn, image)

    def _created_event(self, position: int) -> Created:
        with self._environment.read() as txn:
            event = log.read_one(txn, position).event
        if not isinstance(event, Created):
            raise CorruptionError(f"record {position} is no Created", position=position)
        return event
