"""Bad input: each its own typed error, and nothing changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import egwalker
from egwalker import (
    AgentError,
    CausalityError,
    ConflictError,
    ContentError,
    DecodeError,
    Document,
    EgwalkerError,
    KindError,
    LimitError,
    PendingError,
    PluginError,
    PositionError,
    Run,
    VersionError,
)
from egwalker.cycore import errors

SURROGATES = ["\ud800", "ok\udfff", "\udc00\ud800", "\ud83d\ude00"]


def snapshot(doc: Document) -> tuple[object, ...]:
    return doc.content, doc.version, doc.version_vector, doc.pending, len(doc), len(doc.history())


@pytest.fixture
def doc() -> Document:
    """Two agents' text, with a concurrent insert."""
    alice = Document(agent="alice")
    alice.insert(0, "hello")
    bob = alice.fork("bob")
    bob.insert(5, "!")
    alice.insert(0, ">")
    alice.merge(bob)
    return alice


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (AgentError, ValueError),
        (CausalityError, ValueError),
        (ConflictError, ValueError),
        (ContentError, ValueError),
        (DecodeError, ValueError),
        (KindError, LookupError),
        (LimitError, ValueError),
        (PendingError, ValueError),
        (PluginError, ValueError),
        (PositionError, IndexError),
        (VersionError, LookupError),
    ],
)
def test_families(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, EgwalkerError)
    assert issubclass(error, builtin)
    assert error.__module__ == "egwalker"


def test_all_errors_are_public() -> None:
    names = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    assert names <= set(egwalker.__all__)


EDITS: list[tuple[Callable[[Document], object], type[Exception]]] = [
    (lambda doc: doc.insert(8, "x"), PositionError),
    (lambda doc: doc.insert(-1, "x"), PositionError),
    (lambda doc: doc.insert(8, ""), PositionError),
    (lambda doc: doc.insert(2**70, "x"), PositionError),
    (lambda doc: doc.delete(7), PositionError),
    (lambda doc: doc.delete(-1), PositionError),
    (lambda doc: doc.delete(0, 8), PositionError),
    (lambda doc: doc.delete(0, -1), PositionError),
    (lambda doc: doc.delete(8, 0), PositionError),
    (lambda doc: doc.delete(5, 2**70), PositionError),
    (lambda doc: doc.slice(0, 8), PositionError),
    (lambda doc: doc.slice(-1, 2), PositionError),
    (lambda doc: doc.slice(3, 2), PositionError),
    (lambda doc: doc.to_utf16(8), PositionError),
    (lambda doc: doc.from_utf8(-1), PositionError),
    (lambda doc: doc.insert("0", "x"), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.insert(0.0, "x"), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.insert(None, "x"), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.delete("0"), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.delete(0, 1.0), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.slice("a", "b"), TypeError),  # type: ignore[arg-type]
    (lambda doc: doc.insert(0, b"x"), ContentError),
    (lambda doc: doc.insert(0, 5), ContentError),
    (lambda doc: doc.insert(0, None), ContentError),
    (lambda doc: doc.insert(0, ["x"]), ContentError),
    (lambda doc: doc.checkout([("alice", 6)]), VersionError),
    (lambda doc: doc.checkout([("alice", -1)]), VersionError),
    (lambda doc: doc.checkout([("alice", 2**80)]), VersionError),
    (lambda doc: doc.diff([("carol", 0)], []), VersionError),
    (lambda doc: doc.diff([], [("carol", 0)]), VersionError),
    (lambda doc: doc.branch([("carol", 0)]), VersionError),
    (lambda doc: doc.cursor(8), PositionError),
    (lambda doc: doc.fork(""), AgentError),
]


@pytest.mark.parametrize(("call", "error"), EDITS)
@pytest.mark.parametrize("is_watched", [False, True])
def test_calls(
    doc: Document, call: Callable[[Document], object], error: type[Exception], is_watched: bool
) -> None:
    seen: list[object] = []
    if is_watched:
        doc.subscribe(seen.append)
    before = snapshot(doc)
    with pytest.raises(error) as caught:
        call(doc)
    assert str(caught.value)
    assert snapshot(doc) == before
    assert seen == []
    doc._check()
    doc.insert(7, "?")
    assert doc.content == ">hello!?"


@pytest.mark.parametrize("text", SURROGATES)
def test_lone_surrogates(doc: Document, text: str) -> None:
    before = snapshot(doc)
    with pytest.raises(ContentError, match=r"U\+D[89C-F]"):
        doc.insert(0, text)
    with pytest.raises(ContentError, match="surrogate"):
        doc.branch().insert(0, text)
    with pytest.raises(ContentError, match="surrogate"):
        doc.receive([Run("carol", 0, (), ((0, 0, text),))])
    with pytest.raises(AgentError, match="surrogate"):
        Document(agent=text)
    with pytest.raises(AgentError, match="surrogate"):
        doc.receive([Run(text, 0, (), ((0, 0, "x"),))])
    with pytest.raises(AgentError, match="surrogate"):
        doc.receive([Run("carol", 0, ((text, 0),), ((0, 0, "x"),))])
    assert snapshot(doc) == before
    doc._check()


@pytest.mark.parametrize("agent", ["", "x" * 256, "é" * 128, "\N{GRINNING FACE}" * 64, 5, b"alice", ("a",)])
def test_names_that_no_agent_can_have(doc: Document, agent: Any) -> None:
    before = snapshot(doc)
    with pytest.raises(AgentError):
        Document(agent=agent)
    with pytest.raises(AgentError):
        doc.fork(agent)
    with pytest.raises(AgentError):
        doc.receive([Run(agent, 0, (), ((0, 0, "x"),))])
    with pytest.raises(AgentError):
        doc.receive([Run("carol", 0, ((agent, 0),), ((0, 0, "x"),))])
    assert snapshot(doc) == before


@pytest.mark.parametrize("agent", ["x", "x" * 255, "é" * 127, "a:1,b:2", "two words", "\n"])
def test_names_that_agents_can_have(agent: str) -> None:
    doc = Document(agent=agent)
    doc.insert(0, "ab")
    other = Document()
    other.receive(doc.history())
    assert other.version == ((agent, 1),)


END = (("alice", 5), ("bob", 0))

RUNS: list[tuple[Any, type[Exception], str]] = [
    (Run("carol", 0, END, ((8, 0, "x"),)), PositionError, "carol:0.*8"),
    (Run("carol", 0, END, ((0, 0, "x"), (9, 0, "x"))), PositionError, "carol:1.*9"),
    (Run("carol", 0, END, ((7, 1, ""),)), PositionError, "7"),
    (Run("carol", 0, END, ((0, 8, ""),)), PositionError, "0"),
    (Run("carol", 0, END, ((0, 7, ""), (1, 0, "x"))), PositionError, "1"),
    (Run("carol", 0, (("alice", 4),), ((6, 0, "x"),)), PositionError, "6"),
    (Run("carol", 0, (), ((1, 0, "x"),)), PositionError, "1"),
    (Run("carol", 0, END, ((-1, 0, "x"),)), LimitError, "-1"),
    (Run("carol", 0, END, ((2**40, 0, "x"),)), LimitError, str(2**40)),
    (Run("carol", 0, END, ((2**70, 0, "x"),)), LimitError, str(2**70)),
    (Run("carol", 0, END, ((0, -1, "xx"),)), LimitError, "-1"),
    (Run("carol", 0, END, ((0, 2**70, ""),)), LimitError, str(2**70)),
    (Run("carol", -1, END, ((0, 0, "x"),)), AgentError, "-1"),
    (Run("carol", 2**53, END, ((0, 0, "x"),)), AgentError, "2"),
    (Run("carol", 0, (("alice", -1),), ((0, 0, "x"),)), AgentError, "-1"),
    (Run("carol", "0", END, ((0, 0, "x"),)), DecodeError, "'0'"),  # type: ignore[arg-type]
    (Run("carol", True, END, ((0, 0, "x"),)), DecodeError, "True"),
    (Run("carol", 0, (("alice", 1.0),), ((0, 0, "x"),)), DecodeError, "1.0"),  # type: ignore[arg-type]
    (Run("carol", 0, END, (("0", 0, "x"),)), DecodeError, "'0'"),  # type: ignore[arg-type]
    (Run("carol", 0, END, ((0.0, 0, "x"),)), DecodeError, "0.0"),  # type: ignore[arg-type]
    (Run("carol", 0, END, ((0, None, "x"),)), DecodeError, "None"),  # type: ignore[arg-type]
    (Run("carol", 0, END, ((0, "1", ""),)), DecodeError, "'1'"),  # type: ignore[arg-type]
    (Run("carol", 0, END, ((0, 0),)), DecodeError, "carol"),  # type: ignore[arg-type]
    (Run("carol", 0, END, (5,)), DecodeError, "carol"),  # type: ignore[arg-type]
    (Run("carol", 0, END, 5), DecodeError, "carol"),  # type: ignore[arg-type]
    (Run("carol", 0, (5,), ((0, 0, "x"),)), DecodeError, "carol"),  # type: ignore[arg-type]
    (Run("carol", 0, None, ((0, 0, "x"),)), DecodeError, "carol"),  # type: ignore[arg-type]
    (("carol", 0, END), DecodeError, "carol"),
    (None, DecodeError, "None"),
    (Run("carol", 0, END, ()), DecodeError, "at least one event"),
    (Run("carol", 0, END, ((0, 0, ""),)), DecodeError, "at least one event"),
    (Run("carol", 0, END, ((0, 0, 5),)), ContentError, "int"),
    (Run("carol", 0, END, ((0, 0, ["x"]),)), ContentError, "list"),
    (Run("carol", 0, END, ((0, 0, None),)), ContentError, "None"),
    (Run("carol", 0, (("carol", 0),), ((0, 0, "x"),)), CausalityError, "carol:0"),
    (Run("carol", 0, (("carol", 1), *END), ((0, 0, "xy"),)), CausalityError, "carol:1"),
    (Run("bob", 0, (("alice", 4),), ((5, 0, "?"),)), ConflictError, "bob:0"),
    (Run("bob", 0, (("alice", 4),), ((4, 0, "!"),)), ConflictError, "bob:0"),
    (Run("bob", 0, (("alice", 4),), ((4, 1, ""),)), ConflictError, "bob:0"),
    (Run("bob", 0, (("alice", 3),), ((4, 0, "!"),)), ConflictError, "bob:0"),
    (Run("bob", 0, (("alice", 4), ("alice", 5)), ((5, 0, "!"),)), ConflictError, "bob:0"),
    (Run("bob", 0, (), ((0, 0, "!"),)), ConflictError, "bob:0"),
    (Run("alice", 0, (), ((0, 0, "hellO"),)), ConflictError, "alice:"),
    (Run("alice", 3, (("alice", 2),), ((3, 0, "lo>"),)), ConflictError, "alice:5"),
]


@pytest.mark.parametrize(("run", "error", "why"), RUNS)
@pytest.mark.parametrize("place", ["alone", "first", "last"])
def test_runs(doc: Document, run: Any, error: type[Exception], why: str, place: str) -> None:
    """An impossible run is refused, with all that comes in the same call."""
    seen: list[object] = []
    doc.subscribe(seen.append)
    good = Run("dave", 0, END, ((3, 2, "good"),))
    waiting = Run("erin", 0, (("frank", 0),), ((0, 0, "x"),))
    doc.receive([Run("grace", 0, (("frank", 7),), ((0, 0, "waits"),))])
    before = snapshot(doc)
    with pytest.raises(error, match=why):
        doc.receive({"alone": [run], "first": [run, waiting, good], "last": [good, waiting, run]}[place])
    assert snapshot(doc) == before
    assert seen == []
    doc._check()
    doc.receive([good])
    assert doc.content == ">hegoodo!"
    doc._check()


def test_known_runs_are_no_conflict(doc: Document) -> None:
    runs = doc.history()
    assert not doc.receive(runs)
    assert not doc.receive([Run("alice", 1, (("alice", 0),), ((1, 0, "ello"),))])
    # Parents that others descend from say nothing new.
    assert not doc.receive([Run("bob", 0, (("alice", 4), ("alice", 2)), ((5, 0, "!"),))])


def test_conflicts_between_documents() -> None:
    one, two = Document(agent="alice", id="1" * 32), Document(agent="alice", id="1" * 32)
    one.insert(0, "a")
    two.insert(0, "b")
    two.insert(1, "b")
    before = snapshot(one)
    for _ in range(2):
        with pytest.raises(ConflictError, match="alice:0"):
            one.merge(two)
        assert snapshot(one) == before
        one._check()


def test_one_agent_in_two_places_is_found_late() -> None:
    """Nothing of a merge stays, even if the conflict is at its very end."""
    alice = Document(agent="alice")
    alice.insert(0, "a")
    bob = alice.fork("bob")
    bob.insert(1, "b" * 1000)
    twin = bob.fork("alice")
    twin.insert(0, "twin")
    alice.insert(0, "1")
    before = snapshot(alice)
    with pytest.raises(ConflictError, match="alice:1"):
        alice.merge(twin)
    assert snapshot(alice) == before
    alice._check()
    alice.merge(bob)
    assert alice.content == "1a" + "b" * 1000


def test_an_iterable_that_fails(doc: Document) -> None:
    before = snapshot(doc)

    def runs() -> Any:
        yield Run("dave", 0, END, ((0, 0, "x"),))
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        doc.receive(runs())
    assert snapshot(doc) == before


def test_kinds() -> None:
    with pytest.raises(KindError, match=r"'atlas'.*list.*text"):
        Document("atlas")
    with pytest.raises(KindError):
        Document(5)  # type: ignore[arg-type]
    document = Document("list")
    for call in (document.to_utf16, document.from_utf16, document.to_utf8, document.from_utf8):
        with pytest.raises(KindError, match="'list'"):
            call(0)


def test_subclasses_of_str_are_text() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "no"

    doc = Document(agent=Name("alice"))
    doc.insert(0, Name("text"))
    assert doc.content == "text"
    assert type(doc.agent) is str
    doc._check()
