"""The command `sync`: take over the images that a host holds, from wherever they are kept."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from eventstore.cli import bars, following, output, reports, shapes
from eventstore.cli.options import json_option, open_to_write, path_of, store_option, write_options

if TYPE_CHECKING:
    pass

PREFIX = "docker://"


@click.command()
@click.argument("source", type=click.Path(readable=False))
@click.option("--watch", is_flag=True, help="Follow SOURCE and record each change, until stopped.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--allow-mass-delete",
    is_flag=True,
    help="Go on even if most images would be deleted, as from a wrong SOURCE.",
)
@click.option(
    "--os",
    "system",
    metavar="OS",
    help="Operating system of Docker's host; this one's if not given.",
)
@write_options
@json_option
@store_option
def sync(
    source: str,
    watch: bool,
    dry_run: bool,
    allow_mass_delete: bool,
    system: str | None,
    actor: str | None,
    reason: str | None,
    as_json: bool,
    store_path: str | None,
) -> None:
    """Append what changed on a host since the last time: all images of SOURCE.

    SOURCE is a Docker data root (such as /var/lib/docker), its image/<driver> folder, or the
    imagedb folder in that; or a root of containers/storage, where Podman and Buildah keep
    images (/var/lib/containers/storage; without root ~/.local/share/containers/storage), or
    its <driver>-images folder; or the address of a running Docker daemon: docker://, or
    docker:///PATH for a socket that is not /var/run/docker.sock. It is only read.

    With --watch, which is for Docker's files, each change is recorded within a second; what
    goes wrong is told and tried again; SIGINT and SIGTERM end it with 0.
    """
    from eventstore.errors import StoreNotFoundError
    from eventstore.sources.finding import find
    from eventstore.sync import configs_in
    from eventstore.sync import sync as run_sync

    why = _why(source, reason)
    if watch:
        if dry_run:
            raise click.UsageError("--watch records what changes: it does not go with --dry-run")
        _watch(
            source, system, actor, why, store_path, allow_mass_delete=allow_mass_delete,
            as_json=as_json,
        )  # fmt: skip
        return
    place = find(source)
    with ExitStack() as stack:
        path = path_of(store_path)
        bar = stack.enter_context(bars.shown())
        reading = bar.step("reading images")
        try:
            store = stack.enter_context(open_to_write(path, actor=actor))
            findings = place.read(
                operating_system=system, config_of=configs_in(store), progress=reading
            )
        except StoreNotFoundError:
            # A source that cannot be read makes no store; nor does a dry run, that changes nothing.
            findings = place.read(operating_system=system, progress=reading)
            if dry_run:
                from tempfile import TemporaryDirectory

                path = stack.enter_context(TemporaryDirectory(prefix="eventstore-dry-run-"))
            store = stack.enter_context(open_to_write(path, actor=actor, create=True))
        found = run_sync(
            store,
            findings.images,
            findings.passed_over,
            names=findings.names,
            reason=why,
            dry_run=dry_run,
            allow_mass_delete=allow_mass_delete,
            progress=bar.step("recording what changed"),
        )
    if as_json:
        output.json_line(shapes.sync_report(output.path_text(str(place.path)), found))
    else:
        reports.show(str(place.path), found, reports.of_sync(found))


def _why(source: str, reason: str | None) -> str:
    """Return the reason of a sync, as it can be stored whatever bytes a path has."""
    if reason is None:
        named = source if source.startswith(PREFIX) else os.path.abspath(source)
        reason = f"sync of {named}"
    return reason.encode("utf-8", "backslashreplace").decode()


def _watch(
    source: str,
    system: str | None,
    actor: str | None,
    reason: str,
    store_path: str | None,
    *,
    allow_mass_delete: bool,
    as_json: bool,
) -> None:
    """Follow a Docker database until stopped."""
    from eventstore.sources.docker_watched import WatchedImageDB

    if source.startswith(PREFIX):
        raise click.UsageError("--watch follows Docker's files, not a daemon's socket")
    with following.until_stopped() as stop:
        watched = WatchedImageDB(source, operating_system=system)
        with open_to_write(path_of(store_path), actor=actor, create=True) as store:
            following.watch_source(
                store,
                watched,
                str(watched.path),
                reason=reason,
                allow_mass_delete=allow_mass_delete,
                as_json=as_json,
                stop=stop,
            )
