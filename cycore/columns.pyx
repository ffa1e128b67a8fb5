"""What the columns of an encoded history are made of: varints, names, and the texts of a list's values.

What each column holds, to the byte, is in docs/format.md. Chunks, checksums and compression are around this, in
`egwalker.encoding`.
"""

from collections import namedtuple

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.mem cimport reserve

from egwalker.cycore.errors import DecodeError, EgwalkerError
from egwalker.cycore.agents import check_name
from egwalker.cycore.oplog import Content

Columns = namedtuple("Columns", "agents ids lengths parents kinds positions content erased")
PackedRun = tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, int, Content], ...]]


cdef int put_code_point(Bytes* b, uint32_t u) except -1 nogil:
    if b.n + 4 > b.cap:
        reserve(<void**>&b.at, &b.cap, b.n + 4, 1)
    if u < 0x80:
        b.at[b.n] = <uint8_t>u
        b.n += 1
    elif u < 0x800:
        b.at[b.n] = <uint8_t>(0xC0 | u >> 6)
        b.at[b.n + 1] = <uint8_t>(0x80 | u & 63)
        b.n += 2
    elif u < 0x10000:
        b.at[b.n] = <uint8_t>(0xE0 | u >> 12)
        b.at[b.n + 1] = <uint8_t>(0x80 | u >> 6 & 63)
        b.at[b.n + 2] = <uint8_t>(0x80 | u & 63)
        b.n += 3
    else:
        b.at[b.n] = <uint8_t>(0xF0 | u >> 18)
        b.at[b.n + 1] = <uint8_t>(0x80 | u >> 12 & 63)
        b.at[b.n + 2] = <uint8_t>(0x80 | u >> 6 & 63)
        b.at[b.n + 3] = <uint8_t>(0x80 | u & 63)
        b.n += 4
    return 0


cdef bytes taken(Bytes* b):
    return b.at[:b.n] if b.n else b""


cdef int source(Source* s, bytes data) except -1:
    s.at = data
    s.n = len(data)
    s.i = 0
    return 0


cdef object fault(str column, Py_ssize_t at, str what):
    return DecodeError(f"column {column!r} {what} (its byte {at})", at)


cdef int check_end(Source* s, str column) except -1:
    if s.i < s.n:
        raise fault(column, s.i, f"has {s.n - s.i} bytes too many")
    return 0


def varint(x: int):
    """A number from 0 to 2**64 - 1 as a varint.

    >>> varint(300)
    b'\\xac\\x02'
    """
    cdef Bytes b
    memset(&b, 0, sizeof(b))
    try:
        put(&b, x)
        return taken(&b)
    finally:
        free(b.at)


def read_varint(data: bytes, at: int):
    """The varint at an offset, and the offset behind it. `DecodeError`."""
    cdef Source s
    source(&s, data)
    if not 0 <= at <= s.n:
        raise DecodeError(f"byte {at} is not within 0:{s.n}", at)
    s.i = at
    found = number(&s, "varint")
    return found, s.i


cdef int add_name(str name, list names, dict numbers, list expected) except -1:
    numbers[name] = len(names)
    names.append(name)
    expected.append(-1)
    return 0


cdef str read_name(Source* s):
    """An agent's name: its length in bytes, and the name in UTF-8."""
    cdef int64_t n = number(s, "names")
    cdef bytes raw
    if n > s.n - s.i:
        raise fault("names", s.i, f"has a name of {n} bytes, {s.n - s.i} are left")
    raw = s.at[s.i:s.i + n]
    s.i += n
    try:
        name = raw.decode()
        check_name(name)
    except UnicodeDecodeError as error:
        raise fault("names", s.i, f"is not UTF-8: {error.reason}") from None
    except EgwalkerError as error:
        raise fault("names", s.i, f"is wrong: {error}") from None
    return name


def write_names(names):
    """Agents' names, each after its length in bytes of UTF-8."""
    return b"".join([varint(len(raw)) + raw for raw in map(check_name, names)])


def read_names(data: bytes):
    """The names that `write_names` wrote; `DecodeError`."""
    cdef Source s
    source(&s, data)
    found = []
    while s.i < s.n:
        found.append(read_name(&s))
    return found


def write_items(items):
    """JSON texts, each after its length in bytes of UTF-8."""
    return b"".join([varint(len(raw)) + raw for raw in [item.encode() for item in items]])


def read_items(data: bytes):
    """The JSON texts that `write_items` wrote; `DecodeError`."""
    cdef Source s
    source(&s, data)
    return items_of(&s, "content")


cdef list items_of(Source* s, str column):
    cdef int64_t n
    cdef bytes raw
    found = []
    while s.i < s.n:
        n = number(s, column)
        if n > s.n - s.i:
            raise fault(column, s.i, f"has an element of {n} bytes, {s.n - s.i} are left")
        raw = s.at[s.i:s.i + n]
        try:
            found.append(raw.decode())
        except UnicodeDecodeError as error:
            raise fault(column, s.i + error.start, f"is not UTF-8: {error.reason}") from None
        s.i += n
    return found


def items_memory(bytes data not None):
    """How many bytes a list's values may take in memory, most while the longest is checked to be one. O(values)."""
    cdef Source s
    cdef int64_t n = 0
    cdef int64_t longest = 0
    cdef int64_t length
    source(&s, data)
    while s.i < s.n:
        length = number(&s, "content")
        if length > s.n - s.i:
            break  # an error for whoever reads it
        longest = max(longest, length)
        n += 1
        s.i += length
    return len(data) + 90 * n + 45 * longest
