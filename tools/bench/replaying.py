"""Open a store that has no snapshot: every record is read, checked and folded.

Floor: LMDB's scan of the same log and msgspec's decode of every record, without a check or a fold.
Each in a fresh process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Settings

STATED = 1_000_000


def replay_once(path: str) -> float:
    """Open a store without snapshots and look at one image; return what that took."""
    start = time.perf_counter()
    with ImageStore.open(path, read_only=True) as store:
        store.get_parent(histories.watched())
        return time.perf_counter() - start


def decode_once(path: str) -> float:
    """Scan and decode the log; return what that took."""
    raw = floors.RawLMDB(Path(path))
    start = time.perf_counter()
    raw.decode_log()
    spent = time.perf_counter() - start
    raw.close()
    return spent


def measure(settings: Settings) -> Result:
    """Measure the replay and its floor, turn by turn."""
    records = settings.pick(10_000, STATED)
    result = Result("replay from nothing")
    ours: list[float] = []
    floor: list[float] = []
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        path = histories.copy(histories.log_of(settings, records), Path(folder) / "store")
        histories.drop_snapshots(path)
        for number in range(settings.takes + 1):
            taken = runner.in_child("replaying", "replay_once", str(path))
            decoded = runner.in_child("replaying", "decode_once", str(path))
            if number:
                ours.append(taken)
                floor.append(decoded)
    result.rows = [
        runner.rate(
            f"records of {records:,}",
            ours,
            count=records,
            beside=("LMDB scan, msgspec decode", floor),
            bound=Bound("≥", 400_000, stated_here=records >= STATED),
        )
    ]
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
