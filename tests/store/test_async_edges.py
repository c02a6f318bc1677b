"""Where a task is cut off, or another is in its way: nothing stays locked, nobody waits on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest

from eventstore import ImageStore, StoreForkedError, StoreLostError
from eventstore.async_store import AsyncImageStore, outcome
from making import config, id_of
from store import children

A, B = id_of(config("a")), id_of(config("b"))
SLOW = """
with ImageStore.open(path) as store:
    with store.transaction():
        say("inside")
        time.sleep(1.5)
"""


async def cut_off(task: asyncio.Task[None]) -> asyncio.CancelledError:
    """Cancel a task, and return what it ends with."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


def test_a_transaction_finds_no_mutation_in_a_thread(store_path: Path) -> None:
    """Those would wait there for its end: reads go on, and they can be cancelled meanwhile."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path, threads=2) as store:
            before = [asyncio.create_task(store.create(config(str(n)))) for n in range(40)]
            await asyncio.sleep(0)
            late: list[asyncio.Task[str]] = []
            inside = asyncio.Event()

            async def outsider() -> int:
                await inside.wait()
                late.extend(asyncio.create_task(store.create(config(f"late {n}"))) for n in "abc")
                await asyncio.sleep(0.05)
                return await store.count()

            outside = asyncio.create_task(outsider())
            async with store.transaction():
                await store.create(config("a"))
                assert all(task.done() for task in before)
                inside.set()
                async with asyncio.timeout(5):
                    assert await outside == 40
                    late[0].cancel()
                    await asyncio.wait({late[0]})
            await asyncio.gather(*late, return_exceptions=True)
            assert await store.count() == 43

    asyncio.run(main())


def test_a_read_waits_for_nobody_who_waits_to_write(store_path: Path) -> None:
    """More mutations than there are threads wait for another process."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path, threads=2) as store:
            await store.create(config("a"))
            with children.speaking(SLOW, store_path):
                waiting = [asyncio.create_task(store.create(config(str(n)))) for n in range(8)]
                await asyncio.sleep(0.1)
                async with asyncio.timeout(1):
                    assert await store.count() == 1
                assert not any(task.done() for task in waiting)
                await asyncio.gather(*waiting)

    asyncio.run(main())


def test_the_end_of_a_transaction_is_never_left_out(store_path: Path) -> None:
    """A cancellation that comes while it waits behind a call of another task of the block."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path) as store:

            async def block() -> None:
                async with store.transaction():
                    await store.create(config("a"))
                    calls.append(asyncio.create_task(store._call(lambda: time.sleep(0.3))))
                    await asyncio.sleep(0.05)

            calls: list[asyncio.Task[None]] = []
            task = asyncio.create_task(block())
            await asyncio.sleep(0.2)
            found = outcome(await cut_off(task))
            assert found is not None
            assert found.done
            async with asyncio.timeout(5):
                await store.create(config("b"))
            assert await store.position() == 2
            await asyncio.gather(*calls)

    asyncio.run(main())


def test_a_block_that_is_cancelled_twice_is_given_up(store_path: Path) -> None:
    """As by a timeout and then by the end of the loop."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path) as store:

            async def block() -> None:
                async with store.transaction():
                    await store.create(config("a"))
                    calls.append(asyncio.create_task(store._call(lambda: time.sleep(0.3))))
                    await asyncio.sleep(60)

            calls: list[asyncio.Task[None]] = []
            task = asyncio.create_task(block())
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.sleep(0.05)
            await cut_off(task)
            async with asyncio.timeout(5):
                await store.create(config("b"))
            assert await store.contains(A) is False
            await asyncio.gather(*calls)

    asyncio.run(main())


def test_a_close_that_is_cancelled_closes(store_path: Path) -> None:
    """Also if all threads are busy; closing beside it waits for the same end."""

    async def main() -> None:
        store = await AsyncImageStore.open(store_path, threads=1)
        call = asyncio.create_task(store._call(lambda: time.sleep(0.3)))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(store.close())
        second = asyncio.create_task(store.close())
        await asyncio.sleep(0.05)
        assert not second.done()
        await cut_off(closing)
        await second
        await call
        ImageStore.open(store_path).close()

    asyncio.run(main())


@pytest.mark.parametrize("finish", [True, False])
def test_a_transaction_may_end_in_another_context(store_path: Path, *, finish: bool) -> None:
    """As in an asynchronous fixture, or a generator that the loop ends."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path) as store:

            async def steps() -> AsyncGenerator[None, None]:
                async with store.transaction():
                    await store.create(config("a"))
                    yield

            at = steps()

            async def go_on() -> None:
                if finish:
                    with suppress(StopAsyncIteration):
                        await anext(at)
                else:
                    await at.aclose()

            async def begin() -> None:
                await anext(at)

            await asyncio.create_task(begin())
            await asyncio.create_task(go_on())
            async with asyncio.timeout(5):
                await store.create(config("b"))
            assert await store.contains(A) is finish

    asyncio.run(main())


def test_a_child_of_fork_is_told_to_open_again(store_path: Path) -> None:
    """The threads are not there any more, so a call would never end."""

    async def inside(store: AsyncImageStore) -> int:
        refused = 0
        for call in (store.count, store.transaction().__aenter__, lambda: store.tag("a", A)):
            try:
                async with asyncio.timeout(5):
                    await call()
            except StoreForkedError:
                refused += 1
        await store.close()
        async with await AsyncImageStore.open(store_path) as again:
            return refused + await again.count()

    async def main() -> None:
        async with await AsyncImageStore.open(store_path) as store:
            await asyncio.gather(*(store.create(config(str(n))) for n in range(20)))
            child = os.fork()
            if not child:
                found: list[int] = []
                thread = threading.Thread(target=lambda: found.append(asyncio.run(inside(store))))
                thread.start()
                thread.join(20)
                os._exit(found[0] if found else 99)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 23
            assert await store.count() == 20

    asyncio.run(main())


def test_following_a_store_that_was_moved_ends(store_path: Path) -> None:
    """Nothing would ever come of it."""

    async def main() -> None:
        async with await AsyncImageStore.open(store_path) as store:
            await store.create(config("a"))
            records = store.follow(after=0)
            assert (await anext(records)).position == 1
            store_path.rename(store_path.with_name("moved"))
            async with asyncio.timeout(5):
                with pytest.raises(StoreLostError):
                    await anext(records)

    asyncio.run(main())
