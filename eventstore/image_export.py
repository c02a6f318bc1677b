"""Give the images of any moment back, in a form that other tools open.

What a moment's view and names say is written whole or not at all: into a new directory that gets
its name when all of it is on disk. The forms themselves are in `docker_form` and `oci_form`. What
the store cannot give back, it says: the layers, which it never had, and configs that were redacted,
or lost. An image without its config cannot be written, so such an export is refused unless it is
told to leave those images out; then their names are left out with them, and children lose a parent
that is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from eventstore import digest, docker_form, oci_form, store_files
from eventstore.backup import whole_or_absent
from eventstore.docker_form import HeldImage
from eventstore.errors import CompactedError, CorruptionError, StoreUsageError
from eventstore.events import ManifestLayer
from eventstore.progress import Progress, counted
from eventstore.store import ImageStore
from eventstore.view import ImageView

Write = Callable[[Path, Iterator[HeldImage]], tuple[str, ...]]
_DOCKER, _OCI = "docker-imagedb", "oci-layout"
FORMS: dict[str, Write] = {_DOCKER: docker_form.write, _OCI: oci_form.write}


Packed = Callable[[str], tuple[ManifestLayer, ...] | None]


class ImageExport(Struct, frozen=True):
    """What was written.

    Attributes:
        position: the moment.
        images: how many images.
        names: how many names.
        left_out: the ids of the images whose config is not there any more, sorted.
        unlisted: names that the form has no place for where tools look first, sorted.
    """

    position: int
    images: int
    names: int
    left_out: tuple[str, ...]
    unlisted: tuple[str, ...] = ()


def export_images(
    store: ImageStore,
    destination: str | os.PathLike[str],
    *,
    form: str,
    as_of: datetime | int | None = None,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> ImageExport:
    """Write the images of a moment into a new directory.

    Args:
        store: whose images.
        destination: a directory that does not exist yet.
        form: `docker-imagedb`, what a Docker daemon keeps in `image/<driver>` of its data root, but
            for `layerdb`; or `oci-layout`, an OCI image layout without the layers.
        as_of: a position or an aware datetime, inclusive; now if not given.
        leave_out: leave out images whose config was redacted or lost.
        progress: is told of how many images are written.

    Raises:
        StoreUsageError: there is no such form or moment, or the destination is no place for it.
        CompactedError: the moment was dropped.
        DestinationExistsError: the destination exists.
        RedactedError: a config was redacted, and `leave_out` is not given.
        InvalidImageError: the form cannot hold an image.
        CompactedError: the moment was dropped.
        CorruptionError: a config is damaged; or it was lost, and `leave_out` is not given.
        StoreFullError: there is no room.
        StoreIOError: the operating system refuses.
    """
    if form not in FORMS:
        raise StoreUsageError(f"{form!r} is no form of images: {', '.join(FORMS)}")
    moment = store.position if as_of is None else as_of
    if isinstance(moment, datetime):
        view = store.as_of(time=moment)
    else:
        view = store.as_of(position=moment)
    names = store.tags(view.position)
    try:
        return _write(store, view, names, destination, form, leave_out=leave_out, progress=progress)
    except CorruptionError as error:
        through = store.horizon.through
        if view.position < through:  # a config was dropped meanwhile
            raise CompactedError(view.position, through) from error
        raise


def _write(
    store: ImageStore,
    view: ImageView,
    names: dict[str, str],
    destination: str | os.PathLike[str],
    form: str,
    *,
    leave_out: bool,
    progress: Progress | None,
) -> ImageExport:
    left_out = tuple(one for one in view if store.is_config_gone(digest.require(one)))
    if left_out and not leave_out:
        view.get(left_out[0])  # it says why
    gone = set(left_out)
    kept = {name: image_id for name, image_id in names.items() if image_id not in gone}
    with whole_or_absent(destination, Path(store.path)) as folder:
        packed = _packed(store, view) if form == _OCI else _unknown
        held = counted(_held(view, kept, gone, packed), progress, len(view) - len(gone))
        unlisted = FORMS[form](folder, iter(held))
        store_files.sync_tree(folder)
    return ImageExport(view.position, len(view) - len(gone), len(kept), left_out, unlisted)


def _packed(store: ImageStore, view: ImageView) -> Packed:
    """Return what gives the layers of an image as the newest manifest that is known has them."""

    def packed(image_id: str) -> tuple[ManifestLayer, ...] | None:
        found = store.manifests(image_id, as_of=view.position)
        return found[0].layers if found else None

    return packed


def _unknown(image_id: str) -> None:
    """Say that nothing is known of the layers: a form without them need not ask."""


def _held(
    view: ImageView, names: dict[str, str], gone: set[str], packed: Packed
) -> Iterator[HeldImage]:
    """Iterate over the images of a view that have a config, sorted by id."""
    named: dict[str, list[str]] = {}
    for name, image_id in names.items():
        named.setdefault(image_id, []).append(name)
    for image_id in view:
        if image_id in gone:
            continue
        image = view.get(image_id)
        parent = image.parent if image.parent not in gone else None
        state = view.state(digest.require(image_id))
        assert state is not None
        yield HeldImage(
            image_id,
            image.raw_json,
            parent,
            state.last_updated,
            state.built,
            tuple(named.get(image_id, ())),
            image.root_fs.diff_ids,
            packed(image_id),
        )
