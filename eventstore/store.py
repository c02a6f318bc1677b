"""Open a store and change it: the image store that remembers.

Write path: take the process's lock, begin LMDB's write transaction (its mutex keeps processes
apart), catch up with what others appended, decide on a branch of the view, append, commit, fold.
Memory moves only after the commit; when a mutator returns, its event is on disk; when it raises,
nothing was changed. Threads may share a store; a child of `fork` may not; a second open of one path
in a process is refused. Reading is in `reader`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from eventstore import (
    clock,
    decide,
    digest,
    host,
    log,
    meta,
    replay,
    snapshots,
    structure,
)
from eventstore.batch import Batch
from eventstore.errors import (
    EventStoreError,
    InvalidImageError,
    StoreClosedError,
    StoreFullError,
    StoreUsageError,
)
from eventstore.events import Created, Event, Record, pack_chain
from eventstore.image import Image
from eventstore.layers import LayerMetadata, LayerStore
from eventstore.lmdb_env import MAP_SIZE, Environment, WriteSession
from eventstore.lmdb_transaction import MapFullError
from eventstore.notices import Notices
from eventstore.reader import StoreReader
from eventstore.view import ImageView

TEXT_LENGTH_MAX = 65_536
CLOCK_BEHIND_NS = 60 * clock.NANOSECONDS
logger = Notices(__name__)


class StoreTransaction:
    """Many mutations that are appended as one batch, or not at all.

    Attributes:
        released: what the layer store gave back for deleted images, once committed.
        records: what was appended, once committed.
    """

    def __init__(self, batch: Batch) -> None:
        """Wrap the batch that the store gathers."""
        self._batch = batch
        self.released: list[LayerMetadata] = []
        self.records: list[Record] = []


class _Block:
    """The `with` block of a transaction.

    As `contextlib.contextmanager`, but an interrupt at its edges, too, ends the transaction at
    once. Were it to live on in the interrupt's traceback, whoever handles that would write into it.
    """

    def __init__(self, steps: Generator[StoreTransaction]) -> None:
        self._steps = steps

    def __enter__(self) -> StoreTransaction:
        try:
            return next(self._steps)
        except BaseException:
            self._steps.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                next(self._steps, None)
        finally:
            self._steps.close()


class ImageStore(StoreReader):
    """An event-sourced store of container-image metadata; use `open`."""

    def __init__(
        self,
        environment: Environment,
        *,
        layers: LayerStore | None,
        actor: str,
        operating_system: str,
        now: clock.Clock,
    ) -> None:
        """Take over an open environment; users call `open`."""
        super().__init__(environment, layers=layers, operating_system=operating_system)
        self._actor = actor
        self._now = now
        self._writing = threading.Lock()
        self._held = False
        self._snapshot_at = self._newest_snapshot()

    def _forget_locks(self) -> None:
        super()._forget_locks()
        self._writing = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        layers: LayerStore | None = None,
        actor: str | None = None,
        operating_system: str | None = None,
        read_only: bool = False,
        create: bool = True,
        map_size: int = MAP_SIZE,
        map_size_max: int | None = None,
        check_structure: bool = False,
        now: clock.Clock = clock.system_clock,
    ) -> Self:
        """Open the store in a directory, and make it if it is not there.

        The view is the newest sound snapshot and the records after it; no config is decoded.

        Args:
            path: the store's directory.
            layers: where the layers of images are held, None to leave layers out of it.
            actor: who appends; `user@host` if not given.
            operating_system: whose images with layers are accepted; the host's if not given.
            read_only: never write.
            create: make the store if it is missing.
            map_size: bytes of address space to reserve.
            map_size_max: bytes that the store may grow to, None for no limit.
            check_structure: check the whole file before LMDB maps it, at about 2 ms a megabyte. A
                bent page can make LMDB end the process, or hide what it led to; without this,
                only the pages nearest to the roots are checked.
            now: gives nanoseconds since 1970, UTC. What it says is data, and orders nothing: a
                record whose time would be before that of the last one gets that time, with a
                warning where the two are more than a minute apart.

        Raises:
            StoreNotFoundError: there is no store, and none may be made.
            StoreUsageError: it is no directory, no path, or lies on a file system of the network.
            StoreInUseError: it is open in this process already.
            StoreIOError: the operating system refuses; a medium that is read only asks for
                `read_only`, which writes nothing there.
            StoreFullError: there is no room to make it.
            CorruptionError: the log is damaged; it is left as it is.
            UnknownFormatError: another version wrote it, or another program.
        """
        who = host.default_actor() if actor is None else _checked_text("actor", actor)
        if check_structure:
            structure.refuse_unsound(Path(path))
        environment = Environment(
            path,
            initialise=meta.founding(now) if create else None,
            read_only=read_only,
            map_size=map_size,
            map_size_max=map_size_max,
        )
        try:
            return cls(
                environment,
                layers=layers,
                actor=who,
                operating_system=operating_system or host.operating_system(),
                now=now,
            )
        except BaseException:
            environment.close()
            raise

    # Mutations.

    def transaction(self, *, reason: str = "") -> AbstractContextManager[StoreTransaction]:
        """Make many mutations one batch: all are appended together, or none is.

        Reads of this thread see its own writes; other threads and processes see nothing until the
        block ends, and everything then. An exception that leaves the block gives everything up.
        Layers of deleted images are released after the commit; see `StoreTransaction.released`.

        Args:
            reason: why; a mutator's own reason goes before it.

        Raises:
            StoreReadOnlyError: opened for reading only.
            StoreFullError: there is no room; nothing was changed.
            StoreUsageError: this thread is in a transaction already.
        """
        return _Block(self._steps(reason))

    def _steps(self, reason: str) -> Generator[StoreTransaction]:
        """Begin a transaction, yield it, and commit it."""
        _checked_text("reason", reason)
        if self._owner == threading.get_ident():
            raise StoreUsageError("a transaction is open in this thread already")
        with self._writing:
            transaction = yield from self._write(reason)
        with self._appended:
            self._appended.notify_all()
        if transaction.records:
            self._snapshot_by_policy()

    def _write(self, reason: str) -> Generator[StoreTransaction, None, StoreTransaction]:
        session = self._environment.begin_write()
        try:
            self._catch_up()
            batch = Batch(
                self._live,
                actor=self._actor,
                reason=reason,
                now=self._now,
                tombstone=self._tombstone,
                read_config=self._read_config,
            )
            transaction = StoreTransaction(batch)
            self._batch, self._owner = batch, threading.get_ident()
            try:
                yield transaction
            finally:
                self._batch, self._owner = None, None
            if batch.records:
                with self._lock:
                    self._committing = {record.position: record.raw for record in batch.records}
                self._commit(session, batch)
        except BaseException:
            session.abort()
            with self._lock:
                self._give_up()
            raise
        session.abort()
        transaction.records = batch.records
        with self._lock:
            for record in batch.records:
                if record.position > self._live.position:
                    self._fold(record)
            transaction.released = self._released
            self._give_up()
        self._warn_of_time(batch)
        return transaction

    def _give_up(self) -> None:
        """End a transaction's hold on layers: give back what was taken and not needed."""
        self._committing, self._released = {}, []
        self._retained.roll_back()

    def _warn_of_time(self, batch: Batch) -> None:
        """Say once, until it is over, that times are held because the log is ahead of the clock."""
        if batch.ahead_ns <= CLOCK_BEHIND_NS:
            self._held = self._held and not batch.records
        elif not self._held:
            self._held = True
            logger.warning(
                "%s: the clock is %s behind the last record, of %s: until it gets there, records"
                " are given that time",
                self.path,
                timedelta(seconds=batch.ahead_ns // clock.NANOSECONDS),
                clock.to_datetime(batch.records[-1].time_ns),
            )

    def _commit(self, session: WriteSession, batch: Batch) -> None:
        """Write a batch and commit it; grow the map and write again if it is full."""
        while True:
            try:
                session.run(batch.write)
                session.commit()
                return
            except MapFullError:
                session.abort()
            except BaseException:
                session.abort()
                raise
            self._environment.grow()
            session = self._environment.begin_write()
            if session.run(log.last_position) != self._live.position:
                session.abort()
                raise StoreFullError(
                    "the map had to grow, and another process wrote meanwhile: try again",
                    path=self.path,
                )

    def _mutate(self, reason: str, judge: Callable[[ImageView], list[Event]]) -> StoreTransaction:
        """Decide and take in what a single mutator does, in the open transaction or its own."""
        _checked_text("reason", reason)
        if self._owner == threading.get_ident() and self._batch is not None:
            for event in judge(self._batch.view):
                self._batch.add(event, reason)
            return StoreTransaction(self._batch)
        steps = self._steps(reason)
        try:
            transaction = next(steps)
            for event in judge(transaction._batch.view):
                transaction._batch.add(event, reason)
            next(steps, None)
        finally:
            steps.close()  # at once: what a traceback holds on to would stay open
        return transaction

    def create(self, config: bytes, *, reason: str = "") -> str:
        """Create an image from its config and return its id.

        The same bytes again give the same id and no event. With a layer store, a reference to the
        image's layers is taken; an image that was left out for want of them comes back.

        Args:
            config: the exact bytes of the image config, at most 16 MiB.
            reason: why.

        Raises:
            InvalidImageError: Docker would refuse the config.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        return self._take_in(Image.from_json(config), reason)

    def adopt(self, config: bytes, *, reason: str = "") -> str:
        """Create an image that another store holds already.

        As `create`, but by the rules of Docker's restore: what a store listed must not be lost
        because it could not be created again. See `Image.from_stored`.

        Args:
            config: the exact bytes of the image config, at most 16 MiB.
            reason: why.

        Raises:
            InvalidImageError: Docker's restore would refuse the config.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        return self._take_in(Image.from_stored(config), reason)

    def _take_in(self, decoded: Image, reason: str) -> str:
        """Append that an image was created, unless it is there."""
        chain_id = decoded.root_fs.chain_id()
        chain = pack_chain(chain_id) if chain_id else None
        created = Created(digest.require(decoded.id), chain, decoded.os)
        self._append_created(created, decoded.raw_json, reason)
        return decoded.id

    def _adopt_decoded(
        self, image_id: str, created: Created, config: bytes, *, reason: str = ""
    ) -> None:
        """Create an image as `adopt`, from what whoever read the config has decoded of it.

        Raises:
            InvalidImageError: the config is not the one that was decoded.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        if not digest.require(image_id) == created.digest == digest.digest_of(config):
            raise InvalidImageError(f"what was decoded is not the config of {image_id}")
        self._append_created(created, config, reason)

    def _append_created(self, created: Created, config: bytes, reason: str) -> None:
        """Append that an image was created, unless it is there."""
        image, os_name = created.digest, created.os

        def judge(view: ImageView) -> list[Event]:
            events = decide.create(view, image, created.chain, os_name)
            if events:
                with self._lock:
                    self._retained.take(image, created.chain_id, os_name)
                if self._batch is not None:
                    self._batch.configs[image] = config
            elif view.is_hidden(image):
                with self._lock:
                    self._retained.bring_back(self._live, image, created.chain_id, os_name)
                    view.reveal(image)
            return events

        with self._lock:
            known = self._owner is None and self._view().shows(image)
        if not known:
            self._mutate(reason, judge)

    def delete(self, image_id: str, *, reason: str = "") -> list[LayerMetadata]:
        """Delete an image; its children have no parent from here on.

        Its config and its records stay. Its layers are released after the commit.

        Returns:
            What the layer store removed; in a transaction nothing, see
            `StoreTransaction.released`.

        Raises:
            ImageNotFoundError: it is not there.
        """
        image = digest.require(image_id)
        return self._mutate(reason, lambda view: decide.delete(view, image)).released

    def set_parent(self, image_id: str, parent_id: str | None, *, reason: str = "") -> None:
        """Give an image a parent; None takes the one it has away. The same again is no event.

        Raises:
            ImageNotFoundError: one of the two is not there; nothing changes.
            InvalidParentError: the image would be its own ancestor.
        """
        image = digest.require(image_id)
        parent = None if parent_id is None else digest.require(parent_id)
        self._mutate(reason, lambda view: decide.set_parent(view, image, parent))

    def set_last_updated(
        self, image_id: str, instant: datetime | int | None = None, *, reason: str = ""
    ) -> None:
        """Note that an image was updated now, or at the instant that a source kept.

        Args:
            image_id: which image.
            instant: an aware datetime, or nanoseconds since 1970, UTC; now if not given.
            reason: why.

        Raises:
            ImageNotFoundError: it is not there.
            StoreUsageError: the instant has no time zone, or is not within 1678 to 2261.
        """
        image = digest.require(image_id)
        if isinstance(instant, datetime):
            if instant.tzinfo is None:
                raise StoreUsageError(f"{instant} has no time zone, so it names no instant")
            instant = clock.to_nanoseconds(instant)
        at = clock.reading(self._now) if instant is None else instant
        if not isinstance(at, int) or isinstance(at, bool):
            raise StoreUsageError(f"{at!r} is neither a datetime nor nanoseconds")
        if not clock.STORED_MIN_NS <= at <= clock.STORED_MAX_NS:
            raise StoreUsageError(f"{at} ns is not within the years 1678 to 2261")
        self._mutate(reason, lambda view: decide.set_last_updated(view, image, at))

    def set_built_locally(self, image_id: str, *, reason: str = "") -> None:
        """Mark an image as built on this host. Marking it twice is no event.

        Raises:
            ImageNotFoundError: it is not there.
        """
        image = digest.require(image_id)
        self._mutate(reason, lambda view: decide.mark_built(view, image))

    # Upkeep.

    def take_snapshot(self) -> snapshots.SnapshotInfo:
        """Store the present view, so that a replay can start from it.

        Other writers wait for a few chunks of it at a time, whatever the number of images.
        """
        with self._lock:
            self._catch_up()
            view = self._live.freeze()
        self._store_snapshot(view)
        self._snapshot_at = max(self._snapshot_at, view.position)
        return snapshots.SnapshotInfo(view.position, view.time_ns, len(view))

    def _store_snapshot(self, view: ImageView) -> None:
        """Store a view that was frozen, and let the live one lie over it from here on."""
        stored, newest = view, self._newest_snapshot()
        if newest < view.position and newest != (view.origin or (0,))[0]:
            # Another process has stored one since: only what lies over that takes its place.
            stored = replay.view_at(self._environment, view.position)
        header = snapshots.put(self._environment, stored)
        if header is not None:
            table = replay.table_of(self._environment, header)
            with self._lock:
                self._live.lay_over(table, view)
        snapshots.prune(self._environment)

    def _snapshot_by_policy(self) -> None:
        """Take a snapshot if one is due; whatever goes wrong, what was appended is on disk."""
        try:
            self._snapshot_if_due()
        except StoreClosedError:
            return
        except EventStoreError as error:
            # A cache that could not be written must not say no.
            logger.warning("%s: no snapshot taken: %s", self.path, error)

    def _snapshot_if_due(self) -> None:
        with self._lock:
            gap = self._live.position - self._snapshot_at
            limit = snapshots.interval(len(self._live))
            if gap < limit:
                return
            self._snapshot_at = max(self._snapshot_at, self._newest_snapshot())
            gap = self._live.position - self._snapshot_at
            if gap < limit:
                return
            view, start = self._live.freeze(), self._snapshot_at
            self._snapshot_at = view.position
        if gap > 2 * limit:
            replay.fill_snapshots(self._environment, start, view.position)
        self._store_snapshot(view)

    def _newest_snapshot(self) -> int:
        with self._environment.read() as txn:
            return next((position for position, _ in snapshots.headers(txn)), 0)


def _checked_text(what: str, text: str) -> str:
    """Return a text that can be stored.

    Raises:
        StoreUsageError: it cannot.
    """
    if not isinstance(text, str):
        raise StoreUsageError(f"{what} is text, not {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise StoreUsageError(f"{what} is not valid Unicode: {error}") from error
    if size > TEXT_LENGTH_MAX:
        raise StoreUsageError(f"{what} is longer than {TEXT_LENGTH_MAX} bytes")
    return text
