"""Events from elsewhere, on their way into a replica: all that one call brings enters, or nothing.

What lacks parents waits (see `pending`). What needs history that has not been read is tried again with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egwalker import encoding
from egwalker.cycore.errors import CausalityError, DecodeError, EgwalkerError, HistoryError
from egwalker.events import logger
from egwalker.kinds import check_values
from egwalker.replica import history_of
from egwalker.versions import Run, check_agent, refuse_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egwalker.cycore.columns import PackedRun
    from egwalker.cycore.decoder import History
    from egwalker.cycore.oplog import OpLog
    from egwalker.events import Change
    from egwalker.kinds import Kind
    from egwalker.replica import Replica
    from egwalker.types import Packed
    from egwalker.versions import Version

    Made = list[tuple[int, int, Packed]]
    """The edits that something made, in the packed form."""


class Incoming:
    """The events of an update, or of a whole document, that came as bytes. `len()` is how many."""

    def __init__(self, kind: Kind, encoded: encoding.Encoded) -> None:
        """Decode it. `DecodeError`."""
        self._room = encoding.allowance(len(encoded.data))
        self._found: PackedRun | History
        if encoding.RUN in encoded.chunks:
            self._found = run = encoded.run(kind.values)
            check_values(kind, [content for _, _, content in run[3]])
        else:
            self._found = history_of(kind, encoded)

    def __len__(self) -> int:
        found = self._found
        return length_of(found) if isinstance(found, tuple) else len(found)

    def runs(self) -> list[PackedRun]:
        """The events as runs. `LimitError` if a few bytes would become too many."""
        found = self._found
        return [found] if isinstance(found, tuple) else found.runs(self._room)

    def add_to(self, log: OpLog) -> list[PackedRun]:
        """Add the events to a log, except the runs that are returned: they lack parents.

        Raises what `OpLog.add` does, and `PendingError` if those would take too much memory.
        """
        found = self._found
        if not isinstance(found, tuple):
            return found.merge(log, self._room)
        if lacks_a_parent(log, found[2]):
            return [found]
        log.add(*found)
        return []

    def enter(self, replica: Replica) -> Change:
        """Bring them in. `HistoryError` if they need history that is not here."""
        if isinstance(self._found, tuple):
            return receive(replica, [self._found])
        # What lacked a parent may find it further on in the same data.
        return bring_in(replica, lambda: add_all(replica, lambda: enter(replica, self.add_to(replica.log))))


def receive(replica: Replica, runs: list[PackedRun]) -> Change:
    """Take in runs in any order. `HistoryError` if they need history that is not here."""
    if len(runs) == 1 and not replica.pending.events and not lacks_a_parent(replica.log, runs[0][2]):
        return bring_in(replica, lambda: add_one(replica, runs[0]))
    return bring_in(replica, lambda: add_all(replica, lambda: enter(replica, runs)))


def merge(replica: Replica, theirs: OpLog, start: int) -> Change:
    """Take in what another log holds from a local version on. `HistoryError` as for `receive`."""
    return bring_in(replica, lambda: add_all(replica, lambda: replica.log.merge(theirs, start)))


# --- entering -----------------------------------------------------------------------------------------------


def bring_in(replica: Replica, add: Callable[[], Made]) -> Change:
    """Let `add` bring events into a replica, which returns its edits; on errors nothing has changed.

    If they need history that has not been read, that is read, and `add` called again.
    """
    before = replica.version
    try:
        made = add()
    except HistoryError:
        if replica.unread is None:
            raise
        replica.read()
        made = add()
    return replica.tell(replica.edits(made), before, local=False)


def add_one(replica: Replica, run: PackedRun) -> Made:
    """Bring in one run that lacks no parent, while nothing waits, as in a live session."""
    log = replica.log
    length = len(log)
    log.add(*run)
    try:
        made: Made = replica.main.merge(edits=True)
    except BaseException:
        log.truncate(length)
        raise
    return made


def add_all(replica: Replica, add: Callable[[], object]) -> Made:
    """Let `add` put events into the log or let them wait, then bring the content up to date."""
    try:
        return attempt(replica, add, careful=False)
    except HistoryError:
        raise
    except EgwalkerError:
        if not replica.pending.events:
            raise
    return attempt(replica, add, careful=True)


def attempt(replica: Replica, add: Callable[[], object], *, careful: bool) -> Made:
    """The same. `careful`: what has waited and turns out to be impossible is dropped."""
    log, main, waiting = replica.log, replica.main, replica.pending
    length, before = len(log), replica.version
    made: Made = []
    typing = main.caret.state
    waiting.begin()
    try:
        add()
        if waiting.events:
            for run, old in waiting.ready():
                if careful and old:
                    made += main.merge(edits=True)
                    made += attempt_one(replica, run)
                else:
                    log.add(*run)
            waiting.check()
        made += main.merge(edits=True)
    except BaseException:
        moved = replica.version != before
        log.truncate(length)
        if moved:
            main.restart()
            main.caret.state = typing
        waiting.rollback()
        raise
    return made


def attempt_one(replica: Replica, run: Run) -> Made:
    """The edits that a run makes which has waited; none, if it turns out to be impossible."""
    try:
        return add_one(replica, run)
    except HistoryError:
        raise
    except EgwalkerError as error:
        logger.warning("dropped the events of %r from %d on: %s", run.agent, run.seq, error)
        return []


def enter(replica: Replica, runs: Iterable[PackedRun]) -> None:
    """Put runs into the log, or let them wait."""
    log = replica.log
    for agent, seq, parents, ops in runs:
        if lacks_a_parent(log, parents):
            for name, _ in ((agent, seq), *parents):
                check_agent(name)
            replica.pending.add(Run(agent, seq, parents, ops))
        else:
            log.add(agent, seq, parents, ops)


def lacks_a_parent(log: OpLog, parents: Version) -> bool:
    """Whether an event with these parents must wait."""
    return False in [log.graph.has(agent, seq) for agent, seq in parents]


# --- runs ---------------------------------------------------------------------------------------------------


def length_of(run: PackedRun) -> int:
    """How many events a run has."""
    return sum([deleted + len(content) for _, deleted, content in run[3]])


def packed_run(kind: Kind, run: Run) -> PackedRun:
    """A run from elsewhere, checked as far as the engine does not do it, with its content packed."""
    pack = kind.pack
    length = 0
    packed = []
    try:
        agent, seq, parents, ops = run
        for pos, deleted, inserted in ops:
            kept = pack(inserted)
            length += deleted + len(kept)
            packed.append((pos, deleted, kept))
        if type(agent) is not str or type(seq) is not int or seq < 0:
            refuse_id(agent, seq)
        ids = []
        for parent, number in parents:
            if type(parent) is not str or type(number) is not int or number < 0:
                refuse_id(parent, number)
            if parent == agent and seq <= number < seq + length:
                # The engine would not find this parent; waiting, it would wait for itself.
                raise CausalityError(f"event {agent}:{seq} has {parent}:{number}, made after it, as parent")
            ids.append((parent, number))
    except EgwalkerError:
        raise
    except (TypeError, ValueError) as error:
        raise DecodeError(f"a run is (agent, seq, parents, ops), not {run!r:.200}: {error}") from None
    if length < 1:
        raise DecodeError(f"a run has at least one event, unlike that of {agent!r} from {seq} on")
    return agent, seq, tuple(ids), tuple(packed)


def unpacked_run(kind: Kind, run: PackedRun) -> Run:
    """A run as users see it."""
    agent, seq, parents, ops = run
    return Run(agent, seq, parents, tuple([(pos, n, kind.unpack(content)) for pos, n, content in ops]))
