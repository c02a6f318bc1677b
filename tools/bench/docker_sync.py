"""Sync 10,000 images from a Docker database on disk into a new store.

Timed is the whole way: reading and checking `imagedb`, its metadata and `layerdb`, deciding, and
one durable transaction. The source's files are in the page cache. Floor: reading the same files,
one SHA-256 a config, and LMDB's own time for the bytes that the sync wrote.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from itertools import chain
from pathlib import Path

import docker_sources
import floors
import histories
import runner
from eventstore import ImageStore
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync
from runner import Bound, Result, Settings, Took

STATED = 10_000


class Run:
    """Syncs into new stores, one after the other, and their floor."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Sync from `root` into stores below `folder`."""
        self.folder = folder
        self.root = root
        self.number = 0
        self.reading: list[float] = []
        self.puts: list[floors.Put] = []

    def _new(self, name: str) -> Path:
        self.number += 1
        return self.folder / f"{name}-{self.number}"

    def sync(self) -> Took:
        """Read the source and make a new store equal to it."""
        with ImageStore.open(self._new("store"), operating_system="linux") as store:
            start = time.perf_counter()
            found = DockerImageDB.find(self.root).read(operating_system="linux")
            read = time.perf_counter()
            report = sync(store, found.images, found.passed_over)
            end = time.perf_counter()
            if report.passed_over or len(report.created) != len(found.images):
                raise RuntimeError(f"not all of the source was taken: {report.passed_over[:3]}")
            self.reading.append(read - start)
            self.puts = list(chain.from_iterable(floors.puts_of(store, 0)))
        return Took(end - start)

    def floor(self) -> Took:
        """Read all files of the source, hash the configs, write the same bytes."""
        raw = floors.RawLMDB(self._new("lmdb"))
        start = time.perf_counter()
        for folder, _, files in os.walk(self.root):
            is_content = folder.endswith("/content/sha256")
            for name in files:
                with open(f"{folder}/{name}", "rb", buffering=0) as file:
                    content = file.read()
                if is_content:
                    hashlib.sha256(content).digest()
        raw.write(self.puts)
        end = time.perf_counter()
        raw.close()
        return Took(end - start)


def source(settings: Settings, images: int) -> Path:
    """Return the data root of a host with so many images. It must not be written to."""
    path = histories.kept(
        settings, f"docker-{images}", lambda path: docker_sources.make(path, images)
    )
    return path.resolve()


def without_layers(root: Path, destination: Path) -> Path:
    """Return a source that has the same `imagedb` and no `layerdb`."""
    driver = destination / "image" / "overlay2"
    driver.mkdir(parents=True)
    (driver / "imagedb").symlink_to(root / "image" / "overlay2" / "imagedb")
    return destination


def measure(settings: Settings) -> Result:
    """Measure the sync and its floor, turn by turn."""
    images = settings.pick(1_000, STATED)
    result = Result("sync from a Docker database")
    root = source(settings, images)
    with tempfile.TemporaryDirectory(dir=settings.cache) as name:
        folder = Path(name)
        run = Run(folder / "whole", root)
        bare = Run(folder / "bare", without_layers(root, folder / "source"))
        for each in (run, bare):
            each.folder.mkdir()
        cases = {"ours": run.sync, "floor": run.floor, "without layerdb": bare.sync}
        seconds = runner.take(cases, settings.takes)
    result.rows = [
        runner.rate(
            f"{images:,} images, layerdb read",
            seconds["ours"],
            count=images,
            beside=("files read, hashed, put", seconds["floor"]),
            bound=Bound("≥", 5_000, stated_here=images == STATED),
        ),
        runner.rate(
            f"{images:,} images, no layerdb there",
            seconds["without layerdb"],
            count=images,
        ),
    ]
    share = sum(run.reading[1:]) / sum(seconds["ours"])
    result.notes.append(f"reading and checking the source is {share:.0%} of it")
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
