"""Documents and updates as bytes: chunks, checksums and compression around the columns of a history.

docs/format.md specifies all of it to the byte.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import google_crc32c
import lz4.block
import zstandard

from egwalker.cycore import decoder, encoder
from egwalker.cycore.columns import (
    Columns,
    PackedRun,
    items_memory,
    read_items,
    read_names,
    read_varint,
    varint,
    write_items,
    write_names,
)
from egwalker.cycore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from egwalker.cycore.oplog import OpLog
    from egwalker.types import Packed
    from egwalker.versions import Version, VersionVector

T = TypeVar("T")

MAGIC = 0xE7
VERSION = 1
WHOLE_ID = 2  # all 16 bytes of the document's id follow
PART_OF_ID = 1  # its first 4 bytes follow
ID_BYTES = {PART_OF_ID: 4, WHOLE_ID: 16}

SUMMARY = 1
CONTENT = 2
HISTORY = 3
RUN = 4
BASE = 5
NAMES = {SUMMARY: "SUMMARY", CONTENT: "CONTENT", HISTORY: "HISTORY", RUN: "RUN", BASE: "BASE"}
WHOLE = ([SUMMARY, HISTORY], [SUMMARY, CONTENT, HISTORY])
SHALLOW = tuple([[*chunks, BASE] for chunks in WHOLE])
UPDATES = ([HISTORY], [RUN])

LAST = 0x80
OPTIONAL = 0x40
TYPE = 0x3F
CHECKSUM = 4  # bytes

PADDING = OPTIONAL | TYPE
"""A chunk that nobody reads: it makes data as large as what it takes in memory asks for."""

PLAIN = 0
ZSTD = 1
ZSTD_AFTER_CONTENT = 2  # with the document's content as dictionary
LZ4 = 3  # for the content, which should be there at once

LEVEL = 12
"""Of compression, by both: more takes long and saves next to nothing."""
LARGE_UPDATE = 1024
"""Smaller updates, by the bytes of all their columns, are not compressed: each link has its own."""
WORTH_COMPRESSING = 64
"""Fewer bytes are stored as they are."""

MEMORY = 48 << 20
MEMORY_PER_BYTE = 24
"""What data may take in memory when it is read: this much, and this much for each of its bytes."""
CONTENT_FACTOR = 10
"""How many bytes a byte of content takes on its way into a document."""
STATE_FACTOR = 45
"""How many a byte of JSON text may take that becomes the state of a replayed document."""
SUMMARY_FACTOR = 80
"""How many a byte of the summary takes: two of them may be a range of seqs."""


MAX_SEQ = 1 << 53


class Summary(NamedTuple):
    """What is to be known of a document before its history is read."""

    kind: str
    events: int
    agents: list[str]
    vector: VersionVector
    frontier: Version


class Column(NamedTuple):
    """A column of a HISTORY chunk as it is stored, `raw` bytes long when it is not compressed."""

    method: int
    raw: int
    stored: bytes | memoryview


class Link:
    """What the reader of a stream of updates knows from those before. Each end has one for each direction.

    Updates that are written with a link, `Document.encode(since=..., link=...)`, name neither the document
    nor agents again, and must be read in their order, all of them, by `Document.apply(data, link=...)`.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}
        self.expected: list[int] = []  # the seq after the last run of each

    def add(self, names: Sequence[str]) -> None:
        """Remember names, in their order."""
        for name in names:
            self.numbers[name] = len(self.names)
            self.names.append(name)
            self.expected.append(-1)


class Chunk(NamedTuple):
    """Where a chunk begins, and its payload begins and ends; its first byte."""

    start: int
    at: int
    end: int
    kind: int


class Encoded:
    """Data whose chunks have been found. What is in one is read, and its checksum verified, when asked for.

    All that does so raises `DecodeError`, with the offset, for what is damaged or impossible.
    """

    def __init__(self, data: bytes, head: bytes, doc_id: bytes, link: Link | None = None) -> None:
        self.data = data
        self.head = head  # what checksums begin with
        self.id = doc_id  # the document's, or the beginning of it
        self.link = link
        self.chunks: dict[int, Chunk] = {}

    @property
    def whole(self) -> bool:
        """Whether this is a whole document, not an update."""
        return SUMMARY in self.chunks

    @cached_property
    def kind(self) -> str:
        """The document's kind."""
        return self._summary[0]

    @cached_property
    def summary(self) -> Summary:
        """The summary of a whole document. O(its bytes)."""
        return decode_summary(self.kind, self.raw_summary)

    @cached_property
    def raw_summary(self) -> bytes:
        """The summary but for the kind, not decoded."""
        return self._expanded(self._summary[1])

    def content(self, values: bool, factor: int = CONTENT_FACTOR) -> Packed | None:
        """The cached content in the packed form, None if there is none. O(its bytes).

        `factor`: how many bytes of memory each of its bytes takes, which counts unless it is stored as it is.
        """
        if CONTENT not in self.chunks:
            return None
        return self._packed(self._content, None, values, factor)

    @cached_property
    def base(self) -> Summary | None:
        """What there is to know of the version that the history begins at; None if it begins at the root."""
        if BASE not in self.chunks:
            return None
        summary = decode_summary(self.kind, self._expanded(self._base[0]))
        if not summary.events:
            raise DecodeError("the history begins after no events", self.chunks[BASE].at)
        return summary

    def base_content(self, values: bool, factor: int = CONTENT_FACTOR) -> Packed:
        """The content at that version in the packed form. O(its bytes)."""
        column = self._base[1]
        return self._packed(column, self._dictionary([column], BASE), values, factor)

    def _expanded(self, column: Column) -> bytes:
        """A column with a summary, if there is memory for that."""
        raw = expand(column, "summary", None)
        self._refuse_beyond(SUMMARY_FACTOR * len(raw))
        return raw

    def _packed(self, column: Column, dictionary: bytes | None, values: bool, factor: int) -> Packed:
        if column.method != PLAIN:
            self._refuse_beyond(factor * column.raw)
        raw = expand(column, "content", dictionary)
        if values:
            self._refuse_beyond(items_memory(raw))
            return read_items(raw)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"the content is not UTF-8: {error.reason}", error.start) from None

    def _dictionary(self, columns: list[Column], number: int) -> bytes | None:
        """What columns of a chunk were compressed with."""
        if all(column.method != ZSTD_AFTER_CONTENT for column in columns):
            return None
        if CONTENT not in self.chunks:
            raise DecodeError("a column needs the content, which is not here", self.chunks[number].at)
        return expand(self._content, "content", None)

    def history(self, values: bool) -> decoder.History:
        """The history. O(its bytes)."""
        stored = self.columns
        dictionary = self._dictionary(stored, HISTORY)
        raw = [expand(column, name, dictionary) for column, name in zip(stored, Columns._fields, strict=True)]
        self._refuse_beyond(items_memory(raw[0]))
        columns = Columns(read_names(raw[0]), *raw[1:])
        self._refuse_beyond(decoder.memory_of(columns, values))
        known = self.summary.agents if self.whole else self.link.names if self.link else ()
        found = decoder.read(columns, known, values)
        if self.link is not None:
            self.link.add(columns.agents)
        return found

    def run(self, values: bool) -> PackedRun:
        """The run of a RUN chunk."""
        link = self.link or Link()
        payload = self._payload(RUN)
        return decoder.read_run(payload, link.names, link.numbers, link.expected, values)

    def _refuse_beyond(self, need: int) -> None:
        size = len(self.data)
        if need > allowance(size):
            raise DecodeError(f"this would take {need >> 20} MiB, too much for its {size} bytes", 0)

    @property
    def columns(self) -> list[Column]:
        """The columns of the HISTORY chunk, in the order of `Columns`."""
        return self._in(HISTORY, parse_columns)

    @property
    def _base(self) -> list[Column]:
        return self._in(BASE, lambda payload, size: parse_columns(payload, size, 2))

    @property
    def sizes(self) -> dict[str, int]:
        """How many bytes there are, by chunk and, within HISTORY, by column."""
        found = {NAMES[number]: chunk.end - chunk.start for number, chunk in self.chunks.items()}
        if HISTORY in self.chunks:
            for column, name in zip(self.columns, Columns._fields, strict=True):
                found[f"HISTORY.{name}"] = len(column.stored)
        return found

    @cached_property
    def _summary(self) -> tuple[str, Column]:
        return self._in(SUMMARY, parse_summary)

    @property
    def _content(self) -> Column:
        return self._in(CONTENT, parse_column)

    def _payload(self, number: int) -> bytes:
        chunk = self.chunks[number]
        payload = self.data[chunk.at : chunk.end - CHECKSUM]
        check(self.data, self.head, chunk, payload)
        return payload

    def _in(self, number: int, read: Callable[[bytes, int], T]) -> T:
        payload = self._payload(number)
        try:
            return read(payload, len(self.data))
        except DecodeError as error:
            at = self.chunks[number].at + (error.offset or 0)
            raise DecodeError(f"chunk {NAMES[number]}, byte {at}: {error}", at) from None


def allowance(size: int) -> int:
    """How much memory data of this size may take."""
    return MEMORY + MEMORY_PER_BYTE * size


# --- writing ------------------------------------------------------------------------------------------------


def encode_document(
    log: OpLog,
    doc_id: bytes,
    summary: Summary,
    content: Packed | None,
    deleted: bool = True,
    base: tuple[Summary, Packed] | None = None,
    factor: int = CONTENT_FACTOR,
) -> bytes:
    """A whole document, with the content cached unless it is None, with what was deleted unless not.

    `base`: the version after which the log begins, and the content there. `factor`: see `Encoded.content`.
    """
    beginning = Beginning(summary, content, factor)
    before = None if base is None else Beginning(*base, factor)
    keep = None if deleted else encoder.survivors(log)
    start = 0 if base is None else base[0].events
    columns = encoder.write(log, [(start, len(log))] if start < len(log) else [], summary.agents, keep)

    def chunks(out: list[bytes], compressed: bool) -> None:
        beginning.add(out, compressed)
        last = LAST if before is None else 0
        add_chunk(out, HISTORY | last, history(columns, beginning.content, compressed))
        if before is not None:
            add_chunk(out, BASE | LAST, before.as_base(beginning.content, compressed))

    need = max(decoder.memory_of(columns, log.values), beginning.need, 0 if before is None else before.need)
    return affordable(header(WHOLE_ID, doc_id), need, chunks)


def encode_start(
    doc_id: bytes,
    summary: Summary,
    content: Packed,
    factor: int = CONTENT_FACTOR,
    *,
    compressed: bool = True,
) -> bytes:
    """A document without its history: what there is to know of it, and its content."""
    beginning = Beginning(summary, content, factor)

    def chunks(out: list[bytes], compressed: bool) -> None:
        beginning.add(out, compressed, LAST)

    return affordable(header(WHOLE_ID, doc_id), beginning.need, chunks, compressed=compressed)


class Beginning:
    """The chunks SUMMARY and, unless that is None, CONTENT."""

    def __init__(self, summary: Summary, content: Packed | None, factor: int = CONTENT_FACTOR) -> None:
        self.factor = factor
        self.kind = summary.kind.encode()
        self.summary = encode_summary(summary)
        self.need = SUMMARY_FACTOR * len(self.summary)
        self.content: bytes | None = None
        if isinstance(content, str):
            self.content = content.encode()
        elif content is not None:
            self.content = write_items(content)
            self.need = max(self.need, items_memory(self.content))

    def add(self, out: list[bytes], compressed: bool, last: int = 0) -> None:
        """Append the chunks, the second one flagged."""
        summary = only(pack(self.summary, compressed=compressed))
        add_chunk(out, SUMMARY, varint(len(self.kind)) + self.kind + summary)
        if self.content is not None:
            content = pack(self.content, method=LZ4, compressed=compressed, factor=self.factor)
            add_chunk(out, CONTENT | last, only(content))

    def as_base(self, dictionary: bytes | None, compressed: bool) -> bytes:
        """The payload of BASE, for a version with content."""
        assert self.content is not None
        summary = pack(self.summary, compressed=compressed)
        content = pack(self.content, dictionary, compressed=compressed, factor=self.factor)
        return joined([summary, content])


def affordable(
    head: bytes,
    need: int,
    chunks: Callable[[list[bytes], bool], None],
    *,
    compressed: bool = True,
    linked: bool = False,
) -> bytes:
    """The header and chunks, of which whoever reads them will believe that they take so much memory.

    `compressed`: they may be, if that leaves them large enough. `linked`: without the header, which the
    reader knows.
    """
    room = 0
    for method in (True, False) if compressed else (False,):
        out = [head]
        chunks(out, method)
        room = allowance(sum(map(len, out[linked:])))
        if need <= room:
            return b"".join(out[linked:])
    out = [head]
    add_chunk(out, PADDING, bytes((need - room) // MEMORY_PER_BYTE + 1))
    chunks(out, False)
    return b"".join(out[linked:])


def encode_update(
    log: OpLog,
    doc_id: bytes,
    ranges: Sequence[tuple[int, int]],
    link: Link | None = None,
    *,
    compressed: bool = True,
    runs: bool = True,
) -> bytes:
    """The events in some ranges of local versions, for those who hold what is before.

    `compressed`: columns may be. `runs`: it may be a RUN chunk.
    """
    known = link or Link()
    head = header(PART_OF_ID, doc_id) if link is None else doc_id
    run = None
    if runs and len(ranges) == 1:
        run = encoder.write_run(log, *ranges[0], known.names, known.numbers, known.expected)
    if run is not None:
        out = [head]
        add_chunk(out, RUN | LAST, run)
        return b"".join(out[link is not None :])
    columns = encoder.write(log, ranges, known.names)
    known.add(columns.agents)
    large = sum(map(len, columns[1:])) > LARGE_UPDATE
    return affordable(
        head,
        decoder.memory_of(columns, log.values),
        lambda out, compressed: add_chunk(out, HISTORY | LAST, history(columns, None, compressed)),
        compressed=compressed and large,
        linked=link is not None,
    )


def header(id_form: int, doc_id: bytes) -> bytes:
    return bytes([MAGIC, VERSION | id_form << 4]) + doc_id[: ID_BYTES[id_form]]


def add_chunk(out: list[bytes], kind: int, payload: bytes) -> None:
    """Append a chunk; its checksum begins with the bytes of the header, on a link with those of the id."""
    length = b"" if kind & LAST else varint(len(payload))
    out.append(bytes([kind]) + length + payload + checksum(out[0], kind, payload).to_bytes(4, "little"))


def checksum(head: bytes, kind: int, payload: bytes) -> int:
    found: int = google_crc32c.extend(google_crc32c.value(head + bytes([kind])), payload)
    return found


def history(columns: Columns, dictionary: bytes | None, compressed: bool) -> bytes:
    """The payload of a HISTORY chunk."""
    raws = (write_names(columns.agents), *columns[1:])
    return joined(
        [pack(raw, dictionary if raw is columns.content else None, compressed=compressed) for raw in raws]
    )


def joined(columns: Iterable[Column]) -> bytes:
    """Columns one after another, each of which says how long it is."""
    out: list[bytes | memoryview] = []
    for column in columns:
        out += [varint(len(column.stored) << 2 | column.method)]
        if column.method != PLAIN:
            out.append(varint(column.raw))
        out.append(column.stored)
    return b"".join(out)


def pack(
    raw: bytes,
    dictionary: bytes | None = None,
    method: int = ZSTD,
    *,
    compressed: bool = True,
    factor: int = CONTENT_FACTOR,
) -> Column:
    """A column, compressed if it may be and that saves anything. `factor`: see `Encoded.content`."""
    if compressed and len(raw) >= WORTH_COMPRESSING and factor * len(raw) <= allowance(len(raw)):
        if method == LZ4:
            stored: bytes = lz4.block.compress(
                raw, mode="high_compression", compression=LEVEL, store_size=False
            )
        else:
            before = None
            if dictionary is not None and len(dictionary) >= WORTH_COMPRESSING:
                method = ZSTD_AFTER_CONTENT
                before = as_dictionary(dictionary)
            parameters = zstandard.ZstdCompressionParameters.from_level(
                LEVEL,
                source_size=len(raw),
                dict_size=len(dictionary) if before and dictionary else 0,
                write_content_size=False,
            )
            stored = zstandard.ZstdCompressor(compression_params=parameters, dict_data=before).compress(raw)
        if len(stored) < len(raw) and factor * len(raw) <= allowance(len(stored)):
            return Column(method, len(raw), stored)
    return Column(PLAIN, len(raw), raw)


def only(column: Column) -> bytes:
    """The only column of a chunk."""
    return bytes([column.method]) + (varint(column.raw) if column.method != PLAIN else b"") + column.stored


def as_dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def encode_summary(summary: Summary) -> bytes:
    names = write_names(summary.agents)
    out = [varint(summary.events), varint(len(names)), names]
    out += encode_ranges([summary.vector[agent] for agent in summary.agents])
    numbers = {name: i for i, name in enumerate(summary.agents)}
    for agent, seq in summary.frontier:
        out += [varint(numbers[agent]), varint(seq)]
    return b"".join(out)


def encode_ranges(vector: Iterable[Sequence[tuple[int, int]]]) -> Iterator[bytes]:
    """The ranges of seqs of some agents."""
    for ranges in vector:
        yield varint(len(ranges))
        at = 0
        for start, end in ranges:
            yield varint(start - at)
            yield varint(end - start)
            at = end


# --- reading ------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Encoded:
    """Find the chunks. `DecodeError` for what is no such data, of an unknown version, or cut. O(chunks)."""
    found = parse_chunks(data)
    numbers = list(found.chunks)
    if numbers not in (*WHOLE, *SHALLOW, *UPDATES):
        names = ", ".join([NAMES[number] for number in numbers])
        raise DecodeError(f"chunks {names} are neither a document nor an update", len(found.head))
    if found.whole != (len(found.id) == ID_BYTES[WHOLE_ID]):
        raise DecodeError("a document has a whole id, an update a part of one", 1)
    return found


def parse_start(data: bytes, doc_id: bytes) -> Encoded:
    """The same for a document without its history, of which the id is known."""
    found = parse_chunks(data)
    if list(found.chunks) != [SUMMARY, CONTENT]:
        names = ", ".join([NAMES[number] for number in found.chunks])
        raise DecodeError(f"chunks {names} are not a summary and content", len(found.head))
    if found.id != doc_id:
        raise DecodeError(f"it is of document {found.id.hex()}, not of {doc_id.hex()}", 2)
    return found


def parse_chunks(data: bytes) -> Encoded:
    """The header and the chunks, whichever they are."""
    if not data or data[0] != MAGIC:
        raise DecodeError("this is no encoded document: it begins with another byte", 0)
    if len(data) < 2:
        raise DecodeError("this ends within its header", len(data))
    version, id_form = data[1] & 15, data[1] >> 4
    if version != VERSION:
        raise DecodeError(f"this is of version {version} of the format; version {VERSION} can be read", 1)
    if id_form not in ID_BYTES:
        raise DecodeError(f"this has an id in the unknown form {id_form}", 1)
    at = 2 + ID_BYTES[id_form]
    if len(data) < at:
        raise DecodeError("this ends within its header", len(data))
    head = data[:at]
    found = Encoded(data, head, head[2:])
    find_chunks(found, at)
    return found


def parse_linked(data: bytes, doc_id: bytes, link: Link) -> Encoded:
    """The same for an update to a document that came over a link."""
    found = Encoded(data, doc_id, doc_id, link)
    find_chunks(found, 0)
    if list(found.chunks) not in UPDATES:
        raise DecodeError("this is no update over a link", 0)
    return found


def find_chunks(found: Encoded, at: int) -> None:
    data = found.data
    last = 0
    while not last:
        start = at
        if at >= len(data):
            raise DecodeError("this ends before its last chunk", at)
        kind = data[at]
        last = kind & LAST
        at += 1
        length = len(data) - at - CHECKSUM
        if not last:
            length, at = read_varint(data, at)
        if not 0 <= length <= len(data) - at - CHECKSUM:
            raise DecodeError(f"byte {start}: a chunk of {length} bytes, {len(data) - at} are left", start)
        chunk = Chunk(start, at, at + length + CHECKSUM, kind)
        at = chunk.end
        number = kind & TYPE
        if number in found.chunks:
            raise DecodeError(f"byte {start}: chunk {NAMES[number]} is there twice", start)
        if number in NAMES:
            found.chunks[number] = chunk
            continue
        check(data, found.head, chunk, data[chunk.at : chunk.end - CHECKSUM])
        if not kind & OPTIONAL:
            raise DecodeError(f"byte {start}: chunk {number} is required, but not known here", start)


def check(data: bytes, head: bytes, chunk: Chunk, payload: bytes) -> None:
    """Verify a chunk's checksum."""
    if checksum(head, chunk.kind, payload) != int.from_bytes(
        data[chunk.end - CHECKSUM : chunk.end], "little"
    ):
        raise DecodeError(
            f"byte {chunk.start}: the chunk of {len(payload)} bytes is damaged: it does not fit its checksum",
            chunk.start,
        )


def parse_summary(payload: bytes, size: int) -> tuple[str, Column]:
    """A document's kind, and the column with the rest."""
    reader = Reader(payload)
    try:
        kind = reader.take(reader.number()).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"the kind is not UTF-8: {error.reason}", error.start) from None
    return kind, parse_column(payload[reader.at :], size)


def parse_column(payload: bytes, size: int) -> Column:
    """The only column of a chunk, in data of this size."""
    if not payload:
        raise DecodeError("it is empty", 0)
    method = payload[0]
    if method == PLAIN:
        return Column(PLAIN, len(payload) - 1, payload[1:])
    raw, at = read_varint(payload, 1)
    return checked(Column(method, raw, memoryview(payload)[at:]), size)


def parse_columns(payload: bytes, size: int, count: int = len(Columns._fields)) -> list[Column]:
    """Columns that say how long they are, in data of this size."""
    reader = Reader(payload)
    found = []
    for _ in range(count):
        x = reader.number()
        method, length = x & 3, x >> 2
        raw = length if method == PLAIN else reader.number()
        found.append(checked(Column(method, raw, reader.take(length)), size))
    if reader.at < len(payload):
        raise DecodeError(f"there are {len(payload) - reader.at} bytes too many", reader.at)
    return found


def checked(column: Column, size: int) -> Column:
    """The column, unless it is of an unknown method or says that it becomes larger than it may."""
    if column.method > LZ4:
        raise DecodeError(f"a column is compressed by the unknown method {column.method}", 0)
    if CONTENT_FACTOR * column.raw > allowance(size):
        raise DecodeError(f"a column of {len(column.stored)} bytes says that it holds {column.raw}", 0)
    return column


def expand(column: Column, name: str, dictionary: bytes | None) -> bytes:
    """The bytes of a column; not more than it says."""
    if column.method == PLAIN:
        return bytes(column.stored)
    if column.method == LZ4:
        return expand_lz4(column, name)
    before = as_dictionary(dictionary) if column.method == ZSTD_AFTER_CONTENT and dictionary else None
    try:
        if zstandard.frame_content_size(column.stored) not in (-1, column.raw):
            raise DecodeError(f"column {name} is not of the {column.raw} bytes that it says", 0)
        raw = zstandard.ZstdDecompressor(dict_data=before).decompress(
            column.stored, max_output_size=column.raw, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise DecodeError(f"column {name} cannot be decompressed: {error}", 0) from None
    if len(raw) != column.raw:
        raise DecodeError(f"column {name} has {len(raw)} bytes, not {column.raw} as it says", 0)
    return raw


def expand_lz4(column: Column, name: str) -> bytes:
    try:
        raw: bytes = lz4.block.decompress(column.stored, uncompressed_size=column.raw)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
        raise DecodeError(f"column {name} cannot be decompressed: {error}", 0) from None
    if len(raw) != column.raw:
        raise DecodeError(f"column {name} has {len(raw)} bytes, not {column.raw} as it says", 0)
    return raw


class Reader:
    """Reads numbers, one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        found, self.at = read_varint(self.data, self.at)
        return found

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise DecodeError(f"{length} bytes should follow, {len(self.data) - self.at} do", self.at)
        self.at += length
        return self.data[self.at - length : self.at]


def decode_summary(kind: str, data: bytes) -> Summary:
    """`DecodeError` for what cannot be."""
    reader = Reader(data)
    events = reader.number()
    agents = read_names(reader.take(reader.number()))
    if len(set(agents)) != len(agents):
        raise DecodeError("an agent is named twice", reader.at)
    vector: VersionVector = {agent: decode_ranges(reader, agent) for agent in agents}
    frontier = []
    while reader.at < len(data):
        number, seq = reader.number(), reader.number()
        if number >= len(agents) or not any(start <= seq < end for start, end in vector[agents[number]]):
            raise DecodeError(f"a head is event {seq} of agent {number}, which is not held", reader.at)
        frontier.append((agents[number], seq))
    if frontier != sorted(set(frontier)) or bool(frontier) != bool(events):
        raise DecodeError("the heads are not ascending, or there are none", reader.at)
    if sum(end - start for ranges in vector.values() for start, end in ranges) != events:
        raise DecodeError(f"the version vector does not have {events} events", reader.at)
    return Summary(kind, events, agents, vector, tuple(frontier))


def decode_ranges(reader: Reader, agent: str) -> list[tuple[int, int]]:
    """The ranges of seqs of an agent, of which there is one at least."""
    ranges: list[tuple[int, int]] = []
    at = 0
    for _ in range(reader.number()):
        start = at + reader.number()
        at = start + reader.number()
        if at == start or (ranges and start == ranges[-1][1]) or at > MAX_SEQ:
            raise DecodeError(f"{start}:{at} is no range of seqs, or not apart from the last one", reader.at)
        ranges.append((start, at))
    if not ranges:
        raise DecodeError(f"agent {agent!r} has no events", reader.at)
    return ranges
