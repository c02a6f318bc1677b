"""Salvage and verify damaged stores by the command."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from cli_types import Command, Host
from eventstore import ImageStore
from eventstore.lmdb_pages import PageFile
from making import zero_free_pages


def lose_record(path: Path, position: int) -> None:
    """Change a byte of one record, and leave no copy of it in pages that are free."""
    with lmdb.open(str(path), max_dbs=16) as env:
        handle = env.open_db(b"log")
        with env.begin(write=True, db=handle) as txn:
            key = position.to_bytes(8, "big")
            raw = bytearray(txn.get(key))
            raw[20] ^= 1
            txn.put(key, bytes(raw))
    zero_free_pages(path)


def test_a_sound_store_is_salvaged_whole(command: Command, host: Host, tmp_path: Path) -> None:
    """Exit code 0; the new store answers as the old one."""
    said = command("salvage", host.path, tmp_path / "new")
    assert said.code == 0
    assert said.lines[-1] == "nothing was lost"
    assert f"a store at @{host.ends[-1]} of @{host.ends[-1]}" in said.out
    assert command("ls", "-s", tmp_path / "new").out == command("ls", "-s", host.path).out
    assert command("verify", "-s", tmp_path / "new").code == 0


def test_a_salvaged_store_says_where_it_forks(command: Command, host: Host, tmp_path: Path) -> None:
    """As a restored one does: in words and in JSON, with the forks of the source behind it."""
    end = host.ends[-1]
    (source,) = command("restore", "--json", host.path, tmp_path / "source").json
    said = command("salvage", tmp_path / "source", tmp_path / "new")
    assert said.lines[1].endswith(f": forked from {source['store_id']} at @{end}")
    lines = command("info", "-s", tmp_path / "new").lines
    assert f"fork:         from {source['store_id']} at @{end}" in lines
    (totals,) = command("salvage", "--json", tmp_path / "source", tmp_path / "json").json
    (info,) = command("info", "--json", "-s", tmp_path / "json").json
    assert (totals["store_id"], totals["forks"]) == (info["store_id"], info["forks"])
    assert info["forks"] == [
        {"store_id": source["store_id"], "position": end},
        *source["forks"],
    ]


def test_a_store_whose_id_is_lost_is_salvaged_and_says_so(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """Its records are there; which store it forks from is not invented."""
    with open(host.path / "data.mdb", "r+b") as file:
        file.write(bytes(8192))
    said = command("salvage", host.path, tmp_path / "new")
    assert said.code == 4
    assert said.lines[2].endswith(": forked from a store whose id cannot be read")
    assert said.lines[3].endswith(f"nothing leads to: @1 to @{host.ends[-1]}")
    assert command("info", "--json", "-s", tmp_path / "new").json[0]["forks"] == []


def test_each_lost_thing_is_named_and_the_exit_code_is_4(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """For people and as JSON; the source is not altered."""
    lose_record(host.path, 100)
    before = {
        found.name: (found.read_bytes(), found.stat().st_mtime_ns) for found in host.path.iterdir()
    }
    said = command("salvage", host.path, tmp_path / "new")
    assert said.code == 4
    assert said.lines[0].startswith("lost: log: record 100: checksum")
    assert said.lines[-1] == "losses listed: 1"
    as_json = command("salvage", "--json", host.path, tmp_path / "json")
    assert as_json.code == 4
    loss, totals = as_json.json
    assert (loss["kind"], loss["position"]) == ("log", 100)
    assert (totals["position"], totals["end"], totals["lost"]) == (99, host.ends[-1], 1)
    assert totals["records_beside"] == host.ends[-1] - 100
    after = {
        found.name: (found.read_bytes(), found.stat().st_mtime_ns) for found in host.path.iterdir()
    }
    assert before == after
    with ImageStore.open(tmp_path / "new") as store:
        assert store.position == 99
        assert list(store.verify()) == []


def lose_config(path: Path, image_id: str) -> None:
    """Change a byte of one config, and leave no copy of it in pages that are free."""
    key = bytes.fromhex(image_id.removeprefix("sha256:"))
    with lmdb.open(str(path), max_dbs=16) as env:
        handle = env.open_db(b"configs")
        with env.begin(write=True, db=handle) as txn:
            txn.put(key, bytes(txn.get(key))[:-1] + b"?")
    zero_free_pages(path)


def test_a_store_with_a_lost_config_is_listed_backed_up_restored_and_healed_by_a_sync(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """The image is shown as far as the log knows it, the exit code is 4 until it is back."""
    parents = {row["parent"] for row in command("ls", "-a", "--json", "-s", host.path).json}
    lost = min(parents - {None})
    rows = len(command("ls", "-a", "-s", host.path).lines)
    lose_config(host.path, lost)
    assert command("salvage", host.path, tmp_path / "new").code == 4
    assert command("backup", tmp_path / "backup", "-s", tmp_path / "new").code == 0
    assert command("restore", tmp_path / "backup", tmp_path / "restored").code == 0
    for path in (host.path, tmp_path / "new", tmp_path / "restored"):
        said = command("ls", "-a", "-s", path)
        assert (said.code, len(said.lines), len(said.err.splitlines())) == (4, rows, 1)
        assert f"{lost[7:19]}  ?" in said.lines[-1]
        tree = command("tree", "-s", path)
        assert (tree.code, len(tree.lines)) == (4, rows - 1)
        for shown in ("ls", "tree"):
            said = command(shown, "--json", *(["-a"] if shown == "ls" else []), "-s", path)
            (damaged,) = [row for row in said.json if "damage" in row]
            assert (damaged["id"], damaged["layers"], said.code) == (lost, None, 4)
    said = command("verify", "-s", tmp_path / "restored")
    assert said.code == 4
    assert said.lines[-1].startswith("configs lost before: 1. The rest is sound")
    assert command("rm", lost, "-s", tmp_path / "restored").code == 0
    assert command("sync", host.roots[-1], "-s", tmp_path / "restored").code == 0
    assert command("verify", "-s", tmp_path / "restored").code == 0
    assert len(command("ls", "-a", "-s", tmp_path / "restored").lines) == rows


def test_verify_names_the_damage_of_a_store_that_does_not_open(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """Two damaged records, and then a page that would make LMDB end the process."""
    lose_record(host.path, 7)
    lose_record(host.path, 100)
    refused = command("ls", "-s", host.path)
    assert refused.code == 4
    said = command("verify", "--json", "-s", host.path)
    assert said.code == 4
    assert [row["position"] for row in said.json if row["kind"] == "log"] == [7, 100]
    with PageFile(host.path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        root, size = pages.trees(newest, [])[b"log"].root, pages.page_size
    with open(host.path / "data.mdb", "r+b") as file:
        file.seek(root * size + 16)
        file.write(b"\xff" * 64)
    said = command("verify", "-s", host.path)
    assert said.code == 4
    assert "structure: " in said.out
    assert "eventstore salvage" in said.lines[-1]
    assert command("salvage", host.path, tmp_path / "new").code == 4
    assert command("verify", "-s", tmp_path / "new").code == 0


def test_a_store_whose_beginning_is_destroyed_is_not_called_another_programs(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """It can look so; what is said leads to the ways out, and they work."""
    with open(host.path / "data.mdb", "r+b") as file:
        file.write(bytes(4096))
    said = command("ls", "-s", host.path)
    assert said.code == 4
    assert "no LMDB file: it is another program's, or its beginning is destroyed" in said.err
    assert "eventstore verify" in said.err
    assert "eventstore salvage" in said.err
    assert command("verify", "-s", host.path).code == 4
    command("salvage", host.path, tmp_path / "new")
    assert command("verify", "-s", tmp_path / "new").lines[0].startswith("sound: ")


def test_verify_of_an_empty_file_is_a_finding(command: Command, host: Host) -> None:
    """On standard output, with the way out, like any other; not a hint to run verify."""
    (host.path / "data.mdb").write_bytes(b"")
    said = command("verify", "-s", host.path)
    assert (said.code, said.err) == (4, "")
    assert said.lines[0].startswith(f"structure: {host.path / 'data.mdb'} is empty")
    assert "restore a backup" in said.lines[-1]
    (found,) = command("verify", "--json", "-s", host.path).json
    assert found["kind"] == "structure"


def test_a_source_that_may_not_be_read_is_not_a_wrong_command_line(
    command: Command, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it may is found out by reading it, and is exit code 3; 2 is for typing errors."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert command("restore", host.path, tmp_path / "r").code == 0
    assert command("salvage", host.path, tmp_path / "s").code == 0
    assert command("sync", host.roots[-1], "-s", host.path).code == 0


def test_what_cannot_be_done_is_said_in_one_line(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """No source, a destination that is there, a destination in the source."""
    for source, target in (
        (tmp_path / "nowhere", tmp_path / "new"),
        (host.path, host.path),
        (host.path, host.path / "inside"),
    ):
        said = command("salvage", source, target)
        assert said.code == 3
        assert len(said.err.splitlines()) == 1
