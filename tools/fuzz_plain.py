"""Change configs where the fast decoder could differ from the exact one, and compare the two.

`mutated` takes a config to pieces as Go would, equal keys and all, changes one or two of them, and
writes it again in one of the many ways in which the same JSON can be written. `difference` says
where `plain_config` gave another answer than the exact decoder; that it gave none is no difference.
"""

from __future__ import annotations

import base64
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventstore import InvalidImageError, go_json, image, plain_config
from eventstore.go_json import Members
from fuzz_mutations import mutate_bytes

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
ID = "sha256:" + "0" * 64
KEYS = (
    *("architecture", "author", "comment", "config", "container", "container_config", "created"),
    *("created_by", "diff_ids", "docker_version", "empty_layer", "history", "id", "os"),
    *("os.features", "os.version", "parent", "rootfs", "Size", "type", "variant", "unknown"),
    *("AttachStdin", "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Hostname"),
    *("Interval", "Labels", "OnBuild", "Retries", "Shell", "StopTimeout", "Test", "Volumes"),
    *("moby.buildkit.cache.v0", "moby.buildkit.buildinfo.v1", "{", "80/tcp", ""),
)
TIMES = (
    *("2024-02-29T23:59:59Z", "2023-02-29T00:00:00Z", "2024-04-31T00:00:00Z", "yesterday", ""),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "Z"),
    *("2024-01-01t00:00:00Z", "2024-01-01T00:00:00z", "2024-01-01 00:00:00Z", "2024-1-1"),
    *("2024-01-01T00:00:00+0100", "2024-01-01T00:00:00-0100", "2024-01-01T00:00:00+01:00"),
    *("2024-01-01T00:00:00-24:60", "2024-01-01T00:00:00+25:00", "2024-01-01T00:00:60Z"),
    *("2024-01-01T0:00:00Z", "2024-01-01T00:00:00,5Z", "2024-01-01T00:00:00.Z"),
    *("2024-01-01T00:00:00.1234567891234567Z", "2024-01-01T00:00:00Z\n", " 2024-01-01T00:00:00Z"),
    *('2024-01-01T00:00:00Z","2024-01-01T00:00:00Z', "2024-01-01T00:00:00\\u005a"),
    *("2024-01-01T00:00:00", "-024-01-01T00:00:00Z", "2024-01-01T24:00:00Z"),
)  # fmt: skip
TEXTS = (
    *("", "x", "{", "}", "{{}}", '"', "\\", '"created"', "created", '"created":', "\0", "\x1f"),
    *("é", "€", "😀", "\ud800", "\udc00x", "a\ud83d", "\x7f", "\ufeff", "\ufffd", "\\u007b", ":{"),
)  # fmt: skip
BYTES = (
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xa0", b"\0", b"\x0b"),
    *(b" ", b"\n", b"\t", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0", b".", b"e"),
)  # fmt: skip
NUMBERS = (
    *("0", "1", "-1", "-0", "00", "01", "1.0", "0.0", "-0.0", "1e3", "1E3", "1.5", "1e400", "+1"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "9" * 19, "9" * 400),
    *("-9223372036854775809", "18446744073709551615", "18446744073709551616", "NaN", "Infinity"),
    *("tru", "nul", "True"),
)  # fmt: skip


# Small configs that the fast decoder would read differently, were it not for one of its checks.
TRICKY = (
    b'{"rootfs":{},"config":{"Env":["A=b"]},"config":{"Cmd":["c"]}}',
    b'{"rootfs":{},"author":"{","config":{"Env":["A=b"]},"config":{"Cmd":["c"]}}',
    b'{"rootfs":{},"author":"\\u007b","config":{"Env":["A=b"]},"config":{"Cmd":["c"]}}',
    b'{"rootfs":{},"config":{"Labels":{"a":"b"},"Labels":{"c":"d"}}}',
    b'{"rootfs":{},"config":{"Volumes":{"/a":{}},"Volumes":{"/b":{}}}}',
    b'{"rootfs":{},"history":[{"author":"a"}],"history":[{}]}',
    b'{"rootfs":{},"created":"yesterday","created":"2024-01-01T00:00:00Z"}',
    b'{"rootfs":{},"created":"yesterday","created" :"2024-01-01T00:00:00Z"}',
    b'{"rootfs":{},"history":[{"cre\\u0061ted":"yesterday","created":"2024-01-01T00:00:00Z"}]}',
    b'{"rootfs":{},"created":"2024-01-01T00:00:00-01:00\\",\\"2024-01-01T00:00:00Z"}',
    b'{"rootfs":{},"created":"2024-01-01t00:00:00Z"}',
    b'{"rootfs":{},"created":"2024-01-01T00:00:00z"}',
    b'{"rootfs":{},"created":"2024-01-01 00:00:00Z"}',
    b'{"rootfs":{},"created":"2024-01-01T00:00:00-0100"}',
    b'{"rootfs":{},"created":"2024-01-01T00:00:00+0100"}',
    b'{"rootfs":{},"created":"2024-01-01T00:00:00\\\\u005a"}',
    b'{"rootfs":{},"created":"yesterday"}',
    b'{"rootfs":{},"created":""}',
    b'{"rootfs":{},"Size":9223372036854775808}',
    b'{"rootfs":{},"Size":1.0}',
    b'{"rootfs":{},"OS":"linux"}',
    b'{"rootfs":{"Type":"layers"}}',
    b'{"rootfs":{},"history":[{"Author":"a"}]}',
    b'{"rootfs":{},"config":{"env":["A=b"]}}',
    b'{"rootfs":{},"config":{"Healthcheck":{"interval":5}}}',
    b'{"rootfs":{},"config":{"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"StopTimeout":5}}',
)


class Literal(str):
    """What is written as it is."""

    __slots__ = ()


def configs() -> list[bytes]:
    """Return the configs of real databases, and those of which Docker's answer was recorded."""
    recorded = json.loads((DATA / "conformance" / "image_configs.json").read_text("utf-8"))
    found = dict.fromkeys(base64.b64decode(row["config_b64"]) for row in recorded["configs"])
    found.update(dict.fromkeys((*real_configs(), *TRICKY)))
    return [raw for raw in found if len(raw) < 1 << 14]


def real_configs() -> list[bytes]:
    """Return all that lies in the real databases where configs do, damaged ones too."""
    found: dict[bytes, None] = {}
    for path in sorted((DATA / "docker").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if "/content/" in member.name else None
                if file is not None:
                    found.setdefault(file.read())
    return list(found)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return a config like another: with other members, written otherwise, of other bytes."""
    if chance.random() < 0.2:
        return with_other_bytes(data, chance)
    try:
        tree = go_json.parse(data)
    except go_json.GoJSONError:
        return mutate_bytes(data, chance, (), ())
    for _ in range(chance.choice((1, 1, 1, 2))):
        change(chance.choice(list(containers(tree)) or [[]]), chance)
    raw = write(tree, chance.choice(STYLES), chance).encode("utf-8", "surrogatepass")
    return with_other_bytes(raw, chance) if chance.random() < 0.1 else raw


def with_other_bytes(raw: bytes, chance: random.Random) -> bytes:
    """Return a text with something put in at one place, or with a byte less."""
    at = chance.randrange(len(raw) + 1)
    put_in = b"" if chance.random() < 0.1 else chance.choice(BYTES)
    return raw[:at] + put_in + raw[at + chance.randrange(2) :]


def containers(tree: Any) -> Iterator[list[Any]]:
    """Iterate over the objects and arrays of a tree, itself included."""
    if isinstance(tree, list):
        yield tree
        for item in tree:
            yield from containers(item[1] if isinstance(tree, Members) else item)


def change(place: list[Any], chance: random.Random) -> None:
    """Change one object or array: a member or item is another, is gone, is there twice."""
    at = chance.randrange(len(place) + 1)
    kind = chance.randrange(8)
    if not isinstance(place, Members):
        if kind < 4 or not place:
            place.insert(at, value(chance))
        elif kind < 6:
            place[at % len(place)] = value(chance)
        else:
            place[at:] = place[at:][1:] if kind == 6 else place[at:] * 2
        return
    if kind < 2 or not place:
        place.insert(at, (chance.choice(KEYS), value(chance)))
        return
    key, item = place[at % len(place)]
    if kind < 4:
        again = item if chance.random() < 0.3 else like(item, chance)
        place.insert(chance.randrange(len(place) + 1), (key, again))
    elif kind == 4:
        place[at % len(place)] = (another_key(key, chance), item)
    elif kind == 5:
        del place[at % len(place)]
    else:
        place[at % len(place)] = (key, like(item, chance))


def another_key(key: str, chance: random.Random) -> str:
    """Return a key that is much like another."""
    odd = key.replace("s", "\u017f").replace("k", "\u212a")
    return chance.choice(
        (key.swapcase(), key.title(), key.upper(), key.lower(), odd, key + "x", chance.choice(KEYS))
    )


def like(item: Any, chance: random.Random) -> Any:
    """Return a value, mostly of the same type as another."""
    kind = chance.randrange(12)
    if kind == 0:
        return value(chance)
    if kind == 1:
        return None
    if isinstance(item, Members):
        return Members(member for member in item if chance.random() < 0.5)
    if isinstance(item, list):
        return [like(each, chance) for each in item if chance.random() < 0.5]
    if isinstance(item, bool):
        return not item
    if isinstance(item, int):
        return Literal(chance.choice(NUMBERS))
    if isinstance(item, str):
        if item[:2].isdigit() and "T" in item:
            return chance.choice(TIMES)
        at = chance.randrange(len(item) + 1)
        return item[:at] + chance.choice(TEXTS) + item[at:]
    return value(chance)


def value(chance: random.Random) -> Any:
    """Return a value of any type."""
    kind = chance.randrange(9)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind == 1:
        return Literal(chance.choice(NUMBERS))
    if kind == 2:
        return chance.choice(TIMES)
    if kind == 3:
        return chance.choice(TEXTS)
    if kind < 7:
        keys = [chance.choice(KEYS) for _ in range(chance.randrange(3))]
        return Members((key, value(chance) if kind == 4 else Members()) for key in keys)
    if kind == 7:
        return [value(chance) for _ in range(chance.randrange(3))]
    return chance.randrange(-2, 3)


# How often white space stands where it may, and how often a character is escaped.
STYLES = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.02), (0.05, 0.0), (0.05, 0.1))


def write(tree: Any, style: tuple[float, float], chance: random.Random) -> str:
    """Return a tree as JSON text."""
    spaces, escapes = style

    def space() -> str:
        return chance.choice(" \t\r\n") if spaces and chance.random() < spaces else ""

    def text(string: str) -> str:
        if escapes == 0:
            return json.dumps(string, ensure_ascii=chance.random() < 0.5)
        return '"' + "".join(map(character, string)) + '"'

    def character(letter: str) -> str:
        if chance.random() < escapes and letter < "\ud800":
            code = f"{ord(letter):04x}"
            return "\\u" + (code.upper() if chance.random() < 0.3 else code)
        return json.dumps(letter)[1:-1]

    def any_value(item: Any) -> str:
        if isinstance(item, Literal):
            written = str(item)
        elif isinstance(item, str):
            written = text(item)
        elif isinstance(item, Members):
            pairs = (f"{space()}{text(key)}{space()}:{any_value(each)}" for key, each in item)
            written = "{" + ",".join(pairs) + space() + "}"
        elif isinstance(item, list):
            written = "[" + ",".join(map(any_value, item)) + space() + "]"
        else:
            written = json.dumps(item)
        return space() + written + space()

    return any_value(tree)


def difference(raw: bytes) -> tuple[bool, str | None]:
    """Return whether the fast decoder gave an answer, and how it differs from the exact one's."""
    if plain_config.decode(raw) is None:
        return False, None
    fast = image.Image.from_checked(raw, ID)
    try:
        exact = image.Image._from_unusual(raw, ID, None)
    except InvalidImageError as error:
        return True, f"the fast decoder takes what is refused: {error}"
    if repr(fast) != repr(exact):
        return True, "the decoders read different images"
    return True, None if fast == exact else "the images look alike, but are not equal"
