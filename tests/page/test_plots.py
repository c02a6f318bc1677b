"""The plots say what was so, also between records."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page

from eventstore import ImageStore
from making import config, id_of
from page_types import Shown

WEEK = 7 * 86400 * 10**9


def corners(page: Page, selector: str) -> list[tuple[float, float]]:
    """Return the corners of a line."""
    d = page.locator(selector).get_attribute("d")
    assert d is not None
    x = y = 0.0
    found = []
    for letter, numbers in re.findall(r"([MHVL])([-\d. ]+)", d):
        values = [float(number) for number in numbers.split()]
        x = values[0] if letter in "MHL" else x
        y = values[-1] if letter in "MVL" else y
        found.append((x, y))
    return found


def levels(line: list[tuple[float, float]], x: float) -> tuple[float, float]:
    """Return the highest and the lowest place of a line at some x."""
    at = [
        y
        for (x0, y0), (x1, y1) in pairwise(line)
        if x0 <= x <= x1
        for y in ((y0, y1) if x0 == x1 else (y0 + (y1 - y0) * (x - x0) / (x1 - x0),))
    ]
    return min(at), max(at)


def test_nothing_grows_while_nothing_happens(store: ImageStore, shown: Shown, clock: Any) -> None:
    """What came at once did not come little by little, in the week until the next record."""
    for number in range(100):
        store.create(config(str(number)))
    clock.now_ns += WEEK
    with store.transaction():
        for number in range(50):
            store.delete(id_of(config(str(number))))
    clock.now_ns += WEEK
    store.create(config("last"))
    line = corners(shown(store), ".plot .line")
    full, half, height = 11.0, 60.5, 110
    assert line[0] == (0, height)
    assert levels(line, 150) == pytest.approx((full, full))
    assert levels(line, 450) == pytest.approx((half, half))
    assert line[-1] == pytest.approx((600, height - 51 * 0.99), abs=0.1)


def test_a_peak_between_two_points_of_the_screen_is_seen(
    store: ImageStore, shown: Shown, clock: Any
) -> None:
    """Thousands may come and go in what is half a point wide."""
    store.create(config("a"))
    clock.now_ns += WEEK
    with store.transaction():
        for number in range(99):
            store.create(config(str(number)))
    with store.transaction():
        for number in range(99):
            store.delete(id_of(config(str(number))))
    clock.now_ns += WEEK
    store.create(config("b"))
    line = corners(shown(store), ".plot .line")
    assert min(y for _, y in line) == pytest.approx(11)
    assert levels(line, 400) == pytest.approx((108.9, 108.9), abs=0.1)
