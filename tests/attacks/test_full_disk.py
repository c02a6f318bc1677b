"""Fill disks, a sample of the ways, and see that nothing is lost and nothing stays stuck.

The whole attack is `tools/full_disk.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attacking import Verdict, attack, caught
from eventstore import ImageStore

pytestmark = pytest.mark.slow


def possible(*options: object) -> Verdict:
    """Run the attack; skip the test if that cannot be done here."""
    verdict = attack("full_disk.py", *options)
    missing = [line for line in verdict.lines if "not possible here" in line]
    if missing:
        pytest.skip(missing[0].strip())
    return verdict


def stands(*options: object) -> None:
    """Run the attack, which must have had writes refused and found nothing wrong."""
    counts = possible(*options).stood()
    assert counts["trials"] > 0
    assert counts["refusals"] > 0


@pytest.mark.parametrize("place", ["tmpfs", "ext4", "thin"])
def test_a_full_disk_refuses_clearly_and_loses_nothing(place: str) -> None:
    """Reads go on, and writes as well once there is room, here and in another process."""
    stands("--places", place, "--budget", 4)


@pytest.mark.parametrize("place", ["limit", "map"])
def test_a_limit_refuses_clearly_and_loses_nothing(place: str) -> None:
    """The same for a limit of the process and for the store's own."""
    stands("--places", place, "--budget", 4)


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
    options = ("--places", place, "--scenarios", "large", "--budget", 2, "--first")
    caught("full_disk.py", *options, "--weaken", weakening)


def test_the_attack_finds_a_lock_file_without_a_place() -> None:
    """The attack objects to a lock file with holes, which ends the process with a bus error."""
    options = ("--places", "tmpfs", "--scenarios", "lock with holes", "--budget", 2, "--first")
    verdict = possible(*options, "--weaken", "sparse-lock-file")
    verdict.caught()
    assert any("it ended with -7" in line for line in verdict.lines)
