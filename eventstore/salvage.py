"""Get out of a damaged store all that still checks, into a new one, and list what was lost.

The source is read page by page, never through LMDB, and never written to. A record is believed if
its checksum fits its position, a config if its digest is its name; so what nothing leads to any
more can be found as well, by looking at every page of the file.

What is in the new store. The unbroken beginning of the log, byte for byte at the same positions, to
the first record that is lost (which may be in the middle of a batch); the configs of its images,
those that were lost noted as lost, so that `get` and `verify` go on naming them, those that were
redacted marked as that by what the log says, whatever bytes are found; tombstones, the places of
names and a snapshot made anew; an id of its own, with the source's id, if it can be read, the last
position in common and the source's own forks beside it. What checks but has no place in the log is
kept in `DEST/salvaged`: records behind the gap in `records.jsonl`, configs of no image in
`configs/`, and the list of what was lost in `lost.jsonl`.

Which record is the right one. The newer meta page decides that leads to a log; a note there says
where the log ends. What the trees below it lead to is taken. A position
that they do not lead to is looked for in all other pages: first in those that are not free, then
in free ones, which hold what earlier commits, and commits that never came to be, left behind. If
exactly one record there claims the position and fits the log before it, it is taken, and its
position is listed as recovered; if several do, none is taken and all are kept beside. A record that
a compaction dropped leaves its hash, which is taken in its place, and not the bytes of the record,
should they be found; if the
record by which the log was compacted is lost, another says so behind the rest. What lies
behind the end of the log counts for nothing where the source is sound at its head, and is kept
beside otherwise: its last commit may have been among it. Where the end cannot be told, all that
follows without a gap is taken, and that is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from eventstore import (
    backup,
    clock,
    codec,
    compaction,
    configs,
    digest,
    dropped,
    hashes,
    lmdb_pages,
    log,
    merkle,
    meta,
    names,
    replay,
    scrubbing,
    snapshots,
    store_files,
    structure,
)
from eventstore.errors import CorruptionError, StoreUsageError
from eventstore.events import Compacted, Created, Record, Redacted, Tagged, Untagged
from eventstore.lmdb_env import DATABASES, Environment
from eventstore.lmdb_pages import PageFile, Tree
from eventstore.lmdb_transaction import Transaction
from eventstore.problems import Problem
from eventstore.record_lines import as_json, write_lines
from eventstore.view import ImageView

FOLDER, RECORDS, CONFIGS, LOST = "salvaged", "records.jsonl", "configs", "lost.jsonl"
_ATTEMPTS = 3
_BATCH_LENGTH, _CONFIGS_AT_ONCE = 4096, 256


class SalvageReport(Struct, frozen=True):
    """What was taken out of a damaged store.

    Attributes:
        source: the store's directory.
        destination: the new store's directory.
        store_id: the id of the source, empty if it cannot be read.
        position: the last record of the new store; up to there it is the source, byte for byte.
        end: the last record of the source, None if it cannot be told.
        images: how many images the new store holds.
        recovered: positions of records that were found in pages that nothing leads to.
        records_beside: how many records that check are kept beside the new store's log.
        configs_beside: how many configs that check are kept beside the new store.
        lost: what was lost, one by one.
    """

    source: str
    destination: str
    store_id: str
    position: int
    end: int | None
    images: int
    recovered: tuple[int, ...]
    records_beside: int
    configs_beside: int
    lost: tuple[Problem, ...]


def salvage(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    now: clock.Clock = clock.system_clock,
) -> SalvageReport:
    """Write a new store with everything of a damaged one that still checks.

    The source is only read. The new store is made under another name and renamed when it is whole
    and on disk.

    Args:
        source: the directory of the store, which nobody may write to meanwhile.
        destination: a directory that does not exist yet.
        now: gives nanoseconds since 1970, UTC.

    Raises:
        DestinationExistsError: the destination exists, as whatever.
        StoreNotFoundError: there is no store.
        StoreUsageError: the destination lies in the source, or others write to the source.
        StoreFullError: there is no room for the new store.
        StoreIOError: the operating system refuses.
        CorruptionError: the source's data file is empty, or no file, or holds nothing of a store.
    """
    origin, target = store_files.located(source), store_files.located(destination)
    store_files.prepare(origin, create=False, damaged=True)
    with backup.whole_or_absent(target, origin) as folder:
        return _at_rest(origin, folder, target, now)


def _at_rest(origin: Path, folder: Path, target: Path, now: clock.Clock) -> SalvageReport:
    """Read and write, and make sure that the source did not move meanwhile."""
    import shutil  # salvaging is rare, and loading it costs every import of the library

    for _ in range(_ATTEMPTS):
        with PageFile(origin / store_files.DATA) as pages:
            before = pages.metas()
            found = _Found(pages)
            if found.is_nothing():
                raise CorruptionError(f"nothing in {origin} is of a store, so it was none of ours")
            report = _Writer(found, folder, target, now).write()
            if pages.metas() == before:
                return report
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
    raise StoreUsageError(f"others write to {origin}: stop them first")


class _Found:
    """All that checks in a data file, and where it lies.

    Attributes:
        end: the last position of the log, None if it cannot be told.
        sound: whether the head of the file is sound, so that nothing behind the end counts.
        places: position to place of the records that the trees lead to, if they check.
        strays: position to records in other pages, each with whether its page is in use; only
            positions that `places` has not.
        configs: digest to place of every config that checks.
        damaged: position to what is wrong with the record that the trees lead to.
        identity: what the source says of itself, None if it cannot be read.
        dropped: position to leaf hash of the records that a compaction dropped.
        horizon: how far the log was compacted, as far as it can be told.
    """

    def __init__(self, pages: PageFile) -> None:
        """Read the whole file, twice where something is missing."""
        self.pages = pages
        self.path = pages.path.parent
        self.places: dict[int, int] = {}
        self.strays: dict[int, dict[bytes, bool]] = {}
        self.configs: dict[bytes, int] = {}
        self.damaged: dict[int, str] = {}
        self.dropped: dict[int, bytes] = {}
        self._named: set[bytes] = set()
        self._known: set[int] = set()
        self._marked: set[bytes] = set()
        self.sound = lmdb_pages.head_fault(pages, DATABASES) is None
        self._meta = structure.best_meta(pages)
        faults: list[str] = []
        trees = {} if self._meta is None else pages.trees(self._meta, faults)
        for name in (b"log", b"configs", b"snapshots", b"tombstones", b"meta"):
            self._walk(name, trees.get(name), faults)
        reading = structure.PageReading(pages)
        self.identity = _identity(reading)
        self.horizon = self._horizon(reading)
        self.end = self._end(reading, bool(faults))
        self.sound = self.sound and not faults
        if self._is_incomplete():
            self._look_everywhere()

    def _walk(self, name: bytes, tree: Tree | None, faults: list[str]) -> None:
        """Take what a tree leads to."""
        if tree is None:
            faults.append(f"the database {name!r} is not there")
            return
        for number, raw in self.pages.leaves(tree, name.decode(), faults):
            self._known.add(number)
            for node in lmdb_pages.nodes(raw):
                self._known.update(self.pages.run(raw, node))
                if name == b"meta" and node.key.startswith(dropped.PREFIX):
                    with suppress(CorruptionError):
                        row = dropped.unpack(node.key, self.pages.value(raw, node) or b"")
                        self.dropped.update(row)
                elif name == b"log":
                    self._take_record(number, raw, node)
                elif name == b"configs":
                    self._named.add(node.key)
                    self._take_config(number, raw, node)
                    if configs.redacted_at(node.key, self.pages.value(raw, node) or b""):
                        self._marked.add(node.key)

    def _take_record(self, number: int, raw: bytes, node: lmdb_pages.Node) -> None:
        if len(node.key) != codec.KEY_SIZE:
            return
        position = int.from_bytes(node.key, "big")
        try:
            codec.decode(position, self.pages.value(raw, node) or b"")
        except CorruptionError as error:
            self.damaged.setdefault(position, str(error))
        else:
            self.places.setdefault(position, structure.place_of(number, node))

    def _take_config(self, number: int, raw: bytes, node: lmdb_pages.Node) -> None:
        if len(node.key) != digest.DIGEST_SIZE or node.key in self.configs:
            return
        try:
            configs.unpack(node.key, self.pages.value(raw, node) or b"")
        except CorruptionError:
            return
        self.configs[node.key] = structure.place_of(number, node)

    def _horizon(self, reading: structure.PageReading) -> dropped.Horizon:
        for position in self.dropped.keys() & self.places.keys():
            del self.dropped[position]  # by a compaction that never was committed
        try:
            noted = dropped.horizon(reading)
        except CorruptionError:
            noted = dropped.NOWHERE
        through = max(self.dropped, default=0)
        if noted.through >= through:
            return noted
        after = self.record(min((at for at in self.places if at >= through), default=0))
        time_ns = 0 if after is None else after.time_ns  # or before, but not earlier moments' past
        return dropped.Horizon(through, 0, time_ns, unfinished=True)

    def _end(self, reading: structure.PageReading, bent: bool) -> int | None:
        """Return the last position of the log, None if it cannot be told."""
        try:
            noted = log.noted_end(reading)
        except CorruptionError:
            return None
        if bent or self._meta is None:
            return noted
        if noted is not None:
            # A version that notes no end may have appended since: what the log leads to is of it.
            return max(noted, max(self.places, default=0))
        return max(self.places.keys() | self.damaged.keys() | self.dropped.keys(), default=0)

    def _is_incomplete(self) -> bool:
        """Tell whether there may be something in other pages that is needed."""
        whole = self.end is not None and all(
            at in self.places or at in self.dropped for at in range(1, self.end + 1)
        )
        return not whole or not self.sound or not self._named <= self.configs.keys() | self._marked

    def _look_everywhere(self) -> None:
        """Look at every page that no tree leads to."""
        free: set[int] = set()
        faults: list[str] = []
        if self._meta is not None:
            _, free = self.pages.free_pages(self._meta, faults)
        for number, raw in self.pages.stray_leaves(self._known):
            for node in lmdb_pages.nodes(raw):
                if len(node.key) == codec.KEY_SIZE:
                    self._take_stray(raw, node, in_use=not faults and number not in free)
                else:
                    self._take_config(number, raw, node)

    def _take_stray(self, raw: bytes, node: lmdb_pages.Node, *, in_use: bool) -> None:
        position = int.from_bytes(node.key, "big")
        if position in self.places or position in self.dropped:
            return
        if self.sound and position > (self.end or 0):
            return
        value = self.pages.value(raw, node) or b""
        try:
            codec.decode(position, value)
        except CorruptionError:
            return
        found = self.strays.setdefault(position, {})
        found[value] = found.get(value, False) or in_use

    def is_nothing(self) -> bool:
        """Tell whether nothing here is of a store, not even its name."""
        return not (self.identity or self.places or self.strays or self.configs)

    def record(self, position: int) -> Record | None:
        """Return the record at a position that the trees lead to, None if there is none."""
        place = self.places.get(position)
        raw = None if place is None else structure.value_at(self.pages, place)
        return None if raw is None else codec.decode(position, raw)

    def candidates(self, position: int) -> list[Record]:
        """Return what claims to be the record at a position in other pages, the likelier only."""
        found = self.strays.get(position, {})
        in_use = [raw for raw, used in found.items() if used]
        return [codec.decode(position, raw) for raw in in_use or found]

    def config(self, image: bytes) -> bytes | None:
        """Return the config under a digest, None if none checks."""
        place = self.configs.get(image)
        value = None if place is None else structure.value_at(self.pages, place)
        return None if value is None else configs.unpack(image, value)


def _identity(txn: Transaction) -> meta.Identity | None:
    try:
        return meta.read_in(txn)
    except CorruptionError:
        return None


class _Writer:
    """Writes what was found as a new store in a folder."""

    def __init__(self, found: _Found, folder: Path, target: Path, now: clock.Clock) -> None:
        """Prepare to write into an empty folder, that will be called `target`."""
        self.found = found
        self.folder = folder
        self.target = target
        self.now = now
        self.view = ImageView()
        self.view.expect_dropped(found.horizon.through)
        self.heads: dict[bytes, int] = {}
        self.names: dict[str, int] = {}
        self.compacted: dict[int, int] = {}
        self.edge = merkle.Frontier()
        self.here = 0
        self.again: Record | None = None
        self.horizon = dropped.NOWHERE
        self.batch = 1
        self.created: set[bytes] = set()
        self.redacted: dict[bytes, int] = {}
        self.last_redaction = 0
        self.recovered: dict[int, bytes] = {}
        self.misfit: Problem | None = None
        self.lost: list[Problem] = []

    def write(self) -> SalvageReport:
        """Write everything, and report."""
        while self._step(self.view.position + 1):
            pass
        self._note_lost()
        self._find_horizon()
        known, position = self.found.identity, self.here
        fork = None if known is None else meta.Fork(known.store_id, position)
        before = () if known is None else known.forks
        founding = meta.founding(self.now, fork, before)
        environment = Environment(self.folder, initialise=founding)
        try:
            for start in range(1, position + 1, _BATCH_LENGTH):
                end = min(start + _BATCH_LENGTH, position + 1)
                environment.write(partial(self._write_records, positions=range(start, end)))
            for part in self._parts(sorted(self.created)):
                environment.write(partial(self._write_configs, images=part))
            environment.write(self._write_notes)
            if self.view.position:
                replay.fill_snapshots(environment, 0, self.view.position)
                snapshots.put(environment, self.view)
        finally:
            environment.close()
        records_beside, configs_beside = self._write_beside(position)
        for path in (self.folder / store_files.DATA, self.folder):
            store_files.sync(path)
        return SalvageReport(
            source=str(self.found.path),
            destination=str(self.target),
            store_id="" if known is None else known.store_id,
            position=position,
            end=self.found.end,
            images=len(self.view),
            recovered=tuple(self.recovered),
            records_beside=records_beside,
            configs_beside=configs_beside,
            lost=tuple(self.lost),
        )

    def _step(self, position: int) -> bool:
        """Move over the next record, or the hash of one; tell whether there is one."""
        compacted = self.found.horizon
        if position in self.found.dropped:
            is_end = position == compacted.through
            self.view.skip_to(position, compacted.time_ns if is_end else self.view.time_ns)
            self.edge.add(self.found.dropped[position])
            self.batch = 0
            return True
        record = self._next(position)
        if record is not None:
            self._fold(record)
            if position <= compacted.through:
                self.edge.add(merkle.leaf_hash(record.raw))
        return record is not None

    def _next(self, position: int) -> Record | None:
        """Return the next record of the log, None where it is broken or ends."""
        if self.found.end is not None and position > self.found.end:
            return None
        record = self.found.record(position)
        if record is not None:
            if self._fits(record):
                return record
            self.misfit = Problem("log", f"record {position} does not follow", position)
            return None
        candidates = self.found.candidates(position)
        if len(candidates) != 1 or not self._fits(candidates[0]):
            return None
        self.recovered[position] = candidates[0].raw
        return candidates[0]

    def _fits(self, record: Record) -> bool:
        """Tell whether a record can be what follows."""
        image = record.event.digest
        if not self._leads_to(record.previous, self.heads.get(image, 0)):
            return False
        if record.batch not in (self.batch or record.batch, record.position):
            return False
        event = record.event
        if isinstance(event, Tagged | Untagged) and not self._leads_to(
            event.before, self.names.get(event.name, 0)
        ):
            return False
        try:
            self.view.branch(None).apply(record)
        except CorruptionError:
            return False
        return True

    def _leads_to(self, before: int, known: int) -> bool:
        """Tell whether a record may give `before` as the one before it, where `known` is known."""
        if before == known:
            return True
        if max(before, known) > self.found.horizon.through:
            return False
        return not before or before in self.found.dropped

    def _fold(self, record: Record) -> None:
        self.view.apply(record)
        if record.image_id:
            self.heads[record.event.digest] = record.position
        self.batch = record.batch
        if isinstance(record.event, Created):
            self.created.add(record.event.digest)
            self.redacted.pop(record.event.digest, None)
        elif isinstance(record.event, Redacted):
            self.created.add(record.event.digest)
            self.redacted[record.event.digest] = self.last_redaction = record.position
        elif isinstance(record.event, Tagged | Untagged):
            self.names[record.event.name] = record.position
        elif isinstance(record.event, Compacted):
            self.compacted[record.event.through] = record.position

    def _note_lost(self) -> None:
        """List the records and the configs that were lost."""
        found, here = self.found, self.view.position
        if self.misfit is not None:
            self.lost.append(self.misfit)
        there = found.places.keys() | found.strays.keys() | found.dropped.keys()
        last = found.end if found.end is not None else max(there, default=0)
        gap: int | None = None
        for position in range(here + 1, last + 2):
            absent = position <= last and position not in there and position not in found.damaged
            if gap is not None and not absent:
                self.lost.append(_missing(gap, position - 1))
                gap = None
            elif gap is None and absent:
                gap = position
            if position <= last and position not in found.places and position not in found.dropped:
                self._note_unclear(position)
        if found.end is None:
            self.lost.append(Problem("log", "where the log ended cannot be told"))
        behind = sorted(at for at in found.strays if found.end is not None and at > found.end)
        if behind:
            text = f"records {behind[0]} to {behind[-1]}, behind the end, may have been committed"
            self.lost.append(Problem("log", text, behind[0]))
        for image in sorted(self.created | self._created_beside(here)):
            if image not in found.configs and image not in self.redacted:
                image_id = digest.to_text(image)
                text = f"the config of {image_id} is damaged or missing"
                self.lost.append(Problem("config", text, None, image_id))

    def _note_unclear(self, position: int) -> None:
        """List a record that is damaged, or that several claim to be."""
        candidates = self.found.candidates(position)
        if len(candidates) > 1:
            text = f"{len(candidates)} different records claim to be record {position}"
            self.lost.append(Problem("log", text, position))
        elif not candidates and position in self.found.damaged:
            self.lost.append(Problem("log", self.found.damaged[position], position))

    def _beside(self, end: int) -> Iterator[Record]:
        """Iterate over the records that check and are not in the new log, taken up to `end`."""
        positions = self.found.places.keys() | self.found.strays.keys()
        for position in sorted(positions):
            if position > end:
                record = self.found.record(position)
                if record is not None:
                    yield record
                for raw in self.found.strays.get(position, {}):
                    yield codec.decode(position, raw)
            elif position not in self.found.places and len(self.found.strays[position]) > 1:
                for raw in self.found.strays[position]:
                    if raw != self.recovered.get(position):
                        yield codec.decode(position, raw)

    def _created_beside(self, end: int) -> set[bytes]:
        beside = self._beside(end)
        return {record.event.digest for record in beside if isinstance(record.event, Created)}

    def _write_records(self, txn: Transaction, *, positions: range) -> None:
        gone = {at: self.found.dropped[at] for at in positions if at in self.found.dropped}
        dropped.add(txn, gone)
        for position in positions:
            if position in gone:
                continue
            raw = self.recovered.get(position)
            if raw is None:
                raw = structure.value_at(self.found.pages, self.found.places[position])
            if raw is None:
                raise CorruptionError(f"record {position} changed meanwhile", position=position)
            txn.append("log", codec.position_key(position), raw)

    def _parts(self, images: list[bytes]) -> Iterator[list[bytes]]:
        """Cut images into parts whose configs fit into one transaction."""
        for start in range(0, len(images), _CONFIGS_AT_ONCE):
            yield images[start : start + _CONFIGS_AT_ONCE]

    def _write_configs(self, txn: Transaction, *, images: list[bytes]) -> None:
        for image in images:
            config = self.found.config(image)
            if image in self.redacted:
                configs.put_mark(txn, image, self.redacted[image])
            elif config is None:
                configs.put_lost(txn, image)
            else:
                configs.put(txn, image, config)

    def _write_notes(self, txn: Transaction) -> None:
        """Write what is derived from the log: its end, and the ends of streams and of names."""
        if self.again is not None:
            txn.append("log", codec.position_key(self.again.position), self.again.raw)
        if self.found.horizon.through:
            dropped.note(txn, self.horizon)
        log.note_end(txn, self.view.position)
        hashes.extend(txn, 0, self.view.position)
        if self.last_redaction:
            scrubbing.note(txn, self.last_redaction)
        for image in sorted(self.created):
            if self.view.state(image) is None:
                log.put_tombstone(txn, image, self.heads[image])
        for name, position in sorted(self.names.items()):
            names.put(txn, name, position)

    def _find_horizon(self) -> None:
        """Find how far the log is compacted here, and say so anew where that record was lost."""
        known, end = self.found.horizon, self.view.position
        self.here, through = end, min(known.through, end)
        time_ns = known.time_ns if through == known.through else self.view.time_ns
        if through and through not in self.compacted:
            root_hash = self.edge.checkpoint().root_hash
            self.again = compaction.say_again(self.view, through, root_hash, self.now)
            self._fold(self.again)
        gone = sum(at <= end for at in self.found.dropped)
        by = self.compacted.get(through, 0)
        self.horizon = dropped.Horizon(through, by, time_ns, gone, known.unfinished)

    def _write_beside(self, end: int) -> tuple[int, int]:
        """Write what has no place in the new store; return how many records and configs."""
        beside = list(self._beside(end))
        records = [as_json(record) for record in beside]
        redacted = {one.event.digest for one in beside if isinstance(one.event, Redacted)}
        images = sorted(self.found.configs.keys() - self.created - redacted)
        if not records and not images and not self.lost:
            return 0, 0
        folder = self.folder / FOLDER
        folder.joinpath(CONFIGS).mkdir(parents=True)
        write_lines(folder / LOST, map(msgspec.to_builtins, self.lost))
        write_lines(folder / RECORDS, records)
        for image in images:
            config = self.found.config(image)
            if config is not None:
                folder.joinpath(CONFIGS, image.hex()).write_bytes(config)
        return len(records), len(images)


def _missing(first: int, last: int) -> Problem:
    which = f"record {first} is" if first == last else f"records {first} to {last} are"
    return Problem("log", f"{which} missing", first)
