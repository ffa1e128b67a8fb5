"""Asking for older history: what a session does whose document began in the middle.

What comes and does not follow the version that the document begins at (it is *late*) needs history from
before. It waits here until that has come, as events whose parents are missing wait in the document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egwalker import encoding
from egwalker.cycore.errors import DecodeError, HistoryError, PendingError, SyncError
from egwalker.messages import FETCH, MAX_FETCH, MAX_HEADS, encode_ids
from egwalker.receiving import Incoming, length_of, receive, unpacked_run
from egwalker.replica import Replica, begun_after
from egwalker.versions import covers, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egwalker.cycore.columns import PackedRun
    from egwalker.document import Document
    from egwalker.events import Change
    from egwalker.messages import Reader
    from egwalker.session import Accept
    from egwalker.types import Packed
    from egwalker.versions import Id, Version

MAX_WANTED = 1000
"""Events that a FETCH names, at most: for more of them all of the history is asked for."""


class Answer:
    """What comes in answer to a FETCH."""

    def __init__(self, summary: encoding.Summary, content: Packed, left: int) -> None:
        self.summary = summary
        self.content = content
        self.left = left  # events still to come
        self.past: list[Incoming] = []
        self.link = encoding.Link()


class Older:
    """The older history of a document, as far as one session asks for it. The caller holds the lock."""

    def __init__(self, document: Document, accept: Accept | None) -> None:
        self.document = document
        self.start_due = False  # whether the other end was asked where to begin, and has not answered
        self.all_wanted = False
        self._accept = accept
        self._late: list[list[PackedRun]] = []  # by message
        self._tried: Version = ()  # where the document began when they turned out to be late
        # A version that the other end begins at and this document could not, as it was not empty any more.
        self._apart: encoding.Summary | None = None
        self._asked: encoding.Summary | None = None
        """The version of the FETCH that is not answered yet: its heads and number of events."""
        self._answer: Answer | None = None

    @property
    def late(self) -> int:
        """How many events wait for older history."""
        return sum([length_of(run) for runs in self._late for run in runs]) if self._late else 0

    @property
    def busy(self) -> bool:
        """Whether something is still to be asked for or to come."""
        return bool(self.start_due or self._asked or self._late or self._apart)

    # --- updates --------------------------------------------------------------------------------------------

    def take(self, encoded: encoding.Encoded) -> Change:
        """Bring in an update. It waits if it needs older history."""
        replica = self.document._replica
        incoming = Incoming(replica.kind, encoded)
        if self._accept is not None:
            self._accept([unpacked_run(replica.kind, run) for run in incoming.runs()])
        try:
            return incoming.enter(replica)
        except HistoryError:
            limit = replica.pending_limit
            if self.late + len(incoming) > limit:
                raise PendingError(f"more than {limit} events would wait for older history") from None
        self._tried = replica.start
        self._late.append(incoming.runs())
        return replica.tell((), replica.version, local=False)

    def retry(self) -> None:
        """Bring in what was late, if the document begins earlier by now."""
        if not self._late or self._tried == self.document.start:
            return
        late, self._late = self._late, []
        self._tried = self.document.start
        for runs in late:
            try:
                receive(self.document._replica, runs)
            except HistoryError:
                self._late.append(runs)

    # --- asking ---------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether there may be something to ask for now."""
        wanted = self.all_wanted or self._late or self._apart is not None
        return bool(wanted) and self._asked is None and not self.start_due

    def request(self) -> bytes | None:
        """A FETCH, without its number, if one is due."""
        if not self.due:
            return None
        wanted: set[Id] = set()
        if self._apart is not None:
            self._asked = self._apart
        elif (self._late or self.all_wanted) and self.document.start:
            graph = self.document._replica.log.graph
            self._asked = encoding.Summary(
                self.document.kind, graph.base, [], joined(graph.base_vector(), {}), self.document.start
            )
            if not self.all_wanted:
                wanted = self._wanted()
        else:
            self.all_wanted = False
            return None
        head = bytes([FETCH]) + encode_ids(self._asked.frontier)
        message = head + encode_ids(sorted(wanted))
        return message if len(message) < MAX_FETCH and len(wanted) <= MAX_WANTED else head + encode_ids(())

    def _wanted(self) -> set[Id]:
        """The parents before the document's beginning of what is late; none if the root is one of them."""
        document = self.document
        graph = document._replica.log.graph
        wanted: set[Id] = set()
        waiting = [entry.run for entry in document._replica.pending._waiting.values()]
        for run in [*(run for runs in self._late for run in runs), *waiting]:
            parents: Iterable[Id] = run[2]
            if graph.has(run[0], run[1]):
                # A part of it is here: what is not follows that.
                held = document.version_vector[run[0]]
                end = next(end for start, end in held if start <= run[1] < end)
                if end >= run[1] + length_of(run):
                    continue
                parents = [(run[0], end - 1)]
            elif not run[2]:
                return set()
            wanted.update([id_ for id_ in parents if graph.has(*id_) and graph.lv(*id_) < graph.base])
        return wanted

    # --- answers --------------------------------------------------------------------------------------------

    def start(self, blob: bytes) -> Change | None:
        """Take a START: where to begin, or how far back an answer goes. Returns the change if it made one."""
        document, kind = self.document, self.document._type
        if not self.start_due and (self._asked is None or self._answer is not None):
            raise SyncError("START came, which was not asked for")
        encoded = encoding.parse_start(blob, bytes.fromhex(document._id))
        if encoded.kind != kind.name:
            raise SyncError(f"START is of a document of kind {encoded.kind!r:.80}")
        summary, content = encoded.summary, encoded.content(kind.cached_values, kind.cached_factor)
        assert content is not None
        kind.check_cached(content)
        if not summary.events and content:
            raise DecodeError("the root has content")
        if len(summary.frontier) > MAX_HEADS:
            raise SyncError(f"START has {len(summary.frontier)} heads, at most {MAX_HEADS} are taken")
        if self.start_due:
            self.start_due = False
            if not summary.events:
                raise SyncError("START is nothing to begin with")
            if document._replica.blank:
                try:
                    return document._begin(Replica(kind, begun_after(kind, summary, content)))
                except DecodeError:
                    pass  # it is of another version of the type: everything is to be performed
            if not covers(document.version_vector, summary.vector):
                self._apart = summary
            return None
        asked = self._asked
        assert asked is not None
        if self._apart is not None and summary.events:
            raise SyncError("START is not the root, though all history was asked for")
        if not covers(asked.vector, summary.vector):
            raise SyncError("START is not before the version that older history was asked for")
        self._answer = Answer(summary, content, asked.events - summary.events)
        self._finish()
        return None

    def past(self, reader: Reader) -> int:
        """Take a PAST; returns how many events are still to come."""
        answer = self._answer
        if answer is None:
            raise SyncError("PAST came, which was not asked for")
        document = self.document
        remaining = reader.number()
        blob = reader.data[reader.at :]
        encoded = encoding.parse_linked(blob, bytes.fromhex(document._id), answer.link)
        found = Incoming(document._type, encoded)
        events = len(found)
        if remaining != answer.left - events:
            raise SyncError(f"{remaining} events are said to remain, of {answer.left} less {events}")
        answer.past.append(found)
        answer.left = remaining
        self._finish()
        return remaining

    def _finish(self) -> None:
        """Use the answer once all of it has come."""
        answer, asked, document = self._answer, self._asked, self.document
        assert answer is not None
        assert asked is not None
        if answer.left:
            return
        self._answer = self._asked = None
        if self._apart is not None:
            self._apart = None
            for found in answer.past:
                self._take_apart(found)
        elif document.start == asked.frontier:
            # Else somebody else has brought it meanwhile.
            if answer.summary.frontier == asked.frontier and (self._late or self.all_wanted):
                raise SyncError("no older history came, though there is some")
            document._replica.deepen(answer.summary, answer.content, answer.past)
        self.retry()

    def _take_apart(self, found: Incoming) -> None:
        """Bring in all that came before the version which this document could not begin at."""
        runs = found.runs()
        if self._accept is not None:
            self._accept([unpacked_run(self.document._type, run) for run in runs])
        try:
            receive(self.document._replica, runs)
        except HistoryError:
            self._tried = self.document.start
            self._late.append(runs)
