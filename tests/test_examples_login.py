"""The example of a service with a login."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from serving import PATIENCE, link, serving

from egwalker import Document, SyncError


def example() -> Any:
    path = Path(__file__).resolve().parents[1] / "examples" / "login.py"
    spec = importlib.util.spec_from_file_location("login_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def login(port: int, user: str, password: str) -> dict[str, str]:
    """The headers of somebody who has logged in."""
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
        client.post(f"http://127.0.0.1:{port}/login", data={"user": user, "password": password}) as response,
    ):
        assert response.status == 200, await response.text()
        return {"Cookie": f"session={response.cookies['session'].value}"}


def test_login(tmp_path: Path) -> None:
    async def refused(url: str, document: Document, why: str, **options: Any) -> None:
        async with link(url, document, **options) as one:
            with pytest.raises(SyncError, match=why):
                await asyncio.wait_for(one.persisted(), PATIENCE)

    async def main() -> None:
        async with serving(example().make_app(tmp_path)) as port:
            url = f"ws://127.0.0.1:{port}/documents/ann-notes"
            for user, password in ("ann", "wrong"), ("eve", ""), ("eve", "None"), ("bob", "correct horse"):
                with pytest.raises(AssertionError, match="wrong name or password"):
                    await login(port, user, password)
            await refused(url, Document(), "403")
            await refused(url, Document(), "403", headers={"Cookie": "session=guess"})
            assert list(tmp_path.iterdir()) == []
            ann, bob = await login(port, "ann", "correct horse"), await login(port, "bob", "battery staple")
            document, seen = Document(agent="ann"), Document(agent="bob")
            async with link(url, document, headers=ann) as one:
                await one.synced()
                document.insert(0, "for all to read")
                await one.persisted()
                async with link(url, seen, headers=bob) as other:
                    await other.synced()
                    assert seen.content == "for all to read"
                    with pytest.raises(SyncError, match="does not take edits"):
                        await other.persisted()
            async with aiohttp.ClientSession(headers=bob) as client:
                async with client.get(url.replace("ws:", "http:")) as response:
                    assert await response.text() == "for all to read"
                async with client.get(f"http://127.0.0.1:{port}/documents/bob-new") as response:
                    assert response.status == 404
        assert [path.name for path in tmp_path.iterdir()] == ["ann-notes.egw"]

    asyncio.run(main())
