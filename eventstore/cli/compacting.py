"""The command `compact`, which forgets what only the past needs."""

from __future__ import annotations

import click
import msgspec

from eventstore.cli import bars, moments
from eventstore.cli.options import json_option, open_to_write, store_option, write_options
from eventstore.cli.output import clock_time, json_line, line, note, size


@click.command()
@click.option(
    "--before",
    metavar="WHEN",
    required=True,
    help="The first moment that can be looked at from then on.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and do nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@write_options
@json_option
@store_option
def compact(
    before: str,
    dry_run: bool,
    yes: bool,
    actor: str | None,
    reason: str | None,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Drop, for good, the records and configs that only the past before WHEN needs.

    What is there at WHEN keeps its records and its config; images that were gone by then, and
    their configs, are destroyed in all files of the store. Every proof and checkpoint still holds,
    and the log says what was done, by whom and why. Backups that were made before keep everything.
    """
    with open_to_write(store_path, actor=actor) as store:
        position = moments.position_of(store, before)
        if not dry_run and not yes:
            with bars.shown() as bar:
                progress = bar.step("counting records")
                would = store.compact(position=position, dry_run=True, progress=progress)
            question = (
                f"Drop {would.records} records, {would.configs} configs and all moments before"
                f" @{would.through} for good?"
            )
            click.confirm(question, abort=True, err=True)
        why = f"compact --before {before}" if reason is None else reason
        with bars.shown() as bar:
            progress = bar.step("compacting records")
            found = store.compact(position=position, reason=why, dry_run=dry_run, progress=progress)
        first = store.as_of(position=found.through).time
    if as_json:
        json_line(msgspec.to_builtins(found))
        return
    line(
        f"{'would drop' if dry_run else 'dropped'} {found.records} of"
        f" {found.records + found.kept} records, {found.configs} configs"
        f" ({size(found.config_bytes)}), {found.names} names"
    )
    line(f"the first moment that can be looked at: @{found.through}, {clock_time(first)}")
    if found.records and not dry_run:
        note("the room is used again; the file stays as large as it is: a backup is smaller")
