"""Page on a real terminal, with `less` and with pagers of our own, and leave them early."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from pathlib import Path

import pytest

from cli_types import Host
from terminals import on_terminal, screen

COMMANDS = [
    ["log"], ["ls", "-a"], ["tree"], ["diff", "@0"], ["show", "bk/app:1"],
    ["blame", "bk/app:1"],
]  # fmt: skip
needs_less = pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """Return a pager that marks each line that it shows, and keeps what LESS was."""
    script = tmp_path / "pager"
    script.write_text(f'#!/bin/sh\nprintf %s "${{LESS-unset}}" >{tmp_path}/less\nsed "s/^/|/"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def through(pager: Path | str, **more: str) -> dict[str, str]:
    """Return the environment in which something is the pager."""
    return {"EVENTSTORE_PAGER": str(pager), **more}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_shown_through_the_pager_is_what_the_terminal_would_get(
    synced: Host, pager: Path, command: list[str]
) -> None:
    """Line for line, in the same width and the same colours."""
    arguments = ["-s", synced.path, *command]
    plain = screen(arguments, columns=70).text.splitlines()
    paged = screen(arguments, columns=70, environment=through(pager)).text.splitlines()
    assert [line.removeprefix("|") for line in paged] == plain
    assert all(line.startswith("|") for line in paged)
    assert (pager.parent / "less").read_text() == "FRX"


def test_the_environment_names_the_pager_as_for_git(synced: Host, pager: Path) -> None:
    """EVENTSTORE_PAGER goes before PAGER, and what LESS was set to is left alone."""
    arguments = ["-s", synced.path, "log", "-n", "1"]
    assert "|" in screen(arguments, environment=through(pager, PAGER="cat")).plain
    default = {"EVENTSTORE_PAGER": "", "PAGER": str(pager)}
    assert "|" not in screen(arguments, environment=default).plain
    with on_terminal(arguments, environment={"PAGER": f"{pager} -x", "LESS": "i"}) as terminal:
        assert terminal.end() == 0
    assert "|" in terminal.plain
    assert (pager.parent / "less").read_text() == "i"


@pytest.mark.parametrize("name", ["", " ", "cat", "no-such-pager", "no-such-pager -R"])
def test_without_a_pager_everything_is_printed(synced: Host, name: str) -> None:
    """A pager that is not there is no reason to show nothing."""
    said = screen(["-s", synced.path, "ls", "-a"], environment=through(name))
    assert len(said.plain.splitlines()) == 85


@pytest.mark.parametrize(
    "arguments", [["--no-pager", "log"], ["log", "--json"], ["search", "bk/app:1"]]
)
def test_what_is_not_paged(synced: Host, pager: Path, arguments: list[str]) -> None:
    """The option, JSON, and what is one line."""
    said = screen(["-s", synced.path, *arguments], environment=through(pager))
    assert not said.plain.startswith("|")
    assert not (pager.parent / "less").exists()


def test_neither_a_pipe_nor_a_dumb_terminal_has_a_pager(
    synced: Host, pager: Path, tmp_path: Path
) -> None:
    """There is nobody to turn the pages."""
    arguments, output = ["-s", synced.path, "log"], tmp_path / "output"
    with on_terminal(arguments, environment=through(pager), output=output) as terminal:
        assert terminal.end() == 0
    assert len(output.read_text().splitlines()) > 400
    assert "\x1b" not in output.read_text()
    said = screen(arguments, environment=through(pager, TERM="dumb"))
    assert len(said.plain.splitlines()) > 400
    assert not (pager.parent / "less").exists()


def test_following_is_not_paged(synced: Host, pager: Path) -> None:
    """What comes later is shown when it comes."""
    arguments = ["-s", synced.path, "log", "-f", "-n", "1"]
    with on_terminal(arguments, environment=through(pager)) as terminal:
        terminal.wait_for("@1 ")
        assert not terminal.plain.startswith("|")


@pytest.mark.parametrize("quitting", ["head -n 3", "true", "sed 3q; exit 5"])
def test_leaving_the_pager_early_ends_the_command_in_silence(synced: Host, quitting: str) -> None:
    """With 0: whoever has seen enough has made no mistake."""
    arguments = ["-s", synced.path, "log"]
    with on_terminal(arguments, environment=through(quitting)) as terminal:
        assert terminal.end() == 0
    assert "eventstore:" not in terminal.plain
    assert len(terminal.plain.splitlines()) <= 3


def test_an_error_before_any_output_starts_no_pager(synced: Host, pager: Path) -> None:
    """It is one line on the terminal, and has its exit code."""
    with on_terminal(["-s", synced.path, "show", "f" * 12], environment=through(pager)) as terminal:
        assert terminal.end() == 1
    assert terminal.plain.startswith("eventstore: ")
    assert not (pager.parent / "less").exists()


def test_a_pager_that_the_shell_cannot_run_is_told(synced: Host) -> None:
    """Its output is lost, so that is an error."""
    environment = through("LESS=R no-such-pager")
    with on_terminal(["-s", synced.path, "log"], environment=environment) as terminal:
        assert terminal.end() == 2
    assert "cannot be run" in terminal.plain


@needs_less
def test_less_shows_a_screen_and_is_left_with_q(synced: Host) -> None:
    """The first page, in colours, a prompt; after q nothing more, and 0."""
    with on_terminal(["-s", synced.path, "log"], environment={}) as terminal:
        terminal.wait_for("@413", last=":")
        assert "\x1b[1m" in terminal.text
        assert "@300 " not in terminal.plain
        terminal.type("q")
        assert terminal.end() == 0
    assert "@300 " not in terminal.plain
    assert "eventstore:" not in terminal.plain


@needs_less
def test_less_shows_what_is_short_at_once(synced: Host) -> None:
    """What fits on the screen needs no key."""
    with on_terminal(["-s", synced.path, "log", "-n", "2"]) as terminal:
        assert terminal.end() == 0
    assert "@412" in terminal.plain


SHOWS_ALL = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: print("caught", flush=True))
sys.stdout.write(sys.stdin.read())
print("shown", flush=True)
with open("/dev/tty") as keys:
    keys.readline()
print("left", flush=True)
"""
READS_NOTHING = SHOWS_ALL.replace("sys.stdout.write(sys.stdin.read())\n", "")


def patient(script: str) -> dict[str, str]:
    """Return what makes a script the pager: it says when it is interrupted, and waits for a key."""
    return through(f"{shlex.quote(sys.executable)} -c {shlex.quote(script)}")


def test_the_pager_survives_an_interrupt(synced: Host) -> None:
    """Ctrl-C is its own affair: the command waits until it is left, and has done nothing wrong."""
    arguments = ["-s", synced.path, "ls", "-a"]
    with on_terminal(arguments, environment=patient(SHOWS_ALL)) as terminal:
        terminal.wait_for("shown\n")
        terminal.type("\x03")
        terminal.wait_for("caught")
        terminal.type("\n")
        assert terminal.end() == 0
    assert terminal.plain.endswith("left\n")


def test_a_terminated_command_waits_for_its_pager_as_git_does(synced: Host) -> None:
    """Nobody is left with a terminal that a forgotten pager reads; the code tells what came."""
    arguments = ["-s", synced.path, "log"]
    with on_terminal(arguments, environment=patient(SHOWS_ALL)) as terminal:
        terminal.wait_for("shown\n")
        terminal.process.terminate()
        terminal.type("\n")
        assert terminal.end() == 143
    assert "left\n" in terminal.plain
    assert "Traceback" not in terminal.plain


# Prints more than a pipe holds, so that it waits for whoever reads.
ENDLESS = """
import sys
from eventstore.cli import layout
from eventstore.__main__ import main
layout.pieces = lambda *pieces, cut: sys.stdout.write("x" * 100_000)
sys.exit(main())
"""


def test_an_interrupt_before_all_is_printed_ends_the_command(synced: Host) -> None:
    """When the pager is left, which reads nothing here; what is not printed yet is dropped."""
    environment = patient(READS_NOTHING)
    arguments = ["-s", synced.path, "log"]
    with on_terminal(arguments, environment=environment, program=("-c", ENDLESS)) as terminal:
        terminal.wait_for("shown\n")
        terminal.type("\x03")
        terminal.wait_for("caught")
        terminal.type("\n")
        assert terminal.end() == 130
    assert terminal.plain.index("left\n") < terminal.plain.index("eventstore: interrupted")
