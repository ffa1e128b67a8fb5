"""Documents that began in the middle, as bytes and in files: they begin there again, and go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from middle import ID, begun, talk, written

from egwalker import Document, EgwalkerError, EgwFile, HistoryError, encoding
from egwalker.cli import main
from egwalker.cycore.errors import DecodeError
from egwalker.egw_records import read, scan
from egwalker.session import Session
from egwalker.stats import stats
from egwalker.transports.testing import assert_converged


def element(kind: str, rng: Random) -> Any:
    found = rng.choice(("x", "yz", "é\N{PILE OF POO}"))
    return found if kind == "text" else [found, 1]


def went_on(kind: str, rng: Random) -> tuple[Document, Document]:
    """A document, and a shallow one of it in which some people went on, at times together."""
    while not (found := begun(written(rng, kind)))[0].start:
        pass  # there was no version that all others follow
    client, left, right = found
    server = left.document
    for _ in range(rng.randint(0, 6)):
        for one in rng.sample((server, client), rng.randint(1, 2)):
            at = rng.randint(0, len(one))
            if len(one) > at and rng.random() < 0.3:
                one.delete(at)
            else:
                one.insert(at, element(kind, rng))
        if rng.random() < 0.6:
            talk((left, right))
    return server, client


def versions(document: Document) -> list[Any]:
    return [document.version_at(n) for n in range(document._replica.base, document.events + 1)]


def same(one: Document, other: Document) -> None:
    for ask in ("kind", "id", "content", "version", "version_vector", "start", "events", "pending"):
        assert getattr(one, ask) == getattr(other, ask), ask
    since = one.version_vector if not one._replica.base else began(one)
    assert one.history(since) == other.history(since)
    assert [one.checkout(version) for version in versions(one)] == [
        other.checkout(version) for version in versions(other)
    ]


def began(document: Document) -> Any:
    """The version vector of what was before the start."""
    found = document._replica.beginning()
    assert found is not None
    return found[0].vector


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_it_comes_back_as_it_was(kind: str, content: bool, seed: int) -> None:
    rng = Random(seed)
    server, client = went_on(kind, rng)
    start = client.start
    assert start
    data = client.encode(content=content)
    again = Document.decode(data, agent="eve")
    assert (again._replica.unread is not None) is content
    assert again.start == start
    assert again.encode(content=content) == data
    again = Document.decode(data, agent="eve")
    if rng.random() < 0.5:
        again.insert(0, element(kind, rng))
        client = Document.decode(again.encode(), agent="eve")
    same(again, client)
    for document in (again, client):
        with pytest.raises(HistoryError):
            document.checkout(())
        with pytest.raises(HistoryError):
            document.verify()
        document._check()
    # And it takes part again, and gets all of the history.
    left, right = Session(server), Session(again)
    talk((left, right))
    assert again.content == server.content
    right.fetch()
    talk((left, right))
    assert again.start == ()
    assert_converged(server, again, thoroughly=True)
    assert Document.decode(again.encode(), agent="x").start == ()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_what_is_late_brings_what_it_needs(kind: str) -> None:
    rng = Random(kind)
    server = written(rng, kind)
    late = server.fork("late")
    server.insert(0, element(kind, rng))
    client, *_ = begun(server)
    client.insert(0, element(kind, rng))
    again = Document.decode(client.encode(), agent="eve")
    late.insert(len(late), element(kind, rng))
    server.merge(late)
    with pytest.raises(HistoryError):
        again.apply(late.encode(since=client.version_vector))
    left, right = Session(server), Session(again)
    talk((left, right))
    assert right.settled
    assert again.content == server.content
    again._check()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_an_empty_document_becomes_it_and_others_take_what_is_new(kind: str) -> None:
    rng = Random(kind)
    server, client = went_on(kind, rng)
    client.insert(0, element(kind, rng))
    data = client.encode()
    empty = Document(kind, agent="new")
    assert empty.apply(data).after == client.version
    same(empty, client)
    server.apply(data)
    assert server.content == client.content
    assert not server.apply(data)
    # Who lacks what was before lets it wait, as it would an update.
    stranger = Document(kind, agent="stranger", id=ID)
    stranger.insert(0, element(kind, rng))
    stranger.apply(data)
    assert stranger.pending
    stranger.merge(server)
    assert not stranger.pending


def test_without_what_was_deleted_it_cannot_be() -> None:
    _, client = went_on("text", Random(1))
    with pytest.raises(HistoryError):
        client.encode(deleted=False)


# --- damage -------------------------------------------------------------------------------------------------


def read_all(data: bytes) -> Document:
    document = Document.decode(data, agent="reader")
    document._replica.read()
    assert document.start
    return document


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("content", [True, False])
def test_damage_is_found(kind: str, content: bool) -> None:
    _, client = went_on(kind, Random(3))
    data = client.encode(content=content)
    read_all(data)
    for at in range(len(data)):
        for bit in (1, 0x80):
            with pytest.raises(EgwalkerError):
                read_all(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        with pytest.raises(EgwalkerError):
            read_all(data[:at])


def chunked(data: bytes) -> tuple[bytes, dict[int, bytes]]:
    found = encoding.parse(data)
    return found.head, {number: found._payload(number) for number in found.chunks}


def put_together(head: bytes, chunks: dict[int, bytes]) -> bytes:
    out = [head]
    for number, payload in chunks.items():
        encoding.add_chunk(out, number | (encoding.LAST if number == list(chunks)[-1] else 0), payload)
    return b"".join(out)


def test_what_cannot_be_is_refused() -> None:
    rng = Random(5)
    server = written(rng)
    client, *_ = begun(server)
    client.insert(0, "more")
    client.delete(1)
    head, chunks = chunked(client.encode())
    found = client._replica.beginning()
    assert found is not None
    summary, content = found

    def refused(changed: dict[int, bytes], match: str) -> None:
        with pytest.raises(DecodeError, match=match):
            read_all(put_together(head, changed))

    def with_base(summary: encoding.Summary, content: Any) -> dict[int, bytes]:
        made = encoding.Beginning(summary, content).as_base(None, compressed=False)
        return {**chunks, encoding.BASE: made}

    assert read_all(put_together(head, with_base(summary, content))).content == client.content
    refused(with_base(summary._replace(events=0, agents=[], vector={}, frontier=()), ""), "after no events")
    agent = summary.agents[0]
    ((first, end), *rest) = summary.vector[agent]
    fewer = {**summary.vector, agent: [(first, end - 1), *rest]}
    heads = tuple([head for head in summary.frontier if head != (agent, end - 1)]) or ((agent, end - 2),)
    refused(
        with_base(summary._replace(events=summary.events - 1, vector=fewer, frontier=heads), content),
        "does not begin where it says|not the one that the summary is of",
    )
    stranger = summary._replace(
        events=summary.events + 1, agents=[*summary.agents, "zoe"], vector={**summary.vector, "zoe": [(0, 1)]}
    )
    refused(with_base(stranger, content), "not the one that the summary is of")
    base = chunks[encoding.BASE]
    refused({**chunks, encoding.BASE: base + b"\0"}, "too many")
    refused({**chunks, encoding.BASE: b""}, "BASE")
    refused({**chunks, encoding.BASE: chunks[encoding.HISTORY]}, "BASE|heads|agent|many|follow")
    without = {number: payload for number, payload in chunks.items() if number != encoding.BASE}
    with pytest.raises(DecodeError, match="outside this history"):
        Document.decode(put_together(head, without), agent="x")._replica.read()
    for some in ([5], [1, 5], [1, 2, 5], [3, 5], [5, 3]):
        with pytest.raises(DecodeError, match="neither a document nor an update"):
            encoding.parse(put_together(head, {number: chunks[number] for number in some}))
    large = encoding.Column(encoding.PLAIN, 1, b"\0"), encoding.Column(encoding.ZSTD, 1 << 40, b"")
    refused({**chunks, encoding.BASE: encoding.joined(large)}, "says that it holds")


def test_a_column_that_needs_the_content() -> None:
    server = Document(agent="ann", id=ID)
    server.insert(0, "all that was there at first, " * 20)
    client, *_ = begun(server)
    client.insert(0, "!")
    head, chunks = chunked(client.encode())
    assert len(chunks[encoding.BASE]) < 60
    del chunks[encoding.CONTENT]
    with pytest.raises(DecodeError, match="needs the content"):
        read_all(put_together(head, chunks))


def test_lists_hold_what_their_kind_lets_in() -> None:
    server = Document("list", agent="ann", id=ID)
    server.insert(0, [1, 2])
    client, *_ = begun(server)
    head, chunks = chunked(client.encode())
    found = client._replica.beginning()
    assert found is not None
    wrong = encoding.Beginning(found[0], ["1", "nonsense"]).as_base(None, compressed=False)
    with pytest.raises(DecodeError, match="not of kind 'list'"):
        read_all(put_together(head, {**chunks, encoding.BASE: wrong}))


# --- files --------------------------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    server, client = went_on("text", Random(7))
    start = client.start
    with EgwFile.open(path, create=client) as file:
        client.insert(0, "more")
        file.commit()
        assert len(scan(path.read_bytes()).records) == 2
        assert file.all_stored
    again, report = read(path)
    assert report.closed
    same(again, client)
    with EgwFile.open(path, "eve") as file:
        document = file.document
        document.insert(0, "again")
        file.commit()
        file.compact()
        assert document.start == start
        left, right = Session(server), Session(document)
        talk((left, right))
        assert file.commit() == document.version_vector
        right.fetch()
        talk((left, right))
        assert not document.start
        assert not file.all_stored
        assert file.begin_commit() is None
        file.commit()
        assert read(path)[0].start == ()
    assert_converged(server, read(path)[0], thoroughly=True)


def test_older_history_and_an_edit_are_stored_at_once(tmp_path: Path) -> None:
    path, rng = tmp_path / "notes.egw", Random(8)
    while not (found := begun(written(rng)))[0].start:
        pass
    client, left, right = found
    with EgwFile.open(path, create=client) as file:
        right.fetch()
        talk((left, right))
        client.insert(0, "!")
        assert file.begin_commit() is None
    again = read(path)[0]
    assert (again.start, again.content) == ((), client.content)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, whole = tmp_path / "shallow.egw", tmp_path / "whole.egw"
    server = Document(agent="ann", id=ID)
    server.insert(0, "hello world")
    client, left, right = begun(server)
    client.insert(11, "!")
    talk((left, right))
    with EgwFile.open(path, create=client), EgwFile.open(whole, create=server):
        pass

    def said(*args: object, status: int = 0) -> str:
        assert main([str(arg) for arg in args]) == status
        out = capsys.readouterr()
        return out.out + out.err

    assert "hello world!" in said("cat", path)
    assert "hello world\n" in said("cat", path, "--at", "ann:10").replace("world" + str(path), "world\n")
    assert "has not been fetched" in said("cat", path, "--at", "ann:4", status=2)
    log = said("log", path)
    assert "eve:0  after ann:10" in log
    assert "begins at ann:10" in log
    assert "ann:0" not in log
    assert json.loads(said("log", path, "--json").splitlines()[0])["agent"] == "eve"
    assert "not fetched" in said("stat", path)
    assert "has not been fetched" in said("log", path, "--groups", status=2)
    assert "has not been fetched" in said("verify", path, status=2)
    assert "has not been fetched" in said("export", path, tmp_path / "out.json", status=2)
    assert "hello world!" in said("export", path, tmp_path / "out.txt") + (tmp_path / "out.txt").read_text()
    server.insert(0, "> ")
    client.insert(0, "* ")
    with EgwFile.open(whole, create="text") as file, EgwFile.open(path) as other:
        file.document.merge(server)
        other.document.merge(client)
    for order in ((whole, path), (path, whole)):
        merged = said("merge", *order, "-o", tmp_path / "both.egw")
        assert f"merged {order[0]} (brought 2 events) and" in merged
        assert f"{order[1]} (brought 2 events), 12 shared, concurrent" in merged
        document = read(tmp_path / "both.egw")[0]
        assert (document.start, sorted(str(document))) == ((), sorted("> * hello world!"))
    late = tmp_path / "late.egw"
    stranger = Document(agent="zoe", id=ID)
    stranger.insert(0, "?")
    with EgwFile.open(late, create=stranger):
        pass
    assert "cannot merge" in said("merge", path, late, "-o", tmp_path / "no.egw", status=2)
    assert "cannot merge" in said("merge", late, path, "-o", tmp_path / "no.egw", status=2)
    repacked = said("repack", path, "-o", tmp_path / "small.egw", "--no-content")
    assert "repacked" in repacked
    same(read(tmp_path / "small.egw")[0], read(path)[0])
    assert "cannot repack" in said("repack", path, "--no-deleted", status=2)


def test_numbers() -> None:
    server, client = went_on("text", Random(11))
    found: dict[str, Any] = stats(client)
    assert found["not_fetched"] == client._replica.base
    assert found["events"] == client.events
    assert found["inserted"] + found["deleted"] + found["not_fetched"] == found["events"]
    assert "not_fetched" not in stats(server)


@pytest.mark.parametrize("call", [Document.history, Document.groups, Document.blame])
def test_what_still_needs_all_of_it(call: Callable[[Document], object]) -> None:
    _, client = went_on("text", Random(2))
    again = Document.decode(client.encode(), agent="x")
    with pytest.raises(HistoryError):
        call(again)
    again._check()
