"""Hold what threads and processes did and saw against the log that they left: one order for all.

Pure: it knows neither the store nor a clock. Every thread keeps a history of what it did, with the
moments between which it did it, on a clock that all processes share. Given all histories and the
log, `violations` yields whatever contradicts one of these:

 1. No gap: the log's positions are 1 to N, and the records of a batch lie together.
 2. One order: every write that was acknowledged is one batch of the log, with the events, the
    positions and the actor that its writer knows, and no two share a position.
 3. Nothing foreign: every batch of the log was begun by somebody, and only once.
 4. All or nothing: a transaction that failed, was refused or was killed before its end left no
    record; one that was killed in its commit left all of them or none.
 5. Real time: a write that began after another write, or a read, had ended comes after what that
    wrote or saw.
 6. Reads never go back: a read that began after a write or a read had ended, in whichever thread
    or process, sees at least that; hence every thread reads its own writes.
 7. Whole batches: no read is of a position in the middle of a batch.
 8. True answers: what a read answered is what a fold of the log gives at one position between
    those at which it began and ended. (Whole views of the past are compared by their digests, with
    a replay from the first record, by whoever has a store.)
 9. True records: what was read or followed is what the log holds.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

ABSENT = "absent"
NEVER = 1 << 63
Answer = bool | int | str | None | tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A record of the log.

    Attributes:
        position: its number.
        batch: the position of the first record of its transaction.
        actor: the process that appended it.
        name: of the operation, which its reason holds.
        kind: the name of its event.
        image: what the event is about.
        other: the parent that it gives, or None.
        checksum: CRC-32 of its stored bytes.
    """

    position: int
    batch: int
    actor: str
    name: str
    kind: str
    image: str
    other: str | None = None
    checksum: int = 0


@dataclass(frozen=True)
class Write:
    """What a thread knows of a change that it made, tried, or was killed in.

    Attributes:
        name: unique, `process.thread.number`.
        start: before it began.
        end: after it was acknowledged or refused; `NEVER` if the thread did not live to see it.
        outcome: `acknowledged`, `failed` (nothing may be there), `inside` (killed before the end
            of its transaction), `leaving` (killed in the commit) or `perhaps` (acknowledged, but
            if there was nothing to change there is no event).
        events: kinds and images, if the thread knows them.
        positions: the first and last, if the thread knows them.
    """

    name: str
    start: int
    end: int
    outcome: str
    events: tuple[tuple[str, str], ...] | None = None
    positions: tuple[int, int] | None = None


@dataclass(frozen=True)
class Read:
    """What a thread asked and was answered.

    Attributes:
        thread: who asked.
        start: before it began.
        end: after it ended.
        low: the position before the question.
        high: the position after the answer.
        asked: `position`, `length`, `has`, `parent` or `children`.
        image: which image, or empty.
        answer: what came back; `ABSENT` for an image that is not there.
    """

    thread: str
    start: int
    end: int
    low: int
    high: int
    asked: str
    image: str = ""
    answer: Answer = None


@dataclass(frozen=True)
class Stretch:
    """Records that a thread read in a row: (after, through], and the CRC-32 of their bytes."""

    thread: str
    after: int
    through: int
    checksum: int


@dataclass
class Histories:
    """What all threads did and saw."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)


def violations(log: Sequence[Entry], histories: Histories) -> Iterator[str]:
    """Yield every contradiction between the log, all of it in its order, and the histories."""
    gaps = list(_gaps(log))
    yield from gaps
    if gaps:
        return  # what follows finds records by their positions
    batches: dict[str, list[Entry]] = {}
    for entry in log:
        batches.setdefault(entry.name, []).append(entry)
    yield from _orders(batches, histories.writes)
    yield from _times(batches, histories)
    try:
        model = Model(log)
    except KeyError as error:
        yield f"impossible: a record is about {error}, which is not there"
        return
    for read in histories.reads:
        yield from _answers(model, read)
    yield from _stretches(log, histories.stretches)


def _gaps(log: Sequence[Entry]) -> Iterator[str]:
    batch = 0
    for expected, entry in enumerate(log, 1):
        if entry.position != expected:
            yield f"gap: position {entry.position} stands where {expected} should"
            return
        if entry.batch == expected:
            batch = expected
        elif entry.batch != batch:
            yield f"gap: record {expected} is of batch {entry.batch}, inside batch {batch}"


def _orders(batches: Mapping[str, list[Entry]], writes: Iterable[Write]) -> Iterator[str]:
    known: set[str] = set()
    for write in writes:
        if write.name in known:
            yield f"order: two writes have the name {write.name}"
        known.add(write.name)
        found = batches.get(write.name, [])
        if not found:
            if write.outcome == "acknowledged":
                yield f"lost: {write.name} was acknowledged and is not in the log"
            continue
        if write.outcome in ("failed", "inside"):
            yield f"atomicity: {write.name} ended as {write.outcome} and left {found[0].position}"
        yield from _batch_faults(write, found)
    for name in sorted(batches.keys() - known):
        yield f"foreign: nobody began {name!r}, at position {batches[name][0].position}"


def _batch_faults(write: Write, found: Sequence[Entry]) -> Iterator[str]:
    if len({entry.batch for entry in found}) != 1:
        yield f"order: {write.name} is in the log more than once"
    if {entry.actor for entry in found} != {write.name.split(".")[0]}:
        yield f"order: {write.name} is another's in the log: {found[0].actor}"
    events = tuple((entry.kind, entry.image) for entry in found)
    if write.events is not None and events != write.events:
        yield f"order: {write.name} has other events in the log than its writer knows"
    positions = (found[0].position, found[-1].position)
    if write.positions is not None and write.positions != positions:
        yield f"order: {write.name} is at {positions}, its writer was told {write.positions}"


@dataclass(frozen=True)
class _Moment:
    """The time of something, and the least and greatest position that it stands for."""

    start: int
    end: int
    low: int
    high: int
    label: str
    writes: bool


def _moments(batches: Mapping[str, list[Entry]], histories: Histories) -> Iterator[_Moment]:
    for write in histories.writes:
        if found := batches.get(write.name):
            low, high = found[0].position, found[-1].position
            yield _Moment(write.start, write.end, low, high, write.name, writes=True)
    for read in histories.reads:
        label = f"a read of {read.thread}"
        yield _Moment(read.start, read.end, read.low, read.high, label, writes=False)


def _times(batches: Mapping[str, list[Entry]], histories: Histories) -> Iterator[str]:
    """Hold everything against the greatest position that had been reached before it began."""
    begun = sorted(_moments(batches, histories), key=lambda moment: moment.start)
    ended = sorted(begun, key=lambda moment: moment.end)
    reached, by, count = 0, "the beginning", 0
    for moment in begun:
        while count < len(ended) and ended[count].end < moment.start:
            if ended[count].high > reached:
                reached, by = ended[count].high, ended[count].label
            count += 1
        if moment.high < moment.low:
            yield f"back: {moment.label} went from {moment.low} to {moment.high}"
        if moment.writes and moment.low <= reached:
            yield f"time: {moment.label} is at {moment.low}, after {by} had reached {reached}"
        elif moment.low < reached:
            yield f"back: {moment.label} saw {moment.low}, after {by} had reached {reached}"


def _answers(model: Model, read: Read) -> Iterator[str]:
    for position in (read.low, read.high):
        if not model.is_whole(position):
            yield f"half: {read.thread} saw position {position}, in the middle of a batch"
    if read.asked != "position" and not any(
        model.answer(read.asked, read.image, position) == read.answer
        for position in model.whole_positions(read.low, read.high)
    ):
        yield (
            f"answer: {read.thread} asked for {read.asked} between {read.low} and {read.high},"
            f" and {read.answer!r} was true at none"
        )


def _stretches(log: Sequence[Entry], stretches: Iterable[Stretch]) -> Iterator[str]:
    for stretch in stretches:
        if stretch.through > len(log):
            yield f"records: {stretch.thread} read {stretch.through}, beyond the end of the log"
            continue
        entries = log[stretch.after : stretch.through]
        if checksum_of(entry.checksum for entry in entries) != stretch.checksum:
            yield f"records: {stretch.thread} read others from {stretch.after} to {stretch.through}"


def checksum_of(checksums: Iterable[int]) -> int:
    """Return one checksum of those of many records, in order."""
    total = 0
    for checksum in checksums:
        total = zlib.crc32(checksum.to_bytes(4, "big"), total)
    return total


class Model:
    """What a log means, in dictionaries; it shares no code with the store."""

    def __init__(self, log: Sequence[Entry]) -> None:
        """Fold the log, and keep what every image was from which position on."""
        self._parents: dict[str, str | None] = {}
        self._children: dict[str, set[str]] = {}
        self._lengths = [0]
        self._parent_at: dict[str, list[tuple[int, Answer]]] = {}
        self._children_at: dict[str, list[tuple[int, Answer]]] = {}
        self._ends = [0]
        for entry in log:
            for image in self._apply(entry):
                self._note(image, entry.position)
            self._lengths.append(len(self._parents))
        self._ends += [one.position for one, after in pairwise(log) if after.batch != one.batch]
        if log:
            self._ends.append(len(log))

    def _apply(self, entry: Entry) -> set[str]:
        """Move over one record; return the images that it touched."""
        image, touched = entry.image, {entry.image}
        if entry.kind == "Created":
            self._parents[image], self._children[image] = None, set()
        elif entry.kind == "ParentSet":
            touched |= self._link(image, entry.other)
        elif entry.kind == "Deleted":
            for child in list(self._children[image]):
                touched |= self._link(child, None)
            touched |= self._link(image, None)
            del self._parents[image], self._children[image]
        return touched

    def _link(self, image: str, parent: str | None) -> set[str]:
        before, self._parents[image] = self._parents[image], parent
        if before is not None:
            self._children[before].discard(image)
        if parent is not None:
            self._children[parent].add(image)
        return {one for one in (image, before, parent) if one is not None}

    def _note(self, image: str, position: int) -> None:
        there = image in self._parents
        parent: Answer = self._parents[image] if there else ABSENT
        children: Answer = tuple(sorted(self._children[image])) if there else ABSENT
        self._parent_at.setdefault(image, []).append((position, parent))
        self._children_at.setdefault(image, []).append((position, children))

    def is_whole(self, position: int) -> bool:
        """Tell whether a position is the end of a batch, or the beginning of the log."""
        at = bisect_left(self._ends, position)
        return at < len(self._ends) and self._ends[at] == position

    def whole_positions(self, low: int, high: int) -> Sequence[int]:
        """Return the ends of batches from `low` through `high`."""
        return self._ends[bisect_left(self._ends, low) : bisect_right(self._ends, high)]

    def answer(self, asked: str, image: str, position: int) -> Answer:
        """Return what a question is to be answered at a position."""
        if asked == "length":
            return self._lengths[position]
        kept = self._children_at if asked == "children" else self._parent_at
        changes = kept.get(image, [])
        at = bisect_right(changes, position, key=lambda change: change[0])
        found = changes[at - 1][1] if at else ABSENT
        return found != ABSENT if asked == "has" else found
