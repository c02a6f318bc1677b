"""Use a store from asyncio: the loop goes on, and cancelling leaves nothing half done."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    ImageNotFoundError,
    ImageStore,
    StoreClosedError,
    StoreNotFoundError,
    StoreUsageError,
)
from eventstore.async_store import AsyncImageStore, outcome
from making import config, id_of
from store import children

A, B, C = (id_of(config(name)) for name in "abc")
Body = Callable[[AsyncImageStore], Coroutine[Any, Any, None]]


def with_store(path: Path, body: Body, **options: Any) -> None:
    """Open a store in a loop, do something with it, and check it in the end."""

    async def main() -> None:
        async with await AsyncImageStore.open(path, **options) as store:
            await asyncio.wait_for(body(store), 60)
            assert [problem async for problem in store.verify()] == []

    asyncio.run(main())


async def listed(items: AsyncIterator[Any]) -> list[Any]:
    """Return all that an iteration gives."""
    return [item async for item in items]


def test_every_public_method_has_its_equal() -> None:
    """By name; what is missing is missing for a reason, and what is more is a property there."""
    ours = {name for name in dir(AsyncImageStore) if not name.startswith("_")}
    theirs = {name for name in dir(ImageStore) if not name.startswith("_")}
    assert theirs - ours == {"view"}
    assert ours - theirs == {"count", "contains"}


def test_arguments_and_documents_are_those_of_the_store() -> None:
    """They are made of the very methods."""
    for name in ("get", "records", "create", "undo", "compact", "as_of"):
        found = inspect.getattr_static(AsyncImageStore, name)
        assert found._method is getattr(ImageStore, name)
        assert found.__doc__ == getattr(ImageStore, name).__doc__


def test_it_does_what_the_store_does(store_path: Path) -> None:
    """Mutations, reads, the past, iterations, errors with what they explain."""

    async def body(store: AsyncImageStore) -> None:
        assert await store.create(config("a"), reason="first") == A
        await store.create(config("b"))
        await store.set_parent(B, A)
        await store.tag("app", A)
        assert (await store.position(), await store.count()) == (4, 2)
        assert await store.get_parent(B) == A
        assert await store.contains(A)
        assert not await store.contains("nonsense")
        assert await listed(aiter(store)) == sorted([A, B])
        assert await store.resolve("app") == A
        assert [record.position for record in await listed(store.records(B))] == [2, 3]
        await store.delete(A, reason="old")
        with pytest.raises(ImageNotFoundError) as caught:
            await store.get(A)
        assert caught.value.deleted is not None
        assert A in await store.as_of(position=4)
        assert (await store.diff(4, 5)).deleted == [A]
        assert (await store.undo(5)).undone == (5,)
        assert await store.get_parent(B) == A
        assert (await store.checkpoint()).position == await store.refresh()

    with_store(store_path, body)


def test_a_transaction_is_one_batch_and_others_see_nothing_of_it(store_path: Path) -> None:
    """Its task sees its own writes; a task that it starts is in it as well."""

    async def body(store: AsyncImageStore) -> None:
        inside, looked = asyncio.Event(), asyncio.Event()

        async def outsider() -> None:
            await inside.wait()
            assert not await store.contains(A)
            looked.set()
            await store.create(config("c"))  # waits for the end of it

        other = asyncio.create_task(outsider())
        async with store.transaction(reason="batch") as transaction:
            await store.create(config("a"))
            assert await store.contains(A)
            async with asyncio.TaskGroup() as group:
                group.create_task(store.set_last_updated(A))
                group.create_task(store.create(config("b")))
            inside.set()
            await looked.wait()
            await asyncio.sleep(0.05)
            assert not other.done()
        assert len(transaction.records) == 3
        await other
        records = await listed(store.records())
        assert [record.batch for record in records] == [1, 1, 1, 4]
        with pytest.raises(StoreUsageError):
            async with store.transaction(), store.transaction():
                pass
        assert await store.position() == 4

    with_store(store_path, body)


def test_an_error_gives_a_transaction_up(store_path: Path) -> None:
    """And lets the next one begin."""

    async def body(store: AsyncImageStore) -> None:
        with pytest.raises(ZeroDivisionError):
            async with store.transaction():
                await store.create(config("a"))
                raise ZeroDivisionError
        assert await store.position() == 0
        async with store.transaction():
            await store.create(config("b"))
        assert await store.position() == 1

    with_store(store_path, body)


@pytest.mark.parametrize("seed", range(12))
def test_cancelled_at_any_moment_a_mutation_is_whole_or_not_there(
    store_path: Path, seed: int
) -> None:
    """When the task has ended, nothing more happens; transactions are all or nothing."""

    async def body(store: AsyncImageStore) -> None:
        chance = random.Random(seed)

        async def single(number: int) -> None:
            await store.create(config(f"single {number}"))

        async def batch(number: int) -> None:
            async with store.transaction(reason=str(number)):
                for part in range(3):
                    await store.create(config(f"batch {number} {part}"))

        tasks = [
            asyncio.create_task(chance.choice([single, batch])(number)) for number in range(40)
        ]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(chance.random() * 0.01)
            chance.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end = await store.position()
        await asyncio.sleep(0.05)
        assert await store.position() == end
        sizes: dict[str, int] = {}
        for record in await listed(store.records()):
            if record.reason:
                sizes[record.reason] = sizes.get(record.reason, 0) + 1
        assert set(sizes.values()) <= {3}
        for task in tasks:
            assert task.cancelled() or task.exception() is None

    with_store(store_path, body)


def test_a_timeout_tells_what_came_of_the_call(store_path: Path) -> None:
    """Done with its result, failed with its error, or never begun."""
    script = """
with ImageStore.open(path) as store:
    with store.transaction():
        say("inside")
        time.sleep(0.5)
"""

    async def body(store: AsyncImageStore) -> None:
        async def late(call: Coroutine[Any, Any, object]) -> BaseException:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.1):
                    await call
            return caught.value

        with children.speaking(script, store_path):
            found = outcome(await late(store.create(config("a"))))
        assert found is not None
        assert (found.done, found.result, found.error) == (True, A, None)
        assert await store.contains(A)
        with children.speaking(script, store_path):
            found = outcome(await late(store.delete(B)))
        assert found is not None
        assert isinstance(found.error, ImageNotFoundError)
        assert not found.done
        async with store.transaction():
            other = contextvars.Context().run(asyncio.create_task, store.create(config("c")))
            await asyncio.sleep(0.01)
            other.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await other
            assert outcome(caught.value) is None
        assert not await store.contains(C)

    with_store(store_path, body)


def test_who_waits_for_a_transaction_can_be_cancelled(store_path: Path) -> None:
    """Also by the task that holds it: neither waits for the other for ever."""

    async def body(store: AsyncImageStore) -> None:
        async def begin() -> None:
            async with store.transaction():
                await store.create(config("b"))

        others = [asyncio.create_task(begin()), asyncio.create_task(store.create(config("c")))]
        async with store.transaction():
            await store.create(config("a"))
            await asyncio.sleep(0.02)
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        assert await listed(aiter(store)) == [A]

    async def first(store: AsyncImageStore) -> None:
        async with store.transaction():
            outside = asyncio.create_task(asyncio.sleep(0))
            await outside
        await body(store)

    with_store(store_path, first)


def test_the_loop_goes_on_while_the_disk_is_waited_for(store_path: Path) -> None:
    """A commit that another process holds up for half a second holds up nobody else."""
    script = """
with ImageStore.open(path) as store:
    with store.transaction():
        say("inside")
        time.sleep(0.6)
"""

    async def body(store: AsyncImageStore) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        await store.create(config("a"))
        with children.speaking(script, store_path):
            ticking = asyncio.create_task(tick())
            start = time.perf_counter()
            await store.create(config("b"))
            assert time.perf_counter() - start > 0.2
            ticking.cancel()
        assert ticks > 10

    with_store(store_path, body)


def test_tasks_that_write_at_once_share_commits(store_path: Path) -> None:
    """Fewer commits than mutations."""

    async def body(store: AsyncImageStore) -> None:
        environment = store._store._environment
        before = environment.commit_number()
        await asyncio.gather(*(store.create(config(str(number))) for number in range(200)))
        assert await store.count() == 200
        assert environment.commit_number() - before < 150

    with_store(store_path, body)


def test_follow_gives_each_record_once_from_any_process(store_path: Path) -> None:
    """This one's, those of others, and no more when the store is closed."""
    script = """
with ImageStore.open(path) as store:
    for number in range(20):
        store.create(config(number))
"""

    async def main() -> None:
        store = await AsyncImageStore.open(store_path)
        found: list[int] = []

        async def follow() -> None:
            async for record in store.follow(after=0):
                found.append(record.position)  # noqa: PERF401 (it is looked at meanwhile)

        task = asyncio.create_task(follow())
        await store.create(config("a"))
        await asyncio.to_thread(children.run, script, store_path)
        async with store.transaction():
            await store.create(config("b"))
            await store.create(config("c"))
        async with asyncio.timeout(20):
            while len(found) < 23:
                await asyncio.sleep(0.01)
        await store.close()
        await asyncio.wait_for(task, 20)
        assert found == list(range(1, 24))

    asyncio.run(main())


def test_iterations_and_reads_can_be_left(store_path: Path) -> None:
    """A break, or a cancellation, holds nobody up."""

    async def body(store: AsyncImageStore) -> None:
        for number in range(30):
            await store.create(config(str(number)))
        async for record in store.records():
            if record.position == 3:
                break
        task = asyncio.create_task(listed(store.verify()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.count() == 30

    with_store(store_path, body)


def test_what_cannot_be_is_refused(store_path: Path) -> None:
    """A store that is not there, one that is closed, and one that is in a transaction."""

    async def main() -> None:
        with pytest.raises(StoreNotFoundError):
            await AsyncImageStore.open(store_path, create=False)
        store = await AsyncImageStore.open(store_path)
        async with store.transaction():
            with pytest.raises(StoreUsageError):
                await store.close()
        await store.close()
        await store.close()
        for call in (store.count, store.refresh, lambda: store.create(config("a"))):
            with pytest.raises(StoreClosedError):
                await call()
        with pytest.raises(StoreClosedError):
            async with store.transaction():
                pass
        ImageStore.open(store_path).close()

    asyncio.run(main())


def test_an_open_that_is_cancelled_leaves_no_open_store(store_path: Path) -> None:
    """Or the path could not be opened again."""

    async def main() -> None:
        task = asyncio.create_task(AsyncImageStore.open(store_path))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with await AsyncImageStore.open(store_path) as store:
            assert await store.count() == 0

    asyncio.run(main())
