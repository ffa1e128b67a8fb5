cimport cython
from libc.stdint cimport int64_t

from egwalker.cycore.graph cimport Graph, Names
from egwalker.cycore.mem cimport Ints


cdef struct Stretch:
    # Consecutive local versions, all in one group
    int64_t start
    int64_t end
    Py_ssize_t lead  # the row of the graph that its group begins with
    bint fresh       # on its way into the order


cdef struct Stretches:
    Stretch* at
    Py_ssize_t n
    Py_ssize_t cap


@cython.final
cdef class Order:
    cdef Graph graph
    cdef Stretches order     # of the version's events
    cdef int64_t length      # how many events that is
    cdef int64_t top         # one more than the largest of their local versions
    cdef Ints heads          # the version
    cdef Names names
    cdef Ints lead           # by row of the graph: the row that its group begins with
    # What the last merge replaced: all stretches from `first` on, and the rest
    cdef Stretches old
    cdef Py_ssize_t first
    cdef int64_t old_length
    cdef int64_t old_top
    cdef Ints old_heads
    cdef Py_ssize_t old_leads

    cdef int find_leads(self) except -1
    cdef bint before(self, const Stretch* a, const Stretch* b) noexcept
    cdef int gather(self, const Ints* wanted, bint all_of_it, Stretches* new) except -1
    cdef int gather_rows(self, int64_t lo, int64_t end, Stretches* new) except -1
    cdef int sort(self, Stretches* new) except -1
    cdef int save(self, Py_ssize_t first) except -1
    cdef list fresh(self, Py_ssize_t first, int64_t place)
    cdef int insert(self, const Stretches* new, Py_ssize_t after) except -1
    cdef int join(self) except -1
