"""Look at what comes out on terminals of several widths, in pipes, with colours and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli_types import Command, Host
from eventstore import ImageStore
from eventstore.cli import layout, naming
from making import id_of
from terminals import screen

COMMANDS = [
    ["ls"], ["ls", "-a"], ["ls", "--at", "@241"], ["tree"], ["log"], ["log", "bk/app:1"],
    ["diff", "@241"], ["diff", "@0", "@271"], ["show", "bk/app:1"], ["blame", "bk/app:1"], ["info"],
    ["verify"], ["search", "bk/app:1"], ["bisect", "--there", "bk/app:1"],
]  # fmt: skip
LONG = "registry.example.com/some/very/long/path/of/a/team/that/names/things:1.0.0-rc.1"
# Both configs have an id that begins with these twelve digits: a birthday among 48 bits.
ALIKE = tuple(
    b'{"comment": "%s", "rootfs": {"type": "layers"}}' % comment
    for comment in (b"f6e81d8cf65f", b"1ee6b133bdd0")
)
DIGITS = "4c15c1738f17"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def long(synced: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with long names, wide characters, and ids that look alike."""
    path = tmp_path_factory.mktemp("long") / "store"
    with ImageStore.open(path, actor="someone@a-host-with-a-long-name.example.com") as store:
        first, second = map(store.create, ALIKE)
        store.set_parent(second, first, reason="because " * 30)
        for name in (LONG, LONG + ".2", f"short@{id_of(b'registry')}"):
            store.tag(name, second)
        step = f'{{"history": [{{"created_by": "{"漢字" * 60}", "empty_layer": true}}],'
        store.create(f'{step} "rootfs": {{"type": "layers"}}}}'.encode())
    return path


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_line_is_wrapped_on_a_real_host(synced: Host, command: list[str], columns: int) -> None:
    """All commands, in both widths; the columns of a table stand below each other."""
    said = screen(["-s", synced.path, *command], columns=columns)
    lines = said.plain.splitlines()
    reasons = [line for line in lines if "  sync of " in line]
    assert lines
    assert max(len(line) for line in lines if line not in reasons) <= columns
    if lines[0].startswith("IMAGE ID"):
        starts = [match.start() for match in re.finditer(r"(?<!^)(?<=  )\S", lines[0])]
        for line in lines[1:]:
            assert all(line[at - 1 : at].strip() == "" for at in starts if at < len(line)), line


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_long_names_do_not_push_a_table_off_the_terminal(long: Path, columns: int) -> None:
    """Nor do wide characters, which take two columns; what was cut is marked."""
    for command in (["ls", "-a"], ["tree"], ["blame", id_of(ALIKE[1])], ["diff", "@0"]):
        for line in screen(["-s", long, *command], columns=columns).plain.splitlines()[1:]:
            if columns >= 80 or command[0] in ("tree", "diff"):
                assert layout._cells(line) <= columns, (command, line)
    assert "…" in screen(["-s", long, "ls"], columns=80).plain


def test_what_is_less_needed_is_left_out_before_anything_is_cut(synced: Host, long: Path) -> None:
    """UPDATED, then BUILT; on a wide terminal and in a pipe they are there."""
    narrow = screen(["-s", long, "ls"], columns=80).plain.splitlines()[0]
    assert re.split("  +", narrow) == ["IMAGE ID", "AGE", "PLATFORM", "LAYERS", "PARENT", "NAMES"]
    wide = screen(["-s", synced.path, "ls"], columns=200).plain.splitlines()[0]
    headings = ["IMAGE ID", "AGE", "PLATFORM", "LAYERS", "UPDATED", "PARENT", "BUILT", "NAMES"]
    assert re.split("  +", wide) == headings


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_pipe_gets_everything_plain(
    synced: Host, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No colour, nothing cut; what the wide terminal shows is the same but for ages and colours."""
    from eventstore.cli.main import run

    assert run(["-s", str(synced.path), *command]) == 0
    piped = capsys.readouterr().out
    assert "\x1b" not in piped
    assert "…" not in piped
    wide = screen(["-s", synced.path, *command], columns=1000).plain
    assert wide == piped or command[0] in ("ls", "tree")  # ages may have moved on
    assert [line.split()[:1] for line in wide.splitlines()] == [
        line.split()[:1] for line in piped.splitlines()
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_id_has_one_colour_everywhere(synced: Host, command: list[str]) -> None:
    """Short ids are yellow in every listing; with NO_COLOR nothing has a colour."""
    said = screen(["-s", synced.path, *command], columns=200)
    coloured = re.findall(r"\x1b\[([0-9;]*)m([0-9a-f]{12})(?=\x1b)", said.text)
    assert all(codes.split(";")[-1] == "33" for codes, _ in coloured)
    assert coloured or command[0] in ("show", "blame", "info", "verify", "search")
    bare = screen(["-s", synced.path, *command], columns=200, environment={"NO_COLOR": "1"})
    codes = {code for found in COLOUR.findall(bare.text) for code in found[2:-1].split(";")}
    assert codes <= {"", "0", "1", "2"}
    dumb = screen(["-s", synced.path, *command], columns=200, environment={"TERM": "dumb"})
    assert "\x1b" not in dumb.text


@pytest.mark.parametrize("looked_up", [256, 0, 1])
def test_short_ids_are_as_long_as_it_takes(
    command: Command, long: Path, monkeypatch: pytest.MonkeyPatch, looked_up: int
) -> None:
    """Two images share twelve digits: they are told apart, others stay short, in long lists too."""
    monkeypatch.setattr(naming, "_LOOKED_UP_MAX", looked_up)
    assert {id_of(raw)[7:19] for raw in ALIKE} == {DIGITS}
    unique = {id_of(raw)[7:20] for raw in ALIKE}
    for arguments in (["ls", "-a"], ["tree"], ["log"], ["diff", "@0"]):
        said = command(*arguments, "-s", long).out
        found = set(re.findall(rf"\b{DIGITS}[0-9a-f]*", said))
        assert found == unique, arguments
    for short in unique:
        assert command("show", short, "-s", long).code == 0
        assert command("log", short, "-s", long).code == 0
    said = command("blame", id_of(ALIKE[1]), "-s", long).out
    assert f"parent {id_of(ALIKE[0])[7:20]}" in said


def test_a_deleted_image_counts_when_ids_are_told_apart(command: Command, tmp_path: Path) -> None:
    """Else what `ls` shows would be ambiguous to `log`."""
    with ImageStore.open(tmp_path / "store") as store:
        first, second = map(store.create, ALIKE)
        store.delete(first)
    said = command("ls", "-s", tmp_path / "store").out
    assert f"{second[7:20]}  " in said


@pytest.mark.parametrize("room", range(1, 30))
def test_a_line_is_cut_at_the_edge(
    room: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the edge falls: within a piece, between two, within a wide character."""
    monkeypatch.setattr(layout, "width", lambda: room)
    whole = "abc漢字def  漢"
    layout.pieces(("abc", "bold"), ("漢字def", ""), ("  漢", "dim"), cut=True)
    said = capsys.readouterr().out.removesuffix("\n")
    assert layout._cells(said) <= room
    if room >= layout._cells(whole):
        assert said == whole
    else:
        assert said.endswith("…")
        assert whole.startswith(said.removesuffix("…"))


def test_a_digest_is_shortened_before_a_line_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its beginning tells as much."""
    monkeypatch.setattr(layout, "width", lambda: 60)
    layout.pieces(("app@", ""), (id_of(b""), ""), ("  behind", ""), cut=True)
    assert capsys.readouterr().out == f"app@{id_of(b'')[:19]}…  behind\n"


def test_branches_join_a_node_to_its_parent() -> None:
    """As `tree` draws them; also without Unicode."""
    depths = [0, 1, 2, 3, 2, 1, 2, 0, 1]
    assert layout.branches(depths) == [
        "", "├── ", "│   ├── ", "│   │   └── ", "│   └── ", "└── ", "    └── ", "", "└── ",
    ]  # fmt: skip


def test_an_encoding_without_unicode_gets_plain_marks(long: Path) -> None:
    """No escape stands where a branch or a mark should."""
    environment = {"PYTHONIOENCODING": "ascii"}
    said = screen(["-s", long, "tree"], columns=60, environment=environment).plain
    assert "`-- " in said
    assert "~\n" in said
    assert "\\u2514" not in said
