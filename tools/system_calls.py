"""Trace a program with strace, and turn what it did to the files of a folder into operations.

Only what changes files or makes changes durable is kept, in the order in which the kernel ended it:
writes with their place and bytes, truncations, names that come and go, syncs, and what the program
said on standard output. A call that this reader cannot turn into one of these is an error, so that
no write of a later version of anything is overlooked. Calls that failed did nothing and are left
out, but those that strace made fail may stand for a disk that did a part of them: syncs and writes
of that kind are kept, as `failed`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
NAMES = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat")
OPENS = ("open", "openat", "creat")
SYNCS = ("fdatasync", "fsync")
SIZES = ("ftruncate", "fallocate")
UNKNOWN = (
    "truncate msync sync sync_file_range syncfs link linkat symlink symlinkat copy_file_range"
    " sendfile splice"
)
TRACED = (*WRITES, *NAMES, *OPENS, *SYNCS, *SIZES, *UNKNOWN.split(), "close", "lseek", "mmap")

_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$")
_DESCRIPTOR = re.compile(r"^(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)(?:>\(deleted\)|>)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH = re.compile(r'(?:(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>, )?"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True)
class Write:
    """Bytes that went into a file; with `durable`, they were on disk when the call returned."""

    path: str
    offset: int
    data: bytes
    durable: bool
    failed: bool = False


@dataclass(frozen=True)
class Resize:
    """A file got a length."""

    path: str
    size: int


@dataclass(frozen=True)
class Make:
    """A file or a folder got a name."""

    path: str
    folder: bool


@dataclass(frozen=True)
class Rename:
    """A name took the place of another."""

    path: str
    target: str


@dataclass(frozen=True)
class Remove:
    """A name went."""

    path: str


@dataclass(frozen=True)
class Sync:
    """A file, or the names in a folder, was brought to disk."""

    path: str
    failed: bool = False


@dataclass(frozen=True)
class Said:
    """The program wrote a line to its standard output."""

    text: str


Operation = Write | Resize | Make | Rename | Remove | Sync | Said


def tracer() -> str | None:
    """Return the path of an strace that may trace here, None if there is none."""
    found = shutil.which("strace")
    if found is None:
        return None
    tried = subprocess.run(
        [found, "-qq", "-e", "trace=none", "true"], check=False, capture_output=True
    )
    return found if tried.returncode == 0 and not tried.stderr else None


def trace(
    command: Sequence[str], folder: Path, into: Path, injections: Sequence[str] = ()
) -> list[Operation]:
    """Run a command, which must end well or by our kill; return what it did to a folder's files.

    Args:
        command: the program and its arguments.
        folder: paths outside of it are left out; it is an absolute path without links.
        into: a file for strace's own output.
        injections: calls that strace makes fail, in its own words.
    """
    found = tracer()
    if found is None:
        raise SystemExit("strace is needed (Debian: apt install strace), and leave to trace")
    options = ["-f", "-y", "-xx", "-s", "10000000", "-o", str(into)]
    options += [f"--inject={text}" for text in injections]
    there = {str(path) for path in folder.rglob("*")}
    ended = subprocess.run(
        [found, *options, "-e", "trace=" + ",".join(TRACED), *command],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    killed = any("signal=KILL" in text for text in injections)
    if ended.returncode != (-9 if killed else 0):
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}")
    with into.open(encoding="ascii") as lines:
        return list(_Reader(str(folder), there).operations(lines))


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class _Reader:
    """Reads strace's lines, and keeps what they do not say: offsets, flags, calls cut in two."""

    def __init__(self, folder: str, there: set[str]) -> None:
        self.folder = folder
        self.offsets: dict[int, int] = {}
        self.durable: set[int] = set()
        self.files = there

    def operations(self, lines: Iterator[str] | object) -> Iterator[Operation]:
        """Iterate over the operations that lines of strace stand for."""
        begun: dict[str, str] = {}
        assert hasattr(lines, "__iter__")
        for line in lines:
            found = _LINE.match(line)
            assert found is not None, line
            process, call = found[1], found[2]
            if call.endswith("<unfinished ...>"):
                begun[process] = call.removesuffix("<unfinished ...>").rstrip()
                continue
            resumed = _RESUMED.match(call)
            if resumed is not None:
                call = begun.pop(process) + resumed[1]
            parsed = _CALL.match(call)
            if parsed is None:
                continue
            if int(parsed[3]) >= 0:
                yield from self._call(parsed[1], parsed[2], int(parsed[3]), call)
            elif call.endswith("(INJECTED)"):
                yield from self._failed(parsed[1], parsed[2])

    def _failed(self, name: str, arguments: str) -> Iterator[Operation]:
        """Take in a call that was made to fail."""
        found = _DESCRIPTOR.match(arguments)
        if found is None or not self._inside(_unescaped(found[2]).decode()):
            return
        path = _unescaped(found[2]).decode()
        if name in SYNCS:
            yield Sync(path, failed=True)
        elif name == "pwrite64":
            data = b"".join(_unescaped(text) for text in _texts(arguments))
            yield Write(path, int(arguments.rsplit(", ", 1)[1]), data, durable=False, failed=True)
        else:
            raise AssertionError(f"what does a failed {name} leave?")

    def _call(self, name: str, arguments: str, result: int, call: str) -> Iterator[Operation]:
        if name in OPENS:
            yield from self._open(call, result)
        elif name in NAMES:
            yield from self._name(name, arguments)
        elif name not in ("close", "lseek", *WRITES, *SYNCS, *SIZES):
            if name == "mmap":
                strange = "PROT_WRITE" in arguments and "MAP_SHARED" in arguments
                strange = strange and self._inside(self._mapped(arguments))
                assert not strange or self._mapped(arguments).endswith("lock.mdb"), call[:200]
            else:
                assert self.folder not in str(_texts(arguments)), call[:200]
        else:
            yield from self._descriptor(name, arguments, result)

    def _mapped(self, arguments: str) -> str:
        found = re.search(r", \d+<((?:\\x[0-9a-f]{2})*)>", arguments)
        return "" if found is None else _unescaped(found[1]).decode()

    def _inside(self, path: str) -> bool:
        return path == self.folder or path.startswith(self.folder + "/")

    def _open(self, call: str, result: int) -> Iterator[Operation]:
        path = _unescaped(call.rsplit("<", 1)[1].split(">")[0]).decode()
        self.offsets[result] = 0
        self.durable.discard(result)
        if not self._inside(path):
            return
        if "O_DSYNC" in call or "O_SYNC" in call:
            self.durable.add(result)
        if "O_CREAT" in call and path not in self.files:
            self.files.add(path)
            yield Make(path, folder=False)
        if "O_TRUNC" in call:
            yield Resize(path, 0)

    def _name(self, name: str, arguments: str) -> Iterator[Operation]:
        paths = [
            str(Path(_unescaped(folder).decode(), _unescaped(text).decode()))
            for folder, text in _PATH.findall(arguments)
        ]
        if not self._inside(paths[0]):
            return
        if name.startswith("mkdir"):
            yield Make(paths[0], folder=True)
        elif name.startswith("rename"):
            for path in [path for path in self.files if path.startswith(paths[0])]:
                self.files.add(paths[1] + path.removeprefix(paths[0]))
                self.files.discard(path)
            yield Rename(paths[0], paths[1])
        else:
            self.files.discard(paths[0])
            yield Remove(paths[0])

    def _descriptor(self, name: str, arguments: str, result: int) -> Iterator[Operation]:
        found = _DESCRIPTOR.match(arguments)
        if found is None:
            return
        handle, path = int(found[1]), _unescaped(found[2]).decode()
        if name == "lseek":
            self.offsets[handle] = result
        elif name in WRITES:
            yield from self._write(name, arguments, handle, path, result)
        elif not self._inside(path):
            return
        elif name in SYNCS:
            yield Sync(path)
        elif name in SIZES:
            numbers = [int(number) for number in re.findall(r"(?<=, )\d+", arguments)]
            yield Resize(path, sum(numbers[-2:]) if name == "fallocate" else numbers[-1])

    def _write(
        self, name: str, arguments: str, handle: int, path: str, result: int
    ) -> Iterator[Operation]:
        data = b"".join(_unescaped(text) for text in _texts(arguments))[:result]
        if handle == 1:
            yield Said(data.decode())
        if name in ("write", "writev"):
            offset = self.offsets.get(handle, 0)
            self.offsets[handle] = offset + result
        else:
            offset = int(arguments.rsplit(", ", 2 if name == "pwritev2" else 1)[1])
        if self._inside(path):
            yield Write(path, offset, data, handle in self.durable)


def _texts(arguments: str) -> list[str]:
    return _TEXT.findall(arguments)
