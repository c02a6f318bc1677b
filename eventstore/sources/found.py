"""Say in one form what was found in a source, whichever source it is.

A source lists images, each with what it knows of it, and passes over what does not count. What it
passed over is never dropped in silence: every entry has a name, a kind that programs can match, and
a sentence for people.
"""

from __future__ import annotations

from msgspec import Struct

from eventstore.events import Created


class SourceImage(Struct, frozen=True, gc=False):
    """One image as a source has it.

    Attributes:
        image_id: its id.
        config: the exact bytes of its config.
        parent: id of its parent, which the source lists too; None if it has none.
        last_updated_ns: nanoseconds since 1970, UTC; None if the source keeps none.
        built_locally: whether it is marked as built on its host.
        created: what creating it means, if whoever read the source has decoded the config anyway;
            a sync decodes it otherwise.
    """

    image_id: str
    config: bytes
    parent: str | None = None
    last_updated_ns: int | None = None
    built_locally: bool = False
    created: Created | None = None


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


class Findings(Struct, frozen=True):
    """All that a source holds.

    Attributes:
        images: what it lists, sorted by id; parents are among them and make no cycle.
        passed_over: what does not count, in the order in which it was met.
        names: canonical names and the ids of their images, which need not all be listed; None if
            the source does not tell.
    """

    images: list[SourceImage]
    passed_over: list[PassedOver]
    names: dict[str, str] | None = None
