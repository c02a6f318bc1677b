"""What `verify` and `salvage` find: something that does not agree, or that was lost."""

from __future__ import annotations

from msgspec import Struct


class Problem(Struct, frozen=True):
    """Something that does not agree.

    Attributes:
        kind: `structure`, `meta`, `log`, `config`, `snapshot`, `tombstone`, `name` or `hash`, a
            hash of the log's Merkle tree; `lost` is a config that was lost before this store was
            salvaged, as that noted: no new damage.
        message: what is wrong, for people.
        position: the record or snapshot that it is about, or None.
        image_id: the image that it is about, or None.
    """

    kind: str
    message: str
    position: int | None = None
    image_id: str | None = None


def missing(first: int, last: int) -> Problem:
    """Return the problem that records are missing, from a first to a last one."""
    which = f"record {first} is" if first == last else f"records {first} to {last} are"
    return Problem("log", f"{which} missing", first)
