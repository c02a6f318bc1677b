"""Print for people and for programs.

What comes from a store or a source (actors, reasons, configs, file names) may hold anything, also
terminal escapes that hide or forge lines. Nothing of it reaches a terminal as it is: what steers a
terminal, changes the direction of text or cannot be seen is shown as an escape, in JSON as JSON
escapes it. Tables fit the terminal; into a pipe they go uncut, one line a row, but for cells of
thousands of characters. JSON is one object a line, in UTC, with nothing shortened.

`rich` and `humanize` take longer to load than most commands take, so they are loaded where they are
used.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from eventstore import digest
from eventstore.printable import IN_ASCII_JSON, IN_JSON, is_plain, printable

if TYPE_CHECKING:
    from rich.console import Console

CELL_LENGTH_MAX = 2000
_PIPE_WIDTH = 100_000


def cell(value: object) -> str:
    """Return a printable text, cut where it is longer than anyone reads in a table."""
    text = str(value)
    if len(text) > CELL_LENGTH_MAX:
        text = text[:CELL_LENGTH_MAX] + "…"
    return printable(text)


def steers(content: bytes) -> bool:
    """Tell whether bytes may do more to a terminal than show text in lines."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return True
    return any(line != printable(line) for line in lines)


class LogFormatter(logging.Formatter):
    """Formats what the package logs as one line that can be printed: it names what it found."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return printable(super().format(record))


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for standard output, or standard error."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def line(text: object = "", style: str = "") -> None:
    """Print one line, cut nowhere."""
    if style:
        from rich.text import Text

        console().print(Text(printable(text), style=style), soft_wrap=True)
    else:
        sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Print one line for people on standard error."""
    sys.stderr.write(printable(text) + "\n")


_CUT_WIDTH_MIN = 8


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, flexible: Collection[int]
) -> None:
    """Print a table.

    Args:
        headings: of the columns; one that starts with `>` is set to the right.
        rows: of cells; what is no text is turned into it.
        flexible: the columns that are cut where the terminal is too narrow, the first one first.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[cell(value) for value in row] for row in rows]
    screen = console()
    room = _room(headings, cells, flexible, screen.width)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        grid.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if number in flexible else _width(heading),
            max_width=room.get(number),
        )
    for row in cells:
        grid.add_row(*map(Text, row))
    with screen.capture() as laid_out:
        screen.print(grid)
    sys.stdout.write("".join(text.rstrip() + "\n" for text in laid_out.get().splitlines()))


def _room(
    headings: Sequence[str], rows: list[list[str]], flexible: Collection[int], width: int
) -> dict[int, int]:
    """Return how wide the columns may be that are cut, so that no other one has to be."""
    from rich.cells import cell_len

    widths = [
        max([_width(heading), *(cell_len(row[number]) for row in rows)])
        for number, heading in enumerate(headings)
    ]
    over = sum(widths) + 2 * len(widths) - width
    room: dict[int, int] = {}
    for number in flexible:
        room[number] = max(_CUT_WIDTH_MIN, widths[number] - max(over, 0))
        over -= widths[number] - room[number]
    return room


def _width(heading: str) -> int:
    return len(heading.removeprefix(">"))


def path_text(path: str) -> str:
    """Return a path as text that JSON can hold; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def json_line(value: object) -> None:
    """Print one JSON object on a line of its own."""
    text = json_text(value)
    if not text.isascii() and (sys.stdout.encoding or "utf-8").lower() != "utf-8":
        text = text.translate(IN_ASCII_JSON)
    sys.stdout.write(text + "\n")


def json_text(value: object) -> str:
    """Return one JSON object in which, as `printable`, nothing can steer a terminal."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode("utf-8")
    except UnicodeEncodeError:
        text = msgspec.json.encode(_encodable(value), enc_hook=str).decode("utf-8")
    return text if is_plain(text) else text.translate(IN_JSON)


def _encodable(value: Any) -> Any:
    """Return a value in which what is no Unicode, such as some names of files, is escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if _is_object(value):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if _is_array(value) else value


def _is_object(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def short(image_id: str | None) -> str:
    """Return the short form of an id, a dash for none."""
    return "-" if image_id is None else digest.short(image_id)


def age(moment: datetime | None) -> str:
    """Return how long ago something was, to its largest unit; a dash for never."""
    if moment is None:
        return "-"
    import humanize

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
    import humanize

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
