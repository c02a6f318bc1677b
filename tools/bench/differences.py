"""Say what differs between two moments, more and more records apart, in the middle of a long log.

Proportional is read as: a record costs at most twice as much where the moments lie a hundred times
closer. Floor: LMDB's scan of the records between the two and msgspec's decode of each.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings, Took, Work

STATED = 1_000_000


def floor(store: ImageStore, after: int, count: int) -> Took:
    """Scan and decode the records between; return what that took."""
    start = time.perf_counter()
    with store._environment.read() as txn:
        for number, (_, raw) in enumerate(txn.scan("log", (after + 1).to_bytes(8, "big")), 1):
            floors.record_decoder.decode(raw[:-4])
            if number == count:
                break
    return Took(time.perf_counter() - start)


def measure(settings: Settings) -> Result:
    """Measure distances of 10 records up to a tenth of the log."""
    records = settings.pick(10_000, STATED)
    distances = [10**power for power in range(1, 7) if 10**power <= records // 10]
    result = Result("diff of two moments")
    found: dict[int, list[float]] = {}
    after = records // 2
    with ImageStore.open(histories.log_of(settings, records), read_only=True) as store:
        for distance in distances:
            cases: dict[str, Work] = {
                "ours": partial(store.diff, after, after + distance),
                "floor": partial(floor, store, after, distance),
            }
            seconds = runner.take(cases, settings.takes)
            found[distance] = seconds["ours"]
            result.rows.append(
                runner.cost(
                    f"{distance:,} records apart, {records:,} in all",
                    seconds["ours"],
                    beside=("LMDB scan, msgspec decode", seconds["floor"]),
                )
            )
    far = distances[-1]
    near = far // 100
    each = [statistics.median(found[distance]) / distance * 1e6 for distance in (near, far)]
    result.rows.append(
        Row(
            f"a record: {near:,} apart against {far:,}",
            each[0],
            "µs",
            f"{far:,} apart",
            each[1],
            each[0] / each[1],
            Bound("≤", 2, of_ratio=True, stated_here=records == STATED),
        )
    )
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
