"""Random runs of Python's and the browser's peers over a faulty network: in the end all are the same.

    python tests/mixed_network.py [--runs N] [--first SEED] [--seconds S] [--keep-going]

prints `N passed, M failed`, with the seed of each failure, and exits 1 if there is one. Needs Node.js.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from random import Random
from typing import Any, NamedTuple

import generate
from deliver import MismatchError, expect
from javascript_peer import JavaScriptDocument, JavaScriptSession, Node
from network import AGENTS, ORACLE_EVENTS, TOPOLOGIES, edges, expect_all_said
from oracle import Sequence, Txn

from egwalker import Document
from egwalker.session import Presence, Session
from egwalker.transports.memory import End, Network, Wire
from egwalker.transports.testing import assert_converged

LONGEST_TEXT = 200
"""What a shallow document begins with is now and then this long, so that its text is not all concurrent."""


class Mixed(Network):
    """A network that also links documents of `egwalker.js`."""

    def _session(self, end: End) -> Any:
        document: Any = end.document
        if isinstance(document, JavaScriptDocument):
            return JavaScriptSession(document, **end.options)
        return Session(document, **end.options)


class Result(NamedTuple):
    """What a run came to."""

    peers: int
    javascript: int
    shallow: int
    """Of them those that still were so at the end, "deepened" those that once were."""
    deepened: int
    restarts: int
    events: int
    compared: int


class Run:
    """One random run. All of it follows from the seed.

    Some peers are Python's, the first one always, some the browser's. These begin with a copy, with nothing,
    or as blank ones that may be shallow. A shallow one is linked to one Python peer only: who has not got all
    of what it begins with cannot go on with it.
    """

    def __init__(self, seed: int, node: Node, *, steps: int | None = None) -> None:
        rng = self.rng = Random(seed)
        self.node = node
        self.steps = rng.randint(4, 40) if steps is None else steps
        self.world = generate.World(rng, 1, odd=rng.random() < 0.5)
        self.network = Mixed(
            rng.getrandbits(32),
            loss=rng.choice((0.0, 0.1, 0.3)),
            duplication=rng.choice((0.0, 0.5)),
            reorder=rng.choice((0.0, 0.1, 0.3)),
            timeout=rng.choice((0.3, 2.0)),
            on_event=self._on_event,
        )
        self.made: dict[str, int] = {}
        self.documents: list[Any] = []
        self.carets: dict[Any, int] = {}
        self.shallow: set[Any] = set()
        self.presences: dict[tuple[Any, str], Any] = {}
        self.restarts = 0
        first = Document("text", agent=AGENTS[0], id=f"{rng.getrandbits(128):032x}")
        self.documents.append(first)
        if rng.random() < 0.3:
            self._made(first, rng.randint(1, LONGEST_TEXT))
            first.insert(0, "".join(rng.choices(self.world.alphabet, k=self.made[first.agent])))
        for _ in range(rng.choice((0, 1, 3, 6))):
            self.edit(first)
        self.wires: list[Wire] = []
        self._link_all(rng.randint(2, 6))

    def _link_all(self, count: int) -> None:
        rng = self.rng
        ordinary = rng.randint(1, count)
        for number in range(1, ordinary):
            self.documents.append(self.document(AGENTS[number]))
        pairs = edges(rng, rng.choice(TOPOLOGIES), ordinary) if ordinary > 1 else []
        linked = [(self.documents[a], self.documents[b]) for a, b in pairs]
        servers = [document for document in self.documents if isinstance(document, Document)]
        for number in range(ordinary, count):
            blank = JavaScriptDocument(self.node, AGENTS[number])
            self.documents.append(blank)
            self.shallow.add(blank)
            linked.append((blank, rng.choice(servers)))
        rng.shuffle(linked)
        for one, other in linked:
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            self.wires.append(self.network.link(a, b, a_options=self._options(a), b_options=self._options(b)))

    def _options(self, document: Any) -> dict[str, Any]:
        return {"shallow": True} if document in self.shallow else {}

    def document(self, agent: str) -> Any:
        """A replica of either language: a copy of the first, or an empty one."""
        first, how = self.documents[0], self.rng.random()
        if self.rng.random() < 0.4:
            return first.fork(agent) if how < 0.5 else Document("text", agent=agent, id=first.id)
        if how < 0.5:
            whole = JavaScriptDocument(self.node, agent, doc_id=first.id)
            self.node.ask("receive_runs", doc=whole.number, runs=first.history())
            whole.changed()
            return whole
        return JavaScriptDocument(self.node, agent, doc_id=first.id)

    def _made(self, document: Any, events: int) -> None:
        self.made[document.agent] = self.made.get(document.agent, 0) + events

    def edit(self, document: Any) -> None:
        """Somebody does something, unless they do not know yet which document they have."""
        if not document._id_given:
            return
        ops, self.carets[document] = self.world.ops(len(document), self.carets.get(document, 0))
        for pos, deleted, inserted in ops:
            if deleted:
                document.delete(pos, deleted)
            if len(inserted):
                document.insert(pos, inserted)
            self._made(document, deleted + len(inserted))

    def restart(self) -> None:
        """A page is closed, and opened again with what it kept."""
        pages = [document for document in self.documents if isinstance(document, JavaScriptDocument)]
        if not pages:
            return
        page = self.rng.choice(pages)
        for wire in self.wires:
            ends: list[Any] = [end.document for end in wire.ends]
            if page in ends:
                self.network.disconnect(wire)
        if page._id_given:
            page.restart()
            self.restarts += 1

    def show(self, document: Any) -> None:
        state = {"name": document.agent, "at": self.rng.randrange(100)}
        for wire in self.wires:
            for end in wire.ends:
                if end.document is document and end.session is not None:
                    end.session.show(document.agent, state)

    def _on_event(self, end: End, event: Any) -> None:
        if isinstance(event, Presence):
            self.presences[end.document, event.key] = event.state

    def go(self) -> Result:
        rng, network = self.rng, self.network
        for _ in range(self.steps):
            what = rng.random()
            if what < 0.55:
                self.edit(rng.choice(self.documents))
            elif what < 0.78:
                network.run(rng.choice((0.02, 0.1, 0.5)))
            elif what < 0.84:
                network.disconnect(rng.choice(self.wires)) if self.wires else None
            elif what < 0.88:
                network.partition(rng.sample(self.documents, rng.randint(1, len(self.documents))))
            elif what < 0.92:
                network.heal()
            elif what < 0.96:
                self.restart()
            else:
                self.show(rng.choice(self.documents))
        network.settle()
        failed = [(wire, [end.error for end in wire.ends]) for wire in self.wires if wire.failed]
        expect("wires that failed", failed, [])
        expect("exchanges after silence", network.settle(), 0)
        return self.compare()

    def compare(self) -> Result:
        assert_converged(*self.documents)
        pages = [document for document in self.documents if isinstance(document, JavaScriptDocument)]
        for page in pages:
            page.check()
        first = self.documents[0]
        events = sum(self.made.values())
        expect("version vector", first.version_vector, {a: [(0, n)] for a, n in self.made.items() if n})
        if events <= ORACLE_EVENTS:
            oracle = Sequence()
            oracle.receive([Txn(*run) for run in first.history()])
            expect("content", first.content, oracle.content(oracle.graph.everything))
        expect_all_said(self.wires)
        for wire in self.wires:
            for end in wire.ends:
                session: Any = end.session
                if isinstance(session, JavaScriptSession):
                    expect("what is not saved", session.unsaved, 0)
        for page in pages:
            if not page.shallow:
                # The two languages read each other's bytes.
                expect("decoded", Document.decode(page.encode(), agent="reader").content, first.content)
        return Result(
            len(self.documents),
            len(pages),
            sum(page.shallow for page in pages),
            sum(not page.shallow and page in self.shallow for page in pages),
            self.restarts,
            events,
            int(events <= ORACLE_EVENTS),
        )

    def close(self) -> None:
        pages = [document for document in self.documents if isinstance(document, JavaScriptDocument)]
        self.node.ask("forget", docs=[page.number for page in pages])


def run(seed: int, node: Node) -> Result:
    """One run; what is wrong raises."""
    one = Run(seed, node)
    try:
        return one.go()
    finally:
        one.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random runs of two languages over a faulty network.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--node", default="node", help="the program")
    options = parser.parse_args(arguments)
    passed = failed = 0
    totals = [0] * len(Result._fields)
    start = told = time.monotonic()
    with Node(options.node) as node:
        for seed in range(options.first, options.first + options.runs):
            now = time.monotonic()
            if now - start > options.seconds:
                break
            if now - told > 1 and sys.stderr.isatty():
                told = now
                print(f"\r{seed - options.first} of {options.runs}", end="", file=sys.stderr, flush=True)
            try:
                result = run(seed, node)
            except (MismatchError, AssertionError, RuntimeError, ValueError) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {error}")
                if not options.keep_going:
                    traceback.print_exc()
                    break
            else:
                passed += 1
                totals = [total + some for total, some in zip(totals, result, strict=True)]
    print(", ".join(f"{name} {n:,}" for name, n in zip(Result._fields, totals, strict=True)))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
