"""Versions, and the other names that events have outside one process.

An event's id is `(agent, seq)`: who made it, and its number among that agent's events. A *version* is the set
of events that nothing in it descends from; it stands for them and all before them. Inside one process events
are known by their local version (LV), an index into the graph; the functions here translate.
"""

import re
import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from egwalker.cycore.agents import check_name
from egwalker.cycore.errors import AgentError, DecodeError, IdentityError
from egwalker.cycore.graph import Graph

Id = tuple[str, int]
"""An event's id: agent and seq."""

Version = tuple[Id, ...]
"""A version: ids, ascending, none an ancestor of another; empty for the document before all events."""

VersionVector = dict[str, list[tuple[int, int]]]
"""For each agent the half-open ranges of seqs that are held, ascending, neither empty nor touching."""


ID = re.compile("[0-9a-f]{32}")
"""A document's id."""
NAME_LETTERS = string.ascii_letters + string.digits
NAME_LENGTH = 10
"""59 bits: among a hundred thousand random names two are the same once in a hundred million documents."""


class Span(NamedTuple):
    """The events `start` to `end` (half-open) of one agent."""

    agent: str
    start: int
    end: int


class Diff(NamedTuple):
    """How versions a and b differ.

    `head` is where a walk that merges them must start: every event outside it came after all of it. `shared`
    are the events after `head` that both have and that must be walked again; `a_only` and `b_only` those that
    one has.
    """

    head: Version
    shared: tuple[Span, ...]
    a_only: tuple[Span, ...]
    b_only: tuple[Span, ...]


class Group(NamedTuple):
    """A maximal run of one agent's events, each but the first with its predecessor as only parent.

    `clock` is the Lamport clock of its first event.
    """

    agent: str
    seq: int
    length: int
    clock: int


class Run(NamedTuple):
    """Consecutive events of one agent as documents exchange them.

    `parents` are those of the first event, each further one has its predecessor as only parent. `ops` are
    `(pos, deleted, inserted)`: `deleted` events that each delete the element at `pos`, then one event for
    each element of `inserted`, from `pos` on. The first position is one of the document at `parents`, each
    further one of the document after the operations before it.
    """

    agent: str
    seq: int
    parents: tuple[Id, ...]
    ops: tuple[tuple[int, int, Any], ...]

    @property
    def length(self) -> int:
        """How many events this is: one an element inserted or deleted."""
        return sum([deleted + len(inserted) for _, deleted, inserted in self.ops])

    @property
    def operations(self) -> list[Any]:
        """Of a replayed document: what was done. Each is inserted at the position that is its event's seq."""
        return [op for _, _, inserted in self.ops for op in inserted]


def random_name() -> str:
    """A name for an agent who gave none."""
    return "".join([secrets.choice(NAME_LETTERS) for _ in range(NAME_LENGTH)])


def check_agent(agent: object) -> str:
    """`agent` if it can name one, a `str` of 1 to 255 bytes in UTF-8; else `AgentError`."""
    if not isinstance(agent, str):
        raise AgentError(f"an agent's name is a str, not {type(agent).__name__}")
    check_name(str.__str__(agent))
    return str.__str__(agent)


def check_id(doc_id: object) -> str:
    """`doc_id` if it can be a document's id, 32 lower-case hexadecimal digits; else `IdentityError`."""
    if not isinstance(doc_id, str) or not ID.fullmatch(doc_id):
        raise IdentityError(f"a document's id is 32 hexadecimal digits, not {doc_id!r:.80}")
    return doc_id


def refuse_id(agent: object, seq: object) -> NoReturn:
    """Raise what is wrong with an id that is not `(str, int >= 0)`: `AgentError` or `DecodeError`."""
    if type(agent) is not str:
        raise AgentError(f"an agent's name is a str, not {type(agent).__name__}")
    if type(seq) is not int:
        raise DecodeError(f"a seq is an int, not {seq!r:.80}")
    raise AgentError(f"a seq is not negative as {seq} is")


def joined(a: VersionVector, b: VersionVector) -> VersionVector:
    """What either of two version vectors has. O(ranges).

    >>> joined({"a": [(0, 3)]}, {"a": [(3, 4), (7, 8)], "b": [(0, 1)]})
    {'a': [(0, 4), (7, 8)], 'b': [(0, 1)]}
    """
    found: VersionVector = {}
    for agent in a | b:
        ranges: list[tuple[int, int]] = []
        for start, end in sorted([*a.get(agent, ()), *b.get(agent, ())]):
            if ranges and ranges[-1][1] >= start:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((start, end))
        found[agent] = ranges
    return found


def covers(vector: VersionVector, other: VersionVector) -> bool:
    """Whether a version vector has all that another one has. O(ranges).

    >>> covers({"a": [(0, 5)]}, {"a": [(1, 2), (4, 5)]}), covers({"a": [(0, 5)]}, {"a": [(4, 6)]})
    (True, False)
    """
    return not any(any(subtract(ranges, vector.get(agent, ()))) for agent, ranges in other.items())


# --- between ids and local versions -------------------------------------------------------------------------


def to_local(graph: Graph, version: Iterable[Id]) -> list[int]:
    """The local versions of ids; `VersionError` if one is not held, `TypeError` if it is no id."""
    try:
        return [graph.lv(agent, seq) for agent, seq in version]
    except (TypeError, ValueError):
        raise TypeError(f"a version is a tuple of (agent, seq) pairs, not {version!r}") from None


def spans_of(graph: Graph, ranges: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    """The spans of half-open ranges of local versions, in their order."""
    spans: list[Span] = []
    for lo, hi in ranges:
        for run in graph.runs(lo, hi):
            end = run.seq + run.end - run.start
            if spans and spans[-1].agent == run.agent and spans[-1].end == run.seq:
                spans[-1] = Span(run.agent, spans[-1].start, end)
            else:
                spans.append(Span(run.agent, run.seq, end))
    return tuple(spans)


def ranges_since(graph: Graph, since: Mapping[str, Iterable[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The local versions of the events that the version vector `since` lacks: half-open ranges, ascending.

    O(ranges of the version vectors + rows that are returned). `TypeError` if `since` is no version vector.
    """
    found: list[tuple[int, int]] = []
    try:
        theirs = {agent: sorted([(start, end) for start, end in ranges]) for agent, ranges in since.items()}
        for agent, held in graph.version_vector().items():
            for seq, end in subtract(held, theirs.get(agent, ())):
                at = seq
                while at < end:
                    # Seqs that follow each other need not do so in local versions: row by row.
                    lv = graph.lv(agent, at)
                    row = next(islice(graph.runs(lv), 1))
                    some = min(end - at, row.end - lv)
                    found.append((lv, lv + some))
                    at += some
    except (AttributeError, TypeError, ValueError):
        raise TypeError(f"a version vector is {{agent: [(start, end), ...]}}, not {since!r}") from None
    found.sort()
    return found


def subtract(
    ranges: Iterable[tuple[int, int]], without: Sequence[tuple[int, int]]
) -> Iterable[tuple[int, int]]:
    """What is in the ascending half-open `ranges` and in none of the sorted ones of `without`.

    >>> list(subtract([(0, 10), (20, 30)], [(2, 4), (8, 22)]))
    [(0, 2), (4, 8), (22, 30)]
    """
    i = 0
    for start, end in ranges:
        while i < len(without) and without[i][1] <= start:
            i += 1
        at = start
        for lo, hi in islice(without, i, None):
            if lo >= end:
                break
            if lo > at:
                yield at, lo
            at = max(at, hi)
        if at < end:
            yield at, end


# --- as text ------------------------------------------------------------------------------------------------

ROOT = "root"
ONE_ID = re.compile(r"(.+?):([0-9]{1,16})(?:,(?=.)|\Z)", re.DOTALL)


def format_version(version: Iterable[Id]) -> str:
    """A version as people read and type it.

    >>> format_version((("alice", 3), ("bob", 0))), format_version(())
    ('alice:3,bob:0', 'root')
    """
    return ",".join([f"{agent}:{seq}" for agent, seq in version]) or ROOT


def parse_version(text: str) -> Version:
    """The version that `format_version` wrote. `root` and the empty text are the document before all events.

    An agent's name may hold colons and commas, as long as no comma in it follows a colon and a number.
    Raises `DecodeError`.

    >>> parse_version("alice:3,Doe, John:7"), parse_version("root")
    ((('Doe, John', 7), ('alice', 3)), ())
    """
    if text in ("", ROOT):
        return ()
    ids: set[Id] = set()
    at = 0
    while at < len(text):
        found = ONE_ID.match(text, at)
        if found is None:
            raise DecodeError(f"a version is agent:seq,agent:seq or {ROOT}, not {text!r}")
        ids.add((found[1], int(found[2])))
        at = found.end()
    return tuple(sorted(ids))
