"""Give layouts and archives that were made to harm: each is refused, or passed over and said so."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archive_making import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    archive,
    as_json,
    blob_path,
    descriptor,
    kinds,
    lay,
    layout,
    manifest_of,
    member,
    read,
    saved,
    simple_layout,
    simple_saved,
)
from eventstore import SourceError, StoreUsageError
from eventstore.sources import (
    archive_bytes,
    image_archive,
    image_files,
    oci_layout,
    tar_members,
)
from eventstore.sources.image_archive import read_path, read_stream
from making import config, id_of

APP = config("app")
GIB = 1 << 30
SMALL_MEMORY = 40 << 20


class Zeros(io.RawIOBase):
    """A start, and then zeros without end."""

    def __init__(self, start: bytes) -> None:
        self._start = start

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give the start, then zeros."""
        part, self._start = self._start[: len(buffer)], self._start[len(buffer) :]
        buffer[: len(part)] = part
        buffer[len(part) :] = bytes(len(buffer) - len(part))
        return len(buffer)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "a/../../b.json", "/index.json"])
def test_a_name_that_leads_out_is_passed_over(name: str) -> None:
    """Nothing is laid anywhere, and it is said that somebody tried."""
    found = read(archive(simple_layout(), member(name, b"{}")))
    assert (len(found.images), kinds(found)) == (1, ["unsafe-name"])


@pytest.mark.parametrize("path", ["../x.json", "/x.json", "", "..", "/"])
def test_a_config_that_lies_elsewhere_is_not_looked_for(path: str) -> None:
    """`manifest.json` names files of the archive, and nothing else."""
    found = read(archive(saved({"Config": path, "Layers": []})))
    assert (found.images, kinds(found)) == ([], ["unsafe-name"])


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_a_device_is_not_followed(kind: bytes) -> None:
    """In the place of a config, which then is missing; the rest counts."""
    files = simple_layout() | simple_saved("x:1")
    path = next(path for path in files if path.endswith(".json") and len(path) > 60)
    del files[path]
    found = read(archive(files, member(path, kind=kind, to="/etc/passwd")))
    assert (len(found.images), kinds(found)) == (1, ["not-a-file", "not-a-file"])


def test_links_between_layers_are_as_they_should_be() -> None:
    """Old versions of Docker wrote them."""
    link = member("abc/layer.tar", kind=tarfile.SYMTYPE, to="../def/layer.tar")
    found = read(archive(simple_saved("x:1"), link))
    assert (len(found.images), kinds(found)) == (1, [])


def test_a_link_in_the_place_of_the_index_is_no_layout() -> None:
    """There is no list of images then."""
    link = member("index.json", kind=tarfile.SYMTYPE, to="other.json")
    with pytest.raises(SourceError, match=r"no manifest\.json or index\.json"):
        read(archive({"other.json": b"{}"}, link))


def test_a_sparse_file_is_not_taken() -> None:
    """What it would be takes more than its bytes."""
    header = tarfile.TarInfo("index.json")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    raw = header.tobuf(tarfile.PAX_FORMAT)
    found = read(archive(simple_saved("x:1"), raw))
    assert kinds(found) == ["not-a-file"]


@pytest.mark.parametrize("path", ["index.json", "manifest.json"])
def test_two_members_of_one_name_must_be_one(path: str) -> None:
    """Tools differ in which of them counts, so neither does."""
    files = simple_layout() | simple_saved("x:1")
    twin = member(path, files[path])
    assert len(read(archive(files, twin)).images) == 2
    for other in (member(path, files[path] + b" "), member(path, kind=tarfile.SYMTYPE, to="a")):
        for content in (archive(files, other), archive(files, end=other + bytes(1024))):
            with pytest.raises(SourceError, match="twice, and differently"):
                read(content)


def lying() -> Iterator[Any]:
    """Give layouts whose digests, sizes or types are not what they say."""
    manifest = manifest_of(APP)
    good = descriptor(manifest, MANIFEST_TYPE)

    def case(kind: str, files: dict[str, bytes], name: str) -> Any:
        return pytest.param(kind, files, id=name)

    wrong = {blob_path(manifest): manifest + b" ", blob_path(APP): APP}
    yield case("digest-mismatch", layout([good]) | wrong, "manifest")
    wrong = {blob_path(manifest): manifest, blob_path(APP): config("evil")}
    yield case("digest-mismatch", layout([good]) | wrong, "config")
    yield case("size-mismatch", layout([good | {"size": 7}], manifest, APP), "size")
    sized = json.loads(manifest)
    sized["config"]["size"] += 1
    raw = as_json(sized)
    yield case("size-mismatch", layout([descriptor(raw, MANIFEST_TYPE)], raw, APP), "config size")
    for text in (
        "sha256:../../../index.json",
        "sha512:" + "0" * 128,
        "sha256:" + "A" * 64,
        "",
        "x",
    ):
        yield case("unknown-digest", layout([good | {"digest": text}], manifest, APP), text[:12])
    yield case("missing", layout([good], APP), "no manifest")
    yield case("missing", layout([good], manifest), "no config")
    typed = good | {"mediaType": "text/plain"}
    yield case("unknown-media-type", layout([typed], manifest, APP), "media type")
    typed = good | {"mediaType": INDEX_TYPE}
    yield case("ambiguous-manifest", layout([typed], manifest, APP), "manifest as index")
    both = as_json(json.loads(manifest) | {"manifests": [good]})
    named = descriptor(both, MANIFEST_TYPE)
    yield case("ambiguous-manifest", layout([named], both, manifest, APP), "both")
    helm = manifest_of(APP, media_type="application/vnd.cncf.helm.config.v1+json")
    yield case("not-an-image", layout([descriptor(helm, MANIFEST_TYPE)], helm, APP), "helm")
    more = manifest_of(APP, layers=1)
    yield case("layers-mismatch", layout([descriptor(more, MANIFEST_TYPE)], more, APP), "layers")
    none = b'{"os": 1}'
    for_none = manifest_of(none)
    files = layout([descriptor(for_none, MANIFEST_TYPE)], for_none, none)
    yield case("invalid-config", files, "config that is none")
    for name, change in {
        "negative": {"size": -1},
        "digest": {"digest": "sha256:\x1b"},
        "type": {"mediaType": "x" * 300},
        "steering": {"mediaType": "\x1b[2J"},
    }.items():
        value = json.loads(manifest_of(config("one", layers=1), layers=1))
        value["layers"][0] |= change
        raw = as_json(value)
        files = layout([descriptor(raw, MANIFEST_TYPE)], raw, config("one", layers=1))
        yield case("invalid-manifest", files, f"layer {name}")
    value = json.loads(manifest)
    value["layers"] = [descriptor(b"", LAYER_TYPE)] * 1025
    raw = as_json(value)
    files = layout([descriptor(raw, MANIFEST_TYPE)], raw, APP)
    yield case("invalid-manifest", files, "1025 layers")
    for text in (b"[]", b'{"config": 1}', b'{"layers": {}}', b'{"layers": [1]}', b"{", b"nul"):
        files = layout([descriptor(text, MANIFEST_TYPE)], text)
        kind = "invalid-manifest" if text[:1] in b"{[" else "not-json"
        yield case(kind, files, f"manifest {text.decode()}")


@pytest.mark.parametrize(("kind", "files"), list(lying()))
def test_what_lies_is_passed_over_and_the_rest_counts(
    kind: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    """In an archive as well as in a folder."""
    other = manifest_of(config("good"))
    index = json.loads(files["index.json"])
    index["manifests"].append(descriptor(other, MANIFEST_TYPE))
    files |= {blob_path(one): one for one in (other, config("good"))}
    files["index.json"] = as_json(index)
    found = read(archive(files))
    assert [image.image_id for image in found.images] == [id_of(config("good"))]
    assert kinds(found) == [kind]
    assert all(len(entry.detail) <= 161 for entry in found.passed_over)
    laid = read_path(lay(files, tmp_path / "layout"))
    assert laid.images == found.images
    assert kinds(laid) == ["invalid-manifest" if kind == "not-json" else kind]


def test_a_config_that_is_not_what_its_name_says_is_passed_over() -> None:
    """`docker save` calls configs by their digests."""
    path = f"{id_of(APP)[7:]}.json"
    files = {path: config("evil"), **saved({"Config": path, "Layers": []})}
    found = read(archive(files))
    assert (found.images, kinds(found)) == ([], ["digest-mismatch"])


def test_an_index_that_refers_to_itself_ends_as_a_lie() -> None:
    """No index can know its own digest."""
    name = "sha256:" + "5" * 64
    own = {"mediaType": INDEX_TYPE, "digest": name, "size": 200}
    index = as_json({"manifests": [own]})
    files = layout([own]) | {"blobs/" + name.replace(":", "/"): index}
    assert kinds(read(archive(files))) == ["digest-mismatch"]


def nested(depth: int, width: int = 1) -> dict[str, bytes]:
    """Return a layout with indexes in one another, each named several times by the one above."""
    manifest = manifest_of(APP)
    blobs, top = [APP, manifest], descriptor(manifest, MANIFEST_TYPE)
    for _ in range(depth):
        blobs.append(as_json({"mediaType": INDEX_TYPE, "manifests": [top] * width}))
        top = descriptor(blobs[-1], INDEX_TYPE)
    return layout([top], *blobs)


def test_indexes_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    """An index is read once, however many lead to it: 40 to the power of 8 would not end."""
    depth = oci_layout.INDEX_DEPTH_MAX
    assert len(read(archive(nested(depth, width=40))).images) == 1
    found = read(archive(nested(depth + 1)))
    assert (found.images, kinds(found)) == ([], ["too-deep"])


def test_more_manifests_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are spread over indexes."""
    monkeypatch.setattr(oci_layout, "DESCRIPTORS_MAX", 100)
    with pytest.raises(SourceError, match="more than 100 manifests"):
        read(archive(nested(3, width=40)))


def test_what_is_named_again_and_again_is_counted_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a small archive, or a folder of any size, takes hours; so do blobs that are no JSON."""
    monkeypatch.setattr(oci_layout, "READ_SIZE_MAX", 10_000)
    broken = b"[" + b"0," * 500 + b"x]"
    files = layout([descriptor(broken, MANIFEST_TYPE)] * 11, broken)
    assert kinds(read(archive(files))) == ["invalid-manifest"] * 11  # decoded once
    files = layout([descriptor(broken, MANIFEST_TYPE) | {"size": n} for n in range(11)], broken)
    for give in (lambda: read(archive(files)), lambda: read_path(lay(files, tmp_path))):
        with pytest.raises(SourceError, match="more than 10000 bytes of JSON"):
            give()
    raw = config("app") + b" " * 900
    with pytest.raises(SourceError, match="more than 10000 bytes of JSON"):
        read(archive(saved(*[{"Config": "c", "Layers": []}] * 11, c=raw)))


@pytest.mark.parametrize("platform", ["", "/", "linux/", "linux//v7", "a/b/c/d"])
def test_what_is_no_platform_is_refused(platform: str) -> None:
    """Else no image would count, as if there were none."""
    with pytest.raises(StoreUsageError, match="is no platform"):
        read(archive(simple_layout()), platform=platform)


def test_more_saved_images_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be a line of the report."""
    monkeypatch.setattr(image_archive, "SAVED_MAX", 3)
    with pytest.raises(SourceError, match="lists more than 3 images"):
        read(archive(saved({}, {}, {}, {})))


def test_a_null_among_what_is_listed_is_an_empty_entry() -> None:
    """As Go has it, and it leads to nothing."""
    files = {**simple_saved("x:1"), "manifest.json": b"[null]"}
    assert kinds(read(archive(files))) == ["unsafe-name"]
    for lists in (b'{"manifests": [null]}', b'{"manifests": [{}], "manifests": [null]}'):
        found = read(archive({**simple_layout(), "index.json": lists}))
        assert kinds(found) == ["unknown-media-type"]
    manifest = as_json({"config": descriptor(APP, CONFIG_TYPE), "layers": [None]})
    files = layout([descriptor(manifest, MANIFEST_TYPE)], manifest, APP)
    assert kinds(read(archive(files))) == ["invalid-manifest"]


@pytest.mark.parametrize("path", ["index.json", "manifest.json", "oci-layout"])
@pytest.mark.parametrize("text", ["{", "[1]", '{"manifests": 1}', '[{"Config": 1}]', '{"a"', '"x"'])
def test_a_list_of_wrong_types_is_one_clear_error(path: str, text: str) -> None:
    """It says which file it is."""
    files = {**simple_layout(), **simple_saved("x:1"), path: text.encode()}
    if (path, text) in (("oci-layout", '{"manifests": 1}'), ("oci-layout", '"x"')):
        files[path] = b'{"imageLayoutVersion": "2.0"}'
    if text == '"x"' and path != "oci-layout":
        del files["index.json" if path == "manifest.json" else "manifest.json"]
    with pytest.raises(SourceError, match=r"index\.json|manifest\.json|oci-layout|version"):
        read(archive(files))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"x" * 10_000, bytes(10_240), b"\x7fELF" + b"\1" * 2000, b"{}" * 400, b"PK\3\4"],
    ids=["empty", "byte", "text", "zeros", "program", "JSON", "zip"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_archive_is_one_clear_error(content: bytes, packed: bool) -> None:
    """Packed or not."""
    with pytest.raises(SourceError, match=r"^it: is no image archive: "):
        read(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("magic", [b"BZh9", b"\xfd7zXZ\0\0"])
def test_another_packing_is_named(magic: bytes) -> None:
    """So that whoever has it knows what to do."""
    with pytest.raises(SourceError, match=r"is packed with (bzip2|xz): unpack it first"):
        read(magic + b"x" * 1000)


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_archive_is_refused_wherever_it_ends(packed: bool) -> None:
    """Also where all that it lists would be there."""
    whole = archive(simple_layout(), end=bytes(512))
    assert len(read(whole).images) == 1
    sound = gzip.compress(whole) if packed else whole
    for size in range(0, len(sound), 1 if packed else 64):
        with pytest.raises(SourceError):
            read(sound[:size])


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    """As Python's own reader would."""
    first = archive(simple_layout(), end=b"")
    with pytest.raises(SourceError, match="is damaged: header 5 makes no sense"):
        read(first + b"\1" * 512 + bytes(1024))


def test_a_damaged_packing_is_refused() -> None:
    """Its checksum is looked at, though it lies behind the end of the tar."""
    packed = bytearray(gzip.compress(archive(simple_layout())))
    packed[-5] ^= 1
    with pytest.raises(SourceError, match="cannot be unpacked"):
        read(bytes(packed))


def test_what_follows_the_end_is_reported() -> None:
    """It may be another archive, which nobody would see."""
    found = read(archive(simple_layout(), end=bytes(1024) + archive(simple_saved("x:1"))))
    assert (len(found.images), kinds(found)) == (1, ["trailing-data"])


def test_a_bomb_is_refused_in_small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is large is not kept, whatever it starts with; below the bound nobody asks."""
    assert archive_bytes.UNPACKED_UNQUESTIONED == GIB
    monkeypatch.setattr(archive_bytes, "UNPACKED_UNQUESTIONED", GIB >> 4)
    parts = io.BytesIO()
    with gzip.GzipFile(fileobj=parts, mode="wb") as packed:
        header = tarfile.TarInfo("index.json")
        header.size = 3 * GIB
        packed.write(header.tobuf(tarfile.GNU_FORMAT) + b"{")
        for _ in range(GIB >> 23):
            packed.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(SourceError, match="taken for a bomb"):
        read(parts.getvalue())
    assert tracemalloc.get_traced_memory()[1] < SMALL_MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_an_extended_header_without_end_is_refused_in_small_memory(kind: bytes) -> None:
    """The size that it gives itself is not believed."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 8 * GIB
    tracemalloc.start()
    with pytest.raises(SourceError, match="extended header"):
        read_stream(io.BufferedReader(Zeros(header.tobuf(tarfile.GNU_FORMAT))), "it")
    assert tracemalloc.get_traced_memory()[1] < SMALL_MEMORY
    tracemalloc.stop()


def test_more_members_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extended headers count as well."""
    monkeypatch.setattr(tar_members, "HEADERS_MAX", 100)
    with pytest.raises(SourceError, match="more than 100 members"):
        read(archive({f"{number}": b"" for number in range(101)}))
    long = member("././@LongLink", b"x", tarfile.GNUTYPE_LONGNAME)
    with pytest.raises(SourceError, match="more than 100 members"):
        read(long * 101)


def test_more_json_than_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files it lies in."""
    monkeypatch.setattr(image_files, "KEPT_SIZE_MAX", 5_000)
    with pytest.raises(SourceError, match="more than 5000 bytes of JSON"):
        read(archive({f"{number}.json": b"{" + b" " * 999 for number in range(6)}))


def test_more_that_no_image_has_than_the_bound_is_refused() -> None:
    """The report is bounded as well."""
    evil = member("/x", kind=tarfile.SYMTYPE, to="y") * 1001
    with pytest.raises(SourceError, match="more than 1000 members that no image has"):
        read(archive(simple_layout(), evil))


def test_blobs_beyond_the_bounds_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the archive, and when they are read."""
    monkeypatch.setattr(oci_layout, "MANIFEST_SIZE_MAX", 600)
    big = manifest_of(config("big", layers=9), layers=9)
    files = layout([descriptor(big, MANIFEST_TYPE)], big, config("big", layers=9))
    assert kinds(read(archive(files))) == ["too-large"]
    monkeypatch.setattr(image_files, "CONFIG_SIZE_MAX", 600)
    assert kinds(read(archive(files))) == ["too-large"]


def test_nothing_leads_out_of_a_folder(tmp_path: Path) -> None:
    """A blob that is a link is passed over; a folder of them is one, too."""
    files = simple_layout()
    outside = lay(files, tmp_path / "outside")
    folder = lay({path: files[path] for path in ("oci-layout", "index.json")}, tmp_path / "layout")
    os.symlink(outside / "blobs", folder / "blobs")
    found = read_path(folder)
    assert (found.images, kinds(found)) == ([], ["not-a-file"])
    (folder / "index.json").unlink()
    os.symlink(outside / "index.json", folder / "index.json")
    with pytest.raises(SourceError, match=r"its index\.json cannot be read: .*is a link"):
        read_path(folder)


def test_without_zstandard_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and nothing is read."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "zstandard":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StoreUsageError, match=r"install image-eventstore\[zstd\]"):
        read(b"\x28\xb5\x2f\xfd" + b"x" * 100)


def test_config_types_of_docker_are_images_too() -> None:
    """The manifest of a registry may be older than OCI."""
    docker = "application/vnd.docker.container.image.v1+json"
    raw = manifest_of(APP, media_type=docker).replace(
        MANIFEST_TYPE.encode(), b"application/vnd.docker.distribution.manifest.v2+json"
    )
    named = descriptor(raw, "application/vnd.docker.distribution.manifest.v2+json")
    assert len(read(archive(layout([named], raw, APP))).images) == 1
    assert docker != CONFIG_TYPE
