"""Documents: an append-only history of everybody's edits, and the content that it makes."""

import operator
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

from egwalker import encoding, receiving
from egwalker.branch import Branch
from egwalker.cursor import Cursor
from egwalker.cycore import blame, order
from egwalker.cycore.diff import diff
from egwalker.cycore.errors import AgentError, DecodeError, IdentityError, KindError, PositionError
from egwalker.events import Callback, Change, Subscription
from egwalker.kinds import Kind
from egwalker.pending import LIMIT as PENDING_LIMIT
from egwalker.plugin_manager import document_type
from egwalker.replica import Replica, empty, opened
from egwalker.types import DEFAULT_KIND
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
    random_name,
    spans_of,
    to_local,
)
from egwalker.view import View

ID_BYTES = encoding.ID_BYTES[encoding.WHOLE_ID]


class Document(View):
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
        self._setup(empty(kind), agent, id, pending_limit, defer)

    def _setup(
        self, replica: Replica, agent: str | None, doc_id: str | None, pending_limit: int, defer: bool
    ) -> None:
        self._agent = random_name() if agent is None else check_agent(agent)
        self._id = secrets.token_hex(16) if doc_id is None else check_id(doc_id)
        self._id_given = doc_id is not None
        self._lock = threading.RLock()
        self._replica = replica
        self._feed = replica.feed
        replica.pending_limit = pending_limit
        replica.set_defer(defer)
        # How far the logs of other documents have been read: they only grow, so what came before is here.
        self._read: WeakKeyDictionary[Document, int] = WeakKeyDictionary()

    @classmethod
    def _of(
        cls,
        replica: Replica,
        agent: str | None,
        doc_id: str | None,
        pending_limit: int = PENDING_LIMIT,
        defer: bool = True,
    ) -> Self:
        """A document of a replica, which becomes its own."""
        document = cls.__new__(cls)
        document._setup(replica, agent, doc_id, pending_limit, defer)
        return document

    def _begin(self, replica: Replica) -> Change:
        """Become, while blank, what a replica is."""
        replica.take_over(self._replica)
        self._replica = replica
        content = replica.packed() if replica.kind.positions else None
        return replica.tell(replica.edits([(0, 0, content)] if content else []), (), local=False)

    def __repr__(self) -> str:
        with self._lock:
            size = f"{len(self._replica)} elements, {self._events()} events"
            return f"<Document {self.kind} of {self._agent!r}: {size}>"

    # --- content --------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The name of the document's type."""
        return self._type.name

    @property
    def _type(self) -> Kind:
        return self._replica.kind

    def _shown(self) -> Any:
        return self._replica.main

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
        return self._replica.defer

    @defer.setter
    def defer(self, defer: bool) -> None:
        with self._lock:
            self._replica.set_defer(bool(defer))

    @property
    def content(self) -> Any:
        """The whole content, made anew: a `str`, or for a list a list of its values. O(length)."""
        with self._lock:
            return self._replica.content()

    def __len__(self) -> int:
        """The number of elements. O(1)."""
        with self._lock:
            return len(self._replica)

    def insert(self, pos: int, content: Any) -> None:
        """Insert `content` so that it starts at `pos`. O(log n + its length).

        Raises `PositionError` unless 0 <= pos <= len(document), `ContentError` for content that the
        document's type cannot hold, `LimitError` if the document would become too long; the document is then
        as before.
        """
        with self._lock:
            replica = self._replica
            if not self._feed.watched:
                replica.main.insert(self._agent, pos, replica.kind.pack_inserted(content))
                return
            replica.insert(self._agent, pos, content)
        self._feed.deliver()

    def delete(self, pos: int, length: int = 1) -> None:
        """Delete `length` elements from `pos` on. O(log n + length). `PositionError` if there are fewer."""
        with self._lock:
            if not self._feed.watched:
                self._replica.main.delete(self._agent, pos, length)
                return
            self._replica.delete(self._agent, pos, length)
        self._feed.deliver()

    def adopt(self) -> None:
        """Let the next edit follow all that is in the document, wherever it is. O(1).

        For editors that keep the caret themselves: to be called when it is moved by mouse or key.
        """
        with self._lock:
            self._replica.main.caret.close()

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
            self._replica.perform(self._agent, op)
        self._feed.deliver()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes within a `with` block one `Change` to subscribers, delivered at its end.

        Other threads cannot use the document meanwhile. Transactions nest; the outermost one counts. There is
        no undoing: if the block raises, what it did before stays done, and subscribers are told of it.
        """
        try:
            with self._lock:
                self._feed.begin()
                try:
                    yield
                finally:
                    self._feed.end()
        finally:
            self._feed.deliver()

    # --- versions -------------------------------------------------------------------------------------------

    @property
    def version_vector(self) -> VersionVector:
        """Which events are held: for each agent half-open ranges of seqs. O(ranges)."""
        with self._lock:
            return self._replica.log.graph.version_vector()

    @property
    def events(self) -> int:
        """How many events are held. O(1)."""
        with self._lock:
            return self._events()

    def _events(self) -> int:
        return len(self._replica.log)

    @property
    def start(self) -> Version:
        """The version from which on the history is here: `()` is all of it.

        Another one is that of a *shallow* document, which has begun with the content there, see
        `egwalker.connect`. It holds the events before that too, but whatever needs more of them than their
        ids raises `HistoryError`, and the document is as before.
        """
        with self._lock:
            return self._replica.start

    def checkout(self, version: Iterable[Id]) -> Any:
        """The content at a version; `VersionError` if it is not held. O(events before it, in runs).

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc")
        >>> doc.checkout([("alice", 1)]), doc.checkout([])
        ('ab', '')
        """
        with self._lock:
            log = self._replica.read()
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
            log = self._replica.whole()
            local = log.graph.frontier if version is None else to_local(log.graph, version)
            # There may be very many, as in `Replica.edits`.
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
            graph = self._replica.read().graph
            return graph.ids(graph.version_at(operator.index(n)))

    def branch(self, version: Iterable[Id] | None = None) -> Branch:
        """A view of the document at a version, by default the current one, which can be edited and merged."""
        return Branch(self, version)

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
        if ids == self._replica.version:
            pos = operator.index(pos)
            if not 0 <= pos <= len(self):
                raise PositionError(f"position {pos} is not within 0..{len(self)}")
            return pos
        self._sequence()
        log = self._replica.read()
        return self._sequence().map_position(to_local(log.graph, ids), pos, rows)

    def diff(self, a: Iterable[Id], b: Iterable[Id]) -> Diff:
        """How two versions differ. O(runs after their common head). `VersionError` if one is not held."""
        with self._lock:
            graph = self._replica.read().graph
            head, shared, a_only, b_only = diff(graph, to_local(graph, a), to_local(graph, b))
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
            return [Group(*group[:4]) for group in order.groups(self._replica.whole().graph)]

    def history(self, since: Mapping[str, Iterable[tuple[int, int]]] | None = None) -> list[Run]:
        """The events that a version vector lacks (default: all) for `receive`, parents before children.

        >>> doc = Document(agent="alice")
        >>> doc.insert(0, "abc"); doc.delete(1)
        >>> doc.history({"alice": [(0, 2)]})
        [Run(agent='alice', seq=2, parents=(('alice', 1),), ops=((2, 0, 'c'), (1, 1, '')))]
        """
        with self._lock:
            replica = self._replica
            ranges = [(0, len(replica.read()))] if since is None else replica.lacking(since)
            replica.check_kept()
            return [run for start, end in ranges for run in replica.runs(start, end)]

    def fork(self, agent: str | None = None) -> "Document":
        """A replica with the same history for another agent, by default a fresh random name.

        Events that wait for parents, subscriptions and cursors stay with this document. O(log).
        """
        if agent == self._agent:
            raise AgentError(f"a fork needs another agent than {agent!r}, who edits this document")
        with self._lock:
            old = self._replica
            fork = Document._of(old.copy(), agent, self._id, old.pending_limit, old.defer)
            self._read[fork] = fork._read[self] = self._events()
            return fork

    # --- others' events -------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many events wait for parents that have not come."""
        with self._lock:
            return self._replica.pending.events

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
            read = other._events() if other is self else self._read.get(other, 0)
            theirs = other._replica.log_from(read)
            if read == len(theirs):
                return self._replica.tell((), self.version, local=False)
            with self._named(bytes.fromhex(other._id), unrelated):
                change = receiving.merge(self._replica, theirs, read)
            self._read[other] = len(theirs)
        self._feed.deliver()
        return change

    @contextmanager
    def _named(self, doc_id: bytes, unrelated: bool) -> Iterator[None]:
        """Check the id, or its beginning, of what is about to come in; a new document takes it on."""
        if not bytes.fromhex(self._id).startswith(doc_id) and not unrelated:
            if self._id_given or self._events() or self._replica.pending.events or len(doc_id) < ID_BYTES:
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
        packed = [receiving.packed_run(self._type, run) for run in runs]
        with self._lock:
            change = receiving.receive(self._replica, packed)
        self._feed.deliver()
        return change

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
        deleted a replay. What is shallow stays so. An update over a `link` (`egwalker.encoding.Link`) is for
        who read all before it.

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
            replica = self._replica
            if since or link is not None:
                ranges = replica.lacking(since or {})
                return encoding.encode_update(replica.log, doc_id, ranges, link)
            # Operations are never deleted.
            kept = deleted or not self._type.positions
            log = replica.read() if kept else replica.whole()
            current = replica.packed() if content else None
            return encoding.encode_document(
                log,
                doc_id,
                replica.summary(),
                current,
                kept,
                replica.beginning(),
                self._type.cached_factor,
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
        replica = opened(encoded, document_type(encoded.kind))
        return cls._of(replica, agent, encoded.id.hex(), pending_limit, defer)

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
            old = self._replica
            if old.blank and old.kind.positions and encoding.CONTENT in encoded.chunks:
                replica = opened(encoded, old.kind)
                # Errors must come before anything is changed.
                encoded.columns  # noqa: B018
                replica.main  # noqa: B018
                change = self._begin(replica)
            else:
                change = receiving.Incoming(old.kind, encoded).enter(old)
        self._feed.deliver()
        return change

    def verify(self) -> None:
        """Replay the whole history and compare the content with what it makes. O(events).

        `DecodeError` if they differ: the document has then the content that its history makes, and
        subscribers are told. The same error, and no change, if the history cannot be read or replayed.
        """
        try:
            with self._lock:
                self._replica.verify()
        finally:
            self._feed.deliver()

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
            self._feed.subscribe(subscription)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._feed.unsubscribe(subscription)

    def _check(self) -> None:
        """Assert every invariant, and that a replay from nothing gives the same. For tests: O(events**2)."""
        with self._lock:
            self._replica._check()
