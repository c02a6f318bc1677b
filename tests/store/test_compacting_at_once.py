"""Compact while others write, read and compact."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from eventstore import ImageStore
from store import children

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
