"""Work done in threads, for event loops that must not wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Loop = asyncio.AbstractEventLoop
Done = tuple["Kept", BaseException | None]


async def in_thread(work: Callable[[], T]) -> T:
    """Do work in a thread. It is awaited even if that is cancelled: nothing goes on behind one's back."""
    done = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait({done})
        raise


class Kept(asyncio.Future[None]):
    """A future that cannot be cancelled: a task that is, while it waits for this one, ends when it is done.

    What is under way is awaited to its end, as by `in_thread`, where that takes another future and more turns
    of the event loop.
    """

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002
        """Not done."""
        return False


class Batches(Generic[Item]):
    """One thread that does pieces of work together: while it does some, the next ones gather.

    `work` takes all that have gathered, and returns what went wrong with each. Python runs in one thread at a
    time, and changing over takes long on a busy machine: so the thread takes few turns, and rests for `rest`
    seconds after each. What comes when it has nothing to do is done at once.
    """

    def __init__(self, work: Callable[[list[Item]], Sequence[BaseException | None]], rest: float) -> None:
        self._work = work
        self._rest = rest
        self._pool = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[tuple[Item, Loop, Kept]] = []

    async def do(self, item: Item) -> None:
        """Have it done. Raises what went wrong with it. It is awaited even if that is cancelled."""
        loop = asyncio.get_running_loop()
        future = Kept(loop=loop)
        with self._lock:
            self._waiting.append((item, loop, future))
            begin, self._busy = not self._busy, True
        if begin:
            try:
                self._pool.submit(self._go_on)
            except RuntimeError:  # there can be no thread any more
                self._go_on()
        await future

    def _go_on(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting, []
                self._busy = bool(batch)
            if not batch:
                return
            errors: Sequence[BaseException | None]
            try:
                errors = self._work([item for item, _, _ in batch])
            except BaseException as error:
                errors = [error] * len(batch)
            done: dict[Loop, list[Done]] = {}
            for (_, loop, future), failure in zip(batch, errors, strict=True):
                done.setdefault(loop, []).append((future, failure))
            for loop, some in done.items():
                with contextlib.suppress(RuntimeError):  # it is closed
                    loop.call_soon_threadsafe(tell, some)
            time.sleep(self._rest)


def tell(done: list[Done]) -> None:
    """Let those who wait know."""
    for future, error in done:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
