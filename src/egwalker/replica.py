"""What is here of a document: its history, the content that this makes, and what waits to enter it.

A history may begin in the middle, at a *base*: the content at a version, and of the events before only
their ids. That does for typing, and for what others make who know what is here. Whatever needs more is a
`HistoryError` of the core. There are two sorts of such replicas. One that was opened from bytes with the
content in them has not read the history there yet: `Replica.read` does that when something needs it. A
*shallow* one asks others (`egwalker.older`), and `Replica.deepen` takes what comes. In both, local versions
from the base on stay what they are.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from egwalker import encoding
from egwalker.cycore import encoder
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import ContentError, DecodeError, HistoryError, PositionError
from egwalker.cycore.oplog import OpLog
from egwalker.events import Change, Edit, Feed, logger
from egwalker.kinds import check_values
from egwalker.pending import LIMIT, Pending
from egwalker.plugin_manager import document_type
from egwalker.replayed import no_positions
from egwalker.versions import Run, joined, ranges_since, to_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from egwalker.branch import Branch
    from egwalker.cycore.decoder import History
    from egwalker.cycore.graph import Graph
    from egwalker.kinds import Kind
    from egwalker.receiving import Incoming
    from egwalker.replayed import Replay
    from egwalker.types import Packed
    from egwalker.versions import Version, VersionVector


class Replica:
    """A document's log, a checkout of all of it, and the events that wait. The caller holds the lock.

    Instead of `main`, of which the log is, there may be the data that has the history, and the content in it:
    then the checkout is made when it is first used.
    """

    def __init__(
        self,
        kind: Kind,
        main: Checkout | Replay | None = None,
        *,
        unread: encoding.Encoded | None = None,
        content: Packed | None = None,
    ) -> None:
        self.kind = kind
        self.feed = Feed()
        """Who is told of changes."""
        self.pending_limit = LIMIT
        self.defer = True
        self.unread = unread
        """Where the history before the base can be read; None if it is here, or is not."""
        self.cached = content
        """The content that came with it, until something else is asked for."""
        self.branches: WeakSet[Branch] = WeakSet()  # which hold the log
        # What empty documents begin with, by where and whether it may be compressed: see `shallow`.
        self.starts: dict[tuple[int, bool], bytes] = {}
        if main is not None:
            self._show(main)

    def take_over(self, old: Replica) -> None:
        """Tell those whom another one told, who need not know that it is not that any more."""
        self.feed, self.pending_limit = old.feed, old.pending_limit
        self.set_defer(old.defer)

    def set_defer(self, defer: bool) -> None:
        """Whether what is typed on keeps the parents that it began with."""
        self.defer = defer
        if self.cached is None:
            self.main.caret.defer = defer
            self.main.caret.close()

    @cached_property
    def main(self) -> Any:
        """The checkout, always at the log's frontier. `DecodeError` if what was opened is impossible."""
        assert self.unread is not None
        assert self.cached is not None
        main = begun_after(self.kind, self.unread.summary, self.cached, compared=True)
        main.caret.defer = self.defer
        self.cached = None
        return main

    def _show(self, main: Checkout | Replay) -> None:
        main.caret.defer = self.defer
        self.main = main

    @cached_property
    def pending(self) -> Pending:
        """The events whose parents are missing."""
        return Pending(self.log.graph, self.pending_limit)

    # --- what is here ---------------------------------------------------------------------------------------

    @property
    def log(self) -> OpLog:
        """The log, in which what has not been read is missing."""
        log: OpLog = self.main.log
        return log

    @property
    def version(self) -> Version:
        """The current version. O(heads)."""
        ids: Version = self.main.ids
        return ids

    @property
    def base(self) -> int:
        """How many events nobody here knows more of than their ids: the local versions before it."""
        if self.unread is not None:
            return 0 if self.unread.base is None else self.unread.base.events
        return self.log.graph.base

    @property
    def start(self) -> Version:
        """The version from which on the history is here."""
        if self.unread is not None:
            return () if self.unread.base is None else self.unread.base.frontier
        graph = self.log.graph
        return graph.ids(graph.root)

    @property
    def blank(self) -> bool:
        """Whether it may become another one: it has no events, and no branches hold its log."""
        return not (len(self.log) or self.pending.events or self.branches)

    def __len__(self) -> int:
        return len(self.main if self.cached is None else self.cached)

    def content(self) -> Any:
        """The content, made anew. O(length)."""
        return self.kind.content(self.main) if self.cached is None else self.kind.unpack(self.cached)

    def packed(self) -> Packed | None:
        """The content in the packed form; None if the kind has none."""
        return self.kind.cached(self.main) if self.cached is None else self.cached

    def sequence(self) -> Checkout:
        """What has positions. `KindError` if nothing has."""
        if isinstance(self.main, Checkout):
            return self.main
        raise no_positions(self.kind.name)

    def summary(self) -> encoding.Summary:
        """What there is to know of it all."""
        log = self.log
        vector = log.graph.version_vector()
        return encoding.Summary(self.kind.name, len(log), encoder.agents(log), vector, self.version)

    def base_vector(self) -> VersionVector:
        """The version vector of the events before the base. Errors as of `read`."""
        return joined(self.read().graph.base_vector(), {})

    def beginning(self) -> tuple[encoding.Summary, Packed] | None:
        """The version that the log begins at, and the content there; None if it is the root."""
        graph = self.log.graph
        if not graph.base:
            return None
        vector = self.base_vector()
        summary = encoding.Summary(self.kind.name, graph.base, list(vector), vector, graph.ids(graph.root))
        content = self.log.before
        assert content is not None
        return summary, content

    # --- what changes ---------------------------------------------------------------------------------------

    def insert(self, agent: str, pos: int, content: Any) -> int:
        """Insert content here and tell of it; returns how many elements. Errors as of `Document.insert`."""
        before = self.version
        packed = self.kind.pack_inserted(content)
        self.main.insert(agent, pos, packed)
        self.tell((Edit(pos, 0, self.kind.unpack(packed)),) if packed else (), before, local=True)
        return len(packed)

    def delete(self, agent: str, pos: int, length: int) -> None:
        """Delete elements here and tell of it. Errors as of `Document.delete`."""
        before = self.version
        self.main.delete(agent, pos, length)
        nothing = self.kind.unpack([] if self.kind.values else "")
        self.tell((Edit(pos, length, nothing),) if length else (), before, local=True)

    def perform(self, agent: str, op: Any) -> None:
        """Perform an operation here and tell of it. Errors as of `Document.perform`."""
        before = self.version
        edit = self.kind.perform(self.main, agent, op)
        if self.feed.watched:
            self.tell((edit,), before, local=True)

    def catch_up(self) -> None:
        """Bring in what a branch has put into the log, and tell of it."""
        before = self.version
        self.main.caret.close()
        self.tell(self.edits(self.main.merge(edits=self.feed.watched)), before, local=True)

    def tell(self, edits: tuple[Edit, ...], before: Version, *, local: bool) -> Change:
        """The change from a version to the current one, after telling those who watch, if it is one."""
        change = Change(edits, before, self.version, local, self.kind.rewound(edits, self.main))
        if self.feed.watched and (edits or change.after != before):
            self.feed.tell(change)
        return change

    def _correct(self, wrong: Any, right: Any) -> None:
        """Tell of content that was not what the history makes: it is now."""
        if self.feed.watched:
            edits = self.kind.correction(wrong, right)
            self.feed.tell(Change(edits, self.version, self.version, local=False))

    def edits(self, made: Iterable[tuple[int, int, Packed]]) -> tuple[Edit, ...]:
        """What the engine's edits are to users."""
        # There may be very many: a named tuple's own constructor takes three times as long as this.
        new, unpack = tuple.__new__, self.kind.unpack
        return tuple([new(Edit, (pos, deleted, unpack(inserted))) for pos, deleted, inserted in made])

    # --- older history --------------------------------------------------------------------------------------

    def read(self) -> OpLog:
        """The log with all of the history that is here. `DecodeError` if it cannot be read."""
        if self.unread is not None:
            self._extend(log_of(self.kind, self.unread))
            self.unread = None
        return self.log

    def whole(self) -> OpLog:
        """The log with all of the history. `HistoryError` if not all is here, else as `read`."""
        log = self.read()
        log.graph.check_whole()
        return log

    def check_kept(self) -> None:
        """Raise `ContentError` unless all that was deleted is in what of the log is read."""
        if self.log.erased:
            raise ContentError("what was deleted was not kept, so the history cannot be told")

    def log_from(self, start: int) -> OpLog:
        """The log with the history from a local version on. Errors as of `read`."""
        return self.log if start >= self.log.graph.base else self.read()

    def lacking(self, vector: Mapping[str, Iterable[tuple[int, int]]]) -> list[tuple[int, int]]:
        """The local versions that a version vector lacks, as `ranges_since` has them, of whole history.

        `HistoryError` if not all of them are here, else as `read`.
        """
        try:
            return ranges_since(self.log.graph, vector)
        except HistoryError:
            if self.unread is None:
                raise
        return ranges_since(self.read().graph, vector)

    def goes_on_from(self, first: encoding.Summary) -> bool:
        """Whether all that came after the first events, which these are, follows all of them. O(runs)."""
        graph = self.log.graph
        heads = tuple(sorted(to_local(graph, first.frontier)))
        return all(
            run.parents == heads or (run.parents and run.parents[0] >= first.events)
            for run in graph.runs(first.events)
        )

    def runs(self, start: int, end: int) -> Iterator[Run]:
        """The events of a range of local versions. `HistoryError` for those before the base."""
        log, unpack = self.log, self.kind.unpack
        graph = log.graph
        for run in graph.runs(start, end):
            ops = [(pos, n, unpack(content)) for pos, n, content in log.edits(run.start, run.end)]
            yield Run(run.agent, run.seq, graph.ids(run.parents), tuple(ops))

    def deepen(self, summary: encoding.Summary, content: Packed, past: Iterable[Incoming]) -> None:
        """Begin at an older version: with what happened between that and the one at which this begins now.

        `DecodeError`, and no change, if it is not what led there. O(events, in runs).
        """
        log = begun_after(self.kind, summary, content).log
        for found in past:
            if found.add_to(log):
                raise DecodeError("the older history has events without their parents")
        if facts(log.graph) != base_facts(self.log.graph):
            raise DecodeError("the older history is not what led here")
        compared, checkout = self.kind.compared, self.kind.checkout
        if compared(made_of(self.kind, log)) != compared(checkout(self.log)):
            raise DecodeError("the older history makes another content than was here")
        self._extend(log)

    def _extend(self, log: OpLog) -> None:
        """Go on over a log with what was before the base, once all that is here is in it, too."""
        old, newer = self.main, self.log
        log.merge(newer, newer.graph.base)
        if self.kind.positions and self.kind.values:
            # Values have other numbers there.
            self._show(made_of(self.kind, log))
            self.main.caret.state = old.caret.state
            if (wrong := old.content()) != (right := self.main.content()):
                self._correct(wrong, right)
        else:
            old.move(log)
        self.pending.move(log.graph)
        self.starts.clear()
        for branch in self.branches:
            branch._move(log)

    def verify(self) -> None:
        """Compare the content with what a replay of the history makes, and take that. `DecodeError`."""
        compared = self.kind.compared
        wrong = None if self.unread is None else compared(self.main)  # reading may correct it
        replay = made_of(self.kind, self.whole())
        right, now = compared(replay), compared(self.main)
        if wrong is None:
            wrong = now
        if now != right:
            self._show(replay)
            self._correct(wrong, right)
        if wrong != right:
            where = self.kind.difference(wrong, right)
            raise DecodeError(f"the content was not what the history makes, {where}")

    # --- copies ---------------------------------------------------------------------------------------------

    def copy(self) -> Replica:
        """One of the same events, but for those that wait, of which nobody is told yet. O(log)."""
        return Replica(self.kind, self.main.copy(self.log.copy()), unread=self.unread)

    def _check(self) -> None:
        """Assert every invariant, and that a replay from nothing gives the same. For tests: O(events**2)."""
        log = self.read()
        log._check()
        self.main._check()
        assert self.main.version == log.graph.frontier, f"the content is at {self.main.version}"
        self.pending._check()


def empty(kind: str) -> Replica:
    """One of no events. `KindError` if there is no such kind."""
    found = document_type(kind)
    return Replica(found, found.checkout(OpLog(found.values)))


# --- from bytes ---------------------------------------------------------------------------------------------


def opened(encoded: encoding.Encoded, kind: Kind) -> Replica:
    """What is in a whole document. If the content is, only that is read yet. `DecodeError`."""
    content = encoded.content(kind.cached_values, kind.cached_factor) if kind.caches else None
    if content is None:
        return Replica(kind, made_of(kind, log_of(kind, encoded)))
    kind.check_cached(content)
    if kind.positions:
        return Replica(kind, unread=encoded, content=content)
    summary = encoded.summary
    try:
        main = begun_after(kind, summary, content, compared=True)
    except DecodeError as error:
        # Perhaps another version of the type wrote it. The operations are there.
        logger.info("document %s is replayed: %s", encoded.id.hex(), error)
        return Replica(kind, made_of(kind, log_of(kind, encoded)))
    return Replica(kind, main, unread=encoded)


def begun_after(kind: Kind, summary: encoding.Summary, content: Packed, *, compared: bool = False) -> Any:
    """A checkout of a log that begins with the content at a version. `compared`: see `OpLog.begin_after`."""
    log = OpLog(kind.values)
    log.begin_after(summary.vector, summary.frontier, content, compared)
    return kind.checkout(log)


def history_of(kind: Kind, encoded: encoding.Encoded) -> History:
    """The history in a document or an update. `DecodeError`."""
    history = encoded.history(kind.values)
    check_values(kind, [history.items()])
    return history


def log_of(kind: Kind, encoded: encoding.Encoded) -> OpLog:
    """The log of a whole document. `DecodeError`."""
    history, base, summary = history_of(kind, encoded), encoded.base, encoded.summary
    if base is None:
        log = history.log()
    else:
        content = encoded.base_content(kind.cached_values, kind.cached_factor)
        kind.check_cached(content)
        log = begun_after(kind, base, content).log
        try:
            whole = not history.merge(log)
        except HistoryError:
            whole = False
        if not whole:
            raise DecodeError("the history does not begin where it says")
    if facts(log.graph) != (summary.events, summary.vector, summary.frontier):
        raise DecodeError("the history is not the one that the summary is of")
    return log


def facts(graph: Graph) -> tuple[object, ...]:
    """How many events a graph has, which, and their heads."""
    return len(graph), graph.version_vector(), graph.ids(graph.frontier)


def base_facts(graph: Graph) -> tuple[object, ...]:
    """The same of those before its base."""
    return graph.base, joined(graph.base_vector(), {}), graph.ids(graph.root)


def made_of(kind: Kind, log: OpLog) -> Checkout | Replay:
    """A checkout of all of a log that came from elsewhere. `DecodeError` if its history is impossible."""
    main = kind.checkout(log)
    try:
        main.merge()
        if log.erased:
            main.content()
    except (ContentError, PositionError) as error:
        raise DecodeError(f"the history is impossible: {error}") from error
    return main
