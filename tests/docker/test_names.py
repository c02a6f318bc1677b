"""Take over the names of images: what moved, what went away, and files that make no sense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from docker_data import imagedb, unpack
from eventstore import ImageStore, Tagged, Untagged
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.found import Findings, PassedOver, SourceImage
from eventstore.sync import SyncReport, sync
from making import config, id_of

A, B, C = (config(name) for name in "abc")
APP, OTHER = "docker.io/library/app:latest", "docker.io/library/other:1"


def named(store: ImageStore, names: dict[str, str] | None, *images: bytes) -> SyncReport:
    """Sync images with names into a store."""
    listed = [SourceImage(id_of(raw), raw) for raw in sorted(images, key=id_of)]
    return sync(store, listed, names=names)


def test_names_are_made_equal_and_one_that_moves_is_one_event(store: ImageStore) -> None:
    """A name that is new, one that moves, one that goes, and one that stays."""
    named(store, {APP: id_of(A), OTHER: id_of(A)}, A, B)
    report = named(store, {APP: id_of(B), "h/x:1": id_of(A)}, A, B)
    kinds = [type(record.event) for record in store.records(after=report.after)]
    assert kinds == [Untagged, Tagged, Tagged]
    assert (report.tagged, report.untagged) == (2, 1)
    assert store.tags() == {APP: id_of(B), "docker.io/h/x:1": id_of(A)}
    assert named(store, {APP: id_of(B), "h/x:1": id_of(A)}, A, B).position == store.position
    assert store.tags(report.after) == {APP: id_of(A), OTHER: id_of(A)}


def test_names_that_are_not_known_stay_as_they_are(store: ImageStore) -> None:
    """And none at all is something else than not knowing."""
    named(store, {APP: id_of(A)}, A)
    assert named(store, None, A).untagged == 0
    assert named(store, {}, A).untagged == 1
    assert store.tags() == {}


def test_an_image_that_goes_takes_its_names_along(store: ImageStore) -> None:
    """The deletion says it already; a name of what is not there counts for nothing."""
    named(store, {APP: id_of(A), OTHER: id_of(B)}, A, B)
    report = named(store, {APP: id_of(A), OTHER: id_of(B)}, A)
    assert (report.deleted, report.untagged, report.tagged) == ([id_of(B)], 0, 0)
    assert store.tags() == {APP: id_of(A)}


def test_an_image_created_again_gets_its_names_again(store: ImageStore) -> None:
    """It is another life, so they are given to it anew."""
    sync(store, [SourceImage(id_of(A), A, built_locally=True)], names={APP: id_of(A)})
    report = named(store, {APP: id_of(A)}, A)
    assert (report.recreated, report.tagged) == ([id_of(A)], 1)
    assert store.tags() == {APP: id_of(A)}


def test_an_image_that_could_not_be_looked_at_keeps_its_names(store: ImageStore) -> None:
    """It stays as it is, so what Docker calls it counts."""
    named(store, {APP: id_of(A)}, A)
    unsure = [PassedOver("unreadable", id_of(A), "", unsure=True)]
    sync(store, [], unsure, names={APP: id_of(A)})
    assert store.tags() == {APP: id_of(A)}


def read(root: Path) -> Findings:
    """Read a database as the command does."""
    return DockerImageDB.find(root).read(operating_system="linux")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the data root of a real daemon."""
    return unpack("host-a-1", tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b'{"Repositories": 5}', b'{"Repositories": {"a": {"a:1": 5}}}'],
)
def test_a_file_that_makes_no_sense_is_reported_and_leaves_names_alone(
    store: ImageStore, root: Path, content: bytes
) -> None:
    """What cannot be told is not taken for nothing."""
    first = read(root)
    sync(store, first.images, names=first.names)
    before = store.tags()
    (imagedb(root).parent / "repositories.json").write_bytes(content)
    found = read(root)
    assert found.names is None
    assert [entry.kind for entry in found.passed_over] == ["names-unreadable"]
    assert sync(store, found.images, found.passed_over, names=found.names).untagged == 0
    assert store.tags() == before != {}


@pytest.mark.parametrize("plant", ["link", "pipe", "folder", "large"])
def test_a_file_that_is_none_is_not_read(root: Path, tmp_path: Path, plant: str) -> None:
    """No link is followed, no pipe waited for, and nothing without end is read."""
    path = imagedb(root).parent / "repositories.json"
    path.rename(tmp_path / "away")
    if plant == "link":
        path.symlink_to(tmp_path / "away")
    elif plant == "pipe":
        os.mkfifo(path)
    elif plant == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    found = read(root)
    assert found.names is None
    assert [entry.kind for entry in found.passed_over] == ["names-unreadable"]


def test_without_the_file_a_daemon_knows_no_names_and_a_bare_folder_tells_none(
    root: Path, tmp_path: Path
) -> None:
    """Who copied `imagedb` alone has not copied the names, and they are not taken away."""
    database = imagedb(root)
    assert read(database).names
    (database.parent / "repositories.json").unlink()
    assert read(root).names == read(database.parent).names == {}
    assert read(database).names is None


def test_entries_that_docker_would_skip_are_reported_and_the_rest_counts(root: Path) -> None:
    """A name in capitals, a value that is no id, an image that is not listed, one name twice."""
    image_id = read(root).images[0].image_id
    entries = {
        "UP:1": image_id,
        "a:1": "x",
        "b:1": "sha256:" + "0" * 64,
        "c:1": image_id,
        "d": image_id,
        "d:latest": read(root).images[1].image_id,
        "\x1b[2J": image_id,
    }
    path = imagedb(root).parent / "repositories.json"
    path.write_text(json.dumps({"repositories": {"any": entries, "none": None}}))
    found = read(root)
    kinds = [entry.kind for entry in found.passed_over]
    assert kinds == ["name-invalid"] * 4 + ["name-without-image"]
    assert found.names is not None
    assert {name for name in found.names if found.names[name] == image_id} == {
        "docker.io/library/c:1",
        "docker.io/library/d:latest",
    }
