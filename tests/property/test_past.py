"""Random histories with snapshots of all kinds: every way to a past view leads to the same one."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from eventstore import (
    ImageStore,
    ImageView,
    InvalidParentError,
    diff,
    digest,
    past,
    replay,
    snapshot_headers,
    snapshots,
)
from eventstore.states import States
from eventstore.table import Table
from making import config

SEEDS = range(14)


class History:
    """A store that has lived at random, with bounds so small that all of them are met."""

    def __init__(self, path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Live."""
        self.path = path
        self.choose = random.Random(seed)
        for module, name, values in (
            (snapshots, "INTERVAL_MIN", (3, 8, 20)),
            (snapshots, "CHUNK_LENGTH", (1, 2, 5, 50)),
            (snapshots, "CHUNKS_A_WRITE", (1, 4)),
            (snapshots, "DELETIONS_MAX", (1, 3, 100)),
            (snapshots, "CHAIN_MIN", (0, 2, 16)),
            (past, "STEPS_MAX", (0, 2, 10, 2_000)),
            (past, "STREAM_MAX", (1, 3, 64)),
        ):
            monkeypatch.setattr(module, name, self.choose.choice(values))
        self.store = ImageStore.open(path, actor="a")
        for _ in range(self.choose.randrange(20, 50)):
            self.act()

    def act(self) -> None:
        """Do one thing, or a batch of them."""
        what, store = self.choose.random(), self.store
        if what < 0.3:
            with store.transaction():
                for _ in range(self.choose.randrange(1, 25)):
                    self.step()
        elif what < 0.4:
            store.take_snapshot()
        elif what < 0.5:
            store.close()
            self.store = ImageStore.open(self.path, actor="a")
        elif what < 0.55 and store.position:
            at = self.choose.randrange(store.position)
            snapshots.put(store._environment, store.as_of(position=at))
        elif what < 0.6 and store.snapshots():
            snapshots.drop(store._environment, self.choose.choice(store.snapshots()).position)
        elif what < 0.65:
            list(store.heads())
        else:
            self.step()

    def step(self) -> None:
        """Make one change."""
        what, images = self.choose.random(), list(self.store)
        if what < 0.45 or not images:
            self.store.create(config(str(self.choose.randrange(60))))
            return
        image_id = self.choose.choice(images)
        if what < 0.6:
            self.store.delete(image_id)
        elif what < 0.8:
            with suppress(InvalidParentError):
                self.store.set_parent(image_id, self.choose.choice([None, *images]))
        elif what < 0.95:
            self.store.set_last_updated(image_id, self.choose.randrange(1_000))
        else:
            self.store.set_built_locally(image_id)

    def derived(self) -> list[ImageView]:
        """Return the view at each position, folded from nothing."""
        environment = self.store._environment
        return [replay.from_nothing(environment, at) for at in range(self.store.position + 1)]


@pytest.fixture(params=SEEDS)
def history(
    request: pytest.FixtureRequest, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> History:
    """Return a history for each seed."""
    return History(store_path, request.param, monkeypatch)


def assert_same(view: ImageView, expected: ImageView) -> None:
    """Compare everything that two views answer."""
    assert (view.digest, len(view), list(view)) == (expected.digest, len(expected), list(expected))
    assert list(view.heads()) == list(expected.heads())
    for image_id in expected:
        assert view.children(image_id) == expected.children(image_id)
        assert view.get_parent(image_id) == expected.get_parent(image_id)
        assert view.get_last_updated(image_id) == expected.get_last_updated(image_id)
        assert view.is_built_locally(image_id) == expected.is_built_locally(image_id)
        assert view.search(image_id[7:20]) == image_id


def test_every_way_to_a_view_leads_to_the_same_one(history: History) -> None:
    """The live view, a snapshot and a tail, a neighbour moved on or back: as from nothing."""
    store, choose = history.store, history.choose
    views = history.derived()
    assert list(store.verify()) == []
    assert_same(store.view(), views[-1])
    for position, expected in enumerate(views):
        assert replay.view_at(store._environment, position).digest == expected.digest
    for _ in range(len(views)):
        position = choose.randrange(len(views))
        assert_same(store.as_of(position=position), views[position])


def test_every_snapshot_holds_the_view_of_its_position(history: History) -> None:
    """Whole ones and differences, by demand, by policy, of the past, and after others went."""
    views = history.derived()
    with history.store._environment.read() as txn:
        for position, raw in snapshots.headers(txn):
            header = snapshot_headers.parse_header(position, raw)
            assert snapshots.load(txn, header) == dict(views[position].rows())
            assert (header.images, header.time_ns) == (
                len(views[position]),
                views[position].time_ns,
            )


def test_a_difference_from_the_log_is_that_of_the_views(history: History) -> None:
    """Whichever two positions, whichever comes first, also where parents were deleted between."""
    views, choose = history.derived(), history.choose
    for _ in range(300):
        before, after = choose.randrange(len(views)), choose.randrange(len(views))
        expected = diff.between(views[before], views[after])
        assert history.store.diff(before, after) == expected


def test_a_snapshot_makes_the_one_before_a_difference(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the past takes the room of what was otherwise, not of all that was."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 50)
    with ImageStore.open(store_path) as store:
        for start in range(0, 400, 50):
            with store.transaction():
                for number in range(start, start + 50):
                    store.create(config(str(number)))
        store.delete(next(iter(store)))
        newest = store.take_snapshot()
        with store._environment.read() as txn:
            found = [snapshot_headers.parse_header(*entry) for entry in snapshots.headers(txn)]
        assert found[0].position == newest.position
        assert [header.over for header in found[:3]] == [0, *(h.position for h in found[:2])]
        assert len(found) >= 4
        for header in found[1:]:
            assert len(header.chunks) == int(header is found[1])  # the image that was deleted


def test_a_view_that_was_handed_out_outlives_its_snapshot_and_its_store(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads its chunks when they are needed, and they may be gone by then."""
    monkeypatch.setattr(snapshots, "CHUNK_LENGTH", 4)
    with ImageStore.open(store_path) as store:
        ids = [store.create(config(str(number))) for number in range(40)]
        for child, parent in zip(ids[1:], ids, strict=False):
            store.set_parent(child, parent)
        store.take_snapshot()
    with ImageStore.open(store_path) as store:
        expected = replay.from_nothing(store._environment, store.position)
        view = store.as_of(position=store.position)
        other = store.as_of(position=store.position)
        for found in store.snapshots():
            snapshots.drop(store._environment, found.position)
        assert view.get_parent(ids[7]) == ids[6]
        store.delete(ids[6])
        assert_same(view, expected)
    assert_same(other, expected)


def test_a_difference_needs_no_record_that_two_views_do_not_need(store_path: Path) -> None:
    """What lies behind a snapshot may be damaged: that is no business of the records after it."""
    with ImageStore.open(store_path) as store:
        ids = [store.create(config(name)) for name in "ab"]
        store.take_snapshot()
        for image_id in ids:
            store.set_last_updated(image_id, 5)
        expected = store.diff(2, 4)
        damaged = (1).to_bytes(8, "big"), b"damaged"
        store._environment.write(lambda txn: txn.put("log", *damaged, replace=True))
        assert store.diff(2, 4) == expected
        assert [change.image_id for change in expected.changed] == sorted(ids)


def test_a_view_that_lies_over_a_table_anew_asks_that_one_for_everything(store_path: Path) -> None:
    """A parent that only the table knows is one also for what changes from there on."""
    with ImageStore.open(store_path) as store:
        parent, child = (store.create(config(name)) for name in "ab")
        store.take_snapshot()
        environment, position = store._environment, store.position
        view = replay.from_nothing(environment, position)
        view.become(replay.view_at(environment, position))
        assert view.changes == 0
        store.set_parent(child, parent)
        replay.fold_log(view, environment, position + 1)
        assert view.get_parent(child) == parent
        assert_same(view, replay.from_nothing(environment, position + 1))


def test_a_view_of_the_past_that_has_come_far_is_kept_no_more(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that is moved on for ever would hold ever more."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 4)
    with ImageStore.open(store_path) as store:
        for number in range(100):
            store.create(config(str(number)))
        for position in range(100):
            store.as_of(position=position)
            kept = store._past._kept
            limit = 2 * snapshots.interval(position)
            assert kept is None or kept.changes <= limit


def test_no_way_to_a_past_snapshot_is_longer_than_two_whole_ones(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all images change all the time, some snapshots stay whole."""
    for name, value in (("INTERVAL_MIN", 8), ("CHUNK_LENGTH", 4), ("CHAIN_MIN", 0)):
        monkeypatch.setattr(snapshots, name, value)
    with ImageStore.open(store_path) as store:
        ids = [store.create(config(str(number))) for number in range(40)]
        for turn in range(12):
            with store.transaction():
                for image_id in ids:
                    store.set_last_updated(image_id, turn)
            store.take_snapshot()
        with store._environment.read() as txn:
            there = snapshots.sound(txn)
            whole = [header for header in there.values() if not header.over]
            assert 1 < len(whole) < len(there)
            for header in there.values():
                rows, at = 0, header
                while at.over:
                    rows += sum(
                        len(snapshots.read_columns(txn, at, number))
                        for number in range(len(at.chunks))
                    )
                    at = there[at.over]
                assert rows <= len(ids) + snapshots.CHUNK_LENGTH


def test_nothing_is_left_of_the_shape_that_a_snapshot_had(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pieces go as soon as a difference, or the same view anew, takes its place."""
    monkeypatch.setattr(snapshots, "CHUNK_LENGTH", 4)
    monkeypatch.setattr(snapshots, "DELETIONS_MAX", 3)
    with ImageStore.open(store_path) as store:
        environment = store._environment
        for turn in range(3):
            for number in range(30):
                store.create(config(f"{turn} {number}"))
            for _ in range(2):
                snapshots.put(environment, replay.view_at(environment, store.position))
        assert snapshots._strays(environment) == set()


def test_opening_reads_one_header_however_many_snapshots_there_are(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a million images are large."""
    monkeypatch.setattr(snapshots, "INTERVAL_MIN", 2)
    with ImageStore.open(store_path) as store:
        for number in range(40):
            store.create(config(str(number)))
        assert len(store.snapshots()) > 5
        store.take_snapshot()
    parsed: list[int] = []
    real = snapshots.parse_header

    def counting(position: int, raw: bytes) -> snapshots.Header:
        parsed.append(position)
        return real(position, raw)

    monkeypatch.setattr(snapshots, "parse_header", counting)
    with ImageStore.open(store_path) as store:
        assert parsed == [40]
        assert len(store) == 40


def test_a_branch_finds_every_image_while_another_table_is_laid_below(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread decides on it without the lock, while another stores a snapshot."""
    with ImageStore.open(store_path) as store:
        images = [digest.require(store.create(config(name))) for name in "abc"]
        live = store.view()
        branch = live.branch(None)
        asked: list[bool] = []
        real = States._lay

        def laying(states: States, table: Table) -> None:
            if states is live._states:
                asked.append(all(branch.state(image) is not None for image in images))
            real(states, table)
            if states is live._states:
                asked.append(all(branch.state(image) is not None for image in images))

        monkeypatch.setattr(States, "_lay", laying)
        store.take_snapshot()
        assert asked == [True, True]
        assert live.changes == 0
