"""Who wrote what, at any version; and the versions in the order in which a replica took them in."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import generate
import oracle
import pytest
from deliver import DOC_ID, runs, single_ids
from hypothesis import given
from hypothesis import strategies as st
from test_traces import trace

from egwalker import Document, Span, VersionError, json_history

SEEDS = st.integers(0, 2**32)
KINDS = ["text", "list"]


def world(rng: Random, kind: str) -> generate.World:
    made = generate.World(
        rng, rng.randint(2, 5), odd=rng.random() < 0.3, values=kind == "list", crowded=rng.random() < 0.4
    )
    return made.run(rng.randint(5, 30), sync=rng.choice((0.05, 0.3, 0.6)), past=0.1, meet=0.05)


def delivered(rng: Random, kind: str, txns: list[oracle.Txn]) -> Document:
    """A replica that got a history from others in some causal order, in pieces, and by merging."""
    doc, other = (Document(kind, agent=agent, id=DOC_ID) for agent in ("reader", "writer"))
    for batch in generate.batches(rng, generate.causal_order(rng, generate.pieces(rng, txns))):
        target, source = (doc, other) if rng.random() < 0.5 else (other, doc)
        target.merge(source)
        target.receive(runs(batch))
    doc.merge(other)
    assert doc.pending == 0
    return doc


class TestBlame:
    @given(SEEDS, st.sampled_from(KINDS))
    def test_against_a_list_of_ids(self, seed: int, kind: str) -> None:
        rng = Random(seed)
        made = world(rng, kind)
        doc = delivered(rng, kind, made.txns)
        graph = made.document.graph
        for version, known in [
            (None, graph.everything),
            *[generate.random_version(rng, graph, graph.everything) for _ in range(8)],
        ]:
            spans = doc.blame(version)
            assert single_ids(spans) == [node.id for node in made.document.visible(known)]
            assert all(span.start < span.end for span in spans)
            assert not any(a.agent == b.agent and a.end == b.start for a, b in pairwise(spans)), "not joined"

    @given(SEEDS, st.sampled_from(KINDS))
    def test_of_what_was_not_read_yet(self, seed: int, kind: str) -> None:
        """Without what was deleted it is still known who wrote the rest."""
        made = world(Random(seed), kind)
        doc = delivered(Random(seed), kind, made.txns)
        for data in doc.encode(), doc.encode(content=False), doc.encode(deleted=False):
            assert Document.decode(data, agent="third").blame() == doc.blame()
        opened = Document.decode(doc.encode(), agent="third")
        opened.insert(0, doc.content[:1] or ("x" if kind == "text" else ["x"]))
        assert opened.blame()[0] == Span("third", 0, 1)

    def test_backwards_and_in_between(self) -> None:
        doc = Document(agent="alice")
        for letter in "olleh":
            doc.insert(0, letter)
        assert doc.blame() == [Span("alice", seq, seq + 1) for seq in (4, 3, 2, 1, 0)]
        doc.delete(1, 3)
        bob = doc.fork("bob")
        bob.insert(1, "i, J")
        assert bob.blame() == [Span("alice", 4, 5), Span("bob", 0, 4), Span("alice", 0, 1)]
        assert bob.blame(doc.version) == doc.blame() == [Span("alice", 4, 5), Span("alice", 0, 1)]

    def test_nothing(self) -> None:
        doc = Document(agent="alice")
        assert doc.blame() == doc.blame(()) == []
        doc.insert(0, "gone")
        doc.delete(0, 4)
        assert doc.blame() == []
        assert doc.blame([("alice", 3)]) == [Span("alice", 0, 4)]

    def test_bad_versions(self) -> None:
        doc = Document(agent="alice")
        doc.insert(0, "abc")
        with pytest.raises(VersionError, match="event bob:0 is not held"):
            doc.blame([("bob", 0)])
        with pytest.raises(TypeError, match="a version is a tuple of"):
            doc.blame([7])  # type: ignore[list-item]
        assert doc.blame() == [Span("alice", 0, 3)]

    @pytest.mark.parametrize("name", ["A1", "C1", "A2", "S1", "git-makefile-raw"])
    def test_traces(self, traces_folder: Path, name: str) -> None:
        """Each element named was inserted once, at that version, as what stands there."""
        doc = json_history.loads(trace(traces_folder, name).read_bytes(), agent="reader").document
        inserted: dict[str, dict[int, str]] = {}
        for agent, seq, _, ops in doc.history():
            letters = inserted.setdefault(agent, {})
            at = seq
            for _, deleted, content in ops:
                at += deleted
                letters.update(zip(range(at, at + len(content)), content, strict=True))
                at += len(content)
        rng = Random(name)
        for n in (doc.events, *[rng.randrange(doc.events) for _ in range(3)]):
            version = doc.version_at(n)
            ids = single_ids(doc.blame(version))
            assert "".join([inserted[agent][seq] for agent, seq in ids]) == doc.checkout(version)
            assert len(set(ids)) == len(ids)
            held = doc.vector_at(version)
            assert all(
                any(lo <= start and end <= hi for lo, hi in held[agent])
                for agent, start, end in doc.blame(version)
            )


class TestTimeline:
    @given(SEEDS, st.sampled_from(KINDS))
    def test_every_event(self, seed: int, kind: str) -> None:
        """Against the heads of the first events of `history`, which is in the same order."""
        rng = Random(seed)
        made = world(rng, kind)
        doc = delivered(rng, kind, made.txns)
        single = [event for run in doc.history() for event in oracle.events(oracle.Txn(*run))]
        assert doc.events == len(single)
        heads: set[oracle.Id] = set()
        for n, event in enumerate(single):
            assert doc.version_at(n) == tuple(sorted(heads))
            heads = heads.difference(event.parents) | {event.id}
        assert doc.version_at(doc.events) == doc.version == tuple(sorted(heads))
        assert Document.decode(doc.encode(), agent="third").version_at(doc.events) == doc.version

    @pytest.mark.parametrize("name", ["A1", "C1", "A2"])
    def test_traces(self, traces_folder: Path, name: str) -> None:
        """At every row's end and within it, against the heads of the rows."""
        doc = json_history.loads(trace(traces_folder, name).read_bytes(), agent="reader").document
        graph = doc._replica.log.graph
        rng = Random(name)
        heads: set[int] = set()
        for run in graph.runs():
            if rng.random() < 0.1:
                assert graph.version_at(run.start) == tuple(sorted(heads))
            heads.difference_update(run.parents)
            if rng.random() < 0.1:
                n = rng.randint(run.start + 1, run.end)
                assert graph.version_at(n) == tuple(sorted([*heads, n - 1]))
            heads.add(run.end - 1)

    def test_out_of_range(self) -> None:
        doc = Document(agent="alice")
        assert (doc.events, doc.version_at(0)) == (0, ())
        doc.insert(0, "ab")
        assert doc.version_at(2) == doc.version
        for n in (-1, 3, 2**70):
            with pytest.raises(VersionError, match=f"the first {n} events: there are 2"):
                doc.version_at(n)
        with pytest.raises(TypeError):
            doc.version_at(1.0)  # type: ignore[arg-type]

    def test_events_are_counted_where_the_history_was_not_read(self) -> None:
        doc = Document(agent="alice")
        doc.insert(0, "abc")
        opened = Document.decode(doc.encode(), agent="bob")
        assert opened.events == 3
        opened.insert(0, "d")
        assert opened.events == 4
