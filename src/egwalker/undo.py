"""Undoing what was done here, beside what others do.

A step is kept as the edits that take it back, in the text as it was right after it. What others did since
waits with the step, and crosses it when it is needed: that costs nothing while nobody undoes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

UNDONE = 500
"""How many steps can be undone."""


class Take(NamedTuple):
    """Deletes `deleted` code points at `pos`, or inserts `length` of them: `text`, not known of others."""

    pos: int
    deleted: int
    length: int = 0
    text: str = ""


@dataclass
class Step:
    """What one undoing takes back, and what others did after it and before the next step."""

    edits: list[Take]
    others: list[Take] = field(default_factory=list)


class Steps:
    """A stack of steps, the last one of which is undone first."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def last(self) -> list[Take]:
        """The edits that take back the last step, in the text as it is; none if there is no step."""
        if not self._steps:
            return []
        step = self._steps[-1]
        if step.others:
            step.edits, moved = cross(step.edits, step.others)
            step.others = []
            if len(self._steps) > 1:
                self._steps[-2].others += moved
        return step.edits

    def push(self, edits: Sequence[Take]) -> None:
        """Something was done that these edits take back."""
        self._steps.append(Step([*edits]))
        del self._steps[:-UNDONE]

    def replace(self, edits: Sequence[Take]) -> None:
        """The last step, of which `last` was just asked for, went on."""
        self._steps[-1].edits = [*edits]

    def pop(self) -> list[Take]:
        """Take the last step off that can be undone: others may have deleted all of one."""
        while self._steps:
            edits = self.last()
            self._steps.pop()
            if edits:
                return edits
        return []

    def clear(self) -> None:
        self._steps.clear()

    def follow(self, edits: Iterable[tuple[int, int, Sequence[object]]]) -> None:
        """Somebody else did this."""
        if self._steps:
            others = self._steps[-1].others
            for pos, deleted, inserted in edits:
                if deleted:
                    others.append(Take(pos, deleted))
                if inserted:
                    others.append(Take(pos, 0, len(inserted)))


def cross(mine: Sequence[Take], others: Sequence[Take]) -> tuple[list[Take], list[Take]]:
    """Two lists of edits of one text: mine as they are after the others, the others as they are after mine.

    O(product of their lengths).
    """
    after: list[Take] = []
    rest = [*others]
    for edit in mine:
        here, moved = [edit], []
        for other in rest:
            here, there = cross_one(here[0], other) if len(here) == 1 else cross(here, [other])
            moved += there
        after += here
        rest = moved
    return after, rest


def cross_one(one: Take, two: Take) -> tuple[list[Take], list[Take]]:
    """The same for one edit each. Of two insertions at one place that of `one` is in front."""
    if one.length and two.length:
        if one.pos <= two.pos:
            return [one], [two._replace(pos=two.pos + one.length)]
        return [one._replace(pos=one.pos + two.length)], [two]
    if one.length:
        return inserted_beside(one, two)
    if two.length:
        return inserted_beside(two, one)[::-1]
    here, there = kept(one, two), kept(two, one)
    return [here] if here.deleted else [], [there] if there.deleted else []


def kept(one: Take, two: Take) -> Take:
    """What there is still to delete after another deletion."""
    end, other_end = one.pos + one.deleted, two.pos + two.deleted
    both = max(0, min(end, other_end) - max(one.pos, two.pos))
    return Take(one.pos - min(two.deleted, max(0, one.pos - two.pos)), one.deleted - both)


def inserted_beside(insertion: Take, deletion: Take) -> tuple[list[Take], list[Take]]:
    """An insertion after a deletion, and that after the insertion: it leaves out what was inserted in it."""
    at, length = insertion.pos, insertion.length
    start, end = deletion.pos, deletion.pos + deletion.deleted
    if at <= start:
        return [insertion], [deletion._replace(pos=start + length)]
    if at >= end:
        return [insertion._replace(pos=at - deletion.deleted)], [deletion]
    return [insertion._replace(pos=start)], [Take(start, at - start), Take(start + length, end - at)]
