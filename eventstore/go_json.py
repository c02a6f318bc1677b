"""Decode JSON as Go's `encoding/json` does, into plain dictionaries.

Docker's decoder differs from most: the keys of a struct match without regard to case, of two equal
keys the last wins (and two objects merge), `null` leaves a field as it was, unknown keys are
skipped, invalid UTF-8 becomes U+FFFD, and numbers are only as wide as the field. A field's type is
given as a `Kind`; what does not fit raises `GoJSONError`, and nothing else is ever raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeGuard

DEPTH_MAX = 500
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_WHITESPACE = " \t\r\n"
_SPECIAL_FOLDS = {"\u017f": "s", "\u212a": "k"}

Kind = Callable[[Any, Any, str], Any]
"""Takes the parsed JSON, what the field holds so far, its name; returns what it holds then."""


class GoJSONError(ValueError):
    """The text is not JSON, or does not fit the type."""


class Members(list[tuple[str, Any]]):
    """The members of a JSON object in their order, equal keys and all."""


def parse(raw: bytes) -> Any:
    """Return the parsed JSON text; objects are `Members`, so that no key is lost.

    Raises:
        GoJSONError: it is not one JSON value.
    """
    text = raw.decode("utf-8", "replace")
    if not text.strip(_WHITESPACE):
        raise GoJSONError("unexpected end of JSON input")
    try:
        value = json.loads(text, object_pairs_hook=Members, parse_constant=_refuse, parse_int=_int)
    except (ValueError, RecursionError) as error:
        raise GoJSONError(f"not JSON: {error}") from error
    _check_depth(value)
    return value


def _refuse(text: str) -> Any:
    raise GoJSONError(f"invalid character {text[0]!r} looking for beginning of value")


def _int(text: str) -> int | float:
    """Parse an integer; one too long for any field stays a float, which fits none."""
    return int(text) if len(text) <= 20 else float("inf")


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and not isinstance(value, Members)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        following: list[Any] = []
        for item in level:
            if isinstance(item, Members):
                following.extend(member for _, member in item)
            elif _is_array(item):
                following.extend(item)
        if not following:
            return
        level = following
    raise GoJSONError("exceeded max depth")


def fold(key: str) -> str:
    """Return a key as it is compared: ASCII case does not count, nor do two letters like it."""
    return "".join(_SPECIAL_FOLDS.get(letter, letter) for letter in key).lower()


def _name(value: Any) -> str:
    if isinstance(value, Members):
        return "object"
    for kind, name in ((list, "array"), (bool, "bool"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "number"


def _mismatch(value: Any, where: str, wanted: str) -> GoJSONError:
    return GoJSONError(f"cannot take {_name(value)} for {where}, which is {wanted}")


def string(value: Any, before: Any, where: str) -> Any:
    """Take a string, lone surrogates replaced as Go does."""
    if value is None:
        return before
    if not isinstance(value, str):
        raise _mismatch(value, where, "a string")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def boolean(value: Any, before: Any, where: str) -> Any:
    """Take true or false."""
    if value is None:
        return before
    if not isinstance(value, bool):
        raise _mismatch(value, where, "a bool")
    return value


def integer(value: Any, before: Any, where: str) -> Any:
    """Take an integer of 64 bits, written as one."""
    if value is None:
        return before
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(value, where, "an int64")
    if not INT64_MIN <= value <= INT64_MAX:
        raise GoJSONError(f"{where} does not fit an int64")
    return value


def anything(value: Any, before: Any, where: str) -> Any:
    """Take whatever it is."""
    return value


def list_of(kind: Kind, zero: Any) -> Kind:
    """Return the kind of a list; a null in it is the zero value."""

    def take(value: Any, before: Any, where: str) -> Any:
        if value is None:
            return None
        if not _is_array(value):
            raise _mismatch(value, where, "an array")
        old = before or ()
        # Go decodes into the elements that a list of the same key had before.
        return tuple(
            kind(item, old[index] if index < len(old) else zero, f"{where}.{index}")
            for index, item in enumerate(value)
        )

    return take


def map_of(kind: Kind, zero: Any) -> Kind:
    """Return the kind of a map with text keys; a null in it is the zero value."""

    def take(value: Any, before: Any, where: str) -> Any:
        if value is None:
            return None
        if not isinstance(value, Members):
            raise _mismatch(value, where, "an object")
        result = dict(before or {})
        for key, item in value:
            name = string(key, "", where)
            result[name] = kind(item, zero, f"{where}.{name}")
        return result

    return take


def struct_of(fields: dict[str, tuple[str, Kind]], *, null_resets: bool = True) -> Kind:
    """Return the kind of a struct.

    Args:
        fields: JSON name to attribute name and kind.
        null_resets: a null makes the field absent, as for Go's pointers.
    """
    folded = {fold(name): entry for name, entry in fields.items()}

    def take(value: Any, before: Any, where: str) -> Any:
        if value is None:
            return None if null_resets else before
        if not isinstance(value, Members):
            raise _mismatch(value, where, "an object")
        result: dict[str, Any] = dict(before or {})
        for key, item in value:
            # A key in the exact case and one in another name the same field; the last one wins.
            entry = folded.get(fold(key))
            if entry is not None:
                attribute, kind = entry
                result[attribute] = kind(item, result.get(attribute), f"{where}.{key}")
        return result

    return take
