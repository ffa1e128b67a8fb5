"""A text as the rows of a terminal: lines wrapped at words, from anywhere in a document of any size.

Only the rows that are seen are ever made. Lines are what line feeds end; one that is longer than `LONG` is
broken there, so that nothing costs more in a text that is one line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from egwalker.document import Document

LONG = 4096
TAB = 4


class Row(NamedTuple):
    """A row: where it starts and ends in the document, and what is shown for each of its code points."""

    start: int
    end: int
    shown: list[str]
    last: bool
    """Whether its line ends with it: the place at its end is on it, then, not on the next one."""

    def holds(self, pos: int) -> bool:
        """Whether a caret at `pos` is on this row."""
        return self.start <= pos < self.end or (self.last and pos == self.end)


class Rows:
    """A document as rows of `width` cells; `cells` says how many cells a text takes."""

    def __init__(self, document: Document, cells: Callable[[str], int], width: int = 80) -> None:
        self.document = document
        self.width = width
        self._cells = cells

    def line_start(self, pos: int) -> int:
        """Where the line at `pos` starts, or the part of it if it is long."""
        start, at = 0, pos
        while at:
            before = max(0, at - LONG)
            found = self.document.slice(before, at).rfind("\n")
            if found >= 0:
                start = before + found + 1
                break
            at = before
        return start + (pos - start) // LONG * LONG

    def line(self, start: int) -> list[Row]:
        """The rows of the line, or part of one, that starts at `start`."""
        text: str = self.document.slice(start, min(start + LONG + 1, len(self.document)))
        end = text.find("\n", 0, LONG)
        ended = end >= 0 or len(text) <= LONG
        if not ended:
            end = LONG
        elif end < 0:
            end = len(text)
        if len(text) == LONG and end == LONG:
            ended = False  # the end of the text is the start of another part
        return list(self._wrapped(text[:end], start, ended))

    def _wrapped(self, text: str, start: int, ended: bool) -> Iterator[Row]:
        # One cell is left for a caret behind all.
        room = max(self.width - 1, 1)
        shown: list[str] = []
        begin = used = 0
        space = space_used = 0  # behind the last space of this row
        for at, char in enumerate(text):
            piece = self._shown(char, used)
            took = self._cells(piece)
            while shown and used + took > room and took:
                keep = space - begin if begin < space < at else len(shown)
                kept = space_used if begin < space < at else used
                yield Row(start + begin, start + begin + keep, shown[:keep], False)
                begin += keep
                shown = shown[keep:]
                used -= kept
                space = begin
                piece = self._shown(char, used)
                took = self._cells(piece)
            shown.append(piece)
            used += took
            if char in " \t":
                space, space_used = at + 1, used
        if shown or ended or not text:
            yield Row(start + begin, start + len(text), shown, ended)

    def _shown(self, char: str, used: int) -> str:
        """What a code point looks like: nothing that moves a terminal's cursor, or turns text around."""
        if char == "\t":
            return " " * (TAB - used % TAB)
        category = unicodedata.category(char)
        if category == "Cc":
            return f"^{chr(ord(char) ^ 64)}" if ord(char) < 128 else f"<{ord(char):02x}>"
        if category in ("Cf", "Zl", "Zp", "Cs", "Co", "Cn") and char not in "\u200c\u200d":
            return "" if 0xE0020 <= ord(char) <= 0xE007F else f"<{ord(char):04x}>"
        return char

    def around(self, pos: int) -> tuple[list[Row], int]:
        """The rows of the line at `pos`, and which of them holds it."""
        rows = self.line(self.line_start(pos))
        return rows, next((i for i, row in enumerate(rows) if row.holds(pos)), len(rows) - 1)

    def row(self, pos: int) -> Row:
        """The row with the place `pos`."""
        rows, at = self.around(pos)
        return rows[at]

    def seen(self, top: int, height: int) -> list[Row]:
        """The rows from that with the place `top` on, at most `height`."""
        rows, at = self.around(top)
        found = rows[at : at + height]
        while len(found) < height:
            end = found[-1].end + found[-1].last  # behind the line feed
            if end > len(self.document):
                break
            found += self.line(end)[: height - len(found)]
        return found

    def up(self, pos: int, n: int = 1) -> Row:
        """The row `n` above that with the place `pos`, or the first one."""
        rows, at = self.around(pos)
        while n > at and rows[0].start:
            n -= at + 1
            rows = self.line(self.line_start(rows[0].start - 1))
            at = len(rows) - 1
        return rows[max(0, at - n)]

    def down(self, pos: int, n: int = 1) -> Row:
        """The row `n` below that with the place `pos`, or the last one."""
        return self.seen(pos, n + 1)[-1]

    def column(self, row: Row, pos: int) -> int:
        """How many cells are before `pos` on its row."""
        return self._cells("".join(row.shown[: pos - row.start]))

    def place(self, row: Row, column: int) -> int:
        """The place on a row that is nearest to a column, not within a cluster that takes one cell."""
        used = 0
        at = row.start
        for piece in row.shown:
            took = self._cells(piece)
            if took and used + took / 2 > column:
                break
            used += took
            at += 1
        return at if row.last or at < row.end else max(row.start, row.end - 1)
