"""Histories at random, and what the page must know of them."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from eventstore import EventStoreError, ImageStore, references
from eventstore.events import Manifest
from making import config, id_of

STATES = """positions => positions.map(position => {
  const state = page.history.at(position), names = page.history.namesIn(state), found = {};
  for (const image of page.history.sorted()) {
    if (!state.has(image)) continue;
    const parent = state.parentOf(image), updated = state.updated[image];
    found["sha256:" + page.history.id[image]] = [
      parent < 0 ? null : "sha256:" + page.history.id[parent],
      Number.isNaN(updated) ? null : updated, state.built[image], names.get(image) ?? []];
  }
  return [state.count, found];
})"""
"""Tells what the page knows of each of some positions, as `expected_at` does."""


def live_at_random(store: ImageStore, choose: random.Random) -> None:
    """Do anything that makes records, a step or a batch at a time."""
    raws = [config(str(number)) for number in range(9)]
    ids = [id_of(raw) for raw in raws]

    def step() -> None:
        kind = choose.randrange(11)
        image, other = choose.choice(ids), choose.choice(ids)
        with suppress(EventStoreError):
            if kind < 2:
                store.create(choose.choice(raws), allow_redacted=True)
            elif kind == 2:
                store.delete(image)
            elif kind == 3:
                store.set_parent(image, choose.choice([other, None]))
            elif kind == 4:
                store.tag(f"app:{choose.randrange(4)}", image)
            elif kind == 5:
                store.untag(f"app:{choose.randrange(4)}")
            elif kind == 6:
                store.set_last_updated(image)
            elif kind == 7:
                store.set_built_locally(image)
            elif kind == 8:
                store.describe(image, Manifest(bytes(32), "application/x", 1, ()))
            elif kind == 9:
                store.redact(image, reason="a test")
            else:
                store.undo(choose.randrange(store.position + 1), reason="a test")

    for _ in range(50):
        if choose.random() < 0.3:
            with store.transaction():
                for _ in range(choose.randrange(1, 6)):
                    step()
        else:
            step()


def expected_at(store: ImageStore, position: int) -> list[Any]:
    """Return what the page must know of a position."""
    view = store.as_of(position=position)
    names: dict[str, list[str]] = {}
    for name, image in store.tags(position).items():
        names.setdefault(image, []).append(references.shown(name))
    found: dict[str, Any] = {}
    for image in view:
        updated = view.get_last_updated(image)
        instant = None if updated is None else round(updated.timestamp() * 1_000_000)
        built = int(view.is_built_locally(image))
        found[image] = [view.get_parent(image), instant, built, sorted(names.get(image, []))]
    return [len(view), found]
