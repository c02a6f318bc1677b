"""Open stores of 1,000 to 1,000,000 images, each time in a fresh process.

Floor: msgspec's decode of the very rows of the snapshot, in a fresh process too. Docker's 95 µs an
image (its restore with a warm cache, measured apart, on another day) stands as a constant. A store
is opened with its snapshot at the end of the log, and with the longest tail that the policy leaves.
So that no cost is hidden behind a lazy open, the first look after it is measured as well.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings

DOCKER_SECONDS_AN_IMAGE = 95e-6
FLOOR = "msgspec decodes the rows"


def open_once(path: str) -> dict[str, float]:
    """Open a store in this process; return what the open took, and what the first looks took."""
    start = time.perf_counter()
    with ImageStore.open(path, read_only=True) as store:
        opened = time.perf_counter()
        store.get_parent(histories.watched())
        found = time.perf_counter()
        store.search(histories.watched())
        searched = time.perf_counter()
    return {
        "open": opened - start,
        "with a look": found - start,
        "with a search": searched - start,
    }


def decode_once(path: str) -> float:
    """Decode a file of rows; return what the decode took."""
    rows = Path(path).read_bytes()
    start = time.perf_counter()
    states = floors.rows_decoder.decode(rows)
    spent = time.perf_counter() - start
    assert states
    return spent


def rows_file(settings: Settings, images: int) -> Path:
    """Return a file with the rows of the store of so many images."""
    path = settings.cache / f"rows-{images}"
    if not path.exists():
        with ImageStore.open(histories.store_of(settings, images), read_only=True) as store:
            path.write_bytes(floors.rows_of(store.as_of(position=store.position)))
    return path


def takes_of(settings: Settings, images: int) -> dict[str, list[float]]:
    """Open and decode turn by turn, a fresh process each; return the seconds."""
    rows = rows_file(settings, images)
    path, tailed = histories.store_of(settings, images), histories.tailed(settings, images)
    seconds: dict[str, list[float]] = {}
    for number in range(settings.takes + 1):
        taken: dict[str, Any] = runner.in_child("opens", "open_once", str(path))
        tail = runner.in_child("opens", "open_once", str(tailed))
        taken["tail"], taken["tail with a look"] = tail["open"], tail["with a look"]
        taken[FLOOR] = runner.in_child("opens", "decode_once", str(rows))
        for name, spent in taken.items():
            seconds.setdefault(name, []).extend([spent] if number else [])
    return seconds


def rows_of(images: int, seconds: dict[str, list[float]]) -> list[Row]:
    """Return the lines for one size."""
    beside = (FLOOR, seconds[FLOOR])
    ratio = Bound("≤", 3, of_ratio=True) if images == 100_000 else None
    whole = Bound("<", 1_000) if images == 1_000_000 else None
    found = [
        runner.cost(f"{images:,} images", seconds["open"], beside=beside, bound=ratio or whole),
        runner.cost(
            f"{images:,} images, longest tail",
            seconds["tail"],
            beside=beside,
            bound=ratio or whole,
        ),
        runner.cost(f"{images:,} images, and a look at one", seconds["with a look"], beside=beside),
        runner.cost(f"{images:,} images, and a search", seconds["with a search"], beside=beside),
    ]
    docker = [images * DOCKER_SECONDS_AN_IMAGE] * len(seconds["open"])
    row = runner.rate(
        f"{images:,} images against Docker",
        seconds["open"],
        count=images,
        beside=("Docker at 95 µs an image", docker),
        bound=Bound("≥", 100, of_ratio=True, stated_here=images == 100_000),
    )
    return [*found, row]


def measure(settings: Settings) -> Result:
    """Measure all sizes."""
    sizes = settings.pick((1_000, 10_000), (1_000, 10_000, 100_000, 1_000_000))
    result = Result("open")
    medians: dict[str, list[float]] = {}
    for images in sizes:
        seconds = takes_of(settings, images)
        result.rows += rows_of(images, seconds)
        for name, spent in seconds.items():
            medians.setdefault(name, []).append(statistics.median(spent))
    flat = medians["open"][-1] / medians["open"][0]
    result.rows.append(
        Row(
            f"{sizes[-1]:,} images against {sizes[0]:,}",
            medians["open"][-1] * 1e3,
            "ms",
            f"{sizes[0]:,} images",
            medians["open"][0] * 1e3,
            flat,
            # Read as: not more than twice the time at a thousand times the images.
            Bound("≤", 2, of_ratio=True, stated_here=sizes[-1] == 1_000_000, stretch=True),
        )
    )
    result.series["opens"] = {
        "images": list(sizes),
        "ours": medians["open"],
        "ours, longest tail": medians["tail"],
        "floor": medians[FLOOR],
        "docker": [images * DOCKER_SECONDS_AN_IMAGE for images in sizes],
    }
    result.notes.append("Docker's 95 µs an image was measured apart and is a constant here")
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
