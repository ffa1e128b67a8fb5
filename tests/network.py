"""Random runs of documents over a faulty network: peers edit, faults happen, all is healed, all are the same.

    python tests/network.py [--runs N] [--first SEED] [--seconds S] [--kind KIND] [--keep-going]

prints `N passed, M failed`, with the seed of each failure, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from itertools import combinations
from random import Random
from typing import NamedTuple

import generate
from deliver import MismatchError, expect
from oracle import Sequence, Txn
from replayed import AFTER, Book, random_op

from egwalker import Document
from egwalker.transports.memory import Network, Wire
from egwalker.transports.testing import assert_converged

AGENTS = (*generate.AGENTS, "\U00010348", "Zoë")
TOPOLOGIES = ("line", "ring", "star", "full", "tree")
ORACLE_EVENTS = 120
"""Histories of up to so many events are given to the oracle: it is quadratic."""


class Result(NamedTuple):
    """What a run came to."""

    peers: int
    diameter: int
    exchanges: int
    after: int
    """Of them those after all were the same."""
    events: int
    compared: bool
    shallow: int
    """How many peers might begin in the middle."""
    partial: int
    """How many of them did not have all of the history when they had all converged."""
    digest: str
    """Of all that arrived, when and where."""


def expect_all_said(wires: list[Wire]) -> None:
    """Both ends of each wire have sent all that they have, and know that it has come."""
    for wire in wires:
        for end in wire.ends:
            session = end.session
            assert session is not None
            expect("synced", (session.greeted, session.synced, session.all_sent), (True, True, True))
            expect("what was acknowledged", session.acknowledged.received, session.sent)


def edges(rng: Random, topology: str, count: int) -> list[tuple[int, int]]:
    if topology == "line":
        return [(i, i + 1) for i in range(count - 1)]
    if topology == "ring":
        return [(i, (i + 1) % count) for i in range(count if count > 2 else 1)]
    if topology == "star":
        return [(0, i) for i in range(1, count)]
    if topology == "tree":
        return [(rng.randrange(i), i) for i in range(1, count)]
    return list(combinations(range(count), 2))


def diameter(count: int, found: list[tuple[int, int]]) -> int:
    """The most hops between two peers."""
    near: list[list[int]] = [[] for _ in range(count)]
    for a, b in found:
        near[a].append(b)
        near[b].append(a)
    most = 0
    for start in range(count):
        hops = {start: 0}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            for other in near[at]:
                if other not in hops:
                    hops[other] = hops[at] + 1
                    queue.append(other)
        expect("peers that can be reached", len(hops), count)
        most = max(most, *hops.values())
    return most


class Run:
    """One random run. All of it follows from the seed, and the kind of document, if one is asked for."""

    def __init__(
        self, seed: int, *, steps: int | None = None, traced: bool = False, kind: str | None = None
    ) -> None:
        rng = self.rng = Random(seed)
        self.kind = "list" if rng.random() < 0.25 else "text"
        self.kind = kind or self.kind
        self.steps = rng.randint(4, 40) if steps is None else steps
        self.world = generate.World(rng, 1, odd=rng.random() < 0.5, values=self.kind == "list")
        count = rng.randint(2, 8)
        topology = rng.choice(TOPOLOGIES)
        self.network = Network(
            rng.getrandbits(32),
            loss=0.3,
            duplication=0.5,
            reorder=rng.choice((0.0, 0.1, 0.3)),
            timeout=rng.choice((0.3, 2.0)),
        )
        self.network.trace = [] if traced else None
        self.made: dict[str, int] = {}
        """How many events each agent has made."""
        self.documents: list[Document] = []
        self.carets: dict[Document, int] = {}
        for number in range(count):
            self.documents.append(self.document(number, topology))
        pairs = edges(rng, topology, count)
        # Who has one neighbour, with all of the history, may do with the end of it.
        self.shallow: set[Document] = set()
        for number, document in enumerate(self.documents):
            near = [self.documents[a + b - number] for a, b in pairs if number in (a, b)]
            may = number and len(near) == 1 and near[0] not in self.shallow and not document.events
            if may and rng.random() < 0.6:
                self.shallow.add(document)
        self.diameter = diameter(count, pairs)
        rng.shuffle(pairs)
        self.wires: list[Wire] = []
        for a, b in pairs:
            if rng.random() < 0.5:
                a, b = b, a  # noqa: PLW2901
            one, other = self.documents[a], self.documents[b]
            options = [{"shallow": True} if document in self.shallow else {} for document in (one, other)]
            self.wires.append(self.network.link(one, other, a_options=options[0], b_options=options[1]))

    def document(self, number: int, topology: str) -> Document:
        """A replica: the first, a copy of it, one whose history is not read yet, an empty or a blank one."""
        rng, agent = self.rng, AGENTS[number]
        if not number:
            document = Document(self.kind, agent=agent, id=f"{rng.getrandbits(128):032x}")
            for _ in range(rng.choice((0, 0, 1, 3))):
                self.edit(document)
            return document
        first = self.documents[0]
        how = rng.random()
        if how < 0.4:
            return first.fork(agent)
        if how < 0.6:
            return Document.decode(first.encode(), agent=agent)
        if how < 0.8 or topology != "star":
            return Document(self.kind, agent=agent, id=first.id)
        blank = Document(self.kind, agent=agent)
        blank._id = f"{rng.getrandbits(128):032x}"
        return blank

    def edit(self, document: Document) -> None:
        """Somebody does something, unless they do not know yet which document they have."""
        if not document._id_given:
            return
        if self.kind in AFTER:
            for _ in range(self.rng.randint(1, 4)):
                document.perform(random_op(self.rng, self.kind))
                self.made[document.agent] = self.made.get(document.agent, 0) + 1
            return
        ops, self.carets[document] = self.world.ops(len(document), self.carets.get(document, 0))
        for pos, deleted, inserted in ops:
            if deleted:
                document.delete(pos, deleted)
            if len(inserted):
                document.insert(pos, inserted)
            self.made[document.agent] = self.made.get(document.agent, 0) + deleted + len(inserted)

    def go(self) -> Result:
        rng, network = self.rng, self.network
        for _ in range(self.steps):
            what = rng.random()
            if what < 0.60:
                self.edit(rng.choice(self.documents))
            elif what < 0.80:
                network.run(rng.choice((0.02, 0.1, 0.5)))
            elif what < 0.87:
                network.disconnect(rng.choice(self.wires))
            elif what < 0.94:
                network.partition(rng.sample(self.documents, rng.randint(1, len(self.documents))))
            else:
                network.heal()
        same: list[bool] = []
        exchanges = network.settle(lambda: same.append(len({doc.version for doc in self.documents}) == 1))
        failed = [(wire, [end.error for end in wire.ends]) for wire in self.wires if wire.failed]
        expect("wires that failed", failed, [])
        after = exchanges - (same.index(True) + 1 if True in same else 0)
        most = self.diameter + (2 if len(self.wires) < len(self.documents) else 3)
        if self.shallow:
            most += 6  # to ask for older history and get it, a few times
        if after > 3 or exchanges > most:
            raise MismatchError(
                f"{exchanges} exchanges, {after} since all are the same; at most {most} and 3"
            )
        expect("exchanges after silence", network.settle(), 0)
        assert_converged(*self.documents)
        document = self.documents[0]
        events = sum(self.made.values())
        expect("version vector", document.version_vector, {a: [(0, n)] for a, n in self.made.items() if n})
        compared = events <= ORACLE_EVENTS
        if self.kind in AFTER:
            by_the_book = Book(self.kind)
            by_the_book.read(document)
            by_the_book.expect(document)
        elif compared:
            oracle = Sequence(values=self.kind == "list")
            oracle.receive([Txn(*run) for run in document.history()])
            expect("content", document.content, oracle.content(oracle.graph.everything))
            expect("version", document.version, oracle.graph.frontier)
        expect_all_said(self.wires)
        begun = self.deepen()
        digest = hashlib.sha256(repr(network.trace).encode()).hexdigest()
        peers, shallow = len(self.documents), len(self.shallow)
        return Result(peers, self.diameter, exchanges, after, events, compared, shallow, begun, digest)

    def deepen(self) -> int:
        """Have all history everywhere, compare all of it; how many had not."""
        begun = [document for document in self.shallow if document.start]
        for document in begun:
            document._check()
        for wire in self.wires:
            for end in wire.ends:
                if end.document in begun:
                    assert end.session is not None
                    end.session.fetch()
        self.network.settle()
        everything = sorted(self.documents[0].groups())
        for document in self.shallow:
            expect("start", document.start, ())
            expect("groups", sorted(document.groups()), everything)
            document.verify()
            expect("content", Document.decode(document.encode()).content, self.documents[0].content)
        return len(begun)


def progress(runs: int, first: int, seconds: float) -> Iterator[int]:
    start = told = time.monotonic()
    for seed in range(first, first + runs):
        now = time.monotonic()
        if now - start > seconds:
            return
        if now - told > 1 and sys.stderr.isatty():
            told = now
            print(f"\r{seed - first} of {runs}", end="", file=sys.stderr, flush=True)
        yield seed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random runs of documents over a faulty network.")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--kind", help="of the documents (default: text, some lists)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    args = parser.parse_args(arguments)
    done: list[Result] = []
    failures = 0
    started = time.monotonic()
    for seed in progress(args.runs, args.first, args.seconds):
        try:
            done.append(Run(seed, kind=args.kind).go())
        except Exception:
            failures += 1
            traceback.print_exc()
            print(f"seed {seed} failed", flush=True)
            if not args.keep_going:
                break
    print(summary(done, time.monotonic() - started))
    print(f"{len(done)} passed, {failures} failed")
    return 1 if failures else 0


def summary(done: list[Result], seconds: float) -> str:
    return (
        f"{sum([result.events for result in done])} events in {seconds:.0f} s, at most "
        f"{max((result.exchanges for result in done), default=0)} exchanges, "
        f"{max((result.after for result in done), default=0)} after all were the same, "
        f"{sum([result.compared for result in done])} compared with the oracle, "
        f"{sum([result.partial for result in done])} peers without all history"
    )


if __name__ == "__main__":
    sys.exit(main())
