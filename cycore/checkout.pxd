cimport cython
from libc.stdint cimport int64_t

from egwalker.cycore.caret cimport Caret
from egwalker.cycore.graph cimport Names
from egwalker.cycore.live cimport LiveWindow
from egwalker.cycore.mem cimport Ints
from egwalker.cycore.oplog cimport OpLog
from egwalker.cycore.rope cimport Rope
from egwalker.cycore.walker cimport Walker


@cython.final
cdef class Checkout:
    cdef readonly OpLog log
    cdef readonly Rope rope
    cdef Ints heads
    cdef Names names
    cdef Walker walker
    cdef readonly LiveWindow live
    cdef readonly Caret caret

    cdef int begin(self) except -1
    cdef object edits(self)
    cdef int rebuild(self) except -1
    cdef int fill(self) except -1
    cdef bint goes_on(self, str agent, int64_t pos, int64_t length) except -1
    cdef int append(self, str agent, int64_t n, bint apart) except -1
