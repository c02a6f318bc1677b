"""Compact a host that has come and gone: how long it takes, what it stops, and what it leaves.

All images but the last twentieth were deleted, and everything before that is dropped. Floor: one
reading of the log, which tells what is to be kept. A writer in another process commits one record
after the other meanwhile, and notes its longest wait.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import disk
import histories
import runner
import stopping
from eventstore import ImageStore
from runner import Result, Row, Settings

ALONE_SECONDS = 1.0


def churn(path: Path, images: int) -> None:
    """Make a store of so many images, each deleted when a twentieth of them came after it."""
    left = images // 20
    with ImageStore.open(path, actor="bench@host") as store:
        ids: list[str] = []
        while len(ids) < images:
            with store.transaction():
                for number in range(len(ids), len(ids) + histories.BATCH_LENGTH):
                    ids.append(store.create(histories.small_config(number)))
                    store.set_last_updated(ids[-1])
                    if number >= left:
                        store.delete(ids[number - left])
        store.create(histories.small_config(0))  # the image that the writer writes about


def read_log(store: ImageStore) -> float:
    """Return how long it takes to read every record."""
    start = time.perf_counter()
    for _ in store.records():
        pass
    return time.perf_counter() - start


def backup_size(store: ImageStore, folder: Path) -> int:
    """Return the bytes of a backup, which has no free pages."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store.backup(Path(name, "backup"))
        return Path(name, "backup", "data.mdb").stat().st_size


def take(folder: Path, images: int) -> dict[str, float]:
    """Compact a new store beside a writer; return what was found, times in seconds."""
    path, stop = folder / "store", folder / "stop"
    churn(path, images)
    with ImageStore.open(path, actor="bench@host") as store:
        floor, before, last = read_log(store), backup_size(store, folder), store.position
        command = runner.child_command("stopping", "write", store.path, str(stop))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                while store.position == last:
                    time.sleep(0.01)
                begun = time.monotonic()
                time.sleep(ALONE_SECONDS)
                start = time.monotonic()
                found = store.compact(position=last)
                end = time.monotonic()
            finally:
                stop.touch()
            out, _ = writer.communicate()
        after = backup_size(store, folder)
    hashes = disk.Pages(path).bytes["meta"]
    stop.unlink()
    commits = [(first, behind) for first, behind in json.loads(out)]
    return {
        "seconds": end - start,
        "floor": floor,
        "alone": stopping.longest(commits, begun, start),
        "stopped": stopping.longest(commits, start, end),
        "dropped": found.records,
        "hashes": hashes / found.records,
        "before": before,
        "after": after,
    }


def measure(settings: Settings) -> Result:
    """Measure stores of two sizes."""
    images = settings.pick(10_000, 100_000)
    result = Result("compaction")
    takes = []
    for _ in range(settings.takes):
        with tempfile.TemporaryDirectory(dir=settings.cache) as name:
            takes.append(take(Path(name), images))
    values = {key: [found[key] for found in takes] for key in takes[0]}
    what = f"{takes[0]['dropped']:,.0f} records dropped"
    before, after = takes[0]["before"], takes[0]["after"]
    result.rows += [
        runner.cost(what, values["seconds"], beside=("reading the log", values["floor"])),
        runner.cost(
            "longest stop of another process",
            values["stopped"],
            beside=("longest before", values["alone"]),
        ),
        Row("pages of hashes kept, a dropped record", values["hashes"][0], "B"),
        Row("backup after", after, "B", "backup before", before, after / before),
    ]
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
