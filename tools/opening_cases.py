"""The things at a path that are no store, or hardly one, for `opening.py`."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from eventstore import ImageStore
from eventstore.cli.main import run
from evidence import Evidence, Outcome, fingerprint, in_child
from hostile_plants import make_socket
from workload import config

FORMAT, DAMAGE, USAGE = "UnknownFormatError", "CorruptionError", "StoreUsageError"
MISSING, REFUSED, LOST, OPENS = "StoreNotFoundError", "StoreIOError", "StoreLostError", ""
OUR_NAMES = (b"meta", b"log", b"configs", b"snapshots", b"tombstones")
EXIT_CODES = {FORMAT: 4, DAMAGE: 4, USAGE: 3, MISSING: 3, REFUSED: 3, OPENS: 0}
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "read_only": {"read_only": True},
    "create=False": {"create": False},
}


class Case(NamedTuple):
    """What is at a path, and what must come of it.

    Attributes:
        name: for people.
        build: makes it at a path that does not exist, in a folder of its own.
        default: the class of the error as users open it, empty if it opens.
        others: the class in the other modes and of the command, if that is another.
        attributes: what the error must say beside its text.
        locks: LMDB looks at the file, so it may put its lock file beside it.
        path: what is opened, in place of the path.
    """

    name: str
    build: Callable[[Path], object]
    default: str
    others: str | None = None
    attributes: dict[str, Any] = {}  # noqa: RUF012 (never changed; a tuple has no factories)
    locks: bool = False
    path: Any = None


def make(path: Path, images: int = 3) -> None:
    """Make a sound store, closed."""
    with ImageStore.open(path, operating_system="linux") as store:
        for number in range(images):
            store.create(config(f"image {number}"))


def with_meta(path: Path, **values: bytes | None) -> None:
    """Make a store, and change what it says of itself; None removes."""
    make(path)
    with closing(lmdb.open(str(path), max_dbs=8, lib_version=0)) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True, db=meta) as txn:
            for name, value in values.items():
                if value is None:
                    txn.delete(name.encode())
                else:
                    txn.put(name.encode(), value)


def with_databases(path: Path, *names: bytes, keys: int = 0, version: int = 0) -> None:
    """Make an LMDB file with named databases and keys of its own, as another program would."""
    path.mkdir()
    with (
        closing(lmdb.open(str(path), max_dbs=8, lib_version=version)) as env,
        env.begin(write=True) as txn,
    ):
        for name in names:
            txn.put(b"theirs", b"value", db=env.open_db(name, txn=txn))
        for number in range(keys):
            txn.put(OUR_NAMES[number], b"value of theirs")


def with_data(path: Path, content: bytes) -> None:
    """Make a folder with a data file of some content."""
    path.mkdir()
    path.joinpath("data.mdb").write_bytes(content)


def with_strange(path: Path, name: str, build: Callable[[Path], object]) -> None:
    """Make a store, and put something else in the place of one of its files."""
    make(path)
    path.joinpath(name).unlink()
    build(path / name)


def cut(path: Path, size: int) -> None:
    """Make a store whose data file is cut."""
    make(path)
    os.truncate(path / "data.mdb", size)


def sqlite(path: Path) -> None:
    """Put an SQLite database in the place of the data file."""
    path.mkdir()
    with closing(sqlite3.connect(path / "data.mdb")) as database:
        database.execute("create table theirs (value text)")
        database.commit()


def nothing(path: Path) -> None:
    """Leave a path as it is."""


def formats() -> Iterator[Case]:
    """Iterate over stores that say something else of themselves."""
    values = (b"2", b"0", b"18446744073709551616", b"", b"1 ", b"01", b"1\0", b"-1", b"\xff\x1b")
    for value in values:
        found = value.decode("ascii", "replace")
        yield Case(
            f"format {value!r}",
            partial(with_meta, format=value),
            FORMAT,
            attributes={"found": found, "supported": [1]},
            locks=True,
        )
    yield Case(
        "no format", partial(with_meta, format=None), FORMAT, attributes={"found": None}, locks=True
    )
    yield Case("a huge format", partial(with_meta, format=b"x" * 1_000_000), FORMAT, locks=True)
    an_id = b"00000000-0000-0000-0000-000000000000"
    for changed in (
        {"store_id": None},
        {"store_id": b"\xff"},
        {"store_id": an_id[1:]},
        {"created_ns": None},
        {"created_ns": b"yesterday"},
        {"created_ns": b"9" * 19},
        {"created_ns": b"9" * 5_000},
        {"forked_from": an_id},
        {"forked_from": b"nobody", "forked_at": b"1"},
        {"forked_from": an_id, "forked_at": b"-"},
        {"forked_from": an_id, "forked_at": b"1", "forks_before": b"\xff"},
        {"forked_from": an_id, "forked_at": b"1", "forks_before": b'{"a": 1}'},
    ):
        name = f"meta {sorted(changed)} {str(changed)[:60]}"
        yield Case(name, partial(with_meta, **changed), DAMAGE, locks=True)


def foreign() -> Iterator[Case]:
    """Iterate over LMDB files of others."""
    for name, databases, keys in (
        ("unnamed keys only", (), 3),
        ("an empty LMDB file", (), 0),
        ("databases of another program", (b"users", b"data"), 0),
        ("some of our names", (b"log", b"configs"), 0),
        ("all of our names but the last", OUR_NAMES[:-1], 0),
        ("our names as keys", (), len(OUR_NAMES)),
    ):
        yield Case(name, partial(_foreign, databases, keys), FORMAT, locks=True)
    yield Case(
        "all of our names",
        partial(_foreign, OUR_NAMES, 0),
        FORMAT,
        attributes={"found": None},
        locks=True,
    )
    yield Case("LMDB 1.0", partial(_foreign, OUR_NAMES, 0, version=1), FORMAT)
    yield Case("LMDB 1.0 with no database", partial(_foreign, (), 1, version=1), FORMAT)
    page = bytes(12) + (0xBEEFC0DE).to_bytes(4, "little") + (1).to_bytes(4, "little")
    yield Case("LMDB of 32 bits", partial(with_data, content=page.ljust(8192, b"\0")), FORMAT)
    newer = bytes(16) + (0xBEEFC0DE).to_bytes(4, "little") + (2).to_bytes(4, "little")
    yield Case("LMDB of version 2", partial(with_data, content=newer.ljust(8192, b"\0")), FORMAT)


def _foreign(names: tuple[bytes, ...], keys: int, path: Path, *, version: int = 0) -> None:
    with_databases(path, *names, keys=keys, version=version)


def contents() -> Iterator[Case]:
    """Iterate over data files that are none of LMDB's."""
    chance = random.Random(1)
    for name, content in (
        ("random bytes", chance.randbytes(1 << 16)),
        ("zeros", bytes(8192)),
        ("text", b"not LMDB\n" * 1024),
        ("1 byte", b"x"),
        ("16 bytes", bytes(16)),
        ("nothing", b""),
    ):
        yield Case(f"data.mdb of {name}", partial(with_data, content=content), DAMAGE)
    yield Case("data.mdb an SQLite database", sqlite, DAMAGE)
    for size in (20, 2048, 4096, 6000, 8192, 12288):
        yield Case(f"data.mdb cut to {size} bytes", partial(cut, size=size), DAMAGE, locks=True)
    strange: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("a folder", Path.mkdir),
        ("a pipe", os.mkfifo),
        ("a socket", make_socket),
        ("a link to a device", lambda path: path.symlink_to("/dev/zero")),
        ("a link to a folder", lambda path: path.symlink_to("/")),
    )
    for name, build in strange:
        data = partial(with_strange, name="data.mdb", build=build)
        yield Case(f"data.mdb {name}", data, DAMAGE)
        lock = partial(with_strange, name="lock.mdb", build=build)
        yield Case(f"lock.mdb {name}", lock, DAMAGE)
    nowhere = partial(with_strange, build=lambda path: path.symlink_to("nowhere"))
    yield Case("data.mdb a dangling link", partial(nowhere, name="data.mdb"), DAMAGE, MISSING)
    yield Case("lock.mdb a dangling link", partial(nowhere, name="lock.mdb"), DAMAGE)


def sparse(path: Path) -> None:
    """Make a file that is one hole."""
    path.touch()
    os.truncate(path, 8192)


def locks() -> Iterator[Case]:
    """Iterate over lock files that LMDB makes again."""
    builds: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("missing", nothing),
        ("empty", lambda path: path.write_bytes(b"")),
        ("1 byte", lambda path: path.write_bytes(b"x")),
        ("garbage", lambda path: path.write_bytes(random.Random(1).randbytes(65_664))),
        ("large", lambda path: path.write_bytes(bytes(1 << 20))),
        ("ones", lambda path: path.write_bytes(b"\xff" * 65_664)),
        ("sparse", sparse),
    )
    for name, build in builds:
        yield Case(f"lock.mdb {name}", partial(with_strange, name="lock.mdb", build=build), OPENS)


def folders() -> Iterator[Case]:
    """Iterate over folders without a store."""
    yield Case("nothing", nothing, OPENS, MISSING)
    yield Case("an empty folder", Path.mkdir, OPENS, MISSING)
    yield Case("a folder with other files", _with_others, OPENS, MISSING)
    yield Case("a leftover data.mdb.new", _with_leftover, OPENS, MISSING)
    yield Case("data.mdb.new a folder", _with_leftover_folder, REFUSED, MISSING)
    yield Case("a sound store", make, OPENS)
    yield Case("a store with a leftover", _store_with_leftover, OPENS)
    yield Case("a link to a store", _link_to_store, OPENS)
    yield Case("data.mdb a link to another's", _link_to_data, OPENS)


def _with_others(path: Path) -> None:
    path.mkdir()
    path.joinpath("theirs").write_text("theirs")


def _with_leftover(path: Path) -> None:
    path.mkdir()
    path.joinpath("data.mdb.new").write_bytes(b"half")


def _with_leftover_folder(path: Path) -> None:
    path.joinpath("data.mdb.new").mkdir(parents=True)


def _store_with_leftover(path: Path) -> None:
    make(path)
    path.joinpath("data.mdb.new").write_bytes(b"half")


def _link_to_store(path: Path) -> None:
    make(path.with_name("real"))
    path.symlink_to("real")


def _link_to_data(path: Path) -> None:
    make(path.with_name("real"))
    path.mkdir()
    path.joinpath("data.mdb").symlink_to("../real/data.mdb")


class _PathLike:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def paths(folder: Path) -> Iterator[Case]:
    """Iterate over paths that are none, or hardly."""
    path = folder / "store"
    yield Case("a file", lambda path: path.write_text("mine"), USAGE)
    below = str(path / "below")
    yield Case("below a file", lambda path: path.write_text("mine"), REFUSED, MISSING, path=below)
    yield Case("an empty text", nothing, USAGE, path="")
    yield Case("a NUL", nothing, USAGE, path="a\0b")
    yield Case("a long name", nothing, REFUSED, path=str(folder / ("x" * 300)))
    yield Case("a long path", nothing, REFUSED, path="x/" * 5_000)
    yield Case("a dangling link", lambda path: path.symlink_to("nowhere"), REFUSED, MISSING)
    yield Case("a loop of links", lambda path: path.symlink_to("store"), REFUSED, MISSING)
    yield Case("in a device", nothing, REFUSED, MISSING, path="/dev/null/store")
    yield Case("bytes", make, OPENS, path=os.fsencode(path))
    yield Case("a path object", make, OPENS, path=_PathLike(path))
    yield Case("a relative path", make, OPENS, path="store")
    yield Case("a path with dots", make, OPENS, path="../" + folder.name + "/./store/")
    yield Case("no UTF-8", _make_named(b"caf\xe9"), OPENS, path=folder / os.fsdecode(b"caf\xe9"))


def _make_named(name: bytes) -> Callable[[Path], None]:
    return lambda path: make(path.with_name(os.fsdecode(name)))


def try_cases(folder: Path, evidence: Evidence) -> None:
    """Try all of them, each in every mode and by the command."""
    own = folder / "case"
    for cases in (formats(), foreign(), contents(), locks(), folders(), paths(own)):
        for case in cases:
            try_case(own, case, evidence)


def try_case(own: Path, case: Case, evidence: Evidence) -> None:
    """Try one, built anew for every mode."""
    for mode in (*MODES, "command"):
        own.mkdir()
        case.build(own / "store")
        path = own / "store" if case.path is None else case.path
        expected = case.default if mode == "default" or case.others is None else case.others
        before = fingerprint(own)
        if mode == "command":
            if path:  # the command takes no path for one that was not given
                _by_command(own, case, path, expected, evidence)
        else:
            done = in_child(partial(open_and_look, path, MODES[mode], own), seconds=10)
            evidence.tried("opens")
            _check(case, mode, path, done, expected, evidence)
        after = fingerprint(own)
        if expected != OPENS or mode in ("read_only", "command"):
            for files in (before, after):
                for name in [name for name in files if _may_change(case, name, expected)]:
                    del files[name]
            evidence.check(before == after, f"{case.name}, {mode}: files were changed")
        shutil.rmtree(own)


def _may_change(case: Case, name: str, expected: str) -> bool:
    """Tell whether a file is LMDB's lock file, where LMDB may have looked at the store."""
    return name.endswith("lock.mdb") and (case.locks or expected == OPENS)


def open_and_look(path: Any, mode: dict[str, Any], folder: Path) -> int:
    """Open a store from a folder, go elsewhere, and use it; return the number of images."""
    os.chdir(folder)
    with ImageStore.open(path, operating_system="linux", **mode) as store:
        os.chdir("/")
        problems = list(store.verify())
        store.size_on_disk()
        if problems:
            raise RuntimeError(f"a store that opens does not verify: {problems}")
        if not mode.get("read_only"):
            store.create(config("one more"))
        return len(store)


def _check(
    case: Case, mode: str, path: Any, done: Outcome, expected: str, evidence: Evidence
) -> None:
    what = f"{case.name}, {mode}"
    evidence.check(done.error == expected, f"{what}: {done.error or 'opens'} {done.text[:300]}")
    if not done.error or done.error != expected:
        return
    evidence.tried("refusals")
    text = path.decode() if isinstance(path, bytes) else str(path)
    named = text.rstrip("/") in done.text or repr(text)[1:-1] in done.text or not text
    evidence.check(named, f"{what}: does not name the path: {done.text[:300]}")
    evidence.check(len(done.text) < 20_000, f"{what}: says too much")
    for name, value in case.attributes.items():
        found = done.attributes.get(name, "absent")
        evidence.check(found == value, f"{what}: .{name} is {found!r}")


def _by_command(own: Path, case: Case, path: Any, expected: str, evidence: Evidence) -> None:
    """Let the command open it; it must say one line, and end with the code that is documented."""
    done = in_child(partial(_command, path, own), seconds=20)
    evidence.tried("commands")
    what = f"{case.name}, command"
    if done.error:
        if "\0" not in str(path):  # no command line can hold one
            evidence.check(sound=False, text=f"{what}: {done.error} {done.text[:300]}")
        return
    code, said = done.value
    evidence.check(code == EXIT_CODES[expected], f"{what}: exit code {code}: {said[:300]}")
    lines = said.splitlines()
    one_line = len(lines) == 1 and lines[0].startswith("eventstore: ") and ": " in lines[0][12:]
    evidence.check(one_line == bool(code), f"{what}: says {said[:300]!r}")


def _command(path: Any, folder: Path) -> tuple[int, str]:
    os.chdir(folder)
    with tempfile.TemporaryFile() as errors, Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        code = run(["info", "--json", "-s", os.fsdecode(path)])
        errors.seek(0)
        return code, errors.read().decode()
