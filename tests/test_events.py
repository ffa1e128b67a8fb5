"""Subscriptions and transactions: what those who watch a document are told."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from egwalker import Change, Document, Edit, PositionError


def watched(text: str = "") -> tuple[Document, list[Change]]:
    """A document and the list of the changes that its subscriber sees."""
    doc = Document(agent="alice")
    doc.insert(0, text)
    seen: list[Change] = []
    doc.subscribe(seen.append)
    return doc, seen


class TestSubscriptions:
    def test_local_edits(self) -> None:
        doc, seen = watched("abc")
        doc.insert(3, "de")
        doc.delete(0)
        assert seen == [
            Change((Edit(3, 0, "de"),), (("alice", 2),), (("alice", 4),), local=True),
            Change((Edit(0, 1, ""),), (("alice", 4),), (("alice", 5),), local=True),
        ]

    def test_remote_edits(self) -> None:
        doc, seen = watched("abc")
        bob = doc.fork("bob")
        bob.delete(1)
        bob.insert(2, "d")
        change = doc.merge(bob)
        assert seen == [change]
        assert change.edits == (Edit(1, 1, ""), Edit(2, 0, "d"))
        assert not change.local
        bob.insert(0, "x")
        received = doc.receive(bob.history(doc.version_vector))
        assert seen == [change, received]

    def test_edits_of_a_branch(self) -> None:
        doc, seen = watched("abc")
        branch = doc.branch()
        doc.insert(0, "x")
        branch.insert(3, "y")
        assert seen[1] == Change(
            (Edit(4, 0, "y"),), (("alice", 3),), (("alice", 3), ("alice", 4)), local=True
        )
        assert len(seen) == 2

    def test_edits_of_a_cursor(self) -> None:
        doc, seen = watched("abc")
        cursor = doc.cursor(1)
        cursor.insert("x")
        cursor.backspace()
        cursor.delete()
        assert [change.edits for change in seen] == [(Edit(1, 0, "x"),), (Edit(1, 1, ""),), (Edit(1, 1, ""),)]

    def test_nothing_is_no_change(self) -> None:
        doc, seen = watched("abc")
        doc.insert(1, "")
        doc.delete(1, 0)
        doc.merge(doc.fork("bob"))
        doc.receive(doc.history())
        doc.branch().insert(0, "")
        with doc.transaction():
            pass
        assert seen == []

    def test_a_change_of_versions_alone_is_told(self) -> None:
        doc, seen = watched("abc")
        bob = doc.fork("bob")
        doc.delete(0)
        bob.delete(0)
        doc.merge(bob)
        assert seen[1].edits == ()
        assert seen[1].after == (("alice", 3), ("bob", 0))

    def test_values_are_copies(self) -> None:
        doc = Document("list")
        seen: list[Change] = []
        doc.subscribe(seen.append)
        value = {"a": [1]}
        doc.insert(0, [value])
        seen[0].edits[0].inserted[0]["a"].append(2)
        value["a"].append(3)
        assert doc.content == [{"a": [1]}]

    def test_close(self) -> None:
        doc, seen = watched()
        more: list[Change] = []
        with doc.subscribe(more.append) as subscription:
            doc.insert(0, "a")
            subscription.close()
            doc.insert(0, "b")
        subscription.close()
        doc.insert(0, "c")
        assert (len(seen), len(more)) == (3, 1)

    def test_the_same_callback_twice(self) -> None:
        doc, seen = watched()
        second = doc.subscribe(seen.append)
        doc.insert(0, "a")
        second.close()
        doc.insert(0, "b")
        assert len(seen) == 3

    def test_callbacks_that_edit(self) -> None:
        # The change made within a callback reaches everybody after the one that the callback was called for.
        doc = Document(agent="alice")
        seen: list[tuple[str, str]] = []

        def answer(change: Change) -> None:
            seen.append(("answer", change.edits[0].inserted))
            if change.edits[0].inserted == "?":
                doc.insert(len(doc), "!")
                seen.append(("answered", doc.content))

        doc.subscribe(answer)
        doc.subscribe(lambda change: seen.append(("watch", change.edits[0].inserted)))
        doc.insert(0, "?")
        assert seen == [
            ("answer", "?"),
            ("answered", "?!"),
            ("watch", "?"),
            ("answer", "!"),
            ("watch", "!"),
        ]

    def test_callbacks_that_close_others(self) -> None:
        doc = Document()
        seen: list[Change] = []
        doc.subscribe(lambda _: later.close())
        later = doc.subscribe(seen.append)
        doc.insert(0, "a")
        assert seen == []

    def test_failing_callbacks(self, caplog: pytest.LogCaptureFixture) -> None:
        doc = Document()
        seen: list[Change] = []

        def fail(_: Change) -> None:
            raise RuntimeError("of all things")

        doc.subscribe(fail)
        doc.subscribe(seen.append)
        with caplog.at_level(logging.ERROR, logger="egwalker"):
            doc.insert(0, "a")
        assert doc.content == "a"
        assert len(seen) == 1
        assert [record.name for record in caplog.records] == ["egwalker"]
        assert "of all things" in caplog.text

    def test_interrupts_pass(self) -> None:
        doc, seen = watched()

        def interrupt(_: Change) -> None:
            subscription.close()
            raise KeyboardInterrupt

        subscription = doc.subscribe(interrupt)
        with pytest.raises(KeyboardInterrupt):
            doc.insert(0, "a")
        doc.insert(0, "b")
        assert len(seen) == 2

    def test_what_is_posted_while_a_delivery_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another thread finds the delivery busy and leaves, right before it is not."""
        doc, seen = watched()
        late = Change((), (), (), local=False)

        class Busy:
            def acquire(self, blocking: bool) -> bool:
                return not blocking

            def release(self) -> None:
                if late not in seen:
                    doc._feed.post(late, doc._feed.subscriptions)

        monkeypatch.setattr(doc._feed, "_delivering", Busy())
        doc.insert(0, "a")
        assert seen[1:] == [late]

    def test_not_callable(self) -> None:
        with pytest.raises(TypeError, match="5"):
            Document().subscribe(5)  # type: ignore[arg-type]

    def test_a_mirror(self) -> None:
        """Applying every change to a copy of the text keeps it equal."""
        doc, seen = watched("start")
        mirror = "start"
        others = [doc.fork(name) for name in ("bob", "carol")]
        for step in range(60):
            other = others[step % 2]
            other.insert(step % (len(other) + 1), "xyz"[step % 3])
            if step % 5 == 0:
                other.delete(step % len(other))
            doc.delete(step % len(doc))
            doc.insert(step % (len(doc) + 1), f"<{step}>")
            if step % 3 == 0:
                doc.merge(other)
                other.merge(doc)
        for change in seen:
            for pos, deleted, inserted in change.edits:
                mirror = mirror[:pos] + inserted + mirror[pos + deleted :]
        assert mirror == doc.content
        assert all(one.after == two.before for one, two in pairwise(seen))


class TestTransactions:
    def test_one_change(self) -> None:
        doc, seen = watched("abc")
        with doc.transaction():
            doc.insert(3, "d")
            doc.delete(0)
            assert doc.content == "bcd"
            assert seen == []
        assert seen == [
            Change((Edit(3, 0, "d"), Edit(0, 1, "")), (("alice", 2),), (("alice", 4),), local=True)
        ]

    def test_nested(self) -> None:
        doc, seen = watched()
        with doc.transaction():
            doc.insert(0, "a")
            with doc.transaction():
                doc.insert(1, "b")
            assert seen == []
            doc.insert(2, "c")
        assert [edit.inserted for edit in seen[0].edits] == ["a", "b", "c"]
        assert len(seen) == 1

    def test_with_a_merge_in_it(self) -> None:
        doc, seen = watched("a")
        bob = doc.fork("bob")
        bob.insert(1, "b")
        with doc.transaction():
            doc.insert(0, "x")
            change = doc.merge(bob)
            assert change.edits == (Edit(2, 0, "b"),)
        assert seen == [
            Change(
                (Edit(0, 0, "x"), Edit(2, 0, "b")), (("alice", 0),), (("alice", 1), ("bob", 0)), local=False
            )
        ]

    def test_errors_keep_what_was_done(self) -> None:
        doc, seen = watched()

        def fail() -> None:
            with doc.transaction():
                doc.insert(0, "a")
                doc.insert(9, "b")

        with pytest.raises(PositionError):
            fail()
        assert doc.content == "a"
        assert [edit.inserted for edit in seen[0].edits] == ["a"]
        doc.insert(1, "c")
        assert len(seen) == 2

    def test_cursors_follow_at_once(self) -> None:
        doc, _ = watched("abc")
        cursor = doc.cursor(1)
        with doc.transaction():
            doc.insert(0, "xx")
            assert cursor.position == 3
            cursor.insert("y")
        assert doc.content == "xxaybc"

    def test_subscribing_within_one_counts_from_the_next_on(self) -> None:
        doc, _ = watched()
        late: list[Change] = []
        with doc.transaction():
            doc.insert(0, "a")
            doc.subscribe(late.append)
            doc.insert(0, "b")
        assert late == []
        with doc.transaction():
            doc.insert(0, "c")
        assert [edit.inserted for edit in late[0].edits] == ["c"]

    def test_in_a_callback(self) -> None:
        doc, seen = watched()

        def answer(_: Change) -> None:
            if len(doc) < 3:
                with doc.transaction():
                    doc.insert(len(doc), "x")
                    doc.insert(len(doc), "y")

        doc.subscribe(answer)
        doc.insert(0, "a")
        assert doc.content == "axy"
        assert [len(change.edits) for change in seen] == [1, 2]
