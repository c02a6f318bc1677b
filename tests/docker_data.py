"""The real Docker databases in `data/docker`, unpacked, with what Docker itself said of them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from eventstore import digest, references
from eventstore.image import parse_instant
from eventstore.view import ImageView

DATA = Path(__file__).resolve().parent / "data" / "docker"
HOSTS = ("host-a-1", "host-a-2", "host-a-3", "host-a-5")
CRASHES = tuple(sorted(path.name[:-5] for path in DATA.glob("crash-*.json")))
DAMAGED = "damaged-28.5.2"
NEVER = "0001-01-01T00:00:00Z"


def unpack(name: str, folder: Path) -> Path:
    """Unpack a database into a folder and return its data root."""
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    return folder / name


def imagedb(root: Path) -> Path:
    """Return the only image database under a data root."""
    (found,) = root.glob("image/*/imagedb")
    return found


def said(name: str) -> dict[str, Any]:
    """Return what Docker said of a database."""
    answer: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    return answer


def instant(text: str | None) -> int | None:
    """Return a last tag time as Docker prints it in nanoseconds, None for never."""
    return None if text is None or text == NEVER else parse_instant(text)


Facts = dict[str, tuple[str | None, int | None]]


def listed(name: str) -> Facts:
    """Return parents and last tag times by id, of all images that Docker listed."""
    return {
        image["id"]: (image["parent"] or None, instant(image["last_tag_time"]))
        for image in said(name)["images"]
    }


def names(name: str) -> dict[str, str]:
    """Return canonical names, of tags and digests, and image ids, as Docker listed them."""
    return {
        references.canonical(text): image["id"]
        for image in said(name)["images"]
        for text in (image["repo_tags"] or []) + (image["repo_digests"] or [])
    }


def known(view: ImageView) -> Facts:
    """Return parents and last updates by id, of all images of a view."""
    facts: Facts = {}
    for image_id in view:
        state = view.state(digest.require(image_id))
        assert state is not None
        facts[image_id] = (view.get_parent(image_id), state.last_updated)
    return facts


def built(root: Path) -> set[str]:
    """Return the ids of the images that Docker marked as built locally, read from the files."""
    marks = (imagedb(root) / "metadata" / "sha256").glob("*/builtLocally")
    return {f"sha256:{mark.parent.name}" for mark in marks if mark.read_bytes()[:1] == b"\x01"}
