"""Make sure that no attack is misread: what says nothing, hangs or fails is no verdict."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import attacking
from attacking import Verdict, attack, counts_of

END = "0 violations, 7 s (budget 10, 3 writers, 8 s of races)"


@pytest.mark.parametrize(
    ("tried", "counts"),
    [
        ("150 operations, 900 crash states", {"operations": 150, "crash states": 900}),
        ("9 killed (inside), 2 forks (busy)", {"killed (inside)": 9, "forks (busy)": 2}),
        ("1 opens on a read-only file system", {"opens on a read-only file system": 1}),
        ("2 configs of 16 MiB, 3 v1.0 stores", {"configs of 16 MiB": 2, "v1.0 stores": 3}),
        ("12 restores, 5 of them half done", {"restores": 12, "of them half done": 5}),
        (
            "36 of 400 faults, work went on in 20 of 21",
            {"faults": 36, "faults, of": 400, "work went on in": 20, "work went on in, of": 21},
        ),
        ("4 of 90 trials in 3 places", {"trials": 4, "trials, of": 90, "places": 3}),
        (
            "14 damages (5 flips and 2 others of entries; 4 flips and 3 others of the file)",
            {
                "damages": 14,
                "flips of entries": 5,
                "others of entries": 2,
                "flips of the file": 4,
                "others of the file": 3,
            },
        ),
        ("0 examples, ", {"examples": 0}),
        ("nothing", {}),
        ("", {}),
    ],
)
def test_every_form_of_a_last_line_is_read(tried: str, counts: dict[str, int]) -> None:
    """Nothing of it is passed over."""
    assert counts_of(f"{tried}, {END}") == {**counts, "violations": 0}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "150 operations",
        "150 operations, 7 s (budget 10)",
        "150 operations, no violations, 7 s (budget 10)",
        f"many operations, {END}",
        f"1,500 operations, {END}",
        f"3 restores, 4 restores, {END}",
        f"3 restores, 1 violations, {END}",
        f"3 restores, {END} and a thread that failed",
    ],
)
def test_a_line_of_another_form_is_no_verdict(line: str) -> None:
    """What cannot be read is not taken for nothing."""
    with pytest.raises(AssertionError):
        counts_of(line)


@pytest.mark.parametrize(("code", "violations"), [(0, 1), (1, 0), (2, 0), (-9, 0), (2, 1), (-9, 1)])
def test_exit_code_and_violations_must_agree(code: int, violations: int) -> None:
    """Whoever ends otherwise has neither stood nor been caught."""
    verdict = Verdict(code, {"violations": violations}, [])
    with pytest.raises(AssertionError):
        verdict.stood()
    with pytest.raises(AssertionError):
        verdict.caught()


def test_a_program_that_says_nothing_has_no_verdict() -> None:
    """Also if it ends well."""
    with pytest.raises(AssertionError, match="no verdict"):
        attack("history_checker.py")


def test_an_attack_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails the test, and is named."""
    monkeypatch.setattr(attacking, "SECONDS_MAX", 0.2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(subprocess.TimeoutExpired):
        attack("backups.py", "--only", "race", in_memory=False)
    assert "backups.py" in capsys.readouterr().out
