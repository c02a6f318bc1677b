"""Write, read and check a proof that a record is in a log, for whoever has no store.

The form is C2SP's tlog-proof; the entry itself may stand in the line `extra`::

    c2sp.org/tlog-proof@v1
    extra lkTPF4…              base64, optional: the record's stored bytes
    index 69                   its position, less one
    4ZxuJ2j9…=                 the path of hashes from the record up to the root, one a line

    eventstore/6a4…            the checkpoint, as its log signed it
    …

Nothing in it is trusted before it is checked. The path leads from the record to the root hash, and
the root hash counts if a key that is trusted has signed it, or if it is known otherwise. So `extra`
counts, too, if it is what the path starts from.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from eventstore import notes
from eventstore.errors import ProofError
from eventstore.merkle import Checkpoint, leaf_hash, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
PATH_LENGTH_MAX = 63
_EXTRA, _INDEX = "extra ", "index "


class ProofFile(Struct, frozen=True):
    """A proof as it is stored; nothing of it is checked but its form.

    Attributes:
        position: where the record is said to lie, from 1.
        path: the hashes from its sibling up.
        note: the checkpoint, with its signatures.
        extra: further bytes; where we write a proof, those of the record.
    """

    position: int
    path: tuple[bytes, ...]
    note: notes.Note
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the bytes of the file; `parse` is the inverse."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + notes.encode_base64(self.extra))
        lines.append(f"{_INDEX}{self.position - 1}")
        lines.extend(map(notes.encode_base64, self.path))
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note.encode()

    @property
    def log(self) -> notes.LogCheckpoint:
        """Return what its checkpoint says.

        Raises:
            ProofError: it is none.
        """
        return notes.parse_checkpoint(self.note.text)


def parse(raw: bytes) -> ProofFile:
    """Return a proof, of which nothing is checked but its form; the inverse of `encode`.

    Raises:
        ProofError: it has not the form of a proof.
    """
    head, empty, below = notes.parse_text(raw).partition("\n\n")
    lines = head.split("\n")
    if not empty or lines.pop(0) != HEADER:
        raise ProofError(f"it is no proof: one starts with {HEADER}, and has a checkpoint")
    extra = None
    if lines and lines[0].startswith(_EXTRA):
        extra = notes.decode_base64(lines.pop(0).removeprefix(_EXTRA), "the extra data")
    if not lines or not lines[0].startswith(_INDEX):
        raise ProofError("the proof does not say which record it is about")
    index = notes.decode_number(lines.pop(0).removeprefix(_INDEX), "the index")
    if len(lines) > PATH_LENGTH_MAX:
        raise ProofError(f"the path has more than {PATH_LENGTH_MAX} hashes")
    path = tuple(notes.decode_hash(line, "a hash of the path") for line in lines)
    proof = ProofFile(index + 1, path, notes.parse_note(below.encode()), extra)
    notes.parse_checkpoint(proof.note.text)
    return proof


def check(
    proof: ProofFile,
    entry: bytes | None = None,
    *,
    keys: Iterable[notes.VerifierKey] = (),
    trusted: Checkpoint | None = None,
) -> tuple[notes.Verified, ...]:
    """Make sure that a record lies in a log where the proof says.

    Args:
        proof: what to check.
        entry: the record's stored bytes; those in the proof if not given.
        keys: by one of which at least the checkpoint must be signed, unless `trusted` is given.
        trusted: a checkpoint that is known otherwise; that of the proof must be the same.

    Returns:
        The signatures that were checked.

    Raises:
        ProofError: it proves nothing; the message says why.
        StoreUsageError: `cryptography` is not installed.
    """
    known = tuple(keys)
    checkpoint = proof.log.checkpoint
    if trusted is not None and trusted != checkpoint:
        raise ProofError("the proof is for another checkpoint than the one that is trusted")
    verified = notes.verify(proof.note, known) if known or trusted is None else ()
    entry = proof.extra if entry is None else entry
    if entry is None:
        raise ProofError("the proof does not hold the record: give it")
    if not verify_inclusion(checkpoint, proof.position, leaf_hash(entry), proof.path):
        raise ProofError(
            f"the record is not the one at @{proof.position} of the log of this checkpoint"
        )
    return verified
