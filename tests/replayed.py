"""Replayed documents by the book: all operations applied from nothing each time, to states that never change.

It shares no code with the engine's types. What order the operations are in, `oracle.total_order` says.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from deliver import DOC_ID
from oracle import Graph, Id, Version, total_order

from egwalker import ContentError, Document, hookimpl

KINDS = ("map", "counter", "table", "queue", "trail")
KEPT = KINDS[:4]
"""Those whose state is written beside the history."""


class Trail:
    """A user's type, to which everything matters: all operations in their order.

    `{"cut": n}` takes the first n out again. An operation "fail" fails, unless there is an "allow" before it.
    """

    name = "trail"

    def initial(self) -> list[Any]:
        return []

    def check(self, op: Any) -> None:
        if op is None:
            raise ContentError("nothing cannot be done")

    def apply(self, state: list[Any], op: Any) -> list[Any] | None:
        state.append(op)
        if op == "fail" and "allow" not in state:
            raise RuntimeError("it was not allowed")
        if isinstance(op, dict) and "cut" in op:
            state.pop()
            gone = state[: op["cut"]]
            del state[: op["cut"]]
            return gone
        return None

    def undo(self, state: list[Any], undo: list[Any] | None) -> None:
        if undo is None:
            state.pop()
        else:
            state[:0] = undo

    def content(self, state: list[Any]) -> list[Any]:
        return list(state)


class Line:
    """Who waits, the first one first: a state that is no JSON value, of which users see a part."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class Queue:
    """Another user's type: `{"join": name}`, `{"leave": name}` and `"next"`. It can write its state down."""

    name = "queue"

    def initial(self) -> Line:
        return Line([])

    def check(self, op: Any) -> None:
        if op != "next" and (not isinstance(op, dict) or op.keys() not in ({"join"}, {"leave"})):
            raise ContentError("it is no operation")

    def apply(self, state: Line, op: Any) -> list[str]:
        before = state.names
        if op == "next":
            state.names = before[1:]
        elif "join" in op:
            state.names = [*before, op["join"]]
        else:
            state.names = [name for name in before if name != op["leave"]]
        return before

    def undo(self, state: Line, undo: list[str]) -> None:
        state.names = undo

    def content(self, state: Line) -> Any:
        return {"first": next(iter(state.names), None), "many": len(state.names)}

    def dump(self, state: Line) -> Any:
        return {"names": state.names, "form": 1}

    def load(self, value: Any) -> Line:
        if value["form"] != 1:
            raise ValueError(f"form {value['form']!r:.80} is not known")
        return Line([*map(str, value["names"])])


class Plugin:
    """Provides `Trail` and `Queue`."""

    @hookimpl
    def register_document_types(self, register: Callable[[Any], None]) -> None:
        register(Trail())
        register(Queue())


# --- what operations do -------------------------------------------------------------------------------------


def map_after(state: Any, op: Any) -> Any:
    if "set" in op:
        return with_set(state, op["set"], op["to"])
    return without(state, op["remove"])


def with_set(state: Any, path: list[str], value: Any) -> Any:
    inner = value
    if len(path) > 1:
        deeper = state.get(path[0])
        inner = with_set(deeper if isinstance(deeper, dict) else {}, path[1:], value)
    return {**state, path[0]: inner}


def without(state: Any, path: list[str]) -> Any:
    if not isinstance(state, dict) or path[0] not in state:
        return state
    if len(path) == 1:
        return {key: value for key, value in state.items() if key != path[0]}
    return {**state, path[0]: without(state[path[0]], path[1:])}


def table_after(state: Any, op: Any) -> Any:
    if "insert" in op:
        return {op["insert"]: op["row"], **state}
    if "update" in op:
        key = op["update"]
        return {**state, key: {**state[key], **op["row"]}} if key in state else state
    return {key: row for key, row in state.items() if key != op["delete"]}


def queue_after(state: Any, op: Any) -> Any:
    if op == "next":
        return state[1:]
    return [*state, op["join"]] if "join" in op else [name for name in state if name != op["leave"]]


def trail_after(state: Any, op: Any) -> Any:
    return state[op["cut"] :] if isinstance(op, dict) and "cut" in op else [*state, op]


AFTER: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "map": ({}, map_after),
    "counter": (0, lambda state, op: state + op),
    "table": ({}, table_after),
    "queue": ([], queue_after),
    "trail": ([], trail_after),
}
"""For each kind the state at the beginning, and the one after an operation."""

SHOWN: dict[str, Callable[[Any], Any]] = {
    "queue": lambda state: {"first": state[0] if state else None, "many": len(state)}
}
"""What is to be seen of a state, where that is not all of it."""


def random_op(rng: Random, kind: str) -> Any:
    """An operation that a document of that kind takes."""
    key = rng.choice("abc")
    value = rng.choice([1, "é", None, [2, {"x": 3}], {}, {"a": {"b": 4}}, {"c": 5, "a": 6}])
    if kind == "counter":
        return rng.randint(-9, 9)
    if kind == "map":
        path = [rng.choice("abc") for _ in range(rng.choice((1, 1, 2, 3)))]
        return {"remove": path} if rng.random() < 0.3 else {"set": path, "to": value}
    if kind == "queue":
        return rng.choice(["next", {"leave": key}, {"join": key}, {"join": key}, {"join": key}])
    if kind == "table":
        row = {rng.choice("xyz"): value for _ in range(rng.randint(0, 2))}
        return rng.choice([{"insert": key, "row": row}, {"update": key, "row": row}, {"delete": key}])
    return {"cut": rng.randint(0, 3)} if rng.random() < 0.2 else value if value is not None else key


class Book:
    """All operations that were ever made, and what they come to."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.graph = Graph()
        self.ops: dict[Id, Any] = {}

    def note(self, ident: Id, parents: Version, op: Any) -> None:
        """Somebody made an operation."""
        self.graph.add(ident, parents)
        self.ops[ident] = op

    def read(self, document: Document) -> None:
        """Note all that a document holds."""
        for run in document.history():
            parents = run.parents
            for i, op in enumerate(run.operations):
                self.note((run.agent, run.seq + i), parents, op)
                parents = ((run.agent, run.seq + i),)

    def order(self, version: Version) -> list[Id]:
        """The operations of a version in the total order."""
        groups = total_order(self.graph, b=version)
        return [(group.agent, group.seq + i) for group in groups for i in range(group.length)]

    def content(self, version: Version) -> Any:
        """What they come to."""
        state, after = AFTER[self.kind]
        for ident in self.order(version):
            state = after(state, self.ops[ident])
        return SHOWN.get(self.kind, lambda state: state)(state)

    def expect(self, document: Document) -> None:
        """Raise `AssertionError` unless the document is what it should be at its version."""
        version = document.version
        assert document.content == self.content(version)
        assert document.version_vector == self.graph.version_vector(self.graph.before(version))
        if document._replica.unread is not None:
            return  # the order is not known yet
        assert [tuple(group) for group in document.groups()] == [
            tuple(group) for group in total_order(self.graph, b=version)
        ]


class Peers:
    """Replicas of one document, whose operations are written in a book."""

    def __init__(self, rng: Random, kind: str, count: int) -> None:
        self.rng = rng
        self.book = Book(kind)
        first = Document(kind, agent="ann", id=DOC_ID)
        others = ("bob", "Cy", "dé", "\U0001f600eve")[: count - 1]
        self.documents = [first, *[first.fork(agent) for agent in others]]

    def perform(self, document: Document, op: Any = None) -> Any:
        """One operation, on top of everything that the peer has."""
        op = random_op(self.rng, self.book.kind) if op is None else op
        seq = document.version_vector.get(document.agent, [(0, 0)])[-1][1]
        self.book.note((document.agent, seq), document.version, op)
        document.perform(op)
        return op

    def perform_on_branch(self, document: Document) -> None:
        """One on top of something older."""
        version = document.version_at(self.rng.randint(0, document.events))
        branch = document.branch(version)
        op = random_op(self.rng, self.book.kind)
        seq = document.version_vector.get(document.agent, [(0, 0)])[-1][1]
        self.book.note((document.agent, seq), branch.version, op)
        branch.perform(op)
        assert branch.content == self.book.content(branch.version)
        middle = document.version_at(self.rng.randint(0, document.events))
        branch.merge(middle)
        assert branch.content == self.book.content(branch.version)
        branch.merge()
        assert branch.content == document.content

    def bring(self, one: Document, other: Document) -> None:
        """What `other` has comes to `one`, in one of many ways."""
        rng = self.rng
        way = rng.randrange(5)
        if way == 0:
            one.merge(other)
        elif way == 1:
            one.apply(other.encode())
        elif way == 2:
            one.apply(other.encode(since=one.version_vector))
        else:
            pieces = list(other.history(one.version_vector if way == 3 else None))
            rng.shuffle(pieces)
            while pieces:
                some = rng.randint(1, 4)
                one.receive(pieces[:some])
                del pieces[:some]

    def reopen(self, number: int) -> None:
        """Somebody's program ends, and begins again with what it kept."""
        old = self.documents[number]
        data = old.encode()
        document = self.documents[number] = Document.decode(data, agent=old.agent)
        assert (document._replica.unread is not None) == (self.book.kind in KEPT)
        assert (len(document), document.content) == (len(old), old.content)
        assert document.version_vector == old.version_vector
        if self.rng.random() < 0.3:
            assert document.encode() == data
            self.documents[number] = Document.decode(data, agent=old.agent)

    def step(self) -> None:
        """Something happens."""
        rng = self.rng
        document = rng.choice(self.documents)
        what = rng.random()
        if what < 0.55:
            for _ in range(rng.randint(1, 4)):
                self.perform(document)
        elif what < 0.6:
            self.perform_on_branch(document)
        elif what < 0.67:
            self.reopen(self.documents.index(document))
            return
        else:
            other = rng.choice(self.documents)
            if other is not document:
                self.bring(document, other)
        self.book.expect(document)

    def converge(self) -> None:
        """Everybody learns everything."""
        first, *others = self.documents
        for other in others:
            first.merge(other)
        for other in others:
            self.bring(other, first)
        for document in self.documents:
            self.book.expect(document)
            assert document.pending == 0
            document._check()
            document.verify()
