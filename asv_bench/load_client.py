"""Many WebSocket clients in one process, for `load.py`: one epoll loop, and both protocols.

A few clients are *full*: they hold the document, and say when a keystroke has arrived in it. All others are
*light*: after the handshake they count the keystrokes in what they get, and answer as a full one would. Each
typist types a character of its own, so that both can be told by their bytes: nothing else in a document has
them. The same loop and the same counting serve both protocols.
"""

from __future__ import annotations

import base64
import os
import random
import re
import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from zlib import crc32

from egwalker import Document, encoding
from egwalker.cycore.columns import varint
from egwalker.messages import ACK, COUNTER, UPDATE
from egwalker.session import Changed, Session

if TYPE_CHECKING:
    from pycrdt import Doc, Text

FIRST_CHAR = 0x4E00
"""What the first typist types; the others the next ones, up to `MAX_TYPISTS`."""
MAX_TYPISTS = 64
TYPED = re.compile(rb"\xe4\xb8[\x80-\xbf]")
CHAR_BYTES = 3

BATCH = 50
"""So many clients connect at a time."""
READ = 256 << 10
"""Bytes that are read at once."""
UNREAD_BUFFER = 4096
"""Of who never reads: what the kernel keeps for them is the server's to cope with."""
PHASES = 16
"""With a lag, full clients look in so many groups, one after another."""
PONG, CLOSE, PING = 0x8A, 0x88, 0x89
KNOWN = 4096
"""Compressed messages whose keystrokes have been counted and are remembered."""


class Room:
    """One document: who types what, and when."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sent: list[list[float]] = []  # by typist, when each keystroke was made
        self.readers = 0  # clients that read, typists among them
        self.arrivals = 0
        self.latencies: list[float] = []

    def arrived(self, seen: dict[int, int], text: str) -> int:
        """Some text has appeared in a replica that had seen so much of each typist; how many keystrokes."""
        now = time.monotonic()
        count = 0
        for char in text:
            typist = ord(char) - FIRST_CHAR
            if 0 <= typist < len(self.sent):
                index = seen.get(typist, 0)
                seen[typist] = index + 1
                self.latencies.append(now - self.sent[typist][index])
                count += 1
        return count


class Speaker(Protocol):
    """One client's part of a protocol."""

    ready: bool  # the handshake is over

    def begin(self) -> Iterable[bytes]:
        """What is sent first."""
        ...

    def take(self, message: bytes) -> int:
        """Take a message; how many keystrokes of others have arrived with it."""
        ...

    def answers(self) -> Iterable[bytes]:
        """What is to be sent after all messages of one read were taken."""
        ...


class Typist(Speaker, Protocol):
    """One that types."""

    def strike(self) -> Iterable[bytes]:
        """Make a keystroke."""
        ...


# --- our protocol -------------------------------------------------------------------------------------------


class OurFull:
    """A session over a document."""

    def __init__(self, room: Room, typist: int | None = None, *, first: bool = False) -> None:
        self.ready = False
        self._room = room
        self._first = first
        self.document = Document()
        if first:
            self.document.insert(0, room.text)
        self._session = Session(self.document)
        self._seen: dict[int, int] = {}
        self._sent: list[float] = []
        self._char, self._cursor = own_char(room, typist, self._sent)

    def begin(self) -> Iterable[bytes]:
        return self.answers()

    def take(self, message: bytes) -> int:
        count = 0
        for event in self._session.receive(message):
            if isinstance(event, Changed):
                for pos, _, inserted in event.change.edits:
                    count += self._room.arrived(self._seen, inserted)
                    if pos <= self._cursor and self.ready:
                        self._cursor += len(inserted)
        session = self._session
        if session.closed is not None:
            raise ConnectionError(str(session.closed.error))
        told = session.acknowledged
        confirmed = told.durable if session.peer_is_durable else told.received
        self.ready = session.synced and (not self._first or confirmed == session.sent)
        return count

    def answers(self) -> Iterable[bytes]:
        found = []
        while (message := self._session.poll()) is not None:
            found.append(message)
        return found

    def strike(self) -> Iterable[bytes]:
        self._sent.append(time.monotonic())
        self.document.insert(self._cursor, self._char)
        self._cursor += 1
        return self.answers()

    @property
    def content(self) -> str:
        return str(self.document)


class OurLight:
    """A session until both ends have all; then what it would send, without the document."""

    def __init__(self) -> None:
        self.ready = False
        self._session: Session | None = Session(Document())
        self._acks = True
        self._number = 0
        self._received = self._confirmed = 0

    def begin(self) -> Iterable[bytes]:
        return self.answers()

    def take(self, message: bytes) -> int:
        if message[0] == UPDATE and self.ready:
            self._received += 1
            return count_ours(message)
        if self._session is not None:
            for event in self._session.receive(message):
                self._received += isinstance(event, Changed)
            self.ready = self._session.synced
        return 0

    def answers(self) -> Iterable[bytes]:
        found: list[bytes] = []
        if self._session is not None:
            while (message := self._session.poll()) is not None:
                found.append(message)
            self._number += len(found)
            if self.ready:
                self._acks = self._session.peer_wants_acks
                self._session = None
                self._confirmed = self._received
        elif self._acks and self._confirmed < self._received:
            self._confirmed = self._received
            found.append(bytes([ACK, self._number % COUNTER]) + varint(self._received) + varint(0))
            self._number += 1
        return found


counted: dict[bytes, int] = {}


def count_ours(message: bytes) -> int:
    """How many keystrokes an UPDATE has. What is compressed is decompressed, once for all who get it."""
    if len(message) < encoding.WORTH_COMPRESSING:
        return len(TYPED.findall(message))
    blob = message[2:]
    count = counted.get(blob)
    if count is None:
        found = encoding.parse_linked(blob, bytes(16), encoding.Link())
        if encoding.HISTORY in found.chunks:
            chunk = found.chunks[encoding.HISTORY]
            columns = encoding.parse_columns(blob[chunk.at : chunk.end - encoding.CHECKSUM], len(blob))
            parts = [encoding.expand(column, "", None) for column in columns]
        else:
            parts = [blob]
        count = sum([len(TYPED.findall(part)) for part in parts])
        if len(counted) >= KNOWN:
            counted.clear()
        counted[blob] = count
    return count


# --- that of Yjs --------------------------------------------------------------------------------------------


class TheirFull:
    """A Yjs document, and the sync protocol."""

    def __init__(self, room: Room, typist: int | None = None, *, first: bool = False) -> None:
        import pycrdt  # noqa: PLC0415  (may be absent)

        self.ready = False
        self._pycrdt = pycrdt
        self._room = room
        self._doc: Doc[Any] = pycrdt.Doc()
        self._text: Text = self._doc.get("text", type=pycrdt.Text)
        if first:
            self._text += room.text
        self._out: list[bytes] = []
        self._count = 0
        self._local = False
        self._observed = (self._text.observe(self._edited), self._doc.observe(self._updated))
        self._seen: dict[int, int] = {}
        self._sent: list[float] = []
        self._char, self._cursor = own_char(room, typist, self._sent)

    def begin(self) -> Iterable[bytes]:
        return [self._pycrdt.create_sync_message(self._doc)]

    def take(self, message: bytes) -> int:
        self._count = 0
        if message[0] == self._pycrdt.YMessageType.SYNC:
            reply = self._pycrdt.handle_sync_message(message[1:], self._doc)
            if reply is not None:
                self._out.append(reply)
            if message[1] == self._pycrdt.YSyncMessageType.SYNC_STEP2:
                self.ready = True
        return self._count

    def _edited(self, event: Any) -> None:
        if self._local:
            return
        at = 0
        for part in event.delta:
            at += part.get("retain", 0)
            inserted = part.get("insert", "")
            if inserted:
                self._count += self._room.arrived(self._seen, inserted)
                size = len(inserted.encode())
                if at <= self._cursor and self.ready:
                    self._cursor += size
                at += size

    def _updated(self, event: Any) -> None:
        if self._local:
            self._out.append(self._pycrdt.create_update_message(event.update))

    def answers(self) -> Iterable[bytes]:
        found, self._out = self._out, []
        return found

    def strike(self) -> Iterable[bytes]:
        self._sent.append(time.monotonic())
        self._local = True
        self._text.insert(self._cursor, self._char)
        self._local = False
        self._cursor += CHAR_BYTES
        return self.answers()

    @property
    def content(self) -> str:
        return str(self._text)


class TheirLight:
    """The sync protocol of an empty document, without it."""

    def __init__(self) -> None:
        import pycrdt  # noqa: PLC0415

        self.ready = False
        self._step1 = pycrdt.create_sync_message(pycrdt.Doc())
        self._out: list[bytes] = []

    def begin(self) -> Iterable[bytes]:
        return [self._step1]

    def take(self, message: bytes) -> int:
        if message[0] == 0 and message[1] == 2:  # an update
            return len(TYPED.findall(message)) if self.ready else 0
        if message[:2] == b"\0\0":
            self._out.append(b"\0\1\2\0\0")  # what an empty document has
        elif message[:2] == b"\0\1":
            self.ready = True
        return 0

    def answers(self) -> Iterable[bytes]:
        found, self._out = self._out, []
        return found


def own_char(room: Room, typist: int | None, sent: list[float]) -> tuple[str, int]:
    """What a typist types, and where at first."""
    if typist is None:
        return "", 0
    assert typist == len(room.sent)
    room.sent.append(sent)
    return chr(FIRST_CHAR + typist), (typist * 7919) % (len(room.text) + 1)


# --- sockets ------------------------------------------------------------------------------------------------


def framed(message: bytes) -> bytes:
    """A binary frame. It is masked with zeros, which leaves it as it is."""
    size = len(message)
    if size < 126:
        return b"\x82" + bytes([0x80 | size]) + b"\0\0\0\0" + message
    if size < 1 << 16:
        return b"\x82\xfe" + struct.pack(">H", size) + b"\0\0\0\0" + message
    return b"\x82\xff" + struct.pack(">Q", size) + b"\0\0\0\0" + message


class Client:
    """A connection."""

    def __init__(self, port: int, room: Room, speaker: Speaker, *, reads: bool = True) -> None:
        self.room = room
        self.speaker = speaker
        self.reads = reads
        self.full = isinstance(speaker, OurFull | TheirFull)
        self.messages = 0
        self.open = False  # the upgrade is done
        self.waits = b""  # what could not be sent yet
        self._rest = b""  # the beginning of a frame
        self.socket = socket.socket()
        if not reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BUFFER)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        key = base64.b64encode(os.urandom(16)).decode()
        self.send_raw(
            f"GET /{room.name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def send_raw(self, data: bytes) -> None:
        """Send what there is, or keep it until the socket takes it."""
        if self.waits:
            self.waits += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.waits = data[sent:]

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages."""
        data = b"".join([framed(message) for message in messages])
        if data:
            self.send_raw(data)

    def read(self) -> int:
        """Read what is there; how many keystrokes arrived. `ConnectionError` at the end."""
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("the server closed the connection")
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if not self.open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return 0
            if not data.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(f"the server answers {data[:60]!r}")
            self.open = True
            at = end + 4
            self.send(self.speaker.begin())
        count = 0
        take = self.speaker.take
        while size - at >= 2:
            head, length = data[at], data[at + 1]
            begin = at + 2
            if length == 126:
                begin += 2
                if size < begin:
                    break
                length = data[begin - 2] << 8 | data[begin - 1]
            elif length == 127:
                begin += 8
                if size < begin:
                    break
                length = int.from_bytes(data[begin - 8 : begin], "big")
            end = begin + length
            if end > size:
                break
            at = end
            if head == 0x82:
                self.messages += 1
                count += take(data[begin:end])
            elif head == PING:
                self.send_raw(bytes([PONG, 0x80 | length]) + b"\0\0\0\0" + data[begin:end])
            elif head == CLOSE:
                raise ConnectionError(f"the server closes: {data[begin : begin + length]!r}")
            elif head != PONG:
                raise ConnectionError(f"a frame begins with {head:#x}")
        self._rest = data[at:]
        self.send(self.speaker.answers())
        return count


class Struck(NamedTuple):
    """What a step did."""

    rate: float
    typed: int
    delivered: float  # of what was to be delivered, the part that was
    deliveries: int
    seconds: float  # from the first keystroke to the last arrival
    latencies: list[float]
    busy: float  # the part of one processor's time that this process used
    late: float  # how far behind its schedule the last keystroke was typed
    messages: int


class Crowd:
    """All clients. Full ones look at what has arrived every `lag` seconds only, and others at once."""

    def __init__(self, port: int, lag: float = 0.0) -> None:
        self.port = port
        self._tick, self._ticks = lag / PHASES, 0
        self._turn: set[int] = set()
        self.errors: list[str] = []
        self.dropped = 0  # of those who never read
        self.arrivals = 0
        self.clients: dict[int, Client] = {}
        self.rooms: set[Room] = set()
        self._first, self._others = select.epoll(), select.epoll()  # full ones come first
        self._both = select.epoll()
        self._both.register(self._first, select.EPOLLIN)
        self._both.register(self._others, select.EPOLLIN)
        self._writing: set[int] = set()

    def join(self, wanted: list[tuple[Room, Speaker, bool]], timeout: float = 60.0) -> list[Client]:
        """Connect clients, wait until they are ready, and stop reading for those who never read."""
        found = []
        for at in range(0, len(wanted), BATCH):
            batch = []
            for room, speaker, reads in wanted[at : at + BATCH]:
                client = Client(self.port, room, speaker, reads=reads)
                self.clients[client.socket.fileno()] = client
                self._epoll(client).register(client.socket, select.EPOLLIN)
                room.readers += reads
                self.rooms.add(room)
                batch.append(client)
            limit = time.monotonic() + timeout
            while not all(client.speaker.ready for client in batch):
                self.poll(0.1)
                if time.monotonic() > limit or any(client.socket.fileno() < 0 for client in batch):
                    raise ConnectionError(f"clients cannot join: {self.errors[:3] or 'it takes too long'}")
            for client in batch:
                if not client.reads:
                    self._epoll(client).modify(client.socket, select.EPOLLRDHUP)
            found += batch
        return found

    def _epoll(self, client: Client) -> select.epoll:
        return self._first if client.full else self._others

    def poll(self, timeout: float) -> None:
        """Wait for something to arrive, and take all that has."""
        parts = [self._first, self._others]
        if self._tick:
            self._others.poll(min(timeout, self._tick), 1)
            ticks = int(time.monotonic() / self._tick)
            self._turn = {tick % PHASES for tick in range(max(self._ticks, ticks - PHASES) + 1, ticks + 1)}
            if not self._turn:
                parts = [self._others]
            self._ticks = ticks
        elif not self._both.poll(timeout):
            return
        for part in parts:
            for fd, events in part.poll(0):
                client = self.clients[fd]
                if self._tick and client.full and client.speaker.ready and fd % PHASES not in self._turn:
                    continue  # not its turn
                try:
                    if events & select.EPOLLOUT:
                        data, client.waits = client.waits, b""
                        client.send_raw(data)
                    if client.reads or not client.speaker.ready:
                        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                            count = client.read()
                            self.arrivals += count
                    elif events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                        raise ConnectionError("dropped")
                except OSError as error:
                    self.lose(client, error)
                    continue
                if client.waits or fd in self._writing:
                    self._watch_writing(client)

    def _watch_writing(self, client: Client) -> None:
        fd = client.socket.fileno()
        if client.waits:
            self._writing.add(fd)
            self._epoll(client).modify(fd, select.EPOLLIN | select.EPOLLOUT)
        else:
            self._writing.discard(fd)
            self._epoll(client).modify(fd, select.EPOLLIN)

    def lose(self, client: Client, error: Exception | None = None) -> None:
        """A client is gone."""
        fd = client.socket.fileno()
        if client.reads:
            client.room.readers -= 1
            if error is not None:
                self.errors.append(f"{client.room.name}: {type(error).__name__}: {error}")
        else:
            self.dropped += 1
        self._writing.discard(fd)
        self._epoll(client).unregister(fd)
        del self.clients[fd]
        client.socket.close()

    def leave(self) -> None:
        """Close all connections."""
        for client in list(self.clients.values()):
            self.lose(client)

    def close(self) -> None:
        """Let go of all."""
        self.leave()
        for part in (self._both, self._first, self._others):
            part.close()

    def step(self, typists: list[Client], rate: float, seconds: float, behind: float, grace: float) -> Struck:
        """Type `rate` keystrokes a second in all, in turn, for so many seconds.

        Ends early when deliveries are more than `behind` seconds late; afterwards waits until all have
        arrived, at most `grace` seconds.
        """
        for room in self.rooms:
            room.latencies.clear()
        order = random.Random(crc32(b"load")).sample(typists, len(typists))
        total = max(1, round(rate * seconds))
        interval = 1 / rate
        before, processor = self.arrivals, time.process_time()
        messages = sum([client.messages for client in self.clients.values()])
        typed, expected = 0, 0
        allowed = 0.0
        late = 0.0
        start = last = time.monotonic()
        seen = before
        while typed < total:
            now = time.monotonic()
            burst = 0
            while typed < total and (late := now - start - typed * interval) >= 0 and burst < 32:
                client = order[typed % len(order)]
                typed += 1
                burst += 1
                if client.socket.fileno() < 0:
                    continue
                expected += client.room.readers - 1
                try:
                    client.send(client.speaker.strike())  # type: ignore[attr-defined]
                except OSError as error:
                    self.lose(client, error)
                    continue
                if client.waits:
                    self._watch_writing(client)
            self.poll(max(0.0, start + typed * interval - time.monotonic()) if typed < total else 0)
            if self.arrivals > seen:
                seen, last = self.arrivals, time.monotonic()
            allowed = behind * expected / typed * rate
            if expected - (seen - before) > max(allowed, expected / typed * 3) or late > behind:
                break
        limit = time.monotonic() + grace
        while self.arrivals - before < expected and time.monotonic() < limit:
            self.poll(0.05)
            if self.arrivals > seen:
                seen, last = self.arrivals, time.monotonic()
        elapsed = last - start
        return Struck(
            rate,
            typed,
            (seen - before) / max(1, expected),
            seen - before,
            elapsed,
            [latency for room in self.rooms for latency in room.latencies],
            (time.process_time() - processor) / max(time.monotonic() - start, 1e-9),
            max(0.0, late),
            sum([client.messages for client in self.clients.values()]) - messages,
        )
