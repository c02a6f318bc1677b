"""Write to a store: catch up, decide, append, commit, fold, one thread at a time.

Take the turn among this process's threads (`turns`), begin LMDB's write transaction (its mutex
keeps processes apart), catch up with what others appended, decide on a branch of the view, append,
commit, fold. Memory moves only after the commit. A mutator outside a transaction is served together
with those that wait beside it: each is judged alone, on what those before it leave, and is a batch
of its own in the log; one commit takes all to disk, and nobody returns before it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType

from eventstore import clock, configs, dropped, log, names
from eventstore.batch import Batch
from eventstore.errors import StoreFullError, StoreUsageError
from eventstore.events import Record
from eventstore.explaining import explained
from eventstore.layers import LayerMetadata, LayerStore
from eventstore.lmdb_env import Environment, WriteSession
from eventstore.lmdb_transaction import MapFullError
from eventstore.notices import Notices
from eventstore.proofs import StoreProver
from eventstore.tracing import span
from eventstore.turns import Judge, Request, Turns
from eventstore.view import fold

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


class Block:
    """The `with` block of a transaction.

    As `contextlib.contextmanager`, but an interrupt at its edges, too, ends the transaction at
    once. Were it to live on in the interrupt's traceback, whoever handles that would write into it.
    """

    def __init__(self, steps: Generator[StoreTransaction]) -> None:
        """Wrap the steps of a transaction, which have not begun."""
        self._steps = steps

    def __enter__(self) -> StoreTransaction:
        """Begin it."""
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
        """Commit it, or give it up."""
        try:
            if kind is None:
                next(self._steps, None)
        finally:
            self._steps.close()


class StoreWriter(StoreProver):
    """How an open store is written to; `ImageStore` says what can be written."""

    def __init__(
        self,
        environment: Environment,
        *,
        layers: LayerStore | None,
        actor: str,
        operating_system: str,
        now: clock.Clock,
    ) -> None:
        """Take over an open environment and fold its log."""
        super().__init__(environment, layers=layers, operating_system=operating_system)
        self._actor = actor
        self._now = now
        self._turns = Turns()
        self._held = False

    def _forget_locks(self) -> None:
        super()._forget_locks()
        self._turns = Turns()

    def _snapshot_by_policy(self) -> None:
        """Take a snapshot if one is due."""
        raise NotImplementedError

    # One mutator.

    @explained
    def _mutate(self, reason: str, judge: Judge, size: int = 0) -> list[LayerMetadata]:
        """Do what a single mutator does, in the open transaction or in a commit of its own.

        An interrupt that comes while this waits takes it out of the queue. If another thread has
        taken it along already, its event may be on disk.

        Returns:
            What the layer store gave back, of a commit of its own.
        """
        if reason != "":
            checked_text("reason", reason)
        batch = self._batch
        if batch is not None and self._owner == threading.get_ident():
            judge(batch, reason)
            return []
        request = Request(judge, reason, size)
        led = self._turns.serve(request, self._lead)
        if led:
            self._announce(appended=bool(request.taken_in))
        if request.error is not None:
            error, request.error = request.error, None
            try:
                raise error if led else error.with_traceback(None)
            finally:
                del error  # its traceback leads here
        return request.released

    def _lead(self, requests: list[Request]) -> None:
        """Serve requests with one commit; an error of one is its own, one of the commit all's."""
        try:
            self._serve(requests)
        except Exception as error:
            for request in requests:
                if not request.served:
                    request.records = []
                    request.error = error if request is requests[0] else _twin(error)
        self._turns.finish(requests)

    def _serve(self, requests: list[Request]) -> None:
        session = self._begin_session()
        batch = None
        try:
            self._turns.finish([one for one in requests if self._was_served(session, one)])
            left = [one for one in requests if not one.served]
            batch = self._begin_batch(session)
            self._judge(batch, left)
            if batch.records:
                session = self._commit(session, batch)
        except Exception:
            self._abort(session)
            raise
        except BaseException:
            self._abort(session, keep=True)
            if batch is not None and batch.records:
                self._recover(batch, requests)
            self._give_up()
            raise
        try:
            self._finish(session, batch, left)
        except BaseException:  # what was committed is so for all, whoever was interrupted
            self._recover(batch, left)
            self._give_up()
            raise

    def _begin_session(self) -> WriteSession:
        """Begin a write transaction, and catch up with what others have committed before it."""
        session = self._environment.begin_write()
        try:
            if session.transaction.number != self._seen + 1:
                self._catch_up()
        except BaseException:
            session.abort()
            raise
        return session

    def _begin_batch(self, session: WriteSession) -> Batch:
        def tombstone(image: bytes) -> int:
            return session.run(partial(log.tombstone, image=image))

        def none(image: bytes) -> int:
            return 0

        def redaction(image: bytes) -> Record | None:
            return session.run(partial(configs.redaction, key=image))

        def nobody(image: bytes) -> None:
            return None

        batch = Batch(
            self._live,
            actor=self._actor,
            now=self._now,
            tombstone=tombstone if session.run(log.has_tombstones) else none,
            redaction=redaction if self._any_redacted else nobody,
            read_config=self._read_config,
            last_named=lambda name: session.run(partial(names.last, name=name)),
        )
        batch.compacted_through = self._horizon.through
        return batch

    def _was_served(self, session: WriteSession, request: Request) -> bool:
        """Tell whether a leader who was cut off had served a request before.

        Its own record says so, not that of another of its group, who may have come back alone, and
        where times are held have appended the very same. Without a record it is judged again.
        """
        if not request.records:
            return False
        return session.run(partial(log.has, record=request.records[0]))

    def _judge(self, batch: Batch, requests: Sequence[Request]) -> None:
        """Let each request add to a batch what it wants; what is refused leaves nothing there."""
        self._batch, self._owner = batch, threading.get_ident()
        try:
            for request in requests:
                start = len(batch.records)
                batch.begin(request.reason)
                request.taken_in, request.error = batch.records, None
                try:
                    if request.judge is not None:
                        request.judge(batch, "")
                except Exception as error:
                    request.error = error
                request.records = batch.records[start:]
        finally:
            self._batch, self._owner = None, None

    def _finish(self, session: WriteSession, batch: Batch, requests: Sequence[Request]) -> None:
        """Fold what was committed, and give each request what its records released."""
        session.abort()
        with self._lock:
            if not self._retained.active and batch.records:
                fold(self._live, batch.records[max(self._live.position - batch.start, 0) :])
            for request in requests if self._retained.active else ():
                for record in request.records:
                    request.error = self._folded(record) or request.error
                    request.released.extend(self._released.pop(record.position, ()))
            self._seen_own(session, batch)
            self._give_up()
        self._warn_of_time(batch)

    def _recover(self, batch: Batch, requests: Sequence[Request]) -> None:
        """After an interrupt, find out whether the commit was made; if so, requests are served.

        Who is interrupted here, too, leaves it to those that wait: each looks for itself.
        """
        try:
            with self._lock:
                self._catch_up()
            with self._environment.read() as txn:
                there = all(log.has(txn, record) for record in batch.records)
        except Exception:  # the store's, or of a layer store
            return
        if there:
            with self._lock:
                for request in requests:
                    for record in request.records:
                        request.released.extend(self._released.pop(record.position, ()))
            self._turns.finish(list(requests))

    # Transactions.

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
        return Block(self._steps(reason))

    def _steps(self, reason: str) -> Generator[StoreTransaction]:
        """Begin a transaction, yield it, and commit it."""
        checked_text("reason", reason)
        if self._owner == threading.get_ident():
            raise StoreUsageError("a transaction is open in this thread already")
        request = Request(None)
        try:
            self._turns.lead(request)
            transaction = yield from self._write(reason)
        finally:
            try:
                self._turns.leave(request)
            except BaseException:  # an interrupt came in between
                self._turns.leave(request)
                raise
        self._announce(appended=bool(transaction.records))

    def _write(self, reason: str) -> Generator[StoreTransaction, None, StoreTransaction]:
        session = self._begin_session()
        try:
            batch = self._begin_batch(session)
            batch.begin(reason)
            transaction = StoreTransaction(batch)
            self._batch, self._owner = batch, threading.get_ident()
            try:
                yield transaction
            finally:
                self._batch, self._owner = None, None
            if batch.records:
                session = self._commit(session, batch)
        except BaseException:
            self._abort(session)
            raise
        whole = Request(None)
        whole.records = transaction.records = batch.records
        self._finish(session, batch, [whole])
        transaction.released = whole.released
        if whole.error is not None:
            raise whole.error
        return transaction

    @contextmanager
    def _gathering(self) -> Generator[Batch]:
        """Give the batch of a transaction of its own."""
        with Block(self._steps("")) as transaction:
            yield transaction._batch

    # What both do.

    def _abort(self, session: WriteSession, *, keep: bool = False) -> None:
        """Give a write transaction up, and the layers that were taken for it."""
        try:
            session.abort()
        except BaseException:  # an interrupt came in between
            session.abort()
            raise
        if not keep:
            self._give_up()

    def _folded(self, record: Record) -> Exception | None:
        """Fold a record of this store's own, and return what the layer store had against it."""
        if record.position > self._live.position:
            try:
                self._fold(record)
            except Exception as error:
                return error
        return None

    def _seen_own(self, session: WriteSession, batch: Batch) -> None:
        """Note that the newest commit is this store's own, so that no read has to look for it."""
        if batch.records and self._live.position == batch.view.position:
            self._seen = max(self._seen, session.number)

    def _give_up(self) -> None:
        """End a transaction's hold on layers: give back what was taken and not needed."""
        with self._lock:
            self._committing, self._released = {}, {}
            self._retained.roll_back()

    def _announce(self, *, appended: bool) -> None:
        """Wake those that follow, and take a snapshot if one is due."""
        with self._append_lock:
            self._appended.notify_all()
        if appended:
            self._snapshot_by_policy()

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

    def _commit(self, session: WriteSession, batch: Batch) -> WriteSession:
        """Write a batch and commit it; grow the map and write again if it is full.

        Returns:
            The write transaction that was committed.
        """
        with self._lock:
            self._committing = {record.position: record.raw for record in batch.records}
        while True:
            try:
                with span("commit", records=len(batch.records)):
                    session.run(batch.write)
                    session.commit()
                return session
            except MapFullError:
                session.abort()
            except BaseException:
                session.abort()
                raise
            self._environment.grow()
            session = self._begin_again()

    def _begin_again(self) -> WriteSession:
        """Begin a write transaction on the very log that a batch was decided on.

        Raises:
            StoreFullError: it is another now.
        """
        session = self._environment.begin_write()
        try:
            if (
                session.run(log.last_position) == self._live.position
                and session.run(dropped.horizon) == self._horizon
            ):
                return session
            raise StoreFullError(
                "the map had to grow, and another process wrote meanwhile: try again",
                path=self.path,
            )
        except BaseException:
            session.abort()
            raise


def checked_text(what: str, text: str) -> str:
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


def _twin(error: Exception) -> Exception:
    """Return an error that says the same, for another thread to raise."""
    twin = type(error).__new__(type(error))
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error.__cause__ or error
    return twin
