"""Put the page together: one file of HTML that asks no network for anything.

Style, scripts and data stand in the file itself, and its content security policy names the style
and the script by their hashes: nothing else runs, whatever a store holds, and nothing is fetched.
Only a page that is served may ask the server that it came from for updates. The data is no script
but text, in which no `<` is left that could end it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

SCRIPTS = ("time.js", "history.js", "tree.js", "timeline.js", "panels.js", "main.js")


@cache
def _part(name: str) -> str:
    return files("eventstore.page").joinpath(name).read_text("utf-8")


@cache
def _script() -> str:
    return '"use strict";\n' + "\n".join(map(_part, SCRIPTS))


def _hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def policy(*, live: bool) -> str:
    """Return the content security policy of the page.

    Args:
        live: whether it may ask the server that it came from.
    """
    connect = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; script-src {_hash_of(_script())};"
        f" style-src {_hash_of(_part('page.css'))}; {connect}base-uri 'none'; form-action 'none'"
    )


def document(gathered: dict[str, Any]) -> bytes:
    """Return the page, in UTF-8.

    Args:
        gathered: what `history.gather` returns.
    """
    data = msgspec.json.encode(gathered).decode().replace("<", "\\u003c")
    parts = {
        "POLICY": escape(policy(live=gathered["live"])),
        "TITLE": escape(gathered["title"]),
        "STYLE": _part("page.css"),
        "DATA": data,
        "SCRIPT": _script(),
    }
    pieces = _part("page.html").split("%%")
    return "".join(parts.get(piece, piece) for piece in pieces).encode()
