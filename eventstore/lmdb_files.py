"""Make LMDB's data file, and have LMDB open a store's files, with every option that matters said.

With `lmdb_env`, `lmdb_transaction` and `lmdb_structure` the only module that imports `lmdb`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb

from eventstore.lmdb_transaction import READERS_MAX, Transaction

_LMDB_MAJOR = 0  # not what a variable of the process says, nor what a file asks for


def fill(
    file: Path, path: Path, databases: Sequence[str], initialise: Callable[[Transaction], None]
) -> None:
    """Make a data file and write what every store holds.

    Args:
        file: the file.
        path: the directory of the store that it will be of.
        databases: the names of its databases; the last is LMDB's own list of them.
        initialise: writes what a new store says of itself.
    """
    *named, main = databases
    env = lmdb.open(
        os.fsencode(file),
        subdir=False,
        lock=False,
        mode=0o600,
        max_dbs=len(named),
        lib_version=_LMDB_MAJOR,
    )
    with env, env.begin(write=True) as txn:
        handles = {name: env.open_db(name.encode(), txn=txn) for name in named}
        handles[main] = env.open_db(txn=txn)
        initialise(Transaction(path, txn, handles))


def opened(path: Path, map_size: int, *, read_only: bool, databases: int) -> Any:
    """Return LMDB's environment of the files in a directory; its commits are on disk.

    Args:
        path: the directory.
        map_size: bytes of address space to reserve.
        read_only: never write.
        databases: how many there are, at least.
    """
    return lmdb.open(
        os.fsencode(path),
        map_size=map_size,
        readonly=read_only,
        create=False,
        mode=0o600,
        metasync=True,
        sync=True,
        writemap=False,
        max_dbs=databases + 8,
        max_readers=READERS_MAX,
        lib_version=_LMDB_MAJOR,
    )
