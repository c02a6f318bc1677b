"""Open a store twice, make it twice, kill its makers, take its files away, for `opening.py`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from eventstore import ImageStore
from evidence import Evidence, Outcome, in_child, mounted, outcome
from opening_cases import DAMAGE, LOST, MISSING, make
from workload import config

IN_USE = "StoreInUseError"


def try_twice(folder: Path, evidence: Evidence, *, may_mount: bool, rounds: int) -> None:
    """Open one store again in the process that has it open, by every name that it can have."""
    own = folder / "twice"
    own.mkdir()
    path = own / "store"
    make(path)
    own.joinpath("link").symlink_to("store")
    own.joinpath("hard").mkdir()
    os.link(path / "data.mdb", own / "hard" / "data.mdb")
    own.joinpath("soft").mkdir()
    own.joinpath("soft", "data.mdb").symlink_to("../store/data.mdb")
    names: list[Path] = [path, own / "link", own / "x" / ".." / "store", own / "hard", own / "soft"]
    own.joinpath("x").mkdir()
    with mounted(own / "bound", "--bind", str(path)) as may:
        if may_mount and may:
            names.append(own / "bound")
        else:
            evidence.not_tried("a bind mount of a store that is open")
        for name in names:
            for first, second in ((False, False), (False, True), (True, False), (True, True)):
                done = in_child(partial(_open_both, path, name, first, second), seconds=20)
                evidence.tried("second opens")
                what = f"{name.name}, read_only {first} and {second}"
                evidence.check(not done.error, f"{what}: {done.error} {done.text}")
                evidence.check(done.value == [IN_USE, "", ""], f"{what}: {done.value}")
    for _ in range(rounds):
        done = in_child(partial(_open_by_threads, path, 8), seconds=20)
        evidence.tried("opens by threads at once", 8)
        expected = ["", *[IN_USE] * 7]
        evidence.check(done.value == expected, f"threads: {done.error} {done.value}")
    done = in_child(partial(_fail_and_open, own / "spoilt", path), seconds=20)
    evidence.tried("opens after a failed one", 2)
    evidence.check(done.value == [DAMAGE, "", ""], f"after a failed open: {done}")
    shutil.rmtree(own)


def _open_both(path: Path, name: Path, first: bool, second: bool) -> list[str]:
    """Open twice; then see that the first still works, and that after its close both names do."""
    with ImageStore.open(path, read_only=first) as store:
        again = outcome(partial(ImageStore.open, name, read_only=second))
        still = outcome(store.position.__int__)
        if not first:
            still = outcome(partial(store.create, config(f"{name} {second}")))
    after = outcome(partial(_open_and_close, path, read_only=second))
    return [again.error, still.error, after.error]


def _open_and_close(path: Path, *, read_only: bool = False) -> None:
    ImageStore.open(path, read_only=read_only).close()


def _open_by_threads(path: Path, count: int) -> list[str]:
    """Let threads open one path at once; return the errors, sorted."""
    barrier, errors, stores = threading.Barrier(count), list[str](), list[ImageStore]()

    def work() -> None:
        barrier.wait()
        done = outcome(partial(ImageStore.open, path))
        errors.append(done.error)
        if done.value is not None:
            stores.append(done.value)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    return sorted(errors)


def _fail_and_open(spoilt: Path, path: Path) -> list[str]:
    """Let an open fail; mend the file, and open it and another."""
    make(spoilt)
    sound = spoilt.joinpath("data.mdb").read_bytes()
    spoilt.joinpath("data.mdb").write_bytes(sound[:8192])
    failed = outcome(partial(ImageStore.open, spoilt))
    spoilt.joinpath("data.mdb").write_bytes(sound)
    both = [outcome(partial(_open_and_close, place)) for place in (spoilt, path)]
    return [failed.error, *(done.error for done in both)]


def try_losses(folder: Path, evidence: Evidence) -> None:
    """Take the files away from a store that is open: it reads, and acknowledges no more."""
    own = folder / "losses"
    losses: dict[str, Callable[[Path], object]] = {
        "folder removed": shutil.rmtree,
        "folder renamed": lambda path: path.rename(path.with_name("elsewhere")),
        "folder replaced": _replace_folder,
        "data.mdb removed": lambda path: path.joinpath("data.mdb").unlink(),
        "data.mdb renamed": lambda path: path.joinpath("data.mdb").rename(path / "away"),
        "data.mdb replaced": lambda path: path.joinpath("copy").rename(path / "data.mdb"),
        "lock.mdb removed": lambda path: path.joinpath("lock.mdb").unlink(),
        "lock.mdb replaced": lambda path: path.joinpath("copy").rename(path / "lock.mdb"),
    }
    for name, lose in losses.items():
        for late in (False, True):
            own.mkdir()
            make(own / "store")
            shutil.copy(own / "store" / "data.mdb", own / "store" / "copy")
            done = in_child(partial(_lose, own / "store", lose, late), seconds=20)
            evidence.tried("stores that lost their files while open")
            what = f"{name}{' after a read' if late else ''}"
            evidence.check(
                not done.error and done.value == ["", LOST, "", ""],
                f"{what}: {done.error} {done.text} {done.value}",
            )
            shutil.rmtree(own)
    own.mkdir()
    make(own / "store")
    done = in_child(partial(_two_writers, own / "store"), seconds=30)
    evidence.tried("stores with two lock files")
    evidence.check(not done.error, f"two lock files: {done.error} {done.text}")
    evidence.check(done.value in (None, [LOST, True]), f"two lock files: lost: {done.value}")
    shutil.rmtree(own)


def _replace_folder(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    make(path)


def _lose(path: Path, lose: Callable[[Path], object], late: bool) -> list[str]:
    """Open, lose the files, and say how a read, a write, another read and the close end."""
    store = ImageStore.open(path)
    if late:
        list(store.records())
    lose(path)
    first = outcome(lambda: [store.get(image) for image in store])
    write = outcome(partial(store.create, config("after the loss")))
    second = outcome(lambda: list(store.verify()))
    return [first.error, write.error, second.error, outcome(store.close).error]


def _two_writers(path: Path) -> list[Any]:
    """Remove the lock file, and let another process write while this one means to.

    Returns:
        How the write here ended, and whether what the other was told is there is there.
    """
    store = ImageStore.open(path)
    path.joinpath("lock.mdb").unlink()
    here: list[str] = []

    def write() -> None:
        with store.transaction():
            there = in_child(partial(_create, path, "there"))
            here.append(there.error)
            store.create(config("here"))

    done = outcome(write)
    if not here:
        in_child(partial(_create, path, "there"))
    store.close()
    with ImageStore.open(path) as again:
        known = {record.actor for record in again.records()}
    return [done.error, "there" in known]


def _create(path: Path, name: str) -> None:
    with ImageStore.open(path, actor=name) as store:
        store.create(config(name))


def try_makers(folder: Path, evidence: Evidence, *, rounds: int) -> None:
    """Let two processes make one store at the same time; both must end up on one."""
    for number in range(rounds):
        path = folder / f"made {number}"
        start = time.monotonic() + 0.02
        children = [_started(partial(_make_at, path, start, f"maker {who}")) for who in range(2)]
        said = [_said(child) for child in children]
        evidence.tried("races of two makers")
        errors = [one.error for one in said if one.error]
        evidence.check(not errors, f"a maker failed: {errors}")
        evidence.check(len({one.value for one in said}) == 1, "two makers made two stores")
        with ImageStore.open(path, create=False) as store:
            actors = sorted(record.actor for record in store.records())
            sound = not list(store.verify()) and actors == ["maker 0", "maker 1"]
            evidence.check(sound, f"two makers left {actors}")
        names = sorted(os.listdir(path))
        evidence.check(names == ["data.mdb", "lock.mdb"], f"two makers left {names}")
        shutil.rmtree(path)


def _make_at(path: Path, start: float, name: str) -> str:
    while time.monotonic() < start:
        pass
    with ImageStore.open(path, actor=name) as store:
        store.create(config(name))
        return store.store_id


def _started(call: Callable[[], object]) -> tuple[int, int]:
    """Do something in a child; return its id, and where it says how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(outcome(call), default=repr).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def _said(child: tuple[int, int]) -> Outcome:
    with os.fdopen(child[1], "rb") as pipe:
        said = pipe.read()
    os.waitpid(child[0], 0)
    return Outcome(*json.loads(said)) if said else Outcome("killed", "", {}, None)


def try_kills(folder: Path, evidence: Evidence, *, budget: int) -> None:
    """Kill a process at every call that it makes while it makes a store."""
    path = folder / "killed"
    for _ in range(2):  # the first time, more is called than ever after
        total = _calls(path)
        shutil.rmtree(path)
    step = max(1, total // budget)
    for number in range(1, total + 1, step):
        child = os.fork()
        if child == 0:
            _make_until(path, number)
        status = os.waitpid(child, 0)[1]
        evidence.tried("makers killed", os.WIFSIGNALED(status))
        there = path.joinpath("data.mdb").exists()
        done = in_child(partial(_count, path), seconds=20)
        evidence.check(
            done.error == ("" if there else MISSING),
            f"killed at call {number}: {done.error or 'opens'} {done.text}",
        )
        done = in_child(partial(_create, path, "after"), seconds=20)
        evidence.check(not done.error, f"killed at call {number}: then {done.error} {done.text}")
        with_one = in_child(partial(_count, path), seconds=20)
        evidence.check(with_one.value == 1, f"killed at call {number}: then {with_one}")
        left = set(os.listdir(path)) - {"data.mdb", "lock.mdb"}
        evidence.check(not left or there, f"killed at call {number}: left {left}")
        shutil.rmtree(path)


def _count(path: Path) -> int:
    with ImageStore.open(path, read_only=True) as store:
        if list(store.verify()):
            raise RuntimeError("it does not verify")
        return store.position


def _calls(path: Path) -> int:
    """Return how many calls, of Python and of C, it takes to make a store."""
    seen = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        seen += event in ("call", "c_call", "c_return")

    sys.setprofile(count)
    try:
        ImageStore.open(path).close()
    finally:
        sys.setprofile(None)
    return seen


def _make_until(path: Path, number: int) -> NoReturn:
    """Make a store, and be killed at a call."""
    left = number

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        left -= event in ("call", "c_call", "c_return")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    ImageStore.open(path).close()
    os._exit(0)
