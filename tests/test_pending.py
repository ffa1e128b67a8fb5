"""Events that arrive before their parents."""

from __future__ import annotations

import logging
from random import Random

import generate
import pytest

from egwalker import (
    CausalityError,
    ConflictError,
    Document,
    PendingError,
    PositionError,
    Run,
)


def typed(agent: str, seq: int, parents: tuple[tuple[str, int], ...], pos: int, text: str) -> Run:
    return Run(agent, seq, parents, ((pos, 0, text),))


FIRST = typed("a", 0, (), 0, "one ")
SECOND = typed("b", 0, (("a", 3),), 4, "two ")
THIRD = typed("c", 0, (("b", 3), ("a", 1)), 8, "three")


class TestArrival:
    def test_last_to_first(self) -> None:
        doc = Document()
        assert not doc.receive([THIRD])
        assert doc.pending == 5
        assert not doc.receive([SECOND])
        assert doc.pending == 9
        assert (doc.content, doc.version) == ("", ())
        doc._check()
        change = doc.receive([FIRST])
        assert len(change.edits) >= 1
        assert doc.content == "one two three"
        assert doc.pending == 0
        doc._check()

    def test_all_at_once_in_any_order(self) -> None:
        doc = Document(pending_limit=0)
        doc.receive([THIRD, FIRST, SECOND])
        assert doc.content == "one two three"

    def test_twice_while_waiting(self) -> None:
        doc = Document()
        doc.receive([THIRD, THIRD])
        doc.receive([THIRD])
        assert doc.pending == 5

    def test_parents_within_a_run(self) -> None:
        doc = Document()
        doc.receive([typed("b", 0, (("a", 1),), 2, "-")])
        doc.receive([typed("a", 3, (("a", 2),), 3, "d")])
        doc.receive([typed("a", 0, (), 0, "abc")])
        assert doc.content == "abcd-"

    def test_parents_come_by_merging(self) -> None:
        doc, other = Document(id="1" * 32), Document(id="1" * 32)
        doc.receive([THIRD, SECOND])
        other.receive([FIRST])
        doc.merge(other)
        assert doc.content == "one two three"
        assert doc.pending == 0

    def test_parents_are_made_here(self) -> None:
        # By the same agent, say after a restart. The next call that brings something finds out.
        doc = Document(agent="a")
        doc.receive([typed("b", 0, (("a", 0),), 1, "!")])
        doc.insert(0, "x")
        doc._check()
        doc.receive([typed("c", 0, (), 0, "y")])
        assert doc.pending == 0
        assert sorted(doc.content) == ["!", "x", "y"]

    def test_a_fork_does_not_wait(self) -> None:
        doc = Document()
        doc.receive([THIRD])
        assert doc.fork().pending == 0

    @pytest.mark.parametrize("seed", range(40))
    def test_random_order(self, seed: int) -> None:
        """Whatever the order, what waits are the events that lack an ancestor, and in the end none."""
        rng = Random(seed)
        world = generate.history(seed)
        graph = world.document.graph
        pieces = generate.pieces(rng, world.txns)
        rng.shuffle(pieces)
        doc = Document()
        arrived = 0
        for batch in generate.batches(rng, pieces):
            doc.receive([Run(*txn) for txn in batch])
            if rng.random() < 0.3:
                doc.receive([Run(*txn) for txn in rng.sample(batch, 1)])
            arrived |= sum(
                1 << graph.index[txn.agent, txn.seq + i] for txn in batch for i in range(txn.length)
            )
            entered = sum(
                1 << i for i in range(len(graph)) if arrived >> i & 1 and not graph.past[i] & ~arrived
            )
            assert doc.pending == arrived.bit_count() - entered.bit_count()
            assert doc.version == graph.version(entered)
            assert doc.content == world.document.content(entered)
            doc._check()
        assert doc.content == world.document.content()

    def test_many(self) -> None:
        """Neither order makes waiting costly: ten thousand runs, one call each."""
        runs = [typed("a", 0, (), 0, "x")]
        for i in range(1, 10_000):
            runs.append(typed("ab"[i % 2], i, ((runs[-1].agent, i - 1),), i, "x"))
        for order in (runs[::-1], runs[1:] + runs[:1]):
            doc = Document()
            for run in order:
                doc.receive([run])
            assert len(doc) == 10_000
            assert doc.pending == 0


class TestBounds:
    def test_limit(self) -> None:
        doc = Document(pending_limit=8)
        doc.receive([THIRD])
        with pytest.raises(PendingError, match=r"9 events.*a:3.*at most 8"):
            doc.receive([SECOND])
        assert doc.pending == 5
        doc.receive([typed("d", 0, (("e", 0),), 0, "xyz")])
        assert doc.pending == 8
        doc._check()
        doc.receive([FIRST, SECOND])
        assert doc.content == "one two three"
        assert doc.pending == 3

    def test_nothing_of_a_failed_call_stays(self) -> None:
        doc = Document(pending_limit=4)
        doc.receive([SECOND])
        with pytest.raises(PendingError):
            doc.receive([FIRST, typed("d", 0, (("e", 0),), 0, "12345")])
        assert (doc.content, doc.version, doc.pending) == ("", (), 4)
        doc._check()
        doc.receive([FIRST])
        assert doc.content == "one two "


class TestCycles:
    @pytest.mark.parametrize("parent", [3, 4, 5])
    def test_an_event_after_itself(self, parent: int) -> None:
        doc = Document()
        with pytest.raises(CausalityError, match="a:3"):
            doc.receive([typed("a", 3, (("a", parent),), 0, "xyz")])
        assert doc.pending == 0

    def test_two_after_each_other(self) -> None:
        one, two = typed("a", 0, (("b", 1),), 0, "xy"), typed("b", 0, (("a", 1),), 0, "xy")
        for batches in ([[one], [two]], [[two], [one]], [[one, two]]):
            doc = Document()
            for batch in batches[:-1]:
                doc.receive(batch)
            pending = doc.pending
            with pytest.raises(CausalityError, match="ancestors"):
                doc.receive(batches[-1])
            assert doc.pending == pending
            doc._check()

    def test_a_run_that_waits_for_its_own_end(self) -> None:
        # a:5 .. a:9 after b:0, which comes after a:7.
        doc = Document()
        doc.receive([typed("a", 5, (("b", 0),), 0, "56789")])
        with pytest.raises(CausalityError):
            doc.receive([typed("b", 0, (("a", 7),), 0, "x")])

    @pytest.mark.parametrize("seed", range(20))
    def test_long_ones_closed_anywhere(self, seed: int) -> None:
        rng = Random(seed)
        size = rng.randint(3, 30)
        ring = [typed(f"agent {i}", 0, ((f"agent {(i + 1) % size}", 0),), 0, "x") for i in range(size)]
        # Side branches that are in no cycle.
        ring += [typed(f"leaf {i}", 0, ((f"agent {i}", 0), ("nobody", i)), 0, "x") for i in range(0, size, 2)]
        rng.shuffle(ring)
        last = max(i for i, run in enumerate(ring) if run.agent.startswith("agent"))
        doc = Document()
        for run in ring[:last]:
            doc.receive([run])
        with pytest.raises(CausalityError):
            doc.receive([ring[last]])
        for run in ring[last + 1 :]:
            doc.receive([run])
        assert doc.pending == len(ring) - 1
        doc._check()

    def test_diamonds_are_none(self) -> None:
        doc = Document()
        for level in range(20, 0, -1):
            parents = ((f"left {level - 1}", 0), (f"right {level - 1}", 0))
            doc.receive([typed(f"{side} {level}", 0, parents, 0, "x") for side in ("left", "right")])
        assert doc.pending == 40
        doc.receive([typed("left 0", 0, (), 0, "x"), typed("right 0", 0, (), 0, "x")])
        assert len(doc) == 42

    def test_many_ways_from_one_to_another(self) -> None:
        # Forty diamonds in a row: a search that walks a part twice does not end.
        runs = [
            typed(f"{side} {level}", 0, ((f"left {level - 1}", 0), (f"right {level - 1}", 0)), 0, "x")
            for level in range(1, 40)
            for side in ("left", "right")
        ]
        doc = Document()
        doc.receive(runs)
        assert doc.pending == 78


class TestImpossibleRuns:
    """A run that waits may turn out to be impossible only when its parents come."""

    BEYOND = typed("b", 0, (("a", 3),), 99, "two ")

    def test_it_does_not_keep_its_parents_out(self, caplog: pytest.LogCaptureFixture) -> None:
        doc = Document()
        doc.receive([self.BEYOND, typed("c", 0, (("a", 0),), 1, "!")])
        with caplog.at_level(logging.WARNING, logger="egwalker"):
            doc.receive([FIRST])
        assert doc.content == "one !"
        assert doc.pending == 0
        assert "'b'" in caplog.text
        assert "99" in caplog.text
        doc._check()
        # The right one is still welcome.
        doc.receive([SECOND])
        assert doc.content == "one two !"

    def test_nor_does_a_conflict(self, caplog: pytest.LogCaptureFixture) -> None:
        doc = Document()
        doc.receive([typed("b", 0, (("a", 3),), 0, "other")])
        doc.receive([SECOND])
        with caplog.at_level(logging.WARNING, logger="egwalker"):
            doc.receive([FIRST])
        assert doc.content in ("one two ", "otherone ")
        assert len(caplog.records) == 1
        doc._check()

    def test_nor_in_a_merge(self, caplog: pytest.LogCaptureFixture) -> None:
        doc, other = Document(id="1" * 32), Document(id="1" * 32)
        doc.receive([self.BEYOND])
        other.receive([FIRST])
        with caplog.at_level(logging.WARNING, logger="egwalker"):
            doc.merge(other)
        assert doc.content == "one "
        assert len(caplog.records) == 1

    def test_what_comes_with_its_parents_is_refused_with_them(self) -> None:
        doc = Document()
        doc.receive([THIRD])
        for batch in ([FIRST, self.BEYOND], [self.BEYOND, FIRST]):
            with pytest.raises(PositionError, match="99"):
                doc.receive(batch)
            assert (doc.content, doc.pending, doc.version) == ("", 5, ())
            doc._check()
        doc.receive([FIRST, SECOND])
        assert doc.content == "one two three"

    @pytest.mark.parametrize("seed", range(20))
    def test_bad_runs_among_good_ones(self, seed: int) -> None:
        """Whatever fails, a document is exactly as before; in the end it holds all that is good."""
        rng = Random(seed)
        world = generate.history(seed, steps=15)
        pieces = generate.causal_order(rng, generate.pieces(rng, world.txns))
        doc = Document()
        for number, batch in enumerate(generate.batches(rng, pieces)):
            runs = [Run(*txn) for txn in batch]
            rng.shuffle(runs)
            bad = typed(f"evil {number}", 0, rng.choice(runs).parents, 10_000, "x")
            before = doc.content, doc.version, doc.pending, doc.version_vector
            with pytest.raises(PositionError):
                doc.receive([*runs, bad] if number % 2 else [bad, *runs])
            assert (doc.content, doc.version, doc.pending, doc.version_vector) == before
            doc._check()
            doc.receive(runs)
            other = runs[0]._replace(ops=((0, 0, "?" * runs[0].length),))
            if other.ops != runs[0].ops:
                with pytest.raises(ConflictError):
                    doc.receive([other])
        assert doc.content == world.document.content()
