"""The commands that read the log: `log`, `diff`, `search`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

import click

from eventstore.cli import completing, layout, moments, naming, output, shapes
from eventstore.cli.options import json_option, open_to_read, store_option
from eventstore.cli.paging import paged
from eventstore.diff import ImageChange, ViewDiff
from eventstore.events import Compacted, Created, Deleted, Event, Named, Record, Redacted
from eventstore.store import ImageStore

_STYLES: dict[type[Event], str] = {
    Created: layout.CAME,
    Deleted: layout.WENT,
    Redacted: layout.WENT,
    Compacted: layout.WENT,
}


@click.command()
@click.argument("image", required=False, shell_complete=completing.ever)
@click.option("--limit", "-n", type=click.IntRange(min=0), metavar="N", help="At most N records.")
@click.option("--reverse", is_flag=True, help="Oldest first.")
@click.option(
    "--tag",
    "name",
    metavar="NAME",
    help="What happened to a name, such as app:1.0.",
    shell_complete=completing.names,
)
@click.option("--since", metavar="WHEN", help="Only records after this moment.")
@click.option("--until", metavar="WHEN", help="Only records up to this moment.")
@click.option("--follow", "-f", is_flag=True, help="Oldest first, and wait for new ones.")
@json_option
@store_option
@paged
def log(
    image: str | None,
    name: str | None,
    limit: int | None,
    reverse: bool,
    since: str | None,
    until: str | None,
    follow: bool,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Show what happened, newest first: to all images, or to IMAGE, deleted ones too.

    With IMAGE, what happened to others and changed it is shown as well: that its parent was
    deleted, that a name of its was given to another image. --follow waits for records of its own.
    """
    if follow and until is not None:
        raise click.UsageError("--follow has no end, so it does not go with --until")
    if name is not None and (follow or image is not None):
        raise click.UsageError("--tag goes neither with IMAGE nor with --follow")
    with open_to_read(store_path) as store:
        image_id = None if image is None else naming.find_ever(store, image)
        after = 0 if since is None else moments.position_of(store, since)
        through = store.position if until is None else moments.position_of(store, until)
        records: Iterable[Record]
        if name is not None:
            found = [one for one in store.tag_records(name) if after < one.position <= through]
            records = found if reverse else reversed(found)
        else:
            backward = not (reverse or follow)
            tell = store.records if image_id is None else partial(store.story, image_id)
            records = tell(after=after, through=through, reverse=backward)
        printer = Printer(naming.ShortIds(store), as_json=as_json, image_id=image_id)
        for record in islice(records, limit):
            printer.print(record)
        if follow:
            _follow(store, through, image_id, printer)


class Printer:
    """Prints records under a line for each act: when, who, why."""

    def __init__(
        self, short: naming.ShortIds, *, as_json: bool, image_id: str | None = None
    ) -> None:
        """Begin.

        Args:
            short: gives the short forms of ids.
            as_json: print JSON.
            image_id: whose story is told; records of others say what they did to it.
        """
        self._short = short
        self._as_json = as_json
        self._image_id = image_id
        self._act: tuple[object, ...] = ()

    def print(self, record: Record) -> None:
        """Print one record, and the line above it where a new act begins."""
        did = self._did(record)
        if self._as_json:
            shape = shapes.record(record)
            output.json_line(shape | {"did": did} if did else shape)
            return
        act = (record.batch, record.actor, record.reason)
        if act != self._act:
            self._act = act
            heading = (output.clock_time(record.time), record.actor, record.reason)
            output.line("  ".join(part for part in heading if part), layout.HEADING)
        image_id = self._short(record.image_id) if record.image_id else "the log"
        event, said = record.event, shapes.detail(record.event, self._short)
        layout.pieces(
            (f"{f'@{record.position}':>9}", layout.PLACE),
            (f"  {shapes.kind_of(event):<16}  ", _STYLES.get(type(event), "")),
            (image_id, layout.ID),
            (f"  {said}" if said else "", layout.NAME if isinstance(event, Named) else ""),
            (f"  {did}" if did else "", layout.WENT),
            cut=True,
        )

    def _did(self, record: Record) -> str:
        """Return what a record of another image did to the one whose story is told."""
        if self._image_id is None or record.image_id == self._image_id:
            return ""
        did = "orphaned" if isinstance(record.event, Deleted | Compacted) else "taken from"
        return f"{did} {self._short(self._image_id)}"


def _follow(store: ImageStore, after: int, image_id: str | None, printer: Printer) -> None:
    """Print records as they come, until interrupted."""
    sys.stdout.flush()
    for record in store.follow(after):
        if image_id is None or record.image_id == image_id:
            printer.print(record)
            sys.stdout.flush()


@click.command()
@click.argument("a", metavar="WHEN")
@click.argument("b", metavar="[WHEN]", required=False)
@json_option
@store_option
@paged
def diff(a: str, b: str | None, as_json: bool, store_path: str | None) -> None:
    """Show what differs between two moments; the second is now if not given."""
    with open_to_read(store_path) as store:
        before = moments.position_of(store, a)
        after = store.position if b is None else moments.position_of(store, b)
        found = store.diff(before, after)
        if as_json:
            output.json_line(shapes.difference(found))
            return
        output.line(
            f"@{found.before} to @{found.after}: {len(found.created)} created,"
            f" {len(found.deleted)} deleted, {len(found.changed)} changed",
            layout.FAINT,
        )
        _print_differences(store, found)


def _print_differences(store: ImageStore, found: ViewDiff) -> None:
    """Print a line for each image, with the names that it has, or had when it was there."""
    short = naming.ShortIds(store)
    names = naming.by_image(store, store.as_of(position=found.after))
    gone = naming.by_image(store, store.as_of(position=found.before)) if found.deleted else {}
    changes = {change.image_id: list(_changes(change, short)) for change in found.changed}
    for sign, style, listed, named in (
        ("+", layout.CAME, found.created, names),
        ("-", layout.WENT, found.deleted, gone),
        ("~", layout.PLACE, changes, names),
    ):
        for image_id in listed:
            labels = "".join(f"  {name}" for name in naming.given(named.get(image_id, ())))
            layout.pieces(
                (f"{sign} ", style), (short(image_id), layout.ID), (labels, layout.NAME), cut=True
            )
            for text in changes.get(image_id, ()):
                layout.pieces((f"    {text}", ""), cut=True)


def _changes(change: ImageChange, short: naming.ShortIds) -> Iterator[str]:
    if change.recreated:
        yield "created again"
    if change.parent is not None:
        yield f"parent {short(change.parent[0])} → {short(change.parent[1])}"
    if change.last_updated is not None:
        was, now = change.last_updated
        yield f"last updated {output.clock_time(was)} → {output.clock_time(now)}"
    if change.built_locally is not None:
        yield "built here" if change.built_locally[1] else "no longer marked as built"


@click.command()
@click.argument("term", shell_complete=completing.ever)
@click.option("--all", "-a", "everything", is_flag=True, help="Also images that were deleted.")
@json_option
@store_option
def search(term: str, everything: bool, as_json: bool, store_path: str | None) -> None:
    """Print the whole id of the one image that TERM is the start of."""
    with open_to_read(store_path) as store:
        if everything:
            image_id = naming.find_ever(store, term)
        else:
            image_id = naming.find(store, store.view(), term)
        if as_json:
            output.json_line({"id": image_id, "present": image_id in store})
        else:
            output.line(image_id)
