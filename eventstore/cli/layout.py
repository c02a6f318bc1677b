"""Lay out lines and tables: coloured and as wide as the terminal, or plain and whole for a pipe.

An image id is yellow wherever it stands, a name is cyan, a position magenta, an age faint; what
came is green, what went is red. `NO_COLOR` leaves the emphasis only. On a terminal no line of a
table or of a listing is wrapped: a digest in it is shortened first, then the line is cut, with a
mark. In a pipe nothing is cut but cells of thousands of characters.

Tables of ten thousand lines are common, so they are laid out here: `rich` takes seven seconds for
that. What it knows of terminals, colours and the width of characters is asked of it.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from eventstore.cli.output import cell, styled
from eventstore.printable import printable

ID, NAME, PLACE, FAINT, HEADING = "yellow", "cyan", "magenta", "dim", "bold"
CAME, WENT = "green", "red"
NARROW = 100
"""Below so many columns, tables say in fewer words what can be said in fewer."""
_GAP = 2
_CUT_WIDTH_MIN = 8
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
Piece = tuple[object, str]
"""A text and its style, which may be empty."""


def width() -> int | None:
    """Return how many columns the terminal has, None where there is none and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_narrow() -> bool:
    """Tell whether there is a terminal with few columns."""
    return (width() or NARROW) < NARROW


def pieces(*found: Piece, cut: bool = False) -> None:
    """Print pieces on one line.

    Args:
        found: what to print.
        cut: let the line not be longer than the terminal is wide.
    """
    shown = [(printable(text), style) for text, style in found]
    room = width() if cut else None
    if room is not None and sum(_cells(text) for text, _ in shown) > room:
        shown = _cut_line([(_shorter(text), style) for text, style in shown], room)
    sys.stdout.write("".join(styled(text, style) for text, style in shown).rstrip() + "\n")


def _cut_line(found: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    kept: list[tuple[str, str]] = []
    for number, (text, style) in enumerate(found):
        is_last = number == len(found) - 1
        size = _cells(text)
        if size > room or (size == room and not is_last):
            return [*kept, (_cut(text, room) if size > room else _cut(text + " ", room), style)]
        kept.append((text, style))
        room -= size
    return kept


def _shorter(text: str) -> str:
    """Return a text whose digests are told by their beginnings."""
    return _DIGEST.sub(rf"\1{_mark()}", text)


def _mark() -> str:
    """Return what stands for what was cut, as the terminal's encoding has it."""
    return "…" if _is_unicode() else "~"


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _cells(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, room: int) -> str:
    """Return a text that takes no more columns than there is room for."""
    if _cells(text) <= room:
        return text
    text = _shorter(text)
    if _cells(text) <= room:
        return text
    kept = text[: room - 1]
    while _cells(kept) > room - 1:
        kept = kept[:-1]
    return kept + _mark()


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    flexible: Collection[int],
    dispensable: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """Print a table.

    Args:
        headings: of the columns; one that starts with `>` is set to the right.
        rows: of cells; what is no text is turned into it.
        flexible: the columns that are cut where the terminal is too narrow, the first one first.
        dispensable: the columns that are left out before anything is cut, the first one first.
        styles: of the columns.
    """
    cells = [[heading.removeprefix(">") for heading in headings]]
    cells += [[cell(value) for value in row] for row in rows]
    widths = {number: max(_cells(row[number]) for row in cells) for number in range(len(headings))}
    room = width()
    for number in dispensable:
        if room is not None and _total(widths) > room:
            del widths[number]
    for number in flexible:
        if room is not None and _total(widths) > room:
            widths[number] = max(_CUT_WIDTH_MIN, widths[number] - (_total(widths) - room))
    for row_number, row in enumerate(cells):
        parts: list[str] = []
        for number, size in widths.items():
            text = _cut(row[number], size)
            style = styles[number] if number < len(styles) else ""
            style = HEADING if not row_number else FAINT if text == "-" else style
            blanks, shown = " " * (size - _cells(text)), styled(text, style)
            parts.append(blanks + shown if headings[number].startswith(">") else shown + blanks)
        sys.stdout.write((" " * _GAP).join(parts).rstrip() + "\n")


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def fact(name: str, value: object, indent: int, style: str = "") -> None:
    """Print one fact, its value at the same column as all; a long one goes on below itself.

    Of a value that is too long for the terminal only by `sha256:`, that is left out.
    """
    text, room = printable(value), width()
    parts = [text]
    if room is not None and room > 2 * indent and _cells(text) > room - indent:
        bare = text.removeprefix("sha256:")
        parts = [bare] if _cells(bare) <= room - indent else _parts(text, room - indent)
    for number, part in enumerate(parts):
        label = "" if number else f"{name}:"
        pieces((f"{label:<{indent}}", ""), (part, FAINT if part == "-" else style))


def _parts(text: str, room: int) -> list[str]:
    """Cut a text into lines, between words where there are any."""
    import textwrap

    return textwrap.wrap(text, room, break_on_hyphens=False) or [text]


def branches(depths: Iterable[int]) -> list[str]:
    """Return what stands before each node of a tree, of nodes with these depths, parents first."""
    down, fork, last = ("│   ", "├── ", "└── ") if _is_unicode() else ("|   ", "+-- ", "`-- ")
    listed = list(depths)
    goes_on: set[int] = set()
    found: list[str] = []
    for depth in reversed(listed):
        # Seen from the end: a node is the last of its parent if no other came at its depth since.
        goes_on = {one for one in goes_on if one <= depth}
        before = [down if one in goes_on else " " * len(down) for one in range(1, depth)]
        found.append("".join(before) + ((fork if depth in goes_on else last) if depth else ""))
        goes_on.add(depth)
    return found[::-1]
