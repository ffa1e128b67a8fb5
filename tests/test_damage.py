"""Data that is damaged, and data that somebody has made to do harm."""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

import generate
import lz4.block
import pytest
import zstandard
from deliver import DOC_ID, runs
from oracle import Txn
from serving import PATIENCE

from egwalker import DecodeError, Document, EgwalkerError, IdentityError, encoding
from egwalker.cycore import decoder
from egwalker.cycore.columns import Columns, read_items, varint, write_items
from egwalker.encoding import CONTENT, HISTORY, LAST, PART_OF_ID, RUN, SUMMARY, WHOLE_ID

MUTATIONS = int(os.environ.get("EGWALKER_MUTATIONS", "1500"))
"""How many for each form, of each sort."""
SEED = os.environ.get("EGWALKER_SEED", "")
SECONDS = 300
"""A case that takes longer hangs."""


@contextmanager
def no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def state(doc: Document) -> tuple[object, ...]:
    """What a failure must leave as it was."""
    return doc.id, doc.content, doc.version, doc.version_vector, doc.pending, len(doc._replica.whole())


def check_offset(error: DecodeError, data: bytes) -> None:
    """It says where in the data the damage is."""
    offset = error.offset
    assert type(offset) is int
    assert 0 <= offset <= len(data)


def check_decode_error(error: EgwalkerError) -> None:
    assert isinstance(error, DecodeError), repr(error)


# --- small documents of each form ---------------------------------------------------------------------------


class Form(NamedTuple):
    data: bytes
    kind: str
    target: Callable[[], Document]
    """A document that the data, as it was, can be applied to."""


def base(kind: str) -> Document:
    doc = Document(kind, agent="ann", id=DOC_ID)
    doc.insert(0, "hé\U0001f600llo" if kind == "text" else ["a", 1, None])
    return doc


def busy(kind: str) -> Document:
    """Some events of several agents on several branches, with rows of every kind."""
    doc = base(kind)
    other = doc.fork("bob")
    for each in (doc, other):
        for letter in "xyé":
            each.insert(1, letter if kind == "text" else [letter])
        each.insert(0, "ab" if kind == "text" else [True, {"k": [1]}])
        for at in (4, 3, 2):
            each.delete(at)
        each.delete(0, 2)
    doc.merge(other)
    doc.insert(2, "end" if kind == "text" else [2.5])
    return doc


def large() -> Document:
    """Enough for every column to be worth compressing."""
    world = generate.World(Random(3), 4, odd=True).run(120)
    doc = Document(agent="reader", id=DOC_ID)
    doc.receive(runs(world.txns))
    return doc


def empty(kind: str) -> Document:
    return Document(kind, agent="target", id=DOC_ID)


def forms() -> dict[str, Form]:
    text, values = busy("text"), busy("list")
    before = {"ann": [(0, 5)]}
    keystroke = base("text")
    keystroke.insert(2, "k\U0001f600")
    value = base("list")
    value.insert(1, [{"é": 1}])
    return {
        "whole": Form(text.encode(), "text", lambda: empty("text")),
        "no content": Form(text.encode(content=False), "text", lambda: empty("text")),
        "not deleted": Form(text.encode(deleted=False), "text", lambda: empty("text")),
        "into a replica": Form(text.encode(), "text", lambda: base("text")),
        "list": Form(values.encode(), "list", lambda: empty("list")),
        "list, not deleted": Form(values.encode(content=False, deleted=False), "list", lambda: empty("list")),
        "run": Form(keystroke.encode(since={"ann": [(0, 6)]}), "text", lambda: base("text")),
        "list run": Form(value.encode(since={"ann": [(0, 3)]}), "list", lambda: base("list")),
        "update": Form(text.encode(since=before), "text", lambda: base("text")),
        "list update": Form(values.encode(since={"ann": [(0, 3)]}), "list", lambda: base("list")),
    }


FORMS = forms()
FORMS_OF_ALL_SIZES = FORMS | {"large": Form(large().encode(), "text", lambda: empty("text"))}


def test_forms_are_what_they_are_called() -> None:
    chunks = {name: list(encoding.parse(form.data).chunks) for name, form in FORMS.items()}
    assert chunks == {
        "whole": [SUMMARY, CONTENT, HISTORY],
        "no content": [SUMMARY, HISTORY],
        "not deleted": [SUMMARY, CONTENT, HISTORY],
        "into a replica": [SUMMARY, CONTENT, HISTORY],
        "list": [SUMMARY, CONTENT, HISTORY],
        "list, not deleted": [SUMMARY, HISTORY],
        "run": [RUN],
        "list run": [RUN],
        "update": [HISTORY],
        "list update": [HISTORY],
    }
    parents = Parts.of(FORMS["update"]).columns[3]
    assert len(parents) > 3
    assert parents[0] == 1
    methods = {c.method for c in encoding.parse(FORMS_OF_ALL_SIZES["large"].data).columns}
    assert methods >= {encoding.ZSTD, encoding.ZSTD_AFTER_CONTENT}


# --- damage, which checksums find ---------------------------------------------------------------------------


def damaged(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        rest = data[at + 1 :]
        for bit in range(8):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + rest
        yield data[:at] + bytes([data[at] ^ 255]) + rest
        yield data[:at] + rest
        for value in (0, 1, 0x7F, 0x80, 0xFF, data[at]):
            yield data[:at] + bytes([value]) + data[at:]
        if at:
            yield data[:at]
    for end in (b"\0", b"\xff", b"\x80\0\0\0\0", data[-4:], data):
        yield data + end
    yield b""


@pytest.mark.parametrize("name", FORMS)
def test_damage_is_found(name: str) -> None:
    data, _, target = FORMS[name]
    doc = target()
    before = state(doc)
    right = target()
    right.apply(data)
    id_bytes = range(2, 2 + encoding.ID_BYTES[data[1] >> 4])
    with no_hang():
        for wrong in damaged(data):
            if wrong == data:
                continue
            try:
                doc.apply(wrong)
            except DecodeError as error:
                check_offset(error, wrong)
            except IdentityError:
                assert wrong[: id_bytes.stop] != data[: id_bytes.stop]
            else:
                # A cached content that was not looked at.
                assert name == "into a replica"
                assert state(doc) == state(right)
                doc = target()
            assert state(doc) == before
            try:
                opened = Document.decode(wrong)
            except DecodeError as error:
                check_offset(error, wrong)
            else:
                # The history is damaged, which is found when it is read.
                assert opened.content == right.content
                with pytest.raises(DecodeError) as caught:
                    opened.checkout([])
                check_offset(caught.value, wrong)
    doc._check()
    doc.apply(data)
    assert state(doc) == state(right)


# --- what is wrong with its checksums right -----------------------------------------------------------------


class Parts(NamedTuple):
    """What the chunks hold, with nothing compressed."""

    kind: bytes
    summary: bytes | None
    content: bytes | None
    columns: list[bytes]
    run: bytes | None

    @classmethod
    def of(cls, form: Form) -> Parts:
        found = encoding.parse(form.data)
        whole = found.whole
        content = encoding.expand(found._content, "content", None) if CONTENT in found.chunks else None
        columns = []
        if HISTORY in found.chunks:
            columns = [encoding.expand(column, "", content) for column in found.columns]
        return cls(
            found.kind.encode() if whole else b"",
            found.raw_summary if whole else None,
            content,
            columns,
            found._payload(RUN) if RUN in found.chunks else None,
        )

    def build(self, method: Callable[[bytes], int] = lambda raw: 0) -> bytes:
        """The data again. `method` says how each column is to be stored."""
        whole = self.summary is not None
        form = WHOLE_ID if whole else PART_OF_ID
        out = [encoding.header(form, bytes.fromhex(DOC_ID))]
        if self.summary is not None:
            one = encoding.only(self.stored(self.summary, method))
            encoding.add_chunk(out, SUMMARY, varint(len(self.kind)) + self.kind + one)
        if self.content is not None:
            encoding.add_chunk(out, CONTENT, encoding.only(self.stored(self.content, method)))
        if self.run is not None:
            encoding.add_chunk(out, RUN | LAST, self.run)
        else:
            payload = b""
            for raw in self.columns:
                column = self.stored(raw, method)
                payload += varint(len(column.stored) << 2 | column.method)
                payload += (varint(column.raw) if column.method else b"") + column.stored
            encoding.add_chunk(out, HISTORY | LAST, payload)
        return b"".join(out)

    def stored(self, raw: bytes, method: Callable[[bytes], int]) -> encoding.Column:
        found = method(raw)
        if found == encoding.LZ4:
            return encoding.Column(found, len(raw), lz4.block.compress(raw, store_size=False))
        if found == encoding.ZSTD:
            return encoding.Column(found, len(raw), zstandard.compress(raw))
        return encoding.Column(0, len(raw), raw)

    def fields(self) -> list[str]:
        names = [name for name in ("kind", "summary", "content", "run") if getattr(self, name) is not None]
        return names + [f"column {i}" for i in range(len(self.columns))]

    def get(self, name: str) -> bytes:
        found: bytes = self.columns[int(name[7:])] if name[:7] == "column " else getattr(self, name)
        return found

    def put(self, name: str, raw: bytes) -> Parts:
        columns = list(self.columns)
        if name == "kind":
            return self._replace(kind=raw)
        if name == "summary":
            return self._replace(summary=raw)
        if name == "content":
            return self._replace(content=raw)
        if name == "run":
            return self._replace(run=raw)
        columns[int(name[7:])] = raw
        return self._replace(columns=columns)


NUMBERS = [
    *range(8),
    *(
        2**bits + more
        for bits in (7, 8, 14, 16, 20, 24, 30, 31, 32, 33, 52, 53, 62, 63)
        for more in (-1, 0, 1)
    ),
    2**64 - 1,
]


def mutate(rng: Random, raw: bytes) -> bytes:
    at = rng.randint(0, len(raw))
    end = rng.randint(at, min(len(raw), at + 6))
    return rng.choice(
        (
            lambda: raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :],
            lambda: raw[:at] + bytes([raw[at - 1] ^ 1 << rng.randrange(8)]) + raw[at + 1 :] if raw else b"",
            lambda: raw[:at] + bytes([rng.randrange(128)]) + raw[at:],
            lambda: raw[:at] + varint(rng.choice(NUMBERS)) + raw[end:],
            lambda: raw[:at] + varint(rng.choice(NUMBERS)) + raw[at + 1 :],
            lambda: raw[:at] + raw[end:],
            lambda: raw[:end] + raw[at:],
            lambda: raw[:at] + raw[at:end][::-1] + raw[end:],
            lambda: raw[:at],
            lambda: raw + raw,
            lambda: b"",
        )
    )()


def outcome(data: bytes, form: Form) -> str:
    """What comes of data: an error of ours with nothing changed, or a sound document."""
    found = decoded(data) if data[1] >> 4 == WHOLE_ID else ""
    doc = form.target()
    waits = Txn("eve", 7, (("nobody", 3),), ((0, 0, "w" if form.kind == "text" else ["w"]),))
    if len(doc):
        doc.receive(runs([waits]))
    before = state(doc)
    try:
        doc.apply(data)
    except EgwalkerError as error:
        assert state(doc) == before
        doc._check()
        return f"{found} {type(error).__name__}"
    try:
        doc.verify()
        doc.checkout(doc.version)
    except EgwalkerError as error:
        # The content was cached, and was a lie; or its history is.
        check_decode_error(error)
        return f"{found} later {type(error).__name__}"
    doc._check()
    assert Document.decode(doc.encode()).content == doc.content
    return f"{found} applied"


def decoded(data: bytes) -> str:
    try:
        doc = Document.decode(data, agent="me")
    except EgwalkerError as error:
        return type(error).__name__
    content = doc.content
    try:
        assert len(content) == len(doc)
        assert doc.version_vector or not content
        assert doc.version or not content
        doc.insert(0, content[:1])
        doc.verify()
    except EgwalkerError as error:
        check_decode_error(error)
        return f"late {type(error).__name__}"
    doc._check()
    assert Document.decode(doc.encode()).content == doc.content
    return "fine"


@pytest.mark.parametrize("name", FORMS_OF_ALL_SIZES)
def test_wrong_payloads(name: str) -> None:
    """Anything may be in the chunks and columns, with the checksums right."""
    form = FORMS_OF_ALL_SIZES[name]
    rng = Random(name + SEED)
    parts = Parts.of(form)
    assert outcome(parts.build(), form).split()[-1] == "applied"
    found: Counter[str] = Counter()
    count = MUTATIONS if name != "large" else MUTATIONS // 20
    for _ in range(count):
        wrong = parts
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            field = rng.choice(wrong.fields())
            wrong = wrong.put(field, mutate(rng, wrong.get(field)))
        methods = [rng.choice((0, 0, 0, 1, 3)) for _ in range(12)]
        data = wrong.build(lambda raw: methods[len(raw) % 12])  # noqa: B023
        with no_hang():
            try:
                found[outcome(data, form)] += 1
            except BaseException as error:
                error.add_note(f"data: {data.hex()}")
                raise
    assert sum("Error" in key for key in found.elements()) > count / 4
    if os.environ.get("EGWALKER_MUTATIONS"):
        print(name, found)


@pytest.mark.parametrize("name", FORMS_OF_ALL_SIZES)
def test_wrong_stored_bytes(name: str) -> None:
    """The same before anything is decompressed: methods, lengths and compressed bytes are wrong."""
    form = FORMS_OF_ALL_SIZES[name]
    rng = Random(name + SEED)
    parts = Parts.of(form)
    for number in range(MUTATIONS // 3 if name != "large" else MUTATIONS // 30):
        methods = [rng.choice((0, 1, 3)) for _ in range(12)]
        data = form.data if number % 2 else parts.build(lambda raw: methods[len(raw) % 12])  # noqa: B023
        encoded = encoding.parse(data)
        chosen = rng.choice(list(encoded.chunks))
        out = [encoded.head]
        for kind, chunk in encoded.chunks.items():
            payload = encoded._payload(kind)
            if kind == chosen:
                for _ in range(rng.choice((1, 1, 2, 5))):
                    payload = mutate(rng, payload)
            encoding.add_chunk(out, chunk.kind, payload)
        wrong = b"".join(out)
        with no_hang():
            try:
                outcome(wrong, form)
            except BaseException as error:
                error.add_note(f"data: {wrong.hex()}")
                raise


# --- bytes of no meaning ------------------------------------------------------------------------------------


def random_bytes(rng: Random, most: int = 24) -> bytes:
    if rng.random() < 0.5:
        return bytes(
            rng.choice((0, 0, 1, 2, 3, 4, 5, 8, 128, 255, rng.randrange(256)))
            for _ in range(rng.randint(0, most))
        )
    return b"".join(varint(rng.choice(NUMBERS)) for _ in range(rng.randint(0, most // 3)))


@pytest.mark.parametrize("values", [False, True])
def test_random_columns(values: bool) -> None:
    rng = Random(f"{values}{SEED}")
    found: Counter[str] = Counter()
    with no_hang():
        for _ in range(MUTATIONS * 6):
            columns = Columns(["a", "b"][: rng.randint(0, 2)], *[random_bytes(rng) for _ in range(7)])
            if rng.random() < 0.7:
                # As many of everything as there should be, more often than by chance.
                n = rng.randint(1, 5)
                columns = columns._replace(
                    lengths=bytes([1]) * n,
                    ids=bytes(rng.choice((0, 2)) for _ in range(n)),
                    parents=bytes(rng.choice((0, 3, 3, 4, 5)) for _ in range(n)),
                    kinds=bytes([n << 2 | rng.randrange(4)])
                    if rng.random() < 0.5
                    else bytes(rng.choice((4, 6)) for _ in range(n)),
                    positions=bytes(rng.choice((0, 0, 1, 2)) for _ in range(n)),
                    content=(b"\x011" if values else b"a") * rng.randint(0, n),
                    erased=rng.choice((b"", b"", bytes([1, n - 1]))),
                )
            try:
                decoder.memory_of(columns, values)
                history = decoder.read(columns, rng.choice(((), ("a",), ("x", "y"))), values)
            except DecodeError:
                found["refused"] += 1
                continue
            history.items()
            if rng.random() < 0.5:
                log = type(history.log())(values) if rng.random() < 0.1 else None
                if log is None:
                    continue
            try:
                log = decoder.read(columns, ("x", "y"), values).log()
                log._check()
                found["read"] += 1
            except DecodeError:
                found["refused later"] += 1
    assert found["read"] > 20


def test_random_runs() -> None:
    rng = Random("runs" + SEED)
    fine = refused = 0
    with no_hang():
        for _ in range(MUTATIONS * 10):
            names = ["a", "b"][: rng.randint(0, 2)]
            numbers = {name: i for i, name in enumerate(names)}
            expected = [rng.choice((-1, 0, 5)) for _ in names]
            kept = list(names), dict(numbers), list(expected)
            data = random_bytes(rng)
            if rng.random() < 0.5:
                data = (
                    rng.choice((b"\x00\x01c\x00", b"\x01", b"\x02\x07"))
                    + bytes([rng.choice((0, 1, 2)), rng.choice((4, 6, 8, 9, 10, 11))])
                    + data
                )
            try:
                agent, seq, _, edits = decoder.read_run(data, names, numbers, expected, rng.random() < 0.3)
            except DecodeError as error:
                check_offset(error, data)
                refused += (names, numbers, expected) == kept
                continue
            fine += 1
            length = sum(deleted + len(inserted) for _, deleted, inserted in edits)
            assert length > 0
            assert expected[numbers[agent]] == seq + length
    assert fine > 20
    # What failed has changed nothing.
    assert fine + refused == MUTATIONS * 10


def test_random_data() -> None:
    rng = Random("data" + SEED)
    heads = [form.data[:n] for form in FORMS.values() for n in (1, 2, 6, 18, 19, 20)]
    with no_hang():
        for _ in range(MUTATIONS * 10):
            data = rng.choice((b"", b"\xe7", b"\xe7\x11\0\0\0\0", *heads)) + random_bytes(rng, 60)
            for read in (encoding.parse, Document.decode, empty("text").apply):
                try:
                    read(data)
                except DecodeError as error:
                    check_offset(error, data)
                except IdentityError:
                    pass
                else:
                    assert read is encoding.parse


# --- data that would take too much --------------------------------------------------------------------------

MIB = 1 << 20
RESERVE = 64 * MIB
PER_BYTE = 32

MEASURE = """
import os, sys, json, pickle
from egwalker import Document, EgwalkerError
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
for name, kind, data in pickle.load(sys.stdin.buffer):
    for how in ("decode", "apply"):
        if os.fork():
            _, status = os.wait()
            if status:
                print(json.dumps([name, how, f"died with {status}", 0, len(data)]), flush=True)
            continue
        text = Document("text"); text.insert(0, "warm"); Document.decode(text.encode()).verify()
        target = Document(kind, agent="target", id=ID)
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        try:
            if how == "decode":
                doc = Document.decode(data)
            else:
                target.insert(0, "abc" if kind == "text" else [1])
                target.apply(data)
                doc = target
            len(doc), doc.version, doc.version_vector
            doc.verify()
            said = "fine"
        except EgwalkerError as error:
            said = type(error).__name__
        except BaseException as error:
            said = repr(error)
        print(json.dumps([name, how, said, peak() - before, len(data)]), flush=True)
        os._exit(0)
""".replace("ID)", f"{DOC_ID!r})")


def zigzag(x: int) -> bytes:
    return varint(2 * x if x >= 0 else -2 * x - 1)


def whole_bomb(
    kind: str,
    events: int,
    columns: list[bytes],
    content: bytes | None = None,
    summary: bytes | None = None,
) -> bytes:
    if summary is None:
        summary = encoding.encode_summary(
            encoding.Summary(kind, events, ["a"], {"a": [(0, events)]}, (("a", events - 1),))
        )
    parts = Parts(kind.encode(), summary, content, [b"", *columns], None)
    return parts.build(lambda raw: encoding.ZSTD if len(raw) > 200 else 0)


def update_bomb(columns: list[bytes], names: bytes = b"\x01a") -> bytes:
    parts = Parts(b"", None, None, [names, *columns], None)
    return parts.build(lambda raw: encoding.ZSTD if len(raw) > 200 else 0)


def rows(n: int, parents: bytes) -> list[bytes]:
    """Many rows of one event each."""
    positions = (zigzag(7) + zigzag(-9)) * (n // 2 + 1)
    return [bytes(n), b"\1" * n, parents, b"\4" * n, positions[:n], b"a" * n, b""]


def bombs() -> Iterator[tuple[str, str, bytes]]:
    n, huge = 1 << 30, 1 << 31
    erased = [b"\0", varint(2 * n), b"\0", varint(n << 2) + varint(n << 2 | 2), zigzag(0) + zigzag(-n), b""]
    yield "a gigabyte erased", "text", whole_bomb("text", 2 * n, [*erased, varint(0) + varint(n)])
    yield "a gigabyte erased of a list", "list", whole_bomb("list", 2 * n, [*erased, varint(0) + varint(n)])
    every_other = [b"\0", varint(3_000_000), b"\0", varint(3_000_000 << 2), b"\0", "漢".encode() * 1_500_000]
    yield "every other one erased", "text", whole_bomb("text", 3_000_000, [*every_other, b"\1" * 3_000_000])
    yield (
        "erased in no parts",
        "text",
        whole_bomb("text", 1, [b"\0", b"\1", b"\0", b"\4", b"\0", b"a", b"\1" + b"\0\0" * 2_000_000]),
    )
    items = b"\x0210" * 1_500_000
    values = [b"\0", varint(1_500_000), b"\0", varint(1_500_000 << 2), b"\0", items, b""]
    yield "small values", "list", whole_bomb("list", 1_500_000, values)
    yield "small values cached", "list", whole_bomb("list", 1_500_000, values, items)
    nested = b"[" + b"[]," * 1_499_000 + b"1]"
    nested = varint(len(nested)) + nested
    yield "one large value", "list", whole_bomb("list", 1, [b"\0", b"\1", b"\0", b"\4", b"\0", nested, b""])
    yield (
        "one large value cached",
        "list",
        whole_bomb("list", 1, [b"\0", b"\1", b"\0", b"\4", b"\0", nested, b""], nested),
    )
    operation = [b"\0", b"\1", b"\0", b"\4", b"\0", b"\1" + b"1", b""]
    for size in (220_000, 230_000, 900_000):
        large = b'{"a":[' + b"[[]]," * size + b"1]}"
        yield f"a state of {size} lists", "map", whole_bomb("map", 1, operation, large)
    one = [b"\0", b"\1", b"\0", b"\4", b"\0", b"a", b""]
    names = b"".join(b"\5%05x" % i for i in range(700_000))
    yield "names", "text", update_bomb(one, names)
    ranges = (
        varint(2_000_000) + b"\2\1a" + varint(2_000_000) + b"\1\1" * 2_000_000 + b"\0" + varint(3_999_999)
    )
    yield "ranges", "text", whole_bomb("text", 0, [b""] * 7, b"", summary=ranges)
    yield "ranges, no content", "text", whole_bomb("text", 0, [b""] * 7, summary=ranges)
    agents = varint(len(names)) + names
    many = varint(700_000) + agents + b"\1\0\1" * 700_000 + b"\0\0"
    yield "agents", "text", whole_bomb("text", 0, [b""] * 7, b"", summary=many)
    heads = (
        varint(1_000_000)
        + b"\2\1a"
        + b"\1\0"
        + varint(1_000_000)
        + b"".join(b"\0" + varint(i) for i in range(900_000))
    )
    yield "heads", "text", whole_bomb("text", 0, [b""] * 7, b"", summary=heads)
    most = 290_000
    yield "rows", "text", whole_bomb("text", most, rows(most, b"\0" + b"\3" * (most - 1)))
    yield "roots", "text", whole_bomb("text", most, rows(most, bytes(most)))
    yield "more rows", "text", whole_bomb("text", 10 * most, rows(10 * most, b"\0" + b"\3" * (10 * most - 1)))
    yield "rows that wait", "text", update_bomb(rows(most, b"\2\1\x09\1\0" + b"\3" * (most - 1)))
    yield (
        "erasing that waits",
        "text",
        update_bomb(
            [
                b"\1" + zigzag(5),
                varint(huge - 1),
                b"\1\0",
                varint((huge - 1) << 2 | 3),
                zigzag(huge - 2),
                b"",
                b"",
            ]
        ),
    )
    yield (
        "deleting that waits",
        "text",
        update_bomb(
            [b"\1" + zigzag(5), varint(huge - 1), b"\1\0", varint((huge - 1) << 2 | 2), b"\0", b"", b""]
        ),
    )
    yield (
        "prepending that waits",
        "text",
        update_bomb(
            [
                b"\1" + zigzag(5),
                varint(4_000_000),
                b"\1\0",
                varint(4_000_000 << 2 | 1),
                b"\0",
                b"a" * 4_000_000,
                b"",
            ]
        ),
    )
    yield (
        "parents outside",
        "text",
        update_bomb([b"\1" + zigzag(5), b"\1", b"\2\1\x09" * 900_000 + b"\1\0", b"\4", b"\0", b"a", b""]),
    )
    yield (
        "parents inside",
        "text",
        whole_bomb(
            "text", 2, [b"\0\0", b"\1\1", b"\0" + b"\4" * 2_000_000 + b"\3", b"\4\4", b"\0\0", b"ab", b""]
        ),
    )
    yield (
        "a large deletion",
        "text",
        whole_bomb(
            "text", huge - 2, [b"\0", varint(huge - 2), b"\0", varint((huge - 2) << 2 | 2), b"\0", b"", b""]
        ),
    )
    yield (
        "large deletions",
        "text",
        whole_bomb(
            "text",
            (huge - 2) * 9,
            [b"\0", varint((huge - 2) * 9), b"\0", varint((huge - 2) << 2 | 2) * 9, b"\0" * 9, b"", b""],
        ),
    )
    yield (
        "much content",
        "text",
        whole_bomb(
            "text",
            4_500_000,
            [b"\0", varint(4_500_000), b"\0", varint(4_500_000 << 2), b"\0", b"a" * 4_500_000, b""],
            b"a" * 4_500_000,
        ),
    )
    wide = "\U0001f600".encode() * 1_100_000
    yield (
        "wide content",
        "text",
        whole_bomb(
            "text",
            1_100_000,
            [b"\0", varint(1_100_000), b"\0", varint(1_100_000 << 2), b"\0", wide, b""],
            wide,
        ),
    )
    for method in (encoding.ZSTD, encoding.LZ4):
        for said in (0, 1, 4_900_000, 5_100_000, huge, 2**40, 2**63 - 1):
            for raw in (b"a" * 4_900_000, b"", b"\0" * 60_000_000):
                stored = Parts(b"", None, None, [], None).stored(raw, lambda _: method).stored  # noqa: B023
                head = [encoding.header(WHOLE_ID, bytes.fromhex(DOC_ID))]
                summary = encoding.encode_summary(encoding.Summary("text", 0, [], {}, ()))
                encoding.add_chunk(head, SUMMARY, b"\4text\0" + summary)
                out = list(head)
                encoding.add_chunk(out, CONTENT, bytes([method]) + varint(said) + stored)
                encoding.add_chunk(out, HISTORY | LAST, bytes(8))
                yield f"content said to be {said}, is {len(raw)}, {method}", "text", b"".join(out)
                column = varint(len(stored) << 2 | method) + varint(said) + stored
                out = list(head)
                encoding.add_chunk(out, HISTORY | LAST, bytes(6) + column + bytes(1))
                yield f"column said to be {said}, is {len(raw)}, {method}", "text", b"".join(out)


def test_no_data_takes_much_memory() -> None:
    import pickle  # noqa: PLC0415 - of what is ours only

    cases = list(bombs())
    found = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=pickle.dumps(cases),
        capture_output=True,
        timeout=10 * PATIENCE,
        check=True,
    )
    results = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(results) == 2 * len(cases)
    bad = []
    for name, how, said, grown, size in results:
        if grown > RESERVE + PER_BYTE * size or not (said == "fine" or said.endswith("Error")):
            bad.append((name, how, said, f"{grown >> 20} MiB of {size} bytes"))
    if os.environ.get("EGWALKER_MUTATIONS"):
        for name, how, said, grown, size in results:
            print(f"{name} ({how}): {said}, {grown >> 20} MiB of {size} bytes")
    assert not bad


NUMERIC = ["summary", "run", *[f"column {i}" for i in (1, 2, 3, 4, 5, 7)]]


@pytest.mark.parametrize("name", FORMS)
def test_every_number_may_be_any(name: str) -> None:
    """Each varint of each field in turn is each of the numbers at which something might overflow."""
    form = FORMS[name]
    parts = Parts.of(form)
    for field in parts.fields():
        if field not in NUMERIC:
            continue
        raw = parts.get(field)
        at = 0
        while at < len(raw):
            end = at + 1
            while end < len(raw) and raw[end - 1] > 127:
                end += 1
            for number in (0, *NUMBERS[-25:]):
                data = parts.put(field, raw[:at] + varint(number) + raw[end:]).build()
                with no_hang():
                    try:
                        outcome(data, form)
                    except BaseException as error:
                        error.add_note(f"field {field}, byte {at}, {number}: {data.hex()}")
                        raise
            at = end


def test_checksum_is_crc32c() -> None:
    """Not zlib's; 0xE3069283 is the check value of CRC-32C."""
    import google_crc32c  # noqa: PLC0415

    assert google_crc32c.value(b"123456789") == 0xE3069283 != zlib.crc32(b"123456789")


# --- chunks -------------------------------------------------------------------------------------------------


def chunked(head: bytes, chunks: list[tuple[int, bytes]]) -> bytes:
    out = [head]
    for kind, payload in chunks:
        encoding.add_chunk(out, kind, payload)
    return b"".join(out)


def test_unknown_chunks() -> None:
    data = FORMS["whole"].data
    encoded = encoding.parse(data)
    known = [(chunk.kind, encoded._payload(kind)) for kind, chunk in encoded.chunks.items()]
    right = Document.decode(data)
    for place in range(3):
        for unknown, fine in ((6, False), (0, False), (6 | 0x40, True), (63 | 0x40, True)):
            wrong = chunked(encoded.head, [*known[:place], (unknown, b"whatever"), *known[place:]])
            if fine:
                doc = Document.decode(wrong)
                doc.verify()
                assert doc.content == right.content
                assert doc.version == right.version
            else:
                with pytest.raises(DecodeError):
                    Document.decode(wrong)


def test_chunks_in_another_order() -> None:
    data = FORMS["whole"].data
    encoded = encoding.parse(data)
    payload = {kind: encoded._payload(kind) for kind in encoded.chunks}
    orders: list[list[int]] = [
        [CONTENT, SUMMARY, HISTORY],
        [SUMMARY, SUMMARY, HISTORY],
        [SUMMARY, CONTENT],
        [SUMMARY],
        [CONTENT, HISTORY],
        [HISTORY],
        [SUMMARY, HISTORY, HISTORY],
    ]
    for order in orders:
        chunks = [
            (kind | (LAST if i == len(order) - 1 else 0), payload[kind]) for i, kind in enumerate(order)
        ]
        with pytest.raises(DecodeError):
            Document.decode(chunked(encoded.head, chunks))


def test_a_list_holds_json() -> None:
    """What is in a history of values must be values; the engine would take any text."""
    form = FORMS["list update"]
    parts = Parts.of(form)
    content = parts.get("column 6")
    doc = form.target()
    before = state(doc)
    texts = read_items(content)
    for wrong in (
        '{"a"',
        "NaN",
        "1,2",
        "1],[2",
        " 1",
        '"\\ud800"',
        "1" * 5000,
        "",
        "1.50",
        "[" * 500 + "]" * 500,
    ):
        data = parts.put("column 6", write_items([wrong, *texts[1:]])).build()
        with pytest.raises(DecodeError):
            doc.apply(data)
        assert state(doc) == before
    doc.apply(parts.build())


def test_a_wrong_summary_is_not_taken_in() -> None:
    form = FORMS["whole"]
    parts = Parts.of(form)
    doc = Document(agent="target")
    before = state(doc)
    with pytest.raises(DecodeError):
        doc.apply(parts.put("summary", parts.get("summary") + b"\xff").build())
    assert state(doc) == before


def test_a_parent_named_as_outside_may_come_later() -> None:
    """No writer of ours puts it like that; nothing waits for what is there."""
    columns = [b"\0\2", b"\1\1", b"\1\2\0" + b"\0", b"\4\4", b"\0\0", b"xy", b""]
    doc = empty("text")
    doc.apply(update_bomb(columns, b"\1a\1b"))
    assert (doc.pending, doc.version, len(doc)) == (0, (("a", 0),), 2)
    doc._check()
