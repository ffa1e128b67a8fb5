"""The messages of the sync protocol: their types and limits, and what is in them but for events.

docs/protocol.md specifies them to the byte.
"""

import json
from collections.abc import Iterable
from typing import Any

from egwalker import encoding
from egwalker.cycore.columns import read_names, varint, write_names
from egwalker.cycore.errors import DecodeError, EgwalkerError, SyncError
from egwalker.versions import Id, Version, VersionVector

PROTOCOL = 1
HELLO, BACKLOG, UPDATE, DONE, ACK, PRESENCE, ERROR, START, FETCH, PAST = range(1, 11)
NAMES = {
    HELLO: "HELLO",
    BACKLOG: "BACKLOG",
    UPDATE: "UPDATE",
    DONE: "DONE",
    ACK: "ACK",
    PRESENCE: "PRESENCE",
    ERROR: "ERROR",
    START: "START",
    FETCH: "FETCH",
    PAST: "PAST",
}
COUNTER = 256
"""Messages are numbered modulo this."""

BLANK = 1  # takes on the other's id
DURABLE = 2  # will say what has become durable here
READ_ONLY = 4  # what the other sends would be refused
SHALLOW = 8  # has no events, and may begin with the content at a version, and what came after
PLAIN = 16  # reads no compressed columns, and writes none
NO_ACKS = 32  # does not want to be told what has been received

MAX_MESSAGE = 16 << 20
"""Bytes of the largest message that is read."""
MAX_HELLO = 2 << 20
"""Of the largest HELLO: a version vector takes up to sixty times as much memory."""
MAX_FETCH = 64 << 10
"""Of the largest FETCH."""
MAX_HEADS = 100
"""Heads of a version that a document begins at."""
MAX_PRESENCE = 4096
"""Bytes of one peer's presence, as JSON."""
MAX_PRESENCE_DEPTH = 32
"""How deep it may be nested."""
MAX_KEY = 255
"""Bytes of its key."""
MAX_REASON = 1000
"""Characters of an error that the other end is told."""


class Reader(encoding.Reader):
    """Reads the parts of a message."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at = at

    def text(self) -> str:
        """A text in UTF-8 after its length in bytes."""
        length = self.number()
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"a text is not UTF-8: {error.reason}", self.at) from None

    def end(self) -> None:
        """Nothing may follow."""
        if self.at < len(self.data):
            raise DecodeError(f"{len(self.data) - self.at} bytes too many", self.at)


def encode_vector(vector: VersionVector) -> bytes:
    """A version vector: names, then the ranges of each."""
    names = write_names(vector)
    return b"".join([varint(len(names)), names, *encoding.encode_ranges(vector.values())])


def decode_vector(reader: Reader) -> VersionVector:
    """What `encode_vector` wrote, to the end. `DecodeError`."""
    names = read_names(reader.take(reader.number()))
    if len(set(names)) != len(names):
        raise DecodeError("an agent is named twice", reader.at)
    found = {name: encoding.decode_ranges(reader, name) for name in names}
    reader.end()
    return found


def encode_ids(ids: Iterable[Id]) -> bytes:
    """Ids of events: how many, then the name and the seq of each."""
    found = [write_names([agent]) + varint(seq) for agent, seq in ids]
    return varint(len(found)) + b"".join(found)


def decode_ids(reader: Reader) -> Version:
    """What `encode_ids` wrote: ascending, each once. `DecodeError`."""
    found: list[Id] = []
    for _ in range(reader.number()):
        at = reader.at
        length = reader.number()
        (name,) = read_names(reader.data[at : reader.at] + reader.take(length))
        found.append((name, reader.number()))
    if found != sorted(set(found)):
        raise DecodeError("ids are not ascending, or one is there twice", reader.at)
    return tuple(found)


def encode_presence(key: str, state: Any) -> bytes:
    """A PRESENCE message. `SyncError` for what is no JSON or too large."""
    try:
        raw = key.encode()
        text = b"" if state is None else to_json(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise SyncError(f"the presence of {key!r:.80} is not JSON: {error}") from None
    if not 0 < len(raw) <= MAX_KEY or len(text) > MAX_PRESENCE:
        raise SyncError(
            f"the presence of {key!r:.80} has {len(text)} bytes, at most {MAX_PRESENCE} are told, "
            f"under a key of 1 to {MAX_KEY}"
        )
    return b"".join([bytes([PRESENCE]), varint(len(raw)), raw, text])


def to_json(state: Any) -> bytes:
    """The shortest JSON. `ValueError`, `TypeError` and `RecursionError` for what is none."""
    text = json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if text.count("[") + text.count("{") > MAX_PRESENCE_DEPTH and depth(state) > MAX_PRESENCE_DEPTH:
        raise ValueError(f"it is nested more than {MAX_PRESENCE_DEPTH} deep")
    return text.encode()


def depth(state: Any) -> int:
    """How deep lists and dicts are nested."""
    found = -1
    level = [state]
    while level:
        found += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, (list, tuple)):
                inner += item or [None]
            elif isinstance(item, dict):
                inner += item.values() or [None]
        level = inner
    return found


def decode_presence(message: bytes) -> tuple[str, Any]:
    """The key and the state: one that can be sent on as it is. `DecodeError`."""
    reader = Reader(message, 2)
    length = reader.number()
    if not 0 < length <= MAX_KEY:
        raise DecodeError(f"a key has {length} bytes, not 1 to {MAX_KEY}", reader.at)
    reader.at -= len(varint(length))
    key = reader.text()
    raw = message[reader.at :]
    if not raw:
        return key, None
    if len(raw) > MAX_PRESENCE:
        raise DecodeError(f"it has {len(raw)} bytes, at most {MAX_PRESENCE} are read", reader.at)
    try:
        state = json.loads(raw.decode())
        again = to_json(state)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"it is not JSON: {error}", reader.at) from None
    if state is None or len(again) > MAX_PRESENCE:
        raise DecodeError(f"it is null, or has {len(again)} bytes when it is written again", reader.at)
    return key, state


def encode_error(error: EgwalkerError) -> bytes:
    """An ERROR message."""
    name = type(error).__name__.encode()
    text = str(error)[:MAX_REASON].encode(errors="replace")
    return b"".join([bytes([ERROR]), varint(len(name)), name, text])


def decode_error(message: bytes) -> SyncError:
    """What the other end found wrong, fit to be shown."""
    try:
        reader = Reader(message, 2)
        name = reader.text()
        text = message[reader.at : reader.at + 4 * MAX_REASON].decode(errors="replace")
    except DecodeError:
        name, text = "error", "one that cannot be read"
    reason = "".join([char if char.isprintable() else "?" for char in f"{name[:80]}: {text[:MAX_REASON]}"])
    return SyncError(f"the other end closed the link: {reason}")
