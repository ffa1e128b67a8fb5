"""The total-order walk: one order of a set of events, whatever the order in which they came.

A *group* is a maximal run of one agent's events with contiguous seqs, each but the first having its predecessor as its only
parent: what was done in one go. Of all groups whose first event's parents have been emitted, the next is the one with the
smallest (Lamport clock of its first event, agent, seq); it is emitted whole. Only a group's first event can wait for another
group, so no two groups wait for each other.
"""

cimport cython

from collections import namedtuple

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.graph cimport Graph, GraphRun, Parts
from egwalker.cycore.mem cimport Ints, push, reserve

Group = namedtuple("Group", "agent seq length clock ranges")


@cython.final
cdef class Groups:
    """Iterates over groups; O(rows) to begin, then O(log groups + rows of the group) for each."""

    def __cinit__(self, Graph graph not None):
        self.graph = graph

    def __dealloc__(self):
        free(self.stretch)
        free(self.group)
        free(self.edges.at)
        free(self.links.at)
        free(self.heap.at)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int64_t g, i, length
        cdef Py_ssize_t k
        cdef GroupRow* group
        if self.heap.n == 0:
            raise StopIteration
        g = self.pop_group()
        group = &self.group[g]
        for k in range(group.n_links):
            i = self.links.at[group.links + k]
            self.group[i].waiting -= 1
            if self.group[i].waiting == 0:
                self.push_group(i)
        ranges = []
        length = 0
        k = group.first
        while k >= 0:
            ranges.append((self.stretch[k].start, self.stretch[k].end))
            length += self.stretch[k].end - self.stretch[k].start
            k = self.stretch[k].next
        agent, seq = self.graph.id(self.stretch[group.first].start)
        return Group(agent, seq, length, group.clock, tuple(ranges))

    cdef int gather(self, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb) except -1 nogil:
        """Collect the groups of the events in `b` and not in `a`."""
        cdef Parts parts
        cdef Py_ssize_t i, row
        cdef int64_t lo, hi, before
        memset(&parts, 0, sizeof(parts))
        try:
            self.graph.compare(a, na, b, nb, &parts)
            for i in range(parts.n):
                if parts.at[i].side != 2:
                    continue
                lo = parts.at[i].start
                row = self.graph.find(lo)
                while lo < parts.at[i].end:
                    hi = min(self.graph.run_end(row), parts.at[i].end)
                    if lo == self.graph.run[row].lv:
                        self.add(lo, hi, self.graph.parents_of(row), self.graph.run[row].n_parents, row)
                    else:
                        before = lo - 1
                        self.add(lo, hi, &before, 1, row)
                    lo = hi
                    row += 1
        finally:
            free(parts.at)
            free(parts.head.at)
        return self.link()

    cdef Py_ssize_t stretch_of(self, int64_t lv) noexcept nogil:
        """The stretch that holds `lv`, -1 if none does."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.n_stretches
        cdef Py_ssize_t mid
        while lo < hi:
            mid = (lo + hi) >> 1
            if self.stretch[mid].start <= lv:
                lo = mid + 1
            else:
                hi = mid
        if lo and lv < self.stretch[lo - 1].end:
            return lo - 1
        return -1

    cdef int add(self, int64_t start, int64_t end, const int64_t* parents, Py_ssize_t n, Py_ssize_t row) except -1 nogil:
        cdef GraphRun* run = &self.graph.run[row]
        cdef GraphRun* other
        cdef Stretch* new
        cdef GroupRow* group
        cdef Py_ssize_t i, at, g
        reserve(<void**>&self.stretch, &self.cap_stretches, self.n_stretches + 1, sizeof(Stretch))
        new = &self.stretch[self.n_stretches]
        new.start = start
        new.end = end
        new.next = -1
        if n == 1:
            at = self.stretch_of(parents[0])
            other = &self.graph.run[self.graph.find(parents[0])]
            if at >= 0 and other.agent == run.agent and other.seq + (parents[0] - other.lv) + 1 == run.seq + (start - run.lv):
                # The next seq is this one, so nothing else goes on from there.
                new.group = self.stretch[at].group
                self.stretch[at].next = self.n_stretches
                self.group[new.group].last = self.n_stretches
                self.n_stretches += 1
                return 0
        reserve(<void**>&self.group, &self.cap_groups, self.n_groups + 1, sizeof(GroupRow))
        g = self.n_groups
        group = &self.group[g]
        group.first = self.n_stretches
        group.last = self.n_stretches
        group.clock = run.clock + (start - run.lv)
        group.waiting = 0
        group.n_links = 0
        new.group = g
        for i in range(n):
            at = self.stretch_of(parents[i])
            if at >= 0:
                push(&self.edges, self.stretch[at].group)
                push(&self.edges, g)
                group.waiting += 1
        self.n_stretches += 1
        self.n_groups += 1
        return 0

    cdef int link(self) except -1 nogil:
        cdef Py_ssize_t i
        cdef Py_ssize_t total = 0
        cdef GroupRow* group
        for i in range(0, self.edges.n, 2):
            self.group[self.edges.at[i]].n_links += 1
        for i in range(self.n_groups):
            self.group[i].links = total
            total += self.group[i].n_links
            self.group[i].n_links = 0
        reserve(<void**>&self.links.at, &self.links.cap, total, sizeof(int64_t))
        self.links.n = total
        for i in range(0, self.edges.n, 2):
            group = &self.group[self.edges.at[i]]
            self.links.at[group.links + group.n_links] = self.edges.at[i + 1]
            group.n_links += 1
        free(self.edges.at)
        memset(&self.edges, 0, sizeof(Ints))
        for i in range(self.n_groups):
            if self.group[i].waiting == 0:
                self.push_group(i)
        return 0

    # A min-heap of groups.

    cdef bint sooner(self, int64_t a, int64_t b) noexcept nogil:
        if self.group[a].clock != self.group[b].clock:
            return self.group[a].clock < self.group[b].clock
        return self.graph.order_ids(self.stretch[self.group[a].first].start, self.stretch[self.group[b].first].start) < 0

    cdef int push_group(self, int64_t g) except -1 nogil:
        cdef Py_ssize_t i = self.heap.n
        push(&self.heap, g)
        while i and self.sooner(g, self.heap.at[(i - 1) >> 1]):
            self.heap.at[i] = self.heap.at[(i - 1) >> 1]
            i = (i - 1) >> 1
        self.heap.at[i] = g
        return 0

    cdef int64_t pop_group(self) noexcept nogil:
        cdef int64_t top = self.heap.at[0]
        cdef int64_t g
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t child = 1
        self.heap.n -= 1
        g = self.heap.at[self.heap.n]
        while child < self.heap.n:
            if child + 1 < self.heap.n and self.sooner(self.heap.at[child + 1], self.heap.at[child]):
                child += 1
            if not self.sooner(self.heap.at[child], g):
                break
            self.heap.at[i] = self.heap.at[child]
            i = child
            child = 2 * i + 1
        if self.heap.n:
            self.heap.at[i] = g
        return top


def groups(Graph graph not None, a=(), b=None):
    """The groups of the events in version `b` (by default: all) that are not in version `a`, in the total order.

    The order depends on that set of events alone. Yields `Group(agent, seq, length, clock, ranges)`: seq and Lamport clock
    of the first event, and the group's local versions as half-open ranges in the order of the seqs.

    >>> from egwalker.cycore.graph import Graph
    >>> graph = Graph()
    >>> graph.add("b", 0, [], 2), graph.add("a", 0, [], 1), graph.add("a", 1, [1, 2], 1)
    (0, 2, 3)
    >>> [(group.agent, group.seq, group.length, group.clock) for group in groups(graph)]
    [('a', 0, 1, 0), ('b', 0, 2, 0), ('a', 1, 1, 2)]
    """
    cdef Ints va, vb
    cdef Groups found = Groups(graph)
    memset(&va, 0, sizeof(va))
    memset(&vb, 0, sizeof(vb))
    try:
        graph.read_version(a, &va)
        graph.read_version(graph.frontier if b is None else b, &vb)
        with nogil:
            found.gather(va.at, va.n, vb.at, vb.n)
    finally:
        free(va.at)
        free(vb.at)
    return found
