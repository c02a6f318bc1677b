"""Let the attack on opening find nothing, and every weakening."""

from __future__ import annotations

import os

import pytest

from attacking import caught, stood


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
    counts = stood("opening.py", "--only", part, "--rounds", 5, "--budget", 40)
    for what in tried:
        assert counts[what] > 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and mount")
def test_strangers_and_other_file_systems_have_their_stated_behaviour() -> None:
    """Where mounts are not allowed the tool says so; strangers are always tried by root."""
    assert stood("opening.py", "--only", "strangers")["opens by strangers"] > 0
    stood("opening.py", "--only", "mounts")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "part"),
    [
        ("no-format-check", "cases"),
        ("no-look", "cases"),
        ("no-loss-check", "losses"),
        ("no-registry", "twice"),
        ("no-whole-first", "kills"),
        ("take-over-foreign", "cases"),
    ],
)
def test_a_weakened_open_is_caught(weakening: str, part: str) -> None:
    """The attack would notice."""
    assert caught("opening.py", "--weaken", weakening, "--only", part, "--budget", 60) == 1
