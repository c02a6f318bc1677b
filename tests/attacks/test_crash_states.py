"""Cut the power at every system call of a workload; weakened in what makes commits durable, lose.

The long run is `tools/crash_states.py` by itself, or `tools/soak`.
"""

from __future__ import annotations

import sys

import pytest

from attacking import TOOLS, caught, stood

sys.path.append(str(TOOLS))
import crash_states
import system_calls
from system_calls import Make, Rename, Resize, Sync, Write

pytestmark = pytest.mark.skipif(
    system_calls.tracer() is None, reason="strace is absent, or may not trace here"
)


@pytest.mark.slow
def test_every_crash_state_opens_with_all_that_was_acknowledged() -> None:
    """No cut loses an acknowledged event, halves a batch, or leaves a store that does not open."""
    # What is recorded are the calls of a store on a disk, not of one in memory.
    counts = stood("crash_states.py", "--budget", 5, in_memory=False)
    assert counts["operations"] > 150
    assert counts["crash states"] > 500


@pytest.mark.slow
@pytest.mark.parametrize("weakening", ["no-sync", "no-metasync", "no-fsync"])
def test_without_one_of_its_syncs_the_store_is_caught_losing(weakening: str) -> None:
    """The attack can fail: each kind of sync is needed, and its absence is found."""
    options = ("--budget", 10, "--weaken", weakening, "--stop-at", 20)
    assert caught("crash_states.py", *options, in_memory=False) >= 20


def made(*operations: system_calls.Operation) -> crash_states.Disk:
    """Return a disk on which operations have happened."""
    disk = crash_states.Disk()
    for operation in operations:
        disk.do(operation)
    return disk


def contents(disk: crash_states.Disk, path: str) -> set[bytes | None]:
    """Return what a file may hold after a cut; None stands for its absence."""
    states = disk.states(400, crash_states.random.Random(1))
    return {state.get(path) for state in states}


def test_a_synced_write_survives_and_its_name_needs_a_sync_of_its_own() -> None:
    """The model of the disk is strict about names."""
    disk = made(
        Make("/d", folder=True), Make("/d/f", folder=False), Write("/d/f", 0, b"x", durable=False)
    )
    assert contents(disk, "/d/f") == {None, b"", b"x"}
    disk.do(Sync("/d/f"))
    assert contents(disk, "/d/f") == {None, b"x"}
    disk.do(Sync("/d"))
    disk.do(Sync("/"))
    assert contents(disk, "/d/f") == {b"x"}


def test_an_unsynced_write_is_torn_at_sectors_and_pages() -> None:
    """Beginning or end of each page may be missing, and each page by itself."""
    data = bytes([1]) * 4096 + bytes([2]) * 4096
    disk = made(Make("/f", folder=False), Sync("/"), Write("/f", 0, data, durable=False))
    found = contents(disk, "/f")
    assert data[:4096] in found
    assert bytes(4096) + data[4096:] in found
    assert data[:512] + bytes(3584) + data[4096:] in found
    assert bytes(512) + data[512:] in found


def test_a_rename_without_a_sync_may_be_undone_but_never_loses_both_names() -> None:
    """After a cut one of the two names leads to the file."""
    disk = made(Make("/a", folder=False), Sync("/"), Resize("/a", 3), Sync("/a"))
    disk.do(Rename("/a", "/b"))
    states = list(disk.states(50, crash_states.random.Random(1)))
    assert {tuple(sorted(state)) for state in states} == {("/a",), ("/b",)}


def test_two_unsynced_writes_reach_the_disk_in_any_order() -> None:
    """The later one may be there without the earlier one."""
    disk = made(Make("/f", folder=False), Sync("/"))
    disk.do(Write("/f", 0, b"old", durable=False))
    disk.do(Write("/f", 4096, b"new", durable=False))
    assert bytes(4096) + b"new" in contents(disk, "/f")


def test_a_write_through_a_synchronous_descriptor_is_there_at_once() -> None:
    """What LMDB writes its meta page with needs no further sync, and covers what is pending."""
    disk = made(Make("/f", folder=False), Sync("/"), Write("/f", 0, b"aa", durable=False))
    disk.do(Write("/f", 0, b"b", durable=True))
    assert contents(disk, "/f") == {b"b", b"ba"}
