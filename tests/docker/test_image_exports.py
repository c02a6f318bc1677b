"""Give the databases of real Docker daemons back, and hold them to what they were, file by file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from docker_data import CRASHES, DAMAGED, HOSTS, imagedb, unpack
from eventstore import ImageStore
from eventstore.image_export import export_images
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sync import sync

umoci = pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not here")
skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not here")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return names and bytes of what a daemon keeps of images, layers apart."""
    paths = [path for path in folder.joinpath("imagedb").rglob("*") if path.is_file()]
    paths.append(folder / "repositories.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def take_over(store: ImageStore, folder: Path) -> int:
    """Sync a database into a store and return the position then."""
    found = DockerImageDB.find(folder).read(operating_system="linux")
    sync(store, found.images, names=found.names, allow_mass_delete=True)
    return store.position


@pytest.mark.parametrize("name", HOSTS)
def test_a_database_comes_back_byte_for_byte(store: ImageStore, tmp_path: Path, name: str) -> None:
    """Every file of it, none besides, with Docker's own modes."""
    source = imagedb(unpack(name, tmp_path)).parent
    take_over(store, source)
    found = export_images(store, tmp_path / "out", form="docker-imagedb")
    assert (found.images, found.left_out) == (len(store), ())
    assert files_of(tmp_path / "out") == files_of(source)
    modes = {oct(path.stat().st_mode & 0o777) for path in tmp_path.joinpath("out").rglob("*")}
    assert modes == {"0o700", "0o600"}


def test_every_moment_of_a_host_comes_back_out_of_one_store(
    store: ImageStore, tmp_path: Path
) -> None:
    """Four moments, synced one after the other, each as it was, whatever came later."""
    then = {}
    for name in HOSTS:
        source = imagedb(unpack(name, tmp_path)).parent
        then[take_over(store, source)] = files_of(source)
    for position, files in then.items():
        export_images(store, tmp_path / str(position), form="docker-imagedb", as_of=position)
        assert files_of(tmp_path / str(position)) == files


@pytest.mark.parametrize("name", [*CRASHES, DAMAGED])
def test_of_a_damaged_database_comes_back_what_docker_lists(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    """Read again, it gives the same images, parents, marks, times and names, and no finding."""
    source = imagedb(unpack(name, tmp_path)).parent
    before = DockerImageDB.find(source).read(operating_system="linux")
    take_over(store, source)
    export_images(store, tmp_path / "out", form="docker-imagedb")
    shutil.copytree(source / "layerdb", tmp_path / "out" / "layerdb")
    after = DockerImageDB.find(tmp_path / "out").read(operating_system="linux")
    assert after.images == before.images
    listed = {image.image_id for image in before.images}
    names = {name: image for name, image in (before.names or {}).items() if image in listed}
    assert (after.names, after.passed_over) == (names, [])


def _said_by(*command: object) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


@umoci
@skopeo
def test_tools_that_are_not_ours_open_three_moments(store: ImageStore, tmp_path: Path) -> None:
    """They list the same names, and read the very configs and layers."""
    moments = [take_over(store, imagedb(unpack(name, tmp_path)).parent) for name in HOSTS[:3]]
    for position in moments:
        out = tmp_path / str(position)
        export_images(store, out, form="oci-layout", as_of=position)
        tags, view = store.tags(position), store.as_of(position=position)
        listed = _said_by("umoci", "ls", "--layout", out).split()
        assert sorted(listed) == sorted(tags)
        for name in list(tags)[:: max(len(tags) // 8, 1)]:
            image = view.get(tags[name])
            place = f"oci:{out}:{name}"
            assert _said_by("skopeo", "inspect", "--raw", "--config", place).encode() == (
                image.raw_json
            )
            inspected = json.loads(_said_by("skopeo", "inspect", place))
            assert tuple(inspected["Layers"]) == image.root_fs.diff_ids
            said = json.loads(_said_by("umoci", "stat", "--json", "--image", f"{out}:{name}"))
            layers = [step["layer"]["digest"] for step in said["history"] or () if step["layer"]]
            assert tuple(layers) == image.root_fs.diff_ids
