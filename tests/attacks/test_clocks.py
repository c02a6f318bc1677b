"""Give a store clocks that lie, for some dozens of lives, and see each weakening noticed."""

from __future__ import annotations

import pytest

from attacks.running import attack, count


@pytest.mark.slow
def test_as_of_by_time_has_one_answer_under_every_clock() -> None:
    """Whatever clocks said, in whichever process, on whichever host."""
    code, last, said = attack("clocks.py", "--examples", "30")
    assert (code, count(last, "violations")) == (0, 0), said
    assert count(last, "examples") == 30
    for what in (
        "questions",
        "records",
        "refusals",
        "warnings",
        "copies taken to another host",
        "processes with clocks apart",
    ):
        assert count(last, what) > 0, said


@pytest.mark.parametrize(
    "weakening", ["no-clamp", "before", "cut-microseconds", "no-clock-check", "no-warning"]
)
def test_a_weakened_clock_is_noticed(weakening: str) -> None:
    """The run ends with the first example that finds something."""
    code, last, said = attack("clocks.py", "--examples", "30", "--weaken", weakening)
    assert code == 1, said
    assert count(last, "violations") > 0, said
