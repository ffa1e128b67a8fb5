"""Growable C arrays and a heap, inlined into every module of the core.

All are zero-initialised structs; `x.at[0 .. x.n)` is live. Freed by the owner's `__dealloc__`.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove


cdef struct Ints:
    int64_t* at
    Py_ssize_t n
    Py_ssize_t cap


cdef struct Span:
    int64_t start
    int64_t end


cdef struct Spans:
    Span* at
    Py_ssize_t n
    Py_ssize_t cap


cdef inline int reserve(void** at, Py_ssize_t* cap, Py_ssize_t need, size_t size) except -1 nogil:
    """Make room for `need` elements of `size` bytes; grows by half so that peaks stay low."""
    cdef Py_ssize_t room = cap[0]
    cdef void* grown
    if need <= room:
        return 0
    room += room >> 1
    if room < need:
        room = need
    if room < 8:
        room = 8
    grown = realloc(at[0], room * size)
    if grown == NULL:
        with gil:
            raise MemoryError(f"no memory for {room * size} bytes")
    at[0] = grown
    cap[0] = room
    return 0


cdef inline int push(Ints* v, int64_t x) except -1 nogil:
    if v.n == v.cap:
        reserve(<void**>&v.at, &v.cap, v.n + 1, sizeof(int64_t))
    v.at[v.n] = x
    v.n += 1
    return 0


cdef inline int assign(Ints* v, const int64_t* xs, Py_ssize_t n) except -1 nogil:
    reserve(<void**>&v.at, &v.cap, n, sizeof(int64_t))
    if n:
        memmove(v.at, xs, n * sizeof(int64_t))
    v.n = n
    return 0


cdef inline int push_span(Spans* v, int64_t start, int64_t end) except -1 nogil:
    """Append `start:end`, joining it to the last span if they touch."""
    if v.n and v.at[v.n - 1].end == start:
        v.at[v.n - 1].end = end
        return 0
    if v.n == v.cap:
        reserve(<void**>&v.at, &v.cap, v.n + 1, sizeof(Span))
    v.at[v.n].start = start
    v.at[v.n].end = end
    v.n += 1
    return 0


cdef inline Py_ssize_t below(const int64_t* xs, Py_ssize_t n, int64_t x) noexcept nogil:
    """How many of the ascending `xs` are less than `x`."""
    cdef Py_ssize_t lo = 0
    cdef Py_ssize_t half
    while n > 0:
        half = n >> 1
        if xs[lo + half] < x:
            lo += half + 1
            n -= half + 1
        else:
            n = half
    return lo


# A max-heap of integers.

cdef inline int heap_push(Ints* h, int64_t x) except -1 nogil:
    cdef Py_ssize_t i = h.n
    cdef Py_ssize_t up
    push(h, x)
    while i:
        up = (i - 1) >> 1
        if h.at[up] >= x:
            break
        h.at[i] = h.at[up]
        i = up
    h.at[i] = x
    return 0


cdef inline int64_t heap_pop(Ints* h) noexcept nogil:
    cdef int64_t top = h.at[0]
    cdef int64_t x
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t child
    h.n -= 1
    if h.n == 0:
        return top
    x = h.at[h.n]
    while True:
        child = 2 * i + 1
        if child >= h.n:
            break
        if child + 1 < h.n and h.at[child + 1] > h.at[child]:
            child += 1
        if h.at[child] <= x:
            break
        h.at[i] = h.at[child]
        i = child
    h.at[i] = x
    return top


# The heads of a growing set of events, and the events in it that every other precedes or follows.

cdef struct Heads:
    Ints front     # ascending
    Spans critical # ascending; a prefix of what was critical stays critical


cdef inline bint heads_equal(const Heads* h, const int64_t* parents, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if h.front.n != n:
        return False
    for i in range(n):
        if h.front.at[i] != parents[i]:
            return False
    return True


cdef inline int heads_add(Heads* h, const int64_t* parents, Py_ssize_t n, int64_t start, int64_t end) except -1 nogil:
    """Add the run `start:end` on top of ascending `parents`, all of whose local versions are known.

    If the parents are all the heads, every earlier event precedes the run, so the run is critical. Else the run
    is concurrent with something; a critical event precedes the run if and only if it is not after the run's last parent,
    because all that is after a critical event descends from it. Amortised O(1) and O(heads).
    """
    cdef int64_t last
    cdef Py_ssize_t i, at
    if heads_equal(h, parents, n):
        push_span(&h.critical, start, end)
        h.front.n = 0
        push(&h.front, end - 1)
        return 1
    last = parents[n - 1] if n else -1
    while h.critical.n and h.critical.at[h.critical.n - 1].start > last:
        h.critical.n -= 1
    if h.critical.n and h.critical.at[h.critical.n - 1].end > last + 1:
        h.critical.at[h.critical.n - 1].end = last + 1
    for i in range(n):
        at = below(h.front.at, h.front.n, parents[i])
        if at < h.front.n and h.front.at[at] == parents[i]:
            memmove(h.front.at + at, h.front.at + at + 1, (h.front.n - at - 1) * sizeof(int64_t))
            h.front.n -= 1
    push(&h.front, end - 1)
    return 0
