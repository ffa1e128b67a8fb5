from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

from egwalker.cycore.graph import Graph

class Group(NamedTuple):
    """A maximal run of one agent's events, emitted whole. `ranges` are its local versions, in seq order."""

    agent: str
    seq: int
    length: int
    clock: int
    ranges: tuple[tuple[int, int], ...]

@final
class Groups(Iterator[Group]):
    """What `groups` returns: not for making oneself."""

    def __init__(self, graph: Graph) -> None: ...
    def __next__(self) -> Group: ...

def groups(graph: Graph, a: Sequence[int] = (), b: Sequence[int] | None = None) -> Groups:
    """The groups of the events in version `b` (default: all) that are not in `a`, in the total order."""
