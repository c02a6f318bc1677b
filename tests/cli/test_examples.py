"""Type every example of the help, and hold that words mean one thing in all commands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from cli_types import Command, Host
from docker_data import DATA
from eventstore import ImageStore
from eventstore.cli import examples
from eventstore.cli.main import cli
from making import config

# These end by a signal, ask a daemon, go back further than the history here, or take long.
ONLY_PARSED = {
    "follow", "follow app:1.0 --after '1 hour ago'", "sync docker:// --dry-run",
    "compact --before '90 days ago' --dry-run", "demo", "serve",
}  # fmt: skip
# What an example changes for good it asks about; whoever types it says yes.
ASKS = ("compact --before @241", "redact")
ALL = [(name, example) for name, found in examples.EXAMPLES.items() for example in found]


@pytest.fixture(scope="module")
def scene(synced: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which all is there that the examples name and do not make."""
    from eventstore.cli.main import run

    folder = tmp_path_factory.mktemp("examples")
    store = folder / "store"
    shutil.copytree(synced.path, store)
    with ImageStore.open(store) as opened:
        for name in ("app:1.0", "app:1.1"):
            opened.tag(name, opened.create(config(name)))
    shutil.copytree(store, folder / "damaged")
    (folder / "config.json").write_bytes(config("new"))
    shutil.copy(DATA / "archive-docker-save-28.5.2.tar.gz", folder / "app.tar")
    for made in (
        ["restore-image", "a18ab9d7ad45"],  # the parent of an image that an example restores
        ["keygen", "ci.example/log", "-o", f"{folder}/log.key"],
        ["checkpoint", "-o", f"{folder}/kept.txt"],
        ["prove", "app:1.0", "-o", f"{folder}/app.tlog-proof"],
        ["backup", f"{folder}/images.backup"],
        ["export", f"{folder}/records"],
    ):
        before = [] if made[0] == "keygen" else ["-s", str(store)]
        assert run([*before, *made]) == 0
    shutil.copytree(synced.roots[-1], folder / "docker")
    return folder


MAKES = {
    "backup": "images.backup", "checkpoint": "kept.txt", "keygen": "log.key",
    "prove": "app.tlog-proof", "export": "records",
}  # fmt: skip


@pytest.mark.parametrize(("name", "example"), ALL, ids=[example for _, example in ALL])
def test_an_example_does_what_it_says(
    command: Command, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, example: str,
) -> None:  # fmt: skip
    """Each is of its command, is parsed as it stands, and ends well on a real host's store."""
    words = shlex.split(example)
    assert words[0] == name
    with click.Context(cli) as above:
        cli.commands[name].make_context(name, words[1:], parent=above)
    if example in ONLY_PARSED:
        return
    folder = tmp_path / "folder"
    shutil.copytree(scene, folder, symlinks=True)
    monkeypatch.chdir(folder)
    if name in MAKES:
        made = folder / MAKES[name]
        made.rename(folder / "made before")
    words = [str(folder / "docker") if word == "/var/lib/docker" else word for word in words]
    words += ["--yes"] * example.startswith(ASKS)
    said = command("-s", folder / "store", *words)
    assert said.code == 0, said.err


def test_every_command_has_an_example_and_no_other(command: Command) -> None:
    """And its help ends with it, within 80 columns."""
    assert set(examples.EXAMPLES) == set(cli.commands)
    for name, found in examples.EXAMPLES.items():
        lines = command(name, "--help").out.rstrip().splitlines()
        assert [line.strip() for line in lines[-len(found) :]] == [
            f"eventstore {example}" for example in found
        ]
        assert max(map(len, lines)) <= 80, name


def test_the_help_lists_every_command_once_by_what_it_is_for(command: Command) -> None:
    """Nothing in it is cut, and summaries stand below each other."""
    listed = [name for section in examples.SECTIONS.values() for name in section]
    assert sorted(listed) == sorted(cli.commands)
    lines = command("--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("..." in line for line in lines[1:])
    for section in examples.SECTIONS.values():
        for name, summary in section.items():
            assert f"  {name:<15}{summary}" in lines


@pytest.mark.parametrize("word", examples.MEANINGS)
def test_a_word_is_explained_wherever_it_is_taken_and_nowhere_else(
    command: Command, word: str
) -> None:
    """In the same sentence."""
    sentence = examples.MEANINGS[word]
    explained = 0
    for name in cli.commands:
        said = command(name, "--help").out
        takes = re.search(rf"\b{word}\b", said.split(f"{word} is ")[0]) is not None
        is_explained = sentence in re.sub(r"\s+", " ", said)
        assert takes == is_explained, (name, word)
        explained += is_explained
    assert explained


def test_options_for_moments_take_when(command: Command) -> None:
    """Whatever an option for a moment is called, its value is WHEN or, where no log is, TIME."""
    moments = {"--at", "--since", "--until", "--after", "--through", "--before", "--time"}
    for name, found in cli.commands.items():
        for parameter in found.params:
            files = name == "audit"  # --since is an earlier checkpoint there
            if moments & set(parameter.opts) and not files:
                assert parameter.metavar in ("WHEN", "TIME"), (name, parameter.opts)


@pytest.mark.parametrize("words", [["redact", "-y", "-m", "x"], ["prove"], ["log"], ["show"]])
def test_an_image_is_named_alike_everywhere(command: Command, host: Host, words: list[str]) -> None:
    """By a name as well as by the start of an id."""
    name, *options = words
    assert command(name, "bk/app:1", *options, "-s", host.path).code == 0
