"""Let the attack on backups and restores find nothing, and every weakening."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from store.children import PACKAGE

TOOL = Path(__file__).resolve().parents[2] / "tools" / "backups.py"
IN_MEMORY = "/dev/shm"
LAST_LINE = re.compile(r"(.*), (\d+) violations, \d+ s \(.*\)")


def attack(*options: str) -> tuple[int, str, int]:
    """Run the tool; return its exit code, what it tried, and how many violations it found."""
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    if os.access(IN_MEMORY, os.W_OK):
        environment["TMPDIR"] = IN_MEMORY
    done = subprocess.run(
        [sys.executable, TOOL, *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.stdout, done.stderr
    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found is not None, done.stdout + done.stderr
    return done.returncode, found[1] if done.returncode == 0 else done.stdout, int(found[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "tried"),
    [
        ("destinations", ["destinations", "races of two copies to one name"]),
        ("damage", ["damaged backups"]),
        ("kill", ["backups killed", "restores killed"]),
        ("fill", ["copies with a limit of file size", "of them refused as full"]),
        ("race", ["backups under writers", "restores", "records appended meanwhile"]),
    ],
)
def test_copies_are_whole_and_consistent_or_not_there(part: str, tried: list[str]) -> None:
    """Each part tries what it says, and finds nothing."""
    code, said, violations = attack("--only", part, "--seconds", "8", "--rounds", "10")
    assert (code, violations) == (0, 0), said
    for what in tried:
        assert re.search(rf"\b[1-9]\d* {what}(, |$)", said), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "part"),
    [
        ("no-rename", "kill"),
        ("no-verify", "damage"),
        ("overwrite", "destinations"),
        ("plain-copy", "race"),
        ("same-id", "destinations"),
    ],
)
def test_a_weakened_copy_is_caught(weakening: str, part: str) -> None:
    """The attack would notice."""
    code, said, violations = attack("--weaken", weakening, "--only", part, "--seconds", "60")
    assert (code, violations) == (1, 1), said
