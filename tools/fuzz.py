"""Throw hostile bytes at every door of the store, and let nothing out but its own errors.

    fuzz.py [--executions N] [--seed N] [--engine random|atheris] [--targets A,B] [--weaken NAME]

Each target (see `fuzz_targets`) runs in a process of its own, whose memory is limited to
`MEMORY_MAX`. It first replays the seeds that are kept in `tests/attacks/seeds/TARGET`; then come N
executions, shared out among the targets. An execution that lets a foreign exception out, answers
wrongly, or takes more than `SECONDS_MAX` of processor time is a violation, and so is a process that
dies or stands still; its input is saved in a folder, from where it can be taken into the seeds. At
last the target `giants` decodes configs of up to 16 MiB that are made to be dear, and states what
they cost (see `fuzz_giants`).

The engine `random` mutates what it has, from a given seed always the same. The engine `atheris` is
guided by coverage, and with `--corpus` keeps what it found from run to run; it needs the extra
`fuzz`: pip install 'image-eventstore[fuzz]'.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import importlib.util
import json
import mmap
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz_target import Target

SEEDS = Path(__file__).resolve().parent.parent / "tests" / "attacks" / "seeds"
MEMORY_MAX = 1 << 31
SECONDS_MAX = 5.0
STANDSTILL_SECONDS = 60.0
INPUT_MAX = 1 << 20
GIANTS = "giants"
TARGET_NAMES = (
    "config", "plain", "term", "record", "snapshot", "moment", "metadata", "layers", "meta", GIANTS
)  # fmt: skip
_STATUS = struct.Struct("QQdQQ")  # executions, violations, slowest, peak bytes, length of the input
_CORPUS_LENGTH = 2000


class Status:
    """What a target's process has done so far, in memory that outlives it."""

    def __init__(self, path: Path) -> None:
        """Map a file that is made if it is not there."""
        with open(path, "ab+") as file:
            file.truncate(_STATUS.size + INPUT_MAX)
            self._memory = mmap.mmap(file.fileno(), _STATUS.size + INPUT_MAX)

    def begin(self, data: bytes) -> None:
        """Note what is about to be executed."""
        executions, violations, slowest, peak, _ = self.read()
        length = min(len(data), INPUT_MAX)
        self._memory[_STATUS.size : _STATUS.size + length] = data[:length]
        self._write(executions, violations, slowest, peak, length)

    def end(self, seconds: float, *, violation: bool) -> None:
        """Note how it went."""
        executions, violations, slowest, peak, length = self.read()
        if executions % 256 == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._write(executions + 1, violations + violation, max(slowest, seconds), peak, length)

    def read(self) -> tuple[int, int, float, int, int]:
        """Return executions, violations, slowest seconds, peak bytes, length of the input."""
        found: tuple[int, int, float, int, int] = _STATUS.unpack_from(self._memory)
        return found

    def current(self) -> bytes:
        """Return the input that was begun last."""
        return self._memory[_STATUS.size : _STATUS.size + self.read()[4]]

    def _write(self, *values: float) -> None:
        _STATUS.pack_into(self._memory, 0, *values)


class Executor:
    """Lets inputs into one target, and keeps what broke it."""

    def __init__(self, target: Target, status: Status, found: Path, stop_at: int) -> None:
        """Attack a target; after `stop_at` violations the process ends."""
        self._target = target
        self._status = status
        self._found = found
        self._stop_at = stop_at

    def __call__(self, data: bytes) -> None:
        """Execute one input."""
        self._status.begin(data)
        began = time.process_time()
        problem: str | None = None
        try:
            self._target.attack(data)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:300]
        seconds = time.process_time() - began
        if problem is None and seconds > SECONDS_MAX:
            problem = f"took {seconds:.1f} s of processor time"
        self._status.end(seconds, violation=problem is not None)
        if problem is not None:
            save(self._found, self._target.name, data, problem)
            if self._status.read()[1] >= self._stop_at:
                os._exit(0)


def save(found: Path, target: str, data: bytes, problem: str) -> None:
    """Keep an input that broke a target, and say why in a line beside it."""
    folder = found / target
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:16]
    (folder / name).write_bytes(data)
    with open(found / "problems.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"target": target, "input": name, "problem": problem}) + "\n")


def kept_seeds(target: str) -> list[bytes]:
    """Return the inputs that are kept for a target."""
    folder = SEEDS / target
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def run_target(options: argparse.Namespace, workplace: Path) -> None:
    """Attack one target in this process."""
    faulthandler.register(signal.SIGUSR1)
    if options.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["eventstore"]):
            import fuzz_targets
    else:
        import fuzz_targets
    import fuzz_weakenings

    fuzz_weakenings.weaken(options.weaken)
    import logging

    logging.disable(logging.CRITICAL)
    target = fuzz_targets.TARGETS[options.child](Path(tempfile.mkdtemp(dir=workplace)))
    # Address space is what can be limited; what is mapped by now, maps of stores too, is granted.
    granted = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (granted + MEMORY_MAX, granted + MEMORY_MAX))
    execute = Executor(target, Status(workplace / "status"), options.found, options.stop_at)
    kept = kept_seeds(target.name)
    seeds = [*kept, *target.seeds()]
    for data in seeds:
        execute(data)
    more = options.executions - len(seeds)
    if more <= 0:
        return
    if options.engine == "atheris":
        run_guided(target, execute, seeds, more, options, workplace)
    else:
        run_random(target, execute, seeds, more, random.Random(f"{options.seed} {target.name}"))


def run_random(
    target: Target,
    execute: Callable[[bytes], None],
    seeds: Sequence[bytes],
    executions: int,
    chance: random.Random,
) -> None:
    """Execute mutations of the seeds, and of mutations, so many times."""
    corpus = list(seeds)
    for _ in range(executions):
        data = target.mutate(chance.choice(corpus), chance, corpus)
        execute(data)
        if chance.random() < 0.05:
            if len(corpus) < _CORPUS_LENGTH:
                corpus.append(data)
            else:
                corpus[chance.randrange(len(seeds), len(corpus))] = data


def run_guided(
    target: Target,
    execute: Callable[[bytes], None],
    seeds: Sequence[bytes],
    executions: int,
    options: argparse.Namespace,
    workplace: Path,
) -> None:
    """Let atheris choose the inputs; half of the mutations are its own. It ends the process."""
    import atheris

    given = workplace / "given"
    given.mkdir()
    for data in seeds:
        (given / hashlib.sha256(data).hexdigest()).write_bytes(data)
    corpus = workplace / "corpus" if options.corpus is None else options.corpus / target.name
    corpus.mkdir(parents=True, exist_ok=True)

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, size_max))
        return target.mutate(data, chance, seeds)[:size_max]

    arguments = [
        sys.argv[0],
        f"-runs={executions}",
        f"-seed={options.seed}",
        "-max_len=16384",
        "-rss_limit_mb=0",
        "-timeout=1000",
        "-verbosity=0",
        "-print_final_stats=0",
        str(corpus),
        str(given),
    ]
    atheris.Setup(arguments, execute, custom_mutator=mutate)
    atheris.Fuzz()


def run_giants(options: argparse.Namespace, workplace: Path) -> None:
    """Decode every giant, and say what it cost."""
    import fuzz_giants
    import fuzz_weakenings
    from eventstore import Image, InvalidImageError

    def decode(raw: bytes) -> str:
        try:
            image = Image.from_stored(raw)
        except InvalidImageError as error:
            return f"refused: {error.reason}"
        return f"accepted, {len(image.root_fs.chain_id())}"

    fuzz_weakenings.weaken(options.weaken)
    status = Status(workplace / "status")
    for name, make in fuzz_giants.GIANTS.items():
        if re.search(options.giants, name) is None:
            continue
        path = workplace / "giant"
        status.begin(name.encode())
        cost = fuzz_giants.measured(make, decode, path)
        size = path.stat().st_size
        found = list(fuzz_giants.problems(name, size, cost))
        status.end(cost.seconds, violation=bool(found))
        mib = size / (1 << 20)
        print(
            f"    {name:30} {mib:5.1f} MiB {cost.seconds / mib:6.3f} s/MiB"
            f" {cost.peak / size:5.1f} x its size  {cost.outcome[:60]}",
            flush=True,
        )
        for problem in found:
            save(options.found, GIANTS, name.encode(), problem)
        if status.read()[1] >= options.stop_at:
            return


@dataclass
class Result:
    """What became of one target."""

    name: str
    executions: int = 0
    violations: int = 0
    slowest: float = 0.0
    peak: int = 0
    seconds: float = 0.0
    died: list[str] = field(default_factory=list)


def attack(name: str, executions: int, options: argparse.Namespace) -> Result:
    """Attack one target in another process, and watch over that."""
    result = Result(name)
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-", dir=fast_folder()) as folder:
        workplace = Path(folder)
        status = Status(workplace / "status")
        command = [
            sys.executable, "-X", "faulthandler", __file__, "--child", name,
            "--workplace", folder, "--executions", str(executions), "--seed", str(options.seed),
            "--engine", options.engine, "--found", str(options.found),
            "--stop-at", str(options.stop_at), "--giants", options.giants,
        ]  # fmt: skip
        if options.corpus is not None:
            command += ["--corpus", str(options.corpus)]
        if options.weaken is not None:
            command += ["--weaken", options.weaken]
        began = time.monotonic()
        with open(workplace / "said", "wb") as said:
            stdout = None if name == GIANTS else said
            process = subprocess.Popen(command, stdout=stdout, stderr=said)
            still = watch(process, status)
        result.seconds = time.monotonic() - began
        result.executions, result.violations, result.slowest, result.peak, _ = status.read()
        if still or process.returncode:
            result.violations += 1
            why = "stood still" if still else f"died with {process.returncode}"
            save(options.found, name, status.current(), why)
            said_last = (workplace / "said").read_text("utf-8", "replace")[-600:]
            result.died.append(f"{name}: {why}: {said_last}")
    return result


def watch(process: subprocess.Popen[bytes], status: Status) -> bool:
    """Wait for a process; kill it and return True if it does nothing for too long."""
    last, since = -1, time.monotonic()
    while True:
        try:
            process.wait(0.2)
            return False
        except subprocess.TimeoutExpired:
            pass
        executions = status.read()[0]
        if executions != last:
            last, since = executions, time.monotonic()
        elif time.monotonic() - since > STANDSTILL_SECONDS:
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            process.kill()
            process.wait()
            return True


def fast_folder() -> str | None:
    """Return a folder in memory where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shared_out(executions: int, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Iterate over the targets and their part of the executions."""
    import fuzz_targets

    shares = {name: fuzz_targets.TARGETS[name].share for name in names if name != GIANTS}
    for name in names:
        yield name, executions * shares.get(name, 0) // max(1, sum(shares.values()))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    import fuzz_weakenings

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executions", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--targets", default=",".join(TARGET_NAMES), help="names, with commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--giants", default="", help="an expression for names of giants")
    parser.add_argument(
        "--found", type=Path, default=None, help="where inputs that break are saved"
    )
    parser.add_argument(
        "--corpus", type=Path, default=None, help="where atheris keeps what it finds"
    )
    parser.add_argument("--stop-at", type=int, default=100, help="violations of one target")
    parser.add_argument("--weaken", choices=sorted(fuzz_weakenings.WEAKENINGS), default=None)
    parser.add_argument("--child", choices=TARGET_NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--workplace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.targets.split(",")) - set(TARGET_NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install 'image-eventstore[fuzz]'")
    return options


def main() -> int:
    """Attack all targets, and print what was tried and found."""
    options = parsed()
    if options.child is not None:
        work: Callable[[Any, Path], None] = run_giants if options.child == GIANTS else run_target
        work(options, options.workplace)
        return 0
    if options.found is None:
        options.found = Path(tempfile.gettempdir(), f"fuzz-found-{uuid.uuid4().hex[:8]}")
    began = time.monotonic()
    results: list[Result] = []
    for name, executions in shared_out(options.executions, options.targets.split(",")):
        result = attack(name, executions, options)
        results.append(result)
        print(
            f"{name:9} {result.executions:8} executions {result.executions / result.seconds:7.0f}/s"
            f"  slowest {result.slowest * 1000:5.0f} ms  peak {result.peak >> 20:4} MiB"
            f"  {len(kept_seeds(name)):3} kept seeds  {result.violations} violations",
            flush=True,
        )
    report(results, options.found)
    violations = sum(result.violations for result in results)
    print(
        f"{len(results)} targets, {sum(result.executions for result in results)} executions,"
        f" {sum(len(kept_seeds(result.name)) for result in results)} kept seeds,"
        f" {violations} violations, {time.monotonic() - began:.0f} s"
        f" (engine {options.engine}, seed {options.seed}, weakened {options.weaken})"
    )
    return 1 if violations else 0


def report(results: Sequence[Result], found: Path) -> None:
    """Print what broke, each kind of problem once, and where the inputs are; tidy up if nothing."""
    for result in results:
        for text in result.died:
            print(f"  {text}")
    problems = found / "problems.jsonl"
    if not problems.exists():
        if found.is_dir() and not any(found.iterdir()):
            found.rmdir()
        return
    shown: dict[str, str] = {}
    for line in problems.read_text("utf-8").splitlines():
        entry = json.loads(line)
        shown.setdefault(f"{entry['target']}: {entry['problem'][:120]!r}", entry["input"])
    for problem, name in list(shown.items())[:20]:
        print(f"  {problem}  input {name}")
    print(f"  the inputs are in {found}")


if __name__ == "__main__":
    raise SystemExit(main())
