cimport cython
from libc.stdint cimport int64_t

from egwalker.cycore.mem cimport Ints
from egwalker.cycore.walker cimport Out


@cython.final
cdef class Caret:
    cdef public bint defer    # whether runs are kept apart at all; off until it is set
    cdef readonly bint open   # there is a run
    cdef readonly bint apart  # the document has events that the run does not know
    cdef int64_t last         # the run's last event
    cdef int64_t at           # where the run goes on in the document
    cdef int64_t start        # of the stretch around it, -1: nothing is unknown before it
    cdef int64_t end
    cdef int64_t shift        # what to add to a position in the stretch for the one at the run's version

    cpdef void close(self) noexcept nogil
    cdef void follow(self, const Ints* heads, const Out* out, Py_ssize_t n) noexcept nogil

    cdef inline bint goes_on(self, int64_t pos, int64_t length) noexcept nogil:
        """Whether deleting `length` elements from `pos` on, or inserting there if it is 0, belongs to the run."""
        if not self.open or not self.start < self.at < self.end:
            return False
        return (pos == self.at or pos + length == self.at) and self.start <= pos and pos + length <= self.end

    cdef inline void typed(self, int64_t last, int64_t at, int64_t grown) noexcept nogil:
        """An edit was made here that ended at `at`, with `last` as its last event. If apart, the run went on."""
        self.open = self.defer
        self.last = last
        self.at = at
        self.end += grown
