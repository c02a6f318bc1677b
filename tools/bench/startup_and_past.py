"""Open a large store, replay its tail, look at its past, read one image's history.

References: decoding the very rows of the newest snapshot with msgspec, which no open can beat; and
for orientation the 95 µs an image that Docker's store takes to open (measured apart, warm cache).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import msgspec

import histories
import runner
from eventstore import ImageStore, snapshots
from eventstore.snapshots import SnapshotInfo
from eventstore.view import State

DOCKER_MICROSECONDS_AN_IMAGE = 95


def worst_position(store: ImageStore) -> tuple[int, int]:
    """Return the position that is farthest behind a snapshot, and how far it is."""
    known = [0, *(found.position for found in store.snapshots())]
    ends = [*(position - 1 for position in known[1:]), store.position]
    return max(
        ((end, end - start) for start, end in zip(known, ends, strict=True)),
        key=lambda pair: pair[1],
    )


def append_tail(path: Path, records: int) -> None:
    """Append records without letting the policy take a snapshot."""
    with ImageStore.open(path, actor="bench@host") as store:
        image_id = next(iter(store))
        with store.transaction(reason="tail"):
            for number in range(records):
                store.set_last_updated(image_id, number)


def open_once(path: Path) -> int:
    """Open a store and close it again."""
    with ImageStore.open(path, read_only=True) as store:
        return len(store)


def without_snapshots(path: Path) -> Path:
    """Return a copy of a store whose snapshots are all dropped."""
    copy = path.with_name("without-snapshots")
    shutil.copytree(path, copy)
    with ImageStore.open(copy) as store:
        for found in store.snapshots():
            snapshots.drop(store._environment, found.position)
    return copy


def measure(folder: Path, images: int, takes: int, *, as_json: bool) -> None:
    """Build the stores and print the figures."""
    path = folder / "store"
    ids = histories.fill(path, images)
    with ImageStore.open(path) as store:
        taken: SnapshotInfo = store.take_snapshot()
        rows = msgspec.msgpack.encode(dict(store.as_of(position=store.position).rows()))
        records = store.position
    decoder = msgspec.msgpack.Decoder(dict[bytes, State])
    tailed = path.with_name("tailed")
    shutil.copytree(path, tailed)
    tail = snapshots.interval(images) - 1
    append_tail(tailed, tail)
    bare = without_snapshots(path)
    opened = path.with_name("opened")
    shutil.copytree(path, opened)
    long_lived = path.with_name("long-lived")
    shutil.copytree(path, long_lived)
    append_tail(long_lived, 1_000)
    with ImageStore.open(path) as store, ImageStore.open(long_lived) as deep:
        worst, behind = worst_position(store)
        deepest = next(iter(deep))
        stream = len(list(deep.records(deepest)))
        short = len(list(store.records(ids[images // 2])))
        floor = "msgspec decodes the rows"
        cases = [
            (floor, lambda: decoder.decode(rows), images, "image", None),
            ("open, no tail", lambda: open_once(opened), images, "image", floor),
            (f"open, tail of {tail:,}", lambda: open_once(tailed), images, "image", floor),
            (
                f"open, no snapshot, {records:,} records",
                lambda: open_once(bare),
                records,
                "record",
                None,
            ),
            (
                f"as-of, worst: {behind:,} behind a snapshot",
                lambda: store.as_of(position=worst),
                behind,
                "record read",
                None,
            ),
            ("as-of, first record", lambda: store.as_of(position=1), 1, "look", None),
            (
                f"history of one image, {stream:,} records",
                lambda: list(deep.records(deepest)),
                stream,
                "record",
                None,
            ),
            (
                f"history of one image, {short} records",
                lambda: list(store.records(ids[images // 2])),
                short,
                "record",
                None,
            ),
        ]
        figures = runner.take(cases, takes)
    title = f"{images:,} images, {records:,} records, {len(rows) / 1e6:.1f} MB of rows"
    runner.report(title, figures, as_json=as_json)
    each = figures[1].median / images * 1e6
    if not as_json:
        print(
            f"  opening costs {each:.2f} µs an image; Docker's store"
            f" {DOCKER_MICROSECONDS_AN_IMAGE}: {DOCKER_MICROSECONDS_AN_IMAGE / each:.0f} times"
        )
        print(f"  snapshot at @{taken.position}; peak memory {runner.peak_memory() / 1e6:.0f} MB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--takes", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as folder:
        measure(Path(folder), options.images, options.takes, as_json=options.json)


if __name__ == "__main__":
    main()
