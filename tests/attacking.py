"""Run an attack of `tools/` as its users do, in a process of its own, and read its verdict.

The last line of every attack is `COUNTS, N violations, S s (OPTIONS)`. Its counts are, by example::

    150 operations, 9 killed (inside)    operations 150; killed (inside) 9
    36 of 400 faults                     faults 36; faults, of 400
    work went on in 20 of 21             work went on in 20; work went on in, of 21
    4 trials in 3 places                 trials 4; places 3
    9 damages (7 of entries; 2 of X)     damages 9; of entries 7; of X 2
    5 flips and 2 others of entries      flips of entries 5; others of entries 2
    nothing                              none
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store import children

TOOLS = Path(__file__).resolve().parent.parent / "tools"
IN_MEMORY = "/dev/shm"
SECONDS_MAX, SECONDS_TO_END_MAX = 300, 10
_LAST_LINE = re.compile(r"(.*), (\d+) violations, \d+ s \(.*\)")
_IN_BRACKETS = re.compile(r" \((\d[^()]*)\)")
_TWO_OF_ONE = re.compile(r"(\d+ [a-z]+) and (\d+ [a-z]+)( of [^,;]+)")
_BETWEEN = re.compile(r", |; | in (?=\d+ (?!of \d))")
_COUNT = re.compile(r"(?P<number>\d+)(?: of (?P<all>\d+))? (?P<name>(?!of \d)\D.*)")
_SHARE = re.compile(r"(?P<name>\D+) (?P<number>\d+) of (?P<all>\d+)")


@dataclass(frozen=True)
class Verdict:
    """What an attack said.

    Attributes:
        code: its exit code.
        counts: those of its last line, with the violations, by their names.
        lines: all that it printed.
    """

    code: int
    counts: dict[str, int]
    lines: list[str]

    def stood(self) -> dict[str, int]:
        """Make sure that the attack found nothing, and return what it tried."""
        assert (self.code, self.counts["violations"]) == (0, 0)
        return self.counts

    def caught(self) -> int:
        """Make sure that the attack found something, and return how many violations."""
        assert self.code == 1
        assert self.counts["violations"] > 0
        return self.counts["violations"]


def attack(tool: str, *arguments: object, in_memory: bool = True) -> Verdict:
    """Run `tools/TOOL`, which must end in time and say in its last line what it tried.

    All that it says is printed again, so that pytest shows it when a test fails.

    Args:
        tool: the name of its file.
        arguments: of its command line.
        in_memory: let its temporary files lie in memory, where that is possible here.
    """
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
    if in_memory and os.access(IN_MEMORY, os.W_OK):
        environment["TMPDIR"] = IN_MEMORY
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        said, complaint = process.communicate(timeout=SECONDS_MAX)
    except BaseException:
        _end(process)
        print(*command, *process.communicate(), sep="\n")
        raise
    print(*command, said, complaint, f"exit code {process.returncode}", sep="\n")
    lines = said.splitlines()
    return Verdict(process.returncode, counts_of(lines[-1] if lines else ""), lines)


def _end(process: subprocess.Popen[str]) -> None:
    """End an attack and all that it has started; first it may take back what it has mounted."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END_MAX)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def counts_of(line: str) -> dict[str, int]:
    """Return the counts of an attack's last line; each part of it must be one."""
    found = _LAST_LINE.fullmatch(line)
    assert found is not None, f"no verdict: {line!r}"
    counts = {"violations": int(found[2])}
    tried = _TWO_OF_ONE.sub(r"\1\3, \2\3", _IN_BRACKETS.sub(r", \1", found[1]))
    for part in _BETWEEN.split(tried):
        if part in ("", "nothing"):
            continue
        count = _COUNT.fullmatch(part) or _SHARE.fullmatch(part)
        assert count is not None, f"no count: {part!r} in {line!r}"
        name = count["name"]
        assert name not in counts, f"{name!r} is counted twice in {line!r}"
        counts[name] = int(count["number"])
        if count["all"] is not None:
            counts[f"{name}, of"] = int(count["all"])
    return counts


def stood(tool: str, *arguments: object, in_memory: bool = True) -> dict[str, int]:
    """Run an attack that must find nothing, and return what it tried."""
    return attack(tool, *arguments, in_memory=in_memory).stood()


def caught(tool: str, *arguments: object, in_memory: bool = True) -> int:
    """Run an attack on a weakened store, which it must find out; return the violations."""
    return attack(tool, *arguments, in_memory=in_memory).caught()
