"""Add what a source holds to a store that knows something already."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive_making import archive, kinds, read, saved, simple_layout, simple_saved
from eventstore import ImageStore, LayerMissingError, MemoryLayerStore
from eventstore.adding import add
from eventstore.sources.found import Findings
from making import config, id_of

BASE, CHILD = config("base"), config("child")


def family(parent: str | None = None) -> Findings:
    """Return an archive of an image and its child."""
    files = {f"{id_of(raw)[7:]}.json": raw for raw in (BASE, CHILD)}
    entries = [
        {"Config": f"{id_of(BASE)[7:]}.json", "RepoTags": ["base:1"]},
        {"Config": f"{id_of(CHILD)[7:]}.json", "Parent": parent or id_of(BASE)},
    ]
    return read(archive(files | saved(*entries)))


def test_nothing_is_deleted_and_no_name_is_taken_away(store: ImageStore) -> None:
    """Whatever the archive lacks; a name that it has moves, as loading it would move it."""
    other = store.create(config("other"), reason="made here")
    store.set_built_locally(other)
    for name in ("base:1", "other:1"):
        store.tag(name, other)
    before = store.position
    report = add(store, family(), reason="why")
    assert set(store) == {other, id_of(BASE), id_of(CHILD)}
    assert store.tags() == {
        "docker.io/library/base:1": id_of(BASE),
        "docker.io/library/other:1": other,
    }
    assert store.is_built_locally(other)
    assert (report.created, report.tagged) == (sorted([id_of(BASE), id_of(CHILD)]), 1)
    assert (report.parents_set, report.after, report.position) == (1, before, before + 4)
    assert {record.batch for record in store.records(after=before)} == {before + 1}
    assert {record.reason for record in store.records(after=before)} == {"why"}


def test_a_dry_run_says_the_same_and_appends_nothing(store: ImageStore) -> None:
    """Its numbers are those of the import that follows."""
    dry = add(store, family(), dry_run=True)
    assert (store.position, len(store), dry.dry_run, dry.position) == (0, 0, True, 0)
    report = add(store, family())
    assert (dry.created, dry.parents_set, dry.tagged) == (
        report.created,
        report.parents_set,
        report.tagged,
    )


def test_a_parent_that_is_known_stays(store: ImageStore) -> None:
    """Another one in the archive is reported, as is one that would close a ring."""
    other = store.create(config("other"))
    child = store.create(CHILD)
    store.set_parent(child, other)
    report = add(store, family())
    assert (store.get_parent(child), report.parents_set) == (other, 0)
    assert [entry.kind for entry in report.passed_over] == ["parent-kept"]
    store.set_parent(child, None)
    base = id_of(BASE)
    store.set_parent(base, child)
    report = add(store, family())
    assert (store.get_parent(child), store.get_parent(base)) == (None, child)
    assert [entry.kind for entry in report.passed_over] == ["parent-kept"]


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        ("sha256:" + "0" * 64, "parent-missing"),
        ("\x1b[2J", "parent-invalid"),
        (id_of(CHILD), "parent-cycle"),
    ],
)
def test_a_parent_that_cannot_be_is_mended(parent: str, kind: str) -> None:
    """The image counts, without a parent."""
    found = family(parent)
    assert len(found.images) == 2
    assert [image.parent for image in found.images] == [None, None]
    assert kinds(found) == [kind]


def test_a_redacted_config_is_passed_over(store: ImageStore) -> None:
    """Whoever destroyed it does not get it back from an old archive; its child counts."""
    base = store.create(BASE)
    store.delete(base)
    store.redact(base, reason="a secret")
    report = add(store, family())
    assert list(store) == [id_of(CHILD)]
    (entry,) = report.passed_over
    assert (entry.kind, entry.name) == ("redacted", base)
    assert "a secret" in entry.detail
    assert add(store, family()).position == report.position


def test_an_image_that_was_deleted_comes_back(store: ImageStore) -> None:
    """With what the archive knows of it, its manifest too."""
    found = read(archive(simple_layout()))
    add(store, found)
    (image_id,) = store
    store.delete(image_id)
    report = add(store, found)
    assert (report.created, report.tagged, report.described) == ([image_id], 1, 1)
    assert len(store.manifests(image_id)) == 1


def test_what_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    """With a layer store, layers that are missing refuse the whole."""
    layers = MemoryLayerStore()
    with ImageStore.open(tmp_path / "store", layers=layers) as store:
        found = read(archive(simple_layout() | simple_saved("x:1", raw=BASE)))
        assert len(found.images) == 2
        with pytest.raises(LayerMissingError):
            add(store, found)
        assert (store.position, len(store)) == (0, 0)


def test_what_is_passed_over_is_not_said_to_be_unchanged(store: ImageStore) -> None:
    """A redacted image that is not there is neither new nor as it was."""
    base = store.create(BASE)
    store.delete(base)
    store.redact(base, reason="a secret")
    add(store, family())
    report = add(store, family())
    assert (report.images, report.unchanged) == (2, 1)
