"""Read which commit of LMDB's file is the newest, without a transaction.

Every read of a store asks for it. It stands in the two meta pages, at the same place in each (see
`lmdb_pages`), as a number of 64 bits, which a processor reads whole. A commit's number is there
before LMDB shows it to readers, never after; whoever finds a new number begins a transaction, which
says what is so.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Self

_PLACE = 16 + 128  # behind the page's header and the rest of the meta
_NUMBER_SIZE = 8


class CommitNumbers:
    """The numbers of the commits in the meta pages of an open data file, which stays mapped."""

    __slots__ = ("_first", "_numbers", "_second")

    def __init__(self, numbers: memoryview, page_size: int) -> None:
        """Look into the meta pages, given as numbers of 64 bits."""
        self._numbers = numbers
        self._first = _PLACE // _NUMBER_SIZE
        self._second = self._first + page_size // _NUMBER_SIZE

    @classmethod
    def of(cls, path: Path, page_size: int) -> Self | None:
        """Map the meta pages of the file at `path`; None where its numbers have not 64 bits.

        Raises:
            OSError: the operating system refuses.
        """
        if sys.maxsize < 1 << 32:
            return None
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 2 * page_size, access=mmap.ACCESS_READ)
        return cls(memoryview(mapped).cast("Q"), page_size)

    def newest(self) -> int:
        """Return the number of the newest commit."""
        numbers = self._numbers
        first: int = numbers[self._first]
        second: int = numbers[self._second]
        if first > second:  # a call of `max` costs more than all the rest
            return first
        return second
