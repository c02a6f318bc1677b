"""Build the store that `rot` damages, keep its answers, and say what is done to it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from eventstore import (
    CorruptionError,
    EventStoreError,
    ImageStore,
    ImageView,
    StoreIOError,
    digest,
    replay,
    snapshots,
)
from eventstore.lmdb_pages import PageFile
from eventstore.lmdb_transaction import Transaction

DATABASES = ("log", "configs", "snapshots", "tombstones", "meta", "main")
TIME_NS = 1_700_000_000_000_000_000
MAP_SIZE = 1 << 26
ANYTHING = 1 << 30
Answer = tuple[str, object]
Change = dict[bytes, bytes | None]


@dataclass(frozen=True)
class Damage:
    """One thing to do to a copy.

    Attributes:
        name: what it is, for people.
        changes: database to key to new value, None to delete.
        patches: offset in the file to bytes that are written there.
        cut: the length the file is cut to, None to leave it.
        named: (kind, position or image) that `verify` must name.
        records: how many records it damages at most.
        strict: `verify` must find it even if every answer is what it was.
    """

    name: str
    changes: dict[str, Change] = field(default_factory=dict)
    patches: tuple[tuple[int, bytes], ...] = ()
    cut: int | None = None
    named: tuple[tuple[str, object], ...] = ()
    records: int = 0
    strict: bool = False

    @property
    def of_file(self) -> bool:
        """Tell whether it is done to the file, not through LMDB."""
        return not self.changes

    def apply(self, folder: Path) -> None:
        """Do it to the store in a folder."""
        if self.changes:
            with lmdb.open(str(folder), max_dbs=16, sync=False, map_size=MAP_SIZE) as env:
                handles = {name: open_database(env, name) for name in self.changes}
                with env.begin(write=True) as txn:
                    for name, entries in self.changes.items():
                        for key, value in entries.items():
                            if value is None:
                                txn.delete(key, db=handles[name])
                            else:
                                txn.put(key, value, db=handles[name])
        with open(folder / "data.mdb", "r+b") as file:
            for offset, content in self.patches:
                file.seek(offset)
                file.write(content)
            if self.cut is not None:
                file.truncate(self.cut)


def open_database(env: lmdb.Environment, name: str) -> Any:
    """Return the handle of a database, or of the list of databases."""
    return env.open_db() if name == "main" else env.open_db(name.encode())


def config(name: str, size: int = 0) -> bytes:
    """Return an image config of about `size` bytes that differs from others in its name.

    They are digits without order: of an `x` that is repeated, packing would leave no large value.
    """
    digits = hashlib.shake_256(name.encode()).hexdigest((size + 1) // 2)[:size]
    value = {"comment": name, "author": digits, "rootfs": {"type": "layers"}}
    return json.dumps(value).encode()


def store_unpacked(store: ImageStore, image_ids: list[str]) -> None:
    """Store the configs of some images as they are, as earlier versions did."""
    values = {digest.require(name): b"\0" + store.get(name).raw_json for name in image_ids}

    def put(txn: Transaction) -> None:
        for key, value in values.items():
            txn.put("configs", key, value, replace=True)

    store._environment.write(put)


def build(path: Path, images: int) -> None:
    """Make the store that is to be damaged."""
    ticks = iter(range(TIME_NS, TIME_NS + 10**15, 10**9))
    snapshots.CHUNK_LENGTH = 8
    snapshots.INTERVAL_MIN = 16  # so that some become differences, and are kept
    with ImageStore.open(path, actor="rot", map_size=MAP_SIZE, now=lambda: next(ticks)) as store:
        ids = [store.create(config("first"), reason="alone")]
        for start in range(0, images, 8):
            with store.transaction(reason=f"batch {start}"):
                for number in range(start, start + 8):
                    ids.append(store.create(config(f"image {number}", number % 5 * 40)))
                    store.set_parent(ids[-1], ids[number // 2])
            store.set_built_locally(ids[start])
            store_unpacked(store, ids[start + 1 :: 3])
            store.take_snapshot()
        large = [store.create(config(f"large {size}", size)) for size in (5_000, 30_000, 9_000)]
        store_unpacked(store, large[1:2])
        for image_id in (*ids[2:12], large[0]):
            store.delete(image_id, reason="no longer needed")
        for number in (1, 2, 3):
            store.create(config(f"image {number}", number % 5 * 40))
        store.delete(ids[2])
        store.set_last_updated(ids[0], 5)
        store.take_snapshot()
        for number in range(6):
            store.set_last_updated(ids[20 + number], number)
        store.delete(ids[13])
        store.set_last_updated(ids[0], 6)


def _digest(view: ImageView) -> str:
    return hashlib.sha256(repr((view.position, list(view.rows()))).encode()).hexdigest()


class Pristine:
    """The undamaged store: its entries, its pages and its answers."""

    def __init__(self, path: Path) -> None:
        """Read everything."""
        self.path = path
        self.entries: dict[str, dict[bytes, bytes]] = {}
        with lmdb.open(str(path), max_dbs=16, readonly=True, map_size=MAP_SIZE) as env:
            handles = {name: open_database(env, name) for name in DATABASES}
            with env.begin() as txn:
                for name in DATABASES:
                    self.entries[name] = {
                        bytes(key): bytes(value)
                        for key, value in txn.cursor(handles[name])
                        if name != "main" or key == b"end"
                    }
        with ImageStore.open(path, read_only=True, map_size=MAP_SIZE) as store:
            self.raws = [record.raw for record in store.records()]
            self.ids = sorted({record.image_id for record in store.records()})
            self.position = store.position
            self.answers = dict(self.ask(store))

    def questions(self, store: ImageStore) -> Iterator[tuple[str, Callable[[], object]]]:
        """Iterate over all that is asked of a store."""
        yield "position", lambda: store.position
        yield "identity", lambda: (store.store_id, store.created)
        yield "len", lambda: (len(store), list(store))
        yield "heads", lambda: list(store.heads())
        yield "map", lambda: [(key, image.parent) for key, image in store.map().items()]
        yield "records", lambda: [record.raw for record in store.records()]
        yield "backward", lambda: [record.raw for record in store.records(reverse=True)]
        yield "as of a time", lambda: store.position_at(TIME_NS + 40 * 10**9)
        for image_id in self.ids:
            short = image_id[7:19]
            yield f"get {short}", partial(self._image, store, image_id)
            yield f"parent {short}", partial(store.get_parent, image_id)
            yield f"updated {short}", partial(store.get_last_updated, image_id)
            yield f"built {short}", partial(store.is_built_locally, image_id)
            yield f"children {short}", partial(store.children, image_id)
            yield f"search {short}", partial(store.search, short)
            yield f"ever {short}", partial(store.search_history, short)
            yield f"stream {short}", partial(self._stream, store, image_id)
        for position in range(self.position + 1):
            yield f"as of {position}", partial(self._as_of, store, position)
            yield f"replayed {position}", partial(self._replayed, store, position)
        yield "never there", lambda: list(store.records("sha256:" + "0" * 64))

    def _image(self, store: ImageStore, image_id: str) -> object:
        image = store.get(image_id)
        return image.raw_json, image.parent

    def _stream(self, store: ImageStore, image_id: str) -> object:
        return [record.raw for record in store.records(image_id)]

    def _as_of(self, store: ImageStore, position: int) -> str:
        return _digest(store.as_of(position=position))

    def _replayed(self, store: ImageStore, position: int) -> str:
        """Return what a snapshot and the records after it say, with no other view to start from."""
        return _digest(replay.view_at(store._environment, position))

    def ask(self, store: ImageStore) -> Iterator[Answer]:
        """Iterate over the questions and their answers; an error is an answer."""
        for name, question in self.questions(store):
            try:
                yield name, question()
            except (CorruptionError, StoreIOError) as error:
                yield name, error
            except EventStoreError as error:
                yield name, type(error).__name__


# What is done to it.


def bits(content: bytes, sample: int, chance: random.Random) -> list[int]:
    """Return bits of some bytes to flip: all, or a sample that misses no part by design."""
    count = len(content) * 8
    if count <= sample:
        return list(range(count))
    stride = count / sample
    return [min(count - 1, int((at + chance.random()) * stride)) for at in range(sample)]


def flipped(content: bytes, bit: int) -> bytes:
    """Return bytes with one bit the other way."""
    wrong = bytearray(content)
    wrong[bit // 8] ^= 1 << bit % 8
    return bytes(wrong)


def named_by(database: str, key: bytes) -> tuple[str, object]:
    """Return what `verify` must say of a damaged entry."""
    if database == "log":
        return "log", int.from_bytes(key, "big")
    if database == "snapshots":
        return "snapshot", int.from_bytes(key[:8], "big")
    if database in ("configs", "tombstones"):
        return database[:-1], digest.to_text(key)
    return ("meta" if database == "meta" else "log"), None


def entry_damages(pristine: Pristine, sample: int, chance: random.Random) -> Iterator[Damage]:
    """Iterate over what is done to each entry through LMDB."""
    for database, entries in pristine.entries.items():
        keys = list(entries)
        for at, key in enumerate(keys):
            value = entries[key]
            neighbour = keys[at - 1]
            this = named_by(database, key)
            is_record = int(database == "log")
            make = partial(Damage, named=(this,), records=is_record, strict=True)
            title = f"{database} {key[:12].hex()}"
            for bit in bits(value, sample, chance):
                yield make(f"flip {title}", {database: {key: flipped(value, bit)}})
            length = chance.randrange(len(value))
            yield make(f"cut {title}", {database: {key: value[:length]}})
            yield make(f"extend {title}", {database: {key: value + b"\0"}})
            lost = Damage(
                f"delete {title}", {database: {key: None}}, named=(this,), records=is_record
            )
            yield lost
            if value != entries[neighbour]:
                yield Damage(
                    f"swap {title}",
                    {database: {key: entries[neighbour], neighbour: value}},
                    named=(this,) if database == "meta" else (this, named_by(database, neighbour)),
                    records=2 * is_record,
                )
            yield Damage(f"copy {title}", {database: {copied(database, key): value}})
    yield from double_damages(pristine, chance)


def copied(database: str, key: bytes) -> bytes:
    """Return another key that an entry is copied to."""
    if database == "log":
        return (int.from_bytes(key, "big") + (1 << 20)).to_bytes(8, "big")
    return bytes([key[0] ^ 0x80]) + key[1:]


def double_damages(pristine: Pristine, chance: random.Random) -> Iterator[Damage]:
    """Iterate over damage to two things at once: both must be named."""
    flat = [
        (database, key)
        for database in ("log", "configs", "snapshots", "tombstones")
        for key in pristine.entries[database]
    ]
    for _ in range(len(flat) // 2):
        pair = chance.sample(flat, 2)
        changes: dict[str, Change] = {}
        for database, key in pair:
            value = pristine.entries[database][key]
            changes.setdefault(database, {})[key] = flipped(value, chance.randrange(len(value) * 8))
        yield Damage(
            "two at once",
            changes,
            named=tuple(named_by(database, key) for database, key in pair),
            records=sum(database == "log" for database, _ in pair),
            strict=True,
        )


def file_damages(pristine: Pristine, sample: int, chance: random.Random) -> Iterator[Damage]:
    """Iterate over what is done to the file itself."""
    content = pristine.path.joinpath("data.mdb").read_bytes()
    with PageFile(pristine.path / "data.mdb") as pages:
        size, count = pages.page_size, pages.pages
    for number in range(count):
        page = content[number * size : (number + 1) * size]
        head, rest = page[: 160 if number < 2 else 64], page[160 if number < 2 else 64 :]
        for bit in bits(head, sample * (4 if number < 2 else 1), chance):
            yield patch(f"flip head of page {number}", number * size, bit, content)
        for bit in bits(rest, sample, chance):
            at = number * size + len(head)
            yield patch(f"flip page {number}", at, bit, content)
        other = chance.randrange(count)
        theirs = content[other * size : (other + 1) * size]
        for name, patches in (
            ("zero", ((number * size, bytes(size)),)),
            ("noise in", ((number * size, chance.randbytes(size)),)),
            ("copy another over", ((number * size, theirs),)),
            ("swap", ((number * size, theirs), (other * size, page))),
        ):
            yield Damage(f"{name} page {number}", patches=patches, records=ANYTHING)
    for length in sorted({chance.randrange(1, len(content)) for _ in range(2 * count)}):
        yield Damage(f"cut the file to {length}", cut=length, records=ANYTHING)
    for number in range(1, count):
        yield Damage(f"cut the file to {number} pages", cut=number * size, records=ANYTHING)


def patch(name: str, start: int, bit: int, content: bytes) -> Damage:
    """Return the damage that flips one bit of the file, counted from an offset."""
    at = start + bit // 8
    return Damage(
        f"{name}, bit {bit}", patches=((at, bytes([content[at] ^ 1 << bit % 8])),), records=ANYTHING
    )
