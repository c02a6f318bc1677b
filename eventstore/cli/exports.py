"""The commands `export`, `check-export` and `import`, which carry records to other places."""

from __future__ import annotations

from collections.abc import Sequence

import click

from eventstore import exporting, importing, merkle, notes
from eventstore.cli import output
from eventstore.cli.moments import position_of
from eventstore.cli.options import json_option, open_to_read, path_of, store_option
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
@click.option(
    "--as",
    "form",
    type=click.Choice(list(exporting.FILES)),
    default="jsonl",
    show_default=True,
    help="Lines of JSON, or CloudEvents 1.0 in lines.",
)
@json_option
@store_option
def export_command(
    destination: str,
    after: str | None,
    through: str | None,
    form: str,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Write records to the new directory DESTINATION, with a proof beside them.

    Whoever has a checkpoint of the store can check that nothing was changed or left out.
    """
    with open_to_read(store_path) as store:
        start = 0 if after is None else position_of(store, after)
        end = store.position if through is None else position_of(store, through)
        found = exporting.export_records(store, destination, after=start, through=end, form=form)
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
    found = exporting.check_export(source, known=known)
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


@click.command("import")
@click.argument("source", metavar="EXPORT", type=click.Path(readable=False))
@checkpoint_option
@keys_option
@json_option
@store_option
def import_command(
    source: str,
    checkpoint_file: str | None,
    key_texts: Sequence[str],
    as_json: bool,
    store_path: str | None,
) -> None:
    """Append the records of EXPORT to the store that they go on from, byte for byte.

    A range from the first record makes a new store. Everything is checked before anything is
    appended; with --checkpoint, also that the records are of the log that it was taken of.
    """
    path = path_of(store_path)
    known, _ = _known(checkpoint_file, key_texts)
    found = importing.import_records(source, path, known=known)
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
