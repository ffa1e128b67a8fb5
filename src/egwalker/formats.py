"""The file formats of documents, in one table, and files as a whole."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from egwalker import json_history
from egwalker.cycore.errors import DecodeError, KindError
from egwalker.document import Document
from egwalker.json_history import Loaded
from egwalker.txns import Progress


def text(document: Document) -> bytes:
    """The text alone, in UTF-8. `KindError` if the document does not hold text."""
    content = document.content
    if not isinstance(content, str):
        raise KindError(f"a document of kind {document.kind!r} has no plain text form")
    return content.encode()


class Format(NamedTuple):
    """A way to keep documents in files named `*suffix`. `read` is None where they cannot be read back."""

    suffix: str
    about: str
    read: Callable[[bytes, str | None, Progress], Loaded] | None
    write: Callable[[Document], bytes]


FORMATS = (
    Format(".json.gz", "the whole history as JSON, compressed", json_history.loads, json_history.dumps_gzip),
    Format(".json", "the whole history as JSON; traces can be read", json_history.loads, json_history.dumps),
    Format(".txt", "the text alone", None, text),
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
    read = format_of(path).read
    if read is None:
        raise DecodeError("a plain text has no history to read")
    return read(path.read_bytes(), agent, progress)


def save(document: Document, path: str | os.PathLike[str]) -> int:
    """Write a document into a file, in the format of its suffix; returns how many bytes.

    Whoever looks sees the old file or the whole new one. Raises `OSError`, and what the format cannot hold.
    """
    data = format_of(Path(path)).write(document)
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return len(data)
