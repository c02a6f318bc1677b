"""Drive the store through random histories and hold it against the model, now and at every past."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from comparing import assert_equal
from eventstore import (
    Checkpoint,
    CompactedError,
    EventStoreError,
    ImageNotFoundError,
    ImageStore,
    InvalidParentError,
    Manifest,
    RedactedError,
    TagNotFoundError,
    UndoError,
    verify_consistency,
)
from eventstore import snapshots as snapshots_module
from eventstore.merkle import EMPTY_ROOT
from making import id_of
from model import ModelStore

NAMES = ("docker.io/library/a:latest", "docker.io/library/b:1", "h.io/c:latest")
CHILD = Path(__file__).with_name("child.py")


def config_of(number: int) -> bytes:
    """Return the config of the image with this number."""
    return json.dumps({"comment": str(number), "rootfs": {"type": "layers"}}).encode()


def facts_of(model: ModelStore, image: str) -> int:
    """Return how many records make an image, created anew, what it was."""
    own = (image in model.parents, image in model.updated, image in model.built)
    return sum(own) + len(list(model.children(image)))


class UnwantedError(Exception):
    """Thrown into a transaction to make it fail."""


class StoreMachine(RuleBasedStateMachine):
    """Model = live view = replay from nothing = replay from every snapshot = as-of."""

    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="eventstore-machine-"))
        self.now = 1_000
        self.model = ModelStore()
        self.past = {0: self.model.copy()}
        self.redacted: set[str] = set()
        self.named: dict[str, str] = {}
        self.named_then: dict[int, dict[str, str]] = {0: {}}
        self.checkpoints = {0: Checkpoint(0, EMPTY_ROOT)}
        self.through = 0

    @initialize()
    def start(self) -> None:
        """Open an empty store."""
        self.open()

    def open(self) -> None:
        self.store = ImageStore.open(self.path / "store", actor="machine", now=lambda: self.now)

    def remember(self) -> None:
        """Keep the model as it is at the position that the store must have reached."""
        assert self.store.position == self.model.events
        self.past[self.model.events] = self.model.copy()
        self.named_then[self.model.events] = dict(self.named)
        self.checkpoints[self.model.events] = self.store.checkpoint()

    @rule(target=images, number=st.integers(0, 12))
    def create(self, number: int) -> str:
        """Create an image, again and again the same ones."""
        config = config_of(number)
        image_id = self.store.create(config, reason="test")
        assert image_id == self.model.create(config)
        self.remember()
        return image_id

    @rule(image=consumes(images))
    def delete(self, image: str) -> None:
        """Delete an image that may be gone already."""
        assert self.same(
            lambda: self.store.delete(image),
            lambda: self.model.delete(image) or [],
        )
        self.forget_names(image)
        self.remember()

    @rule(image=images, parent=st.one_of(st.none(), images))
    def set_parent(self, image: str, parent: str | None) -> None:
        """Give an image a parent, itself and its descendants among them, or none."""
        assert self.same(
            lambda: self.store.set_parent(image, parent),
            lambda: self.model.set_parent(image, parent),
        )
        self.remember()

    @rule(image=images, instant=st.one_of(st.none(), st.integers(-(2**60), 2**60)))
    def set_last_updated(self, image: str, instant: int | None) -> None:
        """Set the last update of an image, to now or to what a source kept."""
        assert self.same(
            lambda: self.store.set_last_updated(image, instant),
            lambda: self.model.set_last_updated(image, self.now if instant is None else instant),
        )
        self.remember()

    @rule(image=images)
    def set_built_locally(self, image: str) -> None:
        """Mark an image as built."""
        assert self.same(
            lambda: self.store.set_built_locally(image),
            lambda: self.model.set_built_locally(image),
        )
        self.remember()

    @rule()
    def undo(self) -> None:
        """Take the last batch back: all is as it was before it, or nothing has changed."""
        if not self.model.events:
            return
        (last,) = self.store.records(after=self.model.events - 1)
        try:
            self.store.undo(last.position)
        except (UndoError, CompactedError):
            assert self.store.position == self.model.events
            return
        self.model = self.past[last.batch - 1].copy()
        self.model.events = self.store.position
        self.named = dict(self.named_then[last.batch - 1])
        self.remember()

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Drop what only the past before some moment needs; that past is an error from then on."""
        through = data.draw(st.integers(1, self.model.events))
        found = self.store.compact(position=through, reason="retention")
        self.model.events += through > self.through
        self.through = max(through, self.through)
        assert found.through == self.store.horizon.through == self.through
        for past in (self.past, self.named_then):
            for position in [at for at in past if at < self.through]:
                del past[position]
                with pytest.raises(CompactedError):
                    self.store.as_of(position=position)
        self.remember()

    @rule(target=images, number=st.integers(13, 15), gone=st.booleans())
    def redact(self, number: int, gone: bool) -> str:
        """Redact an image that is there or gone; one that is redacted already comes back first."""
        config = config_of(number)
        image = id_of(config)
        if image in self.redacted:
            with pytest.raises(RedactedError):
                self.store.create(config)
            if image in self.model.configs:
                self.model.events += 2 + facts_of(self.model, image)
                self.model.events += list(self.named.values()).count(image)
                self.model.events += len(self.store.manifests(image))
            self.redacted.remove(image)
        self.store.create(config, allow_redacted=True)
        self.model.create(config)
        self.remember()
        if gone:
            self.store.delete(image)
            self.model.delete(image)
            self.forget_names(image)
            self.remember()
        self.model.events += 1
        assert self.store.redact(image, reason="a secret") == self.model.events
        self.redacted.add(image)
        self.remember()
        return image

    @rule(image=images, name=st.sampled_from(NAMES))
    def tag(self, image: str, name: str) -> None:
        """Give an image a name that another one may have, or it itself."""
        there = image in self.store
        moves = there and self.named.get(name) != image
        try:
            self.store.tag(name, image)
        except ImageNotFoundError:
            assert not there
        else:
            assert there
            self.named[name] = image
            self.model.events += moves
        self.remember()

    @rule(image=images, number=st.integers(1, 3))
    def describe(self, image: str, number: int) -> None:
        """Note a manifest of an image; the same again is no event, and no view changes."""
        manifest = Manifest(bytes([number]) * 32, "application/json", number, ())
        try:
            known = self.store.manifests(image)
            self.store.describe(image, manifest)
        except ImageNotFoundError:
            assert image not in self.model.configs
        else:
            self.model.events += manifest not in known
            expected = known if manifest in known else [manifest, *known]
            assert self.store.manifests(image) == expected
        self.remember()

    @rule(name=st.sampled_from(NAMES))
    def untag(self, name: str) -> None:
        """Take a name away that no image may have."""
        try:
            self.store.untag(name)
        except TagNotFoundError:
            assert name not in self.named
        else:
            del self.named[name]
            self.model.events += 1
        self.remember()

    def forget_names(self, image: str) -> None:
        """Take the names of an image that was deleted away."""
        self.named = {name: other for name, other in self.named.items() if other != image}

    def same(self, ours, models) -> bool:
        """Tell whether the store and the model answer alike, errors included."""
        outcomes = []
        for call in (ours, models):
            try:
                outcomes.append(call())
            except (ImageNotFoundError, InvalidParentError) as error:
                outcomes.append(type(error))
        return outcomes[0] == outcomes[1]

    @rule(
        target=images,
        numbers=st.lists(st.integers(0, 12), min_size=1, max_size=5),
        fails=st.booleans(),
    )
    def transaction(self, numbers: list[int], fails: bool):
        """Create a chain and delete its first in one batch, which may fail at its end."""
        before, model = self.store.position, self.model.copy()
        try:
            with self.store.transaction(reason="batch"):
                ids = []
                for number in numbers:
                    ids.append(self.store.create(config_of(number)))
                    model.create(config_of(number))
                    if len(ids) > 1:
                        self.same(
                            lambda: self.store.set_parent(ids[-1], ids[-2]),
                            lambda: model.set_parent(ids[-1], ids[-2]),
                        )
                self.store.delete(ids[0])
                model.delete(ids[0])
                assert_equal(self.store, model, self.redacted)
                left = {name: image for name, image in self.named.items() if image != ids[0]}
                assert self.store.tags() == left
                if fails:
                    raise UnwantedError
        except UnwantedError:
            assert self.store.position == before
            return multiple()
        self.model = model
        self.forget_names(ids[0])
        self.remember()
        batches = {record.batch for record in self.store.records(after=before)}
        assert batches <= {before + 1}
        return multiple(*ids)

    @rule(step=st.integers(-5_000, 5_000))
    def clock_moves(self, step: int) -> None:
        """Let the clock jump, backwards too."""
        self.now = max(0, self.now + step)

    @rule()
    def reopen(self) -> None:
        """Close and open again."""
        self.store.close()
        self.open()

    @rule()
    def take_snapshot(self) -> None:
        """Take a snapshot, and keep those that the policy would drop."""
        view = self.store.as_of(position=self.store.position)
        snapshots_module.put(self.store._environment, view)

    @precondition(lambda self: self.store.snapshots())
    @rule(data=st.data())
    def drop_snapshot(self, data: st.DataObject) -> None:
        """Drop any snapshot."""
        chosen = data.draw(st.sampled_from(self.store.snapshots()))
        snapshots_module.drop(self.store._environment, chosen.position)

    @precondition(lambda self: self.store.snapshots())
    @rule(data=st.data())
    def damage_snapshot(self, data: st.DataObject) -> None:
        """Flip a bit of a snapshot, and open again; nothing but time may change."""
        self.store.close()
        with lmdb.open(str(self.path / "store"), max_dbs=16, map_size=1 << 30) as env:
            handle = env.open_db(b"snapshots")
            with env.begin(write=True, db=handle) as txn:
                keys = [bytes(key) for key in txn.cursor().iternext(values=False)]
                key = data.draw(st.sampled_from(keys))
                value = bytearray(txn.get(key))
                bit = data.draw(st.integers(0, len(value) * 8 - 1))
                value[bit // 8] ^= 1 << bit % 8
                txn.put(key, bytes(value))
        self.open()
        problems = list(self.store.verify())
        assert {problem.kind for problem in problems} == {"snapshot"}
        for snapshot in {problem.position for problem in problems}:
            snapshots_module.drop(self.store._environment, snapshot)

    @rule(number=st.integers(0, 12))
    def crash(self, number: int) -> None:
        """Let another process be killed inside a transaction: nothing of it may be seen."""
        self.store.close()
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(self.path / "store"), str(number)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"inside\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        self.open()

    @invariant()
    def live_view_is_the_model(self) -> None:
        """The live view answers as the model does."""
        assert_equal(self.store, self.model, self.redacted)

    @invariant()
    def past_is_as_it_was(self) -> None:
        """Every past is as it was remembered, from nothing and from the best snapshot."""
        for position, model in self.past.items():
            assert_equal(self.store.as_of(position=position), model, self.redacted)

    @invariant()
    def whoever_kept_a_checkpoint_finds_the_past_as_it_was(self) -> None:
        """Every one that was ever given, whatever came since."""
        now = self.store.checkpoint()
        for position, kept in self.checkpoints.items():
            assert self.store.checkpoint(position) == kept
            assert verify_consistency(kept, now, self.store.consistency_proof(position))

    @invariant()
    def names_mean_what_they_should_now_and_then(self) -> None:
        """All at once, and one by one."""
        assert self.store.tags() == self.named
        for position, named in self.named_then.items():
            assert self.store.tags(position) == named
            for name in NAMES:
                try:
                    found = self.store.resolve(name, as_of=position)
                except ImageNotFoundError:
                    found = None
                assert found == named.get(name)

    def teardown(self) -> None:
        """Check the whole store and take it away."""
        try:
            assert list(self.store.verify()) == []
            times = [record.time_ns for record in self.store.records()]
            assert times == sorted(times)
            for position in range(self.through, self.store.position + 1):
                view = self.store.as_of(position=position)
                assert view.position == position
        except EventStoreError as error:  # pragma: no cover - the message is worth more
            raise AssertionError(str(error)) from error
        finally:
            self.store.close()
            shutil.rmtree(self.path)


TestStore = StoreMachine.TestCase
