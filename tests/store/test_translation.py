"""Let LMDB refuse in the middle of a write: what comes out is an error of ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb
import pytest

from eventstore import EventStoreError, ImageStore, configs, log
from eventstore.lmdb_transaction import Transaction, ours


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_path_is_named_once(tmp_path: Path, code: int) -> None:
    """LMDB names it too, where it opens files."""
    said = os.strerror(code)
    error = ours(tmp_path, lmdb.Error(f"{tmp_path}: {said}"))
    assert str(error) == f"{tmp_path}: {said}"


@pytest.mark.parametrize(
    "work",
    [
        log.last_position,
        lambda txn: configs.put(txn, bytes(32), b"{}"),
        lambda txn: list(txn.scan("log")),
        lambda txn: txn.append("log", b"key", b"value"),
    ],
)
def test_what_lmdb_refuses_in_a_write_is_said_in_our_words(store_path: Path, work: object) -> None:
    """Reads of a write transaction, too, are translated."""
    with ImageStore.open(store_path) as store:
        session = store._environment.begin_write()

        def on_a_dead_transaction(txn: Transaction) -> object:
            txn._txn.abort()  # as LMDB leaves it after some errors
            assert callable(work)
            return work(txn)

        with pytest.raises(EventStoreError):
            session.run(on_a_dead_transaction)
        session.abort()
        assert store.position == 0
