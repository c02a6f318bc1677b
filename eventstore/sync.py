"""Make the store equal to what a source lists, by appending what differs.

One sync is one transaction, so the log never shows a host half read; a sync that finds nothing new
appends nothing. The source's facts win: what it lists is created, what it no longer lists is
deleted, parents, last updates, built marks and names are set as it has them. Docker never takes a
last update or a built mark away from an image, so one that has lost either was removed and created
again since the last sync, and that is what the log says then; of a source that keeps no such fact
nothing follows, and what the store knows of it stays. A config that was redacted is not
taken in again: such an image stays as it is, there or gone, and is passed over if it is gone. Where
a source could not tell (an entry that it passed over is marked as unsure), what the store knows of
that image stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from eventstore import digest, references
from eventstore.errors import CorruptionError, MassDeleteError, RedactedError
from eventstore.progress import Progress, counted
from eventstore.sources.found import ConfigOf, PassedOver, SourceImage
from eventstore.store import ImageStore
from eventstore.tracing import traced
from eventstore.view import ImageView

DELETIONS_UNQUESTIONED = 10


class SyncReport(Struct, frozen=True):
    """What a sync did, or with `dry_run` would do, in numbers.

    Attributes:
        images: how many images the source lists.
        created: ids of images that are new here, sorted.
        deleted: ids of images that the source no longer lists, sorted.
        recreated: ids of images that were removed and created again since the last sync.
        parents_set: how many images got another parent, or lost theirs.
        last_updated_set: how many images got another time of last update.
        marked_built: how many images were marked as built.
        unchanged: how many images are as they were.
        passed_over: what of the source does not count, and why.
        after: position before the sync; the records after it are the sync's.
        position: position after it.
        dry_run: whether nothing was appended.
        tagged: how many names were given to an image, or moved to another one.
        untagged: how many names were taken away from an image that is there.
    """

    images: int
    created: list[str]
    deleted: list[str]
    recreated: list[str]
    parents_set: int
    last_updated_set: int
    marked_built: int
    unchanged: int
    passed_over: list[PassedOver]
    after: int
    position: int
    dry_run: bool
    tagged: int = 0
    untagged: int = 0


class _DryRunEnded(Exception):  # noqa: N818 (it ends a block, it is no error)
    """Leaves the transaction of a dry run, so that nothing of it is appended."""


@traced("sync")
def sync(
    store: ImageStore,
    images: Sequence[SourceImage],
    passed_over: Sequence[PassedOver] = (),
    *,
    names: Mapping[str, str] | None = None,
    reason: str = "sync",
    dry_run: bool = False,
    allow_mass_delete: bool = False,
    same: tuple[int, Collection[str]] = (0, ()),
    progress: Progress | None = None,
) -> SyncReport:
    """Append what makes the store equal to `images`.

    Args:
        store: what to change.
        images: all that the source lists; parents are among them and make no cycle.
        passed_over: what else lies in the source, for the report.
        names: all names, in any form, and the ids of their images; those of images that are not
            there count for nothing. None if they are not known: they then stay.
        reason: why, for the records.
        dry_run: find out, append nothing.
        allow_mass_delete: delete more than half of the images, and more than ten, without asking.
        same: a position after which a sync left the store equal to the source, and ids of images
            that the source lists as it did then; they are looked at no further if the store still
            is at that position.
        progress: is told of how many images are created, and then of how many are looked at.

    Raises:
        MassDeleteError: it would delete more than that.
        InvalidReferenceError: one of the names is none.
        StoreReadOnlyError: the store was opened for reading only.
        StoreFullError: there is no room; nothing was changed.
    """
    run = _Run(store, images, {entry.name for entry in passed_over if entry.unsure}, names, same)
    try:
        with store.transaction(reason=reason):
            run.find(allow_mass_delete=allow_mass_delete or dry_run)
            run.write(progress)
            if dry_run:
                raise _DryRunEnded
    except _DryRunEnded:
        pass
    return run.report(list(passed_over), dry_run=dry_run)


def configs_in(store: ImageStore) -> ConfigOf:
    """Return what gives the configs that a store has, of images that are there or gone.

    Of one that was redacted it gives no bytes: no sync takes such a config in. One that is damaged
    or was lost counts as not there.
    """

    def config_of(image_id: str) -> bytes | None:
        try:
            return store._read_config(digest.require(image_id))
        except RedactedError:
            return b""
        except CorruptionError:
            return None

    return config_of


class _Run:
    """One sync: what it finds, and what it does about it."""

    def __init__(
        self,
        store: ImageStore,
        images: Sequence[SourceImage],
        unsure: set[str],
        names: Mapping[str, str] | None = None,
        same: tuple[int, Collection[str]] = (0, ()),
    ) -> None:
        self.same_at = same[0]
        self.same: set[str] = set(same[1])
        self.store = store
        self.unsure = unsure
        self.wanted = {image.image_id: image for image in images}
        self.refused: list[PassedOver] = []
        self.view = store.view()
        self.touched: set[str] = set()
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.recreated: list[str] = []
        self.parents_set = self.last_updated_set = self.marked_built = 0
        self.names, self.tagged, self.untagged = names, 0, 0
        self.after = self.position = 0

    def find(self, *, allow_mass_delete: bool) -> None:
        """Compare the source with the store's present."""
        # In a transaction this is the batch's own view: it moves with each mutation below.
        view = self.view = self.store.view()
        self.after = view.position
        if self.after != self.same_at:
            self.same.clear()
        present = {digest.to_text(image) for image in view.digests()}
        self._refuse_redacted(present)
        self.created = sorted(self.wanted.keys() - present)
        self.deleted = sorted(present - self.wanted.keys() - self.unsure)
        looked_at = self.wanted.keys() - self.same
        kept = sorted((present & looked_at) - self.unsure)
        self.recreated = [
            image_id
            for image_id in kept
            if _lost_a_fact(view, self.wanted[image_id]) and not self.store.redaction(image_id)
        ]
        again = set(self.recreated)  # whose children here have no parent then
        self.same = {
            image_id
            for image_id in self.wanted.keys() & self.same
            if self.wanted[image_id].parent not in again
        }
        deletions = len(self.deleted)
        if not allow_mass_delete and deletions > max(DELETIONS_UNQUESTIONED, len(present) / 2):
            raise MassDeleteError(deletions, len(present))

    def _refuse_redacted(self, present: set[str]) -> None:
        """Leave out what could only be created with a config that was redacted; say so."""
        for image_id in sorted(self.wanted.keys() - present):
            record = self.store.redaction(image_id)
            if record is not None:
                del self.wanted[image_id]
                detail = f"redacted at @{record.position} by {record.actor}: {record.reason}"
                self.refused.append(PassedOver("redacted", image_id, detail))
        for image_id, image in self.wanted.items() if self.refused else ():
            if image.parent is not None and image.parent not in self.wanted:
                self.wanted[image_id] = msgspec.structs.replace(image, parent=None)

    def write(self, progress: Progress | None) -> None:
        """Append what differs: deletions, creations, then facts, ancestors before descendants."""
        for image_id in self.deleted + self.recreated:
            self.store.delete(image_id)
        created = sorted(self.created + self.recreated)
        for image_id in counted(created, progress, len(created)):
            self._create(self.wanted[image_id])
        self.touched.update(self.created, self.recreated)
        for image in counted(self._ancestors_first(), progress, len(self.wanted)):
            self._facts(image)
        if self.names is not None:
            self._set_names(self.names)
        self.position = self.view.position

    def _create(self, image: SourceImage) -> None:
        """Create an image; what the source has decoded of its config is not decoded again."""
        if image.created is None:
            self.store.adopt(image.config)
        else:
            self.store._adopt_decoded(image.image_id, image.created, image.config)

    def _facts(self, image: SourceImage) -> None:
        """Set what the source knows of an image where it differs."""
        image_id = image.image_id
        raw = digest.require(image_id)
        state = self.view.state(raw)
        told = image.parent is not None or image_id not in self.unsure
        if told and self._parent_of(raw) != image.parent:
            self.store.set_parent(image_id, image.parent)
            self.parents_set += 1
            self.touched.add(image_id)
        updated = image.last_updated_ns
        if updated is not None and state is not None and state.last_updated != updated:
            self.store.set_last_updated(image_id, updated)
            self.last_updated_set += 1
            self.touched.add(image_id)
        if image.built_locally and state is not None and not state.built:
            self.store.set_built_locally(image_id)
            self.marked_built += 1
            self.touched.add(image_id)

    def _set_names(self, names: Mapping[str, str]) -> None:
        """Make the names those of the source, as far as their images are here."""
        known = self.store.tags()
        wanted = {
            references.canonical(name): image
            for name, image in names.items()
            if image in self.store
        }
        for name in sorted(known.keys() - wanted.keys()):
            self.store.untag(name)
            self.untagged += 1
        for name in sorted(wanted):
            if known.get(name) != wanted[name]:
                self.store.tag(name, wanted[name])
                self.tagged += 1

    def _parent_of(self, image: bytes) -> str | None:
        parent = self.view.parent_of(image)
        return None if parent is None else digest.to_text(parent)

    def _ancestors_first(self) -> Iterator[SourceImage]:
        """Iterate over the images so that a parent comes before its children.

        When an image's parent is set, all of that parent's ancestors are as they will stay; so no
        cycle can arise on the way, even if two images have changed places.
        """
        done: set[str] = set()
        for image_id in sorted(self.wanted.keys() - self.same):
            path: list[str] = []
            at: str | None = image_id
            while at is not None and at not in done:
                done.add(at)
                path.append(at)
                at = self.wanted[at].parent
            for ancestor in reversed(path):
                yield self.wanted[ancestor]

    def report(self, passed_over: list[PassedOver], *, dry_run: bool) -> SyncReport:
        """Return what was done in numbers."""
        return SyncReport(
            images=len(self.wanted),
            created=self.created,
            deleted=self.deleted,
            recreated=self.recreated,
            parents_set=self.parents_set,
            last_updated_set=self.last_updated_set,
            marked_built=self.marked_built,
            unchanged=len(self.wanted) - len(self.touched),
            passed_over=passed_over + self.refused,
            after=self.after,
            position=self.after if dry_run else self.position,
            dry_run=dry_run,
            tagged=self.tagged,
            untagged=self.untagged,
        )


def _lost_a_fact(view: ImageView, image: SourceImage) -> bool:
    """Tell whether the source lacks what Docker never takes away from an image."""
    state = view.state(digest.require(image.image_id))
    if state is None:
        return False
    lost_update = state.last_updated is not None and image.last_updated_ns is None
    lost_mark = state.built and image.built_locally is False
    return (lost_update and image.tells_last_updated) or lost_mark
