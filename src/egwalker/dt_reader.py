"""Reads the chunks and columns of `.dt` files; `egwalker.diamond_types` says what they are."""

import codecs
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, NoReturn

import google_crc32c
import lz4.block

from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import AgentError, DecodeError, EgwalkerError
from egwalker.cycore.oplog import OpLog
from egwalker.txns import STRIDE
from egwalker.versions import Id, Version, check_agent

MAGIC = b"DMNDTYPS"
PROTOCOL = 0
PLAIN_TEXT = 4
"""The type of a string, written before it."""
INSERTED, DELETED = 0, 1
"""Which operations a chunk of content belongs to."""

MIN_COMPRESSED = 20
"""Content of fewer bytes is stored as it is, as Diamond Types does."""
MAX_BLOCK = 0x7E000000
"""LZ4 compresses no more than this at once."""
FREE_BYTES = 8 << 20
MAX_RATIO = 6
"""A file unpacks to at most `FREE_BYTES` + `MAX_RATIO` times its length: a small one must not fill memory."""
BLOCK = 1 << 16
"""So many bytes of text are decoded at once."""
MAX_POS = (1 << 31) - 1
MAX_ERASED = 1 << 24
"""Each event of a run that erases backwards is an operation here, so that a few bytes could keep us busy."""
MAX_ERASED_RUNS = 1 << 19
"""The same for `runs`, which holds them all at once."""
MAX_NAME = 49
ROOT_NAME = "ROOT"
"""Diamond Types stops at agents of longer names (in bytes of UTF-8) or of this one."""


class Chunk(IntEnum):
    """The types of chunks."""

    FILE_INFO = 1
    DOC_ID = 2
    AGENT_NAMES = 3
    USER_DATA = 4
    COMPRESSED_LZ4 = 5
    START_BRANCH = 10
    END_BRANCH = 11
    VERSION = 12
    CONTENT = 13
    CONTENT_COMPRESSED = 14
    PATCHES = 20
    OP_VERSIONS = 21
    OPERATIONS = 22
    OP_PARENTS = 23
    PATCH_CONTENT = 24
    CONTENT_IS_KNOWN = 25
    CRC = 100


TYPES = {int(kind): kind for kind in Chunk}

TYPE, DELETE, ERASE = range(3)
"""What an operation does: erasing goes backwards."""
NOTHING = (TYPE, 0, 0, 0)

Ops = list[tuple[int, int, str]]


class Part(NamedTuple):
    """Where in the file something lies, half-open."""

    start: int
    end: int


class Row(NamedTuple):
    """Events of one agent, each but the first with its predecessor as only parent: what `OpLog.add` takes."""

    agent: str
    seq: int
    parents: Version
    ops: Ops
    length: int


class Branch(NamedTuple):
    """A version that a file names, and where; its content, if that is stored."""

    version: Version
    at: int
    content: "Content | None"


class Content(NamedTuple):
    """A text within the file, or the bytes `start:end` of what is compressed in it."""

    compressed: bool
    start: int
    end: int
    at: int


# --- public ------------------------------------------------------------------------------------------------


def fail(at: int, reason: str) -> NoReturn:
    """Raise a `DecodeError` for the byte at `at`."""
    raise DecodeError(f"at byte {at}: {reason}", at)


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    value = shift = 0
    for i in range(at, min(end, at + 10)):
        byte = data[i]
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, i + 1
        shift += 7
    else:
        if end - at < 10:
            fail(end, "a number is cut off")
    fail(at, "a number has more than 64 bits")


def varints(data: bytes, part: Part) -> "array[int]":
    """All numbers of a column."""
    found = array("Q")
    append = found.append
    value = shift = 0
    for byte in memoryview(data)[part.start : part.end]:
        if byte < 128:
            if shift:
                value |= byte << shift
                if value >> 64:
                    fail(locate(data, part, len(found)), "a number has more than 64 bits")
                append(value)
                value = shift = 0
            else:
                append(byte)
        else:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                fail(locate(data, part, len(found)), "a number has more than 64 bits")
    if shift:
        fail(part.end, "a number is cut off")
    return found


def locate(data: bytes, part: Part, index: int) -> int:
    """Where the number `index` of a column starts."""
    for at in range(part.start, part.end):
        if not index:
            return at
        index -= data[at] < 128
    return part.end


def signed(number: int) -> int:
    """A number whose sign is in its lowest bit."""
    return -(number >> 1) if number & 1 else number >> 1


def chunks(data: bytes, part: Part) -> Iterator[tuple[int, Part, int]]:
    """Type, payload and start of each chunk."""
    at = part.start
    while at < part.end:
        kind, after = varint(data, at, part.end)
        length, start = varint(data, after, part.end)
        if length > part.end - start:
            fail(at, f"a chunk of type {kind} should have {length} bytes, but {part.end - start} are left")
        yield kind, Part(start, start + length), at
        at = start + length


def sections(data: bytes, part: Part, order: tuple[Chunk, ...]) -> dict[Chunk, Part]:
    """The chunks by type. They come in this order, each once at most; unknown ones are skipped."""
    found: dict[Chunk, Part] = {}
    last = -1
    for number, inside, at in chunks(data, part):
        kind = TYPES.get(number)
        if kind is None:
            continue
        if kind not in order or order.index(kind) <= last:
            fail(at, f"a chunk {kind.name} does not belong here")
        last = order.index(kind)
        found[kind] = inside
    return found


def needed(found: dict[Chunk, Part], kind: Chunk, part: Part) -> Part:
    """One of `sections`, which must be there."""
    if kind not in found:
        fail(part.end, f"the chunk {kind.name} is missing")
    return found[kind]


def utf8(data: bytes, part: Part, what: str) -> str:
    """A short text."""
    try:
        return data[part.start : part.end].decode()
    except UnicodeDecodeError as error:
        fail(part.start + error.start, f"{what} is not UTF-8")


class Reader:
    """A file whose checksum was compared, and whose columns are read by `rows`."""

    def __init__(self, data: bytes) -> None:
        self.data = data = bytes(data)
        """Everything else names bytes of this."""
        if data[: len(MAGIC)] != MAGIC:
            fail(0, f"this is no Diamond Types file: it does not start with {MAGIC.decode()}")
        version, at = varint(data, len(MAGIC), len(data))
        if version != PROTOCOL:
            fail(len(MAGIC), f"this is version {version} of Diamond Types' format; only {PROTOCOL} is known")
        whole = Part(at, len(data))
        top = sections(
            data,
            whole,
            (
                Chunk.COMPRESSED_LZ4,
                Chunk.FILE_INFO,
                Chunk.START_BRANCH,
                Chunk.END_BRANCH,
                Chunk.PATCHES,
                Chunk.CRC,
            ),
        )
        self._check_sum(top.get(Chunk.CRC))
        self._compressed = top.get(Chunk.COMPRESSED_LZ4)
        self._unpacked: bytes | None = None
        self._used = 0  # how many of the compressed bytes are spoken for
        self._read_info(needed(top, Chunk.FILE_INFO, whole))
        self.start = self._read_branch(needed(top, Chunk.START_BRANCH, whole))
        self.end = self._read_branch(top[Chunk.END_BRANCH]) if Chunk.END_BRANCH in top else None
        self._read_patches(needed(top, Chunk.PATCHES, whole))
        self.length = 0
        """How many events there are, once `rows` has begun."""

    def _check_sum(self, part: Part | None) -> None:
        if part is None:
            return
        if part.end - part.start != 4:
            fail(part.start, f"a checksum has 4 bytes, not {part.end - part.start}")
        if part.end != len(self.data):
            fail(part.end, f"{len(self.data) - part.end} bytes follow the checksum")
        stored = int.from_bytes(self.data[part.start : part.end], "little")
        # It covers what is before its chunk, whose type and length take a byte each.
        covered = part.start - 2
        found = google_crc32c.value(self.data[:covered])
        if stored != found:
            fail(part.start, f"the file is damaged: its checksum is {found:08x}, not {stored:08x}")

    def _read_info(self, part: Part) -> None:
        data = self.data
        found = sections(data, part, (Chunk.DOC_ID, Chunk.AGENT_NAMES, Chunk.USER_DATA))
        self.doc_id: str | None = None
        if Chunk.DOC_ID in found:
            inside = found[Chunk.DOC_ID]
            self.doc_id = utf8(data, Part(self._plain(inside), inside.end), "the document's id")
        self.names: list[str] = []
        names = needed(found, Chunk.AGENT_NAMES, part)
        at = names.start
        while at < names.end:
            length, start = varint(data, at, names.end)
            if length > names.end - start:
                fail(at, f"a name should have {length} bytes, but {names.end - start} are left")
            name = utf8(data, Part(start, start + length), "an agent's name")
            try:
                self.names.append(check_agent(name))
            except AgentError as error:
                fail(at, str(error))
            at = start + length

    def _plain(self, part: Part) -> int:
        """Where a string starts whose type is before it."""
        kind, at = varint(self.data, part.start, part.end)
        if kind != PLAIN_TEXT:
            fail(part.start, f"content of type {kind} is no plain text, which is {PLAIN_TEXT}")
        return at

    def _read_branch(self, part: Part) -> Branch:
        order = (Chunk.VERSION, Chunk.CONTENT, Chunk.CONTENT_COMPRESSED)
        found = sections(self.data, part, order)
        version: list[Id] = []
        at = part.start
        if Chunk.VERSION in found:
            inside = found[Chunk.VERSION]
            numbers = varints(self.data, inside)
            at = inside.start
            more = True
            for i in range(0, len(numbers), 2):
                if not more:
                    fail(locate(self.data, inside, i), "a version goes on after its end")
                more = bool(numbers[i] & 1)
                if i + 1 == len(numbers):
                    fail(inside.end, "a version is cut off")
                if numbers[i] > 1:
                    version.append((self._name(numbers[i] >> 1, inside, i), numbers[i + 1]))
                else:
                    more = False
            if more:
                fail(inside.end, "a version is cut off")
        return Branch(tuple(sorted(version)), at, self._content(found))

    def _name(self, number: int, part: Part, index: int) -> str:
        """The agent that the number `index` of a column stands for."""
        if not 0 < number <= len(self.names):
            fail(
                locate(self.data, part, index),
                f"there is no agent {number} of {len(self.names)}, counted from 1",
            )
        return self.names[number - 1]

    def _content(self, found: dict[Chunk, Part]) -> Content | None:
        """Which bytes a chunk of content means. Those that are compressed follow each other."""
        data = self.data
        if Chunk.CONTENT in found:
            part = found[Chunk.CONTENT]
            start = self._plain(part)
            return Content(False, start, part.end, start)
        if Chunk.CONTENT_COMPRESSED not in found:
            return None
        part = found[Chunk.CONTENT_COMPRESSED]
        at = self._plain(part)
        length, after = varint(data, at, part.end)
        if after != part.end:
            fail(after, "compressed content is a type and a length only")
        if self._compressed is None:
            fail(at, "the chunk COMPRESSED_LZ4 is missing")
        claimed, _ = varint(data, *self._compressed)
        if length > claimed - self._used:
            fail(
                at,
                f"a content should have {length} bytes, but {claimed - self._used} compressed ones are left",
            )
        self._used += length
        return Content(True, self._used - length, self._used, at)

    def _read_patches(self, part: Part) -> None:
        data = self.data
        at = part.start
        self._inserted: Content | None = None
        self._inserts = 0  # how many code points of it there should be
        self._inserted_at = at
        deletes: int | None = None
        seen: set[int] = set()
        for number, inside, start in chunks(data, part):
            if number in TYPES and number != Chunk.PATCH_CONTENT:
                break
            at = inside.end
            if number not in TYPES:
                continue
            tag, after = varint(data, inside.start, inside.end)
            if tag not in (INSERTED, DELETED) or tag in seen:
                fail(
                    inside.start,
                    f"content {tag} should be {INSERTED}, inserted, or {DELETED}, deleted, each once",
                )
            seen.add(tag)
            inner = Part(after, inside.end)
            found = sections(data, inner, (Chunk.CONTENT, Chunk.CONTENT_COMPRESSED, Chunk.CONTENT_IS_KNOWN))
            content = self._content(found)
            if content is None:
                fail(inside.end, "the chunk CONTENT is missing")
            known = varints(data, needed(found, Chunk.CONTENT_IS_KNOWN, inner))
            if tag == INSERTED:
                self._inserted = content
                self._inserts = sum([run >> 1 for run in known if run & 1])
                self._inserted_at = start
                missing = sum([run >> 1 for run in known if not run & 1])
                if missing:
                    fail(start, f"the file leaves out the content of {missing} inserts")
            else:
                deletes = sum([run >> 1 for run in known])
        self._deletes = deletes
        found = sections(data, Part(at, part.end), (Chunk.OP_VERSIONS, Chunk.OPERATIONS, Chunk.OP_PARENTS))
        self._agents = needed(found, Chunk.OP_VERSIONS, part)
        self._ops = needed(found, Chunk.OPERATIONS, part)
        self._parents = needed(found, Chunk.OP_PARENTS, part)

    # Content

    def text(self, content: Content) -> Iterator[str]:
        """A content, a block after the other."""
        source = self._unpack() if content.compressed else self.data
        where = "the compressed content" if content.compressed else "the file"
        decode = codecs.getincrementaldecoder("utf-8")().decode
        for start in range(content.start, content.end, BLOCK):
            end = min(start + BLOCK, content.end)
            try:
                yield decode(source[start:end], end == content.end)
            except UnicodeDecodeError:
                fail(content.at, f"bytes {start}:{end} of {where} are not UTF-8")

    def _unpack(self) -> bytes:
        if self._unpacked is not None:
            return self._unpacked
        assert self._compressed is not None
        start, end = self._compressed
        length, at = varint(self.data, start, end)
        limit = FREE_BYTES + MAX_RATIO * len(self.data)
        if length > limit:
            fail(start, f"{length} compressed bytes are more than the {limit} that such a file may unpack to")
        if length > 255 * (end - at):
            fail(start, f"{end - at} bytes of LZ4 do not unpack to {length}")
        try:
            self._unpacked = lz4.block.decompress(memoryview(self.data)[at:end], uncompressed_size=length)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
            fail(at, f"the compressed content is damaged: {error}")
        if len(self._unpacked) != length:
            fail(start, f"the compressed content has {len(self._unpacked)} bytes, not {length}")
        return self._unpacked

    # Events

    def fail_in(self, part: Part, index: int, reason: str) -> NoReturn:
        """Raise a `DecodeError` for the number `index` of a column."""
        fail(locate(self.data, part, index), reason)

    def _spans(self) -> tuple[list[str], "array[int]", "array[int]"]:
        """Who made the events: agent, first seq and first event of each span; one more is where all end."""
        numbers = varints(self.data, self._agents)
        names: list[str] = []
        seqs, starts = array("Q"), array("Q", [0])
        at = [0] * (len(self.names) + 1)  # each agent's next seq
        length = i = 0
        end = len(numbers)
        while i < end:
            word = numbers[i]
            step = 3 if word & 1 else 2
            if i + step > end:
                self.fail_in(self._agents, end, "the agents' column is cut off")
            number = word >> 1
            name = self._name(number, self._agents, i)
            some = numbers[i + 1]
            seq = at[number] + (signed(numbers[i + 2]) if step == 3 else 0)
            if not 0 <= seq < seq + some <= 1 << 53:
                self.fail_in(self._agents, i, f"{name!r} cannot have made events {seq}:{seq + some}")
            at[number] = seq + some
            names.append(name)
            seqs.append(seq)
            length += some
            if length >> 63:
                self.fail_in(self._agents, i, f"{length} events are too many")
            starts.append(length)
            i += step
        self.length = length
        return names, seqs, starts

    def rows(self, erasable: int) -> Iterator[Row]:
        """The events, in the order of the file. Among them at most `erasable` that erase backwards."""
        names, seqs, starts = self._spans()
        total = self.length
        ops = self._operations(erasable)
        text = Text(() if self._inserted is None else self.text(self._inserted))
        take = text.take
        graph = varints(self.data, self._parents)
        n_graph = len(graph)
        how = pos = left = index = 0  # `left` events of the current operation, the next one at `pos`
        span, span_end, name, seq = -1, 0, "", 0
        lv = g = 0
        last: Version = ()  # the event before
        while g < n_graph:
            entry = g
            end = lv + graph[g]
            if not lv < end <= total:
                self.fail_in(self._parents, g, f"{graph[g]} events from {lv} on are not within 0:{total}")
            g += 1
            if g < n_graph and graph[g] == 4 and last:
                parents = last
                g += 1
            else:
                parents, g = self._read_parents(graph, g, entry, lv, names, seqs, starts)
            while lv < end:
                if lv == span_end:
                    span += 1
                    name, seq, span_end = names[span], seqs[span], starts[span + 1]
                row_end = min(end, span_end)
                start = lv
                row: Ops = []
                while lv < row_end and len(row) < STRIDE:
                    if not left:
                        how, pos, left, index = next(ops, NOTHING)
                        if not left:
                            fail(self._ops.end, f"there are operations of {lv} events, not of {total}")
                    some = min(left, row_end - lv)
                    if how == TYPE:
                        content = take(some)
                        if len(content) < some:
                            self._lacks_content(index)
                        row.append((pos, 0, content))
                        pos += some
                    elif how == DELETE:
                        row.append((pos, some, ""))
                    else:
                        some = min(some, STRIDE)
                        row += [(place, 1, "") for place in range(pos, pos - some, -1)]
                        pos -= some
                    left -= some
                    lv += some
                yield Row(name, seq, parents, row, lv - start)
                seq += lv - start
                parents = last = ((name, seq - 1),)
        if lv < total:
            fail(self._parents.end, f"there are parents of {lv} events, not of {total}")
        if left or next(ops, NOTHING) is not NOTHING:
            fail(self._ops.end, f"there are operations of more than {total} events")
        if take(1):
            fail(self._inserted_at, "there is more content than the operations insert")

    def _operations(self, erasable: int) -> Iterator[tuple[int, int, int, int]]:
        """The operations: what it does, the first event's position, how many events, index in the column."""
        numbers = varints(self.data, self._ops)
        end = len(numbers)
        cursor = inserted = deleted = erased = i = 0
        while i < end:
            first = i
            word = numbers[i]
            i += 1
            how = TYPE
            if not word & 1:
                length = 1
                move = word >> 3
                if word & 4:
                    how = DELETE
            else:
                length = word >> 3
                if word & 4:
                    how = DELETE if length & 1 else ERASE
                    length >>= 1
                move = 0
                if word & 2:
                    if i == end:
                        fail(self._ops.end, "an operation is cut off")
                    move = numbers[i]
                    i += 1
            if move:
                cursor += -(move >> 1) if move & 1 else move >> 1
            pos = cursor
            if how == TYPE:
                cursor += length
                inserted += length
                if inserted > self._inserts:
                    self._lacks_content(first)
            else:
                deleted += length
                if how == ERASE:
                    cursor -= length
                    pos -= 1
                    erased += length
            if length < 1 or min(pos, cursor) < 0 or pos > MAX_POS:
                self.fail_in(self._ops, first, f"an operation on {length} code points at {pos} is impossible")
            if erased > erasable:
                self.fail_in(self._ops, first, f"more than {erasable} events erase backwards")
            yield how, pos, length, first
        if inserted < self._inserts:
            fail(
                self._inserted_at, f"{inserted} code points are inserted, but the content has {self._inserts}"
            )
        if self._deletes not in (None, deleted):
            fail(self._ops.end, f"there is content of {self._deletes} deletes, not of {deleted}")

    def _lacks_content(self, index: int) -> NoReturn:
        reason = "more is inserted than there is content"
        if self._inserted is None:
            reason = "the file leaves out the content of what was inserted"
        self.fail_in(self._ops, index, reason)

    def _read_parents(
        self,
        graph: "array[int]",
        g: int,
        entry: int,
        lv: int,
        names: list[str],
        seqs: "array[int]",
        starts: "array[int]",
    ) -> tuple[Version, int]:
        """The parents of event `lv`, from the number `g` of their column on, and where they end there."""
        parents: list[Id] = []
        try:
            while True:
                word = graph[g]
                g += 1
                number = word >> 2
                if not word & 1:
                    if not 0 < number <= lv:
                        self.fail_in(
                            self._parents, g - 1, f"event {lv} has no event {number} before it as parent"
                        )
                    at = lv - number
                    span = bisect_right(starts, at) - 1
                    parents.append((names[span], seqs[span] + at - starts[span]))
                elif number:
                    parents.append((self._name(number, self._parents, g - 1), graph[g]))
                    g += 1
                else:
                    break
                if not word & 2:
                    break
        except IndexError:
            self.fail_in(self._parents, entry, "the parents' column is cut off")
        return tuple(parents), g

    def offset_of_agent(self, lv: int) -> int:
        """The byte that says who made an event."""
        numbers = varints(self.data, self._agents)
        i = 0
        while i < len(numbers) and lv >= numbers[i + 1]:
            lv -= numbers[i + 1]
            i += 3 if numbers[i] & 1 else 2
        return locate(self.data, self._agents, i)

    def offset_of_op(self, lv: int) -> int:
        """The byte where an event's operation starts."""
        numbers = varints(self.data, self._ops)
        i = 0
        while i < len(numbers):
            word = numbers[i]
            lv -= (word >> (4 if word & 4 else 3)) if word & 1 else 1
            if lv < 0:
                break
            i += 2 if word & 3 == 3 else 1
        return locate(self.data, self._ops, i)


class Text:
    """Blocks of a text, taken by lengths."""

    def __init__(self, blocks: Iterable[str]) -> None:
        self._blocks = iter(blocks)
        self._block = ""
        self._used = 0

    def take(self, length: int) -> str:
        """The next `length` code points, or all that are left."""
        start = self._used
        self._used = end = start + length
        if end <= len(self._block):
            return self._block[start:end]
        parts = [self._block[start:]]
        left = length - len(parts[0])
        for block in self._blocks:
            self._block, self._used = block, left
            parts.append(block[:left])
            left -= len(parts[-1])
            if not left:
                break
        return "".join(parts)


def compare(reader: Reader, log: OpLog, main: Checkout) -> bool | None:
    """Whether the text is the one that the file stores for its end, if it stores one."""
    end = reader.end
    if end is None or end.content is None:
        return None
    at_end = main
    if end.version != main.ids:
        at_end = Checkout(log)
        try:
            at_end.merge([log.graph.lv(*parent) for parent in end.version])
        except EgwalkerError as error:
            fail(end.at, f"the version at the end: {error}")
    at = 0
    found = at_end.content()
    for block in reader.text(end.content):
        if found[at : at + len(block)] != block:
            fail(end.content.at, "the text at the end is another than the events make")
        at += len(block)
    if at != len(found):
        fail(end.content.at, f"the text at the end has {at} code points, but the events make {len(found)}")
    return True
