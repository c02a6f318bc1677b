"""Hold proofs to whoever bends them, and to a verifier that is not ours."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as ForeignCheckpoint
from tlog_scales.tlog import InclusionProof

from eventstore import Checkpoint, ProofError, leaf_hash, merkle, notes, proof_file

KEY = notes.SigningKey("log.example", bytes(range(32)))
ENTRIES = [b"record %d" % number for number in range(1025)]
ROWS = merkle.pyramid([leaf_hash(entry) for entry in ENTRIES])


def subtree(level: int, index: int) -> bytes:
    """Return a node of the tree over the entries."""
    return ROWS[level][index]


def made(position: int, size: int) -> proof_file.ProofFile:
    """Return the proof of an entry in a log of a size."""
    said = notes.LogCheckpoint("eventstore/x", Checkpoint(size, merkle.root_at(size, subtree)))
    path = tuple(merkle.inclusion_path(position - 1, size, subtree))
    note = notes.signed(notes.Note(said.text), KEY)
    return proof_file.ProofFile(position, path, note, ENTRIES[position - 1])


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    """Header, record, index, path, checkpoint and signature: each bit counts."""
    raw = made(3, 7).encode()
    proof_file.check(proof_file.parse(raw), keys=[KEY.verifier])
    for at in range(len(raw) * 8):
        wrong = bytearray(raw)
        wrong[at // 8] ^= 1 << at % 8
        with pytest.raises(ProofError):
            proof_file.check(proof_file.parse(bytes(wrong)), keys=[KEY.verifier])


def test_every_cut_of_a_proof_is_refused() -> None:
    """A file that was not copied whole is not half a proof."""
    raw = made(3, 7).encode()
    for end in range(len(raw)):
        with pytest.raises(ProofError):
            proof_file.check(proof_file.parse(raw[:end]), keys=[KEY.verifier])


@pytest.mark.parametrize("size", [*range(1, 20), 255, 256, 257, 511, 512, 513, 1024, 1025])
def test_a_foreign_verifier_agrees(size: int) -> None:
    """Checkpoint, signature and inclusion, as `tlog-scales` reads them."""
    for position in {1, size // 2 + 1, size}:
        proof = proof_file.parse(made(position, size).encode())
        assert proof_file.check(proof, keys=[KEY.verifier])
        foreign = ForeignCheckpoint.from_text(proof.note.encode().decode())
        foreign.verify(Vkey.from_string(KEY.verifier.text))
        assert foreign.size == size
        inclusion = InclusionProof(position - 1, size, list(proof.path))
        inclusion.check(leaf_hash(ENTRIES[position - 1]), foreign.root_hash)


def test_a_proof_reads_back() -> None:
    """With and without the record."""
    for extra in (None, b"", b"record 3"):
        proof = proof_file.ProofFile(3, made(3, 7).path, made(3, 7).note, extra)
        assert proof_file.parse(proof.encode()) == proof


def test_a_proof_of_another_record_is_refused() -> None:
    """The record counts, wherever it comes from."""
    proof = made(3, 7)
    proof_file.check(proof, ENTRIES[2], keys=[KEY.verifier])
    with pytest.raises(ProofError, match="not the one at @3"):
        proof_file.check(proof, ENTRIES[3], keys=[KEY.verifier])
    bare = proof_file.ProofFile(3, proof.path, proof.note)
    with pytest.raises(ProofError, match="does not hold the record"):
        proof_file.check(bare, keys=[KEY.verifier])


def test_a_proof_counts_only_for_a_checkpoint_that_is_trusted() -> None:
    """By a signature, or because it is known."""
    proof = made(3, 7)
    with pytest.raises(ProofError, match="not signed"):
        proof_file.check(proof)
    assert proof_file.check(proof, trusted=proof.log.checkpoint) == ()
    with pytest.raises(ProofError, match="another checkpoint"):
        proof_file.check(proof, trusted=made(3, 8).log.checkpoint, keys=[KEY.verifier])
    unsigned = proof_file.ProofFile(3, proof.path, notes.Note(proof.note.text), proof.extra)
    assert proof_file.check(proof_file.parse(unsigned.encode()), trusted=proof.log.checkpoint) == ()
    with pytest.raises(ProofError, match="not signed"):
        proof_file.check(unsigned, keys=[KEY.verifier])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 2", "index 02"),
        ("index 2", "index -2"),
        ("index 2\n", ""),
        ("extra ", "extra  "),
        ("index 2\n", "index 2\nAAAA\n"),
        ("index 2\n", "index 2\n" + ("A" * 43 + "=\n") * 64),
        ("\n\neventstore", "\neventstore"),
        ("eventstore/x\n7\n", "eventstore/x\n"),
    ],
)
def test_what_is_no_proof_is_refused(old: str, new: str) -> None:
    """With an error of ours."""
    raw = made(3, 7).encode().decode()
    assert old in raw
    with pytest.raises(ProofError):
        proof_file.parse(raw.replace(old, new, 1).encode())


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 60))
def test_whatever_is_read_ends_in_an_error_of_ours(junk: bytes, at: int, cut: int) -> None:
    """Proofs, notes and keys come from anywhere."""
    raw = made(3, 7).encode()
    for given_bytes in (junk, raw[:at] + junk + raw[at + cut :]):
        with suppress(ProofError):
            proof_file.parse(given_bytes)
        with suppress(ProofError):
            notes.parse_note(given_bytes)
        with suppress(ProofError):
            notes.parse_verifier_key(given_bytes.decode("utf-8", "surrogateescape"))
