"""The commands that look after a store: `verify`, `snapshot`, `info`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import click

from eventstore import clock
from eventstore.cli import backups, bars, layout, output, shapes
from eventstore.cli.options import (
    json_option,
    open_to_read,
    open_to_write,
    path_of,
    store_option,
)
from eventstore.cli.output import clock_time, line, size, utc
from eventstore.dropped import Horizon
from eventstore.errors import CorruptionError
from eventstore.problem import Problem
from eventstore.progress import Progress
from eventstore.verify import check_store
from eventstore.writer import CLOCK_BEHIND_NS

DAMAGE_FOUND = 4


@click.command()
@json_option
@store_option
def verify(as_json: bool, store_path: str | None) -> int:
    """Check the file's structure, derive everything again from the log, list what does not agree.

    Also works on a store that is too damaged to open.
    """
    problems = lost = 0
    with bars.shown() as bar:
        listed = list(_problems(path_of(store_path), bar.step("verifying records")))
    for problem in listed:
        problems += 1
        lost += problem.kind == "lost"
        if as_json:
            output.json_line(shapes.problem(problem))
        else:
            line(f"{problem.kind}: {problem.message}", "red")
    if problems and problems == lost and not as_json:
        line(
            f"configs lost before: {lost}. The rest is sound; to bring one back, `rm` the image,"
            " and `create` it again or `sync` from a host that has it"
        )
    elif problems and not as_json:
        line(
            f"problems listed: {problems}. Keep this store as it is; restore a backup elsewhere, or"
            " get out what is sound by `eventstore salvage`"
        )
    elif not problems:
        with open_to_read(store_path) as store:
            counts = (store.position, len(store), len(store.snapshots()))
        if not as_json:
            line("sound: {} records, {} images, {} snapshots".format(*counts))
    return DAMAGE_FOUND if problems else 0


def _problems(path: str, progress: Progress | None) -> Iterator[Problem]:
    """Iterate over the problems of a store; that nothing is left to be checked is one as well."""
    try:
        yield from check_store(path, progress=progress)
    except CorruptionError as error:
        yield Problem("structure", str(error))


@click.command()
@json_option
@store_option
def snapshot(as_json: bool, store_path: str | None) -> None:
    """Store the present view, so that opening need not replay what is before it."""
    with open_to_write(store_path) as store:
        with bars.shown() as bar:
            bar.step("taking a snapshot")
            taken = store.take_snapshot()
        if as_json:
            output.json_line({"position": taken.position, "images": taken.images})
        else:
            line(f"snapshot at @{taken.position}: {taken.images} images")


def _compacted(horizon: Horizon) -> Iterator[tuple[str, str]]:
    """Yield how far the log was compacted, if it was."""
    if horizon.through:
        more = "; cut off, compact again" if horizon.unfinished else ""
        yield "compacted", f"through @{horizon.through}: {horizon.dropped} records dropped{more}"


@click.command()
@json_option
@store_option
def info(as_json: bool, store_path: str | None) -> None:
    """Say what the store holds, since when, and how large it is."""
    with open_to_read(store_path) as store:
        view = store.view()
        snapshots = [found.position for found in store.snapshots()]
        ahead_ns = max(view.time_ns - clock.system_clock(), 0)
        if as_json:
            output.json_line(
                {
                    "path": output.path_text(store.path),
                    "store_id": store.store_id,
                    "created": utc(store.created),
                    "forks": backups.forks(store),
                    "position": view.position,
                    "last_record": utc(view.time),
                    "seconds_ahead_of_clock": ahead_ns // clock.NANOSECONDS,
                    "images": len(view),
                    "heads": len(view.heads()),
                    "snapshots": snapshots,
                    "compacted_through": store.horizon.through,
                    "records_dropped": store.horizon.dropped,
                    "size_on_disk": store.size_on_disk(),
                }
            )
            return
        facts = (
            ("path", store.path),
            ("store id", store.store_id),
            ("created", clock_time(store.created)),
            *(("fork", backups.origin(fork)) for fork in store.forks),
            ("position", f"@{view.position}"),
            ("last record", clock_time(view.time)),
            *_compacted(store.horizon),
            ("images", f"{len(view)}, {len(view.heads())} of them without children"),
            ("snapshots", " ".join(f"@{position}" for position in snapshots) or "-"),
            ("size on disk", size(store.size_on_disk())),
        )
        for name, value in facts:
            layout.fact(name, value, 14)
        if ahead_ns > CLOCK_BEHIND_NS:
            ahead = timedelta(seconds=ahead_ns // clock.NANOSECONDS)
            line(
                f"the last record is {ahead} ahead of this host's clock: until the clock gets",
                "red",
            )
            line("there, new records are given that time; --at with positions tells them apart")
