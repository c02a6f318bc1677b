"""Complete image ids and names in the shell: what is offered, and that nothing is ever printed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_types import Command
from eventstore import ImageStore
from making import config, id_of
from store.children import PACKAGE

A, B, C = (id_of(config(name)) for name in "abc")


@pytest.fixture
def path(store_path: Path) -> Path:
    """Return a store with two images that have names, and one that was deleted."""
    with ImageStore.open(store_path) as store:
        for name in "abc":
            store.create(config(name))
        store.tag("app:1.0", A)
        store.tag("app:1.1", B)
        store.tag("web", A)
        store.delete(C)
    return store_path


def offered(
    command: Command, monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[list[str], str]:
    """Return what is offered for the last of some words, and what is complained of."""
    line = " ".join(["eventstore", *map(str, words)])
    with monkeypatch.context() as patch:
        patch.setenv("_EVENTSTORE_COMPLETE", "bash_complete")
        patch.setenv("COMP_WORDS", line)
        patch.setenv("COMP_CWORD", str(len(words)))
        said = command()
    assert said.code == 0
    return [text.removeprefix("plain,") for text in said.lines if text], said.err


def test_names_and_ids_are_offered(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images that are there, and of deleted ones where those can be asked for."""
    present = ["app:1.0", "app:1.1", "web:latest", *sorted([A[7:19], B[7:19]])]
    for words, expected in (
        (("rm", ""), present),
        (("rm", "app"), ["app:1.0", "app:1.1"]),
        (("rm", A[7:11]), [A[7:19]]),
        (("rm", A[7:11].upper()), [A[7:19]]),
        (("rm", C[7:11]), []),
        (("show", C[7:11]), [C[7:19]]),
        (("untag", "w"), ["web:latest"]),
        (("log", "--tag", "app:1.1"), ["app:1.1"]),
        (("bisect", "--gone", C[7:11]), [C[7:19]]),
    ):
        found, complaint = offered(command, monkeypatch, "-s", path, *words)
        assert (found, complaint) == (expected, ""), words
        name, *rest = words
        found, _ = offered(command, monkeypatch, name, "-s", path, *rest)
        assert found == expected, words


def test_commands_and_options_are_offered(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a store as well."""
    assert offered(command, monkeypatch, "comp") == (["compact", "completion"], "")
    found, _ = offered(command, monkeypatch, "compact", "--b")
    assert found == ["--before"]


@pytest.mark.parametrize("store", ["/nowhere", "/etc", "new", "/dev/null"])
def test_without_a_store_nothing_is_offered_and_nothing_said(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: str
) -> None:
    """An error would go into the line that somebody is typing."""
    store = str(tmp_path / "x" / "y") if store == "new" else store
    assert offered(command, monkeypatch, "-s", store, "show", "4") == ([], "")
    monkeypatch.delenv("EVENTSTORE_PATH", raising=False)
    assert offered(command, monkeypatch, "show", "4") == ([], "")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(command: Command, shell: str) -> None:
    """With the command's own name in it."""
    said = command("completion", shell)
    assert said.code == 0
    assert "_EVENTSTORE_COMPLETE" in said.out
    assert command("completion", "tcsh").code == 2
    assert "Choose from: bash, zsh, fish" in command("completion").err


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_a_name_with_a_colon(path: Path, tmp_path: Path) -> None:
    """A real bash, which would take it for three words."""
    script = tmp_path / "bin" / "eventstore"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m eventstore "$@"\n')
    script.chmod(0o755)
    typed = (
        'eval "$(eventstore completion bash)"; COMP_WORDS=(eventstore show app:1.); COMP_CWORD=2;'
        ' _eventstore_completion eventstore; echo "${COMPREPLY[@]}"; echo "$COMP_WORDBREAKS"'
    )
    environment = {
        **os.environ,
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": PACKAGE,
        "EVENTSTORE_PATH": str(path),
    }
    done = subprocess.run(
        ["bash", "-c", typed], check=True, capture_output=True, text=True, env=environment
    )
    first, *rest = done.stdout.splitlines()
    assert first == "app:1.0 app:1.1"
    assert ":" not in "".join(rest)
