"""Times as the page writes them and reads them, in UTC and where its reader is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventstore import ImageStore
from making import config
from page_types import Shown

MOMENTS = [
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2254, 6, 1, 3, 4, 5, tzinfo=UTC),
]
EPOCH = MOMENTS[1]


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"]
)
def test_times_are_written_as_the_command_writes_them(
    store: ImageStore, shown: Shown, zone: str
) -> None:
    """To the second, with the offset that was in force then."""
    page = shown(store, timezone_id=zone)
    instants = [(moment - EPOCH) // timedelta(microseconds=1) for moment in MOMENTS]
    assert page.evaluate("instants => instants.map(clockTime)", instants) == [
        f"{moment:%Y-%m-%d %H:%M:%S}Z" for moment in MOMENTS
    ]
    page.select_option("#zone", "local")
    expected = [f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S%z}" for moment in MOMENTS]
    assert page.evaluate("instants => instants.map(clockTime)", instants) == [
        text.replace("+0000", "Z") for text in expected
    ]


def test_the_years_have_four_digits(store: ImageStore, shown: Shown) -> None:
    """Also that which stands for no time at all, in either zone."""
    page = shown(store, timezone_id="Asia/Kathmandu")
    for zone in ("utc", "local"):
        page.select_option("#zone", zone)
        assert page.evaluate("clockTime(-62135596800 * 1e6)").startswith("0001-01-01 ")
    assert page.evaluate("[clockTime(null), clockTime(NaN), clockTime(1e300)]") == ["-"] * 3


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_what_is_written_is_read_back(store: ImageStore, shown: Shown, zone: str) -> None:
    """What the page shows can be given to it, whichever zone it shows."""
    page = shown(store, timezone_id=zone)
    back = "instants => instants.map((instant) => instantOf(clockTime(instant)))"
    whole = [(moment - EPOCH) // timedelta(seconds=1) * 10**6 for moment in MOMENTS]
    for shown_in in ("utc", "local"):
        page.select_option("#zone", shown_in)
        assert page.evaluate(back, whole) == whole
    naive = datetime(2026, 7, 1, 14, tzinfo=ZoneInfo(zone))
    expected = (naive - EPOCH) // timedelta(microseconds=1)
    assert page.evaluate("instantOf('2026-07-01 14:00')") == expected


def test_what_is_no_time_is_none(store: ImageStore, shown: Shown) -> None:
    """A day that the month does not have is not the first of the next."""
    page = shown(store)
    wrong = ["2026-02-29", "2026-00-01", "2026-01-00", "2026-13-01", "2026-01-01 25:00", "26-01-01"]
    wrong += ["2026-01-01 10:60", "2026-01-01 10", "2026-01-01 10:00:00.5Zx", "2100-02-29", "now"]
    assert page.evaluate("texts => texts.filter((text) => !isNaN(instantOf(text)))", wrong) == []
    right = ["2024-02-29", "2000-02-29T00:00:00Z", "2026-01-31 23:59:59+1400"]
    assert page.evaluate("texts => texts.filter((text) => isNaN(instantOf(text)))", right) == []


def test_a_second_means_the_records_up_to_it_as_the_store_takes_it(
    store: ImageStore, clock: Any, shown: Shown
) -> None:
    """What is of that very second counts, and nothing that came within it later."""
    for step in (0, 0, 1, 999, 10**9 - 1000, 10**9, 500_000_000, 10**9):
        clock.now_ns += step - 10**9
        store.create(config(str(clock.now_ns)))
    page = shown(store)
    first = next(store.records()).time_ns // 10**9
    for second in range(first - 1, first + 6):
        expected = store.position_at(second * 10**9)
        assert page.evaluate(f"page.history.positionAt({second} * 1e6)") == expected


def test_ages_are_those_of_the_moment_that_is_looked_at(
    store: ImageStore, clock: Any, shown: Shown
) -> None:
    """Not those of today: last week an image of last month was three weeks old."""
    made = datetime.fromtimestamp(clock.now_ns // 10**9, UTC) - timedelta(days=1)
    created = f'"created": "{made:%Y-%m-%dT%H:%M:%SZ}"'
    image = store.create(f'{{{created}, "rootfs": {{"type": "layers"}}}}'.encode())
    clock.now_ns += 3 * 86400 * 10**9
    store.set_built_locally(image)
    clock.now_ns += 800 * 86400 * 10**9
    store.tag("app", image)
    page = shown(store)
    for position, age in ((1, "1 day"), (2, "4 days"), (3, "2 years")):
        page.evaluate(f"page.position = {position}")
        page.evaluate("page.draw()")
        assert page.inner_text(".row .age") == age
    ages = "[[5, 5e6], [0, 60e6], [0, 3600e6 - 1], [5e6, 0], [null, 0]].map((one) => ageOf(...one))"
    assert page.evaluate(ages) == ["4 seconds", "1 minute", "59 minutes", "later", "-"]
