"""`report` into files that are there, cannot be there, or should not be touched."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import ImageStore
from eventstore.cli.files import write_new, write_over
from eventstore.cli.main import run
from eventstore.errors import DestinationExistsError, StoreFullError
from making import config
from store import children

LONGEST = "n" * 250 + ".html"


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """Make a store of one record, beside an empty folder."""
    with ImageStore.open(tmp_path / "store", actor="a") as store:
        store.create(config("a"))
    (tmp_path / "out").mkdir()
    return str(tmp_path / "store")


def report(store: str, out: Path, *options: str) -> int:
    """Run the command, and return its exit code."""
    return run(["-s", store, "report", str(out), *options])


@pytest.mark.parametrize("name", ["page.html", LONGEST, "\u2028.html", "-", " "])
def test_a_page_is_written_once_and_again_only_if_told(
    filled: str, tmp_path: Path, name: str
) -> None:
    """Whatever it is called; nobody else may read it, and nothing is left beside it."""
    out = tmp_path / "out" / name
    assert report(filled, out) == 0
    first = out.read_bytes()
    assert out.stat().st_mode & 0o777 == 0o600
    assert report(filled, out, "--title", "other") == 3
    assert out.read_bytes() == first
    assert report(filled, out, "--title", "other", "--force") == 0
    assert b"<title>other</title>" in out.read_bytes()
    assert out.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "out") == [name]


def test_only_a_file_gives_way(filled: str, tmp_path: Path) -> None:
    """Not a pipe, not a folder, not a link to nothing: others use them for something else."""
    os.mkfifo(tmp_path / "out" / "pipe")
    (tmp_path / "out" / "folder").mkdir()
    (tmp_path / "out" / "astray").symlink_to("nothing")
    before = sorted(os.listdir(tmp_path / "out"))
    for name in before:
        assert report(filled, tmp_path / "out" / name) != 0
        assert report(filled, tmp_path / "out" / name, "--force") != 0
    assert sorted(os.listdir(tmp_path / "out")) == before
    assert (tmp_path / "out" / "pipe").is_fifo()
    assert (tmp_path / "out" / "astray").is_symlink()


def test_a_link_stays_one(filled: str, tmp_path: Path) -> None:
    """What it leads to is replaced."""
    real, link = tmp_path / "real.html", tmp_path / "out" / "link.html"
    real.write_text("old")
    link.symlink_to(real)
    assert report(filled, link) == 3
    assert real.read_text() == "old"
    assert report(filled, link, "--force") == 0
    assert link.is_symlink()
    assert real.read_text().startswith("<!DOCTYPE html>")
    assert os.listdir(tmp_path / "out") == ["link.html"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands for it."""
    old = tmp_path / "old"
    old.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for write, name in ((write_new, "new"), (write_over, "new"), (write_over, "old")):
            with pytest.raises(StoreFullError):
                write(str(tmp_path / name), bytes(5000), 0o600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["old"]
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_an_interrupt_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Wherever it comes, there is the old file or the new one, and nothing beside it."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "old"
    old.write_bytes(b"old")
    monkeypatch.setattr(call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_over(str(old), b"new", 0o600)
    assert os.listdir(tmp_path) == ["old"]
    assert old.read_bytes() == b"old"


def test_standard_output_is_not_replaced(filled: str, tmp_path: Path) -> None:
    """Whoever runs it as root would take it from everybody."""
    link = tmp_path / "out" / "stdout"
    link.symlink_to("/proc/self/fd/1")
    done = subprocess.run(
        [sys.executable, "-m", "eventstore", "-s", filled, "report", str(link), "--force"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": children.PACKAGE},
        check=False,
    )
    assert done.returncode == 3
    assert str(DestinationExistsError(str(link))) in done.stderr
    assert os.readlink(link) == "/proc/self/fd/1"


def test_a_large_page_is_said_to_be_one(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, after it was written; of what is not large nothing is said."""
    assert report(filled, tmp_path / "out" / "1.html") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("eventstore.cli.pages.LARGE_SIZE", 1000)
    assert report(filled, tmp_path / "out" / "2.html") == 0
    assert "--since" in capsys.readouterr().err
