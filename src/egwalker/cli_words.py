"""What the `egwalker` command says: what was asked for on standard output, all else on standard error."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

CLEAR = "\x1b[K"
"""Tells a terminal to clear the rest of the line."""
DELAY, PERIOD = 1.0, 0.2
"""Seconds until it is shown what takes so long, and until that is shown anew."""


class FailureError(Exception):
    """What went wrong, in the words for whoever typed the command."""


class Meter:
    """Shows what is being done on standard error, if that is a terminal, once it has taken a second.

    Told by calls of it, it shows by a thread of its own: some of the work is one long call into the core.
    """

    def __init__(self) -> None:
        self._state = ("", 0, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __call__(self, what: str, done: int, total: int) -> None:
        self._state = (what, done, total)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _show(self) -> None:
        shown = False
        while not self._done.wait(PERIOD if shown else DELAY):
            what, done, total = self._state
            share = f" {done:,} of {total:,}" if total else ""
            print(f"\r{CLEAR}{what}{share} ...", end="", file=sys.stderr, flush=True)
            shown = True
        if shown:
            print(f"\r{CLEAR}", end="", file=sys.stderr, flush=True)


def emit(data: bytes) -> None:
    """Write to standard output, all of it: an unbuffered one may take less at a time."""
    with written():
        rest = memoryview(data)
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]


def flush() -> None:
    """Write what waits to be written to standard output."""
    if sys.stdout is not None:
        with written():
            sys.stdout.flush()


@contextmanager
def written() -> Iterator[None]:
    """Within it standard output is written to: `BrokenPipeError` if nobody reads it, else `FailureError`."""
    if sys.stdout is None:  # it is closed
        raise BrokenPipeError
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        forget(sys.stdout)
        raise FailureError(f"cannot write to standard output: {reason(error)}") from error


def forget(stream: TextIO | None) -> None:
    """What waits to be written goes nowhere: Python flushes once more at exit."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(line: str) -> None:
    """Write a line to standard output, which may not know all of Unicode."""
    emit(f"{line}\n".encode(sys.stdout.encoding if sys.stdout is not None else "utf-8", "backslashreplace"))


def say(line: str) -> None:
    """Say what was done where standard output is kept for what was asked for."""
    flush()
    try:
        print(line, file=sys.stderr)
    except OSError:  # as that of a terminal which is gone
        forget(sys.stderr)


def printable(text: str) -> str:
    """Agents' names may hold anything, a terminal must not get it."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def reason(error: Exception) -> str:
    """Why, in one line."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(why.split()))
