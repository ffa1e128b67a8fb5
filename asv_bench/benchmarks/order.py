"""The total-order walk, which document types that replay their operations go by."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import traces
from egwalker.cycore.order import Group, groups

setup_cache = traces.setup_cache


class TotalOrder:
    """All groups of a trace, or those of its first half."""

    params = (*traces.WHOLE, "friendsforever")
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.graph = traces.recorded(trace).graph
        self.half = self.graph.version_at(len(self.graph) // 2)

    def time_all(self, _trace: str) -> None:
        drain(groups(self.graph))

    def time_up_to_half(self, _trace: str) -> None:
        drain(groups(self.graph, self.half))

    def track_groups(self, _trace: str) -> int:
        """How many groups there are."""
        return sum(1 for _ in groups(self.graph))


def drain(found: Iterator[Group]) -> None:
    for _ in found:
        pass
