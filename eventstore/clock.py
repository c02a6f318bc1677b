"""Read the wall clock in nanoseconds, and turn nanoseconds into aware datetimes and back.

Time is data here, never order: the position orders. A store is given its clock, so that tests can
give it one that jumps, stands still or runs backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from eventstore.errors import EventStoreError, StoreUsageError

Clock = Callable[[], int]
"""Returns nanoseconds since 1970-01-01T00:00:00Z."""

NANOSECONDS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_NS = -62_135_596_800 * NANOSECONDS
MAX_NS = 253_402_300_800 * NANOSECONDS - 1
# What 64 bits hold, and so what a record can: 1677-09-21 to 2262-04-11.
STORED_MIN_NS = -(2**63)
STORED_MAX_NS = 2**63 - 1


def system_clock() -> int:
    """Return the time of day in nanoseconds since 1970, UTC."""
    return time.time_ns()


def reading(now: Clock) -> int:
    """Return what a clock says, as an instant that a record can hold.

    A clock of a user's may say anything, and what it says is stored for good: seconds as a float,
    written once, would make the log unreadable. An instant outside the years 1678 to 2261 becomes
    the nearest end.

    Raises:
        StoreUsageError: it gives no whole number, or raises.
    """
    try:
        said = now()
    except EventStoreError:
        raise
    except Exception as error:
        raise StoreUsageError(f"the store's clock failed: {error!r}") from error
    if type(said) is int and STORED_MIN_NS <= said <= STORED_MAX_NS:
        return said
    if not isinstance(said, int) or isinstance(said, bool):
        raise StoreUsageError(f"the store's clock gave {said!r}: it gives nanoseconds, as an int")
    return min(max(int(said), STORED_MIN_NS), STORED_MAX_NS)


def to_datetime(time_ns: int) -> datetime:
    """Return the aware datetime of an instant, cut to whole microseconds.

    Args:
        time_ns: nanoseconds since 1970, UTC; outside the years 1 to 9999 the nearest end is given.
    """
    clamped = min(max(time_ns, MIN_NS), MAX_NS)
    return _EPOCH + timedelta(microseconds=clamped // 1000)


def to_rfc3339(time_ns: int) -> str:
    """Return an instant as RFC 3339 in UTC has it, with all nanoseconds, as Go prints it.

    Args:
        time_ns: nanoseconds since 1970, UTC.
    """
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return text + (f".{fraction:09}".rstrip("0") if fraction else "") + "Z"


def to_nanoseconds(moment: datetime) -> int:
    """Return the nanoseconds since 1970 of an aware datetime; inverse of `to_datetime`.

    Raises:
        ValueError: `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone names no instant")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
