"""Writes a history as columns, straight from those of the log."""

cimport cython

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.columns cimport (
    INSIDE, MAX_RUN, OUTSIDE, OUTSIDE_MORE, ROOT, Bytes, add_name, end_of, put, put_code_point, taken, zigzag,
)
from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, push, reserve
from egwalker.cycore.oplog cimport DELETE, TYPE, OpLog, OpRun, join, step_of, unit_at
from egwalker.cycore.rope cimport bits_of

from egwalker.cycore.columns import Columns
from egwalker.cycore.oplog import ERASED as _ERASED
from egwalker.cycore.checkout import Checkout

cdef uint32_t C_ERASED = _ERASED


@cython.final
cdef class Writer:
    """Makes the columns of some ranges of a log."""
    cdef OpLog log
    cdef Bytes ids, lengths, parents, kinds, positions, content, erased
    cdef Ints numbers    # by the graph's number of an agent the one that it is written as, -1: none yet
    cdef Ints expected   # by that number: the seq after the last one written
    cdef Ints cursor     # and where its last operation ended
    cdef Ints starts     # the ranges
    cdef Ints ends
    cdef Ints before     # how many events were written before each range
    cdef Py_ssize_t known
    cdef list names
    # The row of operations that is being gathered.
    cdef int64_t pos, length
    cdef int32_t agent
    cdef uint8_t kind
    # How many elements in a row are kept, or erased.
    cdef int64_t same
    cdef bint erasing
    cdef const uint8_t* keep  # for each element inserted, in order, whether to keep it; NULL: all
    cdef int64_t inserted

    def __dealloc__(self):
        free(self.ids.at)
        free(self.lengths.at)
        free(self.parents.at)
        free(self.kinds.at)
        free(self.positions.at)
        free(self.content.at)
        free(self.erased.at)
        free(self.numbers.at)
        free(self.expected.at)
        free(self.cursor.at)
        free(self.starts.at)
        free(self.ends.at)
        free(self.before.at)

    cdef int add_agent(self, str name) except -1:
        push(&self.expected, 0)
        push(&self.cursor, 0)
        self.names.append(name)
        return 0

    cdef int64_t number_of(self, int32_t agent) except -1:
        if self.numbers.at[agent] < 0:
            self.numbers.at[agent] = self.expected.n
            self.add_agent(self.log.graph.index.names[agent])
        return self.numbers.at[agent]

    cdef int64_t index_of(self, int64_t lv) noexcept nogil:
        """Which event of those written a local version is, -1 if it is none of them."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.starts.n
        cdef Py_ssize_t mid
        while lo < hi:
            mid = (lo + hi) >> 1
            if self.ends.at[mid] <= lv:
                lo = mid + 1
            else:
                hi = mid
        if lo == self.starts.n or lv < self.starts.at[lo]:
            return -1
        return self.before.at[lo] + (lv - self.starts.at[lo])

    cdef int write_rows(self) except -1:
        cdef Graph graph = self.log.graph
        cdef Py_ssize_t r, i, k, n
        cdef int64_t lo, hi, stop, seq, mine, index, at, previous, other_seq
        cdef int64_t written = 0
        cdef const int64_t* parents
        for r in range(self.starts.n):
            lo = self.starts.at[r]
            stop = self.ends.at[r]
            i = graph.find(lo)
            while lo < stop:
                hi = min(graph.run_end(i), stop)
                seq = graph.run[i].seq + (lo - graph.run[i].lv)
                mine = self.number_of(graph.run[i].agent)
                put(&self.ids, mine << 1 | (seq != self.expected.at[mine]))
                if seq != self.expected.at[mine]:
                    put(&self.ids, zigzag(seq - self.expected.at[mine]))
                self.expected.at[mine] = seq + hi - lo
                put(&self.lengths, hi - lo)
                parents = graph.parents_of(i)
                n = graph.run[i].n_parents
                if lo > graph.run[i].lv:
                    previous = lo - 1
                    parents = &previous
                    n = 1
                if n == 0:
                    put(&self.parents, ROOT)
                for k in range(n):
                    index = self.index_of(parents[k])
                    if index >= 0:
                        put(&self.parents, INSIDE + 2 * (written - index - 1) + (k + 1 < n))
                        continue
                    put(&self.parents, OUTSIDE_MORE if k + 1 < n else OUTSIDE)
                    at = graph.find(parents[k])
                    other_seq = graph.run[at].seq + (parents[k] - graph.run[at].lv)
                    if graph.run[at].agent == graph.run[i].agent and other_seq == seq - 1:
                        put(&self.parents, 0)
                    else:
                        put(&self.parents, self.number_of(graph.run[at].agent) + 1)
                        put(&self.parents, other_seq)
                written += hi - lo
                lo = hi
                i += 1
        return 0

    cdef int flush(self) except -1:
        if self.length:
            put(&self.kinds, self.length << 2 | self.kind)
            put(&self.positions, zigzag(self.pos - self.cursor.at[self.agent]))
            self.cursor.at[self.agent] = end_of(self.kind, self.pos, self.length)
        self.length = 0
        return 0

    cdef int gather(self, uint8_t kind, int64_t pos, int64_t length, int32_t agent) except -1:
        """Add operations to the row, as if they came one by one: rows do not depend on how a log came to be."""
        cdef int joined
        cdef int64_t some
        while length:
            some = length
            joined = join(self.kind, self.pos, self.length, kind, pos, some) if self.length else -1
            if joined < 0 and self.length and length > 1:
                some = 1
                joined = join(self.kind, self.pos, self.length, kind, pos, some)
            if joined < 0:
                some = length
                self.flush()
                self.kind = kind
                self.pos = pos
                self.agent = agent
                if length == 1:
                    self.kind = TYPE if kind < DELETE else DELETE
            else:
                self.kind = <uint8_t>joined
            self.length += some
            pos += step_of(kind) * some
            length -= some
        return 0

    cdef int write_operations(self) except -1:
        cdef OpLog log = self.log
        cdef Graph graph = log.graph
        cdef Py_ssize_t r, i, g
        cdef OpRun* run
        cdef int64_t lo, hi, stop, offset
        for r in range(self.starts.n):
            lo = self.starts.at[r]
            stop = self.ends.at[r]
            i = log.find(lo)
            g = graph.find(lo)
            while lo < stop:
                while graph.run_end(g) <= lo:
                    g += 1
                run = &log.run[i]
                # A row of the log may be several agents': a row here belongs to whose event it begins with.
                hi = min(min(log.run_end(i), stop), graph.run_end(g))
                offset = lo - run.lv
                self.gather(run.kind, run.pos + step_of(run.kind) * offset, hi - lo,
                            <int32_t>self.numbers.at[graph.run[g].agent])
                if run.kind < DELETE:
                    self.write_content(run, offset, hi - lo)
                lo = hi
                if lo == log.run_end(i):
                    i += 1
        self.flush()
        if self.erased.n:
            put(&self.erased, self.same)
        return 0

    cdef int write_content(self, const OpRun* run, int64_t offset, int64_t length) except -1:
        cdef OpLog log = self.log
        cdef const uint8_t* units = log.units(run, offset)
        cdef int64_t i
        cdef uint32_t unit
        cdef bytes item
        cdef const uint8_t* at
        cdef bint gone
        if log.values:
            for text in log.content_of(run, offset, length):
                gone = self.dropped() or text is None
                self.mark(gone)
                if not gone:
                    item = text.encode()
                    put(&self.content, len(item))
                    at = item
                    self.put_bytes(at, len(item))
            return 0
        if run.pool == 0 and self.keep == NULL and not log.erased and bits_of(units, 1, length) < 0x80:
            return self.put_bytes(units, length)
        for i in range(length):
            unit = unit_at(units, run.pool, i)
            gone = self.dropped() or unit == C_ERASED
            self.mark(gone)
            if not gone:
                put_code_point(&self.content, unit)
        return 0

    cdef inline bint dropped(self) noexcept:
        """Whether the next element inserted is not to be kept."""
        self.inserted += 1
        return self.keep != NULL and not self.keep[self.inserted - 1]

    cdef int put_bytes(self, const uint8_t* at, Py_ssize_t n) except -1:
        cdef Py_ssize_t i
        reserve(<void**>&self.content.at, &self.content.cap, self.content.n + n, 1)
        for i in range(n):
            self.content.at[self.content.n + i] = at[i]
        self.content.n += n
        return 0

    cdef int put_name(self, str name) except -1:
        cdef bytes raw = name.encode()
        cdef Py_ssize_t i
        put(&self.ids, len(raw))
        for i in range(len(raw)):
            put(&self.ids, 0)
            self.ids.at[self.ids.n - 1] = raw[i]
        return 0

    cdef int mark(self, bint gone) except -1:
        """Count an element that is kept or erased; nothing is written unless one is erased."""
        if gone != self.erasing:
            put(&self.erased, self.same)
            self.erasing = gone
            self.same = 0
        self.same += 1
        return 0


def write(OpLog log not None, ranges, agents=(), bytes keep=None):
    """The columns of the events in ascending half-open `ranges` of local versions.

    `agents` are names that the reader knows already, in their order; `Columns.agents` are the further ones. `keep` has a byte
    for each element inserted, 0 for those to leave out. The bytes depend on the events and their order alone, not on how they
    came into the log. O(rows + content).
    """
    cdef Writer writer = Writer.__new__(Writer)
    cdef int64_t before = 0
    cdef int64_t lo, hi
    cdef Py_ssize_t i
    writer.log = log
    writer.names = []
    for i in range(log.graph.index.n):
        push(&writer.numbers, -1)
    for name in agents:
        found = log.graph.index.numbers.get(name)
        if found is not None:
            writer.numbers.at[<Py_ssize_t>found] = writer.expected.n
        writer.add_agent(name)
    writer.known = len(writer.names)
    if keep is not None:
        writer.keep = keep
    for lo, hi in ranges:
        if lo < log.graph.base:
            log.graph.check_reach(NULL, 0)
        if not 0 <= lo < hi <= log.n or (writer.ends.n and lo < writer.ends.at[writer.ends.n - 1]):
            raise ValueError(f"{lo}:{hi} is no range of local versions, or not after the one before")
        push(&writer.starts, lo)
        push(&writer.ends, hi)
        push(&writer.before, before)
        before += hi - lo
    writer.write_rows()
    writer.write_operations()
    return Columns(writer.names[writer.known:], taken(&writer.ids), taken(&writer.lengths), taken(&writer.parents),
                   taken(&writer.kinds), taken(&writer.positions), taken(&writer.content), taken(&writer.erased))


def agents(OpLog log not None):
    """Names of the agents with events, in the order of their first events. O(rows)."""
    cdef Graph graph = log.graph
    cdef Py_ssize_t i
    seen = bytearray(graph.index.n)
    cdef uint8_t* at = seen
    found = []
    for i in range(graph.n_runs):
        if not at[graph.run[i].agent]:
            at[graph.run[i].agent] = 1
            found.append(graph.index.names[graph.run[i].agent])
    return found


def survivors(OpLog log not None):
    """For each element ever inserted, in their order, a byte: 1 if it is in the document, 0 if it was deleted. O(a replay)."""
    cdef OpLog shadow = OpLog(True)
    cdef Py_ssize_t i
    cdef OpRun* run
    cdef uint32_t* numbers
    shadow.graph = log.graph
    reserve(<void**>&shadow.run, &shadow.cap_runs, log.n_runs, sizeof(OpRun))
    for i in range(log.n_runs):
        run = &shadow.run[i]
        run[0] = log.run[i]
        if run.kind < DELETE:
            run.pool = 2
            run.content = shadow.pool[2].n
            shadow.pool[2].n += log.run_end(i) - run.lv
    shadow.n_runs = log.n_runs
    shadow.n = log.n
    reserve(<void**>&shadow.pool[2].at, &shadow.pool[2].cap, shadow.pool[2].n * 4, 1)
    numbers = <uint32_t*>shadow.pool[2].at
    for i in range(shadow.pool[2].n):
        numbers[i] = <uint32_t>i
    replay = Checkout(shadow)
    replay.merge()
    keep = bytearray(shadow.pool[2].n)
    for i in replay.rope.numbers(0, len(replay)):
        keep[i] = 1
    return bytes(keep)


def write_run(OpLog log not None, int64_t start, int64_t end, list names, dict numbers, list expected):
    """The events `start:end` as the payload of a RUN chunk; None unless they are one row of the graph and of operations.

    `names`, `numbers` (their indices) and `expected` (the seq after the last one) are what the reader knows from runs before
    this one; they are brought up to date. O(log rows + length).
    """
    cdef Graph graph = log.graph
    cdef Py_ssize_t i, k, n
    cdef OpRun* run
    cdef int64_t seq, previous, at, other_seq, x
    cdef uint8_t kind
    cdef const int64_t* parents
    cdef Writer writer
    if not log.graph.base <= start < end <= log.n or end - start > MAX_RUN:
        return None
    i = graph.find(start)
    run = &log.run[log.find(start)]
    if graph.run_end(i) < end or log.run_end(run - log.run) < end or log.erased:
        return None
    writer = Writer.__new__(Writer)
    writer.log = log
    seq = graph.run[i].seq + (start - graph.run[i].lv)
    name = graph.index.names[graph.run[i].agent]
    found = numbers.get(name)
    if found is None:
        put(&writer.ids, 0)
        writer.put_name(name)
        put(&writer.ids, seq)
        add_name(name, names, numbers, expected)
        found = len(names) - 1
    elif expected[found] == seq:
        put(&writer.ids, 1 + 2 * <int64_t>found)
    else:
        put(&writer.ids, 2 + 2 * <int64_t>found)
        put(&writer.ids, seq)
    expected[found] = seq + end - start
    parents = graph.parents_of(i)
    n = graph.run[i].n_parents
    if start > graph.run[i].lv:
        previous = start - 1
        parents = &previous
        n = 1
    for k in range(n):
        at = graph.find(parents[k])
        other_seq = graph.run[at].seq + (parents[k] - graph.run[at].lv)
        own = graph.run[at].agent == graph.run[i].agent and other_seq == seq - 1
        if own and n == 1:
            put(&writer.ids, 0)
            break
        if k == 0:
            put(&writer.ids, n + 1)
        if own:
            put(&writer.ids, 0)
            continue
        name = graph.index.names[graph.run[at].agent]
        found = numbers.get(name)
        if found is None:
            put(&writer.ids, 1)
            writer.put_name(name)
            add_name(name, names, numbers, expected)
        else:
            put(&writer.ids, 2 + <int64_t>found)
        put(&writer.ids, other_seq)
    if n == 0:
        put(&writer.ids, 1)
    kind = run.kind
    if end - start == 1:
        kind = TYPE if kind < DELETE else DELETE
    put(&writer.ids, (end - start) << 2 | kind)
    put(&writer.ids, run.pos + step_of(run.kind) * (start - run.lv))
    if kind < DELETE:
        writer.write_content(run, start - run.lv, end - start)
    return taken(&writer.ids) + taken(&writer.content)
