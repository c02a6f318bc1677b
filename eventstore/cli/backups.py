"""The commands `backup` and `restore`."""

from __future__ import annotations

import os

import click

from eventstore import meta
from eventstore.cli import bars, output
from eventstore.cli.options import json_option, open_to_read, store_option
from eventstore.cli.output import line, size
from eventstore.restore import restore as make_store
from eventstore.store import ImageStore


@click.command()
@click.argument("destination", type=click.Path(readable=False))
@json_option
@store_option
def backup(destination: str, as_json: bool, store_path: str | None) -> None:
    """Write a consistent copy of the store to the new directory DESTINATION.

    Writers may go on. To work with the copy, `restore` it.
    """
    with open_to_read(store_path) as store, bars.shown() as bar:
        bar.step("copying the store")
        position = store.backup(destination)
    if as_json:
        output.json_line({"path": output.path_text(destination), "position": position})
    else:
        data = os.stat(os.path.join(destination, "data.mdb"))
        line(f"{destination}: a store at @{position}, {size(data.st_blocks * 512)}")


@click.command()
@click.argument("source", metavar="BACKUP", type=click.Path(readable=False))
@click.argument("destination", type=click.Path(readable=False))
@json_option
def restore(source: str, destination: str, as_json: bool) -> None:
    """Make a new store from BACKUP in the new directory DESTINATION.

    The backup is verified first, and a damaged one is refused. The new store has an id of its own
    and says from which store it forks, and at which position; `info` shows it.
    """
    with bars.shown() as bar:
        make_store(source, destination, progress=bar.step("verifying records"))
    with open_to_read(destination) as store:
        if as_json:
            output.json_line(
                {
                    "path": output.path_text(destination),
                    "store_id": store.store_id,
                    "position": store.position,
                    "forks": forks(store),
                }
            )
            return
        line(f"{destination}: a store at @{store.position}, {size(store.size_on_disk())}")
        for fork in store.forks[:1]:
            line(f"store id {store.store_id}: forked {origin(fork)}")


def origin(fork: meta.Fork) -> str:
    """Return in words where a store left another; it may be restored, or salvaged."""
    return f"from {fork.store_id} at @{fork.position}"


def forks(store: ImageStore) -> list[dict[str, object]]:
    """Return the forks of a store for JSON, the nearest first."""
    return [{"store_id": fork.store_id, "position": fork.position} for fork in store.forks]
