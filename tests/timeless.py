"""An event loop in which time passes only while nothing happens, and then at once, until what is due next.

So a test of what happens after so many seconds takes none, and how busy the machine is makes no difference.
Both ends of all connections must be in this loop, and nothing in threads: for these it does not wait.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

SETTLED = 0.05
"""Real seconds in which what has been sent through a socket of this machine comes."""


class Waiting(selectors.DefaultSelector):
    """Sees whether anything comes; if not, it is later."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(SETTLED)
        if not found:
            self.now += timeout
        return found


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waiting = Waiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`. The package's modules look at this clock, too."""
    with asyncio.Runner(loop_factory=Loop) as runner, pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("egwalker.") and getattr(module, "monotonic", None) is monotonic:
                patch.setattr(module, "monotonic", runner.get_loop().time)
        return runner.run(main)
