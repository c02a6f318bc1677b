"""Sync 10,000 images from a Docker database on disk into a new store.

Timed is the whole way: reading and checking `imagedb`, its metadata and `layerdb`, deciding, and
one durable transaction; then a second sync, which finds nothing new. The source's files are in the
page cache. Floor: opening, reading and closing the same files from their folders, whose names are
known beforehand, one SHA-256 a config, and LMDB's own time for the bytes that the sync wrote; for
the second sync without the last.
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
from eventstore import Image, ImageStore
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
        self.again: list[float] = []
        self.configs: list[bytes] = []
        self.puts: list[floors.Put] = []
        # A folder, what is in it, and whether that is configs.
        self.files: list[tuple[str, list[str], bool]] = [
            (folder, files, folder.endswith("/content/sha256"))
            for folder, _, files in os.walk(root)
            if files
        ]

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
            self.again.append(self._again(store))
            self.configs = [image.config for image in found.images]
            self.puts = list(chain.from_iterable(floors.puts_of(store, 0)))
        return Took(end - start)

    def _again(self, store: ImageStore) -> float:
        """Return the seconds of a sync that finds nothing new."""
        start = time.perf_counter()
        found = DockerImageDB.find(self.root).read(operating_system="linux")
        report = sync(store, found.images, found.passed_over)
        end = time.perf_counter()
        if report.position != report.after:
            raise RuntimeError(f"a second sync appended {report.position - report.after} records")
        return end - start

    def decode(self) -> None:
        """Decode the configs, and nothing else."""
        for config in self.configs:
            Image.from_stored(config)

    def read_files(self) -> None:
        """Open, read and close all files of the source from their folders; hash the configs."""
        for path, names, are_configs in self.files:
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
            for name in names:
                handle = os.open(name, os.O_RDONLY, dir_fd=folder)
                content = os.read(handle, 1 << 16)
                os.close(handle)
                if are_configs:
                    hashlib.sha256(content).digest()
            os.close(folder)

    def floor(self) -> Took:
        """Read all files of the source, hash the configs, write the same bytes."""
        raw = floors.RawLMDB(self._new("lmdb"))
        start = time.perf_counter()
        self.read_files()
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
    """Return a source that has the same `imagedb` and no `layerdb`.

    It is a link, which is followed only because it is the very path that the caller names.
    """
    destination.mkdir()
    imagedb = destination / "imagedb"
    imagedb.symlink_to(root / "image" / "overlay2" / "imagedb")
    return imagedb


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
        cases = {
            "ours": run.sync,
            "floor": run.floor,
            "files": run.read_files,
            "decode": run.decode,
            "without layerdb": bare.sync,
        }
        seconds = runner.take(cases, settings.takes)
    result.rows = _rows(images, run, seconds)
    files = sum(len(names) for _, names, _ in run.files)
    result.notes.append(f"an image has {files / images:.1f} files, those of its layers included")
    return result


def _rows(images: int, run: Run, seconds: runner.Seconds) -> list[runner.Row]:
    """Return the rates with their bound, and what each stage takes of an image's time."""
    reading = run.reading[1:]
    rest = [whole - read for whole, read in zip(seconds["ours"], reading, strict=True)]
    return [
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
        runner.rate(
            f"{images:,} images, nothing new",
            run.again[1:],
            count=images,
            beside=("files read, hashed", seconds["files"]),
        ),
        runner.cost(
            "of an image: reading, checking, decoding",
            reading,
            count=images,
            unit="µs",
            beside=("files read, hashed", seconds["files"]),
        ),
        runner.cost("of that, decoding", seconds["decode"], count=images, unit="µs"),
        runner.cost("of an image: deciding, appending", rest, count=images, unit="µs"),
    ]


if __name__ == "__main__":
    runner.main(measure, __doc__)
