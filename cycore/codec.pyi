from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from egwalker.cycore.oplog import Content, OpLog

class Columns(NamedTuple):
    """An encoded history; docs/format.md says what each column holds."""

    agents: list[str]
    ids: bytes
    lengths: bytes
    parents: bytes
    kinds: bytes
    positions: bytes
    content: bytes
    erased: bytes

PackedRun = tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, int, Content], ...]]

@final
class Writer:
    """Scratch space of `write`: not for use from Python."""

@final
class History:
    """A decoded history, made by `read`."""

    def __len__(self) -> int: ...
    def items(self) -> list[str]: ...
    def log(self) -> OpLog: ...
    def merge(self, target: OpLog, room: int = ...) -> list[PackedRun]:
        """Add the events to a log; returns the runs that lack parents there."""
    def runs(self, room: int = ...) -> list[PackedRun]: ...

def varint(x: int) -> bytes: ...
def read_varint(data: bytes, at: int) -> tuple[int, int]: ...
def write(
    log: OpLog, ranges: Iterable[tuple[int, int]], agents: Sequence[str] = (), keep: bytes | None = None
) -> Columns: ...
def write_run(
    log: OpLog, start: int, end: int, names: list[str], numbers: dict[str, int], expected: list[int]
) -> bytes | None:
    """The events as the payload of a RUN chunk; None unless they are one row."""

def read_run(
    data: bytes,
    names: list[str],
    numbers: dict[str, int],
    expected: list[int],
    values: bool,
) -> PackedRun: ...
def write_names(names: Iterable[str]) -> bytes: ...
def read_names(data: bytes) -> list[str]: ...
def write_items(items: Iterable[str]) -> bytes: ...
def read_items(data: bytes) -> list[str]: ...
def agents(log: OpLog) -> list[str]: ...
def survivors(log: OpLog) -> bytes: ...
def memory_of(columns: Columns, values: bool = False) -> int: ...
def items_memory(data: bytes) -> int: ...
def read(columns: Columns, agents: Sequence[str] = (), values: bool = False) -> History: ...
