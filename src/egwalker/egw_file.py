"""A document in a durable `.egw` file; `egwalker.egw_records` says what is in one."""

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from egwalker.cycore.errors import DecodeError, KindError, LockedError, StorageError
from egwalker.document import Document
from egwalker.egw_records import END, END_BYTES, SNAPSHOT, TOTALS, UPDATE, Scan, dumps, frame, replay, scan
from egwalker.encoding import Summary, parse
from egwalker.events import logger
from egwalker.file_system import OS, FileSystem, discard, read_all, sweep, write_all, write_beside
from egwalker.versions import Version, VersionVector

MIN_UPDATES = 64 << 10
"""Files are compacted when their updates have more bytes than this and than the snapshot."""
CLOSED_SHARE = 4
"""Closing compacts a file whose updates are more than the snapshot divided by this."""
FEW = 1000
"""As many new events are encoded at once."""


def storage_error(what: str, error: BaseException) -> StorageError:
    """A `StorageError` with the cause's text and `errno`."""
    made = StorageError(f"{what}: {str(error) or type(error).__name__}")
    made.errno = getattr(error, "errno", None)
    made.__cause__ = error
    return made


class Recovered(NamedTuple):
    """The torn tail that was cut off: from which byte on, and how many bytes."""

    offset: int
    dropped: int


class Held(NamedTuple):
    """What a document held at some time."""

    vector: VersionVector
    version: Version
    start: Version
    events: int

    @classmethod
    def by(cls, document: Document) -> Self:
        """What it holds now, with its lock held."""
        return cls(document.version_vector, document.version, document.start, document._events())


class Commit(NamedTuple):
    """An update that is to be appended to a file, for `commit_all`."""

    file: "EgwFile"
    record: bytes
    updates: int  # bytes of all updates that are in the file then
    held: Held  # what is durable then


class EgwFile:
    """A document that is kept in a file. Any number of threads may use both.

    Edit `document` as any other one; `commit` makes durable what it holds, except events that still wait for
    parents. `close`, or the end of a `with` block, commits too.

    When writing fails, the file is read-only from then on: that commit and all later ones raise
    `StorageError`. The document can still be used. A process that is forked off keeps the file locked as long
    as it lives.

    >>> from tempfile import TemporaryDirectory
    >>> from egwalker.egw_records import read
    >>> with TemporaryDirectory() as folder:
    ...     with EgwFile.open(f"{folder}/notes.egw", "alice", create="text") as file:
    ...         file.document.insert(0, "hello")
    ...         stored = file.commit()
    ...         file.document.insert(5, "!")
    ...     document, report = read(f"{folder}/notes.egw")
    >>> stored, document.content, report.closed
    ({'alice': [(0, 5)]}, 'hello!', True)
    """

    def __init__(
        self, fs: FileSystem, path: str, fd: int, found: Scan, document: Document, recovered: Recovered | None
    ) -> None:
        """For `open`: of a locked file of which everything is stored."""
        self._fs = fs
        self._path = path
        self._fd = fd
        self._document = document
        self._recovered = recovered
        self._stored = Held.by(document)  # what is durable
        self._id = document.id
        self._take(found)
        self._failure: StorageError | None = None
        self._closed = False
        # Who makes things durable does it alone, for all who wait: `_busy`. Such rounds are numbered.
        self._turn = threading.Condition()
        self._busy = False
        self._first = 0  # how many wait who do not share a round
        self._begun = 0
        self._succeeded = 0

    def _take(self, found: Scan) -> None:
        """Go on where the records of a file end."""
        self._generation = found.generation
        self._has_end = found.closed
        self._records = len(found.records) - self._has_end
        self._end = found.records[self._records - 1].end  # of what stays, in bytes: END is overwritten
        self._snapshot = found.bytes_of(SNAPSHOT)
        self._updates = found.bytes_of(UPDATE)
        self._limit = max(MIN_UPDATES, self._snapshot)  # of updates, in bytes
        # What documents of operations are opened with, if their type can read it.
        kind = self._document._type
        self._summary: Summary | None = None
        if kind.caches and not kind.positions:
            self._summary = parse(bytes(found.records[0].payload)).summary

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        agent: str | None = None,
        *,
        create: str | Document | None = None,
        fs: FileSystem = OS,
    ) -> Self:
        """Open a file to read and write, for `agent` (default: a fresh random name) to edit its document.

        If there is no such file it is created, with `create`: an empty document of that kind, or that
        document itself, whose agent stays; then there must be none (`FileExistsError`). A document of another
        kind than `create` says is a `KindError`.

        A torn tail is cut off, which `recovered` tells, and so does a warning. Raises `LockedError` if the
        file is open already, `DecodeError` with an offset in bytes for damage, and leaves the file alone
        then; `StorageError` if it cannot be created or recovered, `OSError` if it cannot be opened.
        """
        name = os.path.realpath(path)
        while True:
            try:
                fd = fs.open(name)
            except FileNotFoundError:
                if create is None:
                    raise
                document = create if isinstance(create, Document) else Document(create, agent=agent)
                made = cls._create(fs, name, document)
                if made is not None:
                    return made
                continue
            try:
                if not fs.lock(fd):
                    raise LockedError(f"{name} is open for writing already")
                if fs.is_at(fd, name):
                    if isinstance(create, Document):
                        raise FileExistsError(f"there is a file {name} already")
                    return cls._recover(fs, name, fd, agent, create)
            except BaseException:
                fs.close(fd)
                raise
            fs.close(fd)  # another one has taken its name meanwhile

    @classmethod
    def _create(cls, fs: FileSystem, path: str, document: Document) -> Self | None:
        """A new file; None if there is one by now."""
        with document._lock:
            data = dumps(document)
            made = cls(fs, path, -1, scan(data), document, None)
        try:
            part, made._fd = write_beside(fs, path, data)
            try:
                fs.link(part, path)
            except BaseException as error:
                discard(fs, part, made._fd)
                if isinstance(error, FileExistsError | FileNotFoundError):
                    return None
                raise
            try:
                fs.unlink(part)
                fs.sync_folder(os.path.dirname(path))
            except BaseException:
                fs.close(made._fd)
                raise
        except OSError as error:
            raise storage_error(f"{path} cannot be created", error) from error
        sweep(fs, path, made._fd)
        return made

    @classmethod
    def _recover(cls, fs: FileSystem, path: str, fd: int, agent: str | None, kind: str | None) -> Self:
        """The document of a file that is locked, once all of it is stored."""
        data = read_all(fs, fd)
        found = scan(data)
        if found.damage is not None and found.damage.next_record is not None:
            offset, reason, other = found.damage
            raise DecodeError(f"{reason}, and there is one at {other}", offset)
        document = replay(found.records, agent)
        if kind is not None and document.kind != kind:
            raise KindError(f"{path} holds a document of kind {document.kind!r}, not {kind!r}")
        recovered = None
        try:
            if found.damage is not None:
                recovered = Recovered(found.damage.offset, len(data) - found.damage.offset)
                logger.warning("%s: cut off a torn tail of %d bytes from byte %d on", path, *recovered[::-1])
                fs.truncate(fd, recovered.offset)
            last = found.records[-1]
            if last.kind == UPDATE:
                # Its writer's sync may have failed: then the system shows bytes that it has given up storing.
                write_all(fs, fd, last.start, data[last.start : last.end])
            fs.sync(fd)
            fs.sync_folder(os.path.dirname(path))
        except OSError as error:
            raise storage_error(f"{path} cannot be recovered", error) from error
        sweep(fs, path, fd)
        return cls(fs, path, fd, found, document, recovered)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "failed" if self._failure else "open"
        return f"<EgwFile {self._path!r}, {state}>"

    @property
    def document(self) -> Document:
        """The document, which stays usable after `close` and after failures."""
        return self._document

    @property
    def stored(self) -> VersionVector:
        """Which events are durable."""
        return {agent: list(ranges) for agent, ranges in self._stored.vector.items()}

    @property
    def recovered(self) -> Recovered | None:
        """The torn tail that `open` cut off; None if there was none."""
        return self._recovered

    def commit(self) -> VersionVector:
        """Make everything durable that the document holds now; returns which events are durable.

        Threads that commit at the same time share one write and one sync. Nothing is written if nothing is
        new. A file whose updates have outgrown its snapshot is compacted. Raises `StorageError` if writing
        fails or has failed, or if the file is closed; `RuntimeError` within a transaction of this thread.
        """
        self._round(self._store, shared=True)
        return self.stored

    @property
    def all_stored(self) -> bool:
        """Whether `commit` would find nothing to do. O(heads)."""
        document, stored = self._document, self._stored
        same = (document.version, document.start) == (stored.version, stored.start)
        whole = same and document.id == self._id
        return whole and self._failure is None and not self._closed

    def begin_commit(self) -> Commit | None:
        """Begin a commit that `commit_all` ends, with those of other files. It waits for nobody.

        None if there is more to do than to append a few events, or nothing, or somebody else is at work: then
        `commit` is what to call, in a thread. Until this one is ended others wait who commit, compact or
        close.
        """
        document = self._document
        with self._turn:
            if self._busy or self._first or self._closed or self._failure is not None:
                return None
            # A thread may be in the middle of a transaction; this one, too.
            if document._lock._is_owned() or not document._lock.acquire(blocking=False):  # type: ignore[attr-defined]
                return None
            try:
                few = 0 < document._events() - self._stored.events <= FEW
                if not few or document.id != self._id or document.start != self._stored.start:
                    return None
                data, held = document.encode(since=self._stored.vector), Held.by(document)
            finally:
                document._lock.release()
            record, updates = frame(self._generation, UPDATE, data), self._updates + len(data)
            if updates > self._limit or len(record) < END_BYTES:  # which it may have to cover
                return None
            try:
                self._check_place()
            except OSError:
                return None
            self._busy = True
            self._begun += 1
        return Commit(self, record, updates, held)

    def _end_commit(self, commit: Commit, error: BaseException | None) -> StorageError | None:
        """What was begun is stored, or it is not. Returns what went wrong."""
        failure, self._has_end = None, False
        try:
            if error is None:
                self._appended(commit.record)
                self._updates, self._stored = commit.updates, commit.held
                self._succeeded = self._begun
            elif isinstance(error, OSError):
                failure = self._cut_off(error)
            else:
                failure = self._fail(error)
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()
        return failure

    def compact(self) -> None:
        """Replace the file by one with everything in one snapshot, which commits, too. O(document).

        `StorageError` if that fails; the old file stays in use if the new one did not come so far as to take
        its name.
        """
        self._round(self._replace)

    def close(self) -> None:
        """Commit, mark the file as closed, and release it. The document stays. Again does nothing.

        `StorageError` if something cannot be stored; the file is released all the same. `RuntimeError` within
        a transaction of this thread.
        """
        self._round(self._finish, last=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _round(self, work: Callable[[], None], *, shared: bool = False, last: bool = False) -> None:
        """Do work that stores all that the document holds. `shared`: or let another thread do it.

        Others than the `shared` ones go first, or they might never have their turn.
        """
        if self._document._lock._is_owned():  # type: ignore[attr-defined]
            # A thread that is at work may be waiting for this one's transaction.
            raise RuntimeError("a file cannot be written within a transaction of its document")
        with self._turn:
            wanted = self._begun + 1  # the round that is under way may have read the document already
            self._first += not shared
            try:
                while self._busy or (shared and self._first):
                    self._turn.wait()
                    if shared and self._succeeded >= wanted:
                        return
            finally:
                self._first -= not shared
                self._turn.notify_all()
            if last and self._closed:
                return
            if self._closed or (self._failure is not None and not last):
                raise self._refusal()
            self._closed, self._busy = last, True
            self._begun += 1
        try:
            work()
            self._succeeded = self._begun
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()

    def _finish(self) -> None:
        """Close the file."""
        try:
            if self._failure is None:
                self._store(closing=True)
                if not self._has_end:
                    self._append(END, TOTALS.pack(self._records, self._end))
            elif self._document.version != self._stored.version:
                raise self._refusal()
        finally:
            self._fs.close(self._fd)

    def _check_place(self) -> None:
        if not self._fs.is_at(self._fd, self._path):
            raise OSError("the file has been moved, removed or replaced")

    def _refusal(self) -> StorageError:
        if self._failure is None:
            return StorageError(f"{self._path} is closed")
        return storage_error("read-only since writing failed", self._failure)

    def _fail(self, error: BaseException) -> StorageError:
        """Never write to the file again."""
        self._failure = storage_error(self._path, error)
        return self._failure

    def _store(self, closing: bool = False) -> None:
        """Make what the document holds durable, the cheapest way."""
        if self._document.id != self._id or self._document.start != self._stored.start:
            # It was empty, and has become a replica of another one: all records are of one document. Or older
            # history has come, which only a snapshot can hold.
            self._replace()
            return
        with self._document._lock:
            held = Held.by(self._document)
            new = held.version != self._stored.version
            data = self._document.encode(since=self._stored.vector) if new else b""
        updates = self._updates + len(data)
        if updates > (self._snapshot // CLOSED_SHARE if closing else self._limit) or (
            closing and self._opens_slowly()
        ):
            try:
                self._replace()
                return
            except StorageError as error:
                if self._failure is not None:
                    raise
                self._limit = 2 * updates  # before the next attempt
                logger.warning("%s was not compacted: %s", self._path, error)
        if data:
            self._append(UPDATE, data)
            self._updates, self._stored = updates, held

    def _opens_slowly(self) -> bool:
        """Whether the state in the snapshot is of no use, as operations in updates belong before it."""
        if self._summary is None:
            return False
        with self._document._lock:
            return not self._document._replica.goes_on_from(self._summary)

    def _append(self, kind: int, payload: bytes) -> None:
        """Add a record and have it stored."""
        record = frame(self._generation, kind, payload)
        try:
            self._check_place()
        except OSError as error:
            raise self._fail(error) from error
        try:
            if self._has_end:
                self._fs.truncate(self._fd, self._end)
                self._has_end = False
            write_all(self._fs, self._fd, self._end, record)
            self._fs.sync(self._fd)
        except BaseException as error:
            failure = self._cut_off(error)
            if isinstance(error, OSError):
                raise failure from error
            raise
        if kind == END:
            self._has_end = True
        else:
            self._appended(record)

    def _appended(self, record: bytes) -> None:
        """A record is stored that stays."""
        self._end += len(record)
        self._records += 1

    def _cut_off(self, error: BaseException) -> StorageError:
        """What was written must not be found: after a failed sync nobody knows whether it is stored."""
        failure = self._fail(error)
        try:
            self._fs.truncate(self._fd, self._end)
        except OSError as another:
            logger.warning("%s: a failed write could not be cut off: %s", self._path, another)
        return failure

    def _replace(self) -> None:
        """Put a file in the place of this one that holds the document in one snapshot."""
        fs, path = self._fs, self._path
        with self._document._lock:
            held = Held.by(self._document)
            doc_id = self._document.id
            data = dumps(self._document)
        found = scan(data)
        try:
            self._check_place()
            part, fd = write_beside(fs, path, data, like=self._fd)
        except OSError as error:
            raise storage_error(f"{path} cannot be compacted", error) from error
        old = self._fd
        try:
            fs.rename(part, path)
            self._fd = fd
            fs.sync_folder(os.path.dirname(path))
            self._take(found)
            self._stored, self._id = held, doc_id
        except BaseException as error:
            failure = self._fail(error)
            if self._fd == old:
                discard(fs, part, fd)
            else:
                fs.close(old)
            if isinstance(error, OSError):
                raise failure from error
            raise
        fs.close(old)


def commit_all(commits: Sequence[Commit]) -> list[StorageError | None]:
    """End commits that were begun, of files of one file system; returns what went wrong with each.

    All are written and synced by one call. Where nothing went wrong all is durable that the document held
    when the commit began.
    """
    pieces = [(commit.file._fd, commit.file._end, commit.record) for commit in commits]
    try:
        errors = commits[0].file._fs.store_all(pieces)
    except BaseException as error:
        for commit in commits:
            commit.file._end_commit(commit, error)
        raise
    return [commit.file._end_commit(commit, error) for commit, error in zip(commits, errors, strict=True)]
