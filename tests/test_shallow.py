"""Beginning in the middle: a start, what came after it, and older history later."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from middle import (
    BLANK,
    ID,
    PLAIN,
    SHALLOW,
    content_of,
    fetch,
    hello,
    kinds,
    polled,
    summary_of,
    written,
)

from egwalker import Document, EgwalkerError, SyncError, VersionError, encoding, session, shallow
from egwalker.messages import (
    BACKLOG,
    DONE,
    ERROR,
    FETCH,
    HELLO,
    MAX_FETCH,
    PAST,
    PRESENCE,
    START,
    UPDATE,
    Reader,
)
from egwalker.receiving import Incoming
from egwalker.session import Closed, Session
from egwalker.versions import Version, VersionVector, joined, subtract


def check_start(document: Document, message: bytes) -> encoding.Summary:
    """It is the document at its version."""
    summary = summary_of(message)
    assert summary.kind == document.kind
    assert summary.vector == document.vector_at(summary.frontier)
    assert list(summary.vector) == summary.agents
    assert content_of(message, document) == document.checkout(summary.frontier)
    for run in document.history(summary.vector):
        # Whatever comes after follows all of its heads.
        for parent in run.parents:
            assert document.diff(summary.frontier, [parent]).a_only == ()
        assert run.parents or not summary.frontier
    return summary


def read_past(document: Document, messages: list[bytes], into: Document) -> None:
    """Bring PAST messages into a document."""
    link = encoding.Link()
    expected = None
    for message in messages:
        assert message[0] == PAST
        reader = Reader(message, 2)
        remaining = reader.number()
        chunk = encoding.parse_linked(message[reader.at :], bytes.fromhex(ID), link)
        assert list(chunk.chunks) == [encoding.HISTORY]
        before = into._events()
        Incoming(into._type, chunk).enter(into._replica)
        assert expected is None or expected - (into._events() - before) == remaining
        expected = remaining
    assert not expected
    assert not into.pending


def events_of(vector: VersionVector) -> int:
    return sum(end - start for ranges in vector.values() for start, end in ranges)


# --- serving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_start_and_what_came_after(kind: str, lazy: bool) -> None:
    shapes = set()
    for seed in range(60):
        rng = Random(seed)
        document = written(rng, kind)
        if lazy:
            document = Document.decode(document.encode(), agent="ann")
        one = Session(document)
        if rng.random() < 0.5:
            one.poll()  # its HELLO
        one.receive(hello(kind=kind))
        if rng.random() < 0.3:
            document.insert(0, "late" if kind == "text" else ["late"])
        messages = [message for message in polled(one) if message[0] != HELLO]
        found = messages[0][0] == START
        reader = Document(kind, agent="eve", id=ID)
        if found:
            summary = check_start(document, messages.pop(0))
            assert one.all_sent
            heads = summary.frontier
            past = Session(document)
            past.receive(hello(flags=0, kind=kind, vector=summary.vector))
            polled(past)
            past.receive(fetch(heads))
            start, *older = polled(past)
            assert summary_of(start) == encoding.Summary(kind, 0, [], {}, ())
            assert content_of(start, document) == ("" if kind == "text" else [])
            read_past(document, older, reader)
            assert (reader.version, reader.version_vector) == (heads, summary.vector)
            assert reader.content == document.checkout(heads)
        shapes.add((found, len(messages) > 1))
        assert kinds(messages)[-1] in (DONE, UPDATE)
        link = encoding.Link()
        link.add(list(document.version_vector))
        for message in messages:
            if message[0] in (BACKLOG, UPDATE):
                at = Reader(message, 2)
                if message[0] == BACKLOG:
                    at.number()
                chunk = encoding.parse_linked(message[at.at :], bytes.fromhex(ID), link)
                Incoming(reader._type, chunk).enter(reader._replica)
        assert reader.content == document.content
        assert reader.version_vector == document.version_vector
    assert shapes == {(True, False), (True, True), (False, True)}


def test_only_who_is_blank_and_wants_to_begins_in_the_middle() -> None:
    for flags, vector in (0, {}), (BLANK, {}), (BLANK | PLAIN, {}), (SHALLOW, {"ann": [(0, 1)]}):
        one = Session(written(Random(1)))
        one.receive(hello(flags=flags, vector=vector))
        assert START not in kinds(polled(one))
    one = Session(Document(id=ID))
    one.receive(hello())
    assert kinds(polled(one)) == [HELLO, DONE]
    assert one.all_sent
    one = Session(Document(id=ID))
    assert not one.all_sent
    one.receive(hello())
    one.document.insert(0, "x")
    assert kinds(polled(one)) == [HELLO, START, DONE]


def test_many_begin_at_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make = encoding.encode_start

    def counted(*args: Any, **options: Any) -> bytes:
        made.append(args)
        return make(*args, **options)

    monkeypatch.setattr(encoding, "encode_start", counted)
    document = Document(agent="ann", id=ID)
    document.insert(0, "one head")
    twin = document.fork("bob")

    def begun() -> encoding.Summary:
        one = Session(document)
        one.receive(hello())
        return check_start(document, next(m for m in polled(one) if m[0] == START))

    first = begun()
    one = Session(document)
    one.receive(hello(flags=0, vector=document.version_vector))
    polled(one)
    for number in range(1, 4):
        # Nor does it matter that some ask for older history, and others for the same.
        one.receive(fetch(first.frontier, (("ann", 2),), number))
        assert kinds(polled(one)) == [START, PAST]
    document.insert(0, "a little more")
    assert begun() == first
    twin.insert(0, "aside, but after it")
    document.merge(twin)
    assert begun() == first
    assert len(made) == 2
    document.insert(0, "x" * 2000)
    assert begun().events == document._events()
    twin.insert(0, "y" * 2000)
    document.merge(twin)
    assert begun() == first, "which is the latest that all others follow"
    assert len(made) == 3
    monkeypatch.setattr(shallow, "MOST_AFTER", 1000)
    document.insert(0, "z" * 2000)
    twin.insert(0, "z" * 2000)
    document.merge(twin)
    assert len(begun().frontier) == 2
    other = Document(agent="eve", id=ID)
    other.insert(0, "before the start")
    document.merge(other)
    assert len(begun().frontier) == 3, "not one that something is concurrent with any more"


def test_a_start_for_the_next_who_come_while_the_history_is_not_read() -> None:
    """What was encoded for the first is of use only if nothing is concurrent, which the history says."""
    document = Document(agent="ann", id=ID)
    document.insert(0, "one head")
    document = Document.decode(document.encode(), agent="ann")
    starts = []
    for _ in range(4):
        one = Session(document)
        one.receive(hello())
        starts += [message for message in polled(one) if message[0] == START]
        document.insert(0, "x")
    assert [summary_of(start).events for start in starts] == [8, 8, 8, 8]
    for start in starts:
        check_start(document, start)


def test_a_start_with_too_many_heads() -> None:
    document = Document(agent="ann", id=ID)
    document.insert(0, "x" * 60_000)
    for number in range(120):
        other = Document(agent=f"agent {number}", id=ID)
        other.insert(0, "!")
        document.merge(other)
        one = Session(document)
        one.receive(hello())
        assert (START in kinds(polled(one))) is (number < 99)


def test_a_start_too_large_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shallow, "MAX_MESSAGE", 10_000)
    document = Document(agent="ann", id=ID)
    document.insert(0, Random(1).randbytes(8000).hex())
    one = Session(document)
    one.receive(hello())
    assert kinds(polled(one)) == [HELLO, BACKLOG, DONE]
    heads = document.version
    document.insert(0, "!")
    polled(one)
    one.receive(fetch(document.version, heads))
    start, past = polled(one)
    assert summary_of(start).events == 0
    assert past[0] == PAST


def test_large_values() -> None:
    document = Document("list", agent="ann", id=ID)
    document.insert(0, ["a" + "\N{PILE OF POO}" * (1 << 20)])
    document.insert(0, ["b" * (10 << 20)])
    heads = document.version
    one = Session(document)
    one.receive(hello(kind="list"))
    assert kinds(polled(one)) == [HELLO, BACKLOG, BACKLOG, DONE]
    document.insert(0, [1])
    polled(one)
    one.receive(fetch(document.version, heads))
    start, *past = polled(one)
    assert summary_of(start).events == 0
    assert [message[0] for message in past] == [PAST] * 3
    reader = Document("list", agent="eve", id=ID)
    link = encoding.Link()
    for message in past:
        at = Reader(message, 2)
        at.number()
        chunk = encoding.parse_linked(message[at.at :], bytes.fromhex(ID), link)
        Incoming(reader._type, chunk).enter(reader._replica)
    assert reader.content == document.content


def test_plain() -> None:
    document = Document(agent="ann", id=ID)
    document.insert(0, "hello " * 1000)
    document.delete(0, 7)
    for number in range(300):
        document.insert(number, "x")
    for flags in BLANK | PLAIN, BLANK | SHALLOW | PLAIN:
        one = Session(document)
        one.receive(hello(flags=flags))
        messages = polled(one)
        one.receive(fetch(document.version))
        messages += polled(one)
        document.insert(0, "bye " * 1000)
        document.delete(2)
        messages += polled(one)
        assert kinds(messages) == [HELLO, START if flags & SHALLOW else BACKLOG, DONE, START, PAST, UPDATE]
        for message in messages:
            if message[0] == START:
                blob = encoding.parse_start(message[2:], bytes.fromhex(ID))
                assert blob._summary[1].method == blob._content.method == encoding.PLAIN
            elif message[0] in (BACKLOG, PAST, UPDATE):
                reader = Reader(message, 2)
                if message[0] != UPDATE:
                    reader.number()
                chunk = encoding.parse_linked(message[reader.at :], bytes.fromhex(ID), encoding.Link())
                assert {column.method for column in chunk.columns} == {encoding.PLAIN}


def test_history_from_as_far_back_as_asked() -> None:
    farther = 0
    for seed in range(40):
        rng = Random(seed)
        document = written(rng, steps=20)
        heads: Version = document.version
        held = document.version_vector
        reader = Document(agent="eve", id=ID)
        answers: list[list[bytes]] = []
        while heads:
            graph = document._replica.log.graph
            some = rng.choices(range(max(graph.lv(*head) for head in heads) + 1), k=rng.randint(1, 3))
            wanted = graph.ids(set(some))
            # Also on a link that the version did not come over.
            one = Session(document)
            one.receive(hello(flags=0, vector=document.version_vector))
            polled(one)
            one.receive(fetch(heads, wanted if rng.random() < 0.8 else ()))
            start, *past = polled(one)
            summary = check_start(document, start)
            assert events_of(summary.vector) + events_of(lacking(held, summary.vector)) == events_of(held)
            if summary.frontier:
                assert len(summary.frontier) == 1
                for event in wanted:
                    assert event == summary.frontier[0] or event not in ids_of(summary.vector)
                farther += 1
            answers.append(past)
            heads, held = summary.frontier, summary.vector
        for past in reversed(answers):
            read_past(document, past, reader)
        assert reader.version_vector == document.version_vector
        assert reader.content == document.content
    assert farther > 20


def lacking(held: VersionVector, vector: VersionVector) -> VersionVector:
    found: VersionVector = {}
    for agent, ranges in held.items():
        left = list(subtract(ranges, vector.get(agent, ())))
        if left:
            found[agent] = left
    return found


def ids_of(vector: VersionVector) -> set[tuple[str, int]]:
    return {(agent, seq) for agent, ranges in vector.items() for lo, hi in ranges for seq in range(lo, hi)}


def test_older_history_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_EVENTS", 10)
    document = Document(agent="ann", id=ID)
    document.insert(0, "0123456789" * 10)
    one = Session(document)
    one.receive(hello())
    said = kinds(polled(one))
    assert said == [HELLO, START, DONE]
    one.receive(fetch(document.version))
    while PAST not in said or one._past:
        document.insert(0, "!")
        one.show("ann", {"at": len(said)})
        message = one.poll()
        assert message is not None
        said.append(message[0])
    assert said.count(PAST) == 10
    assert abs(said.count(UPDATE) - said.count(PAST)) < 3
    assert abs(said.count(PRESENCE) - said.count(PAST)) < 3


def test_fetch_that_is_refused() -> None:
    document = written(Random(3))
    heads = document.version

    def refused(message: bytes, error: type[EgwalkerError], text: str, *, can_read: bool = True) -> None:
        one = Session(document, can_read=can_read)
        one.receive(hello())
        polled(one)
        (event,) = one.receive(message)
        assert isinstance(event, Closed)
        assert type(event.error) is error
        assert text in str(event.error)
        (said,) = polled(one)
        assert said[0] == ERROR

    refused(fetch(heads), SyncError, "may not read", can_read=False)
    refused(fetch(()), SyncError, "no history before the root")
    refused(fetch((("nobody", 0),)), VersionError, "nobody:0 is not held")
    refused(fetch(heads, (("ann", 1 << 40),)), VersionError, "is not held")
    refused(fetch((*heads, *heads)), SyncError, "not ascending")
    refused(fetch(heads, (("ann", 1), ("ann", 0))), SyncError, "not ascending")
    refused(fetch(heads) + b"\0", SyncError, "too many")
    refused(bytes([FETCH, 1]) + bytes(MAX_FETCH), SyncError, "at most")
    refused(bytes([FETCH, 1, 1, 0, 0, 0]), SyncError, "name")
    refused(bytes([FETCH, 1, 1, 1, 0xFF, 0, 0]), SyncError, "UTF-8")
    whole = fetch(heads, heads)
    for end in range(2, len(whole)):
        refused(whole[:end], SyncError, "FETCH")
    refused(bytes([START, 1]), SyncError, "not asked for")
    refused(bytes([PAST, 1]), SyncError, "not asked for")
    one = Session(document)
    one.poll()
    (event,) = one.receive(fetch(heads, number=0))
    assert isinstance(event, Closed)
    one = Session(document)
    one.receive(hello())
    polled(one)
    assert one.receive(fetch(heads)) == []
    (event,) = one.receive(fetch(heads, number=2))
    assert isinstance(event, Closed)
    assert "before the last answer" in str(event.error)
    assert [one.poll() is None, one.poll()] == [False, None]


def test_history_whose_deleted_text_was_not_kept() -> None:
    document = Document(agent="ann", id=ID)
    document.insert(0, "gone and kept")
    document.delete(0, 9)
    document.insert(4, "!")
    heads = document.version
    thin = Document.decode(document.encode(deleted=False), agent="bob")
    one = Session(thin)
    one.receive(hello())
    messages = polled(one)
    assert kinds(messages) == [HELLO, START, DONE]
    assert content_of(messages[1], thin) == "kept!"
    one.receive(fetch(heads, (("ann", 3),)))
    start, *past = polled(one)
    assert summary_of(start).events == 0, "what was there then cannot be told"
    reader = Document(agent="eve", id=ID)
    read_past(thin, past, reader)
    assert reader.content == "kept!"


def test_a_reader_who_takes_no_edits() -> None:
    """Nothing is sent to them, so they begin nowhere."""
    one = Session(written(Random(1)))
    one.receive(hello(flags=BLANK | SHALLOW | 4))
    assert kinds(polled(one)) == [HELLO, DONE]


def test_vectors_of_versions() -> None:
    document = written(Random(5))
    graph = document._replica.log.graph
    for end in range(len(graph)):
        vector = shallow.vector_before(graph, end)
        assert vector == joined(vector, {})
        assert ids_of(vector) == {graph.id(lv) for lv in range(end)}
