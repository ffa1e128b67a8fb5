"""Work done in threads, for event loops that must not wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Done = tuple["asyncio.Future[Any]", Any, BaseException | None]


async def in_thread(work: Callable[[], T]) -> T:
    """Do work in a thread. It is awaited even if that is cancelled: nothing goes on behind one's back."""
    return await to_the_end(asyncio.get_running_loop().run_in_executor(None, work))


async def to_the_end(work: asyncio.Future[T]) -> T:
    """Wait for work that goes on when whoever waits is cancelled, and then for its end all the same."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


class Crew:
    """A few threads that do many small pieces of work, such as storing a thousand documents.

    Python runs in one thread at a time, and changing over takes long on a busy machine: while a thread of the
    crew works, the event loop does little. So each rests after a piece, `rest` times as long as that took of
    a processor, at most `LONGEST_REST`. Another thread helps when `queue` pieces wait for each at work.
    """

    LONGEST_REST = 0.02

    def __init__(self, threads: int, *, queue: int, rest: float) -> None:
        self._threads = threads
        self._queue = queue
        self._rest = rest
        self._pool = ThreadPoolExecutor(threads)
        self._lock = threading.Lock()
        self._busy = 0  # threads at work
        self._todo: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._done: dict[asyncio.AbstractEventLoop, list[Done]] = {}  # what loops will look at

    async def do(self, work: Callable[[], T]) -> T:
        """Have something done. It is awaited even if that is cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._todo.append((loop, future, work))
            if self._busy < self._threads and len(self._todo) > self._queue * self._busy:
                self._busy += 1
                self._pool.submit(self._work)
        return await to_the_end(future)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._busy -= 1
                    return
                loop, future, work = self._todo.popleft()
            begun = time.thread_time()
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            used = time.thread_time() - begun
            with self._lock:
                will_look = loop in self._done
                self._done.setdefault(loop, []).append((future, result, error))
            if not will_look:
                try:
                    loop.call_soon_threadsafe(self._tell, loop)
                except RuntimeError:  # it is closed
                    self._done.pop(loop)
            del future, work, result, error
            time.sleep(min(self._rest * used, self.LONGEST_REST))

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            done = self._done.pop(loop)
        for future, result, error in done:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
