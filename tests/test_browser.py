"""What the tests in browsers stand on: pages that do wrong are found out, and a profile is one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Page, Person, Server, Site, until
from serving import PATIENCE, free_port, serving

from egwalker import Document, connect

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")

POLICY = "default-src 'none'; script-src 'self'; img-src * data:; connect-src *"
PAGE = """<!doctype html><meta charset="utf-8"><title>Test</title>
<link rel="icon" href="data:,"><script src="page.js"></script>{}<div contenteditable role="textbox"></div>"""
SCRIPT = """
addEventListener("storage", (event) => { window.heard = event.newValue; });
function link() {
    const socket = window.socket = new WebSocket("/echo");
    const said = window.said = [];
    socket.onopen = () => said.push("open");
    socket.onmessage = (event) => said.push(event.data);
    socket.onclose = () => said.push("closed");
}
"""


async def page(request: web.Request) -> web.Response:
    """A page with whatever one asks for in it."""
    return web.Response(
        text=PAGE.format(request.query.get("with", "")),
        content_type="text/html",
        headers={"Content-Security-Policy": POLICY},
    )


async def script(_: web.Request) -> web.Response:
    return web.Response(text=SCRIPT, content_type="text/javascript")


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest_asyncio.fixture(loop_scope="session")
async def alone(engine: Browser, tmp_path: Path) -> AsyncIterator[Site]:
    """People with browsers, and a small page to look at."""
    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/page.js", script)
    app.router.add_get("/echo", echo)
    async with serving(app) as port:
        found = Site(engine, tmp_path / "documents", tmp_path)
        found.server.url = f"http://127.0.0.1:{port}/"
        try:
            yield found
        finally:
            await found.close()


async def found(site: Site) -> None:
    """Wait for a problem."""

    async def there() -> bool:
        return bool(site.problems)

    await until(there, "nothing was found out")


async def typed(page: Page, text: str) -> str:
    box = page.tab.get_by_role("textbox")
    await box.focus()
    await page.type(text)
    return await box.inner_text()


class TestProblems:
    """Each of them would fail the test that has it."""

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            ("<script>alert(1)</script>", "Content Security Policy"),
            ('<p onclick="alert(1)" style="color: red">', "Content Security Policy"),
            ('<img src="http://example.org/x.png">', "a request to http://example.org/x.png"),
            ('<script src="missing.js"></script>', "404"),
        ],
    )
    async def test_in_the_page(self, alone: Site, part: str, said: str) -> None:
        ann = await alone.person("ann")
        await ann.go(f"{alone.server.url}?with={part}")

        await found(alone)
        assert said in alone.problems[0]
        assert alone.problems[0].startswith("ann: ")
        alone.problems.clear()

    async def test_while_it_runs(self, alone: Site) -> None:
        ann = await alone.person("ann")
        page = await ann.go(alone.server.url)
        assert alone.problems == []
        elsewhere = f"ws://127.0.0.1:{free_port()}/"
        for what, said in {
            "console.error('wrong')": "ann: console: wrong",
            "console.warn('odd')": None,
            "setTimeout(() => { throw new Error('thrown') })": "ann: not caught: Error: thrown",
            "void Promise.reject(new Error('refused'))": "ann: not caught: Error: refused",
            f"void new WebSocket('{elsewhere}')": f"ann: a request to {elsewhere}",
        }.items():
            # What is thrown in an evaluation is the test's: a timer makes it the page's.
            await page.tab.evaluate(f"() => {{ setTimeout(() => {{ {what} }}) }}")
            if said is None:
                continue
            await found(alone)
            assert alone.problems.pop(0).startswith(said)
            assert alone.problems == []

    async def test_fail_the_test(self, engine: Browser, tmp_path: Path) -> None:
        site = Site(engine, tmp_path)
        site.expected.append("as it should")
        site.problem("goes wrong as it should")
        await site.close()
        site.problem("goes wrong")
        with pytest.raises(AssertionError, match="goes wrong"):
            await site.close()


class TestPeople:
    async def test_profiles_share_nothing_and_tabs_share_all(self, alone: Site) -> None:
        ann, bob = await alone.person("ann"), await alone.person("bob")
        first, second, other = [await person.go(alone.server.url) for person in (ann, ann, bob)]
        await first.tab.evaluate("localStorage.setItem('key', 'value')")
        get = "localStorage.getItem('key')"
        assert await second.tab.evaluate(get) == "value"
        assert await other.tab.evaluate(get) is None

        async def heard() -> bool:
            return bool(await second.tab.evaluate("window.heard === 'value'"))

        await until(heard, "the other tab was not told")
        await first.close()
        await second.close()
        again = await ann.go(alone.server.url)
        assert await again.tab.evaluate(get) == "value"

    async def test_many_type_at_once(self, alone: Site) -> None:
        people = [await alone.person(str(number)) for number in range(3)]
        pages = await asyncio.gather(*[person.go(alone.server.url) for person in people])
        texts = [f"{number} types 😀 wörds" for number in range(3)]
        assert await asyncio.gather(*map(typed, pages, texts)) == texts
        # Each believes that it is looked at, as somebody's only window is.
        for each in pages:
            assert await each.tab.evaluate("[document.hasFocus(), document.visibilityState]") == [
                True,
                "visible",
            ]

    async def test_offline(self, alone: Site) -> None:
        ann, bob = await alone.person("ann"), await alone.person("bob")
        pages = [await person.go(alone.server.url) for person in (ann, bob)]

        async def said(number: int, *wanted: str) -> None:
            async def there() -> bool:
                found: list[str] = await pages[number].tab.evaluate("window.said")
                return found == [*wanted]

            await until(there, f"person {number} did not hear {wanted}")

        for each in pages:
            await each.tab.evaluate("link()")
        await said(0, "open")
        await ann.offline()
        assert not await pages[0].tab.evaluate("navigator.onLine")
        assert await pages[1].tab.evaluate("navigator.onLine")
        for each in pages:
            await each.tab.evaluate("socket.send('hello')")
        await said(1, "open", "hello")
        await asyncio.sleep(0.2)
        await said(0, "open")
        await pages[0].tab.evaluate("link()")
        await said(0, "closed")
        await ann.offline(False)
        await pages[0].tab.evaluate("link()")
        await said(0, "open")
        # What Chromium says of connections that cannot be made is no page's fault.
        assert alone.problems == []

    async def test_screenshots(self, alone: Site, tmp_path: Path) -> None:
        ann: Person = await alone.person("ann", viewport={"width": 360, "height": 640})
        page = await ann.go(alone.server.url)
        await page.screenshot("small")
        assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
        alone.screenshots = None
        await page.screenshot("none")
        assert not (tmp_path / "none.png").exists()


async def test_barriers_are_found(alone: Site) -> None:
    ann = await alone.person("ann")
    page = await ann.go(f"{alone.server.url}?with=<button></button>")
    found = await page.barriers()
    assert any(line.startswith("button-name (critical)") for line in found)
    assert any("aria-input-field-name" in line for line in found)


async def test_a_server_that_is_killed_comes_back(tmp_path: Path) -> None:
    server = Server(tmp_path / "documents")
    await server.start()
    doc = Document(agent="ann")
    doc.insert(0, "hello")
    async with connect(server.url_of("a b-ü?"), doc) as link:
        async with asyncio.timeout(PATIENCE):
            await link.persisted()
        await server.kill()
        assert server.stored("a b-ü?").content == "hello"
        doc.insert(5, "!")
        await server.start()
        async with asyncio.timeout(PATIENCE):
            await link.persisted()
    await server.stop()
    assert server.stored("a b-ü?").content == "hello!"
    assert not server.runs
