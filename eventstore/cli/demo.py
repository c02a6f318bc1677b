"""The command `demo`: a tour over three moments in the life of a real Docker daemon.

Everything is the real thing: the databases are what dockerd 20.10 left on disk, and each step runs
the very command that it prints, on a store in a folder that is removed at the end. With `--unpack`
the databases are all that is wanted: they are laid down for users to try commands on.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import click

from eventstore import errors
from eventstore.cli import output
from eventstore.store import ImageStore

MOMENTS = ("host-1", "host-2", "host-3")
_HEADS_SHOWN = 8


@click.command()
@click.option(
    "--unpack",
    "directory",
    metavar="DIRECTORY",
    type=click.Path(readable=False),
    help="Only lay the three databases into this new directory, as host-1 to host-3.",
)
def demo(directory: str | None) -> None:
    """Show the whole thing on three real Docker databases, in a temporary store."""
    import tempfile

    if directory is not None:
        _lay_down(Path(directory))
        return
    with tempfile.TemporaryDirectory(prefix="eventstore-demo-") as folder, chdir(folder):
        _Tour(Path(folder)).run()


def _lay_down(directory: Path) -> None:
    """Unpack all databases into a new directory, and say what they are.

    Raises:
        DestinationExistsError: it is there already.
    """
    try:
        directory.mkdir(parents=True)
    except FileExistsError as error:
        raise errors.DestinationExistsError(str(directory)) from error
    for moment in MOMENTS:
        _unpack(moment, directory)
        output.line(str(directory / moment))


def _unpack(moment: str, folder: Path) -> None:
    import tarfile
    from importlib.resources import files

    packed = files("eventstore.cli") / "demo_data" / f"{moment}.tar.gz"
    with packed.open("rb") as file, tarfile.open(fileobj=file) as archive:
        archive.extractall(folder, filter="data")


class _Tour:
    """The steps of the demo, each a command that users can type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.ends: list[int] = []

    def run(self) -> None:
        """Go through all steps."""
        output.line("Three moments in the life of one Docker host, as its daemon left them.", "dim")
        for moment in MOMENTS:
            _unpack(moment, self.folder)
            self._step(f"Take over what the host holds: {moment}.")
            self._run("sync", moment, "--actor", "root@host-a", "-m", f"sync of {moment}")
            self.ends.append(self._position())
        first, second, _ = self.ends
        image_id = self._much_changed()
        self._step("Delete an image by hand, and say why. Who did what, then?")
        self._run("rm", self._newest_head(), "-m", "trying eventstore out")
        self._run("log", "-n", "4")
        self._step("What happened to one image that is gone?")
        self._run("log", image_id, "--reverse")
        self._step("What did the host hold at the first moment, and what does it hold now?")
        self._run("ls", "--at", f"@{first}", lines=_HEADS_SHOWN)
        self._run("ls", lines=_HEADS_SHOWN)
        self._step("What changed between the first moment and the second?")
        self._run("diff", f"@{first}", f"@{second}", lines=14)
        self._step("Does everything agree with the log, byte for byte?")
        self._run("verify")
        self._run("info")

    def _position(self) -> int:
        with ImageStore.open(self.store, read_only=True, create=False) as store:
            return store.position

    def _much_changed(self) -> str:
        """Return the short id of the deleted image with the longest history."""
        with ImageStore.open(self.store, read_only=True, create=False) as store:
            lengths: dict[str, int] = {}
            for record in store.records():
                lengths[record.image_id] = lengths.get(record.image_id, 0) + 1
            gone = [image_id for image_id in lengths if image_id not in store]
            return output.short(max(gone, key=lambda image_id: lengths[image_id]))

    def _newest_head(self) -> str:
        """Return the short id of one image without children."""
        with ImageStore.open(self.store, read_only=True, create=False) as store:
            return output.short(next(iter(store.heads())))

    def _step(self, question: str) -> None:
        output.line()
        output.line(f"# {question}", "bold")

    def _run(self, *arguments: str, lines: int | None = None) -> None:
        """Print a command and run it, showing at most `lines` lines of what it says."""
        from eventstore.cli.main import cli

        tail = "" if lines is None else f" | head -n {lines}"
        output.line(f"$ eventstore {shlex.join(arguments)}{tail}", "cyan")
        whole = ["--no-pager", "--store", str(self.store), *arguments]
        if lines is None:
            self._invoke(cli, whole)
            return
        with output.captured() as said:
            self._invoke(cli, whole)
            text = said.getvalue()
        sys.stdout.write("".join(text.splitlines(keepends=True)[:lines]))

    def _invoke(self, cli: click.Command, arguments: Sequence[str]) -> None:
        code = cli.main(list(arguments), prog_name="eventstore", standalone_mode=False)
        if isinstance(code, int) and code:
            raise click.exceptions.Exit(code)
