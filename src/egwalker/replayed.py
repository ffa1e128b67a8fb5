"""Replayed documents: a state to which operations are applied, one after another in the total order.

A type need not know how to merge. All replicas apply the same operations in the same order, that of
`egwalker.cycore.order`, and so have the same state. When an operation arrives late, the state is *rewound* to
the operation's place, and what follows is applied again.

To rewind, each operation leaves behind how it is undone. That is kept for the last operations only; for
older places there are *checkpoints*, copies of the state. Their distances grow with their age, so that
getting to a place costs no more than what follows it, and a copy of the state.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from egwalker.cycore.caret import Caret
from egwalker.cycore.errors import KindError, OperationError, PluginError
from egwalker.cycore.oplog import OpLog
from egwalker.cycore.order import Order, check_operations, operations
from egwalker.types import Packed, ReplayedType
from egwalker.versions import Version

BATCH = 1024
"""How many operations are read from the log at a time."""
UNDOS = 1 << 14
"""For how many operations, and up to twice as many, it is kept how they are undone."""
DISTANCE = 1 << 12
"""At least so many operations are between checkpoints when they are made,"""
BYTES_PER_OPERATION = 32
"""and one for so many bytes of the state: copying it costs little beside applying them."""


class Checkpoint(NamedTuple):
    """The state after the first `place` operations, as bytes: nothing that happens later changes them."""

    place: int
    state: bytes


class Replay:
    """The state that a type makes of a log's operations up to one version, and the way to later versions.

    What `egwalker.cycore.walker.Checkout` is to a sequence. `len()` is the number of operations.
    """

    def __init__(self, log: OpLog, kind: ReplayedType) -> None:
        self.log = log
        self.caret = Caret()  # nobody types here: it stays closed
        self._kind = kind
        self._begin()

    def _begin(self) -> None:
        self._order = Order(self.log.graph)
        self._state = self._kind.initial()
        self._applied = 0  # how many operations: all of the order, except within `merge`
        self._undos: list[Any] = []  # of the last operations applied
        self._checkpoints: list[Checkpoint] = []

    def __len__(self) -> int:
        return len(self._order)

    @property
    def version(self) -> tuple[int, ...]:
        """The version's local versions, ascending. O(heads)."""
        return self._order.version

    @property
    def ids(self) -> Version:
        """The version as ids, an ascending tuple. O(heads), and O(log runs) for each that is new."""
        return self._order.ids

    def content(self) -> Any:
        """What the type shows of the state."""
        return self._kind.content(self._state)

    def merge(
        self, version: Sequence[int] | None = None, edits: bool = False
    ) -> list[tuple[int, int, Packed]]:
        """Bring in `version`, by default all of the log.

        Returns, if asked for `edits`, where in the total order which operations were put: `(place, 0, their
        JSON texts)`. O(what is new and what follows the first of it). `DecodeError` for an event that is no
        operation, `OperationError` if one fails; all is then as it was.
        """
        kept, added = self._order.merge(version)
        touched = False
        try:
            check_operations(self.log, [(start, end) for _, start, end in added])
            touched = True
            self._rewind(kept)
            self._replay()
        except BaseException:
            self._order.undo_merge()
            if touched:
                # Nobody knows what a failing type has done to the state.
                self._restore(kept)
                self._replay()
            raise
        if not edits:
            return []
        return [(place, 0, operations(self.log, [(start, end)])) for place, start, end in added]

    def perform(self, agent: str, text: str) -> int:
        """Append an operation of `agent` on top of this version; returns its place, the last one.

        What this version holds precedes it, so that nothing of it has a larger clock. O(1) beside applying
        it. `OperationError`, `AgentError`: nothing changes.
        """
        log, graph = self.log, self.log.graph
        length, seq = len(log), graph.next_seq(agent)
        log.add(agent, seq, self.ids, [(seq, 0, [text])])
        try:
            self.merge([length])
        except BaseException:
            log.truncate(length)
            raise
        return len(self) - 1

    def insert(self, agent: str, pos: int, content: object) -> int:
        """Operations have no positions: `KindError`."""
        raise no_positions(self._kind.name)

    def delete(self, agent: str, pos: int, length: int) -> int:
        """The same."""
        raise no_positions(self._kind.name)

    def copy(self, log: OpLog) -> "Replay":
        """The same at another log with the same local versions: a copy of this one's. O(state + groups)."""
        other = Replay(log, self._kind)
        other._order = self._order.copy(log.graph)
        other._checkpoints = self._checkpoints.copy()
        if self._applied:
            other._checkpoints.append(self._checkpoint())
        other._restore(self._applied)
        return other

    def restart(self) -> None:
        """Forget everything and go to the log's frontier from its beginning. O(operations)."""
        self._begin()
        self.merge()

    def memory(self) -> dict[str, int]:
        """Bytes of the order and of the checkpoints."""
        checkpoints = sum([len(checkpoint.state) for checkpoint in self._checkpoints])
        return {"order": self._order.memory(), "checkpoints": checkpoints}

    # --- the state ------------------------------------------------------------------------------------------

    def _rewind(self, place: int) -> None:
        """Go back to the state after the first `place` operations."""
        n = self._applied - place
        if n > len(self._undos):
            self._restore(place)
            return
        undo, state, undos = self._kind.undo, self._state, self._undos
        try:
            for _ in range(n):
                undo(state, undos.pop())
        except Exception as error:
            raise OperationError(
                f"an operation of a {self._kind.name} document could not be undone: {said(error)}"
            ) from error
        self._applied = place
        self._forget_after(place)

    def _restore(self, place: int) -> None:
        """Begin at the last checkpoint that is not after `place`."""
        self._forget_after(place)
        self._undos = []  # they are of another copy
        if self._checkpoints:
            self._applied, data = self._checkpoints[-1]
            self._state = pickle.loads(data)  # made by `_checkpoint`
        else:
            self._applied, self._state = 0, self._kind.initial()

    def _replay(self) -> None:
        """Apply the operations that have not been."""
        apply, push = self._kind.apply, self._undos.append
        for ranges in batches(self._order.ranges(self._applied)):
            state, before = self._state, len(self._undos)
            ops = json.loads(f"[{','.join(operations(self.log, ranges))}]")
            try:
                for op in ops:
                    push(apply(state, op))
            except Exception as error:
                raise self._failed(ops, ranges, len(self._undos) - before, error) from error
            self._applied += len(ops)
            if len(self._undos) > 2 * UNDOS:
                del self._undos[:-UNDOS]
            self._mark()

    def _failed(
        self, ops: list[Any], ranges: list[tuple[int, int]], i: int, error: Exception
    ) -> OperationError:
        lvs = [lv for start, end in ranges for lv in range(start, end)]
        agent, seq = self.log.graph.id(lvs[i])
        return OperationError(f"operation {agent}:{seq}, {ops[i]!r:.200}, failed: {said(error)}")

    def _mark(self) -> None:
        """Make a checkpoint, if the last one is far enough."""
        last = self._checkpoints[-1] if self._checkpoints else Checkpoint(0, b"")
        if self._applied - last.place >= max(DISTANCE, len(last.state) // BYTES_PER_OPERATION):
            self._checkpoints.append(self._checkpoint())
            self._checkpoints = thinned(self._checkpoints)

    def _checkpoint(self) -> Checkpoint:
        try:
            data = pickle.dumps(self._state, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise PluginError(
                f"the state of a {self._kind.name} document cannot be copied: {said(error)}"
            ) from error
        return Checkpoint(self._applied, data)

    def _forget_after(self, place: int) -> None:
        while self._checkpoints and self._checkpoints[-1].place > place:
            self._checkpoints.pop()

    def _check(self) -> None:
        """Assert every invariant, and that a replay from nothing gives the same. For tests."""
        self._order._check()
        assert self._applied == len(self._order), f"{self._applied} operations of {len(self._order)}"
        fresh = Replay(self.log, self._kind)
        fresh.merge(self.version)
        assert fresh.content() == self.content(), "the state is not what its history makes"
        places = [checkpoint.place for checkpoint in self._checkpoints]
        assert places == sorted(set(places)), f"checkpoints at {places}"
        assert max(places, default=0) <= self._applied, f"checkpoints at {places}"
        for place, data in self._checkpoints:
            other = Replay(self.log, self._kind)
            other._order = fresh._order
            other._checkpoints = [Checkpoint(place, data)]
            other._restore(place)
            other._replay()
            assert other.content() == self.content(), f"the checkpoint at {place} is of something else"


def no_positions(kind: str) -> KindError:
    """For what only a sequence can do."""
    return KindError(f"a document of kind {kind!r} has no positions: `perform` edits it")


def said(error: Exception) -> str:
    """An exception of a type's own code, in words."""
    return f"{type(error).__name__}: {error}"


def batches(ranges: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The same ranges, in parts of not more than `BATCH` numbers.

    >>> list(batches([(0, 3), (5, 1030)]))
    [[(0, 3), (5, 1026)], [(1026, 1030)]]
    """
    part: list[tuple[int, int]] = []
    room = BATCH
    for start, end in ranges:
        lo = start
        while lo < end:
            hi = min(end, lo + room)
            part.append((lo, hi))
            room -= hi - lo
            lo = hi
            if not room:
                yield part
                part, room = [], BATCH
    if part:
        yield part


def thinned(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that are needed: from each to the one before it is no farther than to the last one.

    So what is replayed needlessly is not more than what has to be, and there are O(log operations) of them.

    >>> [c.place for c in thinned([Checkpoint(place, b"") for place in range(1, 11)])]
    [2, 6, 8, 9, 10]
    """
    end = checkpoints[-1].place
    kept = [checkpoints[-1]]
    for i in range(len(checkpoints) - 2, -1, -1):
        before = checkpoints[i - 1].place if i else 0
        if kept[-1].place - before > end - kept[-1].place:
            kept.append(checkpoints[i])
    return kept[::-1]
