"""The total-order walk against the oracle: a set of events has one order, and groups are never split."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random

import generate
import pytest
from deliver import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Group, Id, Txn, total_order

from egwalker import Document, VersionError
from egwalker.cycore import order
from egwalker.cycore.graph import Graph

SEED = st.integers(0, 2**32)


def engine_graph(txns: Iterable[Txn]) -> Graph:
    graph = Graph()
    for txn in txns:
        graph.add(txn.agent, txn.seq, [graph.lv(*parent) for parent in txn.parents], txn.length)
    return graph


def walk(graph: Graph, version: Iterable[Id] | None = None) -> list[Group]:
    """The engine's groups, after a check of what each says of its local versions."""
    found = order.groups(graph, None if version is None else [graph.lv(*ident) for ident in version])
    groups = []
    for agent, seq, length, clock, ranges in found:
        lvs = [lv for start, end in ranges for lv in range(start, end)]
        assert [graph.id(lv) for lv in lvs] == [(agent, seq + i) for i in range(length)]
        groups.append(Group(agent, seq, length, clock))
    return groups


def arrival(seed: int) -> tuple[generate.World, list[Txn], Random]:
    """A history and a random order of arrival of pieces of it."""
    world = generate.history(seed)
    rng = Random(seed)
    return (
        world,
        generate.causal_order(rng, generate.pieces(rng, world.txns, cut=rng.choice((0.0, 0.3, 0.7)))),
        rng,
    )


@pytest.mark.parametrize("seed", range(300))
def test_all_events(seed: int) -> None:
    world, txns, _ = arrival(seed)
    assert walk(engine_graph(txns)) == total_order(world.document.graph)


@pytest.mark.parametrize("seed", range(300))
def test_of_a_version(seed: int) -> None:
    world, txns, rng = arrival(seed)
    graph, everything = world.document.graph, world.document.graph.everything
    engine = engine_graph(txns)
    for _ in range(4):
        version, _ = generate.random_version(rng, graph, everything)
        assert walk(engine, version) == total_order(graph, b=version)


def places(found: order.Order, graph: Graph) -> list[Id]:
    """All events in the total order."""
    return [graph.id(lv) for start, end in found.ranges(0) for lv in range(start, end)]


def listed(groups: Iterable[Group]) -> list[Id]:
    return [(group.agent, group.seq + i) for group in groups for i in range(group.length)]


@pytest.mark.parametrize("seed", range(300))
def test_step_by_step(seed: int) -> None:
    """One order goes along with a graph that grows, another one from version to version."""
    world, txns, rng = arrival(seed)
    graph = Graph()
    growing, wandering = order.Order(graph), order.Order(graph)
    known: list[Id] = []
    while txns:
        some = [txns.pop(0) for _ in range(min(len(txns), rng.randint(1, 4)))]
        for txn in some:
            graph.add(txn.agent, txn.seq, [graph.lv(*parent) for parent in txn.parents], txn.length)
        before = places(growing, graph)
        kept, added = growing.merge()
        if rng.random() < 0.3:
            growing.undo_merge()
            assert places(growing, graph) == before
            growing._check()
            assert growing.merge() == (kept, added)
        growing._check()
        after = places(growing, graph)
        known += [(txn.agent, txn.seq + i) for txn in some for i in range(txn.length)]
        assert after == listed(total_order(world.document.graph, b=known))
        # What is said of the change is what it was.
        assert before[:kept] == after[:kept]
        assert added[0][0] == kept
        for place, start, end in added:
            before[place:place] = [graph.id(lv) for lv in range(start, end)]
        assert before == after
        if rng.random() < 0.5:
            held = world.document.graph.before(known)
            version, _ = generate.random_version(rng, world.document.graph, held)
            wandering.merge([graph.lv(*ident) for ident in version])
            wandering._check()
        tail = rng.randint(0, len(growing))
        assert [graph.id(lv) for start, end in growing.ranges(tail) for lv in range(start, end)] == after[
            tail:
        ]
        other = growing.copy(graph.copy())
        other._check()
    wandering.merge()
    assert places(wandering, graph) == places(growing, graph)


@settings(max_examples=150)
@given(seed=SEED, other=SEED)
def test_same_order_on_every_replica(seed: int, other: int) -> None:
    """Whatever the order of arrival and however it was cut: the walk is that of the set of events."""
    world = generate.history(seed)
    found = []
    for rng in (Random(seed), Random(other)):
        txns = generate.causal_order(rng, generate.pieces(rng, world.txns, cut=rng.random()))
        found.append(walk(engine_graph(txns)))
    assert found[0] == found[1] == total_order(world.document.graph)


@pytest.mark.parametrize("seed", range(100))
def test_groups_are_whole_and_causal(seed: int) -> None:
    """From the definitions, not from the oracle's walk."""
    world, txns, _ = arrival(seed)
    parents = dict(zip(world.document.graph.ids, world.document.graph.parents, strict=True))
    emitted: set[Id] = set()
    previous: Group | None = None
    for group in walk(engine_graph(txns)):
        ids = [(group.agent, group.seq + i) for i in range(group.length)]
        assert emitted.isdisjoint(ids)
        assert emitted.issuperset(parents[ids[0]]), "a parent comes later"
        assert all(parents[ident] == (before,) for before, ident in pairwise(ids))
        after, before = (group.agent, group.seq + group.length), (group.agent, group.seq - 1)
        assert parents.get(after) != (ids[-1],), "the group goes on behind its end"
        assert parents[ids[0]] != (before,), "the group begins before its start"
        if previous is not None and emitted.issuperset(parents[ids[0]]):
            # If it could have come before the last group, that one must be the smaller.
            last = {(previous.agent, previous.seq + i) for i in range(previous.length)}
            if last.isdisjoint(parents[ids[0]]):
                assert sort_key(previous) < sort_key(group)
        emitted.update(ids)
        previous = group
    assert emitted == set(parents)


def sort_key(group: Group) -> tuple[int, bytes, int]:
    return group.clock, group.agent.encode(), group.seq


def test_who_returns_late_is_put_where_they_left() -> None:
    """An agent away for long has small clocks: what they did comes early, whole, whenever it arrives."""
    rng = Random(7)
    world = generate.World(rng, 4)
    away, *present = world.agents
    world.edit(away, [(0, 0, "start")])
    for agent in present:
        world.sync(agent, away)
    for _ in range(60):
        world.step(rng.choice(present))
        world.sync(*rng.sample(present, 2))
    while_away = [world.edit(away, [(i, 0, "x")]) for i in range(20)]
    late = [txn for txn in world.txns if txn not in while_away] + while_away
    early = sorted(world.txns, key=lambda txn: txn not in while_away and txn.agent != away)
    engine = engine_graph(late)
    found = walk(engine)
    assert found == walk(engine_graph(early)) == total_order(world.document.graph)
    sizes = [group.length for group in found if group.agent == away]
    assert sum(sizes) == 25
    assert found[0].agent == away
    assert len(sizes) <= 2


def test_groups_arrive_in_parts_but_are_one() -> None:
    """Parts of a group that other events came between are still one group, with several ranges."""
    txns = [
        Txn("a", 0, (), ((0, 0, "ab"),)),
        Txn("b", 0, (), ((0, 0, "x"),)),
        Txn("a", 2, (("a", 1),), ((2, 0, "c"),)),
    ]
    (a, b) = order.groups(engine_graph(txns))
    assert tuple(a) == ("a", 0, 3, 0, ((0, 2), (3, 4)))
    assert tuple(b) == ("b", 0, 1, 0, ((2, 3),))


def test_names_are_compared_as_bytes() -> None:
    names = ["\U0001f600", "～", "é", "a", "Z"]
    graph = engine_graph([Txn(name, 0, (), ((0, 0, "x"),)) for name in names])
    assert [group.agent for group in order.groups(graph)] == sorted(names, key=str.encode)


@pytest.mark.parametrize("seed", range(50))
def test_documents_have_the_same_order(seed: int) -> None:
    world, txns, rng = arrival(seed)
    doc = Document("text", agent="reader")
    for piece in generate.batches(rng, txns):
        doc.receive(runs(piece))
    assert [tuple(group) for group in doc.groups()] == [
        tuple(group) for group in total_order(world.document.graph)
    ]


def test_an_empty_graph_has_no_groups() -> None:
    assert list(order.groups(Graph())) == []
    graph = engine_graph([Txn("a", 0, (), ((0, 0, "abc"),))])
    assert walk(graph, []) == []
    assert walk(graph, [("a", 1)]) == [Group("a", 0, 2, 0)]
    with pytest.raises(VersionError):
        order.Order(graph).ranges(1)
