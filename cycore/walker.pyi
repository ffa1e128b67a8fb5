from collections.abc import Sequence
from typing import NamedTuple, final

from egwalker.cycore.oplog import Content, OpLog
from egwalker.cycore.rope import Rope

class Step(NamedTuple):
    """One move of the walk: `start:end` applied after `retreated` and `advanced` (half-open LV ranges)."""

    start: int
    end: int
    retreated: list[tuple[int, int]]
    advanced: list[tuple[int, int]]
    emitted: bool

Edit = tuple[int, int, Content]
"""`(pos, deleted, inserted)`: one edit of the document as it was after the edits before it."""

@final
class Walker:
    """Scratch space of a walk: not for use from Python."""

    def __init__(self, log: OpLog, rope: Rope | None) -> None: ...

@final
class Checkout:
    """The document's elements at one version."""

    def __init__(self, log: OpLog) -> None: ...
    @property
    def log(self) -> OpLog: ...
    @property
    def rope(self) -> Rope: ...
    @property
    def version(self) -> tuple[int, ...]: ...
    @property
    def ids(self) -> tuple[tuple[str, int], ...]: ...
    def __len__(self) -> int: ...
    def merge(self, version: Sequence[int] | None = None, edits: bool = False) -> list[Edit]:
        """Bring in `version` (default: the log's frontier); the edits made, if asked for."""
    def insert(self, agent: str, pos: int, content: Content) -> int:
        """Append a local insert on top of `version`; returns its first local version."""
    def delete(self, agent: str, pos: int, length: int) -> int: ...
    def content(self, start: int = 0, end: int | None = None) -> Content: ...
    def copy(self, log: OpLog) -> Checkout: ...
    def start_from(self, content: Content) -> None:
        """Begin with content that is not in the log."""
    def adopt(self, other: Checkout, version: Sequence[int]) -> None:
        """Take over another checkout's text."""
    def restart(self) -> None:
        """Make the content of the log's frontier anew."""
    def _check(self) -> None: ...

def walk(log: OpLog, a: Sequence[int], b: Sequence[int]) -> list[Step]:
    """The moves that bring a document at version `a` to `a` merged with `b`."""

def moves(log: OpLog) -> dict[str, int]:
    """What replaying all of `log` costs: runs applied, retreated, advanced, and so on."""

def _node_sizes(leaf_slots: int = ..., node_slots: int = ...) -> None: ...
