"""Run the commands that read, and hold what they print against the library."""

from __future__ import annotations

import pytest

from cli_types import Command, Host
from docker_data import listed
from eventstore import ImageStore
from making import id_of


def first_gone(host: Host) -> str:
    """Return the id of an image that the second sync deleted."""
    with ImageStore.open(host.path, read_only=True) as store:
        return store.diff(host.ends[0], host.ends[1]).deleted[0]


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_ls_at_each_sync_lists_what_docker_listed_then(
    command: Command, synced: Host, moment: int
) -> None:
    """As of a position, the ids and parents are Docker's own."""
    said = command("ls", "--all", "--json", "--at", f"@{synced.ends[moment]}", "-s", synced.path)
    parents = {image["id"]: image["parent"] for image in said.json}
    docker = listed(f"host-a-{moment + 1}")
    assert parents == {image_id: parent for image_id, (parent, _) in docker.items()}


def test_ls_lists_heads_and_all_lists_all(command: Command, synced: Host) -> None:
    """The default is what has no children, newest first."""
    heads = command("ls", "--json", "-s", synced.path).json
    everything = command("ls", "-a", "--json", "-s", synced.path).json
    parents = {image["parent"] for image in everything}
    expected = {image["id"] for image in everything} - parents
    assert {image["id"] for image in heads} == expected
    made = [image["created"] or "" for image in heads]
    assert made == sorted(made, reverse=True)
    assert "" in made
    assert len(everything) == 84


def test_ls_prints_a_table_of_short_ids(command: Command, synced: Host) -> None:
    """For people: a heading, twelve digits, nothing cut in a pipe."""
    said = command("ls", "-s", synced.path)
    assert said.lines[0].startswith("IMAGE ID      AGE")
    assert all(len(line.split()[0]) == 12 for line in said.lines[1:])


def test_tree_shows_every_image_once_under_its_parent(command: Command, synced: Host) -> None:
    """Depths and order agree with the parents."""
    images = command("tree", "--json", "-s", synced.path).json
    assert len(images) == 84
    path: list[str] = []
    for image in images:
        del path[image["depth"] :]
        assert image["parent"] == (path[-1] if path else None)
        path.append(image["id"])
    assert len(command("tree", "-s", synced.path).lines) == 84


def test_tree_of_one_image_starts_there(command: Command, synced: Host) -> None:
    """Only what is under IMAGE is shown."""
    images = command("tree", "--json", "-s", synced.path).json
    root = next(image for image in images if image["parent"])
    below = command("tree", root["id"][7:20], "--json", "-s", synced.path).json
    assert below[0]["id"] == root["id"]
    assert below[0]["depth"] == 0


def test_show_prints_facts_json_and_exact_bytes(command: Command, synced: Host) -> None:
    """The raw config hashes to the id; JSON holds the config whole."""
    image = command("ls", "--json", "-s", synced.path).json[0]
    short = image["id"][7:19]
    assert f"id:             {image['id']}" in command("show", short, "-s", synced.path).lines
    (whole,) = command("show", short, "--json", "-s", synced.path).json
    assert whole["id"] == image["id"]
    assert whole["config"]["rootfs"]["type"] == "layers"
    raw = command("show", short, "--raw", "-s", synced.path).out
    assert id_of(raw.encode()) == image["id"]


def test_show_of_a_deleted_image_says_when_it_went_and_how_to_see_it(
    command: Command, synced: Host
) -> None:
    """The error carries the next step, and the next step works."""
    gone = first_gone(synced)
    said = command("show", gone[7:19], "-s", synced.path)
    assert said.code == 1
    assert "deleted at @" in said.err
    assert "ls --all" not in said.err
    position = said.err.split("--at @")[1].split()[0]
    assert command("show", gone[7:19], "--at", f"@{position}", "-s", synced.path).code == 0


def test_show_before_an_image_was_created_says_so(command: Command, synced: Host) -> None:
    """The past has its own unknown images."""
    image = command("ls", "--json", "-s", synced.path).json[0]
    said = command("show", image["id"], "--at", "@0", "-s", synced.path)
    assert said.code == 1
    assert "was not there yet" in said.err


def test_log_is_every_record_newest_first_or_oldest_first(command: Command, synced: Host) -> None:
    """All positions, without a gap."""
    newest = [record["position"] for record in command("log", "--json", "-s", synced.path).json]
    assert newest == list(range(synced.ends[-1], 0, -1))
    oldest = command("log", "--reverse", "--json", "-s", synced.path).json
    assert [record["position"] for record in oldest] == newest[::-1]
    assert {record["actor"] for record in oldest} == {"root@host-a"}
    assert all(str(synced.roots[0]) in record["reason"] for record in oldest[: synced.ends[0]])


def test_log_takes_a_limit_and_bounds(command: Command, synced: Host) -> None:
    """Bounds are (since, until]."""
    first, second, _ = synced.ends
    found = command(
        "log", "--since", f"@{first}", "--until", f"@{second}", "--json", "-s", synced.path
    ).json
    assert [record["position"] for record in found] == list(range(second, first, -1))
    assert len(command("log", "-n", "3", "--json", "-s", synced.path).lines) == 3
    assert command("log", "-n", "0", "-s", synced.path).out == ""


def test_log_of_a_deleted_image_is_its_whole_life(command: Command, synced: Host) -> None:
    """A prefix finds an image that is gone, and its records form one chain."""
    gone = first_gone(synced)
    found = command("log", gone[7:19], "--reverse", "--json", "-s", synced.path).json
    assert found[0]["event"] == "created"
    assert found[-1]["event"] == "deleted"
    assert [record["previous"] for record in found] == [
        0,
        *(record["position"] for record in found[:-1]),
    ]


def test_log_groups_what_was_done_together(command: Command, synced: Host) -> None:
    """Who, when and why stand once above the records of a transaction."""
    lines = command("log", "--reverse", "-s", synced.path).lines
    acts = [line for line in lines if not line.startswith(" ")]
    assert len(acts) == 3
    assert all("root@host-a  sync of " in act for act in acts)
    assert len(lines) == synced.ends[-1] + 3


def test_diff_counts_and_names_what_changed(command: Command, synced: Host) -> None:
    """The JSON is the library's diff; the text has a line for each image."""
    first, second, _ = synced.ends
    (found,) = command("diff", f"@{first}", f"@{second}", "--json", "-s", synced.path).json
    assert set(found["created"]) == set(listed("host-a-2")) - set(listed("host-a-1"))
    assert set(found["deleted"]) == set(listed("host-a-1")) - set(listed("host-a-2"))
    lines = command("diff", f"@{first}", f"@{second}", "-s", synced.path).lines
    for mark, key in (("+", "created"), ("-", "deleted")):
        shown = [line[:14] for line in lines if line[0] == mark]
        assert shown == [f"{mark} {image_id[7:19]}" for image_id in found[key]]
    assert "- 0cb1c2c6f397  app/web:1.0" in lines  # the name that it had when it was there
    assert sum(line[0] == "~" for line in lines) == len(found["changed"])
    to_now = command("diff", f"@{first}", "--json", "-s", synced.path).json[0]
    assert to_now["after"] == synced.ends[-1]


def test_search_prints_the_whole_id_also_of_what_is_gone(command: Command, synced: Host) -> None:
    """--all looks into the past; without it, an image that is gone is said to be gone."""
    gone = first_gone(synced)
    assert command("search", gone[7:19], "-s", synced.path).code == 1
    assert command("search", "--all", gone[7:19], "-s", synced.path).lines == [gone]
    (found,) = command("search", "--all", "--json", gone, "-s", synced.path).json
    assert found == {"id": gone, "present": False}


def test_an_ambiguous_prefix_names_the_candidates(command: Command, synced: Host) -> None:
    """More digits are asked for, and some of those that it could mean are shown."""
    said = command("show", "2", "-s", synced.path)
    assert said.code == 1
    assert "more than one image" in said.err
    assert [line[:3] for line in said.err.splitlines()[1:]] == ["  2"] * 7


def test_verify_info_and_snapshot(command: Command, host: Host) -> None:
    """A sound store is said to be sound; a snapshot is taken and listed."""
    assert command("verify", "-s", host.path).lines == [
        f"sound: {host.ends[-1]} records, 84 images, 0 snapshots"
    ]
    assert command("snapshot", "--json", "-s", host.path).json == [
        {"position": host.ends[-1], "images": 84}
    ]
    (found,) = command("info", "--json", "-s", host.path).json
    assert found["snapshots"] == [host.ends[-1]]
    assert (found["images"], found["position"]) == (84, host.ends[-1])
    assert len(command("info", "-s", host.path).lines) == 8


def test_a_backup_is_a_store(command: Command, host: Host) -> None:
    """The copy answers as the store does, and is never written over."""
    copy = host.path.parent / "backup"
    assert command("backup", copy, "-s", host.path).code == 0
    assert command("ls", "-a", "-s", copy).out == command("ls", "-a", "-s", host.path).out
    assert command("verify", "-s", copy).code == 0
    again = command("backup", copy, "-s", host.path)
    assert again.code == 3
    assert "exists" in again.err


def test_reading_makes_and_changes_nothing(command: Command, synced: Host) -> None:
    """No read command writes to the data file."""
    data = synced.path / "data.mdb"
    before = data.read_bytes()
    for arguments in (["ls"], ["tree"], ["log"], ["diff", "@1"], ["verify"], ["info"]):
        assert command(*arguments, "-s", synced.path).code == 0
    assert data.read_bytes() == before


def test_a_moment_before_the_first_record_is_called_so(command: Command, host: Host) -> None:
    """An empty list of yesterday, of a store that was made today, is no empty host."""
    said = command("ls", "--at", "10 years ago", "-s", host.path)
    assert said.lines[0] == "as of @0, before the first record"
