"""The total-order walk: one order of a set of events, whatever the order in which they came.

A *group* is a maximal run of one agent's events with contiguous seqs, each but the first having its predecessor as its only
parent: what was done in one go. Of all groups whose first event's parents have been emitted, the next is the one with the
smallest (Lamport clock of its first event, agent, seq); it is emitted whole.

Nothing need be waiting for that. A group whose first event has a parent in another group has a larger clock than that group's
first event, so whatever an emitted group lets go comes after it: the walk emits groups in ascending order of (clock, agent,
seq), and to sort them is to walk. An event that arrives late changes nothing in the order of the others. It makes its group
longer, or is a new one, and only moves what follows.
"""

cimport cython

from collections import namedtuple

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from egwalker.cycore.diff cimport Parts, compare
from egwalker.cycore.graph cimport Graph, GraphRun, Names
from egwalker.cycore.mem cimport Ints, assign, push, reserve
from egwalker.cycore.oplog cimport DELETE, OpLog, OpRun, step_of

from egwalker.cycore.errors import DecodeError, VersionError

Group = namedtuple("Group", "agent seq length clock ranges")


cdef int add(Stretches* to, int64_t start, int64_t end, Py_ssize_t lead, bint fresh) except -1:
    cdef Stretch* new
    reserve(<void**>&to.at, &to.cap, to.n + 1, sizeof(Stretch))
    new = &to.at[to.n]
    new.start = start
    new.end = end
    new.lead = lead
    new.fresh = fresh
    to.n += 1
    return 0


@cython.final
cdef class Order:
    """The events of a version in the total order, and the way to later versions.

    A *place* is how many events come before. What was before the graph's base comes first, in an order that nobody knows.

    >>> from egwalker.cycore.graph import Graph
    >>> graph = Graph()
    >>> graph.add("b", 0, [], 2), graph.add("c", 0, [1], 1)
    (0, 2)
    >>> order = Order(graph)
    >>> order.merge(), list(order.ranges(0))
    ((0, [(0, 0, 3)]), [(0, 2), (2, 3)])
    >>> graph.add("a", 0, [], 1)
    3
    >>> order.merge(), list(order.ranges(0))
    ((0, [(0, 3, 4)]), [(3, 4), (0, 2), (2, 3)])
    """

    def __cinit__(self, Graph graph not None):
        self.graph = graph
        self.names = Names()
        self.length = self.top = graph.base
        assign(&self.heads, graph.root_.at, graph.root_.n)

    def __dealloc__(self):
        free(self.order.at)
        free(self.old.at)
        free(self.heads.at)
        free(self.old_heads.at)
        free(self.lead.at)

    def __len__(self):
        return self.length

    @property
    def version(self):
        """The version's local versions, ascending. O(heads)."""
        return tuple([self.heads.at[i] for i in range(self.heads.n)])

    @property
    def ids(self):
        """The version as ids, an ascending tuple. O(heads), and O(log rows) for each that is new since the last time."""
        return self.names.of(self.graph, &self.heads)

    # --- on to another version ----------------------------------------------------------------------------------

    def merge(self, version=None):
        """Take in the events of `version`, by default of the whole graph; returns `(kept, added)`.

        The first `kept` events stay at their places. `added` are `(place, start, end)`, ascending: what was added, and where
        it is now. O(log rows + what was added + stretches that follow the first place), and for a `version`, or if the last
        one was none of the whole graph, O(rows between the two).
        """
        cdef Ints wanted
        cdef Stretches new
        cdef Py_ssize_t i
        cdef int64_t place
        memset(&wanted, 0, sizeof(wanted))
        memset(&new, 0, sizeof(new))
        try:
            if version is None:
                assign(&wanted, self.graph.heads.front.at, self.graph.heads.front.n)
            else:
                self.graph.read_version(version, &wanted)
            self.old_leads = self.lead.n
            self.find_leads()
            self.gather(&wanted, version is None, &new)
            self.sort(&new)
            place = self.length
            i = self.order.n
            while i and new.n and self.before(&new.at[0], &self.order.at[i - 1]):
                i -= 1
                place -= self.order.at[i].end - self.order.at[i].start
            kept = place
            # The stretch before may go on in what is new.
            self.save(i - 1 if i else 0)
            assign(&self.old_heads, self.heads.at, self.heads.n)
            if version is not None:
                for k in range(self.heads.n):
                    push(&wanted, self.heads.at[k])
                if wanted.n > 1:
                    self.graph.reduce(&wanted)
            reserve(<void**>&self.heads.at, &self.heads.cap, wanted.n, sizeof(int64_t))
            # From here on nothing fails.
            self.insert(&new, i)
            assign(&self.heads, wanted.at, wanted.n)
        finally:
            free(wanted.at)
            free(new.at)
        added = self.fresh(i, place)
        self.join()
        return kept, added

    cdef list fresh(self, Py_ssize_t first, int64_t place):
        """What is new from stretch `first` on, which is at `place`, as `(place, start, end)`."""
        cdef Py_ssize_t i
        cdef Stretch* stretch
        cdef int64_t start = 0
        cdef int64_t end = 0
        cdef int64_t where = 0
        found = []
        for i in range(first, self.order.n):
            stretch = &self.order.at[i]
            if stretch.fresh:
                if stretch.start != end or where + end - start != place:
                    if start < end:
                        found.append((where, start, end))
                    where = place
                    start = stretch.start
                end = stretch.end
            place += stretch.end - stretch.start
        if start < end:
            found.append((where, start, end))
        return found

    def undo_merge(self):
        """Take back the last `merge`, once. O(stretches that follow the first place)."""
        reserve(<void**>&self.order.at, &self.order.cap, self.first + self.old.n, sizeof(Stretch))
        if self.old.n:
            memcpy(self.order.at + self.first, self.old.at, self.old.n * sizeof(Stretch))
        self.order.n = self.first + self.old.n
        self.length = self.old_length
        self.top = self.old_top
        self.names = Names()  # the log may lose events that had been named
        self.lead.n = self.old_leads
        assign(&self.heads, self.old_heads.at, self.old_heads.n)

    cdef int find_leads(self) except -1:
        """Note for each new row of the graph with which one its group begins."""
        cdef Graph graph = self.graph
        cdef GraphRun* run
        cdef GraphRun* other
        cdef Py_ssize_t row, i
        cdef int64_t parent, lead
        reserve(<void**>&self.lead.at, &self.lead.cap, graph.n_runs, sizeof(int64_t))
        for row in range(self.lead.n, graph.n_runs):
            run = &graph.run[row]
            lead = row
            if run.n_parents == 1:
                parent = run.parents
                i = row - 1 if parent >= graph.run[row - 1].lv else graph.find_between(parent, 0, row - 1)
                other = &graph.run[i]
                if other.agent == run.agent and other.seq + (parent - other.lv) + 1 == run.seq:
                    lead = self.lead.at[i]
            push(&self.lead, lead)
        return 0

    cdef bint before(self, const Stretch* a, const Stretch* b) noexcept:
        """Whether `a` comes before `b` in the total order."""
        cdef GraphRun* x
        cdef GraphRun* y
        if a.lead == b.lead:
            return a.start < b.start
        x = &self.graph.run[a.lead]
        y = &self.graph.run[b.lead]
        if x.clock != y.clock:
            return x.clock < y.clock
        return self.graph.order_ids(x.lv, y.lv) < 0

    cdef int gather(self, const Ints* wanted, bint all_of_it, Stretches* new) except -1:
        """The stretches of version `wanted` that are not here."""
        cdef Parts parts
        cdef Py_ssize_t i
        if all_of_it and self.length == self.top:
            return self.gather_rows(self.top, self.graph.n, new)
        memset(&parts, 0, sizeof(parts))
        try:
            compare(self.graph, self.heads.at, self.heads.n, wanted.at, wanted.n, &parts)
            for i in range(parts.n):
                if parts.at[i].side == 2:
                    self.gather_rows(parts.at[i].start, parts.at[i].end, new)
        finally:
            free(parts.at)
            free(parts.head.at)
        return 0

    cdef int gather_rows(self, int64_t lo, int64_t end, Stretches* new) except -1:
        cdef int64_t hi
        cdef Py_ssize_t row
        if lo >= end:
            return 0
        row = self.graph.find_late(lo)
        while lo < end:
            hi = min(self.graph.run_end(row), end)
            add(new, lo, hi, self.lead.at[row], True)
            lo = hi
            row += 1
        return 0

    cdef int sort(self, Stretches* new) except -1:
        """Bring stretches into the total order, by merging ever longer parts of them."""
        cdef Stretches other
        cdef Stretch* swap
        cdef Py_ssize_t width = 1
        cdef Py_ssize_t lo, mid, end, i, j, k
        if new.n < 2:
            return 0
        memset(&other, 0, sizeof(other))
        reserve(<void**>&other.at, &other.cap, new.n, sizeof(Stretch))
        while width < new.n:
            lo = 0
            while lo < new.n:
                mid = min(lo + width, new.n)
                end = min(mid + width, new.n)
                i = lo
                j = mid
                if mid < end and not self.before(&new.at[mid], &new.at[mid - 1]):
                    memcpy(other.at + lo, new.at + lo, (end - lo) * sizeof(Stretch))
                    lo = end
                    continue
                for k in range(lo, end):
                    if j == end or (i < mid and not self.before(&new.at[j], &new.at[i])):
                        other.at[k] = new.at[i]
                        i += 1
                    else:
                        other.at[k] = new.at[j]
                        j += 1
                lo = end
            swap = new.at
            new.at = other.at
            other.at = swap
            width *= 2
        free(other.at)
        # Both have room for `n`: the smaller of the two is what is known of the one kept.
        new.cap = new.n
        return 0

    cdef int save(self, Py_ssize_t first) except -1:
        """Keep what is from stretch `first` on for `undo_merge`."""
        self.first = first
        self.old.n = self.order.n - first
        reserve(<void**>&self.old.at, &self.old.cap, self.old.n, sizeof(Stretch))
        if self.old.n:
            memcpy(self.old.at, self.order.at + first, self.old.n * sizeof(Stretch))
        self.old_length = self.length
        self.old_top = self.top
        return 0

    cdef int insert(self, const Stretches* new, Py_ssize_t after) except -1:
        """Put sorted stretches among those from `after` on."""
        cdef Py_ssize_t i = self.order.n - 1
        cdef Py_ssize_t j = new.n - 1
        cdef Py_ssize_t k = i + new.n
        reserve(<void**>&self.order.at, &self.order.cap, k + 1, sizeof(Stretch))
        self.order.n = k + 1
        while j >= 0:
            if i >= after and self.before(&new.at[j], &self.order.at[i]):
                self.order.at[k] = self.order.at[i]
                i -= 1
            else:
                self.order.at[k] = new.at[j]
                self.length += new.at[j].end - new.at[j].start
                self.top = max(self.top, new.at[j].end)
                j -= 1
            k -= 1
        return 0

    cdef int join(self) except -1:
        """Make one of stretches that go on from each other, among those that the last merge has moved."""
        cdef Py_ssize_t i
        cdef Py_ssize_t kept = self.first
        cdef Stretch* stretch
        cdef Stretch* last
        for i in range(self.first, self.order.n):
            stretch = &self.order.at[i]
            stretch.fresh = False
            if kept:
                last = &self.order.at[kept - 1]
                if last.end == stretch.start and last.lead == stretch.lead:
                    last.end = stretch.end
                    continue
            self.order.at[kept] = stretch[0]
            kept += 1
        self.order.n = kept
        return 0

    # --- reading ------------------------------------------------------------------------------------------------

    def ranges(self, start: int):
        """The local versions from the place `start` to the end: half-open ranges, in the total order. O(stretches returned)."""
        cdef Py_ssize_t i = self.order.n
        cdef int64_t left
        if not self.graph.base <= start <= self.length:
            raise VersionError(f"place {start} is not within {self.graph.base}..{self.length}")
        left = self.length - start
        while left > 0:
            i -= 1
            left -= self.order.at[i].end - self.order.at[i].start
        found = [(self.order.at[k].start, self.order.at[k].end) for k in range(i, self.order.n)]
        if left:
            found[0] = (found[0][0] - left, found[0][1])
        return found

    def groups(self):
        """`Group(agent, seq, length, clock, ranges)` for each group: seq and Lamport clock of its first event, and its local
        versions as half-open ranges in the order of the seqs. O(stretches).
        """
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t lead
        cdef GraphRun* run
        while i < self.order.n:
            lead = self.order.at[i].lead
            ranges = []
            length = 0
            while i < self.order.n and self.order.at[i].lead == lead:
                ranges.append((self.order.at[i].start, self.order.at[i].end))
                length += self.order.at[i].end - self.order.at[i].start
                i += 1
            run = &self.graph.run[lead]
            yield Group(self.graph.index.names[run.agent], run.seq, length, run.clock, tuple(ranges))

    def copy(self, Graph graph not None):
        """The same of a copy of the graph. O(stretches)."""
        cdef Order other = Order(graph)
        reserve(<void**>&other.order.at, &other.order.cap, self.order.n, sizeof(Stretch))
        if self.order.n:
            memcpy(other.order.at, self.order.at, self.order.n * sizeof(Stretch))
        other.order.n = self.order.n
        other.length = self.length
        other.top = self.top
        assign(&other.heads, self.heads.at, self.heads.n)
        assign(&other.lead, self.lead.at, self.lead.n)
        return other

    def memory(self):
        """Bytes allocated."""
        return (self.order.cap + self.old.cap) * sizeof(Stretch) + (self.lead.cap + self.heads.cap + self.old_heads.cap) * 8

    def _check(self):
        """Assert every invariant, and that a walk from nothing gives the same. For tests."""
        cdef Py_ssize_t i
        cdef Order fresh = Order(self.graph)
        cdef int64_t base = self.graph.base
        fresh.merge(self.version)
        assert fresh.ranges(base) == self.ranges(base), f"the order is {self.ranges(base)}, not {fresh.ranges(base)}"
        assert fresh.length == self.length == base + sum([end - start for start, end in self.ranges(base)])
        assert fresh.top == self.top and fresh.version == self.version
        assert self.ids == self.graph.ids(self.version), f"{self.version} are not {self.ids}"
        for i in range(1, self.order.n):
            assert self.before(&self.order.at[i - 1], &self.order.at[i]), f"stretch {i} is not in order"


def groups(Graph graph not None, version=None):
    """The groups of the events in a version, by default of all, in the total order, as `Order.groups` has them.

    The order depends on that set of events alone. O(rows * log rows).

    >>> from egwalker.cycore.graph import Graph
    >>> graph = Graph()
    >>> graph.add("b", 0, [], 2), graph.add("a", 0, [], 1), graph.add("a", 1, [1, 2], 1)
    (0, 2, 3)
    >>> [(group.agent, group.seq, group.length, group.clock) for group in groups(graph)]
    [('a', 0, 1, 0), ('b', 0, 2, 0), ('a', 1, 1, 2)]
    """
    order = Order(graph)
    order.merge(version)
    return order.groups()


# --- operations -------------------------------------------------------------------------------------------------

def check_operations(OpLog log not None, ranges):
    """Raise `DecodeError` unless all events in half-open ranges of local versions are operations.

    In the log an operation is a value that is inserted at the position that is the event's seq. O(rows).
    """
    cdef Graph graph = log.graph
    cdef Py_ssize_t row, i
    cdef int64_t lo, hi, end, seq
    cdef OpRun* run
    for lo, end in ranges:
        if lo >= end:
            continue
        row = graph.find(lo)
        i = log.find(lo)
        while lo < end:
            run = &log.run[i]
            hi = min(end, min(graph.run_end(row), log.run_end(i)))
            seq = graph.run[row].seq + (lo - graph.run[row].lv)
            if run.kind >= DELETE or run.pos + step_of(run.kind) * (lo - run.lv) != seq or (hi - lo > 1 and step_of(run.kind) != 1):
                raise DecodeError(
                    f"event {graph.index.names[graph.run[row].agent]}:{seq} is no operation, which is inserted at the position {seq}"
                )
            lo = hi
            if lo == graph.run_end(row):
                row += 1
            if lo == log.run_end(i):
                i += 1


def operations(OpLog log not None, ranges):
    """The JSON texts of the operations in half-open ranges of local versions, in their order. O(how many)."""
    cdef Py_ssize_t i
    cdef int64_t lo, hi, end
    cdef OpRun* run
    found = []
    for lo, end in ranges:
        i = log.find(lo) if lo < end else 0
        while lo < end:
            run = &log.run[i]
            hi = min(end, log.run_end(i))
            found += log.content_of(run, lo - run.lv, hi - lo)
            lo = hi
            i += 1
    return found
