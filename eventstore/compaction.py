"""Drop from the log what only the past before some position needs: retention.

What is kept. Of the records up to the horizon: those of the life that each image is in which is
there at the horizon, from its `Created` on; all records, but not those about names only, of images
whose config is redacted, so that the same config goes on being refused; those about a name, from
the first on that is of such a life; and what is about the log. All records behind the horizon. Of
the configs: those of images that are there at the horizon, or were created or redacted since, and
the marks of those that are redacted. With that, every view from the horizon on is what it was, and
so is every proof, for `dropped` keeps the hashes of what goes.

How it is dropped. First a commit appends `Compacted` and notes the horizon; from then on nobody
looks at anything before it. Then records, configs with their tombstones, and names go, a bounded
number a commit, so that writers wait no longer than for a snapshot. A process that is killed at any
point leaves a sound store whose horizon says `unfinished`; what remains is dropped by the next
`compact`, for what is to be kept can be told from what is left: folded from the first record on, it
leads to the same view. The snapshots from before go, too, and in the end the bytes of all that are
destroyed (`scrubbing`).

LMDB uses the room again, and never makes the file smaller; a backup is as small as what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from msgspec import Struct

from eventstore import (
    clock,
    codec,
    configs,
    dropped,
    log,
    merkle,
    names,
    replay,
    scrubbing,
    snapshots,
)
from eventstore.events import Compacted, Record, Tagged, Untagged
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from eventstore.progress import Progress
from eventstore.view import ImageView

_CONFIGS_A_WRITE, _NAMES_A_WRITE = 256, 1024
_CONFIGS, _TOMBSTONES = "configs", "tombstones"


class Compaction(Struct, frozen=True):
    """What a compaction did, or with `dry_run` would do.

    Attributes:
        through: the first position that can be looked at.
        by: the position of the record that says so, 0 in a dry run.
        records: how many records were dropped.
        kept: how many records up to `through` are kept.
        configs: how many configs were dropped.
        config_bytes: the bytes that they took.
        names: how many names were dropped, to whose meaning nothing leads any more.
        dry_run: whether nothing was changed.
    """

    through: int
    by: int
    records: int
    kept: int
    configs: int
    config_bytes: int
    names: int
    dry_run: bool


def compact(
    environment: Environment,
    through: int,
    *,
    by: int,
    dry_run: bool,
    progress: Progress | None = None,
) -> Compaction:
    """Drop what only the past before a position needs; the horizon is noted there already.

    Args:
        environment: the store's.
        through: the first position that can be looked at.
        by: of the record that says so.
        dry_run: count, and drop nothing.
        progress: is told of how far in the log it is.

    Raises:
        CorruptionError: a record is damaged; what was dropped before it stays so.
        StoreFullError: there is no room for the hashes; the same.
    """
    keeping = _Keeping(environment, through)
    records = kept = 0
    for page in log.pages(environment, 0, through):
        doomed = keeping.doomed(page)
        records, kept = records + len(doomed), kept + len(page) - len(doomed)
        if doomed and not dry_run:
            environment.write(partial(_drop_records, doomed=doomed))
        if progress is not None:
            progress(int.from_bytes(page[-1][0], "big"), through)
    found = size = 0
    for images in keeping.gone():
        found += len(images)
        size += sum(images.values())
        if not dry_run:
            environment.write(partial(_drop_configs, images=list(images), through=through))
    if not dry_run:
        for start in range(0, len(keeping.doomed_names), _NAMES_A_WRITE):
            keys = keeping.doomed_names[start : start + _NAMES_A_WRITE]
            environment.write(partial(_drop_names, keys=keys, through=through))
        snapshots.prune(environment)
        environment.write(partial(_finish, through=through))
    return Compaction(through, by, records, kept, found, size, len(keeping.doomed_names), dry_run)


def take_snapshot(environment: Environment, through: int) -> None:
    """Let the first view that can be looked at, and all after it, start from a snapshot there."""
    with environment.read() as txn:
        there = snapshots.raw_header(txn, through) is not None
    if not there:
        snapshots.put(environment, replay.view_at(environment, through))


def say_again(view: ImageView, through: int, root_hash: bytes, now: clock.Clock) -> Record:
    """Return the next record of a log that says how far it was compacted: the one before was lost.

    Without it, a log whose last records were dropped would not end where it ends.
    """
    position = view.position + 1
    return codec.encode(
        position,
        time_ns=max(clock.reading(now), view.time_ns),
        actor="salvage",
        reason="the record of this compaction was lost",
        batch=position,
        previous=0,
        event=Compacted(through, root_hash),
    )


class _Keeping:
    """Tells what is kept, from what the log holds up to the horizon, whole or not any more.

    Attributes:
        doomed_names: the keys of the names that nothing which is kept is about.
    """

    def __init__(self, environment: Environment, through: int) -> None:
        self._environment = environment
        self._through = through
        self._view = replay.view_at(environment, through)
        self._view.load()
        self._marked: dict[bytes, bool] = {}
        with environment.read() as txn:
            self._any_marked = scrubbing.is_any_redacted(txn)
        self._look_at_names()

    def doomed(self, page: list[tuple[bytes, bytes]]) -> dict[int, bytes]:
        """Return the positions of the records of a page that are not kept, with their hashes."""
        records = [codec.decode(int.from_bytes(key, "big"), raw) for key, raw in page]
        doomed = [record for record in records if not self._keeps(record)]
        return {record.position: merkle.leaf_hash(record.raw) for record in doomed}

    def gone(self) -> Iterator[dict[bytes, int]]:
        """Iterate over the images whose tombstones and configs go, each with its config's size."""
        after = b""
        while True:
            part: dict[bytes, int] = {}
            with self._environment.read() as txn:
                page = txn.page(_TOMBSTONES, after, _CONFIGS_A_WRITE + 1)
                for image, value in page:
                    if image != after and _is_before(image, value, self._through):
                        config = txn.get(_CONFIGS, image) or b""
                        if not configs.redacted_at(image, config):
                            part[image] = len(config)
            if part:
                yield part
            if not page or page[-1][0] == after:
                return
            after = page[-1][0]

    def _keeps(self, record: Record) -> bool:
        if record.position in self._named or isinstance(record.event, Compacted):
            return True
        if self._is_of_life(record):
            return True
        return not isinstance(record.event, Tagged | Untagged) and self._is_marked(record)

    def _is_of_life(self, record: Record) -> bool:
        """Tell whether a record is of the life of an image that is there at the horizon."""
        state = self._view.state(record.event.digest)
        return state is not None and state.created <= record.position

    def _is_marked(self, record: Record) -> bool:
        """Tell whether a record is of an image whose config is redacted."""
        if not self._any_marked:
            return False
        image = record.event.digest
        found = self._marked.get(image)
        if found is None:
            with self._environment.read() as txn:
                value = txn.get(_CONFIGS, image) or b""
            found = self._marked[image] = configs.redacted_at(image, value) > 0
        return found

    def _look_at_names(self) -> None:
        """Find the records about each name from the first one on that is of a life that goes on."""
        kept: set[str] = set()
        self._named: set[int] = set()
        for record in log.read(self._environment, 0, self._through):
            if isinstance(record.event, Tagged | Untagged):
                if self._is_of_life(record):
                    kept.add(record.event.name)
                if record.event.name in kept:
                    self._named.add(record.position)
        with self._environment.read() as txn:
            self.doomed_names = [
                key
                for key, value in names.stored(txn)
                if names.name_of(key) not in kept and names.unpack(key, value) <= self._through
            ]


def _is_before(image: bytes, value: bytes, through: int) -> bool:
    """Tell whether the stream of an image that is gone ended by a position."""
    return log.unpack_note(image, value, f"the tombstone of {image.hex()}") <= through


def _drop_records(txn: Transaction, *, doomed: dict[int, bytes]) -> None:
    found = dropped.horizon(txn)
    there = {at: leaf for at, leaf in doomed.items() if log.drop(txn, at)}
    dropped.add(txn, there)
    dropped.note(txn, found.with_more(len(there)))


def _drop_configs(txn: Transaction, *, images: list[bytes], through: int) -> None:
    """Drop tombstones and configs together, of those that nobody has created again meanwhile."""
    for image in images:
        value = txn.get(_TOMBSTONES, image)
        if value is None or not _is_before(image, value, through):
            continue
        if not configs.redacted_at(image, txn.get(_CONFIGS, image) or b""):
            log.drop_tombstone(txn, image)
            txn.delete(_CONFIGS, image)


def _drop_names(txn: Transaction, *, keys: list[bytes], through: int) -> None:
    """Drop names that nobody has given again meanwhile."""
    for key in keys:
        names.drop(txn, key, through)


def _finish(txn: Transaction, *, through: int) -> None:
    found = dropped.horizon(txn)
    if found.through == through and found.unfinished:
        dropped.note(txn, found.finished())
        scrubbing.note_dropped(txn, through)
