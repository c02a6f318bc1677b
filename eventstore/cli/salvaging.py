"""The command that gets out of a damaged store what still checks: `salvage`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import click

from eventstore.cli import bars, output, shapes
from eventstore.cli.backups import forks, origin
from eventstore.cli.options import json_option, open_to_read
from eventstore.cli.output import line
from eventstore.cli.upkeep import DAMAGE_FOUND
from eventstore.salvage import FOLDER, SalvageReport
from eventstore.salvage import salvage as salvage_store


@click.command()
@click.argument("source", type=click.Path(readable=False))
@click.argument("destination", type=click.Path(readable=False))
@json_option
def salvage(source: str, destination: str, as_json: bool) -> int:
    """Write a new store DESTINATION with all of SOURCE that checks; list what was lost.

    SOURCE is never altered, and may be too damaged to open. What checks, but lies behind a lost
    record, is kept in DESTINATION/salvaged.
    """
    with bars.shown() as bar:
        report = salvage_store(source, destination, progress=bar.step("salvaging records"))
    for problem in report.lost:
        if as_json:
            output.json_line(shapes.problem(problem))
        else:
            line(f"lost: {problem.kind}: {problem.message}", "red")
    if as_json:
        output.json_line(_totals(report))
    else:
        _say(report)
    return DAMAGE_FOUND if report.lost else 0


def _totals(report: SalvageReport) -> dict[str, object]:
    with open_to_read(report.destination) as store:
        store_id, forks_from = store.store_id, forks(store)
    return {
        "path": report.destination,
        "store_id": store_id,
        "forks": forks_from,
        "position": report.position,
        "end": report.end,
        "images": report.images,
        "recovered": report.recovered,
        "records_beside": report.records_beside,
        "configs_beside": report.configs_beside,
        "lost": len(report.lost),
    }


def _ranges(positions: Sequence[int]) -> str:
    """Return ascending positions in words, neighbours as one range."""
    shown: list[str] = []
    for _, group in groupby(enumerate(positions), lambda place: place[1] - place[0]):
        first, *_, last = 2 * [position for _, position in group]
        shown.append(f"@{first}" if first == last else f"@{first} to @{last}")
    return ", ".join(shown)


def _say(report: SalvageReport) -> None:
    end = "an unknown end" if report.end is None else f"@{report.end}"
    line(f"{report.destination}: a store at @{report.position} of {end}, {report.images} images")
    with open_to_read(report.destination) as store:
        where = origin(store.fork) if store.fork else "from a store whose id cannot be read"
        line(f"store id {store.store_id}: forked {where}")
    if report.recovered:
        line(f"found in pages that nothing leads to: {_ranges(report.recovered)}")
    if report.records_beside or report.configs_beside:
        line(
            f"{report.destination}/{FOLDER}: {report.records_beside} records and"
            f" {report.configs_beside} configs that have no place in it"
        )
    line(f"losses listed: {len(report.lost)}" if report.lost else "nothing was lost")
