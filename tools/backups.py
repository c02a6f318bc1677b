"""Back up and restore while everything goes on or wrong, and look for a copy that is not whole.

    backups.py [--seconds N] [--seed N] [--writers N] [--only PART] [--weaken NAME]

* Race: processes append single images, transactions of fifty, deletes and snapshots, while copies
  are taken by an open store, by one that only reads, and by the command. Each copy is sound, lies
  between two batches, holds all that had been acknowledged before, and the records up to its
  position are the source's, byte for byte. It is restored, sometimes again: the new store has its
  own id, says what it forks from, verifies, and goes on by itself.
* Kills: `kill -9` at random moments of a backup and of a restore leaves nothing of the name, or the
  whole.
* Full disk: at every amount of room the copy is whole, or `StoreFullError` and nothing.
* Damage: no bit of a record or a config may flip in a backup that is then restored.
* Destinations: see `destinations`.

The exit code is 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from backup_weakenings import WEAKENINGS
from destinations import try_destinations
from eventstore import Fork, ImageStore, restore
from eventstore.backup import UNFINISHED_PREFIX
from evidence import EnoughError, Evidence, Outcome, in_child, mounted, outcome, with_own_mounts
from workload import config, view_digest

COMMAND = (sys.executable, "-m", "eventstore")
BATCH = 50
POSITIONS_MAX = 5_000
WAYS = ("in the process", "read-only process", "command")
PARTS = ("destinations", "damage", "kill", "fill", "race")
Copy = Callable[[Path, Path], object]


def write_for_ever(path: Path, name: str, acknowledged: Path) -> None:
    """Be a writer: append, and put every position on record once it is acknowledged."""
    chance = random.Random(name)
    mine: list[str] = []
    said = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with ImageStore.open(path, actor=name, operating_system="linux") as store:
        for number in range(1 << 40):
            choice = chance.random()
            if choice < 0.5:
                mine.append(store.create(config(f"{name} {number}", chance.randrange(3_000))))
            elif choice < 0.7:
                with store.transaction(reason=f"{name} {number}"):
                    for part in range(BATCH):
                        store.create(config(f"{name} {number} {part}"))
            elif choice < 0.75:
                store.take_snapshot()
            elif mine:
                store.delete(mine.pop(chance.randrange(len(mine))))
            os.write(said, b"%d\n" % store.position)
            time.sleep(chance.random() / 100)


@contextmanager
def writers(path: Path, folder: Path, count: int) -> Generator[None]:
    """Let writers write to a store for the length of a block."""
    ImageStore.open(path).close()
    command: list[str | Path] = [sys.executable, Path(__file__), "--writer", path]
    processes = [
        subprocess.Popen([*command, f"writer {number}", folder / f"acknowledged-{number}"])
        for number in range(count)
    ]
    try:
        yield
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"a writer has ended: {process.returncode}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def acknowledged(folder: Path) -> int:
    """Return the greatest position that a writer has been told of."""
    found = [0]
    for path in folder.glob("acknowledged-*"):
        found += map(int, path.read_text().split("\n")[-2:-1])
    return max(found)


class Race:
    """Copies of one store that is written to."""

    def __init__(
        self, store: ImageStore, folder: Path, evidence: Evidence, *, weakened: bool
    ) -> None:
        """Take over the store, and the folder that it and its copies lie in."""
        self.weakened = weakened  # in this process and its children, but not in the command
        self.store = store
        self.folder = folder
        self.evidence = evidence
        self.rounds = 0

    def copy(self) -> None:
        """Take one copy, restore it, and check both."""
        evidence, target = self.evidence, self.folder / f"copy {self.rounds}"
        floor = acknowledged(self.folder)
        way = WAYS[self.rounds % (2 if self.weakened else 3)]
        self.rounds += 1
        if way == "in the process":
            position = self.store.backup(target)
        elif way == "read-only process":
            done = in_child(partial(_backup_read_only, Path(self.store.path), target))
            evidence.check(not done.error, f"a backup by another process: {done.error}")
            position = done.value
        else:
            subprocess.run(
                [*COMMAND, "backup", target, "-s", self.store.path],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            position = None
        evidence.tried("backups under writers")
        evidence.check(
            stat.S_IMODE(target.stat().st_mode) == 0o700
            and stat.S_IMODE((target / "data.mdb").stat().st_mode) == 0o600,
            "a copy that others can read",
        )
        # What is torn could keep a reader for ever, or kill it.
        looked = in_child(partial(_look, target), seconds=20)
        evidence.check(
            not looked.error and looked.value[1] == 0,
            f"a copy that does not verify: {looked.error} {looked.text}",
        )
        with ImageStore.open(target, read_only=True) as copy:
            self._check_copy(copy, floor, position)
            end, store_id = copy.position, copy.store_id
        self._restore(target, Fork(store_id, end))
        shutil.rmtree(target)
        scraps = [name for name in os.listdir(self.folder) if name.startswith(UNFINISHED_PREFIX)]
        evidence.check(not scraps, "scraps beside a copy")

    def _check_copy(self, copy: ImageStore, floor: int, position: int | None) -> None:
        evidence, end = self.evidence, copy.position
        evidence.check(position in (None, end), "a copy of another position than was said")
        evidence.check(end >= floor, "a copy without something that had been acknowledged")
        evidence.check(copy.store_id == self.store.store_id, "a copy with another id")
        following = list(self.store.records(after=end, through=end + 1))
        if end < self.store.position:
            evidence.check(
                [record.batch for record in following] == [end + 1], "a copy with half a batch"
            )
        self.check_same(copy, end, "a copy")

    def check_same(self, copy: ImageStore, end: int, what: str) -> None:
        """Compare a copy with the source, up to a position."""
        evidence = self.evidence
        evidence.check(
            view_digest(copy.as_of(position=end)) == view_digest(self.store.as_of(position=end)),
            f"{what} with another view",
        )
        ours = [record.raw for record in self.store.records(through=end)]
        theirs = [record.raw for record in copy.records(through=end)]
        evidence.check(ours == theirs, f"{what} with other records")
        for image in list(copy.as_of(position=end))[:20]:
            evidence.check(
                copy.get(image).raw_json == self.store.get(image).raw_json
                if image in self.store and image in copy
                else True,
                f"{what} with another config",
            )
        evidence.tried("records compared", end)

    def _restore(self, backup: Path, fork: Fork) -> None:
        evidence = self.evidence
        forks: tuple[Fork, ...] = (fork,)
        target = self.folder / f"restored {self.rounds}"
        evidence.check(restore(backup, target) == fork, "a fork that is not where it is")
        evidence.tried("restores")
        end = self._check_restored(target, fork.position, forks)
        if self.rounds % 4 == 0:
            again = self.folder / f"restored again {self.rounds}"
            with ImageStore.open(target, read_only=True) as middle:
                forks = (Fork(middle.store_id, end), *forks)
            restore(target, again)
            evidence.tried("restores of restored stores")
            self._check_restored(again, fork.position, forks)
            shutil.rmtree(again)
        shutil.rmtree(target)

    def _check_restored(self, target: Path, end: int, forks: tuple[Fork, ...]) -> int:
        """Check a restored store, append to it, and check it again; return where it ends."""
        evidence = self.evidence
        with ImageStore.open(target, create=False) as store:
            evidence.check(store.fork == forks[0], "a restored store that names no fork")
            evidence.check(store.forks == forks, "a restored store that forgets a fork")
            ids = {self.store.store_id, *(fork.store_id for fork in forks)}
            evidence.check(store.store_id not in ids, "two histories with one id")
            evidence.check(not list(store.verify()), "a restored store that does not verify")
            store.create(config(f"after {target.name}"))
            store.delete(store.create(config(f"gone after {target.name}")))
            store.take_snapshot()
            evidence.check(not list(store.verify()), "a restored store that is damaged by work")
            self.check_same(store, end, "a restored store")
            return store.position


def _backup_read_only(path: Path, target: Path) -> int:
    with ImageStore.open(path, read_only=True) as store:
        return store.backup(target)


def race(folder: Path, evidence: Evidence, seconds: float, count: int, *, weakened: bool) -> None:
    """Take copies of stores under writers; begin a new store when one has become long."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        own = folder / f"race {number}"
        own.mkdir()
        path = own / "store"
        with writers(path, own, count), ImageStore.open(path) as store:
            racing = Race(store, own, evidence, weakened=weakened)
            while time.monotonic() < end and store.position < POSITIONS_MAX:
                racing.copy()
            evidence.tried("records appended meanwhile", store.position)
            evidence.check(not list(store.verify()), "a source that was damaged by its copies")
        shutil.rmtree(own)


def make_source(path: Path, images: int, size: int) -> int:
    """Make a store that nobody writes to; return its position."""
    with ImageStore.open(path, operating_system="linux") as store:
        for number in range(images):
            created = store.create(config(f"image {number}", size))
            if number % 5 == 0:
                store.delete(created)
        store.take_snapshot()
        return store.position


def kill(folder: Path, evidence: Evidence, seconds: float, seed: int) -> None:
    """Kill backups and restores at random moments, and look at what is left."""
    chance = random.Random(seed)
    source, place = folder / "source", folder / "killed"
    position = make_source(source, 150, 2_000)
    ways: tuple[Copy, ...] = (_backup_read_only, restore)
    lengths = []
    for copy in ways:
        began = time.monotonic()
        copy(source, place / copy.__name__)
        lengths.append(time.monotonic() - began)
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        way = number % 2
        number += 1
        shutil.rmtree(place)
        place.mkdir()
        _kill_one(ways[way], source, place, chance.uniform(0, 1.5 * lengths[way]))
        evidence.tried(("backups killed", "restores killed")[way])
        for name in sorted(os.listdir(place)):
            if name.startswith(UNFINISHED_PREFIX):
                evidence.tried("of them half done")
            else:
                _check_survivor(source, place / name, position, evidence, restored=way == 1)
    with ImageStore.open(source, read_only=True) as store:
        evidence.check(not list(store.verify()), "a source that was damaged by kills")


def _kill_one(copy: Copy, source: Path, place: Path, delay: float) -> None:
    """Copy again and again in a child, and kill it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _copy_for_ever(copy, source, place, writing)
    os.close(writing)
    os.read(reading, 1)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)


def _copy_for_ever(copy: Copy, source: Path, place: Path, writing: int) -> NoReturn:
    try:
        os.write(writing, b"x")
        for number in range(1 << 40):
            copy(source, place / f"copy {number}")
    finally:
        os._exit(1)


def _check_survivor(
    source: Path, path: Path, position: int, evidence: Evidence, *, restored: bool
) -> None:
    """Check a copy that has its name."""
    evidence.tried("whole copies after kills")
    done = outcome(partial(_look, path))
    if done.error:
        evidence.check(sound=False, text=f"a killed copy has its name: {done.error}")
        return
    found, problems, store_id, fork = done.value
    evidence.check(found == position and not problems, "a copy that is not whole has its name")
    with ImageStore.open(source, read_only=True) as store:
        expected = (False, Fork(store.store_id, position)) if restored else (True, None)
        evidence.check(
            (store_id == store.store_id, fork) == expected, "a killed restore has no id of its own"
        )


def _look(path: Path) -> tuple[int, int, str, Fork | None]:
    with ImageStore.open(path, read_only=True) as store:
        return store.position, len(list(store.verify())), store.store_id, store.fork


def fill(folder: Path, evidence: Evidence, *, may_mount: bool, rounds: int) -> None:
    """Let the room end everywhere in a backup and in a restore."""
    source = folder / "small source"
    position = make_source(source, 40, 1_000)
    needed = source.joinpath("data.mdb").stat().st_size + (1 << 18)
    sizes = [4096 * (number * needed // 4096 // rounds) for number in range(rounds + 1)]
    for copy in (_backup_read_only, restore):
        for size in sizes:
            target = folder / "limited"
            done = in_child(partial(_with_limit, size, copy, source, target))
            evidence.tried("copies with a limit of file size")
            _check_full(target, position, done, evidence)
    if not may_mount:
        evidence.not_tried("a full disk: only root may mount one")
        return
    with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={needed * 2}", "none") as may:
        if not may:
            evidence.not_tried("a full disk: a tmpfs may not be mounted")
            return
        for copy in (_backup_read_only, restore):
            for size in sizes:
                _fill_disk(folder / "disk", size)
                target = folder / "disk" / "copy"
                done = outcome(partial(copy, source, target))
                evidence.tried("copies onto a full disk")
                _check_full(target, position, done, evidence)


def _with_limit(size: int, copy: Copy, source: Path, target: Path) -> None:
    """Copy where no file may be longer than a limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    copy(source, target)


def _fill_disk(disk: Path, size: int) -> None:
    """Leave so much room on a disk."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_bsize - size))


def _check_full(target: Path, position: int, done: Outcome, evidence: Evidence) -> None:
    if done.error:
        evidence.tried("of them refused as full")
        evidence.check(done.error == "StoreFullError", f"a full disk is {done.error} {done.text}")
        names = set(os.listdir(target.parent))
        evidence.check(
            target.name not in names and not any(map(_is_scrap, names)), "scraps on a full disk"
        )
        return
    target.with_name("ballast").unlink(missing_ok=True)  # to open it takes room for a lock file
    evidence.check(_look(target)[:2] == (position, 0), "a copy onto a full disk is not whole")
    shutil.rmtree(target)


def _is_scrap(name: str) -> bool:
    return name.startswith(UNFINISHED_PREFIX)


def damage(folder: Path, evidence: Evidence, rounds: int, seed: int) -> None:
    """Flip bits in what backups hold; none of it may come back as sound."""
    chance = random.Random(seed)
    source, backup, target = (folder / f"damage {name}" for name in ("source", "backup", "target"))
    make_source(source, 30, 100)
    with ImageStore.open(source, read_only=True) as store:
        store.backup(backup)
        stored = [record.raw for record in store.records()]
        with store._environment.read() as txn:
            stored += [value for _, value in txn.scan("configs")]
    sound = backup.joinpath("data.mdb").read_bytes()
    for _ in range(rounds):
        value = chance.choice(stored)
        at = sound.index(value) + chance.randrange(len(value))
        damaged = bytearray(sound)
        damaged[at] ^= 1 << chance.randrange(8)
        backup.joinpath("data.mdb").write_bytes(damaged)
        before = set(os.listdir(folder))
        done = outcome(partial(restore, backup, target))
        evidence.tried("damaged backups")
        evidence.check(
            done.error == "CorruptionError" and "damaged" in done.text,
            f"a damaged backup was restored: {done.error or 'no error'}",
        )
        evidence.check(set(os.listdir(folder)) == before, "a refused restore left something")
        with suppress(FileNotFoundError):
            shutil.rmtree(target)


def main() -> int:
    """Attack, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of races and kills")
    parser.add_argument("--rounds", type=int, default=40, help="of full disks and damaged backups")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, default=None, help="one part of the attack")
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    parser.add_argument("--writer", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer is not None:
        path, name, said = options.writer
        write_for_ever(Path(path), name, Path(said))
    may_mount = with_own_mounts()
    if options.weaken is not None:
        WEAKENINGS[options.weaken]()
    weakened = options.weaken is not None
    evidence = Evidence(stop_at_first=weakened)
    with tempfile.TemporaryDirectory(prefix="backups-") as top, suppress(EnoughError):
        folder = Path(top).resolve()
        folder.chmod(0o755)
        seconds, rounds = options.seconds, options.rounds
        parts: dict[str, Callable[[], None]] = {
            "destinations": partial(try_destinations, folder, evidence, may_mount=may_mount),
            "damage": partial(damage, folder, evidence, rounds, options.seed),
            "kill": partial(kill, folder, evidence, seconds / 4, options.seed),
            "fill": partial(fill, folder, evidence, may_mount=may_mount, rounds=rounds),
            "race": partial(
                race, folder, evidence, seconds * 3 / 4, options.writers, weakened=weakened
            ),
        }
        for name in (options.only,) if options.only else PARTS:
            parts[name]()
    return evidence.close(
        f"seed {options.seed}, {options.writers} writers, {options.seconds:g} s of races and kills"
        + (f", weakened by {options.weaken}" if options.weaken else "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
