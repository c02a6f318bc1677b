"""Print for people and for programs.

What comes from a store or a source (actors, reasons, configs, file names) may hold anything, also
terminal escapes that hide or forge lines. Nothing of it reaches a terminal as it is: what steers a
terminal, changes the direction of text or cannot be seen is shown as an escape, in JSON as JSON
escapes it. JSON is one object a line, in UTC, with nothing shortened.

`rich` and `humanize` take longer to load than most commands take, so they are loaded where they are
used.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TextIO, TypeGuard

import msgspec

from eventstore import digest
from eventstore.printable import IN_ASCII_JSON, IN_JSON, is_plain, printable

CELL_LENGTH_MAX = 2000


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


class LogHandler(logging.StreamHandler[TextIO]):
    """Prints to what standard error is by then: above a bar, where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        self.stream = sys.stderr
        super().emit(record)


def styled(text: object, style: str = "") -> str:
    """Return a printable text, with what lets the terminal show it in a style of `rich`."""
    before, behind = _codes(style, sys.stdout.isatty())
    shown = printable(text)
    return f"{before}{shown}{behind}" if shown else ""


@cache
def _codes(style: str, is_terminal: bool) -> tuple[str, str]:
    """Return what begins and ends a style, nothing where there are no colours."""
    if not (style and is_terminal):
        return "", ""
    from rich.console import Console
    from rich.text import Text

    # Not to standard output: rich would end the process in its own way if its reader had gone.
    taken = io.StringIO()
    Console(file=taken, force_terminal=True).print(Text("|", style), end="")
    before, _, behind = taken.getvalue().partition("|")
    return before, behind


def line(text: object = "", style: str = "") -> None:
    """Print one line, cut nowhere."""
    sys.stdout.write(styled(text, style) + "\n")


def note(text: str) -> None:
    """Print one line for people on standard error."""
    sys.stderr.write(printable(text) + "\n")


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
