"""Read the present of a store of 100,000 images: get, parents, marks, prefixes, heads.

Ids are drawn at random once for all takes. Floors: LMDB's get of the config as it is, not packed,
one SHA-256 and msgspec's decode of the JSON; a look-up in a dict of texts; a bisection in one
sorted list. Heads are asked for warm, and as the first question to a store that has just been
opened. That heads decode no config is shown on a store from which all configs have been taken.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from bisect import bisect_left
from itertools import chain
from pathlib import Path

import lmdb
import msgspec

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings, Took, Work

STATED = 100_000
DIGITS = 12
DOCKER_SEARCHES = 1_300_000


def floors_of(store: ImageStore, ids: list[str], raw: floors.RawLMDB) -> dict[str, Work]:
    """Return the floors of the look-ups; all configs of the store are put into `raw` for them."""
    keys = [bytes.fromhex(image_id[7:]) for image_id in ids]
    puts = chain.from_iterable(floors.puts_of(store, 0))
    raw.write({put[1]: put for put in puts if put[0] == "configs"}.values())
    handle = raw.handles["configs"]
    known = {image_id: store.get_parent(image_id) for image_id in store}
    ordered = sorted(known)
    terms = [image_id[7 : 7 + DIGITS] for image_id in ids]

    def get() -> None:
        with raw.env.begin() as txn:
            for key in keys:
                value = (txn.get(key, db=handle) or b"")[1:]
                hashlib.sha256(value).digest()
                msgspec.json.decode(value)

    def bisect() -> None:
        for term in terms:
            ordered[bisect_left(ordered, "sha256:" + term)]

    return {
        "get, SHA-256, decode": get,
        "look-up in a dict": lambda: [known[image_id] for image_id in ids],
        "bisection": bisect,
    }


def ours_of(store: ImageStore, ids: list[str]) -> dict[str, Work]:
    """Return our reads."""
    terms = [image_id[7 : 7 + DIGITS] for image_id in ids]
    return {
        "get": lambda: [store.get(image_id) for image_id in ids],
        "get_parent": lambda: [store.get_parent(image_id) for image_id in ids],
        "is_built_locally": lambda: [store.is_built_locally(image_id) for image_id in ids],
        "search": lambda: [store.search(term) for term in terms],
        "heads": lambda: list(store.heads()),
    }


def first_heads(path: Path) -> Took:
    """Open a store and time its heads as the first question."""
    with ImageStore.open(path, read_only=True) as store:
        start = time.perf_counter()
        found = list(store.heads())
        end = time.perf_counter()
    assert found
    return Took(end - start)


def heads_without_configs(settings: Settings, folder: Path) -> str:
    """Take all configs from a copy of a store, and ask it for its heads."""
    path = histories.copy(histories.store_of(settings, 1_000), folder / "bare")
    with lmdb.open(str(path), map_size=1 << 36, max_dbs=16) as env:
        configs = env.open_db(b"configs", create=False)
        with env.begin(write=True) as txn:
            txn.drop(configs, delete=False)
    with ImageStore.open(path, read_only=True) as store:
        heads = len(list(store.heads()))
    return f"with no config left in a store of 1,000 images, its {heads:,} heads were listed"


def measure(settings: Settings) -> Result:
    """Measure all reads and their floors, turn by turn."""
    images, count = settings.pick((10_000, 2_000), (STATED, 20_000))
    result = Result(f"reads, {images:,} images")
    path = histories.store_of(settings, images)
    choose = random.Random(images)
    with (
        ImageStore.open(path, read_only=True) as store,
        tempfile.TemporaryDirectory(dir=settings.cache) as folder,
    ):
        ids = choose.choices(list(store), k=count)
        raw = floors.RawLMDB(Path(folder) / "lmdb")
        works = {**ours_of(store, ids), **floors_of(store, ids, raw)}
        seconds = runner.take(works, settings.takes)
        raw.close()
    seconds |= runner.take({"first heads": lambda: first_heads(path)}, settings.takes)
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        result.notes.append(heads_without_configs(settings, Path(folder)))
    result.rows = rows_of(seconds, count, stated=images == STATED)
    return result


def rows_of(seconds: dict[str, list[float]], count: int, *, stated: bool) -> list[Row]:
    """Return the lines of the table."""
    beside = {
        "get": ("get, SHA-256, decode", 60_000),
        "get_parent": ("look-up in a dict", 500_000),
        "is_built_locally": ("look-up in a dict", 500_000),
        "search": ("bisection", 400_000),
    }
    found = [
        runner.rate(
            f"{name} by {DIGITS} digits" if name == "search" else name,
            seconds[name],
            count=count,
            beside=(floor, seconds[floor]),
            bound=Bound("≥", limit, stated_here=stated),
        )
        for name, (floor, limit) in beside.items()
    ]
    docker = [count / DOCKER_SEARCHES] * len(seconds["search"])
    found.append(
        runner.rate(
            "search against Docker (10,000 images)",
            seconds["search"],
            count=count,
            beside=("Docker, measured apart", docker),
            bound=Bound("≥", 1, of_ratio=True, stated_here=stated, stretch=True),
        )
    )
    for name, what in (("heads", "warm"), ("first heads", "first question after open")):
        bound = Bound("<", 20, stated_here=stated)
        found.append(runner.cost(f"heads, ids only, {what}", seconds[name], bound=bound))
    return found


if __name__ == "__main__":
    runner.main(measure, __doc__)
