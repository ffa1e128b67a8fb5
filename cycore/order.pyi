from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

from egwalker.cycore.graph import Graph
from egwalker.cycore.oplog import OpLog

class Group(NamedTuple):
    """A maximal run of one agent's events, emitted whole. `ranges` are its local versions, in seq order."""

    agent: str
    seq: int
    length: int
    clock: int
    ranges: tuple[tuple[int, int], ...]

@final
class Order:
    """The events of a version in the total order. A place is how many events come before."""

    def __init__(self, graph: Graph) -> None: ...
    def __len__(self) -> int: ...
    @property
    def version(self) -> tuple[int, ...]: ...
    @property
    def ids(self) -> tuple[tuple[str, int], ...]: ...
    def merge(self, version: Sequence[int] | None = None) -> tuple[int, list[tuple[int, int, int]]]:
        """Take in a version; returns how many events stay, and `(place, start, end)` of what is new."""
    def undo_merge(self) -> None: ...
    def ranges(self, start: int) -> list[tuple[int, int]]:
        """The local versions from the place `start` to the end."""
    def groups(self) -> Iterator[Group]: ...
    def copy(self, graph: Graph) -> Order: ...
    def memory(self) -> int: ...
    def _check(self) -> None: ...

def groups(graph: Graph, version: Sequence[int] | None = None) -> Iterator[Group]:
    """The groups of the events in a version (default: all), in the total order."""

def check_operations(log: OpLog, ranges: Sequence[tuple[int, int]]) -> None:
    """Raise `DecodeError` unless the events are operations."""

def operations(log: OpLog, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The JSON texts of operations, in their order."""
