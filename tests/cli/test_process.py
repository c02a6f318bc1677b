"""Run the command as users do, as a process: exit codes, pipes, signals, terminals, nonsense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_types import Host
from eventstore import ImageStore
from making import config
from store.children import PACKAGE
from terminals import screen

COMMAND = [sys.executable, "-P", "-m", "eventstore"]


def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return how it ended; no traceback may ever be seen."""
    environment = {key: value for key, value in os.environ.items() if key != "EVENTSTORE_PATH"}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment | more,
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_store_is_named_before_or_after_the_command_or_in_the_environment(
    synced: Host,
) -> None:
    """All three ways give the same; the option wins over the environment."""
    after = run("ls", "-s", synced.path)
    assert after.returncode == 0
    assert run("--store", synced.path, "ls").stdout == after.stdout
    assert run("ls", EVENTSTORE_PATH=str(synced.path)).stdout == after.stdout
    assert run("ls", "-s", synced.path, EVENTSTORE_PATH="/nowhere").stdout == after.stdout
    missing = run("ls")
    assert missing.returncode == 2
    assert "EVENTSTORE_PATH" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["ls", "--help"], 0),
        ([], 2),
        (["frobnicate"], 2),
        (["ls", "--frobnicate"], 2),
        (["show"], 2),
        (["log", "-n", "-1"], 2),
        (["log", "-f", "--until", "now"], 2),
        (["diff"], 2),
        (["show", "0000000000000000"], 1),
        (["show", "zzz"], 1),
        (["show", "é\x1b[31m"], 1),
        (["search", "sha256:"], 1),
    ],
)
def test_exit_codes_are_those_that_are_documented(
    synced: Host, arguments: list[str], code: int
) -> None:
    """Whatever is wrong is one line on standard error, with the next step; then what a term means.

    A term that means several images is followed by a line for each.
    """
    done = run("-s", synced.path, *arguments)
    assert done.returncode == code
    if code and arguments:
        first, *rest = done.stderr.splitlines()
        assert first.startswith("eventstore: ")
        assert bool(rest) == ("more than one image" in first)
        assert all(line.startswith("  ") for line in rest)
        assert "\x1b" not in done.stderr


def test_damage_ends_with_4_and_is_named(host: Host) -> None:
    """A damaged file is never taken for an empty store."""
    with open(host.path / "data.mdb", "r+b") as file:
        file.write(b"\xff" * 8192)
    for command in ("ls", "info"):
        done = run(command, "-s", host.path)
        assert done.returncode == 4, done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = run("verify", "-s", host.path)
    assert (done.returncode, done.stderr) == (4, "")
    assert "structure: " in done.stdout


@pytest.mark.parametrize("command", ["backup", "restore", "salvage"])
def test_where_there_is_no_room_for_a_copy_the_copy_is_named(
    synced: Host, tmp_path: Path, command: str
) -> None:
    """Not the store, whose disk may have room, nor the name that the copy had before it had any."""
    target = tmp_path / "copy"
    arguments = [target, "-s", synced.path] if command == "backup" else [synced.path, target]
    limited = (
        "import resource, sys; from eventstore.__main__ import main;"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17)); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", limited, command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == (
        f"eventstore: {target}: there is no room for it:"
        " nothing was changed: make room and run it again\n"
    )
    assert os.listdir(tmp_path) == []


def test_an_interrupt_while_the_command_is_loaded_is_one_line(tmp_path: Path) -> None:
    """It takes some tenths of a second to load; nobody wants to read through its imports."""
    tmp_path.joinpath("click.py").write_text("raise KeyboardInterrupt")
    done = run("info", PYTHONPATH=os.pathsep.join((str(tmp_path), PACKAGE)))
    assert done.returncode == 130
    assert done.stderr == "eventstore: interrupted; nothing was done yet\n"


def test_a_reader_that_goes_away_ends_the_command_in_silence(synced: Host) -> None:
    """As in `eventstore log | head -n 1`."""
    piped = subprocess.Popen(
        [*COMMAND, "log", "--json", "-s", synced.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert piped.stdout is not None
    assert piped.stderr is not None
    piped.stdout.read(1)
    piped.stdout.close()
    assert piped.stderr.read() == b""
    piped.stderr.close()
    assert piped.wait() == 141


def test_follow_shows_what_other_processes_write_until_it_is_interrupted(tmp_path: Path) -> None:
    """The stream is live, and an interrupt is one line and 130."""
    path = tmp_path / "store"
    with ImageStore.open(path) as store:
        store.create(config("before"))
        following = subprocess.Popen(
            [*COMMAND, "log", "--follow", "--json", "-s", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None
        assert '"position":1,' in following.stdout.readline()
        store.create(config("after"))
        assert '"position":2,' in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=20)
    assert following.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "-a"], ["tree"], ["diff", "@206"]])
def test_listings_fit_a_terminal_of_80_columns(synced: Host, arguments: list[str]) -> None:
    """Nothing wraps, and ids are whole."""
    plain = screen([*arguments, "-s", synced.path], columns=80).plain.splitlines()
    assert plain
    assert [line for line in plain if len(line) > 80] == []
    if arguments[0] == "ls":
        assert plain[0].split()[-1] == "NAMES"


def test_nothing_of_a_store_steers_the_terminal(tmp_path: Path) -> None:
    """Escapes in actors, reasons and configs are shown, not obeyed."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\nforged"
    path = tmp_path / "store"
    with ImageStore.open(path, actor=evil) as store:
        raw = config(evil).replace(b'"linux"', b'"linux\\u001b[31m"')
        image_id = store.create(raw, reason=evil)
    for arguments in (["ls"], ["log"], ["show", image_id], ["tree"]):
        done = run(*arguments, "-s", path)
        assert done.returncode == 0
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(done.stdout)
        assert "\nforged" not in done.stdout


@pytest.mark.slow
def test_a_killed_sync_leaves_all_or_nothing(synced: Host, tmp_path: Path) -> None:
    """Killed at any time, the store is sound, and holds the host whole or not at all."""
    for number in range(12):
        path = tmp_path / f"store-{number}"
        process = subprocess.Popen([*COMMAND, "sync", synced.roots[0], "-s", path])
        time.sleep(0.15 + 0.03 * number)
        process.kill()
        process.wait()
        if not (path / "data.mdb").exists():
            continue
        with ImageStore.open(path) as store:
            assert len(store) in (0, 94)
            assert list(store.verify()) == []


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    """The core installs without the command's libraries."""
    blocked = tmp_path / "click.py"
    blocked.write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), PACKAGE))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "eventstore", "ls"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 3
    assert "image-eventstore[cli]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["click", "rich", "humanize", "dateparser"])
def test_a_part_that_is_not_installed_is_named_before_anything_is_done(
    missing: str, tmp_path: Path
) -> None:
    """A command that needs only some parts, too, must not find out half way that one is missing."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None;"
        " from eventstore.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--store", tmp_path / "store", "info"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert f"the command needs '{missing}'" in done.stderr
    assert "pip install 'image-eventstore[cli]'" in done.stderr
