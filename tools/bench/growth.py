"""Create in the view of very many images against one of few: no cost may grow with their number.

Floor: raw LMDB, which writes the same bytes into copies of the same two stores; its trees are
deeper too. Blocks of creates take turns in all four. "In a transaction" is the work before the
commit alone, so that the disk hides nothing. Not growing is read as: the ratio, large to small, is
at most 1.2.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import durable
import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Settings

BLOCK = 20
IN_TRANSACTION = 200
STATED = 1_000_000


class Sides:
    """A small and a large store, and raw LMDB on a copy of each."""

    def __init__(self, settings: Settings, folder: Path, images: dict[str, int]) -> None:
        """Copy the stores and open the copies; time the first create of each."""
        self.stores: dict[str, ImageStore] = {}
        self.raw: dict[str, floors.RawLMDB] = {}
        self.first: dict[str, float] = {}
        self.number = 10**8
        for name, count in images.items():
            source = histories.store_of(settings, count)
            copy = histories.copy(source, folder / name)
            self.stores[name] = ImageStore.open(copy, actor="bench@host")
            self.raw[name] = floors.RawLMDB(histories.copy(source, folder / f"{name}-raw"))
            config = self.configs(1)[0]
            start = time.perf_counter()
            self.stores[name].create(config)
            self.first[name] = time.perf_counter() - start
            for puts in floors.puts_of(self.stores[name], self.stores[name].position - 1):
                self.raw[name].write(puts)

    def configs(self, count: int) -> list[bytes]:
        """Return configs that nobody has seen yet."""
        self.number += count
        return [histories.small_config(self.number - at) for at in range(count)]

    def take(self, blocks: int) -> Iterator[tuple[str, float]]:
        """Create in blocks everywhere, then in a transaction; yield what each took."""
        for _ in range(blocks):
            for name, store in self.stores.items():
                configs, after = self.configs(BLOCK), store.position
                yield name, clocked_creates(store, configs)
                puts = floors.puts_of(store, after)
                start = time.perf_counter()
                for each in puts:
                    self.raw[name].write(each)
                yield f"{name}, LMDB", time.perf_counter() - start
        for name, store in self.stores.items():
            configs, after = self.configs(IN_TRANSACTION), store.position
            with store.transaction(reason="bench"):
                yield f"{name}, in a transaction", clocked_creates(store, configs)
            for each in floors.puts_of(store, after):
                self.raw[name].write(each)

    def close(self) -> None:
        """Close all of them."""
        for name, store in self.stores.items():
            store.close()
            self.raw[name].close()


def clocked_creates(store: ImageStore, configs: list[bytes]) -> float:
    """Create images; return what that took. A collection of garbage would take its own time."""
    start = time.perf_counter()
    for config in configs:
        store.create(config)
    return time.perf_counter() - start


def measure(settings: Settings) -> Result:
    """Measure both sizes and their floors, turn by turn."""
    few, many = 1_000, settings.pick(10_000, STATED)
    blocks = settings.pick(2, 8)
    result = Result("create in the view of many images")
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        sides = Sides(settings, Path(folder), {"few": few, "many": many})
        seconds = durable.summed(settings.takes, lambda: sides.take(blocks))
        sides.close()
    bound = Bound("≤", 1.2, of_ratio=True, stated_here=many == STATED)
    count = blocks * BLOCK
    lines = (
        ("one by one", "", count, bound),
        ("raw LMDB, the same bytes", ", LMDB", count, None),
        ("in a transaction", ", in a transaction", IN_TRANSACTION, bound),
    )
    result.rows = [
        runner.cost(
            f"{what}: {many:,} images",
            seconds[f"many{suffix}"],
            count=done,
            unit="µs",
            beside=(f"{few:,} images", seconds[f"few{suffix}"]),
            bound=limit,
        )
        for what, suffix, done, limit in lines
    ]
    first = {name: spent * 1e3 for name, spent in sides.first.items()}
    result.notes.append(
        f"the first create after open took {first['many']:.2f} ms at {many:,} images,"
        f" {first['few']:.2f} ms at {few:,} (once, not in the table)"
    )
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
