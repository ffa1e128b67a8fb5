cimport cython
from libc.stdint cimport int32_t, int64_t

from egwalker.cycore.agents cimport AgentIndex
from egwalker.cycore.mem cimport Heads, Ints, Span, Spans


cdef struct GraphRun:
    int64_t lv       # first local version
    int64_t seq      # of the first event
    int64_t clock    # Lamport clock of the first event
    int64_t parents  # the one parent itself, or where the parents start in the pool
    int32_t agent
    int32_t n_parents


@cython.final
cdef class Graph:
    cdef int64_t n
    cdef GraphRun* run
    cdef Py_ssize_t n_runs
    cdef Py_ssize_t cap_runs
    cdef Ints pool
    cdef Heads heads
    cdef readonly int64_t base  # of the events before, no more is known than their ids: see `begin_after`
    cdef Py_ssize_t base_runs   # how many rows these are
    cdef Ints root_             # their heads: the version at which what is known begins
    cdef AgentIndex index

    cdef int add_base(self, int32_t agent, int64_t seq, int64_t length) except -1
    cdef int check_reach(self, const int64_t* version, Py_ssize_t n) except -1 nogil
    cdef int append(self, int32_t agent, int64_t seq, const int64_t* parents, Py_ssize_t n, int64_t length) except -1 nogil
    cdef int truncate(self, int64_t length) except -1 nogil
    cdef int reaches(self, const int64_t* version, Py_ssize_t n, int64_t target) except -1 nogil
    cdef int reduce(self, Ints* versions) except -1 nogil
    cdef Py_ssize_t critical_below(self, int64_t stop) noexcept nogil
    cdef int order_ids(self, int64_t a, int64_t b) noexcept nogil
    cdef tuple name(self, int64_t lv)
    cdef int check_lv(self, lv) except -1
    cdef int read_version(self, object version, Ints* out) except -1

    cdef inline Py_ssize_t find(self, int64_t lv) noexcept nogil:
        """The row that holds `lv`. O(log runs), O(1) in the last row."""
        cdef Py_ssize_t hi = self.n_runs - 1
        return hi if self.run[hi].lv <= lv else self.find_between(lv, 0, hi)

    cdef inline Py_ssize_t find_between(self, int64_t lv, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
        """The row that holds `lv`, where run[lo].lv <= lv < run[hi].lv."""
        cdef Py_ssize_t mid
        while hi - lo > 1:
            mid = (lo + hi) >> 1
            if self.run[mid].lv <= lv:
                lo = mid
            else:
                hi = mid
        return lo

    cdef inline Py_ssize_t find_late(self, int64_t lv) noexcept nogil:
        """The same, quicker where `lv` is not far from the end. O(log of the runs after it)."""
        cdef Py_ssize_t hi = self.n_runs - 1
        cdef Py_ssize_t lo
        cdef Py_ssize_t step = 1
        if self.run[hi].lv <= lv:
            return hi
        lo = hi - 1
        while self.run[lo].lv > lv:  # lv < run[hi].lv; the first run begins at 0
            hi = lo
            step <<= 1
            lo = hi - step if hi > step else 0
        return self.find_between(lv, lo, hi)

    cdef inline int64_t run_end(self, Py_ssize_t i) noexcept nogil:
        return self.run[i + 1].lv if i + 1 < self.n_runs else self.n

    cdef inline const int64_t* parents_of(self, Py_ssize_t i) noexcept nogil:
        cdef GraphRun* run = &self.run[i]
        return &run.parents if run.n_parents == 1 else self.pool.at + run.parents


@cython.final
cdef class Names:
    cdef Ints at    # the heads that
    cdef tuple ids  # are these, ascending

    cdef tuple of(self, Graph graph, const Ints* heads)
