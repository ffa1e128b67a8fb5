"""What the editor does, whatever it is seen on: undoing beside others, clusters, rows."""

from __future__ import annotations

import random
from itertools import pairwise
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import egwalker.editor
from egwalker import Document, edit_rows
from egwalker.edit_rows import Rows
from egwalker.editor import Editor, shown_name

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PIECES = ["a", "b ", "\n", "e\u0301", FAMILY, "\U0001f1e9\U0001f1ea", "漢", "שלום", "\u202e", "\t", "\x07"]


def editor(text: str = "", agent: str = "alice") -> Editor:
    document = Document(agent=agent)
    document.insert(0, text)
    return Editor(document)


def do_something(one: Editor, rng: random.Random) -> None:
    """Edit or move at random, as keys do."""
    match rng.randrange(7):
        case 0 | 1 | 2:
            one.insert(rng.choice(PIECES))
        case 3:
            one.erase(one.before(one.position))
        case 4:
            one.erase(one.after(one.position))
        case 5:
            one.move(rng.randint(0, len(one.document)))
        case 6:
            one.move(rng.randint(0, len(one.document)), select=True)


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_undoing_all_and_redoing_all(seed: int) -> None:
    rng = random.Random(seed)
    one = editor("the text that was there")
    for _ in range(rng.randrange(40)):
        do_something(one, rng)
    after = str(one.document)
    states = [after]
    while one.undo():
        states.append(str(one.document))
    assert states[-1] == "the text that was there"
    for state in states[-2::-1]:
        assert one.redo()
        assert str(one.document) == state
    assert not one.redo()
    assert str(one.document) == after


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_only_what_was_done_here_is_undone(seed: int) -> None:
    """Somebody else inserts capitals meanwhile: after undoing, these and what was there before are there."""
    rng = random.Random(seed)
    one = editor("0123456789")
    bob = one.document.fork("bob")
    theirs = []
    for letter in "ABCDEFGHIJKLMNOP":
        for _ in range(rng.randrange(4)):
            do_something(one, rng)
        if rng.random() < 0.7:
            bob.insert(rng.randint(0, len(bob)), letter)
            theirs.append(letter)
        if rng.random() < 0.5:
            one.document.merge(bob)
        if rng.random() < 0.3:
            one.undo() if rng.random() < 0.6 else one.redo()
        if rng.random() < 0.5:
            bob.merge(one.document)
    one.document.merge(bob)
    while one.undo():
        pass
    assert sorted(str(one.document)) == sorted("0123456789" + "".join(theirs))
    bob.merge(one.document)
    assert str(bob) == str(one.document)


def test_what_others_typed_within_a_step_is_not_undone() -> None:
    one = editor()
    one.insert("hello")
    bob = one.document.fork("bob")
    bob.insert(2, "XY")
    one.document.merge(bob)
    assert one.undo()
    assert str(one.document) == "XY"
    assert one.redo()
    assert str(one.document).replace("XY", "") == "hello"


def test_words_are_undone_one_by_one() -> None:
    one = editor()
    for char in "two words":
        one.insert(char)
    one.undo()
    assert str(one.document) == "two "
    one.insert("x")
    assert not one.redo()  # something else was done since


def test_the_clock_is_adopted_when_the_caret_moves() -> None:
    one = editor()
    one.insert("a")
    bob = one.document.fork("bob")
    bob.insert(0, "from bob ")
    one.document.merge(bob)
    one.insert("b")
    assert str(one.document) == "from bob ab"
    me = one.document.agent
    assert one.document.version == tuple(sorted([(me, 1), ("bob", 8)]))
    one.move(one.position)
    one.insert("c")
    assert one.document.version == ((me, 2),)


def test_a_selection_follows_the_text_and_is_replaced() -> None:
    one = editor("one two three")
    one.select(4, 7)
    bob = one.document.fork("bob")
    bob.insert(0, ">> ")
    one.document.merge(bob)
    assert one.selected() == "two"
    one.insert("2")
    assert str(one.document) == ">> one 2 three"
    one.undo()
    assert str(one.document) == ">> one two three"


@pytest.mark.parametrize(
    "one", ["a", "e\u0301\u0323", FAMILY, "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "❤\ufe0f", "漢"]
)
def test_clusters(one: str) -> None:
    text = f"x{one}y"
    found = editor(text)
    assert found.after(1) == 1 + len(one)
    assert found.before(1 + len(one)) == 1
    found.move(len(text) - 1)
    found.erase(found.before(found.position))
    assert str(found.document) == "xy"


def test_words() -> None:
    one = editor("one, two  three")
    assert [one.word_after(0), one.word_after(3), one.word_before(15), one.word_before(10)] == [3, 8, 10, 5]
    assert one.word_before(0) == one.before(0) == 0
    assert one.word_after(15) == one.after(15) == 15


def test_what_no_text_can_hold_is_replaced() -> None:
    one = editor()
    one.insert("a\r\nb\rc\udc80")
    assert str(one.document) == "a\nb\nc\ufffd"


def test_others_carets() -> None:
    one = editor("hello")
    bob = Editor(one.document.fork("bob"))
    bob.move(5)
    one.see("bob", bob.presence("Bob", "#1f77b4"))
    assert one.people["bob"].head == 5
    one.insert("> ")
    assert one.people["bob"].head == 7
    # It is told of a text that has not come yet.
    bob.insert("!")
    one.see("bob", bob.presence("Bob", "#1f77b4"))
    assert one.people["bob"].head == 7
    one.document.merge(bob.document)
    assert str(one.document) == "> hello!"
    one.see("bob", None)
    assert not one.people


def test_others_carets_are_meant_in_their_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tells of a caret may lack what was typed here, and one who hears of it what was typed there."""
    ann = editor("hello world")
    bob = Editor(ann.document.fork("bob"))
    bob.move(5)
    bob.move(11, select=True)
    told = bob.presence("Bob", "#1f77b4")
    ann.insert("why, ")
    ann.see("bob", told)
    assert (ann.people["bob"].anchor, ann.people["bob"].head) == (10, 16)
    ann.select(5, 10)
    ann.erase(0)
    ann.see("bob", told)
    assert (ann.people["bob"].anchor, ann.people["bob"].head) == (5, 11)
    ann.insert("bye")
    ann.see("bob", told)
    assert str(ann.document) == "why, bye world"
    assert (ann.people["bob"].anchor, ann.people["bob"].head) == (8, 14)
    # What would be much work is not done: such a caret is taken as it is told.
    monkeypatch.setattr(egwalker.editor, "ROWS", 4)
    for _ in range(5):
        ann.move(0)
        ann.insert(".")
    ann.see("bob", told)
    assert (ann.people["bob"].anchor, ann.people["bob"].head) == (5, 11)


@pytest.mark.parametrize(
    "version",
    [
        None,
        7,
        "root",
        [[]],
        [["alice"]],
        [["alice", "0"]],
        [[0, 0]],
        {"alice": 3},
        [["alice", 1]] * 17,
    ],
)
def test_versions_that_are_none_are_as_if_not_told(version: object) -> None:
    one = editor("hello")
    one.insert("> ")
    one.see("eve", {"head": 3, "anchor": 1, "version": version})
    assert (one.people["eve"].anchor, one.people["eve"].head) == (1, 3)


@pytest.mark.parametrize("version", [[["eve", 0]], [["alice", 10**30]], [["alice", -1]], [["\ud800", 1]]])
def test_versions_that_have_not_come_are_waited_for(version: object) -> None:
    one = editor("hello")
    one.see("eve", {"head": 3, "version": version})
    one.insert("> ")
    assert one.people["eve"].head is None
    one.see("eve", None)
    assert not one._states


@pytest.mark.parametrize(
    "state", [7, [], {"head": "x"}, {"head": 10**30}, {"head": -4, "version": [["a"]]}, {"head": True}]
)
def test_presences_that_are_none_do_no_harm(state: object) -> None:
    one = editor("hello")
    one.see("eve", state)
    one.insert("x")
    for who in one.people.values():
        assert who.head is None or 0 <= who.head <= 6


def test_names_are_fit_to_be_shown() -> None:
    assert shown_name(" Ann\x1b[31m ") == "Ann\ufffd[31m"
    assert shown_name("\u202eevil") == "\ufffdevil"
    assert len(shown_name("x" * 100)) == 40
    assert shown_name(None) == "Somebody"


def cells(text: str) -> int:
    """As many as code points, but for wide ones and marks."""
    return sum([0 if normalize("NFC", f"e{char}") != f"e{char}" else 1 + (char == "漢") for char in text])


texts = st.lists(st.sampled_from([*PIECES, "word ", "longer_word", "\n\n"]), max_size=40).map("".join)


@settings(max_examples=300)
@given(texts, st.integers(4, 30), st.sampled_from([5, 12, 4096]))
def test_rows_are_the_text(text: str, width: int, long: int) -> None:
    one = editor(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_rows, "LONG", long)
        rows = Rows(one.document, cells, width)
        every = rows.seen(0, 10_000)
        # All of the text is there, but for the line feeds.
        assert every[0].start == 0
        assert every[-1].end == len(text)
        for row, after in pairwise(every):
            assert after.start == row.end + row.last
            assert not row.last or text[row.end] == "\n"
        for number, row in enumerate(every):
            assert len(row.shown) == row.end - row.start
            assert "\n" not in text[row.start : row.end]
            assert cells("".join(row.shown)) < max(width, 8) or len(row.shown) == 1
            # The same from anywhere.
            assert rows.row(row.start) == row
            assert rows.seen(row.start, 3) == every[number : number + 3]
            for n in (1, 2, 7):
                assert rows.up(row.start, n) == every[max(0, number - n)]
                assert rows.down(row.start, n) == every[min(len(every) - 1, number + n)]
            assert row.holds(rows.place(row, cells("".join(row.shown)) // 2))
            assert row.holds(rows.place(row, 1000))
        for pos in range(len(text) + 1):
            assert sum(row.holds(pos) for row in every) == 1


def test_nothing_shown_moves_a_terminal() -> None:
    one = editor("\x1b[2J\u202e\x85\u2028\x07\r")
    shown = "".join(Rows(one.document, len).row(0).shown)
    assert shown.isprintable()
    assert shown == "^[[2J<202e><85><2028>^G^M"
