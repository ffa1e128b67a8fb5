cimport cython
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef enum:
    LEAF_BYTES = 1024
    FANOUT = 32


cdef struct Node


cdef struct Leaf:
    Node* up
    int32_t n       # elements
    uint8_t width   # bytes an element: 1, 2 or 4
    uint8_t slot    # which child of `up`
    uint8_t at[LEAF_BYTES]


cdef struct Node:
    Node* up
    int32_t n       # children
    uint8_t level   # 1: the children are leaves
    uint8_t slot
    void* kid[FANOUT]
    int32_t size[FANOUT]   # elements below each child
    int64_t wide8[FANOUT]  # bytes of UTF-8 beyond one an element below each child, -1 if not counted yet
    int32_t wide16[FANOUT] # units of UTF-16 beyond one an element


@cython.final
cdef class Rope:
    cdef Node* root
    cdef int64_t n
    cdef int32_t leaf_bytes
    cdef int32_t fanout
    # The leaf of the last edit. What changed in it is not in the tree above it before `flush`.
    cdef Leaf* last
    cdef int64_t last_start
    cdef int32_t unflushed
    cdef bint touched

    cdef int insert_units(self, int64_t pos, const void* units, int width, int64_t n) except -1 nogil
    cdef int delete_units(self, int64_t pos, int64_t n) except -1 nogil
    cdef object slice_units(self, int64_t start, int64_t end)
    cdef int clear(self) except -1 nogil

    cdef void flush(self) noexcept nogil
    cdef void resize(self, Node* node, int slot, int32_t change) noexcept nogil
    cdef Leaf* seek(self, int64_t pos, bint insert, int32_t* offset) noexcept nogil
    cdef Leaf* leaf_after(self, Leaf* leaf) noexcept nogil
    cdef Leaf* new_leaf(self, Leaf* before, int width) except NULL nogil
    cdef int add_kid(self, Node* node, int at, void* kid) except -1 nogil
    cdef int split(self, Node* node, int at) except -1 nogil
    cdef int grow(self) except -1 nogil
    cdef void place(self, Node* node, int at, void* kid, int32_t size) noexcept nogil
    cdef void remove(self, Node* node, int at) noexcept nogil
    cdef void drop_leaf(self, Leaf* leaf) noexcept nogil
    cdef int insert_slowly(self, Leaf* leaf, int32_t offset, const uint8_t* units, int width, int64_t n) except -1 nogil
    cdef Leaf* append(self, Leaf* leaf, const uint8_t* units, int width, int64_t n) except NULL nogil
    cdef void join(self, Leaf* leaf) noexcept nogil
    cdef void count(self, Node* node) noexcept nogil
    cdef int64_t outward(self, int64_t pos, bint utf8) noexcept nogil
    cdef int64_t inward(self, int64_t offset, bint utf8) noexcept nogil
    cdef int check_range(self, start, end) except -1
    cdef object convert_out(self, pos, bint utf8)
    cdef object convert_in(self, offset, bint utf8)


cdef void narrow_units(uint8_t* to, int to_width, const uint8_t* source, int width, int64_t n) noexcept nogil
cdef uint32_t bits_of(const uint8_t* units, int width, int64_t n) noexcept nogil
cdef void copy_units(uint8_t* to, int to_width, const uint8_t* source, int width, int64_t n) noexcept nogil


cdef inline object whole(object value):
    """An integer of any type as `int`; `TypeError` for what is none, such as 1.0."""
    return value if type(value) is int else PyNumber_Index(value)
