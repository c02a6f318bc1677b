"""Check the structure of a store's file: at rest, while others write, and when it is bent."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eventstore import CorruptionError, ImageStore, check_store
from eventstore.lmdb_env import DATABASES
from eventstore.lmdb_pages import HEADER_SIZE, PageFile, head_fault
from making import config
from store.children import run, speaking


def bend(path: Path, database: bytes) -> None:
    """Damage the first leaf of a database where its entries are."""
    with PageFile(path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        tree = pages.trees(newest, [])[database]
        number, _ = next(pages.leaves(tree, "", []))
        at = number * pages.page_size + HEADER_SIZE
    with open(path / "data.mdb", "r+b") as file:
        file.seek(at)
        file.write(b"\xff\xff")


def filled(path: Path) -> None:
    """Make a store whose log takes several pages."""
    with ImageStore.open(path) as store, store.transaction():
        for number in range(100):
            store.create(config(str(number)))


def test_verify_of_an_open_store_names_a_bent_page_and_goes_on_without_lmdb(
    store_path: Path,
) -> None:
    """What can still be reached is checked, and what cannot be is missed."""
    filled(store_path)
    with ImageStore.open(store_path) as store:
        bend(store_path, b"log")
        found = list(store.verify())
        assert found[0].kind == "structure"
        assert [p.position for p in found if p.kind == "log"] == [1]
    assert list(check_store(store_path)) == found


def test_an_open_that_checks_the_structure_refuses_a_bent_page(store_path: Path) -> None:
    """Before LMDB maps it; a sound store, and one that is not there yet, open."""
    with ImageStore.open(store_path, check_structure=True) as store:
        store.create(config("a"))
    with ImageStore.open(store_path, check_structure=True) as store:
        assert len(store) == 1
    bend(store_path, b"configs")
    with pytest.raises(CorruptionError, match="salvage"):
        ImageStore.open(store_path, check_structure=True)


def test_writers_that_never_rest_make_no_problems(store: ImageStore) -> None:
    """What is found counts only if nothing was committed meanwhile, or writers are made to wait."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            store.create(config(f"{number}"))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            assert [problem for problem in store.verify() if problem.kind == "structure"] == []
    finally:
        done.set()
        writer.join()


def test_writers_of_another_process_make_no_problems_for_a_reader(store_path: Path) -> None:
    """A reader cannot make them wait; neither its checks nor its opens see a half of a commit."""
    script = (
        "with ImageStore.open(path) as store:\n    number = 0\n    while True:\n"
        "        store.create(config(number))\n        number += 1\n"
        "        if number == 1:\n            say('writing')\n"
    )
    with speaking(script, store_path):
        for _ in range(30):
            assert list(check_store(store_path)) == []


def test_verify_inside_a_transaction_waits_for_nobody(store: ImageStore) -> None:
    """The thread that holds writers off asks itself."""
    with store.transaction():
        store.create(config("a"))
        assert list(store.verify()) == []


def test_a_file_that_grows_between_two_looks_is_not_cut_short(store: ImageStore) -> None:
    """A commit may come between the opening of the file and the reading of its meta pages."""
    with PageFile(Path(store.path) / "data.mdb") as pages:
        before = pages.size
        store.create(config("a") + b" " * 100_000)
        assert head_fault(pages, DATABASES) is None
        assert pages.size > before


def test_a_bent_offset_in_the_list_of_databases_is_refused_before_lmdb_follows_it(
    store_path: Path,
) -> None:
    """It leads out of the page, and LMDB would read there, which can end the process."""
    ImageStore.open(store_path).close()
    with PageFile(store_path / "data.mdb") as pages:
        newest = max(pages.metas(), key=lambda meta: meta.commit)
        at = newest.main.root * pages.page_size + HEADER_SIZE + 3
    with open(store_path / "data.mdb", "r+b") as file:
        file.seek(at)
        bent = file.read(1)[0] ^ 0xFF
        file.seek(at)
        file.write(bytes([bent]))
    assert run("say(outcome(lambda: ImageStore.open(path)))", store_path) == ["CorruptionError"]
