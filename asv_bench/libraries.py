"""The libraries that `peers.py` compares, each behind the same few calls."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from benchmarks import traces
from benchmarks.live import type_one

from egwalker import Document, Run
from egwalker.cycore.checkout import Checkout
from egwalker.encoding import Link, encode_update

Inputs = list[Run] | bytes | Path
"""What a library is given of a trace: its event graph, bytes that it wrote itself, or the name of a file.

It can be pickled.
"""


class Source(NamedTuple):
    """A trace to take inputs from, the folder of the peers' files, and one to write files into."""

    trace: str
    document: Document
    runs: list[Run]
    peers: Path
    scratch: Path


class Task(NamedTuple):
    """A trace, ready to be merged.

    `merge` returns the text, and whatever must stay alive until the clock has stopped. `size` is that of what
    it reads, in bytes.
    """

    merge: Callable[[], tuple[object, str]]
    size: int


class Pair(Protocol):
    """Two replicas of one document: here, where keystrokes arrive, and there, where they are made."""

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        """Insert one code point there; what takes it in here, and its size in bytes where it has one."""

    def type_here(self, pos: int) -> None:
        """Insert one code point here, which there does not see until `catch_up`."""

    def catch_up(self, waiting: int = 0) -> None:
        """Bring what was typed here there, but for the last `waiting` code points."""

    def texts(self) -> tuple[str, str]:
        """Here, there."""


class Library(ABC):
    """A library. Making one raises `ImportError` if it is not installed.

    `what` is what is timed of it, `keystroke` how its keystrokes travel, where that has to be said. `quick`:
    it takes so little time that page faults would decide.
    """

    name: str
    what: str
    keystroke = ""
    quick = False

    @property
    def version(self) -> str:
        return version(self.name)

    @abstractmethod
    def inputs(self, source: Source) -> Inputs | None:
        """What this library reads of a trace; None if there is no such file."""

    def task(self, inputs: Any) -> Task:
        raise NotImplementedError

    def pair(self, inputs: Any) -> Pair:
        raise NotImplementedError


class Egwalker(Library):
    name = "egwalker"
    what = "graph -> text"

    def inputs(self, source: Source) -> list[Run]:
        return source.runs

    def task(self, inputs: list[Run]) -> Task:
        log = traces.graph(inputs)

        def merge() -> tuple[object, str]:
            checkout = Checkout(log)
            checkout.merge()
            text = checkout.content()
            assert isinstance(text, str)
            return checkout, text

        return Task(merge, sum(log.memory().values()))

    def pair(self, inputs: list[Run]) -> Pair:
        here = Document(agent="here")
        here.receive(inputs)
        return EgwalkerPair(here)


class EgwalkerPair:
    def __init__(self, here: Document) -> None:
        self._here = here
        self._there = here.fork("there")
        self._typed: deque[Run] = deque()

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        run = type_one(self._there, pos, "x")
        return lambda: self._here.receive([run]), None

    def type_here(self, pos: int) -> None:
        self._typed.append(type_one(self._here, pos, "y"))

    def catch_up(self, waiting: int = 0) -> None:
        while len(self._typed) > waiting:
            self._there.receive([self._typed.popleft()])

    def texts(self) -> tuple[str, str]:
        return str(self._here), str(self._there)


class EgwalkerReplay(Library):
    """From the bytes of a whole document without its content, which takes a replay."""

    name = "egwalker"
    what = "bytes -> text, full replay"

    def inputs(self, source: Source) -> bytes:
        return source.document.encode(content=False)

    def task(self, inputs: bytes) -> Task:
        # Loads the plugins, as importing loads all of other libraries.
        Document()

        def merge() -> tuple[object, str]:
            document = Document.decode(inputs, agent="reader")
            return document, str(document)

        return Task(merge, len(inputs))


class EgwalkerCached(EgwalkerReplay):
    """From the bytes of a whole document as they are stored, with its content."""

    what = "bytes -> text, cached content"
    quick = True

    def inputs(self, source: Source) -> bytes:
        return source.document.encode()


class PlainText(Library):
    """No library: what it takes to read a text that has no history."""

    name = "plain text file"
    what = "file -> text"
    quick = True

    @property
    def version(self) -> str:
        return f"Python {python_version()}"

    def inputs(self, source: Source) -> Path:
        path = source.scratch / f"{source.trace}.txt"
        path.write_bytes(str(source.document).encode())
        return path

    def task(self, inputs: Path) -> Task:
        def merge() -> tuple[object, str]:
            return None, inputs.read_bytes().decode()

        return Task(merge, inputs.stat().st_size)


class EgwalkerUpdates(EgwalkerReplay):
    """Keystrokes as updates that stand alone."""

    keystroke = ", as bytes"

    def pair(self, inputs: bytes) -> Pair:
        return EgwalkerUpdatesPair(Document.decode(inputs, agent="here"))


class EgwalkerUpdatesPair(EgwalkerPair):
    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        update = self._update(pos, None)
        return lambda: self._here.apply(update), len(update)

    def _update(self, pos: int, link: Link | None) -> bytes:
        """As a session makes them: `Document.encode` would look for what is new."""
        log = self._there._replica.whole()
        start = len(log)
        self._there.insert(pos, "x")
        return encode_update(log, bytes.fromhex(self._there.id), [(start, len(log))], link)


class EgwalkerLinked(EgwalkerReplay):
    """Keystrokes as updates over a link, whose ends remember names."""

    keystroke = ", as bytes over a link"

    def pair(self, inputs: bytes) -> Pair:
        return EgwalkerLinkedPair(Document.decode(inputs, agent="here"))


class EgwalkerLinkedPair(EgwalkerUpdatesPair):
    def __init__(self, here: Document) -> None:
        super().__init__(here)
        self._written, self._read = Link(), Link()

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        update = self._update(pos, self._written)
        return lambda: self._here.apply(update, link=self._read), len(update)


class Pycrdt(Library):
    name = "pycrdt"
    what = "bytes -> text"

    def __init__(self) -> None:
        self._pycrdt = importlib.import_module("pycrdt")

    def inputs(self, source: Source) -> bytes | None:
        return read(source.peers / f"{source.trace}.yjs-v1")

    def task(self, inputs: bytes) -> Task:
        new_doc, text_type = self._pycrdt.Doc, self._pycrdt.Text

        def merge() -> tuple[object, str]:
            doc = new_doc()
            doc.apply_update(inputs)
            return doc, str(doc.get("text", type=text_type))

        return Task(merge, len(inputs))

    def pair(self, inputs: bytes) -> Pair:
        return PycrdtPair(self._pycrdt, inputs)


class PycrdtPair:
    def __init__(self, pycrdt: ModuleType, update: bytes) -> None:
        self._docs = [pycrdt.Doc(), pycrdt.Doc()]
        for doc in self._docs:
            doc.apply_update(update)
        self._here, self._there = (doc.get("text", type=pycrdt.Text) for doc in self._docs)
        self._typed: deque[bytes] = deque()

    def _type(self, text: Any, pos: int, what: str) -> bytes:
        # Watched only while typing: an update made from a state vector would hold every deletion ever made.
        updates: list[bytes] = []
        watch = text.doc.observe(lambda event: updates.append(event.update))
        text.insert(pos, what)
        text.doc.unobserve(watch)
        (update,) = updates
        return update

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        update = self._type(self._there, pos, "x")
        return lambda: self._docs[0].apply_update(update), len(update)

    def type_here(self, pos: int) -> None:
        self._typed.append(self._type(self._here, pos, "y"))

    def catch_up(self, waiting: int = 0) -> None:
        while len(self._typed) > waiting:
            self._docs[1].apply_update(self._typed.popleft())

    def texts(self) -> tuple[str, str]:
        return str(self._here), str(self._there)


class Loro(Library):
    name = "loro"
    what = "bytes -> text"

    def __init__(self) -> None:
        self._loro = importlib.import_module("loro")

    def inputs(self, source: Source) -> bytes | None:
        return read(source.peers / f"{source.trace}.loro-updates")

    def task(self, inputs: bytes) -> Task:
        new_doc = self._loro.LoroDoc

        def merge() -> tuple[object, str]:
            doc = new_doc()
            doc.import_(inputs)
            return doc, doc.get_text("text").to_string()

        return Task(merge, len(inputs))

    def pair(self, inputs: bytes) -> Pair:
        return LoroPair(self._loro, inputs)


class LoroPair:
    def __init__(self, loro: ModuleType, update: bytes) -> None:
        self._updates = loro.ExportMode.Updates
        self._here, self._there = loro.LoroDoc(), loro.LoroDoc()
        for doc in (self._here, self._there):
            doc.import_(update)
        self._typed: deque[bytes] = deque()

    def _type(self, doc: Any, pos: int, what: str) -> bytes:
        before = doc.oplog_vv
        doc.get_text("text").insert(pos, what)
        doc.commit()
        return bytes(doc.export(self._updates(before)))

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        update = self._type(self._there, pos, "x")
        return lambda: self._here.import_(update), len(update)

    def type_here(self, pos: int) -> None:
        self._typed.append(self._type(self._here, pos, "y"))

    def catch_up(self, waiting: int = 0) -> None:
        while len(self._typed) > waiting:
            self._there.import_(self._typed.popleft())

    def texts(self) -> tuple[str, str]:
        return self._here.get_text("text").to_string(), self._there.get_text("text").to_string()


MERGING: tuple[type[Library], ...] = (Egwalker, Pycrdt, Loro, EgwalkerReplay, EgwalkerCached, PlainText)
"""Those that make a text."""
TYPING: tuple[type[Library], ...] = (Egwalker, Pycrdt, Loro, EgwalkerUpdates, EgwalkerLinked)
"""Those that exchange keystrokes."""


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
