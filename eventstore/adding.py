"""Add to the store what a source holds, and take nothing away.

One import is one transaction. Images that are new are created; a parent is set where none is known;
names are given, also where another image had one, as loading such an archive would do; manifests
are noted. Nothing is deleted and no name is taken away, whatever the source lacks, so an archive of
one image can be added to the history of a whole host. What is known already is no event, and an
import that finds nothing new appends nothing. A config that was redacted is not taken in again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from eventstore.errors import InvalidParentError
from eventstore.progress import Progress, counted
from eventstore.sources.found import Findings, PassedOver, SourceImage
from eventstore.store import ImageStore


class AddReport(Struct, frozen=True):
    """What an import did, or with `dry_run` would do.

    Attributes:
        images: how many images the source holds.
        created: ids of images that are new here, sorted.
        parents_set: how many images got a parent.
        tagged: how many names were given to an image, or moved to it.
        described: how many manifests were noted.
        unchanged: how many images are as they were, names apart.
        passed_over: what of the source does not count, and why. Beside the kinds of the source:
            `redacted`, a config that was redacted here, and `parent-kept`, a parent that is not
            the one that is known, or would make a cycle.
        after: position before the import; the records after it are the import's.
        position: position after it.
        dry_run: whether nothing was appended.
    """

    images: int
    created: list[str]
    parents_set: int
    tagged: int
    described: int
    unchanged: int
    passed_over: list[PassedOver]
    after: int
    position: int
    dry_run: bool


class _DryRunEnded(Exception):  # noqa: N818 (it ends a block, it is no error)
    """Leaves the transaction of a dry run, so that nothing of it is appended."""


def add(
    store: ImageStore,
    findings: Findings,
    *,
    reason: str = "import",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> AddReport:
    """Append what a source holds and the store does not.

    Args:
        store: what to change.
        findings: what the source holds.
        reason: why, for the records.
        dry_run: find out, append nothing.
        progress: is told of how many images are added.

    Raises:
        InvalidReferenceError: one of the names is none.
        UnsupportedOSError: with a layer store, an image is for another operating system.
        LayerMissingError: with a layer store, an image's layers are not in it.
        StoreReadOnlyError: the store was opened for reading only.
        StoreFullError: there is no room; nothing was changed.
    """
    run = _Run(store, findings)
    try:
        with store.transaction(reason=reason):
            run.write(progress)
            if dry_run:
                raise _DryRunEnded
    except _DryRunEnded:
        pass
    return run.report(dry_run=dry_run)


class _Run:
    """One import."""

    def __init__(self, store: ImageStore, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._passed_over = list(findings.passed_over)
        self._created: list[str] = []
        self._touched: set[str] = set()
        self._parents_set = self._tagged = self._described = 0
        self._after = self._position = self._unchanged = 0

    def write(self, progress: Progress | None) -> None:
        """Append what is new: images, parents, names, manifests."""
        store = self._store
        self._after = store.position
        for image in counted(self._findings.images, progress, len(self._findings.images)):
            self._create(image)
        for image in self._findings.images:
            if image.parent is not None and image.image_id in store:
                self._set_parent(image, image.parent)
        for name, image_id in sorted((self._findings.names or {}).items()):
            if image_id in store:
                self._tagged += self._counted(partial(store.tag, name, image_id))
        for image_id, manifests in sorted(self._findings.manifests.items()):
            for manifest in manifests if image_id in store else ():
                noted = self._counted(partial(store.describe, image_id, manifest))
                self._described += noted
                if noted:
                    self._touched.add(image_id)
        left = [one for one in self._findings.images if one.image_id not in self._touched]
        self._unchanged = sum(one.image_id in store for one in left)
        self._position = store.position

    def _create(self, image: SourceImage) -> None:
        image_id = image.image_id
        if image_id in self._store:
            return
        record = self._store.redaction(image_id)
        if record is not None:
            detail = f"redacted at @{record.position} by {record.actor}: {record.reason}"
            self._passed_over.append(PassedOver("redacted", image_id, detail))
            return
        if image.created is None:
            self._store.adopt(image.config)
        else:
            self._store._adopt_decoded(image_id, image.created, image.config)
        self._created.append(image_id)
        self._touched.add(image_id)

    def _set_parent(self, image: SourceImage, parent: str) -> None:
        image_id = image.image_id
        known = self._store.get_parent(image_id)
        if known == parent:
            return
        detail = f"its parent is {known}, not {parent}" if known else ""
        if known is None and parent in self._store:
            try:
                self._store.set_parent(image_id, parent)
            except InvalidParentError as error:
                detail = str(error)
            else:
                self._parents_set += 1
                self._touched.add(image_id)
                return
        if detail:
            self._passed_over.append(PassedOver("parent-kept", image_id, detail))

    def _counted(self, change: Callable[[], None]) -> int:
        """Make a change and return how many records it appended, which is none or one."""
        before = self._store.position
        change()
        return self._store.position - before

    def report(self, *, dry_run: bool) -> AddReport:
        """Return what was done."""
        return AddReport(
            images=len(self._findings.images),
            created=self._created,
            parents_set=self._parents_set,
            tagged=self._tagged,
            described=self._described,
            unchanged=self._unchanged,
            passed_over=self._passed_over,
            after=self._after,
            position=self._after if dry_run else self._position,
            dry_run=dry_run,
        )
