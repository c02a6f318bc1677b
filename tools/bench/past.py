"""Look at the past: any position of a long log, cold, and then its neighbours.

Cold is the first look into the past of a store that has just been opened, at positions drawn at
random once for all takes, and at the one that is farthest behind a snapshot; each position's figure
is the median of the takes, and the row shows the worst position. With each look goes a first
question to the view, so that no cost is hidden behind a lazy one. A slider moves step by step from
there; its figure is the worst step. Files are in the page cache. Floor: msgspec's decode of the
rows of the view at that position.
"""

from __future__ import annotations

import random
import statistics
import time
from functools import partial
from pathlib import Path

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings, Took, Work

STATED = 1_000_000
STEPS = 10
SLIDES = (1, 100, 1_000, -1_000)
FLOOR = "msgspec decodes its rows"


def look(store: ImageStore, position: int) -> Took:
    """Look at a position and ask one question; return what that took."""
    start = time.perf_counter()
    view = store.as_of(position=position)
    found = histories.watched() in view, len(view)
    end = time.perf_counter()
    assert found[0]
    return Took(end - start)


def cold(path: Path, position: int) -> Took:
    """Open a store, and time the first look into its past."""
    with ImageStore.open(path, read_only=True) as store:
        return look(store, position)


def farthest(path: Path) -> int:
    """Return the position that is farthest behind a snapshot."""
    with ImageStore.open(path, read_only=True) as store:
        known = [0, *(found.position for found in store.snapshots())]
        ends = [*(position - 1 for position in known[1:]), store.position - 1]
    return max(zip(known, ends, strict=True), key=lambda pair: pair[1] - pair[0])[1]


def slide(store: ImageStore, start: int, step: int, takes: int) -> list[float]:
    """Move a slider; return, for each step, the median of the takes."""
    seconds: list[list[float]] = [[] for _ in range(STEPS)]
    for number in range(takes + 1):
        look(store, start)
        for at in range(STEPS):
            spent = runner.clocked(partial(look, store, start + step * (at + 1)))
            if number:
                seconds[at].append(spent)
    return [statistics.median(each) for each in seconds]


def cold_rows(settings: Settings, path: Path, records: int, looks: int) -> tuple[Row, Row]:
    """Return the worst and the median of cold looks at random positions."""
    choose = random.Random(records)
    positions = choose.sample(range(records // 100 + 1, records), looks - 1)
    positions.append(farthest(path))
    found: list[tuple[list[float], list[float]]] = []
    for position in positions:
        with ImageStore.open(path, read_only=True) as store:
            rows = floors.rows_of(store.as_of(position=position))
        cases: dict[str, Work] = {
            "ours": partial(cold, path, position),
            "floor": partial(floors.rows_decoder.decode, rows),
        }
        seconds = runner.take(cases, settings.takes)
        found.append((seconds["ours"], seconds["floor"]))
    found.sort(key=lambda pair: statistics.median(pair[0]))
    bound = Bound("<", 500, stated_here=records == STATED)
    name = f"cold, {records:,} records"
    worst = runner.cost(
        f"{name}, worst of {looks} positions",
        found[-1][0],
        unit="ms",
        beside=(FLOOR, found[-1][1]),
        bound=bound if records >= STATED or settings.scale == "small" else None,
    )
    middle = found[len(found) // 2]
    typical = runner.cost(
        f"{name}, median position", middle[0], unit="ms", beside=(FLOOR, middle[1])
    )
    return worst, typical


def warm_rows(settings: Settings, path: Path, records: int) -> list[Row]:
    """Return the worst step of each slider."""
    found = []
    with ImageStore.open(path, read_only=True) as store:
        for step in SLIDES:
            if abs(step) * STEPS > records // 4:
                continue
            steps = slide(store, records * 5 // 8, step, settings.takes)
            found.append(
                Row(
                    f"slider by {step:,}, {records:,} records, worst of {STEPS} steps",
                    max(steps) * 1e3,
                    "ms",
                    bound=Bound("<", 50, stated_here=records == STATED),
                    spread=(min(steps) * 1e3, max(steps) * 1e3),
                )
            )
    return found


def measure(settings: Settings) -> Result:
    """Measure logs of all lengths; sliders on the one that the bound names."""
    lengths = settings.pick((1_000, 10_000), (1_000, 10_000, 100_000, STATED, 5_000_000))
    stated = settings.pick(10_000, STATED)
    result = Result("as-of")
    worsts: list[float] = []
    typicals: list[float] = []
    floor: list[float] = []
    for records in lengths:
        path = histories.log_of(settings, records)
        worst, typical = cold_rows(settings, path, records, 3 if records > STATED else 5)
        result.rows += [worst, typical]
        worsts.append(worst.value / 1e3)
        typicals.append(typical.value / 1e3)
        floor.append((typical.beside_value or 0.0) / 1e3)
        if records == stated:
            result.rows += warm_rows(settings, path, records)
    result.series["past"] = {
        "records": list(lengths),
        "ours": typicals,
        "ours, worst position": worsts,
        "floor": floor,
    }
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
