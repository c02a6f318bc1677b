"""Open a store and change it: the image store that remembers.

When a mutator returns, its event is on disk; when it raises, nothing was changed, unless it was an
interrupt that came while another thread was writing for it. Threads may share a store, and their
mutators then share commits; a child of `fork` may not; a second open of one path in a process is
refused. How it is written is in `writer`, reading in `reader`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

from eventstore import (
    clock,
    configs,
    decide,
    digest,
    host,
    meta,
    references,
    replay,
    scrubbing,
    snapshots,
    structure,
)
from eventstore.batch import Batch
from eventstore.errors import (
    ErasureUnfinishedError,
    EventStoreError,
    ImageNotFoundError,
    InvalidImageError,
    StoreClosedError,
    StoreFullError,
    StoreIOError,
    StoreUsageError,
)
from eventstore.events import (
    Created,
    Deleted,
    Described,
    Event,
    Manifest,
    Record,
    Redacted,
    is_manifest,
    pack_chain,
)
from eventstore.image import Image
from eventstore.layers import LayerMetadata, LayerStore
from eventstore.lmdb_env import MAP_SIZE, Environment
from eventstore.notices import Notices
from eventstore.store_compaction import StoreCompactor
from eventstore.tracing import traced
from eventstore.turns import Judge
from eventstore.view import ImageView
from eventstore.writer import checked_text

logger = Notices(__name__)


class ImageStore(StoreCompactor):
    """An event-sourced store of container-image metadata; use `open`."""

    def __init__(
        self,
        environment: Environment,
        *,
        layers: LayerStore | None,
        actor: str,
        operating_system: str,
        now: clock.Clock,
    ) -> None:
        """Take over an open environment; users call `open`."""
        super().__init__(
            environment, layers=layers, actor=actor, operating_system=operating_system, now=now
        )
        self._snapshot_at = self._newest_snapshot()

    @classmethod
    @traced("open")
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        layers: LayerStore | None = None,
        actor: str | None = None,
        operating_system: str | None = None,
        read_only: bool = False,
        create: bool = True,
        map_size: int = MAP_SIZE,
        map_size_max: int | None = None,
        check_structure: bool = False,
        now: clock.Clock = clock.system_clock,
    ) -> Self:
        """Open the store in a directory, and make it if it is not there.

        The view is the newest sound snapshot and the records after it; no config is decoded.

        Args:
            path: the store's directory.
            layers: where the layers of images are held, None to leave layers out of it.
            actor: who appends; `user@host` if not given.
            operating_system: whose images with layers are accepted; the host's if not given.
            read_only: never write.
            create: make the store if it is missing.
            map_size: bytes of address space to reserve.
            map_size_max: bytes that the store may grow to, None for no limit.
            check_structure: check the whole file before LMDB maps it, at about 2 ms a megabyte. A
                bent page can make LMDB end the process, or hide what it led to; without this,
                only the pages nearest to the roots are checked.
            now: gives nanoseconds since 1970, UTC. What it says is data, and orders nothing: a
                record whose time would be before that of the last one gets that time, with a
                warning where the two are more than a minute apart.

        Raises:
            StoreNotFoundError: there is no store, and none may be made.
            StoreUsageError: it is no directory, no path, or lies on a file system of the network.
            StoreInUseError: it is open in this process already.
            StoreIOError: the operating system refuses; a medium that is read only asks for
                `read_only`, which writes nothing there.
            StoreFullError: there is no room to make it.
            CorruptionError: the log is damaged; it is left as it is.
            UnknownFormatError: another version wrote it, or another program.
        """
        who = host.default_actor() if actor is None else checked_text("actor", actor)
        if check_structure:
            structure.refuse_unsound(Path(path))
        environment = Environment(
            path,
            initialise=meta.founding(now) if create else None,
            read_only=read_only,
            map_size=map_size,
            map_size_max=map_size_max,
        )
        try:
            store = cls(
                environment,
                layers=layers,
                actor=who,
                operating_system=operating_system or host.operating_system(),
                now=now,
            )
            store._resume_erasure()
        except BaseException:
            environment.close()
            raise
        return store

    # Mutations.

    def create(self, config: bytes, *, reason: str = "", allow_redacted: bool = False) -> str:
        """Create an image from its config and return its id.

        The same bytes again give the same id and no event. With a layer store, a reference to the
        image's layers is taken; an image that was left out for want of them comes back.

        Args:
            config: the exact bytes of the image config, at most 16 MiB.
            reason: why.
            allow_redacted: take in a config that was redacted, which is refused otherwise. An image
                that is there is deleted for that and created again, with all that was known of it.

        Raises:
            RedactedError: the config was redacted.
            InvalidImageError: Docker would refuse the config.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        return self._take_in(Image.from_json(config), reason, allow_redacted=allow_redacted)

    def adopt(self, config: bytes, *, reason: str = "", allow_redacted: bool = False) -> str:
        """Create an image that another store holds already.

        As `create`, but by the rules of Docker's restore: what a store listed must not be lost
        because it could not be created again. See `Image.from_stored`.

        Args:
            config: the exact bytes of the image config, at most 16 MiB.
            reason: why.
            allow_redacted: take in a config that was redacted, which is refused otherwise. An image
                that is there is deleted for that and created again, with all that was known of it.

        Raises:
            RedactedError: the config was redacted.
            InvalidImageError: Docker's restore would refuse the config.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        return self._take_in(Image.from_stored(config), reason, allow_redacted=allow_redacted)

    def _take_in(self, decoded: Image, reason: str, *, allow_redacted: bool) -> str:
        """Append that an image was created, unless it is there."""
        chain_id = decoded.root_fs.chain_id()
        chain = pack_chain(chain_id) if chain_id else None
        created = Created(digest.require(decoded.id), chain, decoded.os)
        self._append_created(created, decoded.raw_json, reason, allow_redacted=allow_redacted)
        return decoded.id

    def _adopt_decoded(
        self, image_id: str, created: Created, config: bytes, *, reason: str = ""
    ) -> None:
        """Create an image as `adopt`, from what whoever read the config has decoded of it.

        Raises:
            InvalidImageError: the config is not the one that was decoded.
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        if not digest.require(image_id) == created.digest == digest.digest_of(config):
            raise InvalidImageError(f"what was decoded is not the config of {image_id}")
        self._append_created(created, config, reason)

    def _append_created(
        self, created: Created, config: bytes, reason: str, *, allow_redacted: bool = False
    ) -> None:
        """Append that an image was created, unless it is there."""
        image = created.digest

        def judge(batch: Batch, reason: str) -> None:
            view = batch.view
            redaction = batch.redaction(image)
            if redaction is not None and not allow_redacted:
                raise configs.refusal(redaction)
            if redaction is not None and view.state(image) is not None:
                self._create_again(batch, created, config, reason)
            elif decide.create(view, image, created.chain, created.os):
                self._add_created(batch, created, config, reason)
            elif view.is_hidden(image):
                with self._lock:
                    self._retained.bring_back(self._live, image, created.chain_id, created.os)
                    view.reveal(image)

        if self._owner != threading.get_ident():
            with self._lock:
                there = self._view().shows(image)
                if there and not (self._any_redacted and self._redaction(image)):
                    return
        self._mutate(reason, judge, len(config))

    def _add_created(self, batch: Batch, created: Created, config: bytes, reason: str) -> None:
        """Add that an image was created, with its config, and a reference to its layers."""
        if self._retained.active:
            with self._lock:
                self._retained.take(created.digest, created.chain_id, created.os)
        try:
            batch.add(created, reason)
        except BaseException:
            with self._lock:
                self._retained.give_back(created.digest)
            raise
        batch.configs[created.digest] = config

    def _create_again(self, batch: Batch, created: Created, config: bytes, reason: str) -> None:
        """Delete an image that is there and create it with its config, as it was."""
        facts = decide.facts_of(batch.view, created.digest)
        names = self.names(created.image_id)
        facts += map(
            partial(Described, created.digest),
            reversed(self._described_in(batch, created.digest)),
        )
        batch.add(Deleted(created.digest), reason)
        self._add_created(batch, created, config, reason)
        for fact in facts:
            batch.add(fact, reason)
        for name in names:
            for event in decide.tag(batch.view, created.digest, name, batch.last_named(name)):
                batch.add(event, reason)

    def redact(self, image_id: str, *, reason: str) -> int:
        """Destroy the config of an image for good; all else that is known of it stays.

        For an image that is there, and for one that was deleted. When this returns, no byte of the
        config is left in the store's files, see `scrubbing`, and `get` raises `RedactedError`. To
        redact what is redacted is no event; what an earlier call could not destroy is destroyed.
        The store's records are not touched. Backups that were made before keep the config: to
        destroy them is the operator's matter.

        Other writers wait meanwhile, a few seconds where the store is large. In a read that lasts,
        such as a backup, the bytes can only be destroyed when it ends.

        Args:
            image_id: a whole id.
            reason: why; it must say something.

        Returns:
            The position of the record that says so.

        Raises:
            ImageNotFoundError: it never was there.
            StoreUsageError: there is no reason, or this thread is in a transaction.
            ErasureUnfinishedError: the record is there, the bytes are as well: redact again.
            StoreReadOnlyError: the store was opened for reading only.
            StoreFullError: there is no room; nothing was changed.
        """
        image = digest.require(image_id)
        if not checked_text("reason", reason).strip():
            raise StoreUsageError("what destroys needs a reason")
        if self._owner == threading.get_ident():
            raise StoreUsageError("redact outside of the transaction: it is a commit of its own")

        def judge(batch: Batch, reason: str) -> None:
            if not batch.was_there(image):
                raise ImageNotFoundError(image_id)
            if batch.redaction(image) is None:
                batch.add(Redacted(image), reason)
                self._any_redacted = True

        self._mutate(reason, judge)
        scrubbing.finish(self._environment)
        record = self._redaction(image)
        if record is None:
            raise StoreUsageError(f"{image_id} was created again meanwhile")
        return record.position

    def redaction(self, image_id: str) -> Record | None:
        """Return the record that redacted an image's config, there or gone; None if none did.

        Raises:
            CorruptionError: the mark in the config's place names another record.
        """
        image = digest.parse(image_id)
        with self._lock:
            self._catch_up()
            if image is None or not self._any_redacted:
                return None
        return self._redaction(image)

    def _redaction(self, image: bytes) -> Record | None:
        with self._environment.read() as txn:
            return configs.redaction(txn, image)

    def _resume_erasure(self) -> None:
        """Destroy what a redaction or a compaction has left; if that must wait, say so."""
        if self._environment.read_only:
            return
        if self._horizon.unfinished:
            cut = self._horizon.through
            logger.warning("%s: a compaction through @%s was cut off: do it again", self.path, cut)
        try:
            scrubbing.finish(self._environment, wait=0)
        except (ErasureUnfinishedError, StoreFullError, StoreIOError) as error:
            logger.warning("%s", error)

    def delete(self, image_id: str, *, reason: str = "") -> list[LayerMetadata]:
        """Delete an image; its children have no parent from here on.

        Its config and its records stay. Its layers are released after the commit.

        Returns:
            What the layer store removed; in a transaction nothing, see
            `StoreTransaction.released`.

        Raises:
            ImageNotFoundError: it is not there.
        """
        image = digest.require(image_id)
        return self._mutate(reason, _each(lambda view: decide.delete(view, image)))

    def set_parent(self, image_id: str, parent_id: str | None, *, reason: str = "") -> None:
        """Give an image a parent; None takes the one it has away. The same again is no event.

        Raises:
            ImageNotFoundError: one of the two is not there; nothing changes.
            InvalidParentError: the image would be its own ancestor.
        """
        image = digest.require(image_id)
        parent = None if parent_id is None else digest.require(parent_id)
        self._mutate(reason, _each(lambda view: decide.set_parent(view, image, parent)))

    def set_last_updated(
        self, image_id: str, instant: datetime | int | None = None, *, reason: str = ""
    ) -> None:
        """Note that an image was updated now, or at the instant that a source kept.

        Args:
            image_id: which image.
            instant: an aware datetime, or nanoseconds since 1970, UTC; now if not given.
            reason: why.

        Raises:
            ImageNotFoundError: it is not there.
            StoreUsageError: the instant has no time zone, or is not within 1678 to 2261.
        """
        image = digest.require(image_id)
        if isinstance(instant, datetime):
            if instant.tzinfo is None:
                raise StoreUsageError(f"{instant} has no time zone, so it names no instant")
            instant = clock.to_nanoseconds(instant)
        at = clock.reading(self._now) if instant is None else instant
        if not isinstance(at, int) or isinstance(at, bool):
            raise StoreUsageError(f"{at!r} is neither a datetime nor nanoseconds")
        if not clock.STORED_MIN_NS <= at <= clock.STORED_MAX_NS:
            raise StoreUsageError(f"{at} ns is not within the years 1678 to 2261")
        self._mutate(reason, _each(lambda view: decide.set_last_updated(view, image, at)))

    def set_built_locally(self, image_id: str, *, reason: str = "") -> None:
        """Mark an image as built on this host. Marking it twice is no event.

        Raises:
            ImageNotFoundError: it is not there.
        """
        image = digest.require(image_id)
        self._mutate(reason, _each(lambda view: decide.mark_built(view, image)))

    def tag(self, name: str, image_id: str, *, reason: str = "") -> None:
        """Give an image a name, which another one loses if it has it. The same again is no event.

        Args:
            name: familiar or canonical, with a tag or a digest; see `references`.
            image_id: which image.
            reason: why.

        Raises:
            InvalidReferenceError: Docker would refuse the name.
            ImageNotFoundError: the image is not there.
        """
        image, name = digest.require(image_id), references.canonical(name)

        def judge(batch: Batch, reason: str) -> None:
            for event in decide.tag(batch.view, image, name, batch.last_named(name)):
                batch.add(event, reason)

        self._mutate(reason, judge)

    def untag(self, name: str, *, reason: str = "") -> None:
        """Take a name away; the image stays, even if it was its last one.

        Raises:
            InvalidReferenceError: Docker would refuse the name.
            TagNotFoundError: no image has it.
        """
        name = references.canonical(name)

        def judge(batch: Batch, reason: str) -> None:
            for event in decide.untag(batch.view, name, batch.last_named(name)):
                batch.add(event, reason)

        self._mutate(reason, judge)

    def describe(self, image_id: str, manifest: Manifest, *, reason: str = "") -> None:
        """Note a manifest by which a place led to an image. The same again is no event.

        It changes no view: `manifests` gives what was noted.

        Args:
            image_id: which image.
            manifest: its digest, size, media type and layers, as `events.is_manifest` bounds them.
            reason: why.

        Raises:
            ImageNotFoundError: the image is not there.
            StoreUsageError: it is beyond these bounds.
        """
        image = digest.require(image_id)
        if not is_manifest(manifest):
            raise StoreUsageError(f"what should be noted of {image_id} is no manifest")

        def judge(batch: Batch, reason: str) -> None:
            if not batch.view.shows(image):
                raise ImageNotFoundError(image_id)
            known = batch.manifests.get(image)
            if known is None:
                known = batch.manifests[image] = set(self._described_in(batch, image))
            if manifest not in known:
                batch.add(Described(image, manifest), reason)

        self._mutate(reason, judge)

    def append_exact(self, records: Iterable[tuple[Record, bytes | None]]) -> None:
        """Append records of another log as they are, byte for byte, all or none.

        They must go on where this log ends; `importing` proves that the logs are one up to there.

        Args:
            records: each with the config of the image that it creates, None if nobody has it.

        Raises:
            CorruptionError: one does not follow, or says what cannot have happened.
            StoreUsageError: with a layer store, whose references only this store's own events take.
        """
        if self._retained.active:
            raise StoreUsageError("open the store without a layer store to import into it")
        with self._gathering() as batch:
            for record, config in records:
                batch.take(record)
                if isinstance(record.event, Created):
                    if config is None:
                        batch.lost.add(record.event.digest)
                    else:
                        batch.configs[record.event.digest] = config

    # Upkeep.

    def take_snapshot(self) -> snapshots.SnapshotInfo:
        """Store the present view, so that a replay can start from it.

        Other writers wait for a few chunks of it at a time, whatever the number of images.
        """
        with self._lock:
            self._catch_up()
            view = self._live.freeze()
        self._store_snapshot(view)
        self._snapshot_at = max(self._snapshot_at, view.position)
        return snapshots.SnapshotInfo(view.position, view.time_ns, len(view))

    @traced("snapshot")
    def _store_snapshot(self, view: ImageView) -> None:
        """Store a view that was frozen, and let the live one lie over it from here on."""
        stored, newest = view, self._newest_snapshot()
        if newest < view.position and newest != (view.origin or (0,))[0]:
            # Another process has stored one since: only what lies over that takes its place.
            stored = replay.view_at(self._environment, view.position)
        header = snapshots.put(self._environment, stored)
        if header is not None:
            table = replay.table_of(self._environment, header)
            with self._lock:
                self._live.lay_over(table, view)
        snapshots.prune(self._environment)

    def _snapshot_by_policy(self) -> None:
        """Take a snapshot if one is due; whatever goes wrong, what was appended is on disk."""
        try:
            self._snapshot_if_due()
        except StoreClosedError:
            return
        except EventStoreError as error:
            # A cache that could not be written must not say no.
            logger.warning("%s: no snapshot taken: %s", self.path, error)

    def _snapshot_if_due(self) -> None:
        with self._lock:
            gap = self._live.position - self._snapshot_at
            limit = snapshots.interval(len(self._live))
            if gap < limit:
                return
            self._snapshot_at = max(self._snapshot_at, self._newest_snapshot())
            gap = self._live.position - self._snapshot_at
            if gap < limit:
                return
            view, start = self._live.freeze(), self._snapshot_at
            self._snapshot_at = view.position
        if gap > 2 * limit:
            replay.fill_snapshots(self._environment, start, view.position)
        self._store_snapshot(view)

    def _newest_snapshot(self) -> int:
        with self._environment.read() as txn:
            return next((position for position, _ in snapshots.headers(txn)), 0)


def _each(intent: Callable[[ImageView], list[Event]]) -> Judge:
    """Return the judge of an intent: what it decides is added, and that is one event at most."""

    def judge(batch: Batch, reason: str) -> None:
        for event in intent(batch.view):
            batch.add(event, reason)

    return judge
