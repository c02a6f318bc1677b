"""The commands that take back what was done: `undo` and `restore-image`."""

from __future__ import annotations

import re

import click

from eventstore import digest
from eventstore.cli import bars, completing, naming, shapes
from eventstore.cli.options import json_option, open_to_write, store_option, write_options
from eventstore.cli.output import json_line, line
from eventstore.undoing import Undone

_POSITION = re.compile(r"@?([0-9]{1,18})", re.ASCII)
_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and append nothing."
)


@click.command()
@click.argument("batch", metavar="@POSITION")
@click.option("--only", is_flag=True, help="Only that one record, not its whole batch.")
@_dry_run_option
@json_option
@write_options
@store_option
def undo(
    batch: str,
    only: bool,
    dry_run: bool,
    as_json: bool,
    actor: str | None,
    reason: str | None,
    store_path: str | None,
) -> None:
    """Take back the batch that the record at @POSITION is in, by new records: all, or nothing.

    What was deleted is created again with its parent, children, marks and names, what was created
    is deleted. What was changed since, or cannot come back, is listed, and then nothing is done.
    """
    match = _POSITION.fullmatch(batch.strip())
    if match is None:
        raise click.UsageError(f"{batch!r} is no position: write @120")
    with open_to_write(store_path, actor=actor) as store, bars.shown() as bar:
        bar.step("undoing records")
        done = store.undo(int(match[1]), whole_batch=not only, reason=reason or "", dry_run=dry_run)
    _say(done, dry_run=dry_run, as_json=as_json)


@click.command("restore-image")
@click.argument("image", shell_complete=completing.ever)
@_dry_run_option
@json_option
@write_options
@store_option
def restore_image(
    image: str,
    dry_run: bool,
    as_json: bool,
    actor: str | None,
    reason: str | None,
    store_path: str | None,
) -> None:
    """Bring the deleted IMAGE back as it was just before it was deleted."""
    with open_to_write(store_path, actor=actor) as store:
        image_id = naming.find_ever(store, image)
        done = store.restore_image(image_id, reason=reason or "", dry_run=dry_run)
    _say(done, dry_run=dry_run, as_json=as_json)


def _say(done: Undone, *, dry_run: bool, as_json: bool) -> None:
    """Print what was done, or would be, an event a line."""
    if as_json:
        events = [shapes.event(event) for event in done.events]
        positions = [record.position for record in done.records]
        json_line({"undone": done.undone, "events": events, "appended": positions})
        return
    for event in done.events:
        text = f"{shapes.kind_of(event):<16}  {digest.short(event.image_id)}"
        line(f"{text}  {shapes.detail(event)}".rstrip())
    count = len(done.undone)
    what = f"{count} record{'' if count == 1 else 's'}"
    line(f"would undo {what}" if dry_run else f"undid {what}", "dim")
