"""Run short scripts in processes of their own: for forks, kills and whatever could hang.

A script has `path` (its first argument), `config(name)`, `say(…)`, `outcome(call)` and
`wait_until(condition)`. One that hangs, or whose children do, is ended after 15 s, and what it
forked with it; its stacks go to stderr.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import eventstore

PREAMBLE = """
import faulthandler, logging, os, signal, subprocess, sys, threading, time
from eventstore import *
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(15)
logging.getLogger("eventstore").addHandler(logging.NullHandler())
path = sys.argv[1]
def config(name):
    return b'{"comment": "%s", "rootfs": {"type": "layers"}}' % str(name).encode()
def say(*words):
    os.write(1, b"%s\\n" % " ".join(map(str, words)).encode())
def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__
def wait_until(condition):
    while not condition():
        time.sleep(0.005)
"""

# The package that is under test here, checkout or wheel, is what scripts import.
PACKAGE = str(Path(str(eventstore.__file__)).parent.parent)


@contextmanager
def started(
    script: str, *arguments: object, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start a script, and kill it and all that it started when the block ends.

    Args:
        script: Python, behind the preamble.
        arguments: what it finds in `sys.argv`.
        before: a command that runs the script, in place of running it directly.
    """
    process = subprocess.Popen(
        [
            *before,
            sys.executable,
            "-Wignore::DeprecationWarning",
            "-P",
            "-c",
            PREAMBLE + script,
            *map(str, arguments),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def speaking(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Do as `started`, and wait until the script has said its first line."""
    with started(script, *arguments) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise AssertionError(process.communicate()[1])
        yield process


def run(script: str, *arguments: object) -> list[str]:
    """Run a script, which must end well and complain of nothing; return the lines that it said."""
    with started(script, *arguments) as process:
        said, complaint = process.communicate(timeout=60)
    assert (complaint, process.returncode) == ("", 0)
    return said.splitlines()
