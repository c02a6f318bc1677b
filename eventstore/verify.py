"""Derive everything again from the log and say what does not agree.

This is the auditor's reading: it shares `apply` with the store, so that both mean the same by an
event, but never imports the store, trusts no cache, and goes on after a problem instead of stopping
at the first. It writes nothing. First comes the structure of the file. One that fails there is not
read through LMDB, which it could kill, but page by page, and what can still be reached is checked
like the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventstore import (
    codec,
    configs,
    digest,
    dropped,
    hashes,
    log,
    merkle,
    meta,
    names,
    scrubbing,
    snapshot_headers,
    snapshots,
    store_files,
    structure,
)
from eventstore.errors import CorruptionError, EventStoreError, StoreIOError
from eventstore.events import (
    Compacted,
    Created,
    Deleted,
    Named,
    Record,
    Redacted,
    Tagged,
    Untagged,
)
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.lmdb_env import Environment
from eventstore.lmdb_pages import PageFile
from eventstore.lmdb_transaction import Transaction
from eventstore.problem import Problem, missing
from eventstore.progress import Progress, counted
from eventstore.structure import Read
from eventstore.view import ImageView

_LOST = -1  # in the place of the position of a redaction


def verify(environment: Environment, progress: Progress | None = None) -> Iterator[Problem]:
    """Yield every problem of a store; a sound store yields none. `progress` is told of records.

    The structure of the file is checked, every record, config and snapshot is read and checked,
    every snapshot against a replay of all records from the first. Files that were removed or
    replaced while they were open are a problem; what they hold is checked all the same.
    """
    try:
        environment.refuse_lost()
    except StoreIOError as error:
        yield Problem("structure", str(error))
        yield from _derived(environment.read, progress)
        return
    faults = structure.faults_of(environment)
    if not faults:
        yield from _derived(environment.read, progress)
    else:
        yield from _damaged(environment.path, faults, progress)


def check_store(
    path: str | os.PathLike[str], *, progress: Progress | None = None
) -> Iterator[Problem]:
    """Yield every problem of the store in a directory, also of one that does not open.

    Does as `verify`. LMDB opens the file only if its structure is sound, and for reading only.

    Args:
        path: the store's directory.
        progress: is told of how many records it knows.

    Raises:
        StoreNotFoundError: there is no store.
        StoreUsageError: it is no directory.
        StoreInUseError: it is open in this process already.
        StoreIOError: the operating system refuses.
        CorruptionError: the data file is empty, or no file.
    """
    folder = store_files.located(path)
    store_files.prepare(folder, create=False, damaged=True)
    faults = structure.faults_at(folder)
    if faults:
        yield from _damaged(folder, faults, progress)
        return
    try:
        environment = Environment(folder, read_only=True)
    except CorruptionError as error:
        yield Problem("structure", str(error))
        return
    try:
        yield from _derived(environment.read, progress)
    finally:
        environment.close()


def _damaged(path: Path, faults: list[str], progress: Progress | None) -> Iterator[Problem]:
    for fault in faults:
        yield Problem("structure", fault)
    with PageFile(path / store_files.DATA) as pages:
        yield from _derived(structure.reading(pages), progress)


def _derived(read: Read, progress: Progress | None) -> Iterator[Problem]:
    """Check what the databases hold; anew, if a compaction drops some of it meanwhile."""
    while True:
        before = _horizon_now(read)
        problems = list(_derived_once(read, progress))
        if _horizon_now(read) == before:
            yield from problems
            return


def _horizon_now(read: Read) -> dropped.Horizon:
    with read() as txn:
        return _horizon(txn)[0]


def _derived_once(read: Read, progress: Progress | None) -> Iterator[Problem]:
    with read() as txn:
        first = _Extent(txn)
        stored = dict(snapshots.headers(txn))
        hashed = hashes.stored(txn)
        problems = list(_identity(txn))
        compacted, fault = _horizon(txn)
    yield from problems  # with no transaction open, whatever is done meanwhile
    yield from fault
    replayed = _Replay(read, stored, hashed, compacted)
    yield from replayed.run(first, progress)
    stored_configs: dict[bytes, int] = {}
    yield from _configs(read, replayed.created, stored_configs)
    with read() as txn:
        tombstones = dict(log.tombstones(txn))
        noted_names = dict(names.stored(txn))
        moved = _Extent(txn).last_key != first.last_key
        sealed = meta.is_sealed(txn)
        problems = [] if moved else list(_last_redaction(txn, replayed))
    yield from problems
    if replayed.sound and not moved:
        # What others append meanwhile would look like what nobody appended.
        left = {image for image in tombstones if compacted.unfinished}
        for key in sorted(stored_configs.keys() - replayed.created - left):
            yield Problem("config", f"the config {key.hex()} is of no image", None, _id_of(key))
        yield from _redactions(stored_configs, replayed)
    if not moved:
        yield from _tombstones(tombstones, replayed, sealed=sealed)
        yield from _names(noted_names, replayed)


def _identity(txn: Transaction) -> Iterator[Problem]:
    try:
        meta.read_in(txn)
    except CorruptionError as error:
        yield Problem("meta", str(error))


def _horizon(txn: Transaction) -> tuple[dropped.Horizon, list[Problem]]:
    try:
        return dropped.horizon(txn), []
    except CorruptionError as error:
        return dropped.NOWHERE, [Problem("meta", str(error))]


class _Extent:
    """How far the log goes: its last key, and the position that is noted as its last."""

    def __init__(self, txn: Transaction) -> None:
        self.last_key = txn.last_key("log") or b""
        self.records = txn.entries("log")
        self.problem: Problem | None = None
        self.noted: int | None = None
        try:
            self.noted = log.noted_end(txn)
        except CorruptionError as error:
            self.problem = Problem("log", str(error))
        else:
            if self.noted is None and self.last_key and meta.is_sealed(txn):
                self.problem = Problem("log", "the note of where the log ends is missing")


class _Replay:
    """One pass over the log, with what it leaves behind."""

    def __init__(
        self,
        read: Read,
        stored: dict[int, bytes],
        hashed: dict[bytes, bytes],
        compacted: dropped.Horizon,
    ) -> None:
        self.read = read
        self.compacted = compacted
        self.dropped: set[int] = set()
        self.edge = merkle.Frontier()
        self.at_horizon = b""
        self.stored = {at: raw for at, raw in stored.items() if at >= compacted.through}
        self.hashed = hashed
        self.derivation = hashes.Derivation()
        self.gapless = True
        self.reported: set[int] = set()
        self.view = ImageView()
        self.view.expect_dropped(compacted.through)
        self.sound = True
        self.heads: dict[bytes, int] = {}
        self.gone: dict[bytes, int] = {}
        self.names: dict[str, int] = {}
        self.created: set[bytes] = set()
        self.redacted: dict[bytes, int] = {}
        self.last_redaction = 0
        self.severed: dict[bytes, int] = {}  # whose life goes on behind a record that was dropped
        self.ever_redacted: set[bytes] = set()
        self.batch = 1

    def run(self, extent: _Extent, progress: Progress | None) -> Iterator[Problem]:
        if extent.problem is not None:
            yield extent.problem
        yield from self._snapshot()
        position = 0
        for key, raw in counted(self._entries(extent.last_key), progress, extent.records):
            if len(key) != codec.KEY_SIZE or key <= codec.position_key(position):
                self.sound = False
                yield Problem("log", f"the key {key.hex()} is no position")
                continue
            expected, position = position + 1, int.from_bytes(key, "big")
            if position != expected:
                yield from self._gap(expected, position - 1)
            yield from self._stored(position, raw)
            if self.gapless and codec.checksum_matches(key, raw):
                yield from self._hashes(position, merkle.leaf_hash(raw))
            else:
                self.gapless = False
            if extent.noted is not None and position > extent.noted:
                yield Problem("log", f"record {position} is behind the noted end", position)
        if extent.noted is not None and position < extent.noted:
            yield self._missing(position + 1, extent.noted)
        yield from self._compaction()
        if self.gapless:
            for key in sorted(self.hashed):
                yield Problem("hash", f"the stored hash {key.hex()} is of no records")
        yield from self._other_snapshots(max(position, extent.noted or 0))

    def _entries(self, last_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the entries of the log, a page a transaction, to a last one."""
        after = b""
        while True:
            with self.read() as txn:
                page: list[tuple[bytes, bytes]] = []
                for key, raw in txn.scan("log", after):
                    if key > last_key or len(page) == log.PAGE_LENGTH:
                        break
                    if key > after:
                        page.append((key, raw))
            if not page:
                return
            after = page[-1][0]
            yield from page

    def _gap(self, first: int, last: int) -> Iterator[Problem]:
        """Look for the hashes of records that are not there: what has none is missing."""
        found: dict[int, bytes] = {}
        try:
            with self.read() as txn:
                found = dropped.leaves(txn, first, last)
        except CorruptionError as error:
            yield Problem("hash", str(error), error.position)
        expected = first
        for position, leaf in [*found.items(), (last + 1, b"")]:
            if position > expected:
                yield self._missing(expected, position - 1)
            expected = position + 1
            if self.gapless and position <= last:
                yield from self._hashes(position, leaf)
        self.dropped.update(found)
        self.batch = 0  # nothing says which one the next record is of
        behind = next((at for at in found if at > self.compacted.through), None)
        if behind is not None:
            self.sound = False
            text = f"record {behind} was dropped, and no compaction says so"
            yield Problem("log", text, behind)
        if self.sound and first <= self.compacted.through <= last:
            if self.compacted.time_ns < self.view.time_ns:
                yield self._wrong_time()
            self.view.skip_to(self.compacted.through, self.compacted.time_ns)
            yield from self._snapshot()

    def _compaction(self) -> Iterator[Problem]:
        """Compare what is noted of the last compaction with its record, and with what is left."""
        noted, by = self.compacted, None
        with self.read() as txn, suppress(EventStoreError):
            by = log.read_one(txn, noted.by).event if noted.by else None
        root = self.edge.checkpoint().root_hash
        if noted.through and not noted.by:
            text = "the record of the last compaction was lost before this store was salvaged"
            yield Problem("lost", text)
        elif noted.through and (not isinstance(by, Compacted) or by.through != noted.through):
            yield Problem("meta", f"record {noted.by} says nothing of a compaction", noted.by)
        elif isinstance(by, Compacted) and self.gapless and by.root_hash != root:
            text = f"what is left up to {noted.through} is not what record {noted.by} says it was"
            yield Problem("log", text, noted.by)
        elif isinstance(by, Compacted) and self.sound and by.view not in (self.at_horizon, b""):
            text = f"up to {noted.through}, more was dropped than record {noted.by} knew of"
            yield Problem("log", text, noted.by)
        if self.gapless and noted.dropped != len(self.dropped):
            text = f"{noted.dropped} records are noted as dropped, and {len(self.dropped)} are"
            yield Problem("meta", text)

        with self.read() as txn:
            rows = list(dropped.rows(txn))
        for key, positions in rows:
            if not positions or not self.dropped.issuperset(positions):
                yield Problem("hash", f"the row {key.hex()} is of no dropped records")
        for image in sorted(self.severed.keys() - self.ever_redacted):
            position = self.severed[image]
            text = f"what came before record {position} in the life of its image was dropped"
            yield Problem("log", text, position, _id_of(image))

    def _wrong_time(self) -> Problem:
        return Problem("meta", f"the time of {self.compacted.through} is not what is noted of it")

    def _missing(self, first: int, last: int) -> Problem:
        self.sound = self.gapless = False
        return missing(first, last)

    def _stored(self, position: int, raw: bytes) -> Iterator[Problem]:
        try:
            record = codec.decode(position, raw)
        except CorruptionError as error:
            self.sound = False
            yield Problem("log", str(error), position)
            return
        yield from self._record(record)
        if self.sound:
            yield from self._snapshot()

    def _hashes(self, position: int, leaf: bytes) -> Iterator[Problem]:
        """Compare the stored hashes that a record completes; one that is missing is no problem."""
        if position <= self.compacted.through:
            self.edge.add(leaf)
        for key, value in self.derivation.add(leaf).items():
            if self.hashed.pop(key, value) != value:
                text = f"the stored hash of the records up to {position} is not theirs"
                yield Problem("hash", text, position)

    def _record(self, record: Record) -> Iterator[Problem]:
        image, position = record.event.digest, record.position
        if isinstance(record.event, Created):
            self.created.add(image)
            self.redacted.pop(image, None)
        elif isinstance(record.event, Redacted):
            self.created.add(image)  # it was, though that may have been dropped
            self.redacted[image] = self.last_redaction = position
            self.ever_redacted.add(image)
        if position == self.compacted.through and record.time_ns != self.compacted.time_ns:
            yield self._wrong_time()
        known = self.heads.get(image, 0)
        if self.sound and record.previous != known and not self._is_severed(record, known):
            yield Problem(
                "log",
                f"record {position} names {record.previous} as the one before it, not {known}",
                position,
                record.image_id,
            )
        if self.sound and record.batch not in (self.batch or record.batch, position):
            yield Problem("log", f"record {position} names no batch", position, record.image_id)
        self.batch = record.batch
        if image:
            self.heads[image] = position
        was_gone = self.gone.pop(image, None) is not None
        was_gone |= self.sound and self.view.state(image) is None
        if isinstance(record.event, Deleted) or (was_gone and isinstance(record.event, Redacted)):
            self.gone[image] = position
        if isinstance(record.event, Tagged | Untagged):
            yield from self._named(record, record.event)
        if not self.sound:
            return
        try:
            self.view.apply(record)
        except CorruptionError as error:
            self.sound = False
            yield Problem("log", str(error), position, record.image_id)

    def _is_severed(self, record: Record, known: int) -> bool:
        """Tell whether a compaction took what came between a record and `known`, the one before."""
        if max(record.previous, known) > self.compacted.through:
            return False
        if record.previous:
            is_dropped = record.previous in self.dropped
            is_of_life = self.view.state(record.event.digest) is not None
            if is_dropped and is_of_life and not isinstance(record.event, Created):
                # All of a life is kept, but for names of what is redacted.
                self.severed.setdefault(record.event.digest, record.position)
            return is_dropped
        return self.view.state(record.event.digest) is None

    def _named(self, record: Record, event: Named) -> Iterator[Problem]:
        """Check that a record about a name names the one before it, and take it as the last."""
        before = self.names.get(event.name, 0)
        self.names[event.name] = record.position
        is_severed = max(event.before, before) <= self.compacted.through and (
            not event.before or event.before in self.dropped
        )
        if self.sound and event.before != before and not is_severed:
            yield Problem(
                "log",
                f"record {record.position} names {event.before} as the one before it about"
                f" {event.name}, not {before}",
                record.position,
                record.image_id,
            )

    def _snapshot(self) -> Iterator[Problem]:
        """Compare the snapshot at the view's position with the view, if there is one."""
        position = self.view.position
        if position == self.compacted.through:
            self.at_horizon = self.view.rows_digest
        if self.stored.pop(position, None) is None:
            return
        try:
            with self.read() as txn:
                raw = snapshots.raw_header(txn, position)
                if raw is None:
                    return  # it has been pruned since the list was made
                header = snapshot_headers.parse_header(position, raw)
                states = snapshots.load(txn, header)
        except CorruptionError as error:
            yield from self._of_snapshot(error, position)
            return
        if header.time_ns != self.view.time_ns or states != dict(self.view.rows()):
            yield Problem("snapshot", f"snapshot {position} is not the view", position)

    def _other_snapshots(self, last: int) -> Iterator[Problem]:
        """Check those that no view could be derived for by themselves."""
        for position, listed in sorted(self.stored.items()):
            if position > last:
                yield Problem("snapshot", f"snapshot {position} is beyond the log", position)
                continue
            try:
                with self.read() as txn:
                    raw = snapshots.raw_header(txn, position) or listed
                    snapshots.load(txn, snapshot_headers.parse_header(position, raw))
            except CorruptionError as error:
                yield from self._of_snapshot(error, position)

    def _of_snapshot(self, error: CorruptionError, position: int) -> Iterator[Problem]:
        """Report a snapshot once, though others may be read by way of it."""
        at = position if error.position is None else error.position
        if at not in self.reported:
            self.reported.add(at)
            yield Problem("snapshot", str(error), at)


def _configs(read: Read, created: set[bytes], stored: dict[bytes, int]) -> Iterator[Problem]:
    """Check every config; add the digests that there are to `stored`, and what redacted them."""
    start = b""
    while page := _page_of_configs(read, start):
        start = page[-1][0]
        for key, value in page:
            stored[key] = configs.redacted_at(key, value)
            try:
                if stored[key]:
                    continue  # what stands behind the mark is checked when all are known
                if configs.is_lost(value):
                    stored[key] = _LOST
                configs.unpack(key, value)
            except CorruptionError as error:
                kind = "lost" if configs.is_lost(value) else "config"
                yield Problem(kind, str(error), None, _id_of(key))
    for key in sorted(created - stored.keys()):
        image_id = digest.to_text(key)
        yield Problem("config", f"the config of {image_id} is missing", None, image_id)


def _last_redaction(txn: Transaction, replayed: _Replay) -> Iterator[Problem]:
    """Check the note that there are redactions, which those who write go by."""
    try:
        noted = scrubbing.last_redaction(txn)
    except CorruptionError as error:
        yield Problem("meta", str(error))
        return
    known = replayed.last_redaction
    if noted in replayed.dropped:
        return
    if noted != known and (replayed.sound or noted < known):
        text = f"the last redaction is record {known}, not {noted}"
        yield Problem("meta", text, known or noted)


def _redactions(stored: dict[bytes, int], replayed: _Replay) -> Iterator[Problem]:
    """Compare the marks in the place of configs with what the log says was redacted."""
    for key, position in sorted(stored.items()):
        known = replayed.redacted.get(key, 0)
        if position in (known, _LOST):
            continue
        image_id = _id_of(key)
        if position:
            text = f"the config of {image_id} is marked as redacted by {position}, not by {known}"
        else:
            text = f"the config of {image_id} is there, and record {known} redacted it"
        yield Problem("config", text, position or known, image_id)


def _page_of_configs(read: Read, after: bytes) -> list[tuple[bytes, bytes]]:
    """Return the next configs behind a digest, in bounded number and size."""
    page: list[tuple[bytes, bytes]] = []
    size = 0
    with read() as txn:
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


def _tombstones(
    stored: dict[bytes, bytes], replayed: _Replay, *, sealed: bool
) -> Iterator[Problem]:
    """Compare what is noted of images that are gone with what the log says, as far as it does.

    Those of a store that seals what it says of itself all have a checksum.
    """
    for image in sorted(stored.keys() | replayed.gone.keys()):
        image_id = _id_of(image)
        found = None
        try:
            if image in stored:
                found = log.unpack_note(image, stored[image], f"the tombstone of {image_id}")
        except CorruptionError as error:
            yield Problem("tombstone", str(error), None, image_id)
            continue
        if sealed and len(stored.get(image, b"")) == codec.KEY_SIZE:
            text = f"the tombstone of {image_id} is cut"
            yield Problem("tombstone", text, found, image_id)
            continue
        known = replayed.gone.get(image)
        limit = replayed.compacted.through if replayed.compacted.unfinished else 0
        if None in (found, known) and max(found or 0, known or 0) <= limit:
            continue  # it is still to be dropped, or has been
        if not replayed.sound and (known is None or (found or 0) > known):
            continue  # with a record lost, the last one that is known may not be the last
        if found != known:
            yield Problem(
                "tombstone",
                f"the stream of {image_id} ends at {known}, not {found}",
                found,
                image_id,
            )


def _names(stored: dict[bytes, bytes], replayed: _Replay) -> Iterator[Problem]:
    """Compare what is noted of names with what the log says, as far as it does."""
    noted: dict[str, int] = {}
    compacted = replayed.compacted
    for key, value in stored.items():
        name = names.name_of(key)
        try:
            noted[name] = names.unpack(key, value)
        except CorruptionError as error:
            replayed.names.pop(name, None)
            yield Problem("name", str(error))
    for name in sorted(noted.keys() | replayed.names.keys()):
        found, known = noted.get(name), replayed.names.get(name)
        if compacted.unfinished and max(found or 0, known or 0) <= compacted.through:
            continue  # it may still be to be dropped
        if not replayed.sound and (known is None or (found or 0) > known):
            continue  # with a record lost, the last one that is known may not be the last
        if found != known:
            text = f"the last record about the name {name} is {known}, not {found}"
            yield Problem("name", text, found)
