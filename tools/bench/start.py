"""Time what a user waits for before anything happens: the import, and `eventstore --help`.

Whole processes, one by one and turn by turn. The import is shown as the wall time of the whole
process, and less that of an interpreter that does nothing. Floor: the import of the two libraries
it stands on. All is run from bytecode, as what is installed is, whatever the environment says:
compiling the sources again at each start, as `PYTHONDONTWRITEBYTECODE` has it in a checkout, takes
as long as all the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

import runner
from runner import Bound, Result, Settings, Work

COMMANDS = {
    "nothing": ["-c", "pass"],
    "parts": ["-c", "import lmdb, msgspec"],
    "library": ["-c", "import eventstore"],
    "help": ["-m", "eventstore", "--help"],
    "click": ["-c", "import eventstore, click"],
}
TAKES_MIN = 11


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """Run Python with these arguments."""
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )


def from_bytecode(folder: str) -> dict[str, str]:
    """Return an environment in which bytecode is kept below a folder, and used."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": folder}


def measure(settings: Settings) -> Result:
    """Measure all commands, turn by turn."""
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        return _measure(from_bytecode(folder), max(settings.takes, settings.pick(TAKES_MIN, 25)))


def _measure(environment: dict[str, str], takes: int) -> Result:
    """Measure all commands in an environment, turn by turn."""
    result = Result("start")
    commands = dict(COMMANDS)
    tried = subprocess.run(
        [sys.executable, *commands["help"]], check=False, capture_output=True, env=environment
    )
    if tried.returncode != 0:
        del commands["help"], commands["click"]
        result.notes.append(f"--help is left out: {tried.stderr.decode().strip()}")
    cases: dict[str, Work] = {
        name: partial(run, arguments, environment) for name, arguments in commands.items()
    }
    seconds = runner.take(cases, takes)
    less = {
        name: [one - other for one, other in zip(spent, seconds["nothing"], strict=True)]
        for name, spent in seconds.items()
    }
    nothing = ("python -c pass", seconds["nothing"])
    result.rows = [
        runner.cost(
            "import eventstore, less the interpreter",
            less["library"],
            beside=("import lmdb, msgspec", less["parts"]),
            bound=Bound("<", 60),
        ),
        runner.cost(
            "import eventstore, whole process",
            seconds["library"],
            beside=nothing,
        ),
    ]
    if "help" in seconds:
        result.rows.append(
            runner.cost(
                "eventstore --help, whole process",
                seconds["help"],
                beside=("import eventstore, click", seconds["click"]),
                bound=Bound("<", 250),
            )
        )
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
