"""Compact between two steps of what others do: nobody is told a wrong thing, nor another error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from eventstore import (
    CompactedError,
    ImageStore,
    check_store,
    compaction,
    dropped,
    export_records,
    log,
    replay,
    restore,
    salvage,
    snapshots,
    verify,
)
from eventstore.image_export import export_images
from eventstore.lmdb_env import Environment
from making import config, id_of, zero_free_pages
from store import children

A, B = (id_of(config(name)) for name in "ab")


def compact_elsewhere(path: str | Path, position: int) -> None:
    """Let another process compact."""
    children.run(f"with ImageStore.open(path) as store: store.compact(position={position})", path)


def once(action: Callable[[], None], call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that acts when it has been made for the first time."""
    waiting = [action]

    def calling(*args: Any, **kwargs: Any) -> Any:
        found = call(*args, **kwargs)
        if waiting:
            waiting.pop()()
        return found

    return calling


def test_who_lags_behind_is_overtaken_while_it_catches_up(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of what it still had to fold is dropped: it starts anew, and no damage is reported."""
    with ImageStore.open(store_path) as store:
        store.create(config("x"))
        children.run(
            """
with ImageStore.open(path) as store:
    for name in range(60): store.create(config(name))
    for _ in range(50): store.delete(next(iter(store)))
""",
            store_path,
        )
        pages, waiting = log.pages, [105]

        def overtaking(*args: Any) -> Iterator[Any]:
            for page in pages(*args):
                yield page
                if waiting:
                    compact_elsewhere(store_path, waiting.pop())

        monkeypatch.setattr(log, "PAGE_LENGTH", 8)
        monkeypatch.setattr(log, "pages", overtaking)
        assert (len(store), store.position) == (11, 112)
        assert list(store.verify()) == []


def test_what_is_there_is_told_though_the_snapshot_below_it_is_dropped(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for new commits and that into the table: it is looked at anew."""
    with ImageStore.open(store_path) as store:
        with store.transaction():
            for number in range(2_500):
                store.create(config(str(number)))
        store.take_snapshot()
        store.delete(id_of(config("1")))
    image = id_of(config("2"))
    looks: list[Callable[[ImageStore], object]] = [
        lambda store: len(list(store)),
        lambda store: image in store,
        lambda store: store.get(image).id,
        lambda store: len(store.heads()),
        lambda store: store.get_parent(image),
        lambda store: len(list(store.records(image))),
        lambda store: len(store.tags()),
    ]
    expected = [2_499, True, image, 2_499, None, 1, 0]
    for look, found in zip(looks, expected, strict=True):
        copy = store_path.parent / f"copy {found} {len(list(store_path.parent.iterdir()))}"
        with ImageStore.open(store_path) as store:
            store.backup(copy)
        target = copy.with_name(copy.name + " restored")
        restore(copy, target)
        with ImageStore.open(target) as store, monkeypatch.context() as patch:
            compacting = once(lambda path=target: compact_elsewhere(path, 2_501), store._view)
            patch.setattr(store, "_view", compacting)
            assert look(store) == found


def test_a_blame_that_is_overtaken_says_that_the_moment_is_gone(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that there never was such an image."""
    with ImageStore.open(store_path) as store:
        store.create(config("a"))
        store.delete(A)
        store.create(config("b"))
    for name in ("blame", "manifests"):
        copy = store_path.parent / name
        with ImageStore.open(store_path) as store:
            store.backup(store_path.parent / f"{name}.backup")
        restore(store_path.parent / f"{name}.backup", copy)
        with ImageStore.open(copy) as store, monkeypatch.context() as patch:
            compacting = once(lambda path=copy: compact_elsewhere(path, 3), store._at)
            patch.setattr(store, "_at", compacting)
            with pytest.raises(CompactedError, match="@1 is gone"):
                getattr(store, name)(A, as_of=1)


def test_no_snapshot_from_before_is_stored_any_more(store: ImageStore, store_path: Path) -> None:
    """By a process that had begun one, or has only now got to it: it holds what was dropped."""
    for number in range(40):
        store.create(config(str(number)))
    view = store.as_of(position=40)
    store.delete(id_of(config("3")))
    traces = bytes.fromhex(id_of(config("3")).removeprefix("sha256:"))[:16]
    store.compact(position=41)
    assert snapshots.put(store._environment, view) is None
    assert [found.position for found in store.snapshots()] == [41]
    assert (store_path / "data.mdb").read_bytes().count(traces) == 0


def test_half_of_a_batch_is_not_undone(store: ImageStore) -> None:
    """Where the horizon lies in it, nobody knows any more what all of it was."""
    store.create(config("b"))
    with store.transaction():
        store.create(config("a"))
        store.delete(A)
        store.create(config("c"))
    store.compact(position=3)
    with pytest.raises(CompactedError):
        store.undo(4)
    assert store.position == 5
    assert len(store.undo(4, whole_batch=False).records) == 1


def test_a_batch_is_not_written_over_a_horizon_that_it_does_not_know(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map had to grow, and another process dropped records meanwhile: the count stays right."""
    with ImageStore.open(store_path) as store:
        for name in "ab":
            store.create(config(name))
        for image in (A, B):
            store.delete(image)
        store.create(config("c"))
    script = """
from eventstore import compaction
compaction._drop_configs = lambda *args, **kwargs: os._exit(0)
ImageStore.open(path).compact(position=3)
"""
    with children.started(script, store_path) as process:
        process.communicate(timeout=60)
    with ImageStore.open(store_path) as store:
        assert store.horizon.unfinished
        known = store.horizon
        resume = "with ImageStore.open(path) as store: store.compact(position=3)"
        session = store._begin_session()
        session.abort()
        children.run(resume, store_path)
        assert store._horizon == known
        with pytest.raises(Exception, match="another process wrote meanwhile"):
            store._begin_again()


def test_many_names_are_dropped_a_bounded_number_at_a_time(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody who writes has to wait for all of them."""
    with store.transaction():
        image = store.create(config("a"))
        for number in range(50):
            store.tag(f"name{number}", image)
    store.delete(image)
    sizes: list[int] = []
    drop_names = compaction._drop_names

    def counting(txn: Any, *, keys: list[bytes], through: int) -> None:
        sizes.append(len(keys))
        drop_names(txn, keys=keys, through=through)

    monkeypatch.setattr(compaction, "_NAMES_A_WRITE", 20)
    monkeypatch.setattr(compaction, "_drop_names", counting)
    assert store.compact(position=store.position).names == 50
    assert sizes == [20, 20, 10]


@pytest.mark.parametrize("later", [False, True])
def test_a_store_whose_compaction_is_forgotten_is_salvaged_with_its_horizon(
    store_path: Path, *, later: bool
) -> None:
    """The record of it is rotten, and the last before it was dropped: the new log says it anew."""
    with ImageStore.open(store_path) as store:
        for name in "abc":
            store.create(config(name))
        store.set_parent(B, A)
        store.delete(A)
        expected = dict(store.as_of(position=5).rows())
        root_hash, time_ns = store.checkpoint(5).root_hash, store.as_of(position=5).time_ns
        by = store.compact(position=5).by
        if later:
            store.create(config("d"))
    with lmdb.open(str(store_path), max_dbs=16, map_size=1 << 30) as env:
        records = env.open_db(b"log")
        with env.begin(write=True) as txn:
            txn.put(by.to_bytes(8, "big"), b"rot" * 9, db=records)
    zero_free_pages(store_path)
    report = salvage(store_path, store_path.parent / "salvaged")
    assert report.position == 5
    assert {problem.position for problem in report.lost} == {by}
    with ImageStore.open(store_path.parent / "salvaged") as store:
        assert (store.position, len(store)) == (6, 2)
        assert store.horizon == dropped.Horizon(5, 6, time_ns, 2, unfinished=False)
        assert store.checkpoint(5).root_hash == root_hash
        assert dict(store.as_of(position=5).rows()) == expected
        blame = store.blame(B)
        assert blame.parent is not None
        assert blame.parent.record.position == 6
        assert list(store.verify()) == []
        store.create(config("more"))
        store.compact(position=store.position)
        assert list(store.verify()) == []


def test_a_store_whose_horizon_is_forgotten_is_salvaged_with_one(store_path: Path) -> None:
    """Its note is rotten: no time before leads to what was only so later."""
    ticks = iter(range(10**18, 2 * 10**18, 10**9))
    with ImageStore.open(store_path, now=lambda: next(ticks)) as store:
        for name in "ab":
            store.create(config(name))
        store.delete(A)
        store.create(config("c"))
        first = store.as_of(position=1).time_ns
        store.compact(position=3)
    environment = Environment(store_path)
    environment.write(lambda txn: txn.put("meta", dropped.NOTE, b"rot" * 9, replace=True))
    environment.close()
    assert list(check_store(store_path)) != []
    salvage(store_path, store_path.parent / "salvaged")
    with ImageStore.open(store_path.parent / "salvaged") as store:
        with pytest.raises(CompactedError):
            store.as_of(time=first)
        assert list(store.as_of(position=3)) == [B]
        assert list(store.verify()) == []


def test_who_moves_behind_one_horizon_is_overtaken_by_the_next(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at how far the log was compacted and the view from there."""
    with ImageStore.open(store_path) as store:
        for number in range(9):
            store.create(config(str(number)))
        compact_elsewhere(store_path, 5)
        children.run("ImageStore.open(path).create(config('more'))", store_path)
        view_at = replay.view_at
        waiting = [11]

        def overtaken(*args: Any) -> Any:
            if waiting:
                compact_elsewhere(store_path, waiting.pop())
            return view_at(*args)

        monkeypatch.setattr(replay, "view_at", overtaken)
        assert (len(store), store.position, store.horizon.through) == (10, 12, 11)


@pytest.mark.parametrize("how", ["records", "images"])
def test_an_export_that_is_overtaken_says_that_its_beginning_is_gone(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And leaves nothing: no folder without its last records, no report of damage."""
    with ImageStore.open(store_path) as store:
        for name in "ab":
            store.create(config(name))
        store.delete(A)
        destination = store_path.parent / "exported"
        read = once(lambda: compact_elsewhere(store_path, 3), store.tags)
        if how == "records":
            read = once(lambda: compact_elsewhere(store_path, 3), store.records)
            monkeypatch.setattr(store, "records", read)
        else:
            monkeypatch.setattr(store, "tags", read)
        with pytest.raises(CompactedError):
            if how == "records":
                export_records(store, destination)
            else:
                export_images(store, destination, form="docker-imagedb", as_of=2)
        assert not destination.exists()


def test_an_export_whose_last_records_are_dropped_meanwhile_is_none(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the end is missing shows as well as that the middle does."""
    with ImageStore.open(store_path) as store:
        store.create(config("b"))
        store.create(config("a"))
        store.delete(A)
        read = once(lambda: compact_elsewhere(store_path, 3), store._committed)
        monkeypatch.setattr(store, "_committed", read)
        monkeypatch.setattr(dropped, "NOWHERE", dropped.NOWHERE)
        known = store.horizon
        monkeypatch.setattr(type(store), "horizon", property(lambda _: known))
        with pytest.raises(CompactedError):
            export_records(store, store_path.parent / "exported")


def test_a_snapshot_that_can_only_be_thinned_out_from_before_goes_as_well(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who prunes while another compacts meets no error."""
    for number in range(30):
        store.create(config(str(number)))
        if number % 5 == 0:
            store.take_snapshot()
    monkeypatch.setattr(snapshots, "superfluous", lambda found: [])

    def refuse(*_: Any) -> None:
        raise CompactedError(1, 2)

    monkeypatch.setattr(snapshots, "_make_difference", refuse)
    newest = store.snapshots()[-1].position
    for found in store.snapshots()[1:-1]:
        snapshots.drop(store._environment, found.position)
    assert newest in {found.position for found in store.snapshots()}
    assert list(store.verify()) == []


def test_a_fold_that_meets_half_of_a_life_begins_anew(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who folds from the first record on while it is dropped: the deletion went, not the birth."""
    with ImageStore.open(store_path) as store:
        for number in range(20):
            store.create(config(str(number)))
        for number in range(10):
            store.delete(id_of(config(str(number))))
        store.create(config("last"))
        end = store.position
        expected = dict(store.as_of(position=end).rows())
    script = """
from eventstore import compaction
compaction._drop_records = lambda *args, **kwargs: os._exit(0)
ImageStore.open(path).compact(position=30)
"""
    with children.started(script, store_path) as process:
        process.communicate(timeout=60)
    resume = "with ImageStore.open(path) as store: store.compact(position=30)"
    with ImageStore.open(store_path) as store:
        assert (store.horizon.unfinished, store.horizon.dropped) == (True, 0)
        environment = store._environment
        for found in store.snapshots():
            snapshots.drop(environment, found.position)
        pages, waiting = log.pages, [resume]

        def overtaking(*args: Any) -> Iterator[Any]:
            for page in pages(*args):
                yield page
                if waiting:
                    children.run(waiting.pop(), store_path)

        monkeypatch.setattr(log, "PAGE_LENGTH", 8)
        monkeypatch.setattr(log, "pages", overtaking)
        assert dict(replay.view_at(environment, end).rows()) == expected
        assert not waiting


def test_verify_takes_what_is_dropped_meanwhile_for_no_problem(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins anew when it has met some of what is not there any more."""
    with ImageStore.open(store_path) as store:
        for number in range(20):
            store.create(config(str(number)))
        for number in range(10):
            store.delete(id_of(config(str(number))))
        monkeypatch.setattr(log, "PAGE_LENGTH", 8)
        entries = once(lambda: compact_elsewhere(store_path, 30), verify._Replay._stored)
        monkeypatch.setattr(verify._Replay, "_stored", entries)
        assert list(store.verify()) == []
