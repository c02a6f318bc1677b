"""Run an attack of `tools/` as its users do, in a process of its own, and read its verdict."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from store import children

TOOLS = Path(__file__).resolve().parent.parent / "tools"
SECONDS_MAX = 300


@dataclass(frozen=True)
class Verdict:
    """What an attack said: its exit code, the counts of its last line, and all that it printed."""

    code: int
    counts: dict[str, int]
    output: str


def attack(tool: str, *arguments: object) -> Verdict:
    """Run `tools/TOOL`, which must end in time and say in its last line what it tried.

    Args:
        tool: the name of its file.
        arguments: of its command line.
    """
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *map(str, arguments)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS_MAX,
        env={**os.environ, "PYTHONPATH": children.PACKAGE},
    )
    lines = done.stdout.strip().splitlines()
    counts = re.findall(r"(\d+) ([a-z][a-z -]*[a-z])", lines[-1] if lines else "")
    return Verdict(
        done.returncode, {name: int(number) for number, name in counts}, done.stdout[-4000:]
    )


def stood(tool: str, *arguments: object) -> dict[str, int]:
    """Run an attack that must find nothing, and return what it tried."""
    verdict = attack(tool, *arguments)
    assert verdict.code == 0, verdict.output
    assert verdict.counts["violations"] == 0, verdict.output
    return verdict.counts


def caught(tool: str, *arguments: object) -> int:
    """Run an attack on a weakened store, which it must find out; return the violations."""
    verdict = attack(tool, *arguments)
    assert verdict.code == 1, verdict.output
    assert verdict.counts["violations"] > 0, verdict.output
    return verdict.counts["violations"]
