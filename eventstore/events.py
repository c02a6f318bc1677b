"""Name the facts that the log is made of.

An event says, in the past tense, what happened to one image, or to the log itself. It never
changes once it is written: these classes are also the shapes that `codec` stores, so a field is
never added, dropped or reordered here. A change of shape is a new class with a new tag, and an
upcaster in `codec` for the old one. Inside, digests are 32 bytes; the properties that end in `_id`
give them as text.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from eventstore import clock, digest


class AboutImage(Struct, frozen=True, gc=False, array_like=True):
    """What all events have: the image that they are about."""

    digest: bytes

    @property
    def image_id(self) -> str:
        """Return the id of the image as text."""
        return digest.to_text(self.digest)


class Created(AboutImage, frozen=True, gc=False, array_like=True, tag=1):
    """The image came into being; its config lies under `digest`.

    `chain` is the chain id of its layers, None without layers: the byte 1 and the 32 of the digest,
    or the byte 0 and the text itself where a config names something that is no digest. It and `os`
    stand here so that a store opened over a layer store needs to decode no config.
    """

    chain: bytes | None
    os: str

    @property
    def chain_id(self) -> str | None:
        """Return the chain id of the image's layers as text, None if it has none."""
        return None if self.chain is None else unpack_chain(self.chain)


class ParentSet(AboutImage, frozen=True, gc=False, array_like=True, tag=2):
    """The image got the parent `parent`, or lost the one that it had (None)."""

    parent: bytes | None

    @property
    def parent_id(self) -> str | None:
        """Return the id of the parent as text, None if the image lost its parent."""
        return None if self.parent is None else digest.to_text(self.parent)


class LastUpdatedSet(AboutImage, frozen=True, gc=False, array_like=True, tag=6):
    """The image was last updated at `instant_ns`, nanoseconds since 1970, UTC."""

    instant_ns: int

    @property
    def instant(self) -> datetime:
        """Return the instant as an aware datetime, cut to microseconds."""
        return clock.to_datetime(self.instant_ns)


class MarkedBuilt(AboutImage, frozen=True, gc=False, array_like=True, tag=4):
    """The image was marked as built on this host, fit for its build cache."""


class Deleted(AboutImage, frozen=True, gc=False, array_like=True, tag=5):
    """The image was deleted; images whose parent it was have none from here on."""


class Tagged(AboutImage, frozen=True, gc=False, array_like=True, tag=7):
    """The image got the name `name`; whichever image had it before has it no more.

    `name` is canonical, as `references` says. `before` is the position of the record about this
    name before this one, 0 for the first, so that the history of a name is a chain.
    """

    name: str
    before: int


class Untagged(AboutImage, frozen=True, gc=False, array_like=True, tag=8):
    """The image lost the name `name`; `before` is as that of `Tagged`."""

    name: str
    before: int


class Redacted(AboutImage, frozen=True, gc=False, array_like=True, tag=9):
    """The image's config was destroyed, whether the image was there or gone; all else stays."""


class Compacted(Struct, frozen=True, gc=False, array_like=True, tag=10):
    """Of the records up to the position `through`, those were dropped that nothing since needs.

    It is about the log and no image. What is left must lead to `root_hash`, that of the log up to
    there, and to `view`, the digest of the rows of the view there: the hashes alone would not tell
    whether more was dropped than should be. It is empty where nobody knew it.
    """

    through: int
    root_hash: bytes
    view: bytes = b""

    digest: ClassVar[bytes] = b""
    image_id: ClassVar[str] = ""


class ManifestLayer(Struct, frozen=True, gc=False, array_like=True):
    """A layer as a manifest names it: how it is packed, not what it unpacks to.

    `packed` is the digest as `pack_chain` makes it.
    """

    media_type: str
    packed: bytes
    size: int

    @property
    def digest(self) -> str:
        """Return the digest of the packed layer as text."""
        return unpack_chain(self.packed)


class Manifest(Struct, frozen=True, gc=False, array_like=True):
    """A manifest that leads to an image: its SHA-256, what kind it is, its bytes, its layers."""

    raw_digest: bytes
    media_type: str
    size: int
    layers: tuple[ManifestLayer, ...]

    @property
    def digest(self) -> str:
        """Return the digest of the manifest as text."""
        return digest.to_text(self.raw_digest)


class Described(AboutImage, frozen=True, gc=False, array_like=True, tag=11):
    """A place that held the image led to it by `manifest`; this is no part of any view."""

    manifest: Manifest


Named = Tagged | Untagged
"""Either of the events about a name."""
NAME_SIZE_MAX = 480
MEDIA_TYPE_LENGTH_MAX, MANIFEST_LAYERS_MAX, BLOB_SIZE_MAX = 255, 1024, 2**63 - 1
_LAYER_DIGEST_LENGTH_MAX = 135  # SHA-512, the longest that a manifest may use


def is_name(name: str) -> bool:
    """Tell whether a text can stand where an event has a name; its grammar is not looked at."""
    return 0 < len(name) <= NAME_SIZE_MAX and name.isascii() and name.isprintable()


def is_manifest(manifest: Manifest) -> bool:
    """Tell whether a manifest can stand where an event has one: all of it is bounded."""
    return (
        len(manifest.raw_digest) == digest.DIGEST_SIZE
        and _is_blob(manifest.media_type, manifest.size)
        and len(manifest.layers) <= MANIFEST_LAYERS_MAX
        and all(
            _is_blob(layer.media_type, layer.size)
            and len(layer.packed) <= 1 + _LAYER_DIGEST_LENGTH_MAX
            and is_chain(layer.packed)
            and layer.digest.isascii()
            and layer.digest.isprintable()
            for layer in manifest.layers
        )
    )


def _is_blob(media_type: str, size: int) -> bool:
    """Tell whether something can be the media type and the size of a blob."""
    fits = len(media_type) <= MEDIA_TYPE_LENGTH_MAX and 0 <= size <= BLOB_SIZE_MAX
    return fits and media_type.isascii() and media_type.isprintable()


def pack_chain(chain_id: str) -> bytes:
    """Return a chain id as `Created` stores it."""
    raw = digest.parse(chain_id)
    return b"\x00" + chain_id.encode("utf-8", "surrogatepass") if raw is None else b"\x01" + raw


def unpack_chain(chain: bytes) -> str:
    """Return a chain id as text; the inverse of `pack_chain`."""
    if chain[:1] == b"\x01":
        return digest.to_text(chain[1:])
    return chain[1:].decode("utf-8", "surrogatepass")


def is_chain(chain: bytes) -> bool:
    """Tell whether bytes are what `pack_chain` makes, so that `unpack_chain` takes them."""
    if chain[:1] == b"\x01":
        return len(chain) == 1 + digest.DIGEST_SIZE
    if chain[:1] != b"\x00":
        return False
    try:
        unpack_chain(chain)
    except UnicodeDecodeError:
        return False
    return True


ImageEvent = (
    Created
    | ParentSet
    | LastUpdatedSet
    | MarkedBuilt
    | Deleted
    | Tagged
    | Untagged
    | Redacted
    | Described
)
"""Any of the events about an image."""
Event = ImageEvent | Compacted
"""Any of the events."""
KINDS: dict[type, str] = {
    Created: "created",
    ParentSet: "parent-set",
    LastUpdatedSet: "last-updated-set",
    MarkedBuilt: "marked-built",
    Deleted: "deleted",
    Tagged: "tagged",
    Untagged: "untagged",
    Redacted: "redacted",
    Described: "described",
    Compacted: "compacted",
}
"""The names of the events as people read them."""


class Record(Struct, frozen=True, gc=False):
    """An event as the log holds it, with what surrounds it.

    Attributes:
        position: its number in the log, from 1, without gaps.
        time_ns: when it was appended, nanoseconds since 1970, UTC; never less than the record
            before it.
        actor: who appended it.
        reason: why, in their words.
        batch: the position of the first record of the same transaction.
        previous: the position of the same image's record before this one, 0 for its first and for
            a record about the log.
        event: what happened.
        raw: the exact bytes that are stored.
    """

    position: int
    time_ns: int
    actor: str
    reason: str
    batch: int
    previous: int
    event: Event
    raw: bytes

    @property
    def image_id(self) -> str:
        """Return the id of the image that the event is about, empty if it is about the log."""
        return self.event.image_id

    @property
    def time(self) -> datetime:
        """Return the time of appending as an aware datetime, cut to microseconds."""
        return clock.to_datetime(self.time_ns)
