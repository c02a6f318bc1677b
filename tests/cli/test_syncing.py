"""The command `sync` on each kind of source, and on what is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import containers_data
from cli_types import Command
from docker_data import listed, unpack
from docker_stand_in import StandIn, fill
from eventstore import ImageStore


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StandIn]:
    """Return a daemon that answers as a recorded one did."""
    with TemporaryDirectory(prefix="daemon-") as folder, StandIn(Path(folder) / "s") as found:
        fill(found, "host-a-1", unpack("host-a-1", tmp_path))
        yield found


def test_sync_takes_over_what_podman_keeps(command: Command, tmp_path: Path) -> None:
    """The report says where from, how many, and what is no image; twice adds nothing."""
    root = containers_data.unpack("podman-1", tmp_path)
    (found,) = command("sync", root, "--json", "-s", tmp_path / "store").json
    assert found["source"] == str(root / "vfs-images")
    assert (found["images"], len(found["created"]), found["tagged"]) == (5, 5, 5)
    assert {entry["kind"] for entry in found["passed_over"]} == {"id-not-of-config"}
    said = command("sync", root, "-s", tmp_path / "store")
    assert (said.code, said.lines[-1]) == (0, "nothing is new: nothing was appended")
    with ImageStore.open(tmp_path / "store", read_only=True) as store:
        (reason,) = {record.reason for record in store.records()}
    assert reason == f"sync of {root}"


def test_sync_takes_over_what_a_daemon_lists(
    command: Command, tmp_path: Path, daemon: StandIn
) -> None:
    """The address stands in the report and in the log."""
    said = command("sync", daemon.address, "-s", tmp_path / "store")
    assert (said.code, said.lines[0]) == (0, f"{daemon.address}: 94 images")
    again = command("sync", daemon.address, "-s", tmp_path / "store")
    assert again.lines[-1] == "nothing is new: nothing was appended"
    assert len(daemon.exports()) == 94
    with ImageStore.open(tmp_path / "store", read_only=True) as store:
        assert set(store) == listed("host-a-1").keys()
        assert {record.reason for record in store.records()} == {f"sync of {daemon.address}"}


def test_a_dry_run_on_a_daemon_makes_no_store(
    command: Command, tmp_path: Path, daemon: StandIn
) -> None:
    """It says what would be done."""
    said = command("sync", daemon.address, "--dry-run", "-s", tmp_path / "store")
    assert (said.code, said.lines[-1]) == (0, "a dry run: nothing was appended")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_source_that_fails_half_way_changes_nothing(
    command: Command, tmp_path: Path, daemon: StandIn, there: bool
) -> None:
    """One line says why; no store is made, and one that is there is as it was."""
    path = tmp_path / "store"
    if there:
        command("create", __file__, "-s", path)
        ImageStore.open(path).close()
    before = {file.name for file in path.iterdir()} if there else set[str]()

    def broken() -> Iterator[bytes]:
        yield b"x" * 100
        raise ConnectionAbortedError

    daemon.say(f"/images/{daemon.images[50]['Id']}/get", broken)
    said = command("sync", daemon.address, "-s", path)
    assert said.code == 3
    assert said.err.count("\n") == 1
    assert "stopped answering" in said.err
    assert path.exists() == there
    if there:
        assert {file.name for file in path.iterdir()} == before
        with ImageStore.open(path, read_only=True) as store:
            assert store.position == 0


def test_without_the_package_one_line_says_what_to_install(
    command: Command, tmp_path: Path, daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else goes on without it."""
    monkeypatch.setitem(sys.modules, "docker", None)
    said = command("sync", daemon.address, "-s", tmp_path / "store")
    assert said.code == 3
    assert "install image-eventstore[docker]" in said.err
    assert said.err.count("\n") == 1
    assert command("sync", tmp_path / "host-a-1", "-s", tmp_path / "store").code == 0


def test_the_help_names_the_usual_places(command: Command) -> None:
    """With root's rights and without."""
    text = " ".join(command("sync", "--help").out.split())
    for place in (
        "/var/lib/docker",
        "/var/lib/containers/storage",
        "~/.local/share/containers/storage",
        "docker://",
        "/var/run/docker.sock",
    ):
        assert place in text
