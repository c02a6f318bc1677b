"""A pytest plugin for programs that use the store: a store for each test, and a clock to set.

Name it in the `conftest.py` at the top of your tests::

    pytest_plugins = ["eventstore.testing"]

It is not loaded by itself: who installs this package for its command pays nothing for it in the
tests of something else. `ManualClock` needs no pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eventstore import clock
from eventstore.errors import StoreClosedError, StoreUsageError
from eventstore.store import ImageStore

if TYPE_CHECKING:
    from pytest import FixtureRequest

START = datetime(2030, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is moved; give it to `ImageStore.open` as `now`."""

    def __init__(self, start: datetime = START) -> None:
        """Stand at an aware datetime."""
        self.set(start)

    def __call__(self) -> int:
        """Return nanoseconds since 1970, UTC."""
        return self._now_ns

    @property
    def now(self) -> datetime:
        """Return the time that it shows, cut to whole microseconds."""
        return clock.to_datetime(self._now_ns)

    def set(self, moment: datetime) -> None:
        """Show another time, which may be earlier.

        Raises:
            StoreUsageError: it has no time zone, so it names no instant.
        """
        if moment.tzinfo is None:
            raise StoreUsageError(f"{moment} has no time zone, so it names no instant")
        self._now_ns = clock.to_nanoseconds(moment)

    def tick(self, step: timedelta | float = 1.0) -> datetime:
        """Move on, or back, by a duration or by seconds, and return the time that it shows then."""
        duration = step if isinstance(step, timedelta) else timedelta(seconds=step)
        self._now_ns += duration // timedelta(microseconds=1) * 1000
        return self.now


def _clock() -> ManualClock:
    """Return the clock of `image_store`: it stands at the start of 2030 until it is moved."""
    return ManualClock()


def _store(request: FixtureRequest, image_store_clock: ManualClock) -> Iterator[ImageStore]:
    """Open a new store in a folder of the test's, and close and verify it when the test is over."""
    path = request.getfixturevalue("tmp_path") / "image-store"
    with ImageStore.open(path, actor="test", now=image_store_clock) as store:
        yield store
        try:
            problems = [problem.message for problem in store.verify()]
        except StoreClosedError:  # the test has closed it
            problems = []
    if problems:
        raise AssertionError(f"the store does not verify: {'; '.join(problems)}")


def __getattr__(name: str) -> object:
    """Make the fixtures when pytest, which is no dependency, asks for them."""
    makers: dict[str, Callable[..., object]] = {"image_store": _store, "image_store_clock": _clock}
    if name not in makers:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    fixture = pytest.fixture(name=name)(makers[name])
    globals()[name] = fixture
    return fixture


def __dir__() -> list[str]:
    """Return the names of all that is here, the fixtures too, for which pytest looks."""
    return sorted({*globals(), "image_store", "image_store_clock"})
