"""Run `redact`, and the commands that meet a redacted image afterwards."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cli_types import Command
from eventstore import ImageStore
from making import config, id_of
from traces import count, traces_of

SECRET, OTHER = config("secret " + "0123456789abcdef" * 9), config("other")


@pytest.fixture
def path(store_path: Path) -> Path:
    """Return a store with an image to be redacted, and its child."""
    with ImageStore.open(store_path, actor="maker@host") as store:
        store.set_parent(store.create(OTHER), store.create(SECRET))
    return store_path


def test_redact_destroys_and_says_where_it_is_recorded(command: Command, path: Path) -> None:
    """With --yes nothing is asked; the log tells who and why."""
    said = command(
        "redact", id_of(SECRET)[7:19], "-m", "a key", "--actor", "me@host", "--yes", "-s", path
    )
    assert (said.code, said.err) == (0, "")
    assert said.lines == [f"redacted {id_of(SECRET)} at @4"]
    assert count(path, traces_of(SECRET)) == 0
    record = command("log", id_of(SECRET), "--json", "-s", path).json[0]
    assert (record["event"], record["actor"], record["reason"]) == ("redacted", "me@host", "a key")
    assert "redacted" in command("log", "-s", path).out
    assert command("verify", "-s", path).code == 0


@pytest.mark.parametrize("answer", ["", "\n", "n\n"])
def test_redact_asks_and_without_a_yes_does_nothing(
    command: Command, path: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not say yes has changed nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    said = command("redact", id_of(SECRET), "-m", "a key", "-s", path)
    assert said.code == 130
    assert "for good?" in said.err
    assert command("show", id_of(SECRET), "-s", path).code == 0


@pytest.mark.parametrize("reason", [(), ("-m", ""), ("-m", " ")])
def test_redact_without_a_reason_is_refused(
    command: Command, path: Path, reason: tuple[str, ...]
) -> None:
    """What destroys must say why."""
    said = command("redact", id_of(SECRET), *reason, "--yes", "-s", path)
    assert said.code in (2, 3)
    assert "reason" in said.err
    assert command("show", id_of(SECRET), "-s", path).code == 0


@pytest.mark.parametrize("options", [(), ("--raw",), ("--json",), ("--at", "@2")])
def test_show_says_in_one_line_who_redacted_it_when_and_why(
    command: Command, path: Path, options: tuple[str, ...]
) -> None:
    """It is no damage: the exit code is 1, as for what is not there."""
    command("redact", id_of(SECRET), "-m", "a key", "--actor", "me@host", "-y", "-s", path)
    said = command("show", id_of(SECRET), *options, "-s", path)
    assert (said.code, said.out) == (1, "")
    (text,) = said.err.splitlines()
    for word in ("redacted", "@4", "me@host", "a key"):
        assert word in text


def test_listings_show_it_among_the_others(command: Command, path: Path) -> None:
    """What is asked for is no damage: `ls` and `tree` end well."""
    command("redact", id_of(SECRET), "-m", "a key", "--yes", "-s", path)
    for name in (("ls", "--all"), ("tree",)):
        said = command(*name, "-s", path)
        assert (said.code, said.err) == (0, "")
        assert "redacted" in said.out
        assert id_of(OTHER)[7:19] in said.out
        shapes = {shape["id"]: shape for shape in command(*name, "--json", "-s", path).json}
        assert "a key" in shapes[id_of(SECRET)]["redacted"]
        assert "redacted" not in shapes[id_of(OTHER)]


def test_a_deleted_image_is_found_and_named_as_before(
    command: Command, path: Path, tmp_path: Path
) -> None:
    """Who looks for it still learns that it was deleted; who creates it is refused."""
    command("rm", id_of(SECRET), "-s", path)
    assert command("redact", id_of(SECRET)[:20], "-m", "a key", "--yes", "-s", path).code == 0
    said = command("show", id_of(SECRET), "-s", path)
    assert said.code == 1
    assert "deleted at @4" in said.err
    file = tmp_path / "config.json"
    file.write_bytes(SECRET)
    said = command("create", file, "-s", path)
    assert said.code == 1
    assert "redacted" in said.err
