"""The commands that append to the log: `create`, `rm`, `tag`, `redact`, `set-parent` and others.

Each is one transaction: with several images either all of it happens, or nothing.
"""

from __future__ import annotations

import sys

import click

from eventstore import digest, references
from eventstore.cli import bars, completing, moments, naming
from eventstore.cli.options import open_to_write, store_option, write_options
from eventstore.cli.output import line
from eventstore.errors import InvalidImageError, SourceError
from eventstore.image import CONFIG_SIZE_MAX

_images = click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=completing.present
)


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(readable=False)
)
@write_options
@store_option
def create(
    files: tuple[str, ...], actor: str | None, reason: str | None, store_path: str | None
) -> None:
    """Create images from the image configs in FILEs (- is standard input), and print their ids."""
    configs = [(name, _read(name)) for name in files]
    with open_to_write(store_path, actor=actor, create=True) as store:
        created: list[str] = []
        with store.transaction(reason=reason or ""):
            for name, config in configs:
                try:
                    created.append(store.create(config))
                except InvalidImageError as error:
                    raise type(error)(f"{name}: {error.reason}") from error
        for image_id in created:
            line(image_id)


def _read(name: str) -> bytes:
    """Return the bytes of a file; more than a config may have are not read.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        if name == "-":
            return sys.stdin.buffer.read(CONFIG_SIZE_MAX + 1)
        with open(name, "rb") as file:
            return file.read(CONFIG_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        raise SourceError(name, getattr(error, "strerror", None) or str(error)) from error


@click.command()
@_images
@write_options
@store_option
def rm(
    images: tuple[str, ...], actor: str | None, reason: str | None, store_path: str | None
) -> None:
    """Delete IMAGEs; their history stays."""
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            # All are looked up first: deleting one may make a prefix unique that was not.
            found = [naming.find_present(store, image) for image in images]
            for image_id in dict.fromkeys(found):
                store.delete(image_id)
        for image_id in dict.fromkeys(found):
            line(image_id)


@click.command("set-parent")
@click.argument("image", shell_complete=completing.present)
@click.argument("parent", required=False, shell_complete=completing.present)
@click.option("--none", "no_parent", is_flag=True, help="Take the parent away.")
@write_options
@store_option
def set_parent(
    image: str,
    parent: str | None,
    no_parent: bool,
    actor: str | None,
    reason: str | None,
    store_path: str | None,
) -> None:
    """Make PARENT, which is named as IMAGE is, the parent of IMAGE."""
    if (parent is None) != no_parent:
        raise click.UsageError("give either PARENT or --none")
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            image_id = naming.find_present(store, image)
            parent_id = None if parent is None else naming.find_present(store, parent)
            store.set_parent(image_id, parent_id)
        line(image_id)


@click.command("mark-built")
@_images
@write_options
@store_option
def mark_built(
    images: tuple[str, ...], actor: str | None, reason: str | None, store_path: str | None
) -> None:
    """Mark IMAGEs as built on this host."""
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            found = [naming.find_present(store, image) for image in images]
            for image_id in found:
                store.set_built_locally(image_id)
        for image_id in found:
            line(image_id)


@click.command()
@_images
@click.option("--time", "when", metavar="TIME", help="When; now if not given.")
@write_options
@store_option
def touch(
    images: tuple[str, ...],
    when: str | None,
    actor: str | None,
    reason: str | None,
    store_path: str | None,
) -> None:
    """Note that IMAGEs were updated."""
    instant = None if when is None else moments.instant_of(when)
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            found = [naming.find_present(store, image) for image in images]
            for image_id in found:
                store.set_last_updated(image_id, instant)
        for image_id in found:
            line(image_id)


@click.command()
@click.argument("image", shell_complete=completing.ever)
@click.option("--reason", "-m", metavar="TEXT", required=True, help="Why; kept in the log.")
@click.option("--actor", metavar="WHO", help="Who; user@host if not given.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
def redact(image: str, reason: str, actor: str | None, yes: bool, store_path: str | None) -> None:
    """Destroy the config of IMAGE, deleted ones too, for good.

    What happened to the image stays known, and the image is not deleted. Backups that were made
    before keep the config.
    """
    with open_to_write(store_path, actor=actor) as store:
        image_id = naming.find_meant(store, image)
        if not yes:
            question = f"Destroy the config of {digest.short(image_id)} for good?"
            click.confirm(question, abort=True, err=True)
        with bars.shown() as bar:
            bar.step("destroying the config")
            position = store.redact(image_id, reason=reason)
        line(f"redacted {image_id} at @{position}")


@click.command()
@click.argument("name")
@click.argument("image", shell_complete=completing.present)
@write_options
@store_option
def tag(
    name: str, image: str, actor: str | None, reason: str | None, store_path: str | None
) -> None:
    """Give IMAGE the NAME, such as app:1.0; another image that has it loses it."""
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            image_id = naming.find_present(store, image)
            store.tag(name, image_id)
        line(f"{references.familiar(name)}  {image_id}")


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.names
)
@write_options
@store_option
def untag(
    names: tuple[str, ...], actor: str | None, reason: str | None, store_path: str | None
) -> None:
    """Take NAMEs away from their images; the images stay."""
    canonical = dict.fromkeys(references.canonical(name) for name in names)
    with open_to_write(store_path, actor=actor) as store:
        with store.transaction(reason=reason or ""):
            for name in canonical:
                store.untag(name)
        for name in canonical:
            line(references.familiar(name))
