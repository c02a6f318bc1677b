"""Time what who looks at the page waits for: its making, its first paint, a move of the slider.

A store that has lived: images come, go and come again, are given parents and names. The page is
made of it as `report` does, and looked at in a real Chromium. Floor of the making: reading the
records and decoding the configs, once. A move is from one moment of chance to another, or to a
neighbour, until the browser has laid out what is shown then.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import runner
from eventstore import EventStoreError, ImageStore
from eventstore.page.document import document
from eventstore.page.history import PageHistory
from runner import Result, Settings, Took

MOVES = 40
MOVE = """positions => positions.map(position => {
  const start = performance.now();
  page.position = position;
  page.draw();
  document.body.getBoundingClientRect();
  return performance.now() - start;
})"""
LOOK = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  return [paint / 1000, performance.memory.usedJSHeapSize];
}"""


def config(number: int, choose: random.Random) -> bytes:
    """Return a config of the size that a built image has."""
    layers = [f"sha256:{number * 100 + layer:064x}" for layer in range(choose.randint(1, 6))]
    month, day = choose.randint(1, 9), choose.randint(10, 28)
    step = f"/bin/sh -c apt-get install --yes package-{number}"
    value = {
        "architecture": "amd64",
        "created": f"2026-0{month}-{day}T00:00:00Z",
        "history": [{"created_by": step}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers},
    }
    return json.dumps(value).encode()


def step(store: ImageStore, raws: list[bytes], ids: list[str], choose: random.Random) -> None:
    """Do one thing that hosts do; what is refused leaves no record."""
    kind, image, other = choose.random(), choose.choice(ids), choose.choice(ids)
    with suppress(EventStoreError):
        if kind < 0.2:
            store.create(choose.choice(raws))
        elif kind < 0.24:
            store.delete(image)
        elif kind < 0.5:
            store.set_parent(image, other)
        elif kind < 0.6:
            store.tag(f"registry.example/app-{choose.randint(1, 3_000)}:1", image)
        elif kind < 0.62:
            store.set_built_locally(image)
        else:
            store.set_last_updated(image)


def lived(settings: Settings, images: int, records: int) -> Path:
    """Return a store of so many images, there or gone, and records, or some more."""
    path = settings.cache / f"lived-{images}-{records}"
    if path.exists():
        return path
    choose = random.Random(7)
    unfinished = path.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with ImageStore.open(unfinished, actor="root@host-a", operating_system="linux") as store:
        raws = [config(number, choose) for number in range(images)]
        with store.transaction(reason="the first sync"):
            ids = [store.create(raw) for raw in raws]
        while store.position < records:
            with store.transaction(reason=choose.choice(["a build", "a prune", "a sync"])):
                for _ in range(choose.randint(1, 400)):
                    step(store, raws, ids, choose)
    unfinished.rename(path)
    return path


def made(store: ImageStore, path: Path) -> Took:
    """Write the page of a store."""
    start = time.perf_counter()
    path.write_bytes(document(PageHistory(store).gathered(title="a store")))
    return Took(time.perf_counter() - start)


def floor(store: ImageStore, ids: list[str]) -> Took:
    """Read what a page is made of, and make nothing of it."""
    start = time.perf_counter()
    for _ in store.records():
        pass
    view = store.view()
    for image_id in ids:
        view.get(image_id)
    return Took(time.perf_counter() - start)


def looked_at(browser: Any, path: Path, last: int, found: dict[str, list[float]]) -> None:
    """Open the page and move its slider."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(".row")
    found["rows"].append(time.perf_counter() - start)
    paint, memory = page.evaluate(LOOK)
    found["paint"].append(paint)
    found["memory"].append(memory)
    positions = [random.randint(1, last) for _ in range(MOVES)]
    found["far"] += [ms / 1e3 for ms in page.evaluate(MOVE, positions)]
    found["near"] += [ms / 1e3 for ms in page.evaluate(MOVE, [*range(last - MOVES, last)])]
    page.close()


def measure(settings: Settings) -> Result:
    """Make the page, and look at it."""
    result = Result("pages")
    images, records = settings.pick((1_000, 10_000), (10_000, 100_000))
    with (
        tempfile.TemporaryDirectory(dir=settings.cache) as folder,
        ImageStore.open(lived(settings, images, records), read_only=True) as store,
    ):
        path, ids, last = Path(folder, "page.html"), list(store), store.position
        cases: dict[str, Callable[[], object]] = {
            "made": lambda: made(store, path),
            "floor": lambda: floor(store, ids),
        }
        seconds = runner.take(cases, settings.takes)
        reading = ("reading it all", seconds["floor"])
        size = f"{images:,} images, {last:,} records"
        result.rows.append(runner.cost(f"made: {size}", seconds["made"], unit="s", beside=reading))
        result.notes.append(f"the page has {path.stat().st_size / 1e6:.1f} MB")
        _add_looks(result, settings, path, last)
    return result


def _add_looks(result: Result, settings: Settings, path: Path, last: int) -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        result.notes.append("chromium is not installed: the page was not looked at")
        return
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {
        part: [] for part in ("paint", "rows", "far", "near", "memory")
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(settings.takes):
            looked_at(browser, path, last, found)
        browser.close()
    result.rows += [
        runner.cost("first paint", found["paint"], unit="ms"),
        runner.cost("images are shown", found["rows"], unit="ms"),
        runner.cost("a move of the slider, far", found["far"], unit="ms"),
        runner.cost("a move of the slider, near", found["near"], unit="ms"),
    ]
    most = max(found["memory"]) / 1e6
    result.notes.append(f"the page's scripts take {most:.0f} MB of memory at most")


if __name__ == "__main__":
    runner.main(measure, __doc__)
