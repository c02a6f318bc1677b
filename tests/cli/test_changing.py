"""Run the commands that append: what they do, say and refuse, and what they leave when refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli_types import Command, Host
from docker_data import imagedb, unpack
from eventstore import ImageStore
from making import config, id_of


def position(path: Path) -> int:
    """Return the position of the store at `path`."""
    with ImageStore.open(path, read_only=True, create=False) as store:
        return store.position


def test_create_prints_ids_and_keeps_who_and_why(
    command: Command, tmp_path: Path, config_file: Path
) -> None:
    """The store is made on first use; several files are one batch."""
    other = tmp_path / "other.json"
    other.write_bytes(config("other"))
    path = tmp_path / "store"
    said = command("create", config_file, other, "-m", "why", "--actor", "who", "-s", path)
    assert said.lines == [id_of(config_file.read_bytes()), id_of(config("other"))]
    records = command("log", "--reverse", "--json", "-s", path).json
    assert [(record["actor"], record["reason"]) for record in records] == [("who", "why")] * 2
    assert {record["batch"] for record in records} == {1}
    again = command("create", config_file, "-s", path)
    assert again.lines == said.lines[:1]
    assert position(path) == 2


def test_create_of_a_good_and_a_bad_file_creates_neither(
    command: Command, tmp_path: Path, config_file: Path
) -> None:
    """All or nothing, and the file that is wrong is named."""
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    path = tmp_path / "store"
    said = command("create", config_file, bad, "-s", path)
    assert (said.code, said.out) == (1, "")
    assert "bad.json" in said.err
    assert position(path) == 0


@pytest.mark.parametrize("content", [b"", b"null", b"\xff\xfe", b"[]", b"{}", b"\x1b[2J"])
def test_create_of_nonsense_is_one_line_and_no_event(
    command: Command, tmp_path: Path, content: bytes
) -> None:
    """Whatever is in the file, the answer is one line without escapes."""
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    said = command("create", bad, "-s", tmp_path / "store")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "\x1b" not in said.err
    assert position(tmp_path / "store") == 0


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_create_of_what_cannot_be_read_makes_no_store(
    command: Command, tmp_path: Path, name: str
) -> None:
    """The files are read before the store is made."""
    said = command("create", str(tmp_path / name), "-s", tmp_path / "store")
    assert said.code == 3
    assert not (tmp_path / "store").exists()


def test_rm_set_parent_mark_built_and_touch(
    command: Command, tmp_path: Path, config_file: Path
) -> None:
    """Each mutation does what it says, by prefix, and the log tells it."""
    path = tmp_path / "store"
    other = tmp_path / "other.json"
    other.write_bytes(config("other"))
    first, second = command("create", config_file, other, "-s", path).lines
    assert command("set-parent", first[7:15], second[7:15], "-s", path).lines == [first]
    assert command("mark-built", first[7:15], "-s", path).code == 0
    assert command("touch", first, "--time", "2026-01-02T03:04:05Z", "-s", path).code == 0
    (shown,) = command("show", first, "--json", "-s", path).json
    assert shown["parent"] == second
    assert shown["built_locally"] is True
    assert shown["last_updated"] == "2026-01-02T03:04:05Z"
    assert command("set-parent", first, "--none", "-s", path).code == 0
    assert command("rm", second[7:], first[7:], first, "-s", path).lines == [second, first]
    events = [r["event"] for r in command("log", "--reverse", "--json", "-s", path).json]
    assert events == [
        "created",
        "created",
        "parent-set",
        "marked-built",
        "last-updated-set",
        "parent-set",
        "deleted",
        "deleted",
    ]


def test_set_parent_wants_a_parent_or_none_and_no_cycle(
    command: Command, tmp_path: Path, config_file: Path
) -> None:
    """The three ways to get it wrong, each refused without a change."""
    path = tmp_path / "store"
    (image,) = command("create", config_file, "-s", path).lines
    assert command("set-parent", image, "-s", path).code == 2
    assert command("set-parent", image, image, "--none", "-s", path).code == 2
    said = command("set-parent", image, image, "-s", path)
    assert said.code == 1
    assert "its own ancestor" in said.err
    assert position(path) == 1


def test_rm_of_a_known_and_an_unknown_image_deletes_neither(command: Command, host: Host) -> None:
    """All or nothing."""
    image = command("ls", "--json", "-s", host.path).json[0]["id"]
    said = command("rm", image, "0" * 64, "-s", host.path)
    assert (said.code, said.out) == (1, "")
    assert position(host.path) == host.ends[-1]


def test_mutating_a_store_that_is_not_there_makes_none(command: Command, tmp_path: Path) -> None:
    """A typo in the path must not leave a store behind."""
    for arguments in (["rm", "ab"], ["mark-built", "ab"], ["touch", "ab"], ["snapshot"], ["ls"]):
        said = command(*arguments, "-s", tmp_path / "typo")
        assert said.code == 3
        assert "no store" in said.err
        assert not (tmp_path / "typo").exists()


def test_sync_reports_in_numbers_and_twice_adds_nothing(command: Command, tmp_path: Path) -> None:
    """The JSON has every number; the text says where the records are."""
    root = unpack("host-a-1", tmp_path)
    path = tmp_path / "store"
    (found,) = command("sync", root, "--json", "-s", path).json
    assert len(found["created"]) == found["images"] == 94
    assert found["position"] == position(path)
    assert found["passed_over"] == []
    again = command("sync", root, "-s", path)
    assert again.lines[-1] == "nothing is new: nothing was appended"
    assert position(path) == found["position"]


def test_sync_names_what_it_passed_over(command: Command, tmp_path: Path) -> None:
    """Every entry that does not count is there with its kind and a reason."""
    root = unpack("damaged-28.5.2", tmp_path)
    said = command("sync", root, "-s", tmp_path / "store")
    assert said.code == 0
    assert "passed over or mended: 47" in said.out
    assert "digest-mismatch  sha256:" in said.out
    assert "\x1b" not in said.out


def test_a_dry_run_makes_no_store_and_appends_nothing(command: Command, tmp_path: Path) -> None:
    """It only says what would be done."""
    root = unpack("host-a-1", tmp_path)
    path = tmp_path / "store"
    said = command("sync", root, "--dry-run", "-s", path)
    assert "created               94" in said.out
    assert not path.exists()
    command("sync", root, "-s", path)
    before = position(path)
    second = unpack("host-a-2", tmp_path)
    assert command("sync", second, "--dry-run", "--json", "-s", path).json[0]["created"]
    assert position(path) == before


def test_sync_of_an_emptied_host_stops_until_it_is_allowed(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """What the wrong path would do is not done, and the way to do it anyway is named."""
    root = tmp_path / "root"
    shutil.copytree(host.roots[0], root)
    content = imagedb(root) / "content" / "sha256"
    for path in content.iterdir():
        path.unlink()
    said = command("sync", root, "-s", host.path)
    assert said.code == 1
    assert "84 of 84" in said.err
    assert "--allow-mass-delete" in said.err
    assert position(host.path) == host.ends[-1]
    assert command("sync", root, "--allow-mass-delete", "-s", host.path).code == 0
    assert command("ls", "--json", "-s", host.path).lines == []


def test_sync_of_what_is_no_database_is_an_error_and_makes_no_store(
    command: Command, tmp_path: Path
) -> None:
    """An empty folder is not an empty host."""
    (tmp_path / "empty").mkdir()
    said = command("sync", tmp_path / "empty", "-s", tmp_path / "store")
    assert said.code == 3
    assert "not Docker's image database" in said.err
    assert not (tmp_path / "store").exists()


def test_demo_runs_through(command: Command) -> None:
    """The tour ends well, shows three syncs, the past, a difference and a sound store."""
    said = command("demo")
    assert said.code == 0
    assert said.out.count("$ eventstore sync") == 3
    assert "sound: 414 records, 83 images" in said.out
    assert "as of @241" in said.out


def test_demo_lays_down_what_it_shows(command: Command, tmp_path: Path) -> None:
    """Users get the databases to try commands on, names included; nothing is overwritten."""
    said = command("demo", "--unpack", tmp_path / "data")
    assert said.code == 0
    assert said.lines == [str(tmp_path / "data" / f"host-{number}") for number in (1, 2, 3)]
    synced = command("sync", tmp_path / "data" / "host-1", "-s", tmp_path / "store")
    assert "created               94" in synced.out
    assert "names given           35" in synced.out
    again = command("demo", "--unpack", tmp_path / "data")
    assert (again.code, "exists already" in again.err) == (3, True)
