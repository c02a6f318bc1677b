"""Give what the library returns the shape that `--json` prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from eventstore import digest, go_json, references
from eventstore.cli.output import clock_time, utc
from eventstore.diff import ImageChange, ViewDiff
from eventstore.errors import RedactedError
from eventstore.events import (
    KINDS,
    Compacted,
    Created,
    Described,
    Event,
    LastUpdatedSet,
    Manifest,
    ParentSet,
    Record,
    Tagged,
    Untagged,
)
from eventstore.image import Image
from eventstore.problem import Problem
from eventstore.view import ImageView

if TYPE_CHECKING:
    from eventstore.adding import AddReport
    from eventstore.sync import SyncReport


def kind_of(event: Event) -> str:
    """Return the name of an event as the command prints it."""
    return KINDS[type(event)]


def detail(event: Event, short: Callable[[str], str] = digest.short) -> str:
    """Return in a few words what an event says, apart from its kind and its image.

    Args:
        event: what happened.
        short: gives the short form of an image's id.
    """
    if isinstance(event, ParentSet):
        return f"parent {short(event.parent_id)}" if event.parent_id else "no parent"
    if isinstance(event, LastUpdatedSet):
        return clock_time(event.instant)
    if isinstance(event, Described):
        return f"manifest {digest.short(event.manifest.digest)}"
    if isinstance(event, Compacted):
        return f"through @{event.through}"
    return references.shown(event.name) if isinstance(event, Tagged | Untagged) else ""


def record(found: Record) -> dict[str, Any]:
    """Return a record."""
    shape: dict[str, Any] = {
        "position": found.position,
        "time": utc(found.time),
        "time_ns": found.time_ns,
        "actor": found.actor,
        "reason": found.reason,
        "batch": found.batch,
        "previous": found.previous,
    }
    return shape | event(found.event)


def event(event: Event) -> dict[str, Any]:
    """Return an event."""
    shape: dict[str, Any] = {"event": kind_of(event), "image": event.image_id or None}
    if isinstance(event, Created):
        shape |= {"chain_id": event.chain_id, "os": event.os}
    elif isinstance(event, ParentSet):
        shape["parent"] = event.parent_id
    elif isinstance(event, LastUpdatedSet):
        shape |= {"instant": utc(event.instant), "instant_ns": event.instant_ns}
    elif isinstance(event, Tagged | Untagged):
        shape |= {"name": event.name, "before": event.before}
    elif isinstance(event, Described):
        shape["manifest"] = manifest(event.manifest)
    elif isinstance(event, Compacted):
        shape |= {"through": event.through, "root_hash": event.root_hash.hex()}
        shape["view"] = event.view.hex() or None
    return shape


def manifest(found: Manifest) -> dict[str, Any]:
    """Return a manifest that leads to an image."""
    return {
        "digest": found.digest,
        "media_type": found.media_type,
        "size": found.size,
        "layers": [
            {"digest": layer.digest, "media_type": layer.media_type, "size": layer.size}
            for layer in found.layers
        ],
    }


def fact(image_id: str, name: str, value: object, blamed: Record) -> dict[str, Any]:
    """Return a fact about an image, with the record that made it so."""
    return {"image": image_id, "fact": name, "value": value, "record": record(blamed)}


def listed(view: ImageView, image: Image, names: Sequence[str]) -> dict[str, Any]:
    """Return an image as `ls` lists it, with its names."""
    return {
        "id": image.id,
        "names": list(names),
        "parent": image.parent,
        "created": utc(image.created),
        "os": image.os,
        "architecture": image.architecture,
        "layers": len(image.root_fs.diff_ids),
        "last_updated": utc(view.get_last_updated(image.id)),
        "built_locally": view.is_built_locally(image.id),
    }


def unreadable(
    view: ImageView, image_id: str, names: Sequence[str], fault: Exception
) -> dict[str, Any]:
    """Return an image as `ls` lists it, as far as the log knows it: its config cannot be read."""
    return {
        "id": image_id,
        "names": list(names),
        "parent": view.get_parent(image_id),
        "created": None,
        "os": None,
        "architecture": None,
        "layers": None,
        "last_updated": utc(view.get_last_updated(image_id)),
        "built_locally": view.is_built_locally(image_id),
        "redacted" if isinstance(fault, RedactedError) else "damage": str(fault),
    }


def whole(
    view: ImageView, image: Image, names: Sequence[str], manifests: Sequence[Manifest]
) -> dict[str, Any]:
    """Return an image with all that is known of it."""
    shape = listed(view, image, names)
    shape["layers"] = list(image.root_fs.diff_ids)
    return shape | {
        "chain_id": image.root_fs.chain_id() or None,
        "manifests": [manifest(found) for found in manifests],
        "children": view.children(image.id),
        "position": view.position,
        "config": _config(image.raw_json),
    }


def _config(raw: bytes) -> Any:
    """Return a config as Docker reads it, its numbers as they are written, however long."""
    return json.loads(go_json.decode_text(raw), parse_int=_number, parse_float=_number)


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def difference(found: ViewDiff) -> dict[str, Any]:
    """Return what differs between two moments."""
    return {
        "before": found.before,
        "after": found.after,
        "created": found.created,
        "deleted": found.deleted,
        "changed": [_change(change) for change in found.changed],
    }


def _change(change: ImageChange) -> dict[str, Any]:
    shape: dict[str, Any] = {"id": change.image_id, "recreated": change.recreated}
    if change.parent is not None:
        shape["parent"] = list(change.parent)
    if change.last_updated is not None:
        shape["last_updated"] = [utc(moment) for moment in change.last_updated]
    if change.built_locally is not None:
        shape["built_locally"] = list(change.built_locally)
    return shape


def sync_report(source: str, found: SyncReport) -> dict[str, Any]:
    """Return what a sync did."""
    return {
        "source": source,
        "dry_run": found.dry_run,
        "images": found.images,
        "created": found.created,
        "deleted": found.deleted,
        "recreated": found.recreated,
        "parents_set": found.parents_set,
        "last_updated_set": found.last_updated_set,
        "marked_built": found.marked_built,
        "tagged": found.tagged,
        "untagged": found.untagged,
        "unchanged": found.unchanged,
        **_found_and_appended(found),
    }


def _found_and_appended(found: SyncReport | AddReport) -> dict[str, Any]:
    """Return what of a source did not count, and where the log was before and after."""
    return {
        "passed_over": [
            {"kind": entry.kind, "name": entry.name, "detail": entry.detail}
            for entry in found.passed_over
        ],
        "after": found.after,
        "position": found.position,
    }


def add_report(source: str, found: AddReport) -> dict[str, Any]:
    """Return what an import of images did."""
    return {
        "source": source,
        "dry_run": found.dry_run,
        "images": found.images,
        "created": found.created,
        "parents_set": found.parents_set,
        "tagged": found.tagged,
        "described": found.described,
        "unchanged": found.unchanged,
        **_found_and_appended(found),
    }


def problem(found: Problem) -> dict[str, Any]:
    """Return a problem, or a loss."""
    return {
        "kind": found.kind,
        "message": found.message,
        "position": found.position,
        "image": found.image_id,
    }
