"""Decode image configs without a store: those of the histories, and those of real Docker hosts.

Beside each figure stands what no decoder can do without: one SHA-256 for the id, and msgspec's
decode into its typed structs. The exact decoder, which takes what is not written as tools do, is
measured on the same configs. No bound of its own: it is a part of create and of get.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import histories
import runner
from eventstore import Image, digest, plain_config
from runner import Result, Settings

sys.path.append(str(Path(__file__).resolve().parent.parent))
import fuzz_plain

COUNT = 1_000


def measure(settings: Settings) -> Result:
    """Measure both decoders and their floor on both kinds of configs, and the parsing of ids."""
    result = Result("decoding of configs")
    made = [histories.config(number) for number in range(COUNT)]
    real = [raw for raw in fuzz_plain.real_configs() if plain_config.decode(raw) is not None]
    for kind, configs in (("made", made), ("real", real)):
        add_rows(result, f"{kind} configs", configs, settings.takes)
    ids = [Image.from_json(raw).id for raw in made]
    seconds = runner.take(
        {
            "ours": lambda: [digest.require(image_id) for image_id in ids],
            "floor": lambda: [bytes.fromhex(image_id[7:]) for image_id in ids],
        },
        settings.takes * 5,
    )
    beside = ("bytes.fromhex", seconds["floor"])
    result.rows.append(
        runner.cost("parse an id", seconds["ours"], count=COUNT, unit="µs", beside=beside)
    )
    return result


def add_rows(result: Result, what: str, configs: list[bytes], takes: int) -> None:
    """Add the rows of one kind of configs."""
    typed = plain_config._decode_config

    def floor() -> None:
        for raw in configs:
            hashlib.sha256(raw).digest()
            typed(raw)

    seconds = runner.take(
        {
            "decode": lambda: [Image.from_stored(raw) for raw in configs],
            "decode exactly": lambda: [Image._from_unusual(raw, "", None) for raw in configs],
            "floor": floor,
        },
        takes,
    )
    beside = ("SHA-256, msgspec, typed", seconds["floor"])
    size = sum(map(len, configs)) / len(configs)
    for name in ("decode", "decode exactly"):
        row = runner.cost(
            f"{name}, {what}", seconds[name], count=len(configs), unit="µs", beside=beside
        )
        result.rows.append(row)
    result.notes.append(f"{what}: {len(configs):,}, {size:,.0f} bytes on the average")


if __name__ == "__main__":
    runner.main(measure, __doc__)
