"""What the contract tests share: the subject that a case of Docker's is played on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.subjects import ModelSubject, StoreSubject, Subject


@pytest.fixture(params=["store", "model"])
def subject(
    request: pytest.FixtureRequest, store_path: Path, clock: Callable[[], int]
) -> Iterator[Subject]:
    """Return the real store, then the model; a real one must verify when the test is over."""
    kept = request.param == "store"
    made: Subject = StoreSubject(store_path, clock) if kept else ModelSubject(clock)
    yield made
    made.finish()
