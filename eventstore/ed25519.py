"""Sign and verify with Ed25519 (RFC 8032); the only module that knows `cryptography`.

The package is an extra, `sign`, and takes a while to load, so it is loaded when a signature is made
or checked, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.errors import StoreUsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_SIZE = PUBLIC_SIZE = 32
SIGNATURE_SIZE = 64


def public_of(seed: bytes) -> bytes:
    """Return the public key, 32 bytes, of a private one.

    Raises:
        StoreUsageError: `cryptography` is not installed.
    """
    return _private(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature, 64 bytes, of a message.

    Raises:
        StoreUsageError: `cryptography` is not installed.
    """
    return _private(seed).sign(message)


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature of a message is one by the owner of a public key.

    Raises:
        StoreUsageError: `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise _missing() from error
    if len(public) != PUBLIC_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise _missing() from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def _missing() -> StoreUsageError:
    return StoreUsageError(
        "signatures need the package cryptography: install image-eventstore[sign]"
    )
