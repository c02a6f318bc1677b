"""Decode the image configs that tools really write, fast; leave the rest to the exact decoder.

msgspec decodes a text into typed structs in a few microseconds, but not all that it takes does Go
take in the same way. `decode` returns what the exact decoder (`image`, `go_json`) would find, or
None, which says nothing of the text but that it must be decoded exactly. That it never differs is
held by `tests/property/test_plain_config.py` and by `tools/fuzz.py`.

msgspec itself refuses a key that is unknown or in another case, a null that would leave a field as
it was, any type but the field's, integers of more than 64 bits, bytes that are no UTF-8, and lone
surrogates. What it does not see is checked here:

* Equal keys. Of two the last wins, in Go as in msgspec; but Go merges objects, into the one that
  was there before. So no object may be lost: the text has as many opening braces as there are
  objects in what was decoded, and in its strings. A brace that opens an object has no other
  spelling, so a text can have no object that is not counted.
* Times. An earlier `created` of two would not be looked at, so the text must name the key as often
  as a time was found, and no key may be spelled with escaped letters, which would not be counted.
* Lengths. A text of more than `SIZE_MAX` bytes, which could have too many values, is not plain.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from eventstore.image_parts import ContainerConfig, History, Int64, RootFS, parse_instant

SIZE_MAX = 1 << 20
_ESCAPED_LETTER = re.compile(rb"\\u00[67]")
_TIMES_IN_UTC = re.compile(r'\["[0-9T:.-]++Z(?:","[0-9T:.-]++Z)*+"\]')


class PlainConfig(
    Struct,
    forbid_unknown_fields=True,
    rename={
        "root_fs": "rootfs",
        "os_version": "os.version",
        "os_features": "os.features",
        "size": "Size",
        "created_text": "created",
        "inline_cache": "moby.buildkit.cache.v0",
        "build_information": "moby.buildkit.buildinfo.v1",
    },
):
    """What a config says: the fields of `Image`, and at the end what is often there and ignored."""

    root_fs: RootFS
    architecture: str = ""
    variant: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] | None = None
    author: str = ""
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    size: Int64 = 0
    created_text: str | None = None
    config: ContainerConfig | None = None
    container_config: ContainerConfig | None = None
    history: tuple[History, ...] | None = None
    id: str = ""
    parent: str = ""
    inline_cache: str = ""
    build_information: str = ""


_decode = msgspec.json.Decoder(PlainConfig).decode
_encode = msgspec.json.Encoder().encode
_decode_times = msgspec.json.Decoder(list[Annotated[datetime, Meta(tz=True)]]).decode


def decode(raw: bytes) -> PlainConfig | None:
    """Return what a config says if it is written as tools do, None if it is not or is no config.

    Args:
        raw: the exact bytes.
    """
    if len(raw) > SIZE_MAX or _ESCAPED_LETTER.search(raw) is not None:
        return None
    try:
        plain = _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    steps = plain.history or ()
    objects = 2 + len(steps)
    sets: list[ContainerConfig] = []
    for run in (plain.config, plain.container_config):
        if run is None:
            continue
        objects += 1 + (run.labels is not None) + (run.healthcheck is not None)
        if run.exposed_ports is not None or run.volumes is not None:
            objects += _objects_of_sets(run)
            sets.append(run)
    braces = raw.count(b"{")
    if braces != objects and braces != _encode(plain).count(b"{"):
        return None
    times = [step.created_text for step in steps]
    times.append(plain.created_text)
    if None in times:
        times = [text for text in times if text is not None]
    if raw.count(b'"created"') != len(times) or not _are_times(cast(list[str], times)):
        return None
    for run in sets:
        _settle(run)
    return plain


def _objects_of_sets(run: ContainerConfig) -> int:
    """Return how many objects the sets of a run config are made of."""
    return sum(1 + len(names) for names in (run.exposed_ports, run.volumes) if names is not None)


def _settle(run: ContainerConfig) -> None:
    """Put None for the empty objects that stand in a config for the values of a set."""
    if run.exposed_ports is not None:
        force_setattr(run, "exposed_ports", dict.fromkeys(run.exposed_ports))
    if run.volumes is not None:
        force_setattr(run, "volumes", dict.fromkeys(run.volumes))


def _are_times(texts: list[str]) -> bool:
    """Tell whether Go takes each of some texts as a time."""
    listed = '["' + '","'.join(texts) + '"]'
    if _TIMES_IN_UTC.fullmatch(listed) is not None:
        try:
            return len(_decode_times(listed)) == len(texts)
        except msgspec.MsgspecError:
            pass
    # None at all, some other zone, or what Go takes and msgspec does not.
    return all(parse_instant(text) is not None for text in texts)
