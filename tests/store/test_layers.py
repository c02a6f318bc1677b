"""Hold layers as Docker does: references, what is hidden without them, and real layer databases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docker_data import imagedb, unpack
from eventstore import (
    DockerLayerDB,
    ImageNotFoundError,
    ImageStore,
    LayerMissingError,
    LayerNotFoundError,
    MemoryLayerStore,
    RootFS,
    UnsupportedOSError,
)
from making import config, id_of
from store.children import run as run_script

L1, L2, L3 = (f"sha256:{number:064x}" for number in (1, 2, 3))


def stacked(name: str, *layers: str, os: str = "linux") -> bytes:
    """Return the config of an image with these layers."""
    root = {"type": "layers", "diff_ids": list(layers)}
    return json.dumps({"comment": name, "os": os, "rootfs": root}).encode()


@pytest.fixture
def layers() -> MemoryLayerStore:
    """Return a layer store with the stacks L1, L1+L2 and L1+L3."""
    known = MemoryLayerStore()
    known.add([L1, L2], diff_size=10)
    known.add([L1, L3], diff_size=10)
    return known


def chain(*diff_ids: str) -> str:
    """Return the chain id of a stack."""
    return RootFS("layers", diff_ids).chain_id()


def test_releasing_the_last_reference_removes_a_layer_and_those_below_that_nobody_holds(
    layers: MemoryLayerStore,
) -> None:
    """Top first, each reported with its sizes; a shared base stays."""
    first, again = layers.get(chain(L1, L2)), layers.get(chain(L1, L2))
    other = layers.get(chain(L1, L3))
    assert layers.release(first) == []
    removed = layers.release(again)
    assert [layer.chain_id for layer in removed] == [chain(L1, L2)]
    assert (removed[0].diff_id, removed[0].size, removed[0].diff_size) == (L2, 20, 10)
    removed = layers.release(other)
    assert [layer.chain_id for layer in removed] == [chain(L1, L3), chain(L1)]
    assert layers.references() == {}
    with pytest.raises(LayerNotFoundError) as caught:
        layers.get(chain(L1))
    assert caught.value.chain_id == chain(L1)
    with pytest.raises(LayerNotFoundError):
        layers.release(first)


def test_images_hold_references_from_create_to_delete_and_from_open(
    store_path: Path, layers: MemoryLayerStore
) -> None:
    """One for each image, not for each create; an open takes them anew."""
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        a, b = store.create(stacked("a", L1, L2)), store.create(stacked("b", L1, L2))
        assert store.create(stacked("a", L1, L2)) == a
        bare = store.create(stacked("bare"))
        assert layers.references() == {chain(L1, L2): 2}
    fresh = MemoryLayerStore()
    fresh.add([L1, L2])
    with ImageStore.open(store_path, layers=fresh, operating_system="linux") as store:
        assert fresh.references() == {chain(L1, L2): 2}
        assert store.delete(bare) == []
        assert store.delete(a) == []
        assert [layer.chain_id for layer in store.delete(b)] == [chain(L1, L2), chain(L1)]
        assert fresh.references() == {}


def test_a_failed_transaction_gives_back_what_it_took_and_releases_nothing(
    store_path: Path, layers: MemoryLayerStore
) -> None:
    """What cannot be undone is done after the commit only."""
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        kept = store.create(stacked("kept", L1, L3))
        # Releasing the last reference would remove the layers, as it does in Docker.
        builder = layers.get(chain(L1, L2))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.create(stacked("a", L1, L2))
            store.delete(kept)
            raise ZeroDivisionError
        assert layers.references() == {chain(L1, L3): 1, chain(L1, L2): 1}
        with store.transaction() as transaction:
            store.create(stacked("a", L1, L2))
            assert store.delete(kept) == []
        assert [layer.chain_id for layer in transaction.released] == [chain(L1, L3)]
        assert layers.release(builder) == []
        assert layers.references() == {chain(L1, L2): 1}


def test_an_image_whose_layers_are_missing_or_foreign_is_refused_and_leaves_nothing(
    store_path: Path, layers: MemoryLayerStore
) -> None:
    """No event, no config, no reference."""
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        with pytest.raises(LayerMissingError):
            store.create(stacked("a", L2))
        with pytest.raises(UnsupportedOSError):
            store.create(stacked("a", L1, L2, os="windows"))
        assert (store.position, layers.references()) == (0, {})
        assert list(store.verify()) == []
        store.create(stacked("bare", os="windows"))
        store.create(stacked("upper", L1, L2, os="LINUX"))


def test_images_that_lost_their_layers_are_hidden_with_a_warning_and_come_back(
    store_path: Path, layers: MemoryLayerStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of counts, search, children, map and heads; in the log; back without an event."""
    with ImageStore.open(store_path) as store:
        base = store.create(stacked("base"))
        lost = store.create(stacked("lost", L2))
        foreign = store.create(stacked("foreign", L1, os="windows"))
        store.set_parent(lost, base)
        position = store.position
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        assert caplog.text.count("leaving out") == 2
        assert list(store) == [base] == list(store.map()) == list(store.heads())
        assert (len(store), store.children(base), lost in store) == (1, [], False)
        for hidden in (lost, foreign):
            with pytest.raises(ImageNotFoundError):
                store.search(hidden)
            with pytest.raises(ImageNotFoundError):
                store.delete(hidden)
            assert next(store.records(hidden)).image_id == hidden
        assert len(store.as_of(position=position)) == 3
        layers.add([L2])
        assert store.create(stacked("lost", L2)) == lost
        assert store.position == position
        assert store.children(base) == [lost]
        assert layers.references() == {chain(L2): 1}


def test_layers_of_images_that_another_process_creates_and_deletes_are_followed(
    store_path: Path, layers: MemoryLayerStore, tmp_path: Path
) -> None:
    """References move with the next read."""
    import subprocess
    import sys

    raw = tmp_path / "config.json"
    raw.write_bytes(stacked("a", L1, L2))
    script = (
        "import sys\nfrom eventstore import ImageStore\n"
        "with ImageStore.open(sys.argv[1]) as store:\n"
        "    getattr(store, sys.argv[2])(open(sys.argv[3], 'rb').read()"
        " if sys.argv[2] == 'create' else sys.argv[3])\n"
    )
    with ImageStore.open(store_path, layers=layers, operating_system="linux") as store:
        run = [sys.executable, "-W", "ignore", "-c", script, str(store_path)]
        subprocess.run([*run, "create", str(raw)], check=True)
        assert len(store) == 1
        assert layers.references() == {chain(L1, L2): 1}
        subprocess.run([*run, "delete", id_of(raw.read_bytes())], check=True)
        assert len(store) == 0
        assert layers.references() == {}


def test_a_layer_store_may_read_the_store_that_asks_it(store_path: Path) -> None:
    """While records of another process are followed, it finds those followed so far, no damage."""
    said = run_script(
        "class Asking(MemoryLayerStore):\n"
        "    def get(self, chain_id):\n"
        "        say(store.position)\n"
        "        return super().get(chain_id)\n"
        "layers = Asking()\n"
        "layers.add(['sha256:' + '1' * 64])\n"
        "store = ImageStore.open(path, layers=layers, operating_system='linux')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    with ImageStore.open(path) as other, other.transaction():\n"
        "        for name in 'abc':\n"
        '            other.create(b\'{"os": "linux", "comment": "%s", "rootfs": {"type":'
        ' "layers", "diff_ids": ["sha256:%s"]}}\' % (name.encode(), b\'1\' * 64))\n'
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "say(len(store), store.position, sum(layers.references().values()))\n",
        store_path,
    )
    assert said == ["3", "3", "3", "3 3 3"]


def test_a_real_layerdb_has_the_layers_of_every_image_that_docker_listed(
    store_path: Path, tmp_path: Path
) -> None:
    """Sizes add up along each chain, and a store over it takes all images in."""
    root = unpack("host-a-1", tmp_path)
    layerdb = DockerLayerDB(imagedb(root).parent / "layerdb")
    with ImageStore.open(store_path, layers=layerdb, operating_system="linux") as store:
        configs = (imagedb(root) / "content" / "sha256").iterdir()
        for path in sorted(configs):
            image_id = store.create(path.read_bytes())
            chain_id = store.get(image_id).root_fs.chain_id()
            if chain_id:
                found = layerdb.metadata(chain_id)
                assert found.diff_id == store.get(image_id).root_fs.diff_ids[-1]
                assert found.size >= found.diff_size >= 0
        assert len(store) == 94
        assert store.delete(next(iter(store))) == []
    for wrong in ("nope", "", chain(L1), "sha256:../../../../etc/passwd"):
        with pytest.raises(LayerNotFoundError):
            layerdb.get(wrong)


@pytest.mark.parametrize("broken", ["diff", "size", "cache-id", "parent"])
def test_a_layer_that_docker_would_not_load_is_missing_and_so_are_those_above(
    tmp_path: Path, broken: str
) -> None:
    """Garbage in any of its files breaks the chain from there upwards."""
    folder = tmp_path / "layerdb" / "sha256"
    for above, name in ((None, chain(L1)), (chain(L1), chain(L1, L2))):
        (folder / name[7:]).mkdir(parents=True)
        (folder / name[7:] / "diff").write_text(L1 if above is None else L2)
        (folder / name[7:] / "size").write_text("7")
        (folder / name[7:] / "cache-id").write_text("cache")
        if above:
            (folder / name[7:] / "parent").write_text(above)
    assert DockerLayerDB(tmp_path / "layerdb").metadata(chain(L1, L2)).size == 14
    target = folder / chain(L1)[7:] / broken
    if broken == "cache-id":
        target.unlink()
    else:
        target.write_text("garbage")
    for name in (chain(L1), chain(L1, L2)):
        with pytest.raises(LayerNotFoundError):
            DockerLayerDB(tmp_path / "layerdb").get(name)


def test_layers_that_are_each_others_parents_end_the_walk(tmp_path: Path) -> None:
    """A hostile layerdb does not hang the reader."""
    folder = tmp_path / "layerdb" / "sha256"
    for name, parent in ((L1, L2), (L2, L1)):
        (folder / name[7:]).mkdir(parents=True)
        for file, text in (("diff", L3), ("size", "1"), ("cache-id", "c"), ("parent", parent)):
            (folder / name[7:] / file).write_text(text)
    with pytest.raises(LayerNotFoundError):
        DockerLayerDB(tmp_path / "layerdb").get(L1)


def test_a_stack_has_at_least_one_layer(layers: MemoryLayerStore) -> None:
    """An image without layers has no chain id, so nothing to add."""
    with pytest.raises(ValueError, match="at least one"):
        layers.add([])
    assert config("x", layers=2) != config("x", layers=3)
