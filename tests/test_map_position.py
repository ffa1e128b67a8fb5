"""Where a position of an earlier version is now, against a list of all elements that ever were."""

from __future__ import annotations

from random import Random

import generate
import live
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from middle import polled, written
from test_blame import KINDS, delivered, world

from egwalker import Document, HistoryError, KindError, PositionError, VersionError
from egwalker.cycore.mapping import map_position
from egwalker.session import Session
from egwalker.versions import to_local

SEEDS = st.integers(0, 2**32)
CHATS = 60


def held(sequence: oracle.Sequence, doc: Document) -> int:
    return sequence.graph.before(doc.version)


def check(doc: Document, sequence: oracle.Sequence, version: oracle.Version, known: int) -> None:
    now = held(sequence, doc)
    wanted = [sequence.place(pos, known, now) for pos in range(sequence.size(known) + 1)]
    assert [doc.map_position(pos, version) for pos in range(len(wanted))] == wanted
    # The same by a walk, where there is a live window, too.
    log = doc._replica.whole()
    heads = to_local(log.graph, doc.version)
    walked = [
        map_position(log, to_local(log.graph, version), heads, pos, len(doc)) for pos in range(len(wanted))
    ]
    assert walked == [(place, len(wanted) - 1) for place in wanted]
    for pos in (-1, len(wanted), 10**30):
        with pytest.raises(PositionError, match=f"position {pos} is not within 0..{len(wanted) - 1}"):
            doc.map_position(pos, version)


@given(SEEDS, st.sampled_from(KINDS))
def test_against_a_list_of_all_elements(seed: int, kind: str) -> None:
    rng = Random(seed)
    made = world(rng, kind)
    doc = delivered(rng, kind, made.txns)
    graph = made.document.graph
    content = doc.content
    for _ in range(8):
        version, known = generate.random_version(rng, graph, graph.everything)
        check(doc, made.document, version, known)
    check(doc, made.document, graph.frontier, graph.everything)
    assert doc.content == content
    doc._check()


class Asking(live.Chat):
    """A chat in which people look where positions of each other's versions are."""

    asked = mapped = 0

    def __init__(self, seed: int) -> None:
        self.__dict__ = live.chat(seed).__dict__
        self.naive = oracle.Sequence(values=self.docs[0].kind == "list")
        self.done = 0

    def read(self, index: int, count: int) -> None:
        super().read(index, count)
        if self.rng.random() > 0.2:
            return
        self.naive.receive(self.txns[self.done :])
        self.done = len(self.txns)
        doc, graph = self.docs[index], self.naive.graph
        had = held(self.naive, doc)
        told = self.rng.choice(self.pasts)
        version = self.rng.choice((told[-1], told[0], self.rng.choice(told)))
        known = graph.before(version)
        self.asked += 1
        if known & ~had:
            with pytest.raises(VersionError):
                doc.map_position(0, version)
            return
        self.mapped += len(doc._replica.main.live) > 0
        check(doc, self.naive, version, known)
        doc._replica.main.live._check()


def test_while_people_type_at_once() -> None:
    """What was typed here enters the window when somebody asks; what comes later finds all as it was."""
    mapped = sum([chat.mapped for chat in live.play(CHATS, 40, Asking)])
    assert mapped > CHATS, "most of these chats should have had windows"


def test_where_something_was_deleted_and_something_new_is() -> None:
    """A caret is where the element before it was, and not where somebody else wrote instead."""
    doc = Document(agent="ann")
    doc.insert(0, "one two three")
    before = doc.version
    doc.delete(4, 3)
    doc.insert(4, "2")
    doc.insert(0, "> ")
    assert str(doc) == "> one 2 three"
    assert [doc.map_position(pos, before) for pos in (0, 3, 4, 5, 7, 8, 13)] == [0, 5, 6, 7, 7, 8, 13]
    assert doc.map_position(0, ()) == 0


def test_somebody_else_inserts_right_there() -> None:
    ann = Document(agent="ann")
    ann.insert(0, "ab")
    bob = ann.fork("bob")
    bob.insert(1, "x")
    before = ann.version
    ann.merge(bob)
    assert [ann.map_position(pos, before) for pos in range(3)] == [0, 1, 3]


@given(SEEDS)
def test_the_current_version_takes_no_work(seed: int) -> None:
    """Not even reading a history that has only been opened."""
    document = Document.decode(delivered(Random(seed), "text", world(Random(seed), "text").txns).encode())
    assert document.map_position(len(document), document.version) == len(document)
    assert document.map_position(0, reversed(document.version)) == 0
    assert document._replica.unread is not None
    with pytest.raises(PositionError):
        document.map_position(len(document) + 1, document.version)
    past = document.version_at(document.events - 1)
    assert document.map_position(0, past) == 0


def test_versions_that_are_not_held() -> None:
    doc = Document(agent="ann")
    doc.insert(0, "abc")
    for version in ([("bob", 0)], [("ann", 3)], [("ann", 2), ("bob", 0)]):
        with pytest.raises(VersionError):
            doc.map_position(0, version)
    with pytest.raises(TypeError):
        doc.map_position(0, [7])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        doc.map_position("x", doc.version)  # type: ignore[arg-type]
    counter = Document("counter", agent="ann")
    counter.perform(1)
    with pytest.raises(KindError):
        counter.map_position(0, ())
    assert str(doc) == "abc"


@given(SEEDS)
def test_shallow_documents(seed: int) -> None:
    """Versions from their start on are told exactly; what is before it is not known."""
    rng = Random(seed)
    whole = written(rng, steps=rng.randint(1, 20))
    shallow = Document(agent="dan")
    one, two = Session(whole), Session(shallow, shallow=True)
    silent = False
    while not silent:
        silent = True
        for speaker, listener in ((one, two), (two, one)):
            for message in polled(speaker):
                listener.receive(message)
                silent = False
    start = shallow.start
    shallow.insert(rng.randint(0, len(shallow)), "xy")
    whole.merge(shallow)
    for number in range(whole.events + 1):
        version = whole.version_at(number)
        length = len(whole.checkout(version))
        wanted = [whole.map_position(pos, version) for pos in range(length + 1)]
        if whole.diff(start, version).a_only:
            with pytest.raises(HistoryError):
                shallow.map_position(0, version)
        else:
            assert [shallow.map_position(pos, version) for pos in range(length + 1)] == wanted


@given(SEEDS)
def test_a_bound_on_the_work(seed: int) -> None:
    """With any bound the answer is either the right one or none; with a large one it is there."""
    rng = Random(seed)
    made = world(rng, "text")
    doc = delivered(rng, "text", made.txns)
    version, _ = generate.random_version(rng, made.document.graph, made.document.graph.everything)
    wanted = doc.map_position(0, version)
    assert doc._map_position(0, version, 10_000) == wanted
    for rows in range(6):
        assert doc._map_position(0, version, rows) in (wanted, None)


def test_text_typed_backwards_is_much_work() -> None:
    doc = Document(agent="ann")
    doc.insert(0, ".")
    before = doc.version
    bob = doc.fork("bob")
    for _ in range(100):
        doc.insert(0, "x")
    bob.insert(0, "y")
    doc.merge(bob)
    without_window = doc.fork("carl")
    assert without_window._map_position(1, before, 50) is None
    assert without_window._map_position(1, before, 150) == 102
