"""Damage a store everywhere, in a run that is cut short, and see that the attack can win."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from store.children import PACKAGE

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "rot.py"
LAST_LINE = re.compile(
    r"(\d+) damages \((\d+) flips and (\d+) others of entries;"
    r" (\d+) flips and (\d+) others of the file\), (\d+) violations, .*"
)


def attack(*options: str) -> tuple[int, list[int], str]:
    """Run the tool; return its exit code, the counts of its last line, and all that it said."""
    done = subprocess.run(
        [sys.executable, TOOL, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1]) if done.stdout else None
    assert found is not None, done.stdout + done.stderr
    return done.returncode, [int(count) for count in found.groups()], done.stdout


@pytest.mark.slow
def test_no_damage_makes_a_store_lie() -> None:
    """Reads are right or refused, verify names it, salvage gets out what is sound."""
    code, counts, said = attack("--share", "0.02", "--images", "32")
    assert (code, counts[-1]) == (0, 0), said
    assert all(count > 0 for count in counts[:-1]), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "match"),
    [
        ("no-record-checksum", "flip log"),
        ("no-config-digest", "flip configs"),
        ("no-snapshot-digest", "flip snapshots"),
        ("no-gap-check", "delete log"),
        ("no-end", "delete log"),
        ("no-structure-check", "swap page"),
        ("no-head-check", "flip head of page"),
        ("verify-stops-early", "two at once"),
    ],
)
def test_a_store_that_checks_less_is_found_out(weakening: str, match: str) -> None:
    """Each check that is switched off lets some damage through."""
    code, counts, said = attack(
        "--weaken", weakening, "--match", match, "--images", "32", "--workers", "1"
    )
    assert code == 1, said
    assert counts[-1] > 0, said
