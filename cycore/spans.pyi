from typing import final

from egwalker.cycore.graph import Graph

@final
class SpanTree:
    """The state of one walk: not for use from Python."""

    def __init__(self, graph: Graph, leaf_slots: int = ..., node_slots: int = ...) -> None: ...
    def _check(self) -> None: ...
