"""Run a real Docker daemon, and hold what is read over its socket to its own answers and files."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import docker
from docker_data import Facts, instant, known
from eventstore import ImageStore, SourceError, references
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.finding import find
from eventstore.sync import configs_in, sync

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("dockerd") is None, reason="dockerd, and root's rights"
    ),
]
SECONDS_TO_START = 30


@dataclass
class Daemon:
    """A daemon of the test's own, with no network and no images."""

    folder: Path
    process: subprocess.Popen[bytes]
    client: Any

    @property
    def address(self) -> str:
        """Return what `sync` takes it by."""
        return f"docker://{self.folder / 's'}"

    def build(self, steps: str, name: str) -> None:
        """Build an image with the classic builder, which makes parents."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, content in (("Dockerfile", f"FROM scratch\n{steps}\n"), ("file", name)):
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
        packed.seek(0)
        said = list(self.client.build(fileobj=packed, custom_context=True, tag=name, decode=True))
        assert not any("error" in line for line in said), said

    def listed(self) -> Facts:
        """Return what it answers: parents and last tag times by id."""
        facts: Facts = {}
        for image in self.client.images(all=True):
            told = self.client.inspect_image(image["Id"])
            facts[told["Id"]] = (told["Parent"] or None, instant(told["Metadata"]["LastTagTime"]))
        return facts

    def names(self) -> dict[str, str]:
        """Return its names."""
        return {
            references.canonical(name): image["Id"]
            for image in self.client.images(all=True)
            for name in (image["RepoTags"] or []) + (image["RepoDigests"] or [])
            if "<none>" not in name
        }


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Start one; skip where the machine does not let it run."""
    with TemporaryDirectory(prefix="dockerd-") as folder:
        path = Path(folder)
        places = ("--data-root", path / "root", "--exec-root", path / "exec", "-p", path / "pid")
        alone = ("--storage-driver", "vfs", "--bridge", "none", "--iptables=false")
        command = ["dockerd", "-H", f"unix://{path / 's'}", *places, *alone, "--ip6tables=false"]
        with (
            open(path / "log", "wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                client = connected(path / "s", process)
                try:
                    yield Daemon(path, process, client)
                finally:
                    client.close()
            finally:
                process.terminate()
                process.wait()


def connected(path: Path, process: subprocess.Popen[bytes]) -> Any:
    """Return a client as soon as the daemon answers."""
    end = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and time.monotonic() < end:
        if path.exists():
            client = docker.APIClient(f"unix://{path}", "1.41")
            try:
                client.ping()
            except (docker.errors.DockerException, OSError):
                client.close()
            else:
                return client
        time.sleep(0.1)
    return pytest.skip("dockerd does not start here")


def test_what_is_read_is_what_the_daemon_lists_and_has_on_disk(
    daemon: Daemon, store: ImageStore
) -> None:
    """Ids, parents, last tag times, names, configs to the byte; then after changes; then gone."""

    def take_over() -> None:
        found = find(daemon.address).read(config_of=configs_in(store))
        report = sync(store, found.images, found.passed_over, names=found.names)
        assert report.passed_over == []
        assert known(store.view()) == daemon.listed()
        assert store.tags() == daemon.names()
        on_disk = DockerImageDB.find(daemon.folder / "root").read(operating_system="linux")
        assert {image.image_id: image.config for image in on_disk.images} == {
            image_id: store.get(image_id).raw_json for image_id in store
        }

    assert find(daemon.address).read().images == []
    daemon.build("COPY file /a\nLABEL a=b\nCOPY file /c", "app:1")
    daemon.build('COPY file /a\nENV X=1\nCMD ["/a"]', "localhost:5000/team/app:2")
    daemon.client.tag("app:1", "localhost:5000/again", "x")
    take_over()
    before, parents = set(store), [store.get_parent(image_id) for image_id in store]
    assert len(before) >= 6
    assert sum(parent is not None for parent in parents) >= 4
    daemon.build("COPY file /d", "app:1")
    daemon.client.remove_image("localhost:5000/team/app:2")
    take_over()
    assert before - set(store)
    assert set(store) - before
    daemon.process.terminate()
    daemon.process.wait()
    position = store.position
    with pytest.raises(SourceError):
        find(daemon.address).read(config_of=configs_in(store))
    assert store.position == position
