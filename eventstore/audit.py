"""Show whether a log still holds what it held when a checkpoint was taken of it.

A checksum says that a record is what was stored. It does not say who stored it: whoever can write
to the files can make it right again. A root hash that was kept elsewhere cannot be made right. So
all records up to it are read and hashed anew here; no hash that the store keeps is believed, and
nothing is asked of the records but their bytes.
"""

from __future__ import annotations

import os
from contextlib import closing

from eventstore import hashes, log, merkle, meta, notes
from eventstore.errors import PastChangedError, ProofError
from eventstore.lmdb_env import Environment
from eventstore.merkle import Checkpoint
from eventstore.progress import Progress, counted
from eventstore.store_files import located


def audit(
    path: str | os.PathLike[str], since: notes.LogCheckpoint, *, progress: Progress | None = None
) -> Checkpoint:
    """Make sure that a log holds, unchanged, all that an earlier checkpoint speaks for.

    Whether the checkpoint is signed, and by whom, is the caller's to check before (`notes.verify`).
    Costs one reading of the log, and writes nothing.

    Args:
        path: the store's directory.
        since: the earlier checkpoint.
        progress: is told of how many records are hashed.

    Returns:
        The checkpoint of the log as it is now.

    Raises:
        PastChangedError: the log was changed.
        ProofError: the checkpoint is of another log.
        CorruptionError: a record is missing or damaged.
        StoreNotFoundError: there is no store.
        StoreInUseError: it is open in this process.
    """
    with closing(Environment(located(path), read_only=True)) as environment:
        _refuse_other_log(meta.read(environment), since)
        with environment.read() as txn:
            last = log.last_position(txn)
        return audit_records(environment, since.checkpoint, last, progress)


def audit_records(
    environment: Environment, old: Checkpoint, last: int, progress: Progress | None = None
) -> Checkpoint:
    """Do so for an open environment, whose log ends at `last`.

    Raises:
        PastChangedError: the log was changed.
        CorruptionError: a record is missing.
    """
    if old.position > last:
        raise PastChangedError(
            f"records were dropped: the checkpoint is at @{old.position}, and the log ends at"
            f" @{last}",
            position=old.position,
        )
    entries = counted(hashes.leaves(environment, last), progress, last)
    leaves = [leaf for _, _, leaf in entries]
    then = merkle.Checkpoint(old.position, _root(leaves[: old.position]))
    if then != old:
        raise PastChangedError(
            f"the past was changed: the records up to @{old.position} are not those of the"
            " checkpoint",
            position=old.position,
        )
    now = merkle.Checkpoint(last, _root(leaves))
    tree = hashes.Tree(environment, last)
    kept = merkle.Checkpoint(last, merkle.root_at(last, tree.subtree))
    proof = merkle.consistency_path(old.position, last, tree.subtree)
    if kept != now or not merkle.verify_consistency(old, now, proof):
        raise PastChangedError(
            "the hashes that the store keeps are not those of its records, so its proofs are"
            " not to be believed",
            position=old.position,
        )
    return now


def _root(leaves: list[bytes]) -> bytes:
    rows = merkle.pyramid(leaves)
    return merkle.root_at(len(leaves), lambda level, index: rows[level][index])


def _refuse_other_log(identity: meta.Identity, since: notes.LogCheckpoint) -> None:
    """Refuse a checkpoint that says nothing of this log.

    A copy holds the records of the store it comes from, up to where it forked.

    Raises:
        ProofError: it says nothing.
    """
    store_id = since.origin.rpartition("/")[2]
    if store_id == identity.store_id:
        return
    for fork in identity.forks:
        if fork.store_id == store_id:
            if since.checkpoint.position <= fork.position:
                return
            raise ProofError(
                f"the checkpoint is of {store_id} at @{since.checkpoint.position}, which this"
                f" store forked from at @{fork.position}: later records are not in it"
            )
    raise ProofError(f"the checkpoint is of another log: {since.origin}")
