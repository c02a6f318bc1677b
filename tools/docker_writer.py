"""Change a Docker image database on disk as the daemon does, file for file, in its order.

Each file is written beside its place under a `.tmp-` name, synced, and renamed. An image's config
comes before its metadata; a name goes to `repositories.json` before the last update is noted; an
image that is removed loses its children's notes of it, its metadata, and last its config. So moby's
`image/fs.go`, `image/store.go`, `reference/store.go` and `pkg/ioutils` do it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path


class DockerWriter:
    """One database, written to as by its daemon."""

    def __init__(self, root: Path) -> None:
        """Write to the data root `root`, and make it if it is not there."""
        driver = root / "image" / "overlay2"
        self.content = driver / "imagedb" / "content" / "sha256"
        self.metadata = driver / "imagedb" / "metadata" / "sha256"
        self.repositories = driver / "repositories.json"
        for folder in (self.content, self.metadata):
            folder.mkdir(parents=True, exist_ok=True)
        self.names: dict[str, dict[str, str]] = {}
        if self.repositories.exists():
            self.names = json.loads(self.repositories.read_bytes())["Repositories"]
        self.parents: dict[str, str] = {}

    def create(self, comment: str, parent: str | None = None, *, built: bool = False) -> str:
        """Add an image and return its id."""
        value = {"comment": comment, "os": "linux", "rootfs": {"type": "layers"}}
        raw = json.dumps(value).encode()
        name = hashlib.sha256(raw).hexdigest()
        _write(self.content / name, raw)
        if parent is not None:
            self._note(name, "parent", parent.encode())
            self.parents[name] = parent
        if built:
            self._note(name, "builtLocally", b"\x01")
        return f"sha256:{name}"

    def tag(self, repository: str, tag: str, image_id: str, when: str) -> None:
        """Give an image a name, and note when."""
        self.names.setdefault(repository, {})[f"{repository}:{tag}"] = image_id
        self._write_names()
        self._note(image_id[7:], "lastUpdated", when.encode())

    def untag(self, repository: str, tag: str) -> None:
        """Take a name away."""
        del self.names[repository][f"{repository}:{tag}"]
        if not self.names[repository]:
            del self.names[repository]
        self._write_names()

    def delete(self, image_id: str) -> None:
        """Remove an image that has no names."""
        for child in [name for name, parent in self.parents.items() if parent == image_id]:
            (self.metadata / child / "parent").unlink()
            del self.parents[child]
        self.parents.pop(image_id[7:], None)
        shutil.rmtree(self.metadata / image_id[7:], ignore_errors=True)
        (self.content / image_id[7:]).unlink()

    def _note(self, name: str, key: str, value: bytes) -> None:
        folder = self.metadata / name
        folder.mkdir(exist_ok=True)
        _write(folder / key, value)

    def _write_names(self) -> None:
        _write(self.repositories, json.dumps({"Repositories": self.names}).encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file beside its place, and rename it."""
    beside = path.with_name(f".tmp-{path.name}{random.randrange(10**9)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(beside, path)
