"""Write images as a Docker daemon keeps them on disk, byte for byte.

The folder holds what lies in `image/<driver>` of a daemon's data root, apart from its layers::

    imagedb/content/sha256/<hex>                 the config, as it is
    imagedb/metadata/sha256/<hex>/parent         the id of the parent
    imagedb/metadata/sha256/<hex>/lastUpdated    RFC 3339 in UTC, as Go prints it
    imagedb/metadata/sha256/<hex>/builtLocally   the byte 1
    repositories.json                            the names, by repository

None of the files ends with a line end; folders have mode 0700, files 0600. A daemon may keep a
metadata folder that holds nothing; that says nothing, and none is written. It lists an image with
layers only if its own `layerdb`, beside `imagedb`, has them.

Source of the form: Docker's `image/fs.go`, `image/store.go` and `reference/store.go`, and the
databases of real daemons.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from eventstore import clock, references
from eventstore.digest import ALGORITHM
from eventstore.events import ManifestLayer

IMAGEDB, REPOSITORIES = "imagedb", "repositories.json"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class HeldImage(Struct, frozen=True):
    """An image of a moment, with all that a store knows of it.

    Attributes:
        image_id: its id.
        config: the exact bytes of its config.
        parent: the id of its parent, None if it has none.
        last_updated_ns: when it was last updated, nanoseconds since 1970, UTC; None if never.
        built_locally: whether it was built on its host.
        names: its names, canonical and sorted.
        diff_ids: the digests of its layers, unpacked, the lowest first.
        packed: its layers as the newest manifest that is known has them; None if none is.
    """

    image_id: str
    config: bytes
    parent: str | None
    last_updated_ns: int | None
    built_locally: bool
    names: tuple[str, ...]
    diff_ids: tuple[str, ...]
    packed: tuple[ManifestLayer, ...] | None = None


def write(folder: Path, images: Iterable[HeldImage]) -> tuple[str, ...]:
    """Write images and names into an empty folder.

    Args:
        folder: where.
        images: all of them, with their names.

    Returns:
        The names that could not be written: none.
    """
    content = _make(folder, IMAGEDB, "content", ALGORITHM)
    metadata = _make(folder, IMAGEDB, "metadata", ALGORITHM)
    names: dict[str, str] = {}
    for image in images:
        names.update(dict.fromkeys(image.names, image.image_id))
        digits = image.image_id.removeprefix(f"{ALGORITHM}:")
        put(content / digits, image.config)
        facts = _facts(image)
        if facts:
            below = _make(metadata, digits)
            for name, value in facts.items():
                put(below / name, value)
    put(folder / REPOSITORIES, repositories(names))
    return ()


def put(path: Path, content: bytes) -> None:
    """Write a new file that nobody else may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with open(handle, "wb") as file:
        file.write(content)


def _make(folder: Path, *names: str) -> Path:
    for name in names:
        folder /= name
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    return folder


def _facts(image: HeldImage) -> dict[str, bytes]:
    """Return the metadata files of an image."""
    facts: dict[str, bytes] = {}
    if image.parent is not None:
        facts["parent"] = image.parent.encode()
    if image.last_updated_ns is not None:
        facts["lastUpdated"] = clock.to_rfc3339(image.last_updated_ns).encode()
    if image.built_locally:
        facts["builtLocally"] = b"\x01"
    return facts


def repositories(names: dict[str, str]) -> bytes:
    """Return the names as the daemon's file of them has them.

    Args:
        names: canonical names, and the ids of their images.
    """
    found: dict[str, dict[str, str]] = {}
    for name, image_id in names.items():
        reference = references.parse(name)
        found.setdefault(reference.repository, {})[reference.familiar] = image_id
    # Go sorts the keys of a map, and nothing in a name is written otherwise in JSON.
    return json.dumps({"Repositories": found}, sort_keys=True, separators=(",", ":")).encode()
