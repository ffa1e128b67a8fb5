"""The text buffer, alone: 1,000 operations on a text of 500,000 code points."""

from __future__ import annotations

from random import Random

from benchmarks import traces
from egwalker.cycore.rope import Rope

LENGTH = 500_000
OPERATIONS = 1000

ALPHABETS = {
    "ascii": "abcdefghij klmnop\n",
    "latin": "abcdéfghij ñlmnöp\n",
    "cyrillic": "абвгдежзик лмнопр\n",
    "emoji": "abcdefgh😀j klmn👍p\n",
}
"""One byte a code point in memory, one, two and four."""


class Text:
    params = tuple(ALPHABETS)
    param_names = ("text",)

    def setup(self, text: str) -> None:
        random = Random(traces.SEED)
        self.text = "".join(random.choices(ALPHABETS[text], k=LENGTH))
        self.rope = Rope(self.text)
        self.places = [random.randrange(LENGTH - OPERATIONS) for _ in range(OPERATIONS)]
        self.utf16 = [self.rope.to_utf16(pos) for pos in self.places]
        self.utf8 = [self.rope.to_utf8(pos) for pos in self.places]
        self.char = ALPHABETS[text][8]

    def time_from_str(self, _text: str) -> None:
        Rope(self.text)

    def time_to_str(self, _text: str) -> None:
        str(self.rope)

    def time_copy(self, _text: str) -> None:
        self.rope.copy()

    def time_type(self, _text: str) -> None:
        for pos in range(1000, 1000 + OPERATIONS):
            self.rope.insert(pos, self.char)

    def time_insert(self, _text: str) -> None:
        for pos in self.places:
            self.rope.insert(pos, self.char)

    def time_paste(self, _text: str) -> None:
        self.rope.insert(LENGTH // 2, self.text[:100_000])

    def time_backspace(self, _text: str) -> None:
        for pos in range(LENGTH // 2, LENGTH // 2 - OPERATIONS, -1):
            self.rope.delete(pos, 1)

    def time_delete(self, _text: str) -> None:
        for pos in self.places:
            self.rope.delete(pos, 1)

    def time_cut(self, _text: str) -> None:
        self.rope.delete(LENGTH // 3, LENGTH // 3)

    def time_slice(self, _text: str) -> None:
        """80 code points each."""
        for pos in self.places:
            self.rope.slice(pos, pos + 80)

    def time_to_utf16(self, _text: str) -> None:
        for pos in self.places:
            self.rope.to_utf16(pos)

    def time_from_utf16(self, _text: str) -> None:
        for offset in self.utf16:
            self.rope.from_utf16(offset)

    def time_to_utf8(self, _text: str) -> None:
        for pos in self.places:
            self.rope.to_utf8(pos)

    def time_from_utf8(self, _text: str) -> None:
        for offset in self.utf8:
            self.rope.from_utf8(offset)
