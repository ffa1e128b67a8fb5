"""The records of `.egw` files: a snapshot and then a log of what came after it, each record checked.

A file is 16 bytes of header and then records, without gaps. All integers are little-endian.

    file header     6 bytes   "EGWALK"
                    u16       version of this format: 1
                    8 bytes   generation: random, another one for each file that is written anew
    record header   4 bytes   marker: the first four bytes of the generation
                    u32       CRC-32 of the rest of this header and the payload, begun with the generation's
                              (in zlib's terms: crc32(rest + payload, crc32(generation)))
                    u64       length of the payload in bytes
                    u8        type
    payload

    type 1, SNAPSHOT   `Document.encode()`. The first record, and only that.
    type 2, UPDATE     `Document.encode(since=...)` of what the records before it lack.
    type 3, END        The file was closed: u64 number of records before this one, u64 its own offset in
                       bytes. The last record, and only that. Whoever appends removes it first, or writes
                       over all of it.
    type 128 to 255    Optional: who does not know them skips them, and drops them when compacting.
    any other type     Refused.

Writers append a record with one write and one fsync; only then is it stored. A file is made, and replaced
when it is compacted, under another name (`.NAME.xxxxxxxx.compact`), synced, locked, and given its name in one
step, after which its folder is synced. So the snapshot is always whole. (A file's own name can have 237
bytes.)

A reader checks a length against the file's size before anything else. `read` refuses a file with any damage.
To write, `EgwFile.open` cuts off a *torn tail*: bytes at the end that are no whole record, and in which no
marker begins one. It is what a crash leaves of the last append, which was not acknowledged. What is not
whole and has a whole record after it is *damage*, and so is a bad snapshot; such a file is refused and left
alone. The limits: if the last record of all is damaged later on, it looks torn and is dropped, with a
warning; closed files have END after it. Rewriting bytes that are stored already with the same bytes must not
harm them, since the last sector is shared with what is appended.

One process writes at a time: it holds `flock` on the file, and on its successor before that takes the name.
Whoever gets the lock checks that the file is still the one of that name.
"""

import os
import secrets
import struct
import zlib
from typing import NamedTuple

from egwalker.cycore.errors import DecodeError, EgwalkerError, KindError
from egwalker.document import Document

Buffer = bytes | bytearray | memoryview

MAGIC, VERSION = b"EGWALK", 1
SNAPSHOT, UPDATE, END, OPTIONAL = 1, 2, 3, 128
FILE_HEADER = struct.Struct("<6sH8s")
RECORD_HEADER = struct.Struct("<4sIQB")
UNCHECKED = 8
"""So many bytes of a record header are before those that its checksum covers."""
TOTALS = struct.Struct("<QQ")
END_BYTES = RECORD_HEADER.size + TOTALS.size

MAX_CANDIDATES = 100
"""More markers than this in what looks like a torn tail: nobody's crash leaves that."""


class Record(NamedTuple):
    """A whole record: the offsets in bytes of its header and of what follows it, its type and payload."""

    start: int
    end: int
    kind: int
    payload: memoryview


class Damage(NamedTuple):
    """Bytes that are no record: where they begin, what is wrong, where the next whole record is, if any."""

    offset: int
    reason: str
    next_record: int | None


class Scan(NamedTuple):
    """What a file consists of: its records up to the first damage, which is None if there is none."""

    generation: bytes
    records: list[Record]
    damage: Damage | None

    @property
    def closed(self) -> bool:
        """Whether the last record is an END."""
        return self.records[-1].kind == END

    def bytes_of(self, kind: int) -> int:
        """The payloads of one type, in bytes."""
        return sum([len(record.payload) for record in self.records if record.kind == kind])


def frame(generation: bytes, kind: int, payload: Buffer) -> bytes:
    """A record with its header."""
    header = RECORD_HEADER.pack(generation[:4], 0, len(payload), kind)
    crc = zlib.crc32(payload, zlib.crc32(header[UNCHECKED:], zlib.crc32(generation)))
    return RECORD_HEADER.pack(generation[:4], crc, len(payload), kind) + payload


def frame_file(generation: bytes, snapshot: Buffer) -> bytes:
    """A closed file that holds one snapshot."""
    start = FILE_HEADER.pack(MAGIC, VERSION, generation) + frame(generation, SNAPSHOT, snapshot)
    return start + frame(generation, END, TOTALS.pack(1, len(start)))


def record_at(data: memoryview, generation: bytes, start: int) -> Record:
    """The record whose header is at `start`; `DecodeError` if there is no whole one."""
    payload = start + RECORD_HEADER.size
    if payload > len(data):
        raise DecodeError(f"byte {start}: the file ends within a record's header", start)
    marker, crc, length, kind = RECORD_HEADER.unpack_from(data, start)
    if marker != generation[:4]:
        raise DecodeError(f"byte {start}: no record begins here", start)
    if length > len(data) - payload:
        raise DecodeError(
            f"byte {start}: a record of {length} bytes, but {len(data) - payload} follow", start
        )
    end = payload + length
    if zlib.crc32(data[start + UNCHECKED : end], zlib.crc32(generation)) != crc:
        raise DecodeError(f"byte {start}: a record does not fit its checksum", start)
    return Record(start, end, kind, data[payload:end])


def next_record(data: memoryview, generation: bytes, start: int) -> int | None:
    """Where the first whole record after `start` begins; None if there is none. O(bytes after `start`).

    Beyond `MAX_CANDIDATES` markers it is taken to be the next one.
    """
    tail = bytes(data[start:])
    at = tail.find(generation[:4], 1)
    for _ in range(MAX_CANDIDATES):
        if at < 0:
            return None
        try:
            return record_at(data, generation, start + at).start
        except DecodeError:
            at = tail.find(generation[:4], at + 1)
    return start + at if at >= 0 else None


def check_place(record: Record, number: int, closed: bool) -> None:
    """Refuse a whole record that cannot be the one with this number (from 0), or not after an END."""
    if record.kind not in (SNAPSHOT, UPDATE, END) and record.kind < OPTIONAL:
        raise DecodeError(
            f"byte {record.start}: a record of type {record.kind}, which is not known", record.start
        )
    if (record.kind == SNAPSHOT) != (number == 0):
        raise DecodeError(f"byte {record.start}: a snapshot is the first record and only that", record.start)
    if closed:
        raise DecodeError(f"byte {record.start}: a record after the end of the file", record.start)
    if record.kind == END and bytes(record.payload) != TOTALS.pack(number, record.start):
        raise DecodeError(
            f"byte {record.start}: the file was closed with other records before its end", record.start
        )


def scan(data: Buffer) -> Scan:
    """The records of a file. `DecodeError` for what no crash leaves, except damage after the snapshot."""
    if len(data) < FILE_HEADER.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise DecodeError("byte 0: this is no .egw file", 0)
    _, version, generation = FILE_HEADER.unpack_from(data)
    if version != VERSION:
        raise DecodeError(f"byte 6: version {version} of .egw files is not known, only {VERSION}", 6)
    view = memoryview(data)
    records: list[Record] = []
    at = FILE_HEADER.size
    while at < len(view) or not records:
        try:
            record = record_at(view, generation, at)
        except DecodeError as error:
            if not records:
                raise
            return Scan(generation, records, Damage(at, str(error), next_record(view, generation, at)))
        check_place(record, len(records), bool(records) and records[-1].kind == END)
        records.append(record)
        at = record.end
    return Scan(generation, records, None)


def replay(records: list[Record], agent: str | None) -> Document:
    """The document that records make. `DecodeError` with the offset of one that does not fit, `KindError`."""
    document = None
    for record in records:
        try:
            if document is None:
                document = Document.decode(bytes(record.payload), agent)
            elif record.kind == UPDATE:
                document.apply(bytes(record.payload))
                if document.pending:
                    raise DecodeError(f"{document.pending} events lack what they were made after")
        except KindError:
            raise
        except EgwalkerError as error:
            raise DecodeError(f"byte {record.start}: in this record: {error}", record.start) from error
    assert document is not None, "a scan without a snapshot"
    return document


class Report(NamedTuple):
    """What a file was found to consist of; payloads are counted in bytes, without headers.

    `closed`: it ends as `EgwFile.close` leaves it, not as a crash or a writer at work does.
    """

    size: int
    records: int
    updates: int
    snapshot_bytes: int
    update_bytes: int
    closed: bool
    damage: Damage | None


def read(
    source: Buffer | str | os.PathLike[str], agent: str | None = None, *, salvage: bool = False
) -> tuple[Document, Report]:
    """The document in a file or its bytes, and what was found. Nothing is locked or changed.

    `DecodeError`, with its offset in bytes, for any damage; with `salvage` only for that to the snapshot, and
    the document is that of the records before the damage. A file that is whole but not closed is no error.
    Also `KindError` for a kind that no plugin provides, `OSError`.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:
            source = stream.read()
    found = scan(source)
    if found.damage is not None and not salvage:
        raise DecodeError(found.damage.reason, found.damage.offset)
    kinds = [record.kind for record in found.records]
    report = Report(
        len(source),
        len(kinds),
        kinds.count(UPDATE),
        found.bytes_of(SNAPSHOT),
        found.bytes_of(UPDATE),
        found.closed,
        found.damage,
    )
    return replay(found.records, agent), report


def dumps(document: Document, *, content: bool = True, deleted: bool = True) -> bytes:
    """A closed file that holds one document; `content` and `deleted` are those of `Document.encode`."""
    return frame_file(secrets.token_bytes(8), document.encode(content=content, deleted=deleted))
