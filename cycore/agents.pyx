"""Who made the events: agents by number, and where the events of each are, by their seqs.

Seqs that follow each other and have local versions that do are one run, so that looking one up takes O(log runs).
"""

cimport cython

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memmove, memset

from egwalker.cycore.mem cimport reserve

from egwalker.cycore.errors import AgentError

MAX_NAME_BYTES = 255
cdef int64_t MAX_SEQ = <int64_t>1 << 53  # JSON numbers are exact below


def check_name(name: str):
    """An agent's name as UTF-8; `AgentError` unless it has 1 to `MAX_NAME_BYTES` bytes and no lone surrogate."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise AgentError(f"agent name {name!r} holds a lone surrogate") from None
    if not 0 < len(encoded) <= MAX_NAME_BYTES:
        raise AgentError(f"agent name must have 1 to {MAX_NAME_BYTES} bytes of UTF-8, not {len(encoded)}")
    return encoded


cdef int check_seqs(int64_t seq, int64_t length) except -1:
    """`AgentError` unless `length` events from `seq` on have seqs that can be."""
    if seq < 0 or length > MAX_SEQ or seq > MAX_SEQ - length:
        raise AgentError(f"sequence numbers {seq}:{seq + length} are not within 0:2**53")
    return 0


@cython.final
cdef class AgentIndex:
    """The agents of one graph, in the order in which they were first named, and their events."""

    def __cinit__(self):
        self.names = []
        self.encoded = []
        self.numbers = {}

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n):
            free(self.agent[i].at)
        free(self.agent)

    cdef int32_t number(self, str name) except -1:
        """The number of an agent, a new one if need be. Raises `AgentError`."""
        cdef object number = self.numbers.get(name)
        cdef bytes encoded
        cdef AgentIds* ids
        if number is not None:
            return number
        encoded = check_name(name)
        reserve(<void**>&self.agent, &self.cap, self.n + 1, sizeof(AgentIds))
        ids = &self.agent[self.n]
        memset(ids, 0, sizeof(AgentIds))
        ids.name = encoded
        ids.name_length = len(encoded)
        self.names.append(name)
        self.encoded.append(encoded)
        self.numbers[name] = self.n
        self.n += 1
        return <int32_t>(self.n - 1)

    cdef int64_t known(self, int32_t agent, int64_t seq, int64_t* length) noexcept nogil:
        """The local version of an event, or -1; `length`: for how many seqs from here on that (or "not held") goes on."""
        cdef AgentIds* ids = &self.agent[agent]
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = ids.n
        cdef Py_ssize_t mid
        cdef IdRun* at
        if hi and ids.at[hi - 1].seq <= seq:
            lo = hi
        while lo < hi:
            mid = (lo + hi) >> 1
            if ids.at[mid].seq <= seq:
                lo = mid + 1
            else:
                hi = mid
        if lo:
            at = &ids.at[lo - 1]
            if seq < at.seq + at.length:
                length[0] = at.seq + at.length - seq
                return at.lv + (seq - at.seq)
        length[0] = ids.at[lo].seq - seq if lo < ids.n else MAX_SEQ
        return -1

    cdef int64_t find(self, str name, object seq):
        """The local version of an event, -1 if it is not held."""
        cdef int64_t length
        number = self.numbers.get(name)
        if number is None or not 0 <= seq < MAX_SEQ:
            return -1
        return self.known(number, seq, &length)

    cdef int64_t next_seq(self, int32_t agent) noexcept nogil:
        """One more than the largest seq held, 0 if there is none."""
        cdef AgentIds* ids = &self.agent[agent]
        return ids.at[ids.n - 1].seq + ids.at[ids.n - 1].length if ids.n else 0

    cdef int insert(self, int32_t agent, int64_t seq, int64_t lv, int64_t length, bint joins) except -1 nogil:
        """Add events whose ids are new. `joins`: they may be one run with what is before."""
        cdef AgentIds* ids = &self.agent[agent]
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = ids.n
        cdef Py_ssize_t mid
        cdef IdRun* at
        if hi and ids.at[hi - 1].seq < seq:
            lo = hi
        while lo < hi:
            mid = (lo + hi) >> 1
            if ids.at[mid].seq < seq:
                lo = mid + 1
            else:
                hi = mid
        if lo:
            at = &ids.at[lo - 1]
            if joins and at.seq + at.length == seq and at.lv + at.length == lv:
                at.length += length
                return 0
        reserve(<void**>&ids.at, &ids.cap, ids.n + 1, sizeof(IdRun))
        memmove(ids.at + lo + 1, ids.at + lo, (ids.n - lo) * sizeof(IdRun))
        ids.n += 1
        ids.at[lo].seq = seq
        ids.at[lo].lv = lv
        ids.at[lo].length = length
        return 0

    cdef int truncate(self, int64_t length) noexcept nogil:
        """Forget the events from local version `length` on. O(runs)."""
        cdef Py_ssize_t i, k, kept
        cdef AgentIds* ids
        for i in range(self.n):
            ids = &self.agent[i]
            kept = 0
            for k in range(ids.n):
                if ids.at[k].lv >= length:
                    continue
                ids.at[kept] = ids.at[k]
                if ids.at[kept].lv + ids.at[kept].length > length:
                    ids.at[kept].length = length - ids.at[kept].lv
                kept += 1
            ids.n = kept
        return 0

    cdef int order(self, int32_t a, int64_t seq_a, int32_t b, int64_t seq_b) noexcept nogil:
        """-1, 0 or 1 as one event sorts before, with or after another: by agent name as UTF-8, then seq."""
        cdef AgentIds* x = &self.agent[a]
        cdef AgentIds* y = &self.agent[b]
        cdef int cmp
        if a == b:
            return (seq_a > seq_b) - (seq_a < seq_b)
        cmp = memcmp(x.name, y.name, min(x.name_length, y.name_length))
        if cmp == 0:
            return (x.name_length > y.name_length) - (x.name_length < y.name_length)
        return (cmp > 0) - (cmp < 0)

    cdef dict version_vector(self):
        """`{agent: [(start, end), ...]}`, half-open ranges of the seqs held. O(runs)."""
        cdef AgentIds* ids
        cdef Py_ssize_t i, k
        cdef int64_t start, end
        vector = {}
        for i in range(self.n):
            ids = &self.agent[i]
            if ids.n == 0:
                continue
            ranges = []
            start = ids.at[0].seq
            end = start
            for k in range(ids.n):
                if ids.at[k].seq > end:
                    ranges.append((start, end))
                    start = ids.at[k].seq
                end = ids.at[k].seq + ids.at[k].length
            ranges.append((start, end))
            vector[self.names[i]] = ranges
        return vector

    cdef AgentIndex copy(self):
        """An independent one. O(runs)."""
        cdef AgentIndex other = AgentIndex()
        cdef Py_ssize_t i
        cdef AgentIds* ids
        for name in self.names:
            other.number(name)
        for i in range(self.n):
            ids = &other.agent[i]
            # With room to grow: the first event should not have to move it all.
            reserve(<void**>&ids.at, &ids.cap, self.agent[i].n + self.agent[i].n // 8 + 1, sizeof(IdRun))
            ids.n = self.agent[i].n
            if ids.n:
                memcpy(ids.at, self.agent[i].at, ids.n * sizeof(IdRun))
        return other

    cdef Py_ssize_t memory(self):
        """Bytes allocated, but for the names."""
        cdef Py_ssize_t i
        cdef Py_ssize_t found = 0
        for i in range(self.n):
            found += self.agent[i].cap * sizeof(IdRun)
        return found
