"""Documents: content, versions, merging, branches."""

from __future__ import annotations

import gc
import weakref

import pytest

from egwalker import (
    AgentError,
    Change,
    Diff,
    Document,
    Edit,
    Group,
    KindError,
    PositionError,
    Run,
    Span,
    VersionError,
)


def replicas(text: str = "") -> tuple[Document, Document]:
    """Alice's document with `text` in it, and Bob's replica."""
    alice = Document(agent="alice")
    alice.insert(0, text)
    return alice, alice.fork("bob")


def replayed(content: str, change: Change) -> str:
    """`content` after a change, made edit by edit."""
    for pos, deleted, inserted in change.edits:
        content = content[:pos] + inserted + content[pos + deleted :]
    return content


class TestContent:
    def test_insert_and_delete(self) -> None:
        doc = Document("text", agent="alice")
        doc.insert(0, "hello")
        doc.delete(1, 2)
        doc.delete(0)
        assert doc.content == str(doc) == "lo"
        assert len(doc) == 2
        assert (doc.kind, doc.agent) == ("text", "alice")
        doc._check()

    def test_editing_nothing_makes_no_event(self) -> None:
        doc = Document(agent="alice")
        doc.insert(0, "")
        doc.delete(0, 0)
        assert doc.version == ()
        assert doc.history() == []

    def test_agents_are_fresh_unless_named(self) -> None:
        names = {Document().agent for _ in range(10)}
        assert len(names) == 10

    def test_slice(self) -> None:
        doc = Document()
        doc.insert(0, "0123456789" * 1000)
        assert doc.slice(4995, 5005) == "5678901234"
        assert doc.slice(7, 7) == ""
        with pytest.raises(PositionError):
            doc.slice(9999, 10001)

    def test_positions_in_other_units(self) -> None:
        doc = Document()
        doc.insert(0, "aé漢\N{GRINNING FACE}z")
        utf8 = [0, 1, 3, 6, 10, 11]
        utf16 = [0, 1, 2, 3, 5, 6]
        assert [doc.to_utf8(pos) for pos in range(6)] == utf8
        assert [doc.from_utf8(offset) for offset in utf8] == list(range(6))
        assert [doc.to_utf16(pos) for pos in range(6)] == utf16
        assert [doc.from_utf16(offset) for offset in utf16] == list(range(6))

    def test_positions_within_a_code_point(self) -> None:
        doc = Document()
        doc.insert(0, "\N{GRINNING FACE}")
        with pytest.raises(PositionError):
            doc.from_utf16(1)
        with pytest.raises(PositionError):
            doc.from_utf8(2)
        with pytest.raises(PositionError):
            doc.to_utf16(2)

    def test_repr_tells_what_it_is(self) -> None:
        doc = Document(agent="alice")
        doc.insert(0, "abc")
        doc.delete(0)
        assert repr(doc) == "<Document text of 'alice': 2 elements, 4 events>"


class TestVersions:
    def test_version_is_the_sorted_heads(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(0, "b")
        alice.insert(0, "a")
        alice.merge(bob)
        heads = alice.version
        alice.insert(0, "!")
        assert heads == (("alice", 2), ("bob", 0))
        assert alice.version == (("alice", 3),)

    def test_version_vector(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(0, "123")
        alice.merge(bob)
        assert alice.version_vector == {"alice": [(0, 2)], "bob": [(0, 3)]}

    def test_version_vector_with_gaps(self) -> None:
        doc = Document()
        doc.receive([Run("x", 5, (), ((0, 0, "ab"),)), Run("x", 0, (), ((0, 0, "c"),))])
        assert doc.version_vector == {"x": [(0, 1), (5, 7)]}

    def test_checkout(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(1, "-")
        alice.delete(0)
        alice.merge(bob)
        assert alice.content == "-b"
        assert alice.checkout([("alice", 1)]) == "ab"
        assert alice.checkout([("alice", 0)]) == "a"
        assert alice.checkout((("bob", 0),)) == "a-b"
        assert alice.checkout([("alice", 2)]) == "b"
        assert alice.checkout(()) == ""
        assert alice.checkout(alice.version) == alice.content
        # What is among the ancestors of another id adds nothing.
        assert alice.checkout([("bob", 0), ("alice", 0)]) == "a-b"

    def test_checkout_of_what_is_not_held(self) -> None:
        doc = Document()
        with pytest.raises(VersionError, match="nobody:0"):
            doc.checkout([("nobody", 0)])

    @pytest.mark.parametrize("version", ["alice:0", [("alice",)], [("alice", "0")], [1], 5, None])
    def test_no_version(self, version: object) -> None:
        alice, _ = replicas("a")
        with pytest.raises(TypeError, match="version"):
            alice.checkout(version)  # type: ignore[arg-type]

    def test_diff(self) -> None:
        alice, bob = replicas("ab")
        alice.insert(2, "c")
        bob.insert(0, "xy")
        alice.merge(bob)
        alice.delete(0)
        diff = alice.diff([("alice", 2)], [("bob", 1)])
        assert diff == Diff(
            head=(("alice", 1),), shared=(), a_only=(Span("alice", 2, 3),), b_only=(Span("bob", 0, 2),)
        )
        assert alice.diff(alice.version, alice.version) == Diff(alice.version, (), (), ())

    def test_diff_shares_what_must_be_walked_again(self) -> None:
        # As in the walkthrough of the seed: from the version before B's events came to the one after.
        a = Document(agent="a")
        b = a.fork("b")
        a.insert(0, "1")
        b.insert(0, "2")
        b.insert(1, "3")
        a.merge(b)
        assert a.content == "123"
        assert a.diff([("a", 0)], a.version) == Diff((), (Span("a", 0, 1),), (), (Span("b", 0, 2),))

    def test_groups(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(0, "xy")
        alice.insert(0, "c")
        bob.merge(alice)
        bob.insert(0, "z")
        alice.merge(bob)
        wanted = [Group("alice", 0, 3, 0), Group("bob", 0, 2, 2), Group("bob", 2, 1, 4)]
        assert alice.groups() == wanted
        assert bob.groups() == wanted

    def test_history_since(self) -> None:
        alice, bob = replicas("abc")
        since = alice.version_vector
        alice.insert(3, "d")
        alice.delete(0)
        bob.insert(0, "xy")
        alice.merge(bob)
        news = alice.history(since)
        assert [(run.agent, run.seq, run.length, run.parents) for run in news] == [
            ("alice", 3, 2, (("alice", 2),)),
            ("bob", 0, 2, (("alice", 2),)),
        ]
        assert news[1].ops == ((0, 0, "xy"),)
        bob.receive(news)
        assert bob.content == alice.content == "xybcd"
        assert alice.history(bob.version_vector) == []

    def test_history_is_in_causal_order(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(0, "x")
        alice.merge(bob)
        alice.insert(0, "c")
        assert alice.history({}) == alice.history()
        assert [run.agent for run in alice.history({"alice": [(1, 2)]})] == ["alice", "bob", "alice"]

    def test_history_of_holes(self) -> None:
        alice, _ = replicas("abcdef")
        runs = alice.history({"alice": [(1, 2), (3, 5)], "nobody": [(0, 9)]})
        assert [(run.seq, run.length) for run in runs] == [(0, 1), (2, 1), (5, 1)]
        assert [run.ops for run in runs] == [((0, 0, "a"),), ((2, 0, "c"),), ((5, 0, "f"),)]

    @pytest.mark.parametrize(
        "since", [[], {"alice": 5}, {"nobody": 5}, {"alice": [3]}, {"alice": [("a", "b")]}, 7]
    )
    def test_no_version_vector(self, since: object) -> None:
        alice, _ = replicas("abc")
        with pytest.raises(TypeError, match="version vector"):
            alice.history(since)  # type: ignore[arg-type]


class TestMerge:
    def test_both_ways(self) -> None:
        alice, bob = replicas("hello")
        alice.insert(5, " world")
        bob.delete(0)
        bob.insert(0, "J")
        assert bob.merge(alice) == Change(
            (Edit(5, 0, " world"),), (("bob", 1),), (("alice", 10), ("bob", 1)), local=False
        )
        alice.merge(bob)
        assert alice.content == bob.content == "Jello world"
        alice._check()
        bob._check()

    def test_the_edits_are_what_happened(self) -> None:
        alice, bob = replicas("one two three")
        alice.delete(4, 4)
        alice.insert(0, "zero ")
        bob.insert(13, " four")
        bob.delete(0, 3)
        before = alice.content
        change = alice.merge(bob)
        assert replayed(before, change) == alice.content == "zero  three four"

    def test_again_is_nothing(self) -> None:
        alice, bob = replicas("a")
        bob.insert(1, "b")
        assert alice.merge(bob)
        version = alice.version
        change = alice.merge(bob)
        assert not change
        assert change == Change((), version, version, local=False)

    def test_with_itself(self) -> None:
        alice, _ = replicas("a")
        assert not alice.merge(alice)
        assert alice.content == "a"

    def test_event_by_event(self) -> None:
        # Each merge goes on where the last one stopped in the other's log.
        alice, bob = replicas()
        for i in range(50):
            alice.insert(i, "a")
            bob.merge(alice)
            bob.insert(0, "b")
            alice.merge(bob)
        assert alice.content == bob.content == "b" * 50 + "a" * 50
        alice._check()

    def test_a_chain_of_three(self) -> None:
        alice, bob = replicas("x")
        carol = bob.fork("carol")
        carol.insert(1, "c")
        bob.merge(carol)
        bob.insert(2, "b")
        alice.merge(bob)
        assert alice.content == "xcb"
        assert not alice.merge(carol)

    def test_events_without_edits(self) -> None:
        # Both delete the same element: the change has versions, but nothing to see.
        alice, bob = replicas("ab")
        alice.delete(0)
        bob.delete(0)
        change = alice.merge(bob)
        assert not change
        assert change.before == (("alice", 2),)
        assert change.after == (("alice", 2), ("bob", 0))

    def test_kinds_do_not_mix(self) -> None:
        text, other = Document("text"), Document("list")
        with pytest.raises(KindError, match=r"'text'.*'list'"):
            text.merge(other)

    def test_only_documents(self) -> None:
        with pytest.raises(TypeError, match="str"):
            Document().merge("text")  # type: ignore[arg-type]

    def test_others_are_not_kept_alive(self) -> None:
        alice, bob = replicas("a")
        alice.merge(bob)
        bob.insert(0, "b")
        alice.merge(bob)
        gone = weakref.ref(bob)
        del bob
        gc.collect()
        assert gone() is None


class TestFork:
    def test_is_independent(self) -> None:
        alice, bob = replicas("ab")
        bob.insert(0, "b")
        alice.insert(0, "a")
        assert (alice.content, bob.content) == ("aab", "bab")
        assert bob.agent == "bob"
        assert bob.kind == "text"

    def test_names_another_agent(self) -> None:
        alice, _ = replicas()
        with pytest.raises(AgentError, match="alice"):
            alice.fork("alice")
        assert alice.fork().agent != "alice"

    def test_of_a_list(self) -> None:
        doc = Document("list", agent="alice")
        doc.insert(0, [1, 2])
        fork = doc.fork("bob")
        fork.insert(2, [3])
        assert (doc.content, fork.content) == ([1, 2], [1, 2, 3])


class TestBranch:
    def test_stays_where_it_is(self) -> None:
        alice, _ = replicas("ab")
        now = alice.branch()
        then = alice.branch([("alice", 0)])
        alice.insert(2, "c")
        assert (now.content, len(now), now.version) == ("ab", 2, (("alice", 1),))
        assert (str(then), len(then), then.version) == ("a", 1, (("alice", 0),))
        assert then.document is alice

    def test_is_read_as_a_document_is(self) -> None:
        alice, _ = replicas("a\N{PILE OF POO}b")
        branch = alice.branch()
        alice.delete(0, 3)
        assert branch.slice(1, 3) == "\N{PILE OF POO}b"
        assert (branch.to_utf16(2), branch.from_utf16(3)) == (3, 2)
        assert (branch.to_utf8(2), branch.from_utf8(5)) == (5, 2)
        with pytest.raises(PositionError):
            branch.slice(1, 4)

    def test_edits_come_after_its_version(self) -> None:
        alice, _ = replicas("ab")
        alice.insert(2, "c")
        branch = alice.branch([("alice", 1)])
        branch.insert(0, "x")
        branch.delete(2)
        assert branch.content == "xa"
        assert branch.version == (("alice", 4),)
        assert alice.content == "xac"
        assert alice.version == (("alice", 2), ("alice", 4))
        assert alice.history()[-1].parents == (("alice", 1),)
        alice._check()

    def test_merge(self) -> None:
        alice, _ = replicas("ab")
        branch = alice.branch([("alice", 0)])
        branch.insert(0, "x")
        alice.insert(3, "c")
        change = branch.merge([("alice", 1)])
        assert change == Change(
            (Edit(2, 0, "b"),), (("alice", 2),), (("alice", 1), ("alice", 2)), local=False
        )
        assert branch.content == "xab"
        branch.merge()
        assert branch.content == alice.content == "xabc"
        assert not branch.merge()

    def test_merging_never_goes_back(self) -> None:
        alice, _ = replicas("ab")
        branch = alice.branch()
        assert not branch.merge([("alice", 0)])
        assert branch.content == "ab"

    def test_errors(self) -> None:
        alice, _ = replicas("ab")
        with pytest.raises(VersionError):
            alice.branch([("bob", 0)])
        branch = alice.branch([("alice", 0)])
        with pytest.raises(PositionError):
            branch.insert(2, "x")
        with pytest.raises(PositionError):
            branch.delete(0, 2)
        with pytest.raises(VersionError):
            branch.merge([("bob", 0)])
        assert branch.content == "a"
        assert alice.version == (("alice", 1),)
        alice._check()

    def test_survives_a_failure_of_the_document(self) -> None:
        alice, _ = replicas("ab")
        branch = alice.branch()
        with pytest.raises(PositionError):
            alice.receive([Run("bob", 0, (("alice", 1),), ((9, 0, "x"),))])
        branch.insert(2, "c")
        assert branch.content == alice.content == "abc"
        alice._check()
