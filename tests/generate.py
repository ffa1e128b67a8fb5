"""Random concurrent histories, and random ways to deliver them. All of it follows from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path
from random import Random
from typing import Any

from oracle import Graph, Op, Sequence, Txn, Version, write_history

AGENTS = ("ann", "bob", "Cy", "dé", "\U0001f600eve", "z")
"""Names whose order by UTF-8 bytes is neither the order of case folding nor that of UTF-16 code units."""
LETTERS = "abcdefghijklmnopqrstuvwxyz \n"
ODD = "éß漢字\u0301\u200d\U0001f600\U0001f469\U00010348"
"""Two-, three- and four-byte code points, combining and joining ones among them."""


class World:
    """Some agents editing one document, each holding its own part of the history.

    Texts and positions come from the oracle, so a world needs no engine. `txns` is the history in the order
    in which it was made, which is a causal one. `odd`: with code points that take several bytes. `values`: a
    list of JSON values, not a text. `crowded`: everybody at the first few positions, so that many insert
    concurrently at one place while they know different parts of what stands after it.
    """

    def __init__(
        self, rng: Random, agents: int = 3, *, odd: bool = False, values: bool = False, crowded: bool = False
    ) -> None:
        self.rng = rng
        self.agents = sorted(rng.sample(AGENTS, agents))
        self.alphabet = LETTERS + (ODD * 3 if odd else "")
        self.values = values
        self.crowded = crowded
        self.document = Sequence(values=values)
        self.txns: list[Txn] = []
        self.known = dict.fromkeys(self.agents, 0)
        self.caret = dict.fromkeys(self.agents, 0)
        self._next = dict.fromkeys(self.agents, 0)
        self._skipped: dict[str, list[tuple[int, int]]] = {agent: [] for agent in self.agents}

    def size(self, agent: str) -> int:
        return self.document.size(self.known[agent])

    def version(self, agent: str) -> Version:
        return self.document.graph.version(self.known[agent])

    # What can happen

    def edit(self, agent: str, ops: Seq[Op]) -> Txn:
        """The agent makes `ops` on top of all that it knows."""
        return self._append(agent, self.version(agent), ops)

    def edit_at(self, agent: str, version: Version, ops: Seq[Op]) -> Txn:
        """The agent makes `ops` on an older version, as somebody with several branches does."""
        return self._append(agent, version, ops)

    def sync(self, agent: str, other: str) -> None:
        """`agent` learns all that `other` knows."""
        self.known[agent] |= self.known[other]

    def _append(self, agent: str, version: Version, ops: Seq[Op]) -> Txn:
        length = sum(deleted + len(inserted) for _, deleted, inserted in ops)
        txn = Txn(agent, self._seqs(agent, length), version, tuple(ops))
        self.known[agent] |= self.document.receive([txn])
        self.txns.append(txn)
        return txn

    def _seqs(self, agent: str, length: int) -> int:
        """Seqs for the next run; now and then some are skipped and used later, or never."""
        skipped = self._skipped[agent]
        if skipped and self.rng.random() < 0.3:
            start, end = skipped.pop(self.rng.randrange(len(skipped)))
            if end - start >= length:
                return start
        if self.rng.random() < 0.03:
            gap = self.rng.randint(1, 9)
            skipped.append((self._next[agent], self._next[agent] + gap))
            self._next[agent] += gap
        start = self._next[agent]
        self._next[agent] += length
        return start

    # Realistic behaviour

    def content(self, length: int) -> Any:
        if self.values:
            return [self.rng.choice([None, True, 0, 1.5, "x", [], {"k": [1]}, length]) for _ in range(length)]
        return "".join(self.rng.choice(self.alphabet) for _ in range(length))

    def ops(self, size: int, caret: int) -> tuple[list[Op], int]:
        """One thing that somebody does in `size` elements with the caret there; and the caret after it."""
        rng = self.rng
        if rng.random() < (0.7 if self.crowded else 0.25):
            caret = rng.randint(0, min(size, 2) if self.crowded else size)
        caret = min(caret, size)
        length = rng.choice((1, 1, 1, 2) if self.crowded else (1, 1, 1, 2, 2, 3, 4, 6))
        empty = self.content(0)
        what = rng.random()
        if what < 0.42 or size == 0:
            return [(caret, 0, self.content(length))], caret + length
        if what < 0.54:
            # Prepending: each element before the last one.
            return [(caret, 0, self.content(1)) for _ in range(length)], caret
        if what < 0.70 and caret:
            length = min(length, caret)
            return [(caret - 1 - i, 1, empty) for i in range(length)], caret - length
        if what < 0.84 and caret < size:
            return [(caret, min(length, size - caret), empty)], caret
        if what < 0.92 and caret < size:
            return [(caret, min(length, size - caret), self.content(length))], caret + length
        ops: list[Op] = []
        for _ in range(rng.randint(2, 3)):
            pos = rng.randint(0, size)
            deleted = min(rng.randint(0, 2), size - pos)
            inserted = self.content(rng.randint(0 if deleted else 1, 3))
            ops.append((pos, deleted, inserted))
            size += len(inserted) - deleted
            caret = pos + len(inserted)
        return ops, caret

    def step(self, agent: str) -> Txn:
        ops, self.caret[agent] = self.ops(self.size(agent), self.caret[agent])
        return self.edit(agent, ops)

    def step_in_the_past(self, agent: str) -> Txn:
        known = 0
        graph = self.document.graph
        mine = graph.indexes(self.known[agent])
        for index in self.rng.sample(mine, min(len(mine), self.rng.randint(0, 2))):
            known |= graph.past[index]
        ops, _ = self.ops(self.document.size(known), 0)
        return self.edit_at(agent, graph.version(known), ops)

    def meet(self) -> None:
        """All learn all."""
        self.known = dict.fromkeys(self.agents, self.document.graph.everything)

    def run(self, steps: int, sync: float = 0.3, past: float = 0.03, meet: float = 0.0) -> World:
        """`steps` edits by agents in turn, with syncs between two of them at a rate of `sync`.

        At a rate of `meet` all of them come together, and one works on alone for a while: critical versions.
        One agent in some histories is away for a long time and returns late. `past` is the rate of edits on
        older versions.
        """
        rng = self.rng
        away = rng.choice(self.agents) if rng.random() < 0.4 else None
        if self.crowded:
            # Siblings at the root, of which each then knows some.
            for agent in self.agents:
                self.edit(agent, [(0, 0, self.content(1))])
            for agent in self.agents:
                self.sync(agent, rng.choice(self.agents))
        alone = rng.randint(1, 3) if meet else 0
        agent = rng.choice(self.agents)
        for number in range(steps):
            if rng.random() < meet:
                self.meet()
                alone = rng.randint(1, 4)
            if alone:
                alone -= 1
                self.step(agent)
                if not alone:
                    self.meet()
                continue
            agent = rng.choice(self.agents)
            if past and rng.random() < past:
                self.step_in_the_past(agent)
            else:
                self.step(agent)
            if away is not None and number > steps * 0.8:
                away = None
            if rng.random() < sync:
                one, other = rng.sample(self.agents, 2)
                if away not in (one, other):
                    self.sync(one, other)
                    if rng.random() < 0.5:
                        self.sync(other, one)
        return self


def history(seed: int, *, agents: int | None = None, steps: int | None = None) -> World:
    """A small history of 2 to 6 agents and 10 to 40 edits, of a kind that depends on the seed."""
    rng = Random(seed)
    crowded = rng.random() < 0.4
    world = World(rng, agents or rng.randint(2, 6), odd=rng.random() < 0.3, crowded=crowded)
    sync = rng.choice((0.3, 0.5, 0.7) if crowded else (0.05, 0.15, 0.3, 0.6))
    return world.run(
        steps or rng.randint(10, rng.choice((14, 20, 40))), sync=sync, meet=rng.choice((0.0, 0.05, 0.1))
    )


# Delivery


def split(txn: Txn, at: int) -> tuple[Txn, Txn]:
    """Cut a run in two before its event number `at` (0 < at < length)."""
    first: list[Op] = []
    rest: list[Op] = []
    left = at
    for pos, deleted, inserted in txn.ops:
        deletes = min(deleted, left)
        inserts = min(len(inserted), left - deletes)
        left -= deletes + inserts
        if deletes or inserts:
            first.append((pos, deletes, inserted[:inserts]))
        if deleted > deletes or len(inserted) > inserts:
            rest.append((pos + inserts, deleted - deletes, inserted[inserts:]))
    head = txn._replace(ops=tuple(first))
    return head, Txn(txn.agent, txn.seq + at, ((txn.agent, txn.seq + at - 1),), tuple(rest))


def pieces(rng: Random, txns: Seq[Txn], cut: float = 0.3) -> list[Txn]:
    """The same history with some runs cut in two, and those again."""
    result: list[Txn] = []
    stack = list(reversed(txns))
    while stack:
        txn = stack.pop()
        if txn.length > 1 and rng.random() < cut:
            head, rest = split(txn, rng.randrange(1, txn.length))
            stack += [rest, head]
        else:
            result.append(txn)
    return result


def causal_order(rng: Random, txns: Seq[Txn]) -> list[Txn]:
    """The runs in a random order that has each one's parents before it.

    Orders differ in character: some follow one branch for long, some hop about.
    """
    holder = {(txn.agent, txn.seq + i): number for number, txn in enumerate(txns) for i in range(txn.length)}
    missing = [len({holder[parent] for parent in txn.parents}) for txn in txns]
    children: list[list[int]] = [[] for _ in txns]
    for number, txn in enumerate(txns):
        for parent in {holder[parent] for parent in txn.parents}:
            children[parent].append(number)
    ready = [number for number, count in enumerate(missing) if not count]
    stay = rng.choice((0.0, 0.5, 0.95))
    order: list[Txn] = []
    while ready:
        # The end of `ready` is what the last run made possible.
        number = ready.pop(-1 if rng.random() < stay else rng.randrange(len(ready)))
        order.append(txns[number])
        for child in children[number]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    if len(order) != len(txns):
        raise ValueError("the history has a cycle or lacks parents")
    return order


def batches(rng: Random, txns: Seq[Txn], largest: int = 12) -> list[list[Txn]]:
    """`txns` in random-sized pieces, in the same order."""
    result = []
    start = 0
    largest = rng.randint(1, largest)
    while start < len(txns):
        size = rng.randint(1, largest)
        result.append(list(txns[start : start + size]))
        start += size
    return result


def random_version(rng: Random, graph: Graph, known: int) -> tuple[Version, int]:
    """A version inside the set `known` of an oracle's graph, and the set of its events."""
    inside = graph.indexes(known)
    chosen = 0
    for index in rng.sample(inside, min(len(inside), rng.choice((0, 1, 1, 1, 2, 3)))):
        chosen |= graph.past[index]
    return graph.version(chosen), chosen


# The suite's own histories


def fixture(name: str) -> list[dict[str, Any]]:
    """The histories of one file in `fixtures`, with the ends that the oracle computes."""
    worlds = [FIXTURES[name](seed) for seed in (TOLD_APART if name == "six_crowded" else range(24))]
    return [write_history(world.txns, world.document.content()) for world in worlds]


TOLD_APART = (
    9,
    14,
    47,
    51,
    53,
    64,
    81,
    83,
    93,
    100,
    113,
    116,
    117,
    155,
    173,
    184,
    266,
    299,
    314,
    319,
    335,
    361,
)
"""Seeds of crowded histories that plain Fugue merges to other texts than FugueMax."""


def _world(
    seed: int, agents: int, steps: int, sync: float, past: float, meet: float, **options: bool
) -> World:
    return World(Random(seed), agents, **options).run(steps, sync, past, meet)


FIXTURES: dict[str, Callable[[int], World]] = {
    "three": lambda seed: _world(seed, 3, 30, sync=0.4, past=0.0, meet=0.05),
    "two_long": lambda seed: _world(seed, 2, 60, sync=0.05, past=0.0, meet=0.0),
    "six_crowded": lambda seed: _world(seed, 6, 16, sync=0.5, past=0.0, meet=0.0, crowded=True),
    "branches": lambda seed: _world(seed, 4, 30, sync=0.3, past=0.3, meet=0.0),
    "odd": lambda seed: _world(seed, 4, 30, sync=0.3, past=0.05, meet=0.1, odd=True),
}


def main() -> None:
    """Write the fixtures afresh: `python tests/generate.py`."""
    folder = Path(__file__).with_name("fixtures")
    for name in FIXTURES:
        rows = ",\n".join(json.dumps(history, separators=(",", ":")) for history in fixture(name))
        (folder / f"{name}.json").write_text(f"[\n{rows}\n]\n", encoding="ascii")


if __name__ == "__main__":
    main()
