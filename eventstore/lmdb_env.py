"""Own the LMDB environment: open, read, write, grow, copy, and translate its errors.

With `lmdb_transaction` the only module that imports `lmdb`. One environment is one directory (mode
0700, files 0600), in LMDB's 0.9 format. Its databases and their keys::

    meta        name (text)                         format, store_id, …: see meta
    log         position, 8 bytes big-endian        record, see codec
    configs     digest, 32 bytes                    1 byte how (0: as they are), then bytes
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
from typing import Any, TypeVar
from weakref import WeakSet

import lmdb
import lmdb.verify

from eventstore import lmdb_pages, store_files
from eventstore.errors import (
    EventStoreError,
    StoreClosedError,
    StoreForkedError,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
    UnknownFormatError,
    refused,
)
from eventstore.lmdb_transaction import READERS_MAX, MapFullError, Transaction, ours
from eventstore.reader_slots import ReaderWatch

DATABASES = ("meta", "log", "configs", "snapshots", "tombstones")
MAIN = "main"  # LMDB's own list of databases, of which every commit writes a page anyway
MAP_SIZE = 1 << 36
_LOCK_FILE_SIZE = READERS_MAX * 64 + 128  # what LMDB makes for so many readers
_LMDB_MAJOR = 0  # not what a variable of the process says, nor what a file asks for
_T = TypeVar("_T")

_environments: WeakSet[Environment] = WeakSet()
_inherited: list[object] = []


def _forget_locks() -> None:
    """Let a child of `fork` meet no lock of a thread that it does not have."""
    for environment in _environments:
        environment._gate = threading.Condition()
        # LMDB opens a path once a process; letting go here allows the child to open its own.
        environment._env = None


os.register_at_fork(after_in_child=_forget_locks)


class Environment:
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
        self.path = store_files.located(path)
        self.read_only = read_only
        self._map_size_max = map_size_max
        self._gate = threading.Condition()
        self._active = 0
        self._growing = False
        self._closed = False
        self._broken = False  # the files must be opened again
        self._unsettled = True  # a commit may have failed, and the disk may have it
        self._pid = os.getpid()
        self._env: Any = None
        self._readers = ReaderWatch(self.path)
        store_files.prepare(self.path, create=initialise is not None and not read_only)
        if initialise is not None and not read_only:
            self._make(initialise)
        self._identity = store_files.claim(self.path)
        try:
            with self._translated():
                self._connect(map_size)
        except BaseException:
            store_files.release(self._identity)
            raise
        _environments.add(self)

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
                self._fill(unfinished, initialise)
            except lmdb.Error as error:
                raise store_files.no_room(unfinished) or ours(self.path, error) from error
            store_files.publish(self.path)

    def _fill(self, unfinished: Path, initialise: Callable[[Transaction], None]) -> None:
        """Make a data file and write what every store holds."""
        env = lmdb.open(
            os.fsencode(unfinished),
            subdir=False,
            lock=False,
            mode=0o600,
            max_dbs=len(DATABASES),
            lib_version=_LMDB_MAJOR,
        )
        with env, env.begin(write=True) as txn:
            handles = {name: env.open_db(name.encode(), txn=txn) for name in DATABASES}
            handles[MAIN] = env.open_db(txn=txn)
            initialise(Transaction(self.path, txn, handles))

    def _connect(self, map_size: int) -> None:
        """Let LMDB open the files; close them again if they are not a store's."""
        store_files.fill_lock_file(self.path, _LOCK_FILE_SIZE)
        lmdb_pages.refuse_damaged_heads(self.path, DATABASES)
        env = self._open_files(map_size)
        try:
            info, self._page_size = env.info(), int(env.stat()["psize"])
            self._map_size = int(info["map_size"])
            store_files.refuse_cut(self.path, (int(info["last_pgno"]) + 1) * self._page_size)
            env.reader_check()
            self._handles = {name: env.open_db(name.encode(), create=False) for name in DATABASES}
            self._handles[MAIN] = env.open_db()
        except BaseException as error:
            env.close()
            if not isinstance(error, lmdb.NotFoundError | lmdb.IncompatibleError):
                raise
            raise UnknownFormatError(
                f"{self.path} holds an LMDB file of another program; it was left as it is",
                found=None,
                supported=(),
            ) from error
        self._names = store_files.Names(self.path)
        self._env = env

    def _open_files(self, map_size: int) -> Any:
        try:
            return lmdb.open(
                os.fsencode(self.path),
                map_size=map_size,
                readonly=self.read_only,
                create=False,
                mode=0o600,
                metasync=True,
                sync=True,
                writemap=False,
                max_dbs=len(DATABASES) + 8,
                max_readers=READERS_MAX,
                lib_version=_LMDB_MAJOR,
            )
        except lmdb.Error as error:
            if "already open in this process" not in str(error):
                raise
            mine = (self._identity, self._pid)
            if any(one._identity == mine[0] and one._pid != mine[1] for one in _environments):
                raise StoreForkedError(
                    f"{self.path} was in use at the moment of fork, by a thread or in a"
                    " transaction: fork while nothing uses it, or start a new process"
                ) from error
            raise StoreInUseError(f"{self.path} is open in this process otherwise") from error

    def close(self) -> None:
        """Close the environment; closing twice is no error."""
        if os.getpid() != self._pid:
            return  # what was inherited is the parent's to close
        with self._gate:
            first = self._env is not None or self._broken
            env, self._env, self._broken = self._env, None, False
            # A second close returns when the first has ended, so that an open may follow it.
            while self._active or not (first or self._closed):
                self._gate.wait()
            if not first:
                return
            if env is not None:
                env.close()
            store_files.release(self._identity)
            self._closed = True
            self._gate.notify_all()

    @contextmanager
    def read(self) -> Generator[Transaction]:
        """Open a read transaction for the length of a `with` block.

        Raises:
            StoreClosedError: the environment is closed.
            StoreForkedError: this process is a child of the one that opened it.
        """
        with self._translated():
            txn = self._begin()
            try:
                with txn:
                    yield Transaction(self.path, txn, self._handles)
            finally:
                self._leave()

    def _begin(self, *, write: bool = False) -> Any:
        """Begin a transaction; take the map's new size over if another process has grown it."""
        while True:
            env = self._enter()
            try:
                txn = env.begin(write=write)
                if write and self._unsettled:
                    self._settle(txn)
                return txn
            except lmdb.MapResizedError:
                self._leave()
                with self._alone():
                    self._resize(0)
            except lmdb.PanicError:
                # A write failed in a way after which LMDB trusts its memory no more.
                self._break()
                self._leave()
            except lmdb.ReadersFullError:
                self._leave()
                if not env.reader_check():
                    raise
            except BaseException:
                self._leave()
                raise

    def _break(self) -> None:
        """Have the files opened again before the next transaction, unless a close waits already."""
        with self._gate:
            self._broken = self._env is not None

    def _connect_again(self) -> None:
        """Open the files again; if that fails, the next transaction tries once more."""
        env, self._env = self._env, None
        if env is not None:
            env.close()
        self._names.refuse_lost()
        self._connect(self._map_size)
        self._broken = False

    def _settle(self, txn: Any) -> None:
        """Bring to disk that the commit of the number of `txn` has not been; others must wait."""
        try:
            self._names.refuse_lost()  # what has the name now may be another's, who writes to it
            offset = txn.id() % 2 * self._page_size
            store_files.write_again(self.path, offset, self._page_size)
            self._unsettled = False
        except BaseException:
            txn.abort()
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
        try:
            with self._translated():
                txn = self._begin(write=True)
                try:
                    return store_files.no_room(self.path / store_files.DATA)
                finally:
                    txn.abort()
                    self._leave()
        except EventStoreError as error:
            return error if isinstance(error, StoreFullError) else None

    def commit_number(self) -> int:
        """Return the number of the newest commit, of whichever process."""
        env = self._env
        if env is None or os.getpid() != self._pid:
            self._check_usable()
        with self.read() as txn:
            return txn.number

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
        session = self._begin_session()
        try:
            self._names.refuse_lost()
        except BaseException:
            session.abort()
            raise
        if self._nearly_full():
            session.abort()
            self.grow()
            session = self._begin_session()
        try:
            env = self._env
            if env is not None:  # with a transaction open, it is not closed meanwhile
                with self._translated():
                    self._readers.look(env)
        except BaseException:
            session.abort()
            raise
        return session

    def _nearly_full(self) -> bool:
        """Tell whether the map has less than a quarter left, and may grow."""
        env = self._env
        if env is None:
            return False  # it is being closed, and waits for the transaction that has just begun
        info = env.info()
        size = int(info["map_size"])
        may_grow = self._map_size_max is None or size < self._map_size_max
        return may_grow and int(info["last_pgno"]) * self._page_size > size // 4 * 3

    def _begin_session(self) -> WriteSession:
        with self._translated():
            return WriteSession(self, self._begin(write=True), self._handles)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Wait until this process has no transaction open, and let none begin in the block."""
        with self._gate:
            self._growing = True
            try:
                while self._active:
                    self._gate.wait()
                self._check_usable()
                if self._broken:
                    self._connect_again()
                yield
            finally:
                self._growing = False
                self._gate.notify_all()

    def grow(self) -> None:
        """Double the map, once no transaction of this process is open.

        Raises:
            StoreFullError: it may not grow further.
        """
        with self._translated(), self._alone():
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

    def size_on_disk(self) -> int:
        """Return the bytes that the data file takes on disk."""
        return (self.path / "data.mdb").stat().st_blocks * 512

    def copy(self, destination: Path, txn: Transaction) -> None:
        """Write what a read transaction sees, compact, into an empty directory.

        Raises:
            StoreFullError: there is no room for it.
        """
        with self._translated():
            env = self._env
            if env is None:
                raise StoreClosedError(f"{self.path} is being closed")
            env.copy(os.fsencode(destination), compact=True, txn=txn._txn)

    def _enter(self) -> Any:
        while True:
            with self._gate:
                while self._growing:
                    self._gate.wait()
                self._check_usable()
                if not self._broken:
                    self._active += 1
                    return self._env
            with self._alone():
                pass  # that opens the files again

    def _leave(self) -> None:
        with self._gate:
            self._active -= 1
            self._gate.notify_all()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreForkedError(f"{self.path} was opened before fork: open it again here")
        if self._env is None and not self._broken:
            raise StoreClosedError(f"{self.path} is closed")

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn exceptions of LMDB and the operating system into ours."""
        try:
            yield
        except EventStoreError:
            raise
        except (lmdb.Error, OSError) as error:
            raise ours(self.path, error) from error


class WriteSession:
    """A write transaction that stays open until it is committed or aborted."""

    def __init__(self, environment: Environment, txn: Any, handles: dict[str, Any]) -> None:
        """Take over a write transaction that the environment has begun."""
        self._environment = environment
        self._txn: Any = txn
        self.transaction = Transaction(environment.path, txn, handles)

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        """Read and write in the transaction; what LMDB says against it is said in our errors."""
        with self._environment._translated():
            return work(self.transaction)

    def commit(self) -> None:
        """Commit: when this returns, the changes are on disk.

        Raises:
            StoreFullError: there was no room; nothing was changed.
        """
        self._leave_to_parent()
        environment = self._environment
        try:
            self._txn.commit()
        except lmdb.Error as error:
            refusal = ours(environment.path, error)
            if not isinstance(refusal, MapFullError):
                environment.commit_failed()
                self._end()
                refusal = environment.settle() or refusal
            raise refusal from error
        finally:
            self._end()

    def abort(self) -> None:
        """Give everything up; does nothing after `commit`."""
        if self._txn is None or os.getpid() != self._environment._pid:
            return
        with self._environment._translated():
            try:
                self._txn.abort()
            finally:
                self._end()

    def _leave_to_parent(self) -> None:
        """Refuse to end a transaction that a parent process began, also when it is collected."""
        if os.getpid() != self._environment._pid:
            _inherited.append(self._txn)
            self._environment._check_usable()

    def _end(self) -> None:
        if self._txn is not None:
            self._txn = None
            self._environment._leave()


def structure_faults(path: Path) -> list[str]:
    """Return what LMDB's offline check, which maps nothing, finds wrong with a store at rest.

    Raises:
        StoreIOError: the operating system refuses.
    """
    try:
        untyped: Any = lmdb.verify
        return [str(fault) for fault in untyped.verify(str(path / store_files.DATA))]
    except OSError as error:
        raise refused(str(path), error) from error
    except Exception as error:  # whatever a hostile file makes it stumble over
        return [f"the check of the file's structure ended early: {error}"]
