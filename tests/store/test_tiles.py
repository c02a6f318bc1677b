"""Exported tiles are read and proved by `tlog-scales`, which knows nothing of us."""

from __future__ import annotations

from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey

from eventstore import (
    Checkpoint,
    DestinationExistsError,
    ImageStore,
    PastChangedError,
    ProofError,
    StoreUsageError,
    leaf_hash,
    notes,
    signing,
    tiles,
)
from making import config

KEY = notes.SigningKey("log.example", bytes(range(32)))


def fill(store: ImageStore, size: int) -> None:
    """Let the log grow to a size."""
    image = store.create(config("a"))
    with store.transaction():
        for instant in range(store.position + 1, size + 1):
            store.set_last_updated(image, instant)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 700, 1025])
def test_a_foreign_reader_finds_the_records_and_proves_them(
    store: ImageStore, tmp_path: Path, size: int
) -> None:
    """Checkpoint, root, entries, inclusion and consistency."""
    fill(store, size)
    note = signing.sign_checkpoint(store, KEY)
    assert tiles.export_tiles(store, tmp_path / "tiles", note) == store.checkpoint(size)
    reader = TilesReader(LocalBackend(tmp_path / "tiles"))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string(KEY.verifier.text))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    for record in store.records():
        if record.position in {1, 2, 256, 257, size}:
            assert reader.get_entry(record.position - 1) == record.raw
            proof = reader.get_inclusion_proof(record.position - 1, size)
            proof.check(leaf_hash(record.raw), checkpoint.root_hash)
            assert proof.node_hashes == store.inclusion_proof(record.position)
            old = store.checkpoint(record.position)
            grown = reader.get_consistency_proof(old.position, size)
            grown.check(old.root_hash, checkpoint.root_hash)
            assert grown.node_hashes == store.consistency_proof(old.position)


def test_the_files_are_those_of_the_layout(store: ImageStore, tmp_path: Path) -> None:
    """Full tiles, partial ones, none that is empty."""
    fill(store, 600)
    tiles.export_tiles(store, tmp_path / "tiles")
    top = tmp_path / "tiles"
    found = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    assert found == {
        "checkpoint",
        *(f"tile/{kind}/{name}" for kind in ("0", "entries") for name in ("000", "001")),
        *(f"tile/{kind}/002.p/88" for kind in ("0", "entries")),
        "tile/1/000.p/2",
    }
    assert (top / "tile/0/000").stat().st_size == 8192


def test_an_empty_log_is_a_checkpoint_alone(store: ImageStore, tmp_path: Path) -> None:
    """There is no tile without a record."""
    tiles.export_tiles(store, tmp_path / "tiles")
    assert [path.name for path in (tmp_path / "tiles").iterdir()] == ["checkpoint"]


def test_numbers_are_written_in_groups() -> None:
    """The example of the specification."""
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(None, 5, 8) == "tile/entries/005.p/8"
    assert tiles.tile_path(2, 1000, 255) == "tile/2/x001/000.p/255"


def test_a_record_that_no_tile_can_hold_is_refused_and_nothing_is_left(
    store: ImageStore, tmp_path: Path
) -> None:
    """A reason may be longer than a tile's entry."""
    store.create(config("a"), reason="x" * 65_000)
    tiles.export_tiles(store, tmp_path / "fits")
    store.create(config("b"), reason="x" * 65_536)
    with pytest.raises(StoreUsageError, match=r"record @2 has 6\d+ bytes"):
        tiles.export_tiles(store, tmp_path / "tiles")
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["fits"]


def test_an_export_is_of_the_checkpoint_that_is_given(store: ImageStore, tmp_path: Path) -> None:
    """Whatever was appended since; one of another log is refused."""
    fill(store, 300)
    note = signing.sign_checkpoint(store, KEY)
    store.create(config("later"))
    assert tiles.export_tiles(store, tmp_path / "tiles", note) == store.checkpoint(300)
    assert (tmp_path / "tiles" / "checkpoint").read_bytes() == note.encode()
    said = notes.LogCheckpoint("eventstore/other", store.checkpoint())
    with pytest.raises(ProofError):
        tiles.export_tiles(store, tmp_path / "other", notes.Note(said.text))
    with pytest.raises(DestinationExistsError):
        tiles.export_tiles(store, tmp_path / "tiles")


def test_records_that_are_not_those_of_the_checkpoint_are_not_exported(
    store: ImageStore, tmp_path: Path
) -> None:
    """Whoever reads the tiles could prove nothing by them."""
    fill(store, 300)
    wrong = Checkpoint(300, store.checkpoint(299).root_hash)
    said = notes.LogCheckpoint(signing.origin_of(store.store_id), wrong)
    with pytest.raises(PastChangedError):
        tiles.export_tiles(store, tmp_path / "tiles", notes.Note(said.text))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
