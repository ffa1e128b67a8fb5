"""Writes `.dt` files; `egwalker.diamond_types` says what is in them."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import google_crc32c
import lz4.block

from egwalker.cycore.errors import AgentError
from egwalker.cycore.graph import Graph
from egwalker.cycore.graph import Run as GraphRun
from egwalker.cycore.oplog import OpLog
from egwalker.dt_reader import (
    DELETE,
    ERASE,
    FREE_BYTES,
    INSERTED,
    MAGIC,
    MAX_BLOCK,
    MAX_NAME,
    MAX_RATIO,
    MIN_COMPRESSED,
    PLAIN_TEXT,
    PROTOCOL,
    ROOT_NAME,
    TYPE,
    Chunk,
)


def push(out: bytearray, number: int) -> None:
    """Append a varint."""
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def to_signed(number: int) -> int:
    """The inverse of `signed`."""
    return -number << 1 | 1 if number < 0 else number << 1


def chunk(kind: Chunk, payload: bytes | bytearray) -> bytes:
    """A chunk with its header."""
    out = bytearray()
    push(out, kind)
    push(out, len(payload))
    return bytes(out + payload)


class Writer:
    """Encodes the events in ascending half-open ranges of a log's local versions, in their order."""

    def __init__(self, log: OpLog, ranges: list[tuple[int, int]], document_id: str) -> None:
        self.log = log
        self.graph: Graph = log.graph
        self.ranges = ranges
        self.document_id = document_id
        self._numbers: dict[str, int] = {}  # of agents, in the order of their names in the file
        self._names = bytearray()
        self._starts = [lo for lo, _ in ranges]
        self._places = list(accumulate([hi - lo for lo, hi in ranges], initial=0))

    def encode(self) -> bytes:
        """The file."""
        agents, parents = self._columns()
        ops, inserted = self._operations()
        start = self._start()
        info = chunk(Chunk.DOC_ID, bytes([PLAIN_TEXT]) + self.document_id.encode())
        info += chunk(Chunk.AGENT_NAMES, self._names)
        out = bytearray(MAGIC)
        push(out, PROTOCOL)
        patches = bytearray()
        if inserted:
            block, content = packed(inserted.encode())
            out += block
            known = bytearray()
            push(known, len(inserted) << 1 | 1)
            patches += chunk(
                Chunk.PATCH_CONTENT, bytes([INSERTED]) + content + chunk(Chunk.CONTENT_IS_KNOWN, known)
            )
        patches += chunk(Chunk.OP_VERSIONS, agents)
        patches += chunk(Chunk.OPERATIONS, ops)
        patches += chunk(Chunk.OP_PARENTS, parents)
        out += chunk(Chunk.FILE_INFO, info)
        out += chunk(Chunk.START_BRANCH, start)
        out += chunk(Chunk.PATCHES, patches)
        return bytes(out) + chunk(Chunk.CRC, google_crc32c.value(bytes(out)).to_bytes(4, "little"))

    def _number(self, name: str) -> int:
        """The number of an agent, a new one if need be."""
        number = self._numbers.get(name)
        if number is None:
            encoded = name.encode()
            if len(encoded) > MAX_NAME or name == ROOT_NAME:
                raise AgentError(
                    f"in Diamond Types a name has up to {MAX_NAME} bytes and is not {ROOT_NAME}, unlike"
                    f" {name!r}"
                )
            number = self._numbers[name] = len(self._numbers) + 1
            push(self._names, len(encoded))
            self._names += encoded
        return number

    def _columns(self) -> tuple[bytearray, bytearray]:
        """Who made the events, and their parents."""
        agents, parents = bytearray(), bytearray()
        next_seq: dict[str, int] = {}
        name, length, jump = "", 0, 0  # the span that is not written yet
        entry = bytearray()  # the parents of the entry that is not written yet, of `joined` events
        joined = 0
        for run, at in self._runs():
            some = run.end - run.start
            delta = run.seq - next_seq.get(run.agent, 0)
            if run.agent == name and not delta:
                length += some
            else:
                self._push_span(agents, name, length, jump)
                name, length, jump = run.agent, some, delta
            next_seq[run.agent] = run.seq + some
            if joined and run.parents == (run.start - 1,) and self._place(run.start - 1) == at - 1:
                joined += some
                continue
            if joined:
                push(parents, joined)
                parents += entry
            joined = some
            entry = self._parents(run.parents, at)
        if joined:
            push(parents, joined)
            parents += entry
            self._push_span(agents, name, length, jump)
        return agents, parents

    def _runs(self) -> Iterator[tuple[GraphRun, int]]:
        """Runs of the graph within the ranges, and their places in the file."""
        at = 0
        for lo, hi in self.ranges:
            for run in self.graph.runs(lo, hi):
                yield run, at
                at += run.end - run.start

    def _push_span(self, out: bytearray, name: str, length: int, jump: int) -> None:
        if length:
            push(out, self._number(name) << 1 | bool(jump))
            push(out, length)
            if jump:
                push(out, to_signed(jump))

    def _parents(self, lvs: tuple[int, ...], at: int) -> bytearray:
        """The parents of the event at place `at`."""
        out = bytearray()
        for i, lv in enumerate(lvs):
            more = 2 if i + 1 < len(lvs) else 0
            place = self._place(lv)
            if place is not None:
                push(out, (at - place) << 2 | more)
            else:
                name, seq = self.graph.id(lv)
                push(out, self._number(name) << 2 | more | 1)
                push(out, seq)
        if not lvs:
            push(out, 1)
        return out

    def _place(self, lv: int) -> int | None:
        """How many events come before this one in the file; None if it is not in it."""
        i = bisect_right(self._starts, lv) - 1
        if i < 0 or lv >= self.ranges[i][1]:
            return None
        return self._places[i] + lv - self.ranges[i][0]

    def _operations(self) -> tuple[bytearray, str]:
        """The operations, and what they insert."""
        out = bytearray()
        inserted: list[str] = []
        cursor = 0
        typed, typed_at = 0, 0  # what was typed last and is not written yet
        for lo, hi in self.ranges:
            for op in self.log.ops(lo, hi):
                if op.kind == "insert":
                    assert isinstance(op.content, str)
                    inserted.append(op.content)
                    if op.step:
                        # The log cuts what was typed where its code points become wider.
                        if typed and op.pos == typed_at + typed:
                            typed += op.length
                        else:
                            cursor = self._push_op(out, cursor, TYPE, typed_at, typed)
                            typed, typed_at = op.length, op.pos
                        continue
                cursor = self._push_op(out, cursor, TYPE, typed_at, typed)
                typed = 0
                if op.kind == "insert":
                    for _ in range(op.length):
                        cursor = self._push_op(out, cursor, TYPE, op.pos, 1)
                else:
                    how = ERASE if op.step else DELETE
                    cursor = self._push_op(out, cursor, how, op.pos, op.length)
        self._push_op(out, cursor, TYPE, typed_at, typed)
        return out, "".join(inserted)

    def _push_op(self, out: bytearray, cursor: int, how: int, pos: int, length: int) -> int:
        """Append an operation of `length` events, if that is not 0; returns where it leaves the cursor."""
        if not length:
            return cursor
        erases = how == ERASE and length > 1
        move = to_signed(pos + erases - cursor)
        flags = (4 if how != TYPE else 0) | (2 if move else 0)
        if length == 1:
            push(out, move << 3 | flags)
        else:
            if how != TYPE:
                length = length << 1 | (not erases)
            push(out, length << 3 | flags | 1)
            if move:
                push(out, move)
            if how != TYPE:
                length >>= 1
        if how == TYPE:
            return pos + length
        return pos + 1 - length if erases else pos

    def _start(self) -> bytes:
        """The version before all events of the file, which is empty for a whole history."""
        ends = []
        at = 0
        for lo, hi in [*self.ranges, (len(self.log), len(self.log))]:
            ends += [run.end - 1 for run in self.graph.runs(at, lo)]
            at = hi
        heads = self.graph.dominators(ends)
        if not heads:
            return b""
        out = bytearray()
        for i, lv in enumerate(heads):
            name, seq = self.graph.id(lv)
            push(out, self._number(name) << 1 | (i + 1 < len(heads)))
            push(out, seq)
        return chunk(Chunk.VERSION, out)


def packed(content: bytes) -> tuple[bytes, bytes]:
    """The chunk of compressed bytes, perhaps none, and that of the content."""
    length = len(content)
    if MIN_COMPRESSED <= length <= MAX_BLOCK:
        block = lz4.block.compress(content, mode="high_compression", store_size=False)
        # Not if the file were to unpack to more than we read.
        if length <= FREE_BYTES + MAX_RATIO * len(block):
            size = bytearray()
            push(size, length)
            header = bytes([PLAIN_TEXT]) + size
            return chunk(Chunk.COMPRESSED_LZ4, size + block), chunk(Chunk.CONTENT_COMPRESSED, header)
    return b"", chunk(Chunk.CONTENT, bytes([PLAIN_TEXT]) + content)
