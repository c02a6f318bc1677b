"""Open stores that earlier versions wrote; what they answered then, they must answer for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eventstore import CompactedError, ImageStore, codec, replay, snapshots

HERE = Path(__file__).resolve().parent
GOLDEN = sorted(path.parent for path in HERE.glob("*/answers.json"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a copy of a golden store, and what it must answer."""
    copy = tmp_path / "store"
    copy.mkdir()
    shutil.copy(request.param / "data.mdb", copy)
    return copy, json.loads((request.param / "answers.json").read_text("utf-8"))


def first_moment(answers: dict[str, Any]) -> int:
    """Return the first position that the store can be looked at; the first stores say nothing."""
    return answers.get("compacted_through", 0)


def test_there_is_a_golden_store_of_every_format_that_is_supported() -> None:
    """Format 1 has one, and one for each later event; a new format must bring its own."""
    assert [path.name for path in GOLDEN] == [
        "v1",
        "v1-compacted",
        "v1-described",
        "v1-names",
        "v1-redacted",
    ]


def test_they_hold_every_tag_that_was_ever_written() -> None:
    """The stores would prove little if they left an event out."""
    answers = [json.loads((path / "answers.json").read_text("utf-8")) for path in GOLDEN]
    tags = {
        codec._decoder.decode(bytes.fromhex(record["raw"])[:-4]).event.__struct_config__.tag
        for answer in answers
        for record in answer["records"]
    }
    assert tags == set(codec.TAGS)


def test_a_golden_store_is_sound(golden: tuple[Path, dict[str, Any]]) -> None:
    """Nothing of it fails the auditor's reading of today."""
    path, _ = golden
    with ImageStore.open(path) as store:
        assert list(store.verify()) == []


def test_every_image_has_the_manifests_that_it_had(golden: tuple[Path, dict[str, Any]]) -> None:
    """The first stores hold none."""
    path, answers = golden
    with ImageStore.open(path, read_only=True) as store:
        for image_id, said in answers.get("manifests", {}).items():
            assert repr(store.manifests(image_id)) == said


def test_every_name_means_what_it_meant(golden: tuple[Path, dict[str, Any]]) -> None:
    """At every position; the first stores hold no names."""
    path, answers = golden
    with ImageStore.open(path, read_only=True) as store:
        for position, named in enumerate(answers.get("names", []), first_moment(answers)):
            assert store.tags(position) == named
        assert store.tags() == answers.get("names", [{}])[-1]


def test_every_record_is_what_it_was(golden: tuple[Path, dict[str, Any]]) -> None:
    """Position, envelope, event and exact bytes."""
    path, answers = golden
    with ImageStore.open(path, read_only=True) as store:
        assert store.store_id == answers["store_id"]
        assert store.position == answers["position"]
        for record, expected in zip(store.records(), answers["records"], strict=True):
            assert repr(record.event) == expected.pop("event")
            assert record.raw.hex() == expected.pop("raw")
            assert {name: getattr(record, name) for name in expected} == expected


def test_every_past_has_the_digest_that_it_had(golden: tuple[Path, dict[str, Any]]) -> None:
    """From the snapshot, from nothing, and through `as_of`."""
    path, answers = golden
    with ImageStore.open(path) as store:
        assert [found.position for found in store.snapshots()] == answers["snapshots"]
        for position in range(first_moment(answers)):
            with pytest.raises(CompactedError):
                store.as_of(position=position)
        for position, expected in enumerate(answers["digests"], first_moment(answers)):
            assert store.as_of(position=position).digest == expected
            assert replay.from_nothing(store._environment, position).digest == expected
        for found in store.snapshots():
            snapshots.drop(store._environment, found.position)
    with ImageStore.open(path) as store:
        assert store.snapshots() == []
        assert store.as_of(position=store.position).digest == answers["digests"][-1]


def test_images_are_what_they_were_and_the_store_goes_on(
    golden: tuple[Path, dict[str, Any]],
) -> None:
    """Configs decode, and new events append behind the old ones."""
    path, answers = golden
    with ImageStore.open(path) as store:
        assert {image_id: store.get(image_id).comment for image_id in store} == answers["images"]
        store.delete(next(iter(store)))
        assert store.position == answers["position"] + 1
        assert list(store.verify()) == []
