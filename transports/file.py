"""Documents kept in files: `file:` URLs, as `file:notes.egw` and `file:///home/me/notes.egw`.

A store is a peer that never types: a document that is linked to an `.egw` file gets all that is in it, and
what is done to the document is written there. A URL of a folder, with a slash at its end, is an *exchange
folder*, such as one on a stick, or one that is synchronised or under version control: each agent writes one
file of its own there and reads those of all others, so that people who are never online at one time come
together.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from egwalker import egw_records, hookimpl
from egwalker.cycore.errors import DecodeError, EgwalkerError, StorageError, SyncError
from egwalker.document import Document
from egwalker.egw_file import EgwFile, commit_all
from egwalker.events import logger
from egwalker.hub import settle
from egwalker.links import Watch
from egwalker.threads import Batches, in_thread
from egwalker.transport import Transport

COMMITS = Batches(commit_all, rest=0.02)
"""Small commits to the files of all documents."""
SUFFIX = ".egw"
PERIOD = 2.0
"""Seconds between two looks at an exchange folder."""
SETTLED = 5.0
"""Seconds after its last change that a file is read again: clocks of file systems are coarse."""
PLAIN = re.compile("[a-z0-9][a-z0-9_-]{0,59}")
"""Names of agents that files are called by as they are."""


def create(path: Path, document: Document) -> EgwFile:
    """A new file for a document. `StorageError`, also if there is one by now."""
    try:
        return EgwFile.open(path, create=document)
    except FileExistsError as error:
        raise StorageError(f"{path} has been made by somebody else meanwhile") from error


class FilePlace:
    """An `.egw` file that holds one document, open for writing. It is made when there is what to store."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._file: EgwFile | None = None
        self._turn = threading.Lock()
        try:
            self._file = EgwFile.open(path)
        except FileNotFoundError:
            self._document = Document(kind)
            return
        self._document = self._file.document

    @property
    def document(self) -> Document:
        """The document, with all that was stored in it."""
        return self._document

    async def commit(self) -> None:
        """Make durable what the document holds. `StorageError` if that fails."""
        file = self._file
        if file is not None:
            if file.all_stored:
                return
            begun = file.begin_commit()
            if begun is not None:
                await COMMITS.do(begun)
                return
        await in_thread(self._commit)

    async def close(self) -> None:
        """Commit, and release the file."""
        await in_thread(self._close)

    def _commit(self) -> None:
        with self._turn:
            if self._file is None:
                if not settle(self._document):
                    return
                self._file = create(self._path, self._document)
            self._file.commit()

    def _close(self) -> None:
        if self._file is None:
            self._commit()
        if self._file is not None:
            self._file.close()


class StoredLink:
    """Keeps a document stored somewhere, by what the subclass does in threads: `begin`, `exchange`, `end`."""

    def __init__(self, document: Document, period: float | None = None) -> None:
        self.document = document
        self.error: EgwalkerError | OSError | None = None
        self._period = period
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._rounds = 0  # that have begun
        self._done = 0  # that have ended
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Open what is linked to."""

    def exchange(self) -> None:
        """Bring what is new there into the document, and store what is new in the document."""
        raise NotImplementedError

    def end(self) -> None:
        """Let go of what was opened, if it was."""

    @property
    def connected(self) -> bool:
        """Whether it works."""
        return self._task is not None and not self._task.done()

    async def synced(self) -> None:
        """Wait until the document has what is stored, and what is in the document now is stored.

        Raises what ended the link, `SyncError` if it was closed.
        """
        wanted = self._rounds + 1  # the one that is under way may have read the document already
        self._wake.set()
        while self._done < wanted:
            if self.error is not None:
                raise self.error
            if not self.connected:
                raise SyncError("the link is closed")
            self._moved.clear()
            await self._moved.wait()

    persisted = synced

    async def close(self) -> None:
        """Store what there is, and end the link. Raises what keeps that from being done."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        if self.error is not None:
            raise self.error

    async def __aenter__(self) -> Self:
        try:
            await in_thread(self.begin)
        except BaseException:
            await in_thread(self.end)
            raise
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self) -> None:
        watch = Watch(self.document, self._wake.set)
        self._wake.set()
        try:
            closing = False
            while not closing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._period)
                self._wake.clear()
                closing = self._closing
                self._rounds += 1
                await in_thread(self.exchange)
                self._done = self._rounds
                self._moved.set()
        except (EgwalkerError, OSError) as error:
            self.error = error
        except Exception as error:
            logger.exception("the link of %r failed", self.document)
            self.error = SyncError(f"an internal error: {error!r}")
        finally:
            watch.close()
            try:
                await in_thread(self.end)
            except (EgwalkerError, OSError) as error:
                self.error = self.error or error
            self._moved.set()


class FileLink(StoredLink):
    """Keeps a document and an `.egw` file in step. Nobody else writes to the file meanwhile.

    A new file is made as soon as the document has an id for good, or something in it.
    """

    def __init__(self, path: Path, document: Document) -> None:
        super().__init__(document)
        self._path = path
        self._file: EgwFile | None = None

    def begin(self) -> None:
        try:
            self._file = EgwFile.open(self._path)
        except FileNotFoundError:
            return
        self.document.merge(self._file.document)

    def exchange(self) -> None:
        if self._file is None:
            if not settle(self.document):
                return
            # What the file holds is another replica, whose agent never does anything.
            self._file = create(self._path, self.document.fork())
        self._file.document.merge(self.document)
        self._file.commit()

    def end(self) -> None:
        if self._file is not None:
            self._file.close()


class FolderLink(StoredLink):
    """Keeps a document in step with those in an exchange folder, looking there every `period` seconds.

    `left_out` says of which files there what is wrong with them: each is tried again when it has changed.
    """

    def __init__(self, folder: Path, document: Document, period: float = PERIOD) -> None:
        super().__init__(document, period)
        self.left_out: dict[str, Exception] = {}
        self._folder = folder
        self._mine = FileLink(folder / file_name(document.agent), document)
        self._seen: dict[str, tuple[int, ...]] = {}  # what has settled

    def begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._read()
        self._mine.begin()

    def exchange(self) -> None:
        self._read()
        self._mine.exchange()

    def end(self) -> None:
        self._mine.end()

    def _read(self) -> None:
        """Bring in the files of others that have changed."""
        mine = self._mine._path.name
        names = sorted(os.listdir(self._folder))
        for name in names:
            if name.endswith(SUFFIX) and not name.startswith(".") and name != mine:
                self._read_one(name)
        for name in self.left_out.keys() - names:
            del self.left_out[name]

    def _read_one(self, name: str) -> None:
        path = self._folder / name
        try:
            found = path.stat()
            stamp = found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
            if self._seen.get(name) == stamp:
                return
            if time.time() - max(found.st_mtime, found.st_ctime) > SETTLED:
                self._seen[name] = stamp
            # Of one that is on its way here still, what has come is welcome.
            other, report = egw_records.read(path, salvage=True)
            self.document.merge(other)
        except FileNotFoundError:
            return
        except (EgwalkerError, OSError) as error:
            # Others must not wait for it.
            self._leave_out(name, error)
            return
        if report.damage is not None:
            self._leave_out(name, DecodeError(report.damage.reason, report.damage.offset))
        else:
            self.left_out.pop(name, None)

    def _leave_out(self, name: str, error: Exception) -> None:
        if str(self.left_out.get(name)) != str(error):
            logger.warning("%s is left out, or some of it: %s", self._folder / name, error)
        self.left_out[name] = error


def file_name(agent: str) -> str:
    """The name of an agent's file in an exchange folder: none has another one's on any file system.

    >>> file_name("ann"), file_name("Ann/../x")
    ('ann.egw', 'Ann_x.a43567acf368ffc0.egw')
    """
    if PLAIN.fullmatch(agent):
        return agent + SUFFIX
    readable = re.sub("[^A-Za-z0-9_-]+", "_", agent)[:40]
    return f"{readable}.{hashlib.sha256(agent.encode()).hexdigest()[:16]}{SUFFIX}"


class FileTransport:
    """`file:` URLs."""

    name = "file"
    schemes = ("file",)

    def connect(self, url: str, document: Document, **options: Any) -> StoredLink:
        """Link a document to an `.egw` file or, if the URL ends with a slash, an exchange folder.

        A document that is empty and was made without an id becomes a replica of what is there; another one
        must be one already. Option `period`: seconds between two looks at a folder.
        """
        path = path_of(url)
        if url.endswith("/"):
            return FolderLink(path, document, **options)
        return FileLink(path, document, **options)

    async def place(self, url: str, kind: str) -> FilePlace:
        """Open a file, or a new one. `LockedError` if it is open already, `DecodeError` if it is damaged.

        `kind` is that of a new document: a file that is there says itself what it holds.
        """
        path, opened = path_of(url), list[FilePlace]()
        try:
            await in_thread(lambda: opened.append(FilePlace(path, kind)))
        except asyncio.CancelledError:
            for place in opened:
                await place.close()
            raise
        return opened[0]

    async def places(self, url: str) -> list[tuple[str, float | None]]:
        """What documents a folder has, as names of places below its URL, and when each was last changed."""
        folder = path_of(url)
        return [*await in_thread(lambda: documents_in(folder))]


def documents_in(folder: Path) -> list[tuple[str, float]]:
    """The names of the `.egw` files in a folder, without the suffix, and when each was last changed."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                # It may be gone by now.
                with contextlib.suppress(OSError):
                    found.append((entry.name.removesuffix(SUFFIX), entry.stat().st_mtime))
    return found


def path_of(url: str) -> Path:
    """The path in a `file:` URL. `DecodeError` for one on another host, or without a path."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path or parts.query or parts.fragment or "\0" in path:
        raise DecodeError(f"a file URL is file:PATH or file:///PATH, not {url!r:.200}")
    return Path(path)


@hookimpl
def register_transports(register: Callable[[Transport], None]) -> None:
    register(FileTransport())
