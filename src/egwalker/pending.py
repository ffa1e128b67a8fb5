"""Events that wait for their parents.

Runs may arrive in any order. One whose parents are not all held waits here, found by the parents it lacks,
and leaves when the last of them has entered the graph.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from egwalker.cycore.errors import CausalityError, PendingError
from egwalker.cycore.graph import Graph
from egwalker.versions import Run

LIMIT = 1_000_000
"""How many events may wait in a document, if it is not told otherwise."""


class Waiting:
    """A run that waits."""

    __slots__ = ("end", "missing", "number", "run")

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number  # in order of arrival
        self.end = run.seq + run.length
        self.missing = 0  # how many of its parents are not held


class Pending:
    """The runs of one document that wait, with at most `limit` events when a round has ended.

    A round is what one call of the document brings: `begin`, any number of `add` and `ready`, then `check`,
    and if that or anything else in the round failed, `rollback`. The runs' content is in the packed form.
    """

    def __init__(self, graph: Graph, limit: int) -> None:
        self.limit = limit
        self.events = 0
        self._graph = graph
        self._waiting: dict[int, Waiting] = {}
        self._left: list[Waiting] = []  # those that left in this round
        self._next = 0  # number of the next one
        self._round = 0  # number of this round's first one
        self._seen = 0  # the graph's events before this local version have woken who waited for them
        self._by_start: dict[tuple[str, int], list[Waiting]] = {}
        # By a missing parent: its agent, its seq. The seqs are also kept sorted, to find those within a run.
        self._by_parent: dict[str, dict[int, list[Waiting]]] = {}
        self._seqs: dict[str, list[int]] = {}
        # For each agent a range of seqs outside which nothing waits.
        self._extent: dict[str, tuple[int, int]] = {}

    def begin(self) -> None:
        """Start a round."""
        self._left.clear()
        self._round = self._next
        if not self._waiting:
            self._seen = len(self._graph)
            if self._extent:
                self._clear()

    def add(self, run: Run) -> None:
        """Let a run wait that lacks a parent. The same run again changes nothing. O(log waiting)."""
        twins = self._by_start.setdefault((run.agent, run.seq), [])
        if any(twin.run == run for twin in twins):
            return
        waiting = Waiting(run, self._next)
        self._next += 1
        twins.append(waiting)
        self._waiting[waiting.number] = waiting
        self.events += waiting.end - run.seq
        lowest, highest = self._extent.get(run.agent, (run.seq, waiting.end))
        self._extent[run.agent] = min(lowest, run.seq), max(highest, waiting.end)
        for agent, seq in set(run.parents):
            if not self._graph.has(agent, seq):
                waiting.missing += 1
                by_seq = self._by_parent.setdefault(agent, {})
                if seq not in by_seq:
                    insort(self._seqs.setdefault(agent, []), seq)
                by_seq.setdefault(seq, []).append(waiting)

    def ready(self) -> Iterator[tuple[Run, bool]]:
        """The runs that need not wait any longer, and whether each was here before this round.

        Each leaves as it is yielded; the caller puts it into the graph before asking for the next one.
        """
        found: list[Waiting] = []
        while self._waiting:
            for row in self._graph.runs(self._seen):
                for waiting in self._woken(row.agent, row.seq, row.seq + row.end - row.start):
                    waiting.missing -= 1
                    if not waiting.missing:
                        found.append(waiting)
            self._seen = len(self._graph)
            if not found:
                return
            waiting = found.pop()
            self._remove(waiting)
            yield waiting.run, waiting.number < self._round

    def check(self) -> None:
        """Raise `CausalityError` if a run of this round can never enter, `PendingError` if too much waits."""
        numbers = range(self._round, self._next)
        added = [self._waiting[number] for number in numbers if number in self._waiting]
        self._check_cycles(added)
        if added and self.events > self.limit:
            agent, seq = next(parent for parent in added[0].run.parents if not self._graph.has(*parent))
            raise PendingError(
                f"{self.events} events would wait for parents such as {agent}:{seq}, which is not held; "
                f"at most {self.limit} may"
            )

    def rollback(self) -> None:
        """Undo a round, once the graph has been brought back to what it was. O(waiting)."""
        before = [*self._waiting.values(), *self._left]
        before.sort(key=lambda waiting: waiting.number)
        runs = [waiting.run for waiting in before if waiting.number < self._round]
        self._clear()
        for run in runs:
            self.add(run)
        self.begin()

    def move(self, graph: Graph) -> None:
        """Go on with a graph that has the same events, and more of them than their ids."""
        self._graph = graph

    def _clear(self) -> None:
        self.events = 0
        self._waiting.clear()
        self._seen = len(self._graph)
        self._by_start.clear()
        self._by_parent.clear()
        self._seqs.clear()
        self._extent.clear()

    def _remove(self, waiting: Waiting) -> None:
        run = waiting.run
        del self._waiting[waiting.number]
        self._left.append(waiting)
        self.events -= waiting.end - run.seq
        twins = self._by_start[run.agent, run.seq]
        twins.remove(waiting)
        if not twins:
            del self._by_start[run.agent, run.seq]

    def _children(self, agent: str, start: int, end: int) -> list[Waiting]:
        """Those that wait for events `start:end` of `agent`, once for each event."""
        seqs = self._seqs.get(agent)
        if not seqs:
            return []
        by_seq = self._by_parent[agent]
        lo = bisect_left(seqs, start)
        hi = bisect_left(seqs, end, lo)
        return [waiting for seq in seqs[lo:hi] for waiting in by_seq[seq]]

    def _woken(self, agent: str, start: int, end: int) -> list[Waiting]:
        """The same, and they wait for them no more."""
        found = self._children(agent, start, end)
        if found:
            seqs = self._seqs[agent]
            lo = bisect_left(seqs, start)
            hi = bisect_left(seqs, end, lo)
            for seq in seqs[lo:hi]:
                del self._by_parent[agent][seq]
            del seqs[lo:hi]
        return found

    def _check_cycles(self, added: list[Waiting]) -> None:
        """Look for a run that waits, directly or not, for itself: from parents to children, depth first.

        The run that closes a cycle finds a parent and a child of its own here. Others need no search, so that
        runs that arrive one by one, first to last or last to first, cost O(log waiting) each.
        """
        done: set[int] = set()
        path: set[int] = set()
        for start in added:
            if not any(self._may_wait(agent, seq) for agent, seq in start.run.parents):
                continue
            stack = [start]
            while stack:
                waiting = stack[-1]
                if waiting.number in path or waiting.number in done:
                    # All below it has been seen: no node is pushed while it is on the path, that would be a
                    # cycle.
                    stack.pop()
                    path.discard(waiting.number)
                    done.add(waiting.number)
                    continue
                path.add(waiting.number)
                for child in self._children(waiting.run.agent, waiting.run.seq, waiting.end):
                    if child.number in path:
                        first = f"{child.run.agent}:{child.run.seq}"
                        raise CausalityError(f"event {first} would have itself among its ancestors")
                    if child.number not in done:
                        stack.append(child)

    def _may_wait(self, agent: str, seq: int) -> bool:
        lowest, highest = self._extent.get(agent, (0, 0))
        return lowest <= seq < highest

    def _check(self) -> None:
        """Assert every invariant between rounds."""
        assert self.events == sum(waiting.run.length for waiting in self._waiting.values())
        for number, waiting in self._waiting.items():
            run = waiting.run
            missing = {parent for parent in run.parents if not self._graph.has(*parent)}
            lacking = {
                (agent, seq)
                for agent, by_seq in self._by_parent.items()
                for seq, children in by_seq.items()
                if waiting in children
            }
            # What local edits held meanwhile is found out in the next round.
            assert missing <= lacking <= set(run.parents), f"run {number} waits for {lacking}, not {missing}"
            assert waiting.missing == len(lacking) > 0
            assert waiting in self._by_start[run.agent, run.seq]
        for agent, seqs in self._seqs.items():
            assert seqs == sorted(self._by_parent[agent])
