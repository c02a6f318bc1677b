"""A real browser, and pages of stores in it."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import run as run_process

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from eventstore import ImageStore
from eventstore.page.document import document
from eventstore.page.history import PageHistory
from page_types import Shown

AXE = "axe-core@4"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium, as Debian and others install it.

    What drives it runs an event loop in this thread, in which no other may be: not for longer.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        # Root may not use the browser's own sandbox; what is shown here is ours.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Shown]:
    """Return a function that opens an address, and hold the page to no error and no request.

    Where `is_cut_off` says so, the browser may complain that its server is not there.
    """
    said: list[str] = []
    contexts = []

    def call(address: str, *, is_cut_off: bool = False, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        if not is_cut_off:
            page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if asks(request.url) else None)
        page.goto(address)
        return page

    def asks(url: str) -> bool:
        return not url.startswith(("file:", "about:", "http://127.0.0.1:"))

    yield call
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def shown(opened: Shown, tmp_path: Path) -> Shown:
    """Return a function that opens the page of a store."""

    def call(store: ImageStore, *, since: int | None = None, **options: object) -> Page:
        gathered = PageHistory(store, since=since).gathered(title="a store")
        path = tmp_path / f"page-{store.position}-{since}.html"
        path.write_bytes(document(gathered))
        return opened(path.as_uri(), **options)

    return call


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of axe-core, which npm has."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    done = run_process(
        [npm, "pack", AXE, "--silent"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(f"npm gave no axe-core: {done.stderr.strip()[-200:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()
