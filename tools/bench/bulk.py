"""Create images in transactions of 1,000.

Floor: LMDB's own time for the same keys and values, 1,000 creates a commit; sqlite3 likewise. Peer:
`eventsourcing` in batches of 100. The snapshots that the policy takes on the way are in our time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import durable
import floors
import peer
import runner
from runner import Bound, Result, Settings

TRANSACTION = 1_000
PEER_BATCH = 100
LMDB, SQLITE, PEER = (
    "LMDB, the same bytes",
    "sqlite3, WAL, FULL",
    f"eventsourcing, {PEER_BATCH} a batch",
)


def transactions(parts: durable.Parts, count: int) -> Iterator[tuple[str, float]]:
    """Create in transactions, each followed by its floors; the peer makes the last again."""
    configs: list[bytes] = []
    for _ in range(count):
        configs = parts.next_configs(TRANSACTION)
        after = parts.store.position
        yield "ours", runner.clocked(partial(create, parts, configs))
        puts = list(chain.from_iterable(floors.puts_of(parts.store, after)))
        yield LMDB, runner.clocked(partial(parts.lmdb.write, puts))
        yield SQLITE, runner.clocked(partial(parts.sqlite.write, puts))
    if parts.peer is not None:
        batches = durable.batches(configs, PEER_BATCH)
        yield PEER, runner.clocked_each(parts.peer.create, batches)


def create(parts: durable.Parts, configs: list[bytes]) -> None:
    """Create images in one transaction."""
    with parts.store.transaction(reason="bench"):
        for found in configs:
            parts.store.create(found)


def measure(settings: Settings) -> Result:
    """Measure ours, the floors and the peer, turn by turn."""
    count = settings.pick(2, 10)
    result = Result("create in transactions of 1,000")
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        parts = durable.Parts(Path(folder))
        seconds = durable.summed(settings.takes, lambda: transactions(parts, count))
        parts.close()
    images = count * TRANSACTION
    ours = seconds["ours"]
    result.rows = [
        runner.cost(
            "an image",
            ours,
            count=images,
            unit="µs",
            beside=(LMDB, seconds[LMDB]),
            bound=Bound("≤", 2, of_ratio=True),
        ),
        runner.cost("an image", ours, count=images, unit="µs", beside=(SQLITE, seconds[SQLITE])),
    ]
    if PEER in seconds:
        row = runner.rate(
            "images",
            ours,
            count=images,
            beside=(PEER, seconds[PEER]),
            beside_count=TRANSACTION,
            bound=Bound("≥", 3, of_ratio=True),
        )
        result.rows.append(row)
    else:
        result.notes.append(peer.MISSING)
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
