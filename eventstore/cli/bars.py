"""Show how far a long command is, to whoever watches.

The bar is drawn on standard error, only if that is a terminal and not a dumb one, and only once
the work has taken a second; it is cleared at the end, whatever that is. Where there is none, the
library is not asked to count. What is logged meanwhile stands above it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from eventstore.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

DELAY_SECONDS = 1.0
_BETWEEN_SECONDS = 0.1
_BAR_WIDTH = 30


class Bar:
    """What is being done, and how much of it is."""

    def __init__(self, *, is_watched: bool) -> None:
        self._is_watched = is_watched
        self._lock = threading.Lock()
        self._what, self._done = "", 0
        self._total: int | None = None
        self._display: Display | None = None
        self._task: TaskID | None = None
        self._next = 0.0
        self._is_over = False
        if is_watched:
            self._timer = threading.Timer(DELAY_SECONDS, self._show)
            self._timer.daemon = True
            self._timer.start()

    def step(self, what: str) -> Progress | None:
        """Say what is done from now on; return what is to be told of it, None if nobody looks."""
        if not self._is_watched:
            return None
        self._what, self._next = what, 0.0
        self._take(0, None)
        return self._take

    def end(self) -> None:
        """Take the bar away."""
        if self._is_watched:
            self._timer.cancel()
            with self._lock:
                self._is_over = True
                if self._display is not None:
                    self._display.stop()

    def _take(self, done: int, total: int | None, /) -> None:
        self._done, self._total = done, total
        if self._display is not None and monotonic() >= self._next:
            self._next = monotonic() + _BETWEEN_SECONDS
            self._draw()

    def _draw(self) -> None:
        done, total = self._done, self._total
        count = f"{done:,}" if done else ""
        if total is not None:
            count = f"{done:,}/{total:,}"
        assert self._display is not None
        assert self._task is not None
        self._display.update(
            self._task, description=self._what, completed=done, total=total, count=count
        )

    def _show(self) -> None:
        """Begin to draw; loading what draws takes a while, in which the work goes on."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display

        with self._lock:
            if self._is_over:
                return
            display = Display(
                TextColumn("{task.description}", markup=False),
                BarColumn(_BAR_WIDTH),
                TextColumn("{task.fields[count]}", markup=False),
                TimeElapsedColumn(),
                console=Console(file=sys.stderr),
                transient=True,
                redirect_stdout=False,
            )
            self._task = display.add_task(self._what, total=None, count="")
            display.start()
            self._display = display
            self._draw()


@contextmanager
def shown() -> Generator[Bar]:
    """Show a bar while the block takes long; nothing may be printed in it."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    bar = Bar(is_watched=sys.stderr.isatty() and not dumb)
    try:
        yield bar
    finally:
        bar.end()
