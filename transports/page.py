"""The page: documents are listed and edited in a browser that has nothing but this server.

    GET /                    the list of documents: to a browser the page, else JSON
    GET /NAME                to a browser the editor; else the text, see `aiohttp`
    GET /NAME/rights         what who asks may do, as JSON
    GET /NAME/timeline       who wrote when: a slider's way through the history, as JSON
    GET /NAME/past?event=N   the content after the first N events, and who wrote what of it, as JSON
    GET /-/...               the files that the page is made of

The page itself is the same for everybody and says nothing of any document: whoever may see it, what it asks
for is refused to those without the right.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from egwalker.cycore.errors import DecodeError
from egwalker.document import Document
from egwalker.hub import Hub, Room, is_blank
from egwalker.transports.aiohttp import Authenticate, Listing, Server, Token, check_name

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FOLDER = "browser"
"""Within the package: what is served below `/-/`."""
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        *[f"{what}-src 'self'" for what in ("script", "style", "connect", "img", "manifest", "worker")],
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing from elsewhere, no script or style within the page, and no page around it."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
}
DATA_HEADERS = {**HEADERS, "Cache-Control": "no-store", "Vary": "Accept"}
WORKER = "page/worker.js"
"""The service worker: it is for all that the prefix has, not only for what is beside it."""
LISTED, MOST_LISTED = 200, 1000
"""How many documents a list has, and how many one may ask for."""
FRESH = 1.0
"""Seconds for which a listing is good enough for others, too."""
SLICE = 200
"""Documents asked for rights before others get a turn."""
SHOWN = 20
"""People whom a list names at one document."""
NAME_LENGTH = 80
"""Characters of a person's name."""
COLOR = re.compile("#[0-9a-f]{6}")
PASTS = 2
"""How many moments of histories are made at a time."""
ASKING = 8
"""How many one client may wait for."""
COPIES = 4
"""Of how many documents, whose history somebody looks at, there is a copy."""
SEGMENTS = 2000
"""Into how many parts a timeline is cut at most."""


class File(NamedTuple):
    """A file of the page."""

    content_type: str
    body: bytes
    etag: str
    gzipped: bytes


@cache
def files() -> dict[str, File]:
    """All files of the page, by their paths below `/-/`: a request finds one of these, or nothing.

    `files.json` is the list of them all, for whoever keeps them to be there without a connection.
    """

    def below(folder: Traversable, path: str) -> Iterable[tuple[str, bytes]]:
        for entry in folder.iterdir():
            if entry.is_dir():
                yield from below(entry, f"{path}{entry.name}/")
            elif entry.name.rpartition(".")[2] in TYPES:
                yield path + entry.name, entry.read_bytes()

    bodies = dict(below(resources.files("egwalker") / FOLDER, ""))
    bodies["files.json"] = json.dumps(sorted(bodies)).encode()
    found = {}
    for path, body in bodies.items():
        etag = hashlib.sha256(body).hexdigest()[:32]
        found[path] = File(TYPES[path.rpartition(".")[2]], body, etag, gzip.compress(body, 9, mtime=0))
    return found


def wants_page(request: web.Request) -> bool:
    """Whether a browser goes to this address, rather than a program that asks for a content."""
    return "text/html" in request.headers.get("Accept", "").lower() and not request.query.get("at")


async def send_file(request: web.Request, path: str) -> web.Response:
    """A file of the page, or that it is what the browser has already."""
    # Reading them all takes some ten milliseconds, once.
    file = (await asyncio.to_thread(files)).get(path)
    if file is None:
        raise web.HTTPNotFound(text=f"the page has no file {path!r:.80}\n")
    packed = "gzip" in request.headers.get("Accept-Encoding", "").lower()
    # Strong: these very bytes, and packed ones are others.
    etag = f'"{file.etag}{"-gzip" if packed else ""}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept, Accept-Encoding", **HEADERS}
    if path == WORKER:
        headers["Service-Worker-Allowed"] = request.path.removesuffix(f"-/{WORKER}")
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    if etag in known or "*" in known:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = file.content_type
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=file.gzipped if packed else file.body, headers=headers)


class PageServer(Server):
    """A server whose documents can be listed and edited in a browser, too."""

    def __init__(
        self,
        hub: Hub,
        prefix: str,
        authenticate: Authenticate,
        origins: frozenset[str],
        listing: Listing | None,
    ) -> None:
        super().__init__(hub, prefix, authenticate, origins)
        self._listing = listing
        self._listed: tuple[float, list[tuple[str, float | None]]] = (-FRESH, [])
        self._turn = asyncio.Lock()
        self._pasts = asyncio.Semaphore(PASTS)
        self._asking: Counter[tuple[str, str]] = Counter()  # by client
        self._copies: dict[str, tuple[Room, Document]] = {}  # the last used last

    def add_to(self, app: web.Application) -> None:
        """Register the handlers."""
        app.router.add_get(self._prefix + "/", self.documents)
        app.router.add_get(self._prefix + "/-/{path:.+}", self.file)
        super().add_to(app)
        app.router.add_get(self._prefix + "/{name}/rights", self.rights)
        app.router.add_get(self._prefix + "/{name}/timeline", self.timeline)
        app.router.add_get(self._prefix + "/{name}/past", self.past)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Send a file of the page."""
        return await send_file(request, request.match_info["path"])

    async def document(self, request: web.Request) -> web.StreamResponse:
        """Send the editor to a browser; to others the content, or open a WebSocket."""
        if not wants_page(request):
            return await super().document(request)
        try:
            check_name(request.match_info["name"])
        except DecodeError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return self._log_in(request) or await send_file(request, "page/editor.html")

    async def documents(self, request: web.Request) -> web.StreamResponse:
        """The list of documents that may be read, the last changed first: `?find=TEXT`, `?limit=N`."""
        if wants_page(request):
            return self._log_in(request) or await send_file(request, "page/index.html")
        wanted = request.query.get("find", "").casefold()
        limit = min(whole_number(request, "limit", LISTED), MOST_LISTED)
        self._check_origin(request)
        if await self._permission("", request) is None:
            raise web.HTTPForbidden(text="who you are is not known, or you may not\n")
        rooms = {room.name: room for room in self._hub.rooms() if not is_blank(room.document)}
        changed: dict[str, float | None] = dict.fromkeys(rooms)
        changed.update(await self._list())

        def newest(name: str) -> tuple[float, str]:
            when = changed[name]
            # Where nothing is known of the time, somebody is there now.
            return -math.inf if when is None else -when, name

        names = sorted(changed, key=newest)
        found: list[dict[str, Any]] = []
        more = False
        for asked, name in enumerate([name for name in names if wanted in name.casefold()]):
            if len(found) == limit:
                more = True
                break
            if asked % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            permission = await self._permission(name, request)
            if permission is not None and permission.read:
                found.append({"name": name, "changed": changed[name], **who_is_at(rooms.get(name))})
        answer = {"documents": found, "more": more, "complete": self._listing is not None}
        return web.json_response(answer, headers=DATA_HEADERS)

    async def _list(self) -> list[tuple[str, float | None]]:
        """What is kept, as it was at most `FRESH` seconds ago, but for what is no document's name."""
        if self._listing is None:
            return []
        async with self._turn:
            now = monotonic()
            when, listed = self._listed
            if now >= when + FRESH:
                listed = [one for one in await self._listing() if is_name(one[0])]
                self._listed = (now, listed)
            return listed

    async def rights(self, request: web.Request) -> web.StreamResponse:
        """Who asks, and what they may do: a browser cannot see why a WebSocket is refused."""
        _, permission = await self._permit(request)
        return web.json_response(permission._asdict(), headers=DATA_HEADERS)

    async def timeline(self, request: web.Request) -> web.StreamResponse:
        """How many events there are, and who made them, in the order in which they came here."""
        return await self._answer(request, lambda document: web.json_response(timeline(document)))

    async def past(self, request: web.Request) -> web.StreamResponse:
        """The content after the first `?event=N` events, and who wrote what of it.

        It may take a tenth of a second, again and again while somebody moves a slider: it is made of a copy,
        in a thread, and only others who ask for it wait.
        """
        event = whole_number(request, "event")
        name, permission = await self._permit(request)
        if not permission.read:
            raise web.HTTPForbidden(text="this is not yours to read\n")
        client = permission.who, request.remote or ""
        if self._asking[client] >= ASKING:
            raise web.HTTPTooManyRequests(
                text="you are asking for too much of the past at once\n", headers={"Retry-After": "1"}
            )
        self._asking[client] += 1
        try:
            async with self._room(name, create=False) as room, self._pasts:
                copy = self._copy(room, event)
                if event > copy.events:
                    raise web.HTTPNotFound(text=f"there are {copy.events} events, not {event}\n")
                body = await asyncio.to_thread(lambda: json.dumps(past(copy, event)).encode())
        finally:
            self._asking[client] -= 1
            if not self._asking[client]:
                del self._asking[client]
        return web.Response(body=body, content_type="application/json", headers=DATA_HEADERS)

    def _copy(self, room: Room, event: int) -> Document:
        """A copy of a document that has so many of its events, if there are as many: they stay the same."""
        held = self._copies.pop(room.name, None)
        if held is None or held[0] is not room or held[1].events < event:
            held = room, room.document.fork()
        self._copies[room.name] = held
        while len(self._copies) > COPIES:
            del self._copies[next(iter(self._copies))]
        return held[1]

    def _log_in(self, request: web.Request) -> web.Response | None:
        """If the address has the token, a cookie instead and the address without it, which can be shown."""
        if "token" not in request.query or not isinstance(self._authenticate, Token):
            return None
        if self._authenticate("", request) is None:
            raise web.HTTPForbidden(text="this is not the token\n")
        response = web.Response(status=303, headers={"Location": request.path, "Cache-Control": "no-store"})
        self._authenticate.remember(request, response, self._prefix + "/")
        return response


def is_name(name: str) -> bool:
    """Whether a document may have this name."""
    try:
        check_name(name)
    except DecodeError:
        return False
    return True


def who_is_at(room: Room | None) -> dict[str, Any]:
    """Those at a document who say who they are, and how many are linked to it."""
    if room is None:
        return {"people": [], "links": 0}
    people = [found for state in room.shown() if (found := person(state)) is not None]
    return {"people": people[:SHOWN], "links": len(room.peers)}


def whole_number(request: web.Request, name: str, default: int | None = None) -> int:
    """A number in the query; 400 for what is none, or if there has to be one."""
    text = request.query.get(name, "" if default is None else str(default))
    if not re.fullmatch("[0-9]{1,12}", text):
        raise web.HTTPBadRequest(text=f"{name} is a whole number, not {text!r:.80}\n")
    return int(text)


def person(state: Any) -> dict[str, str] | None:
    """The name and colour in a presence, which has whatever the one who sent it liked."""
    if not isinstance(state, dict) or not isinstance(state.get("name"), str):
        return None
    color = state.get("color")
    if not isinstance(color, str) or not COLOR.fullmatch(color):
        color = ""
    return {"name": state["name"][:NAME_LENGTH], "color": color}


def timeline(document: Document) -> dict[str, Any]:
    """The number of events, the agents, and who made how many of them in a row, in this replica's order.

    Where there would be more than `SEGMENTS` parts, they are of one size, and each is of who made most of it.
    O(runs).
    """
    with document._lock:
        runs = [(run.agent, run.end - run.start) for run in document._replica.whole().graph.runs()]
    numbers: dict[str, int] = {}
    parts: list[list[int]] = []
    for agent, length in runs:
        number = numbers.setdefault(agent, len(numbers))
        if parts and parts[-1][0] == number:
            parts[-1][1] += length
        else:
            parts.append([number, length])
    events = sum([length for _, length in parts])
    return {"events": events, "agents": list(numbers), "parts": coarser(parts, events)}


def coarser(parts: list[list[int]], events: int) -> list[list[int]]:
    """At most about `SEGMENTS` parts for these.

    >>> coarser([[0, 3], [1, 1]], 4)
    [[0, 3], [1, 1]]
    """
    if len(parts) <= SEGMENTS:
        return parts
    found: list[list[int]] = []
    size = -(-events // SEGMENTS)
    counts: dict[int, int] = {}
    room = size
    rest = events
    for number, length in parts:
        left = length
        while left:
            taken = min(left, room)
            counts[number] = counts.get(number, 0) + taken
            left -= taken
            room -= taken
            rest -= taken
            if not room or not rest:
                most = max(counts, key=counts.__getitem__)
                if found and found[-1][0] == most:
                    found[-1][1] += size - room
                else:
                    found.append([most, size - room])
                counts, room = {}, size
    return found


def past(document: Document, event: int) -> dict[str, Any]:
    """The content after the first `event` events, and who wrote it: `[agent's number, elements]`."""
    version = document.version_at(event)
    numbers: dict[str, int] = {}
    spans: list[list[int]] = []
    for agent, start, end in document.blame(version):
        number = numbers.setdefault(agent, len(numbers))
        if spans and spans[-1][0] == number:
            spans[-1][1] += end - start
        else:
            spans.append([number, end - start])
    content = document.checkout(version)
    return {
        "event": event,
        "version": version,
        "content": content,
        "agents": list(numbers),
        "spans": spans,
    }
