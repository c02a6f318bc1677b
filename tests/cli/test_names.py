"""Give names on the command line, see them, and use them wherever an image is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_types import Command, Host
from docker_data import names
from eventstore import ImageStore, references
from making import config, id_of

A, B = id_of(config("a")), id_of(config("b"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store with two images, of which one is called `app`, as the other was before."""
    with ImageStore.open(tmp_path / "store") as store:
        store.create(config("a"))
        store.create(config("b"))
        store.tag("app", A)
        store.tag("app", B)
    return tmp_path / "store"


def test_a_name_stands_for_its_image_in_every_command(command: Command, path: Path) -> None:
    """To show, to search, to see the history of, and to change."""
    assert command("search", "app", "-s", path).lines == [B]
    assert command("search", "app:latest", "--all", "-s", path).lines == [B]
    assert command("show", "app", "--json", "-s", path).json[0]["names"] == ["app:latest"]
    assert command("show", "app", "--at", "@3", "--json", "-s", path).json[0]["id"] == A
    assert {row["image"] for row in command("log", "app", "--json", "-s", path).json} == {B}
    assert command("tree", "app", "--json", "-s", path).json[0]["id"] == B
    for arguments in (["touch", "app"], ["mark-built", "app"], ["set-parent", "app", A]):
        assert command(*arguments, "-s", path).lines == [B]
    assert command("rm", "docker.io/library/app", "-s", path).lines == [B]
    assert command("show", "app", "-s", path).code == 1


def test_tag_and_untag_say_what_they_did_and_refuse_what_cannot_be(
    command: Command, path: Path
) -> None:
    """Who and why are kept; a refusal is one line and no event."""
    said = command("tag", "team/x", "app", "-m", "why", "--actor", "me", "-s", path)
    assert said.lines == [f"team/x:latest  {B}"]
    (row,) = command("log", "--tag", "team/x", "--json", "-s", path).json
    assert (row["event"], row["name"], row["before"], row["actor"], row["reason"]) == (
        "tagged", "docker.io/team/x:latest", 0, "me", "why",
    )  # fmt: skip
    assert command("untag", "team/x", "app", "-s", path).lines == ["team/x:latest", "app:latest"]
    for arguments in (["untag", "app"], ["untag", "UP"], ["tag", "UP", A], ["tag", "x", "never"]):
        refused = command(*arguments, "-s", path)
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (1, "", 1)
    assert command("log", "--tag", "never", "-s", path).code == 1
    assert command("log", "--tag", "app", "--follow", "-s", path).code == 2
    with ImageStore.open(path) as store:
        assert store.position == 7


def test_the_log_of_a_name_is_shown_newest_first(command: Command, path: Path) -> None:
    """Between two moments too."""
    said = command("log", "--tag", "app", "-s", path)
    assert [line.split()[:2] for line in said.lines if "@" in line[:12]] == [
        ["@4", "tagged"],
        ["@3", "tagged"],
    ]
    assert said.out.count("app:latest") == 2
    until = command("log", "--tag", "app", "--until", "@3", "--json", "-s", path).json
    assert [row["position"] for row in until] == [3]


def test_listings_show_the_names_of_each_moment(command: Command, synced: Host) -> None:
    """As Docker listed them then, in their familiar form."""
    for moment, end in zip(("host-a-1", "host-a-2", "host-a-3"), synced.ends, strict=True):
        wanted: dict[str, list[str]] = {}
        for name, image_id in sorted(names(moment).items()):
            wanted.setdefault(image_id, []).append(references.familiar(name))
        for arguments in (["ls", "-a"], ["tree"]):
            rows = command(*arguments, "--at", f"@{end}", "--json", "-s", synced.path).json
            assert {row["id"]: row["names"] for row in rows if row["names"]} == wanted
    table = command("ls", "-s", synced.path)
    assert table.lines[0].split()[-1] == "NAMES"
    assert "bk/app:1" in table.out
    assert "bk/app:1" in command("tree", "-s", synced.path).out


def test_a_name_that_means_nothing_now_leads_to_the_image_that_had_it_last(
    host: Host, command: Command
) -> None:
    """Who asks what became of `app/web:1.0` knows its name and nothing else of it."""
    store = ("-s", host.path)
    last = command(*store, "log", "app/web:1.0").lines[1]
    assert last == f"     @{host.ends[0] + 1}  deleted           0cb1c2c6f397"
    shown = command(*store, "show", "app/web:1.0")
    assert shown.code == 1
    assert f"deleted at @{host.ends[0] + 1} by root@host-a" in shown.err
    assert f"--at @{host.ends[0]} to see it as it was" in shown.err
    assert command(*store, "show", "app/web:1.0", "--at", f"@{host.ends[0]}").code == 0
    # Taken away from an image that is there: what is asked now is not that image.
    assert command(*store, "log", "app/web:same").out == command(*store, "log", "app/web:1.1").out
    assert command(*store, "show", "app/web:same").code == 1
    assert command(*store, "log", "app/never:1").code == 1


def test_a_config_is_redacted_and_a_record_proved_by_name(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """What cannot be undone takes a name that an image has, and not one that it has lost."""
    store = ("-s", host.path)
    kept, proof = tmp_path / "kept", tmp_path / "proof"
    assert command(*store, "checkpoint", "-o", kept).code == 0
    assert command(*store, "prove", "app/web:1.0", "-o", proof).code == 0
    assert "deleted  sha256:0cb1c2c6f397" in command("check", proof, "--checkpoint", kept).out
    for lost in ("app/web:1.0", "app/web:same", "app/never:1"):
        assert command(*store, "redact", lost, "-m", "a password", "-y").code == 1
    said = command(*store, "redact", "app/web:1.1", "-m", "a password", "-y")
    assert said.out.startswith("redacted sha256:4fbf7bf63565")
