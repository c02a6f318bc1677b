"""Make the roots of `tests/data/containers` with Buildah, Skopeo and Podman, and their listings.

Of a root only the folder of images is kept. Run it as root where these tools are.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from containers_roots import DRIVER, MOMENTS, TOOLS, Root

TOP = Path(__file__).resolve().parent.parent


def pack(root: Path, name: str) -> bytes:
    """Return the archive of a root's images, the same for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted([root / f"{DRIVER}-images", *(root / f"{DRIVER}-images").rglob("*")]):
            member = archive.gettarinfo(path, f"{name}/{path.relative_to(root)}")
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(member.mtime)
            with open(path, "rb") if path.is_file() else io.BytesIO() as content:
                archive.addfile(member, content if path.is_file() else None)
    return gzip.compress(packed.getvalue(), 9, mtime=0)


def main() -> int:
    """Write both moments and say how large they are."""
    data = TOP / "tests" / "data" / "containers"
    versions = {
        tool: subprocess.check_output([tool, "--version"], text=True).strip() for tool in TOOLS
    }
    with TemporaryDirectory() as folder:
        root = Root(Path(folder))
        for name, make in MOMENTS.items():
            make(root)
            listings = {"podman": root.listed_by_podman(), "buildah": root.listed_by_buildah()}
            told = json.dumps({**listings, "versions": versions}, indent=1, sort_keys=True)
            (data / f"{name}.json").write_text(told + "\n")
            (data / f"{name}.tar.gz").write_bytes(pack(root.path, name))
            print(f"{name}: {len(listings['podman'])} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
