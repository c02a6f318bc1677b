"""The number of the newest commit, read from the file, is what LMDB itself says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eventstore import ImageStore, StoreClosedError
from eventstore.commit_numbers import CommitNumbers
from making import config


def test_the_number_in_the_file_is_that_of_a_transaction(store_path: Path) -> None:
    """After every commit, in both meta pages' turns, and after the map has grown."""
    with ImageStore.open(store_path, map_size=1 << 17) as store:
        environment = store._environment
        path, page_size = store_path / "data.mdb", environment._page_size
        numbers = CommitNumbers.of(path, page_size)
        assert numbers is not None
        seen: list[int] = []
        for number in range(60):
            store.create(config(random.Random(number).randbytes(1_500).hex()))
            with environment.read() as txn:
                seen.append(txn.number)
            assert numbers.newest() == environment.commit_number() == seen[-1]
        assert seen == sorted(set(seen))
        assert environment._env.info()["map_size"] > 1 << 17


def test_a_closed_store_has_no_newest_commit(store_path: Path) -> None:
    """The file is not asked then."""
    store = ImageStore.open(store_path)
    store.close()
    with pytest.raises(StoreClosedError):
        store._environment.commit_number()
