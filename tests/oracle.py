"""The naive oracle: what a merged document must be, computed by the book.

It shares no code with the engine and imports nothing from it. Slow is fine here, doubtful is not:

- `Graph` holds, for each event, the whole set of its ancestors, and answers every question from those sets.
- `Sequence` is FugueMax as the paper has it ("The Art of the Fugue", arXiv 2305.00583): a tree of
  elements. Every event is interpreted on its own, in the document as of its own parents.
- `total_order` is the total-order walk by brute force: look at all groups, take the smallest ready one.

A set of events is a Python int with bit `i` set for event `i`, `i` being the order of arrival at this oracle;
"the events known to x" is then `&`, and the union of two histories `|`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Id = tuple[str, int]
"""An event's id: agent and seq."""
Version = tuple[Id, ...]
"""The heads of a set of events, sorted."""
Op = tuple[int, int, Any]
"""`(pos, deleted, inserted)`: a delete of `deleted` elements at `pos`, then an insert of `inserted` there."""


class Txn(NamedTuple):
    """A run of one agent's events; each but the first has its predecessor as its only parent.

    The fields are those of the engine's `Run`, so that `Run(*txn)` is the same thing for the engine.
    """

    agent: str
    seq: int
    parents: Version
    ops: tuple[Op, ...]

    @property
    def length(self) -> int:
        """How many events."""
        return sum(deleted + len(inserted) for _, deleted, inserted in self.ops)


class Event(NamedTuple):
    """One element inserted (`value`) or deleted (`value` is `DELETED`) at `pos` in the text at `parents`."""

    id: Id
    parents: Version
    pos: int
    value: Any


DELETED = object()


def rank(ident: Id) -> tuple[bytes, int]:
    """Ties between ids: agent name as UTF-8 bytes, then seq."""
    return ident[0].encode(), ident[1]


def events(txn: Txn) -> Iterator[Event]:
    """The single events of a run. A delete of n is n events at one position."""
    seq, parents = txn.seq, tuple(txn.parents)
    for pos, deleted, inserted in txn.ops:
        steps = [(pos, DELETED)] * deleted + [(pos + i, value) for i, value in enumerate(inserted)]
        for at, value in steps:
            yield Event((txn.agent, seq), parents, at, value)
            parents = ((txn.agent, seq),)
            seq += 1


class Diff(NamedTuple):
    a_only: set[Id]
    b_only: set[Id]
    both: set[Id]


class Graph:
    """The event graph, by explicit sets of ancestors."""

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.index: dict[Id, int] = {}
        self.parents: list[Version] = []
        self.past: list[int] = []
        """For each event the set of it and everything before it."""

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ident: Id, parents: Iterable[Id]) -> int:
        """Add an event whose parents are all known; returns its index."""
        if ident in self.index:
            raise ValueError(f"event {ident} is known already")
        index = len(self.ids)
        parents = tuple(sorted(parents))
        self.past.append(self.before(parents) | 1 << index)
        self.ids.append(ident)
        self.index[ident] = index
        self.parents.append(parents)
        return index

    # Sets and versions

    @property
    def everything(self) -> int:
        return (1 << len(self.ids)) - 1

    def before(self, version: Iterable[Id]) -> int:
        """The set of all events in `version`: its heads and all their ancestors."""
        known = 0
        for ident in version:
            known |= self.past[self.index[ident]]
        return known

    def indexes(self, known: int) -> list[int]:
        return [i for i, bit in enumerate(reversed(f"{known:b}")) if bit == "1"]

    def members(self, known: int) -> set[Id]:
        return {self.ids[i] for i in self.indexes(known)}

    def version(self, known: int) -> Version:
        """The heads of a set of events: those that are no ancestors of others in it."""
        heads = []
        while known:
            # The newest one left has nothing after it; all before it are no heads.
            newest = known.bit_length() - 1
            heads.append(self.ids[newest])
            known &= ~self.past[newest]
        return tuple(sorted(heads))

    @property
    def frontier(self) -> Version:
        return self.version(self.everything)

    def version_vector(self, known: int | None = None) -> dict[str, list[tuple[int, int]]]:
        """Per agent the half-open ranges of the seqs in the set (default: all events)."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        for agent, seq in sorted(self.members(self.everything if known is None else known)):
            spans = ranges.setdefault(agent, [])
            if spans and spans[-1][1] == seq:
                spans[-1] = (spans[-1][0], seq + 1)
            else:
                spans.append((seq, seq + 1))
        return ranges

    # Relations

    def contains(self, version: Iterable[Id], ident: Id) -> bool:
        """Whether `id` is one of the version's heads or before one of them."""
        return bool(self.before(version) >> self.index[ident] & 1)

    def dominators(self, ids: Iterable[Id]) -> Version:
        """`ids` without those that are ancestors of others among them."""
        chosen = set(ids)
        return tuple(
            sorted(
                ident
                for ident in chosen
                if not any(other != ident and self.contains([other], ident) for other in chosen)
            )
        )

    def diff(self, a: Iterable[Id], b: Iterable[Id]) -> Diff:
        in_a, in_b = self.before(a), self.before(b)
        return Diff(self.members(in_a & ~in_b), self.members(in_b & ~in_a), self.members(in_a & in_b))

    def critical(self, known: int | None = None) -> list[Id]:
        """The events that each other event (of the set; default: all) either precedes or follows."""
        known = self.everything if known is None else known
        found = []
        for i in self.indexes(known):
            after = sum(1 << j for j in self.indexes(known) if self.past[j] >> i & 1)
            if self.past[i] & known | after == known:
                found.append(self.ids[i])
        return found

    def clock(self, ident: Id) -> int:
        """Lamport clock: 0 without parents, else 1 + the largest of the parents'."""
        return self.clocks()[ident]

    def clocks(self) -> dict[Id, int]:
        clocks: dict[Id, int] = {}
        for ident, parents in zip(self.ids, self.parents, strict=True):
            clocks[ident] = 1 + max((clocks[parent] for parent in parents), default=-1)
        return clocks


@dataclass(eq=False, slots=True)
class Node:
    """An element in the Fugue tree. It is never removed; `deleted` is the set of events that deleted it."""

    id: Id
    value: Any
    bit: int
    """The set of the one event that inserted it."""
    right_origin: Node | None
    """The element after it when it was inserted; None is the end of the list."""
    deleted: int = 0
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def first(self) -> Node:
        """The first element of the subtree."""
        node = self
        while node.left:
            node = node.left[0]
        return node

    def last(self) -> Node:
        """The last element of the subtree."""
        node = self
        while node.right:
            node = node.right[-1]
        return node


class Sequence:
    """A text, or a list (`values`): FugueMax over an event graph."""

    def __init__(self, *, values: bool = False) -> None:
        self.values = values
        self.graph = Graph()
        self.root = Node(("", -1), None, 0, None)
        self.order: list[Node] = [self.root]
        """The tree's in-order traversal, kept up to date; `traverse` computes it afresh."""

    # Taking in events

    def receive(self, txns: Iterable[Txn]) -> int:
        """Take in runs in causal order; known events are skipped. Returns the set of the runs' events."""
        seen = 0
        for txn in txns:
            for event in events(txn):
                index = self.graph.index.get(event.id)
                seen |= 1 << (self.apply(event) if index is None else index)
        return seen

    def apply(self, event: Event) -> int:
        """Interpret one event in the document as of its parents; returns its index in the graph."""
        if event.id in self.graph.index:
            raise ValueError(f"event {event.id} is known already")
        past = self.graph.before(event.parents)
        # Everything that whoever made the event had: tombstones included, concurrent elements left out.
        known = [node for node in self.order if node.bit & past]
        visible = [i for i, node in enumerate(known) if not node.deleted & past]
        if event.pos + (event.value is DELETED) > len(visible):
            raise IndexError(f"event {event.id} is at {event.pos} in {len(visible)} elements")
        index = self.graph.add(event.id, event.parents)
        if event.value is DELETED:
            known[visible[event.pos]].deleted |= 1 << index
            return index
        before = visible[event.pos - 1] if event.pos else -1
        left_origin = known[before] if event.pos else self.root
        right_origin = known[before + 1] if before + 1 < len(known) else None
        node = Node(event.id, event.value, 1 << index, right_origin)
        if right_origin is not None and any(child.bit & past for child in left_origin.right):
            self._add_left(node, right_origin)
        else:
            self._add_right(node, left_origin)
        return index

    def _add_left(self, node: Node, parent: Node) -> None:
        """Left-side siblings are in the order of their ids."""
        parent.left.append(node)
        parent.left.sort(key=lambda sibling: rank(sibling.id))
        place = parent.left.index(node) + 1
        after = parent.left[place].first() if place < len(parent.left) else parent
        self.order.insert(self.order.index(after), node)

    def _add_right(self, node: Node, parent: Node) -> None:
        """Right-side siblings are in the reverse order of their right origins, then in the order of ids."""

        def key(sibling: Node) -> tuple[int, tuple[bytes, int]]:
            origin = sibling.right_origin
            return -(len(self.order) if origin is None else self.order.index(origin)), rank(sibling.id)

        parent.right.append(node)
        if len(parent.right) > 1:
            parent.right.sort(key=key)
        place = parent.right.index(node) - 1
        before = parent.right[place].last() if place >= 0 else parent
        self.order.insert(self.order.index(before) + 1, node)

    def traverse(self) -> list[Node]:
        """The tree in order: left children, the node, right children."""
        nodes: list[Node] = []
        stack: list[tuple[Node, bool]] = [(self.root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                nodes.append(node)
                continue
            stack += [(child, False) for child in reversed(node.right)]
            stack.append((node, True))
            stack += [(child, False) for child in reversed(node.left)]
        return nodes

    # Reading

    def visible(self, known: int | None = None) -> list[Node]:
        """The elements that a replica holding just this set of events shows (default: all events)."""
        known = self.graph.everything if known is None else known
        return [node for node in self.order if node.bit & known and not node.deleted & known]

    def content(self, known: int | None = None) -> Any:
        """A `str` or, of a list, a `list`."""
        elements = [node.value for node in self.visible(known)]
        return elements if self.values else "".join(elements)

    def place(self, pos: int, past: int, known: int | None = None) -> int:
        """Where a caret at `pos` of the content at `past` is at `known`: behind the element before it."""
        if not pos:
            return 0
        before = self.order.index(self.visible(past)[pos - 1])
        known = self.graph.everything if known is None else known
        return sum(bool(node.bit & known) and not node.deleted & known for node in self.order[: before + 1])

    def size(self, known: int | None = None) -> int:
        return len(self.visible(known))


class Group(NamedTuple):
    """A run of one agent's events that the total-order walk emits whole; `clock` is its first event's."""

    agent: str
    seq: int
    length: int
    clock: int


def total_order(graph: Graph, a: Iterable[Id] = (), b: Iterable[Id] | None = None) -> list[Group]:
    """The groups of the events that are in `b` (default: all) and not in `a`, in the total order.

    A group is a maximal run of one agent's contiguous seqs among those events, each but the first having its
    predecessor as its only parent. Of all groups whose first event's parents are in `a` or emitted, the one
    with the smallest (clock, agent, seq) comes next.
    """
    given = graph.members(graph.before(a))
    wanted = graph.members(graph.everything if b is None else graph.before(b)) - given
    clocks = graph.clocks()

    def goes_on(ident: Id) -> bool:
        previous = (ident[0], ident[1] - 1)
        return previous in wanted and graph.parents[graph.index[ident]] == (previous,)

    waiting: list[Group] = []
    for agent, seq in wanted:
        if not goes_on((agent, seq)):
            length = 1
            while (agent, seq + length) in wanted and goes_on((agent, seq + length)):
                length += 1
            waiting.append(Group(agent, seq, length, clocks[agent, seq]))

    emitted: list[Group] = []
    while waiting:
        ready = [g for g in waiting if given.issuperset(graph.parents[graph.index[g.agent, g.seq]])]
        group = min(ready, key=lambda g: (g.clock, rank((g.agent, g.seq))))
        waiting.remove(group)
        emitted.append(group)
        given |= {(group.agent, group.seq + i) for i in range(group.length)}
    return emitted


def read_history(history: dict[str, Any]) -> list[Txn]:
    """A history of the conformance files (parents as event indexes) as runs with ids for parents."""
    ids: list[Id] = []
    txns: list[Txn] = []
    for number, txn in enumerate(history["txns"]):
        start, end = txn["span"]
        if any(not 0 <= lv < start for lv in txn["parents"]):
            raise ValueError(f"txn {number}: parents {txn['parents']} are not all events before it")
        ops = tuple((pos, deleted, inserted) for pos, deleted, inserted in txn["ops"])
        if start != len(ids) or end - start != sum(op[1] + len(op[2]) for op in ops):
            raise ValueError(f"txn {number}: span {txn['span']} does not fit its ops and the txns before")
        parents = tuple(sorted(ids[lv] for lv in txn["parents"]))
        txns.append(Txn(txn["agent"], txn["seqStart"], parents, ops))
        ids += [(txn["agent"], txn["seqStart"] + i) for i in range(end - start)]
    return txns


def write_history(txns: Seq[Txn], text: Any) -> dict[str, Any]:
    """Runs in causal order in the form of the conformance files."""
    index: dict[Id, int] = {}
    rows = []
    for txn in txns:
        start = len(index)
        index.update({(txn.agent, txn.seq + i): start + i for i in range(txn.length)})
        rows.append(
            {
                "agent": txn.agent,
                "seqStart": txn.seq,
                "span": [start, len(index)],
                "parents": [index[parent] for parent in txn.parents],
                "ops": [list(op) for op in txn.ops],
            }
        )
    return {"endContent": text, "txns": rows}


def replay(txns: Seq[Txn]) -> Sequence:
    """The document of a whole history."""
    document = Sequence()
    document.receive(txns)
    return document
