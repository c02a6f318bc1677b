"""Give the reader of containers/storage roots that an attacker, or an accident, has made."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from eventstore import ImageStore, SourceError
from eventstore.sources import containers_storage
from eventstore.sources.containers_storage import ContainersStorage, file_name
from eventstore.sources.finding import find
from eventstore.sources.found import Findings
from eventstore.sync import sync
from making import config, id_of

A, B = config("a"), config("b")


class Made:
    """A root that tests fill by hand."""

    def __init__(self, folder: Path, driver: str = "overlay") -> None:
        self.path = folder
        self.images = folder / f"{driver}-images"
        self.images.mkdir(parents=True)
        self.entries: list[Any] = []
        self.save()

    def save(self) -> None:
        """Write the list."""
        (self.images / "images.json").write_text(json.dumps(self.entries))

    def file(self, image_id: str, item: str | None = None) -> Path:
        """Return where an item of an image lies; its config if none is named."""
        return self.images / image_id[7:] / file_name(item or image_id)

    def add(self, raw: bytes, *names: str, image_id: str | None = None, **more: Any) -> str:
        """Put an image in as the tools do, and return its id."""
        found = image_id or id_of(raw)
        self.file(found).parent.mkdir(exist_ok=True)
        self.file(found, id_of(raw)).write_bytes(raw)
        items = ["manifest", id_of(raw)]
        entry = {"id": found[7:], "names": list(names), "big-data-names": items, **more}
        self.entries.append(entry)
        self.save()
        return found

    def read(self) -> Findings:
        """Read it."""
        found = ContainersStorage.find(self.path)
        assert found is not None
        return found.read()


def kinds(findings: Findings) -> list[str]:
    """Return the kinds of what was passed over."""
    return [entry.kind for entry in findings.passed_over]


def ids(findings: Findings) -> list[str]:
    """Return the ids of the images that count."""
    return [image.image_id for image in findings.images]


@pytest.fixture
def root(tmp_path: Path) -> Made:
    """Return a root with one image, `a`, called app."""
    made = Made(tmp_path / "root")
    made.add(A, "localhost/app:1")
    return made


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("manifest", "manifest"),
        ("instances.json", "instances.json"),
        ("sha256:ab", "=c2hhMjU2OmFi"),
        ("signature-1", "=c2lnbmF0dXJlLTE="),
        ("Upper", "=VXBwZXI="),
        ("last:", "last:"),
        ("", ""),
        ("é", "é"),
        ("éa", "=w6lh"),
    ],
)
def test_files_of_items_are_called_as_the_tools_call_them(item: str, expected: str) -> None:
    """What follows the first letter that is not plain decides; one at the very end does not."""
    assert file_name(item) == expected


@pytest.mark.parametrize(
    "content",
    ["{", "[", "{}", "[1]", '["a"]', '[{"id": 1}]', '[{"names": "a"}]', "[]]", "\x00", "[{}", "7"],
)
def test_a_list_that_is_none_is_an_error_and_deletes_nothing(root: Made, content: str) -> None:
    """It must not look like a host without images."""
    (root.images / "images.json").write_text(content)
    with pytest.raises(SourceError, match=r"images\.json: is no list of images"):
        root.read()


@pytest.mark.parametrize("depth", [501, 100_000])
def test_a_list_that_is_nested_without_end_is_an_error(root: Made, depth: int) -> None:
    """No recursion of ours, or of the decoder, ends the process."""
    (root.images / "images.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(SourceError, match="is no list of images"):
        root.read()


def test_a_list_that_is_too_large_is_an_error(root: Made) -> None:
    """Of a sparse file of a terabyte nothing is read."""
    os.truncate(root.images / "images.json", 1 << 40)
    with pytest.raises(SourceError, match="more than 67108864 bytes"):
        root.read()


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_list_that_is_no_regular_file_is_an_error(root: Made, tmp_path: Path, what: str) -> None:
    """A link is not followed, a pipe is not waited for."""
    path = root.images / "images.json"
    path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(SourceError, match=r"link, which is not followed|no regular file"):
        root.read()


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "huge", "folder-link", "folder-file"])
def test_a_config_that_is_no_regular_file_is_passed_over_and_what_is_known_stays(
    store: ImageStore, root: Made, tmp_path: Path, what: str
) -> None:
    """The tools would still list the image, so nothing is deleted."""
    found = root.read()
    sync(store, found.images, names=found.names)
    path = root.file(id_of(A))
    folder = path.parent
    (tmp_path / "moved").mkdir()
    if what.startswith("folder-"):
        folder.rename(tmp_path / "moved" / "it")
        if what == "folder-link":
            folder.symlink_to(tmp_path / "moved" / "it")
        else:
            folder.touch()
    else:
        path.rename(tmp_path / "moved" / "it")
        {
            "link": lambda: path.symlink_to(tmp_path / "moved" / "it"),
            "pipe": lambda: os.mkfifo(path),
            "folder": path.mkdir,
            "huge": lambda: (path.touch(), os.truncate(path, 1 << 40)),
        }[what]()
    found = root.read()
    assert kinds(found) == ["too-large" if what == "huge" else "not-a-file"]
    report = sync(store, found.images, found.passed_over, names=found.names)
    assert report.position == report.after
    assert store.tags() == {"localhost/app:1": id_of(A)}


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(b"x" + A, "digest-mismatch"), (b"", "digest-mismatch"), (None, "config-missing")],
)
def test_a_config_that_is_damaged_is_passed_over_and_what_is_known_stays(
    store: ImageStore, root: Made, raw: bytes | None, kind: str
) -> None:
    """Flipped, emptied, removed: the image is listed, so it is not deleted."""
    found = root.read()
    sync(store, found.images, names=found.names)
    root.file(id_of(A)).unlink() if raw is None else root.file(id_of(A)).write_bytes(raw)
    found = root.read()
    assert (ids(found), kinds(found)) == ([], [kind])
    report = sync(store, found.images, found.passed_over, names=found.names)
    assert (report.position, list(store)) == (report.after, [id_of(A)])


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"not json", b'{"rootfs": 1}'])
def test_a_config_that_docker_cannot_decode_is_passed_over(root: Made, raw: bytes) -> None:
    """Its digest is right, and it is no image."""
    root.add(raw)
    assert (ids(root.read()), kinds(root.read())) == ([id_of(A)], ["invalid-config"])


def test_an_image_under_an_id_that_is_not_its_configs_is_passed_over(root: Made) -> None:
    """Random ids, and ids that name another image's config, are no images of ours."""
    root.add(B, "localhost/other:1", image_id="sha256:" + "7" * 64)
    found = root.read()
    assert ids(found) == [id_of(A)]
    assert kinds(found) == ["id-not-of-config"]
    assert found.passed_over[0].name == "sha256:" + "7" * 64


def test_an_image_that_is_being_made_is_passed_over(root: Made) -> None:
    """Older tools list an image before it has items."""
    root.entries.append({"id": id_of(B)[7:], "names": ["localhost/new:1"]})
    root.save()
    found = root.read()
    assert (ids(found), kinds(found)) == ([id_of(A)], ["config-missing"])


@pytest.mark.parametrize(
    "image_id",
    ["", "../../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", None, "sha256:" + "a" * 64],
)
def test_an_id_that_is_no_digest_leads_nowhere(root: Made, image_id: str | None) -> None:
    """It could name a path, or steer a terminal."""
    root.entries.append({"id": image_id, "names": ["localhost/bad:1"]})
    root.save()
    found = root.read()
    assert (ids(found), kinds(found)) == ([id_of(A)], ["not-a-digest"])
    assert found.names == {"localhost/app:1": id_of(A)}


def test_null_entries_and_equal_keys_are_taken_as_go_takes_them(root: Made) -> None:
    """A null would end the tools; of equal keys, in whichever case, the last counts."""
    entry = f'{{"ID": "x", "id": "{id_of(A)[7:]}", "Names": null, "unknown": [{{}}]}}'
    (root.images / "images.json").write_text(f"[null, {entry}]")
    found = root.read()
    assert (ids(found), kinds(found)) == ([id_of(A)], ["invalid-entry"])
    assert found.names == {}


def test_an_image_that_is_listed_twice_counts_once_with_all_names(root: Made) -> None:
    """The tools list it twice; it is one image."""
    root.entries.append(root.entries[0] | {"names": ["localhost/again:1"]})
    root.save()
    found = root.read()
    assert (ids(found), kinds(found)) == ([id_of(A)], ["duplicate-entry"])
    assert found.names == {"localhost/app:1": id_of(A), "localhost/again:1": id_of(A)}


def test_names_that_are_none_or_twice_are_reported(root: Made) -> None:
    """The tools take any text for a name, and of two equal ones the last."""
    root.add(B, "localhost/app:1", "UPPER", "\x1b[2J", "", "app@sha256:1", "a" * 5000)
    found = root.read()
    assert kinds(found) == ["name-twice"] + ["name-invalid"] * 5
    assert found.names == {"localhost/app:1": id_of(B)}
    assert all(len(entry.name) < 200 for entry in found.passed_over)


@pytest.mark.parametrize("image_id", ["\ud800", "\x1b]0;owned\x07"])
def test_what_is_reported_can_be_stored_and_printed(root: Made, image_id: str) -> None:
    """Half a surrogate is no text that can be written."""
    root.entries.append({"id": image_id})
    root.entries.append({"id": "5" * 64, "names": [image_id]})
    root.save()
    for entry in root.read().passed_over:
        (entry.name + entry.detail).encode("utf-8")


def test_of_large_configs_that_do_not_count_one_at_a_time_is_held(root: Made) -> None:
    """However many there are, what they take is bounded."""
    for number in range(8):
        root.add(b"{" + bytes([number]) * (4 << 20))
    tracemalloc.start()
    try:
        found = root.read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kinds(found) == ["invalid-config"] * 8
    assert peak < 24 << 20


def test_all_configs_together_are_bounded(root: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes in so much in one sync and no more."""
    root.add(B)
    monkeypatch.setattr(containers_storage, "CONFIGS_SIZE_MAX", len(A) + len(B))
    assert len(root.read().images) == 2
    monkeypatch.setattr(containers_storage, "CONFIGS_SIZE_MAX", len(A) + len(B) - 1)
    with pytest.raises(SourceError, match="bytes of configs"):
        root.read()


def test_an_image_that_is_removed_while_it_is_read_does_not_count(root: Made) -> None:
    """The list is read again where a config is not there: what was removed is not in doubt."""
    gone = root.add(B)
    found = ContainersStorage.find(root.path)
    assert found is not None
    stopped = threading.Event()

    def remove_and_bring_back() -> None:
        whole = list(root.entries)
        while not stopped.is_set():
            root.entries = whole[:1]
            replace(root)
            root.file(gone).unlink()
            root.file(gone).write_bytes(B)
            root.entries = whole
            replace(root)

    busy = threading.Thread(target=remove_and_bring_back)
    busy.start()
    try:
        for _ in range(300):
            reading = found.read()
            doubtful = {entry.name for entry in reading.passed_over}
            assert set(ids(reading)) - doubtful >= {id_of(A)}
            assert doubtful <= {gone}
    finally:
        stopped.set()
        busy.join()


def replace(root: Made) -> None:
    """Write the list as the tools do: beside it, then renamed into its place."""
    beside = root.images / ".tmp-images.json"
    beside.write_text(json.dumps(root.entries))
    beside.rename(root.images / "images.json")


def test_after_a_removal_in_the_middle_the_new_list_counts(root: Made) -> None:
    """The image whose config went away between list and reading is not listed any more."""
    gone = root.add(B)

    class Late(ContainersStorage):
        def _decoded(self, raw: bytes) -> Any:
            entries = super()._decoded(raw)
            if len(root.entries) == 2:
                del root.entries[1]
                replace(root)
                root.file(gone).unlink()
            return entries

    found = Late(root.path, "overlay-images").read()
    assert (ids(found), kinds(found)) == ([id_of(A)], [])


def test_several_drivers_are_named_and_one_must_be_chosen(tmp_path: Path) -> None:
    """Which one counts is not guessed."""
    for driver in ("overlay", "vfs"):
        Made(tmp_path / "root", driver)
    with pytest.raises(SourceError, match="overlay-images, vfs-images"):
        find(str(tmp_path / "root"))
    assert find(str(tmp_path / "root" / "vfs-images")).read() == Findings([], [], {})


def test_a_fresh_root_without_images_is_a_host_without_images(tmp_path: Path) -> None:
    """There is a lock and no list before the first image."""
    (tmp_path / "overlay-images").mkdir()
    with pytest.raises(SourceError, match="containers/storage"):
        find(str(tmp_path))
    (tmp_path / "overlay-images" / "images.lock").touch()
    assert find(str(tmp_path)).read() == Findings([], [], {})
    assert find(str(tmp_path / "overlay-images")).read() == Findings([], [], {})


def test_a_driver_folder_behind_a_link_is_not_followed(root: Made, tmp_path: Path) -> None:
    """It is named, so that whoever wants it can name what it leads to."""
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "overlay-images").symlink_to(root.images)
    with pytest.raises(SourceError, match="overlay-images: is a link: name what it leads to"):
        find(str(linked))
    assert len(find(str(linked / "overlay-images")).read().images) == 1


def test_a_root_that_goes_away_is_an_error(root: Made) -> None:
    """It is not a host without images."""
    found = ContainersStorage.find(root.path)
    assert found is not None
    (root.images / "images.json").unlink()
    with pytest.raises(SourceError, match="gone away"):
        found.read()
    root.images.rename(root.path / "moved")
    with pytest.raises(SourceError, match="gone away"):
        found.read()


def test_a_place_that_is_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    """The wrong path must not look like a host without images."""
    with pytest.raises(SourceError) as caught:
        find(str(tmp_path))
    for looked_for in ("imagedb/content/sha256", "image/<driver>", "images.json", "-images"):
        assert looked_for in str(caught.value)


def test_a_place_of_two_kinds_is_an_error(root: Made) -> None:
    """Docker's data root and containers/storage in one folder: one must be named."""
    (root.path / "image" / "vfs" / "imagedb" / "content" / "sha256").mkdir(parents=True)
    with pytest.raises(SourceError, match="two kinds"):
        find(str(root.path))
    assert len(find(str(root.images)).read().images) == 1


@pytest.mark.parametrize("name", ["nothing-here", "file", "file/below", "a\0b", "x" * 5000])
def test_what_is_no_folder_is_an_error(tmp_path: Path, name: str) -> None:
    """Missing, a file, below a file, not a path at all, too long."""
    (tmp_path / "file").write_text("I am a file")
    with pytest.raises(SourceError):
        find(str(tmp_path / name))


def test_what_another_source_told_stays_where_this_one_keeps_no_such_thing(
    store: ImageStore, root: Made
) -> None:
    """A last update and a built mark are not taken away, nor is the image made anew."""
    sync(store, root.read().images)
    store.set_last_updated(id_of(A), 1_700_000_000_000_000_000)
    store.set_built_locally(id_of(A))
    report = sync(store, root.read().images)
    assert (report.position, report.recreated) == (report.after, [])
    assert store.is_built_locally(id_of(A))
