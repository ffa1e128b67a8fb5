"""The live window: what a document keeps between merges, against fresh replays and the oracle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import generate
import live
import pytest
from deliver import Delivery
from oracle import Sequence, Txn
from session import apply_edits

import egwalker
from egwalker import Document, Run
from egwalker.cycore import walker
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.oplog import OpLog

CHATS = int(os.environ.get("EGWALKER_CHATS", "400"))


@pytest.fixture
def small_nodes() -> Iterator[None]:
    """Span trees of several levels for texts of a few words."""
    walker._node_sizes(4, 4)
    yield
    walker._node_sizes()


# --- people who never pause ---------------------------------------------------------------------------------


def test_hundreds_of_chats() -> None:
    """How many: EGWALKER_CHATS."""
    longest = [chat.longest for chat in live.play(CHATS, 60, live.chat)]
    assert sorted(longest)[CHATS // 2] > 100, "most of these chats should have needed a window"


def keystrokes(count: int, lag: int, kind: str = "text") -> tuple[Document, Document]:
    """Two replicas whose people type one element each, again and again, and see what is older than `lag`."""
    ann = Document(kind, agent="ann")
    ann.insert(0, "." * 40 if kind == "text" else [0] * 40)
    bob = ann.fork("bob")
    sent: dict[str, list[Run]] = {"ann": [], "bob": []}
    for number in range(count):
        for doc, other in ((ann, bob), (bob, ann)):
            before = doc.version_vector
            place = number % 20 if doc is ann else len(doc) - number % 20
            doc.insert(place, doc.agent[0] if kind == "text" else [number])
            sent[doc.agent] += doc.history(before)
            if number >= lag:
                doc.receive([sent[other.agent][number - lag]])
    return ann, bob


@pytest.mark.usefixtures("small_nodes")
@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("lag", [1, 3])
def test_while_nobody_pauses_nothing_is_walked_again(lag: int, kind: str) -> None:
    for doc in keystrokes(300, lag, kind):
        # All but the beginning and what is just on its way is in one window.
        assert len(doc._replica.main.live) > 2 * 300 - 3 * lag - 4
        doc._check()


class Typing:
    """Somebody who types on at one place, and now and then erases some of what they typed."""

    def __init__(self, doc: Document, at: int) -> None:
        self.doc = doc
        self.cursor = doc.cursor(at)
        self.typed = 0
        self.made: list[Run] = []

    def press(self, rng: Random) -> None:
        before = self.doc.version_vector
        if self.typed and rng.random() < 0.3:
            n = rng.randint(1, min(3, self.typed))
            self.cursor.backspace(n)
            self.typed -= n
        else:
            n = rng.choice((1, 1, 1, 4))
            self.cursor.insert(rng.choice("abc") * n)
            self.typed += n
        self.made += self.doc.history(before)


@pytest.mark.parametrize("people", [2, 3, 5, 12])
def test_where_people_type_on_nothing_is_walked_to_and_fro(people: int) -> None:
    """Each sees the others' keystrokes late. Elsewhere somebody writes something now and then, too."""
    rng = Random(people)
    base = Document(agent="base")
    base.insert(0, "." * 10 * people)
    typing = [Typing(base.fork(f"agent {i}"), 10 * i + 5) for i in range(people)]
    had = [[0] * people for _ in typing]
    count = 1200 // people
    for number in range(count):
        for i, one in enumerate(typing):
            one.press(rng)
            for k, other in enumerate(typing):
                end = max(had[i][k], len(other.made) - rng.choice((1, 1, 2, 3)))
                if k != i and rng.random() < 0.5:
                    one.doc.receive(other.made[had[i][k] : end])
                    had[i][k] = end
        if number % 97 == 0:
            typing[number % people].doc._check()
    # The branches get hundreds of events long.
    moved = sum([one.doc._replica.main.live.moved for one in typing])
    assert moved < 10 * sum([len(one.made) for one in typing])
    for i, one in enumerate(typing):
        for k, other in enumerate(typing):
            if k != i:
                one.doc.receive(other.made[had[i][k] :])
        assert str(one.doc) == str(typing[0].doc)
    typing[0].doc._check()
    oracle = Sequence()
    oracle.receive([Txn(*run) for run in typing[0].doc.history()])
    assert str(typing[0].doc) == oracle.content()


@pytest.mark.parametrize("seed", range(8))
def test_histories_event_by_event(seed: int) -> None:
    """Histories in which branches live long, each event delivered alone, against a replay from nothing."""
    rng = Random(seed)
    world = generate.World(rng, rng.randint(2, 5), odd=True, crowded=rng.random() < 0.5)
    world.run(90, sync=rng.choice((0.05, 0.2)), past=0.05)
    log, naive = OpLog(), Sequence()
    checkout, text = Checkout(log), ""
    longest = 0
    for txn in generate.causal_order(rng, generate.pieces(rng, world.txns, 1.0)):
        log.add(*txn[:4])
        naive.receive([txn])
        text = apply_edits(text, checkout.merge(edits=True))
        longest = max(longest, len(checkout.live))
        assert text == checkout.content()
        if rng.random() < 0.1:
            checkout._check()
            assert text == naive.content()
    assert text == naive.content()
    assert longest > 100


# --- when it is dropped -------------------------------------------------------------------------------------


def all_sent(ann: Document, bob: Document) -> None:
    ann.merge(bob)
    bob.merge(ann)


@pytest.mark.parametrize("writer", ["here", "elsewhere", "both in turn"])
def test_after_the_last_concurrent_keystroke_it_is_dropped_soon(writer: str) -> None:
    ann, bob = keystrokes(300, 2)
    all_sent(ann, bob)
    window, taken = len(ann._replica.main.live), ann._replica.main.live.memory()
    assert window > 550
    assert taken < 250 * window
    for number in range(80):
        here = number % 2 == 0 if writer == "both in turn" else writer == "here"
        doc, other = (ann, bob) if here else (bob, ann)
        assert (len(ann._replica.main.live) > 0) == (number <= 16 + window // 16), f"after {number} more"
        doc.insert(number, "x")
        other.merge(doc)
    assert ann._replica.main.live.memory() < 1 << 17
    assert str(ann) == str(bob)
    ann._check()


def test_it_is_not_kept_where_a_later_one_would_do() -> None:
    ann = Document(agent="ann")
    ann.insert(0, "some text")
    bob = ann.fork("bob")
    bob.insert(3, "b")
    ann.insert(0, "a")
    ann.merge(bob)
    assert len(ann._replica.main.live) == 2
    for number in range(40):
        bob.insert(number, "b")
        ann.insert(number, "a")
    bob.merge(ann)
    bob.insert(0, "long after " * 10)
    ann.merge(bob)
    assert len(ann._replica.main.live) == 0
    ann._check()


def test_who_was_away_since_before_the_window_makes_a_larger_one() -> None:
    ann, bob = keystrokes(100, 2)
    ann = ann.fork("Ann")
    bob = bob.fork("Bob")
    all_sent(ann, bob)
    eve = ann.fork("eve")
    ann.insert(3, "a long time later")
    bob.insert(7, "b")
    bob.merge(ann)
    for number in range(60):
        ann.insert(number, "A")
        before = bob.version_vector
        bob.insert(number + 2, "B")
        ann.receive(bob.history(before))
        bob.merge(ann)
    narrow = len(bob._replica.main.live)
    assert 110 < narrow < 150
    eve.insert(0, "e")
    eve.delete(5, 3)
    bob.merge(eve)
    assert len(bob._replica.main.live) > narrow
    bob._check()
    for number in range(20):
        eve.insert(number, "E")
        bob.merge(eve)
        bob.insert(number, "B")
    bob._check()
    all_sent(eve, bob)
    ann.merge(bob)
    bob.merge(ann)
    assert str(ann) == str(bob)
    ann._check()


def test_a_large_delivery_is_walked_in_the_order_of_its_branches() -> None:
    ann, bob = keystrokes(100, 2)
    all_sent(ann, bob)
    cy, dora = ann.fork("cy"), ann.fork("dora")
    ann.insert(0, "!")
    for number in range(200):
        cy.insert(number % 30, "c")
        dora.insert(40 - number % 30, "d")
    cy_runs = [run for part in range(200) for run in pieces_of(cy, "cy", part)]
    dora_runs = [run for part in range(200) for run in pieces_of(dora, "dora", part)]
    ann.receive([run for both in zip(cy_runs, dora_runs, strict=True) for run in both])
    assert len(ann._replica.main.live) == 0
    ann._check()
    ann.insert(5, "?")
    cy.insert(5, "c")
    ann.merge(cy)
    assert len(ann._replica.main.live) > 400
    ann._check()
    cy.merge(ann)
    assert str(cy) == str(ann)


def pieces_of(doc: Document, agent: str, seq: int) -> list[Run]:
    """The event with this number, alone."""
    return doc.history({**doc.version_vector, agent: [(0, seq), (seq + 1, 1 << 40)]})


# --- what else happens in a window --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ops",
    [
        [(99999, 0, "x")],
        [(0, 99999, "")],
        [(0, 0, "fine"), (99999, 1, "")],
        [(0, 2, ""), (1, 0, "fine"), (99999, 0, "x")],
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_an_impossible_event_changes_nothing(ops: list[tuple[int, int, str]], old: bool) -> None:
    ann, bob = keystrokes(50, 2)
    content, version = ann.content, ann.version
    parents = (("bob", 30),) if old else version
    with pytest.raises(egwalker.PositionError, match="event eve:"):
        ann.receive([Run("eve", 0, parents, tuple(ops))])
    assert (ann.content, ann.version) == (content, version)
    ann._check()
    ann.insert(0, "a")
    bob.insert(0, "b")
    all_sent(ann, bob)
    bob.insert(0, "b")
    ann.insert(0, "a")
    all_sent(ann, bob)
    assert str(ann) == str(bob)
    ann._check()


def test_forks_and_branches_walk_for_themselves() -> None:
    ann, bob = keystrokes(60, 2)
    window = len(ann._replica.main.live)
    past = ann.version
    fork, branch = ann.fork("cy"), ann.branch()
    ann.insert(0, "a")
    fork.insert(3, "c")
    branch.insert(5, "branch")
    assert len(ann._replica.main.live) == window + 7
    bob.insert(2, "b")
    for doc in (fork, ann):
        doc.merge(bob)
    branch.merge()
    assert branch.content == ann.content
    assert len(branch._checkout.live) > window
    ann.insert(9, "not yet in the branch")
    branch.delete(0, 3)
    assert len(branch._checkout.live) == 0
    branch.merge()
    assert branch.content == ann.content
    ann.branch(past).insert(0, "older")
    ann.merge(fork)
    branch.merge()
    assert branch.content == ann.content
    branch._checkout._check()
    ann._check()
    fork._check()
    bob.merge(ann)
    fork.merge(ann)
    assert len({str(doc) for doc in (ann, bob, fork)}) == 1


def test_many_heads_made_one_by_one_at_one_place() -> None:
    base = Document("text", agent="base")
    base.insert(0, "[]")
    doc = base.fork("reader")
    rng = Random(0)
    names = [f"agent {number}" for number in range(300)]
    rng.shuffle(names)
    for name in names:
        doc.receive([Run(name, 0, base.version, ((1, 0, "x" + name[6:]),))])
    assert len(doc._replica.main.live) > 250
    doc._check()
    assert doc.content == "[" + "".join(["x" + name[6:] for name in sorted(names)]) + "]"


@pytest.mark.parametrize("seed", range(12))
def test_deliveries_of_long_windows(seed: int) -> None:
    """As `test_larger_histories`, in small nodes."""
    walker._node_sizes(4, 4)
    try:
        rng = Random(seed)
        world = generate.World(rng, 4, odd=True, crowded=seed % 2 == 0)
        world.run(150, sync=0.1, past=0.03)
        delivery = Delivery(rng, world.txns, world.document)
        delivery.run()
        for doc in delivery.docs:
            doc._check()
    finally:
        walker._node_sizes()
