"""Time what a user waits for before anything happens: the import, and `eventstore --help`.

Whole processes, turn by turn. The import is shown as the wall time of the whole process, and less
that of an interpreter that does nothing. Floor: the import of the two libraries it stands on.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import runner
from runner import Bound, Result, Settings, Work

COMMANDS = {
    "nothing": ["-c", "pass"],
    "parts": ["-c", "import lmdb, msgspec"],
    "library": ["-c", "import eventstore"],
    "help": ["-m", "eventstore", "--help"],
}


def run(arguments: list[str], times: int) -> None:
    """Run Python a few times with these arguments."""
    for _ in range(times):
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def measure(settings: Settings) -> Result:
    """Measure all commands, turn by turn."""
    each = settings.pick(2, 5)
    result = Result("start")
    commands = dict(COMMANDS)
    tried = subprocess.run([sys.executable, *commands["help"]], check=False, capture_output=True)
    if tried.returncode != 0:
        del commands["help"]
        result.notes.append(f"--help is left out: {tried.stderr.decode().strip()}")
    cases: dict[str, Work] = {
        name: partial(run, arguments, each) for name, arguments in commands.items()
    }
    seconds = runner.take(cases, settings.takes)
    less = {
        name: [one - other for one, other in zip(spent, seconds["nothing"], strict=True)]
        for name, spent in seconds.items()
    }
    nothing = ("python -c pass", seconds["nothing"])
    result.rows = [
        runner.cost(
            "import eventstore, less the interpreter",
            less["library"],
            count=each,
            beside=("import lmdb, msgspec", less["parts"]),
            bound=Bound("<", 60),
        ),
        runner.cost(
            "import eventstore, whole process",
            seconds["library"],
            count=each,
            beside=nothing,
        ),
    ]
    if "help" in seconds:
        result.rows.append(
            runner.cost(
                "eventstore --help, whole process",
                seconds["help"],
                count=each,
                beside=nothing,
                bound=Bound("<", 250),
            )
        )
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
