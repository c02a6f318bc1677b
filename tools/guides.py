"""Run the guides of README.md as a reader does, and hold what comes against what they show.

A guide is a section with `console` blocks. What stands behind `$ ` in them is run by one `sh` in an
empty folder, with the command on its path; a `python` block whose first line is `# NAME` is saved
as that file. The lines below a command must be what it says, both streams together, and a command
must end with 0 unless `echo $?` is next. `<!-- $ … -->` is run unseen, and must end with 0.

What cannot be the same twice is masked, and nothing else: times between the start and the end of
the run, ages, the name of the host, the folder, how long pytest took, the size of a store's file;
and store ids, root hashes, keys and signatures, of which it must still be the same that are equal.
Where an age or a host's name can move columns, spaces between columns do not count.

    tools/guides.py            run all guides, and say what differs
    tools/guides.py --write    put what came into those that differ; read the difference then
"""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
README = TOP / "README.md"
SECONDS_MAX = 120
# What the guides show of the reader and of the run.
USER, HOST, FOLDER = "ann", "laptop", "/tmp/tour"
DAY = datetime(2026, 11, 27, 9, tzinfo=UTC)

_UNSEEN = re.compile(r"<!-- \$ (.*) -->")
_MARK = "=== that command has ended with"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
_UNIT = r"(?:second|minute|hour|day|week|month|year)s?"
_AGE = re.compile(rf"\ba moment\b|\b(?:an?|\d+) {_UNIT}\b(?:, \d+ {_UNIT}\b)?")
_UNIQUE = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a store's id
    r"|(?<=root hash )[0-9a-f]{64}\b|(?<=\")[0-9a-f]{64}(?=\")|^[A-Za-z0-9+/]{43}=$"
    r"|\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43,}=*"  # a public key
    r"|(?<=\(key )[0-9a-f]{8}(?=\)$)|(?<= )[A-Za-z0-9+/]{80,}=*$"  # a key's hash, a signature
)
_SIZE = re.compile(r"(?<=, )[\d.]+ [KM]iB$|(?<=^size on disk: )[\d.]+ [KM]iB$")
_DURATION = re.compile(r"(?<= in )\d+\.\d\ds")


@dataclass(frozen=True)
class Command:
    """A command of a guide, and where the README shows what it says.

    Attributes:
        text: what the shell is given.
        number: the line of the README, from 1, at which it ends.
        end: that of the last line of what it says; None if that is not shown.
    """

    text: str
    number: int
    end: int | None


@dataclass(frozen=True)
class File:
    """A file that a guide lets its reader save."""

    name: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    lines: list[str]
    status: int


@dataclass
class Masks:
    """What is masked on one side; equal ids stay equal, by the order in which they come."""

    known: dict[str, str] = field(default_factory=dict)

    def apply(self, lines: Sequence[str]) -> list[str]:
        """Return lines with all masked that may differ; times and the host are plain by then."""
        text = [
            _DURATION.sub("<duration>", _SIZE.sub("<size>", _UNIQUE.sub(self._named, line)))
            for line in lines
        ]
        if any(_AGE.search(line) or HOST in line for line in text):
            text = [re.sub(r"(?<=[\w-]) {2,}", "  ", line) for line in text]
        return [_AGE.sub("<age>", line).rstrip() for line in text]

    def _named(self, match: re.Match[str]) -> str:
        return self.known.setdefault(match[0], f"<unique {len(self.known) + 1}>")


def guides(readme: str) -> dict[str, list[Command | File]]:
    """Return what is to be done in each guide, in order, by heading."""
    lines = readme.splitlines()
    found: dict[str, list[Command | File]] = {}
    steps: list[Command | File] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if re.match("##? ", line):
            steps = found.setdefault(line.lstrip("# "), [])
        elif unseen := _UNSEEN.fullmatch(line):
            steps.append(Command(unseen[1], number, None))
        elif line.startswith("```"):
            end = lines.index("```", number)
            if line == "```console":
                steps += _commands(lines, number, end)
            elif line == "```python" and lines[number].startswith("# "):
                steps.append(File(lines[number][2:], "\n".join(lines[number:end]) + "\n"))
            number = end + 1
    return {heading: steps for heading, steps in found.items() if steps}


def _commands(lines: Sequence[str], first: int, end: int) -> Iterator[Command]:
    """Iterate over the commands of a block; one that ends with a backslash goes on."""
    number = first
    while number < end:
        if not lines[number].startswith("$ "):
            raise ValueError(f"line {number + 1}: a block must begin with a command")
        words = [lines[number][2:]]
        while words[-1].endswith("\\"):
            number += 1
            words.append(lines[number])
        number += 1
        shown = number
        while number < end and not lines[number].startswith("$ "):
            number += 1
        yield Command("\n".join(words), shown, number)


def script(steps: Sequence[Command | File]) -> str:
    """Return what `sh` runs: all steps, with a mark and the status behind each command."""
    parts = ["exec 2>&1\n"]
    for step in steps:
        if isinstance(step, File):
            parts.append(f"cat >{shlex.quote(step.name)} <<'{_MARK}'\n{step.text}{_MARK}\n")
        else:
            parts.append(f"{step.text}\n_ended=$?; printf '\\n{_MARK} %d\\n' $_ended\n")
            parts.append("(exit $_ended)\n")
    return "".join(parts)


def run(steps: Sequence[Command | File], package: Path) -> list[Answer]:
    """Run a guide in an empty folder, with the command and its Python on the path.

    Args:
        steps: the guide.
        package: the folder from which `eventstore` is imported.
    """
    with tempfile.TemporaryDirectory(prefix="guide-") as outer:
        programs, folder = Path(outer, "programs"), Path(outer, "folder")
        programs.mkdir()
        folder.mkdir()
        _provide(programs)
        Path(outer, "guide.sh").write_text(script(steps), "utf-8")
        paths = (str(programs), str(Path(sys.executable).parent), os.defpath)
        environment = {
            "PATH": os.pathsep.join(paths), "PYTHONPATH": str(package), "HOME": outer,
            "LOGNAME": USER, "LANG": "C.UTF-8", "TZ": "UTC",
            "PYTHONUNBUFFERED": "1",  # both streams in order, as on a terminal
        }  # fmt: skip
        started = datetime.now(UTC)
        said = _run_shell(Path(outer, "guide.sh"), folder, environment)
        ended = datetime.now(UTC)
        return [
            Answer(_plain(answer.lines, folder, started, ended), answer.status)
            for answer in _answers(said)
        ]


def _provide(programs: Path) -> None:
    """Put the command where the path begins, unless it is installed beside this Python."""
    if not Path(sys.executable).with_name("eventstore").exists():
        command = programs / "eventstore"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m eventstore "$@"\n')
        command.chmod(0o755)


def _run_shell(path: Path, folder: Path, environment: dict[str, str]) -> str:
    """Run a script; end it, and what it left running, when it takes too long."""
    process = subprocess.Popen(
        ["sh", str(path)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=SECONDS_MAX)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def _answers(said: str) -> Iterator[Answer]:
    """Cut what the shell said at the marks."""
    begin = 0
    for match in re.finditer(rf"\n{_MARK} (\d+)\n", said):
        yield Answer(said[begin : match.start()].splitlines(), int(match[1]))
        begin = match.end()


def _plain(lines: Sequence[str], folder: Path, started: datetime, ended: datetime) -> list[str]:
    """Return lines as the README shows them: its folder, its host, the times of its run."""

    def shown(match: re.Match[str]) -> str:
        time = datetime.fromisoformat(match[0])
        if not started - timedelta(seconds=1) <= time <= ended:
            return match[0]
        return f"{DAY + (time - started):%Y-%m-%d %H:%M:%S}Z"

    host = re.compile(rf"@{re.escape(platform.node())}\b")
    return [
        _TIME.sub(shown, host.sub(f"@{HOST}", line.replace(str(folder), FOLDER))) for line in lines
    ]


def _without_times(lines: Sequence[str]) -> list[str]:
    """Mask the times of the run, which are those of its day."""
    day = f"{DAY:%Y-%m-%d}"
    return [
        _TIME.sub(lambda found: "<time>" if found[0].startswith(day) else found[0], line)
        for line in lines
    ]


def differences(
    readme: str, steps: Sequence[Command | File], answers: Sequence[Answer]
) -> list[str]:
    """Return what differs between what a guide shows and what came; nothing if it holds."""
    lines = readme.splitlines()
    commands = [step for step in steps if isinstance(step, Command)]
    found: list[str] = []
    shown, came = Masks(), Masks()
    for command, answer, following in zip(commands, answers, [*commands[1:], None], strict=False):
        where = f"line {command.number}: $ {command.text}"
        if command.end is not None:
            expected = shown.apply(_without_times(lines[command.number : command.end]))
            actual = came.apply(_without_times(answer.lines))
            if expected != actual:
                found += [where, *list(difflib.unified_diff(expected, actual, lineterm=""))[2:]]
        if answer.status and not (following and following.text.startswith("echo $?")):
            found += [where, f"ended with {answer.status}"]
    if len(answers) < len(commands):
        found.append(f"the shell ended or hung at: $ {commands[len(answers)].text}")
    return found


def written(readme: str, steps: Sequence[Command | File], answers: Sequence[Answer]) -> str:
    """Return the README with what came below each command of one guide."""
    lines = readme.splitlines()
    commands = [step for step in steps if isinstance(step, Command)]
    for command, answer in reversed(list(zip(commands, answers, strict=True))):
        if command.end is not None:
            lines[command.number : command.end] = [line.rstrip() for line in answer.lines]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all guides; end with 1 if one does not hold."""
    parser = argparse.ArgumentParser(description="Run the guides of README.md.")
    parser.add_argument("--write", action="store_true", help="put what came into the README")
    arguments = parser.parse_args()
    readme = README.read_text("utf-8")
    failed = False
    for heading in guides(readme):
        steps = guides(readme)[heading]
        answers = run(steps, TOP)
        found = differences(readme, steps, answers)
        failed = failed or bool(found)
        print(f"{heading}: {len(answers)} commands, {'differs' if found else 'holds'}")
        print("".join(f"{line}\n" for line in found), end="", flush=True)
        if found and arguments.write:
            readme = written(readme, steps, answers)
            README.write_text(readme, "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
