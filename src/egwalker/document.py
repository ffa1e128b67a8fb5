"""Documents: an append-only history of everybody's edits, and the content that it makes."""

import operator
import secrets
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, WeakSet

from egwalker import encoding
from egwalker.branch import Branch
from egwalker.cursor import Cursor
from egwalker.cycore import blame, decoder, encoder, order
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import (
    AgentError,
    CausalityError,
    ContentError,
    DecodeError,
    EgwalkerError,
    HistoryError,
    IdentityError,
    KindError,
    PositionError,
)
from egwalker.cycore.oplog import OpLog
from egwalker.cycore.rope import Rope
from egwalker.events import Callback, Change, Edit, Feed, Subscription, logger
from egwalker.kinds import Kind
from egwalker.pending import LIMIT as PENDING_LIMIT
from egwalker.pending import Pending
from egwalker.plugin_manager import document_type
from egwalker.replayed import Replay, no_positions
from egwalker.types import DEFAULT_KIND, Packed
from egwalker.versions import (
    Diff,
    Group,
    Id,
    Run,
    Span,
    Version,
    VersionVector,
    check_agent,
    check_id,
    joined,
    ranges_since,
    refuse_id,
    spans_of,
    to_local,
)

PackedRun = tuple[str, int, Version, tuple[tuple[int, int, Packed], ...]]
"""A `Run` whose content is in the packed form."""

ID_BYTES = encoding.ID_BYTES[encoding.WHOLE_ID]

NAME_LETTERS = string.ascii_letters + string.digits
NAME_LENGTH = 10
"""59 bits: among a hundred thousand random names two are the same once in a hundred million documents."""


def random_name() -> str:
    """A name for an agent who gave none."""
    return "".join([secrets.choice(NAME_LETTERS) for _ in range(NAME_LENGTH)])


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


class Document:
    """A document that any number of agents edit, each in a replica of their own, and that always merges.

    `kind` names a registered document type: `"text"`, whose content is a `str`, `"list"`, whose content is a
    list of JSON values, or what plugins add (`KindError` if there is none). `agent` is who edits here, by
    default a fresh random name. Two replicas must never edit under one name at the same time (`AgentError`
    for what cannot be a name). Positions count elements: code points of a text, values of a list.

    Events from others whose parents have not come yet wait, at most `pending_limit` of them.

    Who types on where the last edit here ended, or erases there, goes on with a *run*: what others do
    meanwhile is in the document, but the run's events follow each other alone, as one group. An edit
    elsewhere, `adopt`, a cursor's `move` or a change by others right there end it; the next edit follows all
    that is here. With `defer` false, which is also an attribute, every edit does.

    `id`, 32 hexadecimal digits, says which document this is a replica of, by default a new one. Replicas come
    from `fork`, `decode`, or by bringing something into a document that was made without an id and is empty:
    it takes on the id. What has another id is refused (`IdentityError`) unless asked for.

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
        self,
        kind: str = DEFAULT_KIND,
        *,
        agent: str | None = None,
        id: str | None = None,  # noqa: A002
        pending_limit: int = PENDING_LIMIT,
        defer: bool = True,
    ) -> None:
        found = document_type(kind)
        log = OpLog(found.values)
        self._setup(found, agent, id, pending_limit)
        self._defer = defer
        self._begin(log, found.checkout(log))

    def _begin(self, log: OpLog, main: Checkout | Replay) -> None:
        self._log = log
        self._main: Any = main  # always at the log's frontier
        main.caret.defer = self._defer
        self._pending = Pending(log.graph, self._pending_limit)

    def _setup(self, kind: Kind, agent: str | None, doc_id: str | None, pending_limit: int) -> None:
        self._type = kind
        self._pack = kind.pack_inserted
        self._agent = random_name() if agent is None else check_agent(agent)
        self._id = secrets.token_hex(16) if doc_id is None else check_id(doc_id)
        self._id_given = doc_id is not None
        self._lock = threading.RLock()
        self._pending_limit = pending_limit
        self._defer = True
        # A history that has not been read yet. What the log and its checkout hold comes after it, then.
        self._older: encoding.Encoded | None = None
        # The content that came with it, until something else is asked for.
        self._cached: Packed | None = None
        # How far the logs of other documents have been read: they only grow, so what came before is here.
        self._read: WeakKeyDictionary[Document, int] = WeakKeyDictionary()
        self._feed = Feed()
        self._cursors: WeakSet[Cursor] = WeakSet()
        self._observed = False  # whether anybody subscribes or a cursor follows
        self._branches: WeakSet[Branch] = WeakSet()  # which hold the log
        # What empty documents begin with, by where and whether it may be compressed: see `shallow`.
        self._starts: dict[tuple[int, bool], bytes] = {}
        # The open transaction, if `_depth` is not 0.
        self._depth = 0
        self._audience: tuple[Subscription, ...] = ()
        self._gathered: list[Edit] = []
        self._before: Version = ()
        self._only_local = True

    def _become(self, kind: str) -> None:
        """Make this blank document, of which there are no branches, one of another kind. `KindError`."""
        found = document_type(kind)
        log = OpLog(found.values)
        self._type, self._pack = found, found.pack_inserted
        self._starts.clear()
        self._begin(log, found.checkout(log))

    @classmethod
    def _of(
        cls,
        kind: Kind,
        agent: str | None,
        log: OpLog,
        main: Checkout | Replay,
        doc_id: str | None = None,
        pending_limit: int = PENDING_LIMIT,
    ) -> Self:
        """A document over a log and a checkout of all of it, which become its own."""
        document = cls.__new__(cls)
        document._setup(kind, agent, doc_id, pending_limit)
        document._begin(log, main)
        return document

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the log and its checkout when they are first used, if only the content was read."""
            if name not in ("_log", "_main", "_pending") or self.__dict__.get("_cached") is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self._wake()
            return self.__dict__[name]

    def __repr__(self) -> str:
        with self._lock:
            size = f"{len(self._main)} elements, {self._events()} events"
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
    def id(self) -> str:
        """Which document this is a replica of: 32 hexadecimal digits."""
        return self._id

    @property
    def defer(self) -> bool:
        """Whether what is typed on keeps the parents that it began with; to be set at any time."""
        return self._defer

    @defer.setter
    def defer(self, defer: bool) -> None:
        with self._lock:
            self._defer = bool(defer)
            if self._cached is None:
                self._main.caret.defer = self._defer
                self._main.caret.close()

    @property
    def content(self) -> Any:
        """The whole content, made anew: a `str`, or for a list a list of its values. O(length)."""
        with self._lock:
            cached = self._cached
            return self._type.content(self._main) if cached is None else self._type.unpack(cached)

    def __str__(self) -> str:
        return str(self.content)

    def __len__(self) -> int:
        """The number of elements. O(1)."""
        with self._lock:
            return len(self._main)

    def slice(self, start: int, end: int) -> Any:
        """The content from `start` to `end`. O(log n + end - start). `PositionError` beyond the document."""
        with self._lock:
            return self._type.unpack(self._sequence().content(start, end))

    def _sequence(self) -> Checkout:
        """What has positions. `KindError` if nothing has."""
        if isinstance(self._main, Checkout):
            return self._main
        raise no_positions(self.kind)

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
        return self._sequence().rope

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

    def adopt(self) -> None:
        """Let the next edit follow all that is in the document, wherever it is. O(1).

        For editors that keep the caret themselves: to be called when it is moved by mouse or key.
        """
        with self._lock:
            if self._cached is None:
                self._main.caret.close()

    def perform(self, op: Any) -> None:
        """Perform an operation, a JSON value, if the document is of a replayed type. O(1) beside applying it.

        Raises `OperationError`, which names it, for what is no operation of the type or fails; the document
        is then as before. `KindError` for other types, whose elements are inserted and deleted.

        >>> doc = Document("map", agent="alice")
        >>> doc.perform({"set": ["colour"], "to": "red"})
        >>> doc.content
        {'colour': 'red'}
        """
        with self._lock:
            before = self._version()
            edit = self._type.perform(self._main, self._agent, op)
            if self._observed:
                self._note((edit,), before, local=True)
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
                    self._before = self._version()
                    self._only_local = True
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth and self._audience and self._version() != self._before:
                        change = self._change(tuple(self._gathered), self._before, self._only_local)
                        self._feed.post(change, self._audience)
        finally:
            self._deliver()

    # --- versions -------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """The current version: the ids of the events that no other event follows, ascending. O(heads)."""
        with self._lock:
            return self._version()

    def _version(self) -> Version:
        ids = self._main.ids
        return ids if ids or self._older is None else self._older.summary.frontier

    @property
    def version_vector(self) -> VersionVector:
        """Which events are held: for each agent half-open ranges of seqs. O(ranges)."""
        with self._lock:
            vector = self._log.graph.version_vector()
            return vector if self._older is None else joined(self._older.summary.vector, vector)

    @property
    def events(self) -> int:
        """How many events are held. O(1)."""
        with self._lock:
            return self._events()

    def _base(self) -> int:
        """How many of the events are known by their ids only: those before `start`."""
        return 0 if self._older is not None else self._log.graph.base

    def _events(self) -> int:
        return len(self._log) + (0 if self._older is None else self._older.summary.events)

    @property
    def start(self) -> Version:
        """The version from which on the history is here: `()` is all of it.

        Another one is that of a *shallow* document, which has begun with the content there, see
        `egwalker.connect`. It holds the events before that too, but whatever needs more of them than their
        ids raises `HistoryError`, and the document is as before.
        """
        with self._lock:
            if self._older is not None:
                return ()
            graph = self._log.graph
            return graph.ids(graph.root)

    def checkout(self, version: Iterable[Id]) -> Any:
        """The content at a version; `VersionError` if it is not held. O(events before it, in runs).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.checkout([("alice", 1)]), doc.checkout([])
        ('ab', '')
        """
        with self._lock:
            log = self._known()
            checkout = self._type.checkout(log)
            checkout.merge(to_local(log.graph, version))
            return self._type.content(checkout)

    def blame(self, version: Iterable[Id] | None = None) -> list[Span]:
        """Who wrote what of the content at a version, by default the current one: the ids of its elements.

        Each span stands for `end - start` elements that one agent inserted one after the other; together they
        are the content. `VersionError` if the version is not held. O(events before it, in runs, times log n).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "held")
        >>> bob = doc.fork("bob")
        >>> bob.insert(2, "llo wor")
        >>> bob.blame()
        [Span(agent='alice', start=0, end=2), Span(agent='bob', start=0, end=7),
         Span(agent='alice', start=2, end=4)]
        """
        with self._lock:
            self._sequence()
            log = self._history()
            local = log.graph.frontier if version is None else to_local(log.graph, version)
            # There may be very many, as in `_unpack`.
            new = tuple.__new__
            return [new(Span, found) for found in blame.blame(log, local)]

    def version_at(self, n: int) -> Version:
        """The version after the first `n` of the `events`, in the order in which this replica took them in.

        `n` from 0 on goes through the whole past, one event at a time; another replica may have another
        order. `VersionError` beyond `events`. O(log n + runs concurrent with the last of them).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.events, doc.version_at(2), doc.checkout(doc.version_at(2))
        (3, (('alice', 1),), 'ab')
        """
        with self._lock:
            graph = self._known().graph
            return graph.ids(graph.version_at(operator.index(n)))

    def branch(self, version: Iterable[Id] | None = None) -> Branch:
        """A view of the document at a version, by default the current one, which can be edited and merged."""
        branch = Branch(self, version)
        with self._lock:
            self._branches.add(branch)
        return branch

    def map_position(self, pos: int, version: Iterable[Id]) -> int:
        """Where position `pos` of the content at a version is now: others' carets are told with theirs.

        It stays behind the element before it, as a cursor does: what was inserted right there is after it.
        Where that element was deleted, it is where that was; 0 stays 0. O(1) for the current version, else
        O(events not in the version or concurrent with one of these, run-length encoded, times log n); while
        people type at once, O(runs in which the version differs from the newest one). `VersionError` if the
        version is not held, `HistoryError` if it is before `start`, `PositionError` if it has no such place.

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "hello")
        >>> before = doc.version
        >>> doc.insert(0, ">> "); doc.delete(4, 3); doc.insert(4, "i")
        >>> str(doc), [doc.map_position(pos, before) for pos in range(6)]
        ('>> hio', [0, 4, 5, 5, 5, 6])
        """
        with self._lock:
            found = self._map_position(pos, version)
            assert found is not None
            return found

    def _map_position(self, pos: int, version: Iterable[Id], rows: int | None = None) -> int | None:
        """`map_position` under the lock; None if that would be looking at more than `rows` rows."""
        ids = tuple(sorted(version))
        if ids == self._version():
            pos = operator.index(pos)
            if not 0 <= pos <= len(self):
                raise PositionError(f"position {pos} is not within 0..{len(self)}")
            return pos
        self._sequence()
        log = self._known()
        return self._sequence().map_position(to_local(log.graph, ids), pos, rows)

    def diff(self, a: Iterable[Id], b: Iterable[Id]) -> Diff:
        """How two versions differ. O(runs after their common head). `VersionError` if one is not held."""
        with self._lock:
            graph = self._known().graph
            head, shared, a_only, b_only = graph.diff(to_local(graph, a), to_local(graph, b))
            return Diff(
                graph.ids(head),
                spans_of(graph, shared),
                spans_of(graph, a_only),
                spans_of(graph, b_only),
            )

    def vector_at(self, version: Iterable[Id]) -> VersionVector:
        """Which events a version is made of, as a version vector: `history` and `encode` take it as `since`.

        `VersionError` if the version is not held. O(runs before it).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.vector_at([("alice", 1)])
        {'alice': [(0, 2)]}
        """
        found: VersionVector = {}
        for agent, start, end in self.diff((), version).b_only:
            found.setdefault(agent, []).append((start, end))
        return joined(found, {})

    def groups(self) -> list[Group]:
        """All events in the total order, which depends on the set of events alone and not on their arrival.

        Of all groups whose first event's parents came before, the next is the one with the smallest clock,
        agent and seq. A group is never split. O(runs * log runs).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.groups()
        [Group(agent='alice', seq=0, length=3, clock=0)]
        """
        with self._lock:
            return [Group(*group[:4]) for group in order.groups(self._history().graph)]

    def history(self, since: Mapping[str, Iterable[tuple[int, int]]] | None = None) -> list[Run]:
        """The events that a version vector lacks (default: all) for `receive`, parents before children.

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc"); doc.delete(1)
        >>> doc.history({"alice": [(0, 2)]})
        [Run(agent='alice', seq=2, parents=(('alice', 1),), ops=((2, 0, 'c'), (1, 1, '')))]
        """
        with self._lock:
            log, unpack = self._known(), self._type.unpack
            graph = log.graph
            self._check_kept()
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
            log = self._known().copy()
            fork = Document._of(
                self._type, agent, log, self._main.copy(log), self._id, pending_limit=self._pending_limit
            )
            fork.defer = self._defer
            self._read[fork] = fork._read[self] = len(log)
            return fork

    # --- others' events -------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many events wait for parents that have not come."""
        with self._lock:
            return self._pending.events

    def merge(self, other: "Document", *, unrelated: bool = False) -> Change:
        """Take in all that another replica holds; returns how that changed this one.

        O(what is new in `other` since the last merge and what is concurrent with it, run-length encoded).
        Raises `KindError` if the kinds differ, `IdentityError` if the ids differ and it was not asked for by
        `unrelated`, `ConflictError` if an event differs that both hold; this document is then as before.
        """
        if not isinstance(other, Document):
            raise TypeError(f"a document merges another Document, not {type(other).__name__}")
        if other.kind != self.kind:
            raise KindError(f"a document of kind {self.kind!r} does not merge one of kind {other.kind!r}")
        # Two documents may merge each other at the same time: always the same one's lock first.
        first, second = (self, other) if id(self) < id(other) else (other, self)
        with first._lock, second._lock:
            theirs = other._known()
            read = len(theirs) if other is self else self._read.get(other, 0)
            if read == len(theirs):
                return self._change((), self._version(), local=False)
            log = self._known()
            with self._named(bytes.fromhex(other._id), unrelated):
                change = self._bring_in(lambda: log.merge(theirs, read))
            self._read[other] = len(theirs)
        self._deliver()
        return change

    @contextmanager
    def _named(self, doc_id: bytes, unrelated: bool) -> Iterator[None]:
        """Check the id, or its beginning, of what is about to come in; a new document takes it on."""
        if not bytes.fromhex(self._id).startswith(doc_id) and not unrelated:
            if self._id_given or self._events() or self._pending.events or len(doc_id) < ID_BYTES:
                raise IdentityError(
                    f"this is of document {doc_id.hex()}{'...' if len(doc_id) < ID_BYTES else ''}, not of "
                    f"{self._id}: `unrelated=True` merges it all the same"
                )
            yield
            self._id = doc_id.hex()
        else:
            yield
        self._id_given = True

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
            change = self._receive(packed)
        self._deliver()
        return change

    def _receive(self, runs: list[PackedRun]) -> Change:
        if self._older is not None:
            runs = self._after_older(runs)
        change = self._receive_one(runs[0]) if len(runs) == 1 and not self._pending.events else None
        return self._bring_in(lambda: self._enter(runs)) if change is None else change

    def _receive_one(self, run: PackedRun) -> Change | None:
        """`receive` for one run while nothing waits, as in a live session; None if it must wait itself."""
        log, main = self._log, self._main
        for parent, number in run[2]:
            if not log.graph.has(parent, number):
                return None
        length, before = len(log), self._version()
        log.add(*run)
        try:
            made = main.merge(edits=True)
        except BaseException:
            log.truncate(length)
            raise
        edits = self._unpack(made)
        if self._observed and len(log) > length:
            self._note(edits, before, local=False)
        return self._change(edits, before, local=False)

    def _check_run(self, run: Run) -> PackedRun:
        """A run from elsewhere, checked as far as the engine does not do it, with its content packed."""
        pack = self._type.pack
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
        except HistoryError:
            raise
        except EgwalkerError:
            if not self._pending.events:
                raise
        return self._attempt(add, careful=True)

    def _attempt(self, add: Callable[[], object], careful: bool) -> Change:
        log, main, waiting = self._log, self._main, self._pending
        length, before = len(log), self._version()
        made: list[tuple[int, int, Packed]] = []
        typing = main.caret.state
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
            moved = self._version() != before
            log.truncate(length)
            if moved:
                main.restart()
                main.caret.state = typing
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
            made: list[tuple[int, int, Packed]] = self._main.merge(edits=True)
            return made
        except HistoryError:
            raise
        except EgwalkerError as error:
            self._log.truncate(length)
            logger.warning("dropped the events of %r from %d on: %s", run.agent, run.seq, error)
            return []

    # --- bytes ----------------------------------------------------------------------------------------------

    def encode(
        self,
        since: Mapping[str, Iterable[tuple[int, int]]] | None = None,
        *,
        content: bool = True,
        deleted: bool = True,
        link: encoding.Link | None = None,
    ) -> bytes:
        """The document, or what a version vector lacks of it, for `decode` and `apply`.

        A whole document comes with its current `content`, so that opening it needs no replay, and with what
        was `deleted` since; without that, past versions cannot be had any more (`ContentError`). The same
        events in the same order give the same bytes. O(events, run-length encoded), and without what was
        deleted a replay. An update over a `link` (`egwalker.encoding.Link`) is for who read all before it.

        >>> alice = Document(agent="alice", id="0" * 32)
        >>> alice.insert(0, "hello")
        >>> bob = Document.decode(alice.encode(), agent="bob")
        >>> before = alice.version_vector
        >>> alice.insert(5, "!")
        >>> update = alice.encode(since=before)
        >>> len(update), bob.apply(update).edits
        (23, (Edit(pos=5, deleted=0, inserted='!'),))
        """
        with self._lock:
            doc_id = bytes.fromhex(self._id)
            if since or link is not None:
                log = self._known()
                return encoding.encode_update(log, doc_id, ranges_since(log.graph, since or {}), link)
            log = self._history()
            summary = encoding.Summary(
                self.kind,
                len(log),
                encoder.agents(log),
                log.graph.version_vector(),
                self._main.ids,
            )
            current = self._type.cached(self._main) if content else None
            # Operations are never deleted.
            return encoding.encode_document(
                log, doc_id, summary, current, deleted or not self._type.positions
            )

    @classmethod
    def decode(
        cls,
        data: bytes,
        agent: str | None = None,
        *,
        pending_limit: int = PENDING_LIMIT,
        defer: bool = True,
    ) -> Self:
        """The document that `encode` wrote, to be edited by `agent`, by default a fresh random name.

        Where the data has the content, the history is not read before it is needed: when something
        concurrent arrives, a past version is asked for, or history goes out. Only then damage to it is found
        (`DecodeError`). The content is taken as it is until `verify`. Raises `DecodeError`, `KindError`.
        O(bytes of the content), else a replay.
        """
        encoded = encoding.parse(bytes(data))
        if not encoded.whole:
            raise DecodeError("this is an update, not a whole document: `apply` takes it", 0)
        document = cls.__new__(cls)
        document._setup(document_type(encoded.kind), agent, encoded.id.hex(), pending_limit)
        document._defer = defer
        document._open(encoded)
        return document

    def apply(self, data: bytes, *, unrelated: bool = False, link: encoding.Link | None = None) -> Change:
        """Take in what `encode` wrote, a document or an update; returns how that changed this document.

        Events whose parents are not held wait (see `pending`). Raises what `receive` and `merge` do; the
        document is then as before. O(events in the data, run-length encoded, and what is concurrent with
        them).
        """
        if link is None:
            encoded = encoding.parse(bytes(data))
        else:
            encoded = encoding.parse_linked(bytes(data), bytes.fromhex(self._id), link)
        if encoded.whole and encoded.kind != self.kind:
            raise KindError(f"a document of kind {self.kind!r} does not merge one of kind {encoded.kind!r}")
        with self._lock, self._named(encoded.id, unrelated):
            change = self._apply(encoded)
        self._deliver()
        return change

    def _apply(
        self,
        encoded: encoding.Encoded,
        accept: Callable[[list[Run]], None] | None = None,
        late: list[PackedRun] | None = None,
    ) -> Change:
        """`apply` under the lock. `accept` may refuse the runs of an update by raising.

        With `late` there is no `HistoryError`: what would raise it is put there.
        """
        values = self._type.values
        if encoding.RUN in encoded.chunks:
            run = encoded.run(values)
            self._check_values([content for _, _, content in run[3]])
            if accept is not None:
                accept([self._unpacked(run)])
            try:
                return self._receive([run])
            except HistoryError:
                if late is None:
                    raise
                late.append(run)
                return self._change((), self._version(), local=False)
        if (
            self._type.positions
            and encoding.CONTENT in encoded.chunks
            and not self._events()
            and not self._pending.events
            and not self._observed
            and not self._branches
        ):
            before = self._version()
            # Errors must come before anything is changed.
            encoded.summary  # noqa: B018
            encoded.columns  # noqa: B018
            self._open(encoded)
            edits = self._unpack([(0, 0, self._sequence().content())]) if len(self._main) else ()
            return self._change(edits, before, local=False)
        self._known()
        history = self._decoded(encoded)
        room = encoding.allowance(len(encoded.data))
        if accept is not None:
            accept([self._unpacked(run) for run in history.runs(room)])

        # What lacked a parent may find it further on in the same data.
        try:
            return self._bring_in(lambda: self._enter(history.merge(self._log, room)))
        except HistoryError:
            if late is None:
                raise
            late += history.runs(room)
            return self._change((), self._version(), local=False)

    def _unpacked(self, run: PackedRun) -> Run:
        agent, seq, parents, ops = run
        unpack = self._type.unpack
        return Run(agent, seq, parents, tuple([(pos, n, unpack(content)) for pos, n, content in ops]))

    def _open(self, encoded: encoding.Encoded) -> None:
        """Become, while empty, the whole document in the data."""
        values = self._type.values
        content = encoded.content(values) if self._type.positions else None
        if content is None:
            log = self._read_log(encoded)
            self._begin(log, made_of(self._type, log))
        else:
            self._check_values([content])
            for name in ("_log", "_main", "_pending"):
                self.__dict__.pop(name, None)
            self._older, self._cached = encoded, content

    def _wake(self) -> None:
        """Make a log that goes on from the cached content, without reading the history before it."""
        older, content = self._older, self._cached
        assert older is not None
        assert content is not None
        log = OpLog(self._type.values)
        if older.may_name(self._agent):
            mine = older.summary.vector.get(self._agent)
            if mine:
                log.graph.begin_at(self._agent, mine[-1][1])
        main = Checkout(log)
        main.start_from(content)
        self._begin(log, main)
        self._cached = None

    def _check_values(self, contents: Iterable[Packed]) -> None:
        """What a list holds must be what its type lets in: the engine takes any text for a value."""
        if not self._type.values:
            return
        for texts in contents:
            # A few at a time: as objects they take far more memory.
            for start in range(0, len(texts), 256):
                some = texts[start : start + 256]
                try:
                    if self._type.pack(self._type.unpack(some)) != some:
                        raise ContentError("a value is not written as it should be")
                except (ValueError, RecursionError) as error:
                    raise DecodeError(f"the content is not of kind {self.kind!r}: {error}") from error

    def _decoded(self, encoded: encoding.Encoded) -> decoder.History:
        """The history in the data. `DecodeError`."""
        history = encoded.history(self._type.values)
        self._check_values([history.items()])
        return history

    def _read_log(self, encoded: encoding.Encoded) -> OpLog:
        """The log of a whole document. `DecodeError`."""
        log = self._decoded(encoded).log()
        summary = encoded.summary
        graph = log.graph
        if (len(log), graph.version_vector(), graph.ids(graph.frontier)) != (
            summary.events,
            summary.vector,
            summary.frontier,
        ):
            raise DecodeError("the history is not the one that the summary is of")
        return log

    def _history(self) -> OpLog:
        """The log with all of the history in it. `HistoryError` if not all is here, else as `_known`."""
        log = self._known()
        log.graph.check_whole()
        return log

    def _known(self) -> OpLog:
        """The log with all of the history that is here. `DecodeError` if that cannot be read."""
        older = self._older
        if older is None:
            return self._log
        log = self._read_log(older)
        length, newer = len(log), self._log
        frontier = older.summary.frontier
        for run in newer.graph.runs():
            parents = newer.graph.ids(run.parents) or frontier
            log.add(run.agent, run.seq, parents, newer.edits(run.start, run.end))
        wrong = None
        if self._type.values:
            main = made_of(self._type, log)
            wrong = self._main.content()
        else:
            main = checkout = Checkout(log)
            checkout.adopt(self._sequence(), [lv + length for lv in self._main.version] or log.graph.frontier)
        self._begin(log, main)
        self._older = None
        if wrong is not None and self._observed and wrong != (right := main.content()):
            self._note(self._type.correction(wrong, right), self._version(), local=False)
        return log

    def _begin_after(self, summary: encoding.Summary, content: Packed) -> Change:
        """Become, while nothing is here, the document at a version, without what was before."""
        before = self._version()
        log = OpLog(self._type.values)
        log.begin_after(summary.vector, summary.frontier, content)
        self._older = self._cached = None
        self._begin(log, self._type.checkout(log))
        edits = self._unpack([(0, 0, content)]) if content else ()
        if self._observed:
            self._note(edits, before, local=False)
        return self._change(edits, before, local=False)

    def _deepen(
        self, summary: encoding.Summary, content: Packed, past: Iterable[decoder.History | PackedRun]
    ) -> None:
        """Begin at an older version: with what happened between that and the one at which this begins now.

        `DecodeError`, and no change, if it is not what led there. O(events, in runs).
        """
        newer = self._log
        graph = newer.graph
        log = OpLog(self._type.values)
        if summary.events:
            log.begin_after(summary.vector, summary.frontier, content)
        for found in past:
            if isinstance(found, tuple):
                log.add(*found)
            elif found.merge(log):
                raise DecodeError("the older history has events without their parents")
        wanted = (graph.base, joined(graph.base_vector(), {}), graph.ids(graph.root))
        if (len(log), log.graph.version_vector(), log.graph.ids(log.graph.frontier)) != wanted:
            raise DecodeError("the older history is not what led here")
        main = made_of(self._type, log)
        if main.content() != self._type.checkout(newer).content():
            raise DecodeError("the older history makes another content than was here")
        log.merge(newer, graph.base)
        main.merge()
        pending, typing = self._pending, self._main.caret.state
        self._begin(log, main)
        self._pending.take_over(pending)
        main.caret.state = typing
        self._starts.clear()
        for branch in self._branches:
            branch._move(log)

    def _after_older(self, runs: list[PackedRun]) -> list[PackedRun]:
        """The same runs for the log as it is: if need be the older history is read first."""
        older = self._older
        assert older is not None
        summary = older.summary
        moved: list[PackedRun] = []
        for agent, seq, parents, ops in runs:
            held = summary.vector.get(agent)
            known = not held or seq >= held[-1][1]
            if known and sorted(parents) == list(summary.frontier):
                moved.append((agent, seq, (), ops))
            elif known and parents and all(self._log.graph.has(*parent) for parent in parents):
                moved.append((agent, seq, parents, ops))
            else:
                self._history()
                return runs
        return moved

    def _check_kept(self) -> None:
        if self._log.erased:
            raise ContentError("what was deleted was not kept, so the history cannot be told")

    def verify(self) -> None:
        """Replay the whole history and compare the content with what it makes. O(events).

        `DecodeError` if they differ: the document has then the content that its history makes, and
        subscribers are told. The same error, and no change, if the history cannot be read or replayed.
        """
        with self._lock:
            cached = self._main.content() if self._older is not None else None
            log = self._history()
            before = self._version()
            replay = made_of(self._type, log)
            right = replay.content()
            wrong = self._main.content() if cached is None else cached
            if self._main.content() != right:
                self._main = replay
                replay.caret.defer = self._defer
                if self._observed:
                    self._note(self._type.correction(wrong, right), before, local=False)
        self._deliver()
        if wrong != right:
            where = self._type.difference(wrong, right)
            raise DecodeError(f"the content was not what the history makes, {where}")

    # --- watching -------------------------------------------------------------------------------------------

    def cursor(self, at: int = 0) -> Cursor:
        """A position that follows the elements around it. `PositionError` if there is no such place."""
        self._sequence()
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
        before = self._version()
        packed = self._pack(content)
        self._main.insert(self._agent, pos, packed)
        if packed:
            self._note((Edit(pos, 0, self._type.unpack(packed)),), before, local=True)
        return len(packed)

    def _delete(self, pos: int, length: int) -> None:
        """`delete` under the lock, without delivering."""
        before = self._version()
        self._main.delete(self._agent, pos, length)
        if length:
            self._note(
                (Edit(pos, length, self._type.unpack([] if self._type.values else "")),), before, local=True
            )

    def _catch_up(self) -> None:
        """Bring in what a branch has put into the log."""
        before = self._version()
        self._main.caret.close()
        made = self._main.merge(edits=self._observed)
        if self._observed and self._version() != before:
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
        return Change(edits, before, self._version(), local, self._type.rewound(edits, self._main))

    def _unpack(self, made: Iterable[tuple[int, int, Packed]]) -> tuple[Edit, ...]:
        # There may be very many: a named tuple's own constructor takes three times as long as this.
        new, unpack = tuple.__new__, self._type.unpack
        return tuple([new(Edit, (pos, deleted, unpack(inserted))) for pos, deleted, inserted in made])

    def _check(self) -> None:
        """Assert every invariant, and that a replay from nothing gives the same. For tests: O(events**2)."""
        with self._lock:
            log = self._known()
            log._check()
            self._main._check()
            assert self._main.version == log.graph.frontier, f"the content is at {self._main.version}"
            self._pending._check()
