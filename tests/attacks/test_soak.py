"""Soak for less time than one attack takes: what is said, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attacking import TOOLS
from store.children import PACKAGE

SECONDS_TO_END = 10  # before what does not end is killed, and leaves its files where they are


def start(seconds: int, folder: Path, attack: str = "backups") -> subprocess.Popen[str]:
    """Begin to soak with an attack that takes a minute or more."""
    return subprocess.Popen(
        [sys.executable, str(TOOLS / "soaking.py"), str(seconds), "--only", attack],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE, "TMPDIR": str(folder)},
    )


def processes_that_name(folder: Path) -> list[str]:
    """Return the ids of processes whose environment names a folder."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_soak_that_has_no_time_for_a_whole_run_says_so_and_leaves_nothing(
    tmp_path: Path, interrupted: bool
) -> None:
    """Exit code 2, for nothing was found out; no process and no file is left."""
    with start(600 if interrupted else 3, tmp_path) as soaking:
        if interrupted:
            time.sleep(3)
            soaking.send_signal(signal.SIGINT)
        said, _ = soaking.communicate(timeout=60)
    assert soaking.returncode == 2, said
    assert said.splitlines()[-1] == "no time for a whole run of: backups"
    assert "   0 runs, 0 failed\n" in said
    assert os.listdir(tmp_path) == []
    assert processes_that_name(tmp_path) == []


@pytest.mark.slow
def test_rot_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Its processes have damages for minutes."""
    with start(3, tmp_path, "rot") as soaking:
        began = time.monotonic()
        said, _ = soaking.communicate(timeout=60)
    assert time.monotonic() - began < 3 + SECONDS_TO_END, said
    assert processes_that_name(tmp_path) == []
