"""Decode JSON as Go's `encoding/json` does, into plain dictionaries.

Docker's decoder differs from most: the keys of a struct match without regard to case, of two equal
keys the last wins (and two objects merge), `null` leaves a field as it was, unknown keys are
skipped, each byte that is no UTF-8 becomes U+FFFD, and numbers are only as wide as the field. A
field's type is given as a `Kind`; what does not fit raises `GoJSONError`, and nothing else is ever
raised.

Time and memory grow with the size of the text and no faster, whatever is in it: objects of equal
keys merge in place, names of places are put together only for an error, and a text of more than
`VALUES_MAX` values or `DEPTH_MAX` levels, which no tool writes, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeGuard

DEPTH_MAX = 500
VALUES_MAX = 2**21
PLACE_LENGTH_MAX = 100
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_WHITESPACE = " \t\r\n"
_SPECIAL_FOLDS = {"\u017f": "s", "\u212a": "k"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENTS = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")

Kind = Callable[[Any, Any], Any]
"""Takes the parsed JSON and what the field holds so far, which it may change; returns what the
field holds then."""


class GoJSONError(ValueError):
    """The text is not JSON, or does not fit the type.

    Attributes:
        place: the keys and indexes that lead to what does not fit, the innermost first.
    """

    def __init__(self, problem: str) -> None:
        self.place: list[str] = []
        super().__init__(problem)

    def __str__(self) -> str:
        """Return the place, cut where it is long, and the problem."""
        place = ".".join(reversed(self.place))
        if len(place) > PLACE_LENGTH_MAX:
            place = place[:PLACE_LENGTH_MAX] + "…"
        return f"{place}: {self.args[0]}" if place else str(self.args[0])


class Members(list[tuple[str, Any]]):
    """The members of a JSON object in their order, equal keys and all."""

    __slots__ = ()


def parse(raw: bytes) -> Any:
    """Return the parsed JSON text; objects are `Members`, so that no key is lost.

    Numbers that are no integers, or are too long for one of 64 bits, come as some float.

    Raises:
        GoJSONError: it is not one JSON value, or is one beyond the bounds.
    """
    text = decode_text(raw)
    if not text.strip(_WHITESPACE):
        raise GoJSONError("unexpected end of JSON input")
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets + raw.count(b",") > VALUES_MAX:
        raise GoJSONError(f"more than {VALUES_MAX} values")
    try:
        value = json.loads(
            text,
            object_pairs_hook=Members,
            parse_constant=_refuse,
            parse_int=_int,
            parse_float=_float,
        )
    except (ValueError, RecursionError) as error:
        raise GoJSONError(f"not JSON: {error}") from error
    if brackets > DEPTH_MAX:
        _check_depth(value)
    return value


def decode_text(raw: bytes) -> str:
    """Return the text of some bytes, in which each byte that is no UTF-8 has become U+FFFD.

    Go's `utf8.DecodeRune` moves on by one byte over what it cannot decode; Python's own
    replacement would make one character of the bytes of a sequence that is cut short.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _without_surrogates(raw.decode("utf-8", "surrogateescape"))


def _without_surrogates(text: str) -> str:
    """Return a text in which each lone surrogate has become U+FFFD, as Go takes them."""
    return text.translate(_REPLACEMENTS)


def _refuse(text: str) -> Any:
    raise GoJSONError(f"invalid character {text[0]!r} looking for beginning of value")


def _int(text: str) -> int | float:
    """Parse an integer; one too long for any field stays a float, which fits none."""
    return int(text) if len(text) <= 20 else 0.5


def _float(text: str) -> float:
    """Return any float: no field takes one, and there may be millions of digits."""
    return 0.5


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


def _mismatch(value: Any, wanted: str) -> GoJSONError:
    return GoJSONError(f"{_name(value)} where {wanted} belongs")


def string(value: Any, before: Any) -> Any:
    """Take a string, lone surrogates replaced as Go does."""
    if value is None:
        return before
    if not isinstance(value, str):
        raise _mismatch(value, "a string")
    return value if _SURROGATE.search(value) is None else _without_surrogates(value)


def boolean(value: Any, before: Any) -> Any:
    """Take true or false."""
    if value is None:
        return before
    if not isinstance(value, bool):
        raise _mismatch(value, "a bool")
    return value


def integer(value: Any, before: Any) -> Any:
    """Take an integer of 64 bits, written as one."""
    if value is None:
        return before
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(value, "an int64")
    if not INT64_MIN <= value <= INT64_MAX:
        raise GoJSONError("does not fit an int64")
    return value


def pointer_to(kind: Kind) -> Kind:
    """Return the kind of what may be absent: a null makes it so, whatever was there before."""

    def take(value: Any, before: Any) -> Any:
        return None if value is None else kind(value, before)

    return take


def list_of(kind: Kind, zero: Callable[[], Any]) -> Kind:
    """Return the kind of a list.

    Args:
        kind: of its items.
        zero: makes the zero value, which a null in the list stands for.
    """

    def take(value: Any, before: Any) -> Any:
        if value is None:
            return None
        if not _is_array(value):
            raise _mismatch(value, "an array")
        # Go decodes into the elements that a list of the same key had before.
        taken: list[Any] = list(before[: len(value)]) if before else []
        kept = len(taken)
        index = 0
        try:
            for index, item in enumerate(value):
                if index < kept:
                    taken[index] = kind(item, taken[index])
                else:
                    taken.append(kind(item, zero()))
        except GoJSONError as error:
            error.place.append(str(index))
            raise
        return tuple(taken)

    return take


def map_of(kind: Kind, zero: Callable[[], Any]) -> Kind:
    """Return the kind of a map with text keys.

    Args:
        kind: of its values.
        zero: makes the zero value, which a null in the map stands for.
    """

    def take(value: Any, before: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Members):
            raise _mismatch(value, "an object")
        result: dict[str, Any] = {} if before is None else before
        for key, item in value:
            try:
                result[string(key, "")] = kind(item, zero())
            except GoJSONError as error:
                error.place.append(key[:PLACE_LENGTH_MAX])
                raise
        return result

    return take


def struct_of(fields: dict[str, tuple[str, Kind]], *, null_resets: bool = True) -> Kind:
    """Return the kind of a struct.

    Args:
        fields: JSON name to attribute name and kind.
        null_resets: a null makes the field absent, as for Go's pointers.
    """
    folded = {fold(name): entry for name, entry in fields.items()}
    longest = max(map(len, folded))

    def take(value: Any, before: Any) -> Any:
        if value is None:
            return None if null_resets else before
        if not isinstance(value, Members):
            raise _mismatch(value, "an object")
        result: dict[str, Any] = {} if before is None else before
        for key, item in value:
            # A key in the exact case and one in another name the same field; the last one wins.
            entry = fields.get(key)
            if entry is None and len(key) <= longest:
                entry = folded.get(fold(key))
            if entry is None:
                continue
            attribute, kind = entry
            try:
                result[attribute] = kind(item, result.get(attribute))
            except GoJSONError as error:
                error.place.append(key)
                raise
        return result

    return take
