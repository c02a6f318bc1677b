"""Give images back in the forms of other tools: what is there, what is not, and bad places."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from eventstore import (
    CompactedError,
    DestinationExistsError,
    ImageStore,
    InvalidImageError,
    RedactedError,
    StoreUsageError,
    clock,
    configs,
)
from eventstore.errors import CorruptionError
from eventstore.image_export import FORMS, export_images
from eventstore.sources.docker_imagedb import DockerImageDB
from making import config, id_of

A, B, C = (id_of(config(name, layers=2)) for name in "abc")


@pytest.fixture
def family(store: ImageStore) -> ImageStore:
    """Return a store with B below A, each with a name, and C with marks."""
    for name in "abc":
        store.create(config(name, layers=2))
    store.set_parent(B, A)
    store.set_last_updated(C, 1_577_934_245_600_000_000)
    store.set_built_locally(C)
    for name, image in (("app", A), ("app:1", B), ("host.io:5000/x/y", B)):
        store.tag(name, image)
    store.tag(f"app@sha256:{'ab' * 32}", A)
    return store


def test_docker_form_is_what_docker_writes(family: ImageStore, tmp_path: Path) -> None:
    """Byte for byte; the names by repository, in the order of Go."""
    done = export_images(family, tmp_path / "out", form="docker-imagedb")
    assert (done.position, done.images, done.names) == (family.position, 3, 4)
    out = tmp_path / "out"
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*")
             if path.is_file()}  # fmt: skip
    metadata, content = "imagedb/metadata/sha256/", "imagedb/content/sha256/"
    assert json.loads(files.pop("repositories.json")) == {
        "Repositories": {
            "app": {"app:1": B, "app:latest": A, f"app@sha256:{'ab' * 32}": A},
            "host.io:5000/x/y": {"host.io:5000/x/y:latest": B},
        }
    }
    assert files == {
        **{content + id_of(config(n, layers=2))[7:]: config(n, layers=2) for n in "abc"},
        f"{metadata}{B[7:]}/parent": A.encode(),
        f"{metadata}{C[7:]}/lastUpdated": b"2020-01-02T03:04:05.6Z",
        f"{metadata}{C[7:]}/builtLocally": b"\x01",
    }


def test_a_store_without_images_gives_an_empty_database(store: ImageStore, tmp_path: Path) -> None:
    """As that of a daemon that has just been started."""
    export_images(store, tmp_path / "out", form="docker-imagedb")
    assert (tmp_path / "out" / "repositories.json").read_bytes() == b'{"Repositories":{}}'
    found = DockerImageDB.find(tmp_path / "out").read()
    assert (found.images, found.names, found.passed_over) == ([], {}, [])


def test_every_blob_of_the_layout_is_what_its_descriptor_says(
    family: ImageStore, tmp_path: Path
) -> None:
    """Digest and size of manifests and configs; each image is listed, named or not."""
    export_images(family, tmp_path / "out", form="oci-layout")
    out = tmp_path / "out"
    index = json.loads((out / "index.json").read_bytes())
    configs_listed = []
    for entry in index["manifests"]:
        raw = (out / "blobs" / "sha256" / entry["digest"][7:]).read_bytes()
        assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (entry["digest"][7:], entry["size"])
        manifest = json.loads(raw)
        found = (out / "blobs" / "sha256" / manifest["config"]["digest"][7:]).read_bytes()
        assert len(found) == manifest["config"]["size"]
        diff_ids = json.loads(found)["rootfs"]["diff_ids"]
        assert [layer["digest"] for layer in manifest["layers"]] == diff_ids
        name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
        configs_listed.append((manifest["config"]["digest"], name))
    expected = [(image, name) for name, image in family.tags().items()] + [(C, None)]
    assert sorted(configs_listed, key=str) == sorted(expected, key=str)


def test_names_that_no_reference_of_oci_can_be_are_told(store: ImageStore, tmp_path: Path) -> None:
    """They keep the annotation of containerd; all others have both."""
    store.create(config("a"))
    for name in ("a__b:1", "a--b:1.0-x", "a---b:1", "x:_y", "x:a..b", "x:y-", "h.io:5/x/y:z"):
        store.tag(name, id_of(config("a")))
    done = export_images(store, tmp_path / "out", form="oci-layout")
    index = json.loads((tmp_path / "out" / "index.json").read_bytes())
    listed = [entry["annotations"] for entry in index["manifests"]]
    assert sorted(entry["io.containerd.image.name"] for entry in listed) == sorted(store.tags())
    found = {entry.get("org.opencontainers.image.ref.name") for entry in listed} - {None}
    assert found == {"docker.io/library/a--b:1.0-x", "h.io:5/x/y:z"}
    assert set(done.unlisted) == set(store.tags()) - found


def test_a_layer_that_is_called_by_no_digest_is_refused(store: ImageStore, tmp_path: Path) -> None:
    """The manifest would be none; Docker's form takes it as it is."""
    raw = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["nonsense"]}, "os": "linux"})
    store.adopt(raw.encode())
    with pytest.raises(InvalidImageError, match="nonsense"):
        export_images(store, tmp_path / "out", form="oci-layout")
    assert export_images(store, tmp_path / "out", form="docker-imagedb").images == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_moment_is_what_it_was(family: ImageStore, tmp_path: Path, form: str) -> None:
    """Whatever came later; a moment that was dropped is an error, and leaves nothing."""
    position = family.position
    export_images(family, tmp_path / "before", form=form)
    family.delete(A)
    family.untag("app:1")
    export_images(family, tmp_path / "after", form=form, as_of=position)
    before, after = (
        {path.relative_to(tmp_path / name): path.read_bytes()
         for path in tmp_path.joinpath(name).rglob("*") if path.is_file()}
        for name in ("before", "after")
    )  # fmt: skip
    assert before == after
    family.compact(position=family.position)
    with pytest.raises(CompactedError):
        export_images(family, tmp_path / "gone", form=form, as_of=position)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("form", FORMS)
def test_without_its_config_an_image_is_refused_or_left_out(
    family: ImageStore, tmp_path: Path, form: str
) -> None:
    """Redacted, or lost; its names go with it, and its child has no parent."""
    family.redact(A, reason="a secret")
    with pytest.raises(RedactedError):
        export_images(family, tmp_path / "out", form=form)
    assert list(tmp_path.glob("*out*")) == []
    done = export_images(family, tmp_path / "out", form=form, leave_out=True)
    assert (done.images, done.names, done.left_out) == (2, 2, (A,))
    assert not list(tmp_path.joinpath("out").rglob(A[7:]))
    assert not list(tmp_path.joinpath("out").rglob("parent"))

    def lose(txn):
        txn.delete("configs", bytes.fromhex(C[7:]))
        configs.put_lost(txn, bytes.fromhex(C[7:]))

    family._environment.write(lose)
    family.create(config("a", layers=2), allow_redacted=True)
    with pytest.raises(CorruptionError, match="was lost"):
        export_images(family, tmp_path / "lost", form=form)
    assert export_images(family, tmp_path / "lost", form=form, leave_out=True).left_out == (C,)
    family._environment.write(
        lambda txn: configs.put(txn, bytes.fromhex(C[7:]), config("c", layers=2))
    )


def test_a_damaged_config_is_never_left_out_in_silence(family: ImageStore, tmp_path: Path) -> None:
    """What is not what it was is damage, with leave_out as well."""
    key = bytes.fromhex(C[7:])
    family._environment.write(lambda txn: txn.put("configs", key, b"\0{}", replace=True))
    for leave_out in (False, True):
        with pytest.raises(CorruptionError):
            export_images(family, tmp_path / "out", form="oci-layout", leave_out=leave_out)
    assert list(tmp_path.glob("*out*")) == []
    value = configs.pack(config("c", layers=2))
    family._environment.write(lambda txn: txn.put("configs", key, value, replace=True))


def test_places_and_forms_that_cannot_be(family: ImageStore, tmp_path: Path) -> None:
    """A clear error each, and nothing is left behind."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(DestinationExistsError):
        export_images(family, tmp_path / "taken", form="oci-layout")
    for place, form, as_of in (
        (Path(family.path, "inside"), "oci-layout", None),
        (tmp_path / "out", "tar", None),
        (tmp_path / "out", "oci-layout", 99),
        (tmp_path / "nul\0", "oci-layout", None),
    ):
        with pytest.raises(StoreUsageError):
            export_images(family, place, form=form, as_of=as_of)
    assert sorted(os.listdir(tmp_path)) == sorted({"taken", Path(family.path).name} & set(
        os.listdir(tmp_path)))  # fmt: skip


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (120_000_000, "1970-01-01T00:00:00.12Z"),
        (clock.STORED_MIN_NS, "1677-09-21T00:12:43.145224192Z"),
        (clock.STORED_MAX_NS, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_instants_are_printed_as_go_prints_them(time_ns: int, text: str) -> None:
    """With all digits that are needed and no more (known from Go)."""
    assert clock.to_rfc3339(time_ns) == text
