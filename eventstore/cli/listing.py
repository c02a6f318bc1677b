"""The commands that show images, now or at any moment of the past: `ls`, `tree`, `show`."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import click

from eventstore.cli import completing, layout, moments, naming, output, shapes
from eventstore.cli.options import at_option, json_option, open_to_read, store_option
from eventstore.cli.paging import paged
from eventstore.errors import CorruptionError, RedactedError
from eventstore.image import ContainerConfig, Image
from eventstore.store import ImageStore
from eventstore.view import ImageView

_DEPTH_MAX = 200
_INDENT = 16
_STYLES = {"id": layout.ID, "parent": layout.ID, "child": layout.ID, "name": layout.NAME}
_NO_CONFIG, _REDACTED = "no sound config", "redacted"
Unreadable = CorruptionError | RedactedError


def _view(store: ImageStore, when: str | None) -> ImageView:
    position = store.position if when is None else moments.position_of(store, when)
    return store.as_of(position=position)


def _headline(view: ImageView, when: str | None) -> None:
    """Say which moment was understood, where the past was asked for."""
    if when is not None:
        when = output.clock_time(view.time) if view.position else "before the first record"
        output.line(f"as of @{view.position}, {when}", layout.FAINT)


@click.command()
@click.option("--all", "-a", "everything", is_flag=True, help="Also images that have children.")
@at_option
@json_option
@store_option
@paged
def ls(everything: bool, at: str | None, as_json: bool, store_path: str | None) -> None:
    """List images, newest first; those without children, unless --all is given.

    On a terminal that is too narrow for all columns, UPDATED and BUILT are left out.
    """
    with open_to_read(store_path) as store:
        view = _view(store, at)
        with _faults_last() as faults:
            looked = [_look(view, name, faults) for name in (view if everything else view.heads())]
            images = sorted((image for image in looked if image is not None), key=_newest_first)
            names = naming.by_image(store, view)
            if as_json:
                for image in images:
                    output.json_line(shapes.listed(view, image, names.get(image.id, ())))
                for name, fault in faults.items():
                    output.json_line(shapes.unreadable(view, name, names.get(name, ()), fault))
                return
            _headline(view, at)
            short = naming.ShortIds(store)
            rows = [_row(view, image, short) for image in images]
            rows += [
                _row_without_config(view, name, fault, short) for name, fault in faults.items()
            ]
            listed = [image.id for image in images] + list(faults)
            layout.table(
                ("IMAGE ID", "AGE", "PLATFORM", ">LAYERS", "UPDATED", "PARENT", "BUILT", "NAMES"),
                [
                    (*row, ", ".join(naming.given(names.get(image_id, ()))) or "-")
                    for image_id, row in zip(listed, rows, strict=True)
                ],
                flexible=(7, 2),
                dispensable=(4, 6),
                styles=(layout.ID, layout.FAINT, "", "", layout.FAINT, layout.ID, "", layout.NAME),
            )


@contextmanager
def _faults_last() -> Generator[dict[str, Unreadable]]:
    """Give a place for images whose config does not check; say so when the rest is shown."""
    faults: dict[str, Unreadable] = {}
    yield faults
    for fault in faults.values():
        if isinstance(fault, CorruptionError):  # what was redacted is as it was asked for
            raise fault


def _look(view: ImageView, image_id: str, faults: dict[str, Unreadable]) -> Image | None:
    """Return an image, None if its config does not check or is redacted; the faults get that."""
    try:
        return view.get(image_id)
    except RedactedError as error:
        faults[image_id] = error
        return None
    except CorruptionError as error:
        if error.digest != image_id:
            raise
        faults[image_id] = error
        return None


def _no_config(fault: Unreadable) -> str:
    return _REDACTED if isinstance(fault, RedactedError) else _NO_CONFIG


def _row_without_config(
    view: ImageView, image_id: str, fault: Unreadable, short: naming.ShortIds
) -> tuple[str, ...]:
    """Return what the log says of an image whose config does not check."""
    parent = short(view.get_parent(image_id))
    updated = output.age(view.get_last_updated(image_id))
    built = "here" if view.is_built_locally(image_id) else "-"
    return (short(image_id), "?", _no_config(fault), "?", updated, parent, built)


def _newest_first(image: Image) -> tuple[bool, int, str]:
    """Order as Docker's listing does; images that do not say when they were made come last."""
    return image.created_ns is None, -(image.created_ns or 0), image.id


def _row(view: ImageView, image: Image, short: naming.ShortIds) -> tuple[str, ...]:
    return (
        short(image.id),
        output.age(image.created),
        image.platform or "-",
        str(len(image.root_fs.diff_ids)),
        output.age(view.get_last_updated(image.id)),
        short(image.parent),
        "here" if view.is_built_locally(image.id) else "-",
    )


@click.command()
@click.argument("image", required=False, shell_complete=completing.present)
@at_option
@json_option
@store_option
@paged
def tree(image: str | None, at: str | None, as_json: bool, store_path: str | None) -> None:
    """Show images under their parents: all, or those under IMAGE."""
    with open_to_read(store_path) as store:
        view = _view(store, at)
        if image is not None:
            roots = [naming.find(store, view, image)]
        else:
            roots = [image_id for image_id in view if view.get_parent(image_id) is None]
        names = naming.by_image(store, view)
        with _faults_last() as faults:
            if as_json:
                for depth, image_id in _walk(view, roots):
                    found = _look(view, image_id, faults)
                    if found is None:
                        known = names.get(image_id, ())
                        shape = shapes.unreadable(view, image_id, known, faults[image_id])
                    else:
                        shape = shapes.listed(view, found, names.get(image_id, ()))
                    output.json_line({"depth": depth} | shape)
                return
            _headline(view, at)
            _print_trees(store, view, roots, names, faults)


def _walk(view: ImageView, roots: list[str]) -> Iterator[tuple[int, str]]:
    """Iterate over depths and ids of the images under `roots`, parents first."""
    pending = [(0, image_id) for image_id in reversed(roots)]
    while pending:
        depth, image_id = pending.pop()
        yield depth, image_id
        pending.extend((depth + 1, child) for child in reversed(view.children(image_id)))


def _print_trees(
    store: ImageStore,
    view: ImageView,
    roots: list[str],
    names: dict[str, list[str]],
    faults: dict[str, Unreadable],
) -> None:
    short = naming.ShortIds(store)
    for root in roots:
        nodes = [node for node in _walk(view, [root]) if node[0] <= _DEPTH_MAX]
        before = layout.branches([depth for depth, _ in nodes])
        for branch, (_, image_id) in zip(before, nodes, strict=True):
            label = _label(view, image_id, names.get(image_id, ()), faults)
            style = layout.ID if view.children(image_id) else f"bold {layout.ID}"
            layout.pieces((branch, layout.FAINT), (short(image_id), style), *label, cut=True)


def _label(
    view: ImageView, image_id: str, names: Sequence[str], faults: dict[str, Unreadable]
) -> Iterator[layout.Piece]:
    """Iterate over what is said of an image in a tree, behind its id."""
    image = _look(view, image_id, faults)
    if image is None:
        age, made_by = "?", _no_config(faults[image_id])
    else:
        age, made_by = output.age(image.created), output.cell(image.last_step)
    yield "".join(f"  {name}" for name in naming.given(names)), layout.NAME
    yield f"  {age}", layout.FAINT
    yield f"  {made_by}" if made_by else "", ""


@click.command()
@click.argument("image", shell_complete=completing.ever)
@at_option
@click.option("--raw", is_flag=True, help="Print the exact bytes of the config, nothing else.")
@json_option
@store_option
@paged
def show(image: str, at: str | None, raw: bool, as_json: bool, store_path: str | None) -> None:
    """Show all that is known of IMAGE."""
    with open_to_read(store_path) as store:
        view = _view(store, at)
        image_id = naming.find(store, view, image)
        found = view.get(image_id)
        names = naming.by_image(store, view).get(image_id, [])
        if raw:
            if sys.stdout.isatty() and output.steers(found.raw_json):
                raise click.UsageError(
                    "the config holds what may steer a terminal: send --raw to a file or a pipe"
                )
            sys.stdout.flush()
            sys.stdout.buffer.write(found.raw_json)
            return
        if as_json:
            manifests = store.manifests(image_id, as_of=view.position)
            output.json_line(shapes.whole(view, found, names, manifests))
            return
        _headline(view, at)
        for name, value in _facts(store, view, found, names):
            layout.fact(name, value, _INDENT, _STYLES.get(name, ""))


def _facts(
    store: ImageStore, view: ImageView, image: Image, names: Sequence[str]
) -> Iterator[tuple[str, object]]:
    """Iterate over what people want to know of an image, empty fields left out."""
    records = list(store.records(image.id, through=view.position))
    if not records:
        raise CorruptionError(f"{image.id} has no records", digest=image.id)
    last = records[-1]
    yield "id", image.id
    for name in names:
        yield "name", name
    yield "parent", image.parent or "-"
    for child in view.children(image.id):
        yield "child", child
    yield "created", output.clock_time(image.created)
    yield "last updated", output.clock_time(view.get_last_updated(image.id))
    yield "built", "here" if view.is_built_locally(image.id) else "not here, as far as is known"
    yield "platform", image.platform or "-"
    optional = (
        ("author", image.author),
        ("comment", image.comment),
        ("docker version", image.docker_version),
        ("os version", image.os_version),
    )
    yield from ((name, value) for name, value in optional if value)
    if image.config is not None:
        yield from _config(image.config)
    for layer in image.root_fs.diff_ids:
        yield "layer", layer
    yield "chain id", image.root_fs.chain_id() or "-"
    for manifest in store.manifests(image.id, as_of=view.position):
        yield "manifest", f"{manifest.digest}  {manifest.media_type}  {manifest.size} bytes"
        for packed in manifest.layers:
            yield "packed layer", f"{packed.digest}  {packed.media_type}  {packed.size} bytes"
    yield "config", f"{len(image.raw_json)} bytes; --raw prints them"
    yield "records", f"{len(records)}; the last is @{last.position}, by {last.actor}"


def _config(config: ContainerConfig) -> Iterator[tuple[str, object]]:
    optional = (
        ("user", config.user),
        ("entrypoint", " ".join(config.entrypoint or ())),
        ("command", " ".join(config.cmd or ())),
        ("working dir", config.working_dir),
        ("exposes", " ".join(sorted(config.exposed_ports or ()))),
        ("volumes", " ".join(sorted(config.volumes or ()))),
        ("stop signal", config.stop_signal),
    )
    yield from ((name, value) for name, value in optional if value)
    for variable in config.env or ():
        yield "env", variable
    for name, value in sorted((config.labels or {}).items()):
        yield "label", f"{name}={value}"
