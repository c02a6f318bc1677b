"""Fill a real disk, and look whether anything is lost, unreadable, or stays stuck.

    full_disk.py [--budget N] [--seed N] [--places A,B] [--weaken NAME]

Five kinds of end to the room there is, all of them real:

    tmpfs   a small file system in memory                          (needs leave to mount)
    ext4    a small file system in a file                          (needs leave to mount, and mkfs)
    thin    the same, whose file lies on a disk that is full: writes succeed, syncs fail    (also)
    limit   no file of the process may grow beyond some bytes      (RLIMIT_FSIZE)
    map     the store's own limit, `map_size_max`

Each trial is a process of its own, which leaves some room and then writes until it is refused: by
single events, transactions, large configs, snapshots, syncs from a Docker data root, or backups.
Then: the error is `StoreFullError` and says what is full (of a thin disk it is `StoreIOError`, for
that is what the kernel says); everything acknowledged is there, nothing refused is; get, as_of,
records, search and verify work, here and in another process, which opens the store read-only and
for writing on the full disk; once there is room, writing works again, here and there. With the
store's own limit, it works after an open with a greater one.

Other trials make a store with 0 to 200 KiB of room: there is a whole store, or a clear error and
later, with room, a whole store. Others open a store on a full disk whose lock file is gone or has
holes: that is refused or works, and never ends in a bus error. The exit code is 1 if a trial fails.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from crash_states import fast_folder, unpack_source
from eventstore import EventStoreError, ImageStore, StoreFullError, StoreIOError, store_files
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync
from system_call_faults import chosen
from workload import FAULT_WEAKENINGS, SOURCE, STORE, config, view_digest

KIB = 1024
PLACES = ("tmpfs", "ext4", "thin", "limit", "map")
WAYS = ("single", "transaction", "large", "snapshot", "sync", "backup")
ROOMS = (160, 201, 242, 283)
CREATION_ROOMS = range(0, 204, 4)
SECONDS_MAX, UNMOUNTS_MAX = 40, 200
MAP_SIZE = 1 << 17
RETRIES, THREADS, VIEWS_MAX = 3, 100, 15


@dataclass(frozen=True)
class Trial:
    """One process on a disk that gets full.

    Attributes:
        place: one of `PLACES`.
        scenario: one of `WAYS`, `creation`, `lock gone` or `lock with holes`.
        room: KiB that are left when it begins.
        path: the folder to write in.
        ballast: a file that can be removed to make room.
        source: a folder with a Docker data root.
    """

    place: str
    scenario: str
    room: int
    path: str = ""
    ballast: str = ""
    source: str = ""


@dataclass
class Outcome:
    """What a trial found.

    Attributes:
        acknowledged: writes that were acknowledged.
        refused: writes that were refused, by what they were.
        checks: reads whose answers were compared.
        violations: what is wrong.
    """

    acknowledged: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    checks: int = 0
    violations: list[str] = field(default_factory=list)


# The disk.


def leave_room(trial: Trial) -> None:
    """Leave so many KiB of room, and no more."""
    if trial.place == "limit":
        limit_file_size(trial.room * KIB)
    elif trial.place != "map":
        folder = Path(trial.ballast).parent
        with open(trial.ballast, "wb") as ballast:
            found = os.statvfs(folder)
            taken = found.f_bavail * found.f_frsize - trial.room * KIB
            try:
                if taken > 0:
                    os.posix_fallocate(ballast.fileno(), 0, taken)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise  # the ballast's own bookkeeping may need the last of the room


def make_room(trial: Trial) -> None:
    """Let the disk have room again."""
    limit_file_size(None)
    Path(trial.ballast).unlink(missing_ok=True)


def limit_file_size(limit: int | None) -> None:
    """Let no file of this process grow beyond a limit, or take the limit away."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if limit is None else limit, hard))


def opened(trial: Trial, **options: Any) -> ImageStore:
    """Open the store of a trial."""
    if trial.place == "map":
        options = {"map_size_max": trial.room * KIB, **options}
    path = Path(trial.path) / STORE
    return ImageStore.open(
        path, actor="full", operating_system="linux", map_size=MAP_SIZE, **options
    )


# A trial, in a process of its own.


class Filling:
    """Writes to a store until it is refused, remembers what was acknowledged, and looks for it."""

    def __init__(self, trial: Trial, store: ImageStore, outcome: Outcome) -> None:
        """Take over an open store."""
        self.trial = trial
        self.store = store
        self.outcome = outcome
        self.views: dict[int, str] = {}
        self.note()

    def note(self) -> None:
        """Remember the present view as acknowledged."""
        self.views[self.store.position] = view_digest(self.store.view())

    def fill(self) -> bool:
        """Write until something is refused; tell whether it was."""
        for number in range(2_000):
            for name, work in self.works(self.trial.scenario, number):
                if not self.write(name, work):
                    return True
        return False

    def works(self, way: str, number: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Iterate over what one round of a way of writing does."""
        store = self.store
        if way == "transaction" or (way == "snapshot" and number < 6):
            yield "transaction", lambda: self.transaction(f"{way} {number}")
        if way == "single" or (way == "snapshot" and number >= 6):
            yield "single", lambda: store.create(config(f"{way} {number}"))
        if way == "large":
            yield "large", lambda: store.create(config(f"{way} {number}", 20_000))
        if way == "snapshot":
            yield "snapshot", store.take_snapshot
        if way == "sync":
            yield "sync", self.sync
            yield "sync", self.delete_all
        if way == "backup":
            yield "single", lambda: store.create(config(f"{way} {number}", 5_000))
            yield "backup", lambda: store.backup(Path(self.trial.path) / f"backup {number}")

    def transaction(self, name: str) -> None:
        """Create some images in one batch."""
        with self.store.transaction():
            for number in range(30):
                self.store.create(config(f"{name} {number}"))

    def sync(self) -> None:
        """Take all images of a Docker data root in."""
        found = DockerImageDB.find(Path(self.trial.source) / SOURCE).read(operating_system="linux")
        sync(self.store, found.images, found.passed_over, allow_mass_delete=True)

    def delete_all(self) -> None:
        """Delete every image in one batch."""
        with self.store.transaction():
            for image_id in self.store:
                self.store.delete(image_id)

    def write(self, name: str, work: Callable[[], object]) -> bool:
        """Write once; tell whether it was acknowledged."""
        try:
            work()
        except EventStoreError as error:
            self.outcome.refused[name] = self.outcome.refused.get(name, 0) + 1
            self.outcome.violations += error_violations(self.trial, name, error)
            return False
        self.outcome.acknowledged += 1
        self.note()
        return True

    def look(self) -> None:
        """Compare everything that can be read with what was acknowledged."""
        outcome, store = self.outcome, self.store
        last = max(self.views)
        if store.position != last:
            outcome.violations.append(f"it is at {store.position}, and {last} was acknowledged")
            return
        compared = chosen(list(self.views.items()), VIEWS_MAX, 1)
        for position, digest in compared:
            if view_digest(store.as_of(position=position)) != digest:
                outcome.violations.append(f"the view at {position} is another")
        for image_id in store:
            if store.get(image_id).id != image_id or store.search(image_id[:71]) != image_id:
                outcome.violations.append(f"{image_id} is another")
        if len(list(store.records())) != last:
            outcome.violations.append("records are missing")
        outcome.violations += [problem.message for problem in store.verify()]
        outcome.checks += 2 + len(compared) + 2 * len(store)

    def look_elsewhere(self, *, room: bool) -> None:
        """Let another process open the store, to read and then to write."""
        found = other_process(self.trial)
        expected = [max(self.views), self.views[max(self.views)]]
        if found.get("read") != expected or found.get("read again") != expected:
            self.outcome.violations.append(f"another process reads {found}")
        self.outcome.violations += found.get("violations", [])
        if found.get("wrote"):
            self.note()
        elif room:
            self.outcome.violations.append("another process cannot write, with room")
        self.outcome.checks += 2


def error_violations(trial: Trial, name: str, error: EventStoreError) -> Iterator[str]:
    """Iterate over what is wrong with an error that says that there is no room."""
    if trial.place == "thin" and type(error) is StoreIOError:
        return
    if type(error) is not StoreFullError:
        yield f"{name} had no room, and was refused with {type(error).__name__}: {error}"
    elif trial.place == "map" and error.map_size != trial.room * KIB:
        yield f"{name}: the error names the map size {error.map_size}"
    elif trial.place != "map" and (error.path is None or error.map_size is not None):
        yield f"{name}: the error names path {error.path}, map size {error.map_size}"


def other_process(trial: Trial) -> dict[str, Any]:
    """Open the store in another process; return what it read and whether it could write."""
    command = [sys.executable, __file__, "--look", json.dumps(asdict(trial))]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    if ended.returncode:
        return {"ended": ended.returncode, "complaint": ended.stderr[-300:]}
    return dict(json.loads(ended.stdout))


def look(trial: Trial) -> dict[str, Any]:
    """Open a store in this process, to read and then to write, and return what came of it."""
    found: dict[str, Any] = {"violations": [], "wrote": False}
    limit_file_size(None)
    with opened(trial, read_only=True, create=False) as store:
        found["read"] = [store.position, view_digest(store.view())]
    with opened(trial, create=False) as store:
        found["read again"] = [store.position, view_digest(store.view())]
        found["violations"] += [problem.message for problem in store.verify()]
        try:
            store.create(config(f"of process {os.getpid()}"))
            found["wrote"] = True
        except EventStoreError as error:
            found["violations"] += error_violations(trial, "another process", error)
    return found


def run_filling(trial: Trial, outcome: Outcome) -> None:
    """Fill the disk, look, make room, write again, and look again."""
    if trial.place != "map":
        leave_room(trial)
    with opened(trial) as store:
        filling = Filling(trial, store, outcome)
        if not filling.fill():
            outcome.violations.append("the disk does not get full")
        filling.look()
        filling.look_elsewhere(room=False)
        for number in range(RETRIES):
            filling.write("single", partial(store.create, config(f"again {number}")))
        filling.look()
        if any(Path(trial.path).glob(".backup*")):
            outcome.violations.append("half a backup is left")
        make_room(trial)
        if trial.place != "map":
            if not filling.write("with room", lambda: store.create(config("with room"))):
                outcome.violations.append("writing does not work again, with room")
            filling.look()
            filling.look_elsewhere(room=True)
    with opened(trial, map_size_max=None) as store:
        again = Filling(trial, store, outcome)
        again.views = filling.views | again.views
        if max(again.views) != max(filling.views) or not again.write(
            "with room", lambda: store.create(config("opened again"))
        ):
            outcome.violations.append("writing does not work after an open, with room")
        again.look()


def run_creation(trial: Trial, outcome: Outcome) -> None:
    """Make a store with little room, then with enough."""
    if trial.place != "map":
        leave_room(trial)
    position = 0
    try:
        with opened(trial) as store:
            outcome.acknowledged += 1
            filling = Filling(trial, store, outcome)
            filling.write("single", lambda: store.create(config("the first")))
            filling.look()
            position = store.position
    except EventStoreError as error:
        outcome.refused["creation"] = 1
        outcome.violations += error_violations(trial, "creation", error)
    make_room(trial)
    with opened(trial, map_size_max=None) as store:
        if store.position != position:
            outcome.violations.append(f"it begins at {store.position}, not {position}")
        store.create(config("the second"))
        outcome.violations += [problem.message for problem in store.verify()]
        outcome.checks += 2


def run_lock_file(trial: Trial, outcome: Outcome) -> None:
    """Open a store whose lock file has no place on disk yet, with little room."""
    with opened(trial) as store:
        store.create(config("the first"))
    lock = Path(trial.path) / STORE / store_files.LOCK
    length = lock.stat().st_size
    lock.unlink()
    if trial.scenario == "lock with holes":
        with lock.open("wb") as file:
            file.truncate(length)
    leave_room(trial)
    for read_only in (True, False):
        try:
            with opened(trial, read_only=read_only, create=False) as store:
                outcome.acknowledged += 1
                read_by_many(store, outcome)
        except EventStoreError as error:
            outcome.refused["open"] = outcome.refused.get("open", 0) + 1
            outcome.violations += error_violations(trial, "open", error)
    make_room(trial)
    with opened(trial) as store:
        read_by_many(store, outcome)
        store.create(config("the second"))


def read_by_many(store: ImageStore, outcome: Outcome) -> None:
    """Read in many threads at once: each marks a place of its own in the lock file."""
    gate = threading.Barrier(THREADS)

    def read() -> None:
        with store._environment.read():
            gate.wait(30)
        if store.position != 1:
            outcome.violations.append(f"a thread reads position {store.position}")

    threads = [threading.Thread(target=read) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.checks += THREADS


def run_trial(trial: Trial) -> Outcome:
    """Run a trial in this process."""
    outcome = Outcome()
    try:
        if trial.scenario == "creation":
            run_creation(trial, outcome)
        elif trial.scenario in WAYS:
            run_filling(trial, outcome)
        else:
            run_lock_file(trial, outcome)
    except EventStoreError as error:
        outcome.violations.append(f"{type(error).__name__}: {error}")
    return outcome


# All trials.


@contextmanager
def mounted(command: Sequence[str], folder: Path) -> Generator[Path]:
    """Mount something on a folder for the length of a block."""
    folder.mkdir()
    subprocess.run(["mount", *command, str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        for tries_left in reversed(range(UNMOUNTS_MAX)):
            ended = subprocess.run(["umount", str(folder)], check=False, capture_output=True)
            if not ended.returncode:
                break
            time.sleep(0.05)  # what lies on it lets go a little later
            if not tries_left:
                subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def made_file_system(image: Path, size: int) -> Path:
    """Make a file that holds an empty ext4 of so many KiB, without room set apart for root."""
    with image.open("wb") as file:
        file.truncate(size * KIB)
    options = ["-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard"]
    subprocess.run(["mkfs.ext4", *options, str(image)], check=True, capture_output=True)
    return image


@contextmanager
def disk(place: str, top: Path) -> Generator[tuple[Path, Path]]:
    """Make an empty disk; give the folder to write in, and that of the ballast."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=top)))
        inner, outer, image = folder / "inner", folder / "outer", folder / "image"
        if place in ("tmpfs", "thin"):
            stack.enter_context(mounted(["-t", "tmpfs", "-o", "size=1m", "tmpfs"], outer))
        if place == "thin":
            image = outer / "image"
        if place in ("ext4", "thin"):
            made_file_system(image, 2048 if place == "ext4" else 4096)
            stack.enter_context(mounted(["-o", "loop", str(image)], inner))
        else:
            inner.mkdir()
        yield {
            "tmpfs": (outer, outer),
            "ext4": (inner, inner),
            "thin": (inner, outer),
            "limit": (inner, inner),
            "map": (inner, inner),
        }[place]


def possible(wanted: Sequence[str], top: Path) -> list[str]:
    """Return the places that there can be here; say why others cannot."""
    found: list[str] = []
    for place in wanted:
        try:
            with disk(place, top):
                found.append(place)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error).encode()
            print(f"  {place}: not possible here: {said.decode(errors='replace').strip()}")
    return found


def all_trials(found: Sequence[str]) -> Iterator[Trial]:
    """Iterate over all trials in the places that there are."""
    for place in found:
        for scenario in WAYS:
            if scenario == "backup" and place == "map":
                continue  # a copy has no limit
            for room in ROOMS:
                yield Trial(place, scenario, room)
        if place == "thin":
            continue  # what a disk does not refuse at once is no matter of size
        if place != "map":
            yield from (Trial(place, "creation", room) for room in CREATION_ROOMS)
        if place not in ("map", "limit"):
            for scenario in ("lock gone", "lock with holes"):
                yield from (Trial(place, scenario, room) for room in (0, 4, 32, 64, 72))


def run_process(trial: Trial, weaken: str | None) -> Outcome:
    """Run a trial in another process, and return what it found, or how it ended."""
    command = [sys.executable, __file__, "--trial", json.dumps(asdict(trial))]
    command += [] if weaken is None else ["--weaken", weaken]
    try:
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        return Outcome(violations=["it hangs"])
    if ended.returncode:
        complaint = ended.stderr.strip().splitlines() or ["without a word"]
        return Outcome(violations=[f"it ended with {ended.returncode}: {complaint[-1]}"])
    return Outcome(**json.loads(ended.stdout))


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=int, default=None, help="trials; all, if not given")
    parser.add_argument("--seed", type=int, default=1, help="which trials, with a budget")
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--scenarios", default=None, help="only these ways of getting full")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--weaken", choices=sorted(FAULT_WEAKENINGS), default=None)
    for name in ("--trial", "--look"):
        parser.add_argument(name, type=json.loads, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    return parser.parse_args()


def main() -> int:
    """Fill disks, and print what was tried and found."""
    options = parsed()
    if options.weaken is not None:
        FAULT_WEAKENINGS[options.weaken]()
    if options.trial is not None:
        print(json.dumps(asdict(run_trial(Trial(**options.trial)))))
        return 0
    if options.look is not None:
        print(json.dumps(look(Trial(**options.look))))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is mounted must go
    began = time.monotonic()
    outcomes: list[tuple[Trial, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="full-disk-", dir=fast_folder()) as name:
        top = Path(name).resolve()
        unpack_source(top / "docker")
        found = possible(options.places.split(","), top)
        trials = [
            trial
            for trial in all_trials(found)
            if options.scenarios is None or trial.scenario in options.scenarios.split(",")
        ]
        runs = chosen(trials, options.budget, options.seed)
        with ThreadPoolExecutor(options.workers) as pool:
            found_of = pool.map(partial(tried, top=top, weaken=options.weaken), runs)
            for trial, outcome in zip(runs, found_of, strict=True):
                outcomes.append((trial, outcome))
                if options.first and outcome.violations:
                    pool.shutdown(cancel_futures=True)
                    break
    violations = report(outcomes)
    print(
        f"{len(outcomes)} of {len(trials)} trials in {len(found)} places,"
        f" {sum(sum(outcome.refused.values()) for _, outcome in outcomes)} refusals,"
        f" {violations} violations, {time.monotonic() - began:.0f} s"
        f" (budget {options.budget}, seed {options.seed})"
    )
    return 1 if violations else 0


def tried(trial: Trial, top: Path, weaken: str | None) -> Outcome:
    """Run a trial on a disk of its own."""
    with disk(trial.place, top) as (folder, outer):
        path = folder / "trial"
        path.mkdir()
        ballast, source = str(outer / "ballast"), str(top / "docker")
        where = replace(trial, path=str(path), ballast=ballast, source=source)
        return run_process(where, weaken)


def report(outcomes: Sequence[tuple[Trial, Outcome]]) -> int:
    """Print what was tried, by place and way, and what is wrong; return how many violations."""
    refused: dict[tuple[str, str], Counter[str]] = {}
    checks: Counter[tuple[str, str]] = Counter()
    runs: Counter[tuple[str, str]] = Counter()
    for trial, outcome in outcomes:
        key = trial.place, trial.scenario
        runs[key] += 1
        checks[key] += outcome.checks
        refused.setdefault(key, Counter()).update(outcome.refused)
    for key, number in runs.items():
        said = ", ".join(f"{count} {name}" for name, count in sorted(refused[key].items()))
        print(
            f"  {key[0]:6} {key[1]:16} {number:3} trials; refused: {said or 'nothing'};"
            f" {checks[key]} reads compared"
        )
    for trial, outcome in outcomes:
        for text in outcome.violations[:5]:
            print(f"  {trial.place}, {trial.scenario}, {trial.room} KiB: {text}")
    return sum(len(outcome.violations) for _, outcome in outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
