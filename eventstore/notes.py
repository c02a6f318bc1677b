"""Write and read checkpoints as others do: the text and the signed note of C2SP.

A checkpoint is three lines, and a signed one has signatures below an empty line::

    eventstore/6a4…                                   the origin: which log
    70                                                its size: how many records
    4ZxuJ2j9…=                                        the root hash, in base64

    — ci.example/key Uw2QOkn8srV1yJGh2VYRlL1Tnagv…    a key's name; key id and signature

The signed message is the text above the empty line, its last newline included. A key is told by its
name and id: the id is the start of SHA-256 over name, newline, type and public key. Type 1 is
Ed25519. Type 4 is a witness, who cosigns at a time: it signs the lines `cosignature/v1` and
`time 1679315147`, and the text after them; eight bytes of time stand before its signature.

Keys travel as text. A public one is `name+id+base64`, and a private one, as Go's `note` has it, is
`PRIVATE+KEY+name+id+base64`; in base64 stand the type and 32 bytes.

What is read comes from anywhere, so reading is strict: there is one way to write each value, and
nothing else is taken. Sources: C2SP signed-note, tlog-checkpoint and tlog-cosignature.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from hashlib import sha256

from msgspec import Struct

from eventstore import ed25519
from eventstore.errors import ProofError, StoreUsageError
from eventstore.merkle import HASH_SIZE, Checkpoint

ED25519, COSIGNATURE = 1, 4
NOTE_SIZE_MAX = 1 << 20
SIGNATURES_MAX = 100
SIZE_MAX = (1 << 63) - 1
_KEY_ID_SIZE, _TIME_SIZE = 4, 8
_PRIVATE = "PRIVATE+KEY+"
_DASH = "— "
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)


class VerifierKey(Struct, frozen=True):
    """A public key by which signatures are checked.

    Attributes:
        name: who signs with it.
        kind: 1 for signatures of a log, 4 for those of a witness.
        public: the Ed25519 key, 32 bytes.
    """

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that tell the key from others of its name."""
        return _key_id(self.name, self.kind, self.public)

    @property
    def text(self) -> str:
        """Return the key as text, a `vkey`; `parse_verifier_key` is the inverse."""
        kind = bytes([self.kind])
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(kind + self.public)}"


class SigningKey(Struct, frozen=True):
    """A private key; its text is a secret, and its `repr` does not show it.

    Attributes:
        name: who signs with it.
        seed: the Ed25519 key, 32 bytes.
    """

    name: str
    seed: bytes

    def __repr__(self) -> str:
        """Return what may be seen of it."""
        return f"SigningKey(name={self.name!r})"

    @property
    def verifier(self) -> VerifierKey:
        """Return the public key of it."""
        return VerifierKey(self.name, ED25519, ed25519.public_of(self.seed))

    @property
    def text(self) -> str:
        """Return the key as text; `parse_signing_key` is the inverse."""
        key_id, kind = self.verifier.key_id.hex(), bytes([ED25519])
        return f"{_PRIVATE}{self.name}+{key_id}+{encode_base64(kind + self.seed)}"


class Signature(Struct, frozen=True):
    """One line below a text: a claim, until it has been checked.

    Attributes:
        name: the name of the key.
        key_id: the id of the key.
        payload: what the key made of the text.
    """

    name: str
    key_id: bytes
    payload: bytes

    @property
    def line(self) -> str:
        """Return it as it stands in a note, without the newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.payload)}"


class Verified(Struct, frozen=True):
    """A signature that was checked.

    Attributes:
        key: the key that made it.
        time: when a witness made it, seconds since 1970, UTC; None for a log.
    """

    key: VerifierKey
    time: int | None = None


class Note(Struct, frozen=True):
    """A text and its signatures.

    Attributes:
        text: what is signed, with its last newline.
        signatures: as they stand below it; none if it is not signed.
    """

    text: str
    signatures: tuple[Signature, ...] = ()

    def encode(self) -> bytes:
        """Return the bytes of the note; `parse_note` is the inverse."""
        lines = "".join(f"{signature.line}\n" for signature in self.signatures)
        return (f"{self.text}\n{lines}" if lines else self.text).encode()


class LogCheckpoint(Struct, frozen=True):
    """A checkpoint, and the log that it says it is of.

    Attributes:
        origin: names the log.
        checkpoint: how long the log was, and its root hash.
        extensions: further lines, whose meaning is the log's own.
    """

    origin: str
    checkpoint: Checkpoint
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the text that is signed; `parse_checkpoint` is the inverse."""
        size, root = self.checkpoint.position, encode_base64(self.checkpoint.root_hash)
        return "".join(f"{line}\n" for line in (self.origin, size, root, *self.extensions))


def encode_base64(value: bytes) -> str:
    """Return bytes in base64."""
    return b64encode(value).decode("ascii")


def decode_base64(text: str, what: str) -> bytes:
    """Return what base64 says, if it is the one way to say it; the inverse of `encode_base64`.

    Raises:
        ProofError: it is no base64, or not the canonical one.
    """
    try:
        value = b64decode(text.encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError) as error:
        raise ProofError(f"{what} is no base64") from error
    if encode_base64(value) != text:
        raise ProofError(f"{what} is no canonical base64")
    return value


def decode_hash(text: str, what: str) -> bytes:
    """Return a hash that stands in base64.

    Raises:
        ProofError: it is none.
    """
    value = decode_base64(text, what)
    if len(value) != HASH_SIZE:
        raise ProofError(f"{what} has {len(value)} bytes and not {HASH_SIZE}")
    return value


def decode_number(text: str, what: str) -> int:
    """Return a number in decimal, without leading zeros.

    Raises:
        ProofError: it is none, or not below 2^63.
    """
    if _NUMBER.fullmatch(text) is None or int(text) > SIZE_MAX:
        raise ProofError(f"{what} is no number as it has to be written")
    return int(text)


def checked_name(name: str) -> str:
    """Return a name that a key may have.

    Raises:
        StoreUsageError: it is empty, has a space or a plus, or characters that cannot be seen.
    """
    if not _is_name(name) or not name.isprintable():
        raise StoreUsageError(
            f"{name!r} is no name for a key: it must be text without spaces and without +"
        )
    return name


def parse_text(raw: bytes) -> str:
    """Return the text of a note or proof.

    Raises:
        ProofError: it is too long, is no UTF-8, or has control characters.
    """
    if len(raw) > NOTE_SIZE_MAX:
        raise ProofError(f"it is longer than {NOTE_SIZE_MAX} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProofError("it is no UTF-8 text") from error
    if any(character < " " and character != "\n" for character in text):
        raise ProofError("it has control characters")
    if not text.endswith("\n"):
        raise ProofError("it does not end with a newline: a part may be missing")
    return text


def parse_note(raw: bytes) -> Note:
    """Return a note, of which nothing is checked but its form; the inverse of `Note.encode`.

    Raises:
        ProofError: it has not the form of a note.
    """
    text = parse_text(raw)
    body, empty, below = text.rpartition("\n\n")
    if not empty:
        return Note(text)
    lines = below.split("\n")[:-1]
    if not lines:
        raise ProofError("there is no signature below the text")
    if len(lines) > SIGNATURES_MAX:
        raise ProofError(f"there are more than {SIGNATURES_MAX} signatures")
    return Note(body + "\n", tuple(_parse_signature(line) for line in lines))


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_name(name):
        raise ProofError("a line below the text is no signature")
    value = decode_base64(encoded, f"the signature of {name}")
    if len(value) <= _KEY_ID_SIZE:
        raise ProofError(f"the signature of {name} is too short")
    return Signature(name, value[:_KEY_ID_SIZE], value[_KEY_ID_SIZE:])


def parse_checkpoint(text: str) -> LogCheckpoint:
    """Return what the text of a checkpoint says; the inverse of `LogCheckpoint.text`.

    Raises:
        ProofError: it is no checkpoint.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise ProofError("a checkpoint has three lines: origin, size and root hash")
    origin, size, root, *extensions = lines[:-1]
    found = Checkpoint(decode_number(size, "the size"), decode_hash(root, "the root hash"))
    return LogCheckpoint(origin, found, tuple(extensions))


def parse_verifier_key(text: str) -> VerifierKey:
    """Return a public key from its text; the inverse of `VerifierKey.text`.

    Raises:
        ProofError: it is none, or of a type other than Ed25519.
    """
    name, key_id, kind, public = _parse_key(text)
    if kind not in (ED25519, COSIGNATURE):
        raise ProofError(f"the key of {name} is of type {kind}; only 1 and 4 are known")
    key = VerifierKey(name, kind, public)
    if key.key_id != key_id:
        raise ProofError(f"the key of {name} does not belong to its id {key_id.hex()}")
    return key


def parse_signing_key(text: str) -> SigningKey:
    """Return a private key from its text; the inverse of `SigningKey.text`.

    Raises:
        ProofError: it is none; what it says is not repeated.
        StoreUsageError: `cryptography` is not installed.
    """
    if not text.startswith(_PRIVATE):
        raise ProofError("it is no private key")
    name, key_id, kind, seed = _parse_key(text.removeprefix(_PRIVATE))
    if kind != ED25519:
        raise ProofError(f"the key of {name} is of type {kind}; only 1 can sign")
    key = SigningKey(checked_name(name), seed)
    if key.verifier.key_id != key_id:
        raise ProofError(f"the key of {name} does not belong to its id {key_id.hex()}")
    return key


def _parse_key(text: str) -> tuple[str, bytes, int, bytes]:
    """Return the name, id, type and bytes of a key."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not _is_name(parts[0]) or _KEY_ID.fullmatch(parts[1]) is None:
        raise ProofError("it is no key: one is written name+id+base64")
    value = decode_base64(parts[2], "the key")
    if len(value) != 1 + ed25519.PUBLIC_SIZE:
        raise ProofError(f"the key has {len(value)} bytes and not {1 + ed25519.PUBLIC_SIZE}")
    return parts[0], bytes.fromhex(parts[1]), value[0], value[1:]


def signed(note: Note, key: SigningKey) -> Note:
    """Return a note with one signature more; where and when that is safe is the caller's.

    Raises:
        StoreUsageError: `cryptography` is not installed.
    """
    payload = ed25519.sign(key.seed, note.text.encode())
    made = Signature(key.name, key.verifier.key_id, payload)
    return Note(note.text, (*note.signatures, made))


def cosigned(note: Note, key: SigningKey, time: int) -> Note:
    """Return a note with the cosignature of a witness, as of a time in seconds since 1970.

    Raises:
        StoreUsageError: `cryptography` is not installed.
    """
    public = VerifierKey(key.name, COSIGNATURE, key.verifier.public)
    payload = time.to_bytes(_TIME_SIZE, "big") + ed25519.sign(
        key.seed, _cosigned_message(note.text, time)
    )
    return Note(note.text, (*note.signatures, Signature(key.name, public.key_id, payload)))


def verify(note: Note, keys: Iterable[VerifierKey]) -> tuple[Verified, ...]:
    """Check the signatures of a note that are by known keys, and return them; others are ignored.

    Args:
        note: what is signed.
        keys: which are trusted; one of them must have signed.

    Raises:
        ProofError: it is not signed by any of them, or a signature of one of them is wrong.
        StoreUsageError: `cryptography` is not installed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: list[Verified] = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            found.append(_verified(note.text, key, signature.payload))
    if not found:
        raise ProofError("it is not signed by a key that is known here")
    return tuple(found)


def _verified(text: str, key: VerifierKey, payload: bytes) -> Verified:
    message, time = text.encode(), None
    if key.kind == COSIGNATURE:
        parse_checkpoint(text)  # a witness signs nothing else
        time = int.from_bytes(payload[:_TIME_SIZE], "big")
        message, payload = _cosigned_message(text, time), payload[_TIME_SIZE:]
    if not ed25519.verifies(key.public, payload, message) or (time or 0) > SIZE_MAX:
        raise ProofError(f"the signature of {key.name} is wrong")
    return Verified(key, time)


def require_all(found: Sequence[Verified], keys: Iterable[VerifierKey]) -> None:
    """Make sure that each of some keys has signed.

    Raises:
        ProofError: one has not.
    """
    signers = {verified.key for verified in found}
    for key in keys:
        if key not in signers:
            raise ProofError(f"it is not signed by {key.name} (key {key.key_id.hex()})")


def _cosigned_message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:_KEY_ID_SIZE]


def _is_name(name: str) -> bool:
    return bool(name) and not any(
        character.isspace() or character == "+" or character < " " for character in name
    )
