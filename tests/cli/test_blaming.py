"""Ask on the command line who made an image what it is, since when, and what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_types import Command
from eventstore import ImageStore
from making import config, id_of

A, B, C = (id_of(config(name)) for name in "abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store in which B lost its parent and its name by what happened to others."""
    with ImageStore.open(tmp_path / "store", actor="ci@build7") as store:
        for name in "abc":
            store.create(config(name), reason="pushed")
        store.set_parent(B, A)
        store.tag("app", B)
        store.set_built_locally(B)
        store.delete(A, reason="nightly prune")
        store.tag("app", C)
    return tmp_path / "store"


def test_log_of_an_image_tells_what_others_did_to_it(command: Command, path: Path) -> None:
    """Marked, so that a reader sees why they are there."""
    rows = command("log", B, "--json", "-s", path).json
    assert [row["position"] for row in rows] == [8, 7, 6, 5, 4, 2]
    marks = {row["position"]: row["did"] for row in rows if "did" in row}
    assert marks == {8: f"taken from {B[7:19]}", 7: f"orphaned {B[7:19]}"}
    lines = command("log", B, "--reverse", "--since", "@5", "-s", path).lines
    assert f"       @7  deleted           {A[7:19]}  orphaned {B[7:19]}" in lines
    assert lines[-1].endswith(f"{C[7:19]}  app:latest  taken from {B[7:19]}")
    assert not any("did" in row for row in command("log", "--json", "-s", path).json)


def test_blame_names_the_record_behind_each_fact(command: Command, path: Path) -> None:
    """There or gone, now or at a moment before."""
    rows = command("blame", B[7:19], "--json", "-s", path).json
    assert {row["fact"]: (row["value"], row["record"]["position"]) for row in rows} == {
        "exists": (True, 2),
        "parent": (None, 7),
        "built_locally": (True, 6),
        "last_updated": (None, 2),
    }
    lines = command("blame", B, "-s", path).lines
    assert len(lines) == 5
    (orphaned,) = (line for line in lines if "no parent" in line)
    assert orphaned.split()[0] == "@7"
    assert "ci@build7" in orphaned and orphaned.endswith("nightly prune")
    then = command("blame", "app", "--at", "@5", "--json", "-s", path)
    assert [row["fact"] for row in then.json] == [
        "exists",
        "parent",
        "built_locally",
        "last_updated",
    ]
    before = command("blame", B, "--at", "@5", "--json", "-s", path).json
    assert before[-1]["value"] == "docker.io/library/app:latest"
    (gone,) = command("blame", A, "--json", "-s", path).json
    assert (gone["value"], gone["record"]["reason"]) == (False, "nightly prune")
    assert command("blame", "never", "-s", path).code == 1
    assert command("blame", B, "--at", "@1", "-s", path).code == 1


def test_blame_fits_the_terminal(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 80 columns, where nobody writes long reasons or anybody does."""
    monkeypatch.setattr("eventstore.cli.layout.width", lambda: 80)
    with ImageStore.open(path, actor="a-long-name@a-long-host.example.com") as store:
        store.set_last_updated(B, reason="because " * 40)
        store.tag("registry.example.com/some/long/path/of/a/team/app:1.0", B, reason="x" * 90)
    lines = command("blame", B, "-s", path).lines
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "position"),
    [
        (["--gone", A], 7),
        (["--there", C], 3),
        (["--parent", B, A, "--through", "@6"], 4),
        (["--parent", B, "none", "--after", "@4"], 7),
        (["--named", "app"], 5),
        (["--named", "app", B, "--through", "@7"], 5),
        (["--named", "app", C], 8),
    ],
)
def test_bisect_prints_the_record_as_log_does(
    command: Command, path: Path, arguments: list[str], position: int
) -> None:
    """The first after which it holds."""
    (row,) = command("bisect", *arguments, "--json", "-s", path).json
    assert row["position"] == position
    lines = command("bisect", *arguments, "-s", path).lines
    assert lines[-1].split()[0] == f"@{position}"


def test_bisect_follows_an_image_through_its_lives(command: Command, path: Path) -> None:
    """What is asked of is its last one, and the last meaning of a name."""
    with ImageStore.open(path) as store:
        store.create(config("a"))
        store.delete(A)
        store.untag("app")
    assert command("bisect", "--gone", A, "--json", "-s", path).json[0]["position"] == 10
    (row,) = command("bisect", "--named", "app", "none", "--json", "-s", path).json
    assert row["position"] == 11


def test_bisect_says_no_where_there_is_nothing_to_find(command: Command, path: Path) -> None:
    """With 1; a wrong question is refused with 2."""
    said = command("bisect", "--gone", B, "-s", path)
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
    for arguments in (
        [],
        ["--gone", A, "--there", A],
        ["--there", A, B],
        ["--there", A, "--after", "@1"],
        ["--there", A, "--after", "@5", "--through", "@4"],
        ["--there", A, "--after", "@99"],
    ):
        assert command("bisect", *arguments, "-s", path).code == 2
    assert command("bisect", "--there", "never", "-s", path).code == 1


@pytest.mark.parametrize("name", [["show"], ["rm"], ["touch"], ["set-parent", B], ["tag", "x"]])
def test_whoever_asks_for_a_deleted_image_is_told_what_became_of_it(
    command: Command, path: Path, name: list[str]
) -> None:
    """By whole id or prefix, in one line, the same way in every command."""
    for term in (A, A[7:20]):
        said = command(*name, term, "-s", path)
        assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
        assert f"no such image: {term}: deleted at @7 by ci@build7 " in said.err
        assert f' ago: "nightly prune"; see `eventstore log {A[7:19]}`' in said.err
        assert said.err.count("deleted at") == 1
    never = command(*name, id_of(b"never"), "-s", path)
    assert never.code == 1 and "deleted at" not in never.err and "ls --all" in never.err


def alike() -> tuple[bytes, bytes]:
    """Return two configs whose ids begin alike."""
    known: dict[str, bytes] = {}
    for number in range(1_000):
        raw = config(str(number))
        other = known.setdefault(id_of(raw)[7:10], raw)
        if other is not raw:
            return other, raw
    raise AssertionError


def test_an_ambiguous_term_lists_what_it_could_mean(command: Command, tmp_path: Path) -> None:
    """With what became of each, a line each, on standard error."""
    first, second = alike()
    path, term = tmp_path / "store", id_of(first)[7:10]
    with ImageStore.open(path) as store:
        store.create(first)
        store.create(second)
    for name in (["show"], ["rm"], ["log"], ["search"]):
        said = command(*name, term, "-s", path)
        assert (said.code, said.out) == (1, "")
        message, *rest = said.err.splitlines()
        assert "more than one" in message and "give more digits" in message
        assert sorted(rest) == sorted(
            f"  {id_of(raw)[7:19]}  created a moment ago, at @{at}"
            for at, raw in ((1, first), (2, second))
        )
    assert command("rm", id_of(first), "-s", path).code == 0
    listed = command("log", term, "-s", path).err
    assert "deleted a moment ago, at @3" in listed and "created a moment ago, at @2" in listed
    assert command("show", term, "-s", path).code == 0
