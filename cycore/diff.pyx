"""How two versions differ: what only one of them has, what both have, and where a walk that merges them starts."""

from collections import namedtuple

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, assign, heads_equal, push, reserve

Diff = namedtuple("Diff", "head shared a_only b_only")


# --- a heap of versions ---------------------------------------------------------------------------------------

cdef struct Point:
    int64_t top       # largest local version, -1 for the root
    const int64_t* v  # all of them, ascending, if n > 1
    Py_ssize_t n
    int64_t side


cdef struct Points:
    Point* at
    Py_ssize_t n
    Py_ssize_t cap


cdef int points_push(Points* h, Point p) except -1 nogil:
    cdef Py_ssize_t i = h.n
    cdef Py_ssize_t up
    reserve(<void**>&h.at, &h.cap, h.n + 1, sizeof(Point))
    h.n += 1
    while i:
        up = (i - 1) >> 1
        if h.at[up].top >= p.top:
            break
        h.at[i] = h.at[up]
        i = up
    h.at[i] = p
    return 0


cdef Point points_pop(Points* h) noexcept nogil:
    cdef Point top = h.at[0]
    cdef Point p
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t child
    h.n -= 1
    p = h.at[h.n]
    while True:
        child = 2 * i + 1
        if child >= h.n:
            break
        if child + 1 < h.n and h.at[child + 1].top > h.at[child].top:
            child += 1
        if h.at[child].top <= p.top:
            break
        h.at[i] = h.at[child]
        i = child
    if h.n:
        h.at[i] = p
    return top


cdef inline Point point(const int64_t* v, Py_ssize_t n, int64_t side) noexcept nogil:
    cdef Point p
    p.top = v[n - 1] if n else -1
    p.v = v
    p.n = n
    p.side = side
    return p


cdef inline bint same_point(Point* a, Point* b) noexcept nogil:
    if a.top != b.top or a.n != b.n:
        return False
    return a.n <= 1 or memcmp(a.v, b.v, a.n * sizeof(int64_t)) == 0


cdef int points_shatter(Points* h, Point* p) except -1 nogil:
    """Put back all of a merge's versions but the largest, each by itself."""
    cdef Py_ssize_t i
    for i in range(p.n - 1):
        points_push(h, point(p.v + i, 1, p.side))
    return 0


cdef int parts_push(Parts* out, int64_t start, int64_t end, int64_t side) except -1 nogil:
    """Parts arrive from the newest to the oldest; `compare` turns them round."""
    cdef Part* last
    if start >= end:
        return 0
    if out.n:
        last = &out.at[out.n - 1]
        if last.start == end and last.side == side:
            last.start = start
            return 0
    reserve(<void**>&out.at, &out.cap, out.n + 1, sizeof(Part))
    out.at[out.n].start = start
    out.at[out.n].end = end
    out.at[out.n].side = side
    out.n += 1
    return 0


# --- comparing ------------------------------------------------------------------------------------------------

cdef int compare(Graph graph, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb, Parts* out) except -1 nogil:
    """Split the events after the last version that both sides went through into a's, b's and both's.

    Walks back from both versions, newest first, until a single version is left: `out.head`. A merge counts as one
    version as long as nothing else reaches into it. O(runs after the head, times log of the heads).
    """
    cdef Points heap
    cdef Point p, q
    cdef Py_ssize_t i
    cdef int64_t start, t, side
    cdef Part swap
    cdef bint done = False
    memset(&heap, 0, sizeof(heap))
    out.n = 0
    out.head.n = 0
    if na == 0 and heads_equal(&graph.heads, b, nb):
        return parts_push(out, 0, graph.n, 2)
    points_push(&heap, point(a, na, 1))
    points_push(&heap, point(b, nb, 2))
    while True:
        p = points_pop(&heap)
        while heap.n and same_point(&p, &heap.at[0]):
            q = points_pop(&heap)
            p.side |= q.side
        if heap.n == 0 or p.n == 0:
            if p.n == 1:
                push(&out.head, p.top)
            elif p.n:
                assign(&out.head, p.v, p.n)
            break
        points_shatter(&heap, &p)
        t = p.top
        side = p.side
        i = graph.find(t)
        start = graph.run[i].lv
        while heap.n and heap.at[0].top >= start:
            q = points_pop(&heap)
            points_shatter(&heap, &q)
            # Another path comes in here: what is above is not below it.
            parts_push(out, q.top + 1, t + 1, side)
            t = q.top
            side |= q.side
            if heap.n == 0:
                push(&out.head, t)
                done = True
                break
        if done:
            break
        parts_push(out, start, t + 1, side)
        points_push(&heap, point(graph.parents_of(i), graph.run[i].n_parents, side))
    free(heap.at)
    for i in range(out.n >> 1):
        swap = out.at[i]
        out.at[i] = out.at[out.n - 1 - i]
        out.at[out.n - 1 - i] = swap
    return 0


def diff(Graph graph not None, a, b):
    """How versions `a` and `b` differ: the seed's `head`, `shared`, `a_only` and `b_only`, in local versions.

    `head` is where a walk that merges them must start: every event outside it came after all of it. `shared`
    are the events after `head` that both have. Ranges are half-open, ascending. O(runs after the head).
    """
    cdef Ints va, vb
    cdef Parts parts
    cdef Py_ssize_t i
    cdef list side
    memset(&va, 0, sizeof(va))
    memset(&vb, 0, sizeof(vb))
    memset(&parts, 0, sizeof(parts))
    try:
        graph.read_version(a, &va)
        graph.read_version(b, &vb)
        with nogil:
            compare(graph, va.at, va.n, vb.at, vb.n, &parts)
        sides = ([], [], [])
        for i in range(parts.n):
            side = sides[parts.at[i].side - 1]
            side.append((parts.at[i].start, parts.at[i].end))
        head = tuple([parts.head.at[i] for i in range(parts.head.n)])
    finally:
        free(va.at)
        free(vb.at)
        free(parts.at)
        free(parts.head.at)
    return Diff(head, sides[2], sides[0], sides[1])
