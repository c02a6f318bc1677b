"""Try what tells the program's logging: it loads `logging` late, and never fails for it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from eventstore.notices import Notices

NO_FILE_LEFT = """
import resource, sys
from eventstore.notices import Notices
assert "logging" not in sys.modules
resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
notices = Notices("eventstore.child")
notices.info("nobody asked for %s", "this")
notices.warning("what was found: %s", "a page")
"""


def test_a_warning_has_the_name_and_the_place_of_who_gives_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A program's settings for a module of ours hold, and a record names that module's file."""
    notices = Notices("eventstore.somewhere")
    with caplog.at_level(logging.INFO, logger="eventstore"):
        notices.warning("%s: damaged", "a page")
        notices.info("for those who ask")
    told = [(found.name, found.levelname, found.getMessage()) for found in caplog.records]
    assert told == [
        ("eventstore.somewhere", "WARNING", "a page: damaged"),
        ("eventstore.somewhere", "INFO", "for those who ask"),
    ]
    assert {found.pathname for found in caplog.records} == {__file__}


def test_a_warning_that_cannot_be_logged_is_printed_and_no_failure() -> None:
    """It may come after a commit, and what was done must not look as if it had failed."""
    done = subprocess.run(
        [sys.executable, "-c", NO_FILE_LEFT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "what was found: a page\n"
