"""Sync from Docker databases into which something hostile was planted, and look for harm.

    hostile_sources.py [--seconds N] [--only TEXT] [--seed N] [--weaken NAME]

Each of the plants of `hostile_plants` goes into a fresh copy of a real database, beside a store
that has taken that database over before. A process of its own then syncs, with its memory limited,
and for some plants as a user without rights. Held against it: nothing but our errors comes out;
what became of the images is what the plant allows; the source is byte for byte and time for time as
it was (but for times of access); the store verifies, and holds no secret from outside the source;
time and memory are bounded. Where `strace` may trace, every file that the sync opened lies in the
source, in the store, or among the system's own, and every change is one of the store.

Then, for `--seconds`, another process keeps changing the database (files that grow, shrink, vanish
and turn into links, folders that change places with links) while one sync follows another.
"""

from __future__ import annotations

import argparse
import codecs
import ctypes
import json
import os
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import eventstore
from eventstore import Deleted, EventStoreError, Image, ImageStore, RootFS
from eventstore.layers import DockerLayerDB
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync
from hostile_plants import MARKER, Place, Plant, nothing, plants
from hostile_weakenings import WEAKENINGS
from system_calls import tracer

TOP = Path(__file__).resolve().parent.parent
ARCHIVE = TOP / "tests" / "data" / "docker" / "host-a-1.tar.gz"
NOBODY = 65534
MEMORY_MAX = 256 << 20
SECONDS_MAX = 20.0
MAP_SIZE = 1 << 24
TRACED = "%file,ftruncate,fchmod,fchown,fsetxattr"
SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/null", "/dev/urandom")
_OPENED = re.compile(r"^(?:open|openat|openat2|creat)\((.*)\) = \d+<(.*)>$")
_CHANGED = re.compile(
    r"^(?:unlink|rename|mkdir|rmdir|mknod|symlink|link|chmod|fchmod|chown|fchown|lchown|utime"
    r"|futimes|truncate|ftruncate|setxattr|lsetxattr|fsetxattr|removexattr)\w*\((.*)\) = 0$"
)
_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
Fingerprint = dict[bytes, tuple[object, ...]]


@dataclass(frozen=True)
class Base:
    """The database before anything is planted, and a store that has taken it over."""

    root: Path
    store: Path
    victim: str
    layer: str
    sharing: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """How a sync ended, as its process told."""

    error: str
    ours: bool
    reported: int
    text: str
    seconds: float
    peak: int


def prepare(workplace: Path, images: int) -> Base:
    """Unpack the database, give one image all kinds of metadata, and take it over."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(workplace, filter="tar")
    root = (workplace / "host-a-1").rename(workplace / "base")
    driver = root / "image" / "overlay2"
    layers = DockerLayerDB(driver / "layerdb")
    found = DockerImageDB.find(root).read(operating_system="linux")
    by_id = {image.image_id: image for image in found.images}
    chains = {image_id: stacks(image.config) for image_id, image in by_id.items()}
    victim = next(
        image.image_id
        for image in found.images
        if image.parent and image.last_updated_ns and len(chains[image.image_id]) > 1
        if layers.metadata(chains[image.image_id][-1]).diff_size
    )
    kept, at = list[str](), by_id[victim].parent
    while at is not None:
        kept.append(at)
        at = by_id[at].parent
    kept = [victim, *kept, *(image_id for image_id in by_id if by_id[image_id].parent is None)]
    for image_id in by_id.keys() - set(list(dict.fromkeys([*kept, *by_id]))[:images]):
        (driver / "imagedb/content/sha256" / image_id[7:]).unlink()
        shutil.rmtree(driver / "imagedb/metadata/sha256" / image_id[7:], ignore_errors=True)
    for file in driver.rglob("tar-split.json.gz"):
        file.unlink()
    metadata = driver / "imagedb/metadata/sha256" / victim[7:]
    (metadata / "builtLocally").write_bytes(b"\x01")
    with ImageStore.open(workplace / "base-store", actor="host", map_size=MAP_SIZE) as store:
        sync(store, DockerImageDB.find(root).read(operating_system="linux").images)
        assert store.get_parent(victim) is not None
    sharing = [image_id for image_id in by_id if chains[victim][-1] in chains[image_id]]
    return Base(
        root, workplace / "base-store", victim[7:], chains[victim][-1][7:], frozenset(sharing)
    )


def stacks(config: bytes) -> list[str]:
    """Return the chain ids of all stacks that an image is made of, the whole one last."""
    root_fs = Image.from_stored(config).root_fs
    ids = root_fs.diff_ids
    return [RootFS("layers", ids[:length]).chain_id() for length in range(1, len(ids) + 1)]


def fingerprint(root: Path) -> Fingerprint:
    """Return what lies in a tree: kinds, rights, sizes, times, targets of links, contents."""
    found: Fingerprint = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in [b".", *folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            mode = status.st_mode
            content: bytes | None = None
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode) and status.st_size < 1 << 20:
                with open(path, "rb") as file:
                    content = file.read()
            times = status.st_mtime_ns, status.st_ctime_ns
            found[path] = (mode, status.st_uid, status.st_size, *times, content)
    return found


def in_a_process(
    work: Callable[[], int], *, nobody: bool, seconds_max: float = SECONDS_MAX
) -> tuple[Outcome, int]:
    """Do some work that returns a number in a child; return how it ended, and the child's id."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(int(seconds_max) + 1)
        try:
            os.write(writer, json.dumps(told(work, nobody=nobody)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    if not text:
        return Outcome("died", False, 0, "", seconds_max, 0), child
    return Outcome(**json.loads(text)), child


def told(work: Callable[[], int], *, nobody: bool) -> dict[str, Any]:
    """Do some work within the limits, and return what became of it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_MAX + 2 * MAP_SIZE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if nobody:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    error, ours, reported, text = "", True, 0, ""
    try:
        reported = work()
    except EventStoreError as caught:
        error, text = type(caught).__name__, str(caught)[:500]
    except BaseException as caught:
        error, ours, text = type(caught).__name__, False, str(caught)[:500]
    seconds = time.monotonic() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {
        "error": error,
        "ours": ours,
        "reported": reported,
        "text": text,
        "seconds": seconds,
        "peak": peak,
    }


def sync_once(root: Path, store_path: Path) -> int:
    """Sync a database into a store; return how many entries were passed over."""
    found = DockerImageDB.find(root).read(operating_system="linux")
    with ImageStore.open(store_path, actor="host", map_size=MAP_SIZE) as store:
        sync(store, found.images, found.passed_over, names=found.names, allow_mass_delete=True)
    return len(found.passed_over)


@dataclass(frozen=True)
class Laid:
    """A copy of the database with a plant in it, a store beside it, and what was before."""

    plant: Plant
    place: Place
    store: Path
    before: Fingerprint


class Attack:
    """All plants and changes, each in its folder."""

    def __init__(self, workplace: Path, options: argparse.Namespace) -> None:
        """Prepare what all begin with."""
        self.workplace = workplace
        self.options = options
        self.base = prepare(workplace, options.images)
        self.before = known(self.base.store)
        self.store_bytes = (self.base.store / "data.mdb").read_bytes()
        self.planted = self.syncs = self.largest = self.calls = 0
        self.slowest = 0.0
        self.violations: list[str] = []
        self.skipped: dict[str, int] = {}

    def run(self) -> None:
        """Try everything."""
        laid: list[Laid] = []
        for plant in plants(self.options.crowd):
            if self.options.only not in plant.name:
                continue
            why = cannot(plant, self.workplace)
            if why:
                self.skipped[why] = self.skipped.get(why, 0) + 1
            else:
                laid.append(self.lay_out(f"plant-{len(laid) + 1}", plant))
        self.planted = len(laid)
        outcomes = self.syncs_of(laid)
        for one, outcome in zip(laid, outcomes, strict=True):
            for problem in self.problems(one, outcome):
                self.violations.append(f"{one.plant.name}: {problem}")
            shutil.rmtree(one.place.root.parent)
        if self.options.seconds:
            for problem in self.changing_problems():
                self.violations.append(f"changing: {problem}")

    def lay_out(self, name: str, plant: Plant) -> Laid:
        """Plant one thing in a fresh copy of the database, with secrets and a store beside it."""
        folder = self.workplace / name
        folder.mkdir()
        source, store = folder / "source", folder / "store"
        shutil.copytree(self.base.root, source, symlinks=True)
        shutil.copytree(self.base.store, store)
        outside = folder / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(MARKER)
        if plant.as_nobody:
            for path in (store, *store.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            for path in (source, *source.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
        base = self.base
        place = Place(source, source / "image" / "overlay2", outside, base.victim, base.layer)
        plant.work(place)
        return Laid(plant, place, store, fingerprint(source))

    def syncs_of(self, laid: list[Laid], seconds: float = 0.0) -> list[Outcome]:
        """Sync from each, or from one again and again for so long, by a process that is traced."""
        jobs = [(str(one.place.root), str(one.store), one.plant.as_nobody) for one in laid]
        whole = {"jobs": jobs, "seconds": seconds, "weaken": self.options.weaken}
        (self.workplace / "jobs.json").write_text(json.dumps(whole))
        command = [sys.executable, __file__, "--syncer", str(self.workplace)]
        strace = None if self.options.no_trace else tracer()
        if strace is not None:
            trace = [strace, "-ff", "-y", "-s", "300", "-e", f"trace={TRACED}", "--quiet=all"]
            command = [*trace, "-o", str(self.workplace / "calls"), *command]
        subprocess.run(command, check=True)
        outcomes: list[Outcome] = []
        for line in (self.workplace / "outcomes.jsonl").read_text().splitlines():
            job, child, fields = json.loads(line)
            outcome = Outcome(**fields)
            outcomes.append(outcome)
            self.slowest = max(self.slowest, outcome.seconds)
            self.largest = max(self.largest, outcome.peak)
            if strace is not None:
                self.judge_calls(laid[job], self.workplace / f"calls.{child}")
        self.syncs += len(outcomes)
        return outcomes

    def judge_calls(self, one: Laid, path: Path) -> None:
        """Look at all that one sync asked of the kernel."""
        for line in path.read_text("utf-8", "replace").splitlines():
            self.calls += 1
            problem = trespass(one, line)
            if problem is not None:
                self.violations.append(f"{one.plant.name}: {problem}")
        path.unlink()

    def problems(self, one: Laid, outcome: Outcome) -> Iterator[str]:
        """Iterate over what is wrong after a sync from a plant."""
        if fingerprint(one.place.root) != one.before:
            yield "the source was changed"
        yield from bounds(outcome)
        after = self.before
        if (one.store / "data.mdb").read_bytes() != self.store_bytes:
            after = known(one.store)
            yield from unsound(one.store)
        yield from self.judged(one.plant, outcome, after)
        yield from secrets_in(one.store, outcome)

    def judged(self, plant: Plant, outcome: Outcome, after: dict[str, object]) -> Iterator[str]:
        """Iterate over what became of the images and should not have."""
        lost = self.before.keys() - after.keys()
        victim = f"sha256:{self.base.victim}"
        changed = {image_id for image_id in after if self.before.get(image_id) != after[image_id]}
        if bool(outcome.error) != (plant.outcome == "refused"):
            yield f"ended with {outcome.error or 'no error'} {outcome.text}"
        if plant.outcome in ("same", "kept", "refused") and self.before != after:
            yield f"{len(lost)} images were lost, {len(changed)} changed"
        if plant.outcome == "kept" and not outcome.reported:
            yield "it was not reported"
        if plant.outcome == "there" and (lost or not changed <= {victim}):
            yield f"{len(lost)} images were lost, {len(changed)} changed"
        if plant.outcome == "gone" and (victim not in lost or not lost <= self.base.sharing):
            yield f"{len(lost)} images were lost"

    def changing_problems(self) -> Iterator[str]:
        """Sync while another process changes the database; iterate over what is wrong."""
        one = self.lay_out("changing", Plant("changing", "bounded", nothing))
        changer = os.fork()
        if changer == 0:
            try:
                Changer(one.place, self.base, random.Random(self.options.seed)).run()
            finally:
                os._exit(0)
        try:
            outcomes = self.syncs_of([one], self.options.seconds)
        finally:
            os.kill(changer, signal.SIGKILL)
            os.waitpid(changer, 0)
        for outcome in outcomes:
            yield from bounds(outcome)
            yield from secrets_in(one.store, outcome)
        refused = sum(bool(outcome.error) for outcome in outcomes)
        print(f"while it was changed: {len(outcomes)} syncs, {refused} of them refused")
        with ImageStore.open(one.store, map_size=MAP_SIZE) as store:
            deleted = {r.image_id for r in store.records() if isinstance(r.event, Deleted)}
        hit = {f"sha256:{name}" for name in victims(self.base)}
        if deleted - hit:
            yield f"{len(deleted - hit)} images were lost that nobody touched"
        shutil.rmtree(one.place.root)
        shutil.copytree(self.base.root, one.place.root, symlinks=True)
        sync_once(one.place.root, one.store)
        if known(one.store) != self.before:
            yield "with the database as it was, the store is not as it was"
        yield from unsound(one.store)


def bounds(outcome: Outcome) -> Iterator[str]:
    """Iterate over the bounds that a sync broke."""
    if not outcome.ours:
        yield f"{outcome.error}: {outcome.text}"
    if outcome.seconds > SECONDS_MAX:
        yield f"{outcome.seconds:.0f} s"
    if outcome.peak > MEMORY_MAX:
        yield f"{outcome.peak >> 20} MiB"


def run_syncer(workplace: Path) -> None:
    """Do the syncs that a file lists, each in a child, and note how each ended."""
    for encoding in ("unicode_escape", "idna"):
        codecs.lookup(encoding)  # now: nobody may not read where Python lies, perhaps
    whole = json.loads((workplace / "jobs.json").read_text())
    if whole["weaken"] is not None:
        WEAKENINGS[whole["weaken"]]()
    began = time.monotonic()
    with open(workplace / "outcomes.jsonl", "w", encoding="utf-8") as file:
        while True:
            for number, (root, store, nobody) in enumerate(whole["jobs"]):
                work = partial(sync_once, Path(root), Path(store))
                outcome, child = in_a_process(work, nobody=nobody)
                file.write(json.dumps([number, child, vars(outcome)]) + "\n")
            if time.monotonic() - began >= whole["seconds"]:
                return


def known(store_path: Path) -> dict[str, object]:
    """Return what a store knows of its images, positions left out."""
    found: dict[str, object] = {}
    with ImageStore.open(store_path, map_size=MAP_SIZE) as store:
        for image_id in store:
            facts = store.get_last_updated(image_id), store.is_built_locally(image_id)
            found[image_id] = (store.get_parent(image_id), *facts)
    return found


def secrets_in(store_path: Path, outcome: Outcome) -> Iterator[str]:
    """Say so if anything from outside the source has come into the store or the error."""
    if MARKER in (store_path / "data.mdb").read_bytes() or MARKER.decode() in outcome.text:
        yield "a secret from outside the source came in"


def unsound(store_path: Path) -> Iterator[str]:
    """Iterate over what `verify` finds."""
    with ImageStore.open(store_path, map_size=MAP_SIZE) as store:
        yield from (problem.message for problem in store.verify())


def cannot(plant: Plant, workplace: Path) -> str:
    """Return why a plant cannot be tried here, nothing if it can."""
    if plant.needs == "root" and os.geteuid() != 0:
        return "only root can become another user"
    if plant.needs == "nodes":
        path = workplace / "node"
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            path.unlink()
        except OSError as error:
            return f"devices may not be made here: {error.strerror}"
    return ""


def victims(base: Base) -> list[str]:
    """Return the digests of the images that are changed while a sync runs."""
    names = sorted(os.listdir(base.root / "image/overlay2/imagedb/metadata/sha256"))
    return [base.victim, *[name for name in names if name != base.victim][:6]]


class Changer:
    """Changes a database without end, atomically and not."""

    def __init__(self, place: Place, base: Base, chance: random.Random) -> None:
        """Change the images of `victims`; what is secret lies in `place.outside`."""
        self.place = place
        self.base = base
        self.chance = chance
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.imagedb = place.driver / "imagedb"
        for name in ("content", "metadata"):
            copied = base.root / "image/overlay2/imagedb" / name / "sha256"
            shutil.copytree(copied, place.outside / name)
        for file in place.outside.rglob("lastUpdated"):
            file.write_text("2001-01-01T00:00:00Z")

    def run(self) -> None:
        """Go on until killed."""
        while True:
            victim = self.chance.choice(victims(self.base))
            with suppress(OSError, shutil.Error):
                self.chance.choice((self.file, self.file, self.swap))(victim)

    def file(self, victim: str) -> None:
        """Let a file become something else, and what it was."""
        inner = self.chance.choice(
            (f"content/sha256/{victim}", *(f"metadata/sha256/{victim}/{name}" for name in (
                "parent", "lastUpdated", "builtLocally")))
        )  # fmt: skip
        path, original = self.imagedb / inner, self.base.root / "image/overlay2/imagedb" / inner
        kind = self.chance.randrange(7)
        if kind == 0:
            path.write_bytes(original.read_bytes() * 2)
        elif kind == 1:
            os.truncate(path, self.chance.randrange(1 << 35))
        elif kind == 2:
            path.unlink()
        elif kind == 3:
            path.unlink()
            path.symlink_to(self.place.outside / "secret")
        elif kind == 4:
            path.unlink()
            os.mkfifo(path)
        elif kind == 5:
            path.unlink()
            path.mkdir()
        elif kind == 6:
            for _ in range(50):
                with open(path, "ab") as file:
                    file.write(b" " * 4096)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        temporary = path.with_name(".tmp-" + path.name)
        shutil.copy2(original, temporary)
        temporary.rename(path)

    def swap(self, victim: str) -> None:
        """Let a folder and a link to secrets change places, back and forth."""
        inner, secret = self.chance.choice(
            (
                (f"metadata/sha256/{victim}", f"metadata/{victim}"),
                ("metadata/sha256", "metadata"),
                ("content/sha256", "content"),
            )
        )
        link = self.imagedb / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(self.place.outside / secret)
        for _ in range(20):
            for _ in range(2):
                self.exchange(link, self.imagedb / inner)
                time.sleep(0.0003)

    def exchange(self, one: Path, other: Path) -> None:
        """Let two names change places in one step."""
        paths = os.fsencode(one), os.fsencode(other)
        self.libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)


def trespass(one: Laid, line: str) -> str | None:
    """Return what a traced call of a sync did and may not do, None if it may."""
    opened = _OPENED.match(line)
    source, store = str(one.place.root), str(one.store)
    if opened is not None:
        path = opened[2]
        allowed: tuple[str, ...] = (store,)
        if _TO_WRITE.search(opened[1]) is None:
            code = (sys.prefix, sys.base_prefix, str(Path(eventstore.__file__ or "").parent))
            allowed += (*SYSTEM, *code, source, str(TOP / "tools"))
        return None if path.startswith(allowed) or path == "/dev/null" else f"opened {path}"
    changed = _CHANGED.match(line)
    if changed is not None and (store not in line or source in line):
        return f"changed: {line[:160]}"
    return None


def main() -> int:
    """Run the attack, traced where that is possible, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of syncs amid changes")
    parser.add_argument("--images", type=int, default=94, help="in the database")
    parser.add_argument("--crowd", type=int, default=100_000, help="how many junk names are many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="plants whose names hold this")
    parser.add_argument("--no-trace", action="store_true", help="do without strace")
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    parser.add_argument("--syncer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.syncer is not None:
        run_syncer(options.syncer)
        return 0
    began = time.monotonic()
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="hostile-sources-", dir=fast) as folder:
        workplace = Path(folder).resolve()
        workplace.chmod(0o755)
        attack = Attack(workplace, options)
        attack.run()
    if not attack.calls:
        print("not tried: strace is absent, may not trace here, or was not wanted")
    for why, count in attack.skipped.items():
        print(f"not tried: {count} plants: {why}")
    for text in attack.violations[:20]:
        print(f"  {text!a}")
    print(f"slowest sync {attack.slowest:.1f} s, largest {attack.largest >> 20} MiB")
    print(
        f"{attack.planted} plants, {attack.syncs} syncs, {attack.calls} traced calls,"
        f" {len(attack.violations)} violations, {time.monotonic() - began:.0f} s"
        f" (seed {options.seed}, crowd {options.crowd}, weakened {options.weaken})"
    )
    return 1 if attack.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
