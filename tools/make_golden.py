"""Make the golden store: one store of format 1, and beside it what it must answer for ever.

It holds every event, the retired shape of `LastUpdatedSet`, images that are gone, one that was
created again, a batch, and a snapshot. It refuses to overwrite: a golden store that is made anew
proves nothing. Run it from the top of the checkout, with the name of a new format.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from eventstore import ImageStore, Manifest, ManifestLayer, codec, digest, log
from eventstore.codec import Envelope, LastUpdatedSetFirst
from eventstore.events import pack_chain
from eventstore.lmdb_transaction import Transaction

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
START_NS = 1_700_000_000_000_000_000


def config(name: str, *, layers: int = 0) -> bytes:
    """Return a small image config."""
    diff_ids = [f"sha256:{number:064x}" for number in range(1, layers + 1)]
    value = {"comment": name, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps(value).encode()


def append_first_shape(store: ImageStore, image_id: str) -> None:
    """Append a `LastUpdatedSet` as the first version of the format wrote it."""
    position = store.position + 1
    state = store.view().state(digest.require(image_id))
    assert state is not None
    event = LastUpdatedSetFirst(digest.require(image_id))
    payload = msgspec.msgpack.encode(
        Envelope(START_NS + 10**15, "first@host", "first shape", position, state.last, event)
    )
    checksum = crc32(payload, crc32(codec.position_key(position)))
    raw = payload + checksum.to_bytes(codec.CHECKSUM_SIZE, "big")
    record = codec.decode(position, raw)

    def put(txn: Transaction) -> None:
        log.append(txn, record)
        log.note_end(txn, position)

    store._environment.write(put)


def fill(path: Path) -> None:
    """Write the history into a new store."""
    ticks = iter(range(START_NS, START_NS + 10**18, 10**9))
    with ImageStore.open(path, actor="golden@host", now=lambda: next(ticks)) as store:
        base = store.create(config("base", layers=2), reason="the first")
        with store.transaction(reason="a batch"):
            child = store.create(config("child", layers=3))
            store.set_parent(child, base)
            store.set_built_locally(child)
        bare = store.create(config("größe → ☃"), reason="no layers")
        store.set_last_updated(bare, 1_577_934_245_600_000_000)
        append_first_shape(store, child)
        store.set_parent(bare, child)
        store.set_parent(bare, None)
        store.delete(base, reason="orphans its child")
        store.take_snapshot()
        store.create(config("base", layers=2), reason="created again")
        store.delete(bare)
        store.set_last_updated(child, -1)


def fill_redacted(path: Path) -> None:
    """Write a history with redactions into a new store."""
    ticks = iter(range(START_NS, START_NS + 10**18, 10**9))
    with ImageStore.open(path, actor="golden@host", now=lambda: next(ticks)) as store:
        gone, again = store.create(config("gone")), store.create(config("again"))
        store.create(config("there", layers=1))
        store.delete(gone)
        for image_id in (gone, again):
            store.redact(image_id, reason="a secret")
        store.take_snapshot()
        store.create(config("again"), reason="it was none", allow_redacted=True)


def fill_names(path: Path) -> None:
    """Write a history of names into a new store."""
    ticks = iter(range(START_NS, START_NS + 10**18, 10**9))
    with ImageStore.open(path, actor="golden@host", now=lambda: next(ticks)) as store:
        base = store.create(config("base", layers=2), reason="the first")
        child = store.create(config("child", layers=3))
        store.tag("app", base, reason="named")
        with store.transaction(reason="a batch"):
            store.tag("app", child)
            store.tag(f"host.io:5000/team/app@sha256:{'ab' * 32}", base)
        store.take_snapshot()
        store.untag("app", reason="taken away")
        store.tag("app:1.0", child)
        store.delete(child, reason="loses its name")


def fill_compacted(path: Path) -> None:
    """Write a history into a new store, of which a part is dropped again."""
    fill(path)
    ticks = iter(range(2 * START_NS, 2 * START_NS + 10**18, 10**9))
    with ImageStore.open(path, actor="golden@host", now=lambda: next(ticks)) as store:
        store.compact(position=store.position - 1, reason="retention")
        store.create(config("later"))


def fill_described(path: Path) -> None:
    """Write a history of manifests into a new store."""
    ticks = iter(range(START_NS, START_NS + 10**18, 10**9))
    digests = (f"sha256:{'ab' * 32}", f"sha512:{'cd' * 64}")
    layers = tuple(
        ManifestLayer("application/vnd.oci.image.layer.v1.tar+gzip", pack_chain(text), 2**40 + 1)
        for text in digests
    )
    full = Manifest(b"\x01" * 32, "application/vnd.oci.image.manifest.v1+json", 555, layers)
    bare = Manifest(b"\x02" * 32, "application/vnd.oci.image.manifest.v1+json", 192, ())
    with ImageStore.open(path, actor="golden@host", now=lambda: next(ticks)) as store:
        base = store.create(config("base", layers=2), reason="the first")
        with store.transaction(reason="a batch"):
            child = store.create(config("child"))
            store.describe(child, bare)
            store.describe(base, full)
        store.take_snapshot()
        store.describe(base, bare, reason="another")
        store.delete(child)


FILLS = {
    "v1": fill,
    "v1-names": fill_names,
    "v1-redacted": fill_redacted,
    "v1-compacted": fill_compacted,
    "v1-described": fill_described,
}


def answers(path: Path) -> dict[str, Any]:
    """Return what the store answers, in plain JSON."""
    with ImageStore.open(path, read_only=True) as store:
        moments = range(store.horizon.through, store.position + 1)
        return {
            "store_id": store.store_id,
            "position": store.position,
            "snapshots": [found.position for found in store.snapshots()],
            "compacted_through": moments.start,
            "names": [store.tags(position) for position in moments],
            "manifests": {image_id: repr(store.manifests(image_id)) for image_id in store},
            "images": {image_id: store.get(image_id).comment for image_id in store},
            "digests": [store.as_of(position=position).digest for position in moments],
            "records": [
                {
                    "position": record.position,
                    "time_ns": record.time_ns,
                    "actor": record.actor,
                    "reason": record.reason,
                    "batch": record.batch,
                    "previous": record.previous,
                    "image_id": record.image_id,
                    "event": repr(record.event),
                    "raw": record.raw.hex(),
                }
                for record in store.records()
            ],
        }


def main(arguments: list[str]) -> int:
    """Make a golden store of the given name."""
    if len(arguments) != 1 or arguments[0] not in FILLS:
        print(f"usage: make_golden.py {' | '.join(FILLS)}", file=sys.stderr)
        return 2
    target = GOLDEN / arguments[0]
    if target.exists():
        print(f"{target} exists, and a golden store is never made anew", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        FILLS[arguments[0]](made)
        with ImageStore.open(made) as store:
            store.backup(target)
        # Opening would leave a lock file behind, so a copy is asked.
        copy = shutil.copytree(target, Path(folder) / "copy")
        text = json.dumps(answers(copy), indent=1)
    (target / "answers.json").write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
