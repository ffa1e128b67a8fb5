"""Servers and clients for tests, within this process and on real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from egwalker import Document, StorageError
from egwalker.hub import Hub, Place
from egwalker.links import Link
from egwalker.transport import connect
from egwalker.transports.aiohttp import anybody, setup
from egwalker.transports.file import FileTransport

OpenPlace = Callable[[str], Awaitable[Place]]

PATIENCE = 120.0
"""Seconds that may pass, on a busy machine, until what should happen has happened."""
FIRST_PORT = 10_000 + os.getpid() % 2200 * 10
PORTS = cycle(range(FIRST_PORT, FIRST_PORT + 10))
"""Of this process, below those that systems hand out: a server that is away loses its port to nobody."""


def files(folder: Path, kind: str = "text") -> OpenPlace:
    """Places in the `.egw` files of a folder."""

    async def open_place(name: str) -> Place:
        return await FileTransport().place(f"file:{quote(str(folder / name))}.egw", kind)

    return open_place


class FakePlace:
    """A place in memory that can be slow, and fail."""

    def __init__(self, document: Document | None = None) -> None:
        self.document = document or Document()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.commits = 0
        self.stored = ""
        self.closed = False

    async def commit(self) -> None:
        assert not self.closed
        content = self.document.content
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.commits += 1
        self.stored = content

    async def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


class FakePlaces:
    """Places by name, each made when it is first opened, if the gate is open; `failing` names cannot be."""

    def __init__(self) -> None:
        self.places: dict[str, FakePlace] = {}
        self.opened: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, name: str) -> FakePlace:
        self.opened.append(name)
        await self.gate.wait()
        if name in self.failing:
            raise self.failing[name]
        old = self.places.get(name)
        assert old is None or old.closed, f"{name} is open already"
        self.places[name] = FakePlace(old.document if old is not None else None)
        return self.places[name]


def full() -> StorageError:
    """What a full disk says."""
    return StorageError("/secret/place/x.egw: No space left on device")


class Running(NamedTuple):
    """A server: below which URL, at which port, and its hub."""

    url: str
    port: int
    hub: Hub


@asynccontextmanager
async def running(open_place: OpenPlace, port: int = 0, **options: Any) -> AsyncIterator[Running]:
    """A server on loopback for anybody, unless the options of `setup` say otherwise."""
    app = web.Application()
    options.setdefault("authenticate", anybody)
    hub = setup(app, open_place, **options)
    async with serving(app, port) as bound:
        yield Running(f"ws://127.0.0.1:{bound}/", bound, hub)


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[int]:
    """An application on loopback; its port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def link(url: str, document: Document, **options: Any) -> Link:
    """`connect`, which gives a `Link` for the URLs of servers."""
    found = connect(url, document, **options)
    assert isinstance(found, Link)
    return found


async def until(what: Callable[[], object]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.005)


async def raw(port: int, lines: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which some bytes have been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(lines)
    return reader, writer


def free_port() -> int:
    """A port that nobody listens at, nor will who asks for any."""
    while True:
        port = next(PORTS)
        with socket.socket() as found, suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            found.bind(("127.0.0.1", port))
            return port
