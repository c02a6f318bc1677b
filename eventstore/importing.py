"""Take the records of another store over, exactly: what was exported there becomes a log here.

Only a range that goes on where a log ends can be appended to it, and only if both are one log up to
there: the frontier of the export must give the very root hash that this store has. So a store can
be carried on elsewhere, range by range, and remains provable to whoever kept a checkpoint of it. A
new store has an id of its own and says of which one it holds the records, as after `restore`. Where
the log was compacted in the range, it is compacted here as well: what comes after leans on that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import dropwhile
from pathlib import Path

from msgspec import Struct

from eventstore import clock, exporting, meta, store_files
from eventstore.backup import refuse_taken, whole_or_absent
from eventstore.errors import ProofError
from eventstore.events import Compacted, Record
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.lmdb_env import Environment
from eventstore.merkle import Checkpoint
from eventstore.progress import Progress, counted
from eventstore.store import ImageStore

_COUNT_MAX, _SIZE_MAX = 1_024, CONFIG_SIZE_MAX
Line = tuple[Record, bytes | None]


class Imported(Struct, frozen=True):
    """What an import did.

    Attributes:
        store_id: the id of the store that the records come from, as the export says.
        appended: how many records were appended.
        checkpoint: that of the log now.
        configs_missing: how many images of the export have no config in it.
    """

    store_id: str
    appended: int
    checkpoint: Checkpoint
    configs_missing: int


def import_records(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    known: Checkpoint | None = None,
    now: clock.Clock = clock.system_clock,
    progress: Progress | None = None,
) -> Imported:
    """Append an export to the store that it goes on from, or make a new store of it.

    All of it is checked before anything is appended. A new store appears whole or not at all. An
    old one that is left half-way, by a kill, is sound, and the same import goes on from there.

    Args:
        source: the folder that `export_records` wrote.
        destination: a store whose log ends within the range, or just before it; or, for a range
            from the first record, a directory that does not exist yet.
        known: a checkpoint of the log that the records must be of.
        now: gives the time that a new store is made at.
        progress: is told of how many records are checked, and then of how many are appended.

    Raises:
        ProofError: the export was changed, is of another log, or does not go on from this one.
        StoreUsageError: the destination is no place for a store.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
        CorruptionError: a record says what cannot have happened.
    """
    found = exporting.check_export(source, known=known, progress=progress)
    target = store_files.located(destination)
    if store_files.is_there(target):
        with ImageStore.open(target, create=False, now=now) as store:
            return _append(store, source, found, progress)
    if found.before.position:
        raise ProofError(
            f"the export starts behind @{found.before.position}: there is no store at {target} to"
            " go on from"
        )
    refuse_taken(target)
    fork = meta.Fork(found.store_id, found.checkpoint.position)
    with whole_or_absent(target, Path(source)) as partial:
        Environment(partial, initialise=meta.founding(now, fork)).close()
        with ImageStore.open(partial, create=False, now=now) as store:
            imported = _append(store, source, found, progress)
        partial.joinpath(store_files.LOCK).unlink()
    return imported


def _append(
    store: ImageStore,
    source: str | os.PathLike[str],
    found: exporting.Export,
    progress: Progress | None,
) -> Imported:
    """Append what the store has not yet, in batches of bounded size.

    Raises:
        ProofError: the log here and that of the export are not one.
    """
    start = store.position
    if not found.before.position <= start <= found.checkpoint.position:
        raise ProofError(
            f"the store ends at @{start}, the export goes from @{found.before.position + 1} to"
            f" @{found.checkpoint.position}: it does not go on from there"
        )
    if not _is_of(store.checkpoint(), source):
        raise ProofError(f"the store and the export are not one log up to @{start}")
    for record in store.records(after=start - 1, through=start):
        _compact_alike(store, record)  # which an import that was killed may have left undone
    rest = dropwhile(lambda line: line[0].position <= start, exporting.read_export(source))
    for part in _parts(counted(rest, progress, found.checkpoint.position - start)):
        store.append_exact(part)
        _compact_alike(store, part[-1][0])
    if store.checkpoint() != found.checkpoint:
        raise ProofError(f"{os.fspath(source)} was changed while it was imported")
    return Imported(found.store_id, store.position - start, found.checkpoint, found.configs_missing)


def _compact_alike(store: ImageStore, record: Record) -> None:
    """Drop what a record says was dropped, if it says so."""
    if isinstance(record.event, Compacted):
        store.compact_as_recorded(record)


def _is_of(checkpoint: Checkpoint, source: str | os.PathLike[str]) -> bool:
    """Tell whether a checkpoint is of the log that an export is of."""
    try:
        exporting.check_export(source, known=checkpoint)
    except ProofError:
        return False
    return True


def _parts(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Cut records into parts of bounded number and size, behind each compaction too."""
    part: list[Line] = []
    size = 0
    for record, config in lines:
        part.append((record, config))
        size += len(config or b"")
        is_full = len(part) == _COUNT_MAX or size >= _SIZE_MAX
        if is_full or isinstance(record.event, Compacted):
            yield part
            part, size = [], 0
    if part:
        yield part
