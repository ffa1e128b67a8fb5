"""Documents and updates as bytes: chunks, checksums and compression around the columns of `cycore.codec`.

docs/format.md specifies all of it to the byte.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c
import lz4.block
import zstandard

from egwalker.cycore import codec
from egwalker.cycore.codec import Columns, read_varint, varint
from egwalker.cycore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egwalker.cycore.oplog import OpLog
    from egwalker.types import Packed
    from egwalker.versions import Version, VersionVector

MAGIC = 0xE7
VERSION = 1
WHOLE_ID = 2  # all 16 bytes of the document's id follow
PART_OF_ID = 1  # its first 4 bytes follow
ID_BYTES = {PART_OF_ID: 4, WHOLE_ID: 16}

SUMMARY = 1
CONTENT = 2
HISTORY = 3
RUN = 4
NAMES = {SUMMARY: "SUMMARY", CONTENT: "CONTENT", HISTORY: "HISTORY", RUN: "RUN"}

LAST = 0x80
OPTIONAL = 0x40
TYPE = 0x3F

PLAIN = 0
ZSTD = 1
ZSTD_AFTER_CONTENT = 2  # with the document's content as dictionary
LZ4 = 3  # for the content, which should be there at once

LEVEL = 12
"""Of compression, by both: more takes long and saves next to nothing."""
WORTH_COMPRESSING = 64
"""Fewer bytes are stored as they are."""

MEMORY = 48 << 20
MEMORY_PER_BYTE = 24
"""What data may take in memory when it is read: this much, and this much for each of its bytes."""
CONTENT_FACTOR = 10
"""How many bytes a byte of content takes on its way into a document."""


class Summary(NamedTuple):
    """What is to be known of a document before its history is read."""

    kind: str
    events: int
    length: int
    agents: list[str]
    vector: VersionVector
    frontier: Version


class Column(NamedTuple):
    """A column of a HISTORY chunk as it is stored, `raw` bytes long when it is not compressed."""

    method: int
    raw: int
    stored: bytes


class Encoded:
    """Data whose chunks have been found and whose checksums are right."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id = b""  # the document's, or the beginning of it, or nothing
        self.head: Column | None = None  # the summary
        self.text: Column | None = None
        self.columns: list[Column] = []
        self.run: tuple[int, int] | None = None  # where the payload of a RUN chunk is
        self.sizes: dict[str, int] = {}  # bytes by chunk and column

    @property
    def whole(self) -> bool:
        """Whether this is a whole document, not an update."""
        return self.head is not None

    @cached_property
    def raw_summary(self) -> bytes:
        """The summary, not decoded."""
        assert self.head is not None
        return expand(self.head, "summary", None)

    @cached_property
    def kind(self) -> str:
        """The document's kind. `DecodeError`."""
        return decode_kind(Reader(self.raw_summary))

    @cached_property
    def summary(self) -> Summary:
        """The summary of a whole document. `DecodeError`. O(its bytes)."""
        return decode_summary(self.raw_summary)

    def may_name(self, agent: str) -> bool:
        """False if the summary certainly does not name this agent. Quicker than decoding it."""
        return agent.encode() in self.raw_summary

    def content(self, values: bool) -> Packed | None:
        """The cached content in the packed form, None if there is none. `DecodeError`. O(its bytes)."""
        if self.text is None:
            return None
        raw = expand(self.text, "content", None)
        if values:
            found: Packed = codec.read_items(raw)
        else:
            try:
                found = raw.decode()
            except UnicodeDecodeError as error:
                raise DecodeError(f"the content is not UTF-8: {error.reason}", error.start) from None
        return found

    def history(self, values: bool) -> codec.History:
        """The history, decoded. `DecodeError`. O(its bytes)."""
        dictionary = None
        if self.text is not None and any(c.method == ZSTD_AFTER_CONTENT for c in self.columns):
            dictionary = expand(self.text, "content", None)
        raw = [
            expand(column, name, dictionary)
            for column, name in zip(self.columns or EMPTY, Columns._fields, strict=True)
        ]
        columns = Columns(codec.read_names(raw[0]), *raw[1:])
        need = codec.memory_of(columns)
        if need > allowance(len(self.data)):
            raise DecodeError(f"this would take {need >> 20} MiB, too much for its {len(self.data)} bytes")
        return codec.read(columns, self.summary.agents if self.whole else (), values)


EMPTY = [Column(PLAIN, 0, b"")] * len(Columns._fields)


def allowance(size: int) -> int:
    """How much memory data of this size may take."""
    return MEMORY + MEMORY_PER_BYTE * size


# --- writing ------------------------------------------------------------------------------------------------


def encode_document(
    log: OpLog, doc_id: bytes, summary: Summary, content: Packed | None, deleted: bool = True
) -> bytes:
    """A whole document, with the content cached unless it is None, with what was deleted unless not."""
    dictionary = None
    text = None
    if content is not None:
        dictionary = content.encode() if isinstance(content, str) else codec.write_items(content)
        text = pack(dictionary, method=LZ4)
    keep = None if deleted else codec.survivors(log)
    columns = codec.write(log, [(0, len(log))] if len(log) else [], summary.agents, keep)
    data = b""
    for compressed in (True, False):
        out = [header(WHOLE_ID, doc_id)]
        add_chunk(out, SUMMARY, whole(pack(encode_summary(summary))))
        if text is not None:
            add_chunk(out, CONTENT, whole(text))
        add_chunk(out, HISTORY | LAST, history(columns, dictionary, compressed))
        data = b"".join(out)
        # Whoever reads it must not have to believe that few bytes make a large document.
        if codec.memory_of(columns) <= allowance(len(data)):
            break
    return data


def encode_update(log: OpLog, doc_id: bytes, ranges: Sequence[tuple[int, int]]) -> bytes:
    """The events in some ranges of local versions, for those who hold what is before."""
    out = [header(PART_OF_ID, doc_id)]
    run = codec.write_run(log, *ranges[0], [], {}, []) if len(ranges) == 1 else None
    if run is not None:
        add_chunk(out, RUN | LAST, run)
    else:
        add_chunk(out, HISTORY | LAST, history(codec.write(log, ranges), None, compressed=True))
    return b"".join(out)


def header(id_form: int, doc_id: bytes) -> bytes:
    return bytes([MAGIC, VERSION | id_form << 4]) + doc_id[: ID_BYTES[id_form]]


def add_chunk(out: list[bytes], kind: int, payload: bytes) -> None:
    """Append a chunk; its checksum begins with the header's bytes."""
    length = b"" if kind & LAST else varint(len(payload))
    out.append(bytes([kind]) + length + payload + checksum(out[0], kind, payload).to_bytes(4, "little"))


def checksum(head: bytes, kind: int, payload: bytes) -> int:
    found: int = google_crc32c.extend(google_crc32c.value(head + bytes([kind])), payload)
    return found


def history(columns: Columns, dictionary: bytes | None, compressed: bool) -> bytes:
    """The payload of a HISTORY chunk."""
    out = []
    for raw in (codec.write_names(columns.agents), *columns[1:]):
        column = pack(raw) if compressed else Column(PLAIN, len(raw), raw)
        if dictionary is not None and compressed and raw is columns.content:
            column = pack(raw, dictionary)
        out += [varint(len(column.stored) << 2 | column.method)]
        if column.method != PLAIN:
            out.append(varint(column.raw))
        out.append(column.stored)
    return b"".join(out)


def pack(raw: bytes, dictionary: bytes | None = None, method: int = ZSTD) -> Column:
    """Compress a column if that saves anything."""
    if len(raw) >= WORTH_COMPRESSING:
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
        if len(stored) < len(raw) and CONTENT_FACTOR * len(raw) <= allowance(len(stored)):
            return Column(method, len(raw), stored)
    return Column(PLAIN, len(raw), raw)


def whole(column: Column) -> bytes:
    """A column that is all of its chunk's payload."""
    return bytes([column.method]) + (varint(column.raw) if column.method != PLAIN else b"") + column.stored


def as_dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def encode_summary(summary: Summary) -> bytes:
    kind = summary.kind.encode()
    out = [varint(len(kind)), kind, varint(summary.events), varint(summary.length)]
    names = codec.write_names(summary.agents)
    out += [varint(len(names)), names]
    for agent in summary.agents:
        ranges = summary.vector[agent]
        out.append(varint(len(ranges)))
        at = 0
        for start, end in ranges:
            out += [varint(start - at), varint(end - start)]
            at = end
    numbers = {name: i for i, name in enumerate(summary.agents)}
    for agent, seq in summary.frontier:
        out += [varint(numbers[agent]), varint(seq)]
    return b"".join(out)


# --- reading ------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Encoded:
    """Find the chunks and verify all checksums; nothing is believed before. O(bytes).

    `DecodeError`, with the offset, for what is damaged or of a version or with a chunk that is not known.
    """
    found = Encoded(data)
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
    head = data[:at]
    found.id = head[2:]
    seen = last = 0
    while not last:
        at, last, kind = parse_chunk(found, head, at)
        if kind and seen >= kind:
            raise DecodeError(f"chunk {NAMES[kind]} is not in its place", at)
        seen = kind or seen
    if found.head is None and found.text is not None:
        raise DecodeError("there is content without a summary", len(head))
    return found


def parse_chunk(found: Encoded, head: bytes, at: int) -> tuple[int, int, int]:
    """One chunk: where the next one begins, whether this is the last, and its type (0: skipped)."""
    data = found.data
    start = at
    if at >= len(data):
        raise DecodeError("this ends before its last chunk", at)
    kind = data[at]
    last = kind & LAST
    length = len(data) - at - 5
    at += 1
    if not last:
        length, at = read_varint(data, at)
    if not 0 <= length <= len(data) - at - 4:
        raise DecodeError(f"a chunk of {length} bytes begins at {start}, {len(data) - at} are left", start)
    payload = data[at : at + length]
    end = at + length + 4
    if checksum(head, kind, payload) != int.from_bytes(data[end - 4 : end], "little"):
        raise DecodeError(f"the chunk of {length} bytes at {start} is damaged: its checksum is wrong", start)
    number = kind & TYPE
    if number not in NAMES:
        if kind & OPTIONAL:
            return end, last, 0
        raise DecodeError(f"chunk {number} at {start} is required, but not known here", start)
    name = NAMES[number]
    found.sizes[name] = end - start
    try:
        if number == SUMMARY:
            found.head = column_of(payload, len(data))
        elif number == CONTENT:
            found.text = column_of(payload, len(data))
        elif number == HISTORY:
            parse_columns(found, payload)
        else:
            found.run = (at, at + length)
    except DecodeError as error:
        raise DecodeError(f"chunk {name} at {start}: {error}", at + (error.offset or 0)) from None
    return end, last, number


def column_of(payload: bytes, size: int) -> Column:
    """The only column of a chunk."""
    if not payload:
        raise DecodeError("it is empty", 0)
    method = payload[0]
    if method == PLAIN:
        return Column(PLAIN, len(payload) - 1, payload[1:])
    raw, at = read_varint(payload, 1)
    return checked(Column(method, raw, payload[at:]), size)


def parse_columns(found: Encoded, payload: bytes) -> None:
    at = 0
    for name in Columns._fields:
        start = at
        x, at = read_varint(payload, at)
        method, length = x & 3, x >> 2
        raw = length
        if method != PLAIN:
            raw, at = read_varint(payload, at)
        if length > len(payload) - at:
            raise DecodeError(f"column {name} has {length} bytes, {len(payload) - at} are left", at)
        column = checked(Column(method, raw, payload[at : at + length]), len(found.data))
        if column.method == ZSTD_AFTER_CONTENT and found.text is None:
            raise DecodeError(f"column {name} needs the content, which is not here", start)
        found.columns.append(column)
        at += length
        found.sizes[f"HISTORY.{name}"] = at - start
    if at < len(payload):
        raise DecodeError(f"there are {len(payload) - at} bytes too many", at)


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
        return column.stored
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


def decode_kind(reader: Reader) -> str:
    try:
        return reader.take(reader.number()).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"the kind is not UTF-8: {error.reason}", error.start) from None


def decode_summary(data: bytes) -> Summary:
    """`DecodeError` for what cannot be."""
    reader = Reader(data)
    kind = decode_kind(reader)
    events, length = reader.number(), reader.number()
    agents = codec.read_names(reader.take(reader.number()))
    if len(set(agents)) != len(agents):
        raise DecodeError("an agent is named twice", reader.at)
    vector: VersionVector = {}
    for agent in agents:
        ranges: list[tuple[int, int]] = []
        at = 0
        for _ in range(reader.number()):
            start = at + reader.number()
            at = start + reader.number()
            if at == start or (ranges and start == ranges[-1][1]) or at > MAX_SEQ:
                raise DecodeError(
                    f"{start}:{at} is no range of seqs, or not apart from the one before", reader.at
                )
            ranges.append((start, at))
        if not ranges:
            raise DecodeError(f"agent {agent!r} has no events", reader.at)
        vector[agent] = ranges
    frontier = []
    while reader.at < len(data):
        number, seq = reader.number(), reader.number()
        if number >= len(agents) or not any(start <= seq < end for start, end in vector[agents[number]]):
            raise DecodeError(f"a head is event {seq} of agent {number}, which is not held", reader.at)
        frontier.append((agents[number], seq))
    if frontier != sorted(set(frontier)) or bool(frontier) != bool(events):
        raise DecodeError("the heads are not ascending, or there are none", reader.at)
    if sum([end - start for ranges in vector.values() for start, end in ranges]) != events:
        raise DecodeError(f"the version vector does not have {events} events", reader.at)
    return Summary(kind, events, length, agents, vector, tuple(frontier))


MAX_SEQ = 1 << 53
