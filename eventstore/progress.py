"""Tell whoever asked how far a long work is.

What takes long takes `progress=`, a function of two numbers: how many steps are done, and of how
many, None where that is not known. It is called from the thread that does the work, after each
step, and should return at once. Steps are what the work goes through: images of a source, records
of a log, parts of either; where a work goes through something more than once, it begins again at 0.
Whatever the function raises gives the work up as an error of its own would: nothing half done is
left, where the work promises that. Without a function nothing is counted, and nothing is paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Progress(Protocol):
    """A function that is told how far a work is."""

    def __call__(self, done: int, total: int | None, /) -> None:
        """Take note that `done` steps of `total` are done."""
        ...


def counted(steps: Iterable[_T], progress: Progress | None, total: int | None) -> Iterable[_T]:
    """Return the steps, of which `progress` is told when each is done; just them if it is None."""
    return steps if progress is None else _telling(steps, progress, total)


def _telling(steps: Iterable[_T], progress: Progress, total: int | None) -> Iterator[_T]:
    progress(0, total)
    for done, step in enumerate(steps, 1):
        yield step
        progress(done, total)
