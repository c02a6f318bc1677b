"""Fill disks, a sample of the ways, and see that nothing is lost and nothing stays stuck.

The whole attack is `tools/full_disk.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import ImageStore
from store import children

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = pytest.mark.slow


def attack(*arguments: str) -> tuple[int, list[str]]:
    """Run the tool; return its exit code and what it printed."""
    ended = subprocess.run(
        [sys.executable, str(TOOLS / "full_disk.py"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": children.PACKAGE},
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def sound(*arguments: str) -> None:
    """Run the tool, which must have had writes refused and found nothing wrong."""
    code, lines = attack(*arguments)
    missing = [line for line in lines if "not possible here" in line]
    if missing:
        pytest.skip(missing[0].strip())
    found = re.match(r"(\d+) of \d+ trials .* (\d+) refusals, 0 violations", lines[-1])
    assert found is not None, lines
    assert code == 0
    assert int(found[1]) > 0
    assert int(found[2]) > 0


@pytest.mark.parametrize("place", ["tmpfs", "ext4", "thin"])
def test_a_full_disk_refuses_clearly_and_loses_nothing(place: str) -> None:
    """Reads go on, and writes as well once there is room, here and in another process."""
    sound("--places", place, "--budget", "4")


@pytest.mark.parametrize("place", ["limit", "map"])
def test_a_limit_refuses_clearly_and_loses_nothing(place: str) -> None:
    """The same for a limit of the process and for the store's own."""
    sound("--places", place, "--budget", "4")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_lock_file_that_a_full_disk_cut_short_is_filled(
    tmp_path: Path, *, read_only: bool
) -> None:
    """No byte of it has no place on disk, whichever way the store is opened."""
    with ImageStore.open(tmp_path / "store") as store:
        lock = tmp_path / "store" / "lock.mdb"
        length = lock.stat().st_size
        assert store.position == 0
    lock.write_bytes(bytes(3072))
    with ImageStore.open(tmp_path / "store", read_only=read_only):
        assert lock.stat().st_size == length
        assert lock.stat().st_blocks * 512 >= length


@pytest.mark.parametrize(
    ("weakening", "place"),
    [("acknowledge-early", "limit"), ("no-reconnect", "limit"), ("untranslated", "map")],
)
def test_the_attack_finds_a_weakened_store(weakening: str, place: str) -> None:
    """The attack objects to a store that hides errors, gives up, or leaks them."""
    code, lines = attack(
        *("--places", place, "--scenarios", "large", "--budget", "2", "--first"),
        *("--weaken", weakening),
    )
    assert code == 1, lines


def test_the_attack_finds_a_lock_file_without_a_place() -> None:
    """The attack objects to a lock file with holes, which ends the process with a bus error."""
    options = ("--scenarios", "lock with holes", "--budget", "2", "--first")
    code, lines = attack("--places", "tmpfs", *options, "--weaken", "sparse-lock-file")
    if any("not possible here" in line for line in lines):
        pytest.skip(lines[0].strip())
    assert code == 1, lines
    assert any("it ended with -7" in line for line in lines)
