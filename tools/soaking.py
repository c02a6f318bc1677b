"""Run the long versions of all attacks for a given time, and say what was tried and what was found.

    soaking.py SECONDS [--seed N] [--only NAME …] [--keep FOLDER]

Each round runs every attack once, as a process of its own, with a seed that no earlier round had;
rounds go on until the time is up, and the attack that is under way then is ended: it is told to,
so that it takes away what it has mounted, started and written. A round takes half an hour or more;
what had no time for a whole run is named at the end. An attack that finds a violation does not stop
the others: its whole output is kept, with the command that gives it again. The exit code is 1 if
any attack found something, or ended in a way that is none of its own, and 2 if none had the time
for a whole run: then nothing was found out.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
SECONDS_MAX = 3_600
SECONDS_TO_END = 10
NOTHING_TRIED = 2
_COUNT = re.compile(r"(\d+)(?: of \d+)? (?!of \d)([a-z][a-z -]*[a-z])")  # the first of "3 of 9"


@dataclass
class Attack:
    """One attack, and what it has tried and found so far.

    Attributes:
        name: as `--only` takes it.
        arguments: of the command line; `{seed}` is replaced.
        runs: how often it has run.
        counts: the sums of the counts in its last lines.
        failures: how many runs did not end with exit code 0.
    """

    name: str
    arguments: tuple[str, ...]
    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: int = 0

    def command(self, seed: int) -> list[str]:
        """Return the command line of one run."""
        return [sys.executable, *(part.replace("{seed}", str(seed)) for part in self.arguments)]


def attack(name: str, tool: str, options: str, *, seeded: bool = True) -> Attack:
    """Return the attack that runs a tool of this folder."""
    seed = ("--seed", "{seed}") if seeded else ()
    return Attack(name, (str(TOOLS / tool), *shlex.split(options), *seed))


def attacks() -> list[Attack]:
    """Return all attacks, each with what takes a minute or a few."""
    modes = ("processes", "threads", "mixed", "killed", "slots", "asleep", "fork")
    return [
        attack("crash-states", "crash_states.py", "--budget 600"),
        attack("system-call-faults", "system_call_faults.py", "--budget 200"),
        attack("failed-syncs", "failed_syncs.py", "--points 30"),
        attack("full-disk", "full_disk.py", "--budget 60"),
        attack("rot", "rot.py", "--share 0.25"),
        *(
            attack(f"contention-{mode}", "contention.py", f"--mode {mode} --seconds 60")
            for mode in modes
        ),
        attack("clocks", "clocks.py", "--seconds 60"),
        attack("fuzz", "fuzz.py", "--executions 200000"),
        attack("hostile-sources", "hostile_sources.py", "--seconds 20"),
        attack("backups", "backups.py", "--seconds 60"),
        attack("opening", "opening.py", "", seeded=False),
    ]


def end(process: subprocess.Popen[str]) -> None:
    """End an attack and all that it has started; let it clean up if it still can.

    Only the attack itself is told: what it has started is its own to end.
    """
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def run_once(found: Attack, seed: int, seconds: float, keep: Path) -> None:
    """Run an attack once, and add up what it says.

    Args:
        found: which one; its sums are moved on.
        seed: of this run.
        seconds: after these it is ended, without a verdict.
        keep: the folder for the output of runs that find something.
    """
    command = found.command(seed)
    folder = tempfile.mkdtemp(prefix="soak-")
    try:
        _run(found, command, seed, seconds, keep, {**os.environ, "TMPDIR": folder})
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what an attack that was ended left there


def _run(
    found: Attack,
    command: Sequence[str],
    seed: int,
    seconds: float,
    keep: Path,
    environment: Mapping[str, str],
) -> None:
    print(f"{time.strftime('%H:%M:%S')} {found.name} --seed {seed}", end=" ", flush=True)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,  # so that what the attack has started ends with it
    ) as process:
        try:
            output, _ = process.communicate(timeout=max(1.0, min(seconds, SECONDS_MAX)))
        except subprocess.TimeoutExpired:
            end(process)
            hung = seconds > SECONDS_MAX
            found.failures += hung
            print("hung" if hung else "the time is up")
            return
        except BaseException:
            end(process)
            raise
    found.runs += 1
    last = output.strip().rpartition("\n")[2]
    print(last, flush=True)
    found.counts.update({name: int(number) for number, name in _COUNT.findall(last)})
    if process.returncode:
        found.failures += 1
        keep.mkdir(parents=True, exist_ok=True)
        log = keep / f"{found.name}-{seed}.log"
        log.write_text(f"$ {shlex.join(command)}\n{output}", "utf-8")
        print(f"  exit code {process.returncode}: see {log}", flush=True)


def soak(chosen: Sequence[Attack], seconds: float, seed: int, keep: Path) -> None:
    """Run attacks in turn until the time is up, each round with seeds of its own."""
    end = time.monotonic() + seconds
    chance = random.Random(seed)
    while True:
        for found in chosen:
            left = end - time.monotonic()
            if left <= 0:
                return
            run_once(found, chance.randrange(1, 2**31), left, keep)


def main() -> int:
    """Soak, and print a line an attack."""
    known = attacks()
    parser = argparse.ArgumentParser(
        prog="tools/soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("seconds", type=float, nargs="?", help="a round takes half an hour or more")
    parser.add_argument("--seed", type=int, default=None, help="of the seeds; drawn if not given")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[found.name for found in known],
        help="this attack, and others that are named so; see --list",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("soak-findings"),
        help="folder for the output of runs that find something",
    )
    parser.add_argument("--list", action="store_true", help="print the commands and end")
    options = parser.parse_args()
    chosen = [found for found in known if options.only is None or found.name in options.only]
    if options.list:
        for found in chosen:
            print(f"{found.name:<24}{shlex.join(found.command(1))}")
        return 0
    if options.seconds is None:
        parser.error("for how many seconds?")
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"seed {seed}, Python {sys.version.split()[0]}")
    try:
        soak(chosen, options.seconds, seed, options.keep)
    except KeyboardInterrupt:
        print("interrupted")
    return sum_up(chosen)


def sum_up(chosen: Sequence[Attack]) -> int:
    """Print a line an attack, and which had no whole run; return the exit code."""
    for found in chosen:
        counts = ", ".join(f"{number} {name}" for name, number in found.counts.items())
        said = f": {counts}" if counts else ""
        print(f"{found.name:<24}{found.runs:>4} runs, {found.failures} failed{said}")
    untried = [found.name for found in chosen if not found.runs]
    if untried:
        print(f"no time for a whole run of: {', '.join(untried)}")
    if any(found.failures for found in chosen):
        return 1
    return NOTHING_TRIED if len(untried) == len(chosen) else 0


if __name__ == "__main__":
    raise SystemExit(main())
