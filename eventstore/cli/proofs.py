"""The commands that prove: `checkpoint`, `prove`, `check`, `audit`, `keygen`, `export-tiles`.

What they write for others (checkpoints, proofs, keys) is written byte for byte, to standard output
or into a new file. Nothing is overwritten.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from eventstore import codec, notes, proof_file, signing, tiles
from eventstore.audit import audit as audit_log
from eventstore.cli import bars, completing, moments, naming, output, shapes
from eventstore.cli.files import write_new
from eventstore.cli.options import (
    at_option,
    json_option,
    open_to_read,
    open_to_write,
    path_of,
    store_option,
)
from eventstore.cli.output import line, note
from eventstore.errors import (
    CorruptionError,
    PastChangedError,
    ProofError,
    SourceError,
)
from eventstore.events import Record
from eventstore.store import ImageStore

sign_option = click.option(
    "--sign", "key_file", metavar="KEYFILE", help="Sign with the private key in this file."
)
checkpoint_option = click.option(
    "--checkpoint", "checkpoint_file", metavar="FILE", help="A checkpoint that was kept."
)
output_option = click.option(
    "--output", "-o", metavar="FILE", help="Write to this new file; standard output if not given."
)
keys_option = click.option(
    "--key", "key_texts", metavar="VKEY", multiple=True, help="A public key that must have signed."
)


@click.command()
@sign_option
@at_option
@output_option
@store_option
def checkpoint(
    key_file: str | None, at: str | None, output: str | None, store_path: str | None
) -> None:
    """Print what to keep elsewhere, to be sure later that the past was not changed.

    With --sign the store notes first what it signs, and refuses what contradicts it.
    """
    with _open(store_path, key_file) as store:
        position = None if at is None else moments.position_of(store, at)
        _write(output, _note(store, key_file, position).encode())


@click.command()
@click.argument("what", metavar="IMAGE|@POSITION", shell_complete=completing.ever)
@sign_option
@checkpoint_option
@output_option
@store_option
def prove(
    what: str,
    key_file: str | None,
    checkpoint_file: str | None,
    output: str | None,
    store_path: str | None,
) -> None:
    """Write a proof that a record is in the log: that at @POSITION, or the last one of IMAGE.

    The record itself is in it, unless a compaction dropped it, and `check` needs no store. Its
    checkpoint is the one of now, or the one that was kept in the file of --checkpoint, with all its
    signatures.
    """
    if key_file is not None and checkpoint_file is not None:
        raise click.UsageError("--sign makes a new checkpoint, so it does not go with --checkpoint")
    with _open(store_path, key_file) as store:
        position, raw = _entry(store, what)
        if checkpoint_file is None:
            found = _note(store, key_file, None)
        else:
            found = _read_note(checkpoint_file)
        said = notes.parse_checkpoint(found.text)
        if checkpoint_file is not None:
            _refuse_other_past(store, said)
        path = store.inclusion_proof(position, said.checkpoint.position)
    proof = proof_file.ProofFile(position, tuple(path), found, raw)
    _write(output, proof.encode())
    if raw is None:
        note("the record was dropped: whoever checks needs its bytes from elsewhere (--entry)")
    if not found.signatures:
        note("the checkpoint is not signed: whoever checks needs it from elsewhere as well")


@click.command()
@click.argument("proof", type=click.Path(readable=False))
@keys_option
@checkpoint_option
@click.option("--entry", metavar="FILE", help="The record's bytes, if they are not in the proof.")
@json_option
def check(
    proof: str,
    key_texts: Sequence[str],
    checkpoint_file: str | None,
    entry: str | None,
    as_json: bool,
) -> None:
    """Check the PROOF that a record is in a log, and show the record. This needs no store.

    The checkpoint in it must be signed by each --key, or be the one in the file of --checkpoint;
    then it is that file which must be signed, if keys are given.
    """
    keys = keys_of(key_texts)
    if not keys and checkpoint_file is None:
        raise click.UsageError("whom to trust? Give --key VKEY, or --checkpoint FILE")
    raw = None if entry is None else _read(entry)
    kept = None if checkpoint_file is None else trusted(checkpoint_file, keys)
    try:
        found = proof_file.parse(_read(proof))
        if kept is None:
            verified = proof_file.check(found, raw, keys=keys)
            notes.require_all(verified, keys)
        else:
            said, verified = kept
            if said.origin != found.log.origin:
                raise ProofError(f"the proof is for another log: {found.log.origin}")
            proof_file.check(found, raw, trusted=said.checkpoint)
    except ProofError as error:
        raise ProofError(f"{proof}: {error}") from error
    record = _decoded(found.position, found.extra if raw is None else raw)
    if as_json:
        output.json_line(
            {
                "origin": found.log.origin,
                "size": found.log.checkpoint.position,
                "position": found.position,
                "signed_by": [_shape(signature) for signature in verified],
                "record": None if record is None else shapes.record(record),
            }
        )
        return
    log = found.log
    line(f"proved: record @{found.position} of {log.checkpoint.position} in {log.origin}")
    print_signers(verified)
    if record is not None:
        heading = (output.clock_time(record.time), record.actor, record.reason)
        line("  ".join(part for part in heading if part))
        line(f"{shapes.kind_of(record.event)}  {record.image_id}")


@click.command()
@click.option("--since", metavar="FILE", required=True, help="An earlier checkpoint.")
@keys_option
@json_option
@store_option
def audit(since: str, key_texts: Sequence[str], as_json: bool, store_path: str | None) -> None:
    """Read the whole log, and make sure that all is as it was at an earlier checkpoint."""
    said, verified = trusted(since, keys_of(key_texts))
    with bars.shown() as bar:
        now = audit_log(path_of(store_path), said, progress=bar.step("hashing records"))
    before = said.checkpoint.position
    with open_to_read(store_path) as store:
        dropped = store.horizon.dropped
    if as_json:
        output.json_line(
            {
                "since": before,
                "known_by_hash_alone": dropped,
                "position": now.position,
                "root_hash": notes.encode_base64(now.root_hash),
                "signed_by": [_shape(signature) for signature in verified],
            }
        )
        return
    line(f"unchanged: the {before} records of the checkpoint are as they were")
    print_signers(verified)
    if dropped:
        line(f"{dropped} were dropped by a compaction: they are known by their hashes alone")
    line(f"added since then: {now.position - before}, up to @{now.position}")
    if not verified:
        note("no signature of the checkpoint was checked: give --key VKEY for that")


@click.command()
@click.argument("name", metavar="KEYNAME")
@click.option("--output", "-o", metavar="FILE", help="The new file; KEYNAME.key if not given.")
def keygen(name: str, output: str | None) -> None:
    """Make a key to sign checkpoints with, and print the public key by which they are checked.

    The private key goes into a new file that only its owner can read.
    """
    key = notes.SigningKey(notes.checked_name(name), os.urandom(32))
    public = key.verifier.text
    target = f"{name.rstrip('/').rpartition('/')[2]}.key" if output is None else output
    write_new(target, f"{key.text}\n".encode(), 0o600)
    line(public)


@click.command("export-tiles")
@click.argument("directory", type=click.Path(readable=False))
@sign_option
@checkpoint_option
@store_option
def export_tiles(
    directory: str, key_file: str | None, checkpoint_file: str | None, store_path: str | None
) -> None:
    """Write the log into the new DIRECTORY as tiles, for others to serve and to check."""
    if key_file is not None and checkpoint_file is not None:
        raise click.UsageError("--sign makes a new checkpoint, so it does not go with --checkpoint")
    with _open(store_path, key_file) as store:
        if checkpoint_file is None:
            found = _note(store, key_file, None)
        else:
            found = _read_note(checkpoint_file)
        with bars.shown() as bar:
            bar.step("exporting tiles")
            exported = tiles.export_tiles(store, directory, found)
    line(f"{directory}: a log of {exported.position} records")


def _open(store_path: str | None, key_file: str | None) -> ImageStore:
    """Open the store; whoever signs has to write down first what."""
    return open_to_read(store_path) if key_file is None else open_to_write(store_path)


def _note(store: ImageStore, key_file: str | None, position: int | None) -> notes.Note:
    """Return the checkpoint of a store, signed if there is a key."""
    if key_file is not None:
        return signing.sign_checkpoint(store, _signing_key(key_file), position)
    origin = signing.origin_of(store.store_id)
    return notes.Note(notes.LogCheckpoint(origin, store.checkpoint(position)).text)


def _entry(store: ImageStore, what: str) -> tuple[int, bytes | None]:
    """Return the position of the record that is meant, and its bytes; None if it was dropped."""
    if not what.startswith("@"):
        record = next(store.records(naming.find_ever(store, what), reverse=True))
        return record.position, record.raw
    position = moments.position_of(store, what)
    if position == 0:
        raise click.UsageError("positions of records start at @1")
    found = next(store.records(after=position - 1, through=position), None)
    return position, None if found is None else found.raw


def _refuse_other_past(store: ImageStore, said: notes.LogCheckpoint) -> None:
    """Refuse to prove by a checkpoint that is not one of this log.

    Raises:
        ProofError: it is of another log, or of records that are not there.
        PastChangedError: the log is not as it was.
    """
    size = said.checkpoint.position
    if not said.origin.endswith(f"/{store.store_id}"):
        raise ProofError(f"the checkpoint is of another log: {said.origin}")
    if size > store.position or store.checkpoint(size) != said.checkpoint:
        raise PastChangedError(
            f"the log is not the one that the checkpoint at @{size} was taken of", position=size
        )


def trusted(
    name: str, keys: Sequence[notes.VerifierKey]
) -> tuple[notes.LogCheckpoint, tuple[notes.Verified, ...]]:
    """Return what a file with a checkpoint says, once each key is found to have signed it."""
    found = _read_note(name)
    try:
        verified = notes.verify(found, keys) if keys else ()
        notes.require_all(verified, keys)
    except ProofError as error:
        raise ProofError(f"{name}: {error}") from error
    return notes.parse_checkpoint(found.text), verified


def _read_note(name: str) -> notes.Note:
    """Return the checkpoint in a file."""
    try:
        found = notes.parse_note(_read(name))
        notes.parse_checkpoint(found.text)
    except ProofError as error:
        raise ProofError(f"{name}: {error}") from error
    return found


def keys_of(texts: Sequence[str]) -> list[notes.VerifierKey]:
    """Return the public keys that a command line gives.

    Raises:
        click.UsageError: one is none.
    """
    try:
        return [notes.parse_verifier_key(text.strip()) for text in texts]
    except ProofError as error:
        raise click.UsageError(f"--key: {error}") from error


def _signing_key(name: str) -> notes.SigningKey:
    try:
        return notes.parse_signing_key(_read(name).decode("utf-8").removesuffix("\n"))
    except (ProofError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, ProofError) else "it is no private key"
        raise ProofError(f"{name}: {reason}") from None


def _decoded(position: int, raw: bytes | None) -> Record | None:
    """Return what the bytes of a record say, None if this version cannot read them."""
    with suppress(CorruptionError):
        return None if raw is None else codec.decode(position, raw)
    return None


def _shape(verified: notes.Verified) -> dict[str, object]:
    key_id = verified.key.key_id.hex()
    return {"name": verified.key.name, "key_id": key_id, "time": verified.time}


def print_signers(verified: Sequence[notes.Verified]) -> None:
    """Say who signed a checkpoint, and when its witnesses saw it."""
    for signature in verified:
        seen = "" if signature.time is None else f", seen by this witness at {signature.time} s"
        line(f"signed by {signature.key.name} (key {signature.key.key_id.hex()}){seen}")


def _read(name: str) -> bytes:
    """Return the bytes of a file; `-` is standard input.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        if name == "-":
            return sys.stdin.buffer.read(notes.NOTE_SIZE_MAX + 1)
        with open(name, "rb") as file:
            return file.read(notes.NOTE_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        raise SourceError(name, getattr(error, "strerror", None) or str(error)) from error


def _write(name: str | None, content: bytes) -> None:
    """Write bytes as they are."""
    if name is not None:
        write_new(name, content, 0o666)
        return
    if sys.stdout.isatty() and output.steers(content):
        raise click.UsageError(
            "a name in it may steer a terminal: give --output, or send it to a file or a pipe"
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
