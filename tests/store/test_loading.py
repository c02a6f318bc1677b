"""Hold what the import of the library, and the command's help, load: no more than all need.

How long they take is measured in `tools/bench/start.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PARTS = "import json, sys, lmdb, msgspec"
TELL = "print(json.dumps(sorted(sys.modules)))"
HELP = """
import contextlib, io
from eventstore.__main__ import main
sys.argv = ["eventstore", "--help"]
with contextlib.redirect_stdout(io.StringIO()):
    assert main() == 0
"""


def loaded(program: str) -> set[str]:
    """Return the modules that a program loads beyond those of the parts it stands on."""
    found: list[set[str]] = []
    for text in (f"{PARTS}\n{TELL}", f"{PARTS}\n{program}\n{TELL}"):
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        )
        found.append(set(json.loads(done.stdout)))
    return found[1] - found[0]


def test_the_library_loads_nothing_that_only_few_uses_need() -> None:
    """Logging, temporary folders, archives and the network are loaded by whoever needs them."""
    beyond = loaded("import eventstore")
    assert "eventstore.store" in beyond
    assert not beyond & {"logging", "shutil", "tempfile", "socket", "getpass", "asyncio"}


def test_help_loads_nothing_that_only_other_commands_need() -> None:
    """What lays out tables, reads phrases and unpacks archives is not loaded to show a text."""
    pytest.importorskip("click")
    beyond = loaded(HELP)
    assert "eventstore.cli.main" in beyond
    assert not beyond & {"rich", "humanize", "dateparser", "tarfile", "importlib.metadata"}
    assert not beyond & {"eventstore.sync", "eventstore.sources.docker_imagedb"}
