"""Turn what people write for a moment into a position of the log.

A moment is a position (`@120`), a time in ISO 8601, or a phrase such as `2 hours ago`. A time
without a zone is local time, as in `journalctl`. Whatever can be taken in two ways is refused.
"""

from __future__ import annotations

import re
import warnings
from datetime import UTC, datetime
from typing import Any

import click

from eventstore.reader import StoreReader

_POSITION = re.compile(r"@([0-9]{1,18})", re.ASCII)
_SETTINGS: dict[str, Any] = {
    "PREFER_DATES_FROM": "past",
    "RETURN_AS_TIMEZONE_AWARE": True,
    "REQUIRE_PARTS": [],
}
_PHRASE_LENGTH_MAX = 100
EXAMPLES = "write @120, 2026-01-31T14:00, or a phrase such as '2 hours ago'"


def position_of(store: StoreReader, when: str) -> int:
    """Return the position that `when` names.

    Raises:
        click.UsageError: it names none, or one that the log does not have.
    """
    text = when.strip()
    match = _POSITION.fullmatch(text)
    if match is not None:
        position = int(match[1])
        if position > store.position:
            raise click.UsageError(
                f"there is no position @{position} yet: the log ends at @{store.position}"
            )
        return position
    if text == "now":
        return store.position
    return store.position_at(instant_of(text))


def instant_of(when: str) -> datetime:
    """Return the instant that a time or phrase names.

    Raises:
        click.UsageError: it names none.
    """
    text = when.strip()
    if text.startswith("@"):
        raise click.UsageError(f"{when!r} is no position: {EXAMPLES}")
    if text.isdigit():
        raise click.UsageError(f"{when!r} could be a position or a time: {EXAMPLES}")
    try:
        found: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        found = _phrase(text)
    if found is None:
        raise click.UsageError(f"{when!r} is no moment that is understood: {EXAMPLES}")
    try:
        return found.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        if found.tzinfo is None:
            # At the ends of the calendar no zone can be told; there it makes no difference.
            return found.replace(tzinfo=UTC)
        raise click.UsageError(f"{when!r} is out of range: {error}") from error


def _phrase(text: str) -> datetime | None:
    """Return what a phrase means, None if nothing; `dateparser` tries, for longer with each word.

    It was made for friendly texts: what it says of others is whatever broke first.
    """
    if len(text) > _PHRASE_LENGTH_MAX:
        return None
    import dateparser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dateparser.parse(text, languages=["en"], settings=_SETTINGS)
        except Exception:
            return None
