"""Give a store clocks that lie, for some dozens of lives, and see each weakening noticed."""

from __future__ import annotations

import pytest

from attacking import caught, stood


@pytest.mark.slow
def test_as_of_by_time_has_one_answer_under_every_clock() -> None:
    """Whatever clocks said, in whichever process, on whichever host."""
    counts = stood("clocks.py", "--examples", 30)
    assert counts["examples"] == 30
    for what in (
        "questions",
        "records",
        "refusals",
        "warnings",
        "copies taken to another host",
        "processes with clocks apart",
    ):
        assert counts[what] > 0


@pytest.mark.parametrize(
    "weakening", ["no-clamp", "before", "cut-microseconds", "no-clock-check", "no-warning"]
)
def test_a_weakened_clock_is_noticed(weakening: str) -> None:
    """The run ends with the first example that finds something."""
    caught("clocks.py", "--examples", 30, "--weaken", weakening)
