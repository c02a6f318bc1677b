"""Weaken the reader of Docker's folders, so that the attack with hostile sources finds it out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import eventstore.sync as sync_module
from eventstore import EventStoreError, ImageStore
from eventstore.regular_file import Folder


def _follow_links() -> None:
    """Open whatever a name leads to."""

    def read(self: Folder, name: str, size_max: int, **_: bool) -> bytes | None:
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        with open(handle, "rb") as file:
            return file.read(size_max)

    def below(self: Folder, name: str) -> Folder | None:
        try:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._handle)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Folder(handle, self.path / name)

    vars_of(Folder, read=read, below=below, below_to_list=below)


def _no_size_limit() -> None:
    """Read files however large they are."""
    real = Folder.read

    def read(self: Folder, name: str, size_max: int, **_: bool) -> bytes | None:
        return real(self, name, 1 << 62)

    vars_of(Folder, read=read)


def _absent_if_unreadable() -> None:
    """Take what may not be read for what is not there."""
    real_read, real_entries = Folder.read, Folder.entries

    def read(self: Folder, name: str, size_max: int, **_: bool) -> bytes | None:
        try:
            return real_read(self, name, size_max)
        except EventStoreError:
            return None

    def entries(self: Folder) -> dict[str, bool]:
        try:
            return real_entries(self)
        except EventStoreError:
            return {}

    vars_of(Folder, read=read, entries=entries)


def _forget_doubt() -> None:
    """Take what is passed over for gone, whatever Docker makes of it."""

    class Certain(sync_module._Run):
        def __init__(self, store: ImageStore, images: Any, unsure: set[str]) -> None:
            super().__init__(store, images, set())

    vars_of(sync_module, _Run=Certain)


def vars_of(where: Any, **values: Any) -> None:
    """Set attributes that are not meant to be set."""
    for name, value in values.items():
        setattr(where, name, value)


WEAKENINGS: dict[str, Callable[[], None]] = {
    "follow-links": _follow_links,
    "no-size-limit": _no_size_limit,
    "absent-if-unreadable": _absent_if_unreadable,
    "forget-doubt": _forget_doubt,
}
