"""Weaken how a store is opened, so that `opening.py` can show that it would notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import lmdb

from eventstore import lmdb_env, meta, store_files
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction


def _without_format_check() -> None:
    """Take every store for one of this format."""

    def unchecked(txn: Transaction) -> meta.Identity:
        return meta.Identity((txn.get("meta", b"store_id") or b"").decode("ascii", "replace"), 0)

    meta.read_in = unchecked


class _Forgetful(dict[tuple[int, int], Any]):
    """A registry in which nothing is ever found."""

    def get(self, key: tuple[int, int], default: Any = None) -> Any:
        return default


def _without_registry() -> None:
    """Do not know which stores this process has open."""
    store_files._open_files = _Forgetful()


class _Taking:
    """An environment that makes the databases that are missing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._environment = lmdb.Environment(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._environment.close()

    def open_db(self, *arguments: Any, **options: Any) -> Any:
        return self._environment.open_db(*arguments, **{**options, "create": True})


def _taking_over() -> None:
    """Make the databases that are missing."""
    lmdb.open = _Taking  # type: ignore[assignment]


def _without_whole_first() -> None:
    """Make the data file under its own name, and then what belongs into it."""

    def make(environment: Environment, initialise: Callable[[Transaction], None]) -> None:
        if environment.path.joinpath(store_files.DATA).exists():
            return
        with lmdb.open(str(environment.path), max_dbs=8, mode=0o600) as env:
            handles = {name: env.open_db(name.encode()) for name in lmdb_env.DATABASES}
            with env.begin(write=True) as txn:
                initialise(Transaction(environment.path, txn, handles))

    Environment._make = make  # type: ignore[assignment, method-assign]


def _without_look() -> None:
    """Hand LMDB whatever has the name of a data file or a lock file."""

    def accept(path: Path) -> None:
        pass

    store_files._refuse_strange = accept


def _without_loss_check() -> None:
    """Do not ask whether the files that are written to still have their names."""

    def accept(names: store_files.Names) -> None:
        pass

    store_files.Names.refuse_lost = accept  # type: ignore[assignment, method-assign]


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-format-check": _without_format_check,
    "no-look": _without_look,
    "no-loss-check": _without_loss_check,
    "no-registry": _without_registry,
    "no-whole-first": _without_whole_first,
    "take-over-foreign": _taking_over,
}
