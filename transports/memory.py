"""Links within one process: a network in virtual time with faults, for tests, and `memory:` URLs."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, NoReturn

from egwalker import hookimpl
from egwalker.cycore.errors import EgwalkerError, SyncError
from egwalker.document import Document
from egwalker.events import logger
from egwalker.hub import Hub, Permission, Place
from egwalker.links import Channel, Link
from egwalker.session import Closed, Event, Session
from egwalker.transport import Linked, Transport

# --- a network in virtual time ------------------------------------------------------------------------------

TIMEOUT = 2.0
"""After how many virtual seconds whoever carries messages finds out that one is lost, if no gap shows it."""
AGAIN = 0.1
"""How many virtual seconds it takes to connect again."""
MOST_EXCHANGES = 1000
"""Before `settle` gives up."""
LATE = 100
"""How many messages of a session may overtake one: fewer than a session tells from a lost one."""


class End:
    """One end of a wire: a document, and its session while there is a connection."""

    def __init__(self, wire: Wire, number: int, document: Document, options: Mapping[str, Any]) -> None:
        self.wire = wire
        self.number = number
        self.document = document
        self.options = dict(options)
        self.session: Session | None = None
        self.error: EgwalkerError | None = None  # why there is no connection any more
        self._sent = 0  # messages of this session
        self._arrived = 0  # of the other one, by their highest number
        self._last = 0.0  # when the last message will arrive

    def __repr__(self) -> str:
        return f"<End of {self.document!r}>"


class Wire:
    """A connection of two documents, made by `Network.link`; a new one takes its place when it breaks."""

    def __init__(self, number: int, a: Document, b: Document, options: Iterable[Mapping[str, Any]]) -> None:
        self.number = number
        self.ends = tuple(
            End(self, i, document, some)
            for i, (document, some) in enumerate(zip((a, b), options, strict=True))
        )
        self.cut = False  # by a partition
        self.removed = False
        self._pair = 0  # number of the connection
        self._lost = False  # whether a message of it is

    @property
    def connected(self) -> bool:
        """Whether there are sessions at both ends."""
        return self.ends[0].session is not None

    @property
    def failed(self) -> bool:
        """Whether one end refused the other, so that there are no more connections."""
        return any(end.error is not None for end in self.ends)

    def __repr__(self) -> str:
        state = "failed" if self.failed else "connected" if self.connected else "not connected"
        return f"<Wire {self.number}: {self.ends[0].document.agent} - {self.ends[1].document.agent}, {state}>"


class Network:
    """Documents linked by sessions over wires that fail, in virtual time. The same seed does the same again.

    Each message is lost with probability `loss`, arrives twice with `duplication`, may overtake others with
    `reorder`, and takes a random time within `delay`. A session that notices a gap closes; where none shows
    it, the wire notices after `timeout`. Both make a new pair of sessions then. Nothing happens but in
    `step`, `run` and `settle`; documents are edited in between as ever.

    >>> from egwalker import Document
    >>> ann = Document(agent="ann"); bob = ann.fork("bob")
    >>> network = Network(seed=1, loss=0.3, duplication=0.5, reorder=0.2)
    >>> wire = network.link(ann, bob)
    >>> ann.insert(0, "hello"); network.run(5.0); bob.insert(0, ">")
    >>> network.settle(), str(ann), str(bob)
    (2, '>hello', '>hello')
    """

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        reorder: float = 0.0,
        delay: tuple[float, float] = (0.01, 0.1),
        timeout: float = TIMEOUT,
        on_event: Callable[[End, Event], None] | None = None,
    ) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.duplication = duplication
        self.reorder = reorder
        self.delay = delay
        self.timeout = timeout
        self.on_event = on_event
        self.now = 0.0
        self.wires: list[Wire] = []
        self.trace: list[tuple[float, int, int, bytes]] | None = None
        """What arrived, if this is made a list: when, on which wire, from which of its ends, the message."""
        self._queue: list[tuple[float, int, Callable[..., None], Any]] = []
        self._outbox: list[tuple[End, int, int, bytes]] | None = None  # while settling
        self._count = 0
        self._ends: dict[Document, list[End]] = {}

    def __repr__(self) -> str:
        return f"<Network of {len(self._ends)} documents and {len(self.wires)} wires at {self.now:.3f}>"

    # --- wires ----------------------------------------------------------------------------------------------

    def link(
        self,
        a: Document,
        b: Document,
        *,
        a_options: Mapping[str, Any] | None = None,
        b_options: Mapping[str, Any] | None = None,
    ) -> Wire:
        """Link two documents. The options are those of `Session` at each end, such as `can_write=False`."""
        if a is b:
            raise ValueError("a document is linked to another one")
        wire = Wire(len(self.wires), a, b, (a_options or {}, b_options or {}))
        self.wires.append(wire)
        for end in wire.ends:
            self._ends.setdefault(end.document, []).append(end)
        self._connect(wire)
        return wire

    def disconnect(self, wire: Wire) -> None:
        """Break a connection: what is underway on it is lost. A new one is made soon."""
        self._break(wire)
        self._connect_later(wire)

    def remove(self, wire: Wire) -> None:
        """Break a connection for good."""
        self._break(wire)
        wire.removed = True

    def partition(self, *groups: Iterable[Document]) -> None:
        """Cut all wires between documents of different groups; those in none are one group more."""
        group_of = {document: i for i, group in enumerate(groups) for document in group}
        for wire in self.wires:
            one, other = [group_of.get(end.document, -1) for end in wire.ends]
            wire.cut = one != other
            if wire.cut:
                self._break(wire)
            elif not wire.connected:
                self._connect_later(wire)

    def heal(self) -> None:
        """End the partition; what was cut connects again soon."""
        for wire in self.wires:
            if wire.cut:
                wire.cut = False
                self._connect_later(wire)

    def _connect(self, wire: Wire) -> None:
        if wire.connected or wire.cut or wire.removed or wire.failed:
            return
        wire._pair += 1
        wire._lost = False
        for end in wire.ends:
            end.session = self._session(end)
            end._sent = end._arrived = 0
            end._last = self.now
        self._flush(wire.ends)

    def _session(self, end: End) -> Session:
        """One end of a new connection."""
        return Session(end.document, **end.options)

    def _connect_later(self, wire: Wire) -> None:
        if self._outbox is None:
            self._later(AGAIN * self.random.uniform(0.5, 1.5), self._connect, wire)
        else:
            self._connect(wire)

    def _break(self, wire: Wire) -> None:
        wire._pair += 1
        for end in wire.ends:
            end.session = None

    # --- messages -------------------------------------------------------------------------------------------

    def _flush(self, ends: Iterable[End]) -> None:
        """Send what sessions have to say."""
        for end in ends:
            while end.session is not None and (message := end.session.poll()) is not None:
                self._send(end, message)

    def _flush_all(self) -> None:
        for wire in self.wires:
            self._flush(wire.ends)

    def _send(self, end: End, message: bytes) -> None:
        """Put a message onto the wire, which does with it what it likes."""
        wire, number = end.wire, end._sent
        end._sent += 1
        if self._outbox is not None:
            self._outbox.append((end, wire._pair, number, message))
            return
        random = self.random
        if random.random() < self.loss:
            self._lose(wire)
        else:
            self._carry(end, number, message)
        if random.random() < self.duplication:
            self._carry(end, number, message)

    def _carry(self, end: End, number: int, message: bytes) -> None:
        arrival = self.now + self.random.uniform(*self.delay)
        if self.random.random() >= self.reorder:
            arrival = end._last = max(end._last, arrival)
        self._later(arrival - self.now, self._arrive, end, end.wire._pair, number, message)

    def _lose(self, wire: Wire) -> None:
        if not wire._lost:
            wire._lost = True
            self._later(self.timeout, self._notice, wire, wire._pair)

    def _notice(self, wire: Wire, pair: int) -> None:
        if wire._pair == pair:
            self.disconnect(wire)

    def _arrive(self, source: End, pair: int, number: int, message: bytes) -> None:
        wire = source.wire
        end = wire.ends[1 - source.number]
        if wire._pair != pair or end.session is None or number < end._arrived - LATE:
            return
        end._arrived = max(end._arrived, number)
        if self.trace is not None:
            self.trace.append((self.now, wire.number, source.number, message))
        for event in end.session.receive(message):
            if isinstance(event, Closed):
                if event.error is None:
                    self.disconnect(wire)
                end.error = event.error
            if self.on_event is not None:
                self.on_event(end, event)
        if self._outbox is None:
            if self.on_event is None:
                self._flush(self._ends[end.document])
            else:
                self._flush_all()  # it may have edited any document

    # --- time -----------------------------------------------------------------------------------------------

    def _later(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, action, args))

    def step(self) -> bool:
        """Let the next thing happen; whether there was one."""
        self._flush_all()
        return self._next()

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        self._flush_all()
        while self._queue and self._queue[0][0] <= end:
            self._next()
        self.now = end

    def _next(self) -> bool:
        if not self._queue:
            return False
        self.now, _, action, args = heapq.heappop(self._queue)
        action(*args)
        return True

    def settle(self, after_each: Callable[[], object] | None = None) -> int:
        """Heal all, and let everybody talk until there is silence. Returns how many exchanges that took.

        In an exchange all that anybody has to say arrives, without faults; `after_each` is called then. Two
        need up to three: who they are, what the other one lacks, and that it has come. Each further hop takes
        one more, and so do circles, in which some things come from two sides.
        """
        underway = [args for _, _, action, args in self._queue if action == self._arrive]
        underway.sort(key=lambda args: (args[0].wire.number, args[0].number, args[1], args[2]))
        self._queue.clear()
        self._outbox = underway
        exchanges = 0
        try:
            for wire in self.wires:
                wire.cut = False
                if wire._lost:
                    self._break(wire)
                self._connect(wire)
            self._flush_all()
            while self._outbox:
                exchanges += 1
                if exchanges > MOST_EXCHANGES:
                    raise RuntimeError(f"after {MOST_EXCHANGES} exchanges there is no silence")
                arriving, self._outbox = self._outbox, []
                self.now += self.delay[1]
                for args in arriving:
                    self._arrive(*args)
                if after_each is not None:
                    after_each()
                self._flush_all()
        finally:
            self._outbox = None
        return exchanges


# --- channels and URLs --------------------------------------------------------------------------------------

QUEUE = 64
"""Messages that wait in a channel before its sender has to."""


class MemoryChannel:
    """One end of a connection within an event loop. See `egwalker.links.Channel`.

    >>> async def talk():
    ...     a, b = MemoryChannel.pair()
    ...     a.write(b"hello")
    ...     await a.close()
    ...     return await b.receive(), await b.receive()
    >>> asyncio.run(talk())
    (b'hello', None)
    """

    def __init__(self, into: deque[bytes], out: deque[bytes], state: _State) -> None:
        self._into = into
        self._out = out
        self._state = state

    @classmethod
    def pair(cls) -> tuple[MemoryChannel, MemoryChannel]:
        """Both ends."""
        one: deque[bytes] = deque()
        other: deque[bytes] = deque()
        state = _State()
        return cls(one, other, state), cls(other, one, state)

    def write(self, message: bytes) -> bool:
        """Send a message; whether another one may follow at once. `ConnectionError` at the end."""
        if self._state.closed:
            raise ConnectionResetError("the channel is closed")
        self._out.append(message)
        self._state.wake()
        return len(self._out) < QUEUE

    async def drain(self) -> None:
        """Wait while too many messages wait for the other end. `ConnectionError` if it is gone."""
        await self._state.wait_until(lambda: len(self._out) < QUEUE)
        if self._state.closed:
            raise ConnectionResetError("the channel is closed")

    async def receive(self) -> bytes | None:
        """The next message, None at the end."""
        await self._state.wait_until(lambda: bool(self._into))
        if not self._into:
            return None
        message = self._into.popleft()
        self._state.wake()
        return message

    async def close(self) -> None:
        """Let go of it. What was sent before can still be received."""
        self._state.closed = True
        self._state.wake()


class _State:
    """What both ends of a channel share."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Let those who wait look again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait_until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true, or the channel is closed."""
        while not true() and not self.closed:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future


class MemoryPlace:
    """Where a document of this process is: nowhere else, so nothing becomes durable."""

    durable = False

    def __init__(self, document: Document) -> None:
        self.document = document

    async def commit(self) -> None:
        """Nothing can be done."""

    async def close(self) -> None:
        """The document stays in the process."""


class Memory:
    """`memory:NAME`: documents that live as long as the process, one for each name.

    Whoever connects first says of what kind a document is.
    """

    name = "memory"
    schemes = ("memory",)

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def connect(self, url: str, document: Document, **options: Any) -> AbstractAsyncContextManager[Linked]:
        """Link a document to the one of that name. `SyncError` if the URL has no name.

        Options: `read` and `write`, the rights; the others are those of `egwalker.links.Link`.
        """
        name = name_of(url)
        permission = Permission(document.agent, options.pop("read", True), options.pop("write", True))

        async def open_channel() -> Channel:
            self.documents.setdefault(name, Document(document.kind))
            here, there = MemoryChannel.pair()
            task = asyncio.create_task(self._serve(name, there, permission))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            return here

        return Link(document, open_channel, **options)

    async def place(self, url: str, kind: str) -> NoReturn:
        """There is none: what is in memory is not kept."""
        raise NotImplementedError(f"{url}: what is in memory is not kept, for a document of kind {kind!r}")

    async def _serve(self, name: str, channel: Channel, permission: Permission) -> None:
        try:
            async with self._hub().room(name) as room:
                await room.serve(channel, permission)
        except EgwalkerError as error:
            logger.error("memory:%s: %s", name, error)
        finally:
            await channel.close()

    def _hub(self) -> Hub:
        """The hub of the running event loop: its tasks are in that loop."""
        for loop in [loop for loop in self._hubs if loop.is_closed()]:
            del self._hubs[loop]
        loop = asyncio.get_running_loop()
        if loop not in self._hubs:
            self._hubs[loop] = Hub(self._open_place)
        return self._hubs[loop]

    async def _open_place(self, name: str) -> Place:
        return MemoryPlace(self.documents[name])


def name_of(url: str) -> str:
    """The name in a URL. `SyncError` if there is none."""
    name = url.partition(":")[2].strip("/")
    if not name:
        raise SyncError(f"a URL such as memory:notes names a document, unlike {url!r:.200}")
    return name


@hookimpl
def register_transports(register: Callable[[Transport], None]) -> None:
    register(Memory())
