"""Memory: what stays, and how much more is taken while merging."""

from __future__ import annotations

from benchmarks import growth, traces
from egwalker.cycore.checkout import Checkout

setup_cache = traces.setup_cache


class Kept:
    """What an open document holds, in bytes."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.log = traces.recorded(trace)

    def track_graph(self, _trace: str) -> int:
        """The event graph with all operations and content."""
        return sum(self.log.memory().values())

    def track_text(self, _trace: str) -> int:
        """The text buffer."""
        return traces.checkout(self.log, self.log.graph.frontier).rope.memory()

    track_graph.unit = track_text.unit = "bytes"  # type: ignore[attr-defined]


class Merging:
    """How far a process's memory grows while it replays a whole history: the text and the walk, in bytes."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.log = traces.recorded(trace)

    def track_replay(self, _trace: str) -> int:
        def replay() -> object:
            found = Checkout(self.log)
            found.merge()
            return found, found.content()

        grown = growth.peak_growth(replay)
        if grown is None:
            raise NotImplementedError("this system does not tell a process's peak of memory")
        return grown

    track_replay.unit = "bytes"  # type: ignore[attr-defined]


class Opening:
    """The peak of a whole process that opens a JSON trace and makes its text."""

    params = ("S1", "A1", "A2", "friendsforever")
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        try:
            traces.find(trace)
        except FileNotFoundError as error:
            raise NotImplementedError(str(error)) from None

    def peakmem_load(self, trace: str) -> str:
        return str(traces.load(trace).document)
