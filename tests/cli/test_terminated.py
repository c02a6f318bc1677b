"""End a command by SIGTERM while it writes: nothing half done stays, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eventstore import ImageStore, check_store
from making import config
from store.children import PACKAGE

IMAGES = 3_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that takes a while to be written anew."""
    path = tmp_path_factory.mktemp("terminated") / "store"
    with ImageStore.open(path) as store, store.transaction():
        for number in range(IMAGES):
            store.create(config(str(number)))
    return path


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
@pytest.mark.parametrize(
    "arguments",
    [["export", "out", "--as", "oci-layout"], ["export", "out"], ["export-tiles", "out"]],
    ids=" ".join,
)
def test_nothing_half_written_stays(
    path: Path, tmp_path: Path, arguments: list[str], delay: float
) -> None:
    """Neither under its name nor under another; it is whole if the signal came too late."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "eventstore", "-s", str(path), *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    while process.poll() is None and not any(tmp_path.iterdir()):
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    if process.returncode in (0, -signal.SIGTERM):  # it was done, or as good as gone
        assert [found.name for found in tmp_path.iterdir()] == ["out"]
        return
    assert process.returncode == 143
    assert complaint.splitlines()[-1] == "eventstore: terminated; nothing half done was kept"
    assert list(tmp_path.iterdir()) == []


def test_a_change_is_whole_or_not_there(path: Path, tmp_path: Path) -> None:
    """A transaction that is terminated leaves a sound store as it was before, or after."""
    files = []
    for number in range(400):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_bytes(config(f"new {number}"))
    store = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "eventstore", "-s", str(store), "create", *map(str, files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    while process.poll() is None and not store.joinpath("data.mdb").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM, 143)
    assert list(check_store(store)) == []
    with ImageStore.open(store) as opened:
        assert len(opened) == (0 if process.returncode == 143 else 400)
