"""The deferred clock: which events what is typed follows, and that what one sees is what one meant."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import FIXTURES
from oracle import Sequence, Txn
from scripted import play
from typists import Session

from egwalker import (
    AgentError,
    Change,
    ContentError,
    Document,
    EgwalkerError,
    PendingError,
    PositionError,
    Run,
)
from egwalker.versions import Version


def pair(text: str = "", *, defer: bool = True) -> tuple[Document, Document]:
    ann = Document(agent="ann", defer=defer)
    ann.insert(0, text)
    bob = ann.fork("bob")
    ann.adopt()
    return ann, bob


def parents(doc: Document) -> Version:
    """The parents of the last event that was made at a document."""
    last = doc.version_vector[doc.agent][-1][1] - 1
    vector = {**doc.version_vector, doc.agent: [(0, last)]}
    return doc.history(vector)[0].parents


def alone(doc: Document) -> bool:
    """Whether the last event made at a document follows the one before it and nothing else."""
    last = doc.version_vector[doc.agent][-1][1] - 1
    return parents(doc) == ((doc.agent, last - 1),)


def meet(ann: Document, bob: Document) -> str:
    """Each learns all of the other; they agree; returns the text."""
    ann.merge(bob)
    bob.merge(ann)
    assert ann.content == bob.content
    ann._check()
    bob._check()
    return str(ann)


class TestHistories:
    @pytest.mark.parametrize("first", range(0, 300, 25))
    def test_runs_stay_whole(self, first: int) -> None:
        """Checked by `typists`: every event's parents, and that each replica is what the oracle says."""
        for seed in range(first, first + 25):
            session = Session(seed, defer=True, check=True)
            assert session.split() == []
            assert session.interleaved() == []

    @pytest.mark.parametrize("first", range(0, 75, 25))
    def test_without_it_events_follow_all_that_is_there(self, first: int) -> None:
        for seed in range(first, first + 25):
            session = Session(seed, defer=False, check=True)
            assert session.interleaved() == []

    def test_the_difference(self) -> None:
        on, off = ([Session(seed, defer=defer, check=False) for seed in range(30)] for defer in (True, False))
        assert sum(len(session.split()) for session in off) > 50
        assert sum(session.merges() for session in on) < sum(session.merges() for session in off)


class TestRuns:
    def test_typing_on_follows_itself(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">> ")
        ann.merge(bob)
        ann.insert(7, "!")
        assert (str(ann), alone(ann)) == (">> one!! two", True)
        assert ann.version == (("ann", 8), ("bob", 2))
        assert meet(ann, bob) == ">> one!! two"

    def test_typing_elsewhere_follows_all(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">> ")
        ann.merge(bob)
        ann.insert(0, "!")
        assert parents(ann) == (("ann", 7), ("bob", 2))

    def test_erasing_and_typing_again(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(3)
        cursor.insert("xyz")
        bob.insert(7, " three")
        bob.insert(0, "zero ")
        ann.merge(bob)
        steps: list[Callable[[], None]] = [
            lambda: cursor.backspace(2),
            lambda: cursor.insert("q"),
            lambda: cursor.delete(4),
        ]
        for step in steps:
            step()
            assert alone(ann)
        assert meet(ann, bob) == "zero onexq three"

    def test_erasing_beyond_the_start_of_the_run(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(3)
        cursor.insert("!")
        bob.insert(0, "zero ")
        ann.merge(bob)
        cursor.backspace(3)
        cursor.insert("f")
        assert alone(ann)
        assert meet(ann, bob) == "zero of two"

    def test_erasing_up_to_what_others_changed_ends_it(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(7)
        cursor.insert("!")
        bob.insert(4, "and ")
        ann.merge(bob)
        cursor.backspace(4)
        assert alone(ann)
        cursor.insert("3")
        assert not alone(ann)
        assert meet(ann, bob) == "one and 3"

    def test_erasing_across_what_others_changed_ends_it(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(7)
        cursor.insert("!")
        bob.insert(4, "and ")
        ann.merge(bob)
        cursor.backspace(6)
        assert ann.version == (("ann", 13),)
        assert meet(ann, bob) == "one an"

    @pytest.mark.parametrize("change", [lambda bob: bob.insert(4, "B"), lambda bob: bob.delete(4)])
    def test_a_change_right_at_the_caret_ends_it(self, change: Callable[[Document], None]) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(3)
        cursor.insert("!")
        bob.merge(ann)
        change(bob)
        ann.merge(bob)
        cursor.insert("?")
        assert parents(ann) == (("bob", 0),)
        assert meet(ann, bob).startswith("one!?")

    def test_others_erase_within_the_run(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(3)
        cursor.insert("wxyz")
        bob.merge(ann)
        bob.delete(4, 2)
        ann.merge(bob)
        cursor.insert("!!")
        cursor.backspace(2)
        cursor.insert("?")
        assert alone(ann)
        assert meet(ann, bob) == "onewz? two"

    def test_moving_ends_it_even_to_the_same_place(self) -> None:
        ann, bob = pair("one two")
        cursor = ann.cursor(3)
        cursor.insert("!")
        bob.insert(0, ">")
        ann.merge(bob)
        cursor.move(cursor.position)
        cursor.insert("?")
        assert parents(ann) == (("ann", 7), ("bob", 0))

    def test_adopting_ends_it(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">")
        ann.merge(bob)
        ann.adopt()
        ann.insert(5, "?")
        assert not alone(ann)

    def test_two_cursors(self) -> None:
        ann, bob = pair("one two")
        one, two = ann.cursor(3), ann.cursor(7)
        one.insert("!")
        bob.insert(0, ">")
        ann.merge(bob)
        two.move(0)  # not where the run is
        one.insert("!")
        assert alone(ann)
        two.insert("?")
        assert not alone(ann)
        bob.insert(1, ">")
        ann.merge(bob)
        one.insert("!")
        assert not alone(ann)
        assert meet(ann, bob) == "?>>one!!! two"

    def test_undo_by_deleting_and_typing_again(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "abc")
        bob.insert(0, ">")
        ann.merge(bob)
        ann.delete(4, 3)
        assert alone(ann)
        ann.insert(4, "abc")
        assert alone(ann)
        assert meet(ann, bob) == ">oneabc two"

    def test_in_a_transaction(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">")
        changes: list[Change] = []
        with ann.subscribe(changes.append), ann.transaction():
            ann.merge(bob)
            ann.insert(5, "!")
            ann.insert(0, "<")
        assert [change.after for change in changes] == [ann.version]
        assert parents(ann) == (("ann", 8), ("bob", 0))

    def test_a_list(self) -> None:
        ann = Document("list", agent="ann")
        ann.insert(0, [1, 2])
        bob = ann.fork("bob")
        bob.insert(0, [0])
        ann.merge(bob)
        ann.insert(3, [3, 4])
        ann.delete(4)
        assert alone(ann)
        bob.merge(ann)
        assert ann.content == bob.content == [0, 1, 2, 3]
        ann._check()

    def test_a_branch_ends_it(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">")
        ann.merge(bob)
        ann.branch([("ann", 6)]).insert(7, "?")
        ann.insert(5, "!")
        assert parents(ann) == (("ann", 7), ("ann", 8), ("bob", 0))
        assert meet(ann, bob) == ">one!! two?"


class TestDocuments:
    def test_switched_off(self) -> None:
        ann, bob = pair("one two", defer=False)
        assert not ann.defer
        assert not bob.defer
        ann.insert(3, "!")
        bob.insert(0, ">")
        ann.merge(bob)
        ann.insert(5, "!")
        assert parents(ann) == (("ann", 7), ("bob", 0))
        assert not Document.decode(ann.encode(), defer=False).defer
        assert Document.decode(ann.encode()).defer

    def test_switched_on_and_off_meanwhile(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">")
        ann.merge(bob)
        ann.defer = False
        ann.insert(5, "!")
        assert not alone(ann)
        ann.defer = True
        bob.insert(0, ">")
        ann.merge(bob)
        ann.insert(7, "!")
        assert not alone(ann)  # there was no run when it was switched on
        bob.insert(0, ">")
        ann.merge(bob)
        ann.insert(9, "!")
        assert alone(ann)

    def test_opened_without_its_history(self) -> None:
        """The history is read in the middle of a run, which goes on all the same."""
        ann, bob = pair("one two")
        opened = Document.decode(ann.encode(), agent="eve")
        opened.adopt()
        opened.insert(3, "!")
        bob.insert(0, ">")
        opened.merge(bob)
        opened.insert(5, "!")
        opened.history()
        opened.insert(6, "!")
        assert alone(opened)
        assert meet(opened, bob) == ">one!!! two"

    def test_the_run_goes_on_over_a_history_that_is_read_late(self) -> None:
        opened = Document.decode(pair("one two")[0].encode(), agent="eve")
        opened.insert(3, "!")
        opened.history()
        opened.receive([Run("bob", 0, (("ann", 6),), ((0, 0, ">"),))])
        opened.insert(5, "!")
        assert alone(opened)
        opened._check()

    def test_refused_edits_change_nothing(self) -> None:
        ann, bob = pair("one two")
        ann.insert(3, "!")
        bob.insert(0, ">")
        ann.merge(bob)
        calls: list[Callable[[], None]] = [
            lambda: ann.insert(99, "x"),
            lambda: ann.insert(5, "\ud800"),
            lambda: ann.insert(0, 1),
            lambda: ann.delete(4, 99),
        ]
        for bad in calls:
            with pytest.raises((PositionError, ContentError)):
                bad()
        ann.insert(5, "")
        ann.insert(5, "!")
        assert alone(ann)

    def test_refused_events_change_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)
        ann = Document(agent="ann", pending_limit=4)
        ann.insert(0, "one")
        ann.receive([Run("bob", 1, (("bob", 0),), ((1, 0, "b"),))])
        first = Run("bob", 0, (), ((0, 0, "B"),))
        for bad in (
            [first, Run("eve", 0, (("dan", 0),), ((0, 0, "12345"),))],
            [first, Run("eve", 0, (), ((7, 0, "1"),))],
        ):
            with pytest.raises((PendingError, PositionError)):
                ann.receive(bad)
        ann.receive([Run("eve", 0, (), ((0, 0, "E"),))])
        ann.insert(len(ann) if str(ann).startswith("E") else 3, "!")
        ann._check()
        with pytest.raises(EgwalkerError):
            ann.fork("ann")

    def test_somebody_elses_events_under_the_same_name(self) -> None:
        """An event of one's own from elsewhere takes the next seq; the run cannot go on then."""
        ann, bob = pair("one two")
        ann.insert(3, "!")
        ann.receive([Run("ann", 8, (("ann", 6),), ((0, 0, "?"),))])
        ann.insert(5, "!")
        assert parents(ann) == (("ann", 7), ("ann", 8))
        with pytest.raises(AgentError):
            bob.fork("bob")


SCRIPTS = json.loads((FIXTURES / "scripts" / "deferral.json").read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=[script["name"] for script in SCRIPTS])
def test_scripted_sessions(script: dict[str, Any]) -> None:
    """Those that `egwalker.js` plays too."""
    docs, events = play(script)
    oracle = Sequence()
    oracle.receive([Txn(*run) for run in docs[0].history()])
    assert oracle.content() == script["text"]
    assert events == script["events"]
    for doc in docs:
        assert doc.content == script["text"]
        doc._check()
