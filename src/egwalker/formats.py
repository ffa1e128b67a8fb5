"""The file formats of documents, in one table, and files as a whole."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from egwalker import diamond_types, egw_records, json_history
from egwalker.cycore.errors import DecodeError, KindError, LockedError
from egwalker.document import Document
from egwalker.file_system import OS, write_beside
from egwalker.identity import imported_text
from egwalker.json_history import Loaded
from egwalker.txns import Progress


def read_egw(data: bytes, agent: str | None, progress: Progress) -> Loaded:
    """A durable document. `DecodeError` for any damage."""
    progress("reading", 0, 0)
    document, report = egw_records.read(data, agent)
    return Loaded(document, None, report.closed)


def read_text(data: bytes, agent: str | None, progress: Progress) -> Loaded:
    """A document that begins with a text in UTF-8. `DecodeError`."""
    progress("reading", 0, len(data))
    try:
        return Loaded(imported_text(data.decode(), agent), None)
    except UnicodeDecodeError as error:
        raise DecodeError(f"byte {error.start}: this is not UTF-8: {error.reason}", error.start) from error


def write_text(document: Document) -> bytes:
    """The text alone, in UTF-8. `KindError` if the document does not hold text."""
    content = document.content
    if not isinstance(content, str):
        raise KindError(f"a document of kind {document.kind!r} has no plain text form")
    return content.encode()


class Format(NamedTuple):
    """A way to keep documents in files named `*suffix`. `keeps`: with their history."""

    suffix: str
    about: str
    read: Callable[[bytes, str | None, Progress], Loaded]
    write: Callable[[Document], bytes]
    keeps: bool = True


FORMATS = (
    Format(".egw", "the whole history, checked, small, edited in place", read_egw, egw_records.dumps),
    Format(".dt", "the whole history as Diamond Types has it", diamond_types.loads, diamond_types.dumps),
    Format(".json.gz", "the whole history as JSON, compressed", json_history.loads, json_history.dumps_gzip),
    Format(".json", "the whole history as JSON; traces can be read", json_history.loads, json_history.dumps),
    Format(".txt", "the text alone: read, it begins a document", read_text, write_text, keeps=False),
)
"""The first one whose suffix fits is taken."""


def format_of(path: Path) -> Format:
    """The format that a file's name stands for. `DecodeError`, naming all suffixes, if it has none."""
    for candidate in FORMATS:
        if path.name.endswith(candidate.suffix) and path.name != candidate.suffix:
            return candidate
    known = ", ".join([candidate.suffix for candidate in FORMATS])
    raise DecodeError(f"a file's format is told by its suffix, one of {known}")


def load(
    path: str | os.PathLike[str], agent: str | None = None, progress: Progress = json_history.no_progress
) -> Loaded:
    """The document in a file. `DecodeError` for what is in no format, `OSError`."""
    path = Path(path)
    return format_of(path).read(path.read_bytes(), agent, progress)


def save(document: Document, path: str | os.PathLike[str]) -> int:
    """Write a document into a file, in the format of its suffix; returns how many bytes.

    Whoever looks sees the old file or the whole new one. Raises `OSError`, `LockedError` for an `.egw` file
    that somebody edits, and what the format cannot hold.
    """
    return replace(path, lambda: format_of(Path(path)).write(document))


def replace(path: str | os.PathLike[str], make: Callable[[], bytes]) -> int:
    """Give a file new bytes, all or none of them, and make them durable; returns how many. `OSError`.

    An `.egw` file is kept from being edited while they are made.
    """
    name = os.path.realpath(path)
    with unused(name) as old:
        data = make()
        part, fd = write_beside(OS, name, data, like=old)
        try:
            OS.rename(part, name)
            OS.sync_folder(os.path.dirname(name))
        except BaseException:
            with suppress(OSError):
                OS.unlink(part)
            raise
        finally:
            OS.close(fd)
    return len(data)


@contextmanager
def unused(path: str) -> Iterator[int | None]:
    """Keep others from editing an `.egw` file, if there is one: its descriptor. `LockedError`."""
    while True:
        try:
            fd = OS.open(path)
        except FileNotFoundError:
            yield None
            return
        try:
            if path.endswith(".egw") and not OS.lock(fd):
                raise LockedError(f"{path} is open for writing already")
            if OS.is_at(fd, path):
                yield fd
                return
        finally:
            OS.close(fd)
