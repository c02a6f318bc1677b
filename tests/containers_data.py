"""The roots of containers/storage in `data/containers`, unpacked, with what the tools listed."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

from attacking import TOOLS
from eventstore import references
from eventstore.sources.found import Findings

sys.path.append(str(TOOLS))

from containers_roots import MOMENTS, PRESENT, Listing, Root

__all__ = ["MOMENTS", "PRESENT", "Listing", "Root", "compare", "said", "unpack"]
DATA = Path(__file__).resolve().parent / "data" / "containers"


def unpack(name: str, folder: Path) -> Path:
    """Unpack a root into a folder and return it."""
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    return folder / name


def said(name: str) -> dict[str, Listing]:
    """Return what each tool listed."""
    answer: dict[str, Listing] = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    return answer


def compare(findings: Findings, listing: Listing) -> None:
    """Hold all that was found against what a tool listed: images, names, and what is no image.

    What the tool lists and we do not is an image whose id is not that of a config, and reported.
    """
    ids = [image.image_id for image in findings.images]
    others = [entry.name for entry in findings.passed_over]
    assert sorted(ids + others) == sorted(listing)
    assert {entry.kind for entry in findings.passed_over} <= {"id-not-of-config"}
    assert findings.names == {
        references.canonical(name): image_id for image_id in listing for name in listing[image_id]
    }
