"""Be told how far a long work is, and give it up half way: nothing half done may stay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docker_data import unpack
from eventstore import (
    ImageStore,
    Progress,
    check_store,
    export_records,
    import_records,
    restore,
    salvage,
)
from eventstore.adding import add
from eventstore.audit import audit
from eventstore.image_export import export_images
from eventstore.notes import LogCheckpoint
from eventstore.page.history import gather
from eventstore.progress import counted
from eventstore.signing import origin_of
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.found import Findings
from eventstore.sync import sync
from making import config

IMAGES = 60
Work = Callable[[Path, Path, Progress | None], object]


class GivenUpError(Exception):
    """Raised by whoever has seen enough."""


class Heard:
    """Takes note of all that it is told, and gives up after some steps."""

    def __init__(self, give_up_at: int | None = None) -> None:
        self.told: list[tuple[int, int | None]] = []
        self._give_up_at = give_up_at

    def __call__(self, done: int, total: int | None, /) -> None:
        self.told.append((done, total))
        if done == self._give_up_at:
            raise GivenUpError


def findings(folder: Path) -> Findings:
    """Return what a real database holds."""
    return DockerImageDB.find(folder / "host-a-1").read()


def _sync(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path) as store:
        found = findings(path.parent)
        sync(store, found.images, allow_mass_delete=True, progress=progress)


def _add(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path) as store:
        add(store, findings(path.parent), progress=progress)


def _verify(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path, read_only=True) as store:
        assert list(store.verify(progress=progress)) == []


def _audit(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path, read_only=True) as store:
        known = LogCheckpoint(origin_of(store.store_id), store.checkpoint(IMAGES))
    audit(path, known, progress=progress)


def _export(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path, read_only=True) as store:
        export_records(store, new, progress=progress)


def _export_images(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path, read_only=True) as store:
        export_images(store, new, form="docker-imagedb", progress=progress)


def _report(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path, read_only=True) as store:
        gather(store, title="a store", progress=progress)


def _compact(path: Path, new: Path, progress: Progress | None) -> None:
    with ImageStore.open(path) as store:
        store.compact(position=2 * IMAGES, progress=progress)


def _import(path: Path, new: Path, progress: Progress | None) -> None:
    _export(path, path.parent / "exported", None)
    import_records(path.parent / "exported", new, progress=progress)


TWICE = {"sync", "import", "restore"}
WORKS: dict[str, tuple[Work, int]] = {
    "sync": (_sync, 94),
    "add": (_add, 94),
    "verify": (_verify, 2 * IMAGES),
    "check_store": (lambda path, _, progress: list(check_store(path, progress=progress)), 120),
    "audit": (_audit, 2 * IMAGES),
    "export": (_export, 2 * IMAGES),
    "export_images": (_export_images, IMAGES // 2),
    "import": (_import, 2 * IMAGES),
    "restore": (lambda path, new, progress: restore(path, new, progress=progress), 2 * IMAGES),
    "salvage": (lambda path, new, progress: salvage(path, new, progress=progress), 2 * IMAGES),
    "report": (_report, 2 * IMAGES),
    "compact": (_compact, 2 * IMAGES),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store with some history, beside a real database."""
    unpack("host-a-1", tmp_path)
    with ImageStore.open(tmp_path / "store") as store:
        ids = [store.create(config(str(number))) for number in range(IMAGES)]
        for image_id in ids[::2]:
            store.set_last_updated(image_id)
            store.delete(image_id)
    return tmp_path / "store"


def state(path: Path) -> tuple[int, set[str]]:
    """Return where a store is, and what it holds."""
    with ImageStore.open(path, read_only=True) as store:
        assert list(store.verify()) == []
        return store.position, set(store)


@pytest.mark.parametrize("name", WORKS)
def test_every_step_is_told_up_to_the_last(path: Path, name: str) -> None:
    """Counts go up by steps that are known, from 0 to all; a second passage begins again."""
    work, steps = WORKS[name]
    heard = Heard()
    work(path, path.parent / "new", heard)
    assert heard.told.count((steps, steps)) == 1 + (name in TWICE)
    for (before, total), (done, total_now) in zip(heard.told, heard.told[1:], strict=False):
        assert done > before or (done, before) == (0, total)
        assert total_now is not None
        assert done <= total_now


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("steps", [0, 7])
def test_who_gives_up_leaves_nothing_half_done(path: Path, name: str, steps: int) -> None:
    """The store is what it was, and where something new was to be, there is nothing."""
    work, _ = WORKS[name]
    if name == "compact":
        steps = 2 * IMAGES
    before = state(path)
    with pytest.raises(GivenUpError):
        work(path, path.parent / "new", Heard(steps))
    if name == "compact":
        with ImageStore.open(path) as store:
            assert store.horizon.unfinished
            store.compact(position=2 * IMAGES)  # goes on, as after a kill
        assert state(path) == (before[0] + 1, before[1])
    else:
        assert state(path) == before
    assert not [one for one in os.listdir(path.parent) if "new" in one or "unfinished" in one]


def test_without_anybody_to_tell_the_steps_are_the_same_object() -> None:
    """Not even a loop is added."""
    steps: Iterator[Any] = iter(())
    assert counted(steps, None, 3) is steps


def test_a_source_tells_of_configs_and_then_of_metadata(path: Path) -> None:
    """Each from 0 to all; giving up is no error of the source."""
    heard = Heard()
    database = DockerImageDB.find(path.parent / "host-a-1")
    database.read(progress=heard)
    assert heard.told.count((0, 94)) == 2
    assert heard.told.count((94, 94)) == 2
    with pytest.raises(GivenUpError):
        database.read(progress=Heard(9))
