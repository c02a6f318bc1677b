"""Own the LMDB environment: open, read, write, grow, copy, and translate its errors.

With `lmdb_transaction`, `lmdb_files` and `lmdb_structure` the only module that imports `lmdb`. One
environment is one directory (mode 0700, files 0600), in LMDB's 0.9 format. Its databases and keys::

    meta        name (text)                         format, store_id, …: see meta
                "hash", level, index                interior hashes of the log, see hashes
                "name:", name                       last record about a name, see names
                "redacted", "unscrubbed", "erased"  what was destroyed last, see scrubbing
                "signed:", origin                   what was signed last, see signing
    log         position, 8 bytes big-endian        record, see codec
    configs     digest, 32 bytes                    1 byte how, then the config, see configs
    snapshots   position, 8 bytes; chunk, 4 bytes   view rows, see snapshots
    tombstones  digest, 32 bytes                    last record of a gone image, see log
    (main)      "end"                               last record of the log, see log

The data file appears whole, with its databases and what the store says of itself, or not at all; no
other LMDB file is ever taken over. When `write` returns, what was put is on disk (`sync` and
`metasync` are passed explicitly); when it raises, nothing was changed. A read sees one commit, and
no read transaction outlives its `with` block, for a long one keeps LMDB from reusing pages. The map
is reserved large and sparse once; a writer grows it when it is full, with no other transaction of
this process open. No exception of `lmdb` leaves this module untranslated.

A commit writes new pages, syncs them, then writes and syncs one of the two meta pages. If the meta
page's write fails, the disk may have the new one all the same: LMDB puts the old number back, but
syncs nothing. Were the next commit to go on from there, its pages would take the places of those
that the meta page on disk leads to, and a power cut would leave neither commit. So after a commit
that failed the files are opened again, and nothing is written before that meta page has been
written once more, as the file has it, and a sync of it has succeeded (a sync alone could pass over
a page whose write has failed before); likewise before the first write after an open, for the
process before may have failed and gone. New pages need no such care: what failed is written anew. A
refused commit is thus gone for good once a later one has been acknowledged; if the power fails
before the disk answers again, it may be there, whole.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet, ref

import lmdb

from eventstore import lmdb_files, lmdb_pages, store_files
from eventstore.commit_numbers import CommitNumbers
from eventstore.errors import (
    EventStoreError,
    StoreForkedError,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
    UnknownFormatError,
)
from eventstore.gate import POLL_SECONDS, Gate, Visit
from eventstore.lmdb_transaction import READERS_MAX, MapFullError, Transaction, ours
from eventstore.reader_slots import ReaderWatch, readers_of

DATABASES = ("meta", "log", "configs", "snapshots", "tombstones")
MAIN = "main"  # LMDB's own list of databases, of which every commit writes a page anyway
MAP_SIZE = 1 << 36
LAST_REDACTION, LAST_DROP = b"redacted", b"erased"  # in `meta`, see scrubbing
_ERASURES = (LAST_REDACTION, LAST_DROP)
_LOCK_FILE_SIZE = READERS_MAX * 64 + 128  # what LMDB makes for so many readers
_T = TypeVar("_T")

_environments: WeakSet[Environment] = WeakSet()
_inherited: list[object] = []


def _forget_locks() -> None:
    """Let a child of `fork` meet no lock of a thread that it does not have."""
    for environment in _environments:
        environment.forget_locks()


os.register_at_fork(after_in_child=_forget_locks)


class Environment(Gate):
    """An open environment, shared by the threads of one process."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        initialise: Callable[[Transaction], None] | None = None,
        read_only: bool = False,
        map_size: int = MAP_SIZE,
        map_size_max: int | None = None,
    ) -> None:
        """Open the environment in the directory `path`.

        Args:
            path: the directory; made, mode 0700, if there is an `initialise`.
            initialise: writes what a new store says of itself; None makes no store.
            read_only: never write, and make no store.
            map_size: bytes of address space to reserve.
            map_size_max: bytes that the map may grow to, None for no limit.

        Raises:
            StoreUsageError: no store is there and none may be made, or none can be there.
            StoreInUseError: it is open in this process already.
            StoreIOError: the operating system refuses.
            StoreFullError: there is no room to make it.
            CorruptionError: it is no file of LMDB's, or of another program.
        """
        super().__init__(store_files.located(path))
        self.read_only = read_only
        self._map_size_max = map_size_max
        self._closed = False
        self._erased: list[bytes | None] = []  # what was noted when LMDB opened the files
        self._unsettled = True  # a commit may have failed, and the disk may have it
        self._numbers: CommitNumbers | None = None
        self._readers = ReaderWatch(self.path)
        store_files.prepare(self.path, create=initialise is not None and not read_only)
        if initialise is not None and not read_only:
            self._make(initialise)
        self._claim = store_files.claim(self.path)
        try:
            with self._translated():
                self._connect(map_size)
            _environments.add(self)
        except BaseException:
            if self._env is not None:
                self._env.close()
            store_files.release(self._claim)
            raise

    def _make(self, initialise: Callable[[Transaction], None]) -> None:
        """Make the data file under another name, and give it its own when it is whole."""
        if store_files.is_there(self.path):
            return
        unfinished = self.path / store_files.UNFINISHED
        with store_files.locked(self.path), self._translated():
            if store_files.is_there(self.path):
                return
            unfinished.unlink(missing_ok=True)
            try:
                lmdb_files.fill(unfinished, self.path, (*DATABASES, MAIN), initialise)
            except lmdb.Error as error:
                raise store_files.no_room(unfinished) or ours(self.path, error) from error
            store_files.publish(self.path)

    def _connect(self, map_size: int) -> None:
        """Let LMDB open the files; close them again if they are not a store's."""
        store_files.fill_lock_file(self.path, _LOCK_FILE_SIZE)
        lmdb_pages.refuse_damaged_heads(self.path, DATABASES)
        self._env = env = self._open_files(map_size)
        try:
            info, self._page_size = env.info(), int(env.stat()["psize"])
            self._map_size = int(info["map_size"])
            if store_files.is_cut(self.path, (int(info["last_pgno"]) + 1) * self._page_size):
                lmdb_pages.refuse_damaged_heads(self.path, DATABASES)
            env.reader_check()
            self._handles = {name: env.open_db(name.encode(), create=False) for name in DATABASES}
            self._handles[MAIN] = env.open_db()
            with env.begin() as txn:
                self._erased = [txn.get(key, db=self._handles["meta"]) for key in _ERASURES]
            self._names = store_files.Names(self.path)
            self._numbers = CommitNumbers.of(self.path / store_files.DATA, self._page_size)
        except BaseException as error:
            self._env = None
            env.close()
            if not isinstance(error, lmdb.NotFoundError | lmdb.IncompatibleError):
                raise
            raise UnknownFormatError(
                f"{self.path} holds an LMDB file of another program; it was left as it is",
                found=None,
                supported=(),
            ) from error

    def _open_files(self, map_size: int) -> Any:
        try:
            return lmdb_files.opened(
                self.path, map_size, read_only=self.read_only, databases=len(DATABASES)
            )
        except lmdb.Error as error:
            if "already open in this process" not in str(error):
                raise
            mine = self._claim.identity
            if any(one._claim.identity == mine and one._pid != self._pid for one in _environments):
                raise StoreForkedError(
                    f"{self.path} was in use at the moment of fork, by a thread or in a"
                    " transaction: fork while nothing uses it, or start a new process"
                ) from error
            raise StoreInUseError(f"{self.path} is open in this process otherwise") from error

    def close(self) -> None:
        """Close the environment; closing twice is no error."""
        if os.getpid() != self._pid:
            return  # what was inherited is the parent's to close
        with self._guard:
            self._closing, self._ready = True, None
            # A second close returns when the first has ended, so that an open may follow it.
            while self._others():
                self._gate.wait(POLL_SECONDS)
            if self._closed:
                return
            env, self._env, self._broken, self._numbers = self._env, None, False, None
            if env is not None:
                env.close()
            store_files.release(self._claim)
            self._closed = True
            self._gate.notify_all()

    def read(self) -> Reading:
        """Open a read transaction for the length of a `with` block.

        Raises:
            StoreClosedError: the environment is closed.
            StoreForkedError: this process is a child of the one that opened it.
        """
        return Reading(self)

    def _begin(self, visit: Visit, *, write: bool = False) -> Any:
        """Begin a transaction; take the map's new size over if another process has grown it."""
        while True:
            txn: Any = None
            try:
                txn = self._enter(visit).begin(write=write)
                if write and self._unsettled:
                    self._settle(txn)
                return txn
            except lmdb.MapResizedError:
                self._leave(visit)
                self._alone(lambda: self._resize(0))
            except lmdb.PanicError:
                # A write failed in a way after which LMDB trusts its memory no more.
                self._break()
                self._leave(visit)
            except lmdb.ReadersFullError:
                cleared = self._env.reader_check()
                self._leave(visit)
                if not cleared:
                    raise
            except BaseException:
                # An interrupt may come before `_settle` has begun to mind it, and keep the frames.
                if txn is not None:
                    txn.abort()
                self._leave(visit)
                txn = None  # as in `_begin_session`
                raise

    def _connect_again(self) -> None:
        """Open the files again; if that fails, the next transaction tries once more."""
        env, self._env, self._numbers = self._env, None, None
        if env is not None:
            env.close()
        self.refuse_lost()
        self._connect(self._map_size)
        self._broken = False

    def _settle(self, txn: Any) -> None:
        """Bring to disk that the commit of the number of `txn` has not been; others must wait."""
        try:
            self.refuse_lost()  # what has the name now may be another's, who writes to it
            offset = txn.id() % 2 * self._page_size
            store_files.write_again(self.path, offset, self._page_size)
            self._unsettled = False
        except BaseException:
            txn.abort()
            del txn  # as in `_begin_session`
            raise

    def commit_failed(self) -> None:
        """Note that a commit failed, while its transaction still counts as open."""
        self._unsettled = True
        self._break()

    def settle(self) -> EventStoreError | None:
        """Bring to disk that a commit failed, if the disk allows it now; else the next write must.

        Until then, a write would risk what had been acknowledged; see the module's docstring.

        Returns:
            The error that says that there is no room, if that is so.
        """
        visit = Visit()
        try:
            with self._translated():
                txn = self._begin(visit, write=True)
                try:
                    return store_files.no_room(self.path / store_files.DATA)
                finally:
                    txn.abort()
        except EventStoreError as error:
            return error if isinstance(error, StoreFullError) else None
        finally:
            self._leave(visit)

    def refuse_lost(self) -> None:
        """Refuse to go on where the files that are open have lost their names.

        Raises:
            StoreIOError: they were removed, moved or replaced.
        """
        self._names.refuse_lost()

    def commit_number(self) -> int:
        """Return the number of the newest commit, of whichever process.

        Every read of the store asks for it, so it is looked up in the file itself, without the
        gate. Where that must not be, it is asked of a proper read, which waits, or says why.
        """
        numbers = self._numbers
        if self._ready is not None and numbers is not None:
            return numbers.newest()
        with self.read() as reading:
            return reading.number

    def write(self, work: Callable[[Transaction], _T]) -> _T:
        """Run `work` in a write transaction and commit it.

        When this returns, the changes are on disk and visible to every new reader. When it raises,
        nothing was changed. `work` is run again if the map had to grow.

        Raises:
            StoreReadOnlyError: opened for reading only.
            StoreFullError: the disk is full, or the map may not grow.
        """
        while True:
            session = self.begin_write()
            try:
                result = session.run(work)
                session.commit()
            except MapFullError:
                session.abort()
                self.grow()
                continue
            except BaseException:
                session.abort()
                raise
            return result

    def begin_write(self) -> WriteSession:
        """Begin a write transaction, waiting for those of other processes to end.

        A map that is nearly full is grown first. Later, with a batch decided, it would be too late:
        LMDB grows no map under a transaction, and without one another process may write.

        Raises:
            StoreReadOnlyError: opened for reading only.
        """
        if self.read_only:
            raise StoreReadOnlyError(f"{self.path} was opened for reading only")
        session = self._begin_forgetting()
        try:
            full = self._nearly_full()
        except BaseException:
            session.abort()
            raise
        if not full:
            return session
        session.abort()
        self.grow()
        return self._begin_forgetting()

    def _begin_forgetting(self) -> WriteSession:
        """Begin a write transaction with no memory of what was destroyed, by whichever process.

        LMDB keeps the memory of pages that it has written, and writes a page made of it with what
        stood there before wherever the page has room left. Only closing the files ends that.
        """
        while True:
            session = self._begin_session()
            try:
                noted = [session.transaction.get("meta", key) for key in _ERASURES]
                if noted == self._erased:
                    return session
                self._break()
            except BaseException:
                session.abort()
                raise
            session.abort()

    def _begin_session(self) -> WriteSession:
        """Begin a write transaction on files that still have their names; look at the readers."""
        visit, txn = Visit(), None
        try:
            self._take_turn(visit)
            try:
                txn = self._begin(visit, write=True)
                self.refuse_lost()
                self._readers.look(self._env)
            except (lmdb.Error, OSError) as error:
                raise self._ours(error) from error
            return WriteSession(self, visit, txn, self._handles)
        except BaseException:
            if txn is not None:
                txn.abort()
                txn = None  # a traceback keeps this frame, and a child of fork must not have it
            self._leave(visit)
            raise

    def _nearly_full(self) -> bool:
        """Tell whether the map has less than a quarter left, and may grow."""
        info = self._env.info()
        size = int(info["map_size"])
        may_grow = self._map_size_max is None or size < self._map_size_max
        return may_grow and int(info["last_pgno"]) * self._page_size > size // 4 * 3

    def grow(self) -> None:
        """Double the map, once no transaction of this process is open.

        Raises:
            StoreFullError: it may not grow further.
        """
        visit = Visit()
        try:
            self._take_turn(visit)
            with self._translated():
                self._alone(self._double)
        finally:
            self._leave(visit)

    def _double(self) -> None:
        size = int(self._env.info()["map_size"])
        target = min(size * 2, self._map_size_max or size * 2)
        if target <= size:
            limit = f"{self.path}: the store has reached its limit of {size} bytes"
            raise StoreFullError(limit, path=str(self.path), map_size=size)
        try:
            self._resize(target)
        except (lmdb.Error, OSError, OverflowError) as error:
            limit = f"{self.path}: the map cannot grow beyond {size} bytes: {error}"
            raise StoreFullError(limit, path=str(self.path), map_size=size) from error

    def _resize(self, size: int) -> None:
        """Map the data file anew; 0 is the size that another process gave it."""
        try:
            self._env.set_mapsize(size)
        except BaseException:
            self._broken = True  # the old map is gone, and LMDB would read there
            raise
        self._map_size = int(self._env.info()["map_size"])

    def readers(self) -> list[tuple[int, int]]:
        """Return the process and the commit of each reader of the file, of whichever process."""
        with self._translated():
            return readers_of(self._env)

    def size_on_disk(self) -> int:
        """Return the bytes that the data file takes on disk."""
        with self._translated():
            return (self.path / store_files.DATA).stat().st_blocks * 512

    def copy(self, destination: Path, txn: Transaction) -> None:
        """Write what a read transaction sees, compact, into an empty directory.

        Raises:
            StoreFullError: there is no room for it.
        """
        with self._translated():
            self._env.copy(os.fsencode(destination), compact=True, txn=txn._txn)

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn exceptions of LMDB and the operating system into ours."""
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise self._ours(error) from error

    def _ours(self, error: Exception) -> EventStoreError:
        return error if isinstance(error, EventStoreError) else ours(self.path, error)


class Reading(Transaction, Visit):
    """A read transaction for the length of a `with` block: it sees one commit."""

    __slots__ = ("_environment",)

    def __init__(self, environment: Environment) -> None:
        """Begin nothing yet."""
        self.path = environment.path
        self.thread = threading.get_ident()
        self._environment = environment
        self._txn: Any = None

    def __enter__(self) -> Self:
        """Begin the transaction."""
        environment = self._environment
        try:
            environment._visits.add(ref(self))
            env = environment._ready
            if env is not None:
                try:
                    self._txn = env.begin()
                except lmdb.Error:
                    env = None  # what is the matter is seen to, and waited for, below
            if env is None:
                environment._visits.discard(ref(self))
                with environment._translated():
                    self._txn = environment._begin(self)
            self._handles = environment._handles
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the transaction; say in our errors what LMDB said in its own."""
        self._end()
        if isinstance(error, lmdb.Error | OSError) and not isinstance(error, EventStoreError):
            raise ours(self.path, error) from error

    def _end(self) -> None:
        """End transaction and visit, and tell whoever waits for that."""
        environment, txn, self._txn = self._environment, self._txn, None
        try:
            if txn is not None:
                txn.abort()
        finally:
            environment._visits.discard(ref(self))
            if environment._ready is None:
                with environment._guard:
                    environment._gate.notify_all()


class WriteSession:
    """A write transaction that stays open until it is committed or aborted."""

    def __init__(
        self, environment: Environment, visit: Visit, txn: Any, handles: dict[str, Any]
    ) -> None:
        """Take over a write transaction that the environment has begun in a visit."""
        self._environment = environment
        self._visit = visit
        self._txn: Any = txn
        self.transaction = Transaction(environment.path, txn, handles)
        self.number = self.transaction.number  # of the commit that it will be

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        """Read and write in the transaction; what LMDB says against it is said in our errors."""
        try:
            return work(self.transaction)
        except (lmdb.Error, OSError) as error:
            raise self._environment._ours(error) from error

    def commit(self) -> None:
        """Commit: when this returns, the changes are on disk.

        Raises:
            StoreFullError: there was no room; nothing was changed.
        """
        self._leave_to_parent()
        environment, visit = self._environment, self._visit
        try:
            self._txn.commit()
        except lmdb.Error as error:
            refusal = ours(environment.path, error)
            if not isinstance(refusal, MapFullError):
                environment.commit_failed()
                environment._visits.discard(ref(visit))  # the turn is kept until all is settled
                refusal = environment.settle() or refusal
            raise refusal from error
        finally:
            self._txn = self.transaction._txn = None
            try:
                environment._leave(visit)
            except BaseException:  # an interrupt came in between
                environment._leave(visit)
                raise

    def abort(self) -> None:
        """Give everything up; does nothing after `commit`."""
        if self._txn is None or os.getpid() != self._environment._pid:
            return
        with self._environment._translated():
            try:
                self._txn.abort()
            finally:
                self._txn = self.transaction._txn = None
                try:
                    self._environment._leave(self._visit)
                except BaseException:  # an interrupt came in between
                    self._environment._leave(self._visit)
                    raise

    def _leave_to_parent(self) -> None:
        """Refuse to end a transaction that a parent process began, also when it is collected."""
        if os.getpid() != self._environment._pid:
            _inherited.append(self._txn)
            self._environment._check_usable()
