"""The types of the fixtures of `cli/conftest.py`, for the tests there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Said(NamedTuple):
    """What a run of the command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Return the lines of standard output."""
        return self.out.splitlines()

    @property
    def json(self) -> list[dict[str, Any]]:
        """Return the objects that standard output holds, one a line."""
        return [json.loads(line) for line in self.lines]


Command = Callable[..., Said]


class Host(NamedTuple):
    """A store on disk, the databases that went into it, and where each sync ended."""

    path: Path
    roots: list[Path]
    ends: list[int]
