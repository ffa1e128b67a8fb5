"""People with browsers: a real server in a process of its own, and pages in a browser without a window.

`Site` is the server and everybody who is there. A `Person` is a browser profile: what one profile stores, no
other sees. A `Page` is one of a profile's tabs. Whatever a page should never do ends up in `Site.problems`:
errors on its console, exceptions nobody caught, dialogs, violations of its Content-Security-Policy, requests
to others than its server. The fixture `site` (conftest.py) makes a test that leaves any fail.

It is a Chromium, which `make browser` installs, or what `EGWALKER_ENGINE` names, `firefox` or `webkit`, which
`make browsers` installs and takes through the same stories. Without a browser these tests are skipped, unless
`EGWALKER_BROWSER=required`. `EGWALKER_SCREENSHOTS=FOLDER` keeps what `Page.screenshot` shows.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import firefox
import pytest
import webkit
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Request,
    WebError,
    WebSocket,
    WebSocketRoute,
    async_playwright,
)
from playwright.async_api import Page as Tab
from serving import PATIENCE, free_port

from egwalker import Document
from egwalker.formats import load

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ENGINE = os.environ.get("EGWALKER_ENGINE", "chromium")
SWITCH, REQUIRED = "EGWALKER_BROWSER", "required"
SCREENSHOTS = "EGWALKER_SCREENSHOTS"
NO_CONNECTION = re.compile(
    r"net::ERR_(INTERNET_DISCONNECTED|CONNECTION_\w+|EMPTY_RESPONSE|NETWORK_\w+|INCOMPLETE_CHUNKED_ENCODING"
    r"|CONTENT_LENGTH_MISMATCH)|losed before (receiving a handshake response|the connection is established)"
    "|Firefox can’t establish a connection|The connection to [^ ]+ was interrupted"
)
"""What a browser itself writes to the console while a server is away: no page can help it."""
BEFORE_PICTURES = "sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT+SmwNZWA="
"""Of the style `body {}`, which Playwright tries to put into a page before it makes a picture of it."""

VIEW = """
async () => {
    const { EditorView } = await import("/-/vendor/codemirror.js");
    const view = EditorView.findFromDOM(document);
    if (view === null) throw new Error("there is no editor");
    return view;
}
"""


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser, the one that is asked for; skips the test, or fails it, if there is none."""
    found = {"firefox": firefox.find, "webkit": webkit.find}.get(ENGINE, find)()
    if found is None:
        what = (
            f"there is no {ENGINE}: `make {'browser' if ENGINE == 'chromium' else 'browsers'}` installs one"
        )
        if os.environ.get(SWITCH) == REQUIRED:
            pytest.fail(what)
        pytest.skip(what)
    if ENGINE == "webkit":
        async with webkit.launched(found) as safari:
            yield cast("Browser", safari)
        return
    async with async_playwright() as playwright:
        if ENGINE == "firefox":
            async with firefox.launched(playwright, found) as fox:
                yield cast("Browser", fox)
            return
        # It reaches nothing but this machine.
        browser = await playwright.chromium.launch(
            executable_path=found,
            timeout=PATIENCE * 1000,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"],
        )
        try:
            yield browser
        finally:
            await browser.close()


def find() -> str | None:
    """The path of a Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


async def until(what: Callable[[], Awaitable[Any]], why: str, seconds: float = PATIENCE) -> Any:
    """Wait for something to become true, and return it; `AssertionError` that says why not."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await what()):
        assert asyncio.get_running_loop().time() < deadline, f"after {seconds:.0f} s: {why}"
        await asyncio.sleep(0.02)
    return found


async def until_matching(read: Callable[[], Awaitable[str]], pattern: str, who: str) -> str:
    """Wait until a text that is read again and again matches a regular expression."""
    text = ""

    async def there() -> bool:
        nonlocal text
        text = await read()
        return re.search(pattern, text) is not None

    try:
        await until(there, f"{who} does not say {pattern!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {text!r}") from None
    return text


class Server:
    """`egwalker serve` of a folder at one port, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[str] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None
        command = [sys.executable, "-m", "egwalker", "serve", str(self.folder), "--port", str(self.port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line.startswith("serving "), await self.end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        await self.end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it as its operator would."""
        said = await self.end(signal.SIGTERM)
        assert said.splitlines()[-1].startswith("stored all documents in "), said

    async def end(self, number: signal.Signals) -> str:
        """Send a signal and wait for the end; what it said."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        _, said = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
        return said

    def url_of(self, name: str) -> str:
        return self.url + quote(name, safe="")

    def stored(self, name: str) -> Document:
        """What is on the disk of a document, whether the server runs or not."""
        return load(self.folder / f"{name}.egw").document


class Site:
    """A server, and all who use it."""

    def __init__(self, browser: Browser, folder: Path, screenshots: Path | None = None) -> None:
        self.browser = browser
        self.server = Server(folder)
        self.screenshots = screenshots
        self.problems: list[str] = []
        self.expected: list[str] = []
        """Regular expressions for problems that a test causes by intent."""
        self.people: list[Person] = []

    async def person(self, name: str, **options: Any) -> Person:
        """Somebody new, with a browser profile of their own; `options` are those of Playwright's contexts."""
        context = await self.browser.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(PATIENCE * 1000)
        person = Person(self, name, context)
        self.people.append(person)
        return person

    async def couple(self, count: int, document: str) -> list[Page]:
        """So many new people, each with the document open and ready."""
        people = [await self.person(f"person {number}") for number in range(count)]
        return list(await asyncio.gather(*[person.open(document) for person in people]))

    def problem(self, what: str) -> None:
        if not any(re.search(pattern, what) for pattern in self.expected):
            self.problems.append(what)

    async def close(self) -> None:
        """Close all profiles and end the server; `AssertionError` if there were problems."""
        for person in self.people:
            await person.context.close()
        if self.server.runs:
            await self.server.stop()
        assert not self.problems, "\n".join(self.problems)


class Person:
    """A browser profile: all its tabs share what is stored, and no others see it."""

    def __init__(self, site: Site, name: str, context: BrowserContext) -> None:
        self.site = site
        self.name = name
        self.context = context
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("dialog", self._dialog)
        context.on("page", lambda tab: tab.on("websocket", self._socket))

    async def open(self, document: str) -> Page:
        """Open a document in a new tab, ready to be typed into."""
        page = await self.go(self.site.server.url_of(document))
        await page.ready()
        return page

    async def go(self, url: str) -> Page:
        """Open any address in a new tab."""
        tab = await self.context.new_page()
        await tab.goto(url)
        return Page(self, tab)

    async def offline(self, yes: bool = True) -> None:
        """Cut the profile off from everything, or mend it. What is under way waits, nothing new begins."""
        await self.context.set_offline(yes)

    async def wire(self) -> Wire:
        """What tabs that are opened from now on send: it can be held back."""
        wire = Wire()
        await self.context.route_web_socket(re.compile(""), wire.connect)
        return wire

    # --- what should not be

    def _problem(self, what: str) -> None:
        self.site.problem(f"{self.name}: {what}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert") and not NO_CONNECTION.search(message.text):
            self._problem(f"console: {message.text} ({message.location['url']})")

    def _error(self, error: WebError) -> None:
        said = f"{error.error.message}\n{error.error.stack}"
        # Firefox tells of all that goes wrong in the same way.
        if not NO_CONNECTION.search(said) and BEFORE_PICTURES not in said:
            self._problem(f"not caught: {error.error.stack or error.error}")

    async def _dialog(self, dialog: Dialog) -> None:
        self._problem(f"a dialog: {dialog.type} {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        self._check_host(request.url)

    def _socket(self, socket: WebSocket) -> None:
        self._check_host(socket.url)

    def _check_host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.site.server.url).netloc:
            self._problem(f"a request to {url}")


class Wire:
    """What tabs send to their server. While it is held it waits; what they are sent comes at once."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[Callable[[], None]] = []

    def connect(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def send(message: str | bytes) -> None:
            if self._held:
                self._waiting.append(partial(server.send, message))
            else:
                server.send(message)

        socket.on_message(send)

    def hold(self) -> None:
        self._held = True

    def let_go(self) -> None:
        self._held = False
        for send in self._waiting:
            send()
        self._waiting.clear()


class Page:
    """A tab."""

    def __init__(self, person: Person, tab: Tab) -> None:
        self.person = person
        self.tab = tab

    @property
    def editor(self) -> Locator:
        """What one types into."""
        return self.tab.locator(".cm-content")

    async def ready(self) -> None:
        """Wait until the editor takes text, and put the caret into it."""
        await self.tab.locator(".cm-content[contenteditable=true]").wait_for()
        await self.editor.focus()

    async def press(self, *keys: str) -> None:
        """Press keys, by Playwright's names: `Control+Home`, `ArrowLeft`, `Backspace`."""
        for key in keys:
            await self.tab.keyboard.press(key)

    async def type(self, text: str, pause: float = 0.0) -> None:
        """Press a key for each character, with so many seconds between two of them."""
        await self.tab.keyboard.type(text, delay=pause * 1000)

    async def paste(self, text: str) -> None:
        """Insert text all at once, as an input method does."""
        await self.tab.keyboard.insert_text(text)

    async def text(self) -> str:
        """All that is in the editor, also what is not on the screen."""
        found: str = await self.tab.evaluate(f"async () => (await ({VIEW})()).state.doc.toString()")
        return found

    async def caret(self) -> int:
        """Where the caret is, in UTF-16 units."""
        found: int = await self.tab.evaluate(f"async () => (await ({VIEW})()).state.selection.main.head")
        return found

    async def go_to(self, offset: int) -> None:
        """Put the caret somewhere, as a click does."""
        await self.editor.focus()
        await self.tab.evaluate(
            f"async (at) => (await ({VIEW})()).dispatch({{ selection: {{ anchor: at }} }})", offset
        )

    async def state(self) -> tuple[str, str]:
        """What the page says of its state, and all that is in the editor, at one and the same moment."""
        said, text = await self.tab.evaluate(
            f"""async () => {{
                const view = await ({VIEW})();
                return [document.querySelector("[role=status]").innerText.trim(), view.state.doc.toString()];
            }}"""
        )
        return said, text

    async def go_behind_a_space(self, which: float) -> None:
        """Put the caret behind some space (0: the first place of all, less than 1), or at the start."""
        await self.editor.focus()
        await self.tab.evaluate(
            f"""async (which) => {{
                const view = await ({VIEW})();
                const spaces = [...view.state.doc.toString().matchAll(/ /g)];
                const places = [0, ...spaces.map((found) => found.index + 1)];
                view.dispatch({{ selection: {{ anchor: places[Math.floor(which * places.length)] }} }});
            }}""",
            which,
        )

    async def stays(self) -> None:
        """Wait until the browser keeps the page itself, so that it opens without a connection."""
        ready = "navigator.serviceWorker.ready.then(() => navigator.serviceWorker.controller !== null)"
        await until(lambda: self.tab.evaluate(ready), "the page is not kept")

    async def status(self) -> str:
        """What the page says of its state, in words."""
        return (await self.tab.locator("[role=status]").first.inner_text()).strip()

    async def until_text(self, wanted: Callable[[str], object] | str, why: str = "") -> str:
        """Wait for a text, or one for which something is true."""
        text = ""

        async def there() -> bool:
            nonlocal text
            text = await self.text()
            return text == wanted if isinstance(wanted, str) else bool(wanted(text))

        try:
            await until(there, why or "the text is another")
        except AssertionError as error:
            raise AssertionError(f"{error}: {text!r:.500} at {self.person.name}") from None
        return text

    async def until_status(self, pattern: str) -> str:
        """Wait until the page's status matches a regular expression."""
        return await until_matching(self.status, pattern, "the page")

    async def screenshot(self, name: str) -> None:
        """Keep a picture, if a folder for them was named."""
        if self.person.site.screenshots is not None:
            await self.tab.screenshot(path=self.person.site.screenshots / f"{name}.png", caret="initial")

    async def saved_file(self, button: Locator) -> str:
        """Click something that has a text saved as a file; the text."""
        if ENGINE == "chromium":
            async with self.tab.expect_download() as download:
                await button.click()
            return (await (await download.value).path()).read_text()
        # The others do not tell of it, only the page does.
        await self.tab.evaluate(
            """() => {
                const make = URL.createObjectURL;
                URL.createObjectURL = (file) => {
                    window.saved = file;
                    return make.call(URL, file);
                };
            }"""
        )
        await button.click()
        return str(await self.tab.evaluate("window.saved.text()"))

    async def barriers(self) -> list[str]:
        """What keeps out people who use a keyboard or a screen reader, as far as axe can tell."""
        found = await Axe().run(self.tab)
        return [
            f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html']:.200}"
            for rule in found.response["violations"]
            for node in rule["nodes"]
        ]

    async def close(self) -> None:
        """Close the tab; what the profile has stored stays."""
        await self.tab.close(run_before_unload=False)


async def same_text(*pages: Page) -> str:
    """Wait until all pages show one text; it."""
    texts: list[str] = []

    async def same() -> bool:
        texts[:] = await asyncio.gather(*[page.text() for page in pages])
        return len(set(texts)) == 1

    try:
        await until(same, "the pages differ")
    except AssertionError as error:
        raise AssertionError(f"{error}: {texts!r:.2000}") from None
    return texts[0]
