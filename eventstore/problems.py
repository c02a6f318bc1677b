"""Say what does not agree in a store, or what was lost of one: what `verify` and `salvage` find."""

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
