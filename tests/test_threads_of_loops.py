"""Work that event loops have done in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from egwalker.threads import Crew, in_thread

DO = {"in_thread": in_thread, "crew": Crew(2, queue=3, rest=1.0).do}


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
        asyncio.run(asyncio.wait_for(main(), 30))


def test_who_is_cancelled_waits_for_the_end(
    do: Callable[[Callable[[], object]], Awaitable[object]],
) -> None:
    async def main() -> None:
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            go_on.wait(10)
            ended.set()

        task = asyncio.ensure_future(do(work))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_crew_grows_when_work_waits_and_serves_several_loops() -> None:
    crew = Crew(2, queue=1, rest=0.0)
    at_work: list[int] = []
    most: list[int] = []

    def work() -> None:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.pop()

    async def main() -> None:
        await asyncio.gather(*[crew.do(work) for _ in range(10)])

    loops = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join(30)
    assert len(most) == 30
    assert max(most) == 2
    assert not at_work
    assert not crew._done


def test_a_loop_that_is_closed_is_not_told() -> None:
    crew = Crew(1, queue=1, rest=0.0)
    go_on = threading.Event()
    done: list[int] = []

    async def leave() -> Coroutine[Any, Any, bool]:
        work = crew.do(lambda: go_on.wait(10))
        work.send(None)
        return work

    work = asyncio.run(leave())
    go_on.set()

    async def another() -> None:
        await asyncio.wait_for(crew.do(lambda: done.append(1)), 10)

    asyncio.run(another())
    assert done == [1]
    assert not crew._done
    work.close()
