"""Use the public API as a typed program would; never run, only checked by mypy and pyright."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_type

from eventstore import (
    Blame,
    Checkpoint,
    Compaction,
    Created,
    Event,
    Export,
    Fork,
    Horizon,
    Image,
    ImageMap,
    ImageStore,
    ImageView,
    LayerMetadata,
    LayerStore,
    Manifest,
    MemoryLayerStore,
    ParentSet,
    Problem,
    Progress,
    Record,
    SalvageReport,
    SnapshotInfo,
    StoreTransaction,
    Undone,
    ViewDiff,
    check_export,
    check_store,
    export_records,
    restore,
    salvage,
)
from eventstore.adding import AddReport, add
from eventstore.async_store import AsyncImageStore, CallOutcome, outcome
from eventstore.image_export import ImageExport, export_images
from eventstore.sources.docker_watched import WatchedImageDB
from eventstore.sources.finding import Source, find
from eventstore.sources.image_archive import read_path
from eventstore.sync import SyncReport
from eventstore.testing import ManualClock
from eventstore.watching import watch


def use(path: str, config: bytes) -> None:
    """Touch every method with the types that the design promises."""
    layers: LayerStore = MemoryLayerStore()
    with ImageStore.open(path, layers=layers, actor="a", operating_system="linux") as store:
        image_id = store.create(config, reason="why")
        assert_type(image_id, str)
        assert_type(store.get(image_id), Image)
        assert_type(store.delete(image_id, reason="why"), list[LayerMetadata])
        assert_type(store.search("ab"), str)
        store.set_parent(image_id, None, reason="why")
        store.set_last_updated(image_id, datetime.now(UTC))
        store.set_last_updated(image_id, 1)
        store.set_built_locally(image_id)
        assert_type(store.redact(image_id, reason="why"), int)
        assert_type(store.redaction(image_id), Record | None)
        assert_type(store.create(config, allow_redacted=True), str)
        assert_type(store.get_parent(image_id), str | None)
        assert_type(store.get_last_updated(image_id), datetime | None)
        assert_type(store.is_built_locally(image_id), bool)
        assert_type(store.children(image_id), list[str])
        assert_type(store.heads(), ImageMap)
        assert_type(store.map(), ImageMap)
        assert_type(len(store), int)
        assert_type(list(store), list[str])
        assert_type(store.position, int)
        read_the_past(store)
        name_and_undo(store, image_id)
        bring_in_and_out(store, image_id)
        follow_a_host(store, threading.Event())
        with store.transaction(reason="many") as transaction:
            store.create(config)
        assert_type(transaction.records, list[Record])


def name_and_undo(store: ImageStore, image_id: str) -> None:
    """Touch names, blame, proofs and what takes back."""
    store.tag("app:1.0", image_id, reason="why")
    store.untag("app:1.0", reason="why")
    assert_type(store.resolve("app", as_of=1), str)
    assert_type(store.names(image_id), list[str])
    assert_type(store.tags(datetime.now(UTC)), dict[str, str])
    assert_type(store.tag_records("app"), list[Record])
    undone = store.undo(1, whole_batch=False, reason="why", dry_run=True)
    assert_type(undone, Undone)
    assert_type(undone.events, tuple[Event, ...])
    assert_type(store.restore_image(image_id, dry_run=True), Undone)
    blame = store.blame(image_id, as_of=1)
    assert_type(blame, Blame)
    assert_type(store.bisect(lambda view: image_id in view, after=1), Record | None)
    assert_type(store.story(image_id, reverse=True), Iterator[Record])
    checkpoint = store.checkpoint(1)
    assert_type(checkpoint, Checkpoint)
    proof = store.inclusion_proof(1, at=1)
    assert_type(proof, list[bytes])
    assert_type(store.consistency_proof(1), list[bytes])
    assert_type(store.leaf_hash(1), bytes)
    assert_type(store.search_history("ab"), str)
    assert_type(store.position_at(datetime.now(UTC)), int)
    assert_type(store.adopt(b"", reason="why"), str)
    assert_type(store.size_on_disk(), int)
    assert_type(export_records(store, "there", after=0), Checkpoint)
    assert_type(check_export("there"), Export)


def bring_in_and_out(store: ImageStore, image_id: str) -> None:
    """Touch what images come from, what they are given back as, and what is forgotten."""
    source = find("docker://")
    assert_type(source, Source)
    assert_type(add(store, read_path("archive.tar"), reason="why"), AddReport)
    manifest = Manifest(bytes(32), "application/json", 2, ())
    store.describe(image_id, manifest, reason="why")
    assert_type(store.manifests(image_id, as_of=1), list[Manifest])
    assert_type(export_images(store, "there", form="oci-layout", as_of=1), ImageExport)
    assert_type(store.compact(time=datetime.now(UTC), reason="why", dry_run=True), Compaction)
    assert_type(store.horizon, Horizon)


def follow_a_host(store: ImageStore, stop: threading.Event) -> None:
    """Touch what goes on until it is stopped."""
    source = WatchedImageDB("docker", operating_system="linux")
    for report in watch(store, source, reason="why", allow_mass_delete=True, stop=stop):
        assert_type(report, SyncReport)
    assert_type(store.follow(1, stop=stop), Iterator[Record])


async def use_awaited(path: str, config: bytes) -> None:
    """Touch the asynchronous store."""
    async with await AsyncImageStore.open(path, actor="a", threads=4) as store:
        assert_type(store, AsyncImageStore)
        image_id = await store.create(config, reason="why")
        assert_type(image_id, str)
        async with store.transaction(reason="many") as transaction:
            await store.set_parent(image_id, None)
        assert_type(transaction, StoreTransaction)
        assert_type(await store.get(image_id), Image)
        assert_type(await store.get_parent(image_id), str | None)
        assert_type(await store.count(), int)
        assert_type(await store.contains(image_id), bool)
        assert_type([one async for one in store], list[str])
        assert_type(await store.position(), int)
        assert_type(await store.as_of(position=1), ImageView)
        async for record in store.records(image_id, after=1):
            assert_type(record, Record)
        async for record in store.follow(1):
            assert_type(record.position, int)
        assert_type([one async for one in store.verify()], list[Problem])
        assert_type(await store.undo(1), Undone)
        assert_type(await store.tags(), dict[str, str])
        assert_type(await store.checkpoint(), Checkpoint)
        assert_type(await store.diff(1), ViewDiff)
        try:
            assert_type(await store.delete(image_id), list[LayerMetadata])
        except asyncio.CancelledError as error:
            assert_type(outcome(error), CallOutcome | None)
            raise


def test_with_a_clock(image_store: ImageStore, image_store_clock: ManualClock) -> None:
    """Touch what the pytest plugin gives."""
    assert_type(image_store_clock.tick(timedelta(hours=1)), datetime)
    assert_type(image_store_clock(), int)


def note(done: int, total: int | None, /) -> None:
    """A plain function is told of progress."""


def read_the_past(store: ImageStore) -> None:
    """Touch what reads the log."""
    view = store.as_of(position=1)
    assert_type(view, ImageView)
    assert_type(view.get("sha256:"), Image)
    assert_type(store.as_of(time=datetime.now(UTC)), ImageView)
    assert_type(store.records(after=1, through=2, reverse=True), Iterator[Record])
    assert_type(store.diff(1, view), ViewDiff)
    assert_type(store.follow(), Iterator[Record])
    assert_type(store.take_snapshot(), SnapshotInfo)
    assert_type(store.snapshots(), list[SnapshotInfo])
    assert_type(store.verify(), Iterator[Problem])
    assert_type(store.verify(progress=note), Iterator[Problem])
    asked: Progress = note
    assert_type(check_store(store.path, progress=asked), Iterator[Problem])
    assert_type(store.backup("copy"), int)
    assert_type(restore("copy", "restored"), Fork)
    assert_type(store.fork, Fork | None)
    assert_type(store.forks, tuple[Fork, ...])
    assert_type(check_store(store.path), Iterator[Problem])
    assert_type(salvage(store.path, "there"), SalvageReport)
    for record in store.records("sha256:"):
        assert_type(record.event, Event)
        assert_type(record.raw, bytes)
        if isinstance(record.event, Created):
            assert_type(record.event.chain_id, str | None)
        elif isinstance(record.event, ParentSet):
            assert_type(record.event.parent_id, str | None)
