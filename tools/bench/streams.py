"""Read the records of one image: ten of them, spread over logs of very different lengths.

Floor: ten gets of LMDB and msgspec's decodes of what they give, in one transaction.
"""

from __future__ import annotations

import time
from functools import partial

import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Settings, Took

LOOKS = 100


def ours(store: ImageStore) -> Took:
    """Read the stream many times; return what one time took."""
    start = time.perf_counter()
    for _ in range(LOOKS):
        records = list(store.records(histories.watched()))
    end = time.perf_counter()
    if len(records) != histories.WATCHED_RECORDS:
        raise RuntimeError(f"the watched image has {len(records)} records")
    return Took((end - start) / LOOKS)


def floor(store: ImageStore, keys: list[bytes]) -> Took:
    """Get and decode the same records many times; return what one time took."""
    start = time.perf_counter()
    for _ in range(LOOKS):
        with store._environment.read() as txn:
            for key in keys:
                floors.record_decoder.decode((txn.get("log", key) or b"")[:-4])
    return Took((time.perf_counter() - start) / LOOKS)


def measure(settings: Settings) -> Result:
    """Measure logs of all lengths."""
    lengths = settings.pick((1_000, 10_000), (10_000, 1_000_000, 5_000_000))
    result = Result("records of one image")
    for records in lengths:
        path = histories.log_of(settings, records)
        with ImageStore.open(path, read_only=True) as store:
            found = store.records(histories.watched())
            keys = [record.position.to_bytes(8, "big") for record in found]
            cases = {
                "ours": partial(ours, store),
                "floor": partial(floor, store, keys),
            }
            seconds = runner.take(cases, settings.takes)
        row = runner.cost(
            f"10 records of {records:,}",
            seconds["ours"],
            beside=("LMDB gets, msgspec decodes", seconds["floor"]),
            bound=Bound("<", 1),
        )
        result.rows.append(row)
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
