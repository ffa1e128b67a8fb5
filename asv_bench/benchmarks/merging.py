"""Merging: whole histories, versions of the past, and what is new since the last time.

What is timed works on the event graph in memory; reading files is not in it.
"""

from __future__ import annotations

from functools import cache
from random import Random

from benchmarks import traces
from egwalker import Document, Run
from egwalker.cycore.blame import blame
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.walker import walk

setup_cache = traces.setup_cache


class FullReplay:
    """A document from its event graph alone."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.log = traces.recorded(trace)

    def time_text(self, _trace: str) -> None:
        """The text; the `engine` column of the targets."""
        found = Checkout(self.log)
        found.merge()
        found.content()

    def time_edits(self, _trace: str) -> None:
        """The text, and each edit as a tuple for somebody who follows."""
        Checkout(self.log).merge(edits=True)

    def time_walk(self, _trace: str) -> None:
        """No text, but the list of the walk's moves."""
        walk(self.log, (), self.log.graph.frontier)


class PastVersion:
    """Checking out a version that lies back: the events before it are walked, and no others."""

    params = (traces.WHOLE, (0.1, 0.5, 0.9))
    param_names = ("trace", "part of history")

    def setup(self, trace: str, part: float) -> None:
        self.log = traces.recorded(trace)
        self.version = self.log.graph.version_at(int(len(self.log) * part))

    def time_checkout(self, _trace: str, _part: float) -> None:
        traces.checkout(self.log, self.version)

    def time_blame(self, _trace: str, _part: float) -> None:
        """Who wrote what of it."""
        blame(self.log, self.version)


class PartialMerge:
    """Bringing the last events of a trace into the document of all before them.

    It should cost by what is concurrent with them, not by all of the history.
    """

    params = (traces.WHOLE, (1, 100, 10_000))
    param_names = ("trace", "new events")

    def setup(self, trace: str, new: int) -> None:
        self.log = traces.recorded(trace)
        self.checkout = past(trace, new).copy(self.log)

    def time_merge(self, _trace: str, _new: int) -> None:
        self.checkout.merge()


class TwoDocuments:
    """Merging and receiving by the public API: what two people did since they parted."""

    params = (("S1", "C1"), (100, 10_000))
    param_names = ("trace", "edits on each side")

    def setup(self, trace: str, edits: int) -> None:
        ours, theirs = parted(trace, edits)
        self.ours = ours.fork("us again")
        self.theirs = theirs
        self.runs = unseen(trace, edits)

    def time_merge(self, _trace: str, _edits: int) -> None:
        self.ours.merge(self.theirs)

    def time_receive(self, _trace: str, _edits: int) -> None:
        self.ours.receive(self.runs)


# asv calls `setup` before each sample: what is dear is made once a process.


@cache
def past(trace: str, new: int) -> Checkout:
    """The document of a trace without its last `new` events."""
    log = traces.recorded(trace)
    return traces.checkout(log, log.graph.version_at(len(log) - new))


@cache
def parted(trace: str, edits: int) -> tuple[Document, Document]:
    """Two forks of a trace's document, each with edits of its own: words typed and deleted all over it."""
    random = Random(traces.SEED)
    pair = traces.finished(trace).fork("us"), traces.finished(trace).fork("them")
    for document in pair:
        for _ in range(edits):
            pos = random.randrange(len(document) - 10)
            if random.random() < 0.7:
                document.insert(pos, "word ")
            else:
                document.delete(pos, 5)
    return pair


@cache
def unseen(trace: str, edits: int) -> list[Run]:
    """What the second of the two did."""
    ours, theirs = parted(trace, edits)
    return theirs.history(ours.version_vector)
