"""Make small, valid image configs, and stores of which no earlier commit is left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from eventstore.lmdb_pages import PageFile


def config(name: str, *, layers: int = 0, os: str = "linux") -> bytes:
    """Return the config of an image that differs from all others in its name.

    Args:
        name: stands in the comment.
        layers: how many layers it has; they differ from those of other images.
        os: its operating system.
    """
    diff_ids = [
        "sha256:" + hashlib.sha256(f"{name} {number}".encode()).hexdigest()
        for number in range(layers)
    ]
    history = [{"created_by": f"step {number}"} for number in range(layers)]
    value = {
        "architecture": "amd64",
        "comment": name,
        "history": history,
        "os": os,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(value).encode()


def id_of(raw: bytes) -> str:
    """Return the id that an image config has."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def zero_free_pages(path: Path) -> None:
    """Let no copy of an earlier commit be left."""
    with PageFile(path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        _, free = pages.free_pages(newest, [])
        size = pages.page_size
    with open(path / "data.mdb", "r+b") as file:
        for number in free:
            file.seek(number * size)
            file.write(bytes(size))
