"""Run the subjects, each in a process of its own, and print one table with a row per bound.

    tools/bench/run.py [SUBJECT …] [--scale small|full] [--takes 5] [--cache DIR] [--json]

At small scale everything takes about two minutes, and most bounds are measured at smaller sizes
than they are stated for; full makes stores of a million images and logs of five million records,
which takes some 10 GB on disk while it runs. Stores that are kept in --cache are used again as they
are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import histories
import runner
from runner import Result, Settings

SUBJECTS = (
    "durable",
    "bulk",
    "docker_sync",
    "opening",
    "replaying",
    "past",
    "streams",
    "differences",
    "reads",
    "growth",
    "memory",
    "disk",
    "start",
    "stopping",
)


def run(subject: str, settings: Settings) -> Result | None:
    """Run one subject; None, and a line on standard error, if it fails."""
    command = [sys.executable, str(Path(__file__).with_name(f"{subject}.py")), "--json"]
    command += ["--scale", settings.scale, "--takes", str(settings.takes)]
    command += ["--cache", str(settings.cache)]
    start = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    spent = time.perf_counter() - start
    said = f"{subject}: {spent:.1f} s, exit code {done.returncode}"
    print(said, file=sys.stderr, flush=True)
    return runner.result_from_json(json.loads(done.stdout)) if done.returncode == 0 else None


def summary(results: list[Result]) -> str:
    """Return one line: how many bounds there are, and how many are met."""
    rows = [row for result in results for row in result.rows if row.bound is not None]
    firm = [row for row in rows if row.bound is not None and not row.bound.stretch]
    met = sum(row.met is True for row in firm)
    hoped = [row for row in rows if row not in firm]
    return (
        f"{len(firm)} rows with a bound, {met} met, {len(firm) - met} missed;"
        f" {len(hoped)} stretch, {sum(row.met is True for row in hoped)} met"
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    runner.arguments(parser)
    options = parser.parse_args()
    unknown = [subject for subject in options.subjects if subject not in SUBJECTS]
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    results: list[Result] = []
    failed: list[str] = []
    start = time.perf_counter()
    machine = runner.machine()
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as folder:
        settings = Settings(options.scale, options.takes, Path(options.cache or folder))
        settings.cache.mkdir(parents=True, exist_ok=True)
        for subject in options.subjects or SUBJECTS:
            result = run(subject, settings)
            failed += [subject] if result is None else []
            results += [] if result is None else [result]
        stores = histories.made(settings)
    seconds = time.perf_counter() - start
    head = f"{machine}; scale {options.scale}, {options.takes} takes, {seconds:.0f} s"
    if options.json:
        found: dict[str, Any] = {"machine": head, "stores": stores, "failed": failed}
        found["results"] = [result.as_json() for result in results]
        print(json.dumps(found, indent=1))
    else:
        print(head)
        print(runner.table(results))
        print("".join(f"store {note}\n" for note in stores), end="")
        print("".join(f"FAILED: {subject}\n" for subject in failed) + summary(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
