"""The command `import`: add records that were exported, or images from a layout or an archive."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from eventstore import exporting
from eventstore.cli import bars, exports, output, reports, shapes
from eventstore.cli.options import json_option, open_to_write, path_of, store_option, write_options
from eventstore.cli.proofs import checkpoint_option, keys_option

if TYPE_CHECKING:
    from eventstore.sources.found import Findings

_STANDARD_INPUT = "-"


@click.command("import")
@click.argument("source", type=click.Path(readable=False))
@click.option("--dry-run", is_flag=True, help="Images: say what would be done, and do nothing.")
@click.option(
    "--platform", metavar="OS/ARCH", help="Images: only those of this platform; all if not given."
)
@write_options
@checkpoint_option
@keys_option
@json_option
@store_option
def import_command(
    source: str,
    dry_run: bool,
    platform: str | None,
    actor: str | None,
    reason: str | None,
    checkpoint_file: str | None,
    key_texts: Sequence[str],
    as_json: bool,
    store_path: str | None,
) -> None:
    """Add the images of SOURCE, or append its records; nothing is ever taken away.

    SOURCE is a folder that is an OCI image layout; or an archive of images, as `docker save`,
    Podman and skopeo write it, or of a layout: a tar, packed with gzip, Zstandard or not at all,
    in a file, or - for standard input. Or it is a folder that `export` wrote: its records are
    appended byte for byte to the store that they go on from, or make a new one. Everything is
    checked before anything is appended; with --checkpoint, also that the records are of the log
    that it was taken of.
    """
    path = path_of(store_path)
    if os.path.lexists(os.path.join(source, exporting.PROOF)):
        if dry_run or platform or actor or reason:
            raise click.UsageError(
                "records are appended as they are: --dry-run, --platform, --actor and --reason are"
                " for images"
            )
        exports.import_export(source, path, checkpoint_file, key_texts, as_json=as_json)
        return
    if checkpoint_file or key_texts:
        raise click.UsageError("--checkpoint and --key are for records, and these are none")
    from eventstore.adding import add

    with ExitStack() as stack:
        bar = stack.enter_context(bars.shown())
        bar.step("reading images")
        name, findings = _read(source, platform)
        why = f"import of {name}" if reason is None else reason
        if dry_run and not os.path.lexists(path):
            # A dry run changes nothing, so it does not make the store either.
            from tempfile import TemporaryDirectory

            path = stack.enter_context(TemporaryDirectory(prefix="eventstore-dry-run-"))
        store = stack.enter_context(open_to_write(path, actor=actor, create=True))
        why = why.encode("utf-8", "backslashreplace").decode()
        progress = bar.step("adding images")
        found = add(store, findings, reason=why, dry_run=dry_run, progress=progress)
    if as_json:
        output.json_line(shapes.add_report(output.path_text(name), found))
    else:
        reports.show(name, found, reports.of_import(found))


def _read(source: str, platform: str | None) -> tuple[str, Findings]:
    """Return how a source is called, and what it holds."""
    from eventstore.sources import image_archive

    if source != _STANDARD_INPUT:
        found = image_archive.read_path(source, platform=platform)
        return os.path.abspath(source), found
    if sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: send an archive to it")
    name = "standard input"
    return name, image_archive.read_stream(sys.stdin.buffer, name, platform=platform)
