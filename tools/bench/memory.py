"""Say how much memory a store takes, resting and at its peak, in a fresh process each take.

From /proc/self/status: resident memory after an open, less that of the same process after it had
opened and closed an empty store; so the interpreter, the library and LMDB are subtracted. RSS
counts the pages of the data file that LMDB has mapped and read, which the kernel takes back when it
needs them; anonymous memory does not. The peak is VmHWM with the same subtracted. Floor: what
msgspec's decode of the snapshot's rows takes.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import floors
import histories
import opens
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings

STATED = 1_000_000
BYTES_AN_IMAGE = 450


def status() -> dict[str, int]:
    """Return this process's memory in bytes, by the names of /proc/self/status."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def store_once(path: str) -> dict[str, int]:
    """Open a store in this process; return what memory that takes."""
    with tempfile.TemporaryDirectory() as folder, ImageStore.open(folder + "/empty") as empty:
        len(empty)
    before = status()
    with ImageStore.open(path, read_only=True) as store:
        store.get_parent(histories.watched())
        after = status()
        store.search(histories.watched())
        list(store.heads())
        indexed = status()
    return {
        "resting": after["VmRSS"] - before["VmRSS"],
        "anonymous": after["RssAnon"] - before["RssAnon"],
        "indexed": indexed["VmRSS"] - before["VmRSS"],
        "peak": after["VmHWM"] - before["VmRSS"],
    }


def rows_once(path: str) -> int:
    """Decode a file of rows in this process; return what memory the result takes."""
    rows = Path(path).read_bytes()
    before = status()
    states = floors.rows_decoder.decode(rows)
    taken = status()["RssAnon"] - before["RssAnon"]
    assert states
    return taken


def measure(settings: Settings) -> Result:
    """Measure stores of all sizes."""
    result = Result("memory an image")
    if not Path("/proc/self/status").exists():
        result.notes.append("left out: this system has no /proc/self/status")
        return result
    for images in settings.pick((10_000,), (100_000, STATED)):
        path, rows = histories.store_of(settings, images), opens.rows_file(settings, images)
        takes = [
            {
                **runner.in_child("memory", "store_once", str(path)),
                "floor": runner.in_child("memory", "rows_once", str(rows)),
            }
            for _ in range(settings.takes)
        ]
        result.rows += rows_of(images, takes)
    return result


def rows_of(images: int, takes: list[dict[str, int]]) -> list[Row]:
    """Return the lines for one size."""
    bound = Bound("≤", BYTES_AN_IMAGE, stated_here=images == STATED)
    names = {
        "resting": ("resting", bound),
        "anonymous": ("resting, anonymous only", None),
        "indexed": ("resting, after a search and heads", bound),
        "peak": ("peak of the open", None),
    }
    found = []
    floor = [one["floor"] / images for one in takes]
    for name, (what, limit) in names.items():
        each = [one[name] / images for one in takes]
        found.append(
            Row(
                f"{what}, {images:,} images",
                statistics.median(each),
                "B",
                "msgspec's decoded rows",
                statistics.median(floor),
                runner.median_ratio(each, floor),
                limit,
                (min(each), max(each)),
            )
        )
    return found


if __name__ == "__main__":
    runner.main(measure, __doc__)
