"""Work that event loops have done in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
from serving import PATIENCE

from egwalker.threads import Batches, in_thread

T = TypeVar("T")


def do_each(work: Callable[[Any], object], items: list[Any]) -> list[Exception | None]:
    """Do some work with each of these; what it raised."""
    errors: list[Exception | None] = []
    for item in items:
        try:
            work(item)
        except Exception as error:
            errors.append(error)
        else:
            errors.append(None)
    return errors


CALLS: Batches[Callable[[], object]] = Batches(partial(do_each, lambda call: call()), rest=0.001)


async def in_batches(work: Callable[[], T]) -> T:
    """As `in_thread`, in the thread of a `Batches`."""
    results: list[T] = []
    await CALLS.do(lambda: results.append(work()))
    return results[0]


DO = {"in_thread": in_thread, "batches": in_batches}


@pytest.fixture(params=DO)
def do(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], Awaitable[object]]:
    return DO[request.param]


def test_results_and_errors(do: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
    async def main() -> None:
        def fail() -> None:
            raise ValueError("oh")

        assert await do(lambda: threading.current_thread() is threading.main_thread()) is False
        with pytest.raises(ValueError, match="oh"):
            await do(fail)
        numbers = await asyncio.gather(*[do(partial(pow, i, 2)) for i in range(500)])
        assert numbers == [i * i for i in range(500)]

    for _ in range(2):  # several loops, one after another
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_who_is_cancelled_waits_for_the_end(
    do: Callable[[Callable[[], object]], Awaitable[object]],
) -> None:
    async def main() -> None:
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            go_on.wait(PATIENCE)
            ended.set()

        task = asyncio.ensure_future(do(work))
        await asyncio.to_thread(begun.wait, PATIENCE)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_what_comes_meanwhile_is_done_together_for_all_loops() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[Exception | None]:
        batches.append(items)
        begun.set()
        go_on.wait(PATIENCE)
        return [ValueError(item) if item % 5 == 4 else None for item in items]

    together = Batches(work, rest=0.0)

    async def main(numbers: range) -> None:
        results = await asyncio.gather(*map(together.do, numbers), return_exceptions=True)
        assert [str(result) for result in results] == [
            str(number) if number % 5 == 4 else "None" for number in numbers
        ]

    def run(numbers: range) -> None:
        asyncio.run(asyncio.wait_for(main(numbers), PATIENCE))
        finished.append(numbers)

    finished: list[range] = []
    loops = [threading.Thread(target=run, args=(range(i * 10, i * 10 + 10),)) for i in range(3)]
    for thread in loops:
        thread.start()
        assert begun.wait(PATIENCE)
    while sum(map(len, batches)) + len(together._waiting) < 30:
        time.sleep(0.001)
    go_on.set()
    for thread in loops:
        thread.join(PATIENCE)
    assert len(finished) == 3
    assert len(batches) <= 3, "one when the first came, and what came until it was done"
    assert sorted(item for batch in batches for item in batch) == list(range(30))


def test_an_error_of_the_work_itself_concerns_all() -> None:
    def work(items: list[int]) -> list[None]:
        raise OSError(len(items))

    async def main() -> None:
        together = Batches(work, rest=0.0)
        for _ in range(2):
            with pytest.raises(OSError, match="1"):
                await asyncio.wait_for(together.do(0), PATIENCE)

    asyncio.run(main())


def test_without_a_thread_it_is_done_all_the_same() -> None:
    done: list[int] = []

    async def main() -> None:
        together = Batches(partial(do_each, done.append), rest=0.0)
        together._pool.shutdown()
        await asyncio.wait_for(together.do(1), PATIENCE)

    asyncio.run(main())
    assert done == [1]


def test_a_loop_that_is_closed_is_not_told() -> None:
    go_on = threading.Event()
    done: list[int] = []

    def work(items: list[int]) -> list[None]:
        go_on.wait(PATIENCE)
        done.extend(items)
        return [None] * len(items)

    together = Batches(work, rest=0.0)

    async def leave() -> Coroutine[Any, Any, None]:
        work = together.do(1)
        work.send(None)
        return work

    work_left = asyncio.run(leave())
    go_on.set()
    asyncio.run(asyncio.wait_for(together.do(2), PATIENCE))
    assert done == [1, 2]
    work_left.close()
