"""Docker's own cases for images, their configs and their layers, by their names.

Each is played on the real store and on the model, which decode what they were given.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from contract.subjects import Subject, live_then_reopened
from eventstore import Image, InvalidImageError, RootFS
from making import config

SAMPLE = b"""{
    "os": "linux",
    "architecture": "amd64",
    "rootfs": {"diff_ids": [], "type": "layers"},
    "config": {}
}"""


def sha256(text: str) -> str:
    """Return the digest of a text as layers and images are named."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def with_layers(*diff_ids: str) -> bytes:
    """Return the config of an image with these layers."""
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()


def test_new_from_json(subject: Subject) -> None:
    """TestNewFromJSON: the exact bytes, white space and all, are kept."""
    store = subject.store
    image = store.create(SAMPLE)
    for answering in live_then_reopened(subject):
        assert answering.get(image).raw_json == SAMPLE
    assert Image.from_json(SAMPLE).raw_json == SAMPLE


def test_new_from_json_with_invalid_json(subject: Subject) -> None:
    """TestNewFromJSONWithInvalidJSON: without a rootfs it is refused, and the reason says so."""
    with pytest.raises(InvalidImageError):
        subject.store.create(b"{}")
    with pytest.raises(InvalidImageError) as refused:
        Image.from_json(b"{}")
    assert "rootfs" in refused.value.reason


def test_marshal_key_order(subject: Subject) -> None:
    """TestMarshalKeyOrder: nothing is written anew, so keys stay in the order they came in."""
    store = subject.store
    fields = {"architecture": "c", "author": "b", "comment": "a", "rootfs": {"type": "layers"}}
    forward = json.dumps(fields).encode()
    backward = json.dumps(dict(reversed(fields.items()))).encode()
    first, second = store.create(forward), store.create(backward)
    assert first != second
    assert (store.get(first).raw_json, store.get(second).raw_json) == (forward, backward)
    assert store.get(first).comment == store.get(second).comment == "a"


def test_image(subject: Subject) -> None:
    """TestImage: an image knows its id, its parent and how it is run."""
    store = subject.store
    run = {"Hostname": "hostname", "Domainname": "domain", "User": "root"}
    raw = json.dumps({"config": run, "rootfs": {"type": "layers"}}).encode()
    image, base = store.create(raw), store.create(config("base"))
    store.set_parent(image, base)
    found = store.get(image)
    assert (found.id, found.parent) == (image, base)
    decoded = Image.from_json(found.raw_json).config
    assert decoded is not None
    assert (decoded.hostname, decoded.domainname, decoded.user) == ("hostname", "domain", "root")


@pytest.mark.parametrize("os", ["", "linux", "windows", "os"])
def test_image_os_not_empty(subject: Subject, os: str) -> None:
    """TestImageOSNotEmpty: the operating system is the config's own, and not the host's."""
    store = subject.store
    raw = json.dumps({"os": os, "os.version": "1", "rootfs": {"type": "layers"}}).encode()
    assert store.get(store.create(raw)).os == os
    assert Image.from_json(raw).os_version == "1"


def test_new_child_image_from_image_with_root_fs(subject: Subject) -> None:
    """TestNewChildImageFromImageWithRootFS: a child has its parent's layers and one of its own."""
    store = subject.store
    parent = store.create(with_layers("ba5e"))
    child = store.create(with_layers("ba5e", "abcdef"))
    store.set_parent(child, parent)
    below, above = store.get(parent).root_fs, store.get(child).root_fs
    assert above.diff_ids == ("ba5e", "abcdef")
    assert above.diff_ids[:-1] == below.diff_ids == ("ba5e",)
    assert above.chain_id() == sha256(f"{below.chain_id()} abcdef")


@pytest.mark.parametrize(
    ("diff_ids", "chain_id"),
    [
        ((), ""),
        (("sha256:a",), "sha256:a"),
        (("sha256:a", "sha256:b"), sha256("sha256:a sha256:b")),
        (
            ("sha256:a", "sha256:b", "sha256:c"),
            sha256(f"{sha256('sha256:a sha256:b')} sha256:c"),
        ),
        (("sha256:b", "sha256:a"), sha256("sha256:b sha256:a")),
        (("sha256:a", "sha256:a"), sha256("sha256:a sha256:a")),
    ],
)
def test_chain_id(subject: Subject, diff_ids: tuple[str, ...], chain_id: str) -> None:
    """TestChainID: a chain id names a stack of layers in its order; one layer's is its diff id."""
    store = subject.store
    found = store.get(store.create(with_layers(*diff_ids))).root_fs
    assert (found.diff_ids, found.chain_id()) == (diff_ids, chain_id)


def test_chain_id_of_two_known_layers() -> None:
    """TestChainID: the rule gives a value that was worked out apart from this code."""
    diff_ids = ("sha256:" + "0" * 64, "sha256:" + "1" * 64)
    worked_out = "sha256:f94b891e05f6e37c90d87edfd5bb98a02d618a437c35f3a94b3b00e48e894631"
    assert RootFS("layers", diff_ids).chain_id() == worked_out


def test_history_may_not_name_more_layers_than_there_are(subject: Subject) -> None:
    """Create: steps that are not empty are counted against the layers; empty ones are not."""
    store = subject.store
    empty, full = {"empty_layer": True}, {"created_by": "step"}
    root_fs = {"type": "layers", "diff_ids": ["sha256:a"]}
    for history in ([full], [full, empty], [empty, full, empty], [empty], []):
        store.create(json.dumps({"history": history, "rootfs": root_fs}).encode())
    assert len(store) == 5
    with pytest.raises(InvalidImageError):
        store.create(json.dumps({"history": [full, full], "rootfs": root_fs}).encode())
    assert len(store) == 5
