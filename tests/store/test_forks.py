"""Fork at the worst moments: the child is told, at once, and the parent never notices.

Each script forks in a process of its own, for the processes that run tests have threads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from store.children import run

FORK = """
def fork(work):
    child = os.fork()
    if child == 0:
        signal.alarm(8)
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
store = ImageStore.open(path, actor="parent")
a = store.create(config("a"))
"""


@pytest.mark.parametrize(
    "call",
    [
        "store.position",
        "list(store)",
        "store.get(a)",
        "store.heads()",
        "store.create(config('c'))",
        "store.delete(a)",
        "store.set_built_locally(a)",
        "store.take_snapshot()",
    ],
)
def test_a_child_that_was_forked_in_a_transaction_is_told_at_every_call(
    store_path: Path, call: str
) -> None:
    """The transaction is the parent's; what is pending in it is not an answer."""
    said = run(
        FORK + "with store.transaction():\n"
        "    store.create(config('b'))\n"
        f"    fork(lambda: say(outcome(lambda: {call})))\n"
        "say(len(store), len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["StoreForkedError", "2 0"]


def test_a_child_that_leaves_the_parents_transaction_commits_nothing(store_path: Path) -> None:
    """Two processes with one transaction would write over each other's pages."""
    said = run(
        FORK + "context = store.transaction(reason='batch')\n"
        "context.__enter__()\n"
        "store.create(config('b'))\n"
        "def leave():\n"
        "    outcome(lambda: store.set_built_locally(a))\n"
        "    say(outcome(lambda: context.__exit__(None, None, None)))\n"
        "fork(leave)\n"
        "for number in range(50):\n    store.create(config(number))\n"
        "context.__exit__(None, None, None)\n"
        "say(len(store), store.position, len(list(store.verify())))\n"
        "store.close()\n"
        "with ImageStore.open(path) as store:\n"
        "    kinds = {type(record.event).__name__ for record in store.records()}\n"
        "    say(len(store), *kinds, len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["StoreForkedError", "52 52 0", "52 Created 0"]


@pytest.mark.parametrize("call", ["store.create(config('c'))", "store.delete(a)", "len(store)"])
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have(
    store_path: Path, call: str
) -> None:
    """The locks of a thread in a transaction at the fork are not the child's."""
    said = run(
        FORK + "inside, leave = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with store.transaction():\n"
        "        store.create(config('b'))\n"
        "        inside.set()\n"
        "        leave.wait()\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start()\n"
        "inside.wait()\n"
        f"fork(lambda: say(outcome(lambda: {call})))\n"
        "leave.set()\n"
        "thread.join()\n"
        "say(len(store))\n",
        store_path,
    )
    assert said == ["StoreForkedError", "2"]


def test_closing_what_was_inherited_does_not_allow_a_second_open(store_path: Path) -> None:
    """The child's own store is the one that counts in the child."""
    said = run(
        FORK + "def child():\n"
        "    own = ImageStore.open(path)\n"
        "    store.close()\n"
        "    say(outcome(lambda: ImageStore.open(path)))\n"
        "    own.create(config('c'))\n"
        "    own.close()\n"
        "fork(child)\n"
        "say(len(store), outcome(lambda: ImageStore.open(path)))\n",
        store_path,
    )
    assert said == ["StoreInUseError", "2 StoreInUseError"]


def test_a_child_that_ends_by_itself_takes_nothing_from_the_parent(store_path: Path) -> None:
    """Python tears its objects down; the parent's map, locks and file stay."""
    said = run(
        FORK + "child = os.fork()\n"
        "if child == 0:\n    sys.exit(0)\n"
        "say(os.waitpid(child, 0)[1])\n"
        "store.create(config('b'))\n"
        "other = 'import sys; from eventstore import ImageStore\\n'\n"
        "other += 'with ImageStore.open(sys.argv[1]) as s: s.delete(next(iter(s)))'\n"
        "subprocess.run([sys.executable, '-c', other, path], check=True)\n"
        "say(len(store), len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["0", "1 0"]


def test_following_what_was_inherited_is_refused_and_does_not_just_end(store_path: Path) -> None:
    """An empty answer would look like a quiet store."""
    said = run(
        FORK + "fork(lambda: say(outcome(lambda: list(store.follow(after=0)))))\n", store_path
    )
    assert said == ["StoreForkedError"]


def test_a_child_that_was_forked_inside_the_store_is_told_why_it_cannot_open_its_own(
    store_path: Path,
) -> None:
    """LMDB opens no file twice in a process, and what the parent held cannot be let go of."""
    said = run(
        FORK + "opened = lambda: type(ImageStore.open(path)).__name__\n"
        "inside, leave = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with store._environment.read():\n"
        "        inside.set()\n"
        "        leave.wait()\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start()\n"
        "inside.wait()\n"
        "fork(lambda: say(outcome(opened)))\n"
        "leave.set()\n"
        "thread.join()\n"
        "with store.transaction():\n"
        "    fork(lambda: say(outcome(opened)))\n"
        "fork(lambda: say(outcome(opened)))\n"
        "say(len(store), len(list(store.verify())))\n",
        store_path,
    )
    assert said == ["StoreForkedError", "StoreForkedError", "ImageStore", "1 0"]


def test_a_file_that_the_program_opened_itself_is_in_use(store_path: Path) -> None:
    """A second open of the file in one process is refused with an error of ours."""
    said = run(
        "import lmdb\n"
        "ImageStore.open(path).close()\n"
        "env = lmdb.open(path)\n"
        "say(outcome(lambda: ImageStore.open(path)))\n",
        store_path,
    )
    assert said == ["StoreInUseError"]
