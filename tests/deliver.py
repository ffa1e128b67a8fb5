"""Deliver histories to documents of the engine in many ways, and compare each result with the oracle's."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from random import Random
from typing import Any

import generate
from oracle import Id, Sequence, Txn, total_order

from egwalker import Document, Run, Span

DOC_ID = "0123456789abcdef" * 2
"""Of all documents that are replicas of one another without being forked."""


class MismatchError(AssertionError):
    """The engine and the oracle differ; the message says in what."""


def runs(txns: Iterable[Txn]) -> list[Run]:
    return [Run(*txn) for txn in txns]


def expect(what: str, found: Any, wanted: Any) -> None:
    """Raise `MismatchError` unless the two are equal; long texts are shown around their first difference."""
    if found == wanted:
        return
    if isinstance(found, str) and isinstance(wanted, str):
        at = next((i for i, (x, y) in enumerate(zip(found, wanted, strict=False)) if x != y), None)
        at = min(len(found), len(wanted)) if at is None else at
        start = max(0, at - 15)
        raise MismatchError(
            f"{what}: differs at {at}: {found[start : at + 25]!r} instead of {wanted[start : at + 25]!r}"
            f" (lengths {len(found)} and {len(wanted)})"
        )
    raise MismatchError(f"{what}: {found!r} instead of {wanted!r}")


def single_ids(spans: Iterable[Span]) -> list[Id]:
    return [(agent, seq) for agent, start, end in spans for seq in range(start, end)]


def expect_text(doc: Document, document: Sequence, known: int, when: str) -> None:
    expect(f"text {when}", doc.content, document.content(known))


def expect_same(doc: Document, document: Sequence, known: int, when: str) -> None:
    """The document's text, length, frontier and version vector are those of the events in `known`."""
    expect_text(doc, document, known, when)
    expect(f"length {when}", len(doc), document.size(known))
    expect(f"version {when}", doc.version, document.graph.version(known))
    expect(f"version vector {when}", doc.version_vector, document.graph.version_vector(known))


def expect_checkouts(rng: Random, doc: Document, document: Sequence, known: int, count: int) -> None:
    """Random past versions come out as the oracle has them, and so does who wrote them."""
    for _ in range(count):
        version, past = generate.random_version(rng, document.graph, known)
        expect(f"checkout of {version}", doc.checkout(version), document.content(past))
        authors = [node.id for node in document.visible(past)]
        expect(f"blame of {version}", single_ids(doc.blame(version)), authors)


def stored_order(txns: Seq[Txn], text: str) -> None:
    """All of a history, received at once in its stored order, gives `text`."""
    doc = Document("text", agent="reader", id=DOC_ID)
    doc.receive(runs(txns))
    expect("text", doc.content, text)
    expect("waiting events", doc.pending, 0)


class Delivery:
    """Two documents that between them get a history in a random causal order, in random-sized pieces.

    Most pieces go to the first one, some to the second; they merge with each other at random, and whenever a
    piece needs what only the other one has. Every merge is compared with the oracle: incremental must equal
    from scratch.
    """

    def __init__(self, rng: Random, txns: Seq[Txn], document: Sequence) -> None:
        self.rng = rng
        self.document = document
        self.pieces = generate.batches(rng, generate.causal_order(rng, generate.pieces(rng, txns)))
        self.docs = [Document("text", agent="reader", id=DOC_ID), Document("text", agent="writer", id=DOC_ID)]
        self.known = [0, 0]
        self.log: list[str] = []
        """What was done, for whoever has to reproduce a failure."""

    def run(self) -> None:
        for piece in self.pieces:
            target = 0 if self.rng.random() < 0.75 else 1
            self.receive(target, piece)
            if self.rng.random() < 0.1:
                self.exchange(self.rng.randrange(2))
        for target in (0, 1):
            self.exchange(target)
        order = [tuple(group) for group in total_order(self.document.graph)]
        for target in (0, 1):
            expect("all events arrived", self.known[target], self.document.graph.everything)
            self.compare(target, "at the end", checkouts=2)
            expect("total order", [tuple(group) for group in self.docs[target].groups()], order)

    def receive(self, target: int, piece: Seq[Txn]) -> None:
        graph = self.document.graph
        new = sum(1 << graph.index[txn.agent, txn.seq + i] for txn in piece for i in range(txn.length))
        needed = graph.before(parent for txn in piece for parent in txn.parents) & ~new
        if needed & ~self.known[target]:
            self.exchange(target)
        doc = self.docs[target]
        self.log.append(f"docs[{target}].receive({piece})")
        doc.receive(runs(piece))
        self.known[target] |= new
        expect("waiting events", doc.pending, 0)
        if self.rng.random() < 0.05:
            change = doc.receive(runs(piece))
            expect("edits of a piece that was known", tuple(change.edits), ())
        if self.rng.random() < 0.1:
            self.compare(target, f"after {len(self.log)} steps", checkouts=1)
        else:
            expect_text(doc, self.document, self.known[target], f"after {len(self.log)} steps")

    def exchange(self, target: int) -> None:
        """The target learns what the other document holds."""
        doc, other = self.docs[target], self.docs[1 - target]
        if self.rng.random() < 0.7:
            self.log.append(f"docs[{target}].merge(docs[{1 - target}])")
            doc.merge(other)
        else:
            self.log.append(
                f"docs[{target}].receive(docs[{1 - target}].history(docs[{target}].version_vector))"
            )
            doc.receive(other.history(doc.version_vector))
        self.known[target] |= self.known[1 - target]
        expect_text(doc, self.document, self.known[target], f"after {len(self.log)} steps (a merge)")

    def compare(self, target: int, when: str, checkouts: int) -> None:
        doc, known = self.docs[target], self.known[target]
        expect_same(doc, self.document, known, when)
        expect_checkouts(self.rng, doc, self.document, known, checkouts)
