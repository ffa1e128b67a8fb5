"""Documents kept in an SQLite database: `sqlite:` URLs, as `sqlite:///var/lib/notes.db/shopping`.

A row is a document's snapshot or an update of it. What `commit` has written is durable, as it is with files.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from typing import Any
from urllib.parse import unquote, urlsplit

from egwalker import Document, StorageError, hookimpl
from egwalker.transport import Linked, Transport

SCHEMA = """
    CREATE TABLE IF NOT EXISTS updates (name TEXT, data BLOB);
    CREATE INDEX IF NOT EXISTS names ON updates (name);
"""


class SqlitePlace:
    """One document in a database."""

    def __init__(self, path: str, name: str, kind: str) -> None:
        self._path, self._name = path, name
        try:
            with closing(sqlite3.connect(path)) as database:
                database.executescript(SCHEMA)
                rows = database.execute(
                    "SELECT data FROM updates WHERE name = ? ORDER BY rowid", (name,)
                ).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"{path}: {error}") from error
        self.document = Document.decode(rows[0][0]) if rows else Document(kind)
        for (data,) in rows[1:]:
            self.document.apply(data)
        self._stored = self.document.version_vector
        self._id = self.document.id if rows else ""

    async def commit(self) -> None:
        """Store what is new, in a transaction of its own. `StorageError` if that fails."""
        await asyncio.to_thread(self._commit)

    def _commit(self) -> None:
        doc_id, held = self.document.id, self.document.version_vector
        # An empty document takes on the id of the first replica that it meets.
        new = doc_id != self._id
        if held == self._stored and not new:
            return
        data = self.document.encode(None if new else self._stored)
        try:
            with closing(sqlite3.connect(self._path)) as database, database:
                if new:
                    database.execute("DELETE FROM updates WHERE name = ?", (self._name,))
                database.execute("INSERT INTO updates VALUES (?, ?)", (self._name, data))
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from error
        self._stored, self._id = held, doc_id

    async def close(self) -> None:
        """Nothing is open between two commits."""


class SqliteTransport:
    """`sqlite:` URLs."""

    name = "sqlite"
    schemes = ("sqlite",)

    async def place(self, url: str, kind: str) -> SqlitePlace:
        """Open a document of a database, which is made if there is none."""
        path, _, name = urlsplit(url).path.rpartition("/")
        return await asyncio.to_thread(SqlitePlace, unquote(path), unquote(name), kind)

    async def places(self, url: str) -> list[tuple[str, float | None]]:
        """The names of a database's documents. When each was last changed is not kept."""

        def names() -> list[tuple[str, float | None]]:
            with closing(sqlite3.connect(unquote(urlsplit(url).path))) as database:
                database.executescript(SCHEMA)
                rows = database.execute("SELECT DISTINCT name FROM updates").fetchall()
            return [(name, None) for (name,) in rows]

        return await asyncio.to_thread(names)

    def connect(self, url: str, document: Document, **options: Any) -> AbstractAsyncContextManager[Linked]:
        """Not for documents that are open elsewhere: a server keeps them here."""
        raise NotImplementedError("serve documents from a database: egwalker serve sqlite:///PATH")


@hookimpl
def register_transports(register: Callable[[Transport], None]) -> None:
    register(SqliteTransport())
