"""One end of a link between two replicas: bytes in, bytes and events out.

A session has no sockets and no clock. Whoever carries its messages (a *transport*) feeds it what arrives,
asks it for what to send, and tells it when its document has changed or has become durable. docs/protocol.md
specifies the messages to the byte.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from egwalker import encoding
from egwalker.cycore.columns import varint
from egwalker.cycore.diff import diff
from egwalker.cycore.errors import DecodeError, EgwalkerError, IdentityError, KindError, SyncError
from egwalker.cycore.oplog import OpLog
from egwalker.document import Document
from egwalker.events import Change
from egwalker.messages import (
    ACK,
    BACKLOG,
    BLANK,
    COUNTER,
    DONE,
    DURABLE,
    ERROR,
    FETCH,
    HELLO,
    MAX_FETCH,
    MAX_HELLO,
    MAX_MESSAGE,
    NAMES,
    NO_ACKS,
    PAST,
    PLAIN,
    PRESENCE,
    PROTOCOL,
    READ_ONLY,
    SHALLOW,
    START,
    UPDATE,
    Reader,
    decode_error,
    decode_ids,
    decode_presence,
    decode_vector,
    encode_error,
    encode_presence,
    encode_vector,
)
from egwalker.older import Older
from egwalker.replica import empty
from egwalker.shallow import encoded_start, latest_start
from egwalker.versions import Run, VersionVector, covers, joined, to_local

T = TypeVar("T")

UPDATES = (bytes([BACKLOG]), bytes([UPDATE]))
CHUNK_EVENTS = 50_000
"""Events in one message, at most: progress shows, and nobody waits long for the one behind it."""
CHUNK_BYTES = 1 << 20
"""A message of more bytes than this is not made of several events."""
MAX_NAMES = 1 << 20
"""Agents that one end of a link may name."""
MAX_PRESENCES = 10_000
"""How many presences one link tells of."""
SHARED_NAMES = 100
"""Where more agents than this are known, what is known is not compared."""
SHARED_UPDATES = 8
"""How many updates sessions keep for each other."""


class Greeted(NamedTuple):
    """The other end is there, and has this document."""

    vector: VersionVector


class Changed(NamedTuple):
    """Something came in. `remaining`: how many events are still to come of what the other had at first."""

    change: Change
    remaining: int


class Synced(NamedTuple):
    """All that the other end had when the link began is here."""


class Acknowledged(NamedTuple):
    """What was sent has been received: how many messages with events; how many of them are durable there.

    `durable` is -1 as long as not even what the other end had at first is.
    """

    received: int
    durable: int


class Deepened(NamedTuple):
    """Older history came. `remaining`: how many events are still to come of what was asked for."""

    remaining: int


class Presence(NamedTuple):
    """Somebody's cursor, name, or what else they tell while they are there; None: they left."""

    key: str
    state: Any


class Closed(NamedTuple):
    """The link is at its end: `error` says why, None if the other end just closed it."""

    error: EgwalkerError | None


Encoded = dict[tuple[Any, ...], tuple[bytes, list[str], list[int]]]
"""Updates by their ranges and what was known before: their bytes, new names, and what is known after."""
Event = Greeted | Changed | Synced | Acknowledged | Deepened | Presence | Closed
Accept = Callable[[list[Run]], None]


class Session:
    """One end of a link between `document` and a replica of it elsewhere.

    `can_read`: the other end may get the document. `can_write`: what it sends is taken. With neither, the
    session is closed from the start. `accept` is called with the runs of each message before they enter the
    document, and refuses them by raising an `EgwalkerError`. `durable`: this end says what has become
    durable, see `stored`. `presences`: how many the other end may show. `acks`: whether the other end should
    say what it has received; if not, `acknowledged` is of no use. `encoded`: what sessions of one document
    may share, so that those who know the same encode an edit once. `shallow`: if the document has
    no events, begin with the content, see `Document.start`, and ask for older history only where it is
    needed, or when `fetch` is called. `any_kind`: a blank document becomes one of the kind that the other end
    greets with, if that may write.

    Call `receive` for each message that arrives, in order; send what `poll` returns until that is None, again
    after each `receive`, `stored` and `show`, and when the document has changed. What is not sent yet is not
    kept as bytes: a slow reader costs no memory, and gets in one message what was done meanwhile.

    >>> from egwalker import Document
    >>> a = Document(agent="a"); a.insert(0, "hi")
    >>> b = Document(agent="b")
    >>> left, right = Session(a), Session(b)
    >>> for _ in range(3):
    ...     for one, other in (left, right), (right, left):
    ...         while message := one.poll():
    ...             events = other.receive(message)
    >>> str(b), left.synced, right.synced, a.id == b.id
    ('hi', True, True, True)
    """

    def __init__(
        self,
        document: Document,
        *,
        can_read: bool = True,
        can_write: bool = True,
        durable: bool = False,
        accept: Accept | None = None,
        presences: int = MAX_PRESENCES,
        acks: bool = True,
        encoded: Encoded | None = None,
        shallow: bool = False,
        any_kind: bool = False,
    ) -> None:
        self.document = document
        self.can_read = can_read
        self.can_write = can_write
        self.closed: Closed | None = None
        self.greeted = False
        self.synced = False
        self.acknowledged = Acknowledged(0, -1)
        self.sent = 0  # messages with events
        self.remaining = 0  # events the other end still has to send of what it had at first
        self.peer_is_durable = False
        self.peer_is_read_only = False
        self.peer_wants_acks = True
        self._acks = acks
        self._encoded = encoded
        self._any_kind = any_kind
        self._durable = durable
        self._shallow = shallow and can_write
        self._older = Older(document, accept)
        self._theirs: VersionVector = {}  # what the other end had at first
        self._presences = presences
        self._into, self._out = encoding.Link(), encoding.Link()
        self._answer: bytes | None = None  # why the link is closed
        self._number_out = self._number_in = 0
        self._hello_sent = False
        self._hello_id, self._hello_blank = "", False  # what HELLO says
        self._done_sent = False
        self._backlog_begun = False  # the other end's
        # Local versions: what the other end lacked at first; what was made since, before `_at`, and has not
        # come from there.
        self._backlog: list[tuple[int, int]] = []
        self._live: list[tuple[int, int]] = []
        self._at = 0
        self._chunk = CHUNK_EVENTS
        self._compressed = True  # whether the other end reads compressed columns
        self._start_due = False  # the other end is blank, and wants to begin at a version
        # The heads of the version that the other end begins at, and how far back it asked to begin; what is
        # still to be sent of the answer.
        self._asked: tuple[list[int], int] | None = None
        self._past: list[tuple[int, int]] = []
        self._past_link = encoding.Link()
        self._received = self._confirmed = 0  # messages with events, and those confirmed
        self._settled = 0  # of them those before the first that left events waiting for parents
        self._stored = self._stored_told = -1
        # Turns: an endless stream of one kind of message must not keep the others waiting.
        self._ack_was_last = False
        self._turns = [self._next_update, self._next_past, self._next_presence]
        self._shown: set[str] = set()
        self._to_show: dict[str, bytes] = {}
        self._peers_shown: set[str] = set()
        if not can_read and not can_write:
            self.fail(SyncError("this document may be neither read nor written"))

    @property
    def unconfirmed(self) -> bool:
        """Whether there is something new to acknowledge."""
        news = self._confirmed < self._received or self._stored_told < self._stored
        return news and self.peer_wants_acks

    @property
    def all_sent(self) -> bool:
        """Whether the other end has been sent, or had, all of the document that it may have.

        False if it does not take edits and lacks some that were made here.
        """
        if not self.can_read:
            return self.greeted
        if self._start_due or self._backlog or self._live:
            return False
        return self.greeted and self._at == self.document._events()

    @property
    def settled(self) -> bool:
        """Whether all that the other end had at first is in the document."""
        return self.synced and not self._older.busy

    # --- what the transport tells ---------------------------------------------------------------------------

    def fetch(self) -> None:
        """Ask the other end for all history from before the version that the document begins at, if any."""
        self._older.all_wanted = True

    def show(self, key: str, state: Any) -> None:
        """Tell the other end somebody's presence, which is not stored; None when they left.

        `SyncError` for a state that is no JSON or too large. Who may not read is told nothing, and beyond
        the first `MAX_PRESENCES` nobody is.
        """
        self.pass_on(key, encode_presence(key, state), gone=state is None)

    def pass_on(self, key: str, presence: bytes, *, gone: bool) -> None:
        """The same, as `encode_presence` has it: it is encoded once for many who are told."""
        if not self.can_read or self.closed is not None:
            return
        if gone:
            if key not in self._shown:
                return
            self._shown.discard(key)
        elif key not in self._shown:
            if len(self._shown) >= MAX_PRESENCES:
                return
            self._shown.add(key)
        # Behind those that wait already: a departure first, so that there are never too many.
        self._to_show.pop(key, None)
        self._to_show[key] = presence

    def mark(self) -> int:
        """A number for what has been received so far; give it to `stored` once that is durable.

        What waits for parents is not in the document yet, and does not count.
        """
        if self._settled < self._received and not self._waiting():
            self._settled = self._received
        return self._settled

    def stored(self, mark: int) -> None:
        """All that was received up to `mark` is durable here."""
        self._stored = max(self._stored, mark)

    def fail(self, error: EgwalkerError) -> None:
        """Close the link for a reason that the other end is told."""
        self._fail(error, error)

    def _fail(self, error: EgwalkerError, told: EgwalkerError) -> Closed:
        if self.closed is None:
            self._answer = encode_error(told)
            return self._close(error)
        return self.closed

    def _close(self, error: EgwalkerError | None) -> Closed:
        self.closed = Closed(error)
        self._backlog.clear()
        self._live.clear()
        self._past.clear()
        self._to_show.clear()
        return self.closed

    # --- out ------------------------------------------------------------------------------------------------

    def poll(self, *, confirm: bool = True) -> bytes | None:
        """The next message to send, None if there is none for now. What is wrong here closes the link.

        `confirm`: whether an acknowledgement may be sent now; later ones say the same and more.
        """
        try:
            message = self._poll(confirm)
        except EgwalkerError as error:
            self.fail(error)
            message = self._poll()
        if message is None:
            return None
        number = self._number_out
        self._number_out = (number + 1) % COUNTER
        return message[:1] + bytes([number]) + message[1:]

    def _poll(self, confirm: bool = True) -> bytes | None:
        """The next message without its number."""
        if self.closed is not None:
            answer, self._answer = self._answer, None
            return answer
        if not self._hello_sent:
            self._hello_sent = True
            return self._hello()
        self._retry()
        if not self.greeted:
            return None
        confirm = confirm and self.unconfirmed
        if not confirm or self._ack_was_last:
            self._ack_was_last = False
            message = self._next()
            if message is not None or not confirm:
                return message
        self._ack_was_last = True
        self._confirmed, self._stored_told = self._received, self._stored
        return b"".join([bytes([ACK]), varint(self._confirmed), varint(self._stored_told + 1)])

    def _hello(self) -> bytes:
        document = self.document
        with document._lock:
            if not self.greeted:
                self._note_identity()
            # What is held is the document's already: who may not read it has to send all.
            vector = document.version_vector if self.can_read else {}
            self._older.start_due = self._shallow and document._type.caches and document._replica.blank
        flags = BLANK * self._hello_blank | DURABLE * self._durable | READ_ONLY * (not self.can_write)
        flags |= NO_ACKS * (not self._acks)
        flags |= SHALLOW * self._older.start_due
        kind = document.kind.encode()
        self._out.add(list(vector))
        message = b"".join(
            [
                bytes([HELLO]),
                varint(PROTOCOL),
                varint(flags),
                bytes.fromhex(self._hello_id),
                varint(len(kind)),
                kind,
                encode_vector(vector),
            ]
        )
        if len(message) >= MAX_HELLO:
            raise SyncError(f"the version vector has {len(message)} bytes, at most {MAX_HELLO} are read")
        return message

    def _note_identity(self) -> None:
        """What HELLO says of the document, and what both ends go by."""
        document = self.document
        self._hello_id = document.id
        self._hello_blank = not (document._id_given or document._events() or document._replica.pending.events)

    def _next(self) -> bytes | None:
        """The next message with events or presence, or DONE."""
        document = self.document
        if self._idle and (not self.can_read or self._at == document._events()):
            return None  # as it is for most sessions most of the time
        with document._lock:
            if self.can_read:
                self._own(document._events())
            if (fetch := self._older.request()) is not None:
                return fetch
            if self._sends and self._start_due:
                self._start_due = False
                start = latest_start(document, self._compressed)
                if start is not None:
                    self._backlog = since(self._backlog, start.end)
                    self._live = since(self._live, start.end)
                    return bytes([START]) + start.blob
            if self._sends and self._backlog:
                blob, self._backlog = self._encode(self._backlog, self._out)
                self.sent += 1
                return b"".join([bytes([BACKLOG]), varint(length(self._backlog)), blob])
            if not self._done_sent:
                self._done_sent = True
                return bytes([DONE])
            for i, turn in enumerate(self._turns):
                message = turn()
                if message is not None:
                    self._turns = self._turns[i + 1 :] + self._turns[: i + 1]
                    return message
        return None

    @property
    def _idle(self) -> bool:
        """Whether nothing is to be sent, but for what the document got since it was looked at."""
        due = self._live or self._backlog or self._to_show or self._past or self._older.due
        return self._done_sent and not due and self._asked is None

    @property
    def _sends(self) -> bool:
        """Whether events go to the other end."""
        return self.can_read and not self.peer_is_read_only

    def _next_update(self) -> bytes | None:
        if not (self._sends and self._live):
            return None
        blob, self._live = self._encode(self._live, self._out)
        self.sent += 1
        return bytes([UPDATE]) + blob

    def _next_past(self) -> bytes | None:
        """The next part of the answer to FETCH."""
        if self._asked is not None:
            (heads, end), self._asked = self._asked, None
            start = encoded_start(self.document, end, self._compressed)
            begin = [start.end - 1] if start.end else []
            self._past = joined_up(diff(self.document._replica.read().graph, begin, heads).b_only)
            self._past_link = encoding.Link()
            return bytes([START]) + start.blob
        if not self._past:
            return None
        blob, self._past = self._encode(self._past, self._past_link, runs=False)
        return b"".join([bytes([PAST]), varint(length(self._past)), blob])

    def _next_presence(self) -> bytes | None:
        return self._to_show.pop(next(iter(self._to_show))) if self._to_show else None

    def _own(self, end: int) -> None:
        """What was made before `end` and has not been looked at is for the other end."""
        base = self.document._replica.base
        if self._at < base:
            # Another link has brought these, as ids only. The other end has them, or cannot get them here.
            graph = self.document._replica.log.graph
            if not covers(self._theirs, joined(graph.base_vector(), {})):
                graph.check_whole()
            self._at = base
        if self._at < end:
            if self._live and self._live[-1][1] == self._at:
                self._live[-1] = (self._live[-1][0], end)
            else:
                self._live.append((self._at, end))
            self._at = end

    def _encode(
        self, ranges: list[tuple[int, int]], link: encoding.Link, *, runs: bool = True
    ) -> tuple[bytes, list[tuple[int, int]]]:
        """An update with the first of these ranges, and what is left of them. `SyncError` if too large."""
        log = self.document._replica.log_from(ranges[0][0])
        taken, rest = split(ranges, self._chunk)
        if not log.values:
            return self._blob(log, taken, link, runs), rest
        # Values have any size: fewer of them if need be.
        names, expected = len(link.names), link.expected.copy()
        while True:
            blob = self._blob(log, taken, link, runs)
            count = length(taken)
            if len(blob) <= CHUNK_BYTES or count == 1:
                break
            for name in link.names[names:]:
                del link.numbers[name]
            del link.names[names:]
            link.expected[:] = expected
            self._chunk = max(1, min(count // 2, count * CHUNK_BYTES // len(blob)))
            taken, rest = split(ranges, self._chunk)
        self._chunk = min(2 * self._chunk, CHUNK_EVENTS)
        if len(blob) > MAX_MESSAGE - 16 and not runs:
            # One value. Those who read HISTORY ask for more bytes around it.
            blob = self._blob(log, taken, link, runs=True)
        if len(blob) > MAX_MESSAGE - 16:
            raise SyncError(f"a value takes {len(blob)} bytes, messages have at most {MAX_MESSAGE}")
        return blob, rest

    def _blob(self, log: OpLog, ranges: list[tuple[int, int]], link: encoding.Link, runs: bool) -> bytes:
        """An update of these ranges, encoded unless another session has done so from the same state."""
        encoded = self._encoded
        if encoded is None or self._backlog or link is not self._out or len(link.names) > SHARED_NAMES:
            return self._encode_anew(log, ranges, link, runs)
        before = (self._compressed, runs, *ranges, *link.names, *link.expected)
        found = encoded.get(before)
        if found is None:
            known = len(link.names)
            blob = self._encode_anew(log, ranges, link, runs)
            if len(encoded) >= SHARED_UPDATES:
                encoded.clear()
            encoded[before] = blob, link.names[known:], link.expected.copy()
            return blob
        blob, names, expected = found
        link.add(names)
        link.expected[:] = expected
        return blob

    def _encode_anew(
        self, log: OpLog, ranges: list[tuple[int, int]], link: encoding.Link, runs: bool
    ) -> bytes:
        doc_id = bytes.fromhex(self.document._id)
        return encoding.encode_update(log, doc_id, ranges, link, compressed=self._compressed, runs=runs)

    # --- in -------------------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> list[Event]:
        """Take a message that arrived; returns what it meant.

        What is malformed, out of order or not allowed closes the link: the last event is `Closed` then,
        `poll` has a message that says why, and the document is as it was. Duplicates are ignored; where a
        message is missing the link is closed without an error, and a new one brings it.
        """
        if self.closed is not None:
            return []
        try:
            event = self._receive(message)
        except EgwalkerError as error:
            told = error
            if not self.can_read and message[:1] in UPDATES:
                # Whether it fits the document is for those to know who may read it.
                told = SyncError("what was sent is refused")
            return [self._fail(error, told)]
        except Exception as error:
            # A hook that is broken, say: not for the other end to know, but for whoever runs this one.
            self._fail(SyncError(f"an internal error: {error!r}"), SyncError("an internal error"))
            raise
        return [] if event is None else [event]

    def _receive(self, message: bytes) -> Event | None:
        if len(message) < 2:
            raise SyncError(f"a message has {len(message)} bytes")
        if len(message) > MAX_MESSAGE:
            raise SyncError(f"a message has {len(message)} bytes, at most {MAX_MESSAGE} are read")
        kind = message[0]
        if kind not in NAMES:
            raise SyncError(f"a message is of the unknown type {kind}")
        if kind == ERROR:
            return self._close(decode_error(message))
        late = (self._number_in - message[1]) % COUNTER
        if late:
            # Seen already; or one is lost. A new link brings it, and all else: nobody is to blame.
            return None if late < COUNTER // 2 else self._close(None)
        if (kind == HELLO) == self.greeted:
            raise SyncError(f"{NAMES[kind]} came {'twice' if self.greeted else 'before HELLO'}")
        if (kind == UPDATE and not self.synced) or (kind in (BACKLOG, DONE) and self.synced):
            raise SyncError(f"{NAMES[kind]} came {'after' if self.synced else 'before'} DONE")
        try:
            event = self._understand(kind, message)
        except DecodeError as error:
            raise SyncError(f"{NAMES[kind]}: {error}") from error
        self._number_in = (message[1] + 1) % COUNTER
        return event

    def _understand(self, kind: int, message: bytes) -> Event | None:
        if kind == UPDATE:
            return self._update(message[2:])
        if kind == ACK:
            return self._acknowledge(Reader(message, 2))
        if kind == PRESENCE:
            return self._presence(message)
        if kind == HELLO:
            return self._greet(message)
        if kind == FETCH:
            self._fetch(message)
            return None
        if kind == START:
            return self._begin(message[2:])
        if kind == PAST:
            with self.document._lock:
                remaining = self._take(lambda: self._older.past(Reader(message, 2)))
            self.document._feed.deliver()
            return Deepened(remaining)
        self._older.start_due = False
        if kind == BACKLOG:
            reader = Reader(message, 2)
            remaining = reader.number()
            if self._backlog_begun and remaining >= self.remaining:
                raise SyncError(f"{remaining} events are said to remain, of {self.remaining}")
            event = self._update(message[reader.at :], remaining)
            self._backlog_begun = True
            self.remaining = remaining
            return event
        Reader(message, 2).end()
        if self.remaining:
            raise SyncError(f"DONE came before {self.remaining} events")
        self.synced = True
        return Synced()

    def _greet(self, message: bytes) -> Event:
        if len(message) > MAX_HELLO:
            raise SyncError(f"HELLO has {len(message)} bytes, at most {MAX_HELLO} are read")
        reader = Reader(message, 2)
        protocol = reader.number()
        if protocol != PROTOCOL:
            raise SyncError(f"the other end speaks version {protocol} of the protocol, this one {PROTOCOL}")
        flags = reader.number()
        doc_id = reader.take(encoding.ID_BYTES[encoding.WHOLE_ID]).hex()
        kind = reader.text()
        vector = decode_vector(reader)
        document = self.document
        with document._lock:
            if not self._hello_sent:
                self._note_identity()
            if kind != document.kind:
                takes_on = self._any_kind and self.can_write and self._hello_blank and not self._hello_sent
                if not takes_on or document._replica.branches:
                    raise KindError(
                        f"the other end has a document of kind {kind!r:.80}, this one is of {document.kind!r}"
                    )
                document._begin(empty(kind))
            if not self._identify(doc_id, bool(flags & BLANK)):
                return self._close(None)
            self._theirs = vector
            self._start_due = self.can_read and bool(flags & SHALLOW) and not vector
            if self.can_read:
                self._backlog = self._lacking(vector)
                self._at = document._events()
        self.peer_is_durable = bool(flags & DURABLE)
        self.peer_is_read_only = bool(flags & READ_ONLY)
        self._compressed = not flags & PLAIN
        self.peer_wants_acks = not flags & NO_ACKS
        self._into.add(list(vector))
        self.greeted = True
        return Greeted(vector)

    def _identify(self, doc_id: str, blank: bool) -> bool:
        """Agree on an id, by what both HELLOs say alone. `IdentityError`.

        False if the document has taken on another id since: a new HELLO must say so.
        """
        document = self.document
        mine = self._hello_id
        if doc_id == mine or (blank and not self._hello_blank):
            agreed = mine
        elif not self._hello_blank:
            raise IdentityError(f"the other end has document {doc_id}, this is {mine}")
        else:
            agreed = min(mine, doc_id) if blank else doc_id
        if document._id != agreed:
            if document._id_given:
                return False
            document._id = agreed
        if not self._hello_sent:
            self._hello_id, self._hello_blank = agreed, False
        document._id_given = True
        return True

    def _lacking(self, vector: VersionVector) -> list[tuple[int, int]]:
        """What somebody with this version vector lacks. If that is nothing, no history is read for it."""
        document = self.document
        if not document._events():
            return []
        if not vector:
            if document._replica.base and not self._start_due:
                document._replica.log.graph.check_whole()
            return [(0, document._events())]
        return joined_up(document._replica.lacking(vector))

    def _update(self, blob: bytes, remaining: int = 0) -> Event:
        if not self.can_write:
            raise SyncError("an edit came from who may not write")
        if len(self._into.names) > MAX_NAMES:
            raise SyncError(f"more than {MAX_NAMES} agents were named")
        document = self.document
        with document._lock:
            encoded = encoding.parse_linked(blob, bytes.fromhex(document._id), self._into)
            waiting = self._waiting()
            change = self._take(lambda: self._older.take(encoded))
            left = self._waiting()
        self._received += 1
        if not left or (left <= waiting and self._settled == self._received - 1):
            self._settled = self._received
        document._feed.deliver()
        return Changed(change, remaining)

    def _waiting(self) -> int:
        """How many events wait, for their parents or for older history."""
        return self.document._replica.pending.events + self._older.late

    def _take(self, take: Callable[[], T]) -> T:
        """Let `take` bring in what came from the other end, which need not go back there."""
        document = self.document
        waiting = self._waiting()
        if self.can_read:
            self._own(document._events())
        found = take()
        if self.can_read and not waiting:
            # Else something that waited may have come in, from elsewhere: it goes back with all of it.
            self._at = document._events()
        return found

    def _retry(self) -> None:
        """Bring in what waited for older history, if that is here by now."""
        if self._older.busy:
            with self.document._lock:
                self._older.retry()
            self.document._feed.deliver()

    def _begin(self, blob: bytes) -> Event:
        """START came: where the document begins now, or will when the PASTs have come."""
        document = self.document
        with document._lock:
            change = self._take(lambda: self._older.start(blob))
        document._feed.deliver()
        return Deepened(0) if change is None else Changed(change, 0)

    def _fetch(self, message: bytes) -> None:
        """The other end begins in the middle and asks for what was before."""
        if not self.can_read:
            raise SyncError("older history is asked for by who may not read")
        if len(message) > MAX_FETCH:
            raise SyncError(f"FETCH has {len(message)} bytes, at most {MAX_FETCH} are read")
        if self._asked is not None or self._past:
            raise SyncError("older history is asked for before the last answer has been sent")
        reader = Reader(message, 2)
        heads, wanted = decode_ids(reader), decode_ids(reader)
        reader.end()
        if not heads:
            raise SyncError("there is no history before the root to ask for")
        with self.document._lock:
            graph = self.document._replica.read().graph
            begin, kept = to_local(graph, heads), to_local(graph, wanted)
            self._asked = begin, graph.last_critical(min(begin + kept)) + 1 if kept else 0

    def _acknowledge(self, reader: "Reader") -> Event:
        received, durable = reader.number(), reader.number() - 1
        reader.end()
        old = self.acknowledged
        if not old.received <= received <= self.sent or not old.durable <= durable <= received:
            raise SyncError(f"{received} messages are said to be received, {durable} durable, of {self.sent}")
        self.acknowledged = Acknowledged(received, durable)
        return self.acknowledged

    def _presence(self, message: bytes) -> Event:
        key, state = decode_presence(message)
        if state is None:
            self._peers_shown.discard(key)
        elif key not in self._peers_shown:
            if len(self._peers_shown) >= self._presences:
                raise SyncError(f"more than {self._presences} presences came")
            self._peers_shown.add(key)
        return Presence(key, state)


def split(ranges: list[tuple[int, int]], room: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The first `room` numbers in some ranges, and the rest of them.

    >>> split([(0, 5), (7, 9)], 6)
    ([(0, 5), (7, 8)], [(8, 9)])
    """
    for i, (start, end) in enumerate(ranges):
        if end - start > room:
            cut = start + room
            first = ranges[:i]
            return ([*first, (start, cut)] if room else first), [(cut, end), *ranges[i + 1 :]]
        room -= end - start
    return ranges, []


def since(ranges: list[tuple[int, int]], at: int) -> list[tuple[int, int]]:
    """The numbers in some ranges from `at` on.

    >>> since([(0, 5), (7, 9)], 3)
    [(3, 5), (7, 9)]
    """
    return [(max(start, at), end) for start, end in ranges if end > at]


def length(ranges: list[tuple[int, int]]) -> int:
    """How many numbers are in some ranges."""
    return sum([end - start for start, end in ranges])


def joined_up(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending ranges, those that touch made one.

    >>> joined_up([(0, 2), (2, 3), (5, 6)])
    [(0, 3), (5, 6)]
    """
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
