"""The commands that say who made an image what it is, and since when: `blame`, `bisect`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from eventstore import references
from eventstore.blame import Blame
from eventstore.cli import completing, layout, moments, naming, output, shapes
from eventstore.cli.history import Printer
from eventstore.cli.options import at_option, json_option, open_to_read, store_option
from eventstore.cli.paging import paged
from eventstore.errors import TagNotFoundError
from eventstore.events import Created, Record, Tagged
from eventstore.store import ImageStore
from eventstore.view import ImageView

NONE = "none"
Predicate = Callable[[ImageView], bool]


@click.command()
@click.argument("image", shell_complete=completing.ever)
@at_option
@json_option
@store_option
@paged
def blame(image: str, at: str | None, as_json: bool, store_path: str | None) -> None:
    """Show who made IMAGE what it is: for each fact the record, its time, actor and reason."""
    with open_to_read(store_path) as store:
        position = store.position if at is None else moments.position_of(store, at)
        found = store.blame(naming.find_ever(store, image), as_of=position)
        if as_json:
            for fact, value, record in _facts(found):
                output.json_line(shapes.fact(found.image_id, fact, value, record))
            return
        is_narrow = layout.is_narrow()
        when = output.age if is_narrow else output.clock_time
        layout.table(
            (">POSITION", "AGE" if is_narrow else "TIME", "ACTOR", "FACT", "REASON"),
            [
                (f"@{one.position}", when(one.time), one.actor, said, one.reason)
                for said, one in _said(found, naming.ShortIds(store))
            ],
            flexible=(4, 2, 3),
            styles=(layout.PLACE, layout.FAINT),
        )


def _facts(found: Blame) -> Iterator[tuple[str, object, Record]]:
    """Iterate over the facts of an image: what it is about, what is so, and the record."""
    yield "exists", found.exists.value, found.exists.record
    if found.parent is not None:
        yield "parent", found.parent.value, found.parent.record
    if found.built is not None:
        yield "built_locally", found.built.value, found.built.record
    if found.last_updated is not None:
        instant = output.utc(found.last_updated.value)
        yield "last_updated", instant, found.last_updated.record
    for named in found.names:
        yield "name", named.value, named.record


def _said(found: Blame, short: naming.ShortIds) -> Iterator[tuple[str, Record]]:
    """Iterate over the facts of an image in words, and their records."""
    yield ("exists" if found.exists.value else "is gone"), found.exists.record
    if found.parent is not None:
        parent = found.parent.value
        text = "no parent" if parent is None else f"parent {short(parent)}"
        orphaned = found.parent.record.image_id != found.image_id
        yield (f"{text}, it was deleted" if orphaned else text), found.parent.record
    if found.built is not None:
        yield ("built here" if found.built.value else "not built here"), found.built.record
    if found.last_updated is not None:
        instant = found.last_updated.value
        text = "never updated" if instant is None else f"updated {output.clock_time(instant)}"
        yield text, found.last_updated.record
    for named in found.names:
        yield f"named {references.shown(named.value)}", named.record


@click.command()
@click.option("--gone", metavar="IMAGE", help="IMAGE is not there.", shell_complete=completing.ever)
@click.option("--there", metavar="IMAGE", help="IMAGE is there.", shell_complete=completing.ever)
@click.option("--parent", nargs=2, metavar="IMAGE PARENT", help="IMAGE has the parent, or none.")
@click.option("--named", metavar="NAME", help="NAME means MEANT, or any image; none for no image.")
@click.argument("meant", required=False)
@click.option("--after", metavar="WHEN", help="Where to begin; there it must not hold yet.")
@click.option("--through", metavar="WHEN", help="Where to end; now if not given.")
@json_option
@store_option
def bisect(
    gone: str | None,
    there: str | None,
    parent: tuple[str, str] | None,
    named: str | None,
    meant: str | None,
    after: str | None,
    through: str | None,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Show the first record after which something holds, looking at few moments of the past.

    It must have come to hold once in the range, and held from there on. Without --after the range
    begins at 0; for what holds there, such as --gone, at the last record that made it otherwise.
    """
    if [gone, there, parent, named].count(None) != 3:
        raise click.UsageError("give one of --gone, --there, --parent and --named")
    if meant is not None and named is None:
        raise click.UsageError("MEANT goes with --named only")
    with open_to_read(store_path) as store:
        end = store.position if through is None else moments.position_of(store, through)
        start = 0
        predicate: Predicate
        if named is not None:
            predicate = _named(store, named, meant)
            if meant == NONE:
                start = _last_given(store, named, end)
        elif parent is not None:
            predicate = _has_parent(store, *parent)
        elif there is not None:
            image_id = naming.find_ever(store, there)
            predicate = lambda view: image_id in view  # noqa: E731
        else:
            gone_id = naming.find_ever(store, gone or "")
            start = _last_created(store, gone_id, end)
            predicate = lambda view: gone_id not in view  # noqa: E731
        if after is not None:
            start = moments.position_of(store, after)
        _print_first(store, predicate, start, end, as_json=as_json)


def _print_first(
    store: ImageStore, predicate: Predicate, start: int, end: int, *, as_json: bool
) -> None:
    """Print the first record after which a predicate holds, or end with 1 if it does not."""
    if start > end:
        raise click.UsageError(f"the range begins at @{start}, behind its end at @{end}")
    if predicate(store.as_of(position=start)):
        raise click.UsageError(f"it holds at @{start} already: let --after name another moment")
    found = store.bisect(predicate, after=start, through=end)
    if found is None:
        output.note(f"eventstore: it does not hold at @{end}")
        click.get_current_context().exit(1)
    Printer(naming.ShortIds(store), as_json=as_json).print(found)


def _has_parent(store: ImageStore, image: str, parent: str) -> Predicate:
    """Return whether an image has a parent, as a predicate."""
    image_id = naming.find_ever(store, image)
    parent_id = None if parent == NONE else naming.find_ever(store, parent)
    return lambda view: image_id in view and view.get_parent(image_id) == parent_id


def _named(store: ImageStore, name: str, meant: str | None) -> Predicate:
    """Return whether a name means an image, any or none, as a predicate."""
    canonical = references.canonical(name)
    if meant is None:
        return lambda view: canonical in store.tags(view.position)
    image_id = None if meant == NONE else naming.find_ever(store, meant)
    return lambda view: store.tags(view.position).get(canonical) == image_id


def _last_given(store: ImageStore, name: str, end: int) -> int:
    """Return the position where a name was last given to an image, 0 if it never was."""
    try:
        history = store.tag_records(name)
    except TagNotFoundError:
        return 0
    return max((one.position for one in history if _is(one, Tagged, end)), default=0)


def _last_created(store: ImageStore, image_id: str, end: int) -> int:
    """Return the position where an image was last created, 0 if it was not until then."""
    history = store.records(image_id, through=end)
    return max((one.position for one in history if _is(one, Created, end)), default=0)


def _is(record: Record, kind: type, end: int) -> bool:
    """Tell whether a record up to a position is of a kind."""
    return record.position <= end and isinstance(record.event, kind)
