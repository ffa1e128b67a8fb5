from libc.stdint cimport int64_t

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints


cdef struct Part:
    int64_t start
    int64_t end
    int64_t side  # 1: only in a, 2: only in b, 3: in both


cdef struct Parts:
    Part* at      # ascending
    Py_ssize_t n
    Py_ssize_t cap
    Ints head


cdef int compare(Graph graph, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb, Parts* out) except -1 nogil
