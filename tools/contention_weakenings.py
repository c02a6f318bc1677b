"""Weaken the store in this process, one promise at a time, so that an attack must notice it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import lmdb

from eventstore import ImageStore, Record, gate, lmdb_env, log, reader_slots, turns
from eventstore.batch import Batch


def replace(owner: object, name: str, value: object) -> None:
    """Put something else in the place of a part of the store, for as long as this process lives."""
    setattr(owner, name, value)


def _no_catch_up() -> None:
    """Let reads answer from memory without looking for what others committed."""
    real = ImageStore._catch_up

    def catch_up(store: ImageStore) -> None:
        if store._turns.led():
            real(store)

    replace(ImageStore, "_catch_up", catch_up)


def _stale_writes() -> None:
    """Let a write decide on what was known before it had the lock."""
    real_begin, real_catch_up = lmdb_env.Environment.begin_write, ImageStore._catch_up
    begun = threading.local()

    def begin_write(environment: lmdb_env.Environment) -> lmdb_env.WriteSession:
        session = real_begin(environment)
        begun.now = True
        return session

    def catch_up(store: ImageStore) -> None:
        if getattr(begun, "now", False):
            begun.now = False
        else:
            real_catch_up(store)

    replace(lmdb_env.Environment, "begin_write", begin_write)
    replace(ImageStore, "_catch_up", catch_up)


def _no_lock() -> None:
    """Let LMDB keep no lock file, so that processes do not exclude each other."""
    real = lmdb.open

    def unlocked(path: str, **options: Any) -> lmdb.Environment:
        return real(path, **{**options, "lock": False})

    replace(lmdb, "open", unlocked)


def _fold_before_commit() -> None:
    """Let memory move before the disk does."""
    real = ImageStore._commit

    def commit(
        store: ImageStore, session: lmdb_env.WriteSession, batch: Batch
    ) -> lmdb_env.WriteSession:
        with store._lock:
            for record in batch.records:
                store._live.apply(record)
        time.sleep(0.0005)
        return real(store, session, batch)

    replace(ImageStore, "_commit", commit)


def _half_batches() -> None:
    """Let each record of a transaction be committed by itself, all but the last one."""
    real = ImageStore._commit

    def commit(
        store: ImageStore, session: lmdb_env.WriteSession, batch: Batch
    ) -> lmdb_env.WriteSession:
        session.abort()
        records = batch.records
        for record in records[:-1]:
            store._environment.write(partial(log.append, record=record))
        session = store._environment.begin_write()
        try:
            batch.records = records[-1:]
            return real(store, session, batch)
        finally:
            batch.records = records

    replace(ImageStore, "_commit", commit)


def _acknowledge_early() -> None:
    """Let those whom a leader takes along go before their commit."""
    real = ImageStore._commit

    def commit(
        store: ImageStore, session: lmdb_env.WriteSession, batch: Batch
    ) -> lmdb_env.WriteSession:
        others = [one for one in taken.requests if one.thread != threading.get_ident()]
        store._turns.finish(others)
        time.sleep(0.0005)
        return real(store, session, batch)

    real_take = turns.Turns._take
    taken = threading.local()

    def take(those: turns.Turns, leader: turns.Request) -> list[turns.Request]:
        taken.requests = real_take(those, leader)
        return list(taken.requests)

    def lead(those: turns.Turns, request: turns.Request) -> None:
        taken.requests = []
        real_lead(those, request)

    real_lead = turns.Turns.lead
    replace(turns.Turns, "_take", take)
    replace(turns.Turns, "lead", lead)
    replace(ImageStore, "_commit", commit)


def _no_fork_check() -> None:
    """Let a child of `fork` go on with the environment that it inherited."""
    parent = os.getpid()
    for module in (lmdb_env, gate):
        replace(module, "os", SimpleNamespace(**{**vars(os), "getpid": lambda: parent}))
    replace(lmdb_env, "_environments", set())


def _no_stale_reader_check() -> None:
    """Let readers that died, or that sleep, pin what they see."""
    replace(reader_slots.ReaderWatch, "look", lambda *_: None)


def _no_slot_check() -> None:
    """Let the slots of readers that died stay taken when all are."""

    class Other(Exception):  # noqa: N818 (it stands for what is never raised)
        pass

    replace(lmdb_env, "lmdb", SimpleNamespace(**{**vars(lmdb), "ReadersFullError": Other}))
    _no_stale_reader_check()


def _long_reads() -> None:
    """Let an iteration over records hold its transaction from beginning to end."""

    def read(
        environment: lmdb_env.Environment, after: int, through: int, *, reverse: bool = False
    ) -> Iterator[Record]:
        positions = range(after + 1, through + 1)
        with environment.read() as txn:
            for position in reversed(positions) if reverse else positions:
                yield log.read_one(txn, position)

    replace(log, "read", read)


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-catch-up": _no_catch_up,
    "stale-writes": _stale_writes,
    "no-lock": _no_lock,
    "fold-before-commit": _fold_before_commit,
    "half-batches": _half_batches,
    "acknowledge-early": _acknowledge_early,
    "no-fork-check": _no_fork_check,
    "no-stale-reader-check": _no_stale_reader_check,
    "no-slot-check": _no_slot_check,
    "long-reads": _long_reads,
}
