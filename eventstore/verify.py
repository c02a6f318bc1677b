"""Derive everything again from the log and say what does not agree.

This is the auditor's reading: it shares `apply` with the store, so that both mean the same by an
event, but never imports the store, trusts no cache, and goes on after a problem instead of stopping
at the first. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from eventstore import configs, digest, log, snapshots
from eventstore.errors import CorruptionError
from eventstore.events import Created, Deleted, Record
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.lmdb_env import Environment
from eventstore.view import ImageView


class Problem(Struct, frozen=True):
    """Something that does not agree.

    Attributes:
        kind: `log`, `config`, `snapshot` or `tombstone`.
        message: what is wrong, for people.
        position: the record or snapshot that it is about, or None.
        image_id: the image that it is about, or None.
    """

    kind: str
    message: str
    position: int | None = None
    image_id: str | None = None


def verify(environment: Environment) -> Iterator[Problem]:
    """Yield every problem of a store; a sound store yields none.

    Every record, config and snapshot is read and checked, every snapshot against a replay of all
    records from the first.
    """
    with environment.read() as txn:
        through = log.last_position(txn)
        stored = dict(snapshots.headers(txn))
    replayed = _Replay(environment, stored)
    yield from replayed.run(through)
    stored_configs: set[bytes] = set()
    yield from _configs(environment, replayed.created, stored_configs)
    with environment.read() as txn:
        tombstones = dict(log.tombstones(txn))
        moved = log.last_position(txn) != through
    if replayed.sound and not moved:
        # What others append meanwhile would look like what nobody appended.
        yield from _tombstones(tombstones, replayed.gone)
        for key in sorted(stored_configs - replayed.created):
            yield Problem("config", f"the config {key.hex()} is of no image", None, _id_of(key))
    for position in sorted(position for position in stored if position > through):
        yield Problem("snapshot", f"snapshot {position} is beyond the log", position)


class _Replay:
    """One pass over the log, with what it leaves behind."""

    def __init__(self, environment: Environment, stored: dict[int, bytes]) -> None:
        self.environment = environment
        self.stored = stored
        self.view = ImageView()
        self.sound = True
        self.heads: dict[bytes, int] = {}
        self.gone: dict[bytes, int] = {}
        self.created: set[bytes] = set()
        self.batch = 1

    def run(self, through: int) -> Iterator[Problem]:
        yield from self._snapshot()
        for position in range(1, through + 1):
            try:
                with self.environment.read() as txn:
                    record = log.read_one(txn, position)
            except CorruptionError as error:
                self.sound = False
                yield Problem("log", str(error), position)
                continue
            yield from self._record(record)
            if self.sound:
                yield from self._snapshot()

    def _record(self, record: Record) -> Iterator[Problem]:
        image, position = record.event.digest, record.position
        if isinstance(record.event, Created):
            self.created.add(image)
        if not self.sound:
            return
        if record.previous != self.heads.get(image, 0):
            yield Problem(
                "log",
                f"record {position} names {record.previous} as the one before it,"
                f" not {self.heads.get(image, 0)}",
                position,
                record.image_id,
            )
        if record.batch not in (self.batch, position):
            yield Problem("log", f"record {position} names no batch", position, record.image_id)
        self.batch = record.batch
        self.heads[image] = position
        self.gone.pop(image, None)
        if isinstance(record.event, Deleted):
            self.gone[image] = position
        try:
            self.view.apply(record)
        except CorruptionError as error:
            self.sound = False
            yield Problem("log", str(error), position, record.image_id)

    def _snapshot(self) -> Iterator[Problem]:
        position = self.view.position
        if position not in self.stored:
            return
        try:
            with self.environment.read() as txn:
                raw = snapshots.raw_header(txn, position)
                if raw is None:
                    return  # it has been pruned since the list was made
                header = snapshots.parse_header(position, raw)
                states = snapshots.load(txn, header)
        except CorruptionError as error:
            yield Problem("snapshot", str(error), position)
            return
        if header.time_ns != self.view.time_ns or states != dict(self.view.rows()):
            yield Problem("snapshot", f"snapshot {position} is not the view", position)


def _configs(
    environment: Environment, created: set[bytes], stored: set[bytes]
) -> Iterator[Problem]:
    """Check every config; add the digests that there are to `stored`."""
    start = b""
    while page := _page_of_configs(environment, start):
        start = page[-1][0]
        for key, value in page:
            stored.add(key)
            try:
                configs.unpack(key, value)
            except CorruptionError as error:
                yield Problem("config", str(error), None, _id_of(key))
    for key in sorted(created - stored):
        image_id = digest.to_text(key)
        yield Problem("config", f"the config of {image_id} is missing", None, image_id)


def _page_of_configs(environment: Environment, after: bytes) -> list[tuple[bytes, bytes]]:
    """Return the next configs behind a digest, in bounded number and size."""
    page: list[tuple[bytes, bytes]] = []
    size = 0
    with environment.read() as txn:
        for key, value in txn.scan("configs", after):
            if key != after:
                page.append((key, value))
                size += len(value)
            if len(page) == log.PAGE_LENGTH or size >= CONFIG_SIZE_MAX:
                break
    return page


def _id_of(key: bytes) -> str:
    """Return the id that a key stands for, in hex alone if it is none."""
    return digest.to_text(key) if len(key) == digest.DIGEST_SIZE else key.hex()


def _tombstones(found: dict[bytes, int], gone: dict[bytes, int]) -> Iterator[Problem]:
    for image in sorted(found.keys() | gone.keys()):
        if found.get(image) != gone.get(image):
            image_id = _id_of(image)
            yield Problem(
                "tombstone",
                f"the stream of {image_id} ends at {gone.get(image)}, not {found.get(image)}",
                found.get(image),
                image_id,
            )
