"""Say how many bytes on disk a record takes, and a config.

Pages of each database by LMDB's own count, no estimate. "The whole file" is everything but the
configs: log, snapshots, tombstones, meta, free pages. Configs are those of a synced Docker database
(1.5 to 4 kB) and the small ones of the large store, each with its share of pages, beside its bytes
as it was given to the store; "packed" is what is stored of it, without what pages leave empty.
Beside them stands what general compression of the standard library would make of the same configs:
each alone, each with a dictionary of 32 kB taken from others of the same host, and all at once,
which nothing that reads one config at a time can reach.
"""

from __future__ import annotations

import lzma
import tempfile
import zlib
from pathlib import Path

import lmdb

import docker_sync
import floors
import histories
import runner
from eventstore import ImageStore
from runner import Bound, Result, Row, Settings

BYTES_A_RECORD = 160
CONFIGS_RATIO = 1.1
SAMPLE = 2_000


class Pages:
    """What LMDB says of a closed store's file."""

    def __init__(self, path: Path) -> None:
        """Count."""
        self.bytes: dict[str, int] = {}
        self.entries: dict[str, int] = {}
        self.values: dict[str, int] = {}
        with lmdb.open(str(path), map_size=1 << 36, max_dbs=16, readonly=True, lock=False) as env:
            page = env.stat()["psize"]
            for name in floors.DATABASES:
                found = env.open_db(name.encode(), create=False)
                with env.begin() as txn, txn.cursor(found) as cursor:
                    stat = txn.stat(found)
                    self.values[name] = sum(map(len, cursor.iternext(keys=False)))
                pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                self.bytes[name] = pages * page
                self.entries[name] = stat["entries"]
            self.whole = (env.info()["last_pgno"] + 1) * page


def log_rows(images: int, path: Path, *, stated: bool) -> list[Row]:
    """Return what a record takes, in the log and in all."""
    pages = Pages(path)
    records = pages.entries["log"]
    bound = Bound("≤", BYTES_A_RECORD, stated_here=stated)
    with ImageStore.open(path, read_only=True) as store:
        raw = sum(len(record.raw) for record in store.records())
    floor = ("the records' own bytes", raw / records)
    log = pages.bytes["log"] / records
    whole = (pages.whole - pages.bytes["configs"]) / records
    snapshots = pages.bytes["snapshots"] / records
    free = (pages.whole - sum(pages.bytes.values())) / records
    name = f"{records:,} records, {images:,} images"
    return [
        Row(f"a record in the log, {name}", log, "B", *floor, log / floor[1], bound),
        Row(f"the whole file less configs, {name}", whole, "B", *floor, whole / floor[1], bound),
        Row(f"of it snapshots, {name}", snapshots, "B"),
        Row(f"of it free pages, {name}", free, "B"),
    ]


def configs_of(path: Path) -> list[bytes]:
    """Return the bytes of all configs of a store."""
    with ImageStore.open(path, read_only=True) as store:
        return [image.raw_json for image in store.map().values()]


def config_rows(what: str, path: Path, own_bytes: int) -> list[Row]:
    """Return what the configs of a store take beside their own bytes."""
    pages = Pages(path)
    own = own_bytes / pages.entries["configs"]
    each = pages.bytes["configs"] / pages.entries["configs"]
    packed = pages.values["configs"] / pages.entries["configs"]
    bound = Bound("≤", CONFIGS_RATIO, of_ratio=True)
    beside = ("its own bytes", own)
    return [
        Row(f"a config, {what}", each, "B", *beside, each / own, bound),
        Row(f"of it packed, {what}", packed, "B", *beside, packed / own),
    ]


def compressed_rows(configs: list[bytes]) -> list[Row]:
    """Return what compression makes of configs, as a share of their bytes."""
    dictionary, sample = b"".join(configs[:64])[:32_768], configs[64 : 64 + SAMPLE]
    own = sum(map(len, sample)) / len(sample)

    def with_dictionary(config: bytes) -> bytes:
        packer = zlib.compressobj(6, zdict=dictionary)
        return packer.compress(config) + packer.flush()

    found = {
        "zlib, each alone": sum(len(zlib.compress(config, 6)) for config in sample),
        "zlib, a dictionary": sum(len(with_dictionary(config)) for config in sample),
        "xz, all at once": len(lzma.compress(b"".join(sample))),
    }
    return [
        Row(
            f"for comparison: {name}",
            size / len(sample),
            "B",
            "its own bytes",
            own,
            size / len(sample) / own,
        )
        for name, size in found.items()
    ]


def measure(settings: Settings) -> Result:
    """Measure the largest store, and a synced Docker database."""
    images, in_docker = settings.pick((10_000, 1_000), (1_000_000, 10_000))
    result = Result("bytes on disk")
    path = histories.store_of(settings, images)
    result.rows = log_rows(images, path, stated=True)
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        run = docker_sync.Run(Path(folder), docker_sync.source(settings, in_docker))
        run.sync()
        (synced,) = Path(folder).iterdir()
        configs = configs_of(synced)
        what = f"{len(configs):,} from a Docker database"
        result.rows += config_rows(what, synced, sum(map(len, configs)))
        result.rows += compressed_rows(configs)
    # The configs of deleted images are kept.
    own_bytes = sum(map(len, map(histories.small_config, range(images + images // 9))))
    result.rows += config_rows("300 to 1,500 B", path, own_bytes)
    return result


if __name__ == "__main__":
    runner.main(measure, __doc__)
