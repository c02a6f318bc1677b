"""Say in one form what was found in a source, whichever source it is.

A source lists images, each with what it knows of it, and passes over what does not count. What it
passed over is never dropped in silence: every entry has a name, a kind that programs can match, and
a sentence for people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from eventstore import clock, references
from eventstore.errors import InvalidReferenceError
from eventstore.events import Created, Manifest
from eventstore.image import parse_instant

CONFIGS_SIZE_MAX = 1 << 30
"""The bytes that the configs of one source may have together."""
_SHOWN_LENGTH_MAX, _TIME_SHOWN_MAX = 160, 80
_GO_ZERO_TIME = clock.MIN_NS  # what Docker takes for "never updated"
ConfigOf = Callable[[str], bytes | None]
"""Gives the config of an image that is known already, None if it is not."""


class SourceImage(Struct, frozen=True, gc=False):
    """One image as a source has it.

    Attributes:
        image_id: its id.
        config: the exact bytes of its config.
        parent: id of its parent, which the source lists too; None if it has none.
        last_updated_ns: nanoseconds since 1970, UTC; None if the source keeps none.
        built_locally: whether it is marked as built on its host; None if the source does not tell,
            and what the store knows of that then stays.
        created: what creating it means, if whoever read the source has decoded the config anyway;
            a sync decodes it otherwise.
        tells_last_updated: whether the source would tell a last update if there were one; if not,
            what the store knows of that stays.
    """

    image_id: str
    config: bytes
    parent: str | None = None
    last_updated_ns: int | None = None
    built_locally: bool | None = False
    created: Created | None = None
    tells_last_updated: bool = True


class PassedOver(Struct, frozen=True, gc=False):
    """One thing of a source that does not count, or not as it lies there.

    Attributes:
        kind: what is wrong, one of the words that the source's module lists.
        name: which entry: an image id where it has one, else a path within the source.
        detail: what is wrong, for people.
        unsure: whether the program that keeps the source may still take the entry for good, as it
            would follow a link. What is known of that image then stays as it is.
    """

    kind: str
    name: str
    detail: str
    unsure: bool = False


class PassOver(Protocol):
    """Takes what does not count."""

    def __call__(self, kind: str, name: str, detail: str, *, unsure: bool = False) -> None:
        """Take one thing."""
        ...


class Findings(Struct, frozen=True):
    """All that a source holds.

    Attributes:
        images: what it lists, sorted by id; parents are among them and make no cycle.
        passed_over: what does not count, in the order in which it was met.
        names: canonical names and the ids of their images, which need not all be listed; None if
            the source does not tell.
        manifests: ids of images and the manifests that lead to them, where the source has any.
    """

    images: list[SourceImage]
    passed_over: list[PassedOver]
    names: dict[str, str] | None = None
    manifests: dict[str, list[Manifest]] = {}


def unknown(image_id: str) -> bytes | None:
    """Return that no config is known: what a source is read with when there is no store yet."""
    return None


def printable(text: str) -> str:
    """Return a text that can be stored and printed, cut where it is long."""
    more = "…" if len(text) > _SHOWN_LENGTH_MAX else ""
    return text[:_SHOWN_LENGTH_MAX].encode("utf-8", "backslashreplace").decode() + more


def take_name(text: str, image_id: str, names: dict[str, str], pass_over: PassOver) -> None:
    """Take in a name of an image; of two equal ones the last counts.

    What is no name is passed over as `name-invalid`, one that another image has as `name-twice`.

    Args:
        text: the name as the source has it.
        image_id: whose.
        names: canonical names and the ids of their images.
        pass_over: takes what does not count.
    """
    try:
        name = references.canonical(text)
    except InvalidReferenceError as error:
        pass_over("name-invalid", text, error.reason)
        return
    if names.get(name, image_id) != image_id:
        pass_over("name-twice", text, f"{names[name]} has it as well")
    names[name] = image_id


def last_update(text: str) -> int | None:
    """Return a time of last update as Docker keeps it, None where it stands for never.

    Raises:
        ValueError: it is no time, or none that can be kept; the message says which.
    """
    instant = parse_instant(text)
    if instant is None:
        raise ValueError(f"{text[:_TIME_SHOWN_MAX]!r} is no RFC 3339 time")
    if instant == _GO_ZERO_TIME:
        return None
    if not clock.STORED_MIN_NS <= instant <= clock.STORED_MAX_NS:
        raise ValueError(f"{text[:_TIME_SHOWN_MAX]!r} is not within the years 1678 to 2261")
    return instant
