"""Sessions, message by message: what is said, what is refused, and that nothing else changes then."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import generate
import pytest

from egwalker import (
    Change,
    ConflictError,
    DecodeError,
    Document,
    EgwalkerError,
    IdentityError,
    KindError,
    PendingError,
    PositionError,
    Run,
    SyncError,
    encoding,
    session,
)
from egwalker.cycore.columns import varint
from egwalker.messages import (
    ACK,
    BACKLOG,
    DONE,
    ERROR,
    HELLO,
    MAX_HELLO,
    MAX_MESSAGE,
    NAMES,
    PRESENCE,
    UPDATE,
    encode_vector,
)
from egwalker.session import (
    Acknowledged,
    Changed,
    Closed,
    Encoded,
    Event,
    Greeted,
    Presence,
    Session,
    Synced,
)

CASES = int(os.environ.get("EGWALKER_FUZZ", "60000"))
ID = "00112233445566778899aabbccddeeff"


def polled(one: Session) -> Iterator[bytes]:
    while (message := one.poll()) is not None:
        yield message


def talk(left: Session, right: Session) -> list[tuple[Session, bytes]]:
    """Let both talk until there is silence; who said what."""
    said: list[tuple[Session, bytes]] = []
    silent = False
    while not silent:
        silent = True
        for one, other in (left, right), (right, left):
            for message in list(polled(one)):
                silent = False
                said.append((one, message))
                other.receive(message)
    return said


def kinds(said: list[tuple[Session, bytes]], by: Session) -> list[str]:
    return [NAMES[message[0]] for one, message in said if one is by]


def state(document: Document) -> Any:
    return (
        document.id,
        document.content,
        document.version,
        document.version_vector,
        document.pending,
        len(document),
    )


def linked(kind: str = "text", **options: Any) -> tuple[Session, Session]:
    """Two sessions of two replicas of a small document, after the greeting; options are the second one's."""
    a = Document(kind, agent="ann", id=ID)
    a.insert(0, "hello" if kind == "text" else [1, None, {"k": "v"}])
    left, right = Session(a), Session(a.fork("bob"), **options)
    talk(left, right)
    return left, right


def hello(
    protocol: int = 1,
    flags: int = 0,
    doc_id: str = ID,
    kind: bytes = b"text",
    vector: dict[str, list[tuple[int, int]]] | None = None,
    number: int = 0,
) -> bytes:
    parts = [
        bytes([HELLO, number]),
        varint(protocol),
        varint(flags),
        bytes.fromhex(doc_id),
        varint(len(kind)),
        kind,
        encode_vector(vector or {}),
    ]
    return b"".join(parts)


def refused(one: Session, message: bytes, error: type[EgwalkerError], text: str = "") -> EgwalkerError:
    """The message closes the session with that error; the other end is told, and nothing else changes."""
    before = state(one.document)
    (event,) = one.receive(message)
    assert isinstance(event, Closed)
    assert type(event.error) is error
    assert text in str(event.error)
    assert one.closed is event
    (told,) = polled(one)
    assert told[0] == ERROR
    assert one.receive(hello()) == []
    assert one.poll() is None
    assert state(one.document) == before
    return event.error


# --- what is said -------------------------------------------------------------------------------------------


def test_greeting_backlog_and_live_updates() -> None:
    a = Document(agent="ann", id=ID)
    a.insert(0, "hello")
    b = a.fork("bob")
    a.insert(5, "!")
    b.insert(0, ">")
    left, right = Session(a), Session(b)
    first = left.poll()
    assert first == hello(vector={"ann": [(0, 6)]})
    assert left.poll() is None, "nothing before the other end has greeted"
    assert right.receive(first) == [Greeted({"ann": [(0, 6)]})]
    said = list(polled(right))
    assert [message[0] for message in said] == [HELLO, BACKLOG, DONE]
    assert [message[1] for message in said] == [0, 1, 2]
    events = [event for message in said for event in left.receive(message)]
    assert events[0] == Greeted({"ann": [(0, 5)], "bob": [(0, 1)]})
    assert isinstance(events[1], Changed)
    assert events[1].remaining == 0
    assert [edit.inserted for edit in events[1].change.edits] == [">"]
    assert events[2] == Synced()
    said = list(polled(left))
    assert [message[0] for message in said] == [ACK, BACKLOG, DONE]
    assert [message[2:] for message in said if message[0] != BACKLOG] == [b"\1\0", b""]
    assert said[1][2] == 0, "nothing remains"
    for message in said:
        right.receive(message)
    assert right.acknowledged == Acknowledged(1, -1)
    assert a.content == b.content == ">hello!"


def test_only_what_lacks_is_sent_and_never_back() -> None:
    left, right = linked()
    assert left.sent == right.sent == 0
    left.document.insert(0, "x")
    said = talk(left, right)
    assert kinds(said, left) == ["UPDATE"]
    assert kinds(said, right) == ["ACK"], "no echo"
    assert left.acknowledged == Acknowledged(1, -1)
    right.document.delete(2, 2)
    left.document.insert(1, "y")
    said = talk(left, right)
    assert (kinds(said, left).count("UPDATE"), kinds(said, right).count("UPDATE")) == (1, 1)
    assert left.document.content == right.document.content
    assert left.all_sent
    assert right.all_sent
    assert talk(left, right) == []


@pytest.mark.parametrize("kind", ["text", "list"])
def test_a_keystroke_takes_15_bytes(kind: str) -> None:
    left, right = linked(kind)
    for one, other in (left, right), (right, left):
        for key in "some keys":
            one.document.insert(1, key if kind == "text" else [key])
            (message,) = list(polled(one))
            if key != "s":  # the agent's name comes with its first one
                assert len(message) <= (15 if kind == "text" else 18)
            other.receive(message)
            talk(left, right)
        one.document.delete(0)
        (message,) = list(polled(one))
        assert len(message) <= 15
        other.receive(message)
        talk(left, right)
    assert left.document.content == right.document.content


def test_a_slow_reader_gets_one_message() -> None:
    left, right = linked()
    for i in range(100):
        left.document.insert(i, "x")
    (message,) = list(polled(left))
    assert len(message) < 130
    right.receive(message)
    assert right.document.content == left.document.content


def test_a_large_history_comes_in_chunks_with_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_EVENTS", 1000)
    a = Document(agent="ann", id=ID)
    rng = Random(3)
    for _ in range(300):
        a.insert(rng.randint(0, len(a)), "text" * rng.randint(1, 8))
    b = Document(agent="bob", id=ID)
    left, right = Session(a), Session(b)
    right.receive(next(polled(left)))
    for message in list(polled(right)):
        left.receive(message)
    total = sum(end for ((_, end),) in a.version_vector.values())
    remaining = []
    for message in polled(left):
        for event in right.receive(message):
            if isinstance(event, Changed):
                remaining.append(event.remaining)
                assert right.remaining == event.remaining
                # What is typed now waits for its turn, and does not make it longer.
                if event.remaining:
                    a.insert(0, "!")
    expected = [*range(total - 1000, 0, -1000), 0]
    assert remaining[: len(expected)] == expected
    talk(left, right)
    assert right.synced
    assert a.content == b.content


def test_large_values_are_sent_a_few_at_a_time() -> None:
    a = Document("list", agent="ann", id=ID)
    rng = Random(1)
    for i in range(40):
        a.insert(i, [rng.randbytes(60_000).hex()])
    b = Document("list", agent="bob", id=ID)
    left, right = Session(a), Session(b)
    said = talk(left, right)
    assert max(len(message) for _, message in said) <= session.CHUNK_BYTES + 16
    assert a.content == b.content
    a.insert(0, [rng.randbytes(900_000).hex()])
    a.insert(0, [1, 2, 3])
    talk(left, right)
    assert a.content == b.content
    a.insert(0, [rng.randbytes(9_000_000).hex()])
    said = talk(left, right)
    assert left.closed is not None
    assert "messages have at most" in str(left.closed.error)
    assert kinds(said, left) == ["ERROR"]


@pytest.mark.parametrize("prepended", [False, True])
def test_large_values_of_somebody_new(prepended: bool) -> None:
    """A message that turned out too large was not sent, so it has introduced nobody."""
    a = Document("list", agent="ann", id=ID)
    b = Document("list", agent="bob", id=ID)
    left, right = Session(a), Session(b)
    talk(left, right)
    rng = Random(2)
    with a.transaction():
        for i in range(30):
            a.insert(rng.randint(0, i) if prepended else i, [rng.randbytes(60_000).hex()])
    said = talk(left, right)
    assert kinds(said, left).count("UPDATE") > 1
    a.insert(3, ["more"])
    talk(left, right)
    assert left.closed is right.closed is None
    assert a.content == b.content


def test_poll_is_cheap() -> None:
    """For one key it makes few calls, and no more of them when there have been many."""
    left, right = linked()
    calls: list[int] = []

    def count(frame: object, event: str, arg: object) -> None:
        calls[-1] += event in ("call", "c_call")

    before = sys.getprofile()
    for _ in range(300):
        left.document.insert(3, "x")
        calls.append(0)
        sys.setprofile(count)
        message = left.poll()
        sys.setprofile(before)
        assert message is not None
        right.receive(message)
        list(map(left.receive, polled(right)))
    # Now and then garbage is collected.
    assert min(calls[-100:]) <= min(calls[10:110]) < 100


def test_endless_edits_do_not_keep_presence_and_acknowledgements_waiting() -> None:
    left, right = linked()
    left.show("ann", 1)
    left.document.insert(0, "x")
    said = []
    for _ in range(8):
        right.document.insert(0, "r")
        left.document.insert(0, "l")
        list(map(left.receive, polled(right)))
        message = left.poll()
        assert message is not None
        said.append(NAMES[message[0]])
    assert {"ACK", "UPDATE", "PRESENCE"} == set(said)
    assert said.count("UPDATE") >= 2


# --- identity -----------------------------------------------------------------------------------------------


def test_another_id_is_refused_before_anything_is_exchanged() -> None:
    a, b = Document(agent="ann"), Document(agent="bob")
    a.insert(0, "mine")
    b.insert(0, "yours")
    left, right = Session(a), Session(b)
    said = talk(left, right)
    assert a.content == "mine"
    assert b.content == "yours"
    assert {NAMES[message[0]] for _, message in said} == {"HELLO", "ERROR"}
    for one in left, right:
        assert one.closed is not None
        assert isinstance(one.closed.error, (IdentityError, SyncError))


def test_another_kind_is_refused() -> None:
    document = Document("list", agent="ann", id=ID)
    refused(Session(document), hello(), KindError, "of kind 'text'")


def test_blank_documents_take_on_an_id() -> None:
    for typed in False, True:
        a, b = Document(agent="ann"), Document(agent="bob")
        wanted = a.id
        a.insert(0, "x")
        left, right = Session(a), Session(b)
        (first,) = polled(right)
        if typed:
            # HELLO has gone out, which says that nothing is there: what is typed now is of what is agreed.
            b.insert(0, "y")
        left.receive(first)
        talk(left, right)
        assert a.id == b.id == wanted
        assert a.content == b.content


def test_two_blank_documents_agree() -> None:
    for late in False, True:
        a, b = Document(agent="ann"), Document(agent="bob")
        wanted = min(a.id, b.id)
        left, right = Session(a), Session(b)
        if late:
            (first,) = polled(left)
            right.receive(first)
        talk(left, right)
        assert a.id == b.id == wanted
        a.insert(0, "x")
        talk(left, right)
        assert b.content == "x"
        assert left.closed is right.closed is None


def test_a_document_in_which_something_waits_is_not_blank() -> None:
    document = Document(agent="bob")
    document.receive([Run("eve", 3, (("eve", 2),), ((0, 0, "x"),))])
    refused(Session(document), hello(), IdentityError)


def test_a_blank_document_with_two_links() -> None:
    """One link gives it an id while the other end of the other link goes by what it said before."""
    for id_of_third in "0" * 31 + "1", "f" * 32:
        first, third = Document(agent="first", id="8" * 32), Document(agent="third")
        third._id = id_of_third
        blank = Document(agent="blank")
        blank._id = "7" * 32
        one, other = Session(blank), Session(blank)
        left, right = Session(first), Session(third)
        (told_first,), (told_third,) = polled(one), polled(other)
        left.receive(told_first)
        right.receive(told_third)
        for message in polled(left):
            one.receive(message)
        assert blank.id == first.id
        agreed = min("7" * 32, id_of_third)
        assert third.id == agreed
        closed = [event for message in polled(right) for event in other.receive(message)]
        assert closed == [Closed(None)], "the link begins anew, and the ids are compared as they are now"
        left, right = Session(blank), Session(third)
        talk(left, right)
        assert left.closed is not None
        assert isinstance(left.closed.error, (IdentityError, SyncError))


# --- what is refused ----------------------------------------------------------------------------------------


def test_wrong_greetings() -> None:
    def fresh() -> Session:
        return Session(Document(agent="bob", id=ID))

    refused(fresh(), hello(protocol=2), SyncError, "speaks version 2 of the protocol")
    refused(fresh(), hello(doc_id="f" * 32), IdentityError, "this is " + ID)
    refused(fresh(), hello(kind=b"\xff"), SyncError, "not UTF-8")
    refused(fresh(), hello() + b"x", SyncError, "HELLO: 1 bytes too many")
    refused(fresh(), hello(kind=b"x" * 9999), KindError)
    refused(fresh(), hello()[:-1], SyncError, "HELLO")
    refused(fresh(), hello(vector={"a": [(0, 5)], "b": [(3, 3)]}), SyncError, "no range of seqs")
    twice = hello()[:-1] + varint(4) + b"\x01a\x01a" + b"\x01\x00\x01" * 2
    refused(fresh(), twice, SyncError, "named twice")
    refused(fresh(), bytes([HELLO, 0]) + bytes(MAX_HELLO), SyncError, "at most")


def test_wrong_phases() -> None:
    for kind in BACKLOG, UPDATE, DONE, ACK, PRESENCE:
        refused(Session(Document(id=ID)), bytes([kind, 0, 0, 0]), SyncError, "before HELLO")
    _, right = linked()
    refused(right, hello(number=right._number_in), SyncError, "HELLO came twice")
    _, right = linked()
    refused(right, bytes([DONE, right._number_in]), SyncError, "DONE came after DONE")
    _, right = linked()
    refused(right, bytes([BACKLOG, right._number_in, 0]), SyncError, "BACKLOG came after DONE")
    right = Session(Document(id=ID))
    right.receive(hello())
    refused(right, bytes([UPDATE, 1]), SyncError, "UPDATE came before DONE")


def test_wrong_messages() -> None:
    for message, text in [
        (b"", "has 0 bytes"),
        (b"\x01", "has 1 bytes"),
        (bytes([0, 3]), "unknown type 0"),
        (bytes([11, 3]), "unknown type 11"),
        (bytes([UPDATE]) + bytes(MAX_MESSAGE), "at most"),
    ]:
        refused(linked()[1], message, SyncError, text)
    for payload in b"", b"\x80", b"\x05\x00", b"\x00\x02", b"\x00\x00\x00", b"\xff" * 12:
        _, right = linked()
        refused(right, bytes([ACK, right._number_in]) + payload, SyncError)
    _, right = linked()
    refused(right, bytes([DONE, right._number_in]), SyncError)


def test_progress_that_cannot_be() -> None:
    a = Document(agent="ann", id=ID)
    a.insert(0, "x" * 100)
    for remaining in 100, 60:
        left, right = Session(a), Session(Document(agent="bob", id=ID))
        left._chunk = 40
        right.receive(next(polled(left)))
        left.receive(next(polled(right)))
        out = polled(left)
        right.receive(next(out))
        message = next(out)
        assert message[2] == 20
        refused(right, message[:2] + bytes([remaining]) + message[3:], SyncError, "are said to remain")
    left, right = Session(a), Session(Document(agent="bob", id=ID))
    left._chunk = 40
    right.receive(next(polled(left)))
    left.receive(next(polled(right)))
    right.receive(next(polled(left)))
    refused(right, bytes([DONE, 2]), SyncError, "before 60 events")


def test_lost_doubled_and_overtaking_messages() -> None:
    left, right = linked()
    messages = []
    for i in range(3):
        left.document.insert(0, str(i))
        messages += list(polled(left))
    assert right.receive(messages[0]) != []
    assert right.receive(messages[0]) == []
    assert right.closed is None
    assert right.receive(messages[2]) == [Closed(None)]
    assert right.receive(messages[1]) == []
    assert right.poll() is None, "nobody is to blame"
    assert right.document.content == "0hello"
    fresh_left, fresh_right = Session(left.document), Session(right.document)
    said = talk(fresh_left, fresh_right)
    assert kinds(said, fresh_left).count("BACKLOG") == 1
    assert right.document.content == left.document.content == "210hello"


def test_numbers_go_round() -> None:
    left, right = linked()
    for i in range(600):
        left.document.insert(0, "x")
        talk(left, right)
        assert right.document.content.count("x") == i + 1
    assert left.closed is right.closed is None
    assert left.acknowledged.received == 600


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (Run("eve", 0, (), ((3, 0, "x"),)), PositionError),
        (Run("ann", 0, (), ((0, 0, "X"),)), ConflictError),
        (Run("ann", 4, (("ann", 3),), ((0, 1, ""),)), ConflictError),
    ],
)
def test_impossible_edits(run: Run, error: type[EgwalkerError]) -> None:
    _, right = linked()
    blob = forged(right, run)
    found = refused(right, bytes([UPDATE, right._number_in]) + blob, error)
    assert str(found)


def forged(right: Session, run: Run) -> bytes:
    """An update with any run, as it must be for this session to understand it."""
    agent, seq, parents, ops = run
    names = right._into.numbers

    def name(other: str) -> bytes:
        return varint(len(other.encode())) + other.encode()

    out = [
        varint(2 + 2 * names[agent]) + varint(seq) if agent in names else b"\0" + name(agent) + varint(seq)
    ]
    out.append(varint(len(parents) + 1))
    known = {**names}
    known.setdefault(agent, len(known))
    for other, number in parents:
        out.append(varint(2 + known[other]) if other in known else b"\1" + name(other))
        known.setdefault(other, len(known))
        out.append(varint(number))
    ((pos, deleted, inserted),) = ops
    out.append(varint((deleted or len(inserted)) << 2 | (2 if deleted else 0)))
    out += [varint(pos), inserted.encode()]
    return sealed(right.document, bytes([encoding.RUN | encoding.LAST]) + b"".join(out))


def sealed(document: Document, chunk: bytes) -> bytes:
    """A chunk with its checksum."""
    total = encoding.checksum(bytes.fromhex(document.id), chunk[0], chunk[1:])
    return chunk + total.to_bytes(4, "little")


def test_events_without_parents_wait_within_the_limit() -> None:
    right = Session(Document(agent="bob", id=ID, pending_limit=5), durable=True)
    right.receive(hello())
    right.receive(bytes([DONE, 1]))
    run = Run("eve", 3, (("eve", 2),), ((0, 0, "xyz"),))
    right.receive(bytes([UPDATE, 2]) + forged(right, run))
    assert right.document.pending == 3
    assert right.mark() == 0, "what waits is not in the document, so it does not become durable with it"
    more = Run("eve", 10, (("eve", 9),), ((0, 0, "xyz"),))
    refused(right, bytes([UPDATE, 3]) + forged(right, more), PendingError)
    assert right.document.pending == 3


def test_what_waited_goes_to_all() -> None:
    """Somebody's events waited; their parents come from another one, who does not have what waited."""
    a = Document(agent="ann", id=ID)
    a.insert(0, "ab")
    hub = Document(agent="hub", id=ID)
    hub.receive([Run("eve", 0, (("ann", 1),), ((2, 0, "c"),))])
    assert hub.pending == 1
    left, right = Session(a), Session(hub)
    talk(left, right)
    assert hub.content == a.content == "abc"
    assert right.mark() == 1
    assert left.all_sent
    assert right.all_sent


def test_hooks_refuse() -> None:
    seen: list[Run] = []

    def accept(runs: list[Run]) -> None:
        seen.extend(runs)
        if any("!" in op[2] for run in runs for op in run.ops):
            raise SyncError("no shouting")

    left, right = linked(accept=accept)
    left.document.insert(5, " you")
    talk(left, right)
    assert [run.ops for run in seen] == [((5, 0, " you"),)]
    left.document.insert(9, "!")
    refused(right, next(polled(left)), SyncError, "no shouting")
    left, right = linked(accept=lambda runs: print(1 / 0))
    left.document.insert(0, "x")
    with pytest.raises(ZeroDivisionError):
        right.receive(next(polled(left)))
    assert right.closed is not None
    (told,) = polled(right)
    assert b"Zero" not in told
    assert right.document.content == "hello"


def test_errors_are_told_and_shown_safely() -> None:
    left, right = linked()
    left.fail(SyncError("because\x1b[2J of " + "x" * 5000))
    (message,) = polled(left)
    assert len(message) < 1100
    (event,) = right.receive(message)
    assert isinstance(event, Closed)
    text = str(event.error)
    assert text.startswith("the other end closed the link: SyncError: because?[2J of xx")
    assert right.poll() is None, "the other end knows"
    left, right = linked()
    (event,) = right.receive(bytes([ERROR, 77, 200]) + b"?")
    assert isinstance(event, Closed)
    assert isinstance(event.error, SyncError)


# --- acknowledgements ---------------------------------------------------------------------------------------


def test_who_needs_no_acknowledgements_gets_none() -> None:
    a, b = Document(agent="a"), Document(agent="b")
    quiet, other = Session(a, acks=False), Session(b, durable=True)
    a.insert(0, "x")
    said = talk(quiet, other)
    b.insert(1, "y")
    a.insert(0, "z")
    said += talk(quiet, other)
    other.stored(other.mark())
    said += talk(quiet, other)
    assert (a.content, b.content) == ("zxy", "zxy")
    assert "ACK" not in kinds(said, other)
    assert not other.unconfirmed
    assert quiet.acknowledged == Acknowledged(0, -1)
    assert other.acknowledged.received == other.sent == 1, "what it sent itself is confirmed"


def test_an_acknowledgement_can_wait() -> None:
    left, right = linked(durable=True)
    left.document.insert(0, "x")
    for message in polled(left):
        right.receive(message)
    right.document.insert(0, "y")
    update = right.poll(confirm=False)
    assert update is not None
    assert update[0] == UPDATE
    assert right.poll(confirm=False) is None
    assert right.unconfirmed
    right.stored(right.mark())
    ack = right.poll()
    assert ack is not None
    assert ack[0] == ACK
    assert ack[2:] == bytes([1, 2]), "received and durable in one"
    assert right.poll() is None
    assert not right.unconfirmed


@pytest.mark.parametrize("seed", range(20))
def test_sessions_that_share_what_they_encode_say_the_same(seed: int) -> None:
    """Whatever each of them has been told, and has told, before."""
    rng = Random(seed)
    server = Document(agent="server", id=ID)
    shared: Encoded = {}
    documents = [server.fork(f"a{i}") for i in range(6)]
    pairs = [(Session(document), Session(server, encoded=shared)) for document in documents]
    for _ in range(60):
        document = rng.choice([*documents, server])
        if rng.random() < 0.7 or not len(document):
            document.insert(rng.randint(0, len(document)), rng.choice(["x", "hello", "\U0001f600"]))
        else:
            document.delete(rng.randrange(len(document)))
        for one, other in rng.sample(pairs, rng.randint(1, len(pairs))):
            talk(one, other)
            assert (one.closed, other.closed) == (None, None)
    for _ in range(2):
        for pair in pairs:
            talk(*pair)
    assert {document.content for document in documents} == {server.content}
    for document in documents:
        document.verify()


def test_an_edit_is_encoded_once_for_all_who_know_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Document(agent="server", id=ID)
    server.insert(0, "text")
    shared: Encoded = {}
    pairs = [(Session(server.fork(f"a{i}")), Session(server, encoded=shared)) for i in range(10)]
    for pair in pairs:
        talk(*pair)
    calls = 0
    encode = encoding.encode_update

    def counted(*args: Any, **options: Any) -> bytes:
        nonlocal calls
        calls += 1
        return encode(*args, **options)

    monkeypatch.setattr(encoding, "encode_update", counted)
    for _ in range(3):
        server.insert(0, "x")
        for here, there in pairs:
            for message in polled(there):
                here.receive(message)
    assert calls == 3
    assert {here.document.content for here, _ in pairs} == {"xxxtext"}


def test_received_and_durable() -> None:
    left, right = linked(durable=True)
    assert left.peer_is_durable
    assert not right.peer_is_durable
    assert left.acknowledged == Acknowledged(0, -1)
    right.stored(right.mark())
    talk(left, right)
    assert left.acknowledged == Acknowledged(0, 0), "what both had at first is durable"
    left.document.insert(0, "x")
    talk(left, right)
    assert left.acknowledged == Acknowledged(1, 0)
    mark = right.mark()
    left.document.insert(0, "y")
    talk(left, right)
    right.stored(mark)
    talk(left, right)
    assert left.acknowledged == Acknowledged(2, 1)
    right.stored(mark - 1)
    assert talk(left, right) == []
    right.stored(right.mark())
    talk(left, right)
    assert left.acknowledged == Acknowledged(2, 2)


# --- rights -------------------------------------------------------------------------------------------------

SECRETS = (b"s3cret", b"alicia", b"presence")


def secret_document() -> Document:
    document = Document(agent="alicia", id=ID)
    document.insert(0, "s3cret text " * 3)
    document.delete(0, 2)
    document.insert(0, "s3")
    return document


def everything_said(secret: Session, messages: list[bytes]) -> list[bytes]:
    said: list[bytes] = []
    for message in messages:
        said += polled(secret)
        secret.show("presence", {"presence": 1})
        secret.receive(message)
        secret.document.insert(0, "s3cret")
        said += polled(secret)
    return said


@pytest.mark.parametrize("can_read", [False, True])
@pytest.mark.parametrize("can_write", [False, True])
def test_rights(can_read: bool, can_write: bool) -> None:
    secret = secret_document()
    one = Session(secret, can_read=can_read, can_write=can_write)
    writer = Document(agent="bob")
    other = Session(writer)
    said = talk(other, one)
    if not can_read and not can_write:
        assert one.closed is not None
        assert writer.content == ""
        assert kinds(said, one) == ["ERROR"]
        return
    assert other.synced
    assert writer.id == ID
    assert writer.content == (secret.content if can_read else "")
    assert other.peer_is_read_only is not can_write
    writer.insert(0, "from bob")
    one.show("presence", 1)
    secret.insert(0, "s3cret")
    said += talk(other, one)
    assert one.closed is None, "a session that knows that it may not write does not try"
    assert ("from bob" in secret.content) is can_write
    assert other.all_sent is can_write
    assert ("s3cret" in writer.content) is can_read
    if not can_read:
        for by, message in said:
            if by is one:
                assert not any(word in message for word in SECRETS)
                assert message[0] in (HELLO, ACK, DONE)
        assert all(not event for by, event in said if by is other and event[0] == PRESENCE)


def test_an_edit_without_the_right_ends_the_link() -> None:
    for read_first in False, True:
        left, right = linked(can_write=False)
        if read_first:
            right.document.insert(0, "x")
            talk(left, right)
            assert left.document.content == "xhello"
        left.peer_is_read_only = False  # it does not care
        left.document.insert(0, "y")
        message = next(polled(left))
        assert message[0] == UPDATE
        refused(right, message, SyncError, "may not write")


def test_nothing_is_told_to_who_may_not_read() -> None:
    """Whatever they send: real messages, wrong ones, guesses at what is there."""
    corpus = real_messages(Random(0))
    probes = [
        Run("alicia", 0, (), ((0, 0, "s"),)),
        Run("alicia", 0, (), ((0, 0, "x"),)),
        Run("bob", 0, (("alicia", 5),), ((500, 0, "x"),)),
        Run("bob", 0, (("alicia", 500),), ((0, 0, "x"),)),
        Run("bob", 0, (("alicia", 5),), ((0, 9, ""),)),
    ]
    answers = set()
    for probe in probes:
        one = Session(secret_document(), can_read=False)
        said = everything_said(one, [hello(), bytes([DONE, 1])])
        said += everything_said(one, [bytes([UPDATE, 2]) + forged(one, probe)])
        assert not any(word in message for message in said for word in SECRETS)
        answers.add(tuple(message[2:] for message in said if message[0] == ERROR))
    assert len(answers) == 2, "refused or not, but not why"
    rng = Random(1)
    for _ in range(2000):
        one = Session(secret_document(), can_read=False)
        messages = [hello(), bytes([DONE, 1])] if rng.random() < 0.7 else []
        for _ in range(3):
            message = mutated(rng, rng.choice(corpus), fixed=one.document if rng.random() < 0.5 else None)
            messages.append(message[:1] + bytes([len(messages)]) + message[2:])
        for message in everything_said(one, messages):
            assert message[0] in (HELLO, ACK, DONE, ERROR)
            assert not any(word in message for word in SECRETS)


def test_who_may_not_read_sends_what_is_there_already() -> None:
    a = Document(agent="ann", id=ID)
    a.insert(0, "both have this")
    b = a.fork("bob")
    left, right = Session(a, can_read=False), Session(b)
    b.insert(0, "> ")
    said = talk(left, right)
    assert a.content == b.content
    assert kinds(said, right) == ["HELLO", "BACKLOG", "DONE"]
    assert right.acknowledged.received == 1
    assert left.all_sent


# --- presence -----------------------------------------------------------------------------------------------


def test_presence() -> None:
    left, right = linked()
    left.show("ann", {"at": 1})
    left.show("ann", {"at": 2})
    left.show("cy", "x")
    left.show("cy", None)
    left.show("dee", None)
    said = list(polled(left))
    assert [message[0] for message in said] == [PRESENCE, PRESENCE]
    events: list[Event] = [event for message in said for event in right.receive(message)]
    assert events == [Presence("ann", {"at": 2}), Presence("cy", None)]
    left.show("ann", None)
    left.show("ann", None)
    assert [right.receive(message) for message in polled(left)] == [[Presence("ann", None)]]


def test_presence_that_is_refused() -> None:
    left, right = linked()
    nested: Any = 1
    for _ in range(33):
        nested = [nested]
    for key, value in [
        ("", 1),
        ("k" * 256, 1),
        ("\ud800", 1),
        ("k", "\ud800"),
        ("k", float("nan")),
        ("k", float("inf")),
        ("k", object()),
        ("k", "x" * 4095),
        ("k", nested),
    ]:
        with pytest.raises(SyncError):
            left.show(key, value)
    assert left.poll() is None
    left.show("k", nested[0])
    left.show("k" * 255, "x" * 4094)
    assert len([right.receive(message) for message in polled(left)]) == 2
    assert right.closed is None
    for raw in [
        b"",
        b"\x00[]",
        b"\x01",
        b"\x05k1",
        b"\x01k{",
        b"\x01knull",
        b"\x01kNaN",
        b"\x01k1e999",
        b'\x01k"\\ud800"',
        b'\x01k"\xff"',
        b"\x01k" + b"[" * 33 + b"]" * 33,
        b"\x01k" + b"[" * 2000 + b"]" * 2000,
        b"\x01k" + b"9" * 4096,
        b"\x01k[" + b"1e15," * 700 + b"1]",
        b"\x01k" + b" " * 4096 + b"1",
        b"\xff\x01" + b"k" * 255 + b"1",
        b"\x80\x02" + b"k" * 256 + b"1",
    ]:
        _, right = linked()
        message = bytes([PRESENCE, right._number_in]) + raw
        events = right.receive(message)
        if isinstance(events[0], Presence):
            # What is taken can be sent on.
            if events[0].state is not None:
                linked()[0].show(events[0].key, events[0].state)
        else:
            assert isinstance(events[0], Closed)
            assert isinstance(events[0].error, SyncError)


def test_presences_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = linked(presences=2)
    for key in "ab":
        left.show(key, 1)
    left.show("a", None)
    left.show("c", 1)
    for message in polled(left):
        right.receive(message)
    assert right.closed is None
    left.show("d", 1)
    refused(right, next(polled(left)), SyncError, "more than 2 presences")
    monkeypatch.setattr(session, "MAX_PRESENCES", 3)
    left, right = linked()
    rng = Random(5)
    for _ in range(300):
        left.show(rng.choice("abcdefgh"), rng.choice((None, 1, 2)))
        if rng.random() < 0.3:
            for message in polled(left):
                right.receive(message)
    assert right.closed is None
    assert len(right._peers_shown) <= 3


# --- documents opened without their history -----------------------------------------------------------------


def history_read(document: Document) -> bool:
    return document._replica.unread is None


@pytest.mark.parametrize("kind", ["text", "list"])
def test_a_history_that_nobody_lacks_is_not_read(kind: str) -> None:
    a = Document(kind, agent="ann", id=ID)
    more = "hello" if kind == "text" else [1, 2, 3]
    a.insert(0, more)
    a.delete(1)
    server = Document.decode(a.encode(), agent="server")
    left, right = Session(a), Session(server, durable=True)
    talk(left, right)
    a.insert(1, more)
    talk(left, right)
    assert server.content == a.content
    assert not history_read(server)
    server.insert(0, more)
    talk(left, right)
    assert not history_read(server)
    a.merge(beside(a))
    talk(left, right)
    assert history_read(server)
    assert server.content == a.content


def beside(document: Document) -> Document:
    """A replica of somebody who knew nothing of what is in the document."""
    found = Document(document.kind, agent="eve", id=ID)
    found.insert(0, "!" if document.kind == "text" else ["!"])
    return found


def test_a_damaged_history_is_this_ends_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Document(agent="ann", id=ID)
    a.insert(0, "hello " * 50)
    data = a.encode()
    b = Document.decode(data, agent="bob")
    assert b._replica.unread is not None
    a.insert(0, "x")
    monkeypatch.setattr("egwalker.replica.log_of", broken)
    for greet_first in True, False:
        server = Document.decode(data, agent="server")
        assert server._replica.unread is not None
        left, right = Session(Document(id=ID) if greet_first else a), Session(server)
        if not greet_first:
            talk(left, right)
            assert server.content == a.content
            a.merge(beside(a))
        talk(left, right)
        assert right.closed is not None
        assert left.closed is not None


def broken(kind: object, encoded: object) -> None:
    raise DecodeError("damaged")


def test_transactions_and_branches() -> None:
    left, right = linked()
    changes: list[Change] = []
    with right.document.subscribe(changes.append):
        with left.document.transaction():
            left.document.insert(0, "a")
            left.document.insert(0, "b")
        talk(left, right)
    assert len(changes) == 1
    branch = left.document.branch([("ann", 1)])
    branch.insert(2, "?")
    talk(left, right)
    assert right.document.content == left.document.content


# --- fuzz ---------------------------------------------------------------------------------------------------


def real_messages(rng: Random, kind: str = "text") -> list[bytes]:
    """All sorts of messages, each of which was said once."""
    a = Document(kind, agent="ann", id=ID)
    b = Document(kind, agent="bob", id=ID)
    world = generate.World(rng, 1, odd=True, values=kind == "list")
    left, right = Session(a), Session(b, durable=True)
    said = []
    for step in range(30):
        document = rng.choice((a, b))
        for pos, deleted, inserted in world.ops(len(document), rng.randint(0, 50))[0]:
            if deleted:
                document.delete(pos, deleted)
            if len(inserted):
                document.insert(pos, inserted)
        if rng.random() < 0.3:
            rng.choice((left, right)).show("ann", {"at": step, "name": "Ann"})
        if step > 8 and rng.random() < 0.5:
            said += talk(left, right)
            right.stored(right.mark())
    said += talk(left, right)
    left.fail(SyncError("enough"))
    said += [(left, message) for message in polled(left)]
    return [message for _, message in said]


def mutated(rng: Random, message: bytes, fixed: Document | None = None) -> bytes:
    """A message with something changed. `fixed`: then the checksum of its update fits again."""
    data = bytearray(message)
    body = len(data) - 4 if fixed is not None and data[0] in (BACKLOG, UPDATE) else len(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(2, body) if body > 2 else len(data)
        what = rng.random()
        if at >= len(data):
            data.append(rng.getrandbits(8))
        elif what < 0.4:
            data[at] = rng.getrandbits(8)
        elif what < 0.6:
            data[at] ^= 1 << rng.randrange(8)
        elif what < 0.7:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif what < 0.8:
            del data[at : at + rng.randint(1, 4)]
        elif what < 0.9:
            data[at:at] = rng.randbytes(rng.randint(1, 4))
        else:
            del data[at:]
        body = max(2, len(data) - 4) if body < len(message) else len(data)
    found = bytes(data)
    if fixed is not None and found[0] in (BACKLOG, UPDATE) and len(found) > 8:
        start = 2
        if found[0] == BACKLOG:
            while start < len(found) - 5 and found[start] & 0x80:
                start += 1
            start += 1
        if start < len(found) - 4:
            found = found[:start] + sealed(fixed, found[start:-4])
    return found


@pytest.mark.parametrize("kind", ["text", "list"])
def test_fuzz(kind: str) -> None:
    """Whatever comes: no exception, a typed error at most, and then the document is as it was, and sound."""
    rng = Random(2024)
    corpora = [real_messages(Random(seed), kind) for seed in range(6)]
    document = Document(kind, agent="eve", id=ID)
    document.insert(0, "some text" if kind == "text" else [1, "a", None])
    before = state(document)
    ends = {"open": 0, "gap": 0, "error": 0, "changed": 0}
    for case in range(CASES // 2):
        corpus = rng.choice(corpora)
        one = Session(document, presences=5, durable=True)
        messages: list[bytes] = []
        if rng.random() < 0.9:
            messages.append(hello(kind=kind.encode(), vector={"ann": [(0, 3)], "bob": [(0, 2)]}))
            if rng.random() < 0.8:
                messages.append(bytes([DONE, 1]))
        how = rng.random()
        if how < 0.1:
            messages.append(rng.randbytes(rng.choice((0, 1, 2, 3, 8, 40))))
        elif how < 0.2:
            messages.append(bytes([rng.randint(1, 7), len(messages)]) + rng.randbytes(rng.randint(0, 30)))
        else:
            for message in rng.choices(corpus, k=rng.randint(1, 3)):
                changed = message
                if how < 0.9:
                    changed = mutated(rng, message, document if rng.random() < 0.7 else None)
                numbered = rng.random() < 0.95
                messages.append(
                    changed[:1] + bytes([len(messages) if numbered else rng.getrandbits(8)]) + changed[2:]
                )
        for message in messages:
            was_open = one.closed is None
            events = one.receive(message)
            assert was_open or events == []
            if one.closed is None:
                changed_it = any(isinstance(event, Changed) for event in events)
                if changed_it and state(document) != before:
                    ends["changed"] += 1
                    document._check()
                    before = state(document)
                continue
            if was_open:
                assert events == [one.closed]
                assert state(document) == before, f"case {case}"
                said = list(polled(one))
                told = one.closed.error is not None and not (len(message) > 1 and message[0] == ERROR)
                assert [answer[0] for answer in said] == [ERROR] * told
        list(polled(one))
        if one.closed is None:
            ends["open"] += 1
        elif one.closed.error is None:
            ends["gap"] += 1
        else:
            ends["error"] += 1
        if len(document) > 400 or document.pending > 500:
            document = Document(kind, agent="eve", id=ID)
            document.insert(0, "some text" if kind == "text" else [1, "a", None])
            before = state(document)
    assert min(ends.values()) > CASES // 1000, ends


# --- kinds --------------------------------------------------------------------------------------------------


def test_a_blank_document_becomes_one_of_the_kind_that_comes() -> None:
    one = Session(Document(), any_kind=True)
    (event,) = one.receive(hello(kind=b"list", vector={"ann": [(0, 1)]}))
    assert isinstance(event, Greeted)
    assert (one.document.kind, one.document.content, one.document.id) == ("list", [], ID)
    one.document.insert(0, [1, {}])
    assert one.document.content == [1, {}]


def test_what_keeps_its_kind() -> None:
    written = Document()
    written.insert(0, "x")
    branched = Document()
    branch = branched.branch()
    greeting = Session(Document(), any_kind=True)
    assert greeting.poll() is not None
    for one in (
        Session(Document()),
        Session(Document(), any_kind=True, can_write=False),
        Session(Document(id=ID), any_kind=True),
        Session(written, any_kind=True),
        Session(branched, any_kind=True),
        greeting,
    ):
        refused(one, hello(kind=b"list"), KindError, "of kind 'list', this one is of 'text'")
    refused(Session(Document(), any_kind=True), hello(kind=b"nothing"), KindError, "no plugin provides")
    assert str(branch) == ""
