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
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from eventstore.image_parts import ContainerConfig, History, Int64, RootFS, parse_instant

SIZE_MAX = 1 << 20
_find_escaped_letter = re.compile(rb"\\u00[67]").search
# What a list of times in UTC is made of; msgspec takes a small t or z too, or a space.
_OF_TIMES_IN_UTC = b'0123456789-:.TZ",[]'


class PlainConfig(
    Struct,
    kw_only=True,
    gc=False,
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
    """What a config says: the fields of `Image`, and at the end what is often there and ignored.

    They stand in the order in which tools write them, which is the one that msgspec looks for.
    """

    architecture: str = ""
    author: str = ""
    comment: str = ""
    config: ContainerConfig | None = None
    container: str = ""
    container_config: ContainerConfig | None = None
    created_text: str | None = None
    docker_version: str = ""
    history: tuple[History, ...] | None = None
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] | None = None
    root_fs: RootFS
    variant: str = ""
    size: Int64 = 0
    id: str = ""
    parent: str = ""
    inline_cache: str = ""
    build_information: str = ""


_encode = msgspec.json.Encoder().encode
_decode_times = msgspec.json.Decoder(list[Annotated[datetime, Meta(tz=True)]]).decode


# Made at import, under its lock: msgspec looks at a struct's fields, in Python, when it first meets
# it, and a thread that met it meanwhile would decode by what is half there.
_decode_config = msgspec.json.Decoder(PlainConfig).decode


def decode(raw: bytes) -> PlainConfig | None:
    """Return what a config says if it is written as tools do, None if it is not or is no config.

    Args:
        raw: the exact bytes.
    """
    if len(raw) > SIZE_MAX or (b"\\" in raw and _find_escaped_letter(raw) is not None):
        return None
    try:
        plain = _decode_config(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    steps = plain.history or ()
    objects = 2 + len(steps)
    runs = (plain.config, plain.container_config)
    for run in runs:
        if run is not None:
            objects += 1
            if run.labels is not None:
                objects += 1
            if run.healthcheck is not None:
                objects += 1
            if run.exposed_ports is not None:
                objects += 1 + len(run.exposed_ports)
            if run.volumes is not None:
                objects += 1 + len(run.volumes)
    braces = raw.count(b"{")
    if braces != objects and braces != _encode(plain).count(b"{"):
        return None
    times: list[Any] = [step.created_text for step in steps]
    times.append(plain.created_text)
    if not all(times):
        times = [text for text in times if text is not None]
    if raw.count(b'"created"') != len(times) or not _are_times(times):
        return None
    for run in runs:
        if run is not None and (run.exposed_ports is not None or run.volumes is not None):
            _settle(run)
    return plain


def _settle(run: ContainerConfig) -> None:
    """Put None for the empty objects that stand in a config for the values of a set."""
    if run.exposed_ports is not None:
        force_setattr(run, "exposed_ports", dict.fromkeys(run.exposed_ports))
    if run.volumes is not None:
        force_setattr(run, "volumes", dict.fromkeys(run.volumes))


def _are_times(texts: list[str]) -> bool:
    """Tell whether Go takes each of some texts as a time."""
    listed = ('["' + '","'.join(texts) + '"]').encode()
    if not listed.translate(None, _OF_TIMES_IN_UTC) and listed.count(b"Z") == len(texts):
        try:
            return len(_decode_times(listed)) == len(texts)
        except msgspec.MsgspecError:
            pass
    # None at all, some other zone, or what Go takes and msgspec does not.
    return all(parse_instant(text) is not None for text in texts)
