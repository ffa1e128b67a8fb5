from collections.abc import Sequence
from typing import final

from egwalker.cycore.columns import Columns, PackedRun
from egwalker.cycore.oplog import OpLog

@final
class History:
    """A decoded history, made by `read`."""

    def __len__(self) -> int: ...
    def items(self) -> list[str]: ...
    def log(self) -> OpLog: ...
    def merge(self, target: OpLog, room: int = ...) -> list[PackedRun]:
        """Add the events to a log; returns the runs that lack parents there."""
    def runs(self, room: int = ...) -> list[PackedRun]: ...

def read(columns: Columns, agents: Sequence[str] = (), values: bool = False) -> History: ...
def read_run(
    data: bytes,
    names: list[str],
    numbers: dict[str, int],
    expected: list[int],
    values: bool,
) -> PackedRun: ...
def memory_of(columns: Columns, values: bool = False) -> int: ...
