from collections.abc import Sequence
from typing import NamedTuple

from egwalker.cycore.graph import Graph

class Diff(NamedTuple):
    """How two versions differ, in local versions; ranges are half-open and ascending."""

    head: tuple[int, ...]
    shared: list[tuple[int, int]]
    a_only: list[tuple[int, int]]
    b_only: list[tuple[int, int]]

def diff(graph: Graph, a: Sequence[int], b: Sequence[int]) -> Diff:
    """The events that lie between two versions."""
