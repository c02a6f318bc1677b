"""Play what Docker's store was asked, step by step, and demand the answers that it gave."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.recorded import answer, sequences
from contract.subjects import KnownLayers
from eventstore import (
    AmbiguousDigestError,
    ImageNotFoundError,
    ImageStore,
    InvalidImageError,
)

SEQUENCES = sequences()
ERRORS: dict[type[Exception], str] = {
    ImageNotFoundError: "not_found",
    AmbiguousDigestError: "ambiguous",
    InvalidImageError: "invalid_image",
}


class Player:
    """A store over the layers of a sequence, and the digest of its view at every position."""

    def __init__(self, path: Path, layers_known: list[str]) -> None:
        """Open the store as the recording did."""
        self._path = path
        self._layers_known = layers_known
        self.digests: dict[int, str] = {}
        self.open()

    def open(self) -> None:
        """Open the store over a layer store without references."""
        self.layers = KnownLayers(self._layers_known)
        self.store = ImageStore.open(self._path, layers=self.layers, operating_system="linux")

    def play(self, do: dict[str, Any]) -> dict[str, Any]:
        """Do one step; return the answer in the words of the recording."""
        try:
            found = self._read(do) if do["op"] in READS else self._write(do)
        except tuple(ERRORS) as error:
            found = {"error": next(ERRORS[kind] for kind in ERRORS if isinstance(error, kind))}
        view = self.store.view()
        self.digests[view.position] = view.digest
        return found

    def _write(self, do: dict[str, Any]) -> dict[str, Any]:
        store = self.store
        match do["op"]:
            case "create":
                return {"id": store.create(do["config"].encode())}
            case "delete":
                return {"released": sorted(each.chain_id for each in store.delete(do["id"]))}
            case "set_parent":
                store.set_parent(do["id"], do["parent"])
            case "set_last_updated":
                store.set_last_updated(do["id"])
            case "set_built_locally":
                store.set_built_locally(do["id"])
            case "reopen":
                store.close()
                self.open()
            case unknown:
                raise AssertionError(f"the recording has an unknown operation: {unknown}")
        return {}

    def _read(self, do: dict[str, Any]) -> dict[str, Any]:
        return READS[do["op"]](self, do)


READS: dict[str, Any] = {
    "get": lambda player, do: answer(player.store.get(do["id"])),
    "search": lambda player, do: {"id": player.store.search(do["term"])},
    "get_parent": lambda player, do: {"parent": player.store.get_parent(do["id"])},
    "get_last_updated": lambda player, do: {
        "is_zero": player.store.get_last_updated(do["id"]) is None
    },
    "is_built_locally": lambda player, do: {"built": player.store.is_built_locally(do["id"])},
    "children": lambda player, do: {"ids": player.store.children(do["id"])},
    "map": lambda player, do: {"ids": list(player.store.map())},
    "heads": lambda player, do: {"ids": list(player.store.heads())},
    "len": lambda player, do: {"len": len(player.store)},
    "refs": lambda player, do: {"refs": player.layers.references()},
}


@pytest.mark.parametrize("recorded", SEQUENCES, ids=[each["name"] for each in SEQUENCES])
def test_store_answers_every_step_as_docker_did(recorded: dict[str, Any], store_path: Path) -> None:
    """Ids, parents, lists, references and errors agree, and the log tells the same in the end."""
    player = Player(store_path, recorded["layers_known"])
    try:
        for number, step in enumerate(recorded["steps"]):
            found = player.play(step["do"])
            assert step["expect"] == found, f"{recorded['name']}, step {number}: {step['do']}"
        store = player.store
        assert list(store.verify()) == []
        last = store.position
        assert store.as_of(position=last).digest == store.view().digest == player.digests[last]
    finally:
        player.store.close()

    with ImageStore.open(store_path, create=False) as again:
        assert again.view().digest == player.digests[last]
        for position, digest in player.digests.items():
            assert again.as_of(position=position).digest == digest, f"as of {position}"


def test_recording_is_whole() -> None:
    """The recording has all its steps, and it differs from Docker's only where that is meant."""
    steps = [step for recorded in SEQUENCES for step in recorded["steps"]]
    assert (len(SEQUENCES), len(steps)) == (12, 4_394)
    operations = Counter(step["do"]["op"] for step in steps)
    writes = {
        "create",
        "delete",
        "set_parent",
        "set_last_updated",
        "set_built_locally",
        "reopen",
    }
    assert set(operations) == writes | set(READS)
    assert min(operations.values()) >= 50
    meant = Counter(step["do"]["op"] for step in steps if "moby" in step)
    assert meant == {"get_parent": 227, "is_built_locally": 54, "children": 20}
    errors = Counter(step["expect"].get("error") for step in steps)
    assert {"not_found", "ambiguous", "invalid_image"} == set(errors) - {None}
