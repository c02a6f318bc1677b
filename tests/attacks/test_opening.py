"""Let the attack on opening find nothing, and every weakening."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from store.children import PACKAGE

TOOL = Path(__file__).resolve().parents[2] / "tools" / "opening.py"
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
        ("cases", ["opens", "refusals", "commands"]),
        ("twice", ["second opens", "opens by threads at once", "opens after a failed one"]),
        ("losses", ["stores that lost their files while open", "stores with two lock files"]),
        ("makers", ["races of two makers"]),
        ("kills", ["makers killed"]),
    ],
)
def test_what_is_opened_is_refused_or_works_and_nothing_is_lost(
    part: str, tried: list[str]
) -> None:
    """Each part tries what it says, and finds nothing."""
    code, said, violations = attack("--only", part, "--rounds", "5", "--budget", "40")
    assert (code, violations) == (0, 0), said
    for what in tried:
        assert re.search(rf"\b[1-9]\d* {what}(, |$)", said), said


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and mount")
def test_strangers_and_other_file_systems_have_their_stated_behaviour() -> None:
    """Where mounts are not allowed the tool says so; strangers are always tried by root."""
    code, said, _ = attack("--only", "strangers")
    assert code == 0, said
    assert re.match(r"[1-9]\d* opens by strangers", said)
    code, said, _ = attack("--only", "mounts")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "part"),
    [
        ("no-format-check", "cases"),
        ("no-look", "cases"),
        ("no-loss-check", "losses"),
        ("no-registry", "twice"),
        ("no-whole-first", "makers"),
        ("take-over-foreign", "cases"),
    ],
)
def test_a_weakened_open_is_caught(weakening: str, part: str) -> None:
    """The attack would notice."""
    code, said, violations = attack("--weaken", weakening, "--only", part)
    assert (code, violations) == (1, 1), said
