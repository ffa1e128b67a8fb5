"""WebKit for the stories told in tests/browser.py: what these use of Playwright's surface, over WebDriver.

Playwright drives a WebKit of its own only. The one that Debian has, WebKitGTK, comes with a driver that
speaks the W3C's protocol: there is one, and a browser, for each person, and a window for each tab, on a
screen that nobody sees. All of a person's connections go through a `Relay`, which can be cut. What cannot
be had skips the test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fnmatch import fnmatch
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientError, ClientSession
from serving import PATIENCE, free_port

DRIVER = "WebKitWebDriver"
MINI_BROWSER = "usr/lib/*/webkit2gtk-4.*/MiniBrowser"
KEYS = {
    "Backspace": "\ue003",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Shift": "\ue008",
    "Control": "\ue009",
    "Escape": "\ue00c",
    "End": "\ue010",
    "Home": "\ue011",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Delete": "\ue017",
}
"""The protocol's code points for Playwright's names."""

SCRIPT = Path(__file__).with_name("webkit.js").read_text()


def find() -> str | None:
    """The path of the browser that the driver starts, if both are there."""
    if shutil.which(DRIVER) is None:
        return None
    return next((str(path) for path in Path("/").glob(MINI_BROWSER)), None)


class Relay:
    """A place to connect to in a server's stead, that takes everything on to it until it is cut."""

    def __init__(self) -> None:
        self.port = free_port()
        self.target = 0
        self._cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def cut(self, yes: bool) -> None:
        self._cut = yes
        if yes:
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut(True)
        await asyncio.gather(*self._tasks)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if not self._cut:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
                ends.append(far_writer)
                async with asyncio.TaskGroup() as both:
                    both.create_task(pump(reader, far_writer))
                    both.create_task(pump(far_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # one of the two has ended, or there is no server
        finally:
            self._tasks.discard(task)
            for end in ends:
                end.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take on what is read until its end, which is an `OSError` to whoever takes it back."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


class Session:
    """A browser: its windows are spoken to one after another."""

    def __init__(self, process: asyncio.subprocess.Process, client: ClientSession, root: str) -> None:
        self._process = process
        self._client = client
        self._root = root
        self._lock = asyncio.Lock()
        self._first = self._window = ""

    @classmethod
    async def start(cls, browser: str, environment: dict[str, str], arguments: list[str]) -> Session:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            DRIVER, f"--port={port}", stdout=DEVNULL, stderr=DEVNULL, env=environment, start_new_session=True
        )
        session = cls(process, ClientSession(), f"http://127.0.0.1:{port}/session")
        options = {"binary": browser, "args": ["--automation", *arguments]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        for attempt in count():
            try:
                made = await session.send("POST", "", wanted)
                break
            except ClientError:
                if attempt == 100:
                    raise
                await asyncio.sleep(0.05)
        session._root += f"/{made['sessionId']}"
        session._first = session._window = await session.send("GET", "/window")
        patience = int(PATIENCE * 1000)
        await session.send("POST", "/timeouts", {"script": patience, "pageLoad": patience})
        return session

    async def send(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body or {}) if method == "POST" else None
        async with self._client.request(method, self._root + path, data=data) as answer:
            value = (await answer.json(content_type=None))["value"]
            if answer.status != 200:
                raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
            return value

    async def in_window(self, window: str, method: str, path: str, body: object = None) -> Any:
        async with self._lock:
            if self._window != window:
                await self.send("POST", "/window", {"handle": window})
                self._window = window
            return await self.send(method, path, body)

    async def new_window(self) -> str:
        """A window beside the first, which stays: with the last one a browser ends."""
        made = await self.in_window(self._first, "POST", "/window/new", {"type": "window"})
        return str(made["handle"])

    async def close(self) -> None:
        with suppress(ClientError, RuntimeError):
            await self.send("DELETE", "")
        await self._client.close()
        os.killpg(self._process.pid, signal.SIGTERM)
        await self._process.wait()


async def patiently(what: Callable[[], Awaitable[Any]], why: str) -> Any:
    """Wait until something is there, and return it; `AssertionError` that says why not."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not (found := await what()):
        assert asyncio.get_running_loop().time() < deadline, why
        await asyncio.sleep(0.05)
    return found


class Keyboard:
    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    async def _keys(self, *events: tuple[str, str]) -> None:
        actions = [{"type": kind, "value": value} for kind, value in events]
        await self._tab.act({"type": "key", "id": "keys", "actions": actions})

    async def press(self, name: str) -> None:
        *held, last = name.split("+") if len(name) > 1 else [name]
        keys = [KEYS.get(key, key) for key in held]
        last = KEYS.get(last, last)
        down = [("keyDown", key) for key in keys]
        up = [("keyUp", key) for key in reversed(keys)]
        await self._keys(*down, ("keyDown", last), ("keyUp", last), *up)

    async def type(self, text: str, delay: float = 0.0) -> None:
        for char in text:
            if char == "\n":
                await self.press("Enter")
            elif ord(char) < 0x180:
                await self._keys(("keyDown", char), ("keyUp", char))
            else:
                # No key has it: an input method would insert it.
                await self.insert_text(char)
            if delay:
                await asyncio.sleep(delay / 1000)

    async def insert_text(self, text: str) -> None:
        await self._tab.evaluate("(text) => document.execCommand('insertText', false, text)", text)


class Locator:
    """Elements of a page, looked for each time."""

    def __init__(self, tab: Tab, steps: list[dict[str, Any]]) -> None:
        self._tab = tab
        self._steps = steps

    def _step(self, **step: Any) -> Locator:
        return Locator(self._tab, [*self._steps, {key: one for key, one in step.items() if one is not None}])

    def locator(self, selector: str, has_text: re.Pattern[str] | None = None) -> Locator:
        css, _, number = selector.partition(" >> nth=")
        found = self._step(css=css)
        if has_text is not None:
            found = found._step(text=has_text.pattern)
        return found.nth(int(number)) if number else found

    def get_by_role(self, role: str, name: str | None = None, exact: bool = False) -> Locator:
        return self._step(role=role, name=name)

    def get_by_label(self, label: str) -> Locator:
        return self._step(label=label)

    def nth(self, number: int) -> Locator:
        return self._step(nth=number)

    @property
    def first(self) -> Locator:
        return self.nth(0)

    async def do(self, what: str, argument: object = None) -> Any:
        """Do one of the things that `webkit.js` can do."""
        return await self._tab.run(SCRIPT, self._steps, what, argument)

    async def _wait(self, what: str, argument: object = None) -> Any:
        """Do it as soon as it can be done; what it gives."""
        found = await patiently(partial(self.do, what, argument), f"there is no {what} of {self._steps}")
        return found[0]

    async def count(self) -> int:
        return len(await self.do("all"))

    async def all(self) -> list[Locator]:
        return [self.nth(number) for number in range(await self.count())]

    async def all_inner_texts(self) -> list[str]:
        return list(await self.do("texts"))

    async def inner_text(self) -> str:
        return str(await self._wait("text"))

    async def input_value(self) -> str:
        return str(await self._wait("value"))

    async def get_attribute(self, name: str) -> str | None:
        found: str | None = await self._wait("attribute", name)
        return found

    async def wait_for(self) -> None:
        await self._wait("shown")

    async def focus(self) -> None:
        await self._wait("focus")

    async def fill(self, value: str) -> None:
        await self._wait("fill", value)

    async def bounding_box(self) -> dict[str, float]:
        return dict(await self._wait("box"))

    async def hover(self) -> None:
        await self._point()

    async def click(self) -> None:
        await self._point({"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    async def _point(self, *then: dict[str, Any]) -> None:
        box = await self._wait("box", "to be clicked")
        at = {"x": int(box["x"] + box["width"] / 2), "y": int(box["y"] + box["height"] / 2)}
        move = {"type": "pointerMove", "duration": 0, **at}
        await self._tab.act({"type": "pointer", "id": "mouse", "actions": [move, *then]})

    async def evaluate(self, function: str, argument: object = None) -> Any:
        await self.wait_for()
        element, *_ = await self.do("all")
        return await self._tab.call(function, element, argument)


class Tab(Locator):
    """A window of a person's browser."""

    def __init__(self, context: Context, window: str) -> None:
        super().__init__(self, [])
        self._context = context
        self._window = window
        self.keyboard = Keyboard(self)

    async def send(self, method: str, path: str, body: object = None) -> Any:
        return await self._context.session.in_window(self._window, method, path, body)

    async def run(self, script: str, *arguments: object) -> Any:
        return await self.send("POST", "/execute/sync", {"script": script, "args": arguments})

    async def act(self, device: dict[str, Any]) -> None:
        await self.send("POST", "/actions", {"actions": [device]})

    async def call(self, what: str, *arguments: object) -> Any:
        """What an expression is, or what it returns if it is a function; in the end, if it is a promise."""
        script = f"""const all = [...arguments], done = all.pop();
            (async () => {{
                const what = ({what});
                return typeof what === "function" ? what(...all) : what;
            }})().then((found) => done([found ?? null]), (error) => done(`${{error}} ${{error.stack}}`))"""
        found = await self.send("POST", "/execute/async", {"script": script, "args": arguments})
        if isinstance(found, str):
            raise RuntimeError(found)
        return found[0]

    async def evaluate(self, what: str, argument: object = None) -> Any:
        if what.rstrip().endswith(";"):
            return await self.run(what)  # a program, which has no value
        return await self.call(what, argument)

    async def goto(self, url: str) -> None:
        await self.send("POST", "/url", {"url": self._context.near(url)})
        await self.do("watch")
        # A driver that has just opened the window may not have waited for all of the page.
        await patiently(partial(self.evaluate, "document.readyState === 'complete'"), f"{url} is not loaded")

    async def title(self) -> str:
        return str(await self.send("GET", "/title"))

    async def wait_for_url(self, pattern: str) -> None:
        async def there() -> bool:
            return fnmatch(self._context.far(await self.send("GET", "/url")), pattern)

        await patiently(there, f"the address is not {pattern}")

    async def bring_to_front(self) -> None:
        """Each tab is in front, in a window of its own."""

    async def screenshot(self, path: Path, caret: str = "") -> None:
        path.write_bytes(base64.b64decode(await self.send("GET", "/screenshot")))

    async def close(self, run_before_unload: bool = False) -> None:
        await self._context.heard(self)
        await self.send("DELETE", "/window")
        self._context.tabs.remove(self)


class Context:
    """A person's browser, and all their windows."""

    def __init__(self, session: Session, relay: Relay, size: dict[str, int]) -> None:
        self.session = session
        self._relay = relay
        self._size = size
        self.tabs: list[Tab] = []
        self._listeners: dict[str, Callable[..., Any]] = {}

    def on(self, event: str, listener: Callable[..., Any]) -> None:
        self._listeners[event] = listener

    def set_default_timeout(self, milliseconds: float) -> None:
        """It is `PATIENCE`."""

    def near(self, url: str) -> str:
        """An address of the server, by way of the relay."""
        parts = urlsplit(url)
        assert parts.port is not None
        self._relay.target = parts.port
        return parts._replace(netloc=f"127.0.0.1:{self._relay.port}").geturl()

    def far(self, url: str) -> str:
        return url.replace(f"127.0.0.1:{self._relay.port}", f"127.0.0.1:{self._relay.target}")

    async def new_page(self) -> Tab:
        tab = Tab(self, await self.session.new_window())
        self.tabs.append(tab)
        # How much of a window is the browser's own is known when it is there.
        wanted = dict(self._size)
        for _ in range(3):
            await tab.send("POST", "/window/rect", {"x": 0, "y": 0, **wanted})
            width, height = await tab.do("size")
            wanted["width"] += self._size["width"] - width
            wanted["height"] += self._size["height"] - height
        return tab

    async def set_offline(self, yes: bool) -> None:
        await self._relay.cut(yes)

    async def heard(self, tab: Tab) -> None:
        for what in await tab.do("problems"):
            self._listeners["weberror"](SimpleNamespace(error=SimpleNamespace(message=what, stack=what)))

    async def close(self) -> None:
        for tab in self.tabs:
            await self.heard(tab)
        await self.session.close()
        await self._relay.close()

    async def add_init_script(self, script: str) -> None:
        pytest.skip("WebKit's driver cannot put scripts before a page's")

    async def route_web_socket(self, url: object, handler: object) -> None:
        pytest.skip("WebKit's driver cannot hold back what is sent")


class WebKit:
    """Starts browsers on a screen."""

    def __init__(self, path: str, environment: dict[str, str]) -> None:
        self._path = path
        self._environment = environment

    async def new_context(self, **options: Any) -> Context:
        if "extra_http_headers" in options:
            pytest.skip("WebKit's driver does not change requests")
        relay = Relay()
        await relay.start()
        dark = ["--dark-mode"] if options.get("color_scheme") == "dark" else []
        session = await Session.start(self._path, self._environment, dark)
        return Context(session, relay, options.get("viewport", {"width": 1280, "height": 720}))


@asynccontextmanager
async def launched(path: str) -> AsyncIterator[WebKit]:
    """WebKit, and a screen to draw on."""
    with TemporaryDirectory() as folder:
        # So that a window can be as small as a phone.
        style = Path(folder, "gtk-3.0", "gtk.css")
        style.parent.mkdir()
        style.write_text("* { min-width: 0; margin: 0; border: 0; padding: 0; font-size: 1px; }\n")
        async with screen() as display:
            # Without a bus for accessibility, which it would wait for.
            own = {"DISPLAY": display, "XDG_CONFIG_HOME": folder, "NO_AT_BRIDGE": "1"}
            yield WebKit(path, {**os.environ, **own})


@asynccontextmanager
async def screen() -> AsyncIterator[str]:
    """The name of a display that nobody sees."""
    reading, writing = os.pipe()
    xvfb = await asyncio.create_subprocess_exec(
        "Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1200x24", "-nolisten", "tcp",
        pass_fds=[writing], stderr=DEVNULL,
    )  # fmt: skip
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            number = await asyncio.to_thread(said.readline)
        yield f":{number.strip()}"
    finally:
        xvfb.terminate()
        await xvfb.wait()
