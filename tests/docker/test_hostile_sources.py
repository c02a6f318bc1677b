"""Give the reader of Docker's database folders that an attacker, or an accident, has made."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from docker_data import imagedb, unpack
from eventstore import Image, ImageStore, LayerNotFoundError, MassDeleteError, SourceError
from eventstore.layers import DockerLayerDB
from eventstore.sources import docker_imagedb
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.found import Findings, SourceImage
from eventstore.sync import sync
from making import config, id_of


def empty_database(folder: Path) -> Path:
    """Make an image database without images and return its `imagedb`."""
    found = folder / "image" / "overlay2" / "imagedb"
    (found / "content" / "sha256").mkdir(parents=True)
    (found / "metadata" / "sha256").mkdir(parents=True)
    return found


def add(database: Path, raw: bytes, **metadata: bytes) -> str:
    """Put an image into a database as Docker does, and return its id."""
    image_id = id_of(raw)
    (database / "content" / "sha256" / image_id[7:]).write_bytes(raw)
    for key, value in metadata.items():
        folder = database / "metadata" / "sha256" / image_id[7:]
        folder.mkdir(exist_ok=True)
        (folder / key).write_bytes(value)
    return image_id


def kinds(findings: Findings) -> list[str]:
    """Return the kinds of what was passed over."""
    return [entry.kind for entry in findings.passed_over]


@pytest.mark.parametrize("content", ["", "some/other/file", "image/", "imagedb/"])
def test_a_folder_that_is_no_image_database_is_an_error(tmp_path: Path, content: str) -> None:
    """The wrong path must not look like a host without images."""
    (tmp_path / content).mkdir(parents=True, exist_ok=True)
    with pytest.raises(SourceError, match="not Docker's image database"):
        DockerImageDB.find(tmp_path)


@pytest.mark.parametrize("name", ["nothing-here", "file", "file/below", "a\0b", "x" * 5000])
def test_what_is_no_folder_is_an_error(tmp_path: Path, name: str) -> None:
    """Missing, a file, below a file, not a path at all, too long: each is an error of ours."""
    (tmp_path / "file").write_text("I am a file")
    with pytest.raises(SourceError):
        DockerImageDB.find(tmp_path / name)


def test_several_drivers_are_named_and_one_must_be_chosen(tmp_path: Path) -> None:
    """Docker keeps one database for each storage driver; which one counts is not guessed."""
    for driver in ("overlay2", "vfs"):
        (tmp_path / "image" / driver / "imagedb" / "content" / "sha256").mkdir(parents=True)
    with pytest.raises(SourceError, match="overlay2, vfs"):
        DockerImageDB.find(tmp_path)
    assert DockerImageDB.find(tmp_path / "image" / "vfs").path.parts[-2] == "vfs"


def test_an_empty_database_is_a_host_without_images(tmp_path: Path) -> None:
    """A fresh daemon has folders and no images: that is no error."""
    empty_database(tmp_path)
    assert DockerImageDB.find(tmp_path).read() == Findings([], [], {})


def test_links_pipes_sockets_and_folders_are_passed_over_without_waiting(tmp_path: Path) -> None:
    """Nothing but regular files is read: a link could lead anywhere, a pipe would block."""
    database = empty_database(tmp_path)
    raw = config("linked")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(raw)
    content = database / "content" / "sha256"
    (content / id_of(raw)[7:]).symlink_to(elsewhere)
    (content / ("1" * 64)).symlink_to("/dev/zero")
    (content / ("2" * 64)).mkdir()
    os.mkfifo(content / ("3" * 64))
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket may have 107 bytes only.
        previous = Path.cwd()
        os.chdir(content)
        try:
            listener.bind("4" * 64)
        finally:
            os.chdir(previous)
    findings = DockerImageDB.find(tmp_path).read()
    assert findings.images == []
    assert kinds(findings) == ["not-a-file"] * 5


@pytest.mark.parametrize("place", ["config", "parent", "lastUpdated", "builtLocally", "diff"])
def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path, place: str) -> None:
    """Opening a device may already do something; of a pipe, its writer learns that it was."""
    database = empty_database(tmp_path)
    raw = config("first", layers=1)
    name = add(database, raw, something=b"")[7:]
    chain_id = Image.from_json(raw).root_fs.chain_id()
    pipe = {
        "config": database / "content" / "sha256" / ("1" * 64),
        "diff": database.parent / "layerdb" / "sha256" / chain_id[7:] / "diff",
    }.get(place, database / "metadata" / "sha256" / name / place)
    pipe.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe)
    opens = "import os, sys; print(); os.open(sys.argv[1], os.O_WRONLY); print('it was opened')"
    with subprocess.Popen([sys.executable, "-uc", opens, pipe], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"\n"
        while Path(f"/proc/{writer.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.01)
        with pytest.raises(SourceError) if place == "diff" else nullcontext():
            found = DockerImageDB.find(tmp_path).read(operating_system="linux")
            assert any("no regular file" in entry.detail for entry in found.passed_over)
        assert writer.poll() is None
        writer.terminate()
        assert writer.stdout.read() == b""


def test_what_is_too_large_is_passed_over(tmp_path: Path) -> None:
    """A sparse file of a terabyte is refused after 16 MiB, metadata after 4 KiB."""
    database = empty_database(tmp_path)
    huge = database / "content" / "sha256" / ("5" * 64)
    huge.touch()
    os.truncate(huge, 1 << 40)
    image_id = add(database, config("a"), parent=b"x" * 5000)
    findings = DockerImageDB.find(tmp_path).read()
    assert [image.image_id for image in findings.images] == [image_id]
    assert kinds(findings) == ["too-large", "parent-invalid"]


def test_of_large_configs_that_do_not_count_one_at_a_time_is_held(tmp_path: Path) -> None:
    """However many there are, what they take is bounded."""
    database = empty_database(tmp_path)
    for number in range(12):
        add(database, b"{" + bytes([number]) * (4 << 20))
    add(database, config("small"))
    tracemalloc.start()
    try:
        findings = DockerImageDB.find(tmp_path).read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kinds(findings) == ["invalid-config"] * 12
    assert [image.image_id for image in findings.images] == [id_of(config("small"))]
    assert peak < 24 << 20


def test_names_in_any_bytes_are_reported_in_text_that_can_be_stored(tmp_path: Path) -> None:
    """A file name need not be UTF-8, and may hold terminal escapes."""
    database = empty_database(tmp_path)
    folder = os.fsencode(database / "content" / "sha256")
    for name in (b"\xff\xfe", b"\x1b[2J", b"new\nline"):
        with open(folder + b"/" + name, "wb"):
            pass
    findings = DockerImageDB.find(tmp_path).read()
    assert kinds(findings) == ["not-a-digest"] * 3
    for entry in findings.passed_over:
        entry.name.encode("utf-8")


def test_metadata_links_are_not_followed(tmp_path: Path) -> None:
    """A link in place of `parent` makes no parent, and is reported."""
    database = empty_database(tmp_path)
    parent = add(database, config("parent"))
    child = add(database, config("child"), builtLocally=b"\x01")
    secret = tmp_path / "secret"
    secret.write_text(parent)
    (database / "metadata" / "sha256" / child[7:] / "parent").symlink_to(secret)
    findings = DockerImageDB.find(tmp_path).read()
    found = {image.image_id: image for image in findings.images}
    assert found[child].parent is None
    assert found[child].built_locally
    assert kinds(findings) == ["parent-invalid"]


def synced_pair(store: ImageStore, tmp_path: Path) -> tuple[Path, str, str]:
    """Take over a database of a parent and a child, and return it and their ids."""
    database = empty_database(tmp_path)
    parent = add(database, config("parent"))
    stamp = b"2024-10-08T18:27:41Z"
    child = add(
        database, config("child"), parent=parent.encode(), lastUpdated=stamp, builtLocally=b"\x01"
    )
    sync(store, DockerImageDB.find(tmp_path).read().images)
    return database, parent, child


@pytest.mark.parametrize("which", ["parent", "child"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_an_image_that_docker_may_still_have_is_not_deleted(
    store: ImageStore, tmp_path: Path, which: str, make: Callable[[Path], None]
) -> None:
    """Docker would follow the link: here it is not read, reported, and known as it was."""
    database, parent, child = synced_pair(store, tmp_path)
    before = store.position
    path = database / "content" / "sha256" / {"parent": parent, "child": child}[which][7:]
    path.unlink()
    make(path)
    findings = DockerImageDB.find(tmp_path).read()
    assert "not-a-file" in kinds(findings)
    report = sync(store, findings.images, findings.passed_over)
    assert (report.deleted, report.recreated, report.parents_set) == ([], [], 0)
    assert store.position == before
    path.unlink()
    assert len(sync(store, DockerImageDB.find(tmp_path).read().images).deleted) == 1


@pytest.mark.parametrize("part", ["parent", "lastUpdated", "builtLocally", "the folder"])
def test_metadata_behind_a_link_takes_nothing_away(
    store: ImageStore, tmp_path: Path, part: str
) -> None:
    """What is known of the image stays, though the link is not followed."""
    database, _, child = synced_pair(store, tmp_path)
    before = store.position, store.view().digest
    folder = database / "metadata" / "sha256" / child[7:]
    path = folder if part == "the folder" else folder / part
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    findings = DockerImageDB.find(tmp_path).read()
    assert findings.passed_over
    sync(store, findings.images, findings.passed_over)
    assert (store.position, store.view().digest) == before


@pytest.mark.parametrize(
    "part",
    [
        "",
        "content",
        "content/sha256",
        "metadata",
        "metadata/sha256",
        "../layerdb",
        "../../overlay2",
    ],
)
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_of_the_database_that_is_none_is_an_error(
    tmp_path: Path, part: str, kind: str
) -> None:
    """Whether it leads out of the source or into nothing, no image is taken for deleted."""
    database = empty_database(tmp_path / "root")
    add(database, config("a"))
    (database.parent / "layerdb").mkdir()
    path = Path(os.path.normpath(database / part))
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved) if kind == "link" else path.write_text("a file")
    with pytest.raises(SourceError, match=r"link|folder|not Docker's image database"):
        DockerImageDB.find(tmp_path / "root").read()


def test_the_place_that_is_named_may_be_a_link(tmp_path: Path) -> None:
    """As `/var/lib/docker` often is, on hosts with a larger disk for it."""
    database = empty_database(tmp_path / "disk")
    image_id = add(database, config("a"))
    for number, target in enumerate((tmp_path / "disk", database.parent, database)):
        link = tmp_path / f"link {number}"
        link.symlink_to(target)
        (found,) = DockerImageDB.find(link).read().images
        assert found.image_id == image_id


def test_configs_of_more_than_memory_may_hold_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All configs are held at once, so there is a bound for their sum."""
    database = empty_database(tmp_path)
    for number in range(4):
        add(database, config(str(number)))
    monkeypatch.setattr(docker_imagedb, "CONFIGS_SIZE_MAX", 4 * len(config("0")))
    assert len(DockerImageDB.find(tmp_path).read().images) == 4
    monkeypatch.setattr(docker_imagedb, "CONFIGS_SIZE_MAX", 4 * len(config("0")) - 1)
    with pytest.raises(SourceError, match="bytes of configs"):
        DockerImageDB.find(tmp_path).read()


@pytest.mark.parametrize("name", ["diff", "size", "cache-id", "parent"])
def test_a_link_in_the_place_of_a_layer_is_an_error(tmp_path: Path, name: str) -> None:
    """Docker would follow it, so that the image is not there cannot be said."""
    database = empty_database(tmp_path)
    add(database, config("a", layers=1))
    (layer,) = Image.from_json(config("a", layers=1)).root_fs.diff_ids
    folder = database.parent / "layerdb" / "sha256" / layer[7:]
    folder.mkdir(parents=True)
    for file, text in (("diff", layer), ("size", "5"), ("cache-id", "c")):
        (folder / file).write_text(text)
    assert len(DockerImageDB.find(tmp_path).read(operating_system="linux").images) == 1
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/null")
    with pytest.raises(SourceError, match="link"):
        DockerImageDB.find(tmp_path).read(operating_system="linux")


def test_a_layer_whose_size_fits_no_int64_is_none(tmp_path: Path) -> None:
    """Docker parses it as one, and does not load the layer."""
    chain = "sha256:" + "5" * 64
    folder = tmp_path / "sha256" / ("5" * 64)
    folder.mkdir(parents=True)
    for size, fits in ((2**63 - 1, True), (2**63, False), (10**4000, False)):
        for file, text in (("diff", chain), ("size", size), ("cache-id", "c")):
            (folder / file).write_text(str(text))
        with nullcontext() if fits else pytest.raises(LayerNotFoundError):
            assert DockerLayerDB(tmp_path).metadata(chain).size == size


def test_a_long_cycle_and_what_hangs_from_it(tmp_path: Path) -> None:
    """Images on a cycle lose their parents; images below the cycle keep theirs."""
    database = empty_database(tmp_path)
    configs = [config(f"ring {number}") for number in range(2000)]
    ids = [id_of(raw) for raw in configs]
    for number, raw in enumerate(configs):
        add(database, raw, parent=ids[number - 1].encode())
    hanging = add(database, config("hanging"), parent=ids[7].encode())
    findings = DockerImageDB.find(tmp_path).read()
    parents = {image.image_id: image.parent for image in findings.images}
    assert parents == dict.fromkeys(ids) | {hanging: ids[7]}
    assert kinds(findings) == ["parent-cycle"] * 2000


def test_a_chain_of_parents_deeper_than_the_stack_is_taken_over(
    store: ImageStore, tmp_path: Path
) -> None:
    """Depth is bounded by memory, not by recursion."""
    database = empty_database(tmp_path)
    above: str | None = None
    for number in range(3000):
        above = add(
            database, config(f"deep {number}"), **({"parent": above.encode()} if above else {})
        )
    findings = DockerImageDB.find(tmp_path).read()
    report = sync(store, findings.images, findings.passed_over)
    assert report.parents_set == 2999
    assert above is not None
    assert store.get_parent(above) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("part", ["content/sha256", "metadata/sha256", "a config", "a parent"])
def test_what_may_not_be_read_is_an_error_and_not_a_deleted_image(
    tmp_path: Path, part: str
) -> None:
    """Run by a user without the rights, a read must fail as a whole."""
    database = empty_database(tmp_path)
    parent = add(database, config("parent"))
    child = add(database, config("child"), parent=parent.encode())
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for above in list(tmp_path.parents)[:3]:
        above.chmod(0o755)
    named = {
        "a config": f"content/sha256/{child[7:]}",
        "a parent": f"metadata/sha256/{child[7:]}/parent",
    }
    (database / named.get(part, part)).chmod(0)
    script = tmp_path / "as_nobody.py"
    script.write_text(
        "import os, sys\n"
        "from eventstore import SourceError\n"
        "from eventstore.sources.docker_imagedb import DockerImageDB\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n    DockerImageDB.find(sys.argv[1]).read()\n"
        "except SourceError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "Permission denied" in done.stdout


def test_a_source_that_goes_away_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """Between finding and reading the folder may be unmounted: that is no empty host."""
    database = empty_database(tmp_path)
    found = DockerImageDB.find(tmp_path)
    shutil.rmtree(database)
    with pytest.raises(SourceError, match="gone away"):
        found.read()


def test_a_sync_that_would_delete_most_images_stops_and_changes_nothing(
    store: ImageStore, tmp_path: Path
) -> None:
    """More than ten and more than half are not deleted without being told to."""
    unpack("host-a-1", tmp_path)
    findings = DockerImageDB.find(tmp_path / "host-a-1").read(operating_system="linux")
    sync(store, findings.images)
    before = store.position, store.view().digest
    shutil.rmtree(imagedb(tmp_path / "host-a-1") / "content" / "sha256")
    (imagedb(tmp_path / "host-a-1") / "content" / "sha256").mkdir()
    emptied = DockerImageDB.find(tmp_path / "host-a-1").read()
    with pytest.raises(MassDeleteError) as caught:
        sync(store, emptied.images, emptied.passed_over)
    assert (caught.value.deletions, caught.value.images) == (94, 94)
    assert (store.position, store.view().digest) == before
    would = sync(store, emptied.images, dry_run=True)
    assert len(would.deleted) == 94
    assert (store.position, store.view().digest) == before
    sync(store, emptied.images, allow_mass_delete=True)
    assert len(store) == 0


@pytest.mark.parametrize(
    ("present", "kept", "refused"),
    [
        (10, 0, False),
        (11, 0, True),
        (22, 11, False),
        (23, 11, True),
        (40, 20, False),
        (40, 19, True),
    ],
)
def test_the_bound_of_mass_deletion_is_more_than_half_and_more_than_ten(
    store: ImageStore, present: int, kept: int, refused: bool
) -> None:
    """Exactly ten, or exactly half, is still taken for what it is."""
    raws = [config(str(number)) for number in range(present)]
    images = [SourceImage(id_of(raw), raw) for raw in raws]
    sync(store, images)
    if refused:
        with pytest.raises(MassDeleteError):
            sync(store, images[:kept])
        assert len(store) == present
    else:
        sync(store, images[:kept])
        assert len(store) == kept
