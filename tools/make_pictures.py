"""Make the pictures that the README shows: of the page, and of the command on a terminal.

    make_pictures.py [FOLDER]

Both show the demo's data: three moments in the life of one Docker host, taken over a day apart. The
page is looked at in Chromium, light and dark; what the command prints is taken from a terminal of
100 columns. They are written to `tools/pictures` if no folder is given.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import termios
from functools import partial
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.text import Text

from eventstore import ImageStore
from eventstore.cli.demo import MOMENTS
from eventstore.page.document import document
from eventstore.page.history import PageHistory
from eventstore.sources.finding import find
from eventstore.sync import sync

COLUMNS, ROWS = 100, 40
DAY_NS = 86_400 * 10**9
FIRST_NS = 1_795_384_801 * 10**9
SCREEN: ViewportSize = {"width": 1280, "height": 900}
COMMANDS = (
    ["log", "app/web:1.0"],
    ["diff", "@241", "@271"],
    ["tree", "base/busybox:1.35"],
    ["ls"],
)
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def filled(folder: Path) -> Path:
    """Take over the three moments of the demo, a day apart, and return the store."""
    path = folder / "store"
    for number, moment in enumerate(MOMENTS):
        packed = files("eventstore.cli") / "demo_data" / f"{moment}.tar.gz"
        with packed.open("rb") as file, tarfile.open(fileobj=file) as archive:
            archive.extractall(folder, filter="data")
        now = partial(int, FIRST_NS + number * DAY_NS)
        with ImageStore.open(path, actor="root@host-a", now=now) as store:
            found = find(str(folder / moment)).read()
            sync(
                store,
                found.images,
                found.passed_over,
                names=found.names,
                reason="sync of /var/lib/docker",
                allow_mass_delete=True,
            )
    return path


def printed(store: Path, arguments: list[str]) -> str:
    """Return what the command prints on a terminal."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "EVENTSTORE_PAGER": "cat"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "-s", str(store), *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
    )
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 65536):
            said += part
    except OSError:
        pass  # the other end has gone
    os.close(parent)
    if process.wait():
        raise RuntimeError(said.decode())
    return said.decode().replace("\r\n", "\n")


def terminal(store: Path) -> str:
    """Return a picture of a terminal, as SVG that fetches no font."""
    screen = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for number, arguments in enumerate(COMMANDS):
        lines = printed(store, arguments).splitlines()[:12]
        screen.print(Text(("\n" if number else "") + f"$ eventstore {' '.join(arguments)}", "bold"))
        for line in lines:
            screen.print(Text.from_ansi(line), no_wrap=True, crop=True)
    return _FONT_FACE.sub("", screen.export_svg(title="eventstore"))


def moved(page: Page) -> None:
    """Look at the second moment, at an image that is not there any more."""
    page.locator("#moment").fill("260")
    page.select_option("#against", "first")
    row = page.locator(".row", has=page.locator(".name")).nth(3)
    row.click()
    page.wait_for_timeout(400)


def main() -> int:
    """Make all pictures, and say how large they are."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("pictures"))
    target.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = filled(Path(folder))
        target.joinpath("terminal.svg").write_text(terminal(store), "utf-8")
        with ImageStore.open(store, read_only=True) as opened:
            html = document(PageHistory(opened).gathered(title="/var/lib/eventstore on host-a"))
        path = Path(folder, "page.html")
        path.write_bytes(html)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
        for scheme in schemes:
            page = browser.new_page(viewport=SCREEN)
            page.emulate_media(color_scheme=scheme)
            page.goto(path.as_uri())
            moved(page)
            page.screenshot(path=target / f"page-{scheme}.png")
        browser.close()
    for picture in sorted(target.iterdir()):
        print(f"{picture.name}: {picture.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
