"""Follow a Docker database as it changes: what is recorded, what goes wrong, how it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attacking import TOOLS
from eventstore import Created, Deleted, ImageStore, StoreUsageError
from eventstore.errors import SourceError
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.docker_watched import WatchedImageDB
from eventstore.sources.found import Findings, SourceImage
from eventstore.sources.remembered import Remembered
from eventstore.sync import SyncReport
from eventstore.watching import watch
from making import config, id_of
from store.children import PACKAGE

sys.path.append(str(TOOLS))
from docker_writer import DockerWriter

watchfiles = pytest.importorskip("watchfiles")
COMMAND = [sys.executable, "-P", "-m", "eventstore"]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data root with an image in it."""
    DockerWriter(tmp_path / "docker").create("first")
    return tmp_path / "docker"


@contextmanager
def watched(store: ImageStore, root: Path) -> Iterator[list[SyncReport]]:
    """Follow a data root in a thread, after its first sync; gives what the syncs said."""
    said: list[SyncReport] = []
    stop = threading.Event()
    source = WatchedImageDB(root, operating_system="linux")

    def run() -> None:
        said.extend(watch(store, source, stop=stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: said)
        yield said
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


@contextmanager
def process(path: Path, root: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Follow a data root as users do."""
    command = [*COMMAND, "-s", str(path), "sync", str(root), "--watch", "--os", "linux", *more]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_each_change_is_recorded_within_a_second(store: ImageStore, root: Path) -> None:
    """A new image, its name, the loss of it, and the deletion: each as it comes."""
    writer = DockerWriter(root)
    with watched(store, root) as said:
        image = writer.create("second", built=True)
        until(lambda: image in store, 1)
        writer.tag("app", "1.0", image, "2026-01-02T03:04:05Z")
        until(lambda: store.tags().values(), 1)
        until(lambda: store.get_last_updated(image) is not None, 1)
        writer.untag("app", "1.0")
        until(lambda: not store.tags(), 1)
        writer.delete(image)
        until(lambda: image not in store, 1)
        until(lambda: said[-1].position == store.position, 1)
    assert [len(one.created) for one in said if one.created] == [1, 1]


def test_a_burst_is_one_sync(store: ImageStore, root: Path) -> None:
    """Thirty images at once are not thirty batches."""
    writer = DockerWriter(root)
    with watched(store, root) as said:
        for number in range(30):
            writer.create(f"image {number}")
        until(lambda: len(store) == 31)
    assert len(said) < 8


def test_nothing_is_read_while_nothing_changes(store: ImageStore, root: Path) -> None:
    """No reading, and next to no time of the processor."""
    readings: list[float] = []

    class Counting(WatchedImageDB):
        def read(self, told: Collection[str] | None = None) -> Findings:
            readings.append(time.monotonic())
            return super().read(told)

    counting = Counting(root)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: list(watch(store, counting, stop=stop)))
    thread.start()
    until(lambda: len(readings) >= 2)
    time.sleep(0.5)
    before, spent = len(readings), time.process_time()
    (root / "image" / "overlay2" / "imagedb" / "content" / "sha256" / ".tmp-half1").touch()
    time.sleep(2)
    assert time.process_time() - spent < 0.4
    stop.set()
    thread.join(5)
    assert len(readings) - before <= 1


def test_a_half_written_file_is_no_image(store: ImageStore, root: Path) -> None:
    """What Docker has not renamed is passed over; then it is there."""
    content = DockerWriter(root).content
    raw = config("half")
    with watched(store, root):
        half = content / ".tmp-1"
        half.write_bytes(raw[:10])
        time.sleep(0.3)
        assert len(store) == 1
        half.write_bytes(raw)
        half.rename(content / id_of(raw)[7:])
        until(lambda: id_of(raw) in store, 1)


def test_a_database_that_goes_away_and_comes_back_is_followed_again(
    store: ImageStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it is back; nothing is deleted, and changes are seen."""
    away = root.with_name("away")
    with watched(store, root):
        root.rename(away)
        until(lambda: "has gone away" in caplog.text)
        time.sleep(1.5)
        late = DockerWriter(away).create("while it was away")
        away.rename(root)
        until(lambda: late in store, 2)
        image = DockerWriter(root).create("after it")
        until(lambda: image in store, 1)
    lines = [one for one in caplog.records if one.name == "eventstore.watching"]
    assert [one.levelno for one in lines] == [logging.WARNING] * 2
    assert not [one for one in store.records() if isinstance(one.event, Deleted)]


def test_a_database_that_is_replaced_by_another_is_followed(
    store: ImageStore, root: Path, tmp_path: Path
) -> None:
    """The daemon's restart on a copy: the folders are others of the same names."""
    other = DockerWriter(tmp_path / "other")
    other.create("first")
    new = other.create("second")
    with watched(store, root):
        root.rename(tmp_path / "old")
        (tmp_path / "other").rename(root)
        until(lambda: new in store, 2)
        newer = DockerWriter(root).create("third")
        until(lambda: newer in store, 1)


def test_a_folder_that_is_removed_and_made_again_is_followed(
    store: ImageStore, root: Path, tmp_path: Path
) -> None:
    """Even if the new one has the number of the old one, as file systems like to do."""
    writer = DockerWriter(root)
    image = writer.create("second", built=True)
    with watched(store, root):
        until(lambda: image in store)
        for times in range(3):
            shutil.copytree(writer.metadata, tmp_path / str(times))
            shutil.rmtree(writer.metadata)
            shutil.copytree(tmp_path / str(times), writer.metadata)
            time.sleep(0.5)
            when = datetime(2026, 1, 2, 3, 4, times, tzinfo=UTC)
            writer.tag("app", "1.0", image, when.isoformat().replace("+00:00", "Z"))
            until(partial(lambda when: store.get_last_updated(image) == when, when), 2)


def test_a_path_may_lead_through_links_and_back(
    store: ImageStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told of is known again, however the data root is named."""
    writer = DockerWriter(root)
    image = writer.create("second", built=True)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    monkeypatch.chdir(tmp_path / "far")
    odd = ["../docker", "away/../../docker", f"{tmp_path}/link/../../docker"]
    for second, name in enumerate(odd):
        when = datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC)
        with watched(store, Path(name)):
            time.sleep(0.5)
            writer.tag("app", "1.0", image, when.isoformat().replace("+00:00", "Z"))
            until(partial(lambda when: store.get_last_updated(image) == when, when), 2)


def test_a_sync_that_is_refused_is_told_once_and_made_when_it_may(
    store: ImageStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mass deletion is refused as without --watch; when the images are back, work goes on."""
    writer = DockerWriter(root)
    images = [writer.create(f"image {number}") for number in range(20)]
    kept = {path.name: path.read_bytes() for path in writer.content.iterdir()}
    with watched(store, root):
        for image in images:
            writer.delete(image)
        until(lambda: "would delete" in caplog.text)
        time.sleep(1.5)
        for name, raw in kept.items():
            (writer.content / name).write_bytes(raw)
        late = writer.create("late")
        until(lambda: late in store, 3)
    assert caplog.text.count("would delete") <= 2  # a burst may be read in its middle
    created = [one.event.image_id for one in store.records() if isinstance(one.event, Created)]
    assert len(set(created)) == 22


class Scripted:
    """A source whose readings are given one by one; the last one stays."""

    def __init__(self, folder: Path, readings: list[Findings]) -> None:
        self.folder, self.readings = folder, readings
        self.number = 0

    def read(self, told: Collection[str] | None = None) -> Findings:
        """Return the next reading."""
        found = self.readings[min(self.number, len(self.readings) - 1)]
        self.number += 1
        return found

    def forget(self) -> None:
        """Remember nothing anyway."""

    def folders(self) -> list[Path]:
        """Return a folder in which nothing happens."""
        return [self.folder]

    def version(self) -> object:
        """Be steady: the first reading, one when it is followed, and what that makes due."""
        return 0


def run_through(store: ImageStore, source: Scripted) -> None:
    """Follow a source until its last reading was had."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: list(watch(store, source, stop=stop)))
    thread.start()
    until(lambda: source.number >= len(source.readings))
    time.sleep(0.2)
    stop.set()
    thread.join(5)


def test_an_image_that_is_being_removed_is_never_created_again(
    store: ImageStore, tmp_path: Path
) -> None:
    """Its metadata goes first: one such reading alone says nothing."""
    raw = config("a")
    whole = SourceImage(id_of(raw), raw, None, 5, True)
    bare = SourceImage(id_of(raw), raw)
    other = SourceImage(id_of(config("b")), config("b"))
    readings = [Findings([whole, other], []), Findings([bare, other], []), Findings([other], [])]
    run_through(store, Scripted(tmp_path, readings))
    kinds = [type(one.event).__name__ for one in store.records(id_of(raw))]
    assert kinds == ["Created", "LastUpdatedSet", "MarkedBuilt", "Deleted"]


def test_an_image_that_was_removed_and_came_back_is_created_again(
    store: ImageStore, tmp_path: Path
) -> None:
    """What two readings say is so."""
    raw = config("a")
    whole, bare = SourceImage(id_of(raw), raw, None, 5, True), SourceImage(id_of(raw), raw)
    run_through(store, Scripted(tmp_path, [Findings([whole], [])] + 2 * [Findings([bare], [])]))
    kinds = [type(one.event).__name__ for one in store.records(id_of(raw))]
    assert kinds == ["Created", "LastUpdatedSet", "MarkedBuilt", "Deleted", "Created"]


def test_a_child_keeps_its_parent_when_that_is_created_again(
    store: ImageStore, tmp_path: Path
) -> None:
    """In the log the child has lost it, though nothing has changed about the child."""
    raw, below = config("a"), config("b")
    whole, bare = SourceImage(id_of(raw), raw, None, 5, True), SourceImage(id_of(raw), raw)
    child = SourceImage(id_of(below), below, id_of(raw))
    readings = [[whole, child], [bare, child], [bare, child]]
    run_through(store, Scripted(tmp_path, [Findings(one, []) for one in readings]))
    assert store.get_last_updated(id_of(raw)) is None
    assert store.get_parent(id_of(below)) == id_of(raw)


def test_what_is_remembered_is_what_a_new_reading_finds(root: Path) -> None:
    """Whatever was changed between two readings, in place or by renaming, and of each kind."""
    writer = DockerWriter(root)
    images = [writer.create(f"image {number}", built=number % 2 == 0) for number in range(6)]
    writer.tag("app", "1", images[0], "2026-01-02T03:04:05Z")
    database = DockerImageDB.find(root)
    remembered = Remembered()

    def note(image: str, key: str, value: bytes) -> None:
        (writer.metadata / image[7:]).mkdir(exist_ok=True)
        (writer.metadata / image[7:] / key).write_bytes(value)

    layerdb = root / "image" / "overlay2" / "layerdb" / "sha256"
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: writer.create("new", images[1]),
        lambda: note(images[1], "parent", images[2].encode()),
        lambda: note(images[1], "parent", images[3].encode()),
        (writer.metadata / images[1][7:] / "parent").unlink,
        lambda: note(images[2], "lastUpdated", b"2026-01-02T03:04:05Z"),
        lambda: note(images[2], "lastUpdated", b"2026-01-02T03:04:06Z"),
        lambda: note(images[4], "builtLocally", b"\x00"),
        lambda: writer.tag("app", "2", images[2], "2026-01-02T03:04:07Z"),
        lambda: writer.untag("app", "1"),
        lambda: (writer.content / images[3][7:]).write_bytes(b"damaged"),
        lambda: writer.repositories.write_bytes(b"{"),
        lambda: writer.delete(images[0]),
        lambda: layerdb.mkdir(parents=True),
        lambda: (writer.content / id_of(LAYERED)[7:]).write_bytes(LAYERED),
        lambda: make_layer(layerdb),
        lambda: os.rename(layerdb / LAYER, layerdb / "gone"),
        lambda: os.rename(layerdb / "gone", layerdb / LAYER),
    ]
    for number, step in enumerate(steps):
        step()
        for pause in (0.0, 0.08):  # before and after what is there may be remembered
            time.sleep(pause)
            found = database.read(operating_system="linux", remembered=remembered)
            assert found == database.read(operating_system="linux"), number


LAYERED = config("layered", layers=1)
LAYER = json.loads(LAYERED)["rootfs"]["diff_ids"][0][7:]


def make_layer(layerdb: Path) -> None:
    """Put the layer of `LAYERED` into a layerdb as Docker does."""
    folder = layerdb.parent / "tmp"
    folder.mkdir()
    for name, text in (("diff", f"sha256:{LAYER}"), ("size", "1"), ("cache-id", "x")):
        (folder / name).write_text(text)
    folder.rename(layerdb / LAYER)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_each_sync_is_a_line(
    tmp_path: Path, root: Path, number: signal.Signals
) -> None:
    """`--json` prints one object a sync, flushed; nothing is said of being stopped."""
    path = tmp_path / "store"
    writer = DockerWriter(root)
    with process(path, root, "--json") as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["images"] == 1
        image = writer.create("second")
        told = json.loads(child.stdout.readline())
        assert told["created"] == [image]
        assert (told["after"], told["position"]) == (1, 2)
        child.send_signal(number)
        rest, complaint = child.communicate(timeout=10)
        assert (rest, complaint, child.returncode) == ("", "", 0)
    with ImageStore.open(path, create=False) as store:
        assert list(store.verify()) == []


def test_a_store_that_was_moved_ends_it(tmp_path: Path, root: Path) -> None:
    """A service manager can start it again; to try for ever would record nothing."""
    path = tmp_path / "store"
    with process(path, root) as child:
        assert child.stdout is not None
        child.stdout.readline()
        path.rename(tmp_path / "moved")
        DockerWriter(root).create("second")
        _, complaint = child.communicate(timeout=10)
    assert child.returncode == 3
    assert len(complaint.splitlines()) == 1
    assert "removed, moved or replaced" in complaint


def test_what_cannot_be_followed_is_refused_at_the_start(tmp_path: Path, root: Path) -> None:
    """A typo must not wait for ever; nor does it go with --dry-run."""
    for arguments, code in (([tmp_path / "none"], 3), ([root, "--dry-run"], 2)):
        command = [*COMMAND, "-s", tmp_path / "store", "sync", "--watch", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_a_system_that_follows_no_more_folders_is_told_of(tmp_path: Path, root: Path) -> None:
    """At the start, in one line; to go on would record some changes a minute late."""
    writer = DockerWriter(root)
    for number in range(20):
        writer.create(f"image {number}", built=True)
    limited = "echo 9 > /proc/sys/user/max_inotify_watches && exec "
    watch_it = shlex.join([*COMMAND, "-s", str(tmp_path / "store"), "sync", "--watch", str(root)])
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run(
        [*unshare, f"{limited} true"], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("no user namespace")
    done = subprocess.run(
        [*unshare, limited + watch_it],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    assert done.returncode == 3
    assert "fs.inotify.max_user_watches" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_may_not_be_followed_is_passed_by(
    store: ImageStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be listed stops nothing but its own changes."""
    real, refused = watchfiles.watch, []

    def denied(*paths: str, **options: Any) -> Iterator[Any]:
        if not options["ignore_permission_denied"]:
            refused.append(paths)
            raise PermissionError(errno.EACCES, "Permission denied")
        yield from real(*paths, **options)

    monkeypatch.setattr(watchfiles, "watch", denied)
    with watched(store, root):
        image = DockerWriter(root).create("second")
        until(lambda: image in store, 2)
    assert len(refused) == 1


def test_without_the_extra_it_says_what_to_install(
    store: ImageStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is changed."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(StoreUsageError, match=r"image-eventstore\[watch\]"):
        next(watch(store, WatchedImageDB(root)))
    assert store.position == 0


def test_a_first_sync_that_fails_is_the_callers(store: ImageStore, root: Path) -> None:
    """Only what goes wrong later is tried again."""
    source = WatchedImageDB(root)
    root.rename(root.with_name("away"))
    with pytest.raises(SourceError):
        next(watch(store, source))


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--changes", "1000"], ["--changes", "40", "--paced"]])
def test_every_change_is_recorded_in_order_and_none_twice(options: list[str]) -> None:
    """A thousand changes as a daemon makes them, at random moments; see the tool."""
    done = subprocess.run(
        [sys.executable, str(TOOLS / "watching.py"), *options, "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("weakening", ["no-watch", "stale"])
def test_a_watch_that_misses_changes_is_found_out(weakening: str) -> None:
    """The tool can fail."""
    done = subprocess.run(
        [sys.executable, str(TOOLS / "watching.py"), "--changes", "200", "--weaken", weakening],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": PACKAGE},
    )
    assert done.returncode == 1, done.stdout + done.stderr
