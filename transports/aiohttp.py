"""Documents served over WebSocket and HTTP by aiohttp, and links to them: `ws:` and `wss:` URLs.

    GET /NAME                    the content: a text as it is, another kind as JSON; `?at=VERSION` a past one
    GET /NAME/history            the history since `?since=VERSION` as JSON, everything if that is not given
    GET /NAME/stat               counts, as JSON
    GET /NAME/encoded            all of it, as `Document.encode` has it
    GET /NAME with an upgrade    a WebSocket, on which both ends run a session

A document comes into being when somebody who may write opens a WebSocket. `setup` puts this into any aiohttp
application.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hmac
import inspect
import logging
import math
import resource
import signal
import unicodedata
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from http.client import responses
from time import monotonic, thread_time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from egwalker import hookimpl
from egwalker.cycore.errors import DecodeError, EgwalkerError, SyncError, VersionError
from egwalker.document import Document
from egwalker.events import logger
from egwalker.hub import IDLE, Hub, Permission, Place, Room
from egwalker.links import Channel, Link
from egwalker.messages import ACK, FETCH, MAX_MESSAGE
from egwalker.plugin_manager import hook
from egwalker.stats import stats
from egwalker.threads import in_thread
from egwalker.transport import Transport
from egwalker.versions import parse_version

HEARTBEAT = 20.0
"""Seconds after which the other end is asked whether it is there; half of it later it is given up."""
SEND_TIMEOUT = 20.0
"""Seconds that a message may take to be taken by the other end before it is dropped."""
CLOSE_TIMEOUT = 1.0
"""Seconds that closing a connection may take, and then it is cut."""
CONNECT_TIMEOUT = 20.0
"""Seconds that making one may take."""
WRITE_BUFFER = 64 << 10
"""Bytes that wait in a socket's buffer before the sender waits."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two looks at a buffer that was full."""
RATE, BURST = 200.0, 2000.0
"""Messages a second that one link may send over time, and how many at once."""
ACK_COST, FETCH_COST = 0.1, 100.0
"""As how many messages these count: whoever reads much acknowledges often, the answer to FETCH is long."""
COSTS = {ACK: ACK_COST, FETCH: FETCH_COST}
GARBAGE = 50_000
"""Objects made before Python looks for garbage: a server makes many, that are few at a time."""
COMPRESSED = 1024
"""Bytes from which on a message is compressed, for clients that offer permessage-deflate: browsers do."""
HEAD = 2
"""Bytes of a message that are not the same for all who get it."""
RSV1 = 0x40
"""In a frame's first byte: it is compressed."""
BUDGET, SHARE = 1.0, 0.1
"""Seconds that making answers to one client may take at once, and what part of all time in the long run."""
MAKING = 2
"""How many answers are made at a time."""
REMEMBERED = 10_000
"""Clients whose use is remembered."""
MAX_NAME = 200
"""Bytes of a document's name."""
REFUSED = (
    aiohttp.WSCloseCode.PROTOCOL_ERROR,
    aiohttp.WSCloseCode.UNSUPPORTED_DATA,
    aiohttp.WSCloseCode.INVALID_TEXT,
    aiohttp.WSCloseCode.POLICY_VIOLATION,
    aiohttp.WSCloseCode.MESSAGE_TOO_BIG,
)
"""Why a connection is closed if the next one would be, too."""
AGAIN = (408, 425, 429)
"""Answers of a server that may be others soon, besides those from 500 on."""
COOKIE_AGE = 30 * 24 * 3600
"""Seconds for which a browser remembers that it knew the token."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
Answer = Permission | Awaitable[Permission | None] | None
Authenticate = Callable[[str, web.Request], Answer]
Listing = Callable[[], Awaitable[Iterable[tuple[str, float | None]]]]
"""Gives the names of all documents that are kept, and when each changed, in seconds since 1970, if known."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that no name has."""
JOINERS = "\u200c\u200d"
"""Without which some scripts, and families, cannot be written."""


def check_name(name: str) -> str:
    """A document's name, if it is one that cannot leave a folder or pass for another one; `DecodeError`."""
    # Some file systems, and people, take what looks the same for the same.
    alike = unicodedata.normalize("NFKC", name)
    if (
        not 0 < len(name.encode(errors="replace")) <= MAX_NAME
        or unicodedata.normalize("NFC", name) != name
        or any(char in "/\\" for char in alike)
        or any(unicodedata.category(char) in INVISIBLE and char not in JOINERS for char in name)
        or alike[0] in ". "
        or alike[-1] in ". "
        or name == "-"  # below which the files of the page are
    ):
        raise DecodeError(
            f"a document's name has up to {MAX_NAME} bytes, no slashes, no dots or spaces at its ends, "
            f"nothing invisible, is in normal form C and not '-', unlike {name!r:.80}"
        )
    return name


class WebSocket:
    """A channel over a WebSocket, of either end."""

    def __init__(self, socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._stuck = False  # the other end does not read

    async def receive(self) -> bytes | None:
        """The next message. `SyncError` for one that is none, or if the other end refuses what it gets."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.TEXT:
            raise SyncError("a message is text, not bytes")
        if message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
            raise SyncError(f"what came is no message: {message.data}")
        if message.type is aiohttp.WSMsgType.CLOSE and message.data in REFUSED:
            raise SyncError(f"the other end closed the link: {message.data} {message.extra or ''}".rstrip())
        return None

    async def close(self) -> None:
        """End the connection."""
        try:
            # Who does not read does not read a farewell either.
            async with asyncio.timeout(0 if self._stuck else CLOSE_TIMEOUT):
                await self._socket.close()
        except TimeoutError:
            self._stuck = True


class ServerSocket(WebSocket):
    """The server's end. It writes frames by itself: a thousand readers get the same bytes at once.

    Who does not read costs `WRITE_BUFFER` bytes and a message, for `SEND_TIMEOUT`.
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.WriteTransport) -> None:
        super().__init__(socket)
        self._socket: web.WebSocketResponse = socket
        self._transport = transport
        self._credit = BURST
        self._filled = 0.0

    def write(self, message: bytes) -> bool:
        """Write a frame to the socket, or into its buffer."""
        transport = self._transport
        if self._socket.closed or transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        bits = self._socket.compress
        if bits and len(message) >= COMPRESSED:
            packed = deflated_head(message[:HEAD]) + deflated(message[HEAD:], int(bits))
            if len(packed) < len(message):
                transport.write(frame_head(len(packed), RSV1) + packed)
                return transport.get_write_buffer_size() <= WRITE_BUFFER
        transport.write(frame_head(len(message)) + message)
        return transport.get_write_buffer_size() <= WRITE_BUFFER

    async def drain(self) -> None:
        """Wait until the buffer is nearly empty. `ConnectionError` if that takes `SEND_TIMEOUT`."""
        transport = self._transport
        begun = monotonic()
        pause = SHORTEST_PAUSE
        while transport.get_write_buffer_size() > WRITE_BUFFER // 2:
            if transport.is_closing():
                raise ConnectionResetError("the connection is closed")
            if monotonic() - begun > SEND_TIMEOUT:
                self._stuck = True
                raise ConnectionError("the other end does not read")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def receive(self) -> bytes | None:
        """The next message, but no more than `RATE` a second."""
        data = await super().receive()
        if data is not None:
            now = monotonic()
            self._credit = min(BURST, self._credit + (now - self._filled) * RATE) - cost_of(data)
            self._filled = now
            if self._credit < 0:
                await asyncio.sleep(-self._credit / RATE)
        return data

    async def close(self) -> None:
        """End the connection."""
        try:
            await super().close()
        finally:
            if self._stuck:
                self._transport.abort()


class ClientSocket(WebSocket):
    """The client's end."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: aiohttp.ClientSession) -> None:
        super().__init__(socket)
        self._session = session
        self._message: bytes | None = None  # is to be sent

    def write(self, message: bytes) -> bool:
        """Take one message, which `drain` sends."""
        self._message = message
        return False

    async def drain(self) -> None:
        """Send what was written. `ConnectionError` if it is not taken within `SEND_TIMEOUT`."""
        message, self._message = self._message, None
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                if message is not None:
                    await self._socket.send_bytes(message)
        except TimeoutError:
            self._stuck = True
            raise ConnectionError("the other end does not read") from None
        except (RuntimeError, aiohttp.ClientError) as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """End the connection."""
        try:
            await super().close()
        finally:
            await self._session.close()


def frame_head(size: int, flags: int = 0) -> bytes:
    """What a WebSocket's binary frame of so many bytes from the server begins with."""
    first = bytes([0x82 | flags])
    if size < 126:
        return first + bytes([size])
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2, "big")
    return first + b"\x7f" + size.to_bytes(8, "big")


def deflated_head(data: bytes) -> bytes:
    """Some bytes as a stored block of a deflate stream, after which another one may begin."""
    size = len(data).to_bytes(2, "little")
    return b"\0" + size + bytes([byte ^ 0xFF for byte in size]) + data


@functools.lru_cache(maxsize=4)
def deflated(data: bytes, window_bits: int) -> bytes:
    """What permessage-deflate makes of data, with nothing before it. The last are kept: many get them."""
    packer = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -window_bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def cost_of(message: bytes) -> float:
    """As how many messages this one counts."""
    return COSTS.get(message[0], 1.0) if message else 1.0


# --- the server ---------------------------------------------------------------------------------------------


def setup(
    app: web.Application,
    open_place: Callable[[str], Awaitable[Place]],
    *,
    prefix: str = "",
    authenticate: Authenticate | None = None,
    origins: Collection[str] = (),
    idle: float = IDLE,
    page: bool = False,
    listing: Listing | None = None,
) -> Hub:
    """Serve documents below `prefix` of an application, beside its other routes.

    `open_place` gets a document's name and opens its durable place, as `Transport.place` does. `authenticate`
    says who is behind a request and what they may do, None to refuse it (403); if it is not given, plugins
    say (see `hookspecs.authenticate`). Pages of other origins than the request's own host are refused, but
    for `origins`. The hub that is returned is closed with the application.

    With `page`, browsers get a page at `prefix` that lists the documents, and an editor at each document's
    address (see `egwalker.transports.page`). `listing` gives the names of all that are kept; without it
    those that are open are listed.
    """
    hub = Hub(open_place, idle=idle)
    server: Server
    if page:
        # It builds on this module.
        from egwalker.transports.page import PageServer  # noqa: PLC0415

        server = PageServer(hub, prefix, authenticate or ask_plugins, frozenset(origins), listing)
    else:
        server = Server(hub, prefix, authenticate or ask_plugins, frozenset(origins))
    server.add_to(app)

    async def close(_: web.Application) -> None:
        await hub.close()

    app.on_shutdown.append(close)
    return hub


def ask_plugins(name: str, request: web.Request) -> Answer:
    """The permission that a plugin gives."""
    found: Answer = hook().authenticate(name=name, request=request)
    return found


def local_only(_: str, request: web.Request) -> Permission | None:
    """Whoever is on this machine, and asks for it by name: not a page that lets its own name lead here."""
    try:
        local = urlsplit(f"//{request.host}").hostname in LOCAL_HOSTS
    except ValueError:
        local = False
    return Permission("anonymous") if local else None


def anybody(_: str, __: web.Request) -> Permission:
    """Whoever it is."""
    return Permission("anonymous")


class Token:
    """Whoever knows a token may read and write: `Authorization: Bearer TOKEN`, or `?token=TOKEN`.

    Or a cookie of which it can be told that whoever set it knew the token, but not which one that is.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._proof = hmac.digest(self._token, b"egwalker cookie", "sha256").hex()

    def __call__(self, _: str, request: web.Request) -> Permission | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        wanted = self._token
        if scheme.lower() != "bearer":
            given = request.query.get("token", "")
            if not given:
                given, wanted = request.cookies.get(self._cookie(request), ""), self._proof.encode()
        return Permission("token") if hmac.compare_digest(given.encode(errors="replace"), wanted) else None

    def remember(self, request: web.Request, response: web.StreamResponse, path: str) -> None:
        """Let the browser that asked be known by a cookie."""
        response.set_cookie(
            self._cookie(request),
            self._proof,
            path=path,
            max_age=COOKIE_AGE,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )

    def _cookie(self, request: web.Request) -> str:
        """The cookie's name: browsers send what one server sets to those at other ports, too."""
        port = request.host.rpartition(":")[2]
        return f"egwalker{port if port.isascii() and port.isdigit() else ''}"


class Budget:
    """How much of a processor's time making answers to each client may take, which others have less of then.

    `BUDGET` seconds at once, and a part of `SHARE` of the time on the whole. One answer may take longer, and
    then the client waits for the next the longer.
    """

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], tuple[float, float]] = {}  # seconds, and at what time that was

    def wait(self, client: tuple[str, str], now: float) -> float:
        """How many seconds a client has to wait before it may ask again; 0 if it need not."""
        return max(0.0, (self._now_used(client, now) - BUDGET) / SHARE)

    def spend(self, client: tuple[str, str], seconds: float, now: float) -> None:
        """An answer took so many seconds."""
        if client not in self._used and len(self._used) >= REMEMBERED:
            # Most have asked long ago. If not, the oldest is forgiven.
            self._used = {one: self._used[one] for one in self._used if self._now_used(one, now) > 0}
            while len(self._used) >= REMEMBERED:
                del self._used[next(iter(self._used))]
        used = self._now_used(client, now) + seconds
        self._used.pop(client, None)
        self._used[client] = used, now

    def _now_used(self, client: tuple[str, str], now: float) -> float:
        used, then = self._used.get(client, (0.0, now))
        return max(0.0, used - SHARE * (now - then))


class Server:
    """The handlers of requests."""

    def __init__(self, hub: Hub, prefix: str, authenticate: Authenticate, origins: frozenset[str]) -> None:
        self._hub = hub
        self._budget = Budget()
        self._making = asyncio.Semaphore(MAKING)
        self._prefix = prefix
        self._authenticate = authenticate
        self._origins = origins

    def add_to(self, app: web.Application) -> None:
        """Register the handlers."""
        for path, handler in (
            ("/{name}", self.document),
            ("/{name}/history", self.history),
            ("/{name}/stat", self.stat),
            ("/{name}/encoded", self.encoded),
        ):
            app.router.add_get(self._prefix + path, handler)

    async def document(self, request: web.Request) -> web.StreamResponse:
        """Send the content, or open a WebSocket."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._link(request)
        at = request.query.get("at")

        def answer(document: Document) -> web.Response:
            content = document.content if at is None else document.checkout(parse_version(at))
            return web.Response(text=content) if isinstance(content, str) else web.json_response(content)

        return await self._answer(request, answer, copy=at is not None)

    async def history(self, request: web.Request) -> web.StreamResponse:
        """The history since a version, as JSON."""

        def answer(document: Document) -> web.Response:
            since = request.query.get("since")
            runs = document.history(None if since is None else document.vector_at(parse_version(since)))
            return web.json_response({"id": document.id, "kind": document.kind, "runs": runs})

        return await self._answer(request, answer)

    async def stat(self, request: web.Request) -> web.StreamResponse:
        """Counts, as JSON."""
        return await self._answer(request, lambda document: web.json_response(stats(document)))

    async def encoded(self, request: web.Request) -> web.StreamResponse:
        """The document as bytes."""
        return await self._answer(
            request,
            lambda document: web.Response(body=document.encode(), content_type="application/octet-stream"),
        )

    async def _answer(
        self, request: web.Request, answer: Callable[[Document], web.Response], *, copy: bool = True
    ) -> web.StreamResponse:
        """An answer that may take long: it is made in a thread, and of a copy, so that no links wait for it.

        Without `copy` the history is not read, and those linked to this document wait for its content.
        """
        name, permission = await self._permit(request)
        if not permission.read:
            raise web.HTTPForbidden(text="this is not yours to read\n")
        client = permission.who, request.remote or ""
        self._check_budget(client)
        spent: list[float] = []

        def make(document: Document) -> web.Response:
            begun = thread_time()
            try:
                return answer(document)
            finally:
                spent.append(thread_time() - begun)

        async with self._room(name, create=False) as room, self._making:
            self._check_budget(client)  # who asked for much at once has waited for what it takes
            try:
                document = room.document.fork() if copy else room.document
                response = await in_thread(lambda: make(document))
            except VersionError as error:
                raise web.HTTPNotFound(text=f"{error}\n") from error
            except EgwalkerError as error:
                raise web.HTTPBadRequest(text=f"{error}\n") from error
            finally:
                self._budget.spend(client, sum(spent), monotonic())
        response.headers.update(HEADERS)
        return response

    def _check_budget(self, client: tuple[str, str]) -> None:
        wait = self._budget.wait(client, monotonic())
        if wait > 0:
            headers = {"Retry-After": str(math.ceil(wait))}
            raise web.HTTPTooManyRequests(text="answers to you have taken too long\n", headers=headers)

    @contextlib.asynccontextmanager
    async def _room(self, name: str, *, create: bool) -> AsyncIterator[Room]:
        """The room of a document. What keeps it from being opened is for those to know who run the server."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                room = await stack.enter_async_context(self._hub.room(name, create=create))
            except FileNotFoundError as error:
                raise web.HTTPNotFound(text=f"there is no document {name!r}\n") from error
            except Exception as error:
                level = logging.INFO if self._hub.closed else logging.ERROR
                logger.log(level, "document %r cannot be opened: %s", name, error)
                why = f"document {name!r} cannot be used now: {type(error).__name__}\n"
                raise web.HTTPServiceUnavailable(text=why) from error
            yield room

    async def _permit(self, request: web.Request) -> tuple[str, Permission]:
        self._check_origin(request)
        try:
            name = check_name(request.match_info["name"])
        except DecodeError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        permission = await self._permission(name, request)
        if permission is None:
            raise web.HTTPForbidden(text="who you are is not known, or you may not\n")
        return name, permission

    async def _permission(self, name: str, request: web.Request) -> Permission | None:
        """What who asks may do with a document, None if nothing."""
        answer = self._authenticate(name, request)
        permission = await answer if inspect.isawaitable(answer) else answer
        return None if permission is None or not (permission.read or permission.write) else permission

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins and host_of(origin) != request.host.lower():
            raise web.HTTPForbidden(text="pages of this origin may not use this\n")

    async def _link(self, request: web.Request) -> web.StreamResponse:
        name, permission = await self._permit(request)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT, timeout=CLOSE_TIMEOUT, max_msg_size=MAX_MESSAGE + 1
        )
        if not socket.can_prepare(request):
            raise web.HTTPBadRequest(text="this is no handshake of a WebSocket\n")
        async with self._room(name, create=permission.write) as room:
            await socket.prepare(request)
            transport = request.transport
            if transport is not None:  # else they have left already
                await room.serve(ServerSocket(socket, transport), permission)
        return socket


def host_of(origin: str) -> str | None:
    """The host, and port if it is no usual one, in an `Origin` header."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


# --- the client ---------------------------------------------------------------------------------------------


class AiohttpTransport:
    """`ws:` and `wss:` URLs of documents, also written as `http:` and `https:`."""

    name = "aiohttp"
    schemes = ("ws", "wss", "http", "https")

    def connect(self, url: str, document: Document, **options: Any) -> Link:
        """Link a document to a server's.

        Options: `token`, or `headers`, that say who is there; `reconnect`, True unless told otherwise;
        `on_presence` and `on_progress`, see `Link`.
        """
        headers = headers_of(options)

        async def open_channel() -> Channel:
            session = aiohttp.ClientSession(headers=headers)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    socket = await session.ws_connect(
                        url,
                        heartbeat=HEARTBEAT,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                        max_msg_size=MAX_MESSAGE + 1,
                    )
            except BaseException as error:
                await session.close()
                if isinstance(error, aiohttp.WSServerHandshakeError):
                    what = (
                        f"{url} refused the link: {error.status} {responses.get(error.status, error.message)}"
                    )
                    later = error.status >= 500 or error.status in AGAIN
                    raise (ConnectionError(what) if later else SyncError(what)) from error
                if isinstance(error, aiohttp.InvalidURL):
                    raise SyncError(f"{url!r} is no URL") from error
                if isinstance(error, aiohttp.ClientConnectorCertificateError):
                    raise SyncError(f"{url}: {error}") from error
                if isinstance(error, aiohttp.ClientError | TimeoutError):
                    raise ConnectionError(f"{url}: {error}") from error
                raise
            return ClientSocket(socket, session)

        return Link(document, open_channel, **options)

    async def fetch(self, url: str, **options: Any) -> bytes:
        """A server's document as bytes. `SyncError` if it is refused, `ConnectionError`."""
        try:
            async with (
                aiohttp.ClientSession(headers=headers_of(options)) as session,
                session.get(f"{url.rstrip('/')}/encoded") as response,
            ):
                data = await response.read()
                if response.status != web.HTTPOk.status_code:
                    text = data.decode(errors="replace").strip()
                    raise SyncError(f"{url} answers {response.status} {response.reason}: {text:.200}")
                return data
        except aiohttp.InvalidURL as error:
            raise SyncError(f"{url!r} is no URL") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(f"{url}: {error}") from error

    async def place(self, url: str, kind: str) -> Place:
        """Not for a server's document: link to it instead."""
        raise NotImplementedError("a WebSocket keeps nothing")

    async def serve(
        self,
        open_place: Callable[[str], Awaitable[Place]],
        *,
        host: str,
        port: int,
        token: str | None = None,
        anyone: bool = False,
        ready: Callable[[str], None],
        idle: float = IDLE,
        listing: Listing | None = None,
    ) -> None:
        """Serve documents, and the page to edit them, until SIGINT or SIGTERM, then store them all.

        `OSError` if the port is taken.

        Who knows the `token` may read and write; without one plugins say who may; without any that do, who is
        on this machine, or if `anyone` is true, anyone. `SyncError` if that would leave nobody: the host is
        not this machine alone. `ready` is called with the URL below which the documents are.
        """
        authenticate: Authenticate = local_only
        if token is not None:
            authenticate = Token(token)
        elif hook().authenticate.get_hookimpls():
            authenticate = ask_plugins
        elif anyone:
            authenticate = anybody
        elif host not in LOCAL_HOSTS:
            raise SyncError(f"to serve others than this machine, at {host}, say who may: a token, or anyone")
        app = web.Application()
        setup(app, open_place, authenticate=authenticate, idle=idle, page=True, listing=listing)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=5.0)
        allow_many_files()
        keep_buffers()
        gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            bound = runner.addresses[0]
            ready(f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}/")
            await stop.wait()
        finally:
            await runner.cleanup()


def allow_many_files() -> None:
    """Let the process have as many open files and sockets as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_buffers() -> None:
    """Let memory that is read into come from what was freed before, not anew from the system each time.

    asyncio reads into a new buffer of 256 KiB. The C library of Linux has the system map and unmap one so
    large, which takes longer than to read, until one that is larger still has been freed.
    """
    bytearray(1 << 20)


def headers_of(options: dict[str, Any]) -> dict[str, str]:
    """The headers that `token` and `headers` ask for, which are taken out of the options."""
    headers = dict(options.pop("headers", None) or {})
    token = options.pop("token", None)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


@hookimpl
def register_transports(register: Callable[[Transport], None]) -> None:
    register(AiohttpTransport())
