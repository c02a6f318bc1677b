"""Follow a source as it changes: read it, make the store equal to it, wait for the next change.

The package `watchfiles` tells that something changed; what changed is found out by reading. So a
burst of changes is one sync, and an event that is lost or told twice does no harm. The folders are
looked at `LOOKS_A_SECOND` times a second besides, a few system calls, because a folder that was
replaced is followed no longer; then it is followed anew. Read is what was told of, and what came
or went; all is looked at once a minute, and when the folders were others; all is read, with nothing
remembered, once an hour.

A source that changes while it is read is read again, for `STEADY_SECONDS` at most, so that what was
done is recorded in the order in which it was done. Only of a source that never is steady for as
long as a reading takes, changes may trade places that were made during one reading.

A program that removes an image removes its metadata first. That an image has lost something that it
had counts only if the next reading, a moment later, agrees; so the log never says that an image was
created again while it was being deleted.

What goes wrong is logged once, and tried again: with the next change, and after 1, 2, 4 … 60
seconds. A store that cannot be used any more ends it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from eventstore.errors import (
    CorruptionError,
    EventStoreError,
    SourceError,
    StoreLostError,
    StoreUsageError,
)
from eventstore.notices import Notices
from eventstore.sources.found import Findings, PassedOver, SourceImage
from eventstore.store import ImageStore
from eventstore.sync import SyncReport, sync

QUIET_MS = 50  # changes that follow each other within this are one burst …
BURST_MS = 250  # … but no burst is waited out for longer
LOOKS_A_SECOND = 4
CONFIRM_SECONDS = 0.05
STEADY_SECONDS, TICK_SECONDS = 0.3, 0.01  # a file system keeps times to a tick
RETRY_SECONDS_MAX = 60.0
ALL_SECONDS, ANEW_SECONDS = 60.0, 3600.0
_TEMPORARY = ".tmp-"
_Facts = tuple[str | None, int | None, bool]
logger = Notices(__name__)


class WatchedSource(Protocol):
    """What can be followed: how it is read, and where its changes show."""

    def read(self, told: Collection[str] | None = None) -> Findings:
        """Read all of it; what has not changed may come from the last reading.

        Args:
            told: paths that may have changed since, or image ids; None if nobody knows.
        """
        ...

    def forget(self) -> None:
        """Let the next reading remember nothing."""
        ...

    def folders(self) -> Sequence[Path]:
        """Return the folders that are followed with all that is below them."""
        ...

    def version(self) -> object:
        """Return what is another one after most changes, for the price of a few system calls."""
        ...


def watch(
    store: ImageStore,
    source: WatchedSource,
    *,
    reason: str = "sync",
    allow_mass_delete: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[SyncReport]:
    """Make the store equal to a source whenever that changes, and yield what each sync did.

    The first sync is yielded whatever it found, a later one if it appended something. A change is
    on disk, and yielded, within a second; changes that follow each other closely share a sync. What
    came and went between two readings was never seen. May run in any thread.

    Args:
        store: what to change.
        source: what to follow.
        reason: why, for the records.
        allow_mass_delete: delete most images without asking; else that is logged, and tried again.
        stop: ends it when set, after the sync that is under way.

    Raises:
        StoreUsageError: `watchfiles` is not installed, or the store cannot be written to.
        SourceError: the source cannot be read at the start, or the system follows no more folders.
        CorruptionError: the store is damaged.
        StoreLostError: its files were removed, moved or replaced.
        EventStoreError: the first sync fails.
    """
    stop = stop or threading.Event()
    watcher = _Watcher(store, source, reason, allow_mass_delete, stop)
    yield watcher.first()
    while not stop.is_set():
        yield from watcher.until_replaced()


class _Watcher:
    """One watch: what was found last, and what went wrong."""

    def __init__(
        self,
        store: ImageStore,
        source: WatchedSource,
        reason: str,
        allow_mass_delete: bool,
        stop: threading.Event,
    ) -> None:
        _require()
        self._store = store
        self._source = source
        self._reason = reason
        self._allow_mass_delete = allow_mass_delete
        self._stop = stop
        self._images: dict[str, SourceImage] = {}
        self._lost: dict[str, _Facts] = {}
        self._told: set[str] | None = None
        self._at = 0
        self._all_again = time.monotonic() + ALL_SECONDS
        self._failure, self._failed_at = "", 0.0
        self._pause = 1.0
        # With this, watchfiles does not tell either that the system follows no more folders.
        self._passes_denied = False
        self._due: float | None = None  # when to read even if nothing changes
        self._anew = time.monotonic() + ANEW_SECONDS

    def first(self) -> SyncReport:
        """Make the first sync, whose errors are the caller's."""
        return self._sync()

    def until_replaced(self) -> Iterator[SyncReport]:
        """Follow the folders that are there now, until they are others."""
        from watchfiles import watch as changes_of

        folders, version = self._folders(), self._source.version()
        there = [str(path) for path in self._source.folders() if path.is_dir()]
        if not there:
            self._due = 0.0 if self._due is None else self._due
            yield from self._look_again()
            self._stop.wait(1 / LOOKS_A_SECOND)
            return
        told = changes_of(
            *there,
            watch_filter=None,
            debounce=BURST_MS,
            step=QUIET_MS,
            stop_event=self._stop,
            rust_timeout=1000 // LOOKS_A_SECOND,
            yield_on_timeout=True,
            ignore_permission_denied=self._passes_denied,
        )
        self._due, self._told = 0.0, None  # what changed meanwhile is told by nobody
        try:
            for changes in told:
                before, version = version, self._source.version()
                told_of = {path for _, path in changes if _counts(path)}
                if self._told is not None:
                    self._told |= told_of
                if told_of or version != before:
                    self._due = self._soonest()
                yield from self._look_again()
                # One that was removed and made again may have the number of the old one.
                if self._folders() != folders or not told_of.isdisjoint(there):
                    self._source.forget()
                    return
        except (OSError, RuntimeError) as error:  # of watchfiles; ours are none of these
            self._refuse(error)
        finally:
            told.close()

    def _refuse(self, error: Exception) -> None:
        """Fail if the system follows no more folders; what has gone just now is looked for anew.

        Raises:
            SourceError: the system follows no more folders.
        """
        if isinstance(error, EventStoreError):
            raise error
        if isinstance(error, PermissionError) and not self._passes_denied:
            self._passes_denied = True
            return
        where = str(self._source.folders()[0])
        if "limit" in str(error):
            raise SourceError(
                where, "the system follows no more folders: raise fs.inotify.max_user_watches"
            ) from error
        if not isinstance(error, FileNotFoundError):
            self._failed(SourceError(where, f"cannot be followed: {error}"))
        self._stop.wait(1 / LOOKS_A_SECOND)

    def _look_again(self) -> Iterator[SyncReport]:
        """Sync if it is due, and log what goes wrong, once."""
        now = time.monotonic()
        if now > self._all_again:
            self._all_again = now + ALL_SECONDS
            self._told, self._due = None, self._soonest()
        if now > self._anew:
            self._source.forget()
            self._told = None
            self._anew = now + ANEW_SECONDS
            self._due = self._soonest()
        if self._due is None or now < self._due or self._stop.is_set():
            return
        try:
            report = self._sync()
        except (StoreUsageError, StoreLostError, CorruptionError):
            raise
        except EventStoreError as error:
            self._failed(error)
            return
        self._told = set(self._lost)
        self._due = now + CONFIRM_SECONDS if self._lost else None
        if self._failure:
            logger.warning("%s: it is followed again", self._source.folders()[0])
        self._failure, self._pause = "", 1.0
        if report.position != report.after:
            yield report

    def _soonest(self) -> float:
        """Return when the next sync may be: at once, but a second after one that failed."""
        return self._failed_at + 1.0 if self._failure else 0.0

    def _failed(self, error: EventStoreError) -> None:
        """Note what went wrong, and when to try again."""
        if str(error) != self._failure:
            self._failure = str(error)
            logger.warning("%s: nothing was changed; it is tried again", error)
        self._failed_at, self._told = time.monotonic(), None
        self._due = self._failed_at + self._pause
        self._pause = min(2 * self._pause, RETRY_SECONDS_MAX)

    def _sync(self) -> SyncReport:
        found = self._read()
        lost = self._losing(found)
        doubted = [
            PassedOver("changing", image_id, "it is being changed or removed", unsure=True)
            for image_id in lost
            if self._lost.get(image_id) != lost[image_id]
        ]
        same = [
            image.image_id
            for image in found.images
            if self._images.get(image.image_id) is image and image.image_id not in self._lost
        ]
        report = sync(
            self._store,
            found.images,
            [*found.passed_over, *doubted],
            names=found.names,
            reason=self._reason,
            allow_mass_delete=self._allow_mass_delete,
            same=(self._at, same),
        )
        self._at = report.position
        self._lost = {entry.name: lost[entry.name] for entry in doubted}
        kept = {image_id: self._images[image_id] for image_id in self._lost}
        self._images = {image.image_id: image for image in found.images} | kept
        return report

    def _read(self) -> Findings:
        """Read the source, again if it changes meanwhile; not for ever."""
        end = time.monotonic() + STEADY_SECONDS
        while True:
            before = self._source.version()
            time.sleep(TICK_SECONDS)  # what comes in the same tick is before the reading
            found = self._source.read(self._told)
            if self._source.version() == before or time.monotonic() > end:
                return found

    def _losing(self, found: Findings) -> dict[str, _Facts]:
        """Return the images that have less than before, and what they have."""
        lost: dict[str, _Facts] = {}
        for image in found.images:
            before = self._images.get(image.image_id)
            if before is None or before is image:
                continue
            has, had = _facts(image), _facts(before)
            if any(old and not new for old, new in zip(had, has, strict=True)):
                lost[image.image_id] = has
        return lost

    def _folders(self) -> list[tuple[int, int]]:
        """Return what tells the folders that are there now from others of the same names."""
        found: list[tuple[int, int]] = []
        for path in self._source.folders():
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0))
            else:
                found.append((status.st_dev, status.st_ino))
        return found


def _facts(image: SourceImage) -> _Facts:
    return image.parent, image.last_updated_ns, bool(image.built_locally)


def _counts(path: str) -> bool:
    """Tell whether a path is more than a file that will be renamed when it is whole."""
    return not os.path.basename(path).startswith(_TEMPORARY)


def _require() -> None:
    """Raise if the package is not there.

    Raises:
        StoreUsageError: `watchfiles` is not installed.
    """
    from importlib.util import find_spec

    if find_spec("watchfiles") is None:
        raise StoreUsageError(
            "to follow a source needs the package watchfiles: install image-eventstore[watch]"
        )
