"""The text buffer against a plain str, with leaves and nodes so small that the tree is deep."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import egwalker
from egwalker.cycore.rope import Rope

# Elements of 1, 2 and 4 bytes; of 1 to 4 bytes of UTF-8; of 1 and 2 units of UTF-16.
TEXT = st.text(st.sampled_from("abz\x7f\x80é\u07ff\u0800\ufffd\U00010000\U0001f30d"), max_size=30)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Edits(RuleBasedStateMachine):
    @initialize(
        text=TEXT, leaf_bytes=st.sampled_from([8, 12, 16, 64, 512]), fanout=st.sampled_from([4, 5, 8, 32])
    )
    def begin(self, text: str, leaf_bytes: int, fanout: int) -> None:
        self.text = text
        self.rope = Rope(text, leaf_bytes=leaf_bytes, fanout=fanout)
        self.caret = 0

    def place(self, share: float) -> int:
        return round(share * len(self.text))

    @rule(share=st.floats(0, 1), text=TEXT, times=st.integers(1, 20))
    def insert(self, share: float, text: str, times: int) -> None:
        pos = self.place(share)
        self.rope.insert(pos, text * times)
        self.text = self.text[:pos] + text * times + self.text[pos:]
        self.caret = pos + len(text) * times

    @rule(text=TEXT)
    def type(self, text: str) -> None:
        for unit in text:
            self.rope.insert(self.caret, unit)
            self.text = self.text[: self.caret] + unit + self.text[self.caret :]
            self.caret += 1
            assert len(self.rope) == len(self.text)

    @rule(times=st.integers(1, 40))
    def erase(self, times: int) -> None:
        for _ in range(min(times, self.caret)):
            self.caret -= 1
            self.rope.delete(self.caret, 1)
            self.text = self.text[: self.caret] + self.text[self.caret + 1 :]

    @rule(a=st.floats(0, 1), b=st.floats(0, 1))
    def delete(self, a: float, b: float) -> None:
        start, end = sorted([self.place(a), self.place(b)])
        self.rope.delete(start, end - start)
        self.text = self.text[:start] + self.text[end:]
        self.caret = start

    @rule(a=st.floats(0, 1), b=st.floats(0, 1))
    def slice(self, a: float, b: float) -> None:
        start, end = sorted([self.place(a), self.place(b)])
        assert self.rope.slice(start, end) == self.text[start:end]
        assert self.rope.numbers(start, end) == [ord(unit) for unit in self.text[start:end]]

    @rule(share=st.floats(0, 1))
    def convert(self, share: float) -> None:
        pos = self.place(share)
        before = self.text[:pos]
        assert self.rope.to_utf16(pos) == units(before)
        assert self.rope.from_utf16(units(before)) == pos
        assert self.rope.to_utf8(pos) == len(before.encode())
        assert self.rope.from_utf8(len(before.encode())) == pos
        assert self.rope.utf16_len() == units(self.text)
        assert self.rope.utf8_len() == len(self.text.encode())

    @rule()
    def copy(self) -> None:
        old, self.rope = self.rope, self.rope.copy()
        old.insert(0, "x")  # the copy does not see it

    @invariant()
    def same(self) -> None:
        if hasattr(self, "rope"):
            self.rope._check()
            assert str(self.rope) == self.text
            assert len(self.rope) == len(self.text)


TestEdits = Edits.TestCase


@given(TEXT)
def test_offsets_inside_a_code_point_are_refused(text: str) -> None:
    rope = Rope(text, leaf_bytes=8, fanout=4)
    starts = {len(text[:pos].encode()) for pos in range(len(text) + 1)}
    for offset in set(range(len(text.encode()) + 3)) - starts:
        with pytest.raises(egwalker.PositionError, match=f"UTF-8 byte {offset} "):
            rope.from_utf8(offset)
    starts = {units(text[:pos]) for pos in range(len(text) + 1)}
    for offset in {-1, 1 << 70} | set(range(units(text) + 3)) - starts:
        with pytest.raises(egwalker.PositionError, match=f"UTF-16 unit {offset} "):
            rope.from_utf16(offset)


@pytest.mark.parametrize(
    ("pos", "length"), [(-1, 1), (0, 6), (5, 1), (6, 0), (2, -1), (1 << 70, 1), (0, 1 << 70)]
)
def test_ranges_outside_are_refused(pos: int, length: int) -> None:
    rope = Rope("hello")
    with pytest.raises(egwalker.PositionError):
        rope.delete(pos, length)
    with pytest.raises(egwalker.PositionError):
        rope.slice(pos, pos + length)
    assert str(rope) == "hello"


@pytest.mark.parametrize("pos", [-1, 6, 1 << 70])
def test_positions_outside_are_refused(pos: int) -> None:
    rope = Rope("hello")
    with pytest.raises(egwalker.PositionError):
        rope.insert(pos, "x")
    with pytest.raises(egwalker.PositionError):
        rope.to_utf16(pos)
    assert str(rope) == "hello"


def test_text_takes_a_byte_a_code_point_where_it_can() -> None:
    narrow, wide = Rope("x" * 1_000_000), Rope("\U0001f30d" * 1_000_000)
    assert narrow.memory() < 1_200_000
    assert wide.memory() < 4_600_000
    narrow.insert(500_000, "\U0001f30d")
    assert narrow.memory() < 1_210_000  # one wide code point does not widen the rest


def test_str_is_what_python_would_have_made() -> None:
    # A str of the wrong kind would be unequal to, and hash unlike, the same text.
    rope = Rope("é字\U0001f30dabc")
    for text in ("é字abc", "éabc", "abc"):
        rope.delete(rope_index(rope, text), 1)
        assert str(rope) == text
        assert hash(str(rope)) == hash(text)
        assert sys.getsizeof(str(rope)) == sys.getsizeof("".join(list(text)))


def rope_index(rope: Rope, wanted: str) -> int:
    """Where to delete one element so that `wanted` is left."""
    text = str(rope)
    return next(i for i in range(len(text)) if text[:i] + text[i + 1 :] == wanted)


@pytest.mark.parametrize(
    "sizes", [{"leaf_bytes": 4}, {"leaf_bytes": 10}, {"leaf_bytes": 1 << 20}, {"fanout": 3}]
)
def test_impossible_node_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rope(**sizes)  # type: ignore[arg-type]
