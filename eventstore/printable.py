"""Show texts of strangers so that nothing in them can steer a terminal or forge a line.

What steers a terminal, changes the direction of text or cannot be seen is shown as an escape, in
JSON as JSON escapes it. A page of HTML is steered by other things, and these are the same in it.
"""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# Letters and marks that are there and show nothing; the rest of their kind is in _HIDDEN.
_INVISIBLE = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0)
) | frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))


class _Shown(dict[int, str]):
    """How each character is shown, found out when it is first met; for `str.translate`."""

    def __init__(self, *, json: bool, ascii_only: bool = False) -> None:
        self._json = json
        self._ascii_only = ascii_only
        super().__init__()

    def __missing__(self, code: int) -> str:
        character = chr(code)
        seen = code not in _INVISIBLE and unicodedata.category(character) not in _HIDDEN
        if seen and (code < 0x80 or not self._ascii_only):
            shown = character
        elif self._json:
            units = character.encode("utf-16-be", "surrogatepass")
            shown = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        else:
            shown = character.encode("unicode_escape").decode("ascii")
        self[code] = shown
        return shown


FOR_PEOPLE = _Shown(json=False)
IN_JSON = _Shown(json=True)
IN_ASCII_JSON = _Shown(json=True, ascii_only=True)


def printable(value: object) -> str:
    """Return a text in which nothing can steer a terminal, on one line."""
    text = str(value)
    return text if is_plain(text) else text.translate(FOR_PEOPLE)


def is_plain(text: str) -> bool:
    """Tell whether a text needs no look at each of its characters."""
    return text.isascii() and text.isprintable()
