"""The file formats of documents, in one table, and files as a whole."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from egwalker import diamond_types, egw_file, json_history
from egwalker.cycore.errors import DecodeError, KindError
from egwalker.document import Document
from egwalker.identity import imported_text
from egwalker.json_history import Loaded
from egwalker.txns import Progress


def read_egw(data: bytes, agent: str | None, progress: Progress) -> Loaded:
    """A durable document. `DecodeError` for any damage."""
    progress("reading", 0, 0)
    document, report = egw_file.read(data, agent)
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
    Format(".egw", "the whole history, checked and small; can be edited in place", read_egw, egw_file.dumps),
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
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    with unused(target):
        data = make()
        try:
            with part.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
            egw_file.OS.sync_folder(str(target.parent))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return len(data)


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep others from editing an `.egw` file while it is replaced. `LockedError` if somebody does."""
    if path.suffix != ".egw" or not path.is_file():
        yield
        return
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise egw_file.LockedError(f"{path} is open for writing already") from None
        yield
