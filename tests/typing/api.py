"""Use the public API as a typed program would; never run, only checked by mypy and pyright."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import assert_type

from eventstore import (
    Created,
    Event,
    Fork,
    Image,
    ImageMap,
    ImageStore,
    ImageView,
    LayerMetadata,
    LayerStore,
    MemoryLayerStore,
    ParentSet,
    Problem,
    Record,
    SalvageReport,
    SnapshotInfo,
    ViewDiff,
    check_store,
    restore,
    salvage,
)


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
        with store.transaction(reason="many") as transaction:
            store.create(config)
        assert_type(transaction.records, list[Record])


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
