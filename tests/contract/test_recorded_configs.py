"""Hold every recorded verdict of Docker's decoder, and of its store, against ours."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from contract.recorded import CONFIG_FIELDS, HEALTH_FIELDS, answer, configs
from contract.subjects import KnownLayers
from eventstore import (
    ContainerConfig,
    Image,
    ImageStore,
    InvalidImageError,
    LayerMissingError,
    UnsupportedOSError,
)
from eventstore.image import HealthConfig

KNOWN_CHAIN_IDS, ROWS = configs()
PLAIN_ROWS = [row for row in ROWS if "quirk" not in row]
QUIRKS = [row for row in ROWS if "quirk" in row]
# What only the store refuses, since only it knows the host and the layers.
REFUSED_BY_THE_STORE: dict[str, type[InvalidImageError]] = {
    "os freebsd with layers": UnsupportedOSError,
    "layer missing": LayerMissingError,
}
# Recorded elsewhere in the row (`id`, `config_b64`), or not a matter of the config.
NOT_IN_THE_TABLE = {"id", "parent", "raw_b64"}


def each(rows: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """Run a test for each row, named by its note."""
    return pytest.mark.parametrize("row", rows, ids=[row["note"] for row in rows])


def raw_of(row: dict[str, Any]) -> bytes:
    """Return the exact bytes of a row's config."""
    return base64.b64decode(row["config_b64"])


def assert_as_docker_decoded(row: dict[str, Any], image: Image) -> None:
    """Fail unless the id, the bytes and every field are as Docker gave them, and no more."""
    assert row["id"] == image.id
    assert raw_of(row) == image.raw_json
    found = answer(image)
    shown = {
        key: value
        for key, value in found.items()
        if key not in NOT_IN_THE_TABLE and (value or key in ("history_len", "config"))
    }
    assert set(row["get"]) <= set(found)
    assert row["get"] == shown


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStore]:
    """Open one store for all rows, over the layers that Docker's had; it must verify at the end."""
    path: Path = tmp_path_factory.mktemp("configs") / "store"
    layers = KnownLayers(KNOWN_CHAIN_IDS)
    with ImageStore.open(path, layers=layers, operating_system="linux") as opened:
        yield opened
        assert list(opened.verify()) == []


@each(PLAIN_ROWS)
def test_from_json_decodes_what_docker_decodes(row: dict[str, Any]) -> None:
    """A config is accepted with the same id and fields, or refused, as Docker does."""
    if row["accept"]:
        assert_as_docker_decoded(row, Image.from_json(raw_of(row)))
    elif row["note"] in REFUSED_BY_THE_STORE:
        assert Image.from_json(raw_of(row)).raw_json == raw_of(row)
    else:
        with pytest.raises(InvalidImageError) as refused:
            Image.from_json(raw_of(row))
        assert refused.value.reason


@each(PLAIN_ROWS)
def test_store_creates_what_docker_creates(row: dict[str, Any], store: ImageStore) -> None:
    """A config gives an image with the same id and fields, or nothing at all, as in Docker."""
    before = store.position
    if row["accept"]:
        assert row["id"] == store.create(raw_of(row))
        assert_as_docker_decoded(row, store.get(row["id"]))
        assert store.search(row["id"]) == row["id"]
        return
    expected = REFUSED_BY_THE_STORE.get(row["note"], InvalidImageError)
    with pytest.raises(InvalidImageError) as refused:
        store.create(raw_of(row))
    assert refused.type is expected
    assert store.position == before


@each(QUIRKS)
def test_quirk_is_accepted_or_refused_with_our_error(
    row: dict[str, Any], store: ImageStore
) -> None:
    """Where Docker's decoder is odd either verdict will do, but both doors give the same one."""
    try:
        decoded = Image.from_json(raw_of(row))
    except InvalidImageError:
        with pytest.raises(InvalidImageError):
            store.create(raw_of(row))
        return
    assert store.create(raw_of(row)) == decoded.id
    assert store.get(decoded.id) == decoded
    if row["accept"]:
        assert_as_docker_decoded(row, decoded)


def test_accepted_configs_are_the_same_after_reopening(store_path: Path) -> None:
    """What was accepted is still there, field by field, when a store is opened over its disk."""
    accepted = [row for row in PLAIN_ROWS if row["accept"]]
    for _ in range(2):
        layers = KnownLayers(KNOWN_CHAIN_IDS)
        with ImageStore.open(store_path, layers=layers, operating_system="linux") as opened:
            for row in accepted:
                opened.create(raw_of(row))
            assert opened.position == len(opened) == len(accepted)
            for row in accepted:
                assert_as_docker_decoded(row, opened.get(row["id"]))
            assert layers.references() == {"aa": 2, "sha256:aa": 1}


def test_table_is_whole() -> None:
    """The table has all its rows, and each accepted one says what `get` gave."""
    assert (len(ROWS), len(QUIRKS)) == (141, 14)
    assert sum(row["accept"] for row in ROWS) == 78
    assert all(("get" in row) == ("id" in row) == row["accept"] for row in ROWS)
    assert set(REFUSED_BY_THE_STORE) <= {row["note"] for row in ROWS if not row["accept"]}


def test_every_field_of_a_container_config_has_a_docker_name() -> None:
    """No field that we decode escapes the comparison, and none of Docker's does."""
    assert sorted(CONFIG_FIELDS.values()) == sorted(structs.asdict(ContainerConfig()))
    assert sorted(HEALTH_FIELDS.values()) == sorted(structs.asdict(HealthConfig()))
    configs_seen = [row["get"]["config"] for row in ROWS if "config" in row.get("get", {})]
    assert {key for seen in configs_seen for key in seen} <= set(CONFIG_FIELDS)
