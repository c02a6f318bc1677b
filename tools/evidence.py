"""Gather what an attack tried and what it found, and do dangerous things in processes of their own.

For the tools `opening.py` and `backups.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eventstore import EventStoreError

NOBODY = 65534
_OWN_MOUNTS = "EVENTSTORE_OWN_MOUNTS"
Fingerprint = dict[str, tuple[int, int, int, str]]


class EnoughError(Exception):
    """A weakened store was caught; there is no need to go on."""


class Evidence:
    """What was tried, with counts, and what was found."""

    def __init__(self, *, stop_at_first: bool) -> None:
        """Begin with nothing; `stop_at_first` ends the attack at the first violation."""
        self.began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self._stop = stop_at_first

    def tried(self, what: str, count: int = 1) -> None:
        """Count something that was really tried."""
        self.counts[what] += count

    def check(self, sound: object, text: str) -> None:
        """Note a violation, unless what must be true is true."""
        if not sound:
            self.violations[text] += 1
            if self._stop:
                raise EnoughError

    def not_tried(self, text: str) -> None:
        """Say what could not be tried here."""
        print(f"  not tried here: {text}")

    def close(self, options: str) -> int:
        """Print what was tried and found; return the exit code."""
        for text, count in self.violations.most_common(40):
            print(f"  {count:6}  {text}")
        said = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        found = self.violations.total()
        seconds = time.monotonic() - self.began
        print(f"{said or 'nothing'}, {found} violations, {seconds:.0f} s ({options})")
        return 1 if found else 0


class Outcome(NamedTuple):
    """How a call ended: the name of the class of the error and its text, or the value."""

    error: str
    text: str
    attributes: dict[str, Any]
    value: Any


def outcome(call: Callable[[], Any]) -> Outcome:
    """Do something and say how it ended; an error that is not ours is named with its module."""
    try:
        return Outcome("", "", {}, call())
    except EventStoreError as error:
        return Outcome(type(error).__name__, str(error), dict(vars(error)), None)
    except Exception as error:
        kind = type(error)
        return Outcome(f"{kind.__module__}.{kind.__name__}", str(error), {}, None)


def in_child(call: Callable[[], Any], *, user: int | None = None, seconds: float = 30) -> Outcome:
    """Do something in a child process, as another user if one is given; see how it ended.

    A child that hangs is ended, and its outcome is then the error `hung`; one that is killed by a
    signal has the error `killed`. Values and attributes must be JSON.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(call, user, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        os.set_blocking(pipe.fileno(), False)
        end = time.monotonic() + seconds
        said = b""
        while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
            said += pipe.read() or b""
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return Outcome("hung", f"no end after {seconds} s", {}, None)
            time.sleep(0.001)
        said += pipe.read() or b""
    if not os.WIFEXITED(found[1]) or not said:
        return Outcome("killed", f"wait status {found[1]}", {}, None)
    return Outcome(*json.loads(said))


def _answer(call: Callable[[], Any], user: int | None, writing: int) -> None:
    """Be the child."""
    code = 1
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        said = json.dumps(outcome(call), default=repr).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(said)
        code = 0
    finally:
        os._exit(code)


def fingerprint(folder: Path) -> Fingerprint:
    """Return the names, kinds, modes, times and contents of all that lies in a folder."""
    found: Fingerprint = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        name = str(path.relative_to(folder))
        # A folder's own time and size change when something comes and goes again in it.
        folder_like = stat.S_ISDIR(status.st_mode)
        size, changed = (0, 0) if folder_like else (status.st_size, status.st_mtime_ns)
        found[name] = (status.st_mode, size, changed, content)
    return found


def with_own_mounts() -> bool:
    """Begin this program again where its mounts are its own, if it may mount; tell whether it may.

    What is mounted there is gone when the program ends, however it ends.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    if os.environ.get(_OWN_MOUNTS) is None:
        probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
        if probe.returncode != 0:
            return False
        environment = {**os.environ, _OWN_MOUNTS: "yes"}
        os.execvpe("unshare", ["unshare", "--mount", sys.executable, *sys.argv], environment)
    return True


@contextmanager
def mounted(point: Path, *arguments: str) -> Generator[bool]:
    """Mount something for the length of a block; tell whether it was allowed.

    Args:
        point: a folder, made if it is missing.
        arguments: of `mount`, before the folder.
    """
    point.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        yield False
        return
    done = subprocess.run(["mount", *arguments, point], capture_output=True, check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", point], check=True)
