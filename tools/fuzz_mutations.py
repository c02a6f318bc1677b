"""Change inputs of the fuzzer: as bytes, as JSON text, and as trees of values.

Everything depends on the `random.Random` that is given, so a run with the same seed is the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

SIZE_MAX = 1 << 16
Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
INTEGERS = (
    0, 1, -1, 127, 128, 255, 256, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)
)  # fmt: skip
TEXTS = (
    "",
    "\0",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202eevil",
    "\u2028",
    "\ufeff",
    "\u017f\u212a",
    "e\u0301" * 20,
    "\U0001f4a9",
    "a" * 300,
    "sha256:" + "0" * 64,
    "SHA256:" + "A" * 64,
    "2024-10-08T8:27:41.123456789+24:60",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
)
JSON_TOKENS = (
    b"null", b"true", b"-0", b"1e999999999", b"-1e-999999999", b"1" * 30, b"1." + b"0" * 400,
    b"NaN", b"Infinity", b"[" * 40, b"]" * 40, b'{"a":' * 30, b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b'"\\ud800"', b'"\\udc00\\ud800"',
    b"\\u0000",
    b'"rootfs":{},', b'"ROOTFS":null,', b'"rootfs":{"diff_ids":["sha256:', b'"history":[{}],',
    b'"config":{"Labels":{"a":"b"}},', b'"config":{"Healthcheck":{"Test":[null]}},',
    b'"created":"2024-10-08T18:27:41.123456789+02:00",', b'"Size":9223372036854775808,',
    b'"os.features":[null,"x"],', b'"Container_Config":{"exposedports":{"80/tcp":{}}},',
)  # fmt: skip


def mutate_bytes(
    data: bytes, chance: random.Random, tokens: Sequence[bytes], others: Sequence[bytes]
) -> bytes:
    """Return some bytes with one to eight changes, each at a random place."""
    changed = bytearray(data)
    for _ in range(1 << chance.randrange(4)):
        kind = chance.randrange(8)
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + (1 << chance.randrange(8)))
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 1 and changed:
            changed[at % len(changed)] = chance.randrange(256)
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end] * (1 + chance.randrange(4))
        elif kind == 4 and tokens:
            changed[at:at] = chance.choice(tokens)
        elif kind == 5 and tokens:
            changed[at:end] = chance.choice(tokens)
        elif kind == 6 and others:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            changed[at:] = other[start:]
        elif kind == 7:
            changed[at:at] = chance.randbytes(1 + chance.randrange(6))
    return bytes(changed[:SIZE_MAX])


def mutate_tree(tree: Any, chance: random.Random) -> Any:
    """Return a tree of lists, maps and values in which one thing is another, is gone or is twice.

    Lists and maps on the way are copied, all else is shared.
    """
    if chance.random() < 0.15 or not isinstance(tree, list | dict) or not tree:
        return another(chance)
    if isinstance(tree, list):
        items = list(tree)
        at = chance.randrange(len(items))
        kind = chance.randrange(8)
        if kind == 0:
            del items[at]
        elif kind == 1:
            items[at:at] = [items[at]] * (1 << chance.randrange(6))
        elif kind == 2:
            items.insert(at, another(chance))
        else:
            items[at] = mutate_tree(items[at], chance)
        return items
    members = dict(tree)
    key = chance.choice(list(members))
    kind = chance.randrange(8)
    if kind == 0:
        del members[key]
    elif kind == 1 and isinstance(key, str):
        members[key.swapcase() if chance.random() < 0.5 else chance.choice(TEXTS)] = members[key]
    elif kind == 1 and isinstance(key, bytes):
        members[key[: chance.randrange(len(key) + 1)]] = members.pop(key)
    else:
        members[key] = mutate_tree(members[key], chance)
    return members


def another(chance: random.Random) -> Any:
    """Return a value of any type that is at the end of what the type holds."""
    kind = chance.randrange(9)
    if kind < 3:
        return chance.choice(INTEGERS)
    if kind < 5:
        return chance.choice(TEXTS)
    if kind == 5:
        return chance.choice((None, True, False, 1.5, float("inf"), -0.0))
    if kind == 6:
        return chance.randbytes(chance.choice((0, 1, 31, 32, 33, 64)))
    nested: Any = chance.choice(([], {}, [None], {"a": {}}))
    for _ in range(chance.choice((0, 1, 20, 600 if kind == 8 else 1))):
        nested = [nested]
    return nested


def _load_json(data: bytes) -> Any:
    return json.loads(data)


def _dump_json(tree: Any) -> bytes:
    return json.dumps(tree, default=lambda value: value.hex()).encode("utf-8", "replace")


JSON: Codec = (_load_json, _dump_json)


def mutate_as_tree(data: bytes, chance: random.Random, codec: Codec) -> bytes | None:
    """Return bytes whose tree differs in one to three places, None where they have no tree."""
    decode, encode = codec
    try:
        tree = decode(data)
        for _ in range(1 + chance.randrange(3)):
            tree = mutate_tree(tree, chance)
        return encode(tree)[:SIZE_MAX]
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None
