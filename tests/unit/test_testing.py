"""The pytest plugin, in a small project of its own, and its clock."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventstore import StoreUsageError
from eventstore.testing import START, ManualClock
from store.children import PACKAGE

PROJECT = """
from datetime import UTC, datetime
from eventstore import ImageStore
from eventstore.testing import ManualClock

CONFIG = b'{"rootfs": {"type": "layers"}}'

def test_a_store_of_its_own(image_store: ImageStore, image_store_clock: ManualClock) -> None:
    image_store_clock.set(datetime(2031, 5, 6, tzinfo=UTC))
    image = image_store.create(CONFIG)
    image_store_clock.tick(60)
    image_store.delete(image)
    times = [record.time for record in image_store.records()]
    assert times == [datetime(2031, 5, 6, tzinfo=UTC), datetime(2031, 5, 6, 0, 1, tzinfo=UTC)]

def test_another_store(image_store: ImageStore) -> None:
    assert image_store.position == 0

def test_it_may_be_closed(image_store: ImageStore) -> None:
    image_store.close()
"""
DAMAGED = """
def test_damage(image_store):
    image_store.create(b'{"rootfs": {"type": "layers"}}')
    environment = image_store._environment
    environment.write(lambda txn: txn.put("configs", b"x" * 32, b"damage"))
"""


def run(folder: Path, text: str, *, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pytest on a project with one file of tests."""
    folder.joinpath("test_it.py").write_text(text)
    if plugin:
        folder.joinpath("conftest.py").write_text('pytest_plugins = ["eventstore.testing"]\n')
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            folder,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )


def test_each_test_has_a_store_of_its_own_with_a_clock_to_set(tmp_path: Path) -> None:
    """Only `pytest_plugins` is needed."""
    done = run(tmp_path, PROJECT)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_store_that_does_not_verify_fails_its_test(tmp_path: Path) -> None:
    """Whatever the program under test did to it."""
    done = run(tmp_path, DAMAGED)
    assert "1 passed, 1 error" in done.stdout
    assert "does not verify" in done.stdout


def test_it_is_there_only_for_who_asks(tmp_path: Path) -> None:
    """Nothing is registered by installing the package."""
    done = run(tmp_path, PROJECT, plugin=False)
    assert "fixture 'image_store' not found" in done.stdout


def test_the_clock_needs_no_pytest() -> None:
    """Nor does anything else of the package."""
    script = (
        "import sys, eventstore.testing as t; t.ManualClock()(); assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": PACKAGE})


def test_the_clock_stands_until_it_is_moved() -> None:
    """By seconds, by a duration, to a moment; also back."""
    clock = ManualClock()
    assert clock.now == START
    assert clock() == clock()
    assert clock.tick(0.5) == START + timedelta(seconds=0.5)
    assert clock.tick(timedelta(days=-1)) == START + timedelta(days=-1, seconds=0.5)
    clock.set(datetime(2000, 1, 1, tzinfo=UTC))
    assert clock() == 946_684_800_000_000_000
    with pytest.raises(StoreUsageError):
        clock.set(datetime(2000, 1, 1))
