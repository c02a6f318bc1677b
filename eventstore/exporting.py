"""Write a range of the log for other programs, with the proof that it is that range and no other.

A folder comes into being, whole or not at all::

    records.jsonl   a line of JSON for each record, see record_lines; or
    events.jsonl    a line of JSON for each record, a CloudEvent 1.0
    proof.json      {"format": 1, "store_id": …, "after": …, "frontier": [hashes before the range],
                    "through": …, "root_hash": the root of the log up to the end of the range}

Who has the folder can derive from the frontier and the records, with no store, the checkpoint
before the range and that at its end. If the later one is known from elsewhere, every byte of every
record is proved. The configs of images that the range creates are in its lines; where one was
erased or lost, its line has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from eventstore.backup import whole_or_absent
from eventstore.errors import (
    CompactedError,
    CorruptionError,
    ProofError,
    StoreUsageError,
    refused,
)
from eventstore.events import Created, Record
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.merkle import Checkpoint, Frontier, leaf_hash
from eventstore.progress import Progress, counted
from eventstore.proofs import StoreProver
from eventstore.record_lines import as_cloud_event, as_json, parse

FORMAT = 1
PROOF = "proof.json"
FILES = {"jsonl": "records.jsonl", "cloudevents": "events.jsonl"}
LINE_SIZE_MAX = 2 * CONFIG_SIZE_MAX
_PROOF_SIZE_MAX = 65_536


class ExportProof(Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in `proof.json`.

    Attributes:
        format: of the folder.
        store_id: the id of the store that it is of.
        after: the position before the range.
        frontier: the hashes over the whole powers of two before it, in hex.
        through: the last position of the range.
        root_hash: the root of the log up to there, in hex.
    """

    format: int
    store_id: str
    after: int
    frontier: list[str]
    through: int
    root_hash: str


class Export(Struct, frozen=True):
    """What an export holds, once it has been checked.

    Attributes:
        store_id: the id of the store that it says it is of; nothing proves that.
        before: the checkpoint before its range.
        checkpoint: the checkpoint at its end.
        configs_missing: how many configs of images that it creates are not in it.
    """

    store_id: str
    before: Checkpoint
    checkpoint: Checkpoint
    configs_missing: int


def export_records(
    store: StoreProver,
    destination: str | os.PathLike[str],
    *,
    after: int = 0,
    through: int | None = None,
    form: str = "jsonl",
    progress: Progress | None = None,
) -> Checkpoint:
    """Write the records in (after, through] into a new folder; return the checkpoint at its end.

    Args:
        store: whose records.
        destination: a directory that does not exist yet.
        after: exclusive lower bound.
        through: inclusive upper bound, the last position now if not given.
        form: `jsonl` or `cloudevents`.
        progress: is told of how many records are written.

    Raises:
        StoreUsageError: there is no such range or form, or the destination is no place for it.
        CompactedError: records of the range were dropped.
        DestinationExistsError: the destination exists.
        CorruptionError: a record is missing or damaged.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    if form not in FILES:
        raise StoreUsageError(f"{form!r} is no form of an export: {', '.join(FILES)}")
    checkpoint = store.checkpoint(through)
    if after > checkpoint.position:
        raise StoreUsageError(f"{after} is later than {checkpoint.position}")
    edge = store.frontier(after)
    compacted = store.horizon
    if after < compacted.through:
        raise CompactedError(after + 1, compacted.through)
    proof = ExportProof(
        FORMAT,
        store.store_id,
        after,
        [found.hex() for found in edge.hashes],
        checkpoint.position,
        checkpoint.root_hash.hex(),
    )
    with whole_or_absent(destination, Path(store.path)) as folder:
        with folder.joinpath(FILES[form]).open("xb") as file:
            last = after
            try:
                records = store.records(after=after, through=checkpoint.position)
                for record in counted(records, progress, checkpoint.position - after):
                    last += 1
                    if record.position != last:
                        raise CompactedError(last, store.horizon.through)
                    file.write(msgspec.json.encode(_line(store, record, form)) + b"\n")
            except CorruptionError as error:
                if after < store.horizon.through:  # a config was dropped meanwhile
                    raise CompactedError(after + 1, store.horizon.through) from error
                raise
            if last != checkpoint.position:
                raise CompactedError(last + 1, store.horizon.through)
        folder.joinpath(PROOF).write_bytes(msgspec.json.format(msgspec.json.encode(proof)) + b"\n")
    return checkpoint


def _line(store: StoreProver, record: Record, form: str) -> dict[str, Any]:
    config = store.stored_config(record.event.digest) if isinstance(record.event, Created) else None
    if form == "jsonl":
        return as_json(record, config)
    return as_cloud_event(record, store.store_id, config)


def check_export(
    source: str | os.PathLike[str],
    *,
    known: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Export:
    """Check a folder that `export_records` wrote, with no store.

    Args:
        source: the folder.
        known: a checkpoint of the store, kept or obtained elsewhere, before or at the end of the
            range or within it; without one, nothing proves that such a store exists.
        progress: is told of how many records are checked.

    Raises:
        ProofError: something in it was changed, or it is not of the log of that checkpoint.
        StoreIOError: it cannot be read.
    """
    proof = read_proof(source)
    edge = frontier_of(proof)
    before, missing = edge.checkpoint(), 0
    matched = known is None or known == before
    for record, config in counted(read_export(source), progress, proof.through - proof.after):
        if record.position != edge.position + 1:
            raise ProofError(f"record {record.position} stands where {edge.position + 1} should")
        edge.add(leaf_hash(record.raw))
        missing += isinstance(record.event, Created) and config is None
        if known is not None and known.position == edge.position:
            matched = known == edge.checkpoint()
    checkpoint = edge.checkpoint()
    if (checkpoint.position, checkpoint.root_hash.hex()) != (proof.through, proof.root_hash):
        raise ProofError(f"the records do not lead to the root hash of {PROOF}")
    if not matched:
        raise ProofError("the records are not of the log that the checkpoint is of")
    return Export(proof.store_id, before, checkpoint, missing)


def read_proof(source: str | os.PathLike[str]) -> ExportProof:
    """Return what `proof.json` of an export says.

    Raises:
        ProofError: it is no such file.
        StoreIOError: it cannot be read.
    """
    path = Path(source, PROOF)
    try:
        with path.open("rb") as file:
            content = file.read(_PROOF_SIZE_MAX)
        proof = msgspec.json.decode(content, type=ExportProof)
    except OSError as error:
        raise refused(str(path), error) from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProofError(f"{path}: no proof of an export: {error}") from error
    if proof.format != FORMAT:
        raise ProofError(f"{path}: of format {proof.format}; this version reads {FORMAT}")
    return proof


def frontier_of(proof: ExportProof) -> Frontier:
    """Return the edge of the log before the range of an export.

    Raises:
        ProofError: it is none.
    """
    try:
        return Frontier(proof.after, [bytes.fromhex(found) for found in proof.frontier])
    except ValueError as error:
        raise ProofError(f"{PROOF}: {error}") from error


def read_export(source: str | os.PathLike[str]) -> Iterator[tuple[Record, bytes | None]]:
    """Iterate over the records of an export, and the configs of those that create an image.

    Raises:
        ProofError: a line is not what an export has.
        StoreIOError: it cannot be read.
    """
    path = next(
        (Path(source, name) for name in FILES.values() if Path(source, name).exists()), None
    )
    if path is None:
        raise ProofError(f"{os.fspath(source)} holds neither {' nor '.join(FILES.values())}")
    try:
        with path.open("rb") as file:
            lines = iter(partial(file.readline, LINE_SIZE_MAX), b"")
            for number, line in enumerate(lines, 1):
                yield parse(line, number)
    except OSError as error:
        raise refused(str(path), error) from error
