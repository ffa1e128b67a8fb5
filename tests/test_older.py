"""Documents that began in the middle: what they can do, what they ask for, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from middle import ID, begun, hello, kinds, polled, talk, written
from serving import files, link, running, until

import egwalker
from egwalker import (
    Change,
    Document,
    EgwalkerError,
    EgwFile,
    HistoryError,
    PendingError,
    SyncError,
    VersionError,
    encoding,
)
from egwalker.cycore.columns import varint
from egwalker.messages import DONE, ERROR, FETCH, PAST, START, encode_ids
from egwalker.session import Changed, Closed, Deepened, Session
from egwalker.transports.testing import assert_converged


def whole(server: Document, client: Document, twin: Document | None = None) -> None:
    """All of the history is here, event for event."""
    assert client.start == ()
    client._check()
    client.verify()
    assert_converged(server, client, thoroughly=True)
    for n in range(server.events + 1):
        version = server.version_at(n)
        assert client.checkout(version) == server.checkout(version)
    assert client.groups() == server.groups()
    assert Document.decode(client.encode(), agent="x").content == server.content
    if twin is not None:
        assert client.groups() == twin.groups()


def needs_history(document: Document) -> list[Callable[[], object]]:
    """What cannot be had without what was before the start."""
    return [
        lambda: document.encode(deleted=False),
        lambda: document.encode({"nobody": [(0, 1)]}),
        document.history,
        document.verify,
        document.groups,
        document.blame,
        lambda: document.checkout(()),
        lambda: document.branch(()),
        lambda: document.diff((), document.version),
        lambda: document.vector_at(document.version),
        lambda: document.version_at(0),
        lambda: Document(document.kind, id=document.id).merge(document),
    ]


def one_start() -> Document:
    server = Document(agent="ann", id=ID)
    server.insert(0, "hello world")
    server.delete(0, 6)
    return server


# --- what a shallow document can do -------------------------------------------------------------------------


def test_the_text_is_there_at_once() -> None:
    server = one_start()
    changes: list[Change] = []
    client = Document(agent="eve")
    cursor = client.cursor()
    with client.subscribe(changes.append):
        left, right = Session(server), Session(client, shallow=True)
        for message in polled(right):
            left.receive(message)
        hello_there, start, done = polled(left)
        right.receive(hello_there)
        (event,) = right.receive(start)
        assert isinstance(event, Changed)
        assert [edit.inserted for edit in event.change.edits] == ["world"]
        assert changes == [event.change]
        right.receive(done)
    assert (done[0], right.settled, cursor.position) == (DONE, True, 0)
    assert client.content == "world"
    assert client.version == client.start == server.version
    assert client.version_vector == server.version_vector
    assert client.id == ID
    assert client.events == 17
    assert "17 events" in repr(client)
    client._check()
    client.insert(5, "!")
    client.delete(0)
    server.insert(0, ">")
    talk((left, right))
    assert client.content == server.content == ">orld!"
    branch = client.branch()
    version = client.version
    client.insert(0, "-")
    branch.insert(0, "+")
    assert client.checkout(version) == ">orld!"
    assert client.checkout(client.start) == "world"
    assert branch.merge().edits
    assert branch.content == client.content
    assert client.history(server.version_vector)
    assert client.diff(version, client.version).b_only
    fork = client.fork("max")
    fork.insert(0, "*")
    assert fork.start == client.start
    client.merge(fork)
    client.apply(fork.encode(client.version_vector))
    fork.merge(client)
    talk((left, right))
    assert_converged(server, client, fork)
    for needs in needs_history(client):
        before = (client.content, client.version_vector, client.start)
        with pytest.raises(HistoryError, match="fetched"):
            needs()
        assert (client.content, client.version_vector, client.start) == before
    right.fetch()
    talk((left, right))
    assert branch.merge()
    assert branch.content == client.content
    whole(server, client)


def test_what_does_not_follow_the_start_is_refused_without_a_link() -> None:
    server = one_start()
    client, *_ = begun(server)
    for version in (), (("ann", 3),), (("ann", 16),):
        other = Document(agent="old", id=ID)
        other.merge(server)
        branch = other.branch(version)
        branch.insert(0, "late")
        late = other.history(server.version_vector)
        if version == server.version:
            assert client.receive(late)
            continue
        takes: list[Callable[[], object]] = [
            partial(client.receive, late),
            partial(client.merge, other),
            partial(client.apply, other.encode(server.version_vector)),
            partial(client.apply, other.encode()),
        ]
        for take in takes:
            before = (client.content, client.version_vector, client.pending)
            with pytest.raises(HistoryError):
                take()
            assert (client.content, client.version_vector, client.pending) == before
            client._check()
    with pytest.raises(VersionError, match="not held"):
        client.checkout([("nobody", 3)])


@pytest.mark.parametrize("kind", ["text", "list"])
def test_event_for_event_what_others_have(kind: str) -> None:
    """Against a twin that has all of the history: what either can do gives the same."""

    @settings(max_examples=30, deadline=None)
    @given(st.randoms(use_true_random=False))
    def check(rng: Random) -> None:
        server = written(rng, kind, steps=rng.randint(1, 15))
        twin = server.fork("eve")
        client, *_ = begun(server)
        # When a run of typing ends depends on when others' edits come.
        client.defer = twin.defer = False
        others = [server, server.fork("max")]

        def word() -> Any:
            return rng.choice(("a", "bc")) if kind == "text" else [rng.choice((1, 2))]

        def same() -> None:
            assert (client.version, client.version_vector) == (twin.version, twin.version_vector)
            assert client.content == twin.content
            client._check()

        same()
        branches = [(client.branch(), twin.branch())]
        for _ in range(rng.randint(0, 12)):
            what, other = rng.random(), rng.choice(others)
            if what < 0.4:
                at = rng.randint(0, len(client))
                inserted = word()
                client.insert(at, inserted)
                twin.insert(at, inserted)
            elif what < 0.5 and len(client):
                at = rng.randrange(len(client))
                client.delete(at)
                twin.delete(at)
            elif what < 0.6 and other.events:
                branch = other.branch(other.version_at(rng.randint(0, other.events)))
                branch.insert(rng.randint(0, len(branch)), word())
            elif what < 0.8:
                other.insert(rng.randint(0, len(other)), word())
                if rng.random() < 0.3:
                    other.merge(rng.choice([*others, twin]))
            else:
                since = client.version_vector
                takes: list[Callable[[], object]] = [
                    partial(client.merge, other),
                    partial(client.apply, other.encode()),
                    partial(client.apply, other.encode(since)),
                    partial(client.receive, other.history(since)),
                ]
                take = rng.choice(takes)
                try:
                    take()
                    twin.merge(other)
                except HistoryError:
                    assert client.start
            same()
        left, right = Session(server), Session(client)
        for document in others[1:]:
            server.merge(document)
        server.merge(twin)
        talk((left, right))
        twin.merge(server)
        same()
        for mine, theirs in branches:
            assert (mine.content, mine.version) == (theirs.content, theirs.version)
        right.fetch()
        talk((left, right))
        for mine, theirs in branches:
            assert (mine.content, mine.version) == (theirs.content, theirs.version)
        whole(server, client, twin)

    check()


# --- what a session asks for --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "list"])
def test_random_sessions(kind: str) -> None:
    """A server and its clients, one of them shallow, who connect again and again."""
    kept = 0
    for seed in range(60):
        rng = Random(seed)
        server = written(rng, kind, steps=rng.randint(0, 20))
        client = Document(kind, agent="eve")
        others = [Document(kind, agent="all"), server.fork("off")]
        pairs = [(Session(server), Session(one, shallow=one is client)) for one in (client, *others)]
        word: Any = "ab" if kind == "text" else [1]
        if rng.random() < 0.3:
            others[1].insert(0, word)
        if rng.random() < 0.3:
            pairs[0][0].receive(polled(pairs[0][1])[0])
            client.insert(0, word)  # it is not empty any more when the answer comes
        for _ in range(rng.randint(1, 12)):
            what = rng.random()
            document = rng.choice((server, client, *others))
            if what < 0.5 and document._id_given:
                if len(document) and rng.random() < 0.3:
                    document.delete(rng.randrange(len(document)))
                else:
                    document.insert(rng.randint(0, len(document)), word)
            elif what < 0.6 and document.events and not document.start:
                branch = document.branch(document.version_at(rng.randint(0, document.events)))
                branch.insert(rng.randint(0, len(branch)), word)
            elif what < 0.8:
                talk(*rng.sample(pairs, rng.randint(1, 3)))
            elif what < 0.9:
                number = rng.randrange(3)
                ends = pairs[number]
                for _ in range(rng.randint(0, 6)):
                    one, other = rng.sample(ends, 2)
                    if message := one.poll():
                        other.receive(message)
                if ends[1].document._id_given:
                    pairs[number] = (Session(server), Session(ends[1].document, shallow=number == 0))
            elif what < 0.93:
                pairs[0][1].fetch()
            client._check()
        talk(*pairs)
        assert all(session.settled and session.all_sent for pair in pairs for session in pair)
        assert_converged(server, client, *others)
        client._check()
        kept += bool(client.start)
        pairs[0][1].fetch()
        talk(*pairs)
        whole(server, client)
    assert 10 < kept < 50


def test_what_does_not_follow_the_start_brings_the_history_it_needs() -> None:
    server = one_start()
    middle = server.version
    server.insert(0, "x")
    server.delete(3)
    client, left, right = begun(server)
    start = client.start
    late = server.branch(middle)
    late.insert(5, "?")
    update, *_ = polled(left)
    (event,) = right.receive(update)
    assert isinstance(event, Changed)
    assert event.change.edits == ()
    assert client.content == "xwold", "it waits for history"
    assert (client.pending, right.settled, right.mark()) == (0, False, 0)
    client.insert(0, "meanwhile ")
    said = polled(right)
    (asked,) = [message for message in said if message[0] == FETCH]
    assert asked[2:] == encode_ids(start) + encode_ids(middle)
    for message in said:
        left.receive(message)
    starts = []
    for message in polled(left):
        events = right.receive(message)
        if message[0] in (START, PAST):
            starts.append(client.start)
            assert events == [Deepened(0)]
    assert starts == [start, middle], "when all of it has come"
    assert client.content == "meanwhile xwold?"
    assert right.settled
    assert right.mark() == 1
    talk((left, right))
    assert_converged(server, client)
    assert [kind for kind in kinds(talk((left, right))) if kind == FETCH] == []


def test_large_histories_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egwalker.session, "CHUNK_EVENTS", 10)
    server = one_start()
    for _ in range(10):
        server.insert(2, "part")
    client, left, right = begun(server)
    right.fetch()
    for message in polled(right):
        left.receive(message)
    left_over = []
    for message in polled(left):
        client.insert(0, "x")
        for event in right.receive(message):
            if isinstance(event, Deepened):
                left_over.append(event.remaining)
    assert left_over == [0, 47, 37, 27, 17, 7, 0]
    talk((left, right))
    whole(server, client)


def test_more_waits_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    server = one_start()
    middle = server.version
    server.insert(0, "x")
    client = Document(agent="eve", pending_limit=3)
    left, right = Session(server), Session(client, shallow=True)
    left.receive(next(iter(polled(right))))
    talk((left, right))
    late = server.branch(middle)
    late.insert(0, "long")
    (update,) = polled(left)
    (event,) = right.receive(update)
    assert isinstance(event, Closed)
    assert isinstance(event.error, PendingError)
    assert client.content == "xworld"


def test_a_document_that_is_not_empty_any_more() -> None:
    for early in "text", "branch", "all of it":
        server = one_start()
        client = Document(agent="eve")
        left, right = Session(server), Session(client, shallow=True)
        for message in polled(right):
            left.receive(message)
        messages = polled(left)
        right.receive(messages[0])
        if early == "text":
            client.insert(0, "early ")
        elif early == "branch":
            branch = client.branch()
        else:
            client.merge(server)
        for message in messages[1:]:
            right.receive(message)
        asked = kinds(talk((left, right)))
        assert (FETCH in asked) is (early != "all of it")
        if early == "branch":
            assert branch.merge().edits
        whole(server, client)


def test_two_links_of_one_document() -> None:
    """The servers have all of the history, but one of them knows more than the other."""
    for order in (0, 1), (1, 0):
        first = one_start()
        second = first.fork("second")
        second.insert(0, "more ")
        client = Document(agent="eve")
        pairs = [(Session(server), Session(client, shallow=True)) for server in (first, second)]
        for left, right in pairs:
            for message in polled(right):
                left.receive(message)
        if order == (1, 0):
            talk(pairs[1])
            assert client.start == second.version
            with pytest.raises(EgwalkerError, match="fetched"):
                talk(pairs[0])  # it lacks what came as a start
            pairs[1][1].fetch()
            talk(pairs[1])
            pairs[0] = (Session(first), Session(client, shallow=True))
        for number in order:
            talk(pairs[number])
        talk(*pairs)
        assert client.content == "more world"
        client.insert(0, "I say: ")
        talk(*pairs)
        assert_converged(first, second, client)
        for _, right in pairs:
            right.fetch()
        talk(*pairs)
        whole(second, client)


def test_shallow_documents_among_themselves() -> None:
    server = one_start()
    client, *_ = begun(server)
    server.insert(0, "more " * 300)
    newer, *_ = begun(server, "new")
    assert newer.start != client.start
    # Each is asked for what it does not have, or has nothing to ask for.
    with pytest.raises(EgwalkerError, match="fetched"):
        talk((Session(client), Session(newer)))
    newer.insert(0, "!")
    client.merge(server)
    left, right = Session(client), Session(newer)
    talk((left, right))
    assert client.content == newer.content == "!" + "more " * 300 + "world"
    # One that begins can begin there, and ask for as much as there is.
    last, left, right = begun(client, "last")
    assert last.start == client.version
    last.insert(0, "?")
    talk((left, right))
    right.fetch()
    with pytest.raises(EgwalkerError, match="fetched"):
        talk((left, right))
    with pytest.raises(EgwalkerError, match="fetched"):
        talk((Session(client), Session(Document(agent="all"))))
    # The server has it.
    server.merge(newer)
    left, right = Session(server), Session(last)
    talk((left, right))
    right.fetch()
    talk((left, right))
    whole(server, last)


def test_a_server_that_has_lost_something() -> None:
    server = one_start()
    kept = Document.decode(server.encode(), agent="kept")
    server.insert(0, "lost ")
    client, *_ = begun(server)
    with pytest.raises(EgwalkerError, match="fetched"):
        talk((Session(kept), Session(client)))
    assert client.content == "lost world"


def test_a_link_to_a_file(tmp_path: Path) -> None:
    """The file begins where the document does."""
    client, *_ = begun(one_start())
    path = tmp_path / "half.egw"

    async def main() -> None:
        async with egwalker.connect(f"file:{path}", client) as one:
            client.insert(5, "!")
            await one.persisted()

    asyncio.run(main())
    with EgwFile.open(path) as file:
        assert (file.document.content, file.document.start) == ("world!", client.start)


# --- what is refused ----------------------------------------------------------------------------------------


def asking(server: Document) -> tuple[Document, Session, bytes]:
    """An empty document that has asked to begin, and the START that comes next."""
    client = Document(server.kind, agent="eve")
    left, right = Session(server), Session(client, shallow=True)
    for message in polled(right):
        left.receive(message)
    greeting, start, *_ = polled(left)
    right.receive(greeting)
    return client, right, start


def fetching(server: Document) -> tuple[Document, Session, list[bytes]]:
    """A shallow document that has asked for all of the history, and the answer."""
    client, left, right = begun(server)
    right.fetch()
    for message in polled(right):
        left.receive(message)
    return client, right, polled(left)


def state(document: Document) -> Any:
    return document.id, document.content, document.version_vector, document.start, document.pending


def refused(one: Session, message: bytes, text: str = "", error: type[EgwalkerError] = SyncError) -> None:
    before = state(one.document)
    (event,) = one.receive(message)
    assert isinstance(event, Closed)
    assert isinstance(event.error, error)
    assert text in str(event.error)
    assert [message[0] for message in polled(one)] == [ERROR]
    assert state(one.document) == before
    one.document._check()


def start_of(document: Document, number: int = 1, **changed: Any) -> bytes:
    vector = document.version_vector
    summary = encoding.Summary(document.kind, document.events, list(vector), vector, document.version)
    content = changed.pop("content", document._replica.main.content())
    doc_id = changed.pop("doc_id", ID)
    blob = encoding.encode_start(bytes.fromhex(doc_id), summary._replace(**changed), content)
    return bytes([START, number]) + blob


def test_starts_that_are_refused() -> None:
    server = one_start()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"doc_id": "ff" * 16}, "of document ffff"),
        ({"kind": "list"}, "kind 'list'"),
        ({"events": 5}, "does not have 5 events"),
        ({"events": 0, "agents": [], "vector": {}, "frontier": ()}, "has content"),
        ({"events": 0, "agents": [], "vector": {}, "frontier": (), "content": ""}, "nothing to begin with"),
    ]
    for changed, text in wrong:
        _, right, _ = asking(server)
        refused(right, start_of(server, **changed), text)
    many = {f"agent {number:03}": [(0, 1)] for number in range(101)}
    heads = tuple((agent, 0) for agent in many)
    _, right, _ = asking(server)
    refused(
        right, start_of(server, events=101, agents=list(many), vector=many, frontier=heads), "has 101 heads"
    )
    _, right, start = asking(server)
    for message in [
        bytes([START, 1]) + server.encode(),
        bytes([START, 1]) + server.encode({"ann": [(0, 1)]}),
        bytes([START, 1]),
    ]:
        _, right, start = asking(server)
        refused(right, message)
    for end in range(2, len(start)):
        _, right, start = asking(server)
        refused(right, start[:end])
    listed = Document("list", agent="ann", id=ID)
    listed.insert(0, [1])
    _, right, _ = asking(listed)
    refused(right, start_of(listed, content=["no JSON"]), "kind 'list'")
    # At another time, or to who did not ask.
    _, _, right = begun(server)
    refused(right, bytes([START, right._number_in]) + start[2:], "not asked for")
    right = Session(Document(id=ID))
    right.receive(hello(flags=0))
    refused(right, start, "not asked for")
    _, right, start = asking(server)
    right.receive(bytes([DONE, 1]))
    refused(right, bytes([START, 2]) + start[2:], "not asked for")


def test_answers_that_are_refused() -> None:
    server = one_start()
    _, right, (answer, past) = fetching(server)
    refused(right, bytes([PAST, answer[1]]) + past[2:], "not asked for")
    _, right, (answer, past) = fetching(server)
    right.receive(answer)
    refused(right, bytes([START, past[1]]) + answer[2:], "not asked for")
    # Not what led here.
    other = one_start()
    other.insert(0, "more")
    for summary_of in other, written(Random(1)):
        _, right, (answer, past) = fetching(server)
        refused(right, start_of(summary_of, answer[1]), "not before the version")
    _, right, (answer, past) = fetching(server)
    refused(right, start_of(server, answer[1]), "no older history came")
    for remaining in 1, 16, 17, 1 << 40:
        _, right, (answer, past) = fetching(server)
        right.receive(answer)
        refused(right, past[:2] + varint(remaining) + past[3:], "remain")
    liar = Document(agent="ann", id=ID)
    liar.insert(0, "HELLO world")
    liar.delete(0, 5)
    liar.delete(0, 1)
    for text, makes in [
        ("makes another content", "abcdefghijklm"),
        ("not what led here", None),
    ]:
        _, right, (answer, past) = fetching(server)
        right.receive(answer)
        false = Document(agent="ann" if makes else "bob", id=ID)
        false.insert(0, makes or "abcdefghijklm")
        false.delete(0, 4)
        log = false._replica.log
        blob = encoding.encode_update(log, bytes.fromhex(ID), [(0, 17)], encoding.Link(), runs=False)
        refused(right, past[:2] + varint(0) + blob, text)
    # Impossible, or without parents.
    for run, text in [
        (egwalker.Run("ann", 0, (), ((5, 0, "x" * 17),)), "impossible"),
        (egwalker.Run("ann", 1, (("ann", 0),), ((0, 0, "x" * 17),)), "without their parents"),
    ]:
        _, right, (answer, past) = fetching(server)
        right.receive(answer)
        maker = Document(agent="x", id=ID)
        if run.parents:
            maker.receive([egwalker.Run("ann", 0, (), ((0, 0, "y"),))])
        maker._replica.log.add(*run)
        ranges = [(1, 18)] if run.parents else [(0, 17)]
        log = maker._replica.log
        blob = encoding.encode_update(log, bytes.fromhex(ID), ranges, encoding.Link(), runs=False)
        refused(right, past[:2] + varint(0) + blob, text)
    for end in range(2, len(past)):
        _, right, (answer, past) = fetching(server)
        right.receive(answer)
        refused(right, past[:end])


@pytest.mark.parametrize("kind", ["text", "list"])
def test_damaged_answers(kind: str) -> None:
    """Whatever comes: a typed error, and the document as it was, or sound."""
    rng = Random(7)
    server = written(rng, kind)
    server.insert(0, "x" if kind == "text" else [None])
    changed = 0
    for _ in range(300):
        client, right, messages = fetching(server) if rng.random() < 0.7 else (None, None, [])
        if right is None:
            client, right, message = asking(server)
            messages = [message]
        assert client is not None
        target = rng.randrange(len(messages))
        for number, message in enumerate(messages):
            before = state(client)
            if number == target:
                data = bytearray(message)
                for _ in range(rng.choice((1, 1, 3))):
                    at = rng.randrange(2, len(data))
                    what = rng.random()
                    if what < 0.6:
                        data[at] ^= 1 << rng.randrange(8)
                    elif what < 0.8:
                        del data[at : at + rng.randint(1, 3)]
                    else:
                        data[at:at] = rng.randbytes(rng.randint(1, 3))
                    if len(data) <= 2:
                        break
                message = bytes(data)  # noqa: PLW2901
            events = right.receive(message)
            if right.closed is not None:
                assert events == [right.closed]
                assert right.closed.error is not None
                assert state(client) == before
                client._check()
                changed += 1
                break
    assert changed > 250


def test_documents_made_of_operations_begin_with_their_state() -> None:
    server = Document("counter", agent="ann", id=ID)
    server.perform(3)
    client, left, right = begun(server)
    assert (client.start, client.content) == (server.version, server.content)
    right.fetch()
    talk((left, right))
    assert client.start == ()
    assert_converged(server, client)


# --- links --------------------------------------------------------------------------------------------------


def test_over_websockets(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(files(tmp_path)) as server:
            ann = Document(agent="ann")
            async with link(server.url + "notes", ann) as first:
                await first.synced()
                for _ in range(100):
                    ann.insert(len(ann), "hello ")
                    ann.delete(0, 2)
                await first.persisted()
                early = ann.version_at(ann.events // 2)
                eve = Document(agent="eve")
                async with link(server.url + "notes", eve, shallow=True) as second:
                    await second.synced()
                    assert eve.content == ann.content
                    assert eve.start == ann.version
                    eve.insert(0, "Dear all, ")
                    await second.persisted()
                    await until(lambda: ann.content == eve.content)
                    with pytest.raises(HistoryError):
                        eve.checkout(early)
                    ann.branch(early).insert(0, "late ")
                    await until(lambda: ann.content == eve.content)
                    assert eve.start == early
                    await second.synced()
                    await second.history()
                    assert eve.start == ()
                    await second.history()
                    whole(ann, eve)
            # A link that goes on where the document is.
            async with link(server.url + "notes", ann) as first:
                max_ = Document(agent="max")
                async with link(server.url + "notes", max_, shallow=True) as second:
                    await second.synced()
                assert max_.start
                max_.insert(0, "offline ")
                async with link(server.url + "notes", max_) as second:
                    await second.synced()
                    await until(lambda: ann.content == max_.content)
                    assert max_.start
                    await second.history()
                    whole(ann, max_)
                with pytest.raises(SyncError, match="closed"):
                    await second.history()

    asyncio.run(main())
