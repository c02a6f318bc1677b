"""Make stores with long, realistic histories, the same every time, and keep them for all subjects.

A history is a host that lives: images are created in transactions of 1,000, half of them get a
parent, a fifth a last update, and all along one in ten is deleted again. There are about two
records for each image that is left. One image, the watched one, has exactly ten records, evenly
spread over the whole log.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

import eventstore
from eventstore import ImageStore, snapshots
from runner import Settings

BATCH_LENGTH = 1_000
WATCHED_RECORDS = 10
_LABELS = "a label that somebody found useful, and that nobody has ever read since then; "


def config(number: int) -> bytes:
    """Return an image config of the size that a daemon writes, about 1.4 kB."""
    diff_ids = [
        "sha256:" + hashlib.sha256(f"{number // 10} {layer}".encode()).hexdigest()
        for layer in range(4)
    ]
    value = {
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh", "-c", f"serve --number {number}"],
            "Labels": {"org.opencontainers.image.version": str(number)},
        },
        "created": "2026-01-02T03:04:05.123456789Z",
        "docker_version": "20.10.24",
        "history": [
            {"created": "2026-01-02T03:04:05Z", "created_by": f"/bin/sh -c #(nop) RUN step {step}"}
            for step in range(4)
        ],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(value, separators=(",", ":")).encode()


def small_config(number: int) -> bytes:
    """Return a valid config of 300 to 1,500 bytes, for stores of very many images."""
    layer = hashlib.sha256(str(number // 10).encode()).hexdigest()
    labels = _LABELS * (number % 16)
    return (
        b'{"architecture":"amd64","config":{"Cmd":["/bin/sh","-c","serve --number %d"],'
        b'"Labels":{"note":"%s"}},"created":"2026-01-02T03:04:05.123456789Z","os":"linux",'
        b'"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}'
        % (number, labels.encode(), layer.encode())
    )


def watched() -> str:
    """Return the id of the image that has ten records in every history."""
    return "sha256:" + hashlib.sha256(small_config(0)).hexdigest()


def fill(path: Path, images: int, *, records: int | None = None) -> None:
    """Make a store whose log leaves `images` images, and take a snapshot at its end.

    Args:
        path: where.
        images: how many are left in the end.
        records: how long the log shall be, by more last updates if need be; as it comes if None.
    """
    total = images + images // 9
    choose = random.Random(images)
    living: list[str] = []
    deleted = 0
    with ImageStore.open(path, actor="bench@host") as store:
        for numbers in _batches(total):
            with store.transaction(reason="bench"):
                for number in numbers:
                    _live(store, choose, living, number, total)
                doomed = numbers.stop * (total - images) // total
                while deleted < doomed:
                    store.delete(_take_out(choose, living))
                    deleted += 1
        while records is not None and store.position < records:
            with store.transaction(reason="bench"):
                for _ in range(min(BATCH_LENGTH, records - store.position)):
                    store.set_last_updated(choose.choice(living))
        store.take_snapshot()


def _live(
    store: ImageStore, choose: random.Random, living: list[str], number: int, total: int
) -> None:
    """Let the host do what it does for one image."""
    image_id = store.create(small_config(number))
    if number % 2 and living:
        store.set_parent(image_id, choose.choice(living[-50:]))
    if number % 5 == 1:
        store.set_last_updated(image_id)
    if number == 0:
        return  # the watched one is neither chosen as a parent nor deleted
    living.append(image_id)
    step = max(total // WATCHED_RECORDS, 1)
    if number % step == 0 and number // step < WATCHED_RECORDS:
        store.set_last_updated(watched(), number)


def _take_out(choose: random.Random, living: list[str]) -> str:
    """Take an image out of a list at random, at a cost that does not depend on its length."""
    at = choose.randrange(len(living))
    living[at], living[-1] = living[-1], living[at]
    return living.pop()


def lengthen(path: Path, records: int) -> None:
    """Go on with a history until its log has `records` records, and take a snapshot."""
    choose = random.Random(records)
    with ImageStore.open(path, actor="bench@host") as store:
        living = [image_id for image_id in store if image_id != watched()]
        while store.position < records:
            with store.transaction(reason="bench"):
                for number in range(min(BATCH_LENGTH, records - store.position)):
                    image_id = choose.choice(living)
                    if number % 10:
                        store.set_last_updated(image_id)
                    else:
                        store.set_parent(image_id, None)
        store.take_snapshot()


def append_tail(path: Path) -> int:
    """Append as many records as the policy leaves without a snapshot, and return their number."""
    with ImageStore.open(path, actor="bench@host") as store:
        image_id = next(image_id for image_id in store if image_id != watched())
        newest = max((found.position for found in store.snapshots()), default=0)
        records = snapshots.interval(len(store)) - 1 - (store.position - newest)
        with store.transaction(reason="tail"):
            for number in range(records):
                store.set_last_updated(image_id, number)
    return records


def drop_snapshots(path: Path) -> None:
    """Empty the database of snapshots, by LMDB's own means."""
    with lmdb.open(str(path), map_size=1 << 36, max_dbs=16) as env:
        found = env.open_db(b"snapshots", create=False)
        with env.begin(write=True) as txn:
            txn.drop(found, delete=False)


# What is kept between subjects.


def store_of(settings: Settings, images: int) -> Path:
    """Return a store of so many images, a snapshot at its end. It must not be written to."""
    return kept(settings, f"images-{images}", lambda path: fill(path, images))


def log_of(settings: Settings, records: int) -> Path:
    """Return a store whose log has so many records. It must not be written to."""
    if records > 2_000_000:
        return kept(settings, f"records-{records}", lambda path: _long(settings, path, records))
    images = max(records * 100 // 205, 10)
    return kept(settings, f"records-{records}", lambda path: fill(path, images, records=records))


def _long(settings: Settings, path: Path, records: int) -> None:
    """Make a log of millions of records out of the store of a million images."""
    copy(store_of(settings, 1_000_000), path)
    lengthen(path, records)


def tailed(settings: Settings, images: int) -> Path:
    """Return a store of so many images with the longest tail that the policy leaves."""

    def make(path: Path) -> None:
        copy(store_of(settings, images), path)
        append_tail(path)

    return kept(settings, f"tailed-{images}", make)


def kept(settings: Settings, name: str, make: Callable[[Path], None]) -> Path:
    """Return what is in the cache under a name, and make it if it is not there."""
    path = settings.cache / name
    said = settings.cache / f"{name}.json"
    if not said.exists():
        shutil.rmtree(path, ignore_errors=True)
        start = time.perf_counter()
        make(path)
        spent = time.perf_counter() - start
        said.write_text(json.dumps({"seconds": spent, "package": package_digest()}))
        print(f"made {name} in {spent:.1f} s, {size(path) / 1e6:,.0f} MB", file=sys.stderr)
    return path


def made(settings: Settings) -> list[str]:
    """Return what there is to say of the stores in the cache: how long making them took."""
    notes = []
    for said in sorted(settings.cache.glob("*.json")):
        found = json.loads(said.read_text())
        older = "" if found["package"] == package_digest() else ", by another state of the package"
        notes.append(
            f"{said.stem}: made in {found['seconds']:.1f} s{older},"
            f" {size(said.with_suffix('')) / 1e6:,.0f} MB"
        )
    return notes


def package_digest() -> str:
    """Return a digest of the package's source, to tell stores that other code has made."""
    assert eventstore.__file__ is not None
    hasher = hashlib.sha256()
    for source in sorted(Path(eventstore.__file__).parent.rglob("*.py")):
        hasher.update(source.read_bytes())
    return hasher.hexdigest()


def size(path: Path) -> int:
    """Return the bytes that a folder takes on disk."""
    return sum(found.stat().st_blocks * 512 for found in path.rglob("*"))


def copy(source: Path, destination: Path) -> Path:
    """Copy a store that nobody has open, without what is only memory of its readers."""
    destination.mkdir(parents=True)
    shutil.copyfile(source / "data.mdb", destination / "data.mdb")
    return destination


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH_LENGTH):
        yield range(start, min(start + BATCH_LENGTH, count))
