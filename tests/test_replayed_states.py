"""Replayed documents that are opened by their state: as by all their operations, but without these."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import replayed as book
from middle import talk
from replayed import KEPT, KINDS, Peers
from test_damage import Parts, mutate
from test_replayed import document_of, forms, small, trail  # noqa: F401 - two fixtures

import egwalker
from egwalker import (
    Change,
    DecodeError,
    Document,
    EgwalkerError,
    HistoryError,
    OperationError,
    Run,
    encoding,
    shallow,
)
from egwalker.egw_records import read
from egwalker.kinds import kind_of
from egwalker.replica import opened
from egwalker.session import Session

# --- that is damaged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEPT)
def test_states_that_are_wrong(kind: str) -> None:
    """One that its type does not take is of no use; another one is believed until it is verified."""
    form = forms(kind)["whole"]
    right = Document.decode(form.data)
    parts = Parts.of(form)
    rng = Random(kind)
    found: Counter[str] = Counter()
    assert parts.content is not None
    wrong = [mutate(rng, parts.content) for _ in range(150)]
    wrong += [b"", b"[", b"null", b"NaN", b'{"a":1e999}', b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 100_000]
    for raw in wrong:
        data = parts.put("content", raw).build()
        try:
            doc = Document.decode(data, agent="me")
        except DecodeError:
            found["refused"] += 1
            with pytest.raises(UnicodeDecodeError):
                raw.decode()
            continue
        if doc._replica.unread is None:
            assert doc.content == right.content
            found["replayed"] += 1
        else:
            doc.perform(book.random_op(rng, kind))
            try:
                doc.verify()
            except DecodeError:
                found["corrected"] += 1
            else:
                found["the same"] += 1
        doc._check()
        doc.verify()
    assert min(found["replayed"], found["corrected"], found["refused"]) > 0, found


# --- opened without their history ---------------------------------------------------------------------------


class Watched(book.Queue):
    """Counts."""

    name = "watched"

    def __init__(self) -> None:
        self.applied = self.loaded = 0

    def apply(self, state: book.Line, op: Any) -> list[str]:
        self.applied += 1
        if op == {"join": "nobody"} and state.names:
            raise RuntimeError("somebody is here")
        return super().apply(state, op)

    def load(self, value: Any) -> book.Line:
        self.loaded += 1
        return super().load(value)


def opened_with(provided: Any, data: bytes, agent: str = "me") -> Document:
    """A document of a type that is not registered, from bytes."""
    encoded = encoding.parse(data)
    return Document._of(opened(encoded, kind_of(provided)), agent, encoded.id.hex())


def unread(document: Document) -> bool:
    """Whether it has not read its history."""
    return document._replica.unread is not None


def joined(provided: Any, count: int) -> Document:
    """One in which two people did so many things each, knowing of each other."""
    ann = document_of(provided, "ann")
    bob = ann.fork("bob")
    for i in range(count):
        ann.perform({"join": f"a{i}"})
        bob.merge(ann)
        bob.perform({"join": f"b{i}"} if i % 3 else "next")
        ann.merge(bob)
    return ann


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("small")
def test_what_needs_no_history(kind: str, seed: int) -> None:
    """It is the same as in one that has performed everything."""
    rng = Random(seed)
    peers = Peers(rng, kind, 3)
    for _ in range(20):
        peers.step()
    peers.converge()
    doc = peers.documents[0]
    data = doc.encode()
    lazy, eager = Document.decode(data, agent="me"), Document.decode(doc.encode(content=False), agent="me")
    told: tuple[list[Change], list[Change]] = ([], [])
    for one, seen in zip((lazy, eager), told, strict=True):
        one.subscribe(seen.append)
    other = eager.fork("other")
    for _ in range(30):
        op, act = book.random_op(rng, kind), rng.randrange(4)
        if act == 0:
            for one in (lazy, eager):
                one.perform(op)
        elif act == 1:
            other.perform(op)
        elif act == 2:
            other.merge(eager)
        else:
            update = other.encode(since=eager.version_vector)
            assert lazy.apply(update) == eager.apply(update)
        assert lazy._replica.unread is not None
        assert (lazy.content, lazy.version, len(lazy)) == (eager.content, eager.version, len(eager))
        assert repr(lazy) == repr(eager)
        lazy._replica.main._check()
    assert told[0] == told[1]
    assert lazy.encode() == eager.encode()
    assert lazy._replica.unread is None
    assert (lazy.groups(), lazy.history()) == (eager.groups(), eager.history())
    lazy.verify()
    lazy._check()


@pytest.mark.parametrize("kind", KEPT)
def test_what_needs_the_history_reads_it(kind: str) -> None:
    peers = Peers(Random(kind), kind, 3)
    for _ in range(20):
        peers.step()
    peers.converge()
    doc = peers.documents[0]
    data = doc.encode()
    middle = doc.version_at(doc.events // 2)
    late = Document(kind, agent="late", id=doc.id)
    late.perform(book.random_op(Random(1), kind))
    acts: list[Callable[[Document], Any]] = [
        lambda one: one.groups(),
        lambda one: one.history(),
        lambda one: one.checkout(middle),
        lambda one: one.branch(middle).content,
        lambda one: one.diff(middle, one.version),
        lambda one: one.verify(),
        lambda one: one.encode(since={}),
        lambda one: one.merge(late).edits,
        lambda one: one.apply(late.encode()).rewound,
        lambda one: one.receive(late.history()).rewound,
    ]
    for act in acts:
        lazy, eager = Document.decode(data), Document.decode(doc.encode(content=False))
        assert (lazy._replica.unread is None, eager._replica.unread is None) == (False, True)
        assert act(lazy) == act(eager)
        assert lazy._replica.unread is None
        assert (lazy.content, lazy.version, lazy.groups()) == (eager.content, eager.version, eager.groups())
        lazy._check()
        lazy.verify()


@pytest.mark.usefixtures("small")
def test_operations_are_performed_once_and_only_if_they_must_be() -> None:
    watched = Watched()
    doc = joined(watched, 50)
    late = Run("late", 0, (("ann", 3),), ((0, 0, [{"join": "l"}]),))
    data = doc.encode()
    watched.applied = 0
    lazy = opened_with(watched, data)
    lazy.perform("next")
    assert (watched.applied, watched.loaded) == (1, 1)
    lazy.groups()
    lazy.encode()
    assert (watched.applied, watched.loaded) == (1, 1)
    lazy.receive([late])
    assert watched.applied == 1 + 102
    # What follows finds the checkpoints that were made on the way.
    late = Run("later", 0, (("bob", 45),), ((0, 0, [{"join": "m"}]),))
    lazy.receive([late])
    assert watched.applied < 1 + 102 + 30
    doc.perform("next")
    for run in lazy.history(doc.version_vector):
        doc.receive([run])
    assert doc.content != lazy.content, "who had been asked for next is another one"
    lazy.merge(doc)
    doc.merge(lazy)
    assert doc.content == lazy.content
    lazy._check()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("more", [0, 2, 30])
def test_one_that_fails_after_opening(more: int) -> None:
    """Here, from elsewhere, and late: the document is as it was, and it is named."""
    watched = Watched()
    doc = joined(watched, 20)
    lazy = opened_with(watched, doc.encode())
    for i in range(more):
        lazy.perform({"join": f"m{i}"})

    def known() -> Any:
        return lazy.content, lazy.version, lazy.version_vector, lazy.pending

    before = known()
    with pytest.raises(OperationError, match="me:.*nobody.*somebody is here"):
        lazy.perform({"join": "nobody"})
    bad = Run("bob", 20, lazy.version, ((20, 0, ["next", {"join": "nobody"}]),))
    with pytest.raises(OperationError, match="operation bob:21, .*somebody is here"):
        lazy.receive([bad])
    assert known() == before
    assert unread(lazy)
    with pytest.raises(OperationError, match="operation late:0, .*somebody is here"):
        lazy.receive([Run("late", 0, (("bob", 10),), ((0, 0, [{"join": "nobody"}]),))])
    assert known() == before
    assert not unread(lazy)
    lazy._check()
    lazy.receive([Run("late", 0, (("bob", 10),), ((0, 0, ["next"]),))])
    assert known() != before
    lazy._check()


def test_a_history_that_its_state_hides() -> None:
    """One that cannot be performed is found out when it must be, and named; the document stays."""
    doc = joined(book.Queue(), 3)
    doc.perform({"join": "nobody"})
    lazy = opened_with(Watched(), doc.encode())
    assert lazy.content == doc.content
    before = lazy.content, lazy.version
    with pytest.raises(OperationError, match="operation ann:3, .*nobody"):
        lazy.receive([Run("late", 0, (), ((0, 0, ["next"]),))])
    with pytest.raises(DecodeError, match="the history is impossible: operation ann:3"):
        lazy.verify()
    assert (lazy.content, lazy.version) == before
    lazy.perform("next")
    assert len(lazy) == 8


def test_a_state_that_users_do_not_see_all_of_is_verified() -> None:
    form = forms("queue")["whole"]
    parts = Parts.of(form)
    assert parts.content is not None
    state = json.loads(parts.content)
    assert len(state["names"]) > 1
    state["names"][1] = "somebody else"
    doc = Document.decode(parts.put("content", json.dumps(state).encode()).build())
    right = Document.decode(form.data)
    assert doc.content == right.content
    with pytest.raises(DecodeError, match="somebody else"):
        doc.verify()
    assert doc.encode() == right.encode()


class Newer(book.Queue):
    """Another version of the type, which writes its state otherwise."""

    def dump(self, state: book.Line) -> Any:
        return {"names": ", ".join(state.names), "form": 2}

    def load(self, value: Any) -> book.Line:
        if value["form"] != 2:
            raise ValueError("it is of another form")
        return book.Line([name for name in value["names"].split(", ") if name])


class Unwritable(book.Queue):
    def __init__(self, dumped: Any) -> None:
        self.dumped = dumped

    def dump(self, state: book.Line) -> Any:
        if isinstance(self.dumped, Exception):
            raise self.dumped
        return self.dumped


def test_another_version_of_a_type_replays(caplog: pytest.LogCaptureFixture) -> None:
    old, new = joined(book.Queue(), 4), joined(Newer(), 4)
    for provided, data in (Newer(), old.encode()), (book.Queue(), new.encode()):
        with caplog.at_level("INFO", "egwalker"):
            doc = opened_with(provided, data)
        assert doc._replica.unread is None
        assert doc.content == old.content
        assert "is replayed: this is no state of a queue document: ValueError" in caplog.text
        caplog.clear()
        assert opened_with(provided, doc.encode())._replica.unread is not None


@pytest.mark.parametrize("dumped", [RuntimeError("no"), {1: 2}, (1, 2), float("nan"), "\ud800", {1}])
def test_a_state_that_cannot_be_written_is_left_out(dumped: Any, caplog: pytest.LogCaptureFixture) -> None:
    doc = joined(Unwritable(dumped), 4)
    data = doc.encode()
    assert "the state of a queue document is not kept: " in caplog.text
    assert data == doc.encode(content=False)
    assert opened_with(book.Queue(), data).content == doc.content
    if dumped == dumped:  # noqa: PLR0124 - NaN is not
        doc.verify()


def test_a_type_that_cannot_read_states_ignores_them() -> None:
    has = ("name", "initial", "check", "apply", "undo", "content")
    plain = SimpleNamespace(**{name: getattr(book.Queue(), name) for name in has})
    doc = joined(book.Queue(), 4)
    again = opened_with(plain, doc.encode())
    assert again._replica.unread is None
    assert again.content == doc.content
    assert again.encode() == doc.encode(content=False)


@pytest.mark.parametrize(("keys", "method"), [(15, encoding.LZ4), (60, encoding.PLAIN)])
def test_large_states_are_stored_as_they_are(keys: int, method: int) -> None:
    """So that few bytes do not become very many, and those who open them need not believe that they do."""
    doc = Document("map", agent="ann", id="0" * 32)
    for i in range(keys):
        doc.perform({"set": [f"{i}"], "to": ["x" * 50] * 1000})
    data = doc.encode()
    parsed = encoding.parse(data)
    assert parsed._content.method == method
    assert encoding.PADDING not in parsed.chunks
    again = Document.decode(data)
    assert again.content == doc.content
    assert again._replica.unread is not None
    text = again._replica.packed()
    assert isinstance(text, str)
    column = encoding.pack(text.encode(), method=encoding.LZ4)
    assert column.method == encoding.LZ4
    chunk, out = parsed.chunks[encoding.CONTENT], [parsed.head]
    encoding.add_chunk(out, encoding.CONTENT, encoding.only(column))
    other = data[: chunk.start] + out[1] + data[chunk.end :]
    if method == encoding.LZ4:
        assert other == data
    else:
        with pytest.raises(DecodeError, match="this would take"):
            Document.decode(other)


OLD = bytes.fromhex(
    "e72100112233445566778899aabbccddeeff0117036d617000020803616e6e03626f620100010100010100622b1a2783"
    "0008000208010108000304090400d0011c7b22736574223a5b2261222c22c3a9225d2c22746f223a6e756c6c7d167b22"
    "736574223a5b2262225d2c22746f223a5b315d7d002f6f0ce8"
)
"""A map as it was written before states were: by ann, then bob's {"set": ["b"], "to": [1]}."""


def test_documents_without_a_state_are_read() -> None:
    doc = Document.decode(OLD, agent="cy")
    assert doc.content == {"a": {"é": None}, "b": [1]}
    assert doc._replica.unread is None
    assert doc.encode(content=False) == OLD
    again = Document.decode(doc.encode(), agent="cy")
    assert again._replica.unread is not None
    assert again.content == doc.content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("small")
def test_files_that_are_opened_again_and_again(kind: str, seed: int, tmp_path: Any) -> None:
    """What others did meanwhile comes in whatever was read by then."""
    rng = Random(seed)
    peers = Peers(rng, kind, 3)
    path = tmp_path / "doc.egw"
    with egwalker.EgwFile.open(path, create=peers.documents[0]):
        pass
    unread = 0
    for _ in range(12):
        with egwalker.EgwFile.open(path, "ann") as file:
            peers.documents[0] = doc = file.document
            unread += doc._replica.unread is not None
            for _ in range(rng.randint(0, 4)):
                what = rng.random()
                if what < 0.4:
                    peers.perform(doc)
                elif what < 0.6:
                    peers.bring(doc, rng.choice(peers.documents[1:]))
                elif what < 0.8:
                    file.commit()
                elif what < 0.9:
                    file.compact()
                peers.book.expect(doc)
        other = rng.choice(peers.documents[1:])
        peers.perform(other)
        peers.bring(other, rng.choice(peers.documents))
    assert (unread > 2) == (kind in KEPT)
    peers.converge()


def test_closing_makes_a_snapshot_of_what_would_open_slowly(tmp_path: Any) -> None:
    """What follows the state in the file stays an update, however often; what belongs before it does not."""
    rng, path = Random(1), tmp_path / "doc.egw"
    doc = Document("map", agent="ann")
    for i in range(500):
        doc.perform({"set": [f"{rng.random()}"], "to": i})
    bob = doc.fork("bob")
    with egwalker.EgwFile.open(path, create=doc):
        pass
    for i in range(3):
        with egwalker.EgwFile.open(path, "ann") as file:
            file.document.perform({"set": ["after"], "to": i})
            bob.apply(file.document.encode(since=bob.version_vector))
            bob.perform({"set": ["by bob"], "to": i})
            file.document.apply(bob.encode(since=file.document.version_vector))
            assert unread(file.document)
        assert read(path)[1].updates == i + 1
    bob.perform({"set": ["late"], "to": 1})
    late = [run for run in bob.history() if run.agent == "bob"][-1]
    with egwalker.EgwFile.open(path, "ann") as file:
        file.document.perform({"set": ["meanwhile"], "to": 1})
        file.document.receive([late])
        assert unread(file.document)
        file.document.receive([Run("cy", 0, (("ann", 3),), ((0, 0, [{"set": ["late"], "to": 2}]),))])
        assert not unread(file.document)
        file.commit()
        assert read(path)[1].updates == 4
    document, report = read(path)
    assert report.updates == 0
    assert unread(document)
    assert document.content == file.document.content
    # With several heads: what follows all of them is an update again.
    for updates, parents in (1, None), (0, document.version[:1]):
        assert len(document.version) > 1
        with egwalker.EgwFile.open(path, "ann") as file:
            op = {"set": ["x"], "to": updates}
            seq = 0 if updates else 1
            before = file.document.version if parents is None else parents
            file.document.receive([Run("dan", seq, before, ((seq, 0, [op]),))])
        assert read(path)[1].updates == updates


# --- beginning in the middle --------------------------------------------------------------------------------


def linked(server: Document, client: Document) -> tuple[Session, Session]:
    """A shallow document, if it is one, with all that its server has."""
    left, right = Session(server), Session(client, shallow=True)
    talk((left, right))
    return left, right


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("small")
def test_beginning_in_the_middle(kind: str, seed: int) -> None:
    """With the state; then both go on, somebody is late, and in the end all of the history comes."""
    rng = Random(seed)
    peers = Peers(rng, kind, 3)
    for _ in range(20):
        peers.step()
    peers.converge()
    server, late, _ = peers.documents
    peers.perform(server)  # else there may be no version that everything follows
    if seed % 2:
        server = peers.documents[0] = Document.decode(server.encode(), agent=server.agent)
    client = Document(kind, agent="client")
    peers.documents.append(client)
    told: list[Change] = []
    client.subscribe(told.append)
    left, right = linked(server, client)
    assert client.start
    assert (client.content, client.version, len(client)) == (server.content, server.version, len(server))
    assert told[0].after == client.start
    assert told[0].edits == ()
    start = client.start
    for _ in range(12):
        peers.perform(rng.choice((server, client)))
        if rng.random() < 0.7:
            talk((left, right))
    talk((left, right))
    assert client.start == start or len(start) > 1
    peers.book.expect(server)
    assert (client.content, client.version) == (server.content, server.version)
    client._check()
    again = Document.decode(client.encode(), agent="again")
    assert (again.start, again.content, again.encode()) == (client.start, client.content, client.encode())
    with pytest.raises(HistoryError) if client.start else nullcontext():
        client.verify()
    # One that has not heard of all that.
    peers.perform(late)
    server.merge(late)
    talk((left, right))
    assert right.settled
    assert (client.content, client.version) == (server.content, server.version)
    right.fetch()
    talk((left, right))
    assert client.start == ()
    peers.book.expect(client)
    client.verify()
    peers.converge()


def test_who_cannot_begin_with_a_state_performs_everything() -> None:
    """Neither end's type can, or only one, or they write it otherwise."""
    has = ("name", "initial", "check", "apply", "undo", "content")
    plain = SimpleNamespace(**{name: getattr(book.Queue(), name) for name in has})
    everyone = (plain, book.Queue(), Newer(), Unwritable(RuntimeError("no")))
    begun = []
    for one in everyone:
        for other in everyone:
            server = joined(one, 4)
            client = document_of(other, "client")
            left, right = linked(server, client)
            assert (client.content, client.version) == (server.content, server.version)
            begun.append(bool(client.start))
            client.perform("next")
            server.perform({"join": "late"})
            talk((left, right))
            assert (client.content, client.version) == (server.content, server.version)
            assert right.settled
    assert begun == [False] * 5 + [True, False, True] + [False] * 2 + [True] + [False] * 5


@pytest.mark.usefixtures("small")
def test_a_server_does_not_perform_much_for_those_who_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes back as far as is near a checkpoint; else it gives what it has, or everything."""
    monkeypatch.setattr(shallow, "MOST_AFTER", 30)
    monkeypatch.setattr(shallow, "MOST_PERFORMED", 12)
    watched = Watched()
    doc = joined(watched, 60)
    data = doc.encode()
    for heads in (1, 2):
        for opened_again in (False, True):
            server = (
                opened_with(watched, data)
                if opened_again
                else opened_with(watched, doc.encode(content=False))
            )
            others = [server.fork(f"other{i}") for i in range(heads)]
            for other in others:
                other.perform({"join": other.agent})
                server.merge(other)
            watched.applied = 0
            client = document_of(watched, "client")
            linked(server, client)
            assert client.content == server.content
            assert client.start == (others[0].version if heads == 1 else doc.version)
            assert watched.applied <= 12
    # Where that is far from any, with all heads.
    server = opened_with(watched, data)
    late = [Run(name, 0, (("ann", 3),), ((0, 0, ["next"]),)) for name in ("left", "right")]
    server.receive(late)
    watched.applied = 0
    client = document_of(watched, "client")
    linked(server, client)
    assert client.start == server.version
    assert len(client.start) == 3
    assert watched.applied == 0


@pytest.mark.parametrize("kind", KEPT)
def test_damage_to_one_that_began_in_the_middle(kind: str) -> None:
    rng = Random(kind)
    peers = Peers(rng, kind, 2)
    for _ in range(15):
        peers.step()
    peers.converge()
    peers.perform(peers.documents[0])
    client = Document(kind, agent="client")
    linked(peers.documents[0], client)
    client.perform(book.random_op(rng, kind))
    data = client.encode()
    assert encoding.BASE in encoding.parse(data).chunks
    for at in range(len(data)):
        for wrong in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(EgwalkerError):
                Document.decode(wrong)._replica.read()
    head, *chunks = (encoding.parse(data), *encoding.parse(data).chunks)
    out = [head.head]
    for number in chunks:
        payload = head._payload(number)
        if number == encoding.BASE:
            column = head._base[0]
            nonsense = encoding.pack(b"[")
            payload = encoding.joined([column, nonsense])
        encoding.add_chunk(out, number | (encoding.LAST if number == chunks[-1] else 0), payload)
    doc = Document.decode(b"".join(out))
    assert doc.content == client.content
    with pytest.raises(DecodeError, match=f"this is no state of a {kind} document"):
        doc.groups()
    assert doc.content == client.content
