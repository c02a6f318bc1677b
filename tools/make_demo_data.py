"""Cut the databases of `tests/data/docker` down to what `eventstore demo` ships.

Only `imagedb`, `layerdb` and `repositories.json` are kept, in an archive that comes out the same
every time: sorted names, no owners, times of the originals. Run it from the top of the checkout.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

MOMENTS = {"host-a-1": "host-1", "host-a-2": "host-2", "host-a-3": "host-3"}
KEPT = ("/imagedb/", "/layerdb/sha256/", "/repositories.json")


def cut(source: Path, destination: Path, name: str) -> None:
    """Write the archive `destination` with what counts of the archive `source`."""
    packed = io.BytesIO()
    with (
        tarfile.open(source) as archive,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as cut_down,
    ):
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if not any(part in member.name + "/" for part in KEPT):
                continue
            if member.name.endswith("/tar-split.json.gz"):
                continue
            content = archive.extractfile(member) if member.isfile() else None
            kept = tarfile.TarInfo("/".join((name, *member.name.split("/")[1:])))
            kept.type, kept.mode, kept.size = member.type, member.mode, member.size
            kept.mtime = int(member.mtime)
            cut_down.addfile(kept, content)
    with open(destination, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        zipped.write(packed.getvalue())


def main() -> int:
    """Write all archives and say how large they are."""
    top = Path(__file__).resolve().parent.parent
    for source, name in MOMENTS.items():
        destination = top / "eventstore" / "cli" / "demo_data" / f"{name}.tar.gz"
        cut(top / "tests" / "data" / "docker" / f"{source}.tar.gz", destination, name)
        print(f"{destination.relative_to(top)}: {destination.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
