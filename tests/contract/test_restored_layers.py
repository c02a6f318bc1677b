"""What Docker's restore leaves out: images whose layers are missing or whose system is another.

They are not counted, found or listed, and nothing hangs from them; here the log still knows them.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from contract.subjects import KnownLayers
from eventstore import Image, ImageNotFoundError, ImageStore, LayerMissingError
from making import config, id_of

BASE, MIDDLE, TOP = (config(name, layers=1) for name in ("base", "middle", "top"))
PLAIN = config("plain")
EVERY = [BASE, MIDDLE, TOP, PLAIN]


def chain_id_of(raw: bytes) -> str:
    """Return the chain id of the layers that a config names."""
    return Image.from_json(raw).root_fs.chain_id()


def layers_of(*raws: bytes) -> KnownLayers:
    """Return a layer store that knows the layers of these configs."""
    return KnownLayers([chain_id_of(raw) for raw in raws])


@pytest.fixture
def family(store_path: Path) -> Path:
    """Return the path of a closed store: `TOP` on `MIDDLE` on `BASE`, and `PLAIN` on `MIDDLE`."""
    with ImageStore.open(
        store_path, layers=layers_of(BASE, MIDDLE, TOP), operating_system="linux"
    ) as store:
        base, middle, top, plain = (store.create(raw) for raw in EVERY)
        store.set_parent(middle, base)
        store.set_parent(top, middle)
        store.set_parent(plain, middle)
    return store_path


def test_restore_takes_a_reference_for_every_image_with_layers(family: Path) -> None:
    """Opening holds the layers of all images, as creating them did; closing releases none."""
    layers = layers_of(BASE, MIDDLE, TOP)
    with ImageStore.open(family, layers=layers, operating_system="linux") as store:
        assert len(store) == 4
        assert layers.references() == {chain_id_of(raw): 1 for raw in (BASE, MIDDLE, TOP)}
        released = store.delete(id_of(TOP))
        assert [each.chain_id for each in released] == [chain_id_of(TOP)]
    assert layers.references() == {chain_id_of(raw): 1 for raw in (BASE, MIDDLE)}


def test_restore_leaves_out_an_image_without_its_layers(
    family: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in no count, search, list or family, and that is logged; its records are there."""
    layers, hidden = layers_of(BASE, TOP), id_of(MIDDLE)
    others = sorted(id_of(raw) for raw in (BASE, TOP, PLAIN))
    with (
        caplog.at_level(logging.WARNING, logger="eventstore"),
        ImageStore.open(family, layers=layers, operating_system="linux") as store,
    ):
        assert [hidden in message for message in caplog.messages] == [True]
        assert (len(store), list(store), sorted(store.map())) == (3, others, others)
        assert hidden not in store
        assert store.children(id_of(BASE)) == []
        assert sorted(store.heads()) == others
        for ask in (store.search, store.delete, store.children):
            with pytest.raises(ImageNotFoundError):
                ask(hidden)
        with pytest.raises(ImageNotFoundError):
            store.set_parent(id_of(TOP), hidden)
        assert [record.position for record in store.records(hidden)] == [2, 5]
        assert hidden in store.as_of(position=store.position)
        assert store.position == 7


@pytest.mark.parametrize("operating_system", ["linux", "Linux", "windows"])
def test_restore_leaves_out_images_of_another_system(
    store_path: Path, operating_system: str
) -> None:
    """Only images with layers are held to the store's system; upper or lower case is one."""
    layers = layers_of(BASE)
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        with_layers, plain = store.create(BASE), store.create(PLAIN)
    layers = layers_of(BASE)
    with ImageStore.open(store_path, layers=layers, operating_system=operating_system) as store:
        shown = [plain] if operating_system == "windows" else [with_layers, plain]
        assert list(store) == sorted(shown)
        assert len(layers.references()) == len(shown) - 1


def test_creating_a_hidden_image_again_brings_it_back_without_an_event(family: Path) -> None:
    """With its layers there it is back, family and all; without them it is refused as ever."""
    hidden = id_of(MIDDLE)
    without = layers_of(BASE, TOP)
    with ImageStore.open(family, layers=without, operating_system="linux") as store:
        with pytest.raises(LayerMissingError):
            store.create(MIDDLE)
        assert (len(store), store.position) == (3, 7)

    layers = LateLayers([chain_id_of(BASE), chain_id_of(TOP)])
    with ImageStore.open(family, layers=layers, operating_system="linux") as store:
        assert hidden not in store
        layers.bring(chain_id_of(MIDDLE))
        assert store.create(MIDDLE) == hidden == store.create(MIDDLE)
        assert (len(store), store.position) == (4, 7)
        assert store.search(hidden[:20]) == hidden
        assert store.children(id_of(BASE)) == [hidden]
        assert store.children(hidden) == sorted([id_of(TOP), id_of(PLAIN)])
        assert layers.references() == {chain_id_of(raw): 1 for raw in (BASE, MIDDLE, TOP)}
        released = store.delete(hidden)
        assert [each.chain_id for each in released] == [chain_id_of(MIDDLE)]
        assert list(store.verify()) == []


class LateLayers(KnownLayers):
    """A layer store into which layers come later."""

    def bring(self, chain_id: str) -> None:
        """Know one more chain id from now on."""
        self._known |= {chain_id}
