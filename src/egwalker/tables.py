"""A document's history as tables, for those who want to see how the engine goes about it.

In these tables an event is its local version: its index in this replica's log, in the order of arrival. Other
replicas number the same events otherwise, so these numbers are good for reading only; what crosses between
processes are ids, `(agent, seq)`.

>>> from egwalker import Document
>>> doc = Document(agent="a")
>>> doc.insert(0, "hi"); doc.delete(1)
>>> print(events(doc))
┌───┬─────┬──────────┬─────────┬──────┬───────┬─────────┐
│   │ pos │ delCount │ content │ site │ clock │ parents │
├───┼─────┼──────────┼─────────┼──────┼───────┼─────────┤
│ 0 │ 0   │ 0        │ h       │ a    │ 0     │ []      │
│ 1 │ 1   │ 0        │ i       │ a    │ 1     │ [ 0 ]   │
│ 2 │ 1   │ 1        │         │ a    │ 2     │ [ 1 ]   │
└───┴─────┴──────────┴─────────┴──────┴───────┴─────────┘
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from egwalker.cycore.diff import diff
from egwalker.cycore.oplog import Op, OpLog
from egwalker.cycore.walker import walk as steps
from egwalker.document import Document
from egwalker.types import Packed
from egwalker.versions import Id, to_local

HEADER = ("pos", "delCount", "content", "site", "clock")
"""What both forms say of an operation; `site` and `clock` are its id: agent and seq."""


class Tables(NamedTuple):
    """A history run-length encoded: what was done, and after what, each as a table."""

    ops: str
    parents: str


def events(document: Document) -> str:
    """The log, one event a row. O(events).

    `pos` is a position in the document at `parents`. Each event inserts one element, or deletes one (then
    `delCount` is 1). Content that would not be seen as it is, such as a space, is shown as Python writes it;
    values of a list are shown as JSON.
    """
    rows: list[Sequence[object]] = []
    with document._lock:
        log = document._replica.whole()
        for op, agent, seq in operations(log):
            for i in range(op.length):
                inserted = op.content[i : i + 1]
                parents = log.graph.parents(op.start + i)
                pos = op.pos + op.step * i
                row = (pos, int(not inserted), shown(inserted), plain(agent), seq + i, listed(parents))
                rows.append((op.start + i, *row))
    return table(("", *HEADER, "parents"), rows)


def runs(document: Document) -> Tables:
    """The log as the engine keeps it, one run a row. O(runs).

    A run of `ops` is typed forwards or deletes forwards from `pos` on; where some are not, a column `step`
    says by how much the position changes from one of its events to the next: 1 or 0 for those, 0 where each
    element was put before the last one, -1 where somebody erased backwards. A run of `parents` is by one
    agent; they are those of its first event, each further event has its predecessor as only parent.
    """
    with document._lock:
        log = document._replica.whole()
        found = list(operations(log))
        usual = all(op.step == (op.kind == "insert") for op, _, _ in found)
        ops: list[Sequence[object]] = []
        for op, agent, seq in found:
            deleted = op.length if op.kind == "delete" else 0
            row = (op.pos, deleted, shown(op.content), plain(agent), seq)
            ops.append((ranged(op.start, op.start + op.length), *row, *([] if usual else [op.step])))
        parents = [(ranged(run.start, run.end), listed(run.parents)) for run in log.graph.runs()]
    header = ("range", *HEADER, *([] if usual else ["step"]))
    return Tables(table(header, ops, ruled=True), table(("range", "parents"), parents, ruled=True))


def state_vector(document: Document) -> str:
    """How many events the document holds of each agent; where seqs are missing, which ones it holds.

    >>> doc = Document(agent="a")
    >>> doc.insert(0, "hi")
    >>> state_vector(doc)
    '{ a: 2 }'
    """
    found = []
    for agent, ranges in document.version_vector.items():
        complete = len(ranges) == 1 and ranges[0][0] == 0
        found.append(f"{plain(agent)}: {ranges[0][1] if complete else listed(numbers(ranges))}")
    return f"{{ {', '.join(found)} }}" if found else "{}"


def walk(document: Document, a: Iterable[Id], b: Iterable[Id]) -> str:
    """What the engine does to bring version `b` into a document at version `a`. O(events).

    First the difference of `a` and both merged: the version at which the walk starts, the events that `a` has
    and that are walked again, those that are new. Then for each event in the order of the walk what is
    retreated (`aOnly`) and advanced (`bOnly`) before it is applied. An event that comes after all that was
    walked before it and before all that is walked after it needs neither: what the walk knew until then is
    dropped.

    `VersionError` if the document does not hold a version.
    """
    with document._lock:
        log = document._replica.whole()
        graph = log.graph
        before = to_local(graph, a)
        after = graph.dominators([*before, *to_local(graph, b)])
        before = list(graph.dominators(before))
        found = diff(graph, before, after)
        lines = [f"diff {listed(before)} {listed(after)}"]
        lines += block(
            head=listed(found.head), shared=listed(numbers(found.shared)), bOnly=listed(numbers(found.b_only))
        )
        for step in steps(log, before, after):
            moves = listed(numbers(step.retreated)), listed(numbers(step.advanced))
            for event in range(step.start, step.end):
                lines.append(f"doOp {event}")
                lines += block(aOnly=moves[0], bOnly=moves[1])
                moves = "[]", "[]"
    return "\n".join(lines)


def operations(log: OpLog) -> Iterator[tuple[Op, str, int]]:
    """The runs of operations, cut where agents or parents change, with the ids of their first events."""
    for run in log.graph.runs():
        for op in log.ops(run.start, run.end):
            yield op, run.agent, run.seq + op.start - run.start


# --- how it looks -------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[object]], ruled: bool = False) -> str:
    """Rows in a frame; `ruled`: with lines between them."""
    cells = [[*map(str, row)] for row in [header, *rows]]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]

    def line(left: str, cross: str, right: str) -> str:
        return left + cross.join(["─" * (w + 2) for w in widths]) + right

    def text(row: Sequence[str]) -> str:
        padded = [cell + " " * (w - width(cell)) for cell, w in zip(row, widths, strict=True)]
        return f"│ {' │ '.join(padded)} │"

    body = [text(row) for row in cells]
    rule = line("├", "┼", "┤")
    below = [part for row in body[1:] for part in (rule, row)] if ruled else [rule, *body[1:]]
    return "\n".join([line("┌", "┬", "┐"), body[0], *below, line("└", "┴", "┘")])


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def block(**fields: str) -> list[str]:
    return ["{", *[f"  {name}: {value}," for name, value in fields.items()], "}"]


def ranged(start: int, end: int) -> str:
    """Half-open in the engine, with its last number to readers."""
    return f"{start}-{end - 1}"


def numbers(ranges: Iterable[tuple[int, int]]) -> list[int]:
    return sorted([number for start, end in ranges for number in range(start, end)])


def listed(ascending: Sequence[int]) -> str:
    """A list of numbers; three or more that follow each other are shortened.

    >>> listed([]), listed([1, 2]), listed([0, 2, 3, 4, 5])
    ('[]', '[ 1, 2 ]', '[ 0, 2-5 ]')
    """
    found: list[list[int]] = []
    for number in ascending:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    parts = [ranged(run[0], run[-1] + 1) if len(run) > 2 else ", ".join(map(str, run)) for run in found]
    return f"[ {', '.join(parts)} ]" if parts else "[]"


def plain(text: str) -> str:
    r"""A text as it is if that is seen and is not taken for anything else, else as Python writes it.

    >>> print(plain("é"), plain(" "), plain("a\n"), plain("'"))
    é ' ' 'a\n' "'"
    """
    seen = text.isprintable() and text == text.strip() and text[:1] not in ("'", '"') and width(text[:1])
    return text if seen or not text else repr(text)


def shown(content: Packed) -> str:
    """What is inserted: a text, or the JSON of each value."""
    if isinstance(content, str):
        return plain(content)
    return ", ".join([text if text.isprintable() else json.dumps(json.loads(text)) for text in content])
