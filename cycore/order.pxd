cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints


cdef struct Stretch:
    # Part of one graph run, wholly in one group
    int64_t start
    int64_t end
    Py_ssize_t group
    Py_ssize_t next    # of the same group, -1 at its end


cdef struct GroupRow:
    Py_ssize_t first   # stretch
    Py_ssize_t last
    int64_t clock
    Py_ssize_t waiting # parents of its first event that are still to be emitted
    Py_ssize_t links   # groups whose first event has a parent in this one: links[links : links + n_links]
    Py_ssize_t n_links


@cython.final
cdef class Groups:
    cdef Graph graph
    cdef Stretch* stretch
    cdef Py_ssize_t n_stretches
    cdef Py_ssize_t cap_stretches
    cdef GroupRow* group
    cdef Py_ssize_t n_groups
    cdef Py_ssize_t cap_groups
    cdef Ints edges   # pairs: a group and one that waits for it
    cdef Ints links
    cdef Ints heap

    cdef int gather(self, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb) except -1 nogil
    cdef int add(self, int64_t start, int64_t end, const int64_t* parents, Py_ssize_t n, Py_ssize_t row) except -1 nogil
    cdef Py_ssize_t stretch_of(self, int64_t lv) noexcept nogil
    cdef int link(self) except -1 nogil
    cdef bint sooner(self, int64_t a, int64_t b) noexcept nogil
    cdef int push_group(self, int64_t g) except -1 nogil
    cdef int64_t pop_group(self) noexcept nogil
