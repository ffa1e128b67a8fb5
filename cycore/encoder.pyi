from collections.abc import Iterable, Sequence
from typing import final

from egwalker.cycore.columns import Columns
from egwalker.cycore.oplog import OpLog

@final
class Writer:
    """Scratch space of `write`: not for use from Python."""

def write(
    log: OpLog, ranges: Iterable[tuple[int, int]], agents: Sequence[str] = (), keep: bytes | None = None
) -> Columns: ...
def write_run(
    log: OpLog, start: int, end: int, names: list[str], numbers: dict[str, int], expected: list[int]
) -> bytes | None:
    """The events as the payload of a RUN chunk; None unless they are one row."""

def agents(log: OpLog) -> list[str]: ...
def survivors(log: OpLog) -> bytes: ...
