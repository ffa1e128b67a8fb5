"""Blame: by which event each element of a version was inserted.

The walk says which edits make the content of a version, and of which events they are. Here they are made in a span tree
instead of a text buffer: one item for what an event run inserted, cut where others inserted or deleted something.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, Spans, push_span
from egwalker.cycore.oplog cimport PREPEND, OpLog
from egwalker.cycore.spans cimport SpanLeaf, SpanTree
from egwalker.cycore.walker cimport Out, Walker


cdef int edit(SpanTree tree, OpLog log, const Out* out) except -1 nogil:
    """Make one edit of the document."""
    cdef int64_t i
    tree.n_touched = 0  # nothing is retreated here
    if out.lv < 0:
        return tree.delete(out.pos, out.length)
    if log.run[log.find(out.lv)].kind == PREPEND:
        for i in range(out.length):
            tree.insert(out.pos, 1, out.lv + i)
    else:
        tree.insert(out.pos, out.length, out.lv)
    return 0


cdef int survivors(SpanTree tree, Spans* found) except -1 nogil:
    """The local versions of the elements that are not deleted, in the document's order."""
    cdef SpanLeaf* leaf
    cdef int32_t number = 0  # the first leaf: leaves split to the right
    cdef int32_t i
    cdef int64_t lv
    while number >= 0:
        leaf = &tree.leaf[number]
        for i in range(leaf.n):
            lv = tree.item[leaf.at[i].item].lv
            if leaf.at[i].kept:
                push_span(found, lv, lv + leaf.at[i].kept)
        number = leaf.next
    return 0


cdef list named(Graph graph, const Spans* found):
    """The same as `(agent, start, end)`, half-open ranges of seqs, joined where one goes on from the one before."""
    cdef Py_ssize_t i, row
    cdef int64_t lo, hi, seq
    cdef int32_t agent = -1
    cdef int64_t start = 0
    cdef int64_t end = 0
    runs = []
    for i in range(found.n):
        lo = found.at[i].start
        row = graph.find(lo)
        while lo < found.at[i].end:
            hi = min(graph.run_end(row), found.at[i].end)
            seq = graph.run[row].seq + (lo - graph.run[row].lv)
            if graph.run[row].agent != agent or seq != end:
                if agent >= 0:
                    runs.append((graph.index.names[agent], start, end))
                agent = graph.run[row].agent
                start = seq
            end = seq + (hi - lo)
            lo = hi
            row += 1
    if agent >= 0:
        runs.append((graph.index.names[agent], start, end))
    return runs


def blame(OpLog log not None, version):
    """Who inserted what there is at `version`, a sequence of local versions: `(agent, start, end)` for each run of elements
    with consecutive ids, in the document's order.

    O(events before the version, run-length encoded, times log n). `PositionError` for an impossible history.

    >>> from egwalker.cycore.oplog import OpLog
    >>> log = OpLog()
    >>> log.add("a", 0, [], [(0, 0, "held")]), log.add("b", 0, [("a", 3)], [(2, 1, "llo wor")])
    (4, 8)
    >>> blame(log, [3]), blame(log, [11])
    ([('a', 0, 4)], [('a', 0, 2), ('b', 1, 8), ('a', 3, 4)])
    """
    cdef Walker walker = Walker(log, None)
    cdef SpanTree tree = SpanTree(log.graph)
    cdef Ints heads
    cdef Spans found
    cdef Py_ssize_t i
    memset(&heads, 0, sizeof(heads))
    memset(&found, 0, sizeof(found))
    try:
        log.graph.read_version(version, &heads)
        walker.recording = True
        with nogil:
            walker.run(NULL, 0, heads.at, heads.n)
            for i in range(walker.n_out):
                edit(tree, log, &walker.out[i])
            survivors(tree, &found)
        return named(log.graph, &found)
    finally:
        free(heads.at)
        free(found.at)
