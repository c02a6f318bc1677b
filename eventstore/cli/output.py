"""Print for people and for programs.

What comes from a store or a source (actors, reasons, configs, file names) may hold anything, also
terminal escapes that hide or forge lines. Nothing of it reaches a terminal as it is: control and
direction-changing characters are shown as escapes. Tables fit the terminal; into a pipe they go
uncut, one line a row. JSON is one object a line, in UTC, with nothing shortened.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta

import humanize
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore import digest

_PIPE_WIDTH = 100_000
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def printable(value: object) -> str:
    """Return a text in which nothing can steer a terminal, on one line."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN
        else character
        for character in text
    )


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for standard output, or standard error."""
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def line(text: object = "", style: str = "") -> None:
    """Print one line, cut nowhere."""
    console().print(Text(printable(text), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Print one line for people on standard error."""
    console(to_stderr=True).print(Text(printable(text)), soft_wrap=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, flexible: int = -1) -> None:
    """Print a table.

    Args:
        headings: of the columns; one that starts with `>` is set to the right.
        rows: of cells; what is no text is turned into it.
        flexible: the column that is cut where the terminal is too narrow.
    """
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        grid.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if number == flexible % len(headings) else _width(heading),
        )
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    screen = console()
    with screen.capture() as laid_out:
        screen.print(grid)
    sys.stdout.write("".join(text.rstrip() + "\n" for text in laid_out.get().splitlines()))


def _width(heading: str) -> int:
    return len(heading.removeprefix(">"))


def path_text(path: str) -> str:
    """Return a path as text that JSON can hold; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def json_line(value: object) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode("utf-8") + "\n")


def short(image_id: str | None) -> str:
    """Return the short form of an id, a dash for none."""
    return "-" if image_id is None else digest.short(image_id)


def age(moment: datetime | None) -> str:
    """Return how long ago something was, to its largest unit; a dash for never."""
    if moment is None:
        return "-"
    ago = datetime.now(UTC) - moment
    return ("in " if ago < timedelta() else "") + humanize.naturaldelta(ago)


def clock_time(moment: datetime | None) -> str:
    """Return a time to the second in the local zone, with its offset; a dash for none."""
    if moment is None:
        return "-"
    try:
        local = moment.astimezone()
    except (OverflowError, ValueError):
        local = moment
    text = local.strftime("%Y-%m-%d %H:%M:%S%z")
    return text.removesuffix("+0000") + "Z" if text.endswith("+0000") else text


def utc(moment: datetime | None) -> str | None:
    """Return a time in UTC as RFC 3339, None for none."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def size(bytes_count: int) -> str:
    """Return a number of bytes as people read it."""
    return humanize.naturalsize(bytes_count, binary=True)


class _Captured(io.StringIO):
    """What is printed into it is laid out as if it went to standard output."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Tell whether standard output is a terminal."""
        return self._terminal


@contextmanager
def captured() -> Generator[io.StringIO]:
    """Take what is printed in the block instead of printing it."""
    with _Captured(terminal=sys.stdout.isatty()) as taken, redirect_stdout(taken):
        yield taken
