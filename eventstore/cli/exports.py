"""The commands `export` and `check-export`, and the part of `import` that takes records in."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from eventstore import digest, exporting, image_export, importing, merkle, notes
from eventstore.cli import bars, output
from eventstore.cli.moments import position_of
from eventstore.cli.options import json_option, open_to_read, store_option
from eventstore.cli.output import line, note
from eventstore.cli.proofs import (
    checkpoint_option,
    keys_of,
    keys_option,
    print_signers,
    trusted,
)


@click.command("export")
@click.argument("destination", type=click.Path(readable=False))
@click.option("--after", metavar="WHEN", help="Records behind this moment; all if not given.")
@click.option("--through", metavar="WHEN", help="Records up to this moment; now if not given.")
@click.option("--at", metavar="WHEN", help="The images of this moment; now if not given.")
@click.option(
    "--as",
    "form",
    type=click.Choice([*exporting.FILES, *image_export.FORMS]),
    default="jsonl",
    show_default=True,
    help="Records as lines of JSON, or as CloudEvents 1.0; images as Docker, or OCI, keeps them.",
)
@click.option(
    "--leave-out", is_flag=True, help="Leave out images whose config was redacted or lost."
)
@json_option
@store_option
def export_command(
    destination: str,
    after: str | None,
    through: str | None,
    at: str | None,
    form: str,
    leave_out: bool,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Write records, or the images of a moment, to the new directory DESTINATION.

    Records come with a proof beside them: whoever has a checkpoint of the store can check that
    nothing was changed or left out. Images come as what a Docker daemon keeps in image/DRIVER of
    its data root, but for layerdb, or as an OCI image layout; of both without the layers.
    """
    _refuse_mixed(form, records={"--after": after, "--through": through},
                  images={"--at": at, "--leave-out": leave_out or None})  # fmt: skip
    if form in image_export.FORMS:
        _export_images(destination, form, at, store_path, leave_out=leave_out, as_json=as_json)
        return
    with open_to_read(store_path) as store:
        start = 0 if after is None else position_of(store, after)
        end = store.position if through is None else position_of(store, through)
        with bars.shown() as bar:
            found = exporting.export_records(
                store,
                destination,
                after=start,
                through=end,
                form=form,
                progress=bar.step("exporting records"),
            )
    if as_json:
        output.json_line(
            {
                "path": output.path_text(destination),
                "after": start,
                "through": found.position,
                "root_hash": found.root_hash.hex(),
            }
        )
    else:
        line(f"{destination}: {found.position - start} records, through @{found.position}")
        line(f"root hash {found.root_hash.hex()}")


def _refuse_mixed(form: str, *, records: dict[str, object], images: dict[str, object]) -> None:
    """Refuse options of the one kind of export with the other.

    Raises:
        click.UsageError: there are some.
    """
    kind, strange = ("records", images) if form in exporting.FILES else ("images", records)
    given = [name for name, value in strange.items() if value is not None]
    if given:
        raise click.UsageError(f"--as {form} exports {kind}: {given[0]} does not go with it")


def _export_images(
    destination: str,
    form: str,
    at: str | None,
    store_path: str | None,
    *,
    leave_out: bool,
    as_json: bool,
) -> None:
    with open_to_read(store_path) as store:
        position = store.position if at is None else position_of(store, at)
        with bars.shown() as bar:
            found = image_export.export_images(
                store,
                destination,
                form=form,
                as_of=position,
                leave_out=leave_out,
                progress=bar.step("exporting images"),
            )
    if as_json:
        shape = {"path": output.path_text(destination), "form": form}
        output.json_line(shape | msgspec.to_builtins(found))
        return
    line(f"{destination}: {found.images} images and {found.names} names as of @{found.position}")
    for image_id in found.left_out:
        note(f"eventstore: left out {digest.short(image_id)}, whose config is not there any more")
    for name in found.unlisted:
        note(f"eventstore: {name} is no reference in an OCI layout: only containerd will find it")


@click.command("check-export")
@click.argument("source", metavar="EXPORT", type=click.Path(readable=False))
@checkpoint_option
@keys_option
@json_option
def check_command(
    source: str, checkpoint_file: str | None, key_texts: Sequence[str], as_json: bool
) -> None:
    """Check that EXPORT is what was exported. This needs no store.

    Without a checkpoint of the store, kept before or within the range or at its end, it can only
    be shown that nothing in it contradicts the rest.
    """
    known, verified = _known(checkpoint_file, key_texts)
    with bars.shown() as bar:
        found = exporting.check_export(source, known=known, progress=bar.step("checking records"))
    if as_json:
        output.json_line(
            {
                "store_id": found.store_id,
                "after": found.before.position,
                "through": found.checkpoint.position,
                "root_hash": found.checkpoint.root_hash.hex(),
                "configs_missing": found.configs_missing,
                "proved": known is not None,
            }
        )
        return
    line(f"sound: records @{found.before.position + 1} to @{found.checkpoint.position}")
    line(f"root hash {found.checkpoint.root_hash.hex()}")
    print_signers(verified)
    if known is None:
        note("nothing proves that such a store exists: give --checkpoint FILE for that")


def import_export(
    source: str,
    path: str,
    checkpoint_file: str | None,
    key_texts: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Append the records of an export to the store that they go on from, and say so."""
    known, _ = _known(checkpoint_file, key_texts)
    with bars.shown() as bar:
        progress = bar.step("importing records")
        found = importing.import_records(source, path, known=known, progress=progress)
    if as_json:
        output.json_line(
            {
                "path": output.path_text(path),
                "from": found.store_id,
                "appended": found.appended,
                "position": found.checkpoint.position,
                "root_hash": found.checkpoint.root_hash.hex(),
                "configs_missing": found.configs_missing,
            }
        )
        return
    line(f"{path}: {found.appended} records appended, through @{found.checkpoint.position}")
    line(f"root hash {found.checkpoint.root_hash.hex()}")
    if found.configs_missing:
        note(f"eventstore: {found.configs_missing} images came without their config")


def _known(
    checkpoint_file: str | None, key_texts: Sequence[str]
) -> tuple[merkle.Checkpoint | None, Sequence[notes.Verified]]:
    """Return the checkpoint that was kept, once each key is found to have signed it.

    Raises:
        click.UsageError: there are keys, and nothing that they could have signed.
    """
    keys = keys_of(key_texts)
    if checkpoint_file is None:
        if keys:
            raise click.UsageError("--key says who signed the file of --checkpoint: give that, too")
        return None, ()
    said, verified = trusted(checkpoint_file, keys)
    return said.checkpoint, verified
