"""State what nothing built on the same parts can beat: raw LMDB, msgspec, and sqlite3 beside them.

The floors take the very bytes that the store has written, or that it reads, and do nothing else
with them: no check, no rule, no view. They keep their own shapes here, so that a change of the
store's does not move its floor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from eventstore import Created, ImageStore, ImageView, configs, digest

DATABASES = ("meta", "log", "configs", "snapshots", "tombstones")
MAP_SIZE = 1 << 36
Put = tuple[str, bytes, bytes]


class FloorState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a view must know of an image."""

    created: int
    last: int
    parent: bytes | None
    parent_at: int
    last_updated: int | None
    built: bool


rows_decoder = msgspec.msgpack.Decoder(dict[bytes, FloorState])
record_decoder = msgspec.msgpack.Decoder(tuple[int, str, str, int, int, list[Any]])


def rows_of(view: ImageView) -> bytes:
    """Return the rows of a view as one msgpack map, digest to state."""
    return msgspec.msgpack.encode(
        {
            image: FloorState(
                state.created,
                state.last,
                state.parent,
                state.parent_at,
                state.last_updated,
                state.built,
            )
            for image, state in view.rows()
        }
    )


def puts_of(store: ImageStore, after: int) -> list[list[Put]]:
    """Return what each record after a position has put: databases, keys and values.

    Records are as they lie. Configs are not packed, but a byte and the config as it is: what one
    would store who uses LMDB and nothing else, so that packing does not make the floor faster.
    """
    found: list[list[Put]] = []
    records = list(store.records(after=after))
    with store._environment.read() as txn:
        for record in records:
            puts: list[Put] = [("log", record.position.to_bytes(8, "big"), record.raw)]
            if isinstance(record.event, Created):
                key = record.event.digest
                value = txn.get("configs", key)
                assert value is not None, digest.to_text(key)
                puts.append(("configs", key, b"\0" + configs.unpack(key, value)))
            found.append(puts)
    return found


class RawLMDB:
    """An LMDB environment with the store's databases, synchronous as the store's is."""

    def __init__(self, path: Path) -> None:
        """Open it, and make it if it is not there."""
        path.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(
            str(path),
            map_size=MAP_SIZE,
            max_dbs=len(DATABASES) + 8,
            max_readers=1024,
            sync=True,
            metasync=True,
            writemap=False,
        )
        self.handles = {name: self.env.open_db(name.encode()) for name in DATABASES}

    def write(self, puts: Iterable[Put]) -> None:
        """Put and commit: the floor of a durable write."""
        with self.env.begin(write=True) as txn:
            for database, key, value in puts:
                handle = self.handles[database]
                if not txn.put(key, value, db=handle, append=database == "log", overwrite=False):
                    raise RuntimeError(f"{database}: {key.hex()} was not put")

    def decode_log(self) -> int:
        """Scan the log, decode every record, and return how many there are."""
        decode = record_decoder.decode
        records = 0
        with self.env.begin() as txn, txn.cursor(self.handles["log"]) as cursor:
            for value in cursor.iternext(keys=False, values=True):
                decode(value[:-4])
                records += 1
        return records

    def close(self) -> None:
        """Close it."""
        self.env.close()


class RawSQLite:
    """A database of two tables, in WAL mode, every commit on disk (`synchronous=FULL`)."""

    def __init__(self, path: Path) -> None:
        """Make it."""
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        for name in ("log", "configs"):
            self.connection.execute(f"CREATE TABLE {name} (key BLOB PRIMARY KEY, value BLOB)")

    def write(self, puts: Sequence[Put]) -> None:
        """Insert and commit."""
        self.connection.execute("BEGIN IMMEDIATE")
        for name in ("log", "configs"):
            self.connection.executemany(
                f"INSERT INTO {name} VALUES (?, ?)",
                [(key, value) for database, key, value in puts if database == name],
            )
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Close it."""
        self.connection.close()
