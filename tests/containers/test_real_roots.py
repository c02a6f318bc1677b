"""Sync roots that Podman, Buildah and Skopeo wrote, and hold the store to their own listings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from containers_data import MOMENTS, PRESENT, Root, compare, said, unpack
from eventstore import ImageStore, references
from eventstore.sources.containers_storage import ContainersStorage
from eventstore.sources.finding import find
from eventstore.sources.found import Findings
from eventstore.sync import sync

LISTERS = ("podman", "buildah")
NO_TOOLS = "Buildah, Skopeo and Podman, and root's rights"


@pytest.fixture
def root() -> Iterator[Root]:
    """Return an empty root; Podman takes no path of more than 50 characters."""
    with TemporaryDirectory(prefix="roots-") as folder:
        yield Root(Path(folder))


def read(root: Path) -> Findings:
    """Read a root as the command does."""
    place = find(str(root))
    assert isinstance(place, ContainersStorage)
    return place.read()


def known_by(store: ImageStore) -> dict[str, list[str]]:
    """Return the images of a store and their names."""
    return {
        image_id: sorted(name for name, named in store.tags().items() if named == image_id)
        for image_id in store
    }


@pytest.mark.parametrize("lister", LISTERS)
@pytest.mark.parametrize("name", MOMENTS)
def test_what_is_read_is_what_the_tools_listed(tmp_path: Path, name: str, lister: str) -> None:
    """Ids and names, to the last one; what has no config is reported."""
    compare(read(unpack(name, tmp_path)), said(name)[lister])


def test_the_recorded_roots_are_not_empty() -> None:
    """They hold names with and without a tag, a digest, no name, a list, an old schema."""
    (first, second) = (said(name)["podman"] for name in MOMENTS)
    assert (len(first), len(second)) == (7, 6)
    assert first.keys() - second.keys()
    assert second.keys() - first.keys()
    names = [name for images in first.values() for name in images]
    assert sum("@sha256:" in name for name in names) == 1
    assert sum(name.startswith("localhost/") for name in names) >= 3
    assert [] in first.values()


def test_syncs_in_order_give_what_the_tools_listed_then(store: ImageStore, tmp_path: Path) -> None:
    """Two moments: ids and names now and as of each, no parents, no times, no marks."""
    ends = []
    for name in MOMENTS:
        found = read(unpack(name, tmp_path))
        report = sync(store, found.images, found.passed_over, names=found.names)
        again = sync(store, found.images, found.passed_over, names=found.names)
        assert again.position == report.position > report.after
        ends.append(report.position)
    for name, end in zip(MOMENTS, ends, strict=True):
        listing = said(name)["podman"]
        others = {entry.name for entry in read(tmp_path / name).passed_over}
        view = store.as_of(position=end)
        assert set(view) == listing.keys() - others
        assert store.tags(end) == {
            references.canonical(text): image_id for image_id in view for text in listing[image_id]
        }
        for image_id in view:
            assert view.get_parent(image_id) is view.get_last_updated(image_id) is None
            assert not view.is_built_locally(image_id)


def test_all_forms_of_the_source_find_the_same_root(tmp_path: Path) -> None:
    """The root, the driver's folder, and a link to either."""
    root = unpack("podman-1", tmp_path)
    images = root / "vfs-images"
    (tmp_path / "link").symlink_to(root)
    for form in (root, images, tmp_path / "link"):
        found = ContainersStorage.find(form)
        assert found is not None
        assert found.path.samefile(images)
        assert len(found.read().images) == 5


def test_nothing_is_written_to_the_source(tmp_path: Path) -> None:
    """Names, contents, modes and times are the same afterwards; no lock is taken."""
    root = unpack("podman-2", tmp_path)

    def state() -> dict[str, tuple[int, int, bytes]]:
        paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
        return {
            str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
            for path in paths
        }

    before = state()
    read(root)
    assert state() == before


@pytest.mark.slow
@pytest.mark.skipif(not PRESENT, reason=NO_TOOLS)
def test_fresh_roots_are_read_as_the_tools_of_this_machine_list_them(
    store: ImageStore, root: Root
) -> None:
    """The tools make a root, change it, and list it each time: so does the store."""
    for make in MOMENTS.values():
        make(root)
        found = read(root.path)
        for listing in (root.listed_by_podman(), root.listed_by_buildah()):
            compare(found, listing)
        sync(store, found.images, found.passed_over, names=found.names)
        others = {entry.name for entry in found.passed_over}
        assert known_by(store) == {
            image_id: sorted(map(references.canonical, names))
            for image_id, names in root.listed_by_buildah().items()
            if image_id not in others
        }
    assert len(store) == 5


@pytest.mark.slow
@pytest.mark.skipif(not PRESENT, reason=NO_TOOLS)
@pytest.mark.parametrize("damage", ["flipped", "missing", "emptied"])
def test_an_image_whose_config_is_damaged_is_still_listed_and_stays(
    store: ImageStore, root: Root, damage: str
) -> None:
    """Buildah goes on listing it, so a sync deletes nothing."""
    image_id = root.commit(root.buildah("from", "scratch").strip(), "app:1")
    found = read(root.path)
    sync(store, found.images, found.passed_over, names=found.names)
    (config,) = (root.path / "vfs-images" / image_id[7:]).glob("=c2hh*")
    if damage == "missing":
        config.unlink()
    else:
        config.write_bytes(config.read_bytes().swapcase() if damage == "flipped" else b"")
    assert list(root.listed_by_buildah()) == [image_id]
    found = read(root.path)
    report = sync(store, found.images, found.passed_over, names=found.names)
    assert [entry.kind for entry in found.passed_over] == [
        "config-missing" if damage == "missing" else "digest-mismatch"
    ]
    assert report.position == report.after
    assert known_by(store) == {image_id: ["localhost/app:1"]}


@pytest.mark.slow
@pytest.mark.skipif(not PRESENT, reason=NO_TOOLS)
@pytest.mark.parametrize("content", ["", "null", "[]"])
def test_a_list_that_the_tools_take_for_empty_is_empty(root: Root, content: str) -> None:
    """A file without a byte, and a null, are no images to them; so here."""
    root.commit(root.buildah("from", "scratch").strip(), "app:1")
    (root.path / "vfs-images" / "images.json").write_text(content)
    assert root.listed_by_buildah() == {}
    assert read(root.path) == Findings([], [], {})


@pytest.mark.slow
@pytest.mark.skipif(not PRESENT, reason=NO_TOOLS)
def test_a_name_that_is_listed_twice_is_that_of_the_last_image(root: Root) -> None:
    """Which of two images has it is what Buildah says."""
    working = root.buildah("from", "scratch").strip()
    first = root.commit(working, "app:1")
    root.buildah("config", "--label", "n=2", working)
    second = root.commit(working, "app:2")
    path = root.path / "vfs-images" / "images.json"
    path.write_text(path.read_text().replace("localhost/app:2", "localhost/app:1"))
    found = read(root.path)
    assert root.listed_by_buildah() == {first: [], second: ["localhost/app:1"]}
    assert found.names == {"localhost/app:1": second}
    assert [entry.kind for entry in found.passed_over] == ["name-twice"]
