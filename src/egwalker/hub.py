"""Many documents, each opened when somebody comes, kept at one place, and shared by all who are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, NamedTuple, Protocol

from egwalker.cycore.errors import EgwalkerError, StorageError, SyncError
from egwalker.document import Document
from egwalker.events import logger
from egwalker.links import LAST_WORDS, Channel, Talk, Watch
from egwalker.messages import MAX_KEY, encode_presence
from egwalker.plugin_manager import hook
from egwalker.session import Changed, Encoded, Event, Greeted, Presence, Session
from egwalker.versions import Run

IDLE = 60.0
"""Seconds after which a document that nobody uses is unloaded."""
PRESENCES = 64
"""How many presences one link may show."""
ACK_DELAY = 0.1
"""Seconds, up to twice, that an edit's acknowledgement waits for it to be stored, so that one says both."""
PAUSE, LONGEST_PAUSE = 3.0, 1.0
"""After storing, edits gather for this many times as long as it took, at most so many seconds."""
LONG = 0.001
"""Seconds. If sending to everybody takes longer, the next time is as long after: others have a turn."""


class Permission(NamedTuple):
    """Who somebody is, and what they may do with a document."""

    who: str
    read: bool = True
    write: bool = True


class Place(Protocol):
    """Where one document is kept durably. It is held, and nobody else writes there, until `close`.

    A new document may take on another id, see `settle`, and another kind, both from whoever comes first. It
    is not committed before that, and is there once it has been.
    A place with an attribute `durable` that is false keeps nothing, and its `commit` does nothing.
    """

    @property
    def document(self) -> Document:
        """The document, with all that was stored in it."""
        ...

    async def commit(self) -> None:
        """Make durable what the document holds when this is called. `StorageError` if that fails."""
        ...

    async def close(self) -> None:
        """Let go of the place. What was not committed need not be kept."""
        ...


OpenPlace = Callable[[str], Awaitable[Place]]


def is_blank(document: Document) -> bool:
    """Whether a document is new and nobody has done anything with it: it will take on another one's id."""
    with document._lock:
        return not document._id_given and not document._events() and not document.pending


def settle(document: Document) -> bool:
    """Give a document its id for good, unless it is blank; returns whether it has it."""
    with document._lock:
        if is_blank(document):
            return False
        document._id_given = True
        return True


def tell_plugins(which: str, **arguments: Any) -> None:
    """Call a hook that tells of something that has happened: errors of plugins change nothing about it."""
    told = getattr(hook(), which)
    try:
        if told.get_hookimpls():  # else it is called in vain for every edit
            told(**arguments)
    except Exception:
        logger.exception("a plugin failed in %s", which)


class Peer:
    """Somebody who is linked to a document."""

    def __init__(self, talk: Talk, permission: Permission) -> None:
        self.talk = talk
        self.session = talk.session
        self.permission = permission
        self.stored = -1  # what they were told of
        self.keys: dict[str, str] = {}  # of their presences, and under which others see them


class Confirmations:
    """Tells those who sent edits that these have come, where storing them takes long.

    One timer for all rooms: a timer for each edit would take as long as all else that is done for it.
    """

    def __init__(self) -> None:
        self._new: set[Peer] = set()
        self._due: set[Peer] = set()

    def add(self, peer: Peer) -> None:
        """Tell somebody, unless they are told anyway meanwhile."""
        if not self._new and not self._due:
            asyncio.get_running_loop().call_later(ACK_DELAY, self._tell)
        self._new.add(peer)

    def _tell(self) -> None:
        due, self._due, self._new = self._due, self._new, set()
        for peer in due:
            if peer.session.unconfirmed:
                peer.talk.flush()
        if self._due:
            asyncio.get_running_loop().call_later(ACK_DELAY, self._tell)


class Room:
    """One open document, its place, and those who are there. Made by `Hub`."""

    def __init__(self, name: str, place: Place, confirmations: Confirmations) -> None:
        self.name = name
        self.place = place
        self.document = place.document
        self.error: EgwalkerError | None = None  # why nothing is stored any more
        self.peers: dict[Session, Peer] = {}
        self._durable = getattr(place, "durable", True)
        self.users = 0
        self.unused_since = 0.0
        self._presences: dict[str, tuple[Peer, Any, bytes]] = {}  # with the message that tells of it
        self._told = self.document.version  # of which plugins know that it is stored
        self._closing = False
        self._encoded: Encoded = {}
        self._loop = asyncio.get_running_loop()
        self._dirty = False  # there may be something to store
        self._changed = asyncio.Event()  # and now it should be
        self._store_after = 0.0
        self._nobody = asyncio.Event()
        self._sending = False  # to everybody, soon
        self._send_after = 0.0
        self._confirmations = confirmations
        self._watch = Watch(self.document, self._wake)
        self._keeper = asyncio.create_task(self._keep())

    def _wake(self) -> None:
        self._store_soon()
        self._send_soon()

    def _store_soon(self) -> None:
        if not self._dirty:
            self._dirty = True
            if (wait := self._store_after - monotonic()) > 0:
                self._loop.call_later(wait, self._changed.set)
            else:
                self._changed.set()

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = True
            if (wait := self._send_after - monotonic()) > 0:
                self._loop.call_later(wait, self._send)
            else:
                self._loop.call_soon(self._send)

    def _send(self) -> None:
        """Send everybody what is new."""
        self._sending = False
        begun = monotonic()
        for peer in self.peers.values():
            peer.talk.flush(confirm=not self._durable)
        now = monotonic()
        self._encoded.clear()
        self._send_after = 2 * now - begun if now - begun > LONG else 0.0

    async def _keep(self) -> None:
        """Store what is new, again and again; whoever sent it is told."""
        while True:
            await self._changed.wait()
            if self._closing or self.error is not None:
                return
            self._changed.clear()
            self._dirty = False
            begun = monotonic()
            await self.store()
            now = monotonic()
            self._store_after = now + min(LONGEST_PAUSE, PAUSE * (now - begun))

    async def store(self) -> None:
        """Make durable what there is, and say so. If that fails everybody is told, and sent away."""
        if self.error is not None or not settle(self.document):
            return
        marks = [(peer, peer.session.mark()) for peer in self.peers.values()]
        version = self.document.version
        try:
            await self.place.commit()
        except Exception as error:
            logger.error("document %r is not stored any more: %s", self.name, error, exc_info=error)
            # Where it is stored is nobody's business.
            self.error = StorageError(f"document {self.name!r} cannot be stored")
            for peer in self.peers.values():
                peer.session.fail(self.error)
                peer.talk.flush()
            return
        if version != self._told:
            self._told = version
            tell_plugins("edit_stored", name=self.name, document=self.document)
        for peer, mark in marks:
            if self._durable and peer.stored < mark:
                peer.stored = mark
                peer.session.stored(mark)
                peer.talk.flush()

    async def serve(self, channel: Channel, permission: Permission) -> None:
        """Share the document with somebody until they leave."""
        if self.error is not None or self._closing:
            await channel.close()
            return

        def accept(runs: list[Run]) -> None:
            hook().before_edit(name=self.name, document=self.document, who=permission.who, runs=runs)

        session = Session(
            self.document,
            can_read=permission.read,
            can_write=permission.write,
            durable=self._durable,
            accept=accept if hook().before_edit.get_hookimpls() else None,
            presences=PRESENCES,
            acks=False,
            encoded=self._encoded,
            any_kind=True,
        )

        def tell(event: Event) -> None:
            if isinstance(event, Presence):
                if permission.read:
                    self._show(peer, event.key, event.state)
            elif isinstance(event, Changed | Greeted):
                # Even what is here already may have been made a moment ago.
                self._store_soon()
                if self._durable:
                    self._confirmations.add(peer)
                else:
                    self._send_soon()

        peer = Peer(Talk(session, channel, tell, answers=True), permission)

        for key, (_, _, presence) in self._presences.items():
            session.pass_on(key, presence, gone=False)
        self.peers[session] = peer
        self._nobody.clear()
        tell_plugins("peer_joined", name=self.name, who=permission.who)
        try:
            error = await peer.talk.run()
            if error is not None:
                logger.info("%s left %r: %s", permission.who, self.name, error)
        finally:
            del self.peers[session]
            for key in list(peer.keys):
                self._show(peer, key, None)
            if not self.peers:
                self._nobody.set()
            tell_plugins("peer_left", name=self.name, who=permission.who)

    def _show(self, peer: Peer, key: str, state: Any) -> None:
        """Let others see somebody's presence. Nobody can take a key that somebody else shows."""
        who = peer.permission.who
        if key not in peer.keys:
            if state is None:
                return
            owner = self._presences.get(key)
            taken = owner is not None and owner[0].permission.who != who
            peer.keys[key] = f"{who}/{key}".encode()[:MAX_KEY].decode(errors="ignore") if taken else key
        shown = peer.keys[key]
        presence = encode_presence(shown, state)
        if state is not None:
            self._presences[shown] = peer, state, presence
        else:
            del peer.keys[key]
            if self._presences.get(shown, (None,))[0] is not peer:
                return  # who came again before this link was known to have ended
            del self._presences[shown]
        for other in self.peers.values():
            if other is not peer:
                other.session.pass_on(shown, presence, gone=state is None)
        self._send_soon()

    def shown(self) -> list[Any]:
        """What those who are there show of themselves."""
        return [state for _, state, _ in self._presences.values()]

    async def send_away(self) -> None:
        """Store what came, say so, and end all links: whoever was here connects again elsewhere, or later."""
        await self.store()
        await asyncio.gather(*[self._dismiss(peer) for peer in self.peers.values()])
        if self.peers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nobody.wait(), LAST_WORDS)

    async def _dismiss(self, peer: Peer) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.talk.flushed(), LAST_WORDS)
        await peer.talk.channel.close()

    async def close(self) -> None:
        """Store the document, and let go of its place."""
        self._watch.close()
        self._closing = True
        self._changed.set()
        await asyncio.gather(self._keeper, return_exceptions=True)
        await self.store()
        await self.place.close()


class Hub:
    """All documents of a server, by name.

    `open_place` opens the place of a document, a new one if there is none. A document is unloaded when nobody
    has used it for `idle` seconds.
    """

    def __init__(self, open_place: OpenPlace, *, idle: float = IDLE) -> None:
        self._open_place = open_place
        self._idle = idle
        self._rooms: dict[str, Room] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}  # documents that are being opened or closed
        self._sweeper: asyncio.Task[None] | None = None
        self._confirmations = Confirmations()
        self.closed = False

    def __len__(self) -> int:
        """How many documents are open."""
        return len(self._rooms)

    def rooms(self) -> list[Room]:
        """All open documents."""
        return list(self._rooms.values())

    @contextlib.asynccontextmanager
    async def room(self, name: str, *, create: bool = True) -> AsyncIterator[Room]:
        """The room of a document, which is opened if need be, and stays open within the `with` block.

        Raises what `open_place` does, `SyncError` if the hub is closed, and if `create` is false
        `FileNotFoundError` for a document that is a new one.
        """
        room = await self._enter(name, create)
        try:
            yield room
        finally:
            room.users -= 1
            room.unused_since = monotonic()
            if not room.users and (room.error is not None or is_blank(room.document)):
                self._unload(room)

    async def _enter(self, name: str, create: bool) -> Room:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        while True:
            if self.closed:
                raise SyncError("the server is going down")
            work = self._busy.get(name)
            if work is not None:
                await asyncio.shield(work)
                continue
            room = self._rooms.get(name)
            if room is None:
                # A task of its own, so that nobody who loses patience leaves a place open.
                await asyncio.shield(self._work(name, self._open(name, create)))
                if create or name in self._rooms:
                    continue
            if room is None or (not create and is_blank(room.document)):
                raise FileNotFoundError(f"there is no document {name!r}")
            if room.error is not None:
                raise room.error
            room.users += 1
            return room

    def _work(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Open or close the place of a document; nobody else does either meanwhile."""

        async def alone() -> None:
            try:
                await work
            finally:
                # Not in a callback: who came before it was called would wait for what is done, for ever.
                del self._busy[name]

        task = self._busy[name] = asyncio.create_task(alone())
        # If nobody waits for it any more, nobody is told.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    async def _open(self, name: str, create: bool) -> None:
        place = await self._open_place(name)
        try:
            if self.closed:
                raise SyncError("the server is going down")
            if not create and is_blank(place.document):
                await place.close()
                return
            hook().document_loaded(name=name, document=place.document)
        except BaseException:
            await place.close()
            raise
        room = self._rooms[name] = Room(name, place, self._confirmations)
        room.unused_since = monotonic()

    async def _sweep(self) -> None:
        """Unload what nobody has used for a while."""
        while True:
            await asyncio.sleep(max(self._idle / 4, 0.01))
            limit = monotonic() - self._idle
            for room in list(self._rooms.values()):
                if not room.users and room.unused_since <= limit:
                    self._unload(room)

    def _unload(self, room: Room) -> None:
        if room.name not in self._busy and self._rooms.get(room.name) is room:
            self._work(room.name, self._close(room))

    async def _close(self, room: Room) -> None:
        tell_plugins("document_unloading", name=room.name, document=room.document)
        try:
            await room.close()
        except Exception as error:
            if room.error is None:
                logger.error("document %r was not stored: %s", room.name, error)
        finally:
            del self._rooms[room.name]

    async def close(self) -> None:
        """Send everybody away, and store all documents."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        # What is being opened is closed by who opens it.
        while self._busy:
            await asyncio.wait(set(self._busy.values()))
        await asyncio.gather(*[room.send_away() for room in self._rooms.values()], return_exceptions=True)
        for room in list(self._rooms.values()):
            self._unload(room)
        while self._busy:
            await asyncio.wait(set(self._busy.values()))
