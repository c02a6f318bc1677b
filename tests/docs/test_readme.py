"""Hold the promises of the README against the checkout; its guides are run by `test_guides.py`."""

from __future__ import annotations

import re
from pathlib import Path

from click import Group

from eventstore import snapshots
from eventstore.cli.main import cli

TOP = Path(__file__).resolve().parents[2]
README = (TOP / "README.md").read_text("utf-8")


def test_every_command_is_in_the_table_and_the_other_way_round() -> None:
    """No command is missing from the README, none is there that does not exist."""
    assert isinstance(cli, Group)
    table = README.split("| command | what it does |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = {words.split()[0] for cell in cells for words in re.findall(r"`([^`]+)`", cell)}
    assert named == set(cli.commands)


def test_every_file_that_is_named_exists() -> None:
    """Paths in the README lead somewhere."""
    for name in re.findall(r"`((?:tests|tools|eventstore)/[\w./-]+)`", README):
        assert (TOP / name).exists(), name
    pictures = re.findall(r'src(?:set)?="([^"]+)"', README)
    assert len(pictures) >= 3
    for name in pictures:
        assert (TOP / name).is_file(), name
    tour = README.split("## Reading the source")[1]
    for name in re.findall(r"`([\w/]+\.py)`", tour):
        if not name.startswith("tools/"):
            assert (TOP / "eventstore" / name).exists(), name


def test_exit_codes_are_documented_alike() -> None:
    """The README and the help state the same codes."""
    for code in ("0", "1", "2", "3", "4", "130"):
        assert cli.epilog is not None
        assert re.search(rf"\b{code}\b", cli.epilog)
        assert re.search(rf"\b{code} ", README.split("Exit codes:")[1])


def test_the_stated_bound_of_as_of_is_that_of_the_code() -> None:
    """The formula in the README is computed as the snapshots do."""
    assert "2 × max(4096, images ÷ 4)" in README
    for images in (0, 1, 16_384, 16_388, 1_000_000):
        assert snapshots.interval(images) == max(4096, images // 4)


def test_every_link_leads_to_a_heading_or_a_file() -> None:
    """A heading's anchor is its words in lower case, as GitHub makes it."""
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
    links = re.findall(r"\]\(([^)]+)\)", prose)
    assert "#ten-minutes-as-an-auditor" in links
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (TOP / link).exists(), link
