"""Documents: an append-only history of everybody's edits, and the content that it makes."""

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

from egwalker import pending
from egwalker.branch import Branch
from egwalker.cursor import Cursor
from egwalker.cycore import order
from egwalker.cycore.errors import AgentError, CausalityError, DecodeError, EgwalkerError, KindError
from egwalker.cycore.oplog import OpLog
from egwalker.cycore.rope import Rope
from egwalker.cycore.walker import Checkout
from egwalker.events import Callback, Change, Edit, Feed, Subscription, logger
from egwalker.plugin_manager import document_type
from egwalker.types import DEFAULT_KIND, Packed, SequenceType
from egwalker.versions import (
    Diff,
    Group,
    Id,
    Run,
    Version,
    VersionVector,
    check_agent,
    ranges_since,
    refuse_id,
    spans_of,
    to_local,
)

PackedRun = tuple[str, int, Version, tuple[tuple[int, int, Packed], ...]]
"""A `Run` whose content is in the packed form."""


class Document:
    """A document that any number of agents edit, each in a replica of their own, and that always merges.

    `kind` names a registered document type: `"text"`, whose content is a `str`, `"list"`, whose content is a
    list of JSON values, or what plugins add (`KindError` if there is none). `agent` is who edits here, by
    default a fresh random name. Two replicas must never edit under one name at the same time (`AgentError`
    for what cannot be a name). Positions count elements: code points of a text, values of a list.

    Events from others whose parents have not come yet wait, at most `pending_limit` of them.

    A document may be used from several threads; each call holds it for itself.

    >>> alice = Document("text", agent="alice")
    >>> alice.insert(0, "hello")
    >>> bob = alice.fork("bob")
    >>> alice.insert(5, " world")
    >>> bob.delete(0); bob.insert(0, "J")
    >>> bob.merge(alice).edits
    (Edit(pos=5, deleted=0, inserted=' world'),)
    >>> str(bob), bob.version
    ('Jello world', (('alice', 10), ('bob', 1)))
    """

    def __init__(
        self, kind: str = DEFAULT_KIND, *, agent: str | None = None, pending_limit: int = pending.LIMIT
    ) -> None:
        found = document_type(kind)
        self._setup(found, agent, OpLog(found.values), None, pending_limit)

    def _setup(
        self, kind: SequenceType, agent: str | None, log: OpLog, main: Checkout | None, pending_limit: int
    ) -> None:
        self._type = kind
        self._pack = kind.pack
        self._agent = secrets.token_hex(8) if agent is None else check_agent(agent)
        self._lock = threading.RLock()
        self._log = log
        self._main = Checkout(log) if main is None else main  # always at the log's frontier
        self._pending = pending.Pending(log.graph, pending_limit)
        # How far the logs of other documents have been read: they only grow, so what came before is here.
        self._read: WeakKeyDictionary[Document, int] = WeakKeyDictionary()
        self._feed = Feed()
        self._cursors: WeakSet[Cursor] = WeakSet()
        self._observed = False  # whether anybody subscribes or a cursor follows
        # The open transaction, if `_depth` is not 0.
        self._depth = 0
        self._audience: tuple[Subscription, ...] = ()
        self._gathered: list[Edit] = []
        self._before: Version = ()
        self._only_local = True

    @classmethod
    def _of(
        cls,
        kind: SequenceType,
        agent: str | None,
        log: OpLog,
        main: Checkout,
        pending_limit: int = pending.LIMIT,
    ) -> Self:
        """A document over a log and a checkout of all of it, which become its own."""
        document = cls.__new__(cls)
        document._setup(kind, agent, log, main, pending_limit)
        return document

    def __repr__(self) -> str:
        with self._lock:
            size = f"{len(self._main)} elements, {len(self._log)} events"
            return f"<Document {self.kind} of {self._agent!r}: {size}>"

    # --- content --------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The name of the document's type."""
        return self._type.name

    @property
    def agent(self) -> str:
        """Who makes the edits that are made here."""
        return self._agent

    @property
    def content(self) -> Any:
        """The whole content, made anew: a `str`, or for a list a list of its values. O(length)."""
        with self._lock:
            return self._type.unpack(self._main.content())

    def __str__(self) -> str:
        return str(self.content)

    def __len__(self) -> int:
        """The number of elements. O(1)."""
        with self._lock:
            return len(self._main)

    def slice(self, start: int, end: int) -> Any:
        """The content from `start` to `end`. O(log n + end - start). `PositionError` beyond the document."""
        with self._lock:
            return self._type.unpack(self._main.content(start, end))

    def to_utf16(self, pos: int) -> int:
        """How many UTF-16 code units the first `pos` code points take, as JavaScript counts. O(log n).

        This and its three siblings raise `PositionError` beyond the document, `KindError` if it does not hold
        text.

        >>> doc = Document()
        >>> doc.insert(0, "a\N{PILE OF POO}b")
        >>> doc.to_utf16(2), doc.from_utf16(3), doc.to_utf8(2), doc.from_utf8(5)
        (3, 2, 5, 2)
        """
        with self._lock:
            return self._rope().to_utf16(pos)

    def from_utf16(self, offset: int) -> int:
        """The position of a UTF-16 offset; `PositionError` also within a surrogate pair. O(log n)."""
        with self._lock:
            return self._rope().from_utf16(offset)

    def to_utf8(self, pos: int) -> int:
        """How many bytes of UTF-8 the first `pos` code points take. O(log n)."""
        with self._lock:
            return self._rope().to_utf8(pos)

    def from_utf8(self, offset: int) -> int:
        """The position of a UTF-8 offset; `PositionError` also within a code point. O(log n)."""
        with self._lock:
            return self._rope().from_utf8(offset)

    def _rope(self) -> Rope:
        if self._type.values:
            raise KindError(f"a document of kind {self.kind!r} has no code points to convert the position of")
        return self._main.rope

    def insert(self, pos: int, content: Any) -> None:
        """Insert `content` so that it starts at `pos`. O(log n + its length).

        Raises `PositionError` unless 0 <= pos <= len(document), `ContentError` for content that the
        document's type cannot hold, `LimitError` if the document would become too long; the document is then
        as before.
        """
        with self._lock:
            if not self._observed:
                self._main.insert(self._agent, pos, self._pack(content))
                return
            self._insert(pos, content)
        self._deliver()

    def delete(self, pos: int, length: int = 1) -> None:
        """Delete `length` elements from `pos` on. O(log n + length). `PositionError` if there are fewer."""
        with self._lock:
            if not self._observed:
                self._main.delete(self._agent, pos, length)
                return
            self._delete(pos, length)
        self._deliver()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes within a `with` block one `Change` to subscribers, delivered at its end.

        Other threads cannot use the document meanwhile. Transactions nest; the outermost one counts. There is
        no undoing: if the block raises, what it did before stays done, and subscribers are told of it.
        """
        try:
            with self._lock:
                if not self._depth:
                    self._audience = self._feed.subscriptions
                    self._gathered = []
                    self._before = self._main.ids
                    self._only_local = True
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth and self._audience and self._main.ids != self._before:
                        change = self._change(tuple(self._gathered), self._before, self._only_local)
                        self._feed.post(change, self._audience)
        finally:
            self._deliver()

    # --- versions -------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """The current version: the ids of the events that no other event follows, ascending. O(heads)."""
        with self._lock:
            return self._main.ids

    @property
    def version_vector(self) -> VersionVector:
        """Which events are held: for each agent half-open ranges of seqs. O(ranges)."""
        with self._lock:
            return self._log.graph.version_vector()

    def checkout(self, version: Iterable[Id]) -> Any:
        """The content at a version; `VersionError` if it is not held. O(events before it, in runs).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.checkout([("alice", 1)]), doc.checkout([])
        ('ab', '')
        """
        with self._lock:
            checkout = Checkout(self._log)
            checkout.merge(to_local(self._log.graph, version))
            return self._type.unpack(checkout.content())

    def branch(self, version: Iterable[Id] | None = None) -> Branch:
        """A view of the document at a version, by default the current one, which can be edited and merged."""
        return Branch(self, version)

    def diff(self, a: Iterable[Id], b: Iterable[Id]) -> Diff:
        """How two versions differ. O(runs after their common head). `VersionError` if one is not held."""
        with self._lock:
            graph = self._log.graph
            head, shared, a_only, b_only = graph.diff(to_local(graph, a), to_local(graph, b))
            return Diff(
                graph.ids(head),
                spans_of(graph, shared),
                spans_of(graph, a_only),
                spans_of(graph, b_only),
            )

    def groups(self) -> list[Group]:
        """All events in the total order, which depends on the set of events alone and not on their arrival.

        Of all groups whose first event's parents came before, the next is the one with the smallest clock,
        agent and seq. A group is never split. O(groups * log groups).
        """
        with self._lock:
            return [Group(*group[:4]) for group in order.groups(self._log.graph)]

    def history(self, since: Mapping[str, Iterable[tuple[int, int]]] | None = None) -> list[Run]:
        """The events that a version vector lacks (default: all) for `receive`, parents before children.

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc"); doc.delete(1)
        >>> doc.history({"alice": [(0, 2)]})
        [Run(agent='alice', seq=2, parents=(('alice', 1),), ops=((2, 0, 'c'), (1, 1, '')))]
        """
        with self._lock:
            log, graph, unpack = self._log, self._log.graph, self._type.unpack
            ranges = [(0, len(log))] if since is None else ranges_since(graph, since)
            return [
                Run(
                    run.agent,
                    run.seq,
                    graph.ids(run.parents),
                    tuple([(pos, n, unpack(content)) for pos, n, content in log.edits(run.start, run.end)]),
                )
                for lo, hi in ranges
                for run in graph.runs(lo, hi)
            ]

    def fork(self, agent: str | None = None) -> "Document":
        """A replica with the same history for another agent, by default a fresh random name.

        Events that wait for parents, subscriptions and cursors stay with this document. O(log).
        """
        if agent == self._agent:
            raise AgentError(f"a fork needs another agent than {agent!r}, who edits this document")
        with self._lock:
            log = self._log.copy()
            fork = Document._of(self._type, agent, log, self._main.copy(log), self._pending.limit)
            self._read[fork] = fork._read[self] = len(log)
            return fork

    # --- others' events -------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many events wait for parents that have not come."""
        with self._lock:
            return self._pending.events

    def merge(self, other: "Document") -> Change:
        """Take in all that another document of the same kind holds; returns how that changed this one.

        O(what is new in `other` since the last merge and what is concurrent with it, run-length encoded).
        Raises `KindError` if the kinds differ, `ConflictError` if an event differs that both hold; this
        document is then as before.
        """
        if not isinstance(other, Document):
            raise TypeError(f"a document merges another Document, not {type(other).__name__}")
        if other.kind != self.kind:
            raise KindError(f"a document of kind {self.kind!r} does not merge one of kind {other.kind!r}")
        # Two documents may merge each other at the same time: always the same one's lock first.
        first, second = (self, other) if id(self) < id(other) else (other, self)
        with first._lock, second._lock:
            read = len(other._log) if other is self else self._read.get(other, 0)
            if read == len(other._log):
                return self._change((), self._main.ids, local=False)
            change = self._bring_in(lambda: self._log.merge(other._log, read))
            self._read[other] = len(other._log)
        self._deliver()
        return change

    def receive(self, runs: Iterable[Run]) -> Change:
        """Take in events from elsewhere, in any order; returns how that changed the document.

        Runs whose parents are not held wait until these come (see `pending`). Events held already are
        compared and otherwise ignored. On any error the document is as before: `DecodeError` for what is no
        run, `AgentError`, `ContentError` and `LimitError` for impossible names, numbers and content,
        `ConflictError` for another event under an id that is held, `CausalityError` for events that are their
        own ancestors, `PositionError` for positions that their versions do not have, `PendingError` if too
        many events would wait.

        A run that waited and turns out to be impossible when its parents come is dropped, with a warning to
        the logger `egwalker`: it must not keep them out.
        """
        packed = [self._check_run(run) for run in runs]
        with self._lock:
            change = self._receive_one(packed[0]) if len(packed) == 1 and not self._pending.events else None
            if change is None:
                change = self._bring_in(lambda: self._enter(packed))
        self._deliver()
        return change

    def _receive_one(self, run: PackedRun) -> Change | None:
        """`receive` for one run while nothing waits, as in a live session; None if it must wait itself."""
        log, main = self._log, self._main
        for parent, number in run[2]:
            if not log.graph.has(parent, number):
                return None
        length, before = len(log), main.ids
        log.add(*run)
        try:
            made = main.merge(edits=True)
        except BaseException:
            log.truncate(length)
            raise
        edits = self._unpack(made)
        if self._observed and len(log) > length:
            self._note(edits, before, local=False)
        return Change(edits, before, main.ids, False)

    def _check_run(self, run: Run) -> PackedRun:
        """A run from elsewhere, checked as far as the engine does not do it, with its content packed."""
        pack = self._pack
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
                    raise CausalityError(
                        f"event {agent}:{seq} has {parent}:{number}, made after it, as parent"
                    )
                ids.append((parent, number))
        except EgwalkerError:
            raise
        except (TypeError, ValueError) as error:
            raise DecodeError(f"a run is (agent, seq, parents, ops), not {run!r:.200}: {error}") from None
        if length < 1:
            raise DecodeError(f"a run has at least one event, unlike that of {agent!r} from {seq} on")
        return agent, seq, tuple(ids), tuple(packed)

    def _enter(self, runs: list[PackedRun]) -> None:
        has, add = self._log.graph.has, self._log.add
        for agent, seq, parents, ops in runs:
            for parent, number in parents:
                if not has(parent, number):
                    for name, _ in ((agent, seq), *parents):
                        check_agent(name)
                    self._pending.add(Run(agent, seq, parents, ops))
                    break
            else:
                add(agent, seq, parents, ops)

    def _bring_in(self, add: Callable[[], object]) -> Change:
        """Let `add` put events into the log or let them wait, then bring the content up to date.

        All or nothing.
        """
        try:
            return self._attempt(add, careful=False)
        except EgwalkerError:
            if not self._pending.events:
                raise
        return self._attempt(add, careful=True)

    def _attempt(self, add: Callable[[], object], careful: bool) -> Change:
        log, main, waiting = self._log, self._main, self._pending
        length, before = len(log), main.ids
        made: list[tuple[int, int, Packed]] = []
        waiting.begin()
        try:
            add()
            if waiting.events:
                for run, old in waiting.ready():
                    if careful and old:
                        made += main.merge(edits=True)
                        made += self._try(run)
                    else:
                        log.add(*run)
                waiting.check()
            made += main.merge(edits=True)
        except BaseException:
            moved = main.ids != before
            log.truncate(length)
            if moved:
                self._main = Checkout(log)
                self._main.merge()
            waiting.rollback()
            raise
        edits = self._unpack(made)
        if self._observed and len(log) > length:
            self._note(edits, before, local=False)
        return self._change(edits, before, local=False)

    def _try(self, run: Run) -> list[tuple[int, int, Packed]]:
        """The edits that a run makes which has waited; none, if it turns out to be impossible."""
        length = len(self._log)
        try:
            self._log.add(*run)
            return self._main.merge(edits=True)
        except EgwalkerError as error:
            self._log.truncate(length)
            logger.warning("dropped the events of %r from %d on: %s", run.agent, run.seq, error)
            return []

    # --- watching -------------------------------------------------------------------------------------------

    def cursor(self, at: int = 0) -> Cursor:
        """A position that follows the elements around it. `PositionError` if there is no such place."""
        return Cursor(self, at)

    def subscribe(self, callback: Callback) -> Subscription:
        """Have `callback(change)` called after each change, or each transaction, in their order.

        It is called without holding the document, by the thread that made the change or one that made another
        at the same time, never by two at once; what it changes itself is delivered after it has returned. An
        exception of it is logged (logger `egwalker`) and keeps nobody else from being called. Within a
        transaction: from the next one on.
        """
        if not callable(callback):
            raise TypeError(f"a subscriber is called with a Change, but {callback!r} is not callable")
        subscription = Subscription(self, callback)
        with self._lock:
            self._feed.subscriptions += (subscription,)
            self._observed = True
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._feed.subscriptions = tuple([s for s in self._feed.subscriptions if s is not subscription])
            self._observed = bool(self._feed.subscriptions or self._cursors)

    def _watch(self, cursor: Cursor) -> None:
        self._cursors.add(cursor)
        self._observed = True

    def _unwatch(self, cursor: Cursor) -> None:
        self._cursors.discard(cursor)
        self._observed = bool(self._feed.subscriptions or self._cursors)

    def _deliver(self) -> None:
        """Call subscribers, once the lock has been released. Within a transaction its end does it."""
        if not self._depth:
            self._feed.deliver()

    def _insert(self, pos: int, content: Any) -> int:
        """`insert` under the lock, without delivering; returns how many elements."""
        before = self._main.ids
        packed = self._pack(content)
        self._main.insert(self._agent, pos, packed)
        if packed:
            self._note((Edit(pos, 0, self._type.unpack(packed)),), before, local=True)
        return len(packed)

    def _delete(self, pos: int, length: int) -> None:
        """`delete` under the lock, without delivering."""
        before = self._main.ids
        self._main.delete(self._agent, pos, length)
        if length:
            self._note(
                (Edit(pos, length, self._type.unpack([] if self._type.values else "")),), before, local=True
            )

    def _catch_up(self) -> None:
        """Bring in what a branch has put into the log."""
        before = self._main.ids
        made = self._main.merge(edits=self._observed)
        if self._observed and self._main.ids != before:
            self._note(self._unpack(made), before, local=True)

    def _note(self, edits: tuple[Edit, ...], before: Version, local: bool) -> None:
        """Tell cursors of edits, and prepare to tell subscribers."""
        for cursor in self._cursors:
            cursor._follow(edits)
        if self._depth:
            if self._audience:
                self._gathered += edits
                self._only_local &= local
        elif self._feed.subscriptions:
            self._feed.post(self._change(edits, before, local), self._feed.subscriptions)
        else:
            self._observed = bool(self._cursors)

    def _change(self, edits: tuple[Edit, ...], before: Version, local: bool) -> Change:
        return Change(edits, before, self._main.ids, local)

    def _unpack(self, made: Iterable[tuple[int, int, Packed]]) -> tuple[Edit, ...]:
        # There may be very many: a named tuple's own constructor takes three times as long as this.
        new, unpack = tuple.__new__, self._type.unpack
        return tuple([new(Edit, (pos, deleted, unpack(inserted))) for pos, deleted, inserted in made])

    def _check(self) -> None:
        """Assert every invariant, and that a replay from nothing gives the same. For tests: O(events**2)."""
        with self._lock:
            self._log._check()
            self._main._check()
            assert self._main.version == self._log.graph.frontier, f"the content is at {self._main.version}"
            self._pending._check()
