"""The commands `export` and `import`, on what a real Docker host's syncs have left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_types import Command, Host
from eventstore import ImageStore
from making import config, id_of


@pytest.mark.parametrize("form", ["jsonl", "cloudevents"])
def test_a_real_log_is_carried_in_two_parts(
    command: Command, host: Host, tmp_path: Path, form: str
) -> None:
    """The copy answers as the store did."""
    middle, end = host.ends[0], host.ends[-1]
    with ImageStore.open(host.path, read_only=True) as store:
        root = store.checkpoint().root_hash.hex()
    said = command(
        "export", tmp_path / "a", "--through", f"@{middle}", "--as", form, "-s", host.path
    )
    assert said.code == 0
    assert said.lines[0] == f"{tmp_path / 'a'}: {middle} records, through @{middle}"
    (rest,) = command(
        "export", tmp_path / "b", "--after", f"@{middle}", "--as", form, "--json", "-s", host.path
    ).json
    assert rest == {
        "path": str(tmp_path / "b"),
        "after": middle,
        "through": end,
        "root_hash": root,
    }
    assert command("import", tmp_path / "a", "-s", tmp_path / "elsewhere").code == 0
    (done,) = command("import", tmp_path / "b", "--json", "-s", tmp_path / "elsewhere").json
    assert (done["appended"], done["position"], done["root_hash"]) == (end - middle, end, root)
    assert command("verify", "-s", tmp_path / "elsewhere").code == 0
    for arguments in (["ls", "-a"], ["tree"], ["log"], ["ls", "-a", "--at", f"@{middle}"]):
        copy = command(*arguments, "-s", tmp_path / "elsewhere")
        assert copy.out == command(*arguments, "-s", host.path).out


def test_a_bent_export_is_refused_in_one_line(command: Command, host: Host, tmp_path: Path) -> None:
    """And no store comes of it."""
    command("export", tmp_path / "out", "-s", host.path)
    path = tmp_path / "out" / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    shown = json.loads(lines[7])
    lines[7] = json.dumps(shown | {"actor": "nobody\x1b[31m"}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    said = command("import", tmp_path / "out", "-s", tmp_path / "elsewhere")
    assert said.code == 1
    assert said.err.startswith("eventstore: line 8 does not say what its record says")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_an_export_is_held_against_a_checkpoint_that_was_kept(
    command: Command, host: Host, tmp_path: Path
) -> None:
    """Signed or not; another log's export is refused, by `import` as well."""
    key = tmp_path / "log.key"
    public = command("keygen", "ci.example/log", "-o", key).out.strip()
    kept = tmp_path / "kept"
    command("checkpoint", "--sign", key, "-o", kept, "-s", host.path)
    command("export", tmp_path / "out", "-s", host.path)
    said = command("check-export", tmp_path / "out", "--checkpoint", kept, "--key", public)
    assert said.code == 0
    assert said.lines[0] == f"sound: records @1 to @{host.ends[-1]}"
    assert "signed by ci.example/log" in said.out
    assert said.err == ""
    said = command("check-export", tmp_path / "out")
    assert (said.code, "--checkpoint" in said.err) == (0, True)
    (shown,) = command("check-export", tmp_path / "out", "--json").json
    assert (shown["through"], shown["proved"]) == (host.ends[-1], False)
    assert command("check-export", tmp_path / "out", "--key", public).code == 2
    with ImageStore.open(tmp_path / "forged") as forged:
        for number in range(host.ends[-1]):
            forged.create(b'{"comment":"%d","rootfs":{"type":"layers"}}' % number)
    command("export", tmp_path / "forgery", "-s", tmp_path / "forged")
    assert command("check-export", tmp_path / "forgery").code == 0
    for name in ("check-export", "import"):
        said = command(
            *(name, tmp_path / "forgery", "--checkpoint", kept, "--key", public),
            *(("-s", tmp_path / "elsewhere") if name == "import" else ()),
        )
        assert (said.code, len(said.err.splitlines())) == (1, 1)
        assert "not of the log" in said.err
    assert not (tmp_path / "elsewhere").exists()
    said = command(
        *("import", tmp_path / "out", "--checkpoint", kept, "--key", public),
        *("-s", tmp_path / "elsewhere"),
    )
    assert said.code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export", "{out}", "--after", "@99999"], 2),
        (["export", "{out}", "--as", "xml"], 2),
        (["export", "{taken}"], 3),
        (["import", "{taken}"], 1),
        (["import", "{absent}"], 3),
        (["import"], 2),
    ],
)
def test_nonsense_is_refused(
    command: Command, host: Host, tmp_path: Path, arguments: list[str], code: int
) -> None:
    """With the right code, in one line, and nothing is written."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "proof.json").write_text("{}")
    places = {name: str(tmp_path / name) for name in ("out", "taken", "absent")}
    filled = [argument.format(**places) for argument in arguments]
    said = command(*filled, "-s", host.path)
    assert (said.code, len(said.err.splitlines())) == (code, 1)
    assert not (tmp_path / "out").exists()


def test_images_of_a_moment_are_exported_for_other_tools(command: Command, tmp_path: Path) -> None:
    """With what was written said in a line; options of records do not go with it."""
    store = tmp_path / "images"
    with ImageStore.open(store) as opened:
        opened.tag("app", opened.create(config("a")))
        opened.delete(id_of(config("a")))
        opened.create(config("b"))
        opened.redact(id_of(config("b")), reason="a secret")
    out = tmp_path / "out"
    said = command("export", out, "--as", "docker-imagedb", "--at", "@2", "-s", store)
    assert (said.code, said.lines) == (0, [f"{out}: 1 images and 1 names as of @2"])
    assert (out / "imagedb" / "content" / "sha256" / id_of(config("a"))[7:]).is_file()
    said = command("export", tmp_path / "oci", "--as", "oci-layout", "-s", store)
    assert said.code == 1
    assert "redacted" in said.err
    said = command("export", tmp_path / "oci", "--as", "oci-layout", "--leave-out", "-s", store)
    assert said.lines == [f"{tmp_path / 'oci'}: 0 images and 0 names as of @5"]
    assert f"left out {id_of(config('b'))[7:19]}" in said.err
    as_json = command("export", tmp_path / "j", "--as", "oci-layout", "--leave-out", "--json",
                      "-s", store).json[0]  # fmt: skip
    assert (as_json["images"], as_json["left_out"]) == (0, [id_of(config("b"))])
    for wrong in (["--as", "oci-layout", "--after", "@1"], ["--at", "@1"], ["--leave-out"]):
        said = command("export", tmp_path / "none", *wrong, "-s", store)
        assert said.code == 2
        assert "does not go with it" in said.err
    assert not (tmp_path / "none").exists()
