"""Watch long commands on a real terminal: they show how far they are, and leave nothing behind."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli_types import Host
from docker_data import DATA
from eventstore import ImageStore
from eventstore.cli import bars
from making import config
from store import children
from terminals import on_terminal

# The bar is there before the work begins, and what it says last is drawn as well.
AT_ONCE = """
import sys, time
from eventstore.cli import bars
bars.DELAY_SECONDS = bars._BETWEEN_SECONDS = 0
real = bars.Bar.step
def step(self, what):
    told = real(self, what)
    while self._is_watched and self._display is None:
        time.sleep(0.01)
    return told
bars.Bar.step = step
from eventstore.__main__ import main
sys.exit(main())
"""
ARCHIVE = "archive-docker-save-28.5.2"


def command_lines(host: Host, folder: Path) -> dict[str, tuple[list[str | Path], list[str]]]:
    """Return command lines that may take long, by name, with what their bars say."""
    store, new = ["-s", host.path], folder / "new"
    records = f"{host.ends[-1]}/{host.ends[-1]}"
    return {
        "sync": (["-s", new, "sync", host.roots[0]], ["reading images", "recording", "94/94"]),
        "verify": ([*store, "verify"], ["verifying records", records]),
        "export": ([*store, "export", new], ["exporting records", records]),
        "images": ([*store, "export", new, "--as", "oci-layout"], ["exporting images", "84/84"]),
        "tiles": ([*store, "export-tiles", new], ["exporting tiles"]),
        "backup": ([*store, "backup", new], ["copying the store"]),
        "restore": (["restore", host.path, new], ["verifying records", records]),
        "salvage": (["salvage", host.path, new], ["salvaging records", records]),
        "snapshot": ([*store, "snapshot"], ["taking a snapshot"]),
        "compact": ([*store, "compact", "--before", "@271", "-y"], ["compacting", "271/271"]),
        "undo": ([*store, "undo", f"@{host.ends[-1]}", "--dry-run"], ["undoing records"]),
    }


COMMANDS = list(command_lines(Host(Path(), [Path()], [0]), Path()))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_long_command_shows_how_far_it_is_and_clears_that(
    host: Host, tmp_path: Path, name: str
) -> None:
    """The last state is drawn, and then the line is erased before anything else is printed."""
    arguments, expected = command_lines(host, tmp_path)[name]
    with on_terminal(arguments, program=("-c", AT_ONCE), columns=100) as terminal:
        assert terminal.end() == 0, terminal.plain
    for text in expected:
        assert text in terminal.plain, terminal.plain
    assert not any(expected[0] in row for row in terminal.rows)
    assert terminal.rows == terminal.plain.splitlines()[-len(terminal.rows) :]


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_drawn_where_nobody_watches(host: Host, tmp_path: Path, name: str) -> None:
    """Standard error is a pipe, or the terminal is a dumb one."""
    arguments, expected = command_lines(host, tmp_path)[name]
    command = [sys.executable, "-P", "-c", AT_ONCE, *map(str, arguments)]
    environment = {"PYTHONPATH": children.PACKAGE, "TERM": "xterm"}
    said = subprocess.run(command, capture_output=True, check=True, env=environment, text=True)
    assert "\x1b" not in said.stderr + said.stdout
    assert expected[0] not in said.stderr


def test_a_dumb_terminal_and_a_short_command_have_no_bar(synced: Host) -> None:
    """Neither has use for it."""
    verify = ["-s", synced.path, "verify"]
    dumb = {"TERM": "dumb"}
    with on_terminal(verify, program=("-c", AT_ONCE), environment=dumb) as terminal:
        assert terminal.end() == 0
    assert "verifying" not in terminal.plain
    with on_terminal(verify) as terminal:
        assert terminal.end() == 0
    assert "verifying" not in terminal.plain


class Screen(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "terminal"), [(io.StringIO, "xterm"), (Screen, "dumb"), (Screen, None)]
)
def test_where_nobody_watches_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], terminal: str | None
) -> None:
    """The library gets no function to call, so it costs nothing; nor is there a thread."""
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.delenv("TERM", raising=False)
    if terminal is not None:
        monkeypatch.setenv("TERM", terminal)
    threads = threading.active_count()
    with bars.shown() as bar:
        assert bar.step("working") is None
        assert threading.active_count() == threads


def test_nothing_is_drawn_in_the_first_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is, without a call from the work; at the end it is taken away."""
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("TERM", "xterm")
    begin = time.monotonic()
    with bars.shown() as bar:
        told = bar.step("working")
        assert told is not None
        told(3, 10)
        while not screen.getvalue():
            time.sleep(0.01)
            assert time.monotonic() < begin + 30
        assert time.monotonic() >= begin + 1
    assert "working" in screen.getvalue()
    assert "3/10" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")
    with bars.shown() as bar:
        bar.step("something short")
    assert "something short" not in screen.getvalue()


def test_output_in_a_file_stays_free_of_the_bar(synced: Host, tmp_path: Path) -> None:
    """The bar is on standard error alone, and without colours where they are not wanted."""
    output = tmp_path / "output"
    arguments = ["-s", synced.path, "verify"]
    with on_terminal(
        arguments, program=("-c", AT_ONCE), output=output, environment={"NO_COLOR": "1"}
    ) as terminal:
        assert terminal.end() == 0
    assert output.read_text() == "sound: 413 records, 84 images, 0 snapshots\n"
    assert "verifying records" in terminal.plain
    assert "\x1b[3" not in terminal.text


def test_an_image_archive_and_an_export_are_imported_under_a_bar(
    synced: Host, tmp_path: Path
) -> None:
    """Both kinds of import."""
    archive = tmp_path / "archive.tar.gz"
    shutil.copy(DATA / f"{ARCHIVE}.tar.gz", archive)
    with ImageStore.open(synced.path, read_only=True) as store:
        from eventstore import export_records

        export_records(store, tmp_path / "export")
    for source, expected in ((archive, "adding images"), (tmp_path / "export", "413/413")):
        arguments = ["-s", tmp_path / source.name[:4], "import", source]
        with on_terminal(arguments, program=("-c", AT_ONCE)) as terminal:
            assert terminal.end() == 0, terminal.plain
        assert expected in terminal.plain


@pytest.mark.slow
def test_the_bar_comes_after_a_second_of_work(tmp_path: Path) -> None:
    """On a store that is large enough, nothing is sped up; an interrupt clears the bar."""
    with ImageStore.open(tmp_path / "store") as store, store.transaction():
        for number in range(150_000):
            store.create(config(str(number)))
    with on_terminal(["-s", tmp_path / "store", "verify"]) as terminal:
        terminal.wait_for("/150,000")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert "eventstore: interrupted" in terminal.plain
    assert terminal.text.rindex("\x1b[2K") > terminal.text.rindex("/150,000")


def test_a_warning_stands_above_the_bar(synced: Host, tmp_path: Path) -> None:
    """What is logged while the bar is there has a line of its own."""
    script = AT_ONCE.replace(
        "from eventstore.__main__",
        "import eventstore.cli.upkeep as upkeep, logging\n"
        "check = upkeep.check_store\n"
        "def warned(path, progress):\n"
        "    logging.getLogger('eventstore').warning('something is odd')\n"
        "    return check(path, progress=progress)\n"
        "upkeep.check_store = warned\n"
        "from eventstore.__main__",
    )
    with on_terminal(["-s", synced.path, "verify"], program=("-c", script)) as terminal:
        assert terminal.end() == 0
    assert "eventstore: something is odd\n" in terminal.plain
