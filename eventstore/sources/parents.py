"""Hold the parents that a source notes against what it lists, and mend what cannot be.

What is wrong is reported under one of these kinds, and the image counts without a parent::

    parent-missing           the noted parent is not listed
    parent-cycle             the image is its own ancestor
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from eventstore.sources.found import PassOver, SourceImage


def check(images: dict[str, SourceImage], unsure: Collection[str], pass_over: PassOver) -> None:
    """Take away the parents that are not listed, or that make an image its own ancestor.

    Args:
        images: all that count, by id; those that are mended are replaced.
        unsure: ids of which it is not known whether they count: a child of one keeps what is
            known of it.
        pass_over: takes what was mended.
    """
    for image_id, image in list(images.items()):
        if image.parent is not None and image.parent not in images:
            detail = f"{image.parent} is not listed"
            pass_over("parent-missing", image_id, detail, unsure=image.parent in unsure)
            images[image_id] = _orphan(image)
    for image_id in _in_cycles(images):
        pass_over("parent-cycle", image_id, "it is its own ancestor")
        images[image_id] = _orphan(images[image_id])


def _orphan(image: SourceImage) -> SourceImage:
    return msgspec.structs.replace(image, parent=None)


def _in_cycles(images: dict[str, SourceImage]) -> list[str]:
    """Return the images that are their own ancestors, sorted.

    Every image has at most one parent, so each walk upwards ends, or comes to an image of this very
    walk: from there on it is a cycle.
    """
    found: list[str] = []
    walk_of: dict[str, str] = {}
    for start in images:
        at: str | None = start
        path: list[str] = []
        while at is not None and at not in walk_of:
            walk_of[at] = start
            path.append(at)
            at = images[at].parent
        if at is not None and walk_of[at] == start:
            found.extend(path[path.index(at) :])
    return sorted(found)
