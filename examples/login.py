"""Shared documents in an aiohttp service with a login.

    python examples/login.py FOLDER

Whoever is logged in may read every document, and write those whose names begin with their own.
"""

import secrets
import sys
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from egwalker.hub import Permission, Place
from egwalker.transports.aiohttp import setup
from egwalker.transports.file import FileTransport

PASSWORDS = {"ann": "correct horse", "bob": "battery staple"}  # a service has hashes of them


def make_app(folder: Path) -> web.Application:
    users: dict[str, str] = {}  # by session

    async def login(request: web.Request) -> web.Response:
        form = await request.post()
        user, password = str(form.get("user")), str(form.get("password"))
        if not secrets.compare_digest(PASSWORDS.get(user, "").encode(), password.encode()) or not password:
            raise web.HTTPForbidden(text="wrong name or password\n")
        response = web.Response(text=f"hello, {user}\n")
        session = secrets.token_urlsafe()
        users[session] = user
        response.set_cookie("session", session, httponly=True, samesite="Strict")
        return response

    def who(name: str, request: web.Request) -> Permission | None:
        user = users.get(request.cookies.get("session", ""))
        return Permission(user, write=name.startswith(f"{user}-")) if user else None

    async def open_place(name: str) -> Place:
        return await FileTransport().place(f"file:{quote(str(folder / name))}.egw", "text")

    app = web.Application()
    app.router.add_post("/login", login)
    setup(app, open_place, prefix="/documents", authenticate=who)
    return app


if __name__ == "__main__":
    web.run_app(make_app(Path(sys.argv[1])), host="127.0.0.1", port=8080)
