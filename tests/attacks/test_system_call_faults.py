"""Let system calls fail, a sample of them, and see that nothing is lost and work goes on.

The whole attacks are `tools/system_call_faults.py` and `tools/failed_syncs.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from store import children

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def _may_trace() -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    command = [strace, "-qq", "-e", "trace=none", "true"]
    tried = subprocess.run(command, check=False, capture_output=True)
    return tried.returncode == 0 and not tried.stderr


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _may_trace(), reason="needs strace, and leave to trace"),
]


def attack(tool: str, *arguments: str) -> tuple[int, str]:
    """Run a tool; return its exit code and its last line."""
    ended = subprocess.run(
        [sys.executable, str(TOOLS / tool), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": children.PACKAGE},
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, ended.stdout.splitlines()[-1]


def test_nothing_is_lost_when_a_system_call_fails() -> None:
    """Of all faults, 36 are tried; the rest of the steps is done on the same open store."""
    code, last = attack("system_call_faults.py", "--budget", "36")
    found = re.match(r"(\d+) of \d+ faults, work went on in (\d+) of (\d+), 0 violations", last)
    assert found is not None, last
    assert (code, found[2]) == (0, found[3])
    assert int(found[1]) >= 34
    assert int(found[2]) > 10


def test_maps_names_and_short_writes_fail_one_by_one() -> None:
    """A map that cannot grow is not read, a refused backup is not there, a short write is full."""
    for arguments in (("--kinds", "eio", "--calls", "mmap,fsync"), ("--kinds", "short")):
        code, last = attack("system_call_faults.py", *arguments, "--budget", "10")
        assert code == 0, last
        assert re.match(r"1\d of \d+ faults, .* 0 violations", last) is not None, last


def test_nothing_is_lost_when_a_sync_fails_and_then_the_power() -> None:
    """Of all syncs, four are let fail, and the power is cut behind each."""
    code, last = attack("failed_syncs.py", "--points", "4", "--budget", "12")
    found = re.match(r"4 of \d+ failures of a sync, (\d+) crash states, 0 violations", last)
    assert found is not None, last
    assert code == 0
    assert int(found[1]) > 100


@pytest.mark.parametrize("weakening", ["acknowledge-early", "no-reconnect", "untranslated"])
def test_the_attack_finds_a_weakened_store(weakening: str) -> None:
    """The attack objects to a store that hides errors, gives up, or leaks them."""
    code, last = attack(
        "system_call_faults.py",
        *("--kinds", "eio", "--calls", "fdatasync,pwrite64", "--budget", "6", "--first"),
        *("--weaken", weakening),
    )
    assert code == 1, last
    assert ", 0 violations" not in last


@pytest.mark.parametrize(
    ("weakening", "failing"),
    [
        ("no-settling", "pwrite64"),
        ("no-settling-at-open", "signal=KILL"),
        ("settle-by-sync", "and fsync:error"),
    ],
)
def test_the_attack_finds_a_commit_left_in_doubt(weakening: str, failing: str) -> None:
    """The attack objects to a store that writes on while the disk may have a refused commit."""
    options = ("--only", failing, "--points", "8", "--first", "--weaken", weakening)
    code, last = attack("failed_syncs.py", *options)
    assert code == 1, last
    assert ", 0 violations" not in last
