"""Sync daemons that answer as real ones did, and ones that answer what they should not."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from docker_data import HOSTS, known, listed, names, unpack
from docker_stand_in import ELSEWHERE, StandIn, exported, fill, tar
from eventstore import ImageStore, SourceError, StoreUsageError
from eventstore.sources import docker_daemon
from eventstore.sources.docker_daemon import DockerDaemon
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.finding import find
from eventstore.sources.found import Findings
from eventstore.sync import SyncReport, configs_in, sync
from making import config, id_of

A, B, C = config("a", layers=1), config("b"), config("c")
TIME, NEVER = "2024-10-08T18:27:41.5Z", "0001-01-01T00:00:00Z"


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    """Return a daemon without images; the path of a socket may have 107 bytes only."""
    with TemporaryDirectory(prefix="daemon-") as folder, StandIn(Path(folder) / "s") as found:
        found.say("/images/json?all=1", [])
        yield found


def take_over(store: ImageStore, daemon: StandIn) -> SyncReport:
    """Sync as the command does."""
    found = find(daemon.address).read(config_of=configs_in(store))
    return sync(store, found.images, found.passed_over, names=found.names, allow_mass_delete=True)


def kinds(findings: Findings) -> list[str]:
    """Return the kinds of what was passed over."""
    return [entry.kind for entry in findings.passed_over]


def test_syncs_in_order_give_what_docker_listed_each_time(
    store: ImageStore, daemon: StandIn, tmp_path: Path
) -> None:
    """Four moments of one host over its socket: ids, parents, times and names; each export once."""
    for name in HOSTS:
        fill(daemon, name, unpack(name, tmp_path))
        known_before = {image_id for image_id in listed(name) if configs_in(store)(image_id)}
        daemon.asked.clear()
        report = take_over(store, daemon)
        assert report.passed_over == []
        assert known(store.view()) == listed(name)
        assert store.tags() == names(name)
        assert set(daemon.exports()) == listed(name).keys() - known_before
        daemon.asked.clear()
        again = take_over(store, daemon)
        assert (again.position, daemon.exports()) == (report.position, [])
    assert len(store) == 138


@pytest.mark.parametrize("name", HOSTS)
def test_the_socket_and_the_disk_give_the_same_but_for_the_built_mark(
    daemon: StandIn, tmp_path: Path, name: str
) -> None:
    """Configs to the byte; the mark that the API does not tell stays as the disk told it."""
    root = unpack(name, tmp_path)
    fill(daemon, name, root)
    over_socket = find(daemon.address).read()
    on_disk = DockerImageDB.find(root).read(operating_system="linux")

    def facts(findings: Findings) -> list[tuple[Any, ...]]:
        return [
            (image.image_id, image.config, image.parent, image.last_updated_ns)
            for image in findings.images
        ]

    assert facts(over_socket) == facts(on_disk)
    assert over_socket.names == on_disk.names
    with ImageStore.open(tmp_path / "store") as store:
        sync(store, on_disk.images, names=on_disk.names)
        report = take_over(store, daemon)
        assert (report.position, report.unchanged) == (report.after, len(on_disk.images))


def test_reading_ends_with_the_config(daemon: StandIn) -> None:
    """Layers behind it are not waited for, and nothing of a layer before it is kept."""
    size, endless = 32 << 20, bytes(1 << 20)
    archive = exported(id_of(A), A, layer_size=size)
    archive = archive[: archive.index(A) + len(A)]

    def export() -> Iterator[bytes]:
        for start in range(0, len(archive), 1 << 16):
            yield archive[start : start + (1 << 16)]
        while True:
            yield endless

    daemon.have(id_of(A), export, time=TIME)
    tracemalloc.start()
    try:
        found = find(daemon.address).read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [image.config for image in found.images] == [A]
    assert peak < 8 << 20
    assert daemon.sent < 256 << 20


def test_images_without_a_name_have_none_and_digests_are_names(daemon: StandIn) -> None:
    """`<none>` is how old daemons say so."""
    digest = "example.com/x@sha256:" + "1" * 64
    daemon.have(id_of(A), exported(id_of(A), A), RepoTags=["<none>:<none>"], RepoDigests=None)
    daemon.have(id_of(B), exported(id_of(B), B), RepoTags=["app:1"], RepoDigests=[digest])
    found = find(daemon.address).read()
    assert found.names == {"docker.io/library/app:1": id_of(B), digest: id_of(B)}
    assert [image.tells_last_updated for image in found.images] == [False, False]


def test_parents_are_held_against_what_is_listed(daemon: StandIn) -> None:
    """Missing, garbage, itself: the image counts without one."""
    for raw, parent in ((A, id_of(C)), (B, "garbage"), (config("d"), id_of(config("d")))):
        daemon.have(id_of(raw), exported(id_of(raw), raw), parent=parent)
    found = find(daemon.address).read()
    assert sorted(kinds(found)) == ["parent-cycle", "parent-invalid", "parent-missing"]
    assert [image.parent for image in found.images] == [None] * 3


@pytest.mark.parametrize(
    ("time", "kind", "told"),
    [
        (NEVER, [], True),
        (TIME, [], True),
        ("soon", ["last-updated-invalid"], True),
        ("", [], False),
    ],
)
def test_last_updates_are_read_as_docker_writes_them(
    daemon: StandIn, time: str, kind: list[str], told: bool
) -> None:
    """Never, a time, none; a daemon that says nothing of it changes nothing."""
    daemon.have(id_of(A), exported(id_of(A), A), time=time)
    found = find(daemon.address).read()
    assert kinds(found) == kind
    (image,) = found.images
    assert (image.last_updated_ns is not None, image.tells_last_updated) == (time == TIME, told)


def bad_exports() -> dict[str, tuple[Any, str]]:
    """Return exports that give no config, each with its kind."""
    good = exported(id_of(A), A)
    blob = f"blobs/sha256/{id_of(A)[7:]}"
    return {
        "empty": (b"", "export-failed"),
        "no tar": (b"x" * 5000, "export-failed"),
        "cut in a header": (good[:300], "export-failed"),
        "cut in a layer": (good[:5000], "export-failed"),
        "only the end": (bytes(1024), "export-failed"),
        "another image": (exported(id_of(B), B), "export-failed"),
        "a lie": (tar({blob: B}), "digest-mismatch"),
        "too large": (tar({blob: bytes((16 << 20) + 1)}), "export-failed"),
        "a folder of that name": (tar({blob + "/x": A}), "export-failed"),
        "a flipped header": (good[:20] + b"\x7f" + good[21:], "export-failed"),
    }


@pytest.mark.parametrize("case", bad_exports())
def test_an_export_without_the_config_is_passed_over_and_what_is_known_stays(
    store: ImageStore, daemon: StandIn, case: str
) -> None:
    """The daemon lists the image, so nothing is deleted; the others are taken over."""
    store.create(A)
    export, kind = bad_exports()[case]
    daemon.have(id_of(A), export, time=TIME, RepoTags=["app:1"])
    daemon.have(id_of(B), exported(id_of(B), B))
    found = find(daemon.address).read()
    assert kinds(found) == [kind]
    report = sync(store, found.images, found.passed_over, names=found.names)
    assert sorted(store) == sorted([id_of(A), id_of(B)])
    assert report.deleted == []


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"no json"])
def test_an_exported_config_that_docker_cannot_decode_is_passed_over(
    daemon: StandIn, raw: bytes
) -> None:
    """Its digest is right, and it is no image."""
    daemon.have(id_of(raw), exported(id_of(raw), raw))
    assert kinds(find(daemon.address).read()) == ["invalid-config"]


@pytest.mark.parametrize("status", [500, 403, 302])
def test_an_export_that_is_refused_is_passed_over(daemon: StandIn, status: int) -> None:
    """With what the daemon says; a redirection is not followed."""
    daemon.have(id_of(A), exported(id_of(A), A))
    daemon.say(f"/images/{id_of(A)}/get", {"message": "no \x1b[2J space"}, status)
    found = find(daemon.address).read()
    assert kinds(found) == ["export-failed"]
    assert found.passed_over[0].detail == f"{status}: no \x1b[2J space"
    assert ELSEWHERE not in daemon.asked
    assert found.passed_over[0].unsure


def test_an_image_whose_inspection_fails_counts_and_its_time_stays(
    store: ImageStore, daemon: StandIn
) -> None:
    """As with a last update that Docker cannot read itself."""
    daemon.have(id_of(A), exported(id_of(A), A), time=TIME)
    take_over(store, daemon)
    updated = store.get_last_updated(id_of(A))
    daemon.say(f"/images/{id_of(A)}/json", {"message": "year is out of range"}, 500)
    report = take_over(store, daemon)
    assert [entry.kind for entry in report.passed_over] == ["inspect-failed"]
    assert store.get_last_updated(id_of(A)) == updated is not None
    assert report.position == report.after


@pytest.mark.parametrize("exports", [404, 500])
def test_an_image_that_is_removed_while_it_is_read_does_not_count(
    store: ImageStore, daemon: StandIn, exports: int
) -> None:
    """Removed before it was inspected, or between that and its export."""
    daemon.have(id_of(A), exported(id_of(A), A), RepoTags=["app:1"])
    daemon.have(id_of(B), exported(id_of(B), B))
    del daemon.answers[f"/images/{id_of(A)}/json"]

    def goes_away() -> Iterator[bytes]:
        del daemon.answers[f"/images/{id_of(B)}/json"]
        yield b'{"message": "no such image"}'

    daemon.say(f"/images/{id_of(B)}/get", goes_away, exports)
    assert find(daemon.address).read() == Findings([], [], {})


def test_a_redacted_config_is_not_exported_again(store: ImageStore, daemon: StandIn) -> None:
    """It would not be taken in; the image stays as it is, there or gone."""
    daemon.have(id_of(A), exported(id_of(A), A))
    take_over(store, daemon)
    store.redact(id_of(A), reason="a secret")
    daemon.asked.clear()
    report = take_over(store, daemon)
    assert (report.position, daemon.exports()) == (report.after, [])
    store.delete(id_of(A))
    report = take_over(store, daemon)
    assert [entry.kind for entry in report.passed_over] == ["redacted"]
    assert daemon.exports() == []


def test_an_image_that_comes_back_is_not_exported_again(store: ImageStore, daemon: StandIn) -> None:
    """The store keeps the config of what was deleted."""
    daemon.have(id_of(A), exported(id_of(A), A))
    take_over(store, daemon)
    store.delete(id_of(A))
    daemon.asked.clear()
    assert take_over(store, daemon).created == [id_of(A)]
    assert daemon.exports() == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"{}", b"[1]", b'[{"Id": 1}]', b"[" * 100_000, b"\xff", b"<html>"],
)
def test_a_list_that_is_none_is_an_error(daemon: StandIn, answer: bytes) -> None:
    """It must not look like a host without images."""
    daemon.say("/images/json?all=1", answer)
    with pytest.raises(SourceError, match="does not answer as Docker does"):
        find(daemon.address).read()


@pytest.mark.parametrize("question", ["/info", "/images/json?all=1"])
def test_a_daemon_that_refuses_to_tell_is_an_error(daemon: StandIn, question: str) -> None:
    """What is not told is not empty."""
    daemon.say(question, {"message": "authorization denied"}, 403)
    with pytest.raises(SourceError, match="403: authorization denied"):
        find(daemon.address).read()


def test_an_answer_without_end_is_an_error(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read as far as an answer may be long."""
    monkeypatch.setattr(docker_daemon, "ANSWER_SIZE_MAX", 5 << 20)

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * (1 << 20)

    daemon.say("/images/json?all=1", endless)
    with pytest.raises(SourceError, match="more than 5242880 bytes"):
        find(daemon.address).read()
    assert daemon.sent < 64 << 20


@pytest.mark.parametrize("question", ["list", "inspect", "export"])
def test_a_daemon_that_stops_in_the_middle_is_an_error(daemon: StandIn, question: str) -> None:
    """Nothing is taken for gone because the daemon was."""
    daemon.have(id_of(A), exported(id_of(A), A), time=TIME)

    def broken() -> Iterator[bytes]:
        yield exported(id_of(A), A)[:5000] if question == "export" else b"["
        raise ConnectionAbortedError

    asked = {"list": "json?all=1", "inspect": f"{id_of(A)}/json", "export": f"{id_of(A)}/get"}
    daemon.say(f"/images/{asked[question]}", broken)
    with pytest.raises(SourceError, match="stopped answering"):
        find(daemon.address).read()


def test_a_daemon_that_says_nothing_is_not_waited_for_without_end(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence is an error."""
    monkeypatch.setattr(docker_daemon, "PATIENCE_SECONDS", 0.2)

    def silent() -> Iterator[bytes]:
        time.sleep(2)
        yield b"[]"

    daemon.say("/images/json?all=1", silent)
    with pytest.raises(SourceError, match="stopped answering"):
        find(daemon.address).read()


def test_a_daemon_with_containerds_store_is_refused(daemon: StandIn) -> None:
    """Its ids are those of manifests; synced, all images would look deleted."""
    daemon.say("/info", {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]})
    with pytest.raises(SourceError, match="containerd's store"):
        find(daemon.address).read()


def test_strange_entries_are_each_reported(daemon: StandIn) -> None:
    """Ids that are none lead nowhere; an image twice counts once; names that are none."""
    daemon.have(id_of(A), exported(id_of(A), A), RepoTags=["UPPER", "app:1", ""])
    daemon.have(id_of(B), exported(id_of(B), B), RepoTags=["app:1"])
    daemon.images += [daemon.images[0], {"Id": "../../info"}, {"Id": None}, None, {}]
    daemon.say("/images/json?all=1", daemon.images)
    found = find(daemon.address).read()
    expected = ["name-invalid"] * 2 + ["name-twice", "duplicate-entry"] + ["not-a-digest"] * 4
    assert kinds(found) == expected
    assert found.names == {"docker.io/library/app:1": id_of(B)}
    assert len(found.images) == 2
    assert all(".." not in asked for asked in daemon.asked)


def test_all_configs_together_are_bounded(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes in so much in one sync and no more."""
    for raw in (A, B):
        daemon.have(id_of(raw), exported(id_of(raw), raw))
    monkeypatch.setattr(docker_daemon, "CONFIGS_SIZE_MAX", len(A) + len(B) - 1)
    with pytest.raises(SourceError, match="bytes of configs"):
        find(daemon.address).read()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("docker://host:2375", "names no socket"),
        ("docker://relative/path", "names no socket"),
        ("docker:///nothing/there", "no Docker daemon listens there"),
        ("docker:///" + "x" * 200, "cannot be spoken to"),
        ("docker:///\ud800", "cannot be spoken to"),
    ],
)
def test_an_address_that_leads_to_no_daemon_is_an_error(address: str, problem: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(SourceError, match=problem):
        find(address)


def test_a_socket_that_nobody_listens_on_and_a_file_are_errors(tmp_path: Path) -> None:
    """What a daemon that was killed leaves behind."""
    with TemporaryDirectory() as folder:
        path = f"{folder}/s"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        for place in (path, f"{folder}/file"):
            Path(place).touch()
            with pytest.raises(SourceError, match="no Docker daemon listens there"):
                find(f"docker://{place}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_that_this_user_may_not_use_is_an_error(daemon: StandIn) -> None:
    """As for a user who is not in Docker's group."""
    daemon.path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match="Permission denied"):
            find(daemon.address)
    finally:
        os.seteuid(0)


def test_without_the_package_the_error_says_what_to_install(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core does not need it."""
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(StoreUsageError, match=r"install image-eventstore\[docker\]"):
        find(daemon.address)


def test_the_usual_socket_is_taken_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is Docker's own default."""
    assert docker_daemon.DEFAULT_SOCKET == "/var/run/docker.sock"
    with TemporaryDirectory() as folder, StandIn(Path(folder) / "s") as daemon:
        monkeypatch.setattr(docker_daemon, "DEFAULT_SOCKET", str(daemon.path))
        daemon.say("/images/json?all=1", json.loads("null"))
        found = DockerDaemon.find("docker://")
        assert (found.path, found.read()) == (daemon.address, Findings([], [], {}))
