"""Single edits: what an editor does at every key, and what it gets from others.

`RemoteKeystroke` shows the time that one keystroke of somebody else takes to enter a long finished document;
it has to stay under 20 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from benchmarks import traces
from egwalker import Cursor, Document, Run

setup_cache = traces.setup_cache

RANDOM = Random(traces.SEED)
EDITS = 10_000
"""How many edits the loops of the random benchmarks make."""


class RemoteKeystroke:
    """One event from elsewhere, received by the finished document of S1 (779,334 events).

    Each sample is another keystroke, on a document that lacks it: `typing` is next to the one before,
    `random` anywhere, both after all that is held; `concurrent` is anywhere and does not know the document's
    last event.
    """

    params = ("typing", "random", "concurrent")
    param_names = ("keystroke",)
    number = 1
    repeat = 200
    warmup_time = 0

    def setup(self, keystroke: str) -> None:
        document = opened()
        parents = document.version
        ((_, seq),) = document.version_vector["them"]
        pos = 1000 + seq if keystroke == "typing" else RANDOM.randrange(len(document))
        if keystroke == "concurrent":
            document.insert(RANDOM.randrange(len(document)), "y")
        self.document = document
        self.runs = [Run("them", seq, parents, ((pos, 0, "x"),))]

    def time_receive(self, _keystroke: str) -> None:
        self.document.receive(self.runs)


class FirstKeystroke:
    """The same, into a document that has just been made: what grows at first comes on top."""

    params = ("received", "forked")
    param_names = ("document",)
    number = 1
    repeat = 20
    warmup_time = 0

    def setup(self, document: str) -> None:
        whole = traces.finished("S1")
        self.document = whole.fork("us") if document == "forked" else received()
        self.runs = [Run("them", 0, whole.version, ((len(whole) // 2, 0, "x"),))]

    def time_receive(self, _document: str) -> None:
        self.document.receive(self.runs)


class LocalTyping:
    """The 259,778 single edits of automerge-paper made by the public API, one call each."""

    params = ("document", "subscribed", "cursor")
    param_names = ("by",)

    def setup(self, by: str) -> None:
        self.edits = keystrokes()
        self.document = Document(agent="here")
        if by == "subscribed":
            self.document.subscribe(lambda change: change)
        self.cursor = self.document.cursor() if by == "cursor" else None

    def time_automerge_paper(self, _by: str) -> None:
        if self.cursor is None:
            type_all(self.edits, self.document.insert, self.document.delete)
        else:
            type_with(self.edits, self.cursor)


class RandomTyping:
    """Edits at random places of S1's finished document, 10,000 calls."""

    params = ("insert", "delete", "both")
    param_names = ("edits",)

    def setup(self, edits: str) -> None:
        self.document = traces.finished("S1").fork("us")
        self.edits = scattered(edits, len(self.document))

    def time_edits(self, _edits: str) -> None:
        type_all(self.edits, self.document.insert, self.document.delete)


Edits = list[tuple[int, str]]
"""A position, and what is inserted there; nothing: one element is deleted."""


def type_all(edits: Edits, insert: Callable[[int, str], None], delete: Callable[[int], None]) -> None:
    for pos, inserted in edits:
        if inserted:
            insert(pos, inserted)
        else:
            delete(pos)


def type_with(edits: Edits, cursor: Cursor) -> None:
    for pos, inserted in edits:
        if cursor.position != pos:
            cursor.move(pos)
        if inserted:
            cursor.insert(inserted)
        else:
            cursor.delete()


@cache
def opened() -> Document:
    """S1's document, which keeps the keystrokes of all samples, after the first one of `FirstKeystroke`."""
    document = traces.finished("S1").fork("here again")
    document.receive([Run("them", 0, document.version, ((0, 0, "x"),))])
    return document


def received() -> Document:
    """S1's document, from its runs."""
    document = Document(agent="us")
    document.receive(traces.finished("S1").history())
    return document


@cache
def keystrokes() -> Edits:
    """The edits of automerge-paper, each of one element."""
    log = traces.recorded("automerge-paper")
    found: Edits = []
    for pos, deleted, inserted in log.edits(0, len(log)):
        found += [(pos, "")] * deleted
        found += [(pos + i, char) for i, char in enumerate(inserted)]
    return found


@cache
def scattered(edits: str, length: int) -> Edits:
    """Edits of one element at random places of a document of `length` elements."""
    random = Random(traces.SEED)
    found: Edits = []
    for _ in range(EDITS):
        inserts = edits == "insert" or (edits == "both" and random.random() < 0.5)
        found.append((random.randrange(length), "x" if inserts else ""))
        length += 1 if inserts else -1
    return found
