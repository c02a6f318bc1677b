"""Make small, valid image configs."""

from __future__ import annotations

import hashlib
import json


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
