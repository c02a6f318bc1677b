"""What every test may use: stores that are verified when the test ends, and hypothesis profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from eventstore import ImageStore

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "dev", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile(
    "ci", max_examples=150, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile(
    "soak", max_examples=2_000, print_blob=True, deadline=None, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


class Ticking:
    """A clock that tests set; each look at it is a second later."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        """Return the time, and move it on."""
        self.now_ns += 1_000_000_000
        return self.now_ns


@pytest.fixture
def clock() -> Ticking:
    """Return a clock that ticks a second at each look."""
    return Ticking()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Return where a store may be made; tests that do damage use this and verify themselves."""
    return tmp_path / "store"


@pytest.fixture
def store(store_path: Path, clock: Ticking) -> Iterator[ImageStore]:
    """Open a store that must verify when the test is over, whatever the test did."""
    with ImageStore.open(store_path, actor="tester@host", now=clock) as opened:
        yield opened
    with ImageStore.open(store_path, create=False) as again:
        assert list(again.verify()) == []
