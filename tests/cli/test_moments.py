"""Name moments in every form that is documented, and in forms that must be refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from cli_types import Command
from eventstore import ImageStore
from eventstore.cli import moments
from making import config

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


@pytest.fixture
def hourly(store_path: Path) -> ImageStore:
    """Return a store with one image an hour: 3 hours ago, 2, and 1."""
    times = [int((START + timedelta(hours=hour)).timestamp()) * 10**9 for hour in range(3)]
    now = times[0]
    store = ImageStore.open(store_path, now=lambda: now)
    for number, now in enumerate(times):  # noqa: B007 (the clock reads it)
        store.create(config(str(number)))
    return store


@pytest.mark.parametrize(
    ("when", "position"),
    [
        ("@0", 0),
        ("@2", 2),
        (" @3 ", 3),
        ("now", 3),
        ("4 hours ago", 0),
        ("150 minutes ago", 1),
        ("90 minutes ago", 2),
        ("30 minutes ago", 3),
        ("1 minute ago", 3),
        ("a week ago", 0),
        pytest.param((START + timedelta(minutes=30)).isoformat(), 1, id="offset"),
        pytest.param((START + timedelta(minutes=30)).isoformat().replace("+00:00", "Z"), 1, id="Z"),
        pytest.param(
            (START + timedelta(hours=1)).astimezone().replace(tzinfo=None).isoformat(),
            2,
            id="local time",
        ),
        ("1970-01-01", 0),
        ("9999-12-31", 3),
    ],
)
def test_every_documented_form_names_the_right_position(
    hourly: ImageStore, when: str, position: int
) -> None:
    """Positions, ISO times with and without a zone, and phrases."""
    with hourly:
        assert moments.position_of(hourly, when) == position


@pytest.mark.parametrize(
    "when",
    ["", "@", "@4", "@-1", "@1.5", "120", "2026", "@" + "9" * 18, "gibberish", "x" * 10_000, "\0"],
)
def test_what_is_no_moment_is_refused_in_words(hourly: ImageStore, when: str) -> None:
    """No guess is made: a bare number could be a year or a position."""
    with hourly, pytest.raises(click.UsageError):
        moments.position_of(hourly, when)


def test_a_wrong_moment_ends_the_command_with_2(command: Command, hourly: ImageStore) -> None:
    """The message says what may be written."""
    hourly.close()
    said = command("ls", "--at", "gibberish", "-s", hourly.path)
    assert said.code == 2
    assert "@120" in said.err
