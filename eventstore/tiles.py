"""Export a log as files that others can serve and check: the layout of C2SP tlog-tiles.

::

    checkpoint                 the checkpoint, signed if it was
    tile/<level>/<number>      256 hashes of 32 bytes; level 0 has those of the records
    tile/entries/<number>      256 records: length, 2 bytes; the stored bytes

A hash of a level stands for a full tile of the level below. The last tile of a level is partial,
`<number>.p/<width>`, and there is none that is empty. Numbers are written in groups of three
digits, `x001/x234/067`. All is made of the records' bytes, and compared with the checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from eventstore import merkle, notes, store_files
from eventstore.backup import whole_or_absent
from eventstore.errors import PastChangedError, ProofError, StoreUsageError, refused
from eventstore.hashes import TILE_WIDTH
from eventstore.signing import origin_of
from eventstore.store import ImageStore

CHECKPOINT = "checkpoint"
ENTRY_LENGTH_MAX = 65_535
_LENGTH_SIZE = 2


def tile_path(level: int | None, number: int, width: int = TILE_WIDTH) -> str:
    """Return where a tile lies, from the top of the export.

    Args:
        level: of the tile; None for records.
        number: which of its level, from 0.
        width: how much it holds; less than 256 is a partial one.
    """
    text, number = f"{number % 1000:03}", number // 1000
    while number:
        text, number = f"x{number % 1000:03}/{text}", number // 1000
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{'entries' if level is None else level}/{text}{partial}"


def export_tiles(
    store: ImageStore, directory: str | os.PathLike[str], note: notes.Note | None = None
) -> merkle.Checkpoint:
    """Write a log as tiles into a new directory, whole or not at all.

    When this returns, the files are on disk; when it raises, there is nothing of that name.

    Args:
        store: whose log.
        directory: which does not exist yet.
        note: the checkpoint to export up to, as it was signed; an unsigned one of now if not given.

    Returns:
        The checkpoint of what was exported.

    Raises:
        DestinationExistsError: the directory exists, as whatever.
        StoreUsageError: a record is longer than the layout allows, or the directory lies in the
            store itself.
        ProofError: the checkpoint is of another log.
        PastChangedError: the log is not the one that the checkpoint is of.
        CorruptionError: a record is missing or damaged.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    if note is None:
        said = notes.LogCheckpoint(origin_of(store.store_id), store.checkpoint())
        note = notes.Note(said.text)
    else:
        said = notes.parse_checkpoint(note.text)
    checkpoint = said.checkpoint
    if not said.origin.endswith(f"/{store.store_id}") or checkpoint.position > store.position:
        raise ProofError(f"the checkpoint is not one of this log: {said.origin}")
    with whole_or_absent(directory, Path(store.path)) as partial:
        try:
            leaves = list(_write_entries(store, partial, checkpoint.position))
            if _root_of(leaves) != checkpoint.root_hash:
                raise PastChangedError(
                    "the records are not those that the checkpoint speaks for",
                    position=checkpoint.position,
                )
            _write_levels(partial, leaves)
            partial.joinpath(CHECKPOINT).write_bytes(note.encode())
            store_files.sync_tree(partial)
        except OSError as error:
            raise refused(str(directory), error) from error
    return checkpoint


def _write_entries(store: ImageStore, top: Path, size: int) -> Iterator[bytes]:
    """Write the records, bundle after bundle, and iterate over their hashes."""
    number = 0
    bundle: list[bytes] = []
    whole = True
    for position, raw, leaf in store.leaves(size):
        if raw is None:
            whole = False
        elif len(raw) > ENTRY_LENGTH_MAX:
            raise StoreUsageError(
                f"record @{position} has {len(raw)} bytes, and a tile holds none of"
                f" more than {ENTRY_LENGTH_MAX}: this log cannot be exported as tiles"
            )
        else:
            bundle.append(len(raw).to_bytes(_LENGTH_SIZE, "big") + raw)
        yield leaf
        if position % TILE_WIDTH == 0 or position == size:
            if whole:
                _write(top, tile_path(None, number, len(bundle)), b"".join(bundle))
            number, bundle, whole = number + 1, [], True


def _write_levels(top: Path, leaves: list[bytes]) -> None:
    """Write the hashes of the records, and of every full tile below a level."""
    level, row = 0, leaves
    while row:
        above: list[bytes] = []
        for start in range(0, len(row), TILE_WIDTH):
            tile = row[start : start + TILE_WIDTH]
            _write(top, tile_path(level, start // TILE_WIDTH, len(tile)), b"".join(tile))
            if len(tile) == TILE_WIDTH:
                above.append(merkle.pyramid(tile)[-1][0])
        level, row = level + 1, above


def _root_of(leaves: list[bytes]) -> bytes:
    rows = merkle.pyramid(leaves)
    return merkle.root_at(len(leaves), lambda level, index: rows[level][index])


def _write(top: Path, name: str, content: bytes) -> None:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
