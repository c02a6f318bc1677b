"""Types that the tests of the page share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from playwright.sync_api import Page

Shown: TypeAlias = Callable[..., Page]
"""Opens a page in the browser and returns it."""
