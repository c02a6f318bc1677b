"""The commands that show the history in a browser: `report`, `serve`."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

import click

from eventstore.cli import bars, moments, output
from eventstore.cli.files import write_new, write_over
from eventstore.cli.following import until_stopped
from eventstore.cli.options import open_to_read, path_of, store_option
from eventstore.errors import DestinationExistsError, refused

if TYPE_CHECKING:
    from uvicorn import Server

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.2
LARGE_SIZE = 20 << 20
_title_option = click.option(
    "--title", metavar="TEXT", help="What the page is called; path and host if not given."
)


@click.command()
@click.argument("file", metavar="OUT.html", type=click.Path(dir_okay=False))
@click.option(
    "--since",
    metavar="WHEN",
    help="Begin at this moment; as far back as there is anything if not given.",
)
@_title_option
@click.option("--force", is_flag=True, help="Take the place of a file that is there.")
@store_option
def report(
    file: str, since: str | None, title: str | None, force: bool, store_path: str | None
) -> None:
    """Write the history as one page, to be looked at in a browser: OUT.html.

    It shows the images at any moment, the story of each, and what changed, and asks no network for
    anything. Whoever has the page can read all that. A `-` is standard output.
    """
    from eventstore.page.document import document
    from eventstore.page.history import gather

    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("send the page to a file or a pipe: a terminal shows none")
    if file != "-" and not force and os.path.lexists(file):
        raise DestinationExistsError(file)  # before the work, not after it
    with open_to_read(store_path) as store:
        first = None if since is None else moments.position_of(store, since)
        with bars.shown() as bar:
            named = title or _title(store.path)
            gathered = gather(store, since=first, title=named, progress=bar.step("gathering"))
    begin = gathered["since"]["position"]
    end = begin + len(gathered["records"]["kind"])
    page = document(gathered)
    if file == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
    else:
        (write_over if force else write_new)(file, page, 0o600)
        output.line(f"{file}: @{begin} to @{end}, {output.size(len(page))}")
    if len(page) > LARGE_SIZE:
        output.note("browsers take some seconds to open that; with --since it begins later")


def _title(path: str) -> str:
    return f"{output.path_text(path)} on {socket.gethostname()}"


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Which port; any that is free, if not given.",
)
@_title_option
@store_option
def serve(port: int, title: str | None, store_path: str | None) -> None:
    """Serve the page of `report` over the live store, on this host alone.

    It prints the address to open, which holds a secret. Records are shown as they come. An
    interrupt ends it, and so does the end of the store: it was removed, moved or replaced.
    """
    try:
        import uvicorn

        from eventstore.page.server import PageServer
    except ImportError as error:
        raise click.UsageError(
            f"it needs {error.name}: pip install 'image-eventstore[serve]'"
        ) from error
    path_of(store_path)
    with until_stopped() as stop, _listening(port) as listener, open_to_read(store_path) as store:
        served = PageServer(store, title=title or _title(store.path))
        config = uvicorn.Config(
            served.application,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/{served.secret}/"
        output.line(address)
        sys.stdout.flush()
        try:
            while thread.is_alive() and not stop.wait(LOOK_SECONDS):
                served.refuse_lost()
        finally:
            _end(served.stop, server, thread)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()  # whoever reads the address may come at once
    except OSError as error:
        listener.close()
        raise refused(f"port {port}", error) from error
    return listener


def _end(stop: threading.Event, server: Server, thread: threading.Thread) -> None:
    """Let what is under way end, and wait for it."""
    stop.set()
    server.should_exit = True
    thread.join()
