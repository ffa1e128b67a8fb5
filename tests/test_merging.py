"""Documents that edit and sync at random, compared with the oracle after every step."""

from __future__ import annotations

import os
from itertools import permutations
from random import Random
from typing import Any

import generate
import pytest
from deliver import Delivery
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from session import Peer, Session

from egwalker import Document

HISTORIES = int(os.environ.get("EGWALKER_HISTORIES", "10000"))

INDEX = st.integers(0, 5)
PLACE = st.integers(0, 2**16)
"""A number that is taken modulo the number of places there are."""
SEED = st.integers(0, 2**32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
VALUES = st.lists(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    min_size=1,
    max_size=4,
)


# --- state machines -----------------------------------------------------------------------------------------


class Merging(RuleBasedStateMachine):
    """2 to 6 agents typing, erasing, prepending, replacing, syncing. Every step compares (see `Session`)."""

    kind = "text"
    contents: st.SearchStrategy[Any] = TEXT

    @initialize(agents=st.integers(2, 6), defer=st.booleans())
    def start(self, agents: int, defer: bool) -> None:
        self.session = Session(agents, kind=self.kind, defer=defer)
        self.touched: set[int] = set()

    def peer(self, index: int) -> Peer:
        index %= len(self.session.peers)
        self.touched.add(index)
        return self.session.peers[index]

    def pair(self, index: int, step: int) -> tuple[Peer, Peer]:
        count = len(self.session.peers)
        return self.peer(index), self.peer(index + 1 + step % (count - 1))

    @rule(index=INDEX, place=PLACE, data=st.data())
    def type(self, index: int, place: int, data: st.DataObject) -> None:
        peer = self.peer(index)
        self.session.edit(peer, [(place % (self.session.size(peer) + 1), 0, data.draw(self.contents))])

    @rule(index=INDEX, place=PLACE, data=st.data())
    def prepend(self, index: int, place: int, data: st.DataObject) -> None:
        peer = self.peer(index)
        at = place % (self.session.size(peer) + 1)
        content = data.draw(self.contents)
        self.session.edit(peer, [(at, 0, content[i : i + 1]) for i in range(len(content))])

    @rule(index=INDEX, place=PLACE, count=st.integers(1, 5))
    def erase_backwards(self, index: int, place: int, count: int) -> None:
        peer = self.peer(index)
        at = place % (self.session.size(peer) + 1)
        if at:
            ops = [(at - 1 - i, 1, self.session.empty) for i in range(min(count, at))]
            self.session.edit(peer, ops)

    @rule(index=INDEX, place=PLACE, count=st.integers(1, 5))
    def delete_forwards(self, index: int, place: int, count: int) -> None:
        peer = self.peer(index)
        size = self.session.size(peer)
        if size:
            at = place % size
            self.session.edit(peer, [(at, min(count, size - at), self.session.empty)])

    @rule(index=INDEX, seed=SEED)
    def transaction(self, index: int, seed: int) -> None:
        peer = self.peer(index)
        rng = Random(seed)
        world = generate.World(rng, values=self.kind == "list")
        ops, _ = world.ops(self.session.size(peer), rng.randint(0, 20))
        self.session.edit(peer, ops, together=True)

    @rule(index=INDEX, seed=SEED)
    def edit_in_the_past(self, index: int, seed: int) -> None:
        peer = self.peer(index)
        rng = Random(seed)
        version, past = generate.random_version(rng, self.session.document.graph, peer.known)
        world = generate.World(rng, values=self.kind == "list")
        ops, _ = world.ops(self.session.document.size(past), rng.randint(0, 20))
        self.session.edit_in_the_past(peer, version, ops)

    @rule(index=INDEX, step=INDEX)
    def merge(self, index: int, step: int) -> None:
        self.session.merge(*self.pair(index, step))

    @rule(index=INDEX, step=INDEX)
    def merge_both_ways(self, index: int, step: int) -> None:
        one, other = self.pair(index, step)
        self.session.merge(one, other)
        self.session.merge(other, one)
        # What waited at the other may have found its parents only now.
        self.session.merge(one, other)
        # What waits with the other may have entered only now.
        assert one.doc.content == other.doc.content or other.known != one.known

    @rule(index=INDEX, step=INDEX)
    def receive(self, index: int, step: int) -> None:
        self.session.receive_history(*self.pair(index, step))

    @rule(index=INDEX, step=INDEX, seed=SEED)
    def receive_in_any_order(self, index: int, step: int, seed: int) -> None:
        self.session.receive_pieces(*self.pair(index, step), Random(seed))

    @rule(index=INDEX, step=INDEX, seed=SEED, share=st.floats(0.2, 0.9))
    def receive_a_part(self, index: int, step: int, seed: int, share: float) -> None:
        self.session.receive_pieces(*self.pair(index, step), Random(seed), share)

    @precondition(lambda self: len(self.session.peers) < len(generate.AGENTS))
    @rule(index=INDEX)
    def fork(self, index: int) -> None:
        agent = generate.AGENTS[len(self.session.peers)]
        self.session.fork(self.peer(index), agent)

    @rule(index=INDEX, seed=SEED)
    def checkout(self, index: int, seed: int) -> None:
        self.session.checkout(self.peer(index), Random(seed))

    @invariant()
    def sound(self) -> None:
        for index in self.touched:
            self.session.peers[index].doc._check()
        self.touched.clear()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.converge()


class MergingLists(Merging):
    """The same with lists of JSON values."""

    kind = "list"
    contents = VALUES


MACHINE = settings(max_examples=150, stateful_step_count=40)
TestMerging = Merging.TestCase
TestMerging.settings = MACHINE
TestMergingLists = MergingLists.TestCase
TestMergingLists.settings = settings(MACHINE, max_examples=60)


@pytest.mark.parametrize("seed", range(40))
def test_long_sessions(seed: int) -> None:
    """What the machines do, for longer than Hypothesis would: hundreds of steps, also with long absences."""
    rng = Random(seed)
    kind = rng.choice(("text", "text", "list"))
    session = Session(rng.randint(2, 6), kind=kind, defer=bool(seed % 2))
    worlds = generate.World(rng, values=kind == "list", odd=True, crowded=rng.random() < 0.3)
    sync = rng.choice((0.05, 0.2, 0.5))
    carets = dict.fromkeys(range(len(session.peers)), 0)
    for _ in range(120):
        index = rng.randrange(len(session.peers))
        peer = session.peers[index]
        ops, carets[index] = worlds.ops(session.size(peer), carets[index])
        session.edit(peer, ops, together=rng.random() < 0.2)
        if rng.random() < sync:
            one, other = rng.sample(session.peers, 2)
            rng.choice((session.merge, session.receive_history))(one, other)
        if rng.random() < sync / 3:
            one, other = rng.sample(session.peers, 2)
            session.receive_pieces(one, other, rng, rng.choice((0.5, 1.0)))
        if rng.random() < 0.05:
            session.checkout(peer, rng)
        if rng.random() < 0.03:
            version, past = generate.random_version(rng, session.document.graph, peer.known)
            session.edit_in_the_past(peer, version, worlds.ops(session.document.size(past), 0)[0])
    session.converge()


# --- many small histories -----------------------------------------------------------------------------------


def test_ten_thousand_histories() -> None:
    """Each in a random causal order and random pieces, to two documents; how many: EGWALKER_HISTORIES."""
    for seed in range(HISTORIES):
        world = generate.history(seed)
        delivery = Delivery(Random(seed), world.txns, world.document)
        try:
            delivery.run()
            if seed % 20 == 0:
                for doc in delivery.docs:
                    doc._check()
        except Exception as error:
            error.add_note(f"seed {seed}, after:\n" + "\n".join(delivery.log))
            raise


@pytest.mark.parametrize("seed", range(16))
def test_larger_histories(seed: int) -> None:
    """Hundreds of edits with few critical versions, so that one window of the walk holds most of them."""
    rng = Random(seed)
    world = generate.World(rng, rng.randint(3, 6), odd=True, crowded=rng.random() < 0.3)
    world.run(220, sync=rng.choice((0.02, 0.1, 0.3)), past=0.05, meet=rng.choice((0.0, 0.01)))
    for _ in range(3):
        delivery = Delivery(rng, world.txns, world.document)
        delivery.run()
        delivery.docs[0]._check()


# --- nothing interleaves ------------------------------------------------------------------------------------

FORWARDS, BACKWARDS, MIXED = "forwards", "backwards", "mixed"


def write(doc: Document, at: int, word: str, how: str, rng: Random) -> None:
    """Put `word` at `at`, letter by letter: as read, from the end on, or from the middle to both sides."""
    if how == FORWARDS:
        for i, letter in enumerate(word):
            doc.insert(at + i, letter)
    elif how == BACKWARDS:
        for letter in reversed(word):
            doc.insert(at, letter)
    else:
        start = rng.randrange(len(word))
        first = last = start
        doc.insert(at, word[start])
        while last - first < len(word) - 1:
            if first and (last == len(word) - 1 or rng.random() < 0.5):
                first -= 1
                doc.insert(at, word[first])
            else:
                last += 1
                doc.insert(at + last - first, word[last])


@pytest.mark.parametrize("agents", range(2, 7))
@pytest.mark.parametrize("how", [FORWARDS, BACKWARDS, MIXED, "each its own way"])
@pytest.mark.parametrize(("before", "after"), [("", ""), ("[", "]"), ("", "]"), ("[", "")])
def test_what_each_agent_writes_stays_together(agents: int, how: str, before: str, after: str) -> None:
    rng = Random(f"{agents} {how} {before} {after}")
    base = Document("text", agent="base")
    base.insert(0, before + after)
    words = {name: name[0] + "abcdefgh" * (1 + i % 2) for i, name in enumerate(generate.AGENTS[:agents])}
    docs = [base.fork(name) for name in words]
    for doc in docs:
        way = how if how in (FORWARDS, BACKWARDS, MIXED) else rng.choice((FORWARDS, BACKWARDS, MIXED))
        write(doc, len(before), words[doc.agent], way, rng)
    contents = set()
    for doc in docs:
        for other in rng.sample(docs, len(docs)):
            doc.merge(other)
        contents.add(doc.content)
    assert len(contents) == 1
    assert contents <= {before + "".join(order) + after for order in permutations(words.values())}


@settings(max_examples=100)
@given(data=st.data(), agents=st.integers(2, 5), how=st.sampled_from([FORWARDS, BACKWARDS]))
def test_runs_stay_together_anywhere_in_a_text(data: st.DataObject, agents: int, how: str) -> None:
    base = Document("text", agent="base")
    base.insert(0, "." * data.draw(st.integers(0, 8)))
    at = data.draw(st.integers(0, len(base)))
    rng = Random(0)
    words = [letter * data.draw(st.integers(1, 6)) for letter in "abcde"[:agents]]
    docs = [base.fork(name) for name in generate.AGENTS[:agents]]
    for doc, word in zip(docs, words, strict=True):
        write(doc, at, word, how, rng)
        # Erasing and typing on in the same place does not let others in between.
        if how == FORWARDS:
            doc.delete(at + len(word) - 1)
            doc.insert(at + len(word) - 1, word[0])
    for doc in docs[1:]:
        docs[0].merge(doc)
    content = docs[0].content
    assert len(content) == len(base) + sum(map(len, words))
    assert all(word in content for word in words)


# --- merging is what it is whoever does it ------------------------------------------------------------------


@settings(max_examples=60)
@given(seed=SEED)
def test_merging_in_any_order_gives_one_document(seed: int) -> None:
    """Merging is commutative, associative and idempotent: in text, version and version vector."""
    rng = Random(seed)
    session = Session(3, defer=bool(seed % 2))
    for number in range(20):
        peer = rng.choice(session.peers)
        session.edit(peer, generate.World(rng).ops(session.size(peer), rng.randint(0, 9))[0])
        if number % 5 == 0:
            session.merge(*rng.sample(session.peers, 2))
    ends = []
    for order in permutations(session.peers):
        doc = Document("text", agent="reader")
        for peer in order:
            doc.merge(peer.doc)
            assert not doc.merge(peer.doc)
        ends.append((doc.content, doc.version, doc.version_vector))
    assert all(end == ends[0] for end in ends)


def test_merging_nothing_changes_nothing() -> None:
    doc = Document("text", agent="ann")
    doc.insert(0, "abc")
    empty = Document("text", agent="bob")
    assert not doc.merge(empty)
    assert not doc.merge(doc)
    assert not doc.receive([])
    assert not doc.receive(doc.history())
    assert (doc.content, doc.version) == ("abc", (("ann", 2),))
