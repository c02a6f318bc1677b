"""See how long a snapshot stops other writers: one of another process, one of another thread.

The writer commits one record after the other and notes what each took. First nothing else goes on,
then a snapshot is taken. The figure is the longest commit that overlaps the snapshot; beside it
stands the longest of the seconds before, so that the disk's own pauses can be told apart.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings

STATED = 1_000_000
Commits = list[tuple[float, float]]


def write_on(store: ImageStore, go_on: Callable[[], bool]) -> Commits:
    """Commit until told to end; return when each commit began and ended, on the monotonic clock."""
    image_id, commits = histories.watched(), []
    while go_on():
        start = time.monotonic()
        store.set_last_updated(image_id)
        commits.append((start, time.monotonic()))
    return commits


def write(path: str, stop: str) -> Commits:
    """Open a store in this process and commit until a file appears."""
    with ImageStore.open(path, actor="writer@host") as store:
        return write_on(store, lambda: not Path(stop).exists())


def longest(commits: Commits, start: float, end: float) -> float:
    """Return the longest commit that overlaps a span of time."""
    return max(
        (after - before for before, after in commits if after >= start and before <= end),
        default=0.0,
    )


def span(store: ImageStore, alone: float) -> tuple[float, float, float]:
    """Let the writer write alone for `alone` seconds, then take a snapshot; return the instants."""
    position = store.position
    while store.position == position:
        time.sleep(0.01)
    begun = time.monotonic()
    time.sleep(alone)
    start = time.monotonic()
    store.take_snapshot()
    return begun, start, time.monotonic()


def other_process(store: ImageStore, folder: Path, alone: float) -> tuple[float, float, float]:
    """Return the longest commit before, the longest during, and how long the snapshot took."""
    stop = folder / "stop"
    command = runner.child_command("stopping", "write", store.path, str(stop))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            begun, start, end = span(store, alone)
        finally:
            stop.touch()
        out, _ = writer.communicate()
    stop.unlink()
    if writer.returncode != 0:
        raise RuntimeError(f"the writer ended with {writer.returncode}")
    commits = [(before, after) for before, after in json.loads(out)]
    return longest(commits, begun, start), longest(commits, start, end), end - start


def other_thread(store: ImageStore, alone: float) -> tuple[float, float, float]:
    """Return the same for a writer of this process."""
    stopped = threading.Event()
    commits: Commits = []
    writer = threading.Thread(
        target=lambda: commits.extend(write_on(store, lambda: not stopped.is_set()))
    )
    writer.start()
    try:
        begun, start, end = span(store, alone)
    finally:
        stopped.set()
        writer.join()
    return longest(commits, begun, start), longest(commits, start, end), end - start


def measure(settings: Settings) -> Result:
    """Measure both writers."""
    images, alone = settings.pick((10_000, 0.5), (STATED, 3.0))
    result = Result("a snapshot beside a writer")
    with tempfile.TemporaryDirectory(dir=settings.cache) as name:
        folder = Path(name)
        path = histories.copy(histories.store_of(settings, images), folder / "store")
        with ImageStore.open(path, actor="bench@host") as store:
            count = range(settings.takes)
            takes = {
                "another process": [other_process(store, folder, alone) for _ in count],
                "another thread": [other_thread(store, alone) for _ in count],
            }
    for who, found in takes.items():
        before, during, took = (list(each) for each in zip(*found, strict=True))
        row: Row = runner.cost(
            f"longest stop of {who}, {images:,} images",
            during,
            beside=("longest before", before),
            bound=Bound("<", 50, stated_here=images == STATED),
        )
        result.rows += [row, runner.cost(f"the snapshot itself, beside {who}", took)]
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
