"""Let Buildah, Skopeo and Podman fill a root of containers/storage, and list it themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

TOOLS = ("buildah", "skopeo", "podman")
PRESENT = os.geteuid() == 0 and all(map(shutil.which, TOOLS))
DRIVER = "vfs"
Listing = dict[str, list[str]]
"""Ids, each with the names of the image, sorted."""


class Root:
    """A root that is no other's, so that nothing on the machine changes or is seen."""

    def __init__(self, folder: Path) -> None:
        """Make an empty one in a folder."""
        self.folder, self.path = folder, folder / "root"
        self._run = folder / "run"
        self._policy = folder / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        options = {"driver": DRIVER, "graphroot": str(self.path), "runroot": str(self._run)}
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        (folder / "storage.conf").write_text("[storage]\n" + "".join(lines))
        self._environment = os.environ | {
            "HOME": str(folder),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "XDG_RUNTIME_DIR": str(self._run),
        }

    def buildah(self, *arguments: str) -> str:
        """Run Buildah on it."""
        return self._call("buildah", *self._places(), *arguments)

    def podman(self, *arguments: str) -> str:
        """Run Podman on it."""
        apart = ("--tmpdir", str(self.folder / "libpod"), "--events-backend", "none")
        alone = ("--cgroup-manager", "cgroupfs", *apart)
        return self._call("podman", *self._places(), *alone, *arguments)

    def skopeo(self, *arguments: str) -> str:
        """Run Skopeo; `reference` says how it is told of the root."""
        return self._call("skopeo", "--policy", str(self._policy), *arguments)

    def reference(self, name: str) -> str:
        """Return what Skopeo calls an image of the root."""
        return f"containers-storage:[{DRIVER}@{self.path}+{self._run}]{name}"

    def commit(self, working: str, *name: str) -> str:
        """Make an image of a working container, and return its id."""
        policy = str(self._policy)
        said = self.buildah("commit", "-q", "--signature-policy", policy, working, *name)
        return f"sha256:{said.strip()}"

    def _places(self) -> tuple[str, ...]:
        return (
            "--root", str(self.path), "--runroot", str(self._run), "--storage-driver", DRIVER,
        )  # fmt: skip

    def _call(self, *command: str) -> str:
        done = subprocess.run(
            command, check=False, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def listed_by_buildah(self) -> Listing:
        """Return what `buildah images` lists."""
        rows: list[dict[str, Any]] = json.loads(
            self.buildah("images", "--all", "--json", "--no-trunc") or "[]"
        )
        return {row["id"]: sorted(row["names"] or ()) for row in rows}

    def listed_by_podman(self) -> Listing:
        """Return what `podman images` lists; it has a row for each name."""
        rows: list[dict[str, Any]] = json.loads(
            self.podman("images", "--all", "--no-trunc", "--format", "json")
        )
        return {f"sha256:{row['Id']}": sorted(row.get("Names") or ()) for row in rows}


def first_moment(root: Root) -> None:
    """Fill a root: names of all sorts, none, a digest, a list, Docker's first schema."""
    (root.folder / "file").write_text("a layer\n")
    working = root.buildah("from", "scratch").strip()
    root.buildah("config", "--label", "n=1", working)
    root.commit(working, "app:1")
    root.buildah("copy", working, str(root.folder / "file"), "/file")
    root.commit(working, "docker.io/library/tool:3")
    root.buildah("config", "--env", "N=2", working)
    root.commit(working, "registry.example:5000/team/app:1.0")
    root.buildah("config", "--env", "N=3", working)
    root.commit(working)
    root.buildah("rm", working)
    child = root.buildah("from", "localhost/app:1").strip()
    root.buildah("config", "--cmd", "/file", child)
    root.commit(child, "app:2")
    root.buildah("rm", child)
    layout = f"oci:{root.folder / 'layout'}:it"
    root.skopeo("copy", "-q", root.reference("docker.io/library/tool:3"), layout)
    index = json.loads((root.folder / "layout" / "index.json").read_text())
    by_digest = f"registry.example/x/y@{index['manifests'][0]['digest']}"
    root.skopeo("copy", "-q", layout, root.reference(by_digest))
    first_schema = ("copy", "-q", "--format", "v2s1", layout)
    root.skopeo(*first_schema, root.reference("localhost/old:1"))
    root.buildah("manifest", "create", "localhost/list:1")
    root.buildah("manifest", "add", "localhost/list:1", root.reference("localhost/app:1"))


def second_moment(root: Root) -> None:
    """Change it: names given, taken away and moved, images removed and made."""
    root.podman("tag", "localhost/app:1", "quay.example/a/b:c", "localhost/tool:latest")
    root.podman("untag", "localhost/app:2")
    root.podman("rmi", "registry.example:5000/team/app:1.0")
    root.buildah("manifest", "rm", "localhost/list:1")
    working = root.buildah("from", "docker.io/library/tool:3").strip()
    root.buildah("config", "--label", "n=4", working)
    root.commit(working, "docker.io/library/tool:3")
    root.buildah("rm", working)


MOMENTS = {"podman-1": first_moment, "podman-2": second_moment}
