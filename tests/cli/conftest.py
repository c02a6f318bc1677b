"""A store that holds three moments of a real Docker host, and a way to run the command on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli_types import Command, Host, Said
from docker_data import unpack
from eventstore import ImageStore
from eventstore.cli.main import run


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the command in this process."""
    monkeypatch.delenv("EVENTSTORE_PATH", raising=False)

    def call(*arguments: str | Path) -> Said:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Sync three moments of one host into a store, once."""
    folder = tmp_path_factory.mktemp("synced")
    roots, ends = [], []
    for name in ("host-a-1", "host-a-2", "host-a-3"):
        roots.append(unpack(name, folder))
        code = run(["-s", str(folder / "store"), "sync", str(roots[-1]), "--actor", "root@host-a"])
        assert code == 0
        with ImageStore.open(folder / "store") as store:
            ends.append(store.position)
    return Host(folder / "store", roots, ends)


@pytest.fixture
def host(synced: Host, tmp_path: Path) -> Host:
    """Return a copy of that store, to be changed."""
    path = tmp_path / "copy"
    shutil.copytree(synced.path, path)
    return Host(path, synced.roots, synced.ends)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Return a file with an image config."""
    path = tmp_path / "config.json"
    path.write_text('{"os": "linux", "rootfs": {"type": "layers"}}')
    return path
