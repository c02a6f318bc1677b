"""Run a tool that attacks the store as a process of its own, and read what it says at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from store.children import PACKAGE

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def attack(tool: str, *options: str) -> tuple[int, str, str]:
    """Run a tool, and return its exit code, its last line, and all that it said."""
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *options],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        check=False,
    )
    said = done.stdout + done.stderr
    return done.returncode, ["", *done.stdout.strip().splitlines()][-1], said


def count(line: str, what: str) -> int:
    """Return how many of something a line says there were."""
    found = re.search(rf"(\d+) {re.escape(what)}(,|$)", line)
    return int(found[1]) if found else 0
