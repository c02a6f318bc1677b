"""Run short scripts in processes of their own: for forks, kills and whatever could hang.

A script has `path` (its first argument), `config(name)`, `say(…)`, `outcome(call)` and
`wait_until(condition)`. One that hangs is ended after 20 s and says on stderr where it hung.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PREAMBLE = """
import faulthandler, logging, os, signal, subprocess, sys, threading, time
from eventstore import *
faulthandler.dump_traceback_later(20, exit=True)
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


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script."""
    return [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)]


def run(script: str, *arguments: object) -> list[str]:
    """Run a script, which must end well and complain of nothing; return the lines that it said."""
    done = subprocess.run(
        command(script, *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


@contextmanager
def started(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a script, wait until it has said its first line, and kill it when the block ends."""
    process = subprocess.Popen(command(script, *arguments), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()
