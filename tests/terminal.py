"""A terminal that a program of this package runs in: what is typed, and what is seen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pexpect
import pyte
from serving import PATIENCE


class Terminal:
    """Runs `egwalker` with some arguments in a pseudo-terminal."""

    def __init__(self, *arguments: object, rows: int = 12, columns: int = 100, **environment: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "egwalker", *map(str, arguments)],
            dimensions=(rows, columns),
            env=os.environ | {"TERM": "xterm-256color"} | environment,
        )

    def type(self, text: str) -> None:
        self.process.send(text)

    def read(self) -> bool:
        """Take in what has been shown; whether there may be more."""
        try:
            data = self.process.read_nonblocking(1 << 16, 0.05)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.output += data
        self._stream.feed(data)
        return True

    @property
    def text(self) -> str:
        """What is seen, without empty rows."""
        return "\n".join([line.rstrip() for line in self.screen.display if line.strip()])

    def until(self, what: str | Callable[[], object]) -> None:
        """Wait until something is seen, or true."""
        deadline = time.monotonic() + PATIENCE
        while not (what in self.text if isinstance(what, str) else what()):
            assert self.read(), f"it has ended: {self.text}"
            assert time.monotonic() < deadline, f"this is seen instead: {self.text}"

    @property
    def caret(self) -> tuple[int, int]:
        """Where the terminal's cursor is: row and column."""
        return self.screen.cursor.y, self.screen.cursor.x

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def hang_up(self) -> int | None:
        """Close the terminal, as with its window, and wait until the program has ended; its exit status."""
        self.process.ptyproc.fileobj.close()
        deadline = time.monotonic() + PATIENCE
        while self.process.isalive():
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.02)
        status: int | None = self.process.exitstatus
        return status

    def end(self) -> int | None:
        """Wait until the program has ended; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, f"it does not end: {self.text}"
        self.process.wait()
        status: int | None = self.process.exitstatus
        return status

    def close(self) -> None:
        self.process.close(force=True)
