"""Show what is longer than a screen in the user's pager, as git does.

The pager is EVENTSTORE_PAGER, else PAGER, else `less`; empty or `cat` mean none. There is none
either where standard output is no terminal or a dumb one, with --json, --follow and --no-pager, or
where the pager is not installed: then everything is printed as it is. LESS is set to FRX unless it
is set: what fits on the screen stays there, colours are shown.

The pager starts with the first byte that is printed, so an error that comes before any output
needs none. What a command prints stays laid out and coloured for the terminal. Quitting the pager
ends the command in silence, with exit code 0: whoever quits has seen enough. What goes wrong half
way is told when the pager is left.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_VARIABLES = ("EVENTSTORE_PAGER", "PAGER")
_DEFAULT = "less"
# What git hands to a shell, and does not look up itself.
_FOR_A_SHELL = re.compile(r"[|&;<>()$`\\\"'\n*?\[#~=%]")
_NOT_RUN = (126, 127)  # of a shell: the command cannot be run, or is not there
_P = ParamSpec("_P")
_R = TypeVar("_R")


def paged(command: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """Let a command print through the pager, where there is one."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        if kwargs.get("as_json") or kwargs.get("follow"):
            return command(*args, **kwargs)
        found = _pager()
        if found is None:
            return command(*args, **kwargs)
        with _through(found):
            return command(*args, **kwargs)

    return run


def _pager() -> str | None:
    """Return the command of the pager, None if there is to be none."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    if click.get_current_context().find_root().params.get("no_pager"):
        return None
    named = (os.environ.get(variable) for variable in _VARIABLES)
    found = next((pager for pager in named if pager is not None), _DEFAULT).strip()
    if found in ("", "cat"):
        return None
    if not _FOR_A_SHELL.search(found) and shutil.which(found.split()[0]) is None:
        return None
    return found


class _Pager(io.RawIOBase):
    """The standard input of a pager that is started with the first byte; a terminal to who asks.

    Attributes:
        quit: it was left before it had everything; what is written from then on is dropped.
    """

    def __init__(self, command: str) -> None:
        super().__init__()
        self.quit = False
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._dropping = False

    def isatty(self) -> bool:
        """Say yes: what is written is laid out and coloured for a terminal."""
        return True

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        """Hand bytes to the pager.

        Raises:
            BrokenPipeError: it has been left.
        """
        if self._dropping:
            return memoryview(content).nbytes
        if self._process is None:
            environment = {"LESS": "FRX", "LV": "-c", **os.environ}
            self._process = subprocess.Popen(  # noqa: S602  it is the user's own command line
                self._command,
                shell=True,
                stdin=subprocess.PIPE,
                bufsize=0,
                env=environment,
            )
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(content) or 0
        except BrokenPipeError:
            self.quit = True
            self.drop()
            raise

    def drop(self) -> None:
        """Let nothing of what is still to be written reach the pager, nor wait for it."""
        self._dropping = True

    def wait(self) -> None:
        """Wait until the user leaves the pager, whatever signals come: the terminal is its own.

        Raises:
            KeyboardInterrupt: SIGTERM has come meanwhile; an interrupt was the pager's affair.
            click.UsageError: the shell could not run it.
        """
        self.drop()
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        terminated: KeyboardInterrupt | None = None
        while self._process.returncode is None:
            try:
                self._process.wait()
            except KeyboardInterrupt as error:
                if type(error) is not KeyboardInterrupt:
                    terminated = error
        if terminated is not None:
            raise terminated
        if self._process.returncode in _NOT_RUN:
            raise click.UsageError(f"the pager {self._command!r} cannot be run")


@contextmanager
def _through(command: str) -> Generator[None]:
    """Send what is printed in the block through a pager, and wait until that is left."""
    pager = _Pager(command)
    text = io.TextIOWrapper(
        io.BufferedWriter(pager), encoding=sys.stdout.encoding, errors=sys.stdout.errors
    )
    try:
        with redirect_stdout(text):
            try:
                yield
                text.flush()
            except Exception:  # no interrupt, after which nothing more is shown
                with suppress(BrokenPipeError):
                    text.flush()
                raise
    except BrokenPipeError:
        if not pager.quit:
            raise
    finally:
        pager.wait()
        text.close()
