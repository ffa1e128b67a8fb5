"""The engine's event graph against the oracle's sets, while events arrive in random orders."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import generate
import oracle
import pytest
from oracle import Id, Txn, Version

from egwalker.cycore.diff import diff
from egwalker.cycore.graph import Graph
from egwalker.cycore.oplog import OpLog


class Arrival:
    """A history that arrives piece by piece at an engine's graph and at an oracle's."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        world = generate.history(seed)
        cut = self.rng.choice((0.0, 0.3, 0.7))
        self.txns = generate.causal_order(self.rng, generate.pieces(self.rng, world.txns, cut))
        self.engine = Graph()
        self.oracle = oracle.Graph()

    def add(self, txn: Txn) -> None:
        parents = [self.engine.lv(*parent) for parent in txn.parents]
        self.rng.shuffle(parents)
        assert self.engine.add(txn.agent, txn.seq, parents, txn.length) == len(self.oracle)
        for event in oracle.events(txn):
            self.oracle.add(event.id, event.parents)

    def all(self) -> None:
        for txn in self.txns:
            self.add(txn)

    def lvs(self, ids: Iterable[Id]) -> list[int]:
        found = [self.engine.lv(*ident) for ident in ids]
        self.rng.shuffle(found)
        return found

    def ids(self, lvs: Iterable[int]) -> Version:
        return tuple(sorted(self.engine.id(lv) for lv in lvs))

    def members(self, ranges: Iterable[tuple[int, int]]) -> set[Id]:
        """The events in ranges of local versions, which must be ascending and apart."""
        last = -1
        found: set[Id] = set()
        for start, end in ranges:
            assert last <= start < end
            found |= {self.engine.id(lv) for lv in range(start, end)}
            last = end
        return found


@pytest.mark.parametrize("seed", range(60))
def test_what_is_kept_up_with_each_arrival(seed: int) -> None:
    both = Arrival(seed)
    for txn in both.txns:
        both.add(txn)
        engine, known = both.engine, both.oracle
        engine._check()
        assert len(engine) == len(known)
        assert both.ids(engine.frontier) == known.frontier
        assert engine.version_vector() == known.version_vector()
        critical = both.members(engine.critical())
        assert critical == set(known.critical())
        assert {ident for ident in known.ids if engine.is_critical(engine.lv(*ident))} == critical
        assert engine.next_seq(txn.agent) == known.version_vector()[txn.agent][-1][1]
    assert set(both.engine.agents) == {txn.agent for txn in both.txns}


@pytest.mark.parametrize("seed", range(60))
def test_ids_parents_and_clocks(seed: int) -> None:
    both = Arrival(seed)
    both.all()
    clocks = both.oracle.clocks()
    for lv, ident in enumerate(both.oracle.ids):
        assert both.engine.id(lv) == ident
        assert both.engine.lv(*ident) == lv
        assert both.engine.has(*ident)
        assert both.ids(both.engine.parents(lv)) == both.oracle.parents[lv]
        assert both.engine.clock(lv) == clocks[ident]
    agent, seq = both.oracle.ids[-1]
    assert not both.engine.has(agent, 10**6)
    assert not both.engine.has(agent + "x", seq)


@pytest.mark.parametrize("seed", range(60))
def test_runs_are_all_events(seed: int) -> None:
    both = Arrival(seed)
    both.all()
    clocks = both.oracle.clocks()
    start, end = sorted(both.rng.sample(range(len(both.engine) + 1), 2))
    for lo, hi in [(0, len(both.engine)), (start, end)]:
        at = lo
        for run in both.engine.runs(lo, hi):
            assert (run.start, run.end > at) == (at, True)
            for lv in range(run.start, run.end):
                ident = (run.agent, run.seq + lv - run.start)
                parents = run.parents if lv == run.start else (lv - 1,)
                assert both.engine.id(lv) == ident
                assert both.ids(parents) == both.oracle.parents[both.oracle.index[ident]]
            assert run.clock == clocks[both.engine.id(run.start)]
            at = run.end
        assert at == hi


@pytest.mark.parametrize("seed", range(120))
def test_relations(seed: int) -> None:
    both = Arrival(seed)
    both.all()
    rng, engine, known = both.rng, both.engine, both.oracle
    for _ in range(20):
        some = [rng.choice(known.ids) for _ in range(rng.randint(0, 4))]
        ident = rng.choice(known.ids)
        assert both.ids(engine.dominators(both.lvs(some))) == known.dominators(some)
        assert engine.contains(both.lvs(some), engine.lv(*ident)) == known.contains(some, ident)


@pytest.mark.parametrize("seed", range(200))
def test_diff(seed: int) -> None:
    both = Arrival(seed)
    both.all()
    rng, known = both.rng, both.oracle
    for _ in range(20):
        a, in_a = generate.random_version(rng, known, known.everything)
        b, in_b = generate.random_version(rng, known, known.everything)
        if rng.random() < 0.4:
            # What merging asks for: b holds all of a.
            in_b |= in_a
            b = known.version(in_b)
        check_diff(both, a, b)


def check_diff(both: Arrival, a: Version, b: Version) -> None:
    known = both.oracle
    wanted = known.diff(a, b)
    head, shared, a_only, b_only = diff(both.engine, both.lvs(a), both.lvs(b))
    assert both.members(a_only) == wanted.a_only
    assert both.members(b_only) == wanted.b_only
    before = known.before(both.ids(head))
    assert known.version(before) == both.ids(head)
    assert both.members(shared) == wanted.both - known.members(before)
    assert known.members(before) <= wanted.both
    # A walk from the head on meets nothing that is concurrent with what it has left out.
    rest = wanted.a_only | wanted.b_only | both.members(shared)
    for ident in rest:
        assert known.past[known.index[ident]] & before == before, (
            f"{ident} does not come after all of the head"
        )
    # And it starts no earlier than at the last event that all the others of both come before or after.
    critical = set(known.critical(known.before(a) | known.before(b)))
    assert critical & wanted.both <= known.members(before)


def test_diff_of_the_seed() -> None:
    graph = Graph()
    graph.add("a", 0, [], 1)
    graph.add("b", 0, [], 2)
    assert diff(graph, [0], [0, 2]) == ((), [(0, 1)], [], [(1, 3)])


def test_diff_starts_in_the_middle_of_a_run() -> None:
    """Somebody who saw only the first event of a run comes back."""
    graph = Graph()
    graph.add("a", 0, [], 4)
    graph.add("b", 0, [0], 1)
    assert diff(graph, [3], [3, 4]) == ((0,), [(1, 4)], [], [(4, 5)])
    assert diff(graph, [4], [1]) == ((0,), [], [(4, 5)], [(1, 2)])


@pytest.mark.parametrize("seed", range(40))
def test_a_copy_goes_its_own_way(seed: int) -> None:
    both = Arrival(seed)
    half = len(both.txns) // 2
    for txn in both.txns[:half]:
        both.add(txn)
    copy = both.engine.copy()
    frontier, vector, critical = copy.frontier, copy.version_vector(), copy.critical()
    for txn in both.txns[half:]:
        both.add(txn)
    copy._check()
    assert (copy.frontier, copy.version_vector(), copy.critical()) == (frontier, vector, critical)
    assert both.ids(both.engine.frontier) == both.oracle.frontier


@pytest.mark.parametrize("seed", range(60))
def test_a_log_cut_short_is_as_if_it_had_never_been_longer(seed: int) -> None:
    rng = Random(seed)
    world = generate.history(seed)
    txns = generate.causal_order(rng, generate.pieces(rng, world.txns))
    log = OpLog()
    for txn in txns:
        log.add(*txn)
    keep = rng.randrange(len(txns) + 1)
    log.truncate(sum(txn.length for txn in txns[:keep]))
    fresh = OpLog()
    for txn in txns[:keep]:
        fresh.add(*txn)
    log._check()
    assert same(log, fresh)
    for txn in txns[keep:]:
        log.add(*txn)
        fresh.add(*txn)
    log._check()
    assert same(log, fresh)


def same(log: OpLog, other: OpLog) -> bool:
    return all(
        list(value(log)) == list(value(other))
        for value in (
            lambda log: log.edits(0, len(log)),
            lambda log: log.graph.runs(),
            lambda log: log.graph.frontier,
            lambda log: log.graph.critical(),
            lambda log: sorted(log.graph.version_vector().items()),
        )
    )
