"""Write images as an OCI image layout, without their layers.

The store holds configs, and configs name their layers by the digests of the unpacked archives. So
each image gets a manifest that describes its layers as archives that are not packed, under those
very digests, of the media type for layers that are not to be distributed: tools that only look
(`umoci stat`, `skopeo inspect`) find what there is to be found, and those that would unpack find
the layers missing, not changed. Their size is not known; it is given as 0.

The index lists each name of an image, whole, as `org.opencontainers.image.ref.name` and in the
annotation that containerd has for it, and an image without a name once, without one.

Source: OCI image-spec 1.0, image-layout.md, manifest.md, layer.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventstore.digest import ALGORITHM
from eventstore.docker_form import HeldImage, put

_PREFIX = "application/vnd.oci.image."
INDEX, MANIFEST = f"{_PREFIX}index.v1+json", f"{_PREFIX}manifest.v1+json"
CONFIG, LAYER = f"{_PREFIX}config.v1+json", f"{_PREFIX}layer.nondistributable.v1.tar"
REF_NAME, FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


def write(folder: Path, images: Iterable[HeldImage], names: dict[str, str]) -> None:
    """Write images into an empty folder.

    Args:
        folder: where.
        images: all of them, with their names.
        names: not looked at: each image has its own.
    """
    blobs = folder / "blobs" / ALGORITHM
    blobs.mkdir(mode=0o700, parents=True)
    listed: list[dict[str, Any]] = []
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
        named = [{"annotations": {REF_NAME: name, FULL_NAME: name}} for name in image.names]
        listed.extend(entry | annotations for annotations in named or [{}])
    put(folder / "index.json", _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}))
    put(folder / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _manifest(image: HeldImage) -> dict[str, Any]:
    config = {"mediaType": CONFIG, "digest": image.image_id, "size": len(image.config)}
    layers = [{"mediaType": LAYER, "digest": diff_id, "size": 0} for diff_id in image.diff_ids]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
