"""How many bytes documents take with their histories, in our format and in those of other libraries.

Theirs come from the files of peers where there are some. Else the history is made again with the library:
each branch is a document of its own, which forks and merges as the recorded one did. automerge has no such
files; its package on PyPI that can do this is a pre-release (`pip install --pre automerge`), and it takes
2 GiB of memory for the branches of git-makefile.
"""

from __future__ import annotations

import gzip
import importlib
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import zstandard
from benchmarks import traces

from egwalker import Document, formats
from egwalker.cycore.oplog import OpLog

TRACES = ("automerge-paper", "friendsforever", "git-makefile", "node_nodecc", "S1", "C1", "A1", "A2")
DT_FILES = {"A1": "node_nodecc"}
PEERS_FILES = {"node_nodecc": "A1"}
"""The same history under another name."""

TARGET = 0.8
TARGETS = dict.fromkeys(("automerge-paper", "friendsforever", "git-makefile", "node_nodecc"), TARGET)
"""By trace, how large our document and file with content may be at most, as a ratio to the `.dt` file."""

Op = tuple[int, int, str]
"""A position, how many code points are deleted there, and what is inserted."""


class Size(NamedTuple):
    """What takes how many bytes. `note`: what else there is to know. `right`: the text is the trace's."""

    library: str
    version: str | None
    what: str
    size: int | None
    note: str | None = None
    right: bool = True


def compare(
    name: str, folder: Path, peers: Path, say: Callable[[str], None]
) -> Iterator[tuple[dict[str, Any], bool]]:
    """A line for each form of a trace, and whether its text is right. `OSError` if the trace is not there."""
    document = traces.load(name, folder).document
    dt = folder / f"{DT_FILES.get(name, name)}.dt"
    dt_size = dt.stat().st_size if dt.is_file() else None
    found = ours(document)
    if dt_size is not None:
        found.append(Size("diamond-types", None, "file", dt_size))
    for each in found:
        yield line_of(name, each, dt_size), each.right
    for kind in (PycrdtBranches, LoroBranches, AutomergeBranches):
        for each in theirs(kind, name, document, peers, say):
            yield line_of(name, each, dt_size), each.right
    for each in plain(document):
        yield line_of(name, each, dt_size), each.right


def line_of(name: str, found: Size, dt_size: int | None) -> dict[str, Any]:
    ratio = None if dt_size is None or found.size is None else round(found.size / dt_size, 4)
    line: dict[str, Any] = {
        "trace": name,
        "library": found.library,
        "version": found.version,
        "what": found.what,
        "bytes": found.size,
        "ratio_to_dt": ratio,
    }
    if found.what in (WITH_CONTENT, FILE) and name in TARGETS:
        target = TARGETS[name]
        line |= {"target": target, "within": None if ratio is None else ratio <= target}
    if found.note is not None:
        line["note"] = found.note
    return line


# --- ours ---------------------------------------------------------------------------------------------------

WITH_CONTENT = "document with content"
FILE = ".egw file"


def ours(document: Document) -> list[Size]:
    """Our own forms, each read back."""
    forms = {
        WITH_CONTENT: document.encode(),
        "document without content": document.encode(content=False),
        "document with content, without deleted text": document.encode(deleted=False),
    }
    text = str(document)
    ours_version = version("egwalker")
    found = []
    for what, data in forms.items():
        right = str(Document.decode(data)) == text
        found.append(Size("egwalker", ours_version, what, len(data), None if right else OTHER_TEXT, right))
    # Without a version vector it would be a whole document.
    update = document.encode(since={"": []})
    reader = Document(id=document.id)
    reader.apply(update)
    right = str(reader) == text
    note = None if right else OTHER_TEXT
    found.append(Size("egwalker", ours_version, "update with all events", len(update), note, right))
    for each in formats.FORMATS:
        if each.suffix == ".egw":
            found.append(Size("egwalker", ours_version, FILE, len(each.write(document))))
    return found


def plain(document: Document) -> list[Size]:
    """The text without a history, for orientation."""
    text = str(document).encode()
    python = f"Python {sys.version.split()[0]}"
    return [
        Size("plain text", None, "UTF-8", len(text)),
        Size("plain text", python, "gzip -9", len(gzip.compress(text, 9, mtime=0))),
        Size("plain text", version("zstandard"), "zstd -19", len(zstandard.compress(text, 19))),
    ]


# --- other libraries ----------------------------------------------------------------------------------------

OTHER_TEXT = "its text is not the one expected"


def theirs(
    kind: type[Branches], name: str, document: Document, peers: Path, say: Callable[[str], None]
) -> Iterator[Size]:
    """What a library makes of a trace."""
    try:
        branches = kind()
        library_version = version(kind.name)
    except (ImportError, PackageNotFoundError):
        say(f"{kind.name}{' with branches' if kind is AutomergeBranches else ''} is not installed, left out")
        return
    file = peers / f"{PEERS_FILES.get(name, name)}.{kind.suffix}"
    if kind.suffix and file.is_file():
        update = file.read_bytes()
        yield Size(kind.name, library_version, branches.whats[0], len(update), f"from {file.name}")
        made, note = branches.read(update), f"made of {file.name}"
        forms = branches.forms(made)[1:]
    else:
        log = traces.graph(document.history())
        pieces = split(log)
        if (copied := forks(pieces) * len(log)) > branches.most_copied:
            note = f"not made: its branches would copy {copied:,} events"
            yield Size(kind.name, library_version, branches.whats[0], None, note)
            return
        say(f"{name}: making it with {kind.name}")
        made, note = replay(branches, log, pieces), "made of the trace, a change a run"
        forms = branches.forms(made)
    if forms:
        right = branches.text(made) == str(document)
        for what, size in zip(branches.whats[-len(forms) :], forms, strict=True):
            # They order concurrent inserts at one place in other ways, so it may be another text.
            yield Size(kind.name, library_version, what, size, note if right else f"{note}; {OTHER_TEXT}")


class Branches(ABC):
    """A library whose documents are branches of one history. `actor` is a number that no two branches share.

    Making one raises `ImportError` if it is not installed.
    """

    name: str
    suffix: str
    """Of its files among those of peers."""
    whats: tuple[str, ...]
    most_copied = 300_000_000
    """A history is not made again if its branches would copy more events than this. That takes a minute."""

    @abstractmethod
    def new(self) -> Any: ...

    @abstractmethod
    def fork(self, doc: Any) -> Any: ...

    @abstractmethod
    def merge(self, doc: Any, other: Any) -> None: ...

    @abstractmethod
    def edit(self, doc: Any, actor: int, ops: Iterator[Op]) -> Any:
        """Make a run of edits; returns the document that has them, which may be another one."""

    @abstractmethod
    def text(self, doc: Any) -> str: ...

    def read(self, update: bytes) -> Any:
        """The document of a file."""
        raise NotImplementedError

    @abstractmethod
    def forms(self, doc: Any) -> list[int]:
        """The sizes of what it can be written as, in the order of `whats`."""


class PycrdtBranches(Branches):
    name = "pycrdt"
    suffix = "yjs-v1"
    whats = ("update, no deleted text",)

    def __init__(self) -> None:
        self._pycrdt = importlib.import_module("pycrdt")

    def new(self, actor: int = 0) -> Any:
        return self._pycrdt.Doc(client_id=actor + 1)

    def fork(self, doc: Any, actor: int = 0) -> Any:
        made = self.new(actor)
        made.apply_update(doc.get_update())
        return made

    def merge(self, doc: Any, other: Any) -> None:
        doc.apply_update(other.get_update(doc.get_state()))

    def edit(self, doc: Any, actor: int, ops: Iterator[Op]) -> Any:
        if doc.client_id != actor + 1:
            doc = self.fork(doc, actor)
        text = doc.get("text", type=self._pycrdt.Text)
        # It counts bytes, which are code points in all traces that this is for; the text is checked. Each
        # edit is a transaction: the longer one is, the longer each takes.
        for pos, deleted, inserted in fitting(ops, len(text)):
            if deleted:
                del text[pos : pos + deleted]
            if inserted:
                text.insert(pos, inserted)
        return doc

    def text(self, doc: Any) -> str:
        return str(doc.get("text", type=self._pycrdt.Text))

    def read(self, update: bytes) -> Any:
        doc = self.new()
        doc.apply_update(update)
        return doc

    def forms(self, doc: Any) -> list[int]:
        return [len(doc.get_update())]


class LoroBranches(Branches):
    name = "loro"
    suffix = "loro-updates"
    whats = ("updates", "snapshot")
    most_copied = 100_000_000

    def __init__(self) -> None:
        self._loro = importlib.import_module("loro")

    def new(self) -> Any:
        return self._loro.LoroDoc()

    def fork(self, doc: Any) -> Any:
        return doc.fork()

    def merge(self, doc: Any, other: Any) -> None:
        doc.import_(other.export(self._loro.ExportMode.Updates(doc.oplog_vv)))

    def edit(self, doc: Any, actor: int, ops: Iterator[Op]) -> Any:
        doc.peer_id = Random(actor).getrandbits(63)
        text = doc.get_text("text")
        for pos, deleted, inserted in fitting(ops, text.len_unicode):
            if deleted:
                text.delete(pos, deleted)
            if inserted:
                text.insert(pos, inserted)
        doc.commit()
        return doc

    def text(self, doc: Any) -> str:
        found = doc.get_text("text").to_string()
        assert isinstance(found, str)
        return found

    def read(self, update: bytes) -> Any:
        doc = self.new()
        doc.import_(update)
        return doc

    def forms(self, doc: Any) -> list[int]:
        mode = self._loro.ExportMode
        nothing = self.new().oplog_vv
        return [len(doc.export(mode.Updates(nothing))), len(doc.export(mode.Snapshot()))]


class AutomergeBranches(Branches):
    name = "automerge"
    suffix = ""
    whats = ("save()",)

    def __init__(self) -> None:
        # Older versions have nothing of that name.
        self._core = importlib.import_module("automerge.core")

    def new(self) -> Any:
        doc = self._core.Document(actor_bytes(-1))
        with doc.transaction() as change:
            change.put_object(self._core.ROOT, "text", self._core.ObjType.Text)
        return doc

    def fork(self, doc: Any) -> Any:
        return doc.fork()

    def merge(self, doc: Any, other: Any) -> None:
        doc.merge(other)

    def edit(self, doc: Any, actor: int, ops: Iterator[Op]) -> Any:
        doc.set_actor(actor_bytes(actor))
        text, kind = self._place(doc), self._core.ScalarType.Str
        with doc.transaction() as change:
            for pos, deleted, inserted in fitting(ops, change.length(text)):
                for _ in range(deleted):
                    change.delete(text, pos)
                for i, char in enumerate(inserted):
                    change.insert(text, pos + i, kind, char)
        return doc

    def _place(self, doc: Any) -> bytes:
        _, place = doc.get(self._core.ROOT, "text")
        assert isinstance(place, bytes)
        return place

    def text(self, doc: Any) -> str:
        found = doc.text(self._place(doc))
        assert isinstance(found, str)
        return found

    def forms(self, doc: Any) -> list[int]:
        return [len(doc.save())]


def fitting(ops: Iterator[Op], length: int) -> Iterator[Op]:
    """The edits, moved to places that a text of some length has.

    Only needed where a library orders concurrent inserts at one place in another way than was recorded: what
    was recorded after that may then be nowhere, and the text is another one, of about the same size.
    """
    for pos, deleted, inserted in ops:
        start = min(pos, length)
        erased = min(deleted, length - start)
        length += len(inserted) - erased
        yield start, erased, inserted


def actor_bytes(actor: int) -> bytes:
    """The name of an actor: 16 random bytes, the same each time."""
    return Random(actor).randbytes(16)


# --- making a history again ---------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Events in a row that one agent made, and nobody branched off between. Parents are local versions."""

    agent: str
    start: int
    end: int
    parents: tuple[int, ...]


def split(log: OpLog) -> list[Piece]:
    """All events of a log."""
    runs = list(log.graph.runs())
    branched = {parent + 1 for run in runs for parent in run.parents}
    pieces = []
    for run in runs:
        parents = run.parents
        start = run.start
        for end in range(start + 1, run.end + 1):
            if end == run.end or end in branched:
                pieces.append(Piece(run.agent, start, end, parents))
                start, parents = end, (end - 1,)
    return pieces


def forks(pieces: list[Piece]) -> int:
    """How many branches of a history go on from where another one goes on, too."""
    uses = Counter(parent for piece in pieces for parent in piece.parents)
    found = 0
    for piece in pieces:
        uses.subtract(piece.parents)
        found += bool(piece.parents and uses[piece.parents[0]])
    return found


def edits(log: OpLog, piece: Piece) -> Iterator[Op]:
    for pos, deleted, inserted in log.edits(piece.start, piece.end):
        assert isinstance(inserted, str)
        yield pos, deleted, inserted


def replay(library: Branches, log: OpLog, pieces: list[Piece]) -> Any:
    """A library's document with the history of a log."""
    uses = Counter(parent for piece in pieces for parent in piece.parents)
    uses.update(log.graph.frontier)
    root = library.new()
    # By last event, what goes on from there: a document, and how many events of each actor it has.
    tips: dict[int, tuple[Any, dict[int, int]]] = {}
    actors: dict[str, list[int]] = {}
    made: Counter[int] = Counter()

    def take(lv: int) -> tuple[Any, dict[int, int]]:
        """A document to be changed."""
        uses[lv] -= 1
        if not uses[lv]:
            return tips.pop(lv)
        doc, held = tips[lv]
        return library.fork(doc), dict(held)

    def join(versions: tuple[int, ...]) -> tuple[Any, dict[int, int]]:
        doc, held = take(versions[0])
        for lv in versions[1:]:
            other, known = tips[lv]
            library.merge(doc, other)
            held = {actor: max(held.get(actor, 0), known.get(actor, 0)) for actor in held.keys() | known}
            uses[lv] -= 1
            if not uses[lv]:
                del tips[lv]
        return doc, held

    for piece in pieces:
        doc, held = join(piece.parents) if piece.parents else (library.fork(root), {})
        # Who works on several branches at once is several actors.
        mine = actors.setdefault(piece.agent, [])
        actor = next((each for each in mine if made[each] == held.get(each, 0)), None)
        if actor is None:
            actor = len(made)
            mine.append(actor)
        made[actor] += piece.end - piece.start
        held[actor] = made[actor]
        doc = library.edit(doc, actor, edits(log, piece))
        tips[piece.end - 1] = doc, held
    return join(log.graph.frontier)[0]
