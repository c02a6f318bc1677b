"""The options that commands share, and how they open the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from eventstore.store import ImageStore

_F = TypeVar("_F", bound=Callable[..., Any])
STORE_HELP = "Directory of the store; EVENTSTORE_PATH if not given."


def store_option(command: _F) -> _F:
    """Add `--store`; it may stand before the name of the command as well."""
    return click.option("--store", "-s", "store_path", metavar="PATH", help=STORE_HELP)(command)


def json_option(command: _F) -> _F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(
        command
    )


def at_option(command: _F) -> _F:
    """Add `--at`."""
    return click.option(
        "--at",
        metavar="WHEN",
        help="Look at this moment of the past; now if not given.",
    )(command)


def write_options(command: _F) -> _F:
    """Add `--reason` and `--actor`."""
    reason = click.option("--reason", "-m", metavar="TEXT", help="Why; kept in the log.")
    actor = click.option("--actor", metavar="WHO", help="Who; user@host if not given.")
    return reason(actor(command))


def path_of(store_path: str | None) -> str:
    """Return the path of the store, wherever it was given.

    Raises:
        click.UsageError: it was given nowhere.
    """
    found = store_path or click.get_current_context().find_root().params.get("store_path")
    if not found:
        raise click.UsageError("which store? Give --store PATH, or set EVENTSTORE_PATH")
    return str(found)


def open_to_read(store_path: str | None) -> ImageStore:
    """Open the store without ever writing to it."""
    return ImageStore.open(path_of(store_path), read_only=True, create=False)


def open_to_write(
    store_path: str | None, *, actor: str | None = None, create: bool = False
) -> ImageStore:
    """Open the store; make it if `create` says so."""
    return ImageStore.open(path_of(store_path), actor=actor, create=create)
