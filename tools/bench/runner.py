"""Measure and report: medians of several runs, ratios to a reference in the same process.

Machines are noisy, so what counts is the ratio between two figures that were taken turn by turn,
and the median of several takes. A figure whose reference is missing stands alone.
"""

from __future__ import annotations

import gc
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was done.
        seconds: what each take took.
        count: how many things were done in one take.
        what: what these things are.
        reference: name of the figure to compare with, and of how many of ours one of it stands for.
    """

    name: str
    seconds: list[float]
    count: int
    what: str
    reference: str | None = None

    @property
    def median(self) -> float:
        """Return the median of the takes in seconds."""
        return statistics.median(self.seconds)


def take(
    cases: Sequence[tuple[str, Callable[[], object], int, str, str | None]], takes: int
) -> list[Figure]:
    """Run cases turn by turn, so that a slow spell of the machine hits all of them.

    Args:
        cases: name, function, number and kind of things done, name of the reference or None.
        takes: how often each is run, after one run that does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name, *_ in cases}
    for number in range(takes + 1):
        for name, function, *_ in cases:
            gc.collect()
            start = time.perf_counter()
            result = function()
            end = time.perf_counter()
            del result
            if number:
                seconds[name].append(end - start)
    return [Figure(name, seconds[name], count, what, ref) for name, _, count, what, ref in cases]


def report(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print figures as a table, or as one JSON object."""
    by_name = {figure.name: figure for figure in figures}
    if as_json:
        print(json.dumps({"title": title, "figures": [asdict(figure) for figure in figures]}))
        return
    print(f"\n{title}  (Python {platform.python_version()})")
    for figure in figures:
        each = figure.median / figure.count * 1e6
        low, high = min(figure.seconds) * 1e3, max(figure.seconds) * 1e3
        text = (
            f"  {figure.name:<44}{figure.median * 1e3:>10.2f} ms [{low:.2f} to {high:.2f}]"
            f"{each:>10.2f} µs a {figure.what}"
        )
        reference = by_name.get(figure.reference or "")
        if reference is not None:
            share = each / (reference.median / reference.count * 1e6)
            text += f"  {share:.2f} × {reference.name}"
        print(text)


def peak_memory() -> int:
    """Return the most memory that this process has had resident, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
