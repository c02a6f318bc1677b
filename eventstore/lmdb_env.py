"""Own the LMDB environment: open, read, write, grow, copy, and translate its errors.

The only module that imports `lmdb`. One environment is one directory (mode 0700, files 0600), in
LMDB's 0.9 format. Its databases and their keys::

    meta        name (text)                         format, store_id, created_ns
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
this process open. After a failed write that LMDB itself does not survive, the files are opened
again. No exception of `lmdb` leaves this module untranslated.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import lmdb
import lmdb.verify

from eventstore import lmdb_pages, store_files
from eventstore.errors import (
    NO_ROOM,
    CorruptionError,
    EventStoreError,
    StoreClosedError,
    StoreForkedError,
    StoreFullError,
    StoreInUseError,
    StoreIOError,
    StoreReadOnlyError,
    UnknownFormatError,
    refused,
)

DATABASES = ("meta", "log", "configs", "snapshots", "tombstones")
MAIN = "main"  # LMDB's own list of databases, of which every commit writes a page anyway
MAP_SIZE = 1 << 36
READERS_MAX = 1024
_LOCK_FILE_SIZE = READERS_MAX * 64 + 128  # what LMDB makes for so many readers
_T = TypeVar("_T")

_open_lock = threading.Lock()
_open_directories: dict[tuple[int, int], int] = {}
_environments: WeakSet[Environment] = WeakSet()
_inherited: list[object] = []


def _forget_locks() -> None:
    """Let a child of `fork` meet no lock of a thread that it does not have."""
    global _open_lock  # noqa: PLW0603 (a lock that was held at the fork is held for ever)
    _open_lock = threading.Lock()
    for environment in _environments:
        environment._gate = threading.Condition()
        # LMDB opens a path once a process; letting go here allows the child to open its own.
        environment._env = None


os.register_at_fork(after_in_child=_forget_locks)


class Transaction:
    """One LMDB transaction: gets, puts and cursors by database name."""

    def __init__(self, path: Path, txn: Any, handles: dict[str, Any]) -> None:
        """Wrap a transaction that `Environment` has begun on the store at `path`."""
        self.path = path
        self._txn = txn
        self._handles = handles

    @property
    def number(self) -> int:
        """Return the number of the commit that is seen; it grows with every commit."""
        return int(self._txn.id())

    def get(self, database: str, key: bytes) -> bytes | None:
        """Return the value under a key, None if there is none."""
        value: bytes | None = self._txn.get(key, db=self._handles[database])
        return value

    def put(self, database: str, key: bytes, value: bytes, *, replace: bool = False) -> None:
        """Store a value.

        Raises:
            CorruptionError: the key is taken, and `replace` was not asked for.
        """
        if not self._put(database, key, value, overwrite=replace):
            raise CorruptionError(f"{database}: the key {key.hex()} is taken")

    def append(self, database: str, key: bytes, value: bytes) -> None:
        """Store a value under a key greater than all others.

        Raises:
            CorruptionError: the key is not the greatest.
        """
        if not self._put(database, key, value, append=True, overwrite=False):
            raise CorruptionError(f"{database}: the key {key.hex()} does not come last")

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; tell whether it was there."""
        try:
            return bool(self._txn.delete(key, db=self._handles[database]))
        except lmdb.Error as error:
            raise _ours(self.path, error) from error

    def _put(self, database: str, key: bytes, value: bytes, **flags: bool) -> bool:
        """Put, and translate what LMDB says; a context manager here would cost as much again."""
        try:
            return bool(self._txn.put(key, value, db=self._handles[database], **flags))
        except lmdb.Error as error:
            raise _ours(self.path, error) from error

    def entries(self, database: str) -> int:
        """Return the number of entries of a database."""
        return int(self._txn.stat(self._handles[database])["entries"])

    def last_key(self, database: str) -> bytes | None:
        """Return the greatest key, None if there is none."""
        with self._txn.cursor(self._handles[database]) as cursor:
            return bytes(cursor.key()) if cursor.last() else None

    def keys(self, database: str, start: bytes) -> Iterator[bytes]:
        """Iterate over the keys from the first one at or after `start`."""
        with self._txn.cursor(self._handles[database]) as cursor:
            if cursor.set_range(start):
                yield from cursor.iternext(values=False)

    def scan(
        self, database: str, start: bytes = b"", *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and values from the first key at or after `start`.

        With `reverse`, from the last key at or before `start` downwards; an empty `start` is then
        the greatest key.
        """
        with self._txn.cursor(self._handles[database]) as cursor:
            if not reverse:
                if cursor.set_range(start) if start else cursor.first():
                    yield from cursor.iternext()
                return
            found = cursor.set_range(start) if start else False
            if found and cursor.key() != start:
                found = cursor.prev()
            elif not found:
                found = cursor.last()
            if found:
                yield from cursor.iterprev()


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
            StoreUsageError: nothing is there and none may be made, it is no directory, or it lies
                on a file system of the network.
            StoreInUseError: it is open in this process already.
            StoreIOError: the operating system refuses.
            StoreFullError: there is no room to make it.
            CorruptionError: it is no file of LMDB's, or of another program.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._map_size_max = map_size_max
        self._gate = threading.Condition()
        self._active = 0
        self._growing = False
        self._closed = False
        self._pid = os.getpid()
        self._env: Any = None
        store_files.prepare(self.path, create=initialise is not None and not read_only)
        if initialise is not None and not read_only:
            self._make(initialise)
        self._register()
        try:
            self._connect(map_size)
        except BaseException:
            self._unregister()
            raise
        _environments.add(self)

    def _make(self, initialise: Callable[[Transaction], None]) -> None:
        """Make the data file under another name, and give it its own when it is whole."""
        if self.path.joinpath(store_files.DATA).exists():
            return
        unfinished = self.path / store_files.UNFINISHED
        with store_files.locked(self.path), self._translated():
            if self.path.joinpath(store_files.DATA).exists():
                return
            unfinished.unlink(missing_ok=True)
            env = lmdb.open(
                str(unfinished), subdir=False, lock=False, mode=0o600, max_dbs=len(DATABASES)
            )
            with env, env.begin(write=True) as txn:
                handles = {name: env.open_db(name.encode(), txn=txn) for name in DATABASES}
                handles[MAIN] = env.open_db(txn=txn)
                initialise(Transaction(self.path, txn, handles))
            store_files.publish(self.path)

    def _register(self) -> None:
        """Note that the directory is open: LMDB must not open a file twice in one process."""
        with self._translated():
            found = self.path.joinpath(store_files.DATA).stat()
        self._identity = (found.st_dev, found.st_ino)
        with _open_lock:
            if _open_directories.get(self._identity) == self._pid:
                raise StoreInUseError(
                    f"{self.path} is open in this process already: share that store, it is"
                    " safe among threads"
                )
            _open_directories[self._identity] = self._pid

    def _unregister(self) -> None:
        with _open_lock:
            _open_directories.pop(self._identity, None)

    def _connect(self, map_size: int) -> None:
        """Let LMDB open the files; close them again if they are not a store's."""
        if not self.read_only:
            store_files.fill_lock_file(self.path, _LOCK_FILE_SIZE)
        lmdb_pages.refuse_damaged_heads(self.path, DATABASES)
        with self._translated():
            env = lmdb.open(
                str(self.path),
                map_size=map_size,
                readonly=self.read_only,
                create=False,
                mode=0o600,
                metasync=True,
                sync=True,
                writemap=False,
                max_dbs=len(DATABASES) + 8,
                max_readers=READERS_MAX,
            )
            try:
                self._refuse_cut(env)
                env.reader_check()
                self._handles = {
                    name: env.open_db(name.encode(), create=False) for name in DATABASES
                }
                self._handles[MAIN] = env.open_db()
            except lmdb.NotFoundError as error:
                env.close()
                raise UnknownFormatError(
                    f"{self.path} holds an LMDB file of another program", found=None, supported=()
                ) from error
            except BaseException:
                env.close()
                raise
            self._env = env
            self._page_size = int(env.stat()["psize"])

    def _refuse_cut(self, env: Any) -> None:
        """Refuse a file that ends before its last page: to read there would kill the process."""
        info, page_size = env.info(), int(env.stat()["psize"])
        needed = (int(info["last_pgno"]) + 1) * page_size
        size = self.path.joinpath(store_files.DATA).stat().st_size
        if size < needed:
            raise CorruptionError(
                f"{self.path} is cut short: its data has {size} bytes and needs {needed}"
            )

    def close(self) -> None:
        """Close the environment; closing twice is no error."""
        if os.getpid() != self._pid:
            return  # what was inherited is the parent's to close
        with self._gate:
            env, self._env = self._env, None
            # A second close returns when the first has ended, so that an open may follow it.
            while self._active or (env is None and not self._closed):
                self._gate.wait()
            if env is None:
                return
            env.close()
            self._unregister()
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
                return env.begin(write=write)
            except lmdb.MapResizedError:
                self._leave()
                with self._alone():
                    self._env.set_mapsize(0)
            except lmdb.PanicError:
                # A write failed in a way after which LMDB trusts its memory no more.
                self._leave()
                self._reconnect(env)
            except lmdb.ReadersFullError:
                self._leave()
                if not env.reader_check():
                    raise
            except BaseException:
                self._leave()
                raise

    def _reconnect(self, broken: Any) -> None:
        """Open the files again in place of an environment that LMDB has given up."""
        with self._alone():
            if self._env is not broken:
                return  # another thread was faster
            self._env = None
            map_size = int(broken.info()["map_size"])
            broken.close()
            try:
                self._connect(map_size)
            except BaseException:
                self._unregister()
                self._closed = True
                raise

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
                result = work(session.transaction)
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
        if self._nearly_full():
            session.abort()
            self.grow()
            session = self._begin_session()
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
            target = size * 2 if self._map_size_max is None else self._map_size_max
            target = min(target, size * 2)
            if target <= size:
                raise StoreFullError(
                    f"{self.path}: the store has reached its limit of {size} bytes",
                    path=str(self.path),
                    map_size=size,
                )
            try:
                self._env.set_mapsize(target)
            except (lmdb.Error, OSError, OverflowError) as error:
                raise StoreFullError(
                    f"{self.path}: the map cannot grow beyond {size} bytes: {error}",
                    path=str(self.path),
                    map_size=size,
                ) from error

    def size_on_disk(self) -> int:
        """Return the bytes that the data file takes on disk."""
        return (self.path / "data.mdb").stat().st_blocks * 512

    def copy(self, destination: Path) -> None:
        """Write a compact, consistent copy of the environment into an empty directory.

        Raises:
            StoreFullError: there is no room for it.
        """
        with self._translated():
            env = self._enter()
            try:
                env.copy(str(destination), compact=True)
            finally:
                self._leave()

    def _enter(self) -> Any:
        with self._gate:
            while self._growing:
                self._gate.wait()
            self._check_usable()
            self._active += 1
            return self._env

    def _leave(self) -> None:
        with self._gate:
            self._active -= 1
            self._gate.notify_all()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreForkedError(
                f"{self.path} was opened before fork: open it again in this process"
            )
        if self._env is None:
            raise StoreClosedError(f"{self.path} is closed")

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn exceptions of LMDB and the operating system into ours."""
        try:
            yield
        except EventStoreError:
            raise
        except (lmdb.Error, OSError) as error:
            raise _ours(self.path, error) from error


class WriteSession:
    """A write transaction that stays open until it is committed or aborted."""

    def __init__(self, environment: Environment, txn: Any, handles: dict[str, Any]) -> None:
        """Take over a write transaction that the environment has begun."""
        self._environment = environment
        self._txn: Any = txn
        self.transaction = Transaction(environment.path, txn, handles)

    def commit(self) -> None:
        """Commit: when this returns, the changes are on disk.

        Raises:
            StoreFullError: there was no room; nothing was changed.
        """
        self._leave_to_parent()
        with self._environment._translated():
            try:
                self._txn.commit()
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


class MapFullError(StoreFullError):
    """The map is full: whoever writes grows it and tries again."""


def _ours(path: Path, error: Exception) -> EventStoreError:
    """Return the error of ours that says what one of LMDB or of the operating system means."""
    if isinstance(error, OSError):
        return refused(str(path), error)
    if isinstance(error, lmdb.MapFullError):
        return MapFullError(f"{path}: the map is full")
    if isinstance(error, lmdb.NotFoundError | lmdb.InvalidError | lmdb.VersionMismatchError):
        return CorruptionError(f"{path} is no store of ours: {error}")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return CorruptionError(f"{path}: {error}")
    if isinstance(error, lmdb.ReadonlyError):
        return StoreReadOnlyError(f"{path}: {error}")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreIOError(
            str(path), f"all {READERS_MAX} readers' slots are taken: end one of the readers"
        )
    if any(os.strerror(number) in str(error) for number in NO_ROOM):
        return StoreFullError(f"{path}: {error}", path=str(path))
    return StoreIOError(str(path), str(error))
