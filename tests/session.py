"""Live documents beside the oracle: peers edit and sync through the API, and every step is compared."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from random import Random
from typing import Any

import generate
from deliver import DOC_ID, expect, expect_same, runs
from oracle import Op, Sequence, Txn, Version, events

from egwalker import Change, Document


def apply_edits(content: Any, edits: Iterable[tuple[int, int, Any]]) -> Any:
    """`content` after edits that follow each other."""
    for pos, deleted, inserted in edits:
        if not 0 <= pos <= pos + deleted <= len(content):
            raise AssertionError(f"edit {(pos, deleted, inserted)} does not fit {len(content)} elements")
        content = content[:pos] + inserted + content[pos + deleted :]
    return content


class Peer:
    """A document, what the oracle says that it knows, and a mirror that only the subscriber's edits keep."""

    def __init__(self, doc: Document) -> None:
        self.doc = doc
        self.known = 0
        self.waiting: list[Txn] = []
        """Runs that were received before some of their parents."""
        self.mirror = doc.content
        self.mirrored = doc.version
        self.changes: list[Change] = []
        self.subscription = doc.subscribe(self._on_change)

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        expect("version before a change", change.before, self.mirrored)
        self.mirror = apply_edits(self.mirror, change.edits)
        self.mirrored = change.after


class Session:
    """Peers that edit one document, each in a replica of its own.

    Each edit is made through the API; what the oracle is given is what must have become of it: events of the
    peer's agent on top of the version that the oracle says the peer has. With `defer` the oracle is given
    what the document made of the edit, maybe on top of the edit before alone; the text must be the same.
    """

    def __init__(self, agents: int, *, kind: str = "text", defer: bool = False) -> None:
        self.kind = kind
        self.defer = defer
        self.document = Sequence(values=kind != "text")
        self.peers: list[Peer] = []
        self.empty: Any = "" if kind == "text" else []
        for agent in generate.AGENTS[:agents]:
            self.peers.append(Peer(Document(kind, agent=agent, id=DOC_ID, defer=defer)))

    # What the oracle says

    def size(self, peer: Peer) -> int:
        return self.document.size(peer.known)

    def next_seq(self, agent: str) -> int:
        vector = self.document.graph.version_vector()
        return vector[agent][-1][1] if agent in vector else 0

    def _made(self, peer: Peer, parents: Version, ops: Seq[Op]) -> None:
        """Tell the oracle of events that the peer's agent has made."""
        ops = [op for op in ops if op[1] or len(op[2])]
        if ops:
            agent = peer.doc.agent
            peer.known |= self.document.receive([Txn(agent, self.next_seq(agent), parents, tuple(ops))])

    def _release(self, peer: Peer) -> None:
        """Waiting runs enter when their last parent has come; those known by now wait no more."""
        graph = self.document.graph
        going = True
        while going:
            going = False
            for txn in list(peer.waiting):
                held = [
                    parent in graph.index and peer.known >> graph.index[parent] & 1 for parent in txn.parents
                ]
                if all(held):
                    peer.waiting.remove(txn)
                    peer.known |= self._set(txn)
                    going = True

    def _set(self, txn: Txn) -> int:
        return sum(1 << self.document.graph.index[txn.agent, txn.seq + i] for i in range(txn.length))

    # What peers do

    def edit(self, peer: Peer, ops: Seq[Op], *, together: bool = False) -> None:
        """The peer makes some edits; `together`: in a transaction, so that subscribers see one change."""
        parents, before = self.document.graph.version(peer.known), len(peer.changes)
        vector = peer.doc.version_vector if self.defer else {}
        if together:
            with peer.doc.transaction():
                self._type(peer, ops)
            expect("changes of a transaction", len(peer.changes) - before, 1)
            expect(
                "edits of a transaction",
                apply_edits(self.document.content(peer.known), peer.changes[-1].edits),
                peer.doc.content,
            )
        else:
            self._type(peer, ops)
        expect("local changes", {change.local for change in peer.changes[before:]}, {True})
        if self.defer:
            peer.known |= self.document.receive([Txn(*run) for run in peer.doc.history(vector)])
        else:
            self._made(peer, parents, ops)
        self.compare(peer)

    def _type(self, peer: Peer, ops: Seq[Op]) -> None:
        for pos, deleted, inserted in ops:
            if deleted:
                peer.doc.delete(pos, deleted)
            if len(inserted):
                peer.doc.insert(pos, inserted)

    def edit_in_the_past(self, peer: Peer, version: Version, ops: Seq[Op]) -> None:
        """The peer edits on a branch at a version that it holds."""
        past = self.document.graph.before(version)
        branch = peer.doc.branch(version)
        expect("branch", (branch.content, branch.version), (self.document.content(past), version))
        parents = version
        for pos, deleted, inserted in ops:
            if deleted:
                branch.delete(pos, deleted)
            if len(inserted):
                branch.insert(pos, inserted)
        before = len(self.document.graph)
        self._made(peer, parents, ops)
        past |= self.document.graph.everything >> before << before
        expect("branch after its edits", branch.content, self.document.content(past))
        expect("version of the branch", branch.version, self.document.graph.version(past))
        change = branch.merge()
        expect("branch merged with all", branch.content, peer.doc.content)
        expect("what that changed", apply_edits(self.document.content(past), change.edits), peer.doc.content)
        self.compare(peer)

    def merge(self, peer: Peer, other: Peer) -> None:
        before = self.document.content(peer.known)
        change = peer.doc.merge(other.doc)
        self._arrived(peer, other.known, before, change)

    def receive_history(self, peer: Peer, other: Peer) -> None:
        """What one lacks comes as runs: exactly the missing events, parents first."""
        before = self.document.content(peer.known)
        history = other.doc.history(peer.doc.version_vector)
        found = [(event.id, event.parents) for run in history for event in events(Txn(*run))]
        graph = self.document.graph
        expect("ids of the history", {ident for ident, _ in found}, graph.members(other.known & ~peer.known))
        expect("its length", len(found), len({ident for ident, _ in found}))
        for ident, parents in found:
            expect(f"parents of {ident}", tuple(sorted(parents)), graph.parents[graph.index[ident]])
        held = graph.members(peer.known)
        for ident, parents in found:
            expect(f"parents of {ident} that come after it", set(parents) - held, set())
            held.add(ident)
        change = peer.doc.receive(history)
        self._arrived(peer, other.known, before, change)

    def receive_pieces(self, peer: Peer, other: Peer, rng: Random, share: float = 1.0) -> None:
        """Some of what one lacks comes in any order, in pieces, also children before parents and twice."""
        history = [Txn(*run) for run in other.doc.history(peer.doc.version_vector)]
        pieces = generate.pieces(rng, history, cut=0.5)
        pieces = rng.sample(pieces, int(len(pieces) * share + rng.random()) if share < 1 else len(pieces))
        pieces += rng.sample(pieces, len(pieces) // 5)
        for batch in generate.batches(rng, pieces):
            before = self.document.content(peer.known)
            change = peer.doc.receive(runs(batch))
            for txn in batch:
                if txn not in peer.waiting:
                    peer.waiting.append(txn)
            self._arrived(peer, 0, before, change)

    def _arrived(self, peer: Peer, new: int, before: Any, change: Change) -> None:
        version = self.document.graph.version(peer.known)
        peer.known |= new
        self._release(peer)
        expect(
            "versions of the change",
            (change.before, change.after),
            (version, self.document.graph.version(peer.known)),
        )
        expect("edits of the change", apply_edits(before, change.edits), self.document.content(peer.known))
        expect("whether there were edits", bool(change), bool(change.edits))
        expect("whether a merge is local", change.local, False)
        self.compare(peer)

    def fork(self, peer: Peer, agent: str) -> Peer:
        forked = Peer(peer.doc.fork(agent))
        forked.known = peer.known
        self.peers.append(forked)
        self.compare(forked)
        return forked

    # Comparing

    def compare(self, peer: Peer) -> None:
        expect_same(peer.doc, self.document, peer.known, f"of {peer.doc.agent}")
        expect("mirror kept by the subscriber", peer.mirror, peer.doc.content)
        expect("version that the subscriber saw last", peer.mirrored, peer.doc.version)
        expect("waiting events", peer.doc.pending, sum(txn.length for txn in peer.waiting))

    def checkout(self, peer: Peer, rng: Random) -> None:
        version, past = generate.random_version(rng, self.document.graph, peer.known)
        expect(f"checkout of {version}", peer.doc.checkout(version), self.document.content(past))

    def converge(self) -> None:
        """All learn all; then all are the same and sound."""
        for peer in self.peers[1:]:
            self.merge(self.peers[0], peer)
        for peer in self.peers[1:]:
            self.merge(peer, self.peers[0])
        for peer in self.peers:
            expect("what is known", peer.known, self.document.graph.everything)
            peer.doc._check()
