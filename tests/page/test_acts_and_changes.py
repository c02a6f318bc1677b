"""Acts and changes of random histories, as the store knows them."""

from __future__ import annotations

import random

import pytest

from eventstore import ImageStore
from eventstore.cli import shapes
from eventstore.events import LastUpdatedSet
from page_histories import live_at_random
from page_types import Shown

CHANGES = """pairs => pairs.map(([before, after]) => {
  const { history } = page, id = (image) => "sha256:" + history.id[image];
  const found = history.between(history.at(before).copy(0, 0), history.at(after));
  return [found.created.map(id), found.deleted.map(id), found.changed.map(([image]) => id(image))];
})"""
RECORDS = """() => page.history.times.map((_, at) => [
  page.history.kinds[page.history.records.kind[at]],
  page.history.id[page.history.records.image[at]] ?? "", page.history.detail(at),
  page.history.who[at], page.history.why[at]])"""


@pytest.mark.parametrize("seed", range(4))
def test_changes_are_those_of_the_store(store: ImageStore, shown: Shown, seed: int) -> None:
    """Between any two moments, in either order; also of what was created again."""
    choose = random.Random(seed)
    live_at_random(store, choose)
    live_at_random(store, choose)
    since = seed * store.position // 8
    page = shown(store, since=since)
    pairs = [
        [choose.randint(since, store.position), choose.randint(since, store.position)]
        for _ in range(200)
    ]
    expected = []
    recreated = 0
    for before, after in pairs:
        found = store.diff(before, after)
        recreated += any(one.recreated for one in found.changed)
        changed = [one.image_id for one in found.changed]
        expected.append([found.created, found.deleted, changed])
    assert page.evaluate(CHANGES, pairs) == expected
    assert recreated > 0


@pytest.mark.parametrize("seed", range(3))
def test_acts_are_those_of_the_store(store: ImageStore, shown: Shown, seed: int) -> None:
    """A step goes over a whole transaction, from wherever within it; the page may begin in one."""
    choose = random.Random(seed)
    live_at_random(store, choose)
    last = store.position
    batches = {record.position: record.batch for record in store.records()}
    inside = [position for position in batches if batches[position] != position]
    since = 0 if seed == 0 else choose.choice(inside) - 1
    page = shown(store, since=since)
    ends = sorted({since, last} | {at - 1 for at in batches.values() if at > since})
    for position in range(since, last + 1):
        before = max((end for end in ends if end < batches.get(position, 0)), default=since)
        after = min((end for end in ends if end > position), default=last)
        assert page.evaluate(f"page.history.actBefore({position})") == before
        assert page.evaluate(f"page.history.actAfter({position})") == after
    page.click("#first")
    seen = [since]
    while seen[-1] < last:
        page.click("#forward")
        seen.append(page.evaluate("page.position"))
    assert seen == ends


def test_records_say_what_the_log_prints(store: ImageStore, shown: Shown) -> None:
    """Each kind of them, with what stands in `log` behind the image."""
    choose = random.Random(1)
    for _ in range(3):
        live_at_random(store, choose)
    store.compact(position=store.position // 4, reason="a test")
    page = shown(store)
    since = store.horizon.through
    expected = [
        [
            shapes.kind_of(record.event),
            record.image_id.removeprefix("sha256:"),
            f"{record.event.instant:%Y-%m-%d %H:%M:%S}Z"
            if isinstance(record.event, LastUpdatedSet)
            else shapes.detail(record.event),
            record.actor,
            record.reason,
        ]
        for record in store.records(after=since)
    ]
    assert page.evaluate(RECORDS) == expected
    assert {row[0] for row in expected} >= {"created", "redacted", "described", "compacted"}
