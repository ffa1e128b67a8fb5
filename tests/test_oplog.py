"""The operation log: what it stores, how it joins runs, and what it refuses."""

from random import Random

import generate
import pytest

import egwalker
from egwalker.cycore.oplog import Content, OpLog


def filled(*ops: tuple[int, int, Content]) -> OpLog:
    log = OpLog()
    log.add("a", 0, [], ops)
    log._check()
    return log


@pytest.mark.parametrize(
    ("ops", "kind", "pos", "length", "step", "content"),
    [
        ([(3, 0, "a"), (4, 0, "b"), (5, 0, "cd")], "insert", 3, 4, 1, "abcd"),
        ([(3, 0, "a"), (3, 0, "b"), (3, 0, "c")], "insert", 3, 3, 0, "abc"),
        ([(3, 1, ""), (3, 2, "")], "delete", 3, 3, 0, ""),
        ([(3, 1, ""), (2, 1, ""), (1, 1, "")], "delete", 3, 3, -1, ""),
        ([(0, 0, "字"), (1, 0, "a"), (2, 0, "é")], "insert", 0, 3, 1, "字aé"),
    ],
)
def test_runs_in_each_direction_are_one_row(
    ops: list[tuple[int, int, str]], kind: str, pos: int, length: int, step: int, content: str
) -> None:
    log = filled(*ops)
    assert list(log.ops()) == [(0, kind, pos, length, step, content)]
    for start in range(length):
        for end in range(start + 1, length + 1):
            (part,) = log.ops(start, end)
            assert part.pos == pos + step * start
            assert part.content == content[start:end]
            # What is read back says the same, event by event.
            again = filled(*log.edits(start, end))
            assert again.edits(0, end - start) == log.edits(start, end)


def test_what_does_not_go_on_is_a_row_of_its_own() -> None:
    log = filled((0, 0, "ab"), (1, 0, "c"), (3, 2, ""), (2, 1, ""), (0, 1, ""))
    assert [(op.kind, op.pos, op.length) for op in log.ops()] == [
        ("insert", 0, 2),
        ("insert", 1, 1),
        ("delete", 3, 2),
        ("delete", 2, 1),
        ("delete", 0, 1),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_logs_merge_in_any_order_and_keep_every_operation(seed: int) -> None:
    rng = Random(seed)
    world = generate.history(seed)
    whole, pieced, merged = OpLog(), OpLog(), OpLog()
    for txn in world.txns:
        whole.add(*txn[:4])
    for txn in generate.causal_order(rng, generate.pieces(rng, world.txns, 0.5)):
        pieced.add(*txn[:4])
        read = len(merged)
        if rng.random() < 0.3:
            merged.merge(pieced)
            assert len(merged) == len(pieced) >= read
            merged._check()
    merged.merge(pieced)
    for log in (whole, pieced, merged, merged.copy()):
        log._check()
        assert len(log) == len(whole)
    for run in whole.graph.runs():
        for offset in range(run.end - run.start):
            lv = merged.graph.lv(run.agent, run.seq + offset)
            assert merged.edits(lv, lv + 1) == whole.edits(run.start + offset, run.start + offset + 1)
            assert {merged.graph.id(p) for p in merged.graph.parents(lv)} == {
                whole.graph.id(p) for p in whole.graph.parents(run.start + offset)
            }
    assert merged.merge(whole) == whole.merge(merged) == 0


@pytest.mark.parametrize("seed", range(20))
def test_truncating_is_as_if_nothing_had_come(seed: int) -> None:
    world = generate.history(seed)
    log = OpLog()
    states = []
    for txn in world.txns:
        states.append(
            (len(log), log.graph.version_vector(), log.graph.frontier, log.graph.critical(), list(log.ops()))
        )
        log.add(*txn[:4])
    for length, vector, frontier, critical, ops in reversed(states):
        log.truncate(length)
        log._check()
        assert (log.graph.version_vector(), log.graph.frontier) == (vector, frontier)
        assert (log.graph.critical(), list(log.ops())) == (critical, ops)
    for txn in world.txns:
        log.add(*txn[:4])
    log._check()


def known() -> OpLog:
    log = OpLog()
    log.add("a", 0, [], [(0, 0, "hello")])
    log.add("b", 0, [("a", 1)], [(1, 2, ""), (0, 0, "字")])
    return log


@pytest.mark.parametrize(
    ("run", "what"),
    [
        (("a", 0, [], [(0, 0, "help!")]), "a:3 is held already, with another operation"),
        (("a", 3, [("a", 2)], [(3, 0, "la!")]), "a:4 is held already, with another operation"),
        (("a", 2, [("a", 0)], [(2, 0, "l")]), "a:2 is held already, with other parents"),
        (("b", 0, [("a", 1)], [(1, 1, ""), (0, 1, "")]), "b:1 is held already, with another operation"),
        (("b", 0, [("a", 1), ("a", 4)], [(1, 2, "")]), "b:0 is held already, with other parents"),
        (("b", 2, [("b", 1)], [(0, 0, "x")]), "b:2 is held already, with another operation"),
    ],
)
def test_another_event_under_a_known_id_is_refused(run: tuple, what: str) -> None:  # type: ignore[type-arg]
    log = known()
    before = (list(log.graph.runs()), list(log.ops()))
    with pytest.raises(egwalker.ConflictError, match=what):
        log.add(*run)
    log._check()
    assert (list(log.graph.runs()), list(log.ops())) == before


def test_a_conflict_in_a_merge_adds_nothing() -> None:
    ours, theirs = known(), OpLog()
    theirs.add("c", 0, [], [(0, 0, "new")])
    theirs.add("a", 0, [], [(0, 0, "jello")])
    before = (list(ours.graph.runs()), list(ours.ops()))
    with pytest.raises(egwalker.ConflictError, match="a:0"):
        ours.merge(theirs)
    ours._check()
    assert (list(ours.graph.runs()), list(ours.ops())) == before


@pytest.mark.parametrize(
    ("run", "error", "what"),
    [
        (("c", 0, [("x", 0)], [(0, 0, "x")]), egwalker.VersionError, "x:0 is not held"),
        (("c", 0, [("a", 5)], [(0, 0, "x")]), egwalker.VersionError, "a:5 is not held"),
        (("", 0, [], [(0, 0, "x")]), egwalker.AgentError, "1 to 255 bytes"),
        (("\ud800", 0, [], [(0, 0, "x")]), egwalker.AgentError, "lone surrogate"),
        (("é" * 128, 0, [], [(0, 0, "x")]), egwalker.AgentError, "256"),
        (("c", -1, [], [(0, 0, "x")]), egwalker.AgentError, "sequence numbers"),
        (("c", 1 << 53, [], [(0, 0, "x")]), egwalker.AgentError, "sequence numbers"),
        (("c", 1 << 80, [], [(0, 0, "x")]), egwalker.AgentError, "sequence numbers"),
        (("c", 0, [], [(0, 0, "a\ud800b")]), egwalker.ContentError, "U\\+D800 at code point 1"),
        (("c", 0, [], [(0, 0, b"x")]), egwalker.ContentError, "bytes"),
        (("c", 0, [], [(0, 0, ["x"])]), egwalker.ContentError, "list"),
        (("c", 0, [], [("0", 0, "x")]), egwalker.DecodeError, "position"),
        (("c", 0, [], [(0, 1.5, "x")]), egwalker.DecodeError, "position"),
        (("c", 0, [], [(-1, 0, "x")]), egwalker.LimitError, "-1"),
        (("c", 0, [], [(0, 1 << 31, "")]), egwalker.LimitError, "2147483648"),
        (("c", 0, [], [(1 << 80, 0, "x")]), egwalker.LimitError, "position"),
    ],
)
def test_bad_runs_are_refused_and_change_nothing(run: tuple, error: type[Exception], what: str) -> None:  # type: ignore[type-arg]
    log = known()
    before = (list(log.graph.runs()), list(log.ops()), log.graph.version_vector())
    with pytest.raises(error, match=what):
        log.add(*run)
    log._check()
    assert (list(log.graph.runs()), list(log.ops()), log.graph.version_vector()) == before


def test_events_of_one_agent_in_any_order_with_gaps() -> None:
    log = OpLog()
    log.add("a", 5, [], [(0, 0, "fg")])
    assert log.graph.version_vector() == {"a": [(5, 7)]}
    log.add("a", 0, [], [(0, 0, "ab")])
    log.add("a", 9, [("a", 1)], [(0, 0, "j")])
    assert log.graph.version_vector() == {"a": [(0, 2), (5, 7), (9, 10)]}
    # What fills the gap may go over what is known on both sides.
    assert log.add("a", 1, [("a", 0)], [(1, 0, "bcde")]) == 3
    assert log.graph.version_vector() == {"a": [(0, 7), (9, 10)]}
    assert log.graph.next_seq("a") == 10
    log._check()


def test_adding_known_events_again_is_nothing_new() -> None:
    log = known()
    before = (list(log.graph.runs()), list(log.ops()))
    assert log.add("a", 1, [("a", 0)], [(1, 0, "ell")]) == 0
    assert log.add("b", 0, [("a", 1)], [(1, 2, ""), (0, 0, "字")]) == 0
    assert log.add("a", 3, [("a", 2)], [(3, 0, "lo")]) == 0
    assert (list(log.graph.runs()), list(log.ops())) == before
    assert log.add("a", 3, [("a", 2)], [(3, 0, "lo!"), (0, 0, "new")]) == 4  # known, and goes on from there
    log._check()


def test_lists_hold_json_texts() -> None:
    log = OpLog(values=True)
    log.add("a", 0, [], [(0, 0, ["1", '"x"', "[2]"]), (1, 1, [])])
    assert log.edits(0, 4) == [(0, 0, ["1", '"x"', "[2]"]), (1, 1, [])]
    other = OpLog(values=True)
    other.add("b", 0, [], [(0, 0, [str(n) for n in range(300)])])
    other.merge(log)
    other._check()
    assert other.edits(300, 303) == [(0, 0, ["1", '"x"', "[2]"])]
    with pytest.raises(egwalker.ConflictError):
        other.add("a", 0, [], [(0, 0, ["1", '"y"'])])
    with pytest.raises(egwalker.ContentError):
        other.add("a", 9, [], [(0, 0, [1])])  # type: ignore[list-item]
    with pytest.raises(egwalker.ContentError):
        other.merge(OpLog())
