"""Weaken backup and restore, so that `backups.py` can show that it would notice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventstore import backup, log, meta, store_files
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction

# `eventstore.restore` is the function; the module of that name is asked for by its own.
from eventstore.restore import restore as _restore

_RESTORE_NAMES: dict[str, Any] = _restore.__globals__


def _without_rename() -> None:
    """Fill the folder that has the final name."""

    @contextmanager
    def straight(destination: str | os.PathLike[str], source: Path) -> Generator[Path]:
        target = store_files.located(destination)
        backup.refuse_taken(target)
        target.mkdir(parents=True, mode=0o700)
        try:
            yield target
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    backup.whole_or_absent = straight
    _RESTORE_NAMES["whole_or_absent"] = straight


def _with_overwriting() -> None:
    """Ask nobody whether the destination is there."""

    def accept(target: Path) -> None:
        pass

    backup.refuse_taken = accept
    _RESTORE_NAMES["refuse_taken"] = accept


def _change_nothing(txn: Transaction) -> None:
    pass


def _with_same_id() -> None:
    """Leave the restored store the id that it was copied with."""
    real = meta.founding

    def founding(
        now: Callable[[], int], fork: meta.Fork | None = None, before: Sequence[meta.Fork] = ()
    ) -> Callable[[Transaction], None]:
        return real(now) if fork is None else _change_nothing

    meta.founding = founding


def _without_verify() -> None:
    """Restore whatever there is."""

    def refuse_nothing(*_: object) -> None:
        pass

    _RESTORE_NAMES["_refuse_damaged"] = refuse_nothing


def _with_plain_copy() -> None:
    """Copy the file as it lies there, as `cp` would."""

    def plain(environment: Environment, folder: Path) -> int:
        with environment.read() as txn:
            position = log.last_position(txn)
        data = environment.path.joinpath(store_files.DATA)
        with data.open("rb") as source, folder.joinpath(data.name).open("wb") as copy:
            while piece := source.read(1 << 16):
                copy.write(piece)
                time.sleep(0.005)  # a file that is not small is not read at once
        folder.joinpath(data.name).chmod(0o600)
        return position

    backup.copy_newest = plain
    _RESTORE_NAMES["copy_newest"] = plain


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-rename": _without_rename,
    "no-verify": _without_verify,
    "overwrite": _with_overwriting,
    "plain-copy": _with_plain_copy,
    "same-id": _with_same_id,
}
