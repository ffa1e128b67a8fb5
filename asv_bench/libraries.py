"""The libraries that `peers.py` compares, each behind the same few calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from benchmarks import traces

from egwalker import Document, Run
from egwalker.cycore.walker import Checkout

Inputs = list[Run] | bytes
"""What a library is given of a trace: its event graph, or the update that it wrote itself. Can be pickled."""


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

    def catch_up(self) -> None:
        """Bring what was typed here there."""

    def texts(self) -> tuple[str, str]:
        """Here, there."""


class Library(Protocol):
    """A library. Making one raises `ImportError` if it is not installed. `what` is what is timed of it."""

    name: str
    what: str

    def inputs(self, runs: list[Run], trace: str, peers: Path) -> Inputs | None:
        """What this library reads of a trace; None if there is no such file."""

    def task(self, inputs: Any) -> Task: ...

    def pair(self, inputs: Any) -> Pair: ...


class Egwalker:
    name = "egwalker"
    what = "graph -> text"

    def inputs(self, runs: list[Run], trace: str, peers: Path) -> list[Run]:  # noqa: ARG002
        return runs

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
        return EgwalkerPair(inputs)


class EgwalkerPair:
    def __init__(self, runs: list[Run]) -> None:
        self._here = Document(agent="here")
        self._here.receive(runs)
        self._there = self._here.fork("there")

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        before = self._there.version_vector
        self._there.insert(pos, "x")
        runs = self._there.history(before)
        return lambda: self._here.receive(runs), None

    def type_here(self, pos: int) -> None:
        self._here.insert(pos, "y")

    def catch_up(self) -> None:
        self._there.merge(self._here)

    def texts(self) -> tuple[str, str]:
        return str(self._here), str(self._there)


class Pycrdt:
    name = "pycrdt"
    what = "bytes -> text"

    def __init__(self) -> None:
        self._pycrdt = importlib.import_module("pycrdt")

    def inputs(self, runs: list[Run], trace: str, peers: Path) -> bytes | None:  # noqa: ARG002
        return read(peers / f"{trace}.yjs-v1")

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
        self._typed: list[bytes] = []

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

    def catch_up(self) -> None:
        while self._typed:
            self._docs[1].apply_update(self._typed.pop(0))

    def texts(self) -> tuple[str, str]:
        return str(self._here), str(self._there)


class Loro:
    name = "loro"
    what = "bytes -> text"

    def __init__(self) -> None:
        self._loro = importlib.import_module("loro")

    def inputs(self, runs: list[Run], trace: str, peers: Path) -> bytes | None:  # noqa: ARG002
        return read(peers / f"{trace}.loro-updates")

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

    def keystroke(self, pos: int) -> tuple[Callable[[], object], int | None]:
        before = self._there.oplog_vv
        self._there.get_text("text").insert(pos, "x")
        self._there.commit()
        update = self._there.export(self._updates(before))
        return lambda: self._here.import_(update), len(update)

    def type_here(self, pos: int) -> None:
        self._here.get_text("text").insert(pos, "y")
        self._here.commit()

    def catch_up(self) -> None:
        self._there.import_(self._here.export(self._updates(self._there.oplog_vv)))

    def texts(self) -> tuple[str, str]:
        return self._here.get_text("text").to_string(), self._there.get_text("text").to_string()


LIBRARIES: tuple[type[Library], ...] = (Egwalker, Pycrdt, Loro)


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
