"""What goes on until it is stopped: the command `follow`, and `sync --watch`.

SIGINT and SIGTERM end both with exit code 0, after what is under way; a second one ends them at
once. Each line is flushed, for whoever waits for it.
"""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from eventstore.cli import completing, moments, naming, output, reports, shapes
from eventstore.cli.history import Printer
from eventstore.cli.options import json_option, open_to_read, store_option

if TYPE_CHECKING:
    from eventstore.store import ImageStore
    from eventstore.watching import WatchedSource


@click.command()
@click.argument("image", required=False, shell_complete=completing.ever)
@click.option("--after", metavar="WHEN", help="Also what came after this moment; now if not given.")
@json_option
@store_option
def follow(image: str | None, after: str | None, as_json: bool, store_path: str | None) -> None:
    """Print records as they come, from any process: all, or those of IMAGE.

    Lines are those of `log`. An interrupt ends it.
    """
    with until_stopped() as stop, open_to_read(store_path) as store:
        image_id = None if image is None else naming.find_ever(store, image)
        start = store.position if after is None else moments.position_of(store, after)
        printer = Printer(naming.ShortIds(store), as_json=as_json)
        broken = _watch_output(stop)
        for record in store.follow(start, stop=stop):
            if stop.is_set():
                break
            if image_id is None or record.image_id == image_id:
                printer.print(record)
                sys.stdout.flush()
    if broken.is_set():
        raise BrokenPipeError


@contextmanager
def until_stopped() -> Generator[threading.Event]:
    """Give an event that SIGINT or SIGTERM sets; a second one of them does what it did before."""
    stop = threading.Event()
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def take(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in earlier:
        signal.signal(number, take)
    try:
        yield stop
    finally:
        restore()


def _watch_output(stop: threading.Event) -> threading.Event:
    """Stop, and say so, when whoever reads standard output has gone: it may be long until a write.

    Returns:
        An event that is set then.
    """
    broken = threading.Event()
    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):
        return broken
    poll = select.poll()
    poll.register(handle, 0)

    def wait() -> None:
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
            broken.set()
            stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return broken


def watch_source(
    store: ImageStore,
    source: WatchedSource,
    name: str,
    *,
    reason: str,
    allow_mass_delete: bool,
    as_json: bool,
    stop: threading.Event,
) -> None:
    """Follow a source until stopped, and print a line for each sync.

    Args:
        store: what to change.
        source: what to follow.
        name: what to call it.
        reason: why, for the records.
        allow_mass_delete: do not ask before most images are deleted.
        as_json: print JSON.
        stop: ends it.
    """
    from eventstore import watching

    done = watching.watch(
        store, source, reason=reason, allow_mass_delete=allow_mass_delete, stop=stop
    )
    for report in done:
        if as_json:
            output.json_line(shapes.sync_report(output.path_text(name), report))
        else:
            output.line(reports.summary(report))
        sys.stdout.flush()
