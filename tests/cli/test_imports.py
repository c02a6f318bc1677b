"""`import` of images: what it says, what it refuses, and how it tells records from images."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from archive_making import archive, lay, simple_layout, simple_saved
from cli_types import Command
from docker_data import DATA
from eventstore import ImageStore
from making import config, id_of

PARENTS = DATA / "archive-docker-save-28.5.2-parents.tar.gz"


def test_an_archive_is_added_and_again_adds_nothing(command: Command, tmp_path: Path) -> None:
    """It says what was done, who did it is kept, and `show` prints the manifest."""
    store = ("-s", tmp_path / "store")
    dry = command(*store, "import", PARENTS, "--dry-run")
    assert (dry.code, dry.lines[-1]) == (0, "a dry run: nothing was appended")
    assert not (tmp_path / "store").exists()
    said = command(*store, "import", PARENTS, "--actor", "me@here", "-m", "moved")
    assert said.code == 0
    assert [line.split() for line in said.lines[1:6]] == [
        ["created", "6"],
        ["parents", "set", "5"],
        ["names", "given", "6"],
        ["manifests", "noted", "6"],
        ["unchanged", "0"],
    ]
    assert said.lines[6] == "appended @1 to @23"
    assert command(*store, "import", PARENTS).lines[-1] == "nothing is new: nothing was appended"
    (report,) = command(*store, "import", PARENTS, "--json").json
    assert (report["images"], report["unchanged"], report["position"]) == (6, 6, 23)
    (record,) = command(*store, "log", "-n", "1", "--json").json
    assert (record["actor"], record["reason"], record["event"]) == ("me@here", "moved", "described")
    (shown,) = command(*store, "show", "p:4", "--json").json
    (manifest,) = shown["manifests"]
    assert record["manifest"]["size"] in (398, 399, 549, 699)
    assert (manifest["size"], len(manifest["layers"])) == (699, 3)
    text = command(*store, "show", "p:4").out
    assert f"manifest:       {manifest['digest']}" in text
    assert text.count("packed layer:") == 3
    assert "manifest sha256" not in command(*store, "log").out


def test_attestations_are_counted(command: Command, tmp_path: Path) -> None:
    """One line for all of them, not one each."""
    said = command("-s", tmp_path / "store", "import", DATA / "oci-buildx-attest.tar.gz")
    assert (said.code, "  attestation  2 manifests" in said.lines) == (0, True)
    chosen = command("-s", tmp_path / "s", "import", "--platform", "linux/arm64", "--json",
                     DATA / "oci-buildx-attest.tar.gz").json[0]  # fmt: skip
    assert chosen["images"] == 1


def test_an_archive_comes_through_a_pipe(tmp_path: Path) -> None:
    """As `docker save … | eventstore import -`, packed or not."""
    run = [sys.executable, "-P", "-m", "eventstore", "-s", str(tmp_path / "store"), "import", "-"]
    environment = {"PYTHONPATH": str(Path(sys.modules["eventstore"].__file__ or "").parent.parent)}
    for content in (archive(simple_saved("app:1")), gzip.compress(archive(simple_layout()))):
        done = subprocess.run(run, input=content, capture_output=True, check=True, env=environment)
        assert done.stdout.startswith(b"standard input: 1 images")
    with ImageStore.open(tmp_path / "store") as store:
        assert len(store) == 2
        assert next(store.records()).reason == "import of standard input"


def test_a_folder_is_told_by_what_is_in_it(command: Command, tmp_path: Path) -> None:
    """A layout, an export, and neither."""
    store = ("-s", tmp_path / "store")
    folder = lay(simple_layout(), tmp_path / "layout")
    assert command(*store, "import", folder).code == 0
    assert command(*store, "export", tmp_path / "out").code == 0
    elsewhere = ("-s", tmp_path / "elsewhere")
    assert "records appended" in command(*elsewhere, "import", tmp_path / "out").out
    (shown,) = command(*elsewhere, "show", id_of(config("app", layers=2)), "--json").json
    assert len(shown["manifests"]) == 1
    for arguments in (("--dry-run",), ("--actor", "me"), ("-m", "why"), ("--platform", "linux")):
        assert command(*elsewhere, "import", tmp_path / "out", *arguments).code == 2
    assert command(*store, "import", folder, "--checkpoint", tmp_path / "x").code == 2
    (tmp_path / "empty").mkdir()
    said = command(*store, "import", tmp_path / "empty")
    assert (said.code, len(said.err.splitlines())) == (3, 1)
    assert "is no image layout: there is no index.json in it" in said.err


@pytest.mark.parametrize(
    "content", [b"", b"text", archive(simple_layout())[:-1024], b"BZh9", b"\x1f\x8b\x08\0"]
)
def test_what_is_no_archive_is_one_line_and_makes_no_store(
    content: bytes, command: Command, tmp_path: Path
) -> None:
    """And changes none that is there."""
    (tmp_path / "it").write_bytes(content)
    said = command("-s", tmp_path / "store", "import", tmp_path / "it")
    assert (said.code, said.out, len(said.err.splitlines())) == (3, "", 1)
    assert not (tmp_path / "store").exists()
