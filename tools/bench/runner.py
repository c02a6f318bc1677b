"""Measure and report: rows of a table, each a figure beside its floor or a peer, and its bound.

Machines are noisy, so what counts is the ratio between figures that were taken turn by turn: every
take runs all cases one after the other, a ratio is formed within each take, and the median of the
takes is reported. The first take does not count. Where a number is shortened for the table it is
rounded against us; whether a bound is met is decided on the number as it was measured.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Thing = TypeVar("Thing")
Work = Callable[[], object]
Seconds = Mapping[str, Sequence[float]]
HOLDS: dict[str, Callable[[float, float], bool]] = {
    "≤": lambda value, limit: value <= limit,
    "<": lambda value, limit: value < limit,
    "≥": lambda value, limit: value >= limit,
}


class Took(float):
    """Seconds that a case measured itself, because only a part of its work counts."""


@dataclass(frozen=True)
class Settings:
    """What a subject is run with.

    Attributes:
        scale: "small" for a look within two minutes, "full" for the sizes of the bounds.
        takes: how many takes count.
        cache: where large stores are kept between subjects.
    """

    scale: str
    takes: int
    cache: Path

    def pick(self, small: Any, full: Any) -> Any:
        """Return what belongs to the scale."""
        return full if self.scale == "full" else small


@dataclass(frozen=True)
class Bound:
    """What a figure, or its ratio to what stands beside it, must keep to.

    Attributes:
        sense: "≤", "<" or "≥".
        limit: the number.
        of_ratio: whether the ratio is bound; the figure if not.
        stated_here: whether this row measures the size that the bound is stated for.
        stretch: whether it is only hoped for.
    """

    sense: str
    limit: float
    of_ratio: bool = False
    stated_here: bool = True
    stretch: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was done, and how much of it.
        value: the median of the takes, in `unit`.
        unit: what the figures are in.
        beside: what stands beside it in the same takes: a floor or a peer.
        beside_value: the median of that.
        ratio: the median of the ratios within each take.
        bound: what must hold, None for a line that only informs.
        spread: least and greatest of the takes.
    """

    what: str
    value: float
    unit: str
    beside: str = ""
    beside_value: float | None = None
    ratio: float | None = None
    bound: Bound | None = None
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Tell whether the bound is met, None without one."""
        if self.bound is None:
            return None
        measured = self.ratio if self.bound.of_ratio else self.value
        return measured is not None and HOLDS[self.bound.sense](measured, self.bound.limit)


@dataclass
class Result:
    """What a subject found.

    Attributes:
        title: what it is about.
        rows: the lines of the table.
        notes: what a reader must know, a line each.
        series: points for the plots, by name.
        seconds: how long the subject took, making stores included.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, with what each row means for its bound."""
        found = asdict(self)
        found["rows"] = [{**asdict(row), "met": row.met} for row in self.rows]
        return found


def result_from_json(found: dict[str, Any]) -> Result:
    """Return what `Result.as_json` made JSON of."""
    rows = []
    for row in found["rows"]:
        fields = {name: value for name, value in row.items() if name != "met"}
        bound = fields.pop("bound")
        rows.append(Row(**fields, bound=None if bound is None else Bound(**bound)))
    return Result(**{**found, "rows": rows})


def take(cases: Mapping[str, Work], takes: int) -> dict[str, list[float]]:
    """Run cases turn by turn, so that a slow spell of the machine hits all of them.

    Args:
        cases: name and work; work that returns a `Took` says itself what counts.
        takes: how often each is run, after one run that does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(takes + 1):
        for name, work in cases.items():
            spent = clocked(work)
            if number:
                seconds[name].append(spent)
    return seconds


def clocked(work: Work) -> float:
    """Return the seconds that some work takes; what it returns is freed outside of them."""
    gc.collect()
    start = time.perf_counter()
    result = work()
    end = time.perf_counter()
    return float(result) if isinstance(result, Took) else end - start


def clocked_each(work: Callable[[Thing], object], things: Sequence[Thing]) -> float:
    """Return the seconds that some work on each of many things takes."""
    gc.collect()
    start = time.perf_counter()
    for thing in things:
        work(thing)
    return time.perf_counter() - start


def median_ratio(ours: Sequence[float], beside: Sequence[float]) -> float:
    """Return the median of the ratios within each take."""
    return statistics.median(one / other for one, other in zip(ours, beside, strict=True))


def cost(
    what: str,
    ours: Sequence[float],
    *,
    count: int = 1,
    unit: str = "ms",
    beside: tuple[str, Sequence[float]] | None = None,
    beside_count: int | None = None,
    bound: Bound | None = None,
) -> Row:
    """Return a row whose figure is time a thing; less is better, the ratio is ours to theirs.

    Args:
        what: what was done.
        ours: the seconds of each take.
        count: how many things were done in a take.
        unit: "s", "ms" or "µs".
        beside: name and seconds of the floor or peer, from the same takes.
        beside_count: how many things that did in a take, if not as many.
        bound: what must hold.
    """
    scale = {"s": 1.0, "ms": 1e3, "µs": 1e6}[unit]
    each = [spent / count * scale for spent in ours]
    if beside is None:
        return Row(what, statistics.median(each), unit, bound=bound, spread=(min(each), max(each)))
    other = [spent / (beside_count or count) * scale for spent in beside[1]]
    return Row(
        what,
        statistics.median(each),
        unit,
        beside[0],
        statistics.median(other),
        median_ratio(each, other),
        bound,
        (min(each), max(each)),
    )


def rate(
    what: str,
    ours: Sequence[float],
    *,
    count: int,
    beside: tuple[str, Sequence[float]] | None = None,
    beside_count: int | None = None,
    bound: Bound | None = None,
) -> Row:
    """Return a row whose figure is things a second; more is better, the ratio ours to theirs.

    Args: as `cost`.
    """
    each = [count / spent for spent in ours]
    if beside is None:
        return Row(what, statistics.median(each), "/s", bound=bound, spread=(min(each), max(each)))
    other = [(beside_count or count) / spent for spent in beside[1]]
    return Row(
        what,
        statistics.median(each),
        "/s",
        beside[0],
        statistics.median(other),
        median_ratio(each, other),
        bound,
        (min(each), max(each)),
    )


# Work in a process of its own.


def child_command(module: str, function: str, *arguments: Any) -> list[str]:
    """Return the command that calls a function of a subject in a fresh process.

    It prints what the function returns as JSON.
    """
    return [sys.executable, __file__, module, function, json.dumps(arguments)]


def in_child(module: str, function: str, *arguments: Any) -> Any:
    """Call a function of a subject in a fresh process and return what it returned."""
    command = child_command(module, function, *arguments)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


# The table.


def shown(value: float, sense: str = "") -> str:
    """Return a number with three significant digits, rounded against us where a bound has a sense.

    >>> shown(1.3001, "≤"), shown(4.9999, "≥"), shown(61234.5, "≥"), shown(0.0)
    ('1.31', '4.99', '61,234', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    step = 10**digits
    scaled = value * step
    # What is a whole number but for the last bit of the arithmetic stays one.
    if math.isclose(scaled, round(scaled), rel_tol=1e-12):
        whole = round(scaled)
    else:
        whole = {"≥": math.floor, "≤": math.ceil, "<": math.ceil}.get(sense, round)(scaled)
    return f"{whole / step:,.{digits}f}"


def verdict(row: Row) -> str:
    """Return the last column: whether the bound is met, and what is to be said about it."""
    if row.bound is None or row.met is None:
        return "–"
    text = "met" if row.met else "MISSED"
    if row.bound.stretch:
        text += " (stretch)"
    return text if row.bound.stated_here else text + " *"


def bound_text(bound: Bound | None, unit: str) -> str:
    """Return a bound as it stands in the table."""
    if bound is None:
        return "–"
    return f"{bound.sense} {bound.limit:,g} {'×' if bound.of_ratio else unit}"


COLUMNS = ("subject", "figure", "takes from … to", "floor or peer", "ratio", "bound", "")


def table(results: Sequence[Result]) -> str:
    """Return the rows of all results as one table, and the notes under it."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for result in results:
        lines.append((result.title, *[""] * (len(COLUMNS) - 1)))
        lines.extend(_cells(row) for row in result.rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    widths[0] = max(len(line[0]) for line in lines if any(line[1:]))
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    bounds = [row.bound for result in results for row in result.rows if row.bound is not None]
    if not all(bound.stated_here for bound in bounds):
        text.append("* measured at another size than the one that the bound is stated for")
    for result in results:
        text.extend(f"{result.title}: {note}" for note in result.notes)
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, ...]:
    sense = row.bound.sense if row.bound is not None else ""
    of_ratio = row.bound is not None and row.bound.of_ratio
    beside = row.beside
    if row.beside_value is not None:
        beside = f"{row.beside}: {shown(row.beside_value)} {row.unit}"
    low_high = "" if row.spread is None else f"{shown(row.spread[0])} … {shown(row.spread[1])}"
    return (
        "  " + row.what,
        f"{shown(row.value, '' if of_ratio else sense)} {row.unit}",
        low_high,
        beside,
        "" if row.ratio is None else f"{shown(row.ratio, sense if of_ratio else '')} ×",
        bound_text(row.bound, row.unit),
        verdict(row),
    )


def machine() -> str:
    """Return what the figures were taken on, and how busy it was with other things."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    busy = "; others use it, so mind the ratios" if load > 1.5 else ""
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()},"
        f" {cores} cores, load average {load:.1f}{busy}"
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all subjects share."""
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--takes", type=int, default=5, help="takes that count")
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder that keeps the large stores (default: a temporary one)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(measure: Callable[[Settings], Result], description: str | None) -> None:
    """Run one subject from the command line."""
    parser = argparse.ArgumentParser(description=description)
    arguments(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as folder:
        cache = Path(options.cache or folder)
        cache.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        result = measure(Settings(options.scale, max(options.takes, 1), cache))
        result.seconds = time.perf_counter() - start
    if options.json:
        print(json.dumps(result.as_json()))
    else:
        print(machine())
        print(table([result]))


def _run_child(module: str, function: str, encoded: str) -> None:
    """Call a function of a subject and print what it returns; see `in_child`."""
    sys.path.insert(0, str(Path(__file__).parent))
    work = getattr(importlib.import_module(module), function)
    print(json.dumps(work(*json.loads(encoded))))


if __name__ == "__main__":
    _run_child(*sys.argv[1:])
