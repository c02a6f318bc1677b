"""Complete commands, options, image ids and names in the shell.

`completion SHELL` prints what a shell has to read once. From then on the shell asks the command
itself, which answers from the store that the line names, or EVENTSTORE_PATH does. A question that
cannot be answered is answered with nothing: no completion may print an error into a line that
somebody is typing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from eventstore import digest, references
from eventstore.errors import AmbiguousDigestError, EventStoreError, ImageNotFoundError
from eventstore.store import ImageStore

VARIABLE = "_EVENTSTORE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_OFFERED_MAX = 100
# Else bash takes app:1.0 for three words.
_BASH_WORDS = "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"
Offer = Callable[[ImageStore, str], Iterable[tuple[str, str]]]


def answer(cli: click.Command) -> int | None:
    """Answer a question of the shell; None if there is none."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    return shell_complete(cli, {}, "eventstore", VARIABLE, asked)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what SHELL must read to complete commands, image ids and names.

    For bash, put this into ~/.bashrc: eval "$(eventstore completion bash)"; for zsh the same with
    zsh; for fish: eventstore completion fish | source.
    """
    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    assert found is not None
    source = found(root, {}, "eventstore", VARIABLE).source_vars()
    click.echo((_BASH_WORDS if shell == "bash" else "") + found.source_template % source)


def _completing(
    offer: Offer,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what completes a parameter with what a store offers."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        path = context.params.get("store_path") or context.find_root().params.get("store_path")
        with suppress(EventStoreError, OSError):
            if path:
                with ImageStore.open(path, read_only=True, create=False) as store:
                    found = list(islice(offer(store, incomplete), _OFFERED_MAX))
                return [CompletionItem(value, help=text or None) for value, text in found]
        return []

    return complete


def _present(store: ImageStore, incomplete: str) -> Iterable[tuple[str, str]]:
    """Offer the names and the ids of images that are there."""
    names: dict[str, list[str]] = {}
    for name, image_id in store.tags().items():
        familiar = references.familiar(name)
        names.setdefault(image_id, []).append(familiar)
        if familiar.startswith(incomplete):
            yield familiar, digest.short(image_id)
    for image_id in store:
        short = digest.short(image_id)
        if short.startswith(incomplete.lower()):
            yield short, " ".join(names.get(image_id, ()))


def _names(store: ImageStore, incomplete: str) -> Iterable[tuple[str, str]]:
    """Offer the names of images that are there."""
    for name, image_id in store.tags().items():
        if (familiar := references.familiar(name)).startswith(incomplete):
            yield familiar, digest.short(image_id)


def _ever(store: ImageStore, incomplete: str) -> Iterable[tuple[str, str]]:
    """Offer what is there, and then what was deleted."""
    yield from _present(store, incomplete)
    found: Iterable[str] = ()
    try:
        found = (store.search_history(incomplete),)
    except AmbiguousDigestError as error:
        found = error.candidates
    except ImageNotFoundError:
        pass
    for image_id in found:
        if image_id not in store:
            yield digest.short(image_id), "deleted"


present = _completing(_present)
ever = _completing(_ever)
names = _completing(_names)
