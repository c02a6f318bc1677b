"""Get out of a damaged store what still checks, and never alter it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from eventstore import (
    CorruptionError,
    ImageNotFoundError,
    ImageStore,
    LastUpdatedSet,
    StoreUsageError,
    check_store,
    codec,
    digest,
    lmdb_pages,
    log,
    restore,
    salvage,
)
from eventstore.lmdb_env import DATABASES
from eventstore.lmdb_pages import PageFile
from making import config, id_of, zero_free_pages

A, B, C = (id_of(config(name)) for name in "abc")
LARGE = config(hashlib.shake_256(b"large").hexdigest(7_500))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with batches, a deleted image, a large config, a snapshot: 10 records."""
    path = tmp_path_factory.mktemp("pristine") / "store"
    with ImageStore.open(path, actor="a@b", now=lambda: 10**18) as store:
        store.create(config("a"), reason="first")
        with store.transaction(reason="batch"):
            store.create(config("b"))
            store.set_parent(B, A)
            store.set_built_locally(B)
        store.create(config("c"))
        store.delete(C)
        store.take_snapshot()
        store.create(LARGE)
        for number in range(3):
            store.set_last_updated(A, number)
    return path


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    """Return a copy to be damaged."""
    return shutil.copytree(pristine, tmp_path / "store")


def damage(path: Path, database: str, work: Callable[[lmdb.Transaction], object]) -> None:
    """Change one database of a closed store through LMDB."""
    with lmdb.open(str(path), max_dbs=16) as env:
        handle = env.open_db(database.encode())
        with env.begin(write=True, db=handle) as txn:
            work(txn)


def key(position: int) -> bytes:
    """Return the key of a record."""
    return position.to_bytes(8, "big")


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Flip bits of the data file."""
    with open(path / "data.mdb", "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def raws(path: Path) -> list[bytes]:
    """Return the bytes of all records of a store."""
    with ImageStore.open(path, create=False, read_only=True) as store:
        return [record.raw for record in store.records()]


def state_of(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return all there is to know of the files in a folder."""
    return {
        str(found): (
            found.read_bytes() if found.is_file() else b"",
            found.stat().st_mtime_ns,
            found.stat().st_mode,
        )
        for found in (folder, *sorted(folder.rglob("*")))
    }


def test_a_sound_store_comes_out_whole_under_an_id_of_its_own(path: Path, tmp_path: Path) -> None:
    """Same records, same answers; the source's id is kept beside the new one."""
    report = salvage(path, tmp_path / "new")
    assert (report.position, report.end, report.lost) == (10, 10, ())
    assert (report.recovered, report.records_beside, report.configs_beside) == ((), 0, 0)
    assert not (tmp_path / "new" / "salvaged").exists()
    assert raws(tmp_path / "new") == raws(path)
    assert list(check_store(tmp_path / "new")) == []
    with ImageStore.open(path) as old, ImageStore.open(tmp_path / "new") as new:
        assert list(old.map().items()) == list(new.map().items())
        assert new.store_id != old.store_id == report.store_id
        assert new._identity.fork is not None
        assert (new._identity.fork.store_id, new._identity.fork.position) == (old.store_id, 10)
        assert list(new.records(C)) == list(old.records(C))
        new.create(config("goes on"))


def test_records_behind_a_lost_one_are_kept_beside_and_named(path: Path, tmp_path: Path) -> None:
    """The unbroken beginning is the new log; nothing else is thrown away."""
    before = raws(path)
    damage(path, "log", lambda txn: txn.put(key(6), bytes(txn.get(key(6)))[:-1] + b"?"))
    zero_free_pages(path)
    assert [p.position for p in check_store(path) if p.kind == "log"] == [6]
    report = salvage(path, tmp_path / "new")
    assert (report.position, report.end) == (5, 10)
    assert [(loss.kind, loss.position) for loss in report.lost] == [("log", 6)]
    assert raws(tmp_path / "new") == before[:5]
    assert list(check_store(tmp_path / "new")) == []
    lines = (tmp_path / "new" / "salvaged" / "records.jsonl").read_text().splitlines()
    beside = [json.loads(line) for line in lines]
    assert [line["position"] for line in beside] == [7, 8, 9, 10]
    assert [bytes.fromhex(line["raw"]) for line in beside] == before[6:]
    kept = tmp_path / "new" / "salvaged" / "configs" / digest.require(id_of(LARGE)).hex()
    assert kept.read_bytes() == LARGE
    assert report.configs_beside == 1


def test_a_lost_record_is_found_again_in_a_page_that_nothing_leads_to(
    path: Path, tmp_path: Path
) -> None:
    """What earlier commits left behind is the same record, and it is said where it is from."""
    before = raws(path)
    damage(path, "log", lambda txn: txn.put(key(6), bytes(txn.get(key(6)))[:-1] + b"?"))
    report = salvage(path, tmp_path / "new")
    assert (report.position, report.recovered, report.lost) == (10, (6,), ())
    assert raws(tmp_path / "new") == before


def test_a_lost_config_leaves_the_log_whole_and_is_named_for_ever(
    path: Path, tmp_path: Path
) -> None:
    """`get` and `verify` name it, also of a restored backup; creating it again brings it back."""
    damage(path, "configs", lambda txn: txn.put(digest.require(A), b"\0other"))
    zero_free_pages(path)
    report = salvage(path, tmp_path / "new")
    assert (report.position, [loss.image_id for loss in report.lost]) == (10, [A])
    problems = list(check_store(tmp_path / "new"))
    assert [(problem.kind, problem.image_id) for problem in problems] == [("lost", A)]
    with ImageStore.open(tmp_path / "new") as store:
        store.backup(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    assert list(check_store(tmp_path / "restored")) == problems
    with ImageStore.open(tmp_path / "new") as store:
        with pytest.raises(CorruptionError, match="was lost"):
            store.get(A)
        with pytest.raises(ImageNotFoundError):
            store.records(id_of(b"never"))
        store.delete(A)
        store.create(config("a"))
        assert store.get(A).raw_json == config("a")
    assert list(check_store(tmp_path / "new")) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["branch", "leaf", "both metas", "a meta", "main"])
def test_pages_that_lead_to_records_may_be_gone(path: Path, tmp_path: Path, what: str) -> None:
    """The records themselves are found by looking at every page."""
    with ImageStore.open(path) as store:
        for number in range(300):
            store.create(config(str(number)))
    before = raws(path)
    with PageFile(path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        root = pages.trees(newest, [])[b"log"].root
        leaf = next(number for number, _ in pages.leaves(pages.trees(newest, [])[b"log"], "", []))
        size = pages.page_size
        lost = {
            "branch": [root],
            "leaf": [leaf],
            "both metas": [0, 1],
            "a meta": [newest.slot],
            "main": [newest.main.root],
        }[what]
    with open(path / "data.mdb", "r+b") as file:
        for number in lost:
            file.seek(number * size)
            file.write(bytes(size))
    with pytest.raises(CorruptionError):
        ImageStore.open(path)
    report = salvage(path, tmp_path / "new")
    assert raws(tmp_path / "new") == before[: report.position]
    assert {p.kind for p in check_store(tmp_path / "new")} <= {"lost"}
    assert report.position + report.records_beside >= 250
    if what in ("branch", "both metas"):
        assert report.position == 310


def test_the_source_is_not_altered_even_in_its_times(path: Path, tmp_path: Path) -> None:
    """Also where nothing may be written, and where there is no lock file."""
    path.joinpath("lock.mdb").unlink(missing_ok=True)
    flip(path, 4096 * 3 + 100)
    path.chmod(0o500)
    path.joinpath("data.mdb").chmod(0o400)
    before = state_of(path)
    salvage(path, tmp_path / "new")
    assert state_of(path) == before
    path.chmod(0o700)


def test_nothing_is_overwritten_and_nothing_is_left_where_it_fails(
    path: Path, tmp_path: Path
) -> None:
    """A destination that exists or lies in the source, and a source that is none, are refused."""
    taken = tmp_path / "taken"
    taken.mkdir()
    for source, target in (
        (path, taken),
        (path, path / "inside"),
        (path, path),
        (tmp_path / "nowhere", tmp_path / "new"),
    ):
        with pytest.raises(StoreUsageError):
            salvage(source, target)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["store", "taken"]


def test_a_file_that_holds_nothing_of_a_store_is_refused(tmp_path: Path) -> None:
    """Whatever the bytes are; an empty store in their place would look like a success."""
    for name, content in (("noise", os.urandom(20_000)), ("short", b"x"), ("zeros", bytes(40_960))):
        folder = tmp_path / name
        folder.mkdir()
        folder.joinpath("data.mdb").write_bytes(content)
        with pytest.raises(CorruptionError):
            salvage(folder, tmp_path / f"new {name}")
        assert not tmp_path.joinpath(f"new {name}").exists()
        assert list(check_store(folder))


def test_what_a_version_appended_that_notes_no_end_is_of_the_log(
    path: Path, tmp_path: Path
) -> None:
    """The log leads to it, it checks, and nothing of it is left out in silence."""
    with ImageStore.open(path) as store:
        end = store.position
        record = codec.encode(
            end + 1,
            time_ns=2 * 10**18,
            actor="older",
            reason="",
            batch=end + 1,
            previous=store.view().state(digest.require(B)).last,
            event=LastUpdatedSet(digest.require(B), 7),
        )
        store._environment.write(lambda txn: log.append(txn, record))
    with pytest.raises(CorruptionError):
        ImageStore.open(path)
    report = salvage(path, tmp_path / "new")
    assert (report.position, report.lost) == (end + 1, ())
    with ImageStore.open(tmp_path / "new") as store:
        assert [found.raw for found in store.records(after=end)] == [record.raw]
        assert list(store.verify()) == []


def test_a_record_that_two_pages_tell_differently_is_not_guessed(
    path: Path, tmp_path: Path
) -> None:
    """Both are kept beside; an auditor decides."""
    other = tmp_path / "other"
    shutil.copytree(path, other)
    with ImageStore.open(path, now=lambda: 2 * 10**18) as store:
        store.create(config("one"))
    with ImageStore.open(other, now=lambda: 2 * 10**18) as store:
        store.create(config("another"))
    with PageFile(path / "data.mdb") as pages, PageFile(other / "data.mdb") as foreign:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        root = foreign.trees(max(foreign.metas(), key=lambda meta: meta.commit), [])[b"log"].root
        page, size, end = foreign.page(root), pages.page_size, pages.pages
        mine = pages.trees(newest, [])[b"log"].root
        content = pages.page(mine)
    assert page is not None and content is not None
    with open(path / "data.mdb", "r+b") as file:
        file.seek(mine * size)
        file.write(bytes(size))  # the log's only page is gone
        file.seek(end * size)
        file.write(page + content)  # and two other pages hold what it may have held
    report = salvage(path, tmp_path / "new")
    assert (report.position, report.end) == (10, 11)
    assert "2 different records" in report.lost[0].message
    assert report.records_beside == 2


@pytest.mark.slow
def test_a_last_commit_whose_meta_page_is_damaged_is_refused_and_not_forgotten(
    path: Path, tmp_path: Path
) -> None:
    """LMDB would answer from the commit before it; here every bit of both meta pages is told."""
    with PageFile(path / "data.mdb") as pages:
        size = pages.page_size
        newest = max(pages.metas(), key=lambda meta: meta.commit).slot
    raw = path.joinpath("data.mdb").read_bytes()
    accepted = set[int]()
    for bit in set(range(152 * 8)) - {144 * 8 + 1}:  # that one is as if the disk refused a commit
        flip(path, newest * size + bit // 8, 1 << bit % 8)
        try:
            lmdb_pages.refuse_damaged_heads(path, DATABASES)
        except CorruptionError:
            pass
        else:
            accepted.add(bit // 8)
        path.joinpath("data.mdb").write_bytes(raw)
    # Padding, address and size of the map, flags that are asked for again, counts of entries.
    idle = {*range(8, 10), *range(12, 16), *range(24, 40), 44, 45, *range(72, 80)}
    idle |= set(range(120, 128))
    # A list of databases that is none of ours makes it a file of another program.
    assert accepted - idle <= set(range(128, 136))
    for bit in range(128 * 8, 136 * 8):
        flip(path, newest * size + bit // 8, 1 << bit % 8)
        with pytest.raises(CorruptionError):
            ImageStore.open(path)
        path.joinpath("data.mdb").write_bytes(raw)
