"""Links: a session driven over a channel, in asyncio, and a document kept linked to somewhere by its URL."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

from egwalker.cycore.errors import EgwalkerError, SyncError
from egwalker.document import Document
from egwalker.events import Change, logger
from egwalker.messages import encode_presence
from egwalker.session import Changed, Event, Greeted, Presence, Session

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds before the first attempt to connect again, and at most."""
STEADY = 2.0
"""Seconds after which a connection is one that works: when it ends the first attempt follows soon."""
GREETING = 20.0
"""Seconds that the end which answers waits for the other one's greeting."""
TURN = 64 << 10
"""Bytes that one link may receive before others have their turn."""
LAST_WORDS = 1.0
"""Seconds that an end which closes has to say why, and the other one to be heard."""


class Channel(Protocol):
    """A connection that carries whole messages, in their order, each once or not at all."""

    def write(self, message: bytes) -> bool:
        """Take a message to be sent; whether another one may follow before `drain`. `ConnectionError`."""
        ...

    async def drain(self) -> None:
        """Wait until another message may follow. `ConnectionError` if it is gone, or nobody reads."""
        ...

    async def receive(self) -> bytes | None:
        """The next message, None at the end. `ConnectionError`, `SyncError` for what is no message."""
        ...

    async def close(self) -> None:
        """Let go of it. Again does nothing."""
        ...


class Watch:
    """Wakes an asyncio task when a document changes, whichever thread changes it."""

    def __init__(self, document: Document, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._wake = wake
        self._coming = False  # a call from another thread
        self._subscription = document.subscribe(self._changed)

    def _changed(self, _: Change) -> None:
        if get_ident() == self._thread and self._loop.is_running():
            self._wake()
        elif not self._coming:
            self._coming = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._come)

    def _come(self) -> None:
        self._coming = False
        self._wake()

    def close(self) -> None:
        """Stop watching."""
        self._subscription.close()


class Talk:
    """A session driven over a channel, in `run`. `tell` is called with all its events.

    Call `flush` or `flush_soon` when the session may have something to send, also when `tell` was told of
    something to acknowledge. Of two ends one `answers`: it greets after the other one, so that of two empty
    documents one takes on the other's id.
    """

    def __init__(
        self, session: Session, channel: Channel, tell: Callable[[Event], None], *, answers: bool = False
    ) -> None:
        self.session = session
        self.channel = channel
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._waits = answers  # for a greeting
        self._coming = False  # a flush
        self._writing: asyncio.Task[None] | None = None  # while the channel cannot take more
        self._written: asyncio.Future[None] = self._loop.create_future()  # all that will ever be

    def flush(self, *, confirm: bool = True) -> None:
        """Send what there is to send, as soon as the channel takes it. `confirm`: see `Session.poll`.

        Raises nothing: what goes wrong ends `run`.
        """
        if self._writing is None and not self._written.done() and not self._send(confirm):
            self._writing = asyncio.create_task(self._go_on())

    def flush_soon(self) -> None:
        """The same, when what is under way now is done: many edits in a row take one message."""
        if not self._coming:
            self._coming = True
            self._loop.call_soon(self._come)

    def _come(self) -> None:
        self._coming = False
        self.flush()

    def _send(self, confirm: bool = True) -> bool:
        """Send until the channel needs a rest, or others their turn; whether all is sent."""
        session = self.session
        if self._waits:
            if not session.greeted and session.closed is None:
                return True
            self._waits = False
        sent = 0
        try:
            while (message := session.poll(confirm=confirm)) is not None:
                sent += len(message)
                if not self.channel.write(message) or sent > TURN:
                    return False
        except Exception as error:
            self._end(error)
        else:
            if session.closed is not None:
                self._end(None)
        return True

    def _end(self, error: Exception | None) -> None:
        """Nothing is sent any more."""
        written = self._written
        if not written.done():
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)
                written.exception()  # whether anybody looks at it or not

    async def _go_on(self) -> None:
        try:
            while not self._written.done():
                await self.channel.drain()
                await asyncio.sleep(0)  # draining need not let others have their turn
                if self._send():
                    break
        except Exception as error:
            self._end(error)
        finally:
            self._writing = None

    async def flushed(self) -> None:
        """Send what there is to send, and wait until the channel has taken it or is gone."""
        self.flush()
        while self._writing is not None:
            await asyncio.wait({self._writing})

    async def run(self) -> EgwalkerError | None:
        """Talk until either end ends it, and close the channel; returns what was wrong, None if they left."""
        session, written = self.session, self._written
        patience = self._loop.call_later(GREETING, self._give_up) if self._waits else None
        self.flush()
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({reading, written}, return_when=asyncio.FIRST_COMPLETED)
            if not written.done() and session.closed is not None:
                await asyncio.wait({written}, timeout=LAST_WORDS)
            elif not reading.done() and session.closed is None:
                # It cannot be sent to: it may have said why.
                await asyncio.wait({reading}, timeout=LAST_WORDS)
            for part in (written, reading):
                if not part.done() or (error := part.exception()) is None:
                    continue
                if isinstance(error, ConnectionError):
                    continue
                if isinstance(error, EgwalkerError):
                    return error
                logger.error("a link of %r failed", session.document, exc_info=error)
                return SyncError(f"an internal error: {error!r}")
            return session.closed.error if session.closed is not None else None
        finally:
            if patience is not None:
                patience.cancel()
            written.cancel()
            tasks = [task for task in (reading, self._writing) if task is not None]
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                await self.channel.close()

    def _give_up(self) -> None:
        if not self.session.greeted:
            self.session.fail(SyncError("no greeting came"))
            self.flush()

    async def _read(self) -> None:
        session, channel = self.session, self.channel
        received = 0
        try:
            while session.closed is None and (message := await channel.receive()) is not None:
                events = session.receive(message)
                for event in events:
                    self._tell(event)
                if not events or isinstance(events[0], Greeted):
                    self.flush(confirm=False)  # the answer to a question or a greeting
                received += len(message)
                if received > TURN:  # receiving need not let others have their turn
                    received = 0
                    await asyncio.sleep(0)
        except EgwalkerError as error:
            session.fail(error)
        finally:
            self.flush()


def owes(session: Session, events: int) -> bool:
    """Whether a session has still to send some of the first `events` of its document, by local version."""
    with session.document._lock:
        return session._at < events or any(
            start < events for ranges in (session._backlog, session._live) for start, _ in ranges
        )


class Link:
    """Keeps a document in step with a replica elsewhere, over one channel after another.

    Made by `egwalker.connect`, used as an async context manager. What is typed while there is no connection
    is sent when there is one again. `error` is what ended the link for good: the other end refused it, say.
    `open_channel` raises an `OSError` if there is no connection now, an `EgwalkerError` if there never is.

    `shallow`: a document in which nothing is yet begins with the content and what comes from then on; see
    `Document.start`. Older history follows where something needs it, or with `history`.

    `on_presence(key, state)` is called when somebody's presence changes, `on_progress(remaining)` with how
    many events are still to come of what the other end had when it greeted.
    """

    def __init__(
        self,
        document: Document,
        open_channel: Callable[[], Awaitable[Channel]],
        *,
        reconnect: bool = True,
        shallow: bool = False,
        on_presence: Callable[[str, Any], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.document = document
        self.error: EgwalkerError | None = None
        self.presences: dict[str, Any] = {}
        self._open_channel = open_channel
        self._reconnect = reconnect
        self._shallow = shallow
        self._on_presence = on_presence
        self._on_progress = on_progress
        self._session: Session | None = None
        self._talk: Talk | None = None
        self._shown: dict[str, Any] = {}
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def __repr__(self) -> str:
        state = (
            "connected" if self.connected else "closed" if self._closing or self.error else "not connected"
        )
        return f"<Link of {self.document!r}, {state}>"

    @property
    def connected(self) -> bool:
        """Whether the other end is there and has greeted."""
        return self._session is not None and self._session.greeted

    @property
    def read_only(self) -> bool:
        """Whether the other end is there and does not take edits."""
        return self._session is not None and self._session.peer_is_read_only

    async def synced(self) -> None:
        """Wait until all is here that the other end had when it greeted, and all is there that is here now.

        Raises what ended the link, `SyncError` if it was closed, or if the other end does not take what is
        here.
        """

        def check(session: Session) -> None:
            if session.peer_is_read_only and session.synced and not session.all_sent:
                self._refuse_edits()

        await self._confirmed(lambda s: s.acknowledged.received if s.settled else -1, check)

    async def history(self) -> None:
        """Fetch what was before `document.start`: then all history is here. Raises what ended the link."""
        while True:
            session = self._check_open()
            if session is not None and session.synced:
                if not self.document.start:
                    return
                session.fetch()
                self._flush()
            self._moved.clear()
            await self._moved.wait()

    async def persisted(self) -> None:
        """Wait until the other end has made durable what is here now. Raises as `synced`.

        `SyncError` also if the other end does not keep anything, or does not take edits.
        """

        def check(session: Session) -> None:
            if not session.peer_is_durable:
                raise SyncError("the other end does not say what it has made durable")
            if session.peer_is_read_only:
                self._refuse_edits()

        await self._confirmed(lambda s: s.acknowledged.durable, check)

    def _refuse_edits(self) -> None:
        raise SyncError("the other end does not take edits")

    def show(self, state: Any, key: str | None = None) -> None:
        """Tell others about somebody here (default: the document's agent): a cursor, a name, a colour.

        `state` is what JSON can say, None if they left. It is not stored. `SyncError` if it is too large.
        """
        key = self.document.agent if key is None else key
        encode_presence(key, state)
        if self._session is not None:
            self._session.show(key, state)
        if state is None:
            self._shown.pop(key, None)
        else:
            self._shown[key] = state
        self._flush()

    async def close(self) -> None:
        """End the link. What was not sent before is not sent; see `synced` and `persisted`."""
        self._closing = True
        self._moved.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._moved.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _confirmed(self, confirmed: Callable[[Session], int], check: Callable[[Session], None]) -> None:
        """Wait until so many messages are confirmed that what is in the document now is among them."""
        with self.document._lock:
            wanted = self.document._events()
        session, messages = None, None  # how many messages it takes in this session
        while True:
            at = self._check_open()
            if session is not at:
                session, messages = at, None
            if session is not None and session.greeted:
                check(session)
                if messages is None and not owes(session, wanted):
                    messages = session.sent
                if messages is not None and confirmed(session) >= messages:
                    return
            self._moved.clear()
            await self._moved.wait()

    def _check_open(self) -> Session | None:
        """The session, if there is a connection. Raises what ended the link."""
        if self.error is not None:
            raise self.error
        if self._closing or self._task is None or self._task.done():
            raise SyncError("the link is closed")
        return self._session

    async def _run(self) -> None:
        wait = FIRST_WAIT
        watch = Watch(self.document, self._flush)
        try:
            while True:
                why = "the other end has left"
                try:
                    channel = await self._open_channel()
                except OSError as error:
                    if isinstance(error, EgwalkerError):
                        raise
                    why = str(error) or type(error).__name__
                    logger.info("no connection for %r: %s", self.document, why)
                else:
                    begun = monotonic()
                    await self._use(channel)
                    if monotonic() - begun > STEADY:
                        wait = FIRST_WAIT
                if self.error is not None:
                    return
                if not self._reconnect:
                    raise SyncError(f"there is no connection: {why}")
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT)
        except EgwalkerError as error:
            self.error = error
        except Exception as error:
            logger.exception("the link of %r failed", self.document)
            self.error = SyncError(f"an internal error: {error!r}")
        finally:
            watch.close()
            self._moved.set()

    async def _use(self, channel: Channel) -> None:
        """Talk over a channel until it ends."""
        session = self._session = Session(self.document, shallow=self._shallow)
        for key, state in self._shown.items():
            session.show(key, state)
        self._talk = Talk(session, channel, self._tell)
        try:
            error = await self._talk.run()
        finally:
            self._session = self._talk = None
            for key in list(self.presences):
                self._told(key, None)
            self._moved.set()
        self.error = error

    def _flush(self) -> None:
        if self._talk is not None:
            self._talk.flush_soon()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Presence):
            self._told(event.key, event.state)
        elif isinstance(event, Changed):
            self._flush()
            if self._session is not None and not self._session.synced:
                self._call(self._on_progress, event.remaining)
        self._moved.set()

    def _told(self, key: str, state: Any) -> None:
        if state is None:
            self.presences.pop(key, None)
        else:
            self.presences[key] = state
        self._call(self._on_presence, key, state)

    def _call(self, callback: Callable[..., None] | None, *args: Any) -> None:
        """Call what the user gave; what it raises must not end the link."""
        if callback is not None:
            try:
                callback(*args)
            except Exception:
                logger.exception("%r failed", callback)
