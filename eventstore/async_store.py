"""Use a store from asyncio: the same core, with everything that may take long off the event loop.

Every public method of `ImageStore` has its equal here, of the same name, arguments and errors, that
is awaited, or iterated over by `async for`. Mutations run in a few threads, so those of tasks that
run at once share commits, as those of threads do; reads run in others, so that none waits for who
waits to write. A transaction has a thread of its own for as long as it is open; what its task calls
meanwhile, and tasks that it starts, goes there.

Cancelling leaves nothing half done. A read is given up at once. A mutation, or the end of a
transaction, that has begun is waited for, and then the task is cancelled: nothing happens after
that, and `outcome` of the `CancelledError` says what came of it. One that has not begun never does.
A transaction whose block is left by a cancellation is given up whole. Tasks wait for an open
transaction on the event loop, not in a thread, so they can be cancelled meanwhile; so a transaction
begins when the mutations that are in threads have ended. Only what takes long (`redact`, `compact`,
`take_snapshot`) is not waited for; it waits in its thread.

An object belongs to one event loop, in the process that opened it: threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, Token
from datetime import datetime
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from eventstore import clock
from eventstore.dropped import Horizon
from eventstore.errors import StoreClosedError, StoreForkedError, StoreUsageError
from eventstore.events import Record
from eventstore.layers import LayerStore
from eventstore.lmdb_env import MAP_SIZE
from eventstore.meta import Fork
from eventstore.reader import FOLLOW_INTERVAL_SECONDS
from eventstore.store import ImageStore
from eventstore.writer import StoreTransaction

THREADS = 8
_AT_ONCE = 256
_blocks: ContextVar[tuple[AsyncTransaction, ...]] = ContextVar("eventstore_blocks", default=())
_P = ParamSpec("_P")
_T = TypeVar("_T")


class CallOutcome(Exception):  # noqa: N818 (it is the cause of a cancellation, never raised)
    """What came of a call that was cancelled when it had begun.

    Attributes:
        done: whether it did all that it does: what it appends is on disk. Else nothing is.
        result: what it would have returned.
        error: why it did nothing, as it would have raised it.
    """

    def __init__(self, *, result: object = None, error: BaseException | None = None) -> None:
        self.done = error is None
        self.result = result
        self.error = error
        super().__init__("the call was done" if error is None else f"the call failed: {error}")


def outcome(error: BaseException) -> CallOutcome | None:
    """Return what came of the call that a `CancelledError` or a `TimeoutError` came out of.

    None if it never began, and did nothing. `asyncio.timeout` knows only `CancelledError` itself
    and no subclass of it, so this stands in its `__cause__`.
    """
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, CallOutcome):
            return at
        at = at.__cause__
    return None


class _Call(Generic[_P, _T]):
    """A method that awaits the method of the same name of the store underneath."""

    def __init__(
        self,
        method: Callable[Concatenate[ImageStore, _P], _T],
        *,
        changes: bool = False,
        settles: bool = False,
        brief: bool = True,
    ) -> None:
        """Take the method.

        Args:
            method: of `ImageStore`.
            changes: whether it changes the store.
            settles: whether it is waited for, when its task is cancelled.
            brief: whether a transaction may wait until it has ended.
        """
        self._method = method
        self._changes, self._settles = changes, settles or changes
        self._brief = changes and brief
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, store: None, owner: object) -> Self: ...
    @overload
    def __get__(
        self, store: AsyncImageStore, owner: object
    ) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
    def __get__(
        self, store: AsyncImageStore | None, owner: object
    ) -> Self | Callable[_P, Coroutine[Any, Any, _T]]:
        """Bind it to a store."""
        if store is None:
            return self
        opened = store

        def call(*args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _T]:
            work = partial(self._method, opened._store, *args, **kwargs)
            return opened._call(
                work, changes=self._changes, settles=self._settles, brief=self._brief
            )

        return call


class _Iteration(Generic[_P, _T]):
    """A method that iterates over what the method of the same name gives, some at a time."""

    def __init__(
        self, method: Callable[Concatenate[ImageStore, _P], Iterator[_T]], at_once: int = _AT_ONCE
    ) -> None:
        """Take the method, and how many items are fetched at once."""
        self._method = method
        self._at_once = at_once
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, store: None, owner: object) -> Self: ...
    @overload
    def __get__(self, store: AsyncImageStore, owner: object) -> Callable[_P, AsyncIterator[_T]]: ...
    def __get__(
        self, store: AsyncImageStore | None, owner: object
    ) -> Self | Callable[_P, AsyncIterator[_T]]:
        """Bind it to a store."""
        if store is None:
            return self
        opened = store

        def iterate(*args: _P.args, **kwargs: _P.kwargs) -> AsyncIterator[_T]:
            begin = partial(self._method, opened._store, *args, **kwargs)
            return opened._iterate(begin, self._at_once)

        return iterate


class AsyncImageStore:
    """An open store for asyncio; use `open`, and `async with`.

    What stands here without a word does as the method of `ImageStore` with its name.
    """

    def __init__(self, store: ImageStore, *, threads: int = THREADS) -> None:
        """Take over an open store; users call `open`."""
        self._store = store
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="eventstore-read")
        self._writers = ThreadPoolExecutor(threads, thread_name_prefix="eventstore-write")
        self._turn = asyncio.Lock()
        self._free = asyncio.Event()  # no transaction is open, or waits for those that change …
        self._free.set()
        self._still = asyncio.Event()  # … and no mutation is in a thread
        self._still.set()
        self._changing = 0
        self._appended = asyncio.Event()
        self._closing: Future[None] | None = None
        self._pid = os.getpid()

    @classmethod
    async def open(
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
        threads: int = THREADS,
    ) -> Self:
        """Open the store in a directory, as `ImageStore.open` with the same options.

        Args:
            path: the store's directory.
            layers: as of `ImageStore.open`, and so are the following.
            actor: who appends.
            operating_system: whose images with layers are accepted.
            read_only: never write.
            create: make the store if it is missing.
            map_size: bytes of address space to reserve.
            map_size_max: bytes that the store may grow to.
            check_structure: check the whole file first.
            now: gives nanoseconds since 1970, UTC.
            threads: how many reads run at once, and how many mutations, that can share a commit.

        Raises:
            EventStoreError: as `ImageStore.open`.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="eventstore-open")
        work = partial(
            ImageStore.open,
            path,
            layers=layers,
            actor=actor,
            operating_system=operating_system,
            read_only=read_only,
            create=create,
            map_size=map_size,
            map_size_max=map_size_max,
            check_structure=check_structure,
            now=now,
        )
        opening = executor.submit(work)
        try:
            return cls(await _settled(opening), threads=threads)
        except BaseException:
            if _has_returned(opening):
                opening.result().close()
            raise
        finally:
            executor.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self.close()

    async def close(self) -> None:
        """Close the store, once what is under way has ended; closing twice is no error.

        Raises:
            StoreUsageError: a transaction is open.
        """
        if os.getpid() != self._pid:
            self._store.close()
            return
        if self._turn.locked():
            raise StoreUsageError("end the transaction before closing the store")
        if self._closing is None:
            executor = ThreadPoolExecutor(1, thread_name_prefix="eventstore-close")
            self._closing = executor.submit(self._close)
            executor.shutdown(wait=False)
        try:
            await _settled(self._closing, certain=True)
        finally:
            self._tell()

    def _close(self) -> None:
        """Close the store when all that was called has ended."""
        for pool in (self._readers, self._writers):
            pool.shutdown()
        self._store.close()

    # What needs no look at the disk.

    @property
    def store_id(self) -> str:
        """Return the id that the store was given when it was made."""
        return self._store.store_id

    @property
    def path(self) -> str:
        """Return the store's directory."""
        return self._store.path

    @property
    def created(self) -> datetime:
        """Return when the store was made."""
        return self._store.created

    @property
    def fork(self) -> Fork | None:
        """Return from which store this one forks, and at which position; None if from none."""
        return self._store.fork

    @property
    def forks(self) -> tuple[Fork, ...]:
        """Return `fork`, the fork of the store that it names, and so on; the nearest first."""
        return self._store.forks

    # What is a property, or an operator, of a store, and looks at the disk.

    async def position(self) -> int:
        """Return the position of the last record, 0 for the empty log."""
        return await self._call(lambda: self._store.position)

    async def horizon(self) -> Horizon:
        """Return how far the log has been compacted."""
        return await self._call(lambda: self._store.horizon)

    async def count(self) -> int:
        """Return the number of images."""
        return await self._call(lambda: len(self._store))

    async def contains(self, image_id: object) -> bool:
        """Tell whether the image is there."""
        return await self._call(lambda: image_id in self._store)

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over the ids of all images as they were when it began, sorted."""
        return self._iterate(lambda: iter(self._store), _AT_ONCE)

    # Reads.

    get = _Call(ImageStore.get)
    get_parent = _Call(ImageStore.get_parent)
    get_last_updated = _Call(ImageStore.get_last_updated)
    is_built_locally = _Call(ImageStore.is_built_locally)
    children = _Call(ImageStore.children)
    search = _Call(ImageStore.search)
    search_history = _Call(ImageStore.search_history)
    resolve = _Call(ImageStore.resolve)
    tags = _Call(ImageStore.tags)
    names = _Call(ImageStore.names)
    tag_records = _Call(ImageStore.tag_records)
    map = _Call(ImageStore.map)
    heads = _Call(ImageStore.heads)
    as_of = _Call(ImageStore.as_of)
    position_at = _Call(ImageStore.position_at)
    diff = _Call(ImageStore.diff)
    blame = _Call(ImageStore.blame)
    bisect = _Call(ImageStore.bisect)
    redaction = _Call(ImageStore.redaction)
    manifests = _Call(ImageStore.manifests)
    is_config_gone = _Call(ImageStore.is_config_gone)
    stored_config = _Call(ImageStore.stored_config)
    refresh = _Call(ImageStore.refresh)
    size_on_disk = _Call(ImageStore.size_on_disk)
    snapshots = _Call(ImageStore.snapshots)
    checkpoint = _Call(ImageStore.checkpoint)
    inclusion_proof = _Call(ImageStore.inclusion_proof)
    consistency_proof = _Call(ImageStore.consistency_proof)
    leaf_hash = _Call(ImageStore.leaf_hash)
    frontier = _Call(ImageStore.frontier)
    records = _Iteration(ImageStore.records)
    story = _Iteration(ImageStore.story)
    leaves = _Iteration(ImageStore.leaves)
    verify = _Iteration(ImageStore.verify, at_once=1)

    async def follow(self, after: int | None = None) -> AsyncIterator[Record]:
        """Wait for records from any process, and yield each once, in order.

        It ends when the store is closed.

        Args:
            after: start behind this position; None starts at the present one.

        Raises:
            StoreLostError: the store was removed, moved or replaced; nothing would ever come.
        """
        position = await self.position() if after is None else after
        while True:
            try:
                last = await self.position()
                if last > position:
                    async for record in self.records(after=position, through=last):
                        position = record.position
                        yield record
                    position = last
                    continue
                await self._call(self._store._environment.refuse_lost)
            except StoreClosedError:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_INTERVAL_SECONDS):
                    await self._appended.wait()

    # Mutations.

    create = _Call(ImageStore.create, changes=True)
    adopt = _Call(ImageStore.adopt, changes=True)
    delete = _Call(ImageStore.delete, changes=True)
    set_parent = _Call(ImageStore.set_parent, changes=True)
    set_last_updated = _Call(ImageStore.set_last_updated, changes=True)
    set_built_locally = _Call(ImageStore.set_built_locally, changes=True)
    tag = _Call(ImageStore.tag, changes=True)
    untag = _Call(ImageStore.untag, changes=True)
    describe = _Call(ImageStore.describe, changes=True)
    redact = _Call(ImageStore.redact, changes=True, brief=False)
    undo = _Call(ImageStore.undo, changes=True)
    restore_image = _Call(ImageStore.restore_image, changes=True)
    compact = _Call(ImageStore.compact, changes=True, brief=False)
    compact_as_recorded = _Call(ImageStore.compact_as_recorded, changes=True, brief=False)
    append_exact = _Call(ImageStore.append_exact, changes=True)
    take_snapshot = _Call(ImageStore.take_snapshot, changes=True, brief=False)
    backup = _Call(ImageStore.backup, settles=True)

    def transaction(self, *, reason: str = "") -> AsyncTransaction:
        """Make many mutations one batch, in an `async with` block: all are appended, or none is.

        Reads and mutations of the block's task, and of tasks that are started in it, go to the
        transaction; all other tasks see nothing of it until the block ends. An exception that
        leaves the block gives everything up, a cancellation as well.

        Args:
            reason: why; a mutator's own reason goes before it.

        Raises:
            StoreReadOnlyError: opened for reading only.
            StoreFullError: there is no room; nothing was changed.
            StoreUsageError: this task is in a transaction already.
        """
        return AsyncTransaction(self, reason)

    # How it is done.

    async def _call(
        self,
        work: Callable[[], _T],
        *,
        changes: bool = False,
        settles: bool = False,
        brief: bool = False,
    ) -> _T:
        """Do something in a thread: that of the task's transaction, or one of a pool."""
        self._check_usable()
        thread = self._thread_of_task()
        if thread is not None:
            return await _settled(thread.submit(work))
        if not settles:
            return await asyncio.wrap_future(self._readers.submit(work))
        if not changes:
            return await _settled(self._readers.submit(work))
        while not self._free.is_set():
            await self._free.wait()
        self._check_usable()
        self._count(brief)
        try:
            return await _settled(self._writers.submit(work))
        finally:
            self._count(-brief)
            self._tell()

    def _count(self, more: int) -> None:
        """Count the mutations that are in threads, for the transaction that waits for them."""
        self._changing += more
        if self._changing:
            self._still.clear()
        else:
            self._still.set()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreForkedError(f"{self.path} was opened before fork: open it again here")
        if self._closing is not None:
            raise StoreClosedError("the store has been closed")

    def _thread_of_task(self) -> Executor | None:
        """Return the thread of the transaction that this task is in, None if it is in none."""
        found = (block.executor for block in _blocks.get() if block.store is self)
        return next((executor for executor in found if executor is not None), None)

    def _tell(self) -> None:
        """Wake those that follow."""
        self._appended.set()
        self._appended.clear()

    async def _iterate(self, begin: Callable[[], Iterator[_T]], at_once: int) -> AsyncIterator[_T]:
        items = await self._call(begin)
        while part := await self._call(lambda: list(islice(items, at_once))):
            for item in part:
                yield item


class AsyncTransaction:
    """The `async with` block of a transaction; gives the `StoreTransaction`.

    Attributes:
        store: whose.
        executor: the one thread that it happens in, None if it is not open.
    """

    def __init__(self, store: AsyncImageStore, reason: str) -> None:
        """Prepare it; it begins when the block is entered."""
        self.store = store
        self.executor: Executor | None = None
        self._steps = store._store.transaction(reason=reason)
        self._token: Token[tuple[AsyncTransaction, ...]] | None = None

    async def __aenter__(self) -> StoreTransaction:
        """Wait for others, and begin it."""
        store = self.store
        store._check_usable()
        if store._thread_of_task() is not None:
            raise StoreUsageError("a transaction is open in this task already")
        await store._turn.acquire()
        store._free.clear()
        executor = ThreadPoolExecutor(1, thread_name_prefix="eventstore-transaction")
        entering: Future[StoreTransaction] | None = None
        try:
            await store._still.wait()
            store._check_usable()
            entering = executor.submit(self._steps.__enter__)
            begun = await _settled(entering)
        except BaseException as error:
            if entering is not None and _has_returned(entering):
                leaving = executor.submit(self._steps.__exit__, type(error), error, None)
                await _settled(leaving, certain=True)
            self._end(executor)
            raise
        self.executor = executor
        self._token = _blocks.set((*_blocks.get(), self))
        return begun

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit it, or give it up."""
        executor, token = self.executor, self._token
        assert executor is not None
        assert token is not None
        self.executor = None
        with suppress(ValueError):  # a generator may be ended in another context than begun
            _blocks.reset(token)
        try:
            leaving = executor.submit(self._steps.__exit__, kind, error, traceback)
            await _settled(leaving, certain=True)
        finally:
            self._end(executor)

    def _end(self, executor: Executor) -> None:
        """Let others go on."""
        executor.shutdown(wait=False)
        self.store._free.set()
        self.store._turn.release()
        self.store._tell()


def _has_returned(call: Future[Any]) -> bool:
    """Tell whether a call in a thread has ended without an error."""
    return call.done() and not call.cancelled() and call.exception() is None


async def _settled(running: Future[_T], *, certain: bool = False) -> _T:
    """Return what a call in a thread returns; if cancelled, first let it end, if it has begun.

    Args:
        running: the call.
        certain: whether it is waited for even if it has not begun, for it has to be done.
    """
    cancelled: asyncio.CancelledError | None = None
    waiting = asyncio.wrap_future(running)
    while not waiting.done():
        try:
            await asyncio.wait({waiting})
        except asyncio.CancelledError as error:
            cancelled = error
            if not certain:
                running.cancel()  # does nothing if it has begun
    if cancelled is None:
        return waiting.result()
    if waiting.cancelled():
        raise cancelled
    failure = waiting.exception()
    raise cancelled from CallOutcome(result=None if failure else waiting.result(), error=failure)
