"""Firefox for the stories told in tests/browser.py, driven by Playwright over WebDriver BiDi.

Playwright asks for all that the newest Firefox can be asked for; Debian's, with its longer support, is older.
So what is started in Firefox's place is this file as a program: it starts Firefox, hands messages to and fro,
and to commands that tell a browser to appear other than it is, and that this one does not know, it answers
that they are done. Whether it is dark is a setting of its profile instead.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, ClientWebSocketResponse, web
from serving import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright

NAMES = ("firefox", "firefox-esr")
SCHEMES = {"dark": 0, "light": 1}
"""The values of Firefox's setting for them."""
LISTENING = re.compile(rb"(.* listening on ws://)([\w.:]+)\s")
MOST = 1 << 28
"""Bytes of a message: some have pictures."""


class Firefox:
    """A browser for those who like it light, and one for those who like it dark, when somebody does."""

    def __init__(self, playwright: Playwright, program: Path) -> None:
        self._playwright = playwright
        self._program = program
        self._browsers: dict[str, Browser] = {}

    async def new_context(self, **options: Any) -> BrowserContext:
        scheme = options.get("color_scheme", "light")
        if scheme not in self._browsers:
            self._browsers[scheme] = await self._playwright.firefox.launch(
                channel="moz-firefox",
                executable_path=self._program,
                timeout=PATIENCE * 1000,
                firefox_user_prefs={"layout.css.prefers-color-scheme.content-override": SCHEMES[scheme]},
            )
        return await self._browsers[scheme].new_context(**options)

    async def close(self) -> None:
        for browser in self._browsers.values():
            await browser.close()


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@asynccontextmanager
async def launched(playwright: Playwright, path: str) -> AsyncIterator[Firefox]:
    with TemporaryDirectory() as folder:
        program = Path(folder, "firefox")
        program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__, path])} "$@"\n')
        program.chmod(0o700)
        firefox = Firefox(playwright, program)
        try:
            yield firefox
        finally:
            await firefox.close()


# --- the program that is started in Firefox's place


async def hand_on(address: str, request: web.Request) -> web.WebSocketResponse:
    """Hand messages on between Playwright and Firefox."""
    near = web.WebSocketResponse(max_msg_size=MOST)
    await near.prepare(request)
    asked: dict[int, str] = {}
    async with (
        ClientSession() as client,
        client.ws_connect(f"ws://{address}{request.path}", max_msg_size=MOST) as far,
    ):
        answers = asyncio.create_task(answer(far, near, asked))
        async for message in near:
            command = json.loads(message.data)
            asked[command["id"]] = command["method"]
            await far.send_str(message.data)
        await far.close()
        await answers
    return near


async def answer(far: ClientWebSocketResponse, near: web.WebSocketResponse, asked: dict[int, str]) -> None:
    async for message in far:
        found = json.loads(message.data)
        method = asked.pop(found.get("id"), "")
        if found.get("error") == "unknown command" and method.startswith("emulation."):
            await near.send_json({"type": "success", "id": found["id"], "result": {}})
        else:
            await near.send_str(message.data)
    await near.close()


async def main(path: str, *arguments: str) -> int:
    firefox = await asyncio.create_subprocess_exec(path, *arguments, stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    app = web.Application()
    runner = web.AppRunner(app)
    async for line in firefox.stderr:
        said = line
        if found := LISTENING.match(line):
            app.router.add_get("/{path:.*}", partial(hand_on, found[2].decode()))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            said = found[1] + b"127.0.0.1:%d\n" % runner.addresses[0][1]
        sys.stderr.buffer.write(said)
        sys.stderr.buffer.flush()
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
