"""Documents that are lists of JSON values."""

from __future__ import annotations

from random import Random
from typing import Any

import generate
import pytest

from egwalker import Change, ContentError, Document, Edit, PositionError, Run

EVERYTHING = [
    None,
    True,
    False,
    0,
    -1,
    2**70,
    1.5,
    -0.0,
    1e300,
    "",
    'quo"te\\ \n\x00',
    "\N{GRINNING FACE}é",
    [],
    {},
    [1, [2, [3]]],
    {"a": {"b": [None, {"c": ""}]}, "": 0},
]


def test_any_json_value() -> None:
    doc = Document("list", agent="alice")
    doc.insert(0, EVERYTHING)
    assert doc.content == EVERYTHING
    assert [type(value) for value in doc.content] == [type(value) for value in EVERYTHING]
    assert str(doc.content[7]) == "-0.0"
    assert len(doc) == len(EVERYTHING)
    assert doc.slice(12, 14) == [[], {}]
    assert str(doc) == str(EVERYTHING)
    doc._check()


def test_positions_count_values() -> None:
    doc = Document("list")
    doc.insert(0, ["aaa", "bbb", "ccc"])
    doc.delete(1)
    doc.insert(1, [[1, 2, 3]])
    assert doc.content == ["aaa", [1, 2, 3], "ccc"]
    with pytest.raises(PositionError):
        doc.delete(2, 2)


def test_nobody_else_can_change_it() -> None:
    doc = Document("list")
    value = {"a": [1]}
    doc.insert(0, [value])
    value["a"].append(2)
    doc.content[0]["a"].append(3)
    doc.content.clear()
    assert doc.content == [{"a": [1]}]


def test_tuples_give_their_elements() -> None:
    doc = Document("list")
    doc.insert(0, (1, 2))
    assert doc.content == [1, 2]


def test_merge_and_exchange() -> None:
    alice = Document("list", agent="alice")
    alice.insert(0, [1, 2, 3])
    bob = alice.fork("bob")
    alice.insert(3, [{"from": "alice"}])
    bob.delete(0)
    bob.insert(0, ["bob"])
    assert bob.merge(alice) == Change(
        (Edit(3, 0, [{"from": "alice"}]),), (("bob", 1),), (("alice", 3), ("bob", 1)), local=False
    )
    alice.receive(bob.history(alice.version_vector))
    assert alice.content == bob.content == ["bob", 2, 3, {"from": "alice"}]
    assert alice.history({"alice": [(0, 3)], "bob": [(0, 1)]}) == [
        Run("alice", 3, (("alice", 2),), ((3, 0, [{"from": "alice"}]),)),
        Run("bob", 1, (("bob", 0),), ((0, 0, ["bob"]),)),
    ]
    assert alice.checkout([("alice", 1)]) == [1, 2]
    assert alice.branch([("alice", 2)]).content == [1, 2, 3]


def test_deletes_have_an_empty_list() -> None:
    doc = Document("list", agent="alice")
    seen: list[Change] = []
    doc.subscribe(seen.append)
    doc.insert(0, [1, 2])
    doc.delete(0, 2)
    assert seen[1].edits == (Edit(0, 2, []),)
    assert doc.history()[0].ops == ((0, 0, [1, 2]), (0, 2, []))


@pytest.mark.parametrize("seed", range(10))
def test_random_histories(seed: int) -> None:
    rng = Random(seed)
    world = generate.World(rng, 4, values=True).run(40)
    doc = Document("list")
    for batch in generate.batches(rng, generate.causal_order(rng, generate.pieces(rng, world.txns))):
        doc.receive([Run(*txn) for txn in batch])
    assert doc.content == world.document.content()
    doc._check()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "float"),
        (float("inf"), "float"),
        ({"a": [float("-inf")]}, "float"),
        ((1, 2), "would come back as"),
        ([(1,)], "would come back as"),
        ({1: 2}, "would come back as"),
        ({(1, 2): 3}, "keys"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (object(), "object"),
        ("\ud800", r"U\+D800"),
        ({"\udfff": 1}, r"U\+DFFF"),
        ([["\udc80"]], r"U\+DC80"),
    ],
)
def test_no_json_value(value: Any, why: str) -> None:
    doc = Document("list", agent="alice")
    doc.insert(0, [0])
    with pytest.raises(ContentError, match=rf"element 1 is not a JSON value: .*{why}"):
        doc.insert(1, ["fine", value])
    with pytest.raises(ContentError, match=why):
        doc.receive([Run("bob", 0, (), ((0, 0, ["fine", value]),))])
    assert doc.content == [0]
    assert doc.version == (("alice", 0),)
    doc._check()


@pytest.mark.parametrize("content", ["text", b"bytes", 5, None, {"a": 1}, {1}])
def test_no_list(content: Any) -> None:
    with pytest.raises(ContentError, match=type(content).__name__):
        Document("list").insert(0, content)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_nesting_is_bounded() -> None:
    doc = Document("list")
    doc.insert(0, [nested(200), [[]] * 500, {"a": "[" * 500}])
    for depth in (201, 990, 100_000):
        with pytest.raises(ContentError, match=r"nested|recursion"):
            doc.insert(0, [nested(depth)])
    # Readers that are deep in calls of their own can still read it.
    below(700, lambda: doc.content)


def below(calls: int, function: Any) -> Any:
    return below(calls - 1, function) if calls else function()


def test_a_cycle() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ContentError):
        Document("list").insert(0, [value])
