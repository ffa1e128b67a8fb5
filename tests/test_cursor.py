"""Cursors follow the elements around them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from random import Random

import pytest

from egwalker import Document, EgwalkerError, PositionError


def document(text: str) -> Document:
    doc = Document(agent="alice")
    doc.insert(0, text)
    return doc


def test_typing() -> None:
    doc = document("")
    cursor = doc.cursor()
    for letter in "word":
        cursor.insert(letter)
    cursor.backspace(2)
    cursor.insert("a")
    cursor.move(0)
    cursor.delete()
    assert doc.content == "oa"
    assert cursor.position == 0


def test_own_text_goes_in_front_of_it_and_others_behind() -> None:
    doc = document("ab")
    cursor = doc.cursor(1)
    doc.insert(1, "X")
    assert cursor.position == 1
    cursor.insert("YZ")
    assert cursor.position == 3
    assert doc.content == "aYZXb"


def test_two_cursors_at_one_place() -> None:
    doc = document("ab")
    one, two = doc.cursor(1), doc.cursor(1)
    one.insert("1")
    assert (one.position, two.position) == (2, 1)
    two.insert("2")
    assert doc.content == "a21b"
    assert (one.position, two.position) == (3, 2)


@pytest.mark.parametrize(
    ("pos", "length", "wanted"), [(0, 2, 3), (0, 5, 0), (3, 2, 3), (3, 4, 3), (4, 1, 4), (5, 1, 5), (6, 2, 5)]
)
def test_deletions_around_it(pos: int, length: int, wanted: int) -> None:
    doc = document("0123456789")
    cursor = doc.cursor(5)
    doc.delete(pos, length)
    assert cursor.position == wanted


def test_it_follows_merges_and_branches() -> None:
    alice = document("hello world")
    bob = alice.fork("bob")
    cursor = alice.cursor(6)
    bob.insert(0, ">> ")
    bob.delete(13)
    alice.merge(bob)
    assert alice.slice(cursor.position, len(alice)) == "worl"
    alice.branch([("alice", 10)]).insert(0, "!")
    assert alice.slice(cursor.position, len(alice)) == "worl"


def test_random_edits_keep_it_between_its_neighbours() -> None:
    rng = Random(5)
    for _ in range(200):
        doc = document("abc<>def")
        cursor = doc.cursor(4)
        for _ in range(10):
            at = rng.randint(0, len(doc))
            if rng.random() < 0.5:
                doc.insert(at, "xyz"[: rng.randint(1, 3)])
            elif at < len(doc) and doc.slice(at, at + 1) not in "<>":
                doc.delete(at)
            # What others insert at the cursor goes behind it, so that its neighbour in front never changes.
            assert doc.content[cursor.position - 1] == "<"


def test_a_list_has_cursors_too() -> None:
    doc = Document("list")
    cursor = doc.cursor()
    cursor.insert([1, {"a": 2}])
    assert cursor.position == 2
    doc.insert(0, [0])
    cursor.backspace()
    assert doc.content == [0, 1]


def test_nothing_beyond_the_document() -> None:
    doc = document("abc")
    with pytest.raises(PositionError, match="4"):
        doc.cursor(4)
    cursor = doc.cursor(1)
    for place in (-1, 4):
        with pytest.raises(PositionError, match=str(place)):
            cursor.move(place)
    for count in (2, -1):
        with pytest.raises(PositionError, match="there are 1 elements before"):
            cursor.backspace(count)
    with pytest.raises(PositionError, match="there are 2 elements behind"):
        cursor.delete(3)
    with pytest.raises(PositionError):
        cursor.delete(-1)
    with pytest.raises(TypeError):
        cursor.move("1")  # type: ignore[arg-type]
    assert (doc.content, cursor.position) == ("abc", 1)


def test_closed() -> None:
    doc = document("abc")
    cursor = doc.cursor(2)
    cursor.close()
    cursor.close()
    doc.insert(0, "x")
    assert cursor.position == 2
    calls: list[Callable[[], None]] = [
        lambda: cursor.move(0),
        lambda: cursor.insert("y"),
        cursor.backspace,
        cursor.delete,
    ]
    for call in calls:
        with pytest.raises(EgwalkerError, match="closed"):
            call()
    assert doc.content == "xabc"


def test_forgotten_cursors_cost_nothing() -> None:
    doc = document("abc")
    cursor = doc.cursor(2)
    assert len(doc._feed.cursors) == 1
    del cursor
    gc.collect()
    assert len(doc._feed.cursors) == 0
    doc.insert(0, "x")
    assert not doc._feed.watched


def test_a_with_block_closes_it() -> None:
    doc = Document(agent="alice")
    doc.insert(0, "ab")
    with doc.cursor(1) as cursor:
        cursor.insert("x")
    doc.insert(0, "y")
    assert cursor.position == 2
    with pytest.raises(EgwalkerError, match="closed"):
        cursor.insert("z")
    assert doc.content == "yaxb"
