"""Let the attack on backups and restores find nothing, and every weakening."""

from __future__ import annotations

import pytest

from attacking import caught, stood


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
    counts = stood("backups.py", "--only", part, "--seconds", 8, "--rounds", 10)
    for what in tried:
        assert counts[what] > 0


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
    assert caught("backups.py", "--weaken", weakening, "--only", part, "--seconds", 60) == 1
