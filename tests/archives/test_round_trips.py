"""Import what real tools wrote, give it back, and hold the two against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from archives.test_real_archives import LAYOUTS, listed, needs_skopeo, said, unpacked
from eventstore import ImageStore
from eventstore.adding import add
from eventstore.image_export import export_images
from eventstore.sources.image_archive import read_path
from making import config


@pytest.mark.parametrize("name", LAYOUTS)
def test_layers_are_described_as_they_were(store: ImageStore, tmp_path: Path, name: str) -> None:
    """By the digests, sizes and media types of the manifests that led to each image."""
    source = unpacked(name, tmp_path)
    add(store, read_path(source))
    export_images(store, tmp_path / "out", form="oci-layout")
    before, after = {}, {}
    listed(source, json.loads((source / "index.json").read_bytes()), before)
    listed(tmp_path / "out", json.loads((tmp_path / "out" / "index.json").read_bytes()), after)
    assert {image: found[3] for image, found in after.items()} == {
        image: found[3] for image, found in before.items()
    }
    with ImageStore.open(tmp_path / "again") as again:
        add(again, read_path(tmp_path / "out"))
        assert sorted(again) == sorted(store)
        assert again.tags() == store.tags()


@needs_skopeo
def test_with_its_layers_beside_a_layout_is_whole(store: ImageStore, tmp_path: Path) -> None:
    """Put there, they are what the manifests say, and skopeo copies each image."""
    source = unpacked("oci-buildah-gzip", tmp_path)
    add(store, read_path(source))
    export_images(store, tmp_path / "out", form="oci-layout")
    for blob in source.joinpath("blobs", "sha256").iterdir():
        target = tmp_path / "out" / "blobs" / "sha256" / blob.name
        if not target.exists():
            shutil.copy(blob, target)
    for name in store.tags():
        said("skopeo", "copy", f"oci:{tmp_path / 'out'}:{name}", f"dir:{tmp_path / 'copy'}")
        shutil.rmtree(tmp_path / "copy")


def test_what_an_export_made_up_is_not_noted(store: ImageStore, tmp_path: Path) -> None:
    """Layers of which nothing is known are no manifest that any place had."""
    store.create(config("a", layers=2))
    export_images(store, tmp_path / "out", form="oci-layout")
    position = store.position
    report = add(store, read_path(tmp_path / "out"))
    assert (report.images, report.described, store.position) == (1, 0, position)
