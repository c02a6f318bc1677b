"""Weaken the store where it faces hostile input, so that the fuzzer can be seen to find it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any


def weaken(name: str | None) -> None:
    """Apply a weakening to this process, none if there is no name."""
    if name is not None:
        WEAKENINGS[name]()


def _leak_msgspec() -> None:
    """Let what msgspec says of a record's bytes out as it is."""
    from eventstore import codec

    def as_it_is(position: int, payload: bytes, error: Exception) -> Exception:
        return error

    codec._explain = as_it_is  # type: ignore[assignment]


def _no_shape_check() -> None:
    """Take digests of any length in records."""
    from eventstore import codec

    def taken(event: object) -> bool:
        return True

    codec._well_shaped = taken


def _no_size_limit() -> None:
    """Take configs of any size."""
    from eventstore import image

    image.CONFIG_SIZE_MAX = 1 << 40


def _no_values_limit() -> None:
    """Take configs of any number of values."""
    from eventstore import go_json

    go_json.VALUES_MAX = 1 << 40


def _leak_json() -> None:
    """Let what the JSON decoder says out as it is."""
    from eventstore import image

    class AnotherError(Exception):
        pass

    vars(image)["GoJSONError"] = AnotherError


def _equal_keys() -> None:
    """Do not look for equal keys in configs before they are decoded fast."""
    from eventstore import plain_config

    def any_number(plain: object) -> _AnyNumber:
        return _AnyNumber()

    plain_config._encode = any_number  # type: ignore[assignment]


class _AnyNumber(int):
    """Says that it is every number, and counts itself."""

    def count(self, _: bytes) -> _AnyNumber:
        return self

    def __ne__(self, other: object) -> bool:
        return False


def _blind_to_case() -> None:
    """Search without regard to case."""
    from eventstore import digest_set

    real = digest_set.bounds

    def bounds(term: Any) -> tuple[bytes, bytes] | None:
        return real(term.lower())

    digest_set.bounds = bounds


def _raw_output() -> None:
    """Print what was found as it is."""
    from eventstore import printable
    from eventstore.cli import output

    printable.FOR_PEOPLE = output.IN_JSON = _Same()  # type: ignore[assignment,attr-defined]


class _Same(dict[int, str]):
    """Shows every character as it is."""

    def __missing__(self, code: int) -> str:
        return chr(code)


def _leak_times() -> None:
    """Read Docker's times as Python does, errors and all."""
    from eventstore.sources import found

    def instant(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp())

    vars(found)["parse_instant"] = instant


WEAKENINGS: dict[str, Callable[[], None]] = {
    "leak-msgspec": _leak_msgspec,
    "no-shape-check": _no_shape_check,
    "no-size-limit": _no_size_limit,
    "no-values-limit": _no_values_limit,
    "leak-json": _leak_json,
    "equal-keys": _equal_keys,
    "blind-to-case": _blind_to_case,
    "raw-output": _raw_output,
    "leak-times": _leak_times,
}
