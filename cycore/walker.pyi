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

def walk(log: OpLog, a: Sequence[int], b: Sequence[int]) -> list[Step]:
    """The moves that bring a document at version `a` to `a` merged with `b`."""

def moves(log: OpLog) -> dict[str, int]:
    """What replaying all of `log` costs: runs applied, retreated, advanced, and so on."""

def _node_sizes(leaf_slots: int = ..., node_slots: int = ...) -> None: ...
