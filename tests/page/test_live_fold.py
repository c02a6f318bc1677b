"""Records that come while the page is open lead to what a page made afterwards shows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from playwright.sync_api import Page

from eventstore import ImageStore
from eventstore.page.history import PageHistory
from making import config
from page_histories import STATES, expected_at, live_at_random
from page_types import Shown

NOW = "() => [page.history.at(page.history.last).count, page.tree.rows.length]"


def take(page: Page, updates: list[dict[str, Any]]) -> None:
    """Let the page have records as the server sends them."""
    page.evaluate("updates => page.take(updates)", updates)


def drawn(page: Page) -> None:
    """Wait until the page shows all that it was asked for."""
    page.wait_for_function("() => page.asked === undefined")


def test_images_that_come_while_the_past_is_looked_at_are_there_afterwards(
    store: ImageStore, shown: Shown
) -> None:
    """Who goes back, and to the newest moment again, sees what came meanwhile."""
    for number in range(10):
        store.create(config(str(number)))
    page = shown(store)
    for number in range(10, 30):
        store.tag(f"app:{number}", store.create(config(str(number))))
    updates = PageHistory(store).updates(10, 500)
    take(page, updates[:4])
    drawn(page)
    for at in range(4, len(updates), 4):
        page.click("#back")
        drawn(page)
        take(page, updates[at : at + 4])
        page.click("#newest")
        drawn(page)
        there = len(store.as_of(position=page.evaluate("page.history.last")))
        assert page.evaluate(NOW) == [there, there]
    assert page.evaluate(STATES, [store.position]) == [expected_at(store, store.position)]


@pytest.mark.parametrize("seed", range(4))
def test_a_page_that_grows_knows_what_one_made_afterwards_knows(
    store: ImageStore, shown: Shown, seed: int
) -> None:
    """Also of stories, and with an eye on the past at any time."""
    choose = random.Random(seed)
    live_at_random(store, choose)
    page = shown(store)
    page.evaluate(f"page.history.interval = {choose.choice((1, 3, 1000))}")
    for _ in range(8):
        before = store.position
        live_at_random(store, choose)
        if seed % 2:
            page.evaluate(f"page.history.at({choose.randrange(before)})")
        take(page, PageHistory(store).updates(before, 500))
    last = store.position
    wanted = [*choose.sample(range(last + 1), 60), last]
    assert page.evaluate(STATES, wanted) == [expected_at(store, one) for one in wanted]
    stories = (
        "Object.fromEntries(page.history.id.map((id, image) => ['sha256:' + id,"
        "page.history.stories[image].map(([at]) => page.history.since + at + 1)"
        ".sort((a, b) => a - b)]))"
    )
    assert page.evaluate(stories) == {
        image: [record.position for record in store.story(image)]
        for image in {record.image_id for record in store.records()}
    }


def test_a_page_that_is_open_for_long_keeps_few_states(store: ImageStore, shown: Shown) -> None:
    """As many as one that begins with all of its records; and each moment stays right."""
    image = store.create(config("a"))
    page = shown(store)
    page.evaluate("page.history.interval = 1")
    with store.transaction():
        for number in range(600):
            store.tag(f"app:{number}", image)
            store.untag(f"app:{number}")
    take(page, PageHistory(store).updates(1, 10_000))
    assert page.evaluate("page.history.states.length") <= 2 * page.evaluate("STATES_MAX")
    assert page.evaluate("page.history.interval") >= 8  # or they would be few and close together
    wanted = [*range(1, store.position, 97), store.position]
    assert page.evaluate(STATES, wanted) == [expected_at(store, one) for one in wanted]


def test_short_ids_are_as_long_as_they_must_be(store: ImageStore, shown: Shown) -> None:
    """Of images that have come as well, whose ids may begin with the same digits."""
    page = shown(store)
    starts = ["0" * 20, "0" * 13 + "1", "0" * 12 + "2", "f", "e" * 30, "e" * 29 + "1"]
    shape = {"time": 0, "kind": 0, "of": None, "who": "", "why": "", "batch": 0, "facts": None}
    for number, start in enumerate(starts):
        take(page, [{"position": number + 1, "image": f"{start:a<64}", **shape}])
    found = page.evaluate("page.history.id.map((id, image) => [id, page.history.short(image)])")
    for identifier, short in found:
        assert identifier.startswith(short)
        assert [one for one, _ in found if one.startswith(short)] == [identifier]
        others = [one for one, _ in found if one != identifier]
        assert len(short) == 12 or any(one.startswith(short[:-1]) for one in others)


def test_what_is_known_of_images_that_come_is_what_a_page_made_afterwards_knows(
    store: ImageStore, shown: Shown
) -> None:
    """Their configs as well, and that one was redacted since."""
    facts = (
        "Object.fromEntries(page.history.id.map((id, image) => [id, [page.history.made[image],"
        "page.history.platform[image], page.history.layers[image], page.history.by[image],"
        "page.history.note[image]]]))"
    )
    early = store.create(config("early", layers=2))
    page = shown(store)
    raw = b'{"created": "2026-01-02T03:04:05Z", "os": "linux", "rootfs": {"type": "layers"}}'
    images = [early, store.create(raw), store.create(config("late", layers=3, os="windows"))]
    images.append(store.create(config("soon redacted", layers=1)))
    for image in images[::3]:
        store.redact(image, reason="a secret")
    take(page, PageHistory(store).updates(1, 500))
    found = page.evaluate(facts)
    assert found == shown(store).evaluate(facts)
    notes = [found[image[7:]][4] for image in images]
    assert ["a secret" in note for note in notes] == [True, False, False, True]
    assert found[images[1][7:]][0] == 1_767_323_045_000_000
