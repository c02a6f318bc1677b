"""Change a Docker database on disk while `eventstore sync --watch` follows it; look at the log.

    tools/watching.py [--changes N] [--images N] [--paced] [--pause MS] [--seed N] [--weaken NAME]

The changes are those of a daemon: images are created, some with a parent or a built mark, named,
lose names, are removed. `--paced` waits for each change to be recorded before it makes the next;
otherwise changes come at random moments, many of them during a reading, and share syncs.
`--images` is how many other images lie there.

Demanded is: each change is in the log exactly once, in the order in which it was made, and changes
of one batch are neighbours; nothing is there that was not done; at the end the store is what a new
reading lists; and, where `--paced`, each is there within a second. Weakened, one of these fails.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))

import docker_sources
from docker_writer import DockerWriter
from eventstore import Created, Deleted, ImageStore, ParentSet, Record, Tagged, Untagged
from eventstore.sources.docker_imagedb import DockerImageDB

WEAKENINGS = {
    "no-confirm": "watching._Watcher._losing = lambda self, found: {};"
    "Folder.has = lambda self, name: True",
    "no-watch": "watching._counts = lambda path: False; docker_watched.stamp = lambda path: ()",
    "unsteady": "watching.STEADY_SECONDS = 0.0",
    "stale": "remembered.Remembered.names = lambda self, stamp: (self._names or (0, None))[1];"
    "remembered._is_settled = lambda stamp: True",
}
CHILD = """
import sys
from eventstore import watching
from eventstore.sources import docker_watched, remembered
from eventstore.regular_file import Folder
from eventstore.cli.main import run
{weakened}
sys.exit(run(sys.argv[1:]))
"""
LIMIT_SECONDS = 1.0
AGE_SECONDS = 2.5  # what is younger is not taken back, for it may not have been seen
Key = tuple[str, str]


class Changer:
    """Makes changes one by one, and says how the log will tell of each."""

    def __init__(self, writer: DockerWriter, seed: int, *, paced: bool) -> None:
        self.writer = writer
        self.choose = random.Random(seed)
        self.age = 0.0 if paced else AGE_SECONDS
        self.images: dict[str, float] = {}
        self.named: dict[str, tuple[str, float]] = {}
        self.number = 0

    def change(self) -> Key:
        """Make one change."""
        self.number += 1
        old = time.monotonic() - self.age
        bare = set(self.images) - {image for image, _ in self.named.values()}
        mature = [image for image, at in self.images.items() if at <= old and image in bare]
        names = [name for name, (_, at) in self.named.items() if at <= old]
        kind = self.choose.choice(("create", "create", "tag", "untag", "delete"))
        if kind == "delete" and len(mature) > 3:
            image = self.choose.choice(mature)
            self.writer.delete(image)
            del self.images[image]
            return "deleted", image
        if kind == "untag" and names:
            name = self.choose.choice(names)
            self.writer.untag(name, "latest")
            image, _ = self.named.pop(name)
            self.images[image] = time.monotonic()
            return "untagged", f"docker.io/library/{name}:latest"
        if kind == "tag" and self.images:
            image, name = self.choose.choice(list(self.images)), f"name-{self.number}"
            when = f"2026-01-02T03:04:05.{self.number:09d}Z"
            self.writer.tag(name, "latest", image, when)
            self.named[name] = image, time.monotonic()
            return "tagged", f"docker.io/library/{name}:latest"
        parents = [*self.images, None]
        image = self.writer.create(
            f"{self.choose.random()} {self.number}",
            self.choose.choice(parents),
            built=self.choose.random() < 0.3,
        )
        self.images[image] = time.monotonic()
        return "created", image


def key_of(record: Record) -> Key | None:
    """Return what change a record tells of, None if it is a part of one."""
    event = record.event
    if isinstance(event, Created | Deleted):
        return type(event).__name__.lower(), event.image_id
    if isinstance(event, Tagged | Untagged):
        return type(event).__name__.lower(), event.name
    return None


def violations(made: list[Key], records: list[Record], *, paced: bool) -> Iterator[str]:
    """Yield what is wrong with the log."""
    told = [(key, record.batch) for record in records if (key := key_of(record))]
    counts = Counter(key for key, _ in told)
    for key in made:
        if counts[key] != 1:
            yield f"{key} is there {counts[key]} times"
    for key in counts.keys() - set(made):
        yield f"{key} was never done"
    batch_of = dict(told)
    batches = [batch_of[key] for key in made if key in batch_of]
    if batches != sorted(batches):
        yield "the batches are not in the order of the changes"
    if paced and [key for key, _ in told] != made:
        yield "the records are not in the order of the changes"
    for record in records:
        if isinstance(record.event, ParentSet) and record.event.parent is None:
            yield f"@{record.position} takes a parent away that was deleted"


def wait_for(store: ImageStore, key: Key, after: int) -> int:
    """Wait until a change is in the log; return its position, 0 if it is not for too long."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for record in store.records(after=after):
            if key_of(record) == key:
                return record.position
        time.sleep(0.004)
    return 0


def main() -> int:
    """Run it and say what was found."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--changes", type=int, default=1000)
    arguments.add_argument("--images", type=int, default=0)
    arguments.add_argument("--paced", action="store_true")
    arguments.add_argument("--pause", type=float, default=20, help="milliseconds, at most")
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments.add_argument("--weaken", choices=WEAKENINGS)
    given = arguments.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wrong, latencies, batches, cpu = run(Path(folder), given)
    for one in wrong[:20]:
        print(one)
    if latencies:
        latencies.sort()
        named = [(half, latencies[int(len(latencies) * half)]) for half in (0.5, 0.99)]
        shown = ", ".join(f"{share:.0%} {1000 * took:.0f} ms" for share, took in named)
        print(f"recorded after: {shown}, longest {1000 * latencies[-1]:.0f} ms")
    print(f"processor of the watch: {cpu:.1f} s")
    options = " ".join(f"--{name} {value}" for name, value in vars(given).items() if value)
    print(
        f"{given.changes} changes, {batches} batches, {len(wrong)} violations,"
        f" {time.monotonic() - start:.0f} s ({options})"
    )
    return 1 if wrong else 0


def run(folder: Path, given: argparse.Namespace) -> tuple[list[str], list[float], int, float]:
    """Make the changes; return violations, latencies, batches, processor seconds of the watch."""
    root, path = folder / "docker", folder / "store"
    if given.images:
        docker_sources.make(root, given.images)
    changer = Changer(DockerWriter(root), given.seed, paced=given.paced)
    child = CHILD.format(weakened=WEAKENINGS.get(given.weaken, ""))
    command = [sys.executable, "-c", child, "-s", str(path), "sync", str(root), "--watch"]
    said = folder / "said"
    with open(said, "wb") as output:  # nobody reads a pipe meanwhile
        watch = subprocess.Popen([*command, "--json", "--os", "linux"], stdout=output)
    while not said.read_bytes().endswith(b"\n"):
        time.sleep(0.05)
    time.sleep(2)
    with ImageStore.open(path, read_only=True) as store:
        begin = at = store.position
        made: list[Key] = []
        latencies: list[float] = []
        wrong: list[str] = []
        for _ in range(given.changes):
            made.append(changer.change())
            if given.paced:
                since = time.monotonic()
                at = wait_for(store, made[-1], at) or at
                latencies.append(time.monotonic() - since)
                if latencies[-1] > LIMIT_SECONDS:
                    wrong.append(f"{made[-1]} took {latencies[-1]:.2f} s")
            time.sleep(changer.choose.random() * given.pause / 1000)
        time.sleep(2.5)
        watch.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(watch.pid, 0)
        watch.returncode = os.waitstatus_to_exitcode(status)
        used = usage.ru_utime + usage.ru_stime
        lines = said.read_bytes().splitlines()[1:]
        if watch.returncode != 0:
            wrong.append(f"the watch ended with {watch.returncode}")
        records = list(store.records(after=begin))
        wrong += violations(made, records, paced=given.paced)
        found = DockerImageDB.find(root).read(operating_system="linux")
        if list(store) != [image.image_id for image in found.images]:
            wrong.append("the store has not the images of the source")
        if store.tags() != found.names:
            wrong.append("the store has not the names of the source")
        batches = len({record.batch for record in records})
        if len(lines) != batches:
            wrong.append(f"{len(lines)} lines tell of {batches} batches")
        wrong += [f"verify: {problem.message}" for problem in store.verify()]
    return wrong, latencies, batches, used


if __name__ == "__main__":
    sys.exit(main())
