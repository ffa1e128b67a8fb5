"""The oracle itself: against hand-made cases and against histories whose end others have computed."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import conformance
import generate
import oracle
import pytest
from conftest import FIXTURES
from oracle import Graph, Group, Node, Sequence, Txn, total_order


def insert(agent: str, seq: int, pos: int, text: str, *parents: oracle.Id) -> Txn:
    return Txn(agent, seq, tuple(sorted(parents)), ((pos, 0, text),))


class PlainFugue(Sequence):
    """Fugue without the Max: right-side siblings by id alone. Some conformance histories end otherwise."""

    def _add_right(self, node: Node, parent: Node) -> None:
        node.right_origin = None
        super()._add_right(node, parent)


# --- FugueMax -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [("reference", 499), ("rand3", 600), ("typing5", 400), ("long8", 8)],
)
def test_conformance_histories_end_as_they_should(conformance_folder: Path, name: str, count: int) -> None:
    histories = conformance.load(conformance_folder / f"{name}.json.gz")
    assert len(histories) == count
    wrong = [
        number
        for number, history in enumerate(histories)
        if oracle.replay(oracle.read_history(history)).content() != history["endContent"]
    ]
    assert wrong == []


def test_fixtures_end_as_they_should() -> None:
    for path in sorted(FIXTURES.glob("*.json")):
        for history in conformance.load(path):
            assert oracle.replay(oracle.read_history(history)).content() == history["endContent"]


def test_fixtures_tell_fuguemax_from_fugue() -> None:
    different = 0
    for path in sorted(FIXTURES.glob("*.json")):
        for history in conformance.load(path):
            plain = PlainFugue()
            plain.receive(oracle.read_history(history))
            different += plain.content() != history["endContent"]
    assert different >= 20


def test_walkthrough_of_the_seed() -> None:
    document = oracle.replay([insert("a", 0, 0, "1"), insert("b", 0, 0, "23")])
    assert document.content() == "123"


def test_right_siblings_go_in_reverse_order_of_their_right_origins() -> None:
    # a, b and c stand side by side. d knows a and b, e knows a and c; both insert behind a.
    # By id alone d would be first.
    txns = [insert(agent, 0, 0, agent.upper()) for agent in "abc"]
    txns += [insert("d", 0, 1, "d", ("a", 0), ("b", 0)), insert("e", 0, 1, "e", ("a", 0), ("c", 0))]
    assert oracle.replay(txns).content() == "AedBC"
    plain = PlainFugue()
    plain.receive(txns)
    assert plain.content() == "AdeBC"


def test_no_right_origin_sorts_behind_all_others() -> None:
    txns = [insert("a", 0, 0, "A"), insert("b", 0, 0, "B")]
    txns += [insert("c", 0, 1, "c", ("a", 0), ("b", 0)), insert("d", 0, 1, "d", ("a", 0))]
    assert oracle.replay(txns).content() == "AdcB"


def test_a_tombstone_is_a_right_origin() -> None:
    # b deletes X and inserts Y in its place: left of the tombstone, so left of what c inserts right of X.
    txns = [
        insert("a", 0, 0, "AXZ"),
        Txn("b", 0, (("a", 2),), ((1, 1, "Y"),)),
        insert("c", 0, 2, "c", ("a", 2)),
    ]
    document = oracle.replay(txns)
    assert document.content() == "AYcZ"
    y, x = [node for node in document.order if node.value in ("X", "Y")]
    assert (y.value, y.right_origin) == ("Y", x)
    assert x.deleted


def test_ties_go_by_the_bytes_of_names_then_by_seq() -> None:
    # U+FF5E sorts before U+1F600 in UTF-8, after it in UTF-16.
    names = ["Z", "a", "é", "～", "\U0001f600"]
    txns = [insert(name, 0, 0, name) for name in reversed(names)]
    assert oracle.replay(txns).content() == "".join(names)
    # One agent on two branches at once, the higher seqs first. As text, 10 would sort before 9.
    assert oracle.replay([insert("a", 10, 0, "y"), insert("a", 9, 0, "x")]).content() == "xy"


def test_two_deletes_of_one_element_delete_it_once() -> None:
    txns = [insert("a", 0, 0, "abc")]
    txns += [Txn("a", 3, (("a", 2),), ((1, 1, ""),)), Txn("b", 0, (("a", 2),), ((0, 2, ""),))]
    assert oracle.replay(txns).content() == "c"


def test_positions_out_of_range_are_noticed() -> None:
    document = oracle.replay([insert("a", 0, 0, "abc")])
    for op in [(4, 0, "x"), (3, 1, "")]:
        with pytest.raises(IndexError):
            document.receive([Txn("b", 0, (("a", 2),), (op,))])


@pytest.mark.parametrize("seed", range(150))
def test_order_of_arrival_changes_nothing(seed: int) -> None:
    rng = Random(seed)
    world = generate.history(seed)
    document = oracle.replay(generate.causal_order(rng, generate.pieces(rng, world.txns)))
    assert document.order == document.traverse()
    assert [node.id for node in document.order] == [node.id for node in world.document.order]
    assert document.graph.frontier == world.document.graph.frontier
    assert document.graph.version_vector() == world.document.graph.version_vector()
    assert set(document.graph.critical()) == set(world.document.graph.critical())
    assert document.graph.clocks() == world.document.graph.clocks()
    assert total_order(document.graph) == total_order(world.document.graph)


@pytest.mark.parametrize("seed", range(50))
def test_a_past_version_is_what_its_events_alone_give(seed: int) -> None:
    rng = Random(seed)
    world = generate.history(seed)
    graph = world.document.graph
    singles = [piece for txn in world.txns for piece in singly(txn)]
    version, known = generate.random_version(rng, graph, graph.everything)
    part = oracle.replay([txn for txn in singles if known >> graph.index[txn.agent, txn.seq] & 1])
    assert part.graph.frontier == version
    assert part.content() == world.document.content(known)


def singly(txn: Txn) -> list[Txn]:
    """A run as runs of one event each."""
    found = []
    while txn.length > 1:
        head, txn = generate.split(txn, 1)
        found.append(head)
    return [*found, txn]


# --- the graph ----------------------------------------------------------------------------------------------


@pytest.fixture
def diamond() -> Graph:
    """a0 - a1 - (b0 | c0 - c1) - a2 - a5, with a gap in a's seqs."""
    graph = Graph()
    graph.add(("a", 0), [])
    graph.add(("a", 1), [("a", 0)])
    graph.add(("b", 0), [("a", 1)])
    graph.add(("c", 0), [("a", 1)])
    graph.add(("c", 1), [("c", 0)])
    graph.add(("a", 2), [("c", 1), ("b", 0)])
    graph.add(("a", 5), [("a", 2)])
    return graph


def test_frontier_and_version_vector(diamond: Graph) -> None:
    assert diamond.frontier == (("a", 5),)
    assert diamond.version_vector() == {"a": [(0, 3), (5, 6)], "b": [(0, 1)], "c": [(0, 2)]}
    known = diamond.before([("b", 0), ("c", 0)])
    assert diamond.version(known) == (("b", 0), ("c", 0))
    assert diamond.version_vector(known) == {"a": [(0, 2)], "b": [(0, 1)], "c": [(0, 1)]}
    assert diamond.version(0) == ()
    assert diamond.version_vector(0) == {}


def test_relations(diamond: Graph) -> None:
    assert diamond.contains([("c", 1)], ("a", 0))
    assert not diamond.contains([("c", 1)], ("b", 0))
    assert diamond.dominators([("a", 0), ("b", 0), ("c", 0), ("c", 1), ("c", 1)]) == (("b", 0), ("c", 1))
    assert diamond.critical() == [("a", 0), ("a", 1), ("a", 2), ("a", 5)]
    assert diamond.critical(diamond.before([("c", 0)])) == [("a", 0), ("a", 1), ("c", 0)]
    assert [diamond.clock(ident) for ident in diamond.ids] == [0, 1, 2, 2, 3, 4, 5]
    diff = diamond.diff([("b", 0)], [("c", 1)])
    assert diff.a_only == {("b", 0)}
    assert diff.b_only == {("c", 0), ("c", 1)}
    assert diff.both == {("a", 0), ("a", 1)}


def test_known_events_and_unknown_parents_are_refused(diamond: Graph) -> None:
    with pytest.raises(ValueError, match="known already"):
        diamond.add(("a", 0), [])
    with pytest.raises(KeyError):
        diamond.add(("z", 1), [("z", 0)])


# --- the total order ----------------------------------------------------------------------------------------


def test_groups(diamond: Graph) -> None:
    # b0 and c0 have one clock, so the name decides; a2 has two parents and a5 does not follow a2 in seq.
    expected = [Group("a", 0, 2, 0), Group("b", 0, 1, 2), Group("c", 0, 2, 2)]
    expected += [Group("a", 2, 1, 4), Group("a", 5, 1, 5)]
    assert total_order(diamond) == expected
    assert total_order(diamond, [("a", 0)], [("c", 0), ("b", 0)]) == [
        Group("a", 1, 1, 1),
        Group("b", 0, 1, 2),
        Group("c", 0, 1, 2),
    ]


def test_a_group_is_emitted_whole_although_others_have_smaller_clocks() -> None:
    graph = Graph()
    for seq in range(5):
        graph.add(("a", seq), [("a", seq - 1)] if seq else [])
    graph.add(("b", 0), [("a", 1)])
    assert total_order(graph) == [Group("a", 0, 5, 0), Group("b", 0, 1, 2)]


# --- the generator and delivery -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_pieces_are_the_same_events(seed: int) -> None:
    world = generate.history(seed)
    cut = generate.pieces(Random(seed), world.txns, cut=0.7)
    assert [e for txn in cut for e in oracle.events(txn)] == [
        e for txn in world.txns for e in oracle.events(txn)
    ]
    assert len(cut) > len(world.txns)


def test_splitting_between_a_delete_and_the_insert_after_it() -> None:
    txn = Txn("a", 7, (("b", 1),), ((3, 2, "xyz"), (0, 1, "")))
    assert generate.split(txn, 2) == (
        Txn("a", 7, (("b", 1),), ((3, 2, ""),)),
        Txn("a", 9, (("a", 8),), ((3, 0, "xyz"), (0, 1, ""))),
    )
    assert generate.split(txn, 4)[1].ops == ((5, 0, "z"), (0, 1, ""))


def test_histories_can_be_written_and_read() -> None:
    for seed in range(20):
        world = generate.history(seed)
        assert oracle.read_history(oracle.write_history(world.txns, world.document.content())) == world.txns


def test_histories_have_what_they_are_for() -> None:
    """Concurrency, several agents, deletes, gaps in seqs, agents on two branches at once."""
    worlds = [generate.history(seed) for seed in range(100)]
    assert {len(world.agents) for world in worlds} == {2, 3, 4, 5, 6}
    graphs = [world.document.graph for world in worlds]
    assert sum(len(graph.frontier) > 1 for graph in graphs) > 50
    assert sum(0 < len(graph.critical()) < len(graph) for graph in graphs) > 20
    assert sum(any(len(spans) > 1 for spans in graph.version_vector().values()) for graph in graphs) > 10
    assert sum(not goes_forward(world) for world in worlds) > 10
    events = [event for world in worlds for txn in world.txns for event in oracle.events(txn)]
    assert sum(event.value is oracle.DELETED for event in events) > len(events) / 5


def goes_forward(world: generate.World) -> bool:
    """Whether each event comes after all those of its agent with smaller seqs."""
    graph = world.document.graph
    ids = sorted(graph.ids)
    pairs = [(one, other) for one, other in itertools.pairwise(ids) if one[0] == other[0]]
    return all(graph.contains([other], one) for one, other in pairs)
