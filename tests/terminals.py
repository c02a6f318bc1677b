"""Run the command on a pseudo-terminal that is its controlling one, as a user has it.

What comes out is collected as it comes; what is typed goes in when something has been seen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from store import children

SECONDS_MAX = 30.0
# Makes the terminal the controlling one, so that a pager finds /dev/tty and an interrupt is a key;
# who runs the tests in the background may have interrupts ignored.
_LAUNCHER = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0);"
    " signal.signal(signal.SIGINT, signal.SIG_DFL);"
    " os.execv(sys.executable, [sys.executable, '-P', *sys.argv[2:]])"
)
_CLEARED = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "LESS", "PAGER", "COLUMNS", "LINES")
_TOKEN = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\r\n]|[^\x1b\r\n]+)")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[=>])")


class Terminal:
    """A process on a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process = process
        self.raw = b""
        self._handle = handle

    @property
    def text(self) -> str:
        """What came out so far, with its colours, a line feed at the end of a line."""
        return self.raw.decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def plain(self) -> str:
        """What came out so far, without escape sequences."""
        return _ESCAPE.sub("", self.text)

    @property
    def rows(self) -> list[str]:
        """What is to be seen, a row a line, as far as moving up and erasing lines go."""
        rows, row, column = [""], 0, 0
        for count, command, text in _TOKEN.findall(self.text):
            if command == "A":
                row -= int(count or 1)
            elif command == "K":
                rows[row] = ""
            elif text == "\r":
                column = 0
            elif text == "\n":
                row, column = row + 1, 0
                rows += [""] * (row == len(rows))
            elif text:
                rows[row] = (
                    rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
                )
                column += len(text)
        return [found.rstrip() for found in rows if found.strip()]

    def wait_for(self, expected: str, *, last: str = "") -> None:
        """Read until something has come out, and something is the last that did.

        Raises:
            AssertionError: it does not come.
        """
        end = time.monotonic() + SECONDS_MAX
        while expected not in self.plain or not self.plain.endswith(last):
            assert self._read(end), (expected, self.plain)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._handle, keys.encode())

    def end(self) -> int:
        """Read until all is said, and return the exit code."""
        end = time.monotonic() + SECONDS_MAX
        while self._read(end):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, end: float) -> bool:
        """Read once; return whether there may be more."""
        ready, _, _ = select.select([self._handle], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"it hangs: {self.plain!r}"
        try:
            part = os.read(self._handle, 1 << 16)
        except OSError:
            return False  # Linux says EIO when the other end has gone.
        self.raw += part
        return bool(part)


@contextmanager
def on_terminal(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    columns: int = 80,
    lines: int = 24,
    output: Path | None = None,
    program: Sequence[str] = ("-m", "eventstore"),
) -> Generator[Terminal]:
    """Start the command on a terminal; end it, and what it started, at the end of the block.

    Args:
        arguments: of the command.
        environment: what it has beside the present one; pagers and colours are not set.
        columns: of the terminal.
        lines: of the terminal.
        output: where standard output goes instead.
        program: what Python runs.
    """
    whole = {key: value for key, value in os.environ.items() if key not in _CLEARED}
    whole |= {"PYTHONPATH": children.PACKAGE, "TERM": "xterm-256color", **(environment or {})}
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    command = [sys.executable, "-c", _LAUNCHER, "0", *program, *map(str, arguments)]
    out = child if output is None else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    process = subprocess.Popen(
        command, stdin=child, stdout=out, stderr=child, env=whole, start_new_session=True
    )
    for handle in {child, out}:
        os.close(handle)
    try:
        yield Terminal(process, parent)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(parent)


def screen(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    columns: int = 80,
) -> Terminal:
    """Return a terminal on which the command has ended with exit code 0, without a pager."""
    unpaged = {"EVENTSTORE_PAGER": "cat", **(environment or {})}
    with on_terminal(arguments, environment=unpaged, columns=columns) as terminal:
        assert terminal.end() == 0, terminal.plain
    return terminal
