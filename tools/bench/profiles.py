"""Show where the time goes in create, open and get: cProfile, the costliest own time first.

    tools/bench/profiles.py [WORK …] [--images N] [--lines 12] [--cache DIR]

The profiler's own cost falls on every call of a Python function, so short functions look dearer
than they are: what counts is the order, and what runs how often. Nothing here is a bound.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import histories
import runner
from eventstore import ImageStore
from runner import Settings

CREATES, GETS = 1_000, 5_000


@contextmanager
def empty_store(settings: Settings) -> Iterator[ImageStore]:
    """Open a new store for the length of a block."""
    with (
        tempfile.TemporaryDirectory(dir=settings.cache) as folder,
        ImageStore.open(Path(folder) / "store", actor="bench@host") as store,
    ):
        yield store


def create_one_by_one(settings: Settings, images: int, profile: cProfile.Profile) -> str:
    """Create images, each durable before the next."""
    count = CREATES // 5
    with empty_store(settings) as store:
        configs = [histories.config(number) for number in range(count)]
        profile.runcall(lambda: [store.create(config) for config in configs])
    return f"{count:,} durable creates, one by one"


def create_together(settings: Settings, images: int, profile: cProfile.Profile) -> str:
    """Create images in one transaction."""
    with empty_store(settings) as store:
        configs = [histories.config(number) for number in range(CREATES)]

        def work() -> None:
            with store.transaction(reason="bench"):
                for config in configs:
                    store.create(config)

        profile.runcall(work)
    return f"{CREATES:,} creates in one transaction"


def open_store(settings: Settings, images: int, profile: cProfile.Profile) -> str:
    """Open a store whose snapshot lies at the end of its log."""
    path = histories.store_of(settings, images)
    store = profile.runcall(ImageStore.open, path, read_only=True)
    store.close()
    return f"open, {images:,} images, no tail"


def open_tailed(settings: Settings, images: int, profile: cProfile.Profile) -> str:
    """Open a store with the longest tail that the policy leaves."""
    path = histories.tailed(settings, images)
    store = profile.runcall(ImageStore.open, path, read_only=True)
    store.close()
    return f"open, {images:,} images, longest tail"


def get(settings: Settings, images: int, profile: cProfile.Profile) -> str:
    """Get images at random."""
    with ImageStore.open(histories.store_of(settings, images), read_only=True) as store:
        ids = random.Random(images).choices(list(store), k=GETS)
        profile.runcall(lambda: [store.get(image_id) for image_id in ids])
    return f"{GETS:,} gets at random, {images:,} images"


WORKS: dict[str, Callable[[Settings, int, cProfile.Profile], str]] = {
    "create": create_one_by_one,
    "transaction": create_together,
    "open": open_store,
    "tail": open_tailed,
    "get": get,
}


def lines_of(profile: cProfile.Profile, count: int) -> Iterator[str]:
    """Iterate over the costliest lines: calls, own milliseconds, all milliseconds, where."""
    # The type of what pstats has gathered is not part of its stubs.
    gathered = vars(pstats.Stats(profile))["stats"]
    total = sum(own for _, _, own, _, _ in gathered.values())
    costliest = sorted(gathered.items(), key=lambda item: item[1][2], reverse=True)
    for (file, line, name), (_, calls, own, whole, _) in costliest[:count]:
        where = name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        yield (
            f"{calls:>10,} calls{own * 1e3:>10.1f} ms own {own / total:>4.0%}"
            f"{whole * 1e3:>10.1f} ms in all  {where}"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=12)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    unknown = [work for work in options.works if work not in WORKS]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    print(runner.machine())
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as folder:
        settings = Settings("small", 1, Path(options.cache or folder))
        settings.cache.mkdir(parents=True, exist_ok=True)
        for work in options.works or WORKS:
            profile = cProfile.Profile()
            title = WORKS[work](settings, options.images, profile)
            print(f"\n{title}")
            print("\n".join(lines_of(profile, options.lines)))


if __name__ == "__main__":
    main()
