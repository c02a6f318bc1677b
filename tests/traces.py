"""Make configs with secrets, and look for what is left of them in the files of a store."""

from __future__ import annotations

import json
import random
from pathlib import Path

from eventstore import ImageStore, configs
from making import config

WINDOW = 16


def secret_config(kind: str, size: int, seed: int = 1) -> bytes:
    """Return a config with a random secret; a `plain` one does not get shorter by packing."""
    chance = random.Random(seed)
    if kind == "packed":
        secret = chance.randbytes(size // 2).hex()
    else:
        secret = "".join(chr(chance.randrange(0x4E00, 0x9F00)) for _ in range(size // 3))
    value = {"config": {"Env": [secret]}, "rootfs": {"type": "layers"}}
    return json.dumps(value, ensure_ascii=False).encode()


def windows(raw: bytes) -> set[bytes]:
    """Return all that is so long as a trace must be."""
    return {raw[at : at + WINDOW] for at in range(len(raw) - WINDOW + 1)}


def traces_of(raw: bytes) -> set[bytes]:
    """Return what betrays a config: pieces of it and of its stored value, but for common ones."""
    common = windows(config("x")) | windows(configs.pack(config("x")))
    common |= windows(secret_config("packed", 0)) | windows(secret_config("plain", 0))
    return (windows(raw) | windows(configs.pack(raw))) - common


def count(path: Path, traces: set[bytes]) -> int:
    """Return how many traces all files of a store's directory hold."""
    found = 0
    for file in path.rglob("*"):
        if file.is_file():
            found += len(windows(file.read_bytes()) & traces)
    return found


def fill(store: ImageStore, name: str, number: int) -> list[str]:
    """Create images of different size."""
    return [store.create(config(f"{name} {at} " + "." * (at * 37 % 3_000))) for at in range(number)]


def writing_around(then: str) -> str:
    """Return a script that writes a secret, and much else before and, once told to, after that.

    Args:
        then: a statement that follows when the secret has been `created`.
    """
    return f"""
from pathlib import Path
with ImageStore.open(path) as store:
    raw = Path(sys.argv[2]).read_bytes()
    with store.transaction():
        for number in range(20):
            store.create(config(number))
        created = store.create(raw)
    {then}
    say("written")
    sys.stdin.readline()
    for number in range(20, 60):
        store.create(config(number))
    with store.transaction():
        for number in range(60, 90):
            store.create(config(number))
    say("done")
    sys.stdin.readline()
"""
