"""Damage every part of a store, one part at a time, and look for a wrong answer.

    rot.py [--sample N] [--pages N] [--seed N] [--workers N] [--weaken NAME]

A small store is built that has everything: batches, deleted images and images created again,
configs packed and as they are, some of either on overflow pages, snapshots of several chunks, trees
of several levels. Then, each in a fresh copy:

* every record, config, chunk and header of a snapshot, tombstone and note is changed through LMDB:
  bits flipped (every one, or a sample of N), cut, extended, swapped with its neighbour, copied to
  another key, deleted; and two things at once;
* the file itself is changed: bits of every page (a sample of N in its header, its nodes, its free
  space), pages zeroed, swapped, copied over each other, and the file cut at many lengths.

What is asked of each copy, in a process of its own, since LMDB may die of it:

* `verify` names what was changed; only where every answer is what it was may it find nothing;
* `salvage` gives a sound store whose records are the first ones of the undamaged, loses no record
  that was not damaged, and lists what it lost;
* neither dies, hangs, or changes a byte of the file;
* an open refuses, or every answer is the right one or an error of ours; a record that is damaged is
  named by its position. Opened with `check_structure=True` this must hold for all, also for the
  file; without, what is left for the file is counted, and said.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zlib import crc32

from eventstore import (
    CorruptionError,
    EventStoreError,
    ImageStore,
    Problem,
    StoreIOError,
    codec,
    columns,
    configs,
    lmdb_pages,
    log,
    snapshot_headers,
    snapshots,
    structure,
    verify,
)
from eventstore.salvage import RECORDS, SalvageReport, salvage
from rot_damages import MAP_SIZE, Damage, Pristine, build, entry_damages, file_damages

SECONDS_MAX = 60.0
PAGE_SIZE = 4096


# What is asked of a damaged copy.


class Trial:
    """A damaged copy, and what is wrong with how it is met."""

    def __init__(self, pristine: Pristine, damage: Damage, folder: Path) -> None:
        """Make the copy in a folder."""
        self.pristine = pristine
        self.damage = damage
        self.path = folder / "copy"
        self.saved = folder / "saved"
        for path in (self.path, self.saved):
            shutil.rmtree(path, ignore_errors=True)
        self.path.mkdir()
        shutil.copy(pristine.path / "data.mdb", self.path)
        damage.apply(self.path)
        self.path.joinpath("lock.mdb").unlink(missing_ok=True)
        self.content = self.path.joinpath("data.mdb").read_bytes()
        self.violations: list[str] = []
        self.counts = Counter[str]()
        self.problems: list[Problem] = []

    def blame(self, text: str) -> None:
        """Note that something is wrong."""
        self.violations.append(f"{self.damage.name}: {text}")

    def verify(self) -> None:
        """Let `verify` name it."""
        try:
            self.problems = list(verify.check_store(self.path))
        except CorruptionError as error:
            self.problems = [Problem("structure", str(error))]
        found = set[tuple[str, object]]()
        for problem in self.problems:
            found |= {(problem.kind, what) for what in (None, problem.position, problem.image_id)}
        missed = [name for name in self.damage.named if name not in found]
        if missed and (self.damage.strict or self.problems):
            self.blame(f"verify does not name {missed[0]}")
        self.counts["named by verify"] += bool(self.problems)

    def salvage(self) -> None:
        """Let `salvage` get out what is sound."""
        try:
            report = salvage(self.path, self.saved)
        except CorruptionError:
            # Of a file that was cut short, no record may be left to save.
            whole = self.content[: len(self.content) // PAGE_SIZE * PAGE_SIZE]
            if any(raw in whole for raw in self.pristine.raws):
                self.blame("salvage refuses it")
            return
        raws, position = self.pristine.raws, report.position
        with ImageStore.open(self.saved, map_size=MAP_SIZE) as store:
            if [record.raw for record in store.records()] != raws[:position]:
                self.blame("what salvage wrote is not the beginning of the log")
            lost = {loss.image_id for loss in report.lost if loss.kind == "config"}
            if {problem.image_id for problem in store.verify()} - lost:
                self.blame("what salvage wrote does not verify")
        self._account(report)
        self.counts["salvaged whole"] += position == len(raws) and not report.lost

    def _account(self, report: SalvageReport) -> None:
        """Make sure that salvage lost nothing that it could have kept, and nothing unsaid."""
        raws = self.pristine.raws
        kept = set(raws[: report.position])
        if report.records_beside:
            lines = self.saved.joinpath("salvaged", RECORDS).read_text().splitlines()
            kept |= {bytes.fromhex(json.loads(line)["raw"]) for line in lines}
        missing = len(set(raws) - kept)
        if missing > self.damage.records:
            self.blame(f"salvage lost {missing} records")
        if report.position < len(raws) and not report.lost:
            self.blame("salvage says that nothing was lost")

    def read(self, *, check_structure: bool) -> None:
        """Open it and ask everything."""
        checked = check_structure or not self.damage.of_file
        try:
            with ImageStore.open(
                self.path,
                create=False,
                check_structure=check_structure,
                map_size=MAP_SIZE,
            ) as store:
                wrong, refused = self._wrong(store)
        except (CorruptionError, StoreIOError) as error:
            self.counts["refused at open"] += checked
            self._check_position(error)
            return
        text = f"wrong answer to {wrong[0]!r}" if wrong else ""
        if wrong and checked:
            self.blame(text)
        elif wrong:
            self.counts["file damages answered wrongly without check_structure"] += 1
            self.counts[f"left: {self.damage.name}: {text}"] += 1
            if not self.problems:
                self.blame(f"{text}, and verify finds nothing")
        elif checked:
            self.counts["errors for answers" if refused else "every answer right"] += 1
        if (wrong or refused) and not self.problems:
            self.blame("verify finds nothing, and not all answers are right")

    def _wrong(self, store: ImageStore) -> tuple[list[str], int]:
        """Return the questions that are answered wrongly, and how many were refused."""
        wrong, refused = list[str](), 0
        for name, answer in self.pristine.ask(store):
            if isinstance(answer, EventStoreError):
                refused += 1
            elif answer != self.pristine.answers[name]:
                wrong.append(name)
        return wrong, refused

    def _check_position(self, error: EventStoreError) -> None:
        """Make sure that a damaged record is named where it stopped the open."""
        positions = {what for kind, what in self.damage.named if kind == "log"} - {None}
        if positions and isinstance(error, CorruptionError) and error.position is None:
            self.blame(f"refused without a position: {error}")

    def unchanged(self) -> None:
        """Make sure that nobody wrote to the file."""
        if self.path.joinpath("data.mdb").read_bytes() != self.content:
            self.blame("the file was changed")


def steps(trial: Trial) -> Iterator[tuple[str, Callable[[], None]]]:
    """Iterate over what is done with a copy; what may kill the process comes last."""
    yield "verify", trial.verify
    yield "salvage", trial.salvage
    yield "checked open", partial(trial.read, check_structure=True)
    yield "file", trial.unchanged
    if trial.damage.of_file:
        yield "open", partial(trial.read, check_structure=False)
        yield "file", trial.unchanged


def work(store: Path, weaken: str | None, damages: Sequence[Damage], pipe: Connection) -> None:
    """Try damages one after the other, and say before each step what is about to be done."""
    logging.disable(logging.CRITICAL)
    pristine = Pristine(store)
    if weaken is not None:
        WEAKENINGS[weaken]()
    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        for number, damage in enumerate(damages):
            trial = Trial(pristine, damage, Path(folder))
            for name, step in steps(trial):
                pipe.send((number, name))
                try:
                    step()
                except Exception as error:  # whatever it is, it is a finding
                    trial.blame(f"{name} raises {type(error).__name__}: {error}")
            pipe.send((number, trial.violations, trial.counts))
    pipe.send(None)


@dataclass
class Findings:
    """What was found, over all damages."""

    met: list[Damage] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    interrupted: bool = False

    def died(self, damage: Damage, step: str, how: str) -> None:
        """Note that the process that met a damage came to an end in a step."""
        self.met.append(damage)
        if step == "open" and damage.of_file:
            self.counts["file damages that LMDB died of without check_structure"] += 1
        else:
            self.violations.append(f"{damage.name}: the process {how} in {step}")


def meet(
    store: Path, weaken: str | None, damages: list[Damage], findings: Findings, stop: bool
) -> None:
    """Try damages in child processes, a new one after each that died."""
    context = multiprocessing.get_context("spawn")
    while damages and not findings.interrupted and not (stop and findings.violations):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(store, weaken, damages, theirs))
        child.start()
        theirs.close()
        number, step, how = 0, "start", "ended"
        try:
            while True:
                if not mine.poll(SECONDS_MAX):
                    how = "hung"
                    break
                said = mine.recv()
                if findings.interrupted:
                    return
                if said is None:
                    damages = []
                    break
                if len(said) == 2:
                    number, step = said
                    continue
                findings.met.append(damages[said[0]])
                findings.violations += said[1]
                findings.counts += said[2]
                number, step = said[0] + 1, "start"
                if stop and findings.violations:
                    return
        except EOFError:
            pass
        finally:
            child.kill() if child.is_alive() and (damages or stop) else None
            child.join()
        if damages and number < len(damages):
            findings.died(damages[number], step, how)
        damages = damages[number + 1 :]


def main() -> int:
    """Damage everything, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=8, help="bits of an entry, at most")
    parser.add_argument("--pages", type=int, default=12, help="bits of a part of a page, at most")
    parser.add_argument("--share", type=float, default=1.0, help="share of the damages to try")
    parser.add_argument("--only", choices=("entries", "file"), default=None)
    parser.add_argument("--match", default="", help="what a damage's name must hold")
    parser.add_argument("--images", type=int, default=48, help="images of the store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    options = parser.parse_args()
    began, chance = time.monotonic(), random.Random(options.seed)
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="rot-", dir=folder) as top:
        store = Path(top) / "store"
        build(store, options.images)
        pristine = Pristine(store)
        damages = list(entry_damages(pristine, options.sample, chance))
        damages += file_damages(pristine, options.pages, chance)
        damages = [
            damage
            for damage in damages
            if options.only in (None, "file" if damage.of_file else "entries")
            and options.match in damage.name
            and chance.random() < options.share
        ]
        chance.shuffle(damages)
        findings = Findings()
        parts = [damages[number :: options.workers] for number in range(options.workers)]
        stop = options.weaken is not None
        with ThreadPoolExecutor(options.workers) as pool:
            try:
                list(
                    pool.map(lambda part: meet(store, options.weaken, part, findings, stop), parts)
                )
            except KeyboardInterrupt:
                findings.interrupted = True  # or it would begin again for each damage that is left
                raise
    report(pristine, findings)
    print(
        f"{len(findings.met)} damages ({counted(findings, of_file=False)} of entries;"
        f" {counted(findings, of_file=True)} of the file), {len(findings.violations)} violations,"
        f" {time.monotonic() - began:.0f} s (sample {options.sample}, pages {options.pages},"
        f" share {options.share}, seed {options.seed})"
    )
    return 1 if findings.violations else 0


def counted(findings: Findings, *, of_file: bool) -> str:
    """Return how many flips, and how many other damages, of one level were met."""
    met = [damage.name for damage in findings.met if damage.of_file is of_file]
    flips = sum(name.startswith("flip") for name in met)
    return f"{flips} flips and {len(met) - flips} others"


def report(pristine: Pristine, findings: Findings) -> None:
    """Print what the store was, what was tried, and what came of it."""
    held = ", ".join(f"{len(entries)} {name}" for name, entries in pristine.entries.items())
    print(f"the store: {pristine.position} records; entries: {held}")
    kinds = Counter(" ".join(damage.name.split()[:2]).rstrip(",") for damage in findings.met)
    for name, count in sorted(kinds.items()):
        print(f"  {count:6}  {name}")
    for name, count in sorted(findings.counts.items()):
        print(f"  {count:6}  {name}")
    for text in islice(findings.violations, 20):
        print(f"VIOLATION {text}")


# Weakenings of the store under attack.


def _without_record_checksum() -> None:
    """Take a record's bytes for what was written."""
    real = codec.decode_envelope

    def unchecked(position: int, raw: bytes) -> codec.Envelope:
        payload = raw[: -codec.CHECKSUM_SIZE]
        checksum = crc32(payload, crc32(codec.position_key(position)))
        return real(position, payload + checksum.to_bytes(codec.CHECKSUM_SIZE, "big"))

    def events(stored: Any) -> Iterator[Any]:
        for key, raw in stored:
            record = codec.decode(int.from_bytes(key, "big"), raw)
            yield record.position, record.time_ns, record.event

    codec.decode_envelope = unchecked
    codec.decode_events = events


def _without_config_digest() -> None:
    """Take a config's bytes for what was written."""
    configs.unpack = lambda key, value: configs.content(value) or b""  # noqa: ARG005 (the same)


def _without_snapshot_digest() -> None:
    """Take a snapshot's rows for what was written."""

    def unchecked(txn: Any, header: snapshot_headers.Header, number: int) -> bytes:
        return b"".join(snapshots._pieces_of(txn, header, number)) or b"\x04"

    def anything(txn: Any, header: snapshot_headers.Header, number: int) -> columns.Columns:
        return columns.decode(snapshots._chunk(txn, header, number))

    snapshots._chunk = unchecked
    snapshots.read_columns = anything


def _without_gap_check() -> None:
    """Pass over records that are missing."""

    def gapless(txn: Any, after: int, through: int) -> Iterator[Any]:
        for key, raw in txn.scan("log", codec.position_key(after + 1)):
            position = int.from_bytes(key, "big")
            if position > through:
                return
            yield codec.decode(position, raw)

    log.scan = gapless
    log._is_whole = lambda page, last, length: True  # noqa: ARG005 (as the real one)
    log.checked_end = log.last_position


def _without_end() -> None:
    """Take the last record that is there for the last that was appended."""
    log.checked_end = log.last_position


def _without_structure() -> None:
    """Let `verify` look at what the databases hold only."""
    structure._at_rest = lambda path: []  # noqa: ARG005 (as the real one)


def _without_head_check() -> None:
    """Let LMDB choose among the meta pages alone."""
    lmdb_pages.head_fault = lambda pages, databases: None  # noqa: ARG005 (as the real one)


def _verify_stops_early() -> None:
    """Name the first problem only."""
    real = verify.check_store
    verify.check_store = lambda path, *, progress=None: islice(real(path, progress=progress), 1)


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-record-checksum": _without_record_checksum,
    "no-config-digest": _without_config_digest,
    "no-snapshot-digest": _without_snapshot_digest,
    "no-gap-check": _without_gap_check,
    "no-end": _without_end,
    "no-structure-check": _without_structure,
    "no-head-check": _without_head_check,
    "verify-stops-early": _verify_stops_early,
}

if __name__ == "__main__":
    raise SystemExit(main())
