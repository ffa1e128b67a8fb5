cimport cython
from libc.stdint cimport int32_t, int64_t

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, Spans
from egwalker.cycore.oplog cimport OpLog
from egwalker.cycore.spans cimport SpanTree
from egwalker.cycore.walker cimport Walker

cdef extern from "Python.h":
    Py_ssize_t ANY_NUMBER "PY_SSIZE_T_MAX"


cdef struct Done:
    # What the events from `lv` to the next row's did: they inserted or deleted as many elements.
    int64_t lv
    int32_t item      # the first of the elements starts here; the others are in its later pieces
    bint backwards    # the events deleted them from the last to the first


cdef enum:
    TYPISTS = 64  # so many people are known at a time; where more type at once, the state goes to and fro


cdef struct Typist:
    # Somebody who types on: the caret, in the version of their last event
    int64_t last      # that event
    int64_t pos       # of the caret
    int64_t typed     # how many elements before it were typed in one go, and are there
    int32_t left      # the end of the element before it
    int32_t right     # the item behind it, deleted or not


@cython.final
cdef class LiveWindow:
    cdef OpLog log
    cdef Graph graph
    cdef Walker walker        # whose span tree is the state
    cdef SpanTree tree
    cdef bint open
    cdef int64_t start        # of the window; all before it is in `base`
    cdef Ints base            # the version that all of the window comes after
    cdef int64_t walked       # the tree has start:walked,
    cdef int64_t held         # the document start:held
    cdef Ints prepared        # the prepare version
    cdef Typist typist[TYPISTS]
    cdef int n_typists
    cdef int oldest           # the one to be forgotten for another
    cdef readonly int64_t moved  # how many rows of `done` have been retreated or advanced
    cdef int64_t mark         # a window that began here, at version `mark_version`, would do for all after it
    cdef Ints mark_version
    cdef Done* done           # start:walked, ascending
    cdef Py_ssize_t n_done
    cdef Py_ssize_t cap_done
    cdef Ints heap
    cdef Spans back           # what to retreat and
    cdef Spans forth          # to advance on the way from `prepared` to the next event's parents

    cdef void close(self) noexcept nogil
    cdef int keep(self) except -1 nogil
    cdef int typed(self, int64_t lv, int64_t end, bint apart) except -1 nogil
    cdef bint go_on(self, const int64_t* version, Py_ssize_t n) except -1 nogil
    cdef int take_all(self) except -1 nogil
    cdef bint fits(self, bint* calm) noexcept nogil
    cdef int take_in(self, int64_t lv, int64_t end, const int64_t* parents, Py_ssize_t n, bint emit) except -1 nogil
    cdef int64_t type_on(self, Typist* typist, int64_t lv, int64_t end, bint emit) except -1 nogil
    cdef int meet(self, Typist* typist, int64_t lv, int64_t end) except -1 nogil
    cdef bint compare(self, const int64_t* parents, Py_ssize_t n, Py_ssize_t rows) except -1 nogil
    cdef int leave(self, int64_t side, int64_t start, int64_t end) except -1 nogil
    cdef int shift(self, Spans* spans, int32_t by) except -1 nogil
    cdef int64_t map_position(
        self, const int64_t* version, Py_ssize_t n, int64_t pos, int64_t* length, Py_ssize_t rows
    ) except -2 nogil
    cdef Py_ssize_t rows_of(self, const Spans* spans) except -1 nogil
    cdef Py_ssize_t cut(self, int64_t lv) except -1 nogil
    cdef Py_ssize_t note(self, Py_ssize_t op, int64_t lv, int64_t end, Py_ssize_t touched) except -1 nogil
    cdef int push_done(self, int64_t lv, int32_t item, bint backwards) except -1 nogil

    cdef inline int64_t patience(self) noexcept nogil:
        """How many events may come that do not need the window before it is dropped."""
        return 16 + ((self.mark - self.start) >> 4)
