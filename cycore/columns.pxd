"""Numbers in columns: inlined into those who write and read them."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from egwalker.cycore.mem cimport reserve
from egwalker.cycore.oplog cimport ERASE, TYPE

cdef enum:
    MAX_RUN = 256  # events in a RUN chunk

cdef enum:
    ROOT = 0           # there is none
    OUTSIDE = 1        # its id follows; the last one
    OUTSIDE_MORE = 2   # its id follows, and then more parents
    INSIDE = 3         # and above: 3 + 2 * (distance - 1), + 1 if more parents follow


cdef struct Bytes:
    uint8_t* at
    Py_ssize_t n
    Py_ssize_t cap


cdef inline int put(Bytes* b, uint64_t x) except -1 nogil:
    """Append a varint: 7 bits a byte, the lowest first, 128 set in all but the last."""
    if b.n + 10 > b.cap:
        reserve(<void**>&b.at, &b.cap, b.n + 10, 1)
    while x > 127:
        b.at[b.n] = <uint8_t>(x | 128)
        b.n += 1
        x >>= 7
    b.at[b.n] = <uint8_t>x
    b.n += 1
    return 0


cdef inline uint64_t zigzag(int64_t x) noexcept nogil:
    return (<uint64_t>x << 1) if x >= 0 else (<uint64_t>(-x) << 1) - 1


cdef inline int64_t unzigzag(int64_t x) noexcept nogil:
    return (x >> 1) if not x & 1 else -((x >> 1) + 1)


cdef struct Source:
    const uint8_t* at
    Py_ssize_t n
    Py_ssize_t i


cdef int source(Source* s, bytes data) except -1
cdef object fault(str column, Py_ssize_t at, str what)
cdef int check_end(Source* s, str column) except -1
cdef bytes taken(Bytes* b)
cdef int put_code_point(Bytes* b, uint32_t u) except -1 nogil
cdef int add_name(str name, list names, dict numbers, list expected) except -1
cdef str read_name(Source* s)
cdef list items_of(Source* s, str column)


cdef inline int64_t number(Source* s, str column) except -1:
    """The next varint, below 2**63 and as short as can be."""
    cdef int64_t x = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift < 63:
        if s.i == s.n:
            raise fault(column, s.i, "ends within a number")
        byte = s.at[s.i]
        s.i += 1
        x |= <int64_t>(byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                break
            return x
        shift += 7
    raise fault(column, s.i - 1, "has a number of more than 63 bits, or with more bytes than it takes")


cdef inline int64_t end_of(uint8_t kind, int64_t pos, int64_t length) noexcept nogil:
    """Where an author is after a row of operations, most likely to go on there."""
    return pos + length if kind == TYPE else (pos - length + 1 if kind == ERASE else pos)
