"""Throw hostile bytes at every door; weakened, the doors let foreign errors out and are found out.

The long run is `tools/fuzz.py --executions 1000000`. The kept seeds are replayed here every time.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from attacking import TOOLS, caught, stood

sys.path.append(str(TOOLS))
import fuzz

SEEDS = Path(__file__).parent / "seeds"
DOORS = [name for name in fuzz.TARGET_NAMES if name != fuzz.GIANTS]


def test_the_seeds_are_of_targets_and_small() -> None:
    """What is kept is replayed, and weighs little."""
    assert {folder.name for folder in SEEDS.iterdir()} <= set(DOORS)
    assert sum(path.stat().st_size for path in SEEDS.rglob("*")) < 200_000


@pytest.mark.slow
def test_only_errors_of_ours_come_out_of_any_door(tmp_path: Path) -> None:
    """Thousands of inputs to all doors: nothing foreign comes out, and no answer is wrong."""
    counts = stood(
        "fuzz.py", "--executions", 8_000, "--targets", ",".join(DOORS), "--found", tmp_path / "x"
    )
    assert counts["targets"] == len(DOORS)
    assert counts["executions"] > 7_500
    assert counts["kept seeds"] == sum(path.is_file() for path in SEEDS.rglob("*"))
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_configs_of_16_mib_cost_what_is_stated_and_no_more(tmp_path: Path) -> None:
    """Each is made to be dear: depth, digits, keys, repetitions, bytes that are no UTF-8."""
    names = "one byte|no layers|1 M labels|empty steps|in arrays|10 M|cut|a bad|the same"
    counts = stood("fuzz.py", "--targets", "giants", "--giants", names, "--found", tmp_path)
    assert counts["executions"] == 13


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_by_coverage_too(tmp_path: Path) -> None:
    """The other engine runs, and finds nothing either."""
    counts = stood(
        "fuzz.py", "--engine", "atheris", "--executions", 1_500, "--targets", "record,config",
        "--found", tmp_path, "--corpus", tmp_path / "corpus",
    )  # fmt: skip
    assert counts["executions"] >= 1_400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "targets"),
    [
        ("leak-msgspec", "record"),
        ("no-shape-check", "record"),
        ("leak-json", "config"),
        ("equal-keys", "plain"),
        ("blind-to-case", "term"),
        ("raw-output", "record"),
        ("leak-times", "metadata"),
        ("no-size-limit", "giants"),
        ("no-values-limit", "giants"),
    ],
)
def test_a_weakened_door_is_found_out(tmp_path: Path, weakening: str, targets: str) -> None:
    """The attack can fail: with one check less it finds inputs, and saves them."""
    found = caught(
        "fuzz.py", "--executions", 20_000, "--targets", targets, "--found", tmp_path,
        "--stop-at", 1, "--weaken", weakening, "--giants", "one byte|no layers",
    )  # fmt: skip
    assert found == 1
    assert [path for path in (tmp_path / targets).iterdir() if path.is_file()]


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    """A run can be repeated."""
    arguments = ("--executions", 3_000, "--targets", "record", "--weaken", "no-shape-check")
    names: list[set[str]] = []
    for number in range(2):
        found = tmp_path / str(number)
        caught("fuzz.py", *arguments, "--found", found, "--seed", 5)
        names.append({path.name for path in (found / "record").iterdir()})
    assert names[0] == names[1] != set()


def test_an_unknown_target_and_a_missing_engine_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is skipped in silence."""
    with pytest.raises(SystemExit):
        fuzz.parsed(["--targets", "record,nonsense"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        fuzz.parsed(["--engine", "atheris"])
