"""The command that gets out of a damaged store what still checks: `salvage`."""

from __future__ import annotations

import click

from eventstore.cli import output, shapes
from eventstore.cli.options import json_option
from eventstore.cli.output import line
from eventstore.cli.upkeep import DAMAGE_FOUND
from eventstore.salvage import FOLDER, SalvageReport
from eventstore.salvage import salvage as salvage_store


@click.command()
@click.argument("source", type=click.Path())
@click.argument("destination", type=click.Path())
@json_option
def salvage(source: str, destination: str, as_json: bool) -> int:
    """Write a new store DESTINATION with all of SOURCE that checks; list what was lost.

    SOURCE is never altered, and may be too damaged to open. What checks, but lies behind a lost
    record, is kept in DESTINATION/salvaged.
    """
    report = salvage_store(source, destination)
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
    return {
        "path": report.destination,
        "store_id": report.store_id,
        "position": report.position,
        "end": report.end,
        "images": report.images,
        "recovered": report.recovered,
        "records_beside": report.records_beside,
        "configs_beside": report.configs_beside,
        "lost": len(report.lost),
    }


def _say(report: SalvageReport) -> None:
    end = "an unknown end" if report.end is None else f"@{report.end}"
    line(f"{report.destination}: a store at @{report.position} of {end}, {report.images} images")
    if report.recovered:
        positions = " ".join(f"@{position}" for position in report.recovered)
        line(f"found in pages that nothing leads to: {positions}")
    if report.records_beside or report.configs_beside:
        line(
            f"{report.destination}/{FOLDER}: {report.records_beside} records and"
            f" {report.configs_beside} configs that have no place in it"
        )
    line(f"{len(report.lost)} lost" if report.lost else "nothing was lost")
