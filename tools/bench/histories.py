"""Make stores with long, realistic histories, the same every time."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

from eventstore import ImageStore

BATCH_LENGTH = 1_000


def config(number: int) -> bytes:
    """Return an image config of the size that a daemon writes, about 1.4 kB."""
    diff_ids = [
        "sha256:" + hashlib.sha256(f"{number // 10} {layer}".encode()).hexdigest()
        for layer in range(4)
    ]
    value = {
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh", "-c", f"serve --number {number}"],
            "Labels": {"org.opencontainers.image.version": str(number)},
        },
        "created": "2026-01-02T03:04:05.123456789Z",
        "docker_version": "20.10.24",
        "history": [
            {"created": "2026-01-02T03:04:05Z", "created_by": f"/bin/sh -c #(nop) RUN step {step}"}
            for step in range(4)
        ],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(value).encode()


def fill(path: Path, images: int) -> list[str]:
    """Make a store of `images` images with parents and last updates, and return their ids.

    A tenth of the images that were created are deleted again, so that the past differs from now.
    """
    ids: list[str] = []
    choose = random.Random(images)
    with ImageStore.open(path, actor="bench@host") as store:
        for numbers in _batches(images + images // 9):
            with store.transaction(reason="bench"):
                for number in numbers:
                    image_id = store.create(config(number))
                    if ids and number % 2:
                        store.set_parent(image_id, choose.choice(ids[-50:]))
                    if number % 5 == 0:
                        store.set_last_updated(image_id)
                    ids.append(image_id)
        doomed = set(choose.sample(ids, len(ids) - images))
        for chunk in _batches(len(doomed)):
            with store.transaction(reason="prune"):
                for image_id in sorted(doomed)[chunk.start : chunk.stop]:
                    store.delete(image_id)
    return [image_id for image_id in ids if image_id not in doomed]


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH_LENGTH):
        yield range(start, min(start + BATCH_LENGTH, count))
