"""Replayed documents: a state to which operations are applied, one after another in the total order.

A type need not know how to merge. All replicas apply the same operations in the same order, that of
`egwalker.cycore.order`, and so have the same state. When an operation arrives late, the state is *rewound* to
the operation's place, and what follows is applied again.

To rewind, each operation leaves behind how it is undone. That is kept for the last operations only; for
older places there are *checkpoints*, copies of the state. Their distances grow with their age, so that
getting to a place costs no more than what follows it, and a copy of the state.

Where the log begins at a base (see `egwalker.replica`), the state begins with what the type has dumped there.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from egwalker.cycore.caret import Caret
from egwalker.cycore.errors import ContentError, DecodeError, KindError, OperationError, PluginError
from egwalker.cycore.oplog import OpLog
from egwalker.cycore.order import Order, check_operations, operations
from egwalker.events import logger
from egwalker.json_values import SORTED, from_json, there_and_back
from egwalker.types import KeptType, Packed, ReplayedType
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
    """The state after the first `place` operations, as nothing that happens later changes it.

    That is a pickle of it, the JSON text that the type has dumped, or empty: the one before all operations.
    """

    place: int
    state: bytes | str


class Replay:
    """The state that a type makes of a log's operations up to one version, and the way to later versions.

    What `egwalker.cycore.walker.Checkout` is to a sequence. `len()` is the number of operations.
    """

    def __init__(
        self,
        log: OpLog,
        kind: ReplayedType,
        order: Order | None = None,
        checkpoints: Sequence[Checkpoint] = (),
    ) -> None:
        """The beginning of the log or, of the `order`, the end, where the last of its checkpoints is."""
        self.log = log
        self.caret = Caret()  # nobody types here: it stays closed
        self._kind = kind
        self._state: Any = None
        self._applied = 0  # how many operations: all of the order, except within `merge`
        self._undos: list[Any] = []  # of the last operations applied
        self._begin(order, checkpoints)

    def _begin(self, order: Order | None = None, checkpoints: Sequence[Checkpoint] = ()) -> None:
        self._order = Order(self.log.graph) if order is None else order
        self._checkpoints = [*checkpoints]
        self._restore(len(self._order))

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

    def told(self) -> Any:
        """All that the type can tell of the state. It may share parts with it."""
        if isinstance(self._kind, KeptType):
            with suppress(Exception):  # of the type's own code
                return self._kind.dump(self._state)
        return self.content()

    def dump(self) -> str | None:
        """The state as JSON text, for a log that begins here; None if the type cannot tell it. O(state)."""
        if not isinstance(self._kind, KeptType):
            return None
        try:
            return there_and_back(self._kind.dump(self._state), "what `dump` returned", SORTED)[0]
        except Exception as error:
            # Nothing is lost, and what is to be stored must not wait for another version of the type.
            why = str(error) if isinstance(error, ContentError) else said(error)
            logger.warning("the state of a %s document is not kept: %s", self._kind.name, why)
            return None

    def merge(
        self, version: Sequence[int] | None = None, edits: bool = False
    ) -> list[tuple[int, int, Packed]]:
        """Bring in `version`, by default all of the log.

        Returns, if asked for `edits`, where in the total order which operations were put: `(place, 0, their
        JSON texts)`. O(what is new and what follows the first of it). `DecodeError` for an event that is no
        operation, `OperationError` if one fails; all is then as it was.
        """
        kept, added = self._order.merge(version)
        checkpoints = self._checkpoints.copy()
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
                self._checkpoints = checkpoints
                self._restore(len(self._order))
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
        checkpoints = self._checkpoints
        if self._applied > self._last().place:
            checkpoints = [*checkpoints, self._checkpoint()]
        return Replay(log, self._kind, self._order.copy(log.graph), checkpoints)

    def distance(self, place: int) -> int:
        """How far a place is from the last checkpoint before it."""
        last = self.log.graph.base
        return place - max([c.place for c in self._checkpoints if c.place <= place], default=last)

    def earlier(self, version: Sequence[int]) -> "Replay":
        """The same at an earlier version, whose operations come before all others in the order.

        O(rows + state + operations since the last checkpoint before it).
        """
        order = Order(self.log.graph)
        order.merge(version)
        found = Replay(self.log, self._kind, order, [c for c in self._checkpoints if c.place <= len(order)])
        found._replay()
        return found

    def move(self, log: OpLog) -> None:
        """Go on over a log that has the operations before this one's base, too; all others are the same.

        This one is at the frontier, and stays there, with its state. O(rows * log rows). `DecodeError`, and
        no change, for events that are no operations.
        """
        check_operations(log, [(log.graph.base, self.log.graph.base)])
        order = Order(log.graph)
        order.merge()
        assert len(order) == len(self._order), f"{len(order)} operations, not {len(self._order)}"
        self._checkpoints.insert(0, self._beginning())
        self.log, self._order = log, order

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

    def _beginning(self) -> Checkpoint:
        """Where the log begins."""
        base = self.log.graph.base
        content = self.log.before if base else b""
        assert isinstance(content, str | bytes)
        return Checkpoint(base, content)

    def _last(self) -> Checkpoint:
        return self._checkpoints[-1] if self._checkpoints else self._beginning()

    def _restore(self, place: int) -> None:
        """Begin at the last checkpoint that is not after `place`."""
        self._forget_after(place)
        self._undos = []  # they are of another copy
        self._applied, data = self._last()
        if isinstance(data, str):
            self._state = loaded(self._kind, data)
        elif data:
            self._state = pickle.loads(data)  # made by `_checkpoint`
        else:
            self._state = self._kind.initial()

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
        last = self._last()
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


def loaded(kind: ReplayedType, text: str) -> Any:
    """The state that a type has dumped as JSON text. `DecodeError` if it does not take that."""
    if not isinstance(kind, KeptType):
        raise DecodeError(f"documents of kind {kind.name!r} begin with no operations")
    try:
        return kind.load(from_json(text))
    except Exception as error:
        raise DecodeError(f"this is no state of a {kind.name} document: {said(error)}") from error


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
