"""People who type, erase, move and hear of each other at random moments, through documents of the engine.

Each history follows from its seed. What is a run, an uninterrupted piece of typing, is said here once more,
in the slowest way: for each gap between two elements of each replica whether somebody else has changed
something there since the run began. From the command line it counts, over many histories, what deferring the
clock changes:

    python tests/typists.py [--histories N] [--check]
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from generate import AGENTS, LETTERS
from oracle import Id, Sequence, Txn, total_order

from egwalker import Document, Run

BEGINNING = "somebody wrote this before\n"


class Typing(NamedTuple):
    """One run: the events `start:end` of an agent."""

    agent: str
    start: int
    end: int


class Typist:
    """One person, with a replica. `plain`: without a cursor, by positions that they keep themselves."""

    def __init__(self, doc: Document, plain: bool) -> None:
        self.doc = doc
        self.cursor = None if plain else doc.cursor(len(doc))
        self.caret = len(doc)
        self.inbox: deque[Run] = deque()
        self.typings: list[Typing] = []
        self.next = 0  # seq
        self.began = 0  # first seq of the run
        self.goes_on = -1  # where the run goes on, -1: nowhere
        self.changed: list[bool] = []  # for each gap whether others changed something there meanwhile

    # What a person does

    def move(self, to: int) -> None:
        self.caret = to
        if self.cursor is not None:
            self.cursor.move(to)
            self.interrupt()

    def type(self, text: str) -> bool:
        """Insert at the caret; returns whether that went on with the run."""
        on = self.goes_on == self.caret and not self.changed[self.caret]
        if not on:
            self.interrupt()
        if self.cursor is None:
            self.doc.insert(self.caret, text)
        else:
            self.cursor.insert(text)
        self.changed[self.caret : self.caret] = [False] * len(text)
        self.caret += len(text)
        self.made(len(text))
        return on

    def erase(self, before: int, behind: int) -> bool:
        """Delete elements before and behind the caret; one of the two is 0."""
        start, length = self.caret - before, before + behind
        # The document cannot know on which side of the elements a plain position was meant to be.
        first = start + 1 if self.goes_on == start + length else start
        on = self.goes_on in (start, start + length) and not any(self.changed[first : first + length])
        if not on:
            self.interrupt()
        if self.cursor is None:
            self.doc.delete(start, length)
        elif before:
            self.cursor.backspace(before)
        else:
            self.cursor.delete(behind)
        self.changed[start : start + length + 1] = [self.changed[start] or self.changed[start + length]]
        self.caret = start
        self.made(length)
        return on

    def receive(self, runs: Iterable[Run]) -> None:
        """Take in events of others; they end the run if they change something where it goes on."""
        for pos, deleted, inserted in self.doc.receive(runs).edits:
            self.caret = follow(self.caret, pos, deleted, len(inserted))
            if self.goes_on >= 0:
                if pos <= self.goes_on <= pos + deleted:
                    self.interrupt()
                else:
                    self.goes_on = follow(self.goes_on, pos, deleted, len(inserted))
                    self.changed[pos : pos + deleted + 1] = [True] * (len(inserted) + 1)
        if self.cursor is not None:
            assert self.cursor.position == self.caret

    # Its runs

    def interrupt(self) -> None:
        if self.next > self.began:
            self.typings.append(Typing(self.doc.agent, self.began, self.next))
        self.began = self.next
        self.goes_on = -1
        self.changed = [False] * (len(self.doc) + 1)

    def made(self, events: int) -> None:
        self.next += events
        self.goes_on = self.caret


def follow(at: int, pos: int, deleted: int, inserted: int) -> int:
    """Where a caret stands after an edit; what is inserted right there goes behind it."""
    if pos < at:
        at -= min(deleted, at - pos)
        if pos < at:
            at += inserted
    return at


class Session:
    """A seeded history. `check`: on the way, each event's parents and each replica's content."""

    def __init__(self, seed: int, *, defer: bool, check: bool, steps: int = 60) -> None:
        self.rng = rng = Random(seed)
        self.defer = defer
        self.check = check
        self.oracle = Sequence()
        first = Document(agent="-", id="0" * 32, defer=defer)
        first.insert(0, BEGINNING)
        self.oracle.receive([Txn(*run) for run in first.history()])
        self.typists = [
            Typist(first.fork(agent), rng.random() < 0.4) for agent in rng.sample(AGENTS, rng.randint(2, 6))
        ]
        # Who is asked to write next writes in most cases where somebody else does, or far from everybody.
        self.near = rng.random()
        for _ in range(steps):
            self.step(rng.choice(self.typists))
        for typist in self.typists:
            self.hear(typist, len(typist.inbox))
            typist.interrupt()
        self.compare()

    def step(self, typist: Typist) -> None:
        rng = self.rng
        what = rng.random()
        size, caret = len(typist.doc), typist.caret
        before = typist.doc.version_vector
        on = None
        if what < 0.45:
            on = typist.type("".join(rng.choice(LETTERS) for _ in range(rng.choice((1, 1, 1, 1, 2, 5)))))
        elif what < 0.6 and caret:
            on = typist.erase(min(caret, rng.choice((1, 1, 1, 2, 4, 8))), 0)
        elif what < 0.65 and caret < size:
            on = typist.erase(0, min(size - caret, rng.choice((1, 1, 3))))
        elif what < 0.72:
            to = rng.random()
            if rng.random() < self.near:
                to = rng.choice(self.typists).caret / (size + 1)
            typist.move(min(int(to * (size + 1)), size))
        elif typist.inbox:
            self.hear(typist, rng.randint(1, len(typist.inbox)))
        if on is not None:
            self.send(typist, typist.doc.history(before), on)

    def send(self, typist: Typist, runs: list[Run], on: bool) -> None:
        agent = typist.doc.agent
        if self.check:
            first = runs[0]
            own = ((agent, first.seq - 1),)
            assert [run.parents for run in runs[1:]] == [((agent, run.seq - 1),) for run in runs[1:]]
            if self.defer and on:
                assert first.parents == own, f"{first} does not go on with the run"
            else:
                known = self.oracle.graph.before(first.parents)
                assert known == self.held(typist, first.seq), f"{first} does not follow all that was there"
        self.oracle.receive([Txn(*run) for run in runs])
        for other in self.typists:
            if other is not typist:
                other.inbox.extend(runs)

    def hear(self, typist: Typist, count: int) -> None:
        typist.receive([typist.inbox.popleft() for _ in range(count)])
        if self.check:
            self.compare_one(typist)

    def held(self, typist: Typist, before: int) -> int:
        """The set of the events that a replica has, of its own agent only those with smaller seqs."""
        index = self.oracle.graph.index
        found = 0
        for agent, ranges in typist.doc.version_vector.items():
            for start, end in ranges:
                for seq in range(start, min(end, before) if agent == typist.doc.agent else end):
                    found |= 1 << index[agent, seq]
        return found

    # What must hold

    def compare_one(self, typist: Typist) -> None:
        known = self.held(typist, typist.next)
        assert typist.doc.content == self.oracle.content(known), typist.doc.agent
        assert typist.doc.version == self.oracle.graph.version(known)

    def compare(self) -> None:
        for typist in self.typists:
            assert not typist.doc.pending
            assert typist.doc.content == self.oracle.content(), typist.doc.agent
            if self.check:
                typist.doc._check()

    def typings(self) -> list[Typing]:
        """The runs of more than one event."""
        return [run for typist in self.typists for run in typist.typings if run.end - run.start > 1]

    def split(self) -> list[Typing]:
        """The runs that are not in one group of the total order."""
        groups = {
            (group.agent, group.seq + i): number
            for number, group in enumerate(total_order(self.oracle.graph))
            for i in range(group.length)
        }
        return [
            run
            for run in self.typings()
            if len({groups[run.agent, seq] for seq in range(run.start, run.end)}) > 1
        ]

    def interleaved(self) -> list[tuple[Typing, Id]]:
        """The runs with an element in their midst whose author knew nothing of them, and the first one."""
        graph = self.oracle.graph
        visible = self.oracle.visible()
        found = []
        for run in self.typings():
            events = 0
            for seq in range(run.start, run.end):
                events |= 1 << graph.index[run.agent, seq]
            places = [i for i, node in enumerate(visible) if node.bit & events]
            for node in visible[places[0] : places[-1]] if places else []:
                if not graph.past[graph.index[node.id]] & events:
                    found.append((run, node.id))
                    break
        return found

    def merges(self) -> int:
        """The events whose parents are not just their author's previous event."""
        graph = self.oracle.graph
        return sum(
            parents != ((agent, seq - 1),)
            for (agent, seq), parents in zip(graph.ids, graph.parents, strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what deferring the clock changes.")
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--check", action="store_true", help="check every event and every replica on the way")
    args = parser.parse_args()
    table: list[list[int]] = []
    for defer in (False, True):
        columns = [0] * 6
        for seed in range(args.histories):
            session = Session(seed, defer=defer, check=args.check)
            numbers = (
                len(session.oracle.graph),
                len(session.typings()),
                len(session.split()),
                len(session.interleaved()),
                session.merges(),
                len(total_order(session.oracle.graph)),
            )
            columns = [a + b for a, b in zip(columns, numbers, strict=True)]
        table.append(columns)
    names = (
        "events",
        "runs of two events and more",
        "of these, not one group",
        "of these, interleaved with others' text",
        "events that follow others'",
        "groups",
    )
    print(f"{args.histories:,} histories".ljust(42), f"{'not deferred':>12} {'deferred':>12}")
    for name, off, on in zip(names, *table, strict=True):
        print(name.ljust(42), f"{off:>12,} {on:>12,}")


if __name__ == "__main__":
    main()
