"""Prove what an open store holds, to those who do not trust it.

A checkpoint says how long the log is and what it hashes to. Who has kept one needs no store to
check, with the functions of `merkle`, that a record is where it is said to be, and that nothing
before a checkpoint was edited, dropped, swapped or inserted since. Pending records of a transaction
are no part of the log: only what is committed is proved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from eventstore import configs, hashes, merkle, verify
from eventstore.backup import copy_environment
from eventstore.errors import StoreUsageError
from eventstore.problems import Problem
from eventstore.story import StoryReader
from eventstore.tracing import traced, traced_steps


class StoreProver(StoryReader):
    """What can be proved of an open store."""

    def checkpoint(self, position: int | None = None) -> merkle.Checkpoint:
        """Return what an outsider keeps, to be sure later that the past was not changed.

        It speaks for every byte of every record up to the position. Sign it, or give it to others,
        so that it counts (`signing`). Costs as much as a proof.

        Args:
            position: of which log, the present one if not given.

        Raises:
            StoreUsageError: the log has no such position.
            CorruptionError: a record is missing or damaged.
        """
        size = self._committed() if position is None else self._checked(position)
        tree = hashes.Tree(self._environment, size)
        return merkle.Checkpoint(size, merkle.root_at(size, tree.subtree))

    def inclusion_proof(self, position: int, at: int | None = None) -> list[bytes]:
        """Return the proof that a record lies at a position; `verify_inclusion` checks it.

        Reads at most 511 records, whatever the length of the log, and some hundred stored hashes
        for every factor of 256 in it.

        Args:
            position: of the record.
            at: of which checkpoint, the present one if not given.

        Raises:
            StoreUsageError: there is no such record below the checkpoint, or no such checkpoint.
            CorruptionError: a record is missing or damaged.

        Source: RFC 9162, section 2.1.3.1.
        """
        size = self._committed() if at is None else self._checked(at)
        if not 0 < self._checked(position) <= size:
            raise StoreUsageError(f"the log up to {size} holds no record {position}")
        return merkle.inclusion_path(
            position - 1, size, hashes.Tree(self._environment, size).subtree
        )

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the log only grew between two positions.

        `verify_consistency` checks it, against two checkpoints. Costs as `inclusion_proof`.

        Args:
            old: the earlier position.
            new: the later one, the present one if not given.

        Raises:
            StoreUsageError: the log has no such position, or the earlier one is the greater.
            CorruptionError: a record is missing or damaged.

        Source: RFC 9162, section 2.1.4.1.
        """
        size = self._committed() if new is None else self._checked(new)
        if self._checked(old) > size:
            raise StoreUsageError(f"{old} is later than {size}")
        return merkle.consistency_path(old, size, hashes.Tree(self._environment, size).subtree)

    def leaf_hash(self, position: int) -> bytes:
        """Return the hash that stands for the record at a position in the tree.

        Raises:
            StoreUsageError: the log has no such record.
            CorruptionError: it is missing or damaged.
        """
        if not self._checked(position):
            raise StoreUsageError("positions of records start at 1")
        tree = hashes.Tree(self._environment, position)
        return tree.subtree(0, position - 1)

    def leaves(self, through: int | None = None) -> Iterator[tuple[int, bytes | None, bytes]]:
        """Iterate over all positions, each with the bytes of its record and its leaf hash.

        The bytes are None where a compaction dropped the record.

        Args:
            through: inclusive upper bound, the last position now if not given.

        Raises:
            StoreUsageError: the log has no such position.
            CorruptionError: a record is missing.
        """
        last = self._committed() if through is None else self._checked(through)
        return hashes.leaves(self._environment, last)

    def frontier(self, position: int) -> merkle.Frontier:
        """Return the left edge of the log at a position, from which its root can be hashed on.

        Raises:
            StoreUsageError: the log has no such position.
            CorruptionError: a record is missing or damaged.
        """
        size = self._checked(position)
        return merkle.Frontier.at(size, hashes.Tree(self._environment, size).subtree)

    def is_config_gone(self, image: bytes) -> bool:
        """Tell whether the config under a digest is known to be lost, or redacted.

        A look, and no check of its bytes: that it is there says nothing of them.
        """
        with self._environment.read() as txn:
            return configs.is_gone(txn, image)

    def stored_config(self, image: bytes) -> bytes | None:
        """Return the config under a digest, also of an image that is gone.

        None if it was lost, or redacted.

        Raises:
            CorruptionError: its bytes are not those that were stored.
        """
        with self._environment.read() as txn:
            return None if configs.is_gone(txn, image) else configs.get(txn, image)

    def verify(self) -> Iterator[Problem]:
        """Derive everything again from the log and yield what does not agree."""
        return traced_steps("verify", verify.verify(self._environment))

    @traced("backup")
    def backup(self, destination: str | os.PathLike[str]) -> int:
        """Write a consistent copy into a new directory, while writers go on; return its position.

        It has this store's id. Read it as it is; to write to it, `restore` makes a store of it.

        Raises:
            DestinationExistsError: the destination exists.
            StoreUsageError: it is no path, or lies in the store itself.
            StoreFullError: there is no room for it.
        """
        return copy_environment(self._environment, destination)
