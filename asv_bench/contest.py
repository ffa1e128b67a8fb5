"""Libraries that do the same work in turn, each in a process of its own.

So none meets memory that another has left behind. `Contestant` is the side of the process that compares; the
functions behind it run in the contestant's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter_ns
from types import TracebackType
from typing import NamedTuple, ParamSpec, Self, TypeVar

from benchmarks.growth import peak_growth
from libraries import Inputs, Library, Pair, Task

P = ParamSpec("P")
R = TypeVar("R")


class Merged(NamedTuple):
    """What a library makes of a trace: the text, how much memory grew meanwhile (None: unknown), in bytes.

    `size` is that of what it read.
    """

    text: str
    peak: int | None
    size: int


class Contestant:
    """One library with what it has of a trace, waiting in its process for its turn."""

    def __init__(self, library: Library, inputs: Inputs) -> None:
        self.library = library
        self.times: list[float] = []  # in the unit of whoever collects them
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._call(enter, type(library), inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._pool.submit(function, *args, **kwargs).result()

    def first_merge(self) -> Merged:
        """Merge for the first time, which warms up and shows how much memory it takes."""
        return self._call(first_merge)

    def merge(self) -> float:
        """Merge twice; how many milliseconds the second time took, when its process was awake."""
        return self._call(timed_merge)

    def open_pair(self) -> None:
        """Make two replicas of the finished document."""
        self._call(open_pair)

    def keystrokes(self, places: Sequence[Keystroke]) -> tuple[list[float], int | None]:
        """Let each come in; how many microseconds it took, and the size of the last one in bytes."""
        return self._call(timed_keystrokes, places)

    def live(self, places: Sequence[Keystroke], waiting: int) -> list[float]:
        """Let each come in while somebody types here, who sees all; over there all but the last `waiting`.

        How many microseconds each took.
        """
        times, _ = self._call(timed_keystrokes, places, waiting)
        return times

    def texts(self) -> tuple[str, str]:
        """Those of the two replicas."""
        return self._call(texts)


class Keystroke(NamedTuple):
    """One code point inserted `there`; if `here` is a place, one was inserted here before, not seen there."""

    there: int
    here: int | None


# --- in the contestant's process ----------------------------------------------------------------------------


class Place:
    """What the process holds."""

    library: Library
    inputs: Inputs
    task: Task
    pair: Pair


PLACE = Place()


@contextlib.contextmanager
def no_gc() -> Iterator[None]:
    """Collect garbage now, and none before the end of the block: the same for all, and for each round."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def enter(kind: type[Library], inputs: Inputs) -> None:
    PLACE.library = kind()
    PLACE.inputs = inputs


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc has them
KEPT = 32 << 20


def keep_memory() -> None:
    """Have this process reuse what it frees instead of giving it back to the system. glibc only.

    Else it depends on what happens to lie behind it, and getting it again takes longer than copying a text.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)


def first_merge() -> Merged:
    PLACE.task = PLACE.library.task(PLACE.inputs)
    texts: list[str] = []

    def work() -> object:
        alive, text = PLACE.task.merge()
        texts.append(text)
        return alive

    peak = peak_growth(work)
    if PLACE.library.quick:
        keep_memory()
    return Merged(texts[0], peak, PLACE.task.size)


def timed_merge() -> float:
    PLACE.task.merge()
    with no_gc():
        began = perf_counter_ns()
        result = PLACE.task.merge()
        took = perf_counter_ns() - began
        del result
    return took / 1e6


def open_pair() -> None:
    PLACE.pair = PLACE.library.pair(PLACE.inputs)


def timed_keystrokes(places: Sequence[Keystroke], waiting: int = 0) -> tuple[list[float], int | None]:
    pair = PLACE.pair
    times: list[float] = []
    size = None
    with no_gc():
        for there, here in places:
            if here is not None:
                pair.type_here(here)
            take_in, size = pair.keystroke(there)
            began = perf_counter_ns()
            result = take_in()
            times.append((perf_counter_ns() - began) / 1e3)
            del result
            if here is not None:
                pair.catch_up(waiting)
    return times, size


def texts() -> tuple[str, str]:
    PLACE.pair.catch_up()
    return PLACE.pair.texts()
