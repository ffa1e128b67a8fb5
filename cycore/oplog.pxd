cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints

cdef enum:
    # A run of operations whose first event is at `pos`: the event after it is at ...
    TYPE = 0     # insert: pos + 1
    PREPEND = 1  # insert: pos
    DELETE = 2   # delete: pos
    ERASE = 3    # delete: pos - 1


cdef struct OpRun:
    int64_t lv      # first local version; the run goes on to the next one's
    int64_t content # inserts: where the content starts in its pool
    int32_t pos
    uint8_t kind
    uint8_t pool    # inserts: 0, 1, 2 for elements of 1, 2, 4 bytes


cdef struct Pool:
    uint8_t* at
    Py_ssize_t n    # elements
    Py_ssize_t cap  # bytes


@cython.final
cdef class OpLog:
    cdef readonly Graph graph
    cdef readonly bint values
    cdef OpRun* run
    cdef Py_ssize_t n_runs
    cdef Py_ssize_t cap_runs
    cdef int64_t n
    cdef Pool pool[3]
    cdef list items  # the JSON texts of a list document's values
    cdef Py_ssize_t base_items  # how many of them were there before the first event of this log
    cdef readonly object before # the content at the version that the graph begins at, None: the root
    cdef bint compared          # whether its events, if they come again, must be what they were
    cdef public bint erased  # some inserted elements are not known: ERASED in a pool, None in `items`

    cdef int push(self, uint8_t kind, int64_t pos, int64_t length, const uint8_t* units, int width) except -1 nogil
    cdef int push_edit(self, object pos, object deleted, object inserted) except -1
    cdef int push_insert(self, int64_t pos, object content) except -1
    cdef int push_item(self, int64_t pos, object item) except -1
    cdef int push_from(self, OpLog other, int64_t start, int64_t end) except -1
    cdef int cut(self, int64_t length) except -1 nogil
    cdef int64_t same(self, int64_t lv, OpLog other, int64_t start, int64_t length) except -1
    cdef int check_known(self, int64_t lv, const int64_t* parents, Py_ssize_t n_parents, OpLog other, int64_t start, int64_t length) except -1
    cdef int64_t take(self, int32_t agent, int64_t seq, Ints* parents, OpLog other, int64_t start, int64_t length) except -1
    cdef object shown(self, object content)
    cdef object content_of(self, const OpRun* run, int64_t offset, int64_t length)

    cdef inline Py_ssize_t find(self, int64_t lv) noexcept nogil:
        """The row that holds `lv`. O(log runs), O(1) in the last row."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.n_runs - 1
        cdef Py_ssize_t mid
        if self.run[hi].lv <= lv:
            return hi
        while hi - lo > 1:  # run[lo].lv <= lv < run[hi].lv
            mid = (lo + hi) >> 1
            if self.run[mid].lv <= lv:
                lo = mid
            else:
                hi = mid
        return lo

    cdef inline int64_t run_end(self, Py_ssize_t i) noexcept nogil:
        return self.run[i + 1].lv if i + 1 < self.n_runs else self.n

    cdef inline const uint8_t* units(self, const OpRun* run, int64_t offset) noexcept nogil:
        return self.pool[run.pool].at + ((run.content + offset) << run.pool)


cdef int join(uint8_t k, int64_t pos, int64_t length, uint8_t k2, int64_t pos2, int64_t length2) noexcept nogil


cdef inline uint32_t unit_at(const uint8_t* units, int pool, int64_t i) noexcept nogil:
    if pool == 0:
        return units[i]
    if pool == 1:
        return (<const uint16_t*>units)[i]
    return (<const uint32_t*>units)[i]


cdef inline int step_of(uint8_t kind) noexcept nogil:
    return 1 if kind == TYPE else (-1 if kind == ERASE else 0)
