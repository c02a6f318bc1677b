"""Write images as an OCI image layout, without their layers.

The store holds configs, and configs name their layers by the digests of the unpacked archives.
Where a manifest of the image is known, its layers are described as they are there, and whoever has
those blobs can put them beside. Else they are described as archives that are not packed, under the
digests in the config, of the media type for layers that are not to be distributed; their size is
not known, and given as 0. Tools that only look (`umoci stat`, `skopeo inspect`) find what there is
to be found, and those that would unpack find the layers missing, not changed.

The index lists each name of an image, whole, as `org.opencontainers.image.ref.name` and in the
annotation that containerd has for it, and an image without a name once, without one. Docker has
names that the grammar of the former does not allow, such as `a__b:1`; they stand in the latter
alone.

Source: OCI image-spec 1.0, image-layout.md, manifest.md, layer.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventstore.digest import ALGORITHM
from eventstore.docker_form import HeldImage, put
from eventstore.errors import InvalidImageError
from eventstore.events import ManifestLayer

_PREFIX = "application/vnd.oci.image."
INDEX, MANIFEST = f"{_PREFIX}index.v1+json", f"{_PREFIX}manifest.v1+json"
CONFIG, LAYER = f"{_PREFIX}config.v1+json", f"{_PREFIX}layer.nondistributable.v1.tar"
_OF_DOCKER = {
    "application/vnd.docker.image.rootfs.diff.tar": f"{_PREFIX}layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_PREFIX}layer.v1.tar+gzip",
}
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:--|[-._:@+/])[A-Za-z0-9]+)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
REF_NAME, FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


def write(folder: Path, images: Iterable[HeldImage]) -> tuple[str, ...]:
    """Write images into an empty folder.

    Args:
        folder: where.
        images: all of them, with their names.

    Returns:
        The names that tools which go by `ref.name` do not find.

    Raises:
        InvalidImageError: a layer of an image is called by what is no digest.
    """
    blobs = folder / "blobs" / ALGORITHM
    blobs.mkdir(mode=0o700, parents=True)
    listed: list[dict[str, Any]] = []
    unlisted: list[str] = []
    for image in images:
        put(blobs / image.image_id.removeprefix(f"{ALGORITHM}:"), image.config)
        manifest = _json(_manifest(image))
        digits = hashlib.sha256(manifest).hexdigest()
        put(blobs / digits, manifest)
        entry = {
            "mediaType": MANIFEST,
            "digest": f"{ALGORITHM}:{digits}",
            "size": len(manifest),
        }
        named = [{"annotations": _annotations(name)} for name in image.names]
        unlisted += [name for name in image.names if not _REF.fullmatch(name)]
        listed.extend(entry | annotations for annotations in named or [{}])
    put(folder / "index.json", _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}))
    put(folder / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    return tuple(sorted(unlisted))


def _annotations(name: str) -> dict[str, str]:
    return {REF_NAME: name, FULL_NAME: name} if _REF.fullmatch(name) else {FULL_NAME: name}


def _manifest(image: HeldImage) -> dict[str, Any]:
    config = {"mediaType": CONFIG, "digest": image.image_id, "size": len(image.config)}
    known = None if image.packed is None else [_described(layer) for layer in image.packed]
    if known is not None and len(known) == len(image.diff_ids) and all(known):
        return _document(config, known)
    strange = next((it for it in image.diff_ids if not _DIGEST.fullmatch(it)), None)
    if strange is not None:
        raise InvalidImageError(f"{image.image_id} calls a layer {strange[:80]!r}, no digest")
    layers = [{"mediaType": LAYER, "digest": diff_id, "size": 0} for diff_id in image.diff_ids]
    return _document(config, layers)


def _described(layer: ManifestLayer) -> dict[str, Any]:
    """Return the descriptor of a layer that a manifest had, empty if OCI has no such layers."""
    media_type = _OF_DOCKER.get(layer.media_type, layer.media_type)
    if not media_type.startswith(f"{_PREFIX}layer."):
        return {}
    return {"mediaType": media_type, "digest": layer.digest, "size": layer.size}


def _document(config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
