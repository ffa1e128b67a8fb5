"""The event graph: adding events, comparing versions, version vectors."""

from __future__ import annotations

from functools import cache
from random import Random

from benchmarks import traces
from egwalker import Document, Run
from egwalker.cycore.diff import diff
from egwalker.cycore.oplog import OpLog

setup_cache = traces.setup_cache

PAIRS = 100
"""How many pairs of versions the benchmarks of diffs go through."""


class Versions:
    """Questions about versions, 100 pairs of single events each: answers cost by what lies between them."""

    params = (traces.WHOLE, ("near", "far"))
    param_names = ("trace", "events apart")

    def setup(self, trace: str, apart: str) -> None:
        self.graph = traces.recorded(trace).graph
        self.pairs = pairs_of_events(len(self.graph), 1000 if apart == "near" else len(self.graph))

    def time_diff(self, _trace: str, _apart: str) -> None:
        for a, b in self.pairs:
            diff(self.graph, [a], [b])

    def time_contains(self, _trace: str, _apart: str) -> None:
        for a, b in self.pairs:
            self.graph.contains([a], b)

    def time_dominators(self, _trace: str, _apart: str) -> None:
        for a, b in self.pairs:
            self.graph.dominators([a, b])


class WholeGraph:
    """What reads all of it."""

    params = traces.WHOLE
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.log = traces.recorded(trace)
        self.ids = [self.log.graph.id(lv) for lv, _ in pairs_of_events(len(self.log), len(self.log))]

    def time_version_vector(self, _trace: str) -> None:
        self.log.graph.version_vector()

    def time_critical(self, _trace: str) -> None:
        self.log.graph.critical()

    def time_runs(self, _trace: str) -> None:
        for _ in self.log.graph.runs():
            pass

    def time_ids(self, _trace: str) -> None:
        """100 ids to local versions."""
        for agent, seq in self.ids:
            self.log.graph.lv(agent, seq)

    def time_copy(self, _trace: str) -> None:
        self.log.copy()


class Adding:
    """Runs into a log, in causal order. No text is made."""

    params = traces.WHOLE
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.log = traces.recorded(trace)
        self.runs = traces.finished(trace).history()

    def time_new(self, _trace: str) -> None:
        traces.graph(self.runs)

    def time_known(self, _trace: str) -> None:
        """All are held already, and compared."""
        for run in self.runs:
            self.log.add(*run)

    def time_other_log(self, _trace: str) -> None:
        """The same without Python objects between."""
        OpLog().merge(self.log)


class Exchange:
    """Histories as documents exchange them."""

    params = ("A2", "friendsforever")
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.whole = traces.finished(trace)
        self.half = half_of(trace)
        self.vector = self.half.version_vector
        self.backwards = self.whole.history()[::-1]
        self.empty = Document(agent="empty")

    def time_version_vector(self, _trace: str) -> None:
        _ = self.whole.version_vector

    def time_history(self, _trace: str) -> None:
        self.whole.history()

    def time_history_since(self, _trace: str) -> None:
        """What the half of the history lacks."""
        self.whole.history(self.vector)

    def time_receive_backwards(self, _trace: str) -> None:
        """Every run but the last one waits for its parents."""
        self.empty.receive(self.backwards)


def pairs_of_events(events: int, apart: int) -> list[tuple[int, int]]:
    """Pairs of local versions at most `apart` from each other."""
    random = Random(traces.SEED)
    firsts = [random.randrange(events) for _ in range(PAIRS)]
    return [(a, random.randrange(max(0, a - apart), min(events, a + apart))) for a in firsts]


@cache
def half_of(trace: str) -> Document:
    """A document of the first half of a trace's runs."""
    runs: list[Run] = traces.finished(trace).history()
    half = Document(agent="half")
    half.receive(runs[: len(runs) // 2])
    return half
