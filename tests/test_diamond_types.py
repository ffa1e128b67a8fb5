"""Diamond Types' files: our own, its own, damaged ones."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from functools import cache
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

import dt_node
import generate
import google_crc32c
import lz4.block
import pytest
from conftest import FIXTURES
from deliver import runs as as_runs
from hypothesis import given
from hypothesis import strategies as st

from egwalker import (
    AgentError,
    ContentError,
    DecodeError,
    Document,
    EgwalkerError,
    KindError,
    Run,
    dt_reader,
    json_history,
)
from egwalker.diamond_types import doc_id, dumps, loads, runs
from egwalker.dt_reader import Chunk
from egwalker.dt_writer import chunk, push

TRACES = ["automerge-paper", "friendsforever", "node_nodecc", "git-makefile", "S1", "C1", "A2"]
SAME_EVENTS = {
    "friendsforever": "friendsforever",
    "node_nodecc": "node_nodecc-raw",
    "git-makefile": "git-makefile-raw",
    "C1": "C1",
}
"""Traces whose events, names of agents and all, are in a JSON file, too."""

SEED = st.integers(0, 2**32)
ID = "0123456789abcdef" * 2


def held(doc: Document) -> dict[Any, Any]:
    """A document's history: by id of each event its parents, what it does, the position, what it inserts."""
    log, found = doc._replica.whole(), {}
    for run in log.graph.runs():
        parents = frozenset(log.graph.ids(run.parents))
        for op in log.ops(run.start, run.end):
            for i in range(op.length):
                ident = (run.agent, run.seq + op.start + i - run.start)
                found[ident] = (parents, op.kind, op.pos + op.step * i, op.content[i : i + 1])
                parents = frozenset([ident])
    return found


def small() -> Document:
    """Two people, all kinds of operations, all widths of code points; ids and bytes are always the same."""
    ann = Document("text", agent="ann", id=ID)
    ann.insert(0, "héllo wörld, this is long")
    bob = ann.fork("bøb")
    for pos in (4, 3, 2):
        ann.delete(pos)
    bob.insert(5, "漢\U0001f600")
    for letter in "xyz":
        bob.insert(0, letter)
    bob.delete(8, 2)
    ann.merge(bob)
    ann.insert(len(ann), "!")
    return ann


def world(seed: int) -> Document:
    doc = Document("text", agent="reader", id=ID)
    doc.receive(as_runs(generate.history(seed).txns))
    return doc


def summed(body: bytes) -> bytes:
    """A file with the checksum that it should have."""
    return body + chunk(Chunk.CRC, google_crc32c.value(body).to_bytes(4, "little"))


def column(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        push(out, number)
    return bytes(out)


def built(
    *,
    text: bytes = b"abc",
    known: bytes = column(3 << 1 | 1),
    agents: bytes = column(1 << 1, 3),
    ops: bytes = column(3 << 3 | 1),
    parents: bytes = column(3, 1),
    names: bytes = b"\x01a",
    info: bytes = b"",
    start: bytes = b"",
    end: bytes | None = None,
    content: bytes | None = None,
    deleted: bytes = b"",
    block: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A file of parts, by default one in which `a` types "abc"."""
    if content is None:
        content = b"\x00" + chunk(Chunk.CONTENT, b"\x04" + text) + chunk(Chunk.CONTENT_IS_KNOWN, known)
    patches = chunk(Chunk.PATCH_CONTENT, content) if content else b""
    patches += chunk(Chunk.PATCH_CONTENT, deleted) if deleted else b""
    patches += chunk(Chunk.OP_VERSIONS, agents) + chunk(Chunk.OPERATIONS, ops)
    patches += chunk(Chunk.OP_PARENTS, parents) + after
    out = dt_reader.MAGIC + b"\x00" + block + chunk(Chunk.FILE_INFO, info + chunk(Chunk.AGENT_NAMES, names))
    out += chunk(Chunk.START_BRANCH, start)
    if end is not None:
        out += chunk(Chunk.END_BRANCH, end)
    return summed(out + chunk(Chunk.PATCHES, patches))


def compressed(text: bytes, claimed: int | None = None, *, taken: int | None = None) -> dict[str, bytes]:
    """The parts of a file whose content is compressed, perhaps under another length than it has."""
    length = len(text) if claimed is None else claimed
    taken = length if taken is None else taken
    block = column(length) + lz4.block.compress(text, store_size=False)
    header = chunk(Chunk.CONTENT_COMPRESSED, b"\x04" + column(taken))
    return {
        "block": chunk(Chunk.COMPRESSED_LZ4, block),
        "content": b"\x00" + header + chunk(Chunk.CONTENT_IS_KNOWN, column(len(text) << 1 | 1)),
    }


class TestRoundTrip:
    def test_all_kinds_of_operations(self) -> None:
        doc = small()
        loaded = loads(dumps(doc), "carol")
        again = loaded.document
        assert loaded.text_matches is None
        assert (again.content, again.agent, again.id) == (doc.content, "carol", ID)
        assert again.version == doc.version
        assert again.version_vector == doc.version_vector
        assert held(again) == held(doc)
        assert again.history() == doc.history()
        again._check()

    def test_same_bytes(self) -> None:
        assert dumps(small()) == dumps(small()) == dumps(loads(dumps(small())).document)

    def test_fixture(self) -> None:
        """What was written once is read, and written, the same for ever."""
        data = (FIXTURES / "own.dt").read_bytes()
        assert held(loads(data).document) == held(small())
        assert dt_reader.Reader(data)._unpack() == dt_reader.Reader(dumps(small()))._unpack()

    def test_nothing(self) -> None:
        doc = Document("text", agent="ann", id=ID)
        loaded = loads(dumps(doc))
        assert (loaded.document.content, loaded.document.version, loaded.document.id) == ("", (), ID)
        assert runs(dumps(doc)) == []

    @given(SEED)
    def test_random_histories(self, seed: int) -> None:
        doc = world(seed)
        data = dumps(doc)
        again = loads(data).document
        assert (again.content, again.version, again.id) == (doc.content, doc.version, ID)
        assert held(again) == held(doc)
        received = Document("text", agent="reader")
        received.receive(runs(data))
        assert held(received) == held(doc)

    @given(SEED)
    def test_random_parts(self, seed: int) -> None:
        """What a document lacks that holds some version."""
        rng = Random(seed)
        doc = world(seed)
        version = rng.choice([run.parents for run in doc.history()])
        part = Document("text", agent="part")
        lvs = [doc._replica.log.graph.lv(*ident) for ident in version]
        past = [lv for lv in range(len(doc._replica.log)) if doc._replica.log.graph.contains(lvs, lv)]
        log, seen = doc._replica.log, set(past)
        part.receive(
            run
            for run in doc.history()
            for run in single_events(run)
            if log.graph.lv(run.agent, run.seq) in seen
        )
        assert part.version == version
        data = dumps(doc, part.version_vector)
        assert dt_reader.Reader(data).start.version == version
        part.receive(runs(data))
        assert (part.content, part.pending) == (doc.content, 0)
        assert held(part) == held(doc)

    def test_names_and_texts_of_all_kinds(self) -> None:
        doc = Document(agent='a "quoted",\n\x00 \N{GRINNING FACE}')
        doc.insert(0, '\x00"\\\u2028\N{GRINNING FACE}\uffff\U0010ffff')
        again = loads(dumps(doc)).document
        assert (again.content, again.version) == (doc.content, doc.version)

    def test_what_unpacks_to_much_more(self) -> None:
        """It is not compressed then, so that it can be read back."""
        doc = Document(agent="ann")
        doc.insert(0, "a" * (dt_reader.FREE_BYTES + (1 << 20)))
        data = dumps(doc)
        assert len(data) > len(doc)
        assert len(loads(data).document) == len(doc)

    def test_long_erasing(self) -> None:
        """More than goes into one row at once."""
        doc = Document(agent="ann")
        doc.insert(0, "ab" * 5000)
        for pos in range(9999, -1, -1):
            doc.delete(pos)
        data = dumps(doc)
        assert len(data) < 300
        assert held(loads(data).document) == held(doc)

    def test_text_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Code points at the borders of blocks."""
        data = dumps(small())
        for size in range(1, 9):
            monkeypatch.setattr(dt_reader, "BLOCK", size)
            assert held(loads(data).document) == held(small())

    def test_progress(self) -> None:
        told: list[tuple[str, int, int]] = []
        loads(dumps(small()), progress=lambda *args: told.append(args))
        assert told == [("reading", 0, 0), ("reading", 0, 36), ("replaying", 36, 36)]


def single_events(run: Any) -> Any:
    parents, seq = run.parents, run.seq
    for pos, deleted, inserted in run.ops:
        for op in [(pos, 1, "")] * deleted + [(pos + i, 0, letter) for i, letter in enumerate(inserted)]:
            yield run._replace(seq=seq, parents=parents, ops=(op,))
            parents = ((run.agent, seq),)
            seq += 1


class TestParts:
    def test_since(self) -> None:
        ann = small()
        carol = ann.fork("carol")
        before = carol.version_vector
        ann.insert(0, "new ")
        data = dumps(ann, before)
        (run,) = runs(data)
        assert run == ann.history(before)[0]
        carol.receive([run])
        assert carol.content == ann.content
        assert doc_id(data) == ID

    def test_is_no_document(self) -> None:
        ann = small()
        before = ann.version_vector
        ann.insert(0, "new ")
        with pytest.raises(
            DecodeError, match=r"at byte 56: the file starts at version ann:28 and must be merged"
        ):
            loads(dumps(ann, before))

    def test_nothing_new(self) -> None:
        ann = small()
        assert runs(dumps(ann, ann.version_vector)) == []

    def test_of_another_document(self) -> None:
        """It waits for its parents."""
        ann = small()
        before = ann.version_vector
        ann.insert(0, "new ")
        doc = Document(agent="z")
        doc.receive(runs(dumps(ann, before)))
        assert doc.pending == 4


class TestIds:
    def test_what_is_stored(self) -> None:
        assert doc_id(dumps(small())) == ID
        assert doc_id(built()) is None
        assert doc_id(built(info=chunk(Chunk.DOC_ID, "\x04notes of Anné".encode()))) == "notes of Anné"

    def test_derived(self) -> None:
        assert loads(built()).document.id == loads(built()).document.id
        assert loads(built()).document.id != loads(built(names=b"\x01b")).document.id
        named = built(info=chunk(Chunk.DOC_ID, b"\x04notes"))
        assert loads(named).document.id == loads(named).document.id != loads(built()).document.id


class TestWriting:
    def test_only_text(self) -> None:
        with pytest.raises(KindError, match="Diamond Types keeps text, not documents of kind 'list'"):
            dumps(Document("list"))

    @pytest.mark.parametrize("name", ["ROOT", "a" * 50, "é" * 25])
    def test_names_that_it_stops_at(self, name: str) -> None:
        doc = Document(agent=name)
        doc.insert(0, "a")
        with pytest.raises(AgentError, match="in Diamond Types a name has up to 49 bytes and is not ROOT"):
            dumps(doc)

    def test_forgotten_content(self) -> None:
        doc = Document(agent="ann")
        doc.insert(0, "abc")
        doc.delete(1)
        with pytest.raises(ContentError):
            dumps(Document.decode(doc.encode(deleted=False)))


class TestReading:
    def test_built(self) -> None:
        assert loads(built()).document.history() == [Run("a", 0, (), ((0, 0, "abc"),))]

    def test_unknown_chunks_are_skipped(self) -> None:
        other = column(77, 3) + b"???"
        data = built(info=other, after=other, block=other)
        assert held(loads(data).document) == held(loads(built()).document)

    def test_without_a_checksum(self) -> None:
        assert loads(built()[:-6]).document.content == "abc"

    def test_seqs_that_jump_back(self) -> None:
        """`a` types "b", seqs 5:6, then "ac", seqs 2:4, after it."""
        data = built(
            agents=column(3, 1, 10, 3, 2, 9), ops=column(3 << 3 | 1), parents=column(1, 1, 2, 4), text=b"bac"
        )
        doc = loads(data).document
        assert doc.version_vector == {"a": [(2, 4), (5, 6)]}
        assert held(doc)["a", 2] == (frozenset([("a", 5)]), "insert", 1, "a")
        assert held(loads(dumps(doc)).document) == held(doc)

    def test_rows_across_agents(self) -> None:
        """One entry of the graph, and one operation, by two agents."""
        doc = loads(built(names=b"\x01a\x01b", agents=column(2, 1, 4, 2))).document
        assert held(doc) == {
            ("a", 0): (frozenset(), "insert", 0, "a"),
            ("b", 0): (frozenset([("a", 0)]), "insert", 1, "b"),
            ("b", 1): (frozenset([("b", 0)]), "insert", 2, "c"),
        }

    def test_foreign_parents_inside(self) -> None:
        data = built(parents=column(1, 1, 2, 1 << 2 | 1, 0))
        assert held(loads(data).document) == held(loads(built()).document)

    def test_deleted_content(self) -> None:
        """What was deleted may be stored, too."""
        deleted = b"\x01" + chunk(Chunk.CONTENT, b"\x04c") + chunk(Chunk.CONTENT_IS_KNOWN, column(3))
        parts = {"ops": column(25, 30), "agents": column(2, 4), "parents": column(4, 1)}
        assert loads(built(deleted=deleted, **parts)).document.content == "ab"
        with pytest.raises(DecodeError, match="content of 1 deletes, not of 0"):
            loads(built(deleted=deleted))

    def test_end(self) -> None:
        version = chunk(Chunk.VERSION, column(2, 2))
        right = version + chunk(Chunk.CONTENT, b"\x04abc")
        assert loads(built(end=right)).text_matches is True
        assert loads(built(end=version)).text_matches is None
        past = chunk(Chunk.VERSION, column(2, 1)) + chunk(Chunk.CONTENT, b"\x04ab")
        assert loads(built(end=past)).text_matches is True

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"abd", "the text at the end is another than the events make"),
            (b"abcd", "the text at the end is another"),
            (b"ab", "the text at the end has 2 code points, but the events make 3"),
        ],
    )
    def test_another_end(self, content: bytes, message: str) -> None:
        end = chunk(Chunk.VERSION, column(2, 2)) + chunk(Chunk.CONTENT, b"\x04" + content)
        with pytest.raises(DecodeError, match=message):
            loads(built(end=end))

    def test_compressed_texts_follow_each_other(self) -> None:
        """That of the end, then what was inserted."""
        text = b"a text that is somewhat long"
        end, inserted = (chunk(Chunk.CONTENT_COMPRESSED, b"\x04" + column(len(text))) for _ in range(2))
        block = column(2 * len(text)) + lz4.block.compress(text.upper() + text, store_size=False)
        parts = {
            "block": chunk(Chunk.COMPRESSED_LZ4, block),
            "content": b"\x00" + inserted + chunk(Chunk.CONTENT_IS_KNOWN, column(len(text) << 1 | 1)),
            "agents": column(2, len(text)),
            "ops": column(len(text) << 3 | 1),
            "parents": column(len(text), 1),
        }
        assert loads(built(**parts)).document.content == text.upper().decode()
        version = chunk(Chunk.VERSION, column(2, len(text) - 1))
        with pytest.raises(DecodeError, match="the text at the end is another"):
            loads(built(**parts, end=version + end))
        (run,) = runs(built(**parts, start=chunk(Chunk.VERSION, column(2, 99)) + end))
        assert run.ops == ((0, 0, text.decode()),)

    def test_root_as_a_version(self) -> None:
        assert loads(built(start=chunk(Chunk.VERSION, column(0, 0)))).document.content == "abc"

    def test_unknown_end(self) -> None:
        end = chunk(Chunk.VERSION, column(2, 7)) + chunk(Chunk.CONTENT, b"\x04abc")
        with pytest.raises(DecodeError, match="the version at the end: .*a:7"):
            loads(built(end=end))


HUGE = 1 << 60

WRONG: dict[str, tuple[bytes, str]] = {
    "magic": (b"DMNDTYPX" + built()[8:], "at byte 0: this is no Diamond Types file"),
    "empty": (b"", "at byte 0: this is no Diamond Types file"),
    "version": (
        dt_reader.MAGIC + column(300),
        "at byte 8: this is version 300 of Diamond Types' format; only 0 is known",
    ),
    "no version": (dt_reader.MAGIC, "at byte 8: a number is cut off"),
    "long number": (dt_reader.MAGIC + b"\xff" * 9 + b"\x02", "at byte 8: a number has more than 64 bits"),
    "longer number": (dt_reader.MAGIC + b"\x80" * 10 + b"\x01", "at byte 8: a number has more than 64 bits"),
    "chunk": (
        dt_reader.MAGIC + b"\x00\x01" + column(HUGE),
        f"a chunk of type 1 should have {HUGE} bytes, but 0 are left",
    ),
    "no chunks": (dt_reader.MAGIC + b"\x00", "at byte 9: the chunk FILE_INFO is missing"),
    "checksum": (built()[:-1] + bytes([built()[-1] ^ 1]), "the file is damaged: its checksum is"),
    "short checksum": (built()[:-6] + chunk(Chunk.CRC, b"abc"), "a checksum has 4 bytes, not 3"),
    "after it": (built() + b"\x00", "a number is cut off"),
    "chunk after it": (built() + b"\x4d\x00", "2 bytes follow the checksum"),
    "twice": (built() + built()[-6:], "a chunk CRC does not belong here"),
    "misplaced": (built(info=chunk(Chunk.VERSION, b"")), "a chunk VERSION does not belong here"),
    "id": (built(info=chunk(Chunk.DOC_ID, b"\x04\xff")), "the document's id is not UTF-8"),
    "type of id": (built(info=chunk(Chunk.DOC_ID, b"\x03a")), "content of type 3 is no plain text"),
    "name": (built(names=b"\x02\xc3\x28"), "an agent's name is not UTF-8"),
    "length of name": (built(names=column(HUGE)), f"a name should have {HUGE} bytes, but 0 are left"),
    "no name": (built(names=b"\x00"), "agent name must have 1 to 255 bytes"),
    "surrogate": (built(text=b"a\xed\xa0\x80b"), "bytes 25:30 of the file are not UTF-8"),
    "part of a code point": (built(text=b"ab\xc3"), "bytes 25:28 of the file are not UTF-8"),
    "start": (
        built(start=chunk(Chunk.CONTENT, b"\x04abc")),
        "starts with a text that no event in it has made",
    ),
    "start's version": (built(start=chunk(Chunk.VERSION, column(3, 0))), "a version is cut off"),
    "start's agent": (built(start=chunk(Chunk.VERSION, column(4, 0))), "there is no agent 2 of 1"),
    "more start": (built(start=chunk(Chunk.VERSION, column(2, 0, 2, 1))), "a version goes on after its end"),
    "half a version": (built(start=chunk(Chunk.VERSION, column(2))), "a version is cut off"),
    "left out": (built(content=b""), "the file leaves out the content of what was inserted"),
    "partly known": (built(known=column(2 << 1 | 1, 1 << 1)), "the file leaves out the content of 1 inserts"),
    "too little known": (built(known=column(2 << 1 | 1)), "more is inserted than there is content"),
    "too much known": (built(known=column(HUGE | 1)), "3 code points are inserted, but the content has"),
    "too short": (built(text=b"ab"), "more is inserted than there is content"),
    "too long": (built(text=b"abcd"), "there is more content than the operations insert"),
    "third content": (built(content=b"\x02"), "content 2 should be 0, inserted, or 1, deleted, each once"),
    "no content": (built(content=b"\x00"), "the chunk CONTENT is missing"),
    "no block": (built(content=compressed(b"a" * 30)["content"]), "the chunk COMPRESSED_LZ4 is missing"),
    "agent": (built(agents=column(4, 3)), "there is no agent 2 of 1, counted from 1"),
    "agent 0": (built(agents=column(0, 3)), "there is no agent 0 of 1"),
    "half an agent": (built(agents=column(2, 3, 3)), "the agents' column is cut off"),
    "no events": (built(agents=column(2, 0)), "cannot have made events 0:0"),
    "too many events": (built(agents=column(2, HUGE)), f"cannot have made events 0:{HUGE}"),
    "negative seq": (built(agents=column(3, 3, 3)), "cannot have made events -1:2"),
    "few events": (built(agents=column(2, 2)), "3 events from 0 on are not within 0:2"),
    "more events": (built(agents=column(2, 4)), "there are parents of 3 events, not of 4"),
    "events twice": (
        built(agents=column(3, 2, 0, 3, 1, 5), parents=column(2, 1, 1, 1)),
        "events of 'a' from",
    ),
    "same events twice": (
        built(
            agents=column(3, 1, 0, 3, 1, 3),
            ops=column(0, 26),
            parents=column(1, 1, 1, 1),
            text=b"aa",
            known=column(5),
        ),
        "events of 'a' from 0 on are in it twice",
    ),
    "2**63 events": (
        built(agents=column(2, 1 << 53) + column(3, 1 << 53, (1 << 54) + 1) * 1100),
        "are too many",
    ),
    "few operations": (
        built(ops=column(2 << 3 | 1), text=b"ab", known=column(5)),
        "there are operations of 2 events, not of 3",
    ),
    "more operations": (built(ops=column(4 << 3 | 1), text=b"abcd", known=column(9)), "more than 3 events"),
    "no length": (built(ops=column(1)), "an operation on 0 code points at 0 is impossible"),
    "half an operation": (built(ops=column(3 << 3 | 3)), "an operation is cut off"),
    "long operation": (built(ops=column(HUGE | 1)), "more is inserted than there is content"),
    "before the start": (
        built(ops=column(3 << 3 | 3, 3)),
        "an operation on 3 code points at -1 is impossible",
    ),
    "beyond the end": (built(ops=column(3 << 3 | 3, 8)), "at byte .*position 4, which"),
    "far beyond the end": (built(ops=column(3 << 3 | 3, HUGE)), "is impossible"),
    "deletes": (built(ops=column(3 << 3 | 1, HUGE | 13)), "there are operations of more than 3 events"),
    "erases": (
        built(ops=column(3 << 3 | 1, 1 << 29 | 7, 1 << 26)),
        "more than 16777216 events erase backwards",
    ),
    "no entry": (built(parents=column(0, 1)), "0 events from 0 on are not within 0:3"),
    "long entry": (built(parents=column(HUGE, 1)), f"{HUGE} events from 0 on are not within 0:3"),
    "no parents": (built(parents=column(3)), "the parents' column is cut off"),
    "half a parent": (built(parents=column(3, 5)), "the parents' column is cut off"),
    "own parent": (built(parents=column(3, 0)), "event 0 has no event 0 before it as parent"),
    "parent before all": (built(parents=column(1, 1, 2, 8)), "event 1 has no event 2 before it as parent"),
    "parent's agent": (built(parents=column(3, 9, 0)), "there is no agent 2 of 1"),
    "unknown parent": (built(parents=column(3, 5, 9)), "the events of 'a' from 0 on: .*a:9"),
    "parent after it": (built(parents=column(3, 5, 2)), "the events of 'a' from 0 on: .*a:2"),
    "half a number": (built(parents=b"\x03\x81"), "a number is cut off"),
    "number": (built(parents=b"\x03" + b"\xff" * 9 + b"\x02"), "a number has more than 64 bits"),
    "longer column": (built(parents=b"\x03" + b"\x80" * 10 + b"\x02"), "a number has more than 64 bits"),
    "lz4": (
        built(**compressed(b"a" * 30, 29)),
        "the compressed content is damaged",
    ),
    "lz4 longer": (built(**compressed(b"a" * 30, 31)), "the compressed content has 30 bytes, not 31"),
    "lz4 2**64": (
        built(**compressed(b"a" * 30, (1 << 64) - 1)),
        "are more than the .* that such a file may unpack to",
    ),
    "lz4 1 MiB": (built(**compressed(b"a" * 30, 1 << 20)), "bytes of LZ4 do not unpack to 1048576"),
    "lz4 header": (
        built(content=b"\x00" + chunk(Chunk.CONTENT_COMPRESSED, b"\x04\x03a")),
        "compressed content is a type and a length only",
    ),
    "lz4 taken": (
        built(**compressed(b"a" * 30, taken=31)),
        "a content should have 31 bytes, but 30 compressed",
    ),
}


class TestWrong:
    @pytest.mark.parametrize("name", WRONG)
    def test_message(self, name: str) -> None:
        data, message = WRONG[name]
        with pytest.raises(DecodeError, match=message) as caught:
            loads(data)
        assert caught.value.offset is not None
        assert str(caught.value).startswith(f"at byte {caught.value.offset}: ")
        assert 0 <= caught.value.offset <= len(data)

    @pytest.mark.parametrize("name", WRONG)
    def test_as_a_part(self, name: str) -> None:
        """What is wrong is found, or `receive` finds it, or the events wait."""
        try:
            found = runs(WRONG[name][0])
        except DecodeError:
            return
        doc = Document(agent="me")
        try:
            doc.receive(found)
        except EgwalkerError:
            assert doc.version == ()
        doc._check()

    @pytest.mark.parametrize("name", WRONG)
    @pytest.mark.parametrize("read", [loads, runs])
    def test_memory(self, name: str, read: Any) -> None:
        """Lengths are checked before memory is taken for them."""
        tracemalloc.start()
        try:
            read(WRONG[name][0])
        except DecodeError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 1 << 20

    def test_erasing_for_ever(self) -> None:
        """In a part nothing bounds how much there is to erase."""
        start = chunk(Chunk.VERSION, column(2, 0))
        length = dt_reader.MAX_ERASED_RUNS + 1
        data = built(
            start=start,
            content=b"",
            agents=column(2, length),
            ops=column(length << 4 | 7, length << 1),
            parents=column(length, 5, 0),
        )
        with pytest.raises(DecodeError, match="more than 524288 events erase backwards"):
            runs(data)

    def test_positions_of_others(self) -> None:
        """An operation of a branch that does not have the place, far from where the file ends."""
        with pytest.raises(DecodeError, match="position 1, which is not within 0..0") as caught:
            loads(built(parents=column(1, 1, 1, 1, 1, 4)))
        assert caught.value.offset == built().index(chunk(Chunk.OPERATIONS, column(25))) + 2

    def test_bytes_only(self) -> None:
        assert loads(bytearray(built())).document.content == "abc"  # type: ignore[arg-type]
        assert loads(memoryview(built())).document.content == "abc"  # type: ignore[arg-type]


def attempt(data: bytes) -> tuple[Document | None, int]:
    """The document in a file, or else the byte that is said to be wrong; -1 if none is."""
    try:
        return loads(data).document, 0
    except DecodeError as error:
        return None, -1 if error.offset is None else error.offset


class TestDamage:
    """Whatever happens to a file, it is read as it was or refused."""

    DATA = dumps(small())

    def check(self, data: bytes, *, exact: bool) -> None:
        doc, offset = attempt(data)
        if doc is None:
            assert 0 <= offset <= len(data)
        elif exact:
            assert held(doc) == held(small())
        else:
            doc._check()
            assert held(loads(dumps(doc)).document) == held(doc)
        try:
            found = runs(data)
        except DecodeError:
            return
        doc = Document(agent="me")
        try:
            doc.receive(found)
        except EgwalkerError:
            assert not exact
        else:
            if exact:
                assert held(doc) == held(small())
            doc._check()

    def test_every_bit(self) -> None:
        for i in range(len(self.DATA)):
            for bit in range(8):
                self.check(self.DATA[:i] + bytes([self.DATA[i] ^ 1 << bit]) + self.DATA[i + 1 :], exact=True)

    def test_every_length(self) -> None:
        for length in range(len(self.DATA)):
            self.check(self.DATA[:length], exact=True)

    def test_every_bit_with_the_right_checksum(self) -> None:
        body = self.DATA[:-6]
        for i in range(len(body)):
            for bit in range(8):
                self.check(summed(body[:i] + bytes([body[i] ^ 1 << bit]) + body[i + 1 :]), exact=False)

    def test_every_length_with_the_right_checksum(self) -> None:
        for length in range(len(self.DATA)):
            self.check(summed(self.DATA[:length]), exact=False)

    @given(st.integers(0, 50), st.data())
    def test_more_damage(self, seed: int, data: st.DataObject) -> None:
        body = bytearray(dumps(world(seed))[:-6])
        places = st.integers(9, len(body) - 1)
        for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
            body[place] = byte
        start, end = sorted(data.draw(st.tuples(places, places)))
        if data.draw(st.booleans()):
            del body[start:end]
        self.check(summed(bytes(body)), exact=False)

    @given(st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        self.check(data, exact=False)
        self.check(summed(dt_reader.MAGIC + b"\x00" + data), exact=False)


# --- beside Diamond Types -----------------------------------------------------------------------------------


def typed_steps(rng: Random, count: int) -> tuple[list[list[Any]], dict[str, Document]]:
    """Random steps of several logs of Diamond Types, and documents that have made the same."""
    names = rng.sample(["ann", "bob", "Cy", "dé", "\U0001f600eve"], 3)
    docs = {name: Document("text", agent=name, defer=False) for name in names}
    steps: list[list[Any]] = []
    for _ in range(count):
        name = rng.choice(names)
        doc = docs[name]
        what = rng.random()
        if what < 0.3:
            other = rng.choice(names)
            if other != name:
                steps.append([name, "merge", other])
                doc.merge(docs[other], unrelated=True)
        elif what < 0.65 or not len(doc):
            pos = rng.randint(0, len(doc))
            text = "".join(
                rng.choice(generate.LETTERS + generate.ODD) for _ in range(rng.choice((1, 1, 2, 7)))
            )
            steps.append([name, "ins", pos, text])
            doc.insert(pos, text)
        elif what < 0.8:
            pos = rng.randrange(len(doc))
            length = min(rng.randint(1, 3), len(doc) - pos)
            steps.append([name, "del", pos, length])
            doc.delete(pos, length)
        else:
            end = rng.randint(1, len(doc))
            for pos in range(end - 1, max(end - 4, -1), -1):
                steps.append([name, "del", pos, 1])
                doc.delete(pos)
    for name in names:
        steps.append([name, "file"])
    return steps, docs


class TestNode:
    def test_reads_ours(self) -> None:
        docs = [small(), *[world(seed) for seed in range(60)]]
        answers = dt_node.ask([dt_node.read(dumps(doc)) for doc in docs])
        for doc, answer in zip(docs, answers, strict=True):
            assert answer["text"] == doc.content
            assert sorted(map(tuple, answer["version"])) == sorted(doc.version)
            assert dt_node.history(answer) == held(doc)

    def test_reads_our_parts(self) -> None:
        """In the document that holds what came before."""
        commands, docs = [], []
        for seed in range(20):
            rng = Random(seed)
            doc = Document("text", agent="ann", id=ID)
            doc.insert(0, "so it begins")
            other = doc.fork("bob")
            other.insert(3, "漢字")
            if rng.random() < 0.5:
                doc.merge(other)
            whole, before = dumps(doc), doc.version_vector
            for letter in "abc":
                other.insert(rng.randint(0, len(other)), letter)
                doc.delete(rng.randrange(len(doc)))
                if rng.random() < 0.5:
                    doc.merge(other)
            doc.merge(other)
            commands.append(dt_node.read(whole, dumps(doc, before)))
            docs.append(doc)
        for doc, answer in zip(docs, dt_node.ask(commands), strict=True):
            assert answer["text"] == doc.content
            assert dt_node.history(answer) == held(doc)

    def test_ours_of_its(self) -> None:
        commands, wanted = [], []
        for seed in range(40):
            steps, docs = typed_steps(Random(seed), 40)
            commands.append(dt_node.make(steps))
            wanted.append(docs)
        for docs, answer in zip(wanted, dt_node.ask(commands), strict=True):
            for doc, made in zip(docs.values(), answer["made"], strict=True):
                data = decoded(made["data"])
                found = loads(data).document
                assert found.content == made["text"] == doc.content
                assert held(found) == dt_node.history(made) == held(doc)
                assert sorted(found.version) == sorted(map(tuple, made["version"]))
                received = Document("text", agent="me")
                received.receive(runs(data))
                assert held(received) == held(doc)

    def test_patches_and_branches(self) -> None:
        """One log with edits by two agents on older versions, and what of it comes after one of them."""
        (answer,) = dt_node.ask([dt_node.make(BRANCHES)])
        whole, part = answer["made"]
        doc = loads(decoded(whole["data"])).document
        assert doc.content == whole["text"]
        assert held(doc) == dt_node.history(whole)
        check_patch(decoded(part["data"]), doc)


BRANCHES: list[list[Any]] = [
    ["ann", "ins", 0, "héllo wörld"],
    ["ann", "ins", 5, "\U0001f600!", [4]],
    ["ann", "agent", "bob"],
    ["ann", "ins", 5, "漢字", [10]],
    ["ann", "del", 0, 3, [10]],
    ["ann", "del", 4, 1, [12, 14]],
    ["ann", "del", 3, 1],
    ["ann", "del", 2, 1],
    ["ann", "agent", "ann"],
    ["ann", "ins", 0, "end"],
    ["ann", "file"],
    ["ann", "patch", [10, 12]],
]
"""What `branches.dt` and `patch.dt` in the fixtures were made by."""


def decoded(text: str) -> bytes:
    return base64.b64decode(text)


def check_patch(data: bytes, doc: Document) -> None:
    """A part of a document's history, all but what came before `ann:10` and `ann:12`."""
    with pytest.raises(DecodeError, match="the file starts at version ann:10,ann:12 and must be merged"):
        loads(data)
    found = runs(data)
    assert sum(run.length for run in found) == len(held(doc)) - 13
    older = Document("text", agent="me")
    past = [run for whole in doc.history() for run in single_events(whole)]
    older.receive([run for run in past if run.agent == "ann" and run.seq < 13])
    older.receive(found)
    assert (older.content, older.pending) == (doc.content, 0)
    assert held(older) == held(doc)


class TestFixtures:
    """Files that Diamond Types has made, read where there is none.

    `three_people` comes from `typed_steps(Random(7), 60)`, all merged by the first one.
    """

    def test_branches(self) -> None:
        doc = loads((FIXTURES / "branches.dt").read_bytes()).document
        assert doc.content == (FIXTURES / "branches.txt").read_text("utf-8")
        assert doc.version_vector == {"ann": [(0, 16)], "bob": [(0, 8)]}
        assert held(loads(dumps(doc)).document) == held(doc)
        found = held(doc)
        assert found["ann", 11] == (frozenset([("ann", 4)]), "insert", 5, "\U0001f600")
        assert found["bob", 5] == (frozenset([("ann", 12), ("bob", 1)]), "delete", 4, "")

    def test_patch(self) -> None:
        doc = loads((FIXTURES / "branches.dt").read_bytes()).document
        check_patch((FIXTURES / "patch.dt").read_bytes(), doc)

    def test_three_people(self) -> None:
        doc = loads((FIXTURES / "three_people.dt").read_bytes()).document
        assert doc.content == (FIXTURES / "three_people.txt").read_text("utf-8")
        doc._check()
        assert held(loads(dumps(doc)).document) == held(doc)


# --- recorded traces ----------------------------------------------------------------------------------------


@cache
def trace(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path.read_bytes()


def events(doc: Document) -> Any:
    for op in doc._replica.log.ops():
        for i in range(op.length):
            yield op.kind, op.pos + op.step * i, op.content[i : i + 1]


class TestTraces:
    @pytest.mark.parametrize("name", TRACES)
    def test_text(self, traces_folder: Path, name: str) -> None:
        data = trace(traces_folder, f"{name}.dt")
        doc = loads(data).document
        ends = trace(traces_folder, f"{SAME_EVENTS.get(name, name)}.json.gz")
        assert doc.content == json.loads(gzip.decompress(ends))["endContent"]
        written = dumps(doc)
        assert len(written) < len(data)
        again = loads(written).document
        assert again.history() == doc.history()
        assert again.content == doc.content

    @pytest.mark.parametrize("name", SAME_EVENTS)
    def test_events(self, traces_folder: Path, name: str) -> None:
        """They are the ones in the JSON file: merging compares them."""
        doc = loads(trace(traces_folder, f"{name}.dt")).document
        other = json_history.loads(trace(traces_folder, f"{SAME_EVENTS[name]}.json.gz")).document
        assert other.version_vector == doc.version_vector
        assert not other.merge(doc, unrelated=True)
        assert not doc.merge(other, unrelated=True)

    def test_events_of_one_author(self, traces_folder: Path) -> None:
        doc = loads(trace(traces_folder, "automerge-paper.dt")).document
        other = json_history.loads(trace(traces_folder, "automerge-paper.json.gz")).document
        assert all(mine == theirs for mine, theirs in zip_longest(events(doc), events(other)))

    @pytest.mark.parametrize("name", ["friendsforever", "git-makefile"])
    def test_as_parts(self, traces_folder: Path, name: str) -> None:
        data = trace(traces_folder, f"{name}.dt")
        doc = Document("text", agent="me")
        doc.receive(runs(data))
        assert doc.version_vector == loads(data).document.version_vector
        assert doc.content == loads(data).document.content

    def test_as_diamond_types_reads_them(self, traces_folder: Path) -> None:
        docs = [
            loads(trace(traces_folder, f"{name}.dt")).document for name in ("friendsforever", "git-makefile")
        ]
        for doc, answer in zip(docs, dt_node.ask([dt_node.read(dumps(doc)) for doc in docs]), strict=True):
            assert answer["text"] == doc.content
            assert sorted(map(tuple, answer["version"])) == sorted(doc.version)
