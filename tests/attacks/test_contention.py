"""Fight over a store for a few seconds in every way, and see each weakening of it noticed."""

from __future__ import annotations

import pytest

from attacking import caught, stood


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "tried"),
    [
        ("processes", ["reads", "views of the past", "stretches of records"]),
        ("threads", ["reads", "views of the past", "writes refused or failed"]),
        ("mixed", ["reads", "views of the past", "writes refused or failed"]),
        ("killed", ["killed (inside)", "killed (commit)", "killed (random)", "killed (reading)"]),
        ("slots", ["slots taken", "calls refused", "times let go", "times killed"]),
        ("asleep", ["growth measurements beside iterations asleep", "sleepers named"]),
        ("fork", ["forks (inside)", "forks (busy)", "children that opened their own"]),
    ],
)
def test_nothing_is_lost_and_there_is_one_order(mode: str, tried: list[str]) -> None:
    """What every thread did and saw agrees with the log that is left."""
    counts = stood("contention.py", "--mode", mode, "--seconds", 2)
    for what in (*tried, "records", "writes acknowledged", "processes"):
        assert counts[what] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "weakening"),
    [
        ("processes", "no-catch-up"),
        ("processes", "stale-writes"),
        ("processes", "no-lock"),
        ("processes", "half-batches"),
        ("threads", "acknowledge-early"),
        ("threads", "fold-before-commit"),
        ("mixed", "fold-before-commit"),
        ("killed", "no-stale-reader-check"),
        ("slots", "no-slot-check"),
        ("asleep", "long-reads"),
        ("asleep", "no-stale-reader-check"),
        ("fork", "no-fork-check"),
    ],
)
def test_a_weakened_store_is_noticed(mode: str, weakening: str) -> None:
    """An attack that finds nothing where there is something finds nothing anywhere."""
    caught("contention.py", "--mode", mode, "--seconds", 1, "--weaken", weakening)
