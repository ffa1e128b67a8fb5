"""The event graph: who made what, on top of which events.

Events are known inside one process by their *local version* (LV), the order of their arrival; parents always have
smaller LVs. Consecutive events of one agent, each the only child-to-be of the one before, are one row (`GraphRun`),
so a graph of a million keystrokes is a few thousand rows.
"""

cimport cython

from bisect import bisect_left, insort
from collections import namedtuple

from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free, qsort
from libc.string cimport memcmp, memcpy, memset

from egwalker.cycore.agents cimport AgentIds, AgentIndex, check_seqs
from egwalker.cycore.mem cimport (
    Heads, Ints, Span, Spans, assign, below, heads_add, heap_pop, heap_push, push, push_span, reserve,
)

from egwalker.cycore.errors import AgentError, ConflictError, HistoryError, VersionError

Run = namedtuple("Run", "start end agent seq parents clock")


cdef int by_value(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const int64_t*>a)[0]
    cdef int64_t y = (<const int64_t*>b)[0]
    return (x > y) - (x < y)


cdef bint all_heads(const Ints* front, const Ints* versions) noexcept nogil:
    """Whether all of these ascending versions are heads, and none of them twice. O(versions * log heads)."""
    cdef Py_ssize_t i, k
    for i in range(versions.n):
        k = below(front.at, front.n, versions.at[i])
        if k == front.n or front.at[k] != versions.at[i] or (i and versions.at[i - 1] == versions.at[i]):
            return False
    return True


@cython.final
cdef class Graph:
    """An append-only graph of events, run-length encoded.

    >>> graph = Graph()
    >>> graph.add("a", 0, [], 1), graph.add("b", 0, [], 2)
    (0, 1)
    >>> graph.frontier, graph.id(2), graph.lv("b", 1)
    ((0, 2), ('b', 1), 2)
    >>> graph.dominators([0, 1, 2]), graph.contains([2], 0)
    ((0, 2), False)
    """

    def __cinit__(self):
        self.index = AgentIndex()

    def __dealloc__(self):
        free(self.run)
        free(self.pool.at)
        free(self.heads.front.at)
        free(self.heads.critical.at)
        free(self.root_.at)

    def __len__(self):
        return self.n

    @property
    def frontier(self):
        """The local versions without children, ascending. O(heads)."""
        return tuple([self.heads.front.at[i] for i in range(self.heads.front.n)])

    @property
    def agents(self):
        """Names of the agents with events here, in the order in which they were first seen."""
        return tuple([self.index.names[i] for i in range(self.index.n) if self.index.agent[i].n])

    # --- beginning in the middle ------------------------------------------------------------------------------

    def begin_after(self, vector, heads):
        """Begin, while empty, after the events of a version vector, whose heads are these ids, ascending.

        They get the local versions before `base`, in an order that means nothing but that the heads are last. What is added
        later must follow all of them, directly or not; what would need more than their ids is a `HistoryError`.
        O(ranges * heads of an agent).
        """
        cdef int64_t at, start, end
        cdef list seqs
        cuts = {}
        for agent, seq in heads:
            seqs = cuts.setdefault(agent, [])
            seqs.append(seq)
        for agent, ranges in vector.items():
            for start, end in ranges:
                for at in sorted(cuts.get(agent, ())):
                    if start <= at < end:
                        self.add_base(self.index.number(agent), start, at - start)
                        start = at + 1
                self.add_base(self.index.number(agent), start, end - start)
        for agent, at in heads:
            push(&self.root_, self.n)
            self.add_base(self.index.number(agent), at, 1)
        assign(&self.heads.front, self.root_.at, self.root_.n)
        if self.root_.n == 1:
            push_span(&self.heads.critical, self.n - 1, self.n)
        self.base_runs = self.n_runs
        self.base = self.n

    @property
    def root(self):
        """The version at which what is known begins: the heads of what is before `base`, none without any."""
        return tuple([self.root_.at[i] for i in range(self.root_.n)])

    def base_vector(self):
        """The version vector of the events before `base`. O(ranges)."""
        cdef Py_ssize_t i
        cdef list held
        vector = {}
        for i in range(self.base_runs):
            start = self.run[i].seq
            held = vector.setdefault(self.index.names[self.run[i].agent], [])
            held.append((start, start + self.run_end(i) - self.run[i].lv))
        return vector

    cdef int add_base(self, int32_t agent, int64_t seq, int64_t length) except -1:
        cdef GraphRun* run
        if length == 0:
            return 0
        check_seqs(seq, length)
        reserve(<void**>&self.run, &self.cap_runs, self.n_runs + 1, sizeof(GraphRun))
        run = &self.run[self.n_runs]
        memset(run, 0, sizeof(GraphRun))
        run.lv = self.n
        run.seq = seq
        run.agent = agent
        self.index.insert(agent, seq, self.n, length, True)
        self.n_runs += 1
        self.n += length
        return 0

    def check_whole(self):
        """Raise `HistoryError` if some events are known by their ids only."""
        self.check_reach(NULL, 0)

    cdef int check_reach(self, const int64_t* version, Py_ssize_t n) except -1 nogil:
        """Raise `HistoryError` unless a reduced version is all of `root`, or after it."""
        if self.base == 0 or n and version[0] >= self.base:
            return 0
        if n == self.root_.n and version[0] == self.root_.at[0]:
            return 0
        with gil:
            root = ",".join(["%s:%d" % self.name(self.root_.at[i]) for i in range(self.root_.n)])
            before = f", such as {self.name(version[0])[0]}:{self.name(version[0])[1]}" if n else ""
            raise HistoryError(
                f"this document begins at {root}; what was before{before} has not been fetched: `Link.history` does that"
            )

    # --- adding -----------------------------------------------------------------------------------------------

    def add(self, agent: str, seq: int, parents, length: int):
        """Add `length` events of `agent` from `seq` on; returns the first one's local version.

        The first event's parents are the local versions `parents`, each further event's parent is the one before it.
        Amortised O(log runs), and for a merge O(runs between its parents). Raises `VersionError` if a parent is not
        held, `ConflictError` if one of the events is, `AgentError` for impossible names and numbers.
        """
        cdef int64_t c_seq, c_length, run
        cdef int32_t number
        cdef Ints versions
        cdef int64_t first = self.n
        try:
            c_seq = seq
            c_length = length
        except OverflowError:
            raise AgentError(f"sequence numbers {seq}:{seq + length} are not within 0:2**53") from None
        if c_length <= 0:
            raise AgentError(f"a run has at least one event, not {length}")
        check_seqs(c_seq, c_length)
        memset(&versions, 0, sizeof(versions))
        try:
            self.read_version(parents, &versions)
            number = self.index.number(agent)
            if self.index.known(number, c_seq, &run) >= 0 or run < c_length:
                raise ConflictError(f"event {agent}:{c_seq if run >= c_length else c_seq + run} is held already")
            self.append(number, c_seq, versions.at, versions.n, c_length)
        finally:
            free(versions.at)
        return first

    cdef int append(self, int32_t agent, int64_t seq, const int64_t* parents, Py_ssize_t n, int64_t length) except -1 nogil:
        """Append a run; `parents` are ascending and none is another's ancestor; the ids are new."""
        cdef GraphRun* run
        cdef int64_t clock = 0
        cdef int64_t other
        cdef Py_ssize_t i, at
        cdef int64_t lv = self.n
        if n == 1 and parents[0] == lv - 1 and lv > self.base:
            run = &self.run[self.n_runs - 1]
            if run.agent == agent and run.seq + (lv - run.lv) == seq:
                self.index.insert(agent, seq, lv, length, lv != self.base)
                heads_add(&self.heads, parents, n, lv, lv + length)
                self.n += length
                return 0
        reserve(<void**>&self.run, &self.cap_runs, self.n_runs + 1, sizeof(GraphRun))
        for i in range(n):
            at = self.find_late(parents[i])
            other = self.run[at].clock + (parents[i] - self.run[at].lv) + 1
            if other > clock:
                clock = other
        run = &self.run[self.n_runs]
        run.lv = lv
        run.seq = seq
        run.clock = clock
        run.agent = agent
        run.n_parents = <int32_t>n
        if n == 1:
            run.parents = parents[0]
        else:
            run.parents = self.pool.n
            for i in range(n):
                push(&self.pool, parents[i])
        self.index.insert(agent, seq, lv, length, lv != self.base)
        heads_add(&self.heads, parents, n, lv, lv + length)
        self.n_runs += 1
        self.n += length
        return 0

    cdef int truncate(self, int64_t length) except -1 nogil:
        """Forget the events from local version `length` on: undoes additions that turned out to be invalid. O(runs)."""
        cdef Py_ssize_t i
        if length >= self.n:
            return 0
        while self.n_runs and self.run[self.n_runs - 1].lv >= length:
            self.n_runs -= 1
            if self.run[self.n_runs].n_parents > 1:
                self.pool.n = self.run[self.n_runs].parents
        self.index.truncate(length)
        self.n = length
        assign(&self.heads.front, self.root_.at, self.root_.n)
        self.heads.critical.n = 0
        if self.root_.n == 1:
            push_span(&self.heads.critical, self.base - 1, self.base)
        for i in range(self.base_runs, self.n_runs):
            heads_add(&self.heads, self.parents_of(i), self.run[i].n_parents, self.run[i].lv, self.run_end(i))
        return 0

    # --- looking up -------------------------------------------------------------------------------------------

    def has(self, agent: str, seq: int):
        """Whether this event is held. O(log of the agent's runs)."""
        return self.index.find(agent, seq) >= 0

    def lv(self, agent: str, seq: int):
        """The local version of an event; `VersionError` if it is not held. O(log of the agent's runs)."""
        cdef int64_t found = self.index.find(agent, seq)
        if found < 0:
            raise VersionError(f"event {agent}:{seq} is not held")
        return found

    cdef int check_lv(self, lv) except -1:
        if not 0 <= lv < self.n:
            raise VersionError(f"local version {lv} is not within 0:{self.n}")
        return 0

    cdef tuple name(self, int64_t lv):
        cdef GraphRun* run = &self.run[self.find(lv)]
        return self.index.names[run.agent], run.seq + (lv - run.lv)

    def id(self, lv: int):
        """The `(agent, seq)` of a local version. O(log runs)."""
        self.check_lv(lv)
        return self.name(lv)

    def ids(self, lvs):
        """The ids of some local versions, as an ascending tuple. O(log runs) each."""
        return tuple(sorted([self.id(lv) for lv in lvs]))

    def next_seq(self, agent: str):
        """One more than the largest seq held of `agent`, 0 if there is none. O(1)."""
        number = self.index.numbers.get(agent)
        return 0 if number is None else self.index.next_seq(number)

    def version_vector(self):
        """`{agent: [(start, end), ...]}`, half-open ranges of the seqs held. O(id runs)."""
        return self.index.version_vector()

    def parents(self, lv: int):
        """The parents of a local version, ascending. O(log runs)."""
        cdef Py_ssize_t i, k
        cdef const int64_t* at
        self.check_lv(lv)
        if lv < self.base:
            self.check_reach(NULL, 0)
        i = self.find(lv)
        if self.run[i].lv != lv:
            return (lv - 1,)
        at = self.parents_of(i)
        return tuple([at[k] for k in range(self.run[i].n_parents)])

    def clock(self, lv: int):
        """The Lamport clock: 0 without parents, else 1 + the largest of the parents'. O(log runs)."""
        cdef Py_ssize_t i
        self.check_lv(lv)
        i = self.find(lv)
        return self.run[i].clock + (lv - self.run[i].lv)

    def runs(self, start: int = 0, end=None):
        """The rows from local version `start` to `end`, cut to that range."""
        cdef Py_ssize_t i
        cdef int64_t lo, hi, stop
        if end is None:
            end = self.n
        if not 0 <= start <= end <= self.n:
            raise VersionError(f"local versions {start}:{end} are not within 0:{self.n}")
        if start == end:
            return
        if start < self.base:
            self.check_reach(NULL, 0)
        i = self.find(start)
        lo, stop = start, end
        while lo < stop:
            hi = min(self.run_end(i), stop)
            offset = lo - self.run[i].lv
            yield Run(lo, hi, self.index.names[self.run[i].agent], self.run[i].seq + offset, self.parents(lo),
                      self.run[i].clock + offset)
            lo = hi
            i += 1

    cdef int read_version(self, object version, Ints* out) except -1:
        """A sequence of local versions, checked, sorted and without those that others descend from.

        `VersionError`; `HistoryError` if it is before `root`.
        """
        cdef int64_t lv
        for item in version:
            self.check_lv(item)
            lv = item
            push(out, lv)
        if out.n > 1:
            self.reduce(out)
        self.check_reach(out.at, out.n)
        return 0

    # --- ancestry ---------------------------------------------------------------------------------------------

    cdef int reaches(self, const int64_t* version, Py_ssize_t n, int64_t target) except -1 nogil:
        """Whether `target` is in `version` or among the ancestors of it. O(runs after target, at most)."""
        cdef Ints heap
        cdef Py_ssize_t i, k
        cdef int64_t lv
        cdef const int64_t* parents
        cdef int found = 0
        memset(&heap, 0, sizeof(heap))
        for i in range(n):
            if version[i] >= target:
                heap_push(&heap, version[i])
        while heap.n:
            lv = heap_pop(&heap)
            i = self.find(lv)
            if self.run[i].lv <= target:
                found = 1
                break
            while heap.n and heap.at[0] >= self.run[i].lv:
                heap_pop(&heap)
            parents = self.parents_of(i)
            for k in range(self.run[i].n_parents):
                if parents[k] >= target:
                    heap_push(&heap, parents[k])
        free(heap.at)
        return found

    def contains(self, version, lv: int):
        """Whether `lv` is in `version` or an ancestor of it."""
        cdef Ints versions
        self.check_lv(lv)
        memset(&versions, 0, sizeof(versions))
        try:
            self.read_version(version, &versions)
            if lv < self.base:
                return True
            return bool(self.reaches(versions.at, versions.n, lv))
        finally:
            free(versions.at)

    cdef int reduce(self, Ints* versions) except -1 nogil:
        """Sort `versions` and drop those that others descend from. O(runs between the oldest and the newest)."""
        cdef Ints heap, kept
        cdef Py_ssize_t i, k, left
        cdef int64_t key, lv, oldest
        cdef int64_t clock = INT64_MAX
        cdef const int64_t* parents
        for i in range(1, versions.n):
            if versions.at[i - 1] >= versions.at[i]:
                qsort(versions.at, versions.n, sizeof(int64_t), by_value)
                break
        if versions.at[0] < self.base:
            # What follows `root` follows all before; about these no more is known than whether they are the same.
            k = below(versions.at, versions.n, self.base)
            left = 0
            for i in range(k if k < versions.n else 0, versions.n):
                if left == 0 or versions.at[i] != versions.at[left - 1]:
                    versions.at[left] = versions.at[i]
                    left += 1
            versions.n = left
            if versions.n == 1 or versions.at[0] < self.base:
                return 0
        if all_heads(&self.heads.front, versions):
            return 0
        oldest = versions.at[0]
        if versions.n == 2:
            # Most often a single way leads back from the newer one, until it is past the older one.
            i = self.find_late(versions.at[1])
            while self.run[i].lv > oldest:
                parents = self.parents_of(i)
                k = self.run[i].n_parents
                if k == 0 or parents[k - 1] < oldest:
                    return 0
                if k > 1 and parents[k - 2] >= oldest:
                    break
                i = self.find_late(parents[k - 1])
        for i in range(versions.n):
            k = self.find_late(versions.at[i])
            clock = min(clock, self.run[k].clock + (versions.at[i] - self.run[k].lv))
        memset(&heap, 0, sizeof(heap))
        memset(&kept, 0, sizeof(kept))
        left = versions.n
        # Keys are 2 * lv for a version asked about and 2 * lv + 1 for one reached from above: the latter come first.
        for i in range(versions.n):
            heap_push(&heap, 2 * versions.at[i])
        while left:
            key = heap_pop(&heap)
            lv = key >> 1
            if not key & 1:
                left -= 1
                push(&kept, lv)
            i = self.find_late(lv)
            while heap.n and heap.at[0] >= 2 * self.run[i].lv:
                key = heap_pop(&heap)
                left -= not key & 1
            if self.run[i].clock <= clock:
                continue  # what it follows is older than all versions asked about
            parents = self.parents_of(i)
            for k in range(self.run[i].n_parents):
                if parents[k] >= oldest:
                    heap_push(&heap, 2 * parents[k] + 1)
        versions.n = 0
        for i in range(kept.n - 1, -1, -1):
            versions.at[versions.n] = kept.at[i]
            versions.n += 1
        free(heap.at)
        free(kept.at)
        return 0

    def dominators(self, versions):
        """Those of `versions` that no other of them descends from, ascending."""
        cdef Ints found
        memset(&found, 0, sizeof(found))
        try:
            self.read_version(versions, &found)
            return tuple([found.at[i] for i in range(found.n)])
        finally:
            free(found.at)

    cdef int order_ids(self, int64_t a, int64_t b) noexcept nogil:
        """-1, 0 or 1 as event `a` sorts before, with or after `b`: by agent name as UTF-8, then seq."""
        cdef GraphRun* x = &self.run[self.find(a)]
        cdef GraphRun* y = &self.run[self.find(b)]
        return self.index.order(x.agent, x.seq + (a - x.lv), y.agent, y.seq + (b - y.lv))

    def critical(self):
        """The critical versions as half-open ranges: events that every other event precedes or follows. O(ranges)."""
        cdef Spans* spans = &self.heads.critical
        return [(spans.at[i].start, spans.at[i].end) for i in range(spans.n)]

    def is_critical(self, lv: int):
        """Whether every other event precedes or follows this one. O(log ranges)."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.heads.critical.n
        cdef Py_ssize_t mid
        self.check_lv(lv)
        while lo < hi:
            mid = (lo + hi) >> 1
            if self.heads.critical.at[mid].end <= lv:
                lo = mid + 1
            else:
                hi = mid
        return lo < self.heads.critical.n and self.heads.critical.at[lo].start <= lv

    cdef Py_ssize_t critical_below(self, int64_t stop) noexcept nogil:
        """How many ranges of critical versions begin before `stop`. O(log ranges)."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.heads.critical.n
        cdef Py_ssize_t mid
        while lo < hi:
            mid = (lo + hi) >> 1
            if self.heads.critical.at[mid].start < stop:
                lo = mid + 1
            else:
                hi = mid
        return lo

    def version_at(self, n: int):
        """The version that the first `n` events make, ascending: these are closed under parents, whatever `n`.

        O(log rows + rows from the last critical event among them on).
        """
        cdef Heads front
        cdef Py_ssize_t i, lo
        cdef int64_t at, end, stop, before
        if not 0 <= n <= self.n:
            raise VersionError(f"the first {n} events: there are {self.n}")
        stop = n
        lo = self.critical_below(stop)
        memset(&front, 0, sizeof(front))
        try:
            at = self.base
            assign(&front.front, self.root_.at, self.root_.n)
            if stop < at:
                self.check_reach(NULL, 0)
            if lo:
                # All that came later follows this event.
                at = min(self.heads.critical.at[lo - 1].end, stop)
                front.front.n = 0
                push(&front.front, at - 1)
            i = self.find(at) if at < stop else 0
            while at < stop:
                end = min(self.run_end(i), stop)
                if at == self.run[i].lv:
                    heads_add(&front, self.parents_of(i), self.run[i].n_parents, at, end)
                else:
                    before = at - 1
                    heads_add(&front, &before, 1, at, end)
                at = end
                i += 1
            return tuple([front.front.at[i] for i in range(front.front.n)])
        finally:
            free(front.front.at)
            free(front.critical.at)

    def last_critical(self, lv: int):
        """The last event up to `lv` that every other one precedes or follows, -1 if there is none. O(log ranges)."""
        cdef Py_ssize_t n
        self.check_lv(lv)
        n = self.critical_below(lv + 1)
        return min(lv, self.heads.critical.at[n - 1].end - 1) if n else -1

    # --- copying and checking ---------------------------------------------------------------------------------

    def copy(self):
        """An independent graph with the same events and local versions. O(runs)."""
        cdef Graph other = Graph()
        other.index = self.index.copy()
        # With room to grow: the first event should not have to move it all.
        reserve(<void**>&other.run, &other.cap_runs, self.n_runs + self.n_runs // 8 + 8, sizeof(GraphRun))
        other.n_runs = self.n_runs
        if self.n_runs:
            memcpy(other.run, self.run, self.n_runs * sizeof(GraphRun))
        other.base = self.base
        other.base_runs = self.base_runs
        assign(&other.root_, self.root_.at, self.root_.n)
        assign(&other.pool, self.pool.at, self.pool.n)
        assign(&other.heads.front, self.heads.front.at, self.heads.front.n)
        reserve(<void**>&other.heads.critical.at, &other.heads.critical.cap, self.heads.critical.n, sizeof(Span))
        other.heads.critical.n = self.heads.critical.n
        if self.heads.critical.n:
            memcpy(other.heads.critical.at, self.heads.critical.at, self.heads.critical.n * sizeof(Span))
        other.n = self.n
        return other

    def _check(self):
        """Assert every invariant. O(events squared at worst): for tests."""
        cdef Py_ssize_t i, k
        cdef AgentIds* ids
        has_child = set()
        lv = 0
        for i in range(self.n_runs):
            run = self.run[i]
            assert run.lv == lv, f"run {i} starts at {run.lv}, not {lv}"
            lv = self.run_end(i)
            assert lv > run.lv, f"run {i} is empty"
            if i < self.base_runs:
                assert run.n_parents == 0 and lv <= self.base, f"run {i} is not all before the base"
                continue
            parents = self.parents(run.lv)
            assert list(parents) == sorted(set(parents)), f"parents of {run.lv} are not ascending: {parents}"
            assert all(0 <= p < run.lv for p in parents), f"parents of {run.lv} come later: {parents}"
            assert self.dominators(parents) == parents, f"a parent of {run.lv} precedes another: {parents}"
            assert run.clock == 1 + max([self.clock(p) for p in parents], default=-1), f"clock of {run.lv}"
            has_child.update(parents)
            if i > self.base_runs and parents == (run.lv - 1,):
                before = self.run[i - 1]
                assert before.agent != run.agent or before.seq + (run.lv - before.lv) != run.seq, f"run {i} not joined"
        assert lv == self.n
        ends = {self.run_end(i) - 1 for i in range(self.base_runs, self.n_runs)}
        ends.update([self.root_.at[i] for i in range(self.root_.n)])
        assert self.base == (self.run_end(self.base_runs - 1) if self.base_runs else 0)
        assert self.frontier == tuple(sorted(ends - has_child)), f"frontier {self.frontier}"
        held = 0
        for i in range(self.index.n):
            ids = &self.index.agent[i]
            for k in range(ids.n):
                held += ids.at[k].length
                assert k == 0 or ids.at[k - 1].seq + ids.at[k - 1].length <= ids.at[k].seq, f"ids of {self.index.names[i]}"
                for offset in (0, ids.at[k].length - 1):
                    assert self.id(ids.at[k].lv + offset) == (self.index.names[i], ids.at[k].seq + offset)
        assert held == self.n, f"{held} ids for {self.n} events"
        ranges = self.critical()
        assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:])), f"critical ranges touch: {ranges}"
        assert not self.n or len(self.frontier) > 1 or (ranges and ranges[-1][1] == self.n), "a single head is critical"


@cython.final
cdef class Names:
    """The ids of a version that changes: what stays a head is not looked up, nor sorted, again."""

    def __cinit__(self):
        self.ids = ()

    def __dealloc__(self):
        free(self.at.at)

    cdef tuple of(self, Graph graph, const Ints* heads):
        """The ids of ascending heads. O(heads), and O(log runs) for each that is new since the last time."""
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t k
        cdef int64_t lv
        cdef Ints* at = &self.at
        if at.n == heads.n and (heads.n == 0 or memcmp(at.at, heads.at, heads.n * sizeof(int64_t)) == 0):
            return self.ids
        ids = list(self.ids)
        # There may be thousands of heads, of which few have changed. Both are ascending.
        for k in range(heads.n):
            lv = heads.at[k]
            while i < at.n and at.at[i] < lv:
                del ids[bisect_left(ids, graph.name(at.at[i]))]
                i += 1
            if i < at.n and at.at[i] == lv:
                i += 1
            else:
                insort(ids, graph.name(lv))
        while i < at.n:
            del ids[bisect_left(ids, graph.name(at.at[i]))]
            i += 1
        assign(at, heads.at, heads.n)
        self.ids = tuple(ids)
        return self.ids
