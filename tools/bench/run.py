"""Run the subjects, each in a process of its own, and print one table with a row per bound.

    tools/bench/run.py [SUBJECT …] [--scale small|full] [--takes 5] [--cache DIR] [--json]
    tools/bench/run.py --show FIGURES.json …

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import histories
import runner
from runner import Result, Settings

SUBJECTS = (
    "durable",
    "bulk",
    "docker_sync",
    "opens",
    "replaying",
    "past",
    "streams",
    "differences",
    "decoding",
    "reads",
    "growth",
    "memory",
    "disk",
    "start",
    "stopping",
    "proofs",
    "compacting",
    "pages",
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


def run_all(subjects: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Run subjects and return everything they found as JSON values."""
    start = time.perf_counter()
    machine = runner.machine()
    results = {subject: run(subject, settings) for subject in subjects}
    seconds = time.perf_counter() - start
    return {
        "machine": f"{machine}; scale {settings.scale}, {settings.takes} takes, {seconds:.0f} s",
        "stores": histories.made(settings),
        "failed": [subject for subject, result in results.items() if result is None],
        "results": [result.as_json() for result in results.values() if result is not None],
    }


def print_all(runs: Sequence[dict[str, Any]]) -> None:
    """Print what one or more runs found as one table."""
    results = [runner.result_from_json(result) for found in runs for result in found["results"]]
    print("\n".join(dict.fromkeys(found["machine"] for found in runs)))
    print(runner.table(results))
    for note in dict.fromkeys(note for found in runs for note in found["stores"]):
        print(f"store {note}")
    for found in runs:
        print("".join(f"FAILED: {subject}\n" for subject in found["failed"]), end="")
    print(summary(results))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    runner.arguments(parser)
    parser.add_argument(
        "--show",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="run nothing: print the table of what runs with --json have printed",
    )
    options = parser.parse_args()
    unknown = [subject for subject in options.subjects if subject not in SUBJECTS]
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if options.show:
        print_all([json.loads(path.read_text()) for path in options.show])
        return 0
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as folder:
        settings = Settings(options.scale, max(options.takes, 1), Path(options.cache or folder))
        settings.cache.mkdir(parents=True, exist_ok=True)
        found = run_all(options.subjects or SUBJECTS, settings)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_all([found])
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
