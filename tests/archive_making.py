"""Make image layouts and archives of any shape, sound and hostile ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventstore.sources.found import Findings
from eventstore.sources.image_archive import read_stream
from making import config, id_of

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
Files = dict[str, bytes]


def as_json(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


def blob_path(content: bytes) -> str:
    """Return where a layout has a blob."""
    return "blobs/" + id_of(content).replace(":", "/")


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Return what names a blob."""
    size = len(content)
    return {"mediaType": media_type, "digest": id_of(content), "size": size} | more


def manifest_of(raw: bytes, *, layers: int = 0, media_type: str = CONFIG_TYPE) -> bytes:
    """Return the manifest of a config."""
    packed = [descriptor(b"layer %d" % number, LAYER_TYPE) for number in range(layers)]
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(raw, media_type),
        "layers": packed,
    }
    return as_json(value)


def layout(descriptors: Iterable[dict[str, Any]], *blobs: bytes) -> Files:
    """Return the files of a layout."""
    index = {"schemaVersion": 2, "manifests": list(descriptors)}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": as_json(index)}
    return files | {blob_path(blob): blob for blob in blobs}


def simple_layout(name: str = "app:1", raw: bytes = config("app", layers=2)) -> Files:
    """Return the files of a layout of one image with two layers."""
    manifest = manifest_of(raw, layers=2)
    annotations = {"org.opencontainers.image.ref.name": name}
    named = descriptor(manifest, MANIFEST_TYPE, annotations=annotations)
    return layout([named], manifest, raw)


def saved(*entries: dict[str, Any], **files: bytes) -> Files:
    """Return the files of what `docker save` writes, with other files before them."""
    return {**files, "manifest.json": as_json(list(entries))}


def simple_saved(*names: str, raw: bytes = config("app")) -> Files:
    """Return the files of what `docker save` writes of one image without layers."""
    path = f"{id_of(raw)[7:]}.json"
    return {path: raw, **saved({"Config": path, "RepoTags": list(names), "Layers": []})}


def lay(files: Files, folder: Path) -> Path:
    """Lay files into a folder, and return it."""
    for path, content in files.items():
        folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(path).write_bytes(content)
    return folder


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> bytes:
    """Return the bytes of a member."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.size = kind, to, len(content)
    raw = header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return raw + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def archive(files: Files, *more: bytes, end: bytes = bytes(1024)) -> bytes:
    """Return a tar of files, with other members before them."""
    return b"".join(more) + b"".join(member(*file) for file in files.items()) + end


def read(content: bytes, *, platform: str | None = None) -> Findings:
    """Read an archive."""
    return read_stream(io.BytesIO(content), "it", platform=platform)


def kinds(found: Findings) -> list[str]:
    """Return the kinds of what was passed over."""
    return [entry.kind for entry in found.passed_over]
