"""Hold notes, keys and checkpoints to the specification, and to whoever bends them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eventstore import Checkpoint, ProofError, StoreUsageError, notes

# The example of C2SP signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n— example.com/foo"
    " Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72"
    "IneyaQM=\n"
).encode()
# The example of Go's golang.org/x/mod/sumdb/note.
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
).encode()
KEY = notes.SigningKey("log.example", bytes(range(32)))
WITNESS = notes.SigningKey("witness.example/w1", bytes(range(1, 33)))
SAID = notes.LogCheckpoint("eventstore/x", Checkpoint(70, bytes(32)))


def witness_key() -> notes.VerifierKey:
    """Return the key by which the witness is known."""
    return notes.VerifierKey(WITNESS.name, notes.COSIGNATURE, WITNESS.verifier.public)


def flips(raw: bytes) -> list[bytes]:
    """Return all bytes that differ from these in one bit."""
    flipped: list[bytes] = []
    for at in range(len(raw) * 8):
        wrong = bytearray(raw)
        wrong[at // 8] ^= 1 << at % 8
        flipped.append(bytes(wrong))
    return flipped


@pytest.mark.parametrize(("vkey", "note"), [(VKEY, NOTE), (GO_VKEY, GO_NOTE)])
def test_the_examples_of_others_verify(vkey: str, note: bytes) -> None:
    """We read what others write."""
    key = notes.parse_verifier_key(vkey)
    assert key.text == vkey
    found = notes.parse_note(note)
    assert notes.verify(found, [key]) == (notes.Verified(key),)
    assert found.encode() == note


def test_the_key_id_is_that_of_the_specification() -> None:
    """It is the start of the hash over name, newline, type and key."""
    assert notes.parse_verifier_key(VKEY).key_id.hex() == "530d903a"


def test_the_private_key_of_gos_example_signs_as_go_does() -> None:
    """Ed25519 is deterministic, so the whole note is the same."""
    key = notes.parse_signing_key(GO_PRIVATE)
    assert key.text == GO_PRIVATE
    assert key.verifier.text == GO_VKEY
    text = notes.parse_note(GO_NOTE).text
    assert notes.signed(notes.Note(text), key).encode() == GO_NOTE


def test_a_private_key_shows_itself_nowhere() -> None:
    """Neither in its repr nor in what is said of a broken one."""
    assert "seed" not in repr(notes.parse_signing_key(GO_PRIVATE))
    secret = GO_PRIVATE.rpartition("+")[2]
    for wrong in (GO_PRIVATE[:-4], GO_PRIVATE.replace("c74f", "c74e"), GO_PRIVATE[8:]):
        with pytest.raises(ProofError) as caught:
            notes.parse_signing_key(wrong)
        assert secret[:10] not in str(caught.value)


def test_every_flipped_bit_of_a_note_is_refused() -> None:
    """There is one way to write what is signed."""
    key = notes.parse_verifier_key(VKEY)
    for wrong in flips(NOTE):
        with pytest.raises(ProofError):
            notes.verify(notes.parse_note(wrong), [key])


def test_every_flipped_bit_of_a_cosigned_checkpoint_is_refused() -> None:
    """Its time is signed as well."""
    cosigned = notes.cosigned(notes.Note(SAID.text), WITNESS, 1_679_315_147)
    for wrong in flips(cosigned.encode()):
        with pytest.raises(ProofError):
            notes.verify(notes.parse_note(wrong), [witness_key()])


def test_every_flipped_bit_of_a_key_is_refused_or_another_name() -> None:
    """The id holds name, type and key together."""
    for wrong in flips(VKEY.encode()):
        try:
            text = wrong.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(ProofError):
            notes.parse_verifier_key(text)


def test_signatures_of_unknown_keys_are_ignored_even_if_they_are_nonsense() -> None:
    """A log may be signed by keys that a verifier has never heard of."""
    note = notes.signed(notes.Note(SAID.text), KEY)
    other = notes.Signature(KEY.name, b"\0\0\0\0", b"nonsense")
    note = notes.Note(note.text, (other, *note.signatures))
    assert notes.verify(notes.parse_note(note.encode()), [KEY.verifier])


def test_a_note_signed_by_unknown_keys_alone_is_refused() -> None:
    """Whoever trusts no key trusts nothing."""
    note = notes.signed(notes.Note(SAID.text), WITNESS)
    for keys in ([], [KEY.verifier]):
        with pytest.raises(ProofError, match="not signed by a key that is known"):
            notes.verify(note, keys)


def test_a_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    """Even where another known key has signed."""
    note = notes.signed(notes.signed(notes.Note(SAID.text), KEY), WITNESS)
    first = note.signatures[0]
    wrong = notes.Signature(first.name, first.key_id, first.payload[:-1] + b"\0")
    with pytest.raises(ProofError, match=f"signature of {KEY.name} is wrong"):
        notes.verify(
            notes.Note(note.text, (wrong, note.signatures[1])), [KEY.verifier, WITNESS.verifier]
        )


def test_sixteen_signatures_and_more_are_taken() -> None:
    """As verifiers must; beyond a hundred they need not."""
    note = notes.Note(SAID.text)
    keys = [notes.SigningKey(f"k{number}", bytes([number] * 32)) for number in range(20)]
    for key in keys:
        note = notes.signed(note, key)
    parsed = notes.parse_note(note.encode())
    assert len(notes.verify(parsed, [key.verifier for key in keys])) == 20
    with pytest.raises(ProofError, match="more than"):
        notes.parse_note(notes.Note(note.text, note.signatures * 6).encode())


def test_a_cosignature_is_checked_as_of_its_time() -> None:
    """It is one of another message than the log's own, so neither passes for the other."""
    note = notes.cosigned(notes.signed(notes.Note(SAID.text), KEY), WITNESS, 5)
    found = notes.verify(note, [witness_key(), KEY.verifier])
    assert [verified.time for verified in found] == [None, 5]
    notes.require_all(found, [witness_key(), KEY.verifier])
    with pytest.raises(ProofError, match="not signed by"):
        notes.require_all(found[:1], [witness_key()])
    log = note.signatures[0]
    posing = notes.Signature(WITNESS.name, witness_key().key_id, bytes(8) + log.payload)
    with pytest.raises(ProofError, match="wrong"):
        notes.verify(notes.Note(note.text, (posing,)), [witness_key()])


def test_a_checkpoint_reads_back() -> None:
    """With and without lines of the log's own."""
    for extensions in ((), ("one", "two")):
        said = notes.LogCheckpoint("o/x", Checkpoint(7, bytes(range(32))), extensions)
        assert notes.parse_checkpoint(said.text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n7\n",
        "o\n07\n" + "A" * 43 + "=\n",
        "o\n-7\n" + "A" * 43 + "=\n",
        "o\n٧\n" + "A" * 43 + "=\n",
        "o\n9223372036854775808\n" + "A" * 43 + "=\n",
        "o\n7\n" + "A" * 42 + "B=\n",
        "o\n7\n" + "A" * 40 + "\n",
        "o\n7\nAAA\n",
        "\n7\n" + "A" * 43 + "=\n",
        "o\n7\n" + "A" * 43 + "=\n\nx\n",
        "o\n7\n" + "A" * 43 + "=",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """There is one way to write one."""
    with pytest.raises(ProofError):
        notes.parse_checkpoint(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        b"te\rxt\n",
        b"\xff\n",
        b"text\n\n",
        b"text\n\nno signature\n",
        "text\n\n— name\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— na+me AAAAAAAA\n".encode(),
        "text\n\n—  AAAAAAAA\n".encode(),
        "text\n\n— name AAAAAAAA extra\n".encode(),
        b"a\n" * (1 << 20),
    ],
)
def test_what_is_no_note_is_refused(raw: bytes) -> None:
    """With an error of ours."""
    with pytest.raises(ProofError):
        notes.parse_note(raw)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\u3000"])
def test_no_key_has_such_a_name(name: str) -> None:
    """It could not be told from what follows it."""
    with pytest.raises(StoreUsageError):
        notes.checked_name(name)
    with pytest.raises(ProofError):
        notes.parse_verifier_key(f"{name}+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")


def test_without_the_package_a_signature_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is named; what needs no signature goes on."""
    note = notes.parse_note(NOTE)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(StoreUsageError, match=r"image-eventstore\[sign\]"):
        notes.signed(note, KEY)
    with pytest.raises(StoreUsageError, match=r"image-eventstore\[sign\]"):
        notes.verify(note, [notes.parse_verifier_key(VKEY)])
    assert notes.parse_checkpoint(SAID.text) == SAID


def test_the_library_loads_no_cryptography_before_it_signs() -> None:
    """Who signs nothing does not wait for it, and need not have it."""
    code = "import sys, eventstore.cli.main; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
