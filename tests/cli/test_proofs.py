"""The commands that prove, and an auditor who catches whoever edits the past."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey

from cli_types import Command
from eventstore import ImageStore, codec, hashes, notes, restore
from eventstore.merkle import leaf_hash
from eventstore.proof_file import parse
from making import config, id_of

Log = dict[int, bytes]
A, B, C = (id_of(config(name)) for name in "abc")


class Ground:
    """A store of 600 records, a key, and a signed checkpoint of the first 300."""

    def __init__(self, folder: Path, command: Command) -> None:
        """Make them."""
        self.folder, self.command = folder, command
        self.path = folder / "store"
        self.key, self.kept = folder / "log.key", folder / "kept"
        with ImageStore.open(self.path, actor="ci@build7") as store:
            for name in "abc":
                store.create(config(name), reason="first")
            with store.transaction():
                for instant in range(4, 301):
                    store.set_last_updated(A, instant * 10**9)
        made = command("keygen", "ci.example/log", "--output", self.key)
        assert made.code == 0
        self.public = made.out.strip()
        written = command("-s", self.path, "checkpoint", "--sign", self.key, "-o", self.kept)
        assert written.code == 0
        with ImageStore.open(self.path, actor="ci@build7") as store, store.transaction():
            for instant in range(301, 601):
                store.set_last_updated(B, instant * 10**9)

    def audit(self, *more: str | Path) -> tuple[int, str]:
        """Return the exit code of an audit, and what it says."""
        said = self.command("-s", self.path, "audit", "--since", self.kept, *more)
        return said.code, said.out + said.err

    def rewrite(self, change: Callable[[Log], Log], *, interior: bool = True) -> None:
        """Write the log anew as an attacker who can make everything right again.

        Checksums, pointers, the note of the end and the hashes that are kept: all agree.
        """
        with lmdb.open(str(self.path), max_dbs=16) as env:
            handles = {name: env.open_db(name) for name in (b"log", b"meta", b"snapshots")}
            main = env.open_db()
            with env.begin(write=True) as txn:
                stored = txn.cursor(db=handles[b"log"])
                before = {int.from_bytes(key, "big"): bytes(raw) for key, raw in stored}
                after = change(dict(before))
                assert after != before
                txn.drop(handles[b"log"], delete=False)
                txn.drop(handles[b"snapshots"], delete=False)
                for position, raw in sorted(after.items()):
                    txn.put(codec.position_key(position), raw, db=handles[b"log"])
                end = codec.position_key(len(after))
                checksum = codec.crc32(end, codec.crc32(b"end")).to_bytes(4, "big")
                txn.put(b"end", end + checksum, db=main)
                if interior:
                    for index in range(len(after) // 256, len(before) // 256):
                        txn.delete(hashes.key_of(8, index), db=handles[b"meta"])
                    for index in range(len(after) // 256):
                        tile = [
                            leaf_hash(after[at]) for at in range(index * 256 + 1, index * 256 + 257)
                        ]
                        key = hashes.key_of(8, index)
                        top = hashes.pyramid(tile)[-1][0]
                        txn.put(key, hashes.pack(key, top), db=handles[b"meta"])


@pytest.fixture
def ground(tmp_path: Path, command: Command) -> Ground:
    """Return the store and its checkpoint."""
    return Ground(tmp_path, command)


def encoded(position: int, raw: bytes, at: int | None = None, **other: Any) -> bytes:
    """Return a record with something changed, its checksum right for where it goes."""
    found = codec.decode(position, raw)
    fields = {
        name: getattr(found, name)
        for name in ("time_ns", "actor", "reason", "batch", "previous", "event")
    }
    return codec.encode(position if at is None else at, **(fields | other)).raw


def edited(log: Log) -> Log:
    """Say that somebody else did it."""
    return log | {2: encoded(2, log[2], actor="nobody@nowhere")}


def back_dated(log: Log) -> Log:
    """Let the first record be a nanosecond older."""
    return log | {1: encoded(1, log[1], time_ns=codec.decode(1, log[1]).time_ns - 1)}


def swapped(log: Log) -> Log:
    """Let the second and the third change places."""
    two, three = codec.decode(2, log[2]), codec.decode(3, log[3])
    return log | {
        2: encoded(3, log[3], at=2, time_ns=two.time_ns, batch=2),
        3: encoded(2, log[2], at=3, time_ns=three.time_ns, batch=3),
        **{
            position: encoded(position, raw, previous=3)
            for position, raw in log.items()
            if codec.decode(position, raw).previous == 2
        },
    }


def dropped(log: Log) -> Log:
    """Drop the last record of those that the checkpoint covers, and let the others move up."""
    moved = {position: raw for position, raw in log.items() if position < 300}
    for position in range(301, 601):
        found = codec.decode(position, log[position])
        previous = found.previous - 1 if found.previous > 300 else found.previous
        batch = found.batch - 1
        moved[position - 1] = encoded(
            position, log[position], at=position - 1, previous=previous, batch=batch
        )
    return moved


def cut(log: Log) -> Log:
    """Drop all that came after the 200th."""
    return {position: raw for position, raw in log.items() if position <= 200}


def test_a_log_that_only_grew_passes_the_audit(ground: Ground) -> None:
    """Signed or not, and also where the store keeps no hashes."""
    code, said = ground.audit("--key", ground.public)
    assert code == 0
    assert "the 300 records of the checkpoint are as they were" in said
    assert "signed by ci.example/log" in said
    code, said = ground.audit()
    assert code == 0
    assert "no signature of the checkpoint was checked" in said
    shown = ground.command("-s", ground.path, "audit", "--since", ground.kept, "--json")
    assert (shown.json[0]["since"], shown.json[0]["position"]) == (300, 600)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (edited, "the past was changed"),
        (back_dated, "the past was changed"),
        (swapped, "the past was changed"),
        (dropped, "the past was changed"),
        (cut, "records were dropped"),
    ],
)
@pytest.mark.parametrize("interior", [True, False])
def test_whoever_changes_the_past_is_caught(
    ground: Ground, change: Callable[[Log], Log], finding: str, interior: bool
) -> None:
    """The store itself finds nothing wrong; the checkpoint that was kept elsewhere does."""
    ground.rewrite(change, interior=interior)
    with ImageStore.open(ground.path, read_only=True) as store:
        # Tombstones and heads are derived, so they agree; no record fails its checksum. Of a log
        # that was cut, a hash may be left over.
        found = {problem.kind for problem in store.verify()}
        assert found <= ({"snapshot"} if interior else {"snapshot", "hash"})
    code, said = ground.audit("--key", ground.public)
    assert (code, said.count("\n")) == (4, 1)
    assert finding in said


def test_hashes_that_were_forged_are_not_believed(ground: Ground) -> None:
    """Nor does a change after the checkpoint go unseen where they stayed as they were."""
    ground.rewrite(lambda log: log | {400: encoded(400, log[400], reason="forged")}, interior=False)
    code, said = ground.audit()
    assert (code, "hashes that the store keeps" in said) == (4, True)


def test_a_store_that_was_changed_signs_nothing_more(ground: Ground) -> None:
    """It knows what it signed."""
    ground.rewrite(edited)
    said = ground.command("-s", ground.path, "checkpoint", "--sign", ground.key)
    assert (said.code, said.out) == (1, "")
    assert "the past was changed" in said.err


def test_a_checkpoint_of_another_log_is_no_finding(
    ground: Ground, command: Command, tmp_path: Path
) -> None:
    """A copy answers for what it has in common with its source, and for no more."""
    with ImageStore.open(tmp_path / "other") as other:
        other.create(config("a"))
    said = command("-s", tmp_path / "other", "audit", "--since", ground.kept)
    assert (said.code, "another log" in said.err) == (1, True)
    restore(ground.path, tmp_path / "restored")
    copy = command("-s", tmp_path / "restored", "audit", "--since", ground.kept)
    assert copy.code == 0
    with ImageStore.open(ground.path) as store:
        store.create(config("later"))
    command("-s", ground.path, "checkpoint", "--output", tmp_path / "later")
    said = command("-s", tmp_path / "restored", "audit", "--since", tmp_path / "later")
    assert (said.code, "forked from at @600" in said.err) == (1, True)


def test_a_checkpoint_that_was_bent_is_refused(ground: Ground, tmp_path: Path) -> None:
    """Its signature does not fit; that is no finding against the log."""
    bent = ground.kept.read_bytes().replace(b"\n300\n", b"\n299\n")
    (tmp_path / "bent").write_bytes(bent)
    said = ground.command(
        "-s", ground.path, "audit", "--since", tmp_path / "bent", "--key", ground.public
    )
    assert (said.code, "signature of ci.example/log is wrong" in said.err) == (1, True)


def test_a_proof_needs_no_store_to_be_checked(ground: Ground, tmp_path: Path) -> None:
    """It holds the record, the path and the signed checkpoint."""
    proof = tmp_path / "c.tlog-proof"
    made = ground.command("-s", ground.path, "prove", C, "--sign", ground.key, "-o", proof)
    assert (made.code, made.out) == (0, "")
    said = ground.command("check", proof, "--key", ground.public)
    assert said.code == 0
    assert "proved: record @3 of 600 in eventstore/" in said.out
    assert "ci@build7  first" in said.out
    assert f"created  {C}" in said.out
    shown = ground.command("check", proof, "--key", ground.public, "--json").json[0]
    assert (shown["position"], shown["record"]["image"]) == (3, C)
    assert shown["signed_by"][0]["name"] == "ci.example/log"


def test_a_proof_for_a_kept_checkpoint_keeps_its_signatures(ground: Ground, tmp_path: Path) -> None:
    """Those of witnesses too, which are checked if their key is given."""
    witness = notes.SigningKey("witness.example/w1", bytes(range(32)))
    vkey = notes.VerifierKey(witness.name, notes.COSIGNATURE, witness.verifier.public).text
    cosigned = notes.cosigned(notes.parse_note(ground.kept.read_bytes()), witness, 1_700_000_000)
    (tmp_path / "cosigned").write_bytes(cosigned.encode())
    made = ground.command(
        "-s", ground.path, "prove", "@2", "--checkpoint", tmp_path / "cosigned", "-o",
        tmp_path / "p",
    )  # fmt: skip
    assert made.code == 0
    assert (tmp_path / "p").read_bytes().endswith(cosigned.encode())
    said = ground.command("check", tmp_path / "p", "--key", ground.public, "--key", vkey)
    assert (said.code, "seen by this witness at 1700000000 s" in said.out) == (0, True)
    plain = tmp_path / "plain"
    ground.command("-s", ground.path, "prove", "@2", "--checkpoint", ground.kept, "-o", plain)
    said = ground.command("check", plain, "--key", ground.public, "--key", vkey)
    assert (said.code, "not signed by witness.example/w1" in said.err) == (1, True)


def test_an_unsigned_proof_counts_by_a_checkpoint_that_is_trusted(
    ground: Ground, tmp_path: Path
) -> None:
    """And by no key."""
    now, proof = tmp_path / "now", tmp_path / "p"
    ground.command("-s", ground.path, "checkpoint", "--output", now)
    made = ground.command("-s", ground.path, "prove", "@5", "--output", proof)
    assert (made.code, "not signed" in made.err) == (0, True)
    assert ground.command("check", proof, "--checkpoint", now).code == 0
    assert ground.command("check", proof, "--key", ground.public).code == 1
    assert ground.command("check", proof, "--checkpoint", ground.kept).code == 1
    assert ground.command("check", proof).code == 2
    renamed = tmp_path / "renamed"
    renamed.write_bytes(proof.read_bytes().replace(b"eventstore/", b"elsewhere/"))
    said = ground.command("check", renamed, "--checkpoint", now)
    assert (said.code, "for another log" in said.err) == (1, True)


def test_a_proof_by_a_checkpoint_that_the_log_does_not_fit_is_a_finding(
    ground: Ground, tmp_path: Path
) -> None:
    """Whoever keeps a checkpoint is told so as well when asking for a proof."""
    ground.rewrite(edited)
    said = ground.command("-s", ground.path, "prove", "@5", "--checkpoint", ground.kept)
    assert (said.code, said.out) == (4, "")


def test_every_flipped_bit_of_a_proof_fails(ground: Ground, tmp_path: Path) -> None:
    """Each byte in one place or another, by the command."""
    proof, wrong = tmp_path / "p", tmp_path / "wrong"
    ground.command("-s", ground.path, "prove", "@300", "--sign", ground.key, "-o", proof)
    raw = proof.read_bytes()
    parse(raw)
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << at % 8
        wrong.write_bytes(flipped)
        said = ground.command("check", wrong, "--key", ground.public)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), at


def test_checkpoints_of_the_past_are_signed_in_order_only(ground: Ground) -> None:
    """What was signed for 300 forbids 299."""
    earlier = ground.command("-s", ground.path, "checkpoint", "--sign", ground.key, "--at", "@299")
    assert (earlier.code, earlier.out) == (1, "")
    unsigned = ground.command("-s", ground.path, "checkpoint", "--at", "@299")
    assert (unsigned.code, unsigned.lines[1]) == (0, "299")
    same = ground.command("-s", ground.path, "checkpoint", "--sign", ground.key, "--at", "@300")
    assert same.out.encode() == ground.kept.read_bytes()


def test_a_key_is_private_and_never_overwritten(ground: Ground, command: Command) -> None:
    """Only its owner can read it."""
    assert stat.S_IMODE(ground.key.stat().st_mode) == 0o600
    key = notes.parse_signing_key(ground.key.read_text().strip())
    assert key.verifier.text == ground.public
    before = ground.key.read_bytes()
    again = command("keygen", "ci.example/log", "--output", ground.key)
    assert (again.code, again.out) == (3, "")
    assert ground.key.read_bytes() == before
    assert command("keygen", "a b", "--output", ground.folder / "x").code == 3
    assert not (ground.folder / "x").exists()


def test_the_file_of_a_key_is_named_after_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the last part of its name, where none is given."""
    monkeypatch.chdir(tmp_path)
    assert command("keygen", "ci.example/log").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_what_is_no_key_is_never_shown(ground: Ground, tmp_path: Path) -> None:
    """A private key that is given in the wrong place, or is broken, is not repeated."""
    secret = ground.key.read_text().strip()
    (tmp_path / "broken").write_text(secret[:-2])
    said = ground.command("-s", ground.path, "checkpoint", "--sign", tmp_path / "broken")
    assert (said.code, secret[-20:-2] in said.err) == (1, False)
    said = ground.command("check", ground.kept, "--key", secret)
    assert (said.code, secret[-20:] in said.err) == (2, False)


def test_exported_tiles_are_read_by_others(ground: Ground, tmp_path: Path) -> None:
    """By `tlog-scales`, with the key that was printed."""
    made = ground.command("-s", ground.path, "export-tiles", tmp_path / "t", "--sign", ground.key)
    assert (made.code, "a log of 600 records" in made.out) == (0, True)
    reader = TilesReader(LocalBackend(tmp_path / "t"))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string(ground.public))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    again = ground.command("-s", ground.path, "export-tiles", tmp_path / "t")
    assert again.code == 3
    kept = ground.command(
        "-s", ground.path, "export-tiles", tmp_path / "k", "--checkpoint", ground.kept
    )
    assert (kept.code, "a log of 300 records" in kept.out) == (0, True)


def test_files_that_are_not_there_or_are_anything_are_one_line(
    ground: Ground, tmp_path: Path
) -> None:
    """With the exit code of a source that cannot be used, or of a proof that is none."""
    none, junk = tmp_path / "none", tmp_path / "junk"
    junk.write_bytes(bytes(range(256)))
    for file, code in ((none, 3), (junk, 1), (ground.path, 3)):
        for words in (
            ("check", file, "--key", ground.public),
            ("check", ground.kept, "--checkpoint", file),
            ("-s", ground.path, "audit", "--since", file),
            ("-s", ground.path, "prove", "@1", "--checkpoint", file),
            ("-s", ground.path, "checkpoint", "--sign", file),
        ):
            said = ground.command(*words)
            assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), words
