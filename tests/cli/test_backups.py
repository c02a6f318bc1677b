"""The commands `backup` and `restore`, and what `info` says of a restored store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli_types import Command, Host
from eventstore import ImageStore


def test_a_restored_store_answers_as_the_store_did_and_says_where_it_forks(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """In words and in JSON; the chain of forks is listed, the nearest first."""
    end = host.ends[-1]
    with ImageStore.open(host.path, read_only=True) as store:
        store_id = store.store_id
    assert (
        command("backup", tmp_path / "b", "-s", host.path)
        .lines[0]
        .startswith(f"{tmp_path / 'b'}: a store at @{end}, ")
    )
    said = command("restore", tmp_path / "b", tmp_path / "r")
    assert said.code == 0
    assert said.lines[0].startswith(f"{tmp_path / 'r'}: a store at @{end}, ")
    assert said.lines[1].endswith(f": forked from {store_id} at @{end}")
    assert command("ls", "-a", "-s", tmp_path / "r").out == command("ls", "-a", "-s", host.path).out
    assert command("verify", "-s", tmp_path / "r").code == 0
    lines = command("info", "-s", tmp_path / "r").lines
    assert f"fork:         from {store_id} at @{end}" in lines
    (again,) = command("restore", "--json", tmp_path / "r", tmp_path / "rr").json
    (info,) = command("info", "--json", "-s", tmp_path / "rr").json
    (middle,) = command("info", "--json", "-s", tmp_path / "r").json
    assert info["forks"] == again["forks"]
    assert info["forks"] == [
        {"store_id": middle["store_id"], "position": end},
        {"store_id": store_id, "position": end},
    ]
    assert (again["store_id"], again["position"]) == (info["store_id"], end)
    assert command("info", "--json", "-s", host.path).json[0]["forks"] == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_restore_and_backup_write_over_nothing(
    command: Command, host: Host, tmp_path: Path, kind: str
) -> None:
    """One line says so, with the next step; the exit code is 3."""
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    for arguments in (("restore", host.path, target), ("backup", target, "-s", host.path)):
        said = command(*arguments)
        assert (said.code, said.out) == (3, "")
        assert said.err == (
            f"eventstore: {target} exists already, and nothing is overwritten:"
            " give a name that is not taken\n"
        )


def test_what_cannot_be_restored_is_one_line(command: Command, host: Host, tmp_path: Path) -> None:
    """No backup, a damaged one, a destination in it."""
    missing = command("restore", tmp_path / "nothing", tmp_path / "r")
    assert missing.code == 3
    assert f"there is no store at {tmp_path / 'nothing'}" in missing.err
    inside = command("restore", host.path, host.path / "r")
    assert inside.code == 3
    with ImageStore.open(host.path, read_only=True) as store:
        raw = next(store.records()).raw
    data = (host.path / "data.mdb").read_bytes()
    (host.path / "data.mdb").write_bytes(data.replace(raw, b"x" + raw[1:]))
    damaged = command("restore", host.path, tmp_path / "r")
    assert damaged.code == 4
    assert f"{host.path} is damaged" in damaged.err
    assert "record 1" in damaged.err
    for said in (missing, inside, damaged):
        assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_a_path_that_is_no_utf_8_is_shown_as_escapes(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """JSON has no way to hold such bytes; the copy is made all the same."""
    target = tmp_path / os.fsdecode(b"caf\xe9")
    assert command("backup", "--json", target, "-s", host.path).json == [
        {"path": f"{tmp_path}/caf\\xe9", "position": host.ends[-1]}
    ]
    assert command("info", "--json", "-s", target).json[0]["path"] == f"{tmp_path}/caf\\xe9"
    (made,) = command("restore", "--json", target, tmp_path / os.fsdecode(b"\xff")).json
    assert made["path"] == f"{tmp_path}/\\xff"
