"""Take things back on the command line, look before, and see what stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_types import Command
from eventstore import ImageStore, digest
from making import config, id_of

A, B = id_of(config("a")), id_of(config("b"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store where a prune took an image and its child, which had a name, at 5 and 6."""
    with ImageStore.open(tmp_path / "store") as store:
        store.create(config("a"))
        store.create(config("b"))
        store.set_parent(B, A)
        store.tag("app", B)
        with store.transaction(reason="prune"):
            store.delete(A)
            store.delete(B)
    return tmp_path / "store"


def test_a_dry_run_shows_what_the_undo_then_does(command: Command, path: Path) -> None:
    """The same lines but the last; by any position of the batch, with or without the sign."""
    tried = command("undo", "6", "--dry-run", "-s", path)
    assert [line.split()[0] for line in tried.lines] == [
        "created", "created", "parent-set", "tagged", "would",
    ]  # fmt: skip
    assert f"parent {digest.short(A)}" in tried.out
    assert "app:latest" in tried.out
    with ImageStore.open(path) as store:
        assert store.position == 6
    done = command("undo", "@5", "-m", "not ours", "--actor", "me", "-s", path)
    assert (done.code, done.lines[:-1]) == (0, tried.lines[:-1])
    assert done.lines[-1] == "undid 2 records"
    rows = command("log", "--since", "@6", "--json", "-s", path).json
    assert {(row["batch"], row["actor"], row["reason"]) for row in rows} == {
        (7, "me", "undo of @5 to @6: not ours")
    }
    assert command("search", "app", "-s", path).lines == [B]
    assert list(command("undo", "@7", "--json", "-s", path).json[0]) == [
        "undone", "events", "appended",
    ]  # fmt: skip


def test_one_record_or_one_image_can_be_brought_back(command: Command, path: Path) -> None:
    """`--only`, and `restore-image` by the start of the id."""
    (said,) = command("undo", "@5", "--only", "--json", "-s", path).json
    assert said["undone"] == [5]
    assert said["appended"] == [7]
    assert said["events"] == [{"event": "created", "image": A, "chain_id": None, "os": "linux"}]
    back = command("restore-image", digest.short(B), "-m", "needed", "-s", path)
    assert back.lines[-1] == "undid 1 record"
    assert command("search", "app", "-s", path).lines == [B]


def test_obstacles_are_lines_and_nothing_is_done(command: Command, path: Path) -> None:
    """On standard error, one each, with exit code 1."""
    with ImageStore.open(path) as store:
        store.redact(A, reason="secret")
        store.redact(B, reason="secret")
    for arguments in (["undo", "@5"], ["undo", "@5", "--dry-run"]):
        refused = command(*arguments, "-s", path)
        assert (refused.code, refused.out) == (1, "")
        assert [line.rsplit(" ", 1)[-1] for line in refused.err.splitlines()] == [
            "@8", "@7", "undone",
        ]  # fmt: skip
    assert command("restore-image", A, "-s", path).code == 1
    assert command("restore-image", "never", "-s", path).code == 1
    with ImageStore.open(path) as store:
        assert store.position == 8


@pytest.mark.parametrize("position", ["x", "@", "-5", "@9" * 12, ""])
def test_what_is_no_position_is_a_wrong_command_line(
    command: Command, path: Path, position: str
) -> None:
    """And what the log does not have is refused."""
    assert command("undo", "-s", path, "--", position).code == 2
    for missing in ("0", "@7"):
        assert command("undo", missing, "-s", path).code == 3
