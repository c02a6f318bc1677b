"""Let system calls fail, a sample of them, and see that nothing is lost and work goes on.

The whole attacks are `tools/system_call_faults.py` and `tools/failed_syncs.py`.
"""

from __future__ import annotations

import sys

import pytest

from attacking import TOOLS, caught, stood

sys.path.append(str(TOOLS))
from system_calls import tracer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(tracer() is None, reason="needs strace, and leave to trace"),
]


def test_nothing_is_lost_when_a_system_call_fails() -> None:
    """Of all faults, 36 are tried; the rest of the steps is done on the same open store."""
    counts = stood("system_call_faults.py", "--budget", 36)
    assert counts["faults"] >= 34
    assert counts["work went on in"] == counts["work went on in, of"] > 10


def test_maps_names_and_short_writes_fail_one_by_one() -> None:
    """A map that cannot grow is not read, a refused backup is not there, a short write is full."""
    for arguments in (("--kinds", "eio", "--calls", "mmap,fsync"), ("--kinds", "short")):
        assert stood("system_call_faults.py", *arguments, "--budget", 10)["faults"] == 10


def test_nothing_is_lost_when_a_sync_fails_and_then_the_power() -> None:
    """Of all syncs, four are let fail, and the power is cut behind each."""
    counts = stood("failed_syncs.py", "--points", 4, "--budget", 12)
    assert counts["failures of a sync"] == 4
    assert counts["crash states"] > 100


@pytest.mark.parametrize("weakening", ["acknowledge-early", "no-reconnect", "untranslated"])
def test_the_attack_finds_a_weakened_store(weakening: str) -> None:
    """The attack objects to a store that hides errors, gives up, or leaks them."""
    options = ("--kinds", "eio", "--calls", "fdatasync,pwrite64", "--budget", 6, "--first")
    caught("system_call_faults.py", *options, "--weaken", weakening)


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
    options = ("--only", failing, "--points", 24, "--first", "--seed", 2, "--weaken", weakening)
    caught("failed_syncs.py", *options)
