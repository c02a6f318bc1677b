"""Sync the databases that real Docker daemons wrote, and hold the store to Docker's answers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from docker_data import (
    CRASHES,
    DAMAGED,
    HOSTS,
    built,
    imagedb,
    instant,
    known,
    listed,
    names,
    said,
    unpack,
)
from eventstore import ImageStore
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import SyncReport, sync

# What the store reports of each kind of damage; None where Docker lists the image as it lies there.
REPORTED = {
    "bl_empty": "built-invalid",
    "bl_zero": "built-invalid",
    "control": "unknown-metadata",
    "cycle_a": "parent-cycle",
    "cycle_b": "parent-cycle",
    "dirmeta": None,
    "emptyfile": "digest-mismatch",
    "flip": "digest-mismatch",
    "lu_empty": "last-updated-invalid",
    "lu_garbage": "last-updated-invalid",
    "lu_newline": "last-updated-invalid",
    "lu_offset": None,
    "mode000": None,
    "new_array": "invalid-config",
    "new_badcreated": "invalid-config",
    "new_badhealth": "invalid-config",
    "new_badjson": "invalid-config",
    "new_badtype": "invalid-config",
    "new_bom": "invalid-config",
    "new_created_offset": None,
    "new_created_y10k": None,
    "new_creatednull": None,
    "new_diffidbad": "layers-missing",
    "new_diffidsempty": None,
    "new_dupkeys": None,
    "new_emptydata": "invalid-config",
    "new_emptyobj": "invalid-config",
    "new_idfield": None,
    "new_layersno": "layers-missing",
    "new_norootfs": "invalid-config",
    "new_null": "invalid-config",
    "new_pretty": None,
    "new_rootfs_null": "invalid-config",
    "new_rootfstype": None,
    "new_trailing": "invalid-config",
    "new_unknownfield": "foreign-os",
    "new_windows": "foreign-os",
    "nolayer": "layers-missing",
    "parent_empty": "parent-invalid",
    "parent_garbage": "parent-invalid",
    "parent_missing": "parent-missing",
    "parent_newline": "parent-invalid",
    "parent_nopfx": "parent-invalid",
    "parent_upper": "parent-invalid",
    "self": "parent-cycle",
    "truncated": "digest-mismatch",
}
# Entries of the damaged database that are not among its cases, by the start of their names.
STRANGERS = {
    "content/sha256/ABCDEF": "not-a-digest",
    "content/sha256/C5157B": "not-a-digest",
    "content/sha256/README": "not-a-digest",
    "content/sha256/short": "not-a-digest",
    "sha256:eeee": "not-a-file",
    "sha256:ffff": "digest-mismatch",
    "sha256:9999": "metadata-without-config",
}


def take_over(store: ImageStore, root: Path) -> SyncReport:
    """Sync a database into a store as the command does."""
    findings = DockerImageDB.find(root).read(operating_system="linux")
    return sync(
        store,
        findings.images,
        findings.passed_over,
        names=findings.names,
        allow_mass_delete=True,
    )


def test_syncs_in_order_give_what_docker_listed_each_time_and_as_of_each_still_does(
    store: ImageStore, tmp_path: Path
) -> None:
    """Four moments of one host: ids, parents, last tag times and built marks, then and later."""
    ends: list[int] = []
    for name in HOSTS:
        root = unpack(name, tmp_path)
        report = take_over(store, root)
        ends.append(report.position)
        assert known(store.view()) == listed(name)
        assert {id_ for id_ in store if store.is_built_locally(id_)} == built(root) & set(store)
        assert report.passed_over == []
        assert store.tags() == names(name)
        assert report.images == len(store) == len(said(name)["images"])
    for name, position in zip(HOSTS, ends, strict=True):
        view = store.as_of(position=position)
        assert known(view) == listed(name)
        marked = {image_id for image_id in view if view.is_built_locally(image_id)}
        assert marked == built(tmp_path / name) & set(view)
        assert store.tags(position) == names(name)
    assert len(store) == 138


def test_layers_and_configs_are_what_docker_inspected(store: ImageStore, tmp_path: Path) -> None:
    """Operating system, architecture and layers of every image are those that Docker gave."""
    for name in HOSTS:
        take_over(store, unpack(name, tmp_path))
        for image in said(name)["images"]:
            found = store.get(image["id"])
            assert found.os == image["os"]
            assert found.architecture == image["architecture"]
            assert list(found.root_fs.diff_ids) == (image["layers"] or [])


@pytest.mark.parametrize("name", HOSTS)
def test_a_second_sync_adds_nothing(store: ImageStore, tmp_path: Path, name: str) -> None:
    """What has not changed is no event."""
    root = unpack(name, tmp_path)
    first = take_over(store, root)
    second = take_over(store, root)
    assert second.position == second.after == first.position == store.position
    assert second.unchanged == first.images
    assert not (second.created or second.deleted or second.recreated)


def test_each_sync_is_one_batch(store: ImageStore, tmp_path: Path) -> None:
    """A host is never half taken over: all records of a sync carry the same batch."""
    for name in HOSTS:
        report = take_over(store, unpack(name, tmp_path))
        batches = {record.batch for record in store.records(after=report.after)}
        assert batches == {report.after + 1}


@pytest.mark.parametrize("name", CRASHES)
def test_a_database_after_a_crash_gives_what_docker_listed(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    """What Docker left half renamed is reported, and does not count."""
    report = take_over(store, unpack(name, tmp_path))
    assert known(store.view()) == listed(name)
    assert [entry.kind for entry in report.passed_over] == ["crash-leftover"]


def test_there_are_seven_crashes_and_46_kinds_of_damage() -> None:
    """The data is whole, so the tests over it are not empty."""
    assert len(CRASHES) == 7
    assert set(said(DAMAGED)["cases"]) == set(REPORTED)
    assert len(REPORTED) == 46


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageStore, SyncReport]:
    """Sync the damaged database once."""
    folder = tmp_path_factory.mktemp("damaged")
    store = ImageStore.open(folder / "store")
    return store, take_over(store, unpack(DAMAGED, folder))


def test_of_a_damaged_database_exactly_what_docker_listed_counts(
    damaged: tuple[ImageStore, SyncReport],
) -> None:
    """Nothing is lost that Docker lists, and nothing comes in that it does not."""
    store, _ = damaged
    assert sorted(store) == sorted(said(DAMAGED)["listed"])


@pytest.mark.parametrize("case", sorted(REPORTED))
def test_each_kind_of_damage_is_taken_as_docker_takes_it_and_reported(
    damaged: tuple[ImageStore, SyncReport], case: str
) -> None:
    """An image is listed if Docker lists it; what was passed over or mended has a reason."""
    store, report = damaged
    docker = said(DAMAGED)["cases"][case]
    image_id = docker["id"]
    assert (image_id in store) == docker["listed"]
    kinds = {entry.kind for entry in report.passed_over if entry.name == image_id}
    expected = REPORTED[case]
    assert kinds == (set() if expected is None else {expected})
    if not docker["listed"]:
        assert kinds
        return
    state = store.view().state(bytes.fromhex(image_id[7:]))
    assert state is not None
    if docker["inspect_error"]:
        # Docker's inspect fails on such a time as a whole, so it says nothing of the parent.
        assert state.last_updated is None
        return
    mended = expected is not None and expected.startswith("parent-")
    assert store.get_parent(image_id) == (None if mended else docker["parent"])
    assert state.last_updated == instant(docker["last_tag_time"])


def test_strange_entries_are_each_reported(damaged: tuple[ImageStore, SyncReport]) -> None:
    """Every entry that is neither an image nor a case is named, with its kind; nothing else is."""
    _, report = damaged
    cases = {case["id"] for case in said(DAMAGED)["cases"].values()}
    without_image = "name-without-image"
    rest = [entry for entry in report.passed_over if entry.name not in cases]
    unnamed = [entry for entry in rest if entry.kind == without_image]
    assert all(entry.detail.split()[0] in cases for entry in unnamed)
    rest = [entry for entry in rest if entry.kind != without_image]
    assert len(rest) == len(STRANGERS)
    for start, kind in STRANGERS.items():
        assert [entry.kind for entry in rest if entry.name.startswith(start)] == [kind]


@pytest.mark.parametrize("name", [*HOSTS, DAMAGED])
def test_nothing_is_written_to_the_source(store: ImageStore, tmp_path: Path, name: str) -> None:
    """Names, contents, modes and times of the source are the same afterwards."""
    root = unpack(name, tmp_path)

    def state() -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, content(path))
            for path in sorted(root.rglob("*"))
        }

    before = state()
    take_over(store, root)
    assert state() == before


def content(path: Path) -> bytes:
    """Return the bytes of a regular file, nothing for others."""
    return path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b""


def test_all_forms_of_the_source_find_the_same_database(tmp_path: Path) -> None:
    """The data root, `image`, the driver's folder and `imagedb` are one and the same."""
    root = unpack("host-a-1", tmp_path)
    database = imagedb(root)
    for form in (root, root / "image", database.parent, database):
        assert DockerImageDB.find(form).path == database
