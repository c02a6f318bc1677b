"""Read an OCI image layout: the images that its index leads to, by way of manifests.

What counts is what the index names, in itself or in indexes below it, of every platform. Each blob
must be what its digest and size say. A name is the annotation `io.containerd.image.name`, else
`org.opencontainers.image.ref.name` where that is more than a bare tag; one that leads to images of
several platforms is given to that of this host. What does not count is reported::

    attestation           a manifest that says something about another one, as BuildKit adds them
    not-an-image          a manifest whose config is that of something else
    unknown-media-type    neither an index nor a manifest
    unknown-digest        a digest that is no SHA-256
    missing               a blob that is not there, as where only one platform was copied
    not-a-file            a blob that is no regular file
    not-json              a blob that should be JSON, and is not
    too-large             one beyond the bounds
    unreadable            the disk refused to give the bytes
    digest-mismatch       a blob that is not what its digest says
    size-mismatch         a blob that has not the size that was said
    ambiguous-manifest    what could be an index as well as a manifest, or is not what was said
    invalid-manifest      a manifest or an index that makes no sense
    invalid-config        a config that Docker cannot decode
    layers-mismatch       a manifest that has not as many layers as its config
    too-deep              an index in an index in an index, and so on
    other-platform        an image for another platform than the one that was asked for
    bare-tag              a tag without a repository, which names no image
    invalid-name          a name that Docker would refuse
    name-twice            a name that was given to two images; the last one counts
    name-of-many          a name of images for several platforms, none of which is this host's
    layout-missing        there is no `oci-layout` file, which every layout should have

The kinds of `image_archive`, which uses this, are listed there.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from eventstore import digest, events, go_json, host, oci_form, references
from eventstore.errors import (
    InvalidImageError,
    InvalidReferenceError,
    SourceError,
    StoreUsageError,
)
from eventstore.events import Created, Manifest, ManifestLayer, pack_chain
from eventstore.go_json import GoJSONError
from eventstore.image import CONFIG_SIZE_MAX, Image
from eventstore.sources import parents
from eventstore.sources.found import Findings, PassedOver, SourceImage, printable
from eventstore.sources.image_files import ImageFiles, MissingFileError

MANIFEST_SIZE_MAX = 1 << 22
INDEX_DEPTH_MAX = 8
DESCRIPTORS_MAX = 1 << 16
PARTS_MAX = 3  # of a platform: operating system, architecture, variant
READ_SIZE_MAX = 1 << 29
"""How many bytes of blobs are looked at, those that are named again counted again."""
INDEX, LAYOUT = "index.json", "oci-layout"
_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
_IMAGE_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_REFERENCE_TYPE, _ATTESTATION = "vnd.docker.reference.type", "attestation-manifest"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_LAYER_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_PLATFORM = go_json.struct_of(
    {"os": ("os", go_json.string), "architecture": ("architecture", go_json.string)}
)
_DESCRIPTOR = go_json.struct_of(
    {
        "mediaType": ("media_type", go_json.string),
        "digest": ("digest", go_json.string),
        "size": ("size", go_json.integer),
        "annotations": ("annotations", go_json.map_of(go_json.string, str)),
        "platform": ("platform", _PLATFORM),
    },
    null_resets=False,
)
_DOCUMENT = go_json.struct_of(
    {
        "mediaType": ("media_type", go_json.string),
        "manifests": ("manifests", go_json.list_of(_DESCRIPTOR, dict)),
        "config": ("config", _DESCRIPTOR),
        "layers": ("layers", go_json.list_of(_DESCRIPTOR, dict)),
    }
)
_LAYOUT_FILE = go_json.struct_of({"imageLayoutVersion": ("version", go_json.string)})
# What is refused because of who names it, or how deep, and not of the blob itself.
_OF_A_DESCRIPTOR = {"attestation", "too-deep", "unknown-media-type"}
Descriptor = dict[str, Any]
Platform = tuple[str, str, str]


class Refused(Exception):  # noqa: N818 (it is a finding on the way to the report, not an error)
    """Something that is passed over."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(detail)


class Decoded(Struct, frozen=True):
    """An image of a source, and what its config says that names and manifests are held against."""

    image: SourceImage
    platform: Platform
    layers: int


class Collection:
    """What is found in a source, as it is found.

    Attributes:
        images: those that count, by id.
        names: canonical names, and ids.
        manifests: those that lead to each image.
        passed_over: what does not count.
    """

    def __init__(self, platform: str | None = None) -> None:
        """Begin with nothing.

        Args:
            platform: whose images count, such as `linux/arm64`; all if not given.

        Raises:
            StoreUsageError: that is no platform.
        """
        self.images: dict[str, Decoded] = {}
        self.names: dict[str, str] = {}
        self.manifests: dict[str, dict[Manifest, None]] = {}
        self.passed_over: list[PassedOver] = []
        self._wanted = None if platform is None else platform.split("/")
        if self._wanted is not None and not (len(self._wanted) <= PARTS_MAX and all(self._wanted)):
            raise StoreUsageError(f"{platform!r} is no platform: give one such as linux/arm64")
        self._decoded: dict[str, Decoded | Refused] = {}
        self._room = READ_SIZE_MAX

    def pass_over(self, kind: str, name: str, detail: str, *, unsure: bool = False) -> None:
        """Report one thing."""
        self.passed_over.append(PassedOver(kind, printable(name), printable(detail), unsure))

    def look_at(self, raw: bytes, place: str) -> bytes:
        """Return bytes of a blob, or refuse: a few can be named so often that it takes for ever.

        Raises:
            SourceError: they are beyond the bounds.
        """
        self._room -= len(raw)
        if self._room < 0:
            raise SourceError(
                place,
                f"leads to more than {READ_SIZE_MAX} bytes of JSON,"
                " what is named twice counted twice",
            )
        return raw

    def add(self, config: bytes) -> Decoded:
        """Decode a config and take its image in.

        Raises:
            Refused: Docker cannot decode it, or it is for another platform.
        """
        image_id = digest.to_text(digest.digest_of(config))
        found = self._decoded.get(image_id)
        if found is None:
            try:
                found = self._decode(config)
            except Refused as refused:
                # A new one: what was raised holds on to all that was read on the way.
                found = Refused(refused.kind, refused.detail)
            self._decoded[image_id] = found
        if isinstance(found, Refused):
            raise Refused(found.kind, found.detail)
        return self.images.setdefault(image_id, found)

    def _decode(self, config: bytes) -> Decoded:
        try:
            image = Image.from_stored(config)
        except InvalidImageError as error:
            raise Refused("invalid-config", error.reason) from error
        platform = image.os, image.architecture, image.variant
        if self._wanted is not None and [*platform][: len(self._wanted)] != self._wanted:
            raise Refused("other-platform", f"it is for {'/'.join(filter(None, platform))}")
        chain_id = image.root_fs.chain_id()
        chain = pack_chain(chain_id) if chain_id else None
        created = Created(digest.require(image.id), chain, image.os)
        source = SourceImage(image.id, config, created=created)
        return Decoded(source, platform, len(image.root_fs.diff_ids))

    def name(self, text: str, image_id: str) -> None:
        """Give an image a name, if it is one."""
        try:
            name = references.canonical(text)
        except InvalidReferenceError as error:
            self.pass_over("invalid-name", text, error.reason)
            return
        before = self.names.get(name)
        if before not in (None, image_id):
            self.pass_over("name-twice", name, f"{before} had it before {image_id}")
        self.names[name] = image_id

    def findings(self) -> Findings:
        """Return all that was found; parents are checked."""
        images = {image_id: found.image for image_id, found in self.images.items()}
        parents.check(images, (), self.pass_over)
        ordered = [images[image_id] for image_id in sorted(images)]
        names = {name: image for name, image in self.names.items() if image in images}
        manifests = {image: [*known] for image, known in self.manifests.items()}
        return Findings(ordered, self.passed_over, names, manifests)

    def describe(self, image_id: str, manifest: Manifest) -> None:
        """Note a manifest that leads to an image."""
        self.manifests.setdefault(image_id, {}).setdefault(manifest)


def read_layout(files: ImageFiles, found: Collection, place: str) -> None:
    """Take in all images of a layout.

    Args:
        files: the layout's.
        found: takes what is found.
        place: how the layout is called in errors.

    Raises:
        SourceError: its index cannot be read or makes no sense, or it is of a later version.
    """
    try:
        version = _text(decode(_LAYOUT_FILE, files.read(LAYOUT, MANIFEST_SIZE_MAX)), "version")
    except MissingFileError as error:
        found.pass_over("layout-missing", LAYOUT, error.detail)
    except Refused as error:
        raise SourceError(place, f"its {LAYOUT} file makes no sense: {error.detail}") from error
    else:
        if not version.startswith("1."):
            raise SourceError(place, f"is a layout of version {version[:40]!r}, not 1")
    try:
        index = decode(_DOCUMENT, files.read(INDEX, MANIFEST_SIZE_MAX))
    except (MissingFileError, Refused) as error:
        raise SourceError(place, f"its {INDEX} cannot be read: {error.detail}") from error
    if index.get("config") or index.get("layers"):
        raise SourceError(place, f"its {INDEX} could be a manifest as well")
    _Reading(files, found, place).take_all(index.get("manifests") or [])


class _Reading:
    """One reading of a layout; what a digest leads to is looked at once."""

    def __init__(self, files: ImageFiles, found: Collection, place: str) -> None:
        self._files = files
        self._found = found
        self._place = place
        self._known: dict[str, dict[str, Platform]] = {}
        self._refused: dict[tuple[str, str, int], tuple[str, str]] = {}
        self._room = DESCRIPTORS_MAX

    def take_all(self, descriptors: list[Descriptor], depth: int = 0) -> dict[str, Platform]:
        """Return the images that descriptors lead to, and their platforms."""
        images: dict[str, Platform] = {}
        self._room -= len(descriptors)
        if self._room < 0:
            raise SourceError(self._place, f"names more than {DESCRIPTORS_MAX} manifests")
        for descriptor in descriptors:
            name = _text(descriptor, "digest")
            try:
                led_to = self._take_once(descriptor, depth)
            except Refused as refused:
                self._found.pass_over(refused.kind, name, refused.detail)
            except MissingFileError as error:
                self._found.pass_over(error.kind, name, error.detail)
            else:
                self._name(descriptor, led_to)
                images |= led_to
        return images

    def _take_once(self, descriptor: Descriptor, depth: int) -> dict[str, Platform]:
        """Do what `_take` does, and decode no blob again that was refused."""
        media_type, name = _text(descriptor, "media_type"), _text(descriptor, "digest")
        key = media_type, name, descriptor.get("size") or 0
        if key in self._refused:
            raise Refused(*self._refused[key])
        try:
            return self._take(descriptor, depth)
        except (Refused, MissingFileError) as refused:
            if refused.kind not in _OF_A_DESCRIPTOR:
                self._refused[key] = refused.kind, refused.detail
            raise

    def _take(self, descriptor: Descriptor, depth: int) -> dict[str, Platform]:
        """Return the images that a descriptor leads to.

        Raises:
            Refused: it does not count.
            MissingFileError: it leads to nothing.
        """
        annotations = _annotations(descriptor)
        platform: Descriptor | None = descriptor.get("platform")
        if annotations.get(_REFERENCE_TYPE) == _ATTESTATION:
            raise Refused("attestation", f"it is about {annotations.get(_REFERENCE_DIGEST)}")
        if _text(platform, "os") == _text(platform, "architecture") == "unknown":
            raise Refused("attestation", "it is for no platform")
        media_type, name = _text(descriptor, "media_type"), _text(descriptor, "digest")
        if media_type not in _INDEXES | _MANIFESTS:
            raise Refused("unknown-media-type", f"it is {media_type!r}")
        known = self._known.get(name)
        if known is not None:
            return known
        is_index = media_type in _INDEXES
        if is_index and depth == INDEX_DEPTH_MAX:
            raise Refused("too-deep", f"more than {INDEX_DEPTH_MAX} indexes lead to it")
        raw = self._blob(descriptor, MANIFEST_SIZE_MAX)
        document = decode(_DOCUMENT, raw)
        said = document.get("media_type") or media_type
        has_other = (
            document.get("config") or document.get("layers")
            if is_index
            else document.get("manifests")
        )
        if said != media_type or has_other:
            detail = f"it should be {media_type}, and is {said}"
            raise Refused("ambiguous-manifest", f"{detail}, or both" if has_other else detail)
        if not is_index:
            images = self._image(media_type, raw, document)
        else:
            images = self.take_all(document.get("manifests") or [], depth + 1)
        self._known[name] = images
        return images

    def _image(self, media_type: str, raw: bytes, document: dict[str, Any]) -> dict[str, Platform]:
        """Take in the image that a manifest leads to."""
        config: Descriptor = document.get("config") or {}
        if _text(config, "media_type") not in _CONFIGS:
            raise Refused("not-an-image", f"its config is {_text(config, 'media_type')!r}")
        layers: list[Descriptor] = document.get("layers") or []
        manifest = Manifest(digest.digest_of(raw), media_type, len(raw), tuple(map(_layer, layers)))
        if not events.is_manifest(manifest):
            raise Refused("invalid-manifest", "its layers are beyond the bounds")
        image = self._found.add(self._blob(config, CONFIG_SIZE_MAX))
        image_id = image.image.image_id
        if image.layers != len(layers):
            if image_id not in self._found.manifests:
                del self._found.images[image_id]
            detail = f"it has {len(layers)} layers, its config {image.layers}"
            raise Refused("layers-mismatch", detail)
        if not any(_is_made_up(layer) for layer in manifest.layers):
            self._found.describe(image_id, manifest)
        return {image_id: image.platform}

    def _blob(self, descriptor: Descriptor, size_max: int) -> bytes:
        """Return the bytes that a descriptor is of.

        Raises:
            Refused: they are others.
            MissingFileError: there are none.
        """
        name, size = _text(descriptor, "digest"), descriptor.get("size") or 0
        wanted = digest.parse(name)
        if wanted is None:
            raise Refused("unknown-digest", f"{name[:80]!r} is no SHA-256")
        path = "blobs/" + name.replace(":", "/")
        raw = self._found.look_at(self._files.read(path, size_max), self._place)
        if digest.digest_of(raw) != wanted:
            raise Refused(
                "digest-mismatch", f"the blob {name} is {digest.to_text(digest.digest_of(raw))}"
            )
        if len(raw) != size:
            raise Refused("size-mismatch", f"the blob {name} has {len(raw)} bytes, not {size}")
        return raw

    def _name(self, descriptor: Descriptor, images: dict[str, Platform]) -> None:
        """Give an image the name that a descriptor has, if it has one."""
        annotations = _annotations(descriptor)
        text = annotations.get(_IMAGE_NAME) or annotations.get(_REF_NAME)
        if not text or not images:
            return
        if not any(mark in text for mark in "/:@"):
            self._found.pass_over("bare-tag", text, "it names no repository, so no image")
            return
        wanted = host.operating_system(), host.architecture()
        own = [one for one, platform in images.items() if platform[:2] == wanted]
        if len(images) == 1:
            own = list(images)
        if len(own) == 1:
            self._found.name(text, own[0])
        else:
            detail = f"it leads to {len(images)} images, {len(own)} of them for this host"
            self._found.pass_over("name-of-many", text, detail)


def _annotations(descriptor: Descriptor) -> dict[str, str]:
    found: dict[str, str] | None = descriptor.get("annotations")
    return found or {}


def _text(value: dict[str, Any] | None, key: str) -> str:
    """Return a text of an object, which may lack it."""
    return (value or {}).get(key) or ""


def _is_made_up(layer: ManifestLayer) -> bool:
    """Tell whether a layer is one that our own exports describe where they know nothing of it."""
    return layer.size == 0 and layer.media_type == oci_form.LAYER


def _layer(descriptor: Descriptor) -> ManifestLayer:
    """Return a layer as a manifest names it.

    Raises:
        Refused: its digest is none.
    """
    name = _text(descriptor, "digest")
    if not _LAYER_DIGEST.fullmatch(name):
        raise Refused("invalid-manifest", f"{name[:80]!r} is no digest of a layer")
    media_type = _text(descriptor, "media_type")
    return ManifestLayer(media_type, pack_chain(name), descriptor.get("size") or 0)


def decode(kind: go_json.Kind, raw: bytes) -> Any:
    """Return JSON as Go decodes it; null is an empty object.

    Raises:
        Refused: it is none, or of other types.
    """
    try:
        value = kind(go_json.parse(raw), None)
    except GoJSONError as error:
        raise Refused("invalid-manifest", str(error)) from error
    return {} if value is None else value
