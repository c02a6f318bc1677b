"""Read and write within one LMDB transaction, and say in our errors what LMDB says in its own.

With `lmdb_env`, `lmdb_files` and `lmdb_structure` the only module that imports `lmdb`. A put that
LMDB refuses in silence, such as an append of a key that does not increase, is an error here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from eventstore.errors import (
    NO_ROOM,
    CorruptionError,
    EventStoreError,
    StoreFullError,
    StoreIOError,
    refused,
)

READERS_MAX = 1024


class MapFullError(StoreFullError):
    """The map is full: whoever writes grows it and tries again."""


def ours(path: Path, error: Exception) -> EventStoreError:
    """Return the error of ours that says what one of LMDB or of the operating system means."""
    if isinstance(error, OSError):
        return refused(str(path), error)
    if isinstance(error, lmdb.MapFullError):
        return MapFullError(f"{path}: the map is full")
    if isinstance(error, lmdb.NotFoundError | lmdb.InvalidError | lmdb.VersionMismatchError):
        return CorruptionError(f"{path} is no store of ours: {error}")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return CorruptionError(f"{path}: {error}")
    if isinstance(error, lmdb.ReadonlyError):  # its name for every lack of permission
        return StoreIOError(
            str(path), "its files may not be opened: reading, too, needs to write to lock.mdb"
        )
    if isinstance(error, lmdb.ReadersFullError):
        return StoreIOError(str(path), f"all {READERS_MAX} readers' slots are taken: end a reader")
    said = str(error).removeprefix(f"{path}: ")
    if any(os.strerror(number) in said for number in NO_ROOM):
        return StoreFullError(f"{path}: {said}", path=str(path))
    return StoreIOError(str(path), said)


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

    def add(self, database: str, key: bytes, value: bytes) -> bool:
        """Store a value unless the key is taken; tell whether it was stored."""
        return self._put(database, key, value, overwrite=False)

    def append(self, database: str, key: bytes, value: bytes) -> None:
        """Store a value under a key greater than all others.

        Raises:
            CorruptionError: the key is not the greatest.
        """
        if not self._put(database, key, value, append=True, overwrite=False):
            raise CorruptionError(f"{database}: the key {key.hex()} does not come last")

    def append_all(self, database: str, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Store values under keys that grow, all greater than those that are there.

        Raises:
            CorruptionError: one is not the greatest so far.
        """
        if len(entries) == 1:
            self.append(database, *entries[0])
            return
        try:
            with self._txn.cursor(self._handles[database]) as cursor:
                _, stored = cursor.putmulti(entries, append=True, overwrite=False)
        except lmdb.Error as error:
            raise ours(self.path, error) from error
        if stored != len(entries):
            raise CorruptionError(f"{database}: a key does not come last")

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; tell whether it was there."""
        try:
            return bool(self._txn.delete(key, db=self._handles[database]))
        except lmdb.Error as error:
            raise ours(self.path, error) from error

    def _put(self, database: str, key: bytes, value: bytes, **flags: bool) -> bool:
        """Put, and translate what LMDB says; a context manager here would cost as much again."""
        try:
            return bool(self._txn.put(key, value, db=self._handles[database], **flags))
        except lmdb.Error as error:
            raise ours(self.path, error) from error

    def has(self, database: str, key: bytes) -> bool:
        """Tell whether there is a key, without reading its value."""
        with self._txn.cursor(self._handles[database]) as cursor:
            return bool(cursor.set_key(key))

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

    def page(self, database: str, start: bytes, length: int) -> list[tuple[bytes, bytes]]:
        """Return so many keys and values, or fewer, from the first key at or after `start`."""
        with self._txn.cursor(self._handles[database]) as cursor:
            return list(islice(cursor.iternext(), length)) if cursor.set_range(start) else []

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
