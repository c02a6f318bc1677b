"""Change and read a store that others change, and keep a history of what was done and seen.

Every thread writes a history of its own, a JSON array a line, each by one system call before or
after what it tells of, so that a kill loses none; `load` reads them all. Times are those of
`CLOCK_MONOTONIC`, which all processes of a host share. What may never happen is a line `wrong`::

    ["begin", name, at, alone]                     a change is about to be made
    ["leaving", name, events]                      the block of its transaction has ended
    ["end", name, at, outcome, events, positions]  it was acknowledged or refused
    ["read", start, end, low, high, asked, image, answer]
    ["view", position, digest]    ["stretch", after, through, checksum]    ["wrong", text]
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from eventstore import ImageNotFoundError, ImageStore, InvalidParentError, Record
from history_checker import ABSENT, NEVER, Answer, Histories, Read, Stretch, Write, checksum_of

POOL = 48
STRETCH = 60


class GivenUpError(Exception):
    """Thrown into a transaction that must leave nothing."""


def config(number: int) -> bytes:
    """Return the config of one of the images that all fight over."""
    return json.dumps({"comment": f"image {number}", "rootfs": {"type": "layers"}}).encode()


IMAGES = ["sha256:" + sha256(config(number)).hexdigest() for number in range(POOL)]


class Hand:
    """One thread that changes or reads the store, with its history."""

    def __init__(self, store: ImageStore, histories: Path, name: str, seed: int) -> None:
        """Begin a history; `name` is `process.thread`."""
        self.store = store
        self.name = name
        self.chance = random.Random(f"{seed} {name}")
        self.count = 0
        self.followed = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.file = os.open(histories / f"{name}.jsonl", flags, 0o600)

    def say(self, *values: object) -> None:
        """Add a line to the history; when this returns, a kill does not take it away."""
        os.write(self.file, json.dumps(values).encode() + b"\n")

    def run(self, step: Callable[[], None], until: Callable[[], bool]) -> None:
        """Do a step again and again; whatever it raises is a violation."""
        try:
            while not until():
                step()
        except BaseException as error:
            self.say("wrong", f"{type(error).__name__}: {error}")

    # Changes.

    def write(self) -> None:
        """Make one change of any kind, and read it back."""
        kind = self.chance.random()
        if kind < 0.55:
            self.change_alone()
        elif kind < 0.85:
            self.change_together(fail=False)
        elif kind < 0.97:
            self.change_together(fail=True)
        else:
            self.store.take_snapshot()

    def _begin(self, *, alone: bool) -> str:
        self.count += 1
        name = f"{self.name}.{self.count}"
        self.say("begin", name, time.monotonic_ns(), alone)
        return name

    def _end(
        self,
        name: str,
        outcome: str,
        events: list[tuple[str, str]] | None = None,
        positions: tuple[int, int] | None = None,
    ) -> None:
        self.say("end", name, time.monotonic_ns(), outcome, events, positions)

    def change_alone(self) -> None:
        """Call one mutator outside a transaction."""
        name = self._begin(alone=True)
        number = self.chance.randrange(POOL)
        image, outcome, events = IMAGES[number], "perhaps", None
        kind = self.chance.choice(("create", "create", "delete", "parent", "touch", "mark"))
        try:
            self._change(kind, number, name)
        except (ImageNotFoundError, InvalidParentError):
            self._end(name, "failed")
            return
        if kind in ("delete", "touch"):
            outcome = "acknowledged"
            events = [("Deleted" if kind == "delete" else "LastUpdatedSet", image)]
        self._end(name, outcome, events)
        self.ask("has", image)

    def create(self, number: int) -> None:
        """Create an image that is not there."""
        name = self._begin(alone=True)
        self.store.create(config(number), reason=name)
        self._end(name, "acknowledged", [("Created", IMAGES[number])])

    def change_together(self, *, fail: bool) -> None:
        """Make several changes in a transaction, which may fail in its middle."""
        name = self._begin(alone=False)
        touched: list[str] = []
        try:
            with self.store.transaction(reason=name) as transaction:
                for _ in range(self.chance.randint(1, 6)):
                    kind = self.chance.choice(("create", "create", "delete", "parent", "touch"))
                    number = self.chance.randrange(POOL)
                    with contextlib.suppress(ImageNotFoundError, InvalidParentError):
                        self._change(kind, number, "")
                        touched.append(IMAGES[number])
                        self._check_inside(kind, IMAGES[number])
                if fail:
                    raise GivenUpError
                self.say("leaving", name, _events(transaction._batch.records))
        except GivenUpError:
            self._end(name, "failed")
        else:
            records = transaction.records
            positions = (records[0].position, records[-1].position) if records else None
            outcome = "acknowledged" if records else "failed"
            self._end(name, outcome, _events(records), positions)
        for image in touched[-2:]:
            self.ask("has", image)

    def _change(self, kind: str, number: int, reason: str) -> None:
        image, store = IMAGES[number], self.store
        if kind == "create":
            store.create(config(number), reason=reason)
        elif kind == "delete":
            store.delete(image, reason=reason)
        elif kind == "parent":
            store.set_parent(image, self.chance.choice([*IMAGES, None]), reason=reason)
        elif kind == "touch":
            store.set_last_updated(image, reason=reason)
        else:
            store.set_built_locally(image, reason=reason)

    def _check_inside(self, kind: str, image: str) -> None:
        """Hold a transaction to reading its own writes."""
        if (image in self.store) == (kind == "delete"):
            self.say("wrong", f"in a transaction, {image} after {kind} is not as it was made")

    # Reads.

    def read(self) -> None:
        """Ask one question of any kind."""
        kind = self.chance.random()
        if kind < 0.1:
            self.ask("position")
        elif kind < 0.2:
            self.ask("length")
        elif kind < 0.5:
            self.ask("has", self.chance.choice(IMAGES))
        elif kind < 0.65:
            self.ask("parent", self.chance.choice(IMAGES))
        elif kind < 0.8:
            self.ask("children", self.chance.choice(IMAGES))
        elif kind < 0.88:
            self.ask_the_past()
        elif kind < 0.94:
            self.read_records()
        elif kind < 0.99:
            self.follow()
        else:
            self.verify()

    def ask(self, asked: str, image: str = "") -> None:
        """Ask, between two looks at the position, and note the answer."""
        start = time.monotonic_ns()
        low = self.store.position
        try:
            answer = self._answer(asked, image)
        except ImageNotFoundError:
            answer = False if asked == "has" else ABSENT
        high = self.store.position
        end = time.monotonic_ns()
        self.say("read", start, end, low, high, asked, image, answer)

    def _answer(self, asked: str, image: str) -> Answer:
        store = self.store
        if asked == "length":
            return len(store)
        if asked == "parent":
            return store.get_parent(image)
        if asked == "children":
            return tuple(store.children(image))
        if asked == "has":
            way = self.chance.randrange(4)
            if way == 0:
                return store.get(image).id == image
            if way == 1:
                return store.search(image[7:27]) == image
            return image in (store if way == 2 else store.map())
        return None

    def ask_the_past(self) -> None:
        """Ask for the view at a position that was reached, mostly a new one."""
        newest = self.store.position
        position = max(newest - self.chance.choice((0, 0, 1, 5, 100, 5_000)), 0)
        self.say("view", position, self.store.as_of(position=position).digest)

    def read_records(self) -> None:
        """Read the newest records, forward or backward."""
        through = self.store.position
        after, reverse = max(through - STRETCH, 0), self.chance.random() < 0.5
        found = list(self.store.records(after=after, through=through, reverse=reverse))
        self._note_stretch(after, through, found[::-1] if reverse else found)

    def follow(self) -> None:
        """Take what came since the last time; it is there, so nothing is waited for."""
        through = self.store.position
        after = max(self.followed, through - 4 * STRETCH)
        if through > after:
            found = list(islice(self.store.follow(after), through - after))
            self._note_stretch(after, through, found)
        self.followed = through

    def _note_stretch(self, after: int, through: int, found: list[Record]) -> None:
        if [record.position for record in found] != list(range(after + 1, through + 1)):
            self.say("wrong", f"records from {after} to {through} are not in a row")
        self.say("stretch", after, through, checksum_of(zlib.crc32(one.raw) for one in found))

    def verify(self) -> None:
        """Let the auditor look while others write."""
        for problem in self.store.verify():
            self.say("wrong", f"verify: {problem.message}")


def _events(records: list[Record]) -> list[tuple[str, str]]:
    return [(type(record.event).__name__, record.image_id) for record in records]


@dataclass
class Told:
    """All that a folder of histories tells.

    Attributes:
        histories: what can be held against the log.
        views: thread, position and digest of each view of the past that was seen.
        wrong: what a thread itself knew to be wrong.
    """

    histories: Histories = field(default_factory=Histories)
    views: list[tuple[str, int, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def load(folder: Path) -> Told:
    """Read all histories of a folder; of a last line that was cut by a kill, nothing."""
    told = Told()
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1]
        _load_thread(path.stem, (json.loads(line) for line in lines), told)
    return told


def _load_thread(thread: str, lines: Iterable[list[Any]], told: Told) -> None:
    begun: dict[str, tuple[int, bool]] = {}
    leaving: dict[str, tuple[tuple[str, str], ...]] = {}
    for kind, *values in lines:
        if kind == "begin":
            begun[values[0]] = (values[1], values[2])
        elif kind == "leaving":
            leaving[values[0]] = _pairs(values[1])
        elif kind == "end":
            name, at, outcome, events, positions = values
            start, _ = begun.pop(name)
            known = None if events is None else _pairs(events)
            range_ = None if positions is None else (positions[0], positions[1])
            told.histories.writes.append(Write(name, start, at, outcome, known, range_))
        elif kind == "read":
            start, end, low, high, asked, image, answer = values
            answer = tuple(answer) if isinstance(answer, list) else answer
            read = Read(thread, start, end, low, high, asked, image, answer)
            told.histories.reads.append(read)
        elif kind == "view":
            told.views.append((thread, values[0], values[1]))
        elif kind == "stretch":
            told.histories.stretches.append(Stretch(thread, *values))
        else:
            told.wrong.append(f"wrong: {thread}: {values[0]}")
    for name, (start, alone) in begun.items():
        outcome = "leaving" if alone or name in leaving else "inside"
        told.histories.writes.append(Write(name, start, NEVER, outcome, leaving.get(name)))


def _pairs(events: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, image) for kind, image in events)
