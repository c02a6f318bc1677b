"""The doors through which hostile bytes come in, each as a target of the fuzzer.

A target takes any bytes and raises `Violation`, or anything else, if the door did what it must not:
raise an exception that is not ours, accept what it then cannot answer for, or answer wrongly. An
input is what lies behind that door: a config, a search term, the bytes of a record without their
checksum, and so on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import click
import msgspec

import fuzz_plain
from eventstore import (
    AmbiguousDigestError,
    CorruptionError,
    Image,
    ImageNotFoundError,
    ImageStore,
    ImageView,
    InvalidImageError,
    InvalidParentError,
    LayerNotFoundError,
    Record,
    clock,
    codec,
    decide,
    digest,
    meta,
    snapshot_headers,
    snapshots,
)
from eventstore.cli import listing, moments, output, shapes
from eventstore.columns import Columns, State, row_of
from eventstore.events import (
    Created,
    Deleted,
    Described,
    Event,
    LastUpdatedSet,
    Manifest,
    ManifestLayer,
    MarkedBuilt,
    ParentSet,
    Redacted,
    Tagged,
    Untagged,
    pack_chain,
)
from eventstore.layers import DockerLayerDB
from eventstore.lmdb_env import Environment
from eventstore.printable import printable
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync
from fuzz_mutations import JSON, JSON_TOKENS, Codec
from fuzz_target import TEXT_TOKENS, Target, Violation, must, must_show

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
MAP_SIZE = 1 << 24
A_LAYER = ManifestLayer("application/gzip", pack_chain("sha256:" + "6" * 64), 7)
A_MANIFEST = Manifest(bytes(32), "application/json", 400, (A_LAYER,))
MSGPACK: Codec = (msgspec.msgpack.decode, msgspec.msgpack.encode)


def config(number: int, *, layers: int = 0) -> bytes:
    """Return a small config that differs from others in its number."""
    diff_ids = [f"sha256:{number:032x}{layer:032x}" for layer in range(layers)]
    value = {"comment": f"{number}", "os": "linux", "rootfs": {"diff_ids": diff_ids}}
    return json.dumps(value).encode()


def touch(image: Image) -> None:
    """Look at every attribute of an image."""
    repr(image)
    must(isinstance(image.root_fs.chain_id(), str), "the chain id is no text")
    for moment in (image.created, *(step.created for step in image.history)):
        must(moment is None or moment.tzinfo is not None, "a time without a zone")


class ConfigTarget(Target):
    """Image configs: decode, look at everything, store, read back, and print."""

    name = "config"
    share = 40
    tokens = JSON_TOKENS + TEXT_TOKENS
    codec = JSON

    def __init__(self, folder: Path) -> None:
        """Open the store that accepted configs go through."""
        super().__init__(folder)
        self.store = ImageStore.open(
            folder / "store", actor="fuzz", operating_system="linux", map_size=MAP_SIZE
        )

    def seeds(self) -> list[bytes]:
        """Return the recorded configs, good ones and bad ones, and some of a real host."""
        recorded = json.loads((DATA / "conformance" / "image_configs.json").read_text("utf-8"))
        found = [base64.b64decode(row["config_b64"]) for row in recorded["configs"]]
        found = [raw for raw in found if len(raw) < 4096][::4]
        end = len(found) + 10
        with tarfile.open(DATA / "docker" / "host-a-1.tar.gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if "/content/" in member.name else None
                if file is not None and len(found) < end:
                    found.append(file.read())
        return [*found, *(config(number, layers=number) for number in range(3))]

    def attack(self, data: bytes) -> None:
        """Decode by both rules; what create takes, restore takes, and so does a store."""
        created, stored = self.decoded(Image.from_json, data), self.decoded(Image.from_stored, data)
        must(created is None or created == stored, "create and restore read another image")
        if created is not None and zlib.crc32(data) % 16 == 0:
            self.store_it(data, created)

    def decoded(self, decode: Callable[[bytes], Image], data: bytes) -> Image | None:
        """Return the image, None if it is refused; its id and bytes must be those of the input."""
        try:
            image = decode(data)
        except InvalidImageError as error:
            must(len(str(error)) < 1000, "the refusal is longer than people read")
            return None
        must(image.raw_json == data, "the bytes are others")
        must(image.id == "sha256:" + hashlib.sha256(data).hexdigest(), "the id is another")
        touch(image)
        return image

    def store_it(self, data: bytes, image: Image) -> None:
        """Create, read back, print and delete."""
        with suppress(InvalidImageError):
            image_id = self.store.create(data)
            view = self.store.as_of(position=self.store.position)
            must(view.get(image_id) == image, "what comes out is not what went in")
            lines = [output.json_text(shapes.whole(view, image, (), ()))]
            facts = listing._facts(self.store, view, image, ())
            lines += [printable(fact) for fact in facts]
            lines += [printable(text) for text, _ in listing._label(view, image_id, (), {})]
            for line in lines:
                must_show(line)
            self.store.delete(image_id)
            must(image_id not in self.store, "it is still there")


class PlainTarget(Target):
    """Image configs by both decoders, the fast one and the exact one."""

    name = "plain"
    share = 40

    def seeds(self) -> list[bytes]:
        """Return the configs of real hosts, and the recorded ones."""
        return fuzz_plain.configs()

    def attack(self, data: bytes) -> None:
        """Where the fast one answers, the exact one says the same."""
        what = fuzz_plain.difference(data)[1]
        must(what is None, str(what))

    def mutate(self, data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
        """Return a config that is like another, or is written in another way."""
        return fuzz_plain.mutated(data, chance)


class TermTarget(Target):
    """Digests and search terms, held against a model that looks at all ids."""

    name = "term"
    share = 40

    def __init__(self, folder: Path) -> None:
        """Fill a store: 60 images, 15 of them gone."""
        super().__init__(folder)
        self.store = ImageStore.open(folder / "store", actor="fuzz", map_size=MAP_SIZE)
        with self.store.transaction():
            self.ids = [self.store.create(config(number)) for number in range(60)]
        self.present = self.ids[15:]
        with self.store.transaction():
            for image_id in self.ids[:15]:
                self.store.delete(image_id)

    def seeds(self) -> list[bytes]:
        """Return whole ids, starts of ids with and without the prefix, and nonsense."""
        short = [image_id[7 : 7 + length] for length, image_id in enumerate(self.ids[::7])]
        prefixed = [image_id[: 7 + length] for length, image_id in enumerate(self.ids[::7])]
        return [text.encode() for text in (*short, *prefixed, *self.ids[:20], "", "sha256:", "g")]

    def attack(self, data: bytes) -> None:
        """Look for it in all ways; change things by names that are no ids."""
        term = data.decode("utf-8", "surrogateescape")
        for search, ids in (
            (self.store.search, self.present),
            (self.store.search_history, self.ids),
        ):
            self.search(search, ids, term)
        if term in self.present:
            must(term in self.store and self.store.get(term).id == term, "it is not found")
            return
        must(term not in self.store, "what is no id is in the store")
        for refuse in (
            self.store.get,
            self.store.get_parent,
            self.store.children,
            self.store.get_last_updated,
            self.store.is_built_locally,
            self.store.delete,
            self.store.set_built_locally,
            lambda image_id: self.store.set_parent(self.present[0], image_id),
            lambda image_id: self.store.set_last_updated(image_id, 5),
        ):
            try:
                refuse(term)
            except ImageNotFoundError:
                continue
            raise Violation(f"{refuse} took what is no image")

    def search(self, search: Callable[[str], str], ids: list[str], term: str) -> None:
        """Hold one search against the model."""
        digits = term.removeprefix("sha256:")
        matches = [image_id for image_id in ids if image_id[7:].startswith(digits)]
        if term == "sha256:":
            matches = []
        try:
            found: object = search(term)
        except ImageNotFoundError:
            found = None
        except AmbiguousDigestError as error:
            must(set(error.candidates) <= set(matches), "a candidate does not match")
            found = len(matches) > 1
        expected: object = True if len(matches) > 1 else matches[0] if matches else None
        must(found == expected, f"the search gave {found!r}, the model {expected!r}")


def a_digest(number: int) -> bytes:
    """Return one of some digests that differ in their numbers."""
    return hashlib.sha256(b"%d" % number).digest()


class RecordTarget(Target):
    """Bytes of records, with a checksum that fits and without, applied to a view and printed."""

    name = "record"
    share = 60
    codec = MSGPACK
    position = 9

    def __init__(self, folder: Path) -> None:
        """Make a view of three images, one the parent of another."""
        super().__init__(folder)
        events: list[Event] = [
            *(Created(a_digest(number), None, "linux") for number in range(4)),
            ParentSet(a_digest(1), a_digest(0)),
            MarkedBuilt(a_digest(1)),
            LastUpdatedSet(a_digest(1), 5),
            Deleted(a_digest(3)),
        ]
        self.view = ImageView()
        for number, event in enumerate(events):
            self.view.apply_event(number + 1, number, event)

    def seeds(self) -> list[bytes]:
        """Return a record of each kind, without checksums."""
        chains = (None, pack_chain("sha256:" + "5" * 64), pack_chain("no digest"))
        events: list[Event | codec.LastUpdatedSetFirst] = [
            *(Created(a_digest(3), chain, "linux") for chain in chains),
            ParentSet(a_digest(2), a_digest(1)),
            ParentSet(a_digest(0), a_digest(1)),
            ParentSet(a_digest(1), None),
            LastUpdatedSet(a_digest(2), clock.STORED_MAX_NS),
            MarkedBuilt(a_digest(2)),
            Deleted(a_digest(0)),
            Redacted(a_digest(2)),
            Tagged(a_digest(1), "docker.io/library/app:latest", 0),
            Untagged(a_digest(1), "docker.io/library/app:latest", 8),
            Described(a_digest(1), A_MANIFEST),
            codec.LastUpdatedSetFirst(a_digest(2)),
        ]
        envelopes = [codec.Envelope(10, "me", "because", 9, 1, event) for event in events]
        return [msgspec.msgpack.encode(envelope) for envelope in envelopes]

    def attack(self, data: bytes) -> None:
        """Decode as they are and sealed; what is accepted must fold and print, or be refused."""
        checksum = zlib.crc32(data, zlib.crc32(codec.position_key(self.position)))
        for raw in (data, data + checksum.to_bytes(4, "big")):
            try:
                record = codec.decode(self.position, raw)
            except CorruptionError as error:
                must(error.position == self.position, "the damage names another record")
            else:
                self.use(record)

    def use(self, record: Record) -> None:
        """Print a record, apply it, and read the view."""
        repr((record.time, record.image_id, shapes.kind_of(record.event)))
        must(len(record.event.digest) == digest.DIGEST_SIZE, "it is about what is no digest")
        must_show(output.json_text(shapes.record(record)))
        must_show(printable(record.reason))
        view = self.view.branch(None)
        with suppress(CorruptionError):
            view.apply(record)
            read(view)


def read(view: ImageView) -> None:
    """Ask a view everything that decodes no config, and decide on a change of each image."""
    must(len(view.digest) == 64, "the view has no digest")
    ids = list(view)
    must(len(ids) == len(view) == len(list(view.rows())), "the view is not as long as it says")
    list(view.heads())
    repr(view.time)
    for image_id in ids:
        repr((view.get_parent(image_id), view.children(image_id), view.get_last_updated(image_id)))
        must(view.search(image_id) == image_id, "an image is not found by its id")
        for parent in (None, *ids[:3]):
            with suppress(InvalidParentError):
                decide.set_parent(
                    view,
                    digest.require(image_id),
                    None if parent is None else digest.require(parent),
                )


class SnapshotTarget(Target):
    """Headers and chunks of snapshots, sealed again so that their digests fit, and not."""

    name = "snapshot"
    share = 30
    codec = MSGPACK
    position = 9

    def __init__(self, folder: Path) -> None:
        """Open the environment that the bytes are laid into; nothing is ever committed."""
        super().__init__(folder)
        self.environment = Environment(
            folder / "store", initialise=meta.founding(clock.system_clock), map_size=MAP_SIZE
        )

    def seeds(self) -> list[bytes]:
        """Return chunks in columns and in the first version's shape, and headers."""
        states = {
            a_digest(0): State(1, 1, None, 0, None, False),
            a_digest(1): State(2, 5, a_digest(0), 3, 7, True),
        }
        rows = [(image, row_of(state, state.parent_at and 1)) for image, state in states.items()]
        chunk = Columns.of(sorted(rows)).encode()
        first = msgspec.msgpack.encode(states)
        headers = [self.header(chunk), self.header(b"", position=8), self.header(first, first=True)]
        return [chunk, first, msgspec.msgpack.encode({}), *headers]

    def header(
        self, chunk: bytes, position: int = 9, images: int = 2, *, first: bool = False
    ) -> bytes:
        """Return a header that checks, of one chunk."""
        digests = [hashlib.sha256(chunk).digest()]
        header = snapshot_headers.Header(position, 5, images, digests, b"")
        if not first:
            starts = [chunk[1:33].ljust(32, b"\0")]
            header = msgspec.structs.replace(header, firsts=starts)
        return self.sealed(header, 5 if first else 8)

    def sealed(self, header: snapshot_headers.Header, length: int) -> bytes:
        """Return a header's bytes, its digest made to fit."""
        header = msgspec.structs.replace(header, digest=header.seal())
        return msgspec.msgpack.encode(msgspec.structs.astuple(header)[:length])

    def attack(self, data: bytes) -> None:
        """Take it for a header, for a header with a digest that fits, and for a chunk."""
        self.parse(data, b"")
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
            header = msgspec.msgpack.decode(data, type=snapshot_headers.Header)
            self.parse(self.sealed(header, 5 if header.firsts is None else 8), b"")
        images = max(len(data) // 57, 1)
        self.parse(self.header(data, images=images), data)
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
            images = len(msgspec.msgpack.decode(data))
        self.parse(self.header(data, images=images, first=True), data)

    def parse(self, raw: bytes, chunk: bytes) -> None:
        """Parse a header, load its chunk, and read the view that comes of it."""
        try:
            header = snapshot_headers.parse_header(self.position, raw)
        except CorruptionError:
            return
        session = self.environment.begin_write()
        try:
            session.transaction.put("snapshots", snapshots._key(self.position, 1), chunk)
            states = snapshots.load(session.transaction, header)
        except CorruptionError:
            return
        finally:
            session.abort()
        view = ImageView(states, position=header.position, time_ns=header.time_ns)
        read(view.freeze())


class MomentTarget(Target):
    """Moments and phrases of the command line."""

    name = "moment"
    share = 1

    def __init__(self, folder: Path) -> None:
        """Fill a store with a few records."""
        super().__init__(folder)
        self.store = ImageStore.open(folder / "store", map_size=MAP_SIZE)
        for number in range(5):
            self.store.create(config(number))

    def seeds(self) -> list[bytes]:
        """Return moments of every kind."""
        texts = (
            "@3", "now", "2 hours ago", "yesterday at 14:00", "2026-01-31T14:00+02:00", "last week",
            "in 3 days", "1 month, 2 days ago", "31 Dec 9999 23:59", "12:00 UTC", "1700000000.5",
            "monday 3pm EST", "0001-01-01", "2 decades ago", "5.5 hours ago",
        )  # fmt: skip
        return [text.encode() for text in texts]

    def attack(self, data: bytes) -> None:
        """Only a position of the log, an instant, or a usage error."""
        text = data.decode("utf-8", "surrogateescape")
        with suppress(click.UsageError):
            position = moments.position_of(self.store, text)
            must(0 <= position <= self.store.position, f"{position} is no position")
        with suppress(click.UsageError):
            must(moments.instant_of(text).tzinfo is not None, "no zone")


class MetadataTarget(Target):
    """The contents of Docker's `parent`, `lastUpdated` and `builtLocally`, read and synced."""

    name = "metadata"
    share = 4
    keys = ("parent", "lastUpdated", "builtLocally")

    def __init__(self, folder: Path) -> None:
        """Lay out a database of two images, and a store that has them already."""
        super().__init__(folder)
        self.imagedb = folder / "imagedb"
        content = self.imagedb / "content" / "sha256"
        content.mkdir(parents=True)
        self.ids: list[str] = []
        for number in range(2):
            raw = config(number)
            self.ids.append("sha256:" + hashlib.sha256(raw).hexdigest())
            (content / self.ids[-1][7:]).write_bytes(raw)
        self.metadata = self.imagedb / "metadata" / "sha256" / self.ids[0][7:]
        self.metadata.mkdir(parents=True)
        self.store = ImageStore.open(folder / "store", map_size=MAP_SIZE)
        sync(self.store, DockerImageDB.find(self.imagedb).read().images)

    def seeds(self) -> list[bytes]:
        """Return contents, behind a byte that says which file it is."""
        texts = (
            self.ids[1],
            self.ids[0],
            "2026-01-31T14:00:00.123456789Z",
            "\x01",
            "\0",
            "2300-01-01T00:00:00Z",
        )
        return [bytes([key]) + text.encode() for key in range(3) for text in texts]

    def attack(self, data: bytes) -> None:
        """Both images are listed whatever it is; a sync takes it in or leaves it out."""
        path = self.metadata / self.keys[data[0] % 3 if data else 0]
        path.write_bytes(data[1:])
        try:
            found = DockerImageDB.find(self.imagedb).read()
            must([image.image_id for image in found.images] == sorted(self.ids), "an image is lost")
            for entry in found.passed_over:
                must(len(entry.detail) < 1000, "a detail is longer than people read")
                entry.detail.encode("utf-8")
            report = sync(self.store, found.images, found.passed_over, dry_run=True)
            must(not report.deleted and not report.recreated, "an image is lost from the store")
        finally:
            path.unlink()


class LayersTarget(Target):
    """The files of a layer in Docker's `layerdb`."""

    name = "layers"
    share = 4
    files = ("diff", "size", "cache-id", "parent")

    def __init__(self, folder: Path) -> None:
        """Lay out two layers, one on the other."""
        super().__init__(folder)
        self.chains = [f"sha256:{number:064x}" for number in (1, 2)]
        for chain in self.chains:
            layer = folder / "layerdb" / "sha256" / chain[7:]
            layer.mkdir(parents=True)
            for name, text in (("diff", chain), ("size", "7"), ("cache-id", "c")):
                (layer / name).write_text(text)
        (folder / "layerdb" / "sha256" / self.chains[1][7:] / "parent").write_text(self.chains[0])

    def seeds(self) -> list[bytes]:
        """Return contents, behind a byte that says which file it is."""
        texts = (*self.chains, "7", "-1", "+5", " 12\n", str(2**63), "9" * 4096, "", "\x1f5")
        return [bytes([key]) + text.encode() for key in range(4) for text in texts]

    def attack(self, data: bytes) -> None:
        """The upper layer is there or not; if it is, its size is one."""
        folder = self.folder / "layerdb"
        path = folder / "sha256" / self.chains[1][7:] / self.files[data[0] % 4 if data else 0]
        before = path.read_bytes()
        path.write_bytes(data[1:])
        try:
            layers = DockerLayerDB(folder)
            with suppress(LayerNotFoundError):
                found = layers.metadata(self.chains[1])
                must(0 <= found.diff_size < 2**63, "the size does not fit")
            must(layers.metadata(self.chains[0]).size == 7, "the layer below is lost")
        finally:
            path.write_bytes(before)


class MetaTarget(Target):
    """What a store says of itself."""

    name = "meta"
    share = 20
    keys = (b"format", b"store_id", b"created_ns")

    def __init__(self, folder: Path) -> None:
        """Make a store."""
        super().__init__(folder)
        self.environment = Environment(
            folder / "store", initialise=meta.founding(clock.system_clock), map_size=MAP_SIZE
        )

    def seeds(self) -> list[bytes]:
        """Return values, behind a byte that says whose they are."""
        texts = ("1", "2", "", "9" * 19, "9" * 5000, "-1", "\u0661", "12 ", "\x1b[2J")
        return [bytes([key]) + text.encode() for key in range(3) for text in texts]

    def attack(self, data: bytes) -> None:
        """An identity that can be printed, or a format that is not known."""
        session = self.environment.begin_write()
        try:
            key = self.keys[data[0] % 3 if data else 0]
            session.transaction.put("meta", key, data[1:], replace=True)
            with suppress(CorruptionError):
                identity = meta.read_in(session.transaction)
                output.clock_time(clock.to_datetime(identity.created_ns))
                must_show(output.json_text({"id": identity.store_id}))
        finally:
            session.abort()


TARGETS: dict[str, type[Target]] = {
    target.name: target
    for target in (
        ConfigTarget,
        PlainTarget,
        TermTarget,
        RecordTarget,
        SnapshotTarget,
        MomentTarget,
        MetadataTarget,
        LayersTarget,
        MetaTarget,
    )
}
