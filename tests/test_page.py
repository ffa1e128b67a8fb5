"""The page's server side: files, the list, rights, logging in, what the history slider asks for."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from serving import PATIENCE, FakePlaces, files, link, raw, running, serving, until

from egwalker import Document
from egwalker.egw_file import EgwFile
from egwalker.hub import Permission
from egwalker.transports import page
from egwalker.transports.aiohttp import Token, anybody, setup
from egwalker.transports.file import FileTransport

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}
PATHS = ("rights", "timeline", "past?event=1")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


Get = Callable[..., Awaitable[Answer]]


def listing_of(folder: Path) -> Callable[[], Awaitable[list[tuple[str, float | None]]]]:
    return lambda: FileTransport().places(f"file:{folder}/")


@asynccontextmanager
async def site(open_place: Any, prefix: str = "", **options: Any) -> AsyncIterator[tuple[Get, int, Any]]:
    """A server with the page; what asks it, its port, its hub."""
    app = web.Application()
    options.setdefault("authenticate", anybody)
    hub = setup(app, open_place, prefix=prefix, page=True, **options)
    async with serving(app) as port, aiohttp.ClientSession(auto_decompress=False) as client:

        async def get(path: str, headers: dict[str, str] | None = None, **more: str) -> Answer:
            sent = {"Accept-Encoding": "identity", **(headers or {}), **more}
            async with client.get(
                f"http://127.0.0.1:{port}{path}", headers=sent, allow_redirects=False
            ) as response:
                found = {name.title(): value for name, value in response.headers.items()}
                return Answer(response.status, found, await response.read())

        yield get, port, hub


def store(folder: Path, name: str, text: str = "x", changed: float | None = None) -> Document:
    document = Document(agent="ann")
    document.insert(0, text)
    path = folder / f"{name}.egw"
    EgwFile.open(path, create=document).close()
    if changed is not None:
        os.utime(path, (changed, changed))
    return document


# --- files --------------------------------------------------------------------------------------------------


def test_what_browsers_get() -> None:
    async def main() -> None:
        places = FakePlaces()
        async with site(places) as (get, _, _):
            for path, title in ("/", "Documents"), ("/letter", "Document"), ("/%E2%80%AE", None):
                answer = await get(path, HTML)
                assert answer.status == (200 if title else 400)
                if title:
                    assert f"<title>{title}</title>".encode() in answer.body
                    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            # Nothing is opened for a page that is the same for all.
            assert places.opened == []
            # Programs get what they did: curl says */*.
            assert (await get("/letter", Accept="*/*")).status == 404
            assert (await get("/letter?at=root", HTML)).status == 404
            assert (await get("/", Accept="*/*")).headers["Content-Type"].startswith("application/json")

    asyncio.run(main())


def test_the_policy_is_strict() -> None:
    """No page of another site around ours, nothing loaded from elsewhere, no script within the page."""

    async def main() -> None:
        async with site(FakePlaces()) as (get, _, _):
            for path in ("/", "/letter", *[f"/-/{path}" for path in page.files()]):
                headers = (await get(path, HTML)).headers
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["Referrer-Policy"] == "no-referrer"
                policy = dict(
                    part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
                )
                assert policy.pop("default-src") == "'none'"
                assert policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
                assert policy.pop("form-action") == "'none'"
                assert set(policy) == {
                    "script-src", "style-src", "connect-src", "img-src", "manifest-src", "worker-src",
                }  # fmt: skip
                assert set(policy.values()) == {"'self'"}

    asyncio.run(main())


def test_nothing_comes_from_elsewhere() -> None:
    """In the sources, too: no inline script or style, no handler in markup, no address of another host."""
    for path, file in page.files().items():
        text = file.body.decode()
        if path.endswith(".html"):
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), path
            for source in re.findall(r'(?:src|href)="([^"]*)"', text):
                assert source == "./" or source.removeprefix("-/") in page.files(), (path, source)
        if path.startswith("vendor/") or path.endswith(".txt"):
            continue
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path
        assert not re.search(r"""["'`](?:https?:)?//""", text.replace("http://www.w3.org/2000/svg", "")), path


def test_modules_import_what_is_there() -> None:
    for path, file in page.files().items():
        if path.endswith(".js") and not path.startswith("vendor/"):
            for name in re.findall(r"""(?:from|import)\s+"([^"]+)";""", file.body.decode()):
                assert name.startswith("."), (path, name)
                target = Path(os.path.normpath(Path(path).parent / name)).as_posix()
                assert target in page.files(), (path, name)


def test_files_are_cached_and_checked() -> None:
    async def main() -> None:
        async with site(FakePlaces()) as (get, _, _):
            for path, file in page.files().items():
                plain = await get(f"/-/{path}")
                packed = await get(f"/-/{path}", **{"Accept-Encoding": "br, gzip"})
                assert plain.body == gzip.decompress(packed.body) == file.body
                assert packed.headers["Content-Encoding"] == "gzip"
                assert plain.headers["Content-Type"] == page.TYPES[path.rpartition(".")[2]]
                tags = [answer.headers["Etag"] for answer in (plain, packed)]
                assert tags[0] != tags[1]
                assert not any(tag.startswith("W/") for tag in tags)
                assert plain.headers["Cache-Control"] == "no-cache"
                assert "Accept-Encoding" in plain.headers["Vary"]
                held = f'"x", {tags[1]}'
                same = await get(f"/-/{path}", **{"If-None-Match": held, "Accept-Encoding": "gzip"})
                assert (same.status, same.body, same.headers["Etag"]) == (304, b"", tags[1])
                other = await get(f"/-/{path}", **{"If-None-Match": tags[0], "Accept-Encoding": "gzip"})
                assert other.status == 200

    asyncio.run(main())


def test_only_files_of_the_page() -> None:
    """Whatever the path: it is looked up among the names of the page's files, and nowhere else."""
    targets = (
        "/-/", "/-/nothing.js", "/-/page/", "/-/page", "/-/../cli.py", "/-/%2e%2e/cli.py", "/-/..%2fcli.py",
        "/-/page/../../cli.py", "/-/page/%2e%2e/%2e%2e/cli.py", "/-//etc/passwd", "/-/%2fetc%2fpasswd",
        "/-/page/page.css%00", "/-/page/page.css/", "/-/PAGE/page.css", "/-/page%5cpage.css",
        "/-/__init__.py", "/-/../../src/egwalker/cli.py", "/-/page/..%5c..%5ccli.py", "/-",
    )  # fmt: skip

    async def main() -> None:
        async with site(FakePlaces()) as (_, port, _):
            for target in targets:
                reader, writer = await raw(
                    port, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
                )
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
                assert answer.split()[1] in (b"404", b"400"), target
                assert b"import" not in answer
                assert b"root:" not in answer

    asyncio.run(main())


def test_below_a_prefix() -> None:
    async def main() -> None:
        async with site(FakePlaces(), prefix="/documents") as (get, _, _):
            assert (await get("/documents/", HTML)).status == 200
            assert (await get("/documents/x", HTML)).status == 200
            assert (await get("/", HTML)).status == 404
            worker = await get("/documents/-/page/worker.js")
            assert worker.headers["Service-Worker-Allowed"] == "/documents/"

    asyncio.run(main())


def test_without_the_page() -> None:
    """Who embeds documents in a service gets the page only by asking for it."""

    async def main() -> None:
        async with running(FakePlaces()) as server, aiohttp.ClientSession() as client:
            for path in ("", "-/page/page.css", "x/rights", "x/timeline", "x"):
                async with client.get(f"http://127.0.0.1:{server.port}/{path}", headers=HTML) as response:
                    assert response.status == 404

    asyncio.run(main())


# --- the list -----------------------------------------------------------------------------------------------


async def listed(get: Get, query: str = "", **headers: str) -> dict[str, Any]:
    answer = await get(f"/{query}", JSON, **headers)
    assert answer.status == 200, answer
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FRESH", 0.0)
    store(tmp_path, "old", changed=1e9)
    store(tmp_path, "Käse & <b>", changed=1.1e9)
    for name in (".hidden.egw", "notes.txt", "\u202eegw.egw", "-.egw", "trailing .egw"):
        (tmp_path / name).write_text("")

    async def main() -> None:
        async with site(files(tmp_path), listing=listing_of(tmp_path)) as (get, port, hub):
            assert await listed(get) == {
                "documents": [
                    {"name": "Käse & <b>", "changed": 1.1e9, "people": [], "links": 0},
                    {"name": "old", "changed": 1e9, "people": [], "links": 0},
                ],
                "more": False,
                "complete": True,
            }
            assert not len(hub), "a document was opened to be listed"
            new = Document(agent="ann")
            async with link(f"ws://127.0.0.1:{port}/new", new) as one:
                await one.synced()
                names = [found["name"] for found in (await listed(get))["documents"]]
                assert names[1:] == ["Käse & <b>", "old"]
                new.insert(0, "!")
                await one.persisted()
                one.show({"name": "Ann \u202e<i>", "color": "#00ff00", "head": 1}, "ann")
                one.show({"name": 7}, "bob")
                one.show(["Eve"], "eve")
                one.show({"name": "J" * 500, "color": "url(//evil)"}, "joe")

                async def seen() -> list[dict[str, Any]]:
                    first: list[dict[str, Any]] = (await listed(get))["documents"]
                    return first

                async with asyncio.timeout(PATIENCE):
                    while len((await seen())[0]["people"]) < 2:
                        await asyncio.sleep(0.01)
                first = (await seen())[0]
                assert first["name"] == "new"
                assert first["links"] == 1
                assert first["people"] == [
                    {"name": "Ann \u202e<i>", "color": "#00ff00"},
                    {"name": "J" * page.NAME_LENGTH, "color": ""},
                ]
            await until(lambda: not any(room.peers for room in hub.rooms()))
            assert (await listed(get))["documents"][0]["people"] == []
            found = await listed(get, "?find=KÄSE")
            assert [one["name"] for one in found["documents"]] == ["Käse & <b>"]
            found = await listed(get, "?limit=2")
            assert [one["name"] for one in found["documents"]] == ["new", "Käse & <b>"]
            assert found["more"]
            for bad in "-1", "x", "", "1e3", "1" * 13:
                assert (await get(f"/?limit={bad}", JSON)).status == 400

    asyncio.run(main())


def test_a_place_that_cannot_tell(tmp_path: Path) -> None:
    """What is open is listed, and that this may not be all is said."""
    store(tmp_path, "kept")

    async def main() -> None:
        async with site(files(tmp_path)) as (get, port, _):
            assert await listed(get) == {"documents": [], "more": False, "complete": False}
            async with link(f"ws://127.0.0.1:{port}/kept", Document()) as one:
                await one.synced()
                assert await listed(get) == {
                    "documents": [{"name": "kept", "changed": None, "people": [], "links": 1}],
                    "more": False,
                    "complete": False,
                }

    asyncio.run(main())


def test_thousands_of_documents(tmp_path: Path) -> None:
    """None is opened; each is asked for once, and no more than are shown; others get turns meanwhile."""
    for number in range(5000):
        path = tmp_path / f"n{number:04}.egw"
        path.touch()
        os.utime(path, (number, number))
    asked: list[str] = []

    def ask(name: str, _: web.Request) -> Permission | None:
        asked.append(name)
        return Permission("x") if not name.endswith("7") else None

    async def main() -> None:
        async with site(files(tmp_path), listing=listing_of(tmp_path), authenticate=ask) as (get, _, hub):
            found = await listed(get, "?limit=90")
            assert found["more"]
            names = [one["name"] for one in found["documents"]]
            assert names == [f"n{number}" for number in range(4999, 4899, -1) if number % 10 != 7]
            assert len(asked) <= 102
            assert len((await listed(get, "?find=77"))["documents"]) == sum(
                "77" in f"{number:04}" and number % 10 != 7 for number in range(5000)
            )
            assert len((await listed(get, "?limit=99999"))["documents"]) == page.MOST_LISTED
            await asyncio.gather(*[listed(get) for _ in range(10)])
            assert not len(hub)

    asyncio.run(main())


def test_the_list_is_for_whom_it_is_for(tmp_path: Path) -> None:
    """Nobody learns the name of a document that they may not read."""
    for name in ("ann-notes", "bob-notes"):
        store(tmp_path, name, "SECRET")

    async def ask(name: str, request: web.Request) -> Permission | None:
        user = request.headers.get("User")
        return Permission(user, read=not name or name.startswith(user)) if user else None

    async def main() -> None:
        async with site(files(tmp_path), listing=listing_of(tmp_path), authenticate=ask) as (get, port, _):
            for user in "ann", "bob":
                found = await listed(get, "", User=user)
                assert [one["name"] for one in found["documents"]] == [f"{user}-notes"]
            refused = await get("/", JSON)
            assert refused.status == 403
            assert b"notes" not in refused.body
            for origin in "http://evil.example", "null", f"http://127.0.0.1:{port + 1}":
                assert (await get("/", JSON, User="ann", Origin=origin)).status == 403
                for path in PATHS:
                    assert (await get(f"/ann-notes/{path}", User="ann", Origin=origin)).status == 403
            for path in PATHS:
                for user, name in ("ann", "bob-notes"), ("bob", "ann-notes"):
                    answer = await get(f"/{name}/{path}", User=user)
                    # Who may write may know that.
                    assert answer.status == (200 if path == "rights" else 403)
                    assert b"SECRET" not in answer.body
                assert (await get(f"/ann-notes/{path}")).status == 403
                assert (await get(f"/ann-notes/{path}", User="ann")).status == 200

    asyncio.run(main())


# --- logging in ---------------------------------------------------------------------------------------------


def test_a_token_becomes_a_cookie(tmp_path: Path) -> None:
    store(tmp_path, "notes")
    token = "s3cret/ü&"

    async def main() -> None:
        listing, knows = listing_of(tmp_path), Token(token)
        async with site(files(tmp_path), listing=listing, authenticate=knows) as (get, port, _):
            # The page says nothing of any document, and opens for anybody: to say that they need the token.
            assert (await get("/", HTML)).status == 200
            assert (await get("/", JSON)).status == 403
            for path in "/", "/notes":
                assert (await get(f"{path}?token=wrong", HTML)).status == 403
                answer = await get(f"{path}?token=s3cret%2F%C3%BC%26", HTML)
                assert (answer.status, answer.headers["Location"]) == (303, path)
                (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
                assert cookie["httponly"]
                assert cookie["samesite"] == "Strict"
                assert cookie["path"] == "/"
                assert str(port) in cookie.key
                assert "s3cret" not in str(answer)
                known = {"Cookie": f"{cookie.key}={cookie.value}"}
                assert (await get("/", {**JSON, **known})).status == 200
                assert (await get("/notes", known)).body == b"x"
            # It is no token, only good as this cookie; and not one of another server on this machine.
            assert (await get("/notes", Authorization=f"Bearer {cookie.value}")).status == 403
            assert (await get(f"/notes?token={cookie.value}")).status == 403
            assert (await get("/notes", Cookie=f"egwalker{port + 1}={cookie.value}")).status == 403
            assert (await get("/notes", Cookie=f"{cookie.key}={token.encode().hex()}")).status == 403
            assert (await get("/notes", {**known, "Authorization": "Bearer wrong"})).status == 403
            assert (await get("/notes", {**known, "Origin": "http://evil.example"})).status == 403
            async with link(f"ws://127.0.0.1:{port}/notes", Document(), headers=known) as one:
                await asyncio.wait_for(one.synced(), PATIENCE)

    asyncio.run(main())


# --- the history --------------------------------------------------------------------------------------------


def history(seed: int, agents: int, rounds: int) -> Document:
    rng = Random(seed)
    docs = [Document(agent="ann.0", id="0" * 32)]
    docs += [docs[0].fork(f"agent {number}.x") for number in range(1, agents)]
    for _ in range(rounds):
        doc = rng.choice(docs)
        for _ in range(rng.randint(1, 4)):
            if len(doc) and rng.random() < 0.3:
                doc.delete(rng.randrange(len(doc)))
            else:
                doc.insert(rng.randint(0, len(doc)), rng.choice(("a", "👩", "one two ", "\n")))
        if rng.random() < 0.5:
            doc.merge(rng.choice(docs))
    for doc in docs:
        docs[0].merge(doc)
    return docs[0]


def test_timeline() -> None:
    doc = history(1, 4, 60)
    found = page.timeline(doc)
    assert found["events"] == doc.events
    made = [found["agents"][number] for number, length in found["parts"] for _ in range(length)]
    assert made == [
        agent for agent, _, _, ops in doc.history() for _, gone, text in ops for _ in range(gone + len(text))
    ]
    assert all(one[0] != other[0] for one, other in zip(found["parts"], found["parts"][1:], strict=False))
    assert page.timeline(Document()) == {"events": 0, "agents": [], "parts": []}


@pytest.mark.parametrize("seed", range(20))
def test_a_coarser_timeline(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SEGMENTS", 7)
    rng = Random(seed)
    parts = [[rng.randrange(3), rng.randint(1, 40)] for _ in range(rng.randint(1, 60))]
    events = sum([length for _, length in parts])
    found = page.coarser(parts, events)
    assert len(found) <= max(7, 1)
    assert sum([length for _, length in found]) == events
    if len(parts) > 7:
        made = [number for number, length in parts for _ in range(length)]
        shown = [number for number, length in found for _ in range(length)]
        size = -(-events // 7)
        for start in range(0, events, size):
            piece = made[start : start + size]
            (number,) = set(shown[start : start + size])
            assert piece.count(number) == max(map(piece.count, piece))


def test_past() -> None:
    doc = history(2, 5, 80)
    for event in range(0, doc.events + 1, 3):
        found = page.past(doc, event)
        version = doc.version_at(event)
        assert found["version"] == version
        assert found["content"] == doc.checkout(version)
        assert sum([length for _, length in found["spans"]]) == len(found["content"])
        who = [found["agents"][number] for number, length in found["spans"] for _ in range(length)]
        assert who == [agent for agent, start, end in doc.blame(version) for _ in range(end - start)]


def test_the_past_over_http(tmp_path: Path) -> None:
    doc = store(tmp_path, "x", "one <b>")

    async def main() -> None:
        async with site(files(tmp_path)) as (get, _, _):
            assert json.loads((await get("/x/timeline")).body) == {
                "events": 7, "agents": ["ann"], "parts": [[0, 7]],
            }  # fmt: skip
            assert json.loads((await get("/x/past?event=3")).body) == {
                "event": 3, "version": [["ann", 2]], "content": "one", "agents": ["ann"], "spans": [[0, 3]],
            }  # fmt: skip
            assert json.loads((await get("/x/past?event=7")).body)["content"] == doc.content
            assert (await get("/x/past?event=8")).status == 404
            for bad in "", "?event=", "?event=-1", "?event=x", "?event=1.0", "?event=%D9%A3":
                assert (await get(f"/x/past{bad}")).status == 400, bad
            for path in PATHS[1:]:
                assert (await get(f"/new/{path}")).status == 404

    asyncio.run(main())


def test_the_past_is_made_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else waits for it, not even who edits that document, and nobody can ask for too much at once."""
    store(tmp_path, "x", "one")
    begun, go_on = threading.Event(), threading.Event()

    def slow(document: Document, event: int) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(PATIENCE)
        return {"content": document.checkout(document.version_at(event))}

    monkeypatch.setattr(page, "past", slow)

    async def main() -> None:
        async with site(files(tmp_path)) as (get, port, _):
            events = [number % 4 for number in range(page.ASKING)]
            asked = [asyncio.ensure_future(get(f"/x/past?event={event}")) for event in events]
            assert await asyncio.to_thread(begun.wait, PATIENCE)
            refused = await get("/x/past?event=1")
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            assert (await get("/x")).body == b"one"
            mine = Document(agent="bob")
            async with link(f"ws://127.0.0.1:{port}/x", mine) as one:
                await one.synced()
                mine.insert(3, ", two")
                await one.persisted()
                go_on.set()
                assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
                assert json.loads((await asked[3]).body)["content"] == "one"
                # What came since can be asked for, too.
                assert json.loads((await get("/x/past?event=8")).body)["content"] == "one, two"
                assert (await get("/x/past?event=9")).status == 404
                assert json.loads((await get("/x/past?event=2")).body)["content"] == "on"

    asyncio.run(main())
