"""The transforming walk: what it emits, what it costs, and what it refuses."""

from collections.abc import Iterator
from random import Random

import generate
import oracle
import pytest

import egwalker
from egwalker.cycore import walker
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.oplog import OpLog
from egwalker.cycore.walker import moves, walk


@pytest.fixture
def small_nodes() -> Iterator[None]:
    """Span trees of several levels for texts of a few words."""
    walker._node_sizes(4, 4)
    yield
    walker._node_sizes()


def apply(text: str, edits: list[tuple[int, int, str]]) -> str:
    for pos, deleted, inserted in edits:
        assert pos + deleted <= len(text)
        text = text[:pos] + inserted + text[pos + deleted :]
    return text


@pytest.mark.usefixtures("small_nodes")
@pytest.mark.parametrize("seed", range(150))
def test_partial_replays_give_what_the_oracle_has_at_every_version(seed: int) -> None:
    rng = Random(seed)
    world = generate.history(seed)
    log, checkout, text = OpLog(), None, ""
    checkout = Checkout(log)
    naive = oracle.Sequence()
    for txn in generate.causal_order(rng, generate.pieces(rng, world.txns, 0.5)):
        log.add(*txn[:4])
        naive.receive([txn])
        if rng.random() < 0.4:
            text = apply(text, checkout.merge(edits=True))  # type: ignore[arg-type]
            checkout._check()
            assert text == checkout.content() == naive.content()
        if rng.random() < 0.2:
            # From any version to that version merged with any other.
            a, b = ([rng.randrange(len(log)) for _ in range(rng.choice((1, 1, 2)))] for _ in range(2))
            other = Checkout(log)
            other.merge(a)
            before = other.content()
            edits = other.merge(b, edits=True)
            other._check()
            known = naive.graph.before([log.graph.id(lv) for lv in (*a, *b)])
            assert apply(before, edits) == other.content() == naive.content(known)  # type: ignore[arg-type]
            assert other.version == log.graph.dominators([*a, *b])


def test_sequential_events_are_applied_as_they_are() -> None:
    log = OpLog()
    log.add("a", 0, [], [(0, 0, "hello"), (2, 2, ""), (0, 0, "x"), (0, 0, "y"), (4, 1, ""), (3, 1, "")])
    log.add("b", 0, [("a", 10)], [(1, 0, "!")])
    assert moves(log)["windows"] == 0
    assert walk(log, [], log.graph.frontier) == [(0, 12, [], [], True)]
    checkout = Checkout(log)
    checkout.merge()
    assert checkout.content() == "y!xh"


def test_merging_costs_by_what_is_concurrent_and_not_by_the_history() -> None:
    log = OpLog()
    for seq in range(0, 5000, 2):  # no two of these join
        log.add("a", seq, [("a", seq - 1)] if seq else [], [(0, 0, "xy")])
    checkout = Checkout(log)
    checkout.merge()
    log.add("b", 0, [("a", 4998)], [(4, 0, "!")])
    # Only the last event is concurrent with b's: it is all that is walked again.
    assert walk(log, checkout.version, log.graph.frontier) == [
        (4999, 5000, [], [], False),
        (5000, 5001, [(4999, 5000)], [], True),
    ]
    assert checkout.merge(edits=True) == [(5, 0, "!")]


def test_without_a_critical_version_only_the_concurrent_part_is_walked() -> None:
    # Two lines of work that never are one head, so that no event of theirs is critical; then a merge of both.
    log = OpLog()
    for seq in range(100):
        for agent in "ab":
            log.add(agent, seq, [(agent, seq - 1)] if seq else [], [(0, 0, agent)])
    log.add("a", 100, [("a", 99), ("b", 99)], [(0, 0, "+")])
    checkout = Checkout(log)
    checkout.merge()
    log.add("b", 100, [("a", 99), ("b", 99)], [(200, 0, "-")])
    steps = walk(log, checkout.version, log.graph.frontier)
    assert sum(step.end - step.start for step in steps) == 2
    assert checkout.merge(edits=True) == [(201, 0, "-")]


def test_short_branches_are_walked_first() -> None:
    log = OpLog()
    log.add("a", 0, [], [(0, 0, "base")])
    for agent, count in (("long", 50), ("short", 1), ("middle", 10)):
        log.add(agent, 0, [("a", 3)], [(i % 4, 0, "x") for i in range(0, 3 * count, 3)])
    log.add(
        "a",
        4,
        [(agent, count - 1) for agent, count in (("long", 50), ("short", 1), ("middle", 10))],
        [(0, 1, "")],
    )
    order = [log.graph.id(step.start)[0] for step in walk(log, [], log.graph.frontier)]
    assert order == ["a", "short", "middle", "long", "a"]


@pytest.mark.parametrize(
    ("ops", "position"),
    [
        ([(4, 0, "x")], 4),
        ([(2, 2, "")], 3),
        ([(3, 1, "")], 3),
        ([(0, 0, "ab"), (7, 0, "x")], 7),
        ([(0, 3, ""), (0, 1, "")], 3),
    ],
)
@pytest.mark.parametrize("parents", [[("a", 2)], [("a", 2), ("b", 0)], [("a", 1), ("b", 0)]])
def test_a_position_that_its_version_lacks_is_refused(
    ops: list[tuple[int, int, str]], position: int, parents: list[tuple[str, int]]
) -> None:
    del position
    log = OpLog()
    log.add("a", 0, [], [(0, 0, "abc")])
    log.add("b", 0, [("a", 0)], [(0, 1, "")])
    checkout = Checkout(log)
    checkout.merge()
    before, version = checkout.content(), checkout.version
    log.add("c", 0, parents, [(0, 0, "fine"), (0, 4, ""), *ops, (9, 0, "!")])
    with pytest.raises(egwalker.PositionError, match="event c:"):
        checkout.merge()
    assert (checkout.content(), checkout.version) == (before, version)
    log.truncate(4)
    checkout._check()


def test_local_edits_are_refused_outside_and_change_nothing() -> None:
    log = OpLog()
    checkout = Checkout(log)
    checkout.insert("a", 0, "héllo")
    for pos in (6, -1, 1 << 70):
        with pytest.raises(egwalker.PositionError):
            checkout.insert("a", pos, "x")
    for pos, length in ((0, 6), (5, 1), (-1, 1), (0, -1), (1 << 70, 1)):
        with pytest.raises(egwalker.PositionError):
            checkout.delete("a", pos, length)
    with pytest.raises(egwalker.ContentError):
        checkout.insert("a", 0, "\ud800")
    with pytest.raises(egwalker.AgentError):
        checkout.insert("", 0, "x")
    with pytest.raises(egwalker.AgentError):
        checkout.delete("\ud800", 0, 1)
    assert (len(log), checkout.content(), checkout.version) == (5, "héllo", (4,))
    log._check()
    checkout._check()


def test_a_version_that_is_not_held_is_refused() -> None:
    log = OpLog()
    log.add("a", 0, [], [(0, 0, "abc")])
    checkout = Checkout(log)
    for version in ([3], [-1], [1 << 70]):
        with pytest.raises(egwalker.VersionError):
            checkout.merge(version)
    assert checkout.content() == ""


@pytest.mark.parametrize("pieces", [3, 70, 300, 700])
def test_windows_of_every_size_take_the_same_way(pieces: int) -> None:
    """Small windows compare versions as sets of bits, large ones weigh branches and search the graph."""
    rng = Random(pieces)
    log, naive = OpLog(), oracle.Sequence()
    txns, heads = [], {agent: [] for agent in "abc"}  # type: ignore[var-annotated]
    seqs = dict.fromkeys(heads, 0)
    for _ in range(pieces):
        agent = rng.choice("abc")
        if rng.random() < 0.2:
            heads[agent] = list({*heads[agent], *heads[rng.choice("abc")]})
        graph = naive.graph
        parents = graph.dominators(heads[agent]) if heads[agent] else ()
        size = naive.size(graph.before(parents))
        op = (
            (rng.randrange(size), 1, "")
            if size and rng.random() < 0.3
            else (rng.randint(0, size), 0, rng.choice("xyz"))
        )
        txn = oracle.Txn(agent, seqs[agent], tuple(parents), (op,))
        naive.receive([txn])
        txns.append(txn)
        heads[agent] = [(agent, seqs[agent])]
        seqs[agent] += 1
    for txn in txns:
        log.add(*txn[:4])
    checkout = Checkout(log)
    checkout.merge()
    checkout._check()
    assert checkout.content() == naive.content()
