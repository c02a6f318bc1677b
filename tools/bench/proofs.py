"""Prove what a long log holds, and see what that costs those who only append.

Floor of a proof: hashing as many records as a proof may read, 511, and the nodes over them. What
the append path pays is shown by the same appends without the one call that stores hashes, turn by
turn in twin stores: creates in transactions of 1,000, one by one with nothing else to do, and the
shortest records there are. Every proof is checked, at one million records by `tlog-scales` too.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import durable
import histories
import runner
from eventstore import ImageStore, hashes, merkle
from runner import Bound, Result, Settings, Took

PROOFS = 20
BATCH = 1_000
SINGLES = 512


def proofs(store: ImageStore, make: Callable[[int], object], last: int) -> Took:
    """Make proofs for records of chance; return what one took."""
    positions = [random.randint(1, last) for _ in range(PROOFS)]
    start = time.perf_counter()
    for position in positions:
        make(position)
    return Took((time.perf_counter() - start) / PROOFS)


def floor(raws: list[bytes]) -> Took:
    """Hash records and the nodes over them; return what that took."""
    start = time.perf_counter()
    merkle.pyramid([merkle.leaf_hash(raw) for raw in raws])
    return Took(time.perf_counter() - start)


def from_nothing(store: ImageStore) -> merkle.Checkpoint:
    """Return the checkpoint as an auditor derives it: from every record."""
    rows = merkle.pyramid([merkle.leaf_hash(record.raw) for record in store.records()])
    return merkle.Checkpoint(
        store.position,
        merkle.root_at(store.position, lambda level, index: rows[level][index]),
    )


def judge(store: ImageStore) -> str:
    """Return the verdict of code that is not ours on proofs of the whole log.

    Raises:
        ImportError: it is not installed.
    """
    from tlog_scales.tlog import ConsistencyProof, InclusionProof

    last, now = store.position, store.checkpoint()
    if from_nothing(store) != now:
        raise RuntimeError("the checkpoint is not that of the records")
    edges = [1, 256, 257, last // 2, last - 1, last]
    positions = edges + [random.randint(1, last) for _ in range(200)]
    for position in positions:
        proof = store.inclusion_proof(position)
        leaf = store.leaf_hash(position)
        InclusionProof(position - 1, last, proof).check(leaf, now.root_hash)
        old = store.checkpoint(position)
        path = store.consistency_proof(position)
        ConsistencyProof(position, last, path).check(old.root_hash, now.root_hash)
    return f"tlog-scales accepts {len(positions)} inclusion and consistency proofs at {last:,}"


def nothing(*_: object, **__: object) -> None:
    """Stand in for what stores hashes."""


@contextmanager
def without_hashes() -> Iterator[None]:
    """Let commits store no hashes."""
    extend = hashes.extend
    hashes.extend = nothing
    try:
        yield
    finally:
        hashes.extend = extend


@contextmanager
def with_hashes() -> Iterator[None]:
    """Let commits do what they do."""
    yield


SIDES = {"with": with_hashes, "without": without_hashes}


def appends(stores: dict[str, ImageStore], numbers: Iterator[int]) -> Iterator[tuple[str, float]]:
    """Append the same to both stores, in three ways; yield what each took."""
    configs = [histories.config(next(numbers)) for _ in range(BATCH)]
    singles = [histories.config(next(numbers)) for _ in range(SINGLES)]
    instant = next(numbers)
    for name, store in stores.items():
        with SIDES[name]():
            start = time.perf_counter()
            with store.transaction():
                for config in configs:
                    image_id = store.create(config)
            yield f"in transactions, {name}", time.perf_counter() - start
            yield f"one by one, {name}", runner.clocked_each(store.create, singles)
            start = time.perf_counter()
            with store.transaction():
                for at in range(BATCH):
                    store.set_last_updated(image_id, instant + at)
            yield f"short, {name}", time.perf_counter() - start


def rounds(settings: Settings, folder: Path) -> dict[str, list[float]]:
    """Append to twin stores turn by turn."""
    stores = {
        name: ImageStore.open(folder / name, actor="bench@host", operating_system="linux")
        for name in SIDES
    }
    numbers = iter(range(10**9))
    many = settings.pick(2, 8)

    def one() -> Iterator[tuple[str, float]]:
        for _ in range(many):
            yield from appends(stores, numbers)

    try:
        return durable.summed(settings.takes, one)
    finally:
        for store in stores.values():
            store.close()


def measure(settings: Settings) -> Result:
    """Measure proofs of logs of different lengths, and both ways of appending."""
    result = Result("proofs")
    for records in settings.pick((1_000, 10_000), (10_000, 1_000_000)):
        with ImageStore.open(histories.log_of(settings, records), read_only=True) as store:
            last = store.position
            raws = [record.raw for record in store.records(through=511)]
            cases: dict[str, Callable[[], object]] = {
                "inclusion": partial(proofs, store, store.inclusion_proof, last),
                "consistency": partial(proofs, store, store.consistency_proof, last),
                "checkpoint": partial(proofs, store, store.checkpoint, last),
                "floor": partial(floor, raws),
            }
            if records == settings.pick(10_000, 1_000_000):
                cases["from nothing"] = partial(from_nothing, store)
            seconds = runner.take(cases, settings.takes)
            hashing = ("hashing 511 records", seconds["floor"])
            result.rows += [
                runner.cost(f"{what}, {last:,} records", seconds[what], beside=hashing)
                for what in ("inclusion", "consistency", "checkpoint")
            ]
            if "from nothing" in seconds:
                audit = runner.cost(f"audit of {last:,} records", seconds["from nothing"], unit="s")
                result.rows.append(audit)
                result.notes.append(judge(store))
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        seconds = rounds(settings, Path(folder))
    many = settings.pick(2, 8)
    for what, count in (("in transactions", BATCH), ("one by one", SINGLES), ("short", BATCH)):
        result.rows.append(
            runner.cost(
                f"append {what}",
                seconds[f"{what}, with"],
                count=count * many,
                unit="µs",
                beside=("without hashes", seconds[f"{what}, without"]),
                bound=Bound("≤", 1.05, of_ratio=True),
            )
        )
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
