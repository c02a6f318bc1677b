"""Read images from where they were put to be carried elsewhere: a layout, or an archive of one.

An archive is a tar, as it is or packed, in a file or from a pipe, with one of these in it, at the
top or in the only folder there::

    manifest.json    as `docker save`, Podman and skopeo write it: configs, names, parents
    index.json       an OCI image layout, see `oci_layout`

Since Docker 25 both are there; then the images and names of both are taken, and manifests come from
the layout. What does not count is reported under the kinds of `oci_layout`, and these::

    unsafe-name          a member that leads out of the archive; nothing is ever laid anywhere
    not-a-file           a link, a device or a pipe; links between layers are as they should be
    trailing-data        something follows the end of the archive
    parent-invalid       the noted parent is no image id; the image counts, without a parent
    parent-missing       the noted parent is not in the archive; the same
    parent-cycle         the image is its own ancestor; the same

Old archives name layers by what Docker called them then, and so lead to no manifest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from eventstore import digest, go_json, regular_file
from eventstore.errors import SourceError
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.regular_file import Folder
from eventstore.sources.archive_bytes import UnpackedBytes
from eventstore.sources.found import Findings
from eventstore.sources.image_files import (
    ArchiveFiles,
    FolderFiles,
    MissingFileError,
    read_archive,
    relative,
)
from eventstore.sources.oci_layout import INDEX, Collection, Refused, decode, read_layout

MANIFEST = "manifest.json"
SAVED_SIZE_MAX = 1 << 24
SAVED_MAX = 1 << 16
_SAVED = go_json.list_of(
    go_json.struct_of(
        {
            "Config": ("config", go_json.string),
            "RepoTags": ("names", go_json.list_of(go_json.string, str)),
            "Layers": ("layers", go_json.list_of(go_json.string, str)),
            "Parent": ("parent", go_json.string),
        },
        null_resets=False,
    ),
    dict,
)
_NAMED_BY_DIGEST = re.compile(r"(?:.*[/:])?([0-9a-f]{64})(?:\.json)?", re.DOTALL)


def read_path(source: str | os.PathLike[str], *, platform: str | None = None) -> Findings:
    """Read a folder that is an OCI image layout, or a file that is an archive.

    Args:
        source: which one.
        platform: whose images count, such as `linux/arm64`; all if not given.

    Raises:
        SourceError: it is neither, damaged, hostile, or may not be read.
        StoreUsageError: it is packed with Zstandard, and `zstandard` is not installed; or
            `platform` is none.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _read_folder(path, platform)
        with path.open("rb") as file:
            return read_stream(file, str(path), platform=platform)
    except FileNotFoundError as error:
        raise SourceError(str(path), "there is no such file or folder") from error
    except OSError as error:
        raise regular_file.not_allowed(path, error) from error
    except ValueError as error:
        raise SourceError(repr(str(path)), f"is no path: {error}") from error


def read_stream(file: BinaryIO, name: str, *, platform: str | None = None) -> Findings:
    """Read an archive from a file or a pipe, once from its first to its last byte.

    Args:
        file: the archive.
        name: how it is called in errors.
        platform: whose images count, such as `linux/arm64`; all if not given.

    Raises:
        SourceError: it is none, damaged, or hostile.
        StoreUsageError: it is packed with Zstandard, and `zstandard` is not installed; or
            `platform` is none.
    """
    files = read_archive(UnpackedBytes(file, name))
    files = files.below(_top(files, name))
    found = Collection(platform)
    found.passed_over += files.passed_over
    if INDEX in files.files:
        read_layout(files, found, name)
    if MANIFEST in files.files:
        _Saved(files, found, name).take_all()
    return found.findings()


def _read_folder(path: Path, platform: str | None) -> Findings:
    folder = Folder.open(path)
    if folder is None:
        raise SourceError(str(path), "has gone away")
    with folder:
        if not folder.has(INDEX):
            raise SourceError(str(path), f"is no image layout: there is no {INDEX} in it")
        found = Collection(platform)
        read_layout(FolderFiles(folder), found, str(path))
    return found.findings()


def _top(files: ArchiveFiles, name: str) -> str:
    """Return the folder of an archive that an image layout or archive begins in."""
    tops: set[str] = set()
    for path in files.files:
        top, _, last = path.rpartition("/")
        if last in (MANIFEST, INDEX) and "/" not in top:
            tops.add(top)
    if not tops:
        raise SourceError(name, f"is no image archive: there is no {MANIFEST} or {INDEX} in it")
    if "" in tops:
        return ""
    if len(tops) > 1:
        raise SourceError(name, f"holds several layouts, such as {min(tops)[:80]!r}")
    return tops.pop()


class _Saved:
    """The images that a `manifest.json` lists."""

    def __init__(self, files: ArchiveFiles, found: Collection, place: str) -> None:
        self._files = files
        self._found = found
        self._place = place

    def take_all(self) -> None:
        """Take in all images.

        Raises:
            SourceError: the list cannot be read or makes no sense.
        """
        try:
            entries = decode(_SAVED, self._files.read(MANIFEST, SAVED_SIZE_MAX))
        except (MissingFileError, Refused) as error:
            raise SourceError(
                self._place, f"its {MANIFEST} makes no sense: {error.detail}"
            ) from error
        if len(entries) > SAVED_MAX:
            raise SourceError(self._place, f"its {MANIFEST} lists more than {SAVED_MAX} images")
        for entry in entries:
            name = entry.get("config") or ""
            try:
                self._take(name, entry)
            except (MissingFileError, Refused) as refused:
                self._found.pass_over(refused.kind, name or MANIFEST, refused.detail)

    def _take(self, name: str, entry: dict[str, Any]) -> None:
        """Take in one image with its names and its parent.

        Raises:
            Refused: it does not count.
            MissingFileError: its config is not there.
        """
        path = relative(name)
        if not path:
            raise Refused("unsafe-name", "its config leads out of the archive")
        raw = self._found.look_at(self._files.read(path, CONFIG_SIZE_MAX), self._place)
        claimed = _NAMED_BY_DIGEST.fullmatch(path)
        image_id = digest.to_text(digest.digest_of(raw))
        if claimed is not None and digest.PREFIX + claimed[1] != image_id:
            raise Refused("digest-mismatch", f"the config {path} is {image_id}")
        known = image_id in self._found.images
        decoded = self._found.add(raw)
        layers = entry.get("layers") or ()
        if len(layers) != decoded.layers:
            if not known:
                del self._found.images[image_id]
            detail = f"it has {len(layers)} layers, its config {decoded.layers}"
            raise Refused("layers-mismatch", detail)
        for text in entry.get("names") or ():
            self._found.name(text, image_id)
        parent = entry.get("parent")
        if parent:
            self._set_parent(image_id, parent)

    def _set_parent(self, image_id: str, parent: str) -> None:
        if digest.parse(parent) is None:
            self._found.pass_over("parent-invalid", image_id, f"{parent!r} is no image id")
            return
        decoded = self._found.images[image_id]
        image = msgspec.structs.replace(decoded.image, parent=parent)
        self._found.images[image_id] = msgspec.structs.replace(decoded, image=image)
