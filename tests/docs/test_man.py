"""Hold the manual page against the command, and let the tools that show it find no fault in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import files
from pathlib import Path

import pytest

from attacking import TOOLS
from eventstore.cli import examples
from eventstore.cli.main import cli

sys.path.append(str(TOOLS))
import make_man

TOP = Path(__file__).resolve().parents[2]
RENDER = ["groff", "-man", "-Tutf8", "-Kutf8", "-P-cbou"]


@pytest.fixture(scope="module")
def text() -> str:
    """Return the page as it is committed."""
    return make_man.PAGE.read_text("utf-8")


def test_the_page_is_what_the_command_says(text: str) -> None:
    """Whoever changes a help text runs `tools/make_man.py`."""
    assert text == make_man.page(), "run tools/make_man.py"


def test_the_page_is_installed_where_man_looks() -> None:
    """In share/man/man1, and not a second time in the package."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    source = str(make_man.PAGE.relative_to(TOP))
    assert wheel["shared-data"] == {source: "share/man/man1/eventstore.1"}
    assert "/eventstore/man" in wheel["exclude"]
    if os.environ.get("EVENTSTORE_TEST_WHEEL"):
        installed = [str(file) for file in files("image-eventstore") or ()]
        pages = [name for name in installed if name.endswith("eventstore.1")]
        assert len(pages) == 1
        assert pages[0].endswith("share/man/man1/eventstore.1")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_no_fault_and_shows_every_command_option_and_example(text: str) -> None:
    """With all warnings on; nothing that stands in the help is lost to roff."""
    done = subprocess.run([*RENDER, "-ww"], input=text, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    for name, command in cli.commands.items():
        assert f" {name} [OPTIONS]" in shown
        for example in examples.EXAMPLES[name]:
            assert f"eventstore {example}" in shown
        for parameter in command.params:
            for switch in parameter.opts if parameter.param_type_name == "option" else ():
                assert switch in shown
    for meaning in examples.MEANINGS.values():
        assert " ".join(meaning.split()) in shown
    assert "141 whoever read the output has gone away" in shown
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".TH evil", r"\&.TH evil"),
        ("'s", r"\(aqs"),
        (r"a\b", r"a\eb"),
        ("see `--help` and --json", r"see \fB\-\-help\fR and \fB\-\-json\fR"),
        ("a-b", "a-b"),
        ("…", r"\[u2026]"),
    ],
)
def test_no_text_is_taken_for_a_request(text: str, expected: str) -> None:
    """Whatever a help text begins with or holds is shown as it is."""
    assert make_man.prose(text) == expected
