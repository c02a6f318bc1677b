"""Give a store clocks that lie in every way, and see that as-of by time keeps one answer.

    clocks.py [--examples N | --seconds S] [--seed N] [--weaken NAME]

An example is the life of one store under a random clock: it goes on, stands still, goes back by
hours, is in the year 2100 and comes home, says 0, less than nothing, or more than 64 bits hold,
gives no number, or fails. In between the store is opened by a host with another clock, copied to
one, or given a snapshot. Every tenth example lets processes with clocks hours apart write at once.
Of each is asked:

 1. Recorded times never decrease, and each is what the clock said or the time before it.
 2. `position_at(t)` is the number of records at or before t, for every t; so it grows with t.
 3. `as_of(time=…)` is of that position; with a record's own time, it includes the record.
 4. A datetime, and the command line's `--at`, get the whole of their microsecond, in every zone.
 5. For a t before the last record's time, the answer never changes again, whoever appends.
 6. What is no clock is refused with an error of ours and nothing is written; no other error comes.
 7. An operator is warned if, and only if, times are held more than a minute ahead of the clock.
 8. The store verifies.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from contention import Kept
from contention_weakenings import replace
from crash_states import fast_folder
from eventstore import ImageStore, ImageView, StoreUsageError, batch, clock, log, writer
from eventstore.cli.moments import position_of
from eventstore.events import Event
from eventstore.lmdb_transaction import Transaction
from eventstore.reader import StoreReader

SECOND = clock.NANOSECONDS
HOUR = 3_600 * SECOND
NOW = 1_700_000_000 * SECOND
YEAR_2100 = clock.to_nanoseconds(datetime(2100, 1, 1, tzinfo=UTC))
SHIFTS = (-5 * HOUR, -3 * SECOND, 0, 7 * HOUR)
PROCESS_RECORDS = 25


class Clock:
    """A clock that lies; it remembers what it said."""

    def __init__(self, chance: random.Random, start: int) -> None:
        """Begin at an instant."""
        self.chance = chance
        self.at = start
        self.said: list[object] = []

    def __call__(self) -> int:
        """Return some time, or what is none, or fail."""
        kind = self.chance.random()
        if kind < 0.5:
            self.at += self.chance.choice((0, 1, 999, 1_000, SECOND, HOUR))
        elif kind < 0.7:
            self.at -= self.chance.choice((1, 1_000, 10 * SECOND, 61 * SECOND, HOUR, 24 * HOUR))
        elif kind < 0.74:
            self.at = YEAR_2100
        elif kind < 0.86:
            self.at = NOW + self.chance.randrange(HOUR)
        found: object = self.at
        if kind > 0.95:
            found = self.chance.choice((0, -5, -(10**30), 10**30, 2**63))
        elif kind > 0.9:
            found = self.chance.choice((1.5, float("nan"), None, "now", True, OSError))
        self.said.append(found)
        if found is OSError:
            raise OSError("no clock")
        return found  # type: ignore[return-value]


class Example:
    """The life of one store."""

    def __init__(self, folder: Path, seed: str) -> None:
        """Begin without a store in an empty folder."""
        self.folder = folder
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.found: list[str] = []
        self.images: list[str] = []
        self.kept: dict[int, int] = {}
        self.path = folder / "store"
        self.others = False

    def check(self, *, holds: bool, what: str) -> None:
        """Count a question, and note what is wrong."""
        self.counts["questions"] += 1
        if not holds:
            self.found.append(what)

    def live(self) -> None:
        """Open the store several times, each time on a host with another clock."""
        for host in range(self.chance.randint(2, 4)):
            start = NOW + self.chance.choice((0, 0, -5 * HOUR, 5 * HOUR, YEAR_2100 - NOW))
            lying = Clock(self.chance, start)
            if host and self.chance.random() < 0.3:
                copy = self.folder / f"copy{host}"
                with ImageStore.open(self.path, create=False, now=lambda: NOW) as opened:
                    opened.backup(copy)
                self.path = copy
                self.counts["copies taken to another host"] += 1
            with ImageStore.open(self.path, now=lambda: NOW) as opened:
                opened._now = lying  # a store is not made by a clock that fails
                self.write(opened, lying)
                self.look(opened)
        with ImageStore.open(self.path, create=False) as opened:
            self.look(opened)
            problems = [problem.message for problem in opened.verify()]
            self.check(holds=not problems, what=f"verify: {problems[:1]}")

    def write(self, opened: ImageStore, lying: Clock) -> None:
        """Append some records, and hold each to what the clock said."""
        warnings, expected = Kept(logging.WARNING), 0
        logging.getLogger("eventstore").addHandler(warnings)
        held = False
        for _ in range(self.chance.randint(3, 25)):
            before, last = opened.position, opened.view().time_ns
            lying.said.clear()
            try:
                self.change(opened)
            except StoreUsageError:
                self.check(holds=_is_no_clock(lying.said), what="clock: a good one was refused")
                self.check(holds=opened.position == before, what="clock: refused, and written")
                self.counts["refusals"] += 1
                continue
            for record in opened.records(after=before):
                now = _clamped(lying.said[-1])
                right = record.time_ns == max(last, now)
                self.check(holds=right, what="time: a record has another than it should")
                if record.time_ns - now > writer.CLOCK_BEHIND_NS:
                    expected += not held
                    held = True
                else:
                    held = False
            self.counts["records"] += opened.position - before
        logging.getLogger("eventstore").removeHandler(warnings)
        said = sum("behind the last record" in text for text in warnings.texts)
        self.check(holds=said == expected, what=f"warnings: {said}, not {expected}")
        self.counts["warnings"] += said

    def change(self, opened: ImageStore) -> None:
        """Append one record, or take a snapshot."""
        kind = self.chance.random()
        if kind < 0.5 or not self.images:
            text = f'{{"comment": "{len(self.images)}", "rootfs": {{"type": "layers"}}}}'
            self.images.append(opened.create(text.encode()))
        elif kind < 0.9:
            opened.set_last_updated(self.chance.choice(self.images))
        else:
            opened.take_snapshot()

    def look(self, opened: ImageStore) -> None:
        """Ask for many times, and hold the answers to a count of the records."""
        times = [record.time_ns for record in opened.records()]
        sorted_times = sorted(times)
        self.check(holds=times == sorted_times, what="time: recorded times decrease")
        asked = {-(10**30), -1, 0, NOW, YEAR_2100, 2**63 - 1, 10**30, *self.kept}
        for moment in self.chance.sample(times, min(len(times), 12)):
            asked |= {moment + more for more in (-1_000, -1, 0, 1, 999, 1_000)}
        answers: list[int] = []
        for moment in sorted(asked):
            answer = opened.position_at(moment)
            right = self.is_count(opened, answer, sorted_times, moment)
            self.check(holds=right, what="position_at: another answer than a count")
            answers.append(answer)
            if moment in self.kept:
                same = self.kept[moment] == answer
                self.check(holds=same, what="position_at: the answer has changed")
            if times and moment < times[-1]:
                self.kept[moment] = answer
        self.check(holds=answers == sorted(answers), what="position_at: it does not grow")
        for record in self.chance.sample(list(opened.records()), min(len(times), 8)):
            self.look_by_text(opened, record.time, record.position, sorted_times)

    def look_by_text(
        self, opened: ImageStore, moment: datetime, position: int, times: list[int]
    ) -> None:
        """Ask by a record's own datetime, in several zones, in every way that there is."""
        last = clock.to_nanoseconds(moment) + 999
        hours = self.chance.choice((-11, -5, 0, 2, 13))
        if 1900 < moment.year < 9000:
            moment = moment.astimezone(timezone(timedelta(hours=hours, minutes=30)))
        answers = {
            opened.position_at(moment),
            opened.as_of(time=moment).position,
            position_of(opened, moment.isoformat()),
        }
        self.check(holds=min(answers) >= position, what="as_of: a record's time leaves it out")
        for answer in answers:
            right = self.is_count(opened, answer, times, last)
            self.check(holds=right, what="as_of: another answer than a count")

    def is_count(self, opened: ImageStore, answer: int, times: list[int], moment: int) -> bool:
        """Tell whether an answer is the number of times up to a moment.

        Where others append, a moment that the log had not passed may have more by now.
        """
        count = bisect_right(times, moment)
        if answer == count or not self.others:
            return answer == count
        now = sorted(record.time_ns for record in opened.records())
        return moment >= times[-1] and count <= answer <= bisect_right(now, moment)

    def processes(self, weaken: str | None) -> None:
        """Let processes with clocks hours apart append at once, and ask meanwhile."""
        ImageStore.open(self.path).close()
        self.others = True
        more = [] if weaken is None else ["--weaken", weaken]
        writers = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", str(self.path), str(shift), *more],
                stderr=subprocess.PIPE,
                text=True,
            )
            for shift in SHIFTS
        ]
        with ImageStore.open(self.path, create=False) as opened:
            while any(writer.poll() is None for writer in writers):
                if opened.position:
                    self.look(opened)
            for writer in writers:
                complaint = writer.communicate()[1].strip().splitlines()[-1:]
                what = f"process: one ended with {writer.returncode}: {complaint}"
                self.check(holds=not writer.returncode, what=what)
            whole = opened.position == PROCESS_RECORDS * len(SHIFTS)
            self.check(holds=whole, what="process: records are missing")
            self.look(opened)
            problems = [problem.message for problem in opened.verify()]
            self.check(holds=not problems, what=f"verify: {problems[:1]}")
            self.counts["records"] += opened.position
        self.counts["processes with clocks apart"] += len(SHIFTS)


def _is_no_clock(said: list[object]) -> bool:
    return any(not isinstance(one, int) or isinstance(one, bool) for one in said)


def _clamped(said: object) -> int:
    assert isinstance(said, int)
    return min(max(said, 0), 2**63 - 1)


def child(path: Path, shift: int) -> None:
    """Append from a process whose clock is wrong by so much."""
    with ImageStore.open(path, now=lambda: time.time_ns() + shift) as opened:
        for number in range(PROCESS_RECORDS):
            opened.create(f'{{"comment": "{shift} {number}", "rootfs": {{}}}}'.encode())


# Weakenings.


def _no_clamp() -> None:
    """Let a record have the time of the clock, also if that is before the last one."""
    real = ImageView.apply_event

    def apply_event(view: ImageView, position: int, time_ns: int, event: Event) -> None:
        view._time_ns = min(view._time_ns, time_ns)
        real(view, position, time_ns, event)

    replace(ImageView, "apply_event", apply_event)
    replace(batch, "max", lambda first, *_: first)


def _before() -> None:
    """Let a time mean what was before it, without what was at it."""

    def position_at(txn: Transaction, time_ns: int) -> int:
        low, high = 0, log.last_position(txn)
        while low < high:
            middle = (low + high + 1) // 2
            if log.read_one(txn, middle).time_ns < time_ns:
                low = middle
            else:
                high = middle - 1
        return low

    replace(log, "position_at", position_at)


def _cut_microseconds() -> None:
    """Let a datetime mean the beginning of its microsecond."""
    real = StoreReader._position_at

    def position_at(opened: StoreReader, moment: datetime | int) -> int:
        if isinstance(moment, datetime):
            moment = clock.to_nanoseconds(moment)
        return real(opened, moment)

    replace(StoreReader, "_position_at", position_at)


def _no_clock_check() -> None:
    """Let whatever a clock says be stored."""
    replace(clock, "reading", lambda now: now())


def _no_warning() -> None:
    """Let times be held in silence."""
    replace(ImageStore, "_warn_of_time", lambda *_: None)


WEAKENINGS: dict[str, Callable[[], None]] = {
    "no-clamp": _no_clamp,
    "before": _before,
    "cut-microseconds": _cut_microseconds,
    "no-clock-check": _no_clock_check,
    "no-warning": _no_warning,
}


def try_one(number: int, options: argparse.Namespace) -> Example:
    """Live through one example; whatever it raises is a violation."""
    with tempfile.TemporaryDirectory(prefix="clocks-", dir=fast_folder()) as folder:
        example = Example(Path(folder), f"{options.seed} {number}")
        try:
            if number % 10 == 9:
                example.processes(options.weaken)
            else:
                example.live()
        except Exception as error:
            example.found.append(f"{type(error).__name__}: {error}".replace(folder, "…"))
        return example


def main() -> int:
    """Live through examples, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=None, help="go on for so long instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    parser.add_argument("--child", nargs=2, metavar=("STORE", "SHIFT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("eventstore").addHandler(logging.NullHandler())
    if options.weaken is not None:
        WEAKENINGS[options.weaken]()
    if options.child is not None:
        child(Path(options.child[0]), int(options.child[1]))
        return 0
    began, number = time.monotonic(), 0
    counts, found = Counter[str](), Counter[str]()
    while True:
        if options.seconds is None and number >= options.examples:
            break
        if options.seconds is not None and time.monotonic() - began >= options.seconds:
            break
        example = try_one(number, options)
        counts.update(example.counts)
        for text in example.found:
            found[f"{text} (example {number})"] += 1
        number += 1
        if options.weaken is not None and found:
            break
    for text, count in found.most_common(10):
        print(f"  {count:6}  {text}")
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(
        f"{number} examples, {said}, {found.total()} violations,"
        f" {time.monotonic() - began:.0f} s (seed {options.seed})"
    )
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
