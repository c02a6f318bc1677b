"""Print what ways of packing configs come to: bytes, and microseconds to pack and to unpack one.

    packing.py [--takes N] [--folder DIR]

This is what the choices in `config_packing` were made by. Three kinds of configs: those of the
recorded Docker hosts, generated ones of 1.5 to 4 kB, and the small ones that the other subjects
create. Beside the ways of one config alone stand those that share among configs: several in one
stream, and each after the one before it, which then had to be as it is. The last tables are LMDB's
own time and bytes for the same configs, keyed by digest as the store does, and by position, which
it does not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import disk
import docker_sources
import floors
import histories
from eventstore import configs
from eventstore.config_words import WORDS

DATA = Path(__file__).resolve().parent.parent.parent / "tests" / "data" / "docker"
BATCH, BATCHES, PIECE = 1_000, 8, 990
Pair = tuple[bytes, bytes]
T = TypeVar("T")


def recorded() -> list[bytes]:
    """Return the configs of the recorded hosts, each once."""
    found: dict[bytes, None] = {}
    for path in sorted(DATA.glob("host-*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if "/imagedb/content/" in member.name else None
                if file is not None:
                    found[file.read()] = None
    return list(found)


def generated(count: int) -> list[bytes]:
    """Return configs as the benchmark of `sync` makes them."""
    choose = random.Random(count)
    return [docker_sources.config(number, choose)[0] for number in range(count)]


class Way:
    """One way to pack a config, with or without bytes that stand before it."""

    def __init__(self, level: int, bits: int, memory: int, strategy: int) -> None:
        """Take what `zlib.compressobj` takes."""
        self.options = (level, zlib.DEFLATED, bits, memory, strategy)
        self.bits = bits

    def primed(self, words: bytes) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
        """Return how one packs and unpacks after words that never change."""
        first = zlib.compressobj(*self.options, words)

        def pack(config: bytes) -> bytes:
            packer = first.copy()
            return packer.compress(config) + packer.flush()

        def unpack(packed: bytes) -> bytes:
            return zlib.decompressobj(self.bits, words).decompress(packed, 1 << 24)

        return pack, unpack

    def pack_after(self, pair: Pair) -> bytes:
        """Pack the second after the first."""
        packer = zlib.compressobj(*self.options, pair[0])
        return packer.compress(pair[1]) + packer.flush()

    def unpack_after(self, pair: Pair) -> bytes:
        """Unpack the second after the first."""
        return zlib.decompressobj(self.bits, pair[0]).decompress(pair[1], 1 << 24)


WAYS: list[tuple[str, bytes, Way]] = [
    *(
        (f"alone, level {level}", b"", Way(level, -15, 8, zlib.Z_DEFAULT_STRATEGY))
        for level in (1, 3, 6)
    ),
    ("alone, with a zlib header", b"", Way(1, 15, 8, zlib.Z_DEFAULT_STRATEGY)),
    ("alone, letters only", b"", Way(1, -15, 8, zlib.Z_HUFFMAN_ONLY)),
    ("alone, fixed codes", b"", Way(1, -15, 7, zlib.Z_FIXED)),
    *(
        (f"{length:,} B of words, fixed codes", WORDS[-length:], Way(1, bits, 6, zlib.Z_FIXED))
        for length, bits in ((1_000, -12), (2_000, -12), (3_800, -12), (len(WORDS), -13))
    ),
    *(
        (f"words, level {level}, own codes", WORDS, Way(level, -13, 6, zlib.Z_DEFAULT_STRATEGY))
        for level in (1, 2, 3, 6)
    ),
    *(
        (f"words, level {level}, fixed codes", WORDS, Way(level, -13, 6, zlib.Z_FIXED))
        for level in (2, 3, 6)
    ),
    ("words, fixed, 32 kB window", WORDS, Way(1, -15, 7, zlib.Z_FIXED)),
    ("words, fixed, more memory", WORDS, Way(1, -15, 8, zlib.Z_FIXED)),
]


def least(work: Callable[[T], object], things: Sequence[T], takes: int) -> float:
    """Return the least seconds that doing something with each of some things took."""
    found = []
    for _ in range(takes):
        start = time.perf_counter()
        for thing in things:
            work(thing)
        found.append(time.perf_counter() - start)
    return min(found)


def line(name: str, own: int, packed: int, count: int, seconds: tuple[float, float]) -> str:
    """Return one line of a table."""
    pack, unpack = (spent / count * 1e6 for spent in seconds)
    return f"  {name:36}{packed / own:8.3f}{pack:10.1f}{unpack:10.1f}"


def alone(sample: list[bytes], takes: int) -> None:
    """Print what each way of one config alone comes to."""
    own, count = sum(map(len, sample)), len(sample)

    def show(name: str, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], object]) -> None:
        packed = [pack(config) for config in sample]
        seconds = least(pack, sample, takes), least(unpack, packed, takes)
        print(line(name, own, sum(map(len, packed)), count, seconds))

    for name, words, way in WAYS:
        show(name, *way.primed(words))
    show("as the store does", configs.pack, configs.content)


def shared(sample: list[bytes], takes: int) -> None:
    """Print what sharing among configs comes to; unpacking one needs all that it shares with."""
    own, count = sum(map(len, sample)), len(sample)
    way = Way(1, -15, 7, zlib.Z_FIXED)
    pack, unpack = way.primed(WORDS)
    for length in (4, 16):
        chunks = [b"".join(sample[at : at + length]) for at in range(0, count, length)]
        packed = [pack(chunk) for chunk in chunks]
        # One config is not to be had without all of its stream.
        seconds = least(pack, chunks, takes), least(unpack, packed, takes) * length
        print(line(f"{length} in one stream", own, sum(map(len, packed)), count, seconds))
    pairs = [(WORDS[-6_000:] + before, config) for before, config in pairwise(sample)]
    after = [(before, way.pack_after((before, config))) for before, config in pairs]
    seconds = least(way.pack_after, pairs, takes), least(way.unpack_after, after, takes)
    size = sum(len(value) for _, value in after)
    name = "each after the one before"
    print(line(name, own - len(sample[0]), size, count - 1, seconds))


def puts(batch: Sequence[bytes], start: int) -> dict[str, list[floors.Put]]:
    """Return what LMDB is given for a batch of configs, by name of the way."""
    found: dict[str, list[floors.Put]] = {}
    for at, config in enumerate(batch, start):
        key, position = hashlib.sha256(config).digest(), at.to_bytes(8, "big")
        plain, packed = b"\0" + config, configs.pack(config)
        pieces = range(0, len(plain), PIECE)
        for name, values in {
            "by digest, as it is": [("configs", key, plain)],
            "by digest, packed": [("configs", key, packed)],
            "by position, as it is": [("log", position, plain)],
            "by position, packed": [("log", position, packed)],
            f"by position, cut every {PIECE} B": [
                ("log", position + bytes([at // PIECE]), plain[at : at + PIECE]) for at in pieces
            ],
        }.items():
            found.setdefault(name, []).extend(values)
    return found


def in_lmdb(make: Callable[[int], list[bytes]], folder: Path) -> None:
    """Print LMDB's own microseconds and bytes for configs, a thousand a commit."""
    all_configs = make(BATCH * BATCHES)
    raws: dict[str, floors.RawLMDB] = {}
    spent: dict[str, list[float]] = {}
    for start in range(0, len(all_configs), BATCH):
        for name, values in puts(all_configs[start : start + BATCH], start).items():
            raw = raws.get(name) or raws.setdefault(name, floors.RawLMDB(folder / name))
            spent.setdefault(name, []).append(least(raw.write, [values], 1))
    for name, raw in raws.items():
        raw.close()
        pages = disk.Pages(folder / name)
        size = pages.bytes["configs"] + pages.bytes["log"]
        print(
            f"  {name:36}{size / sum(map(len, all_configs)):8.3f}"
            f"{min(spent[name]) / BATCH * 1e6:10.1f}"
            f"{statistics.median(spent[name]) / BATCH * 1e6:10.1f}"
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--takes", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None, help="where LMDB's files are made")
    options = parser.parse_args()
    print(f"zlib {zlib.ZLIB_RUNTIME_VERSION}; {len(WORDS):,} B of words; the least of takes")
    samples = {
        "recorded": [raw for raw in recorded() if json.loads(raw)],
        "generated": generated(200),
        "small": [histories.config(number) for number in range(200)],
    }
    for name, sample in samples.items():
        each = sum(map(len, sample)) / len(sample)
        title = f"{len(sample)} {name}, {each:,.0f} B each"
        print(f"\n{title:38}{'bytes':>8}{'pack, µs':>10}{'unpack':>10}")
        alone(sample, options.takes)
        shared(sample, options.takes)
    makes: dict[str, Callable[[int], list[bytes]]] = {
        "generated": generated,
        "small": lambda count: [histories.config(number) for number in range(count)],
    }
    for name, make in makes.items():
        title = f"LMDB alone, {BATCH * BATCHES:,} {name}"
        print(f"\n{title:38}{'bytes':>8}{'least, µs':>10}{'median':>10}")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            in_lmdb(make, Path(folder))


if __name__ == "__main__":
    main()
