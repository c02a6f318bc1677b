"""Configs as large as they may be, each made to cost as much as it can, and what they did cost.

Every one is decoded in a process of its own, so that its peak is its own. The bounds that are held
are `FACTOR_MAX` times the config's size in memory, and `SECONDS_MAX` of processor time in all.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FACTOR_MAX = 64
ROOM = 48 << 20  # for what the interpreter takes at any size
SECONDS_MAX = 5.0
SIZE = 16 << 20
BEYOND = frozenset(("one byte too many", "16 MiB of empty objects", "16 MiB of no layers"))
_ROOT = b'"rootfs":{"type":"layers"}}'


@dataclass(frozen=True)
class Cost:
    """What decoding took: peak bytes, processor seconds, and what came of it."""

    peak: int
    seconds: float
    outcome: str


def filled(head: bytes, unit: bytes, tail: bytes, *, units: int = 1 << 62) -> bytes:
    """Return a text of at most 16 MiB that repeats a unit as often as it may."""
    room = (SIZE - len(head) - len(tail)) // len(unit)
    return head + unit * min(units, room) + tail


def numbered(count: int) -> bytes:
    """Return so many members of an object, all different."""
    return b",".join(b'"%x":""' % number for number in range(count))


def repeated(unit: bytes, count: int = 20_000) -> bytes:
    """Return a config with 20,000 labels, and the same key again and again after them."""
    return b'{"config":{"Labels":{' + numbered(count) + b"}}," + unit * count + _ROOT


GIANTS: dict[str, Callable[[], bytes]] = {
    "one byte too many": lambda: b" " * (SIZE - len(_ROOT)) + b"{" + _ROOT,
    "16 MiB of no layers": lambda: filled(b'{"rootfs":{"diff_ids":[', b'"",', b'""]}}'),
    "16 MiB of empty objects": lambda: filled(b'{"x":[', b"{},", b"0]," + _ROOT),
    "1 M empty arrays": lambda: filled(b'{"x":[', b"[],", b"0]," + _ROOT, units=1_000_000),
    "1 M empty objects": lambda: filled(b'{"x":[', b"{},", b"0]," + _ROOT, units=1_000_000),
    "1 M small objects": lambda: filled(b'{"x":[', b'{"":0},', b"0]," + _ROOT, units=1_000_000),
    "2 M keys": lambda: filled(b"{", b'"":0,', _ROOT, units=2_000_000),
    "2 M floats": lambda: filled(b'{"x":[', b"1.5,", b"0]," + _ROOT, units=2_000_000),
    "10 M digits": lambda: b'{"x":' + b"1" * 10_000_000 + b"," + _ROOT,
    "a fraction of 10 M digits": lambda: b'{"x":1.' + b"1" * 10_000_000 + b"," + _ROOT,
    "an exponent of 10 M digits": lambda: b'{"x":1e' + b"9" * 10_000_000 + b"," + _ROOT,
    "1 M labels": lambda: b'{"config":{"Labels":{' + numbered(1_000_000) + b"}}," + _ROOT,
    "100,000 steps": lambda: filled(
        b'{"history":[', b'{"created_by":"x","empty_layer":true},', b"{}]," + _ROOT, units=99_999
    ),
    "1 M empty steps": lambda: filled(
        b'{"history":[', b"{},", b'{"empty_layer":true}],' + _ROOT, units=1_000_000
    ),
    "2 M layers": lambda: filled(
        b'{"rootfs":{"diff_ids":[', b'"a",', b'"a"]}}', units=2_000_000
    ),
    "2 M variables": lambda: filled(
        b'{"config":{"Env":[', b'"",', b'""]},' + _ROOT, units=2_000_000
    ),
    "16 MiB of arrays in arrays": lambda: b"[" * SIZE,
    "1 M arrays in arrays": lambda: b"[" * 1_000_000 + b"]" * 1_000_000,
    "16 MiB of objects in objects": lambda: filled(b"", b'{"a":', b""),
    "16 MiB of no UTF-8": lambda: filled(b'{"comment":"', b"\xff", b'",' + _ROOT),
    "16 MiB of cut sequences": lambda: filled(b'{"comment":"', b"\xe2\x82a", b'",' + _ROOT),
    "2.7 M lone surrogates": lambda: filled(b'{"comment":"', b"\\ud800", b'",' + _ROOT),
    "a key of 16 MiB": lambda: filled(b'{"', b"k", b'":0,' + _ROOT),
    "a bad label of 16 MiB": lambda: filled(b'{"config":{"Labels":{"', b"k", b'":0}},' + _ROOT),
    "the same map 20,000 times": lambda: repeated(b'"config":{"Labels":{}},'),
    "the same list 20,000 times": lambda: repeated(b'"config":{"Env":[""]},'),
}  # fmt: skip


def measured(make: Callable[[], bytes], work: Callable[[bytes], str], path: Path) -> Cost:
    """Do some work on a text in a child, and return what that cost.

    Args:
        make: makes the text, in a child of its own, so that no memory is left over from that.
        work: returns what came of it.
        path: where the text may lie meanwhile.
    """
    in_a_child(lambda: path.write_bytes(make()))

    def cost() -> str:
        raw = path.read_bytes()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        outcome = work(raw)
        seconds = time.process_time() - began
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        return f"{peak} {seconds} {outcome[:200]}"

    said = in_a_child(cost)
    if not said:
        return Cost(0, 0.0, "the process died")
    peak, seconds, outcome = said.split(" ", 2)
    return Cost(int(peak), float(seconds), outcome)


def in_a_child(work: Callable[[], object]) -> str:
    """Do some work in a child, and return what it gave as text; nothing if the child died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.write(writer, str(work()).encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode("utf-8")
    os.waitpid(child, 0)
    return text


def problems(name: str, size: int, cost: Cost) -> Iterator[str]:
    """Iterate over what is wrong with what a giant cost."""
    if not cost.outcome.startswith(("accepted", "refused")):
        yield f"{name}: {cost.outcome}"
    if name in BEYOND and not cost.outcome.startswith("refused"):
        yield f"{name}: it was accepted"
    if cost.peak > FACTOR_MAX * size + ROOM:
        yield f"{name}: {cost.peak} bytes for a config of {size}"
    if cost.seconds > SECONDS_MAX:
        yield f"{name}: {cost.seconds:.1f} s"
