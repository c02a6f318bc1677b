"""Run `compact`, and the commands that meet a compacted log afterwards."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cli_types import Command
from eventstore import ImageStore
from making import config, id_of

A, B = (id_of(config(name)) for name in "ab")


@pytest.fixture
def path(store_path: Path) -> Path:
    """Return a store in which A was created and deleted, and B is there."""
    ticks = iter(range(10**18, 2 * 10**18, 10**9))
    with ImageStore.open(store_path, actor="ci@host", now=lambda: next(ticks)) as store:
        store.create(config("a"))
        store.create(config("b"))
        store.delete(A, reason="old")
        store.tag("b", B)
    return store_path


def test_compact_says_what_it_dropped_and_where_the_past_begins(
    command: Command, path: Path
) -> None:
    """As the dry run said before; the log tells who and why, and nothing of A."""
    would = command("compact", "--before", "@3", "--dry-run", "-s", path)
    assert (would.code, would.err) == (0, "")
    assert would.lines[0].startswith("would drop 2 of 3 records, 1 configs (")
    assert command("log", "-s", path).out.count(A[7:19]) == 2
    done = command("compact", "--before", "@3", "-y", "--actor", "me@host", "-s", path)
    assert done.code == 0
    assert done.lines[0] == would.lines[0].replace("would drop", "dropped")
    assert done.lines[1].startswith("the first moment that can be looked at: @3, 2001-09-09 ")
    record = command("log", "--json", "-n", "1", "-s", path).json[0]
    assert (record["event"], record["image"], record["through"]) == ("compacted", None, 3)
    assert (record["actor"], record["reason"]) == ("me@host", "compact --before @3")
    shown = command("log", "-s", path).out
    assert "compacted         the log  through @3" in shown
    assert A[7:19] not in shown
    assert "through @3: 2 records dropped" in command("info", "-s", path).out
    assert command("verify", "-s", path).code == 0


def test_a_moment_before_is_one_clear_line(command: Command, path: Path) -> None:
    """By position and by time, for whatever looks at the past."""
    assert command("compact", "--before", "@3", "-y", "-s", path).code == 0
    for arguments in (
        ["ls", "--at", "@2"],
        ["tree", "--at", "2001-09-09T01:46:40Z"],
        ["diff", "@1", "@4"],
        ["undo", "@1"],
        ["export", str(path.parent / "out")],
        ["blame", B, "--at", "@2"],
    ):
        said = command(*arguments, "-s", path)
        assert said.code == 1, arguments
        assert said.err.count("\n") == 1
        assert "the log was compacted, and goes back to @3 only" in said.err
    assert command("ls", "--at", "@3", "-s", path).code == 0


def test_a_record_that_was_dropped_can_still_be_proved(command: Command, path: Path) -> None:
    """By whoever has its bytes; an audit says how many are known by their hashes alone."""
    with ImageStore.open(path) as store:
        raw = next(store.records()).raw
    kept, proof, entry = (path.parent / name for name in ("kept", "proof", "entry"))
    entry.write_bytes(raw)
    assert command("checkpoint", "-o", kept, "-s", path).code == 0
    assert command("compact", "--before", "@3", "-y", "-s", path).code == 0
    said = command("prove", "@1", "--checkpoint", kept, "-o", proof, "-s", path)
    assert said.code == 0
    assert "the record was dropped" in said.err
    assert command("check", proof, "--checkpoint", kept).code == 1
    assert command("check", proof, "--checkpoint", kept, "--entry", entry).code == 0
    audited = command("audit", "--since", kept, "-s", path)
    assert audited.code == 0
    assert "2 were dropped by a compaction" in audited.out
    assert command("audit", "--since", kept, "--json", "-s", path).json[0][
        "known_by_hash_alone"] == 2  # fmt: skip


@pytest.mark.parametrize("answer", ["", "\n", "n\n"])
def test_compact_asks_and_without_a_yes_does_nothing(
    command: Command, path: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question says how much would go."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    said = command("compact", "--before", "@3", "-s", path)
    assert said.code == 130
    assert "Drop 2 records, 1 configs and all moments before @3 for good?" in said.err
    assert command("ls", "--at", "@1", "-s", path).code == 0


@pytest.mark.parametrize("when", ["@0", "@99", "@x", "1999-01-01", "never"])
def test_moments_that_cannot_be_are_refused(command: Command, path: Path, when: str) -> None:
    """One clear line, and nothing is dropped."""
    said = command("compact", "--before", when, "-y", "-s", path)
    assert said.code in (1, 2, 3)
    assert said.err.count("\n") == 1
    assert len(command("log", "--json", "-s", path).json) == 4
