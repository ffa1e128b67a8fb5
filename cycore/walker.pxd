cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from egwalker.cycore.diff cimport Part, Parts
from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Heads, Ints, Span, Spans
from egwalker.cycore.oplog cimport OpLog
from egwalker.cycore.rope cimport Rope
from egwalker.cycore.spans cimport SpanTree

cdef enum:
    KEEP_BYTES = 1 << 16  # scratch memory that is kept from one use to the next


cdef struct Piece:
    # Part of one graph run in which no version lies but at the end: walked in one go.
    int64_t start
    int64_t end
    int64_t weight       # operations in it and in what hangs on it
    Py_ssize_t op        # the row of the log with `start`
    Py_ssize_t parents   # where they are in Walker.links
    Py_ssize_t kids
    int32_t n_parents
    int32_t n_kids
    int32_t waiting      # parents not walked yet
    Py_ssize_t touched   # what its operations touched in the span tree: touched .. touched_end
    Py_ssize_t touched_end
    uint8_t side         # 2: new to the document
    uint8_t mark


cdef struct Out:
    # One edit of the document: an insert of events lv .. lv + length, or with lv -1 a delete
    int64_t pos
    int64_t length
    int64_t lv


@cython.final
cdef class Walker:
    cdef OpLog log
    cdef Graph graph
    cdef Rope rope            # what is edited, or None: only the moves are of interest
    cdef SpanTree tree
    cdef Parts parts
    cdef Heads heads
    cdef Part* window
    cdef Py_ssize_t n_window
    cdef Py_ssize_t cap_window
    cdef Ints cuts
    cdef Piece* piece
    cdef Py_ssize_t n_pieces
    cdef Py_ssize_t cap_pieces
    cdef Ints links           # parents and children of pieces
    cdef Ints ready           # a stack of pieces whose parents have all been walked
    cdef Ints later           # the same for new pieces, until all known ones have been walked
    cdef uint64_t* sets       # of pieces, for each piece
    cdef Py_ssize_t words     # that a set takes, 0: the window has too many pieces for sets
    cdef Py_ssize_t cap_sets
    cdef Ints weights
    cdef int64_t table[8][256]
    cdef Ints heap
    cdef Ints back            # pieces retreated and
    cdef Ints forth           # advanced by the last move
    cdef Py_ssize_t at        # the piece that the prepare version ends with, -1 before the first
    cdef bint recording
    cdef Out* out
    cdef Py_ssize_t n_out
    cdef Py_ssize_t cap_out
    cdef list steps           # of Step, if wanted
    cdef int64_t length       # of the document, while there is no rope
    cdef int64_t counts[6]

    cdef int run(self, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb) except -1 nogil
    cdef int find_critical(self, const Span** found, const Span** end) except -1 nogil
    cdef int plain(self, int64_t start, int64_t end, int64_t by) except -1 nogil
    cdef int walk_window(self, bint known) except -1 nogil
    cdef int cut_pieces(self) except -1 nogil
    cdef int link_pieces(self) except -1 nogil
    cdef int weigh_pieces(self) except -1 nogil
    cdef int start_ready(self, Py_ssize_t bottom) noexcept nogil
    cdef bint sooner(self, const Piece* a, const Piece* b) noexcept nogil
    cdef void sift(self, int64_t* at, Py_ssize_t i, Py_ssize_t n) noexcept nogil
    cdef int drain(self) except -1 nogil
    cdef int visit(self, Py_ssize_t i) except -1 nogil
    cdef int move(self, Py_ssize_t to) except -1 nogil
    cdef int gather_sets(self) except -1 nogil
    cdef int compare_sets(self, Py_ssize_t to) except -1 nogil
    cdef int compare_pieces(self, Py_ssize_t to) except -1 nogil
    cdef int reach(self, Py_ssize_t i, uint8_t mark, Py_ssize_t* open) except -1 nogil
    cdef int apply(self, Py_ssize_t op, int64_t lv, int64_t end, bint emit) except -1 nogil
    cdef int emit_insert(self, int64_t pos, int64_t lv, int64_t length, Py_ssize_t op, bint reverse) except -1 nogil
    cdef int emit_delete(self, int64_t pos, int64_t length) except -1 nogil
    cdef int record(self, int64_t pos, int64_t length, int64_t lv) except -1 nogil
    cdef int outside(self, int64_t lv, int64_t pos, int64_t length) except -1
    cdef Py_ssize_t piece_of(self, int64_t lv, Py_ssize_t hi) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef object add_step(self, Py_ssize_t i)
    cdef object spans_of(self, Ints* pieces)
