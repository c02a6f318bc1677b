"""Damage a store everywhere, in a run that is cut short, and see that the attack can win."""

from __future__ import annotations

import pytest

from attacking import caught, stood


@pytest.mark.slow
def test_no_damage_makes_a_store_lie() -> None:
    """Reads are right or refused, verify names it, salvage gets out what is sound."""
    counts = stood("rot.py", "--share", 0.02, "--images", 32)
    assert counts["damages"] > 0
    for level in ("entries", "the file"):
        assert counts[f"flips of {level}"] > 0
        assert counts[f"others of {level}"] > 0


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
    caught("rot.py", "--weaken", weakening, "--match", match, "--images", 32, "--workers", 1)
