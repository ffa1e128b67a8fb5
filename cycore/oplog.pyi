from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, final

from egwalker.cycore.graph import Graph

Content = str | list[str]
"""What a run inserts: code points of a text, or one JSON text a list item."""
Id = tuple[str, int]
"""An event's id: agent and seq."""

ERASED: int
"""Stands for a code point that is not known any more."""

def check_text(text: str) -> None: ...

class Op(NamedTuple):
    """A run of operations, `length` events from local version `start` on.

    `kind` is "insert" or "delete". `pos` is the first event's position. `step` says where the next
    event's position is: insert +1 types forwards, 0 prepends; delete 0 deletes forwards, -1 erases backwards.
    `content` is in the order of the events, empty for deletes.
    """

    start: int
    kind: str
    pos: int
    length: int
    step: int
    content: Content

@final
class OpLog:
    def __init__(self, values: bool = False) -> None: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def values(self) -> bool: ...
    @property
    def before(self) -> Content | None:
        """The content at the version that the graph begins at; None if that is the root."""
    erased: bool
    """Whether some inserted elements are not known any more."""
    def __len__(self) -> int: ...
    def add(
        self, agent: str, seq: int, parents: Sequence[Id], ops: Sequence[tuple[int, int, Content]]
    ) -> int:
        """Add a run of events; returns how many were new.

        `ops` are `(pos, deleted, inserted)`: each deletes `deleted` elements at `pos` (one event each, all at
        `pos`), then inserts `inserted` there. Events already held are compared: `ConflictError` where they
        differ. `VersionError` if a parent is not held; nothing changes on any error.
        """
    def begin_after(
        self,
        vector: Mapping[str, Sequence[tuple[int, int]]],
        heads: Sequence[Id],
        content: Content,
        compared: bool = False,
    ) -> None:
        """Begin, while empty, at a version of which only its events' ids and its content are known."""
    def ops(self, start: int = 0, end: int | None = None) -> Iterator[Op]: ...
    def edits(self, start: int, end: int) -> list[tuple[int, int, Content]]:
        """The events `start:end` in the form that `add` takes (deletes of n at one position are one edit)."""
    def merge(self, other: OpLog, start: int = 0) -> int:
        """Add what `other` holds from its local version `start` on; returns how many events were new."""
    def truncate(self, length: int) -> None: ...
    def copy(self) -> OpLog: ...
    def memory(self) -> dict[str, int]: ...
    def _check(self) -> None: ...
