"""The command `follow` as a process, and the service of the README."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventstore import ImageStore
from making import config
from store.children import PACKAGE

COMMAND = [sys.executable, "-P", "-m", "eventstore"]
README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": PACKAGE}


@contextmanager
def following(path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Run `follow` on a store."""
    child = subprocess.Popen(
        [*COMMAND, "follow", "-s", str(path), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_records_of_other_processes_come_as_log_prints_them(
    store_path: Path, number: signal.Signals
) -> None:
    """One line each, flushed; a signal ends it with 0 and says nothing."""
    with ImageStore.open(store_path, actor="a@b") as store:
        store.create(config("before"), reason="first")
        with following(store_path, "--json", "--after", "@0") as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            for name in "xyz":
                store.create(config(name))
                lines.append(child.stdout.readline())
            child.send_signal(number)
            assert child.communicate(timeout=10) == ("", "")
            assert child.returncode == 0
    command = [*COMMAND, "log", "-s", str(store_path), "--json", "--reverse"]
    log = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert "".join(lines) == log.stdout


def test_for_people_it_begins_at_the_present_and_shows_one_image(store_path: Path) -> None:
    """What was before, and what happens to others, is not shown."""
    with ImageStore.open(store_path, actor="a@b") as store:
        image = store.create(config("before"))
        with following(store_path, image[:20], "--after", "@1") as child:
            assert child.stdout is not None
            store.create(config("other"))
            store.set_built_locally(image, reason="why")
            assert child.stdout.readline().endswith("  a@b  why\n")
            assert re.fullmatch(r" +@3  marked-built +[0-9a-f]{12}\n", child.stdout.readline())


def test_a_reader_that_goes_away_ends_it_though_nothing_comes(store_path: Path) -> None:
    """It does not stay for ever for nobody."""
    with ImageStore.open(store_path) as store:
        store.create(config("before"))
        with following(store_path, "--after", "@0") as child:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.readline()
            child.stdout.close()
            assert child.stderr.read() == ""
            assert child.wait(10) == 141


def test_what_cannot_be_followed_is_one_line(store_path: Path) -> None:
    """No store, no such image."""
    with ImageStore.open(store_path):
        pass
    for arguments, code in ((["-s", "none"], 3), (["abc", "-s", str(store_path)], 1)):
        done = subprocess.run(
            [*COMMAND, "follow", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("eventstore: ")


def test_the_service_of_the_readme_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """And its command line is one that this command takes."""
    (unit,) = re.findall(r"```ini\n(.*?)```", README, re.DOTALL)
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = line.split()
    assert words[:2] == ["/usr/bin/env", "eventstore"]
    done = subprocess.run(
        [*COMMAND, *words[2:], "--help"], capture_output=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    path = tmp_path / "eventstore-watch.service"
    path.write_text(unit)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    about = [said for said in checked.stderr.splitlines() if "eventstore-watch" in said]
    assert (about, checked.returncode) == ([], 0), checked.stderr


def test_a_store_that_was_moved_ends_it(store_path: Path) -> None:
    """Nothing would ever come of what is open; one line says so."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
    with following(store_path, "--after", "@0") as child:
        assert child.stdout is not None
        child.stdout.readline()
        store_path.rename(store_path.with_name("moved"))
        _, complaint = child.communicate(timeout=10)
    assert child.returncode == 3
    assert len(complaint.splitlines()) == 1
    assert "removed, moved or replaced" in complaint
