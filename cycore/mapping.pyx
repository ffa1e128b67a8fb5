"""Positions of one version in a later one, where no live window has both: a walk that is for that alone.

All that the later version has beyond the other, and what is concurrent with it, is walked in one span tree, which is not
cut at critical versions: what was deleted on the way must be known, as it is where a position may have been. Once all of
the older version is in the tree, the element before the position is found, and at the end how many are visible up to it.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.diff cimport Part, compare
from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, push, reserve
from egwalker.cycore.oplog cimport PREPEND, OpLog
from egwalker.cycore.spans cimport Cursor, SpanTree
from egwalker.cycore.walker cimport Walker

from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH

cdef int64_t UNKNOWN_LENGTH = _MAX_LENGTH


cdef bint few(OpLog log, Graph graph, const Part* part, Py_ssize_t n, int64_t rows) noexcept nogil:
    """Whether parts of the log are no more than `rows` rows of it and of its graph."""
    cdef Py_ssize_t i, op, row
    cdef int64_t lv, hi
    for i in range(n):
        lv = part[i].start
        op = log.find(lv)
        row = graph.find(lv)
        while lv < part[i].end:
            hi = min(log.run_end(op), graph.run_end(row), part[i].end)
            # Text typed backwards is walked one by one.
            rows -= hi - lv if log.run[op].kind == PREPEND else 1
            if rows < 0:
                return False
            op += hi == log.run_end(op)
            row += hi == graph.run_end(row)
            lv = hi
    return True


cdef int64_t walk(Walker walker, SpanTree tree, int64_t pos, int64_t* length) except -1 nogil:
    """How many elements the later version has up to that before `pos` of the older one, itself included.

    `length` is that of the later one, and then of the older one: if `pos` is beyond it there is no answer.
    """
    cdef Cursor at
    cdef Py_ssize_t i
    cdef int32_t number
    cdef int32_t handle = -1
    cdef int64_t kept
    reserve(<void**>&walker.window, &walker.cap_window, walker.parts.n, sizeof(Part))
    for i in range(walker.parts.n):
        walker.window[i] = walker.parts.at[i]
    walker.n_window = walker.parts.n
    walker.cut_pieces()
    walker.link_pieces()
    walker.at = -1
    tree.reset(UNKNOWN_LENGTH)
    walker.drain()
    kept = tree.kept
    if 0 < pos <= kept:
        at = tree.find_kept(pos - 1)
        number = tree.leaf[at.leaf].at[at.slot].item
        if at.offset + 1 < tree.item[number].length:
            tree.split_item(number, at.offset + 1)
        handle = tree.item[number].end
    for i in range(walker.later.n):
        push(&walker.ready, walker.later.at[i])
    walker.later.n = 0
    walker.start_ready(0)
    walker.drain()
    length[0] -= tree.kept - kept
    return tree.kept_through(tree.item_of_end[handle]) if handle >= 0 else 0


def map_position(OpLog log not None, version, later, int64_t pos, int64_t length, rows=None):
    """Where position `pos` of `version` is in the version `later`, which follows it and has `length` elements; and how many
    elements `version` has: if `pos` is beyond that, the position means nothing. None if more than `rows` rows of the log
    would have to be walked. O(those after `version` or concurrent with them, times log n).

    >>> from egwalker.cycore.oplog import OpLog
    >>> log = OpLog()
    >>> log.add("a", 0, [], [(0, 0, "abc")]), log.add("b", 0, [("a", 2)], [(1, 1, "xyz")])
    (3, 4)
    >>> [map_position(log, [2], [6], pos, 5) for pos in range(4)]
    [(0, 3), (1, 3), (4, 3), (5, 3)]
    """
    cdef Walker walker = Walker(log, None)
    cdef SpanTree tree = walker.tree
    cdef Graph graph = log.graph
    cdef Ints old, new
    cdef int64_t most, found
    memset(&old, 0, sizeof(old))
    memset(&new, 0, sizeof(new))
    try:
        graph.read_version(version, &old)
        graph.read_version(later, &new)
        if rows is not None:
            # What comes after the oldest head is what is to be walked, at least mostly.
            most = rows
            if graph.n_runs - (graph.find(old.at[0]) if old.n else 0) > most + 1:
                return None
        with nogil:
            compare(graph, old.at, old.n, new.at, new.n, &walker.parts)
        if rows is not None and not few(log, graph, walker.parts.at, walker.parts.n, most):
            return None
        if walker.parts.n == 0:
            return pos, length
        with nogil:
            found = walk(walker, tree, pos, &length)
        return found, length
    finally:
        free(old.at)
        free(new.at)
