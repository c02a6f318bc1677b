"""Put the command together, and turn whatever goes wrong into one line and an exit code.

Exit codes:

    0    done
    1    no: what was asked for is not there, or is refused
    2    the command line is wrong
    3    the store or the source cannot be used: missing, not allowed, full
    4    damage: something stored is not what was written
    130  interrupted
    141  whoever read the output has gone away
    143  terminated

SIGTERM ends a command as an interrupt does: what it had half done is taken away first. No traceback
reaches a user. A reader that goes away (`| head`) ends the command in silence.
"""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from eventstore import errors
from eventstore.cli import (
    backups,
    blaming,
    changes,
    compacting,
    completing,
    demo,
    examples,
    exports,
    following,
    history,
    imports,
    listing,
    naming,
    pages,
    proofs,
    salvaging,
    syncing,
    undoing,
    upkeep,
)
from eventstore.cli.options import STORE_HELP
from eventstore.cli.output import LogFormatter, LogHandler, line, note

NO, USAGE, UNUSABLE, DAMAGED, INTERRUPTED, PIPE_BROKEN, TERMINATED = 1, 2, 3, 4, 130, 141, 143
_SEE_PATH = "check the path; `eventstore sync SOURCE` or `create` makes a new store"
_SEE_DAMAGE = (
    "keep it as it is; `eventstore verify` lists the damage, `eventstore salvage` gets out what is"
    " sound"
)
_SEE_PAST = "keep the store and the checkpoint as they are, both are evidence"
_HINTS: tuple[tuple[type[errors.EventStoreError], int, str], ...] = (
    (errors.AmbiguousDigestError, NO, "give more digits"),
    (errors.TagNotFoundError, NO, "`eventstore ls --all` shows the names that there are"),
    (errors.InvalidReferenceError, NO, "nothing was changed"),
    (errors.MassDeleteError, NO, "if the source is the right one, add --allow-mass-delete"),
    (errors.InvalidImageError, NO, "nothing was changed"),
    (errors.InvalidParentError, NO, "nothing was changed"),
    (errors.RedactedError, NO, ""),  # it says who did it, when and why
    (errors.ErasureUnfinishedError, UNUSABLE, ""),
    (errors.StoreReadOnlyError, UNUSABLE, "check the permissions of the store"),
    (errors.StoreNotFoundError, UNUSABLE, _SEE_PATH),
    (errors.DestinationExistsError, UNUSABLE, "give a name that is not taken"),
    (errors.StoreUsageError, UNUSABLE, "nothing was changed"),
    (errors.StoreFullError, UNUSABLE, "nothing was changed: make room and run it again"),
    (errors.StoreIOError, UNUSABLE, "check the path and its permissions"),
    (errors.SourceError, UNUSABLE, "nothing was changed"),
    (errors.ProofError, NO, ""),
    (errors.PastChangedError, DAMAGED, _SEE_PAST),
    (errors.UnknownFormatError, DAMAGED, "use the version that wrote it, or another folder"),
    (errors.CorruptionError, DAMAGED, _SEE_DAMAGE),
)
_EPILOG = """\b
Exit codes: 0 done, 1 not there or refused, 2 wrong command line,
3 store or source cannot be used, 4 damage, 130 interrupted,
141 the reader of the output has gone away, 143 terminated."""


def _say_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version and end, if it was asked for."""
    if not asked or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("image-eventstore")
    except PackageNotFoundError:
        found = "not installed"
    line(f"eventstore, version {found}")
    context.exit()


@click.group(
    cls=examples.Sections,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option(
    "--store", "-s", "store_path", metavar="PATH", envvar="EVENTSTORE_PATH", help=STORE_HELP
)
@click.option(
    "--no-pager",
    is_flag=True,
    help="Print without a pager, which is EVENTSTORE_PAGER, else PAGER, else less.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
def cli(store_path: str | None, no_pager: bool) -> None:
    """The image store that remembers: what happened to which image, and when."""


for _command in (
    syncing.sync,
    listing.ls,
    listing.tree,
    listing.show,
    history.log,
    following.follow,
    history.diff,
    history.search,
    blaming.blame,
    blaming.bisect,
    upkeep.verify,
    upkeep.snapshot,
    backups.backup,
    backups.restore,
    upkeep.info,
    salvaging.salvage,
    exports.export_command,
    exports.check_command,
    imports.import_command,
    changes.create,
    changes.rm,
    changes.set_parent,
    changes.mark_built,
    changes.touch,
    changes.tag,
    changes.untag,
    proofs.checkpoint,
    proofs.prove,
    proofs.check,
    proofs.audit,
    proofs.keygen,
    proofs.export_tiles,
    changes.redact,
    undoing.undo,
    undoing.restore_image,
    compacting.compact,
    pages.report,
    pages.serve,
    completing.completion,
    demo.demo,
):
    cli.add_command(_command)
examples.explain(cli)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: the command line, without the name of the program.
    """
    _prepare_streams()
    try:
        answered = completing.answer(cli)
        if answered is not None:
            return answered
        with _terminable():
            code = cli.main(list(arguments), prog_name="eventstore", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, _TerminatedError) or isinstance(error.__cause__, _TerminatedError):
            return _fail("terminated; nothing half done was kept", TERMINATED)
        return _fail("interrupted; nothing half done was kept", INTERRUPTED)
    except (BrokenPipeError, SystemExit):
        # Click leaves with SystemExit when the pipe breaks. The interpreter would flush standard
        # output once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_BROKEN
    except errors.EventStoreError as error:
        return _explain(error)
    except (OSError, UnicodeError, MemoryError, RecursionError) as error:
        return _fail(f"{type(error).__name__}: {error}", UNUSABLE)
    except Exception as error:
        # A traceback would show whatever the error quotes as it is.
        return _fail(f"a defect of eventstore: {type(error).__name__}: {error}", UNUSABLE)
    return code if isinstance(code, int) else 0


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM has come."""


@contextmanager
def _terminable() -> Generator[None]:
    """Let SIGTERM unwind what is under way, as an interrupt does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    earlier = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _prepare_streams() -> None:
    """Let warnings, and what the terminal's encoding does not have, come out as printable text."""
    handler = LogHandler()
    handler.setFormatter(LogFormatter("eventstore: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "eventstore"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return USAGE
    message = re.sub(r"\s*\n\s*", " ", error.format_message())  # of click, a list of choices
    return _fail(f"{message} (see `{where} --help`)", USAGE)


def _explain(error: errors.EventStoreError) -> int:
    if isinstance(error, errors.UndoError):
        for obstacle in error.obstacles:
            note(f"eventstore: {obstacle}")
        return _fail("so nothing was undone", NO)
    if isinstance(error, errors.ImageNotFoundError):
        return _fail(naming.explanation(error), NO)
    for kind, code, hint in _HINTS:
        if isinstance(error, kind):
            notes = getattr(error, "__notes__", ())
            said = str(error)
            if notes and isinstance(error, errors.AmbiguousDigestError):
                said = (
                    f"{error.term!r} is the start of more than one image id"  # the notes list them
                )
            return _fail(f"{said}: {hint}" if hint else said, code, notes)
    return _fail(str(error), NO)


def _fail(message: str, code: int, more: Sequence[str] = ()) -> int:
    try:
        note(f"eventstore: {message}")
        for text in more:
            note(text)
    except OSError:
        return code
    return code
