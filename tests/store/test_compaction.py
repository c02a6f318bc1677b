"""Drop what only the past needs: what stays is what it was, and what goes is nowhere."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    Compacted,
    CompactedError,
    ImageNotFoundError,
    ImageStore,
    InvalidParentError,
    MemoryLayerStore,
    RedactedError,
    StoreReadOnlyError,
    StoreUsageError,
    TagNotFoundError,
    UndoError,
    check_export,
    check_store,
    dropped,
    export_records,
    import_records,
    replay,
    restore,
    salvage,
    snapshots,
    verify_consistency,
    verify_inclusion,
)
from eventstore.audit import audit
from eventstore.blame import Blame
from eventstore.notes import LogCheckpoint
from eventstore.signing import origin_of
from eventstore.tiles import export_tiles
from making import config, id_of
from store import children
from store.test_layers import L1, L2, stacked
from traces import count, secret_config, traces_of

A, B, C, D = (id_of(config(name)) for name in "abcd")
NAMES = [f"docker.io/library/app{number}:latest" for number in range(4)]


def live_through(store: ImageStore, chance: random.Random, steps: int) -> None:
    """Let a store have a history of everything that can happen to a few images."""
    ids = [id_of(config(str(number))) for number in range(14)]
    for _ in range(steps):
        image, other = chance.sample(ids, 2)
        act = chance.choice(["create"] * 5 + ["delete"] * 2 + ["parent"] * 2 + list("tubrg"))
        try:
            if act == "create":
                store.create(config(str(ids.index(image))), reason="made")
            elif act == "delete":
                store.delete(image)
            elif act == "parent":
                store.set_parent(image, other)
            elif act == "t":
                store.tag(chance.choice(NAMES), image)
            elif act == "u":
                store.untag(chance.choice(NAMES))
            elif act == "b":
                store.set_built_locally(image)
            elif act == "r" and chance.random() < 0.4:
                store.redact(image, reason="a secret")
            else:
                with store.transaction(reason="a batch"):
                    store.set_last_updated(image)
                    store.delete(other)
        except (ImageNotFoundError, InvalidParentError, RedactedError, TagNotFoundError):
            pass


Then = dict[int, tuple[dict[bytes, Any], str, dict[str, str]]]


def all_then(store: ImageStore) -> Then:
    """Return all that can be known of every moment."""
    moments: Then = {}
    for position in range(store.position + 1):
        view = store.as_of(position=position)
        moments[position] = dict(view.rows()), view.digest, store.tags(position)
    return moments


def facts(blame: Blame) -> tuple[object, ...]:
    """Return what a blame says is so, and why, where that cannot have been dropped."""
    assert blame.parent is not None
    return blame.exists, blame.built, blame.last_updated, blame.names, blame.parent.value


def assert_kept(store: ImageStore, then: Then, through: int) -> None:
    """All from the horizon on is as it was, and all before is an error."""
    for position, (rows, digest, tags) in then.items():
        if position < through:
            for look in (
                lambda at=position: store.as_of(position=at),
                lambda at=position: store.tags(at),
                lambda at=position: store.resolve(NAMES[0], as_of=at),
                lambda at=position: store.diff(at, store.position),
                lambda at=position: store.blame(A, as_of=at),
            ):
                with pytest.raises(CompactedError) as caught:
                    look()
                assert caught.value.through == through
            continue
        view = store.as_of(position=position)
        assert (dict(view.rows()), view.digest, store.tags(position)) == (rows, digest, tags)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), where=st.floats(0, 1))
def test_everything_from_the_horizon_on_is_what_it_was(seed: int, where: float) -> None:
    """Views, names, blame, checkpoints; now, opened again, and in a store salvaged from it."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path, ticks = Path(folder, "store"), iter(range(10**18, 2 * 10**18, 10**9))
        with ImageStore.open(path, now=lambda: next(ticks)) as store:
            live_through(store, chance, 120)
            store.create(config("last"))
            then = all_then(store)
            blamed = {image: facts(store.blame(image)) for image in store}
            checkpoints = {at: store.checkpoint(at) for at in range(store.position + 1)}
            middle, through = sorted(
                1 + int(share * (store.position - 1)) for share in (where / 2, where)
            )
            would = store.compact(position=middle, dry_run=True)
            done = store.compact(position=middle, reason="retention")
            assert (would.records, would.kept, would.configs, would.names) == (
                done.records, done.kept, done.configs, done.names)  # fmt: skip
            store.compact(position=through)
            end = store.position

        def check(opened: ImageStore) -> None:
            assert list(opened.verify()) == []
            assert_kept(opened, then, through)
            assert {image: facts(opened.blame(image)) for image in opened} == blamed
            for at, kept in checkpoints.items():
                assert opened.checkpoint(at) == kept
                proof = opened.consistency_proof(at)
                assert verify_consistency(kept, opened.checkpoint(), proof)
            from_nothing = replay.from_nothing(opened._environment, end)
            assert dict(from_nothing.rows()) == dict(opened.as_of(position=end).rows())

        with ImageStore.open(path) as store:
            check(store)
        report = salvage(path, Path(folder, "salvaged"))
        assert (report.lost, report.position) == ((), end)
        with ImageStore.open(Path(folder, "salvaged")) as store:
            check(store)


@pytest.fixture
def old(store_path: Path) -> Iterator[ImageStore]:
    """Return a store where A is gone since 3, B lives on, and C came at 6; the clock ticks."""
    ticks = iter(range(10**18, 2 * 10**18, 10**9))
    with ImageStore.open(store_path, actor="ci", now=lambda: next(ticks)) as store:
        store.create(config("a"))
        store.create(config("b"))
        store.delete(A, reason="old")
        store.tag("b", B)
        store.set_built_locally(B)
        store.create(config("c"))
        store.delete(C, reason="young")
        yield store


def test_the_log_says_so_and_passes_over_what_was_dropped(old: ImageStore) -> None:
    """Who, when, why, how far, and the root hash; those that are kept are the very same."""
    before = {record.position: record for record in old.records()}
    root, view = old.checkpoint(5).root_hash, old.as_of(position=5).rows_digest
    done = old.compact(position=5, reason="90 days")
    assert (done.records, done.kept, done.configs, done.by) == (2, 3, 1, 8)
    records = list(old.records())
    assert [record.position for record in records] == [2, 4, 5, 6, 7, 8]
    assert records[:-1] == [before[at] for at in (2, 4, 5, 6, 7)]
    said = records[-1]
    assert said.event == Compacted(5, root, view)
    assert (said.actor, said.reason, said.image_id, said.previous) == ("ci", "90 days", "", 0)
    assert list(old.records(reverse=True)) == records[::-1]
    assert [record.position for record in old.records(B)] == [2, 4, 5]
    assert old.horizon == dropped.Horizon(5, 8, before[5].time_ns, 2, unfinished=False)


def test_what_is_gone_is_not_known_any_more(old: ImageStore) -> None:
    """Neither the image, nor its deletion; C was deleted later, and is."""
    old.compact(position=5)
    with pytest.raises(ImageNotFoundError) as caught:
        old.get(A)
    assert caught.value.deleted is None
    for look in (old.records, old.story, old.blame, old.restore_image):
        with pytest.raises(ImageNotFoundError):
            look(A)
    with pytest.raises(ImageNotFoundError):
        old.search_history(A)
    assert old.restore_image(C).records[0].event.image_id == C
    for position in (1, 3):
        with pytest.raises(CompactedError, match=f"@{position} is gone"):
            old.undo(position)
    with pytest.raises(CompactedError):
        old.undo(2)
    with pytest.raises(UndoError, match="is a compaction"):
        old.undo(8)


def test_an_image_that_is_gone_can_come_again(old: ImageStore) -> None:
    """As if it had never been; a name as well."""
    old.tag("c2", old.create(config("c")))
    old.delete(C)
    old.compact(position=old.position)
    assert old.tags() == {"docker.io/library/b:latest": B}
    with pytest.raises(TagNotFoundError):
        old.tag_records("c2")
    old.tag("c2", old.create(config("a")))
    old.tag("c2", old.create(config("c")))
    assert old.get(A).parent is None
    assert [one.event.image_id for one in old.tag_records("c2")] == [A, C]
    assert list(old.verify()) == []


def test_times_find_what_can_be_looked_at(old: ImageStore) -> None:
    """The horizon from its own time on, though its record was dropped; before it, an error."""
    old.compact(position=3)
    assert next(record.position for record in old.records()) == 2
    moment = datetime.fromtimestamp(10**9 + 3, UTC)  # the store was made at the first tick
    assert old.position_at(moment) == 3
    assert A not in old.as_of(time=moment)
    with pytest.raises(CompactedError):
        old.as_of(time=10**18 + 2 * 10**9)
    assert old.position_at(10**18 + 4 * 10**9) == 4


def test_compacting_again_goes_on_or_does_nothing(old: ImageStore) -> None:
    """No event where nothing is new; an earlier moment is no way back."""
    old.compact(position=5)
    for position in (5, 2):
        again = old.compact(position=position)
        assert (again.through, again.records, again.by) == (5, 0, 8)
    assert old.position == 8
    further = old.compact(position=8)
    assert (further.records, further.by, old.position) == (2, 9, 9)
    assert list(old.verify()) == []


def test_a_dry_run_changes_no_byte(old: ImageStore, store_path: Path) -> None:
    """And says what the same call does then."""
    raw = (store_path / "data.mdb").read_bytes()
    would = old.compact(position=5, dry_run=True)
    assert (store_path / "data.mdb").read_bytes() == raw
    assert would.dry_run
    assert (would.records, would.configs, would.by, old.position) == (2, 1, 0, 7)


def test_what_cannot_be_is_refused(old: ImageStore, store_path: Path) -> None:
    """A clear error each, and nothing is changed."""
    for moment in ({}, {"position": 1, "time": 1}, {"position": 0}, {"position": 99}, {"time": 5}):
        with pytest.raises(StoreUsageError):
            old.compact(**moment)
    with old.transaction(), pytest.raises(StoreUsageError):
        old.compact(position=5)
    old.close()
    with ImageStore.open(store_path, read_only=True) as store:
        with pytest.raises(StoreReadOnlyError):
            store.compact(position=5)
        assert store.position == 7


def test_proofs_of_every_record_hold_as_before(old: ImageStore, tmp_path: Path) -> None:
    """Made before, and made after, of those that were dropped as well; an audit, too."""
    old.create(config("more"))
    end = old.position
    checkpoint = old.checkpoint()
    leaves = {at: old.leaf_hash(at) for at in range(1, end + 1)}
    proofs = {at: old.inclusion_proof(at, end) for at in leaves}
    old.compact(position=7)
    for at, leaf in leaves.items():
        assert old.leaf_hash(at) == leaf
        assert old.inclusion_proof(at, end) == proofs[at]
        assert verify_inclusion(checkpoint, at, leaf, old.inclusion_proof(at, end))
    export_tiles(old, tmp_path / "tiles")
    assert (tmp_path / "tiles" / "tile" / "0" / "000.p" / str(old.position)).is_file()
    assert not (tmp_path / "tiles" / "tile" / "entries").exists()
    path, origin, now = old.path, origin_of(old.store_id), old.checkpoint()
    old.close()
    for at in range(end + 1):
        with ImageStore.open(path) as store:
            kept = store.checkpoint(at)
        assert audit(path, LogCheckpoint(origin, kept)) == now


def test_an_export_goes_back_to_the_horizon_only(old: ImageStore, tmp_path: Path) -> None:
    """From there on it is what it always was, and can be carried on elsewhere."""
    export_records(old, tmp_path / "first", through=5)
    import_records(tmp_path / "first", tmp_path / "mirror")
    old.compact(position=5)
    for after in (0, 4):
        with pytest.raises(CompactedError):
            export_records(old, tmp_path / "out", after=after)
    assert not (tmp_path / "out").exists()
    export_records(old, tmp_path / "rest", after=5)
    assert check_export(tmp_path / "rest").checkpoint == old.checkpoint()
    import_records(tmp_path / "rest", tmp_path / "mirror")
    with ImageStore.open(tmp_path / "mirror") as mirror:
        assert mirror.checkpoint() == old.checkpoint()
        assert list(mirror.verify()) == []
        assert mirror.horizon.through == 5
        with pytest.raises(CompactedError):
            mirror.as_of(position=4)


def test_a_mirror_forgets_alike_and_can_be_carried_on(old: ImageStore, tmp_path: Path) -> None:
    """An image that comes again has no past in either; names neither. Nothing is left of it."""
    old.tag("a", old.create(config("a")))
    old.delete(A)
    export_records(old, tmp_path / "first")
    import_records(tmp_path / "first", tmp_path / "mirror")
    before = old.position
    old.compact(position=before)
    old.tag("a", old.create(config("a")))
    export_records(old, tmp_path / "rest", after=before)
    import_records(tmp_path / "rest", tmp_path / "mirror")
    old.compact(position=old.position)
    old.create(config("d"))
    export_records(old, tmp_path / "more", after=before + 3)
    import_records(tmp_path / "more", tmp_path / "mirror")
    with ImageStore.open(tmp_path / "mirror") as mirror:
        assert mirror.checkpoint() == old.checkpoint()
        assert (sorted(mirror), mirror.tags()) == (sorted(old), old.tags())
        assert mirror.horizon == old.horizon
        assert list(mirror.verify()) == []


def test_an_import_that_was_killed_before_it_compacted_is_ended(
    old: ImageStore, tmp_path: Path
) -> None:
    """The record is there, and nothing was dropped; the same import again does that first."""
    export_records(old, tmp_path / "first")
    import_records(tmp_path / "first", tmp_path / "mirror")
    last = old.position
    old.compact(position=last)
    old.create(config("a"))
    export_records(old, tmp_path / "rest", after=last)
    with ImageStore.open(tmp_path / "mirror") as mirror:
        mirror.append_exact([(next(old.records(after=last)), None)])
        assert mirror.horizon.through == 0
    import_records(tmp_path / "rest", tmp_path / "mirror")
    with ImageStore.open(tmp_path / "mirror") as mirror:
        assert (mirror.checkpoint(), mirror.horizon) == (old.checkpoint(), old.horizon)
        assert list(mirror.verify()) == []


def test_a_copy_is_compacted_as_well(old: ImageStore, tmp_path: Path) -> None:
    """And can be compacted further; what was dropped is not in it."""
    old.compact(position=5)
    old.backup(tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "restored")
    with ImageStore.open(tmp_path / "restored") as store:
        assert store.horizon.through == 5
        store.compact(position=7)
        assert len(store) == 1
        assert list(store.verify()) == []


@pytest.mark.parametrize("size", [300, 30_000])
def test_no_byte_of_what_was_dropped_is_left(
    store: ImageStore, store_path: Path, size: int
) -> None:
    """Of the config, of the digest, and of what people wrote; neither now nor after more writes."""
    secret = secret_config("plain", size)
    reason = "who and why, of a thing that must be forgotten"
    for number in range(40):
        store.create(config(str(number)))
    image = store.create(secret, reason=reason)
    store.tag("secret-name-of-something", image)
    snapshots.put(store._environment, store.as_of(position=store.position))
    store.delete(image)
    for number in range(40, 80):
        store.create(config(str(number)))
    snapshots.put(store._environment, store.as_of(position=store.position))
    traces = traces_of(secret) | traces_of(reason.encode()) | {b"secret-name-of-s"}
    traces.add(bytes.fromhex(image.removeprefix("sha256:"))[:16])
    assert count(store_path, traces) > 100
    old = min(found.position for found in store.snapshots())
    assert old < 60
    store.compact(position=60)
    assert min(found.position for found in store.snapshots()) >= 60
    assert count(store_path, traces) == 0
    for number in range(80, 120):
        store.create(config(str(number)))
    store.close()
    assert count(store_path, traces) == 0
    assert list(check_store(store_path)) == []


def test_a_redacted_config_goes_on_being_refused(store: ImageStore) -> None:
    """With who, when and why: to forget that would let the secret in again."""
    for name in ("a", "b"):
        store.create(config(name))
    store.tag("a", A)
    store.delete(A)
    position = store.redact(A, reason="a password")
    store.redact(B, reason="another")
    store.compact(position=store.position)
    store.compact(position=store.position)
    with pytest.raises(RedactedError, match="a password") as caught:
        store.create(config("a"))
    assert caught.value.position == position
    with pytest.raises(RedactedError, match="another"):
        store.get(B)
    assert store.search_history(A) == A
    assert list(store.verify()) == []


def test_an_orphan_is_told_that_its_parents_deletion_was_dropped(store: ImageStore) -> None:
    """Blame names the compaction, by whom and why, and no parent."""
    for name in "ab":
        store.create(config(name))
    store.set_parent(B, A)
    store.delete(A)
    store.create(config("a"))  # another life
    by = store.compact(position=store.position, reason="retention").by
    blame = store.blame(B)
    assert blame.parent is not None
    assert (blame.parent.value, blame.parent.record.position) == (None, by)
    assert store.get_parent(B) is None
    assert [record.position for record in store.story(B)] == [2, 3, by]


def test_a_name_that_was_taken_by_what_is_gone_is_not_given_back(store: ImageStore) -> None:
    """B is gone, and took the name from A before; A must not have it again."""
    for name in "ab":
        store.tag("app", store.create(config(name)))
    store.delete(B)
    store.compact(position=store.position)
    assert store.tags() == {}
    assert store.blame(A).names == ()
    with pytest.raises(ImageNotFoundError):
        store.resolve("app", as_of=store.position)
    store.create(config("b"))
    assert store.tags() == {}
    with pytest.raises(ImageNotFoundError):
        store.resolve("app", as_of=store.position)
    assert list(store.verify()) == []


def test_bisect_begins_at_the_horizon(old: ImageStore) -> None:
    """There is nothing to be asked before."""
    old.compact(position=5)
    found = old.bisect(lambda view: C in view, through=6)
    assert found is not None
    assert found.position == 6


def test_views_that_were_given_out_before_answer_on(old: ImageStore) -> None:
    """Whoever holds one has it still; so it is with what iterates."""
    old.take_snapshot()
    view = old.as_of(position=2)
    records = old.records()
    old.compact(position=7)
    assert sorted(view) == sorted([A, B])
    assert [record.position for record in records] == [2, 4, 5]


def test_layers_of_images_that_are_kept_are_held(store_path: Path) -> None:
    """Opened again as well: what takes a reference stands in a record that is kept."""
    layers = MemoryLayerStore()
    layers.add([L1, L2], diff_size=10)
    with ImageStore.open(store_path, layers=layers) as store:
        gone = store.create(stacked("gone", L1))
        store.create(stacked("there", L1, L2))
        store.delete(gone)
        store.compact(position=store.position)
        held = layers.references()
    again = MemoryLayerStore()
    again.add([L1, L2], diff_size=10)
    with ImageStore.open(store_path, layers=again) as store:
        assert len(store) == 1
        assert again.references() == held


ELSEWHERE = """
with ImageStore.open(path) as store:
    for name in "bcd":
        store.create(config(name))
    store.compact(position=store.position)
"""


def test_who_has_not_looked_since_before_the_horizon_starts_anew(old: ImageStore) -> None:
    """What lies between cannot be folded any more."""
    assert len(old) == 1
    children.run(ELSEWHERE, old.path)
    assert (len(old), old.position, old.horizon.through) == (4, 11, 10)
    assert B in old
    old.create(config("e"))
    assert list(old.verify()) == []


def test_who_holds_layers_must_open_anew(store_path: Path) -> None:
    """For which to release, the records would say that were dropped."""
    with ImageStore.open(store_path, layers=MemoryLayerStore()) as store:
        store.create(config("a"))
        children.run(ELSEWHERE, store_path)
        with pytest.raises(CompactedError):
            len(store)
    with ImageStore.open(store_path, layers=MemoryLayerStore()) as store:
        assert len(store) == 4


@pytest.mark.parametrize("writes", [*range(12), 20, 40])
def test_a_process_killed_in_the_middle_leaves_a_sound_store(store_path: Path, writes: int) -> None:
    """Killed at any commit: all from the horizon on is there, and the next compaction ends it."""
    with ImageStore.open(store_path) as store:
        live_through(store, random.Random(writes), 150)
        store.take_snapshot()
        store.create(config("last"))
        then = all_then(store)
        through = store.position // 2
    script = """
from eventstore import compaction, lmdb_env, log
log.PAGE_LENGTH = 16
compaction._CONFIGS_A_WRITE = 2
store = ImageStore.open(path)
left, commit = int(sys.argv[3]), lmdb_env.WriteSession.commit
def counted(self):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    commit(self)
lmdb_env.WriteSession.commit = counted
store.compact(position=int(sys.argv[2]))
"""
    with children.started(script, store_path, through, writes) as process:
        process.communicate(timeout=60)
        assert process.returncode in (-9, 0)
    assert list(check_store(store_path)) == []
    with ImageStore.open(store_path) as store:
        noted = store.horizon.through
        assert noted in (0, through)
        assert_kept(store, then, noted)
        rows = dict(store.as_of(position=store.position).rows())
        if noted:
            again = replay.from_nothing(store._environment, store.position)
            assert dict(again.rows()) == rows
        store.delete(min(store))
        store.create(config("meanwhile"))
        assert list(store.verify()) == []
        store.compact(position=through)
        assert not store.horizon.unfinished
        assert list(store.verify()) == []
        assert_kept(store, then, through)
    report = salvage(store_path, store_path.parent / "salvaged")
    assert report.lost == ()


def test_another_process_that_looks_on_sees_no_wrong_past(store_path: Path) -> None:
    """What it asks of the time before is an error, of the time after what it was."""
    with ImageStore.open(store_path) as store:
        live_through(store, random.Random(5), 200)
        store.take_snapshot()
        store.create(config("last"))
        then = all_then(store)
        through = store.position - 20
    script = """
store = ImageStore.open(path, read_only=True)
len(store)
say("open")
sys.stdin.readline()
through, ends = int(sys.argv[2]), []
for position in range(store.position):
    found = outcome(lambda: store.as_of(position=position).digest)
    say(position, found)
say("live", store.as_of(position=int(sys.argv[3])).digest, len(store), store.horizon.through)
"""
    with children.speaking(script, store_path, through, len(then) - 1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ImageStore.open(store_path) as store:
            store.compact(position=through)
            process.stdin.write("\n")
            process.stdin.flush()
            for position in range(store.position):
                said, found = process.stdout.readline().split()
                expected = "CompactedError" if position < through else then[position][1]
                assert (int(said), found) == (position, expected)
            assert process.stdout.readline().split()[1:] == [
                then[len(then) - 1][1], str(len(store)), str(through)]  # fmt: skip
