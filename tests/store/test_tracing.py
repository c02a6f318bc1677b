"""Spans by the real SDK, where a program has loaded it; nothing is loaded where it has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from store.children import PACKAGE

TRACED = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from eventstore import ImageStore, ImageNotFoundError, StoreNotFoundError
from eventstore.sources.found import SourceImage
from eventstore.sync import sync
from eventstore.tracing import traced_steps
path = sys.argv[1]
with ImageStore.open(path) as store:
    image = store.create(b'{"rootfs": {"type": "layers"}}', reason="a secret")
    sync(store, [])
    store.as_of(position=1)
    store.take_snapshot()
    assert list(store.verify()) == []
    store.backup(path + "-copy")
try:
    ImageStore.open(path + "-none", create=False)
except StoreNotFoundError:
    pass


def broken():
    yield 1
    raise StoreNotFoundError("none")


try:
    list(traced_steps("verify", broken()))
except StoreNotFoundError:
    pass
left = traced_steps("verify", broken())
next(left)
left.close()
spans = exporter.get_finished_spans()
assert "secret" not in str([span.to_json() for span in spans])
by_id = {span.context.span_id: span for span in spans}
for span in spans:
    above = by_id[span.parent.span_id].name if span.parent else "-"
    print(span.name, above, span.status.status_code.name, *dict(span.attributes).items())
"""
UNTRACED = """
import sys
if len(sys.argv) > 2:
    sys.modules["opentelemetry.trace"] = None
from eventstore import ImageStore
with ImageStore.open(sys.argv[1]) as store:
    store.create(b'{"rootfs": {"type": "layers"}}')
    list(store.verify())
loaded = [name for name, module in sys.modules.items() if module is not None]
assert not [name for name in loaded if name.startswith("opentelemetry")]
"""


def run(script: str, path: Path, *more: str) -> list[str]:
    """Run a script in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, path, *more],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": PACKAGE},
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def test_what_takes_long_is_a_span(store_path: Path) -> None:
    """Nested as it was called, with the number of records, errors noted, no text of a user's."""
    pytest.importorskip("opentelemetry.sdk")
    assert run(TRACED, store_path) == [
        "eventstore.open - UNSET",
        "eventstore.commit - UNSET ('eventstore.records', 1)",
        "eventstore.commit eventstore.sync UNSET ('eventstore.records', 1)",
        "eventstore.sync - UNSET",
        "eventstore.as_of - UNSET",
        "eventstore.snapshot - UNSET",
        "eventstore.verify - UNSET",
        "eventstore.backup - UNSET",
        "eventstore.open - ERROR",
        "eventstore.verify - ERROR",
        "eventstore.verify - UNSET",
    ]


def test_nothing_is_loaded_for_it(store_path: Path) -> None:
    """A program that does not trace never hears of the package, whether it is installed or not."""
    assert run(UNTRACED, store_path) == []
    assert run(UNTRACED, store_path, "kept out") == []
