"""The server: who may do what, names, slow and dead clients, limits, plain HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import timeless
from aiohttp import web
from server_crash import crash
from serving import PATIENCE, FakePlaces, Running, files, free_port, link, raw, running, serving, until

from egwalker import DecodeError, Document, SyncError, hookimpl
from egwalker import hub as hub_module
from egwalker.egw_file import EgwFile
from egwalker.hub import Permission
from egwalker.links import Channel, Link
from egwalker.messages import ACK, DONE, FETCH, MAX_MESSAGE, UPDATE, encode_presence
from egwalker.plugin_manager import manager
from egwalker.replica import Replica
from egwalker.session import Greeted, Presence, Session
from egwalker.transports import aiohttp as transport
from egwalker.transports.aiohttp import AiohttpTransport, Token, check_name, local_only, setup

RIGHTS = {
    "none": None,
    "wrong": None,
    "read": Permission("r", write=False),
    "write": Permission("w", read=False),
    "both": Permission("rw"),
}
SECRETS = (b"SECRET", b"secretagent", b"secretpresence", b"LATER")
KINDS = ("hello", "backlog", "update", "presence", "ack", "done first", "garbage", "text", "oversized")
GETS = ("", "?at=secretagent:2", "/history", "/stat", "/encoded")


def by_header(_: str, request: web.Request) -> Permission | None:
    return RIGHTS[request.headers.get("Rights", "none")]


def origin_of(kind: str, port: int) -> dict[str, str]:
    return {
        "absent": {},
        "same": {"Origin": f"http://127.0.0.1:{port}"},
        "other": {"Origin": "http://evil.example"},
        "null": {"Origin": "null"},
    }[kind]


def secret_places(names: list[str]) -> FakePlaces:
    places = FakePlaces()

    async def fill() -> None:
        for name in names:
            place = await places(name)
            place.document = Document(agent="secretagent", id="0" * 32)
            place.document.insert(0, "SECRET")
            place.closed = True

    asyncio.run(fill())
    places.opened.clear()
    return places


async def attack(
    server: Running, name: str, kind: str, headers: dict[str, str], owed: tuple[bytes, ...] = ()
) -> tuple[int, bytes, Any]:
    """Try something on a document; the status of the handshake, all bytes that came, and the session.

    What is `owed` is waited for.
    """
    mine = Document(agent="mallory", id="0" * 32)
    if kind == "backlog":
        mine.insert(0, "EVIL")
    session = Session(mine)
    got = b""
    async with aiohttp.ClientSession(headers=headers) as client:
        try:
            socket = await client.ws_connect(
                server.url.replace("ws:", "http:") + name, timeout=aiohttp.ClientWSTimeout(ws_close=1.0)
            )
        except aiohttp.WSServerHandshakeError as error:
            return error.status, str(error.headers).encode(), session
        if kind == "done first":
            await socket.send_bytes(bytes([DONE, 0]))
        elif kind == "garbage":
            await socket.send_bytes(Random(name).randbytes(1000))
        elif kind == "text":
            await socket.send_str("hello")
        elif kind == "oversized":
            with suppress(ConnectionError):
                await socket.send_bytes(bytes(MAX_MESSAGE + 100))
        else:
            while message := session.poll():
                await socket.send_bytes(message)
        acted = False
        while True:
            try:
                # What it waits for may take long on a busy machine; that nothing more comes, it cannot know.
                waits = kind == "update" and "EVIL" not in mine.content
                waits |= any(secret not in got for secret in owed)
                message_in = await socket.receive(PATIENCE if waits else 0.8)
            except TimeoutError:
                break
            if message_in.type is not aiohttp.WSMsgType.BINARY:
                got += repr(message_in).encode()
                break
            got += message_in.data
            if kind in ("done first", "garbage", "text", "oversized"):
                continue
            session.receive(message_in.data)
            if not acted and session.greeted:
                acted = True
                if kind == "ack":
                    await socket.send_bytes(bytes([ACK, 1, 99, 99]))
                elif kind == "presence":
                    session.show("mallory", "EVIL")
            if kind == "update" and acted and session._done_sent and "EVIL" not in mine.content:
                mine.insert(0, "EVIL")
            while kind != "ack" and (message := session.poll()):
                await socket.send_bytes(message)
        await socket.close()
    return 101, got, session


def test_rights_over_websockets() -> None:
    """No byte of a document reaches who may not read it, and nothing enters from who may not write."""
    cases = list(itertools.product(RIGHTS, ("absent", "same", "other", "null"), KINDS))
    names = ["-".join(case).replace(" ", "") for case in cases]
    places = secret_places(names)

    async def one(server: Running, case: tuple[str, str, str], name: str) -> None:
        rights, origin, kind = case
        resident = Document(agent="secretagent2")
        url = server.url + name
        allowed = RIGHTS[rights] if origin in ("absent", "same") else None
        headers = {"Rights": rights, **origin_of(origin, server.port)}
        if allowed is None:
            status, got, _ = await attack(server, name, kind, headers)
            assert status == 403
            assert name not in places.opened, "it was opened for somebody without any right"
            assert not any(secret in got for secret in SECRETS)
            return
        talked = kind in ("hello", "update", "presence") and (allowed.write or kind != "update")
        owed = SECRETS if allowed.read and talked else ()
        async with link(url, resident, headers={"Rights": "both"}) as friend:
            await friend.synced()
            friend.show("secretpresence")
            attempt = asyncio.create_task(attack(server, name, kind, headers, owed))
            await asyncio.sleep(0.1)
            resident.insert(0, "LATER ")
            status, got, session = await attempt
            assert status == 101
            await friend.persisted()
            leaked = [secret for secret in SECRETS if secret in got]
            if not allowed.read:
                assert not leaked, (case, leaked)
                assert session.document.content in ("", "EVIL")
                # What it may send is taken, and what came of it concerns others only.
                assert session.remaining == 0
                assert not friend.presences
            elif owed:
                assert leaked == list(SECRETS), (case, leaked)
            enters = allowed.write and kind in ("backlog", "update")
            if enters:
                await until(lambda: "EVIL" in resident.content)
            assert ("EVIL" in resident.content) == enters, case
            assert places.places[name].document.content.replace("EVIL", "") == "LATER SECRET"

    async def main() -> None:
        async with running(places, authenticate=by_header) as server:
            gate = asyncio.Semaphore(20)

            async def gated(case: tuple[str, str, str], name: str) -> None:
                async with gate:
                    await one(server, case, name)

            found = await asyncio.gather(
                *[gated(case, name) for case, name in zip(cases, names, strict=True)], return_exceptions=True
            )
            for case, error in zip(cases, found, strict=True):
                if error is not None:
                    raise AssertionError(f"{case}: {error!r}") from error

    asyncio.run(main())


def test_a_version_vector_is_not_for_who_may_not_read() -> None:
    places = secret_places(["x"])

    async def main() -> None:
        async with running(places, authenticate=by_header) as server:
            vectors = {}
            for rights in ("write", "both"):
                session = Session(Document(id="0" * 32))
                channel = await link(server.url + "x", Document(), headers={"Rights": rights})._open_channel()
                message = session.poll()
                assert message is not None
                channel.write(message)
                await channel.drain()
                answer = await channel.receive()
                assert answer is not None
                (event,) = session.receive(answer)
                assert isinstance(event, Greeted)
                vectors[rights] = event.vector
                await channel.close()
            assert vectors == {"write": {}, "both": {"secretagent": [(0, 6)]}}

    asyncio.run(main())


def test_rights_over_http() -> None:
    places = secret_places(["x"])

    async def main() -> None:
        async with running(places, authenticate=by_header) as server, aiohttp.ClientSession() as client:
            for rights, origin, path in itertools.product(RIGHTS, ("absent", "same", "other", "null"), GETS):
                headers = {"Rights": rights, **origin_of(origin, server.port)}
                opened = len(places.opened)
                async with client.get(f"http://127.0.0.1:{server.port}/x{path}", headers=headers) as response:
                    got = await response.read() + str(response.headers).encode()
                may = RIGHTS[rights]
                if may is not None and may.read and origin in ("absent", "same"):
                    assert response.status == 200, (rights, origin, path)
                    assert response.headers["X-Content-Type-Options"] == "nosniff"
                    assert b"SEC" in got or path == "/stat"
                else:
                    assert response.status == 403, (rights, origin, path)
                    assert not any(secret in got for secret in (*SECRETS, b"SEC", b"0000000"))
                    assert len(places.opened) == opened

    asyncio.run(main())


def test_what_http_gives() -> None:
    places = secret_places(["x"])

    async def main() -> None:
        async with (
            running(places) as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client,
        ):

            async def get(path: str) -> tuple[int, str]:
                async with client.get(path) as response:
                    return response.status, await response.text(errors="replace")

            assert await get("/x") == (200, "SECRET")
            assert await get("/x?at=secretagent:2") == (200, "SEC")
            assert await get("/x?at=root") == (200, "")
            assert (await get("/x?at=secretagent:9"))[0] == 404
            assert (await get("/x?at=nonsense"))[0] == 400
            history = json.loads((await get("/x/history"))[1])
            assert history["runs"] == [["secretagent", 0, [], [[0, 0, "SECRET"]]]]
            history = json.loads((await get("/x/history?since=secretagent:3"))[1])
            assert history["runs"] == [["secretagent", 4, [["secretagent", 3]], [[4, 0, "ET"]]]]
            assert (await get("/x/history?since=nobody:3"))[0] == 404
            assert json.loads((await get("/x/stat"))[1])["events"] == 6
            async with client.get("/x/encoded") as response:
                assert Document.decode(await response.read()).content == "SECRET"
            assert (await get("/x/what"))[0] == 404
            async with client.post("/x", data=b"EVIL") as response:
                assert response.status == 405

    asyncio.run(main())


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(files(tmp_path), authenticate=by_header) as server,
            aiohttp.ClientSession() as client,
        ):
            for path in GETS:
                async with client.get(
                    f"http://127.0.0.1:{server.port}/new{path}", headers={"Rights": "both"}
                ) as response:
                    assert response.status == 404
            async with link(server.url + "new", Document(), headers={"Rights": "read"}) as one:
                with pytest.raises(SyncError, match="404 Not Found"):
                    await asyncio.wait_for(one.synced(), PATIENCE)
            await until(lambda: not len(server.hub))
            assert list(tmp_path.iterdir()) == []
            async with link(server.url + "new", Document(), headers={"Rights": "write"}) as one:
                await one.persisted()
            assert [path.name for path in tmp_path.iterdir()] == ["new.egw"]
            async with client.get(
                f"http://127.0.0.1:{server.port}/new", headers={"Rights": "both"}
            ) as response:
                assert response.status == 200

    asyncio.run(main())


BAD_NAMES = (
    "..", ".", ".hidden", "a/b", "../x", "a\\b", "nul\0", "tab\t", "new\nline", "\x7f", "trailing.",
    "trailing ", " leading", "x" * 201, "ü" * 101, "cafe\u0301", "\u202egpj.exe", "\ufeffx",
    "zero\u200bwidth", "a\u2028b", "\uff0e\uff0e", "a\uff0fb", "\u2100", "\u2026", "\ud800", "", "-",
)  # fmt: skip
GOOD_NAMES = (
    "notes",
    "a.b",
    "Käse",
    "ab c",
    "x" * 200,
    "漢字",
    "👩\u200d👩\u200d👧",
    "a%2Fb",
    "--",
    "~",
    "a:b",
    "q?x#y",
)


def test_names() -> None:
    for name in BAD_NAMES:
        with pytest.raises(DecodeError):
            check_name(name)
    for name in GOOD_NAMES:
        assert check_name(name) == name


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inner" / "docs"
    folder.mkdir(parents=True)

    async def ask(server: Running, target: str, upgrade: bool) -> int:
        more = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            if upgrade
            else "Connection: close\r\n"
        )
        reader, writer = await raw(
            server.port, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{more}\r\n".encode()
        )
        status = int((await reader.readline()).split()[1])
        writer.close()
        await writer.wait_closed()
        return status

    async def main() -> None:
        async with running(files(folder)) as server:
            for name in BAD_NAMES:
                if name in ("", "\ud800"):
                    continue  # no path has these
                target = "/" + quote(name, safe="", errors="surrogatepass")
                for upgrade in (False, True):
                    status = await ask(server, target, upgrade)
                    assert status == 400, name
            for target in (
                "/..",
                "/../x",
                "/%2e%2e",
                "/%2e%2e%2fx",
                "/..%2f..%2fx",
                "//x",
                "/x%00",
                "/x%2f..",
                "/%5c..%5cx",
            ):
                for upgrade in (False, True):
                    assert await ask(server, target, upgrade) in (400, 404), target
            for name in GOOD_NAMES:
                async with link(server.url + quote(name, safe=""), Document()) as one:
                    await one.persisted()
        assert {path.name for path in folder.iterdir()} == {f"{name}.egw" for name in GOOD_NAMES}
        assert [path.name for path in tmp_path.rglob("*") if path.parent != folder] == ["inner", "docs"]

    asyncio.run(main())


def test_nothing_is_buffered_before_authentication() -> None:
    """While it takes time to find out who it is, nothing is opened, and what they send stays with them."""

    async def main() -> None:
        gate = asyncio.Event()

        async def slowly(_: str, __: web.Request) -> Permission | None:
            await gate.wait()
            return None

        places = FakePlaces()
        async with running(places, authenticate=slowly) as server:
            reader, writer = await raw(
                server.port,
                b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            )
            writer.transport.set_write_buffer_limits(high=0)
            sent = 0
            with suppress(TimeoutError):
                while sent < 200 << 20:
                    writer.write(bytes(1 << 20))
                    await asyncio.wait_for(writer.drain(), 0.3)
                    sent += 1 << 20
            assert sent < 100 << 20, "only the system's buffers take something"
            assert places.opened == []
            gate.set()
            assert b"403" in await reader.readline()
            writer.transport.abort()

    asyncio.run(main())


def test_local_only_asks_for_the_name_of_this_machine(tmp_path: Path) -> None:
    """A page of another site can make its own name lead here, but then it says so."""

    async def main() -> None:
        async with running(files(tmp_path), authenticate=local_only) as server:
            for host, status in {
                f"127.0.0.1:{server.port}": 404,
                "localhost": 404,
                "LOCALHOST:80": 404,
                "[::1]:8080": 404,
                "evil.example": 403,
                "127.0.0.1.evil.example": 403,
                "localhost.evil.example": 403,
                "[::1": 403,
                "": 403,
            }.items():
                reader, writer = await raw(
                    server.port, f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                assert int((await reader.readline()).split()[1]) == status, host
                writer.close()
                await writer.wait_closed()

    asyncio.run(main())


def test_odd_headers_are_refused() -> None:
    async def main() -> None:
        async with running(FakePlaces(), authenticate=Token("t\u00f6ken")) as server:
            for header in (
                b"Origin: http://[",
                b"Authorization: Bearer \xff\xfe",
                b"Authorization: Bearer ",
                b"Authorization: t\xc3\xb6ken",
            ):
                reader, writer = await raw(
                    server.port, b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + header + b"\r\n\r\n"
                )
                assert b"403" in await reader.readline(), header
                writer.close()
                await writer.wait_closed()
            async with aiohttp.ClientSession() as client:
                for url in ("x?token=t%C3%B6ken", "x"):
                    async with client.get(
                        f"http://127.0.0.1:{server.port}/{url}",
                        headers={} if "?" in url else {"Authorization": "bearer t\u00f6ken"},
                    ) as response:
                        assert response.status == 404

    asyncio.run(main())


def test_origins_that_may() -> None:
    async def main() -> None:
        async with (
            running(FakePlaces(), origins=["https://app.example"]) as server,
            aiohttp.ClientSession() as client,
        ):
            for origin, status in {"https://app.example": 404, "https://other.example": 403}.items():
                async with client.get(
                    f"http://127.0.0.1:{server.port}/x", headers={"Origin": origin}
                ) as response:
                    assert response.status == status

    asyncio.run(main())


def test_what_cannot_be_opened_is_not_explained(tmp_path: Path) -> None:
    """Where documents are is nobody's business; who waits for one that is locked connects later."""
    path = tmp_path / "x.egw"
    (tmp_path / "bad.egw").write_bytes(b"no such file")

    async def main() -> None:
        async with running(files(tmp_path)) as server, aiohttp.ClientSession() as client:
            with EgwFile.open(path, create="text") as held:
                held.document.insert(0, "hello")
                for name in ("x", "bad"):
                    async with client.get(f"http://127.0.0.1:{server.port}/{name}") as response:
                        assert response.status == 503
                        assert str(tmp_path) not in await response.text()
                document = Document()
                async with link(server.url + "x", document) as one:
                    await asyncio.sleep(0.2)
                    assert not one.connected
                    assert one.error is None
                    await asyncio.to_thread(held.close)
                    await asyncio.wait_for(one.synced(), PATIENCE)
                    assert document.content == "hello"

    asyncio.run(main())


class Deaf:
    """A channel whose owner stops reading."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.hears = asyncio.Event()
        self.hears.set()
        self.write = channel.write
        self.drain = channel.drain
        self.close = channel.close

    async def receive(self) -> bytes | None:
        await self.hears.wait()
        return await self.channel.receive()


def test_a_slow_reader_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SEND_TIMEOUT", PATIENCE)

    async def main() -> None:
        async with running(FakePlaces()) as server:
            channels: list[Deaf] = []
            slow, writer, reader = Document(agent="slow"), Document(agent="writer"), Document(agent="reader")
            open_channel = link(server.url + "x", slow)._open_channel

            async def open_deaf() -> Channel:
                channels.append(Deaf(await open_channel()))
                return channels[-1]

            rng = Random(1)
            async with (
                Link(slow, open_deaf) as one,
                link(server.url + "x", writer) as two,
                link(server.url + "x", reader) as three,
            ):
                await asyncio.gather(one.synced(), two.synced(), three.synced())
                room = server.hub._rooms["x"]
                channels[0].hears.clear()
                biggest = rounds = 0
                while rounds < 10:
                    writer.insert(0, rng.randbytes(150_000).hex())
                    await asyncio.wait_for(two.persisted(), PATIENCE)
                    await until(lambda: len(reader) == len(writer))
                    waiting = 0
                    for peer in room.peers.values():
                        socket = peer.talk.channel
                        assert isinstance(socket, transport.ServerSocket)
                        waiting = max(waiting, socket._transport.get_write_buffer_size())
                    biggest = max(biggest, waiting)
                    # What the slow one does not take waits for it, while others have all that was typed.
                    rounds = rounds + 1 if waiting > transport.WRITE_BUFFER // 2 else 0
                assert biggest < 3 << 20, f"{biggest} bytes wait in a socket's buffer"
                assert len(room.peers) == 3
                monkeypatch.setattr(transport, "SEND_TIMEOUT", 0.0)
                await until(lambda: len(room.peers) == 2)
                monkeypatch.setattr(transport, "SEND_TIMEOUT", PATIENCE)
                assert len(slow) < len(writer)
                channels[0].hears.set()
                await until(lambda: len(slow) == len(writer))
                assert slow.content == writer.content
                assert len(channels) > 1, "over another connection"

    asyncio.run(main())


def test_the_dead_are_noticed() -> None:
    """Both ends find out that the other one does not answer any more."""

    async def main() -> None:
        async with running(FakePlaces()) as server:
            reader, writer = await raw(
                server.port,
                b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            )
            assert b"101" in await reader.readline()
            async with link(server.url + "x", Document()) as alive:
                await alive.synced()
                room = server.hub._rooms["x"]
                peers = set(room.peers)
                assert len(peers) == 2
                await asyncio.sleep(2 * transport.HEARTBEAT)
                (left,) = room.peers
                assert left in peers, "who answers stays"
                assert alive.connected
            writer.transport.abort()

        connections: asyncio.Queue[float] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def silent(request: web.Request) -> web.WebSocketResponse:
            connections.put_nowait(loop.time())
            socket = web.WebSocketResponse(autoping=False)
            await socket.prepare(request)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(3600)
            return socket

        app = web.Application(handler_args={"handler_cancellation": True})
        app.router.add_get("/x", silent)
        async with serving(app) as port, link(f"ws://127.0.0.1:{port}/x", Document()):
            first, second = await connections.get(), await connections.get()
            assert transport.HEARTBEAT < second - first < 2 * transport.HEARTBEAT

    timeless.run(main())


def test_messages_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends very many is read slowly, and nobody else is."""
    monkeypatch.setattr(transport, "RATE", 1.0)
    monkeypatch.setattr(transport, "BURST", 10.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: asyncio.Queue[tuple[object, float]] = asyncio.Queue()
        async with running(FakePlaces()) as server:
            fast, calm = Document(agent="fast"), Document(agent="calm")
            async with (
                link(server.url + "x", fast) as one,
                link(
                    server.url + "x",
                    calm,
                    on_presence=lambda _, state: seen.put_nowait((state, loop.time())),
                ) as two,
            ):
                await asyncio.gather(one.synced(), two.synced())
                begun = loop.time()
                for i in range(30):
                    one.show(i)
                    await asyncio.sleep(0.001)
                calm.insert(0, "x")
                await two.persisted()
                assert loop.time() - begun < 1.0
                while (found := await seen.get())[0] != 29:
                    pass
                assert 15.0 < found[1] - begun < 30.0

    timeless.run(main())


def test_a_presence_is_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []

    def count(key: str, state: Any) -> bytes:
        encoded.append(state)
        return encode_presence(key, state)

    monkeypatch.setattr(hub_module, "encode_presence", count)

    async def main() -> None:
        async with running(FakePlaces()) as server, AsyncExitStack() as stack:
            links = [link(server.url + "x", Document(agent=f"a{i}")) for i in range(5)]
            for one in links[:4]:
                await stack.enter_async_context(one)
            links[0].show({"at": 1})
            await until(lambda: all(one.presences == {"a0": {"at": 1}} for one in links[1:4]))
            await stack.enter_async_context(links[4])
            await until(lambda: links[4].presences == {"a0": {"at": 1}})
            assert encoded == [{"at": 1}]
            links[0].show(None)
            await until(lambda: not any(one.presences for one in links))
            assert encoded == [{"at": 1}, None]

    asyncio.run(main())


def test_what_messages_count() -> None:
    """An answer to FETCH takes long to make: few are asked for at once."""
    assert transport.cost_of(bytes([UPDATE, 0])) == transport.cost_of(b"") == 1.0
    assert transport.cost_of(bytes([ACK, 0])) < 1.0 < transport.cost_of(bytes([FETCH, 0]))
    assert transport.BURST / transport.FETCH_COST <= 20


def test_plugins_are_asked(tmp_path: Path) -> None:
    class Doorman:
        @hookimpl
        async def authenticate(self, name: str, request: Any) -> Permission | None:
            await asyncio.sleep(0)
            return Permission("known") if request.query.get("who") == "me" and name == "x" else None

    doorman = Doorman()
    manager().register(doorman)

    async def main() -> None:
        async with running(files(tmp_path), authenticate=None) as server:
            async with link(server.url + "x?who=me", Document()) as one:
                await one.persisted()
            for name in "y?who=me", "x?who=you", "x":
                async with link(server.url + name, Document()) as one:
                    with pytest.raises(SyncError, match="403"):
                        await asyncio.wait_for(one.synced(), PATIENCE)

    try:
        asyncio.run(main())
    finally:
        manager().unregister(doorman)


def test_without_a_plugin_nobody_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(files(tmp_path), authenticate=None) as server,
            link(server.url + "x", Document()) as one,
        ):
            with pytest.raises(SyncError, match="403 Forbidden"):
                await asyncio.wait_for(one.synced(), PATIENCE)

    asyncio.run(main())


def test_embedded_beside_other_routes(tmp_path: Path) -> None:
    async def main() -> None:
        async def home(_: web.Request) -> web.Response:
            return web.Response(text="home")

        app = web.Application()
        app.router.add_get("/", home)
        app.router.add_get("/about", home)
        hub = setup(app, files(tmp_path), prefix="/docs", authenticate=transport.anybody)
        async with serving(app) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            document = Document()
            async with link(f"ws://127.0.0.1:{port}/docs/about", document) as one:
                document.insert(0, "synced")
                await one.persisted()
            for path, text in {"/": "home", "/about": "home", "/docs/about": "synced"}.items():
                async with client.get(path) as response:
                    assert await response.text() == text
        assert hub.closed
        assert not len(hub)

    asyncio.run(main())


def serve(open_place: Any, ready: Callable[[str], None], **options: Any) -> Any:
    return AiohttpTransport().serve(open_place, **{"host": "127.0.0.1", "port": 0, "ready": ready, **options})


def test_who_is_let_in_by_default(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(SyncError, match="say who may"):
            await serve(files(tmp_path), lambda _: None, host="0.0.0.0")
        for options, allowed in (
            ({}, [{}]),
            ({"token": "t"}, [{"token": "t"}]),
            ({"anyone": True, "host": "0.0.0.0"}, [{}]),
        ):
            urls: list[str] = []
            task = asyncio.create_task(serve(files(tmp_path), urls.append, **options))
            await until(lambda urls=urls: urls)  # type: ignore[misc]
            url = urls[0].replace("0.0.0.0", "127.0.0.1") + "x"
            for one in allowed:
                async with link(url, Document(), **one) as found:
                    await asyncio.wait_for(found.persisted(), PATIENCE)
            if "token" in options:
                for wrong in ({}, {"token": "u"}):
                    async with link(url, Document(), **wrong) as found:
                        with pytest.raises(SyncError, match="403"):
                            await asyncio.wait_for(found.persisted(), PATIENCE)
                fetched = await AiohttpTransport().fetch(url, token="t")
                assert Document.decode(fetched).content == ""
                with pytest.raises(SyncError, match="403"):
                    await AiohttpTransport().fetch(url)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ConnectionError):
            await AiohttpTransport().fetch(f"http://127.0.0.1:{free_port()}/x")

    asyncio.run(main())


def test_servers_are_killed(tmp_path: Path) -> None:
    crashes = asyncio.run(crash(10, tmp_path, clients=4, seed=1))
    assert not crashes.errors, crashes.errors
    assert (crashes.kills, crashes.terms) == (5, 5)
    assert all(client.acknowledged >= crashes.reconnections / 4 for client in crashes.clients)
    assert crashes.reconnections > 15


def test_who_asks_for_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers take the server's time. Others are answered meanwhile, and the same client later."""
    monkeypatch.setattr(transport, "BUDGET", 0.0)
    monkeypatch.setattr(transport, "SHARE", 1e-9)

    async def main() -> None:
        places = FakePlaces()
        async with running(places, authenticate=by_header) as server, aiohttp.ClientSession() as client:
            async with link(server.url + "x", Document(agent="ann"), headers={"Rights": "both"}) as one:
                one.document.insert(0, "hello")
                await one.persisted()
            url = server.url.replace("ws:", "http:") + "x"
            for path in ("", "/stat"):
                async with client.get(url + path, headers={"Rights": "both"}) as response:
                    text = await response.text()
                    assert response.status == (200 if not path else 429), text
            assert int(response.headers["Retry-After"]) >= 1
            async with client.get(url, headers={"Rights": "read"}) as response:
                assert response.status == 200, "another one is answered"
            document = Document(agent="ann")
            async with link(server.url + "x", document, headers={"Rights": "both"}) as one:
                await one.synced()
                assert document.content == "hello", "links are another matter"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "owner", "method"),
    [
        ("?at=root", Document, "checkout"),
        ("/history", Document, "history"),
        ("/encoded", Document, "encode"),
        ("/timeline", Replica, "whole"),
    ],
)
def test_nobody_waits_for_what_takes_long(
    path: str, owner: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that needs all of a history is not ready yet, and others type, also into that document."""
    made = getattr(owner, method)
    asked, typed = threading.Event(), threading.Event()

    def slowly(document: Document | Replica, *arguments: Any) -> Any:
        content = document.content if isinstance(document, Document) else document.content()
        if content == "hello" and threading.current_thread() is not threading.main_thread():
            asked.set()
            assert typed.wait(60), "nobody could type meanwhile"
        return made(document, *arguments)

    async def main() -> None:
        async with running(FakePlaces(), page=True) as server, aiohttp.ClientSession() as client:
            ann, bob = Document(agent="ann"), Document(agent="bob")
            async with link(server.url + "x", ann) as one, link(server.url + "y", bob) as two:
                ann.insert(0, "hello")
                await asyncio.gather(one.persisted(), two.synced())
                monkeypatch.setattr(owner, method, slowly)
                url = server.url.replace("ws:", "http:") + "x"
                asking = asyncio.create_task(client.get(url + path))
                assert await asyncio.to_thread(asked.wait, 60), "it is made in the event loop"
                for document, at in ((ann, one), (bob, two)):
                    document.insert(0, "more ")
                    await at.persisted()
                assert not asking.done()
                typed.set()
                async with await asking as response:
                    assert response.status == 200
                    assert b"more" not in await response.read(), "it is of when it was asked for"

    asyncio.run(main())


def test_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REMEMBERED", 3)
    budget = transport.Budget()
    ann, bob = ("ann", ""), ("bob", "")
    assert budget.wait(ann, 0.0) == 0.0
    budget.spend(ann, 0.7, 0.0)
    assert budget.wait(ann, 0.0) == 0.0
    budget.spend(ann, 0.7, 0.0)
    assert budget.wait(ann, 0.0) == pytest.approx(4.0)
    assert budget.wait(bob, 0.0) == 0.0
    assert budget.wait(ann, 3.0) == pytest.approx(1.0)
    assert budget.wait(ann, 4.001) == 0.0
    budget.spend(ann, 5.0, 20.0)
    assert budget.wait(ann, 20.0) == pytest.approx(40.0)
    for number in range(10):
        budget.spend((str(number), ""), 0.1, 20.0)
    assert len(budget._used) == 3


@pytest.mark.parametrize("bits", [9, 15])
@pytest.mark.parametrize("size", [1024, 5000, 200_000])
def test_a_compressed_frame(bits: int, size: int) -> None:
    """Its head is stored, what follows deflated, in one stream that any inflater reads."""
    data = Random(size).randbytes(size // 4).hex().encode()[:size].ljust(size, b"x")
    stream = transport.deflated_head(data[:2]) + transport.deflated(data[2:], bits)
    assert len(stream) < 0.7 * size
    reader = zlib.decompressobj(-bits)
    assert reader.decompress(stream + b"\0\0\xff\xff") == data
    assert not reader.unused_data


def test_large_messages_are_compressed_for_who_offers_it() -> None:
    async def main() -> None:
        async with running(FakePlaces()) as server, aiohttp.ClientSession() as client:
            text = "all work and no play " * 1000
            resident = Document(agent="resident")
            url = server.url.replace("ws:", "http:") + "x"
            async with link(server.url + "x", resident) as one:
                await one.synced()
                for compress in (15, 0):
                    socket = await client.ws_connect(url, compress=compress)
                    assert socket.compress == compress
                    session = Session(Document(agent=f"b{compress}"))
                    (peer,) = [p for p in server.hub._rooms["x"].peers.values() if not p.session.greeted]
                    channel = peer.talk.channel
                    assert isinstance(channel, transport.ServerSocket)
                    frames: list[bytes] = []
                    channel._transport = Recorder(channel._transport, frames)  # type: ignore[assignment]
                    resident.insert(0, text)
                    resident.insert(0, "!")
                    while session.document.content != resident.content:
                        while message := session.poll():
                            await socket.send_bytes(message)
                        session.receive((await socket.receive(PATIENCE)).data)
                    resident.insert(0, "small")
                    while session.document.content != resident.content:
                        session.receive((await socket.receive(PATIENCE)).data)
                    one.show("z" * 3000, f"key{compress}")  # edits of this size are compressed anyway
                    shown = False
                    while not shown:
                        (event,) = session.receive((await socket.receive(PATIENCE)).data)
                        shown = isinstance(event, Presence) and event.key == f"key{compress}"
                    heads = {(frame[0], len(frame) < 500) for frame in frames}
                    assert (0x82, True) in heads
                    assert ((0xC2, True) in heads) == bool(compress)
                    await socket.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


class Recorder:
    """A transport that remembers what is written."""

    def __init__(self, inner: asyncio.WriteTransport, written: list[bytes]) -> None:
        self._inner = inner
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
