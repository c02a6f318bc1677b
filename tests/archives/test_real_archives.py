"""Import what real tools wrote, and hold it against what those tools, and the files, say."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive_making import archive, descriptor, kinds, layout, manifest_of, simple_layout
from docker_data import DATA
from eventstore import ImageStore, references
from eventstore.adding import add
from eventstore.sources.image_archive import read_path
from making import config, id_of

Listing = dict[str, tuple[str, ...]]
LAYOUTS = {"oci-buildah-gzip": 4, "oci-buildx-attest": 2, "oci-umoci-chain": 7}
ARCHIVES = {
    "archive-docker-save-20.10": 10,
    "archive-docker-save-28.5.2": 8,
    "archive-docker-save-28.5.2-parents": 6,
    "archive-skopeo-umoci": 1,
}
needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
needs_umoci = pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
needs_buildah = pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed")


def file_of(name: str) -> Path:
    """Return the packed archive."""
    return DATA / f"{name}.tar.gz"


def unpacked(name: str, folder: Path) -> Path:
    """Unpack a layout and return its folder."""
    with tarfile.open(file_of(name)) as found:
        found.extractall(folder, filter="tar")
    return folder / name


def said(*command: str | Path) -> bytes:
    """Return what a tool prints."""
    return subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout


def id_in(raw: bytes) -> str:
    """Return the digest of bytes, taken here."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def listed(folder: Path, index: Any, found: dict[str, Any]) -> int:
    """Note the manifests that a layout's index leads to by their configs; count attestations."""
    attestations = 0
    for one in index["manifests"]:
        raw = folder.joinpath("blobs", *one["digest"].split(":")).read_bytes()
        document = json.loads(raw)
        if "manifests" in document:
            attestations += listed(folder, document, found)
        elif one.get("platform", {}).get("os") == "unknown":
            attestations += 1
        else:
            layers = [
                (layer["digest"], layer["mediaType"], layer["size"]) for layer in document["layers"]
            ]
            found[document["config"]["digest"]] = (
                one["digest"],
                one["mediaType"],
                len(raw),
                layers,
            )
    return attestations


def known(store: ImageStore) -> dict[str, Any]:
    """Return the same of a store, whose images have one manifest each."""
    found: dict[str, Any] = {}
    for image_id in store:
        (manifest,) = store.manifests(image_id)
        layers = [(layer.digest, layer.media_type, layer.size) for layer in manifest.layers]
        found[image_id] = (manifest.digest, manifest.media_type, manifest.size, layers)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_its_images_manifests_and_layers(
    name: str, store: ImageStore, tmp_path: Path
) -> None:
    """From the folder and from the tar of it; attestations are counted; again gives nothing."""
    folder = unpacked(name, tmp_path)
    expected: dict[str, Any] = {}
    attestations = listed(folder, json.loads((folder / "index.json").read_bytes()), expected)
    report = add(store, read_path(folder))
    assert known(store) == expected
    assert len(expected) == LAYOUTS[name] == len(report.created) == report.described
    assert [entry.kind for entry in report.passed_over].count("attestation") == attestations
    assert attestations == (2 if name == "oci-buildx-attest" else 0)
    for image_id in store:
        assert folder.joinpath("blobs", *image_id.split(":")).read_bytes() == (
            store.get(image_id).raw_json
        )
    again = add(store, read_path(file_of(name)))
    assert (again.position, again.unchanged) == (report.position, len(expected))


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_gives_its_images_names_and_parents(name: str, store: ImageStore) -> None:
    """As its `manifest.json` lists them; again gives nothing."""
    with tarfile.open(file_of(name)) as found:

        def content(path: str) -> bytes:
            member = found.extractfile(path)
            assert member is not None
            return member.read()

        entries = json.loads(content("manifest.json"))
        configs = {id_in(content(one["Config"])): content(one["Config"]) for one in entries}
        names = {
            references.canonical(text): id_in(content(one["Config"]))
            for one in entries
            for text in one["RepoTags"] or ()
        }
        parents = {id_in(content(one["Config"])): one.get("Parent") for one in entries}
    report = add(store, read_path(file_of(name)))
    assert {image_id: store.get(image_id).raw_json for image_id in store} == configs
    assert store.tags() == dict(sorted(names.items()))
    assert {image_id: store.get_parent(image_id) for image_id in store} == parents
    assert len(configs) == ARCHIVES[name] == len(report.created)
    assert report.parents_set == (5 if name.endswith("-parents") else 0)
    assert report.described == (len(configs) if "28.5.2" in name else 0)
    assert report.passed_over == []
    again = add(store, read_path(file_of(name)))
    assert again.position == report.position


def packed_with_zstandard(content: bytes) -> bytes:
    """Pack as two frames, as `pzstd` does."""
    zstandard = pytest.importorskip("zstandard")
    half = len(content) // 2
    pack: Callable[[bytes], bytes] = zstandard.ZstdCompressor().compress
    return pack(content[:half]) + pack(content[half:])


@pytest.mark.parametrize("name", [*LAYOUTS, *ARCHIVES])
def test_however_it_is_packed_it_is_the_same(name: str, tmp_path: Path) -> None:
    """As it is, with gzip in two parts, and with Zstandard in two frames."""
    expected = read_path(file_of(name))
    plain = gzip.decompress(file_of(name).read_bytes())
    half = len(plain) // 2
    for packed in (
        plain,
        gzip.compress(plain[:half]) + gzip.compress(plain[half:]),
        packed_with_zstandard(plain),
    ):
        (tmp_path / "it").write_bytes(packed)
        assert read_path(tmp_path / "it") == expected


def test_the_name_of_an_index_is_that_of_the_image_for_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every tool chooses; where there is none for this host, it is said."""
    for machine, architecture in (("x86_64", "amd64"), ("aarch64", "arm64")):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        found = read_path(unpacked("oci-buildx-attest", tmp_path / machine))
        (image_id,) = (found.names or {}).values()
        (raw,) = (image.config for image in found.images if image.image_id == image_id)
        assert json.loads(raw)["architecture"] == architecture
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    found = read_path(unpacked("oci-buildx-attest", tmp_path / "other"))
    assert (found.names, kinds(found)[-1]) == ({}, "name-of-many")


@pytest.mark.parametrize(("platform", "count"), [("linux/arm64", 1), ("linux", 2), ("windows", 0)])
def test_one_platform_can_be_chosen(platform: str, count: int) -> None:
    """The images for others are passed over."""
    found = read_path(file_of("oci-buildx-attest"), platform=platform)
    assert len(found.images) == count
    assert kinds(found).count("other-platform") == 2 - count


def test_only_what_names_a_repository_is_a_name(tmp_path: Path) -> None:
    """A bare tag, as umoci writes them, and what Docker would refuse, are passed over."""
    for text, names, passed_over in (
        ("v1", {}, ["bare-tag"]),
        ("app:v1", {"docker.io/library/app:v1"}, []),
        ("h.io/app", {"h.io/app:latest"}, []),
        ("UPPER:1", {}, ["invalid-name"]),
    ):
        (tmp_path / "it").write_bytes(archive(simple_layout(text)))
        found = read_path(tmp_path / "it")
        assert (set(found.names or ()), kinds(found)) == (set(names), passed_over)
    raw = manifest_of(config("x"))
    other = manifest_of(config("y"))
    annotations = {"annotations": {"io.containerd.image.name": "app:1"}}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    both = [descriptor(one, media_type, **annotations) for one in (raw, other)]
    (tmp_path / "it").write_bytes(archive(layout(both, raw, other, config("x"), config("y"))))
    found = read_path(tmp_path / "it")
    assert found.names == {"docker.io/library/app:1": id_of(config("y"))}
    assert kinds(found) == ["name-twice"]


# What the tools themselves say.


@needs_skopeo
@pytest.mark.parametrize("name", ["oci-buildah-gzip", "oci-umoci-chain"])
def test_skopeo_sees_the_same_in_a_layout(name: str, store: ImageStore, tmp_path: Path) -> None:
    """Config and manifest of each reference, byte for byte."""
    folder = unpacked(name, tmp_path)
    add(store, read_path(folder))
    images, manifests = set[str](), set[str]()
    for one in json.loads((folder / "index.json").read_bytes())["manifests"]:
        reference = f"oci:{folder}:{one['annotations']['org.opencontainers.image.ref.name']}"
        images.add(id_in(said("skopeo", "inspect", "--config", "--raw", reference)))
        manifests.add(id_in(said("skopeo", "inspect", "--raw", reference)))
    assert images == set(store)
    assert manifests == {found.digest for one in store for found in store.manifests(one)}


@needs_skopeo
@pytest.mark.parametrize("name", ARCHIVES)
def test_skopeo_sees_the_same_in_an_archive(name: str, store: ImageStore, tmp_path: Path) -> None:
    """The config that each name leads to, byte for byte."""
    plain = tmp_path / "it.tar"
    plain.write_bytes(gzip.decompress(file_of(name).read_bytes()))
    add(store, read_path(plain))
    assert store.tags()
    for full, image_id in store.tags().items():
        reference = f"docker-archive:{plain}:{full}"
        assert id_in(said("skopeo", "inspect", "--config", "--raw", reference)) == image_id


@needs_umoci
def test_what_umoci_makes_now_is_read(store: ImageStore, tmp_path: Path) -> None:
    """A new layout, with a layer, and the list of its tags."""
    folder, root = tmp_path / "layout", tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("content")
    said("umoci", "init", "--layout", folder)
    said("umoci", "new", "--image", f"{folder}:one")
    said("umoci", "insert", "--rootless", "--image", f"{folder}:one", "--tag", "two", root, "/x")
    said("umoci", "config", "--image", f"{folder}:two", "--tag", "three", "--author", "somebody")
    tags = said("umoci", "ls", "--layout", folder).decode().split()
    report = add(store, read_path(folder))
    assert sorted(tags) == ["one", "three", "two"]
    assert [entry.name for entry in report.passed_over if entry.kind == "bare-tag"] == sorted(
        tags, key=[entry.name for entry in report.passed_over].index
    )
    assert len(store) == 3
    layers = sorted(len(found.layers) for one in store for found in store.manifests(one))
    assert layers == [0, 1, 1]


@needs_skopeo
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_makes_now_is_read(form: str, store: ImageStore, tmp_path: Path) -> None:
    """The image of a real layout, carried over into each form; its config may be written anew."""
    source, target = unpacked("oci-umoci-chain", tmp_path), tmp_path / "copy"
    reference = f"{form}:{target}:example.com/app:4"
    said("skopeo", "copy", "-q", "--insecure-policy", f"oci:{source}:v4", reference)
    config_id = id_in(said("skopeo", "inspect", "--config", "--raw", reference))
    report = add(store, read_path(target))
    assert (list(store), report.passed_over) == ([config_id], [])
    assert store.tags() == {"example.com/app:4": config_id}
    manifests = [found.digest for found in store.manifests(config_id)]
    raw = said("skopeo", "inspect", "--raw", reference)
    assert manifests == ([] if form == "docker-archive" else [id_in(raw)])


@needs_buildah
def test_what_buildah_makes_now_is_read(store: ImageStore, tmp_path: Path) -> None:
    """An image from nothing, pushed into an archive that Docker could load."""
    (tmp_path / "file").write_text("content")
    own = ("--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    try:
        container = said("buildah", *own, "from", "scratch").decode().strip()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"buildah does not run here: {error.stderr.decode()[-200:]}")
    said("buildah", *own, "copy", "-q", container, tmp_path / "file", "/file")
    said("buildah", *own, "config", "--author", "somebody", container)
    image_id = said("buildah", *own, "commit", "-q", container, "localhost/made:1").decode().strip()
    target = tmp_path / "made.tar"
    said("buildah", *own, "push", "-q", image_id, f"oci-archive:{target}:localhost/made:1")
    report = add(store, read_path(target))
    assert list(store) == [f"sha256:{image_id}"]
    assert (store.tags(), report.described) == ({"localhost/made:1": f"sha256:{image_id}"}, 1)
    (manifest,) = store.manifests(f"sha256:{image_id}")
    assert len(manifest.layers) == len(store.get(f"sha256:{image_id}").root_fs.diff_ids) == 1
