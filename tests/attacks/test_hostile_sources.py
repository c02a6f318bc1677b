"""Plant links, pipes, devices and giants in a real Docker database, and sync from it.

The long run is `tools/hostile_sources.py` by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from attacking import TOOLS, caught, stood

sys.path.append(str(TOOLS))
import hostile_sources
from hostile_plants import Place, Plant, nothing
from system_calls import tracer


@pytest.mark.slow
def test_nothing_that_is_planted_does_harm() -> None:
    """Every plant is passed over or refused; no image is lost, nothing else is touched."""
    counts = stood("hostile_sources.py", "--seconds", 1, "--images", 6, "--crowd", 500)
    assert counts["plants"] >= 100
    assert counts["syncs"] > counts["plants"]
    assert tracer() is None or counts["traced calls"] > 5_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakening", "only"),
    [
        ("follow-links", "a link out"),
        ("no-size-limit", "of 10 GB"),
        ("absent-if-unreadable", "config unreadable"),
        ("forget-doubt", "config a link"),
    ],
)
def test_a_weakened_reader_is_found_out(weakening: str, only: str) -> None:
    """The attack can fail: each of the reader's checks is needed."""
    if weakening == "absent-if-unreadable" and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    arguments = ("--seconds", 0, "--images", 10, "--only", only)
    assert caught("hostile_sources.py", *arguments, "--weaken", weakening) >= 1


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('openat(3</w/source>, "a", O_RDONLY) = 4</w/source/a>', False),
        ('openat(AT_FDCWD</>, "/w/store/data.mdb", O_RDWR|O_CREAT, 0600) = 4</w/store/x>', False),
        ('openat(AT_FDCWD</>, "/usr/lib/x.so", O_RDONLY|O_CLOEXEC) = 4</usr/lib/x.so>', False),
        ('openat(3</w/source>, "a", O_RDONLY) = 4</w/outside/a>', True),
        ('openat(3</w/source>, "a", O_RDWR) = 4</w/source/a>', True),
        ('openat(3</w/source>, "a", O_RDONLY) = -1 ELOOP (Too many levels)', False),
        ('unlink("/w/source/a") = 0', True),
        ('unlink("/w/store/a") = 0', False),
        ('rename("/w/store/a", "/w/source/b") = 0', True),
        ('mkdirat(AT_FDCWD</>, "/tmp/x", 0777) = 0', True),
        ('newfstatat(AT_FDCWD</>, "/w/outside/a", {}, 0) = 0', False),
    ],
)
def test_a_call_outside_of_source_and_store_is_noticed(line: str, wrong: bool) -> None:
    """What strace tells is judged by where it went, not by what was asked for."""
    place = Place(Path("/w/source"), Path("/w/source"), Path("/w/outside"), "", "")
    laid = hostile_sources.Laid(Plant("x", "same", nothing), place, Path("/w/store"), {})
    assert (hostile_sources.trespass(laid, line) is not None) == wrong
