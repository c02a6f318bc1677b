"""Say what went wrong in terms of what the caller can do next.

Every exception that leaves this package is an `EventStoreError`. The classes are cut by the
caller's next move, not by the place that failed: look for another id, fix the input, fix how the
store is used, make room, or fetch the backup. What a program needs to decide stands in attributes,
never only in the text. Exceptions of the libraries underneath are kept as `__cause__`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DIGITS_SHOWN, _REASON_SHOWN = 12, 200


class EventStoreError(Exception):
    """The base of every error that this package raises."""


class Deletion(Protocol):
    """The record of a deletion, as far as an error tells of it; a `Record`."""

    @property
    def position(self) -> int:
        """Return its number in the log."""
        ...

    @property
    def actor(self) -> str:
        """Return who deleted the image."""
        ...

    @property
    def reason(self) -> str:
        """Return why, in their words."""
        ...

    @property
    def time(self) -> datetime:
        """Return when."""
        ...

    @property
    def image_id(self) -> str:
        """Return the id of the image."""
        ...


class ImageNotFoundError(EventStoreError, LookupError):
    """No image answers to `term`: use another id, or look at what became of it.

    Attributes:
        term: what was asked for, as it was given.
        deleted: the `Record` by which the image was deleted; None if it never was there, or the
            error is of a view of the past, which knows nothing of other moments.
    """

    def __init__(self, term: str, *, deleted: Deletion | None = None) -> None:
        self.term = term
        self.deleted = deleted
        super().__init__(term)

    def __str__(self) -> str:
        """Return what is wrong, and where to look for the rest."""
        if self.deleted is None:
            return self.describe()
        digits = self.deleted.image_id.removeprefix("sha256:")[:_DIGITS_SHOWN]
        return f"{self.describe()}; see `eventstore log {digits}`"

    def describe(self, ago: str = "") -> str:
        """Return what is wrong.

        Args:
            ago: how long ago the image was deleted, in words, where that is to be said.
        """
        text = f"no such image: {self.term}"
        if self.deleted is None:
            return text
        text += f": deleted at @{self.deleted.position} by {self.deleted.actor}"
        reason = self.deleted.reason
        if len(reason) > _REASON_SHOWN:
            reason = reason[:_REASON_SHOWN] + "…"
        return text + (f" {ago}" if ago else "") + (f': "{reason}"' if reason else "")


class AmbiguousDigestError(EventStoreError, LookupError):
    """More than one image answers to `term`: give more digits.

    Attributes:
        term: what was asked for, as it was given.
        candidates: ids that it could mean, sorted; at most as many as were looked at.
    """

    def __init__(self, term: str, candidates: Sequence[str]) -> None:
        self.term = term
        self.candidates = tuple(candidates)
        shown = ", ".join(self.candidates[:5])
        more = ", …" if len(self.candidates) > 5 else ""
        super().__init__(f"{term!r} is the start of more than one image id: {shown}{more}")


class RedactedError(EventStoreError):
    """The config of the image was destroyed for good: ask those who did it, or do without.

    Attributes:
        image_id: the image.
        position: the record that says so.
        actor: who did it.
        time: when, an aware datetime.
        reason: why, in their words.
    """

    def __init__(
        self, image_id: str, *, position: int, actor: str, time: datetime, reason: str
    ) -> None:
        self.image_id = image_id
        self.position = position
        self.actor = actor
        self.time = time
        self.reason = reason
        when = time.isoformat(sep=" ", timespec="seconds")
        super().__init__(
            f"the config of {image_id} was redacted at @{position} by {actor} on {when}: {reason}"
        )


class InvalidImageError(EventStoreError, ValueError):
    """The bytes are not an image config that the store accepts: fix the input.

    Attributes:
        reason: what is wrong with them.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid image: {reason}")


class UnsupportedOSError(InvalidImageError):
    """The image has layers and is for an operating system that this store does not run."""


class LayerMissingError(InvalidImageError):
    """The image's layers are not in the layer store: bring them there first."""


class InvalidParentError(EventStoreError, ValueError):
    """The parent would make an image its own ancestor."""


class LayerNotFoundError(EventStoreError, LookupError):
    """The layer store has no layer of this chain id.

    Attributes:
        chain_id: the chain id that was asked for.
    """

    def __init__(self, chain_id: str) -> None:
        self.chain_id = chain_id
        super().__init__(f"layer does not exist: {chain_id}")


class SourceError(EventStoreError):
    """What should be read from elsewhere is not there, or is not what it should be.

    Attributes:
        path: the place that was looked at.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class InvalidReferenceError(EventStoreError, ValueError):
    """The text is no name of an image by Docker's rules: fix the input.

    Attributes:
        text: what was given, cut where it is long.
        reason: what is wrong with it.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        super().__init__(f"invalid name {text!r}: {reason}")


class TagNotFoundError(EventStoreError, LookupError):
    """No image has the name: use another one.

    Attributes:
        name: what was asked for, as it was given.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no such name: {name}")


class MassDeleteError(EventStoreError):
    """A sync would delete most of what is there, as one from the wrong place would.

    Attributes:
        deletions: how many images it would delete.
        images: how many there are.
    """

    def __init__(self, deletions: int, images: int) -> None:
        self.deletions = deletions
        self.images = images
        super().__init__(f"this would delete {deletions} of {images} images")


class CompactedError(EventStoreError, LookupError):
    """What was asked for was dropped by a compaction: ask for a later moment, or a backup.

    Attributes:
        position: the record, or the moment, that was asked for.
        through: the first moment that can be asked for.
    """

    def __init__(self, position: int, through: int) -> None:
        self.position = position
        self.through = through
        if position < through:
            text = f"@{position} is gone: the log was compacted, and goes back to @{through} only"
        else:
            text = f"record @{position} was dropped when the log was compacted"
        super().__init__(text)


class UndoError(EventStoreError):
    """What was done cannot be taken back, or not any more; nothing was changed.

    Attributes:
        obstacles: all that stands in the way, each a sentence.
    """

    def __init__(self, what: str, obstacles: Sequence[str]) -> None:
        self.obstacles = tuple(obstacles)
        shown = "; ".join(self.obstacles[:3])
        more = f"; and {len(self.obstacles) - 3} more" if len(self.obstacles) > 3 else ""
        super().__init__(f"{what} cannot be undone: {shown}{more}")


class ProofError(EventStoreError, ValueError):
    """What claims to prove something does not: ask whoever gave it for a sound one.

    A checkpoint, a signature or a proof is malformed, is not by a key that is trusted, or speaks
    for something else.
    """


class StoreUsageError(EventStoreError):
    """The store was used in a way that it does not allow: change the calling code."""


class StoreNotFoundError(StoreUsageError):
    """There is no store, and none may be made: check the path, or make one.

    Attributes:
        path: where it was looked for.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"there is no store at {path}")


class DestinationExistsError(StoreUsageError):
    """What should be made has the name of something that is there: give another name.

    Attributes:
        path: what is there; it was not touched.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} exists already, and nothing is overwritten")


class StoreClosedError(StoreUsageError):
    """The store has been closed."""


class StoreReadOnlyError(StoreUsageError):
    """The store was opened for reading only."""


class StoreForkedError(StoreUsageError):
    """The store was opened before `fork`: open it again in the child."""


class StoreInUseError(StoreUsageError):
    """The store is open already in this process: share that one."""


class ErasureUnfinishedError(StoreUsageError):
    """What was redacted or dropped is gone, its bytes are in the file: let the readers end, retry.

    The next `redact` of the image, or `compact`, and the next open for writing, finish it.

    Attributes:
        processes: the processes that are in a read that began before, sorted.
    """

    def __init__(self, path: str, processes: Sequence[int]) -> None:
        self.processes = tuple(processes)
        who = ", ".join(map(str, self.processes))
        super().__init__(
            f"{path}: the bytes of what was redacted or dropped are not destroyed yet, for process"
            f" {who} is in a read that began before; end it and try again"
        )


class StoreFullError(EventStoreError, OSError):
    """There is no room for what should be written; nothing was.

    Attributes:
        path: the store's directory, or that of the copy which was to be made, or None.
        map_size: the size in bytes that the memory map could not grow beyond, or None when it
            was the disk that was full.
    """

    def __init__(
        self, message: str, *, path: str | None = None, map_size: int | None = None
    ) -> None:
        self.path = path
        self.map_size = map_size
        super().__init__(message)


class StoreIOError(EventStoreError, OSError):
    """The operating system refused to read or write the store's files.

    Of a write, nothing was changed, and the same store goes on when the disk answers again. Should
    the power fail before that, the batch that was refused may be there, whole.

    Attributes:
        path: the store's directory.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class StoreLostError(StoreIOError):
    """The store's files were removed, moved or replaced: close it, open the one that is there."""


def refused(path: str, error: OSError) -> StoreFullError | StoreIOError:
    """Return the error that tells a full disk from everything else that goes wrong with files.

    Args:
        path: what could not be read or written.
        error: what the operating system said.
    """
    said = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return StoreFullError(f"{path}: {said}", path=path)
    return StoreIOError(path, said)


class CorruptionError(EventStoreError):
    """What is stored is not what was written: go back to a backup.

    Attributes:
        position: the record that is damaged, or None.
        digest: the id of the image whose config is damaged, or None.
    """

    def __init__(
        self, message: str, *, position: int | None = None, digest: str | None = None
    ) -> None:
        self.position = position
        self.digest = digest
        super().__init__(message)


class PastChangedError(CorruptionError):
    """The log is not the one that a checkpoint was taken of: somebody changed the past.

    Attributes:
        position: of the checkpoint: at most so many records are as they were.
    """


class UnknownFormatError(CorruptionError):
    """The store, or a record in it, is of a format that this version does not know.

    Attributes:
        found: the format that is there.
        supported: the formats that this version reads.
    """

    def __init__(
        self,
        message: str,
        *,
        found: object,
        supported: Sequence[object],
        position: int | None = None,
    ) -> None:
        self.found = found
        self.supported = tuple(supported)
        super().__init__(message, position=position)
