"""Fill a store and a source with text that steers terminals, run every command, look at the bytes.

All commands run in two processes, one whose standard streams are a terminal, one with pipes. What
comes out may be visible characters, ends of lines and the command's own colours.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from archive_making import MANIFEST_TYPE, archive, descriptor, layout, manifest_of, member, saved
from attacking import TOOLS
from docker_data import imagedb, unpack
from docker_stand_in import StandIn, exported
from eventstore import ImageStore, notes, proof_file
from eventstore.cli.main import cli
from eventstore.cli.output import json_text, printable, steers
from eventstore.lmdb_env import Environment
from eventstore.lmdb_transaction import Transaction
from making import config, id_of
from store import children

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x1b[31m"
EVIL = (
    ESCAPE + "\x9b31m\x90\x9d\x7f\b\r\nforged\t\u202eevil\u2066\u2028\u2029\u200b\u200d\ufeff"
    "\u00ad\u2060\u3164\u034f\ue000\ufdd0\U000e0041\U000e0100[bold]"
)
ARGUMENT = ESCAPE + "\u009b31m\u202e\x7f" + os.fsdecode(b"\xff")
DRIVER = """
import json, sys
sys.path.append(sys.argv[3])
if sys.argv[2]:
    import fuzz_weakenings
    fuzz_weakenings.weaken(sys.argv[2])
from eventstore.cli.main import run
for arguments in json.load(open(sys.argv[1])):
    code = run(arguments)
    for stream in (sys.stderr, sys.stdout):
        stream.flush()
    print("=== ended with", code, flush=True)
"""


@dataclass(frozen=True)
class Scene:
    """A hostile store and source, and all command lines that are tried on them."""

    store: Path
    commands: list[list[str]]


def evil_config() -> bytes:
    """Return a config that holds hostile text wherever it may hold text."""
    run_config = {
        "User": EVIL, "Entrypoint": [EVIL], "Cmd": [EVIL], "WorkingDir": EVIL, "Env": [EVIL],
        "ExposedPorts": {EVIL: {}}, "Volumes": {EVIL: {}}, "StopSignal": EVIL,
        "Labels": {EVIL: EVIL, "half": "\ud800"},
    }  # fmt: skip
    value = {
        "comment": EVIL, "author": EVIL, "architecture": EVIL, "variant": EVIL, "os": EVIL,
        "docker_version": EVIL, "os.version": EVIL, "config": run_config, EVIL: EVIL,
        "container": EVIL, "history": [{"created_by": EVIL, "comment": EVIL}],
        "rootfs": {"type": EVIL, "diff_ids": [EVIL, "\ud800"]},
    }  # fmt: skip
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    huge = b'"huge": %s, "far": 1e999999, "half": "\\ud800", ' % (b"9" * 5000)
    return b"{" + huge + b'"bytes": "\xff\xe2\x82", ' + text[1:]


def evil_archive() -> bytes:
    """Return an archive whose names, of members, images and types, are hostile."""
    raw, manifest = evil_config(), manifest_of(evil_config(), layers=2)
    annotations = {"io.containerd.image.name": EVIL}
    named = [
        descriptor(manifest, MANIFEST_TYPE, annotations=annotations),
        descriptor(manifest, EVIL),
        descriptor(manifest, MANIFEST_TYPE) | {"digest": EVIL},
    ]
    saved_too = saved({"Config": EVIL, "RepoTags": [EVIL], "Parent": EVIL})
    text = "".join(sign for sign in EVIL if sign >= " ")
    members = (member(f"/{text}"), member(text, kind=b"2", to=text), member(text, kind=b"3"))
    return archive(layout(named, manifest, raw) | saved_too, *members)


def damage(store_path: Path) -> None:
    """Lay a snapshot into a store that does not check, so that opening it gives a warning."""

    def put(txn: Transaction) -> None:
        txn.put("snapshots", (2).to_bytes(8, "big") + bytes(4), b"no header")

    environment = Environment(store_path)
    environment.write(put)
    environment.close()


def evil_proof(folder: Path, store_path: Path) -> None:
    """Write a proof and a checkpoint that are sound, and whose names are hostile."""
    text = "".join(sign for sign in EVIL if sign >= " ")
    key = notes.SigningKey("".join(text.split()).replace("+", ""), bytes(32))
    with ImageStore.open(store_path, read_only=True) as store:
        record, checkpoint = next(store.records()), store.checkpoint()
        path = tuple(store.inclusion_proof(1))
        origin = f"{text}/{store.store_id}"
    note = notes.signed(notes.Note(notes.LogCheckpoint(origin, checkpoint).text), key)
    (folder / "evil.note").write_bytes(note.encode())
    proof = proof_file.ProofFile(1, path, note, record.raw)
    (folder / "evil.proof").write_bytes(proof.encode())
    (folder / "evil.vkey").write_text(key.verifier.text)


def evil_root(folder: Path) -> None:
    """Make a root of containers/storage whose list is hostile, and one whose driver is."""
    images = folder / "root" / "vfs-images"
    images.mkdir(parents=True)
    entries = [{"id": EVIL, "names": [EVIL]}, {"id": "7" * 64, "names": [EVIL, "app"]}]
    (images / "images.json").write_text(json.dumps(entries))
    for driver in ("a", ARGUMENT):
        (folder / "two" / f"{driver}-images").mkdir(parents=True)
        (folder / "two" / f"{driver}-images" / "images.json").write_text(EVIL)


def answer_evil(daemon: StandIn) -> None:
    """Let a daemon answer with hostile text wherever there may be text."""
    names = {"RepoTags": [EVIL], "RepoDigests": [EVIL + "@x"]}
    bad = config("bad")
    daemon.have(id_of(bad), exported(id_of(bad), bad), parent=EVIL, time=EVIL, **names)
    daemon.have("sha256:" + "7" * 64, b"", **names)
    daemon.say(f"/images/sha256:{'7' * 64}/get", {"message": EVIL}, 500)
    daemon.have(EVIL, b"")


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    """Return a hostile daemon; the path of a socket may have 107 bytes only."""
    with TemporaryDirectory(prefix="daemon-") as folder, StandIn(Path(folder) / "s") as found:
        answer_evil(found)
        yield found


@pytest.fixture
def scene(tmp_path: Path, daemon: StandIn) -> Scene:
    """Make everything hostile, names of files too."""
    # LMDB itself opens no path that is not UTF-8.
    folder = tmp_path / ARGUMENT[:-1]
    folder.mkdir()
    store_path = folder / "store"
    with ImageStore.open(store_path, actor=EVIL, operating_system=EVIL) as store:
        image_id = store.create(evil_config(), reason=EVIL)
        gone = store.create(config("gone"), reason=EVIL)
        store.set_parent(image_id, gone)
        store.set_last_updated(image_id)
        store.tag("app", image_id, reason=EVIL)
        store.delete(gone)
    damage(store_path)
    source = unpack("host-a-1", folder)
    content = imagedb(source) / "content" / "sha256"
    for name in (b"\xff\xfe", b"\x1b[2J", b"new\nline", b"\xe2\x80\xaeevil", b"\xc2\x9b31m"):
        (Path(os.fsdecode(os.fsencode(content) + b"/" + name))).write_bytes(b"")
    bad = b'{"rootfs": {}, "created": "\\u001b[2J\\u202e", "x\x7f": 1}'
    (content / id_of(bad)[7:]).write_bytes(bad)
    (folder / "bad.json").write_bytes(bad)
    (folder / "evil.json").write_bytes(evil_config())
    (folder / "evil.tar").write_bytes(evil_archive())
    evil_proof(folder, store_path)
    evil_root(folder)
    hosts = [["sync", place, "--dry-run"] for place in (str(folder / "root"), daemon.address)]
    commands = [*command_lines(folder, image_id, gone), *hosts]
    return Scene(store_path, [["-s", str(store_path), *arguments] for arguments in commands])


def command_lines(folder: Path, image_id: str, gone: str) -> list[list[str]]:
    """Return command lines for every command, and for its errors."""
    source = str(folder / "host-a-1")
    note, proof = str(folder / "evil.note"), str(folder / "evil.proof")
    key = ["--key", (folder / "evil.vkey").read_text()]
    proving = [
        ["audit", "--since", note], ["audit", "--since", note, *key], ["check", proof, *key],
        ["check", proof, "--checkpoint", note],
    ]  # fmt: skip
    reading = [
        *proving,
        ["ls"], ["ls", "-a"], ["tree"], ["tree", image_id], ["show", image_id], ["log"],
        ["log", image_id], ["log", "--reverse", "-n", "2"], ["diff", "@0"], ["diff", "@1", "@2"],
        ["search", image_id], ["search", "--all", gone], ["verify"], ["info"],
        ["ls", "--at", "@1"], ["show", "--at", "@1", image_id],
        ["log", "--tag", "app"], ["show", "app"], ["blame", image_id], ["blame", gone],
        ["bisect", "--there", image_id], ["bisect", "--gone", gone], ["bisect", "--named", "app"],
    ]  # fmt: skip
    wrong = [
        ["show", ARGUMENT], ["show", gone], ["show"], ["search", ARGUMENT], ["log", ARGUMENT],
        ["ls", "--at", ARGUMENT], ["ls", "--at", EVIL], ["diff", ARGUMENT, ARGUMENT],
        ["touch", image_id, "--time", ARGUMENT], ["rm", ARGUMENT], ["mark-built", ARGUMENT],
        ["set-parent", image_id, ARGUMENT], ["set-parent", image_id], ["log", "-n", ARGUMENT],
        [ARGUMENT], ["ls", ARGUMENT], ["ls", "--" + ARGUMENT], ["show", "--raw", ARGUMENT],
        ["create", str(folder / "bad.json")], ["create", str(folder / ARGUMENT)],
        ["sync", str(folder / ARGUMENT)], ["sync", str(folder)], ["sync", ARGUMENT],
        ["sync", str(folder / "two")], ["sync", str(folder / "two" / "a-images")],
        ["sync", "docker://" + ARGUMENT], ["sync", "docker:///" + ARGUMENT],
        ["rm", image_id, "--actor", ARGUMENT], ["rm", image_id, "-m", ARGUMENT],
        ["backup", str(folder / "store")], ["info", "-s", str(folder / ARGUMENT)],
        ["sync", source, "--os", EVIL, "--dry-run"], ["--help"], ["ls", "--help"], [],
        ["tag", ARGUMENT, image_id], ["tag", "app", ARGUMENT], ["untag", ARGUMENT],
        ["undo", ARGUMENT], ["undo", "@1", "--dry-run"], ["restore-image", ARGUMENT],
        ["untag", "never"], ["blame", ARGUMENT], ["bisect", "--gone", ARGUMENT],
        ["log", "--tag", ARGUMENT], ["follow", ARGUMENT], ["follow", "--after", ARGUMENT],
        ["sync", ARGUMENT, "--watch"],
        ["restore", ARGUMENT, ARGUMENT], ["salvage", ARGUMENT, ARGUMENT],
        ["keygen", ARGUMENT], ["keygen", "k", "-o", note], ["checkpoint"], ["prove", "@1"],
        ["checkpoint", "--sign", note], ["checkpoint", "--at", ARGUMENT], ["prove", ARGUMENT],
        ["check", ARGUMENT, *key], ["check", note, *key], ["check", proof, "--key", ARGUMENT],
        ["audit", "--since", ARGUMENT], ["audit", "--since", proof], ["export-tiles", note],
    ]  # fmt: skip
    writing = [
        ["sync", source, "--os", "linux", "--dry-run", "--allow-mass-delete"],
        ["snapshot"], ["backup", str(folder / f"backup {len(ARGUMENT)}{ARGUMENT}")],
        ["create", str(folder / "evil.json"), "--actor", EVIL, "-m", EVIL],
        ["mark-built", image_id, "-m", EVIL], ["touch", image_id, "--time", "2 hours ago"],
        ["tag", "app", image_id, "-m", EVIL], ["untag", "app", "-m", EVIL],
        ["set-parent", image_id, "--none"], ["log", "-n", "3"], ["demo"], ["completion", "bash"],
        ["restore", str(folder / "copy"), str(folder / f"restored {len(ARGUMENT)}{ARGUMENT}")],
        ["salvage", str(folder / "store"), str(folder / f"salvaged {len(ARGUMENT)}{ARGUMENT}")],
        ["export", str(folder / f"exported {len(ARGUMENT)}{ARGUMENT}")], ["export", ARGUMENT],
        ["export", str(folder / f"images {len(ARGUMENT)}{ARGUMENT}"), "--as", "docker-imagedb"],
        ["check-export", str(folder / f"exported {len(ARGUMENT)}{ARGUMENT}")],
        ["check-export", ARGUMENT], ["import", ARGUMENT], ["import", str(folder)],
        ["import", str(folder / "evil.tar"), "-m", EVIL], ["import", ARGUMENT, "--platform", EVIL],
        ["import", str(folder / "evil.tar"), "--json"], ["import", str(folder / "evil.json")],
        ["import", str(folder / f"exported {len(ARGUMENT)}{ARGUMENT}")],
        ["restore-image", gone, "-m", EVIL], ["undo", "@1"], ["undo", "@1", "--only"],
        ["report", ARGUMENT], ["report", ARGUMENT], ["report", ARGUMENT, "--since", ARGUMENT],
        ["report", str(folder / "page.html"), "--title", EVIL], ["serve", "--port", ARGUMENT],
    ]  # fmt: skip
    as_json = [
        [*arguments, "--json"]
        for arguments in (*reading, writing[0], writing[1], ["backup", str(folder / "copy")])
    ]
    last = [["compact", "--before", "@2", "--dry-run"], ["compact", "--before", "@2", "-y"],
            ["compact", "--before", "@1", "-y", "--json"], ["log"], ["info"]]  # fmt: skip
    last += [["redact", image_id, "-m", EVIL, "-y"], ["show", image_id], ["rm", image_id]]
    return [*reading, *wrong, *as_json, *writing, *last]


def hidden(text: str) -> list[str]:
    """Return what of a text is neither visible, nor an end of a line, nor a colour."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.replace("\r\n", "\n"))
    return [
        ascii(character)
        for character in plain.replace("\n", "")
        if unicodedata.category(character)[0] in "CZ" and unicodedata.category(character) != "Zs"
    ]


def driven(scene: Scene, weaken: str, *, terminal: bool) -> list[str]:
    """Run all commands in a process and return what each printed, its errors too."""
    listed = scene.store.parent / "commands.json"
    listed.write_text(json.dumps(scene.commands))
    command = [sys.executable, "-P", "-c", DRIVER, str(listed), weaken, str(TOOLS)]
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE, "TERM": "xterm-256color"}
    environment["EVENTSTORE_PAGER"] = "cat"
    for name in ("NO_COLOR", "COLUMNS", "EVENTSTORE_PATH"):
        environment.pop(name, None)
    start = partial(subprocess.Popen, command, env=environment, cwd=scene.store.parent)
    if not terminal:
        with start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            said = process.communicate(timeout=120)[0]
    else:
        said = on_a_terminal(start)
    assert said.count(b"=== ended with") == len(scene.commands)
    return re.split(r"=== ended with \d+\r?\n", said.decode("utf-8"))[:-1]


def on_a_terminal(start: partial[subprocess.Popen[bytes]], interrupt_after: bytes = b"") -> bytes:
    """Run a process on a terminal and return what came out; interrupt it once it has said that."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = start(stdin=child, stdout=child, stderr=child)
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 65536):
            said += part
            if interrupt_after and interrupt_after in said:
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
    except OSError:
        pass  # Linux says EIO when the other end has gone.
    os.close(parent)
    process.wait()
    return said


def test_every_command_is_tried(scene: Scene) -> None:
    """A new command has to be added here."""
    tried = {arguments[2] for arguments in scene.commands if len(arguments) > 2}
    assert set(cli.commands) <= tried


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_no_command_lets_anything_through(scene: Scene, terminal: bool) -> None:
    """On a terminal and into a pipe, in tables, in lines, in JSON, in errors and in warnings."""
    for arguments, said in zip(scene.commands, driven(scene, "", terminal=terminal), strict=True):
        assert said, arguments
        assert hidden(said) == [], arguments
        assert "\nforged" not in said.replace("\r\n", "\n"), arguments
        assert "Traceback" not in said, arguments
        assert "a defect of eventstore" not in said, arguments


@pytest.mark.slow
def test_raw_output_is_found_out(scene: Scene) -> None:
    """Were texts printed as they are, these tests would say so."""
    caught = [said for said in driven(scene, "raw-output", terminal=True) if hidden(said)]
    assert len(caught) > 20


def test_raw_bytes_go_into_a_pipe_and_not_to_a_terminal(scene: Scene) -> None:
    """`show --raw` is exact, so it is refused where the bytes would be obeyed."""
    with ImageStore.open(scene.store, read_only=True) as store:
        image_id = next(iter(store))
    command = [sys.executable, "-P", "-m", "eventstore", "-s", str(scene.store), "show", "--raw"]
    command.append(image_id)
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
    piped = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert piped.stdout == evil_config()
    said = on_a_terminal(partial(subprocess.Popen, command, env=environment)).decode()
    assert hidden(said) == []
    assert "send --raw to a file or a pipe" in said


def test_following_lets_nothing_through(scene: Scene) -> None:
    """The stream of new records is printed as the old ones are."""
    command = [sys.executable, "-P", "-m", "eventstore", "-s", str(scene.store), "log", "-f"]
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
    start = partial(subprocess.Popen, command, env=environment)
    said = on_a_terminal(start, interrupt_after=b"created").decode()
    assert "created" in said
    assert hidden(said) == []


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x200F, 0x2028])
def test_characters_that_steer_are_shown_as_escapes(code: int) -> None:
    """C0, DEL, C1, direction, width nothing: for people as Python writes them, in JSON as JSON."""
    character = chr(code)
    assert hidden(printable(character)) == []
    assert json.loads(json_text({character: character})) == {character: character}
    assert hidden(json_text({character: character})) == []
    assert steers(f'"{character}"'.encode()) == (character != "\n")


def test_characters_beyond_16_bits_are_two_escapes_in_json() -> None:
    """As JSON has it; lone halves and bytes that are no UTF-8 keep their name."""
    assert json_text({"a": "\U000e0041"}) == '{"a":"\\udb40\\udc41"}'
    assert json_text({"a": "\ud800é"}) == '{"a":"\\\\ud800é"}'
