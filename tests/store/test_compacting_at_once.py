"""Compact while others write, read and compact."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from eventstore import ErasureUnfinishedError, ImageStore, log, replay, scrubbing, snapshots
from making import config, id_of
from store import children
from traces import count, secret_config, traces_of, writing_around

CONTENDER = """
import random
from eventstore import errors
chance, end = random.Random(int(sys.argv[3])), time.time() + 3
known = {}
with ImageStore.open(path) as store:
    while time.time() < end:
        last = store.position
        if sys.argv[2] == "compact":
            time.sleep(chance.random() / 5)
            if last > 50:
                store.compact(position=last - chance.randrange(1, 50))
        elif sys.argv[2] == "write":
            try:
                live = list(store)
                if chance.random() < 0.5 or not live:
                    store.create(config(chance.randrange(200)))
                elif chance.random() < 0.5:
                    store.delete(chance.choice(live))
                else:
                    store.tag(f"n{chance.randrange(9)}", chance.choice(live))
            except errors.ImageNotFoundError:
                pass
        else:
            at = chance.randrange(max(0, store.horizon.through - 20), last + 1)
            try:
                found = store.as_of(position=at).digest, store.tags(at)
                assert known.setdefault(at, found) == found, at
                store.diff(max(at - 5, 0), at)
            except errors.CompactedError:
                assert at - 5 < store.horizon.through
say("done")
"""


def test_many_may_write_read_and_compact_at_once(store_path: Path) -> None:
    """No past ever changes, and nobody meets another error than that it is gone."""
    ImageStore.open(store_path).close()
    roles = ["write", "write", "read", "read", "compact", "compact"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(children.started(CONTENDER, store_path, role, number))
            for number, role in enumerate(roles)
        ]
        for process in processes:
            assert process.communicate(timeout=60) == ("done\n", "")
    with ImageStore.open(store_path) as store:
        assert store.horizon.through > 0
        assert list(store.verify()) == []


def test_a_view_that_lies_over_what_is_dropped_is_moved(store_path: Path) -> None:
    """A process that has read nothing of its snapshot yet answers on when that is gone."""
    with ImageStore.open(store_path) as store:
        with store.transaction():
            for number in range(2_500):  # more than one chunk of a snapshot
                store.create(config(str(number)))
        store.take_snapshot()
        store.delete(id_of(config("1")))
    script = """
store = ImageStore.open(path)
say("open", store.position)
sys.stdin.readline()
say(len(store), len(list(store)), store.horizon.through)
store.create(config("more"))
say(len(store))
"""
    with children.speaking(script, store_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ImageStore.open(store_path) as store:
            store.compact(position=store.position)
            assert [found.position for found in store.snapshots()] == [2_501]
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "2499 2499 2501\n"
            assert process.stdout.readline() == "2500\n"
            assert list(store.verify()) == []


def test_a_fold_that_a_compaction_overtakes_begins_anew(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it began with holds images whose deletion is dropped."""
    with ImageStore.open(store_path) as store:
        for number in range(30):
            store.create(config(str(number)))
        snapshots.put(store._environment, store.as_of(position=30))
        for number in range(10):
            store.delete(id_of(config(str(number))))
        store.create(config("later"))
        last, expected = store.position, list(store.as_of(position=store.position).rows())
        pages, overtaken = log.pages, []

        def overtaking(*arguments):
            for page in pages(*arguments):
                yield page
                if not overtaken:
                    overtaken.append(True)
                    script = "with ImageStore.open(path) as store: store.compact(position=40)"
                    children.run(script, store_path)

        monkeypatch.setattr(log, "PAGE_LENGTH", 4)
        monkeypatch.setattr(log, "pages", overtaking)
        assert list(replay.view_at(store._environment, last).rows()) == expected
        assert overtaken


def test_views_over_what_is_dropped_are_read_before(store_path: Path) -> None:
    """Whoever was given one has it still, though nothing of it had been read."""
    with ImageStore.open(store_path) as store:
        with store.transaction():
            for number in range(2_500):
                store.create(config(str(number)))
        store.take_snapshot()
        store.create(config("later"))
        expected = sorted(store)
        store.delete(id_of(config("1")))
        store.delete(id_of(config("2")))
    with ImageStore.open(store_path) as store:
        view = store.as_of(position=2_501)
        store.compact(position=store.position)
        assert sorted(view) == expected


@pytest.mark.parametrize("size", [300, 3_000])
def test_no_byte_comes_back_from_the_memory_of_another_process(store_path: Path, size: int) -> None:
    """LMDB writes pages made of used memory; who wrote the config must not write it again."""
    secret = secret_config("plain", size)
    traces = traces_of(secret)
    file = store_path.parent / "secret"
    file.write_bytes(secret)
    with children.speaking(writing_around("store.delete(created)"), store_path, file) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ImageStore.open(store_path) as store:
            assert count(store_path, traces) > 0
            store.compact(position=store.position)
            assert count(store_path, traces) == 0
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            assert count(store_path, traces) == 0
            assert len(store) == 90
            assert list(store.verify()) == []


def test_in_a_read_that_lasts_nothing_can_be_destroyed_and_the_next_compaction_ends_it(
    store: ImageStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is dropped, its bytes are there; that is an error, not a promise that was not kept."""
    monkeypatch.setattr(scrubbing, "READERS_WAIT_SECONDS", 0.0)
    secret = secret_config("plain", 3_000)
    store.delete(store.create(secret))
    store.create(config("last"))
    script = """
with ImageStore.open(path, read_only=True) as store, store._environment.read():
    say("reading")
    sys.stdin.readline()
"""
    with children.speaking(script, store_path) as process:
        with pytest.raises(ErasureUnfinishedError) as caught:
            store.compact(position=3)
        assert caught.value.processes == (process.pid,)
        assert not store.horizon.unfinished
        assert count(store_path, traces_of(secret)) > 0
        process.communicate("\n", timeout=30)
    assert store.compact(position=3).records == 0
    assert count(store_path, traces_of(secret)) == 0
