cimport cython
from libc.stdint cimport int32_t, int64_t


cdef struct IdRun:
    int64_t seq
    int64_t lv
    int64_t length


cdef struct AgentIds:
    const char* name  # UTF-8, owned by AgentIndex.encoded
    Py_ssize_t name_length
    IdRun* at         # ascending by seq
    Py_ssize_t n
    Py_ssize_t cap


@cython.final
cdef class AgentIndex:
    cdef list names     # by number
    cdef list encoded   # the same as UTF-8 bytes
    cdef dict numbers   # by name
    cdef AgentIds* agent
    cdef Py_ssize_t n
    cdef Py_ssize_t cap

    cdef int32_t number(self, str name) except -1
    cdef int64_t known(self, int32_t agent, int64_t seq, int64_t* length) noexcept nogil
    cdef int64_t find(self, str name, object seq)
    cdef int64_t next_seq(self, int32_t agent) noexcept nogil
    cdef int insert(self, int32_t agent, int64_t seq, int64_t lv, int64_t length, bint joins) except -1 nogil
    cdef int truncate(self, int64_t length) noexcept nogil
    cdef int order(self, int32_t a, int64_t seq_a, int32_t b, int64_t seq_b) noexcept nogil
    cdef dict version_vector(self)
    cdef AgentIndex copy(self)
    cdef Py_ssize_t memory(self)

cdef int check_seqs(int64_t seq, int64_t length) except -1
