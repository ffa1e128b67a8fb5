"""The columns that a history is encoded as: varints, deltas and runs, straight from and into the columns of the log.

What each column holds, to the byte, is in docs/format.md. Chunks, checksums and compression are around this, in
`egwalker.encoding`.
"""

cimport cython

from collections import namedtuple

from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, push, reserve
from egwalker.cycore.oplog cimport DELETE, ERASE, PREPEND, TYPE, OpLog, OpRun, join, step_of, unit_at
from egwalker.cycore.rope cimport bits_of, copy_units, narrow_units

from egwalker.cycore.errors import CausalityError, DecodeError, EgwalkerError, LimitError, PendingError
from egwalker.cycore.graph import check_name
from egwalker.cycore.oplog import ERASED as _ERASED, Content
from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH
from egwalker.cycore.walker import Checkout

Columns = namedtuple("Columns", "agents ids lengths parents kinds positions content erased")
PackedRun = tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, int, Content], ...]]

cdef int64_t C_MAX_LENGTH = _MAX_LENGTH
cdef uint32_t C_ERASED = _ERASED
cdef int64_t MAX_NUMBER = <int64_t>1 << 53
cdef int64_t MAX_RUN = 256  # events in a RUN chunk

# Codes of a parent.
cdef enum:
    ROOT = 0           # there is none
    OUTSIDE = 1        # its id follows; the last one
    OUTSIDE_MORE = 2   # its id follows, and then more parents
    INSIDE = 3         # and above: 3 + 2 * (distance - 1), + 1 if more parents follow


# --- writing --------------------------------------------------------------------------------------------------

cdef struct Bytes:
    uint8_t* at
    Py_ssize_t n
    Py_ssize_t cap


cdef inline int put(Bytes* b, uint64_t x) except -1 nogil:
    """Append a varint: 7 bits a byte, the lowest first, 128 set in all but the last."""
    if b.n + 10 > b.cap:
        reserve(<void**>&b.at, &b.cap, b.n + 10, 1)
    while x > 127:
        b.at[b.n] = <uint8_t>(x | 128)
        b.n += 1
        x >>= 7
    b.at[b.n] = <uint8_t>x
    b.n += 1
    return 0


cdef inline uint64_t zigzag(int64_t x) noexcept nogil:
    return (<uint64_t>x << 1) if x >= 0 else (<uint64_t>(-x) << 1) - 1


cdef int put_code_point(Bytes* b, uint32_t u) except -1 nogil:
    if b.n + 4 > b.cap:
        reserve(<void**>&b.at, &b.cap, b.n + 4, 1)
    if u < 0x80:
        b.at[b.n] = <uint8_t>u
        b.n += 1
    elif u < 0x800:
        b.at[b.n] = <uint8_t>(0xC0 | u >> 6)
        b.at[b.n + 1] = <uint8_t>(0x80 | u & 63)
        b.n += 2
    elif u < 0x10000:
        b.at[b.n] = <uint8_t>(0xE0 | u >> 12)
        b.at[b.n + 1] = <uint8_t>(0x80 | u >> 6 & 63)
        b.at[b.n + 2] = <uint8_t>(0x80 | u & 63)
        b.n += 3
    else:
        b.at[b.n] = <uint8_t>(0xF0 | u >> 18)
        b.at[b.n + 1] = <uint8_t>(0x80 | u >> 12 & 63)
        b.at[b.n + 2] = <uint8_t>(0x80 | u >> 6 & 63)
        b.at[b.n + 3] = <uint8_t>(0x80 | u & 63)
        b.n += 4
    return 0


cdef bytes taken(Bytes* b):
    return b.at[:b.n] if b.n else b""


cdef struct Source:
    const uint8_t* at
    Py_ssize_t n
    Py_ssize_t i


cdef int source(Source* s, bytes data) except -1:
    s.at = data
    s.n = len(data)
    s.i = 0
    return 0


cdef inline int64_t number(Source* s, str column) except -1:
    """The next varint, below 2**63 and as short as can be."""
    cdef int64_t x = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift < 63:
        if s.i == s.n:
            raise fault(column, s.i, "ends within a number")
        byte = s.at[s.i]
        s.i += 1
        x |= <int64_t>(byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                break
            return x
        shift += 7
    raise fault(column, s.i - 1, "has a number of more than 63 bits, or with more bytes than it takes")


cdef inline int64_t unzigzag(int64_t x) noexcept nogil:
    return (x >> 1) if not x & 1 else -((x >> 1) + 1)


cdef object fault(str column, Py_ssize_t at, str what):
    return DecodeError(f"column {column!r} {what} (its byte {at})", at)


def varint(x: int):
    """A number from 0 to 2**64 - 1 as a varint.

    >>> varint(300)
    b'\\xac\\x02'
    """
    cdef Bytes b
    memset(&b, 0, sizeof(b))
    try:
        put(&b, x)
        return taken(&b)
    finally:
        free(b.at)


def read_varint(data: bytes, at: int):
    """The varint at an offset, and the offset behind it. `DecodeError`."""
    cdef Source s
    source(&s, data)
    if not 0 <= at <= s.n:
        raise DecodeError(f"byte {at} is not within 0:{s.n}", at)
    s.i = at
    found = number(&s, "varint")
    return found, s.i


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
            self.add_agent(self.log.graph._names[agent])
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


cdef inline int64_t end_of(uint8_t kind, int64_t pos, int64_t length) noexcept nogil:
    """Where an author is after a row of operations, most likely to go on there."""
    return pos + length if kind == TYPE else (pos - length + 1 if kind == ERASE else pos)


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
    for i in range(log.graph.n_agents):
        push(&writer.numbers, -1)
    for name in agents:
        found = log.graph._index.get(name)
        if found is not None:
            writer.numbers.at[<Py_ssize_t>found] = writer.expected.n
        writer.add_agent(name)
    writer.known = len(writer.names)
    if keep is not None:
        writer.keep = keep
    for lo, hi in ranges:
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
    seen = bytearray(graph.n_agents)
    cdef uint8_t* at = seen
    found = []
    for i in range(graph.n_runs):
        if not at[graph.run[i].agent]:
            at[graph.run[i].agent] = 1
            found.append(graph._names[graph.run[i].agent])
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
    if not 0 <= start < end <= log.n or end - start > MAX_RUN:
        return None
    i = graph.find(start)
    run = &log.run[log.find(start)]
    if graph.run_end(i) < end or log.run_end(run - log.run) < end or log.erased:
        return None
    writer = Writer.__new__(Writer)
    writer.log = log
    seq = graph.run[i].seq + (start - graph.run[i].lv)
    name = graph._names[graph.run[i].agent]
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
        name = graph._names[graph.run[at].agent]
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


cdef int add_name(str name, list names, dict numbers, list expected) except -1:
    numbers[name] = len(names)
    names.append(name)
    expected.append(-1)
    return 0


def read_run(bytes data, list names, dict numbers, list expected, bint values):
    """The run `(agent, seq, parents, edits)` that `write_run` wrote. `DecodeError`, and all as before."""
    cdef Source s
    cdef Py_ssize_t known = len(names)
    cdef int64_t x, n, seq, pos, length, k
    cdef uint8_t kind
    source(&s, data)
    try:
        x = number(&s, "run")
        if x == 0:
            name = read_name(&s)
            if name in numbers:
                raise fault("run", s.i, f"introduces agent {name!r} again")
            add_name(name, names, numbers, expected)
            x = <int64_t>len(names) * 2
        elif x > 2 * <int64_t>len(names):
            raise fault("run", s.i, f"names agent {(x - 1) >> 1} of {len(names)}")
        agent = (x - 1) >> 1
        name = names[agent]
        seq = number(&s, "run") if not x & 1 else expected[agent]
        if not 0 <= seq <= MAX_NUMBER:
            raise fault("run", s.i, f"has seq {seq}")
        parents = []
        n = number(&s, "run")
        if n == 0:
            parents.append((name, seq - 1))
        for k in range(n - 1):
            x = number(&s, "run")
            if x == 0:
                parents.append((name, seq - 1))
                continue
            if x == 1:
                parent = read_name(&s)
                if parent in numbers:
                    raise fault("run", s.i, f"introduces agent {parent!r} again")
                add_name(parent, names, numbers, expected)
            elif x - 2 < len(names):
                parent = names[x - 2]
            else:
                raise fault("run", s.i, f"names agent {x - 2} of {len(names)}")
            parents.append((parent, number(&s, "run")))
        for _, x in parents:
            if not 0 <= x < MAX_NUMBER:
                raise fault("run", s.i, f"has parent {x}")
        x = number(&s, "run")
        kind = x & 3
        length = x >> 2
        pos = number(&s, "run")
        if not 0 < length <= C_MAX_LENGTH or pos > C_MAX_LENGTH or (kind == ERASE and pos < length - 1):
            raise fault("run", s.i, f"has {length} operations at {pos}")
        if kind < DELETE and length > s.n - s.i or kind == ERASE and length > MAX_RUN:
            raise fault("run", s.i, f"has {length} operations")
        if values:
            content = items_of(&s, "run")
        else:
            try:
                content = data[s.i:].decode()
            except UnicodeDecodeError as error:
                raise fault("run", s.i + error.start, f"is not UTF-8: {error.reason}") from None
        if len(content) != (length if kind < DELETE else 0):
            raise fault("run", s.i, f"has {len(content)} elements for {length} operations of kind {kind}")
    except BaseException:
        for other in names[known:]:
            del numbers[other]
        del names[known:]
        del expected[known:]
        raise
    expected[agent] = seq + length
    nothing = content[:0]
    if kind == TYPE:
        edits = ((pos, 0, content),)
    elif kind < DELETE:
        edits = tuple([(pos, 0, content[k:k + 1]) for k in range(length)])
    elif kind == DELETE:
        edits = ((pos, length, nothing),)
    else:
        edits = tuple([(pos - k, 1, nothing) for k in range(length)])
    return name, seq, tuple(parents), edits


cdef str read_name(Source* s):
    """An agent's name: its length in bytes, and the name in UTF-8."""
    cdef int64_t n = number(s, "names")
    cdef bytes raw
    if n > s.n - s.i:
        raise fault("names", s.i, f"has a name of {n} bytes, {s.n - s.i} are left")
    raw = s.at[s.i:s.i + n]
    s.i += n
    try:
        name = raw.decode()
        check_name(name)
    except UnicodeDecodeError as error:
        raise fault("names", s.i, f"is not UTF-8: {error.reason}") from None
    except EgwalkerError as error:
        raise fault("names", s.i, f"is wrong: {error}") from None
    return name


def write_names(names):
    """Agents' names, each after its length in bytes of UTF-8."""
    return b"".join([varint(len(raw)) + raw for raw in map(check_name, names)])


def read_names(data: bytes):
    """The names that `write_names` wrote; `DecodeError`."""
    cdef Source s
    source(&s, data)
    found = []
    while s.i < s.n:
        found.append(read_name(&s))
    return found


def write_items(items):
    """JSON texts, each after its length in bytes of UTF-8."""
    return b"".join([varint(len(raw)) + raw for raw in [item.encode() for item in items]])


def read_items(data: bytes):
    """The JSON texts that `write_items` wrote; `DecodeError`."""
    cdef Source s
    source(&s, data)
    return items_of(&s, "content")


cdef list items_of(Source* s, str column):
    cdef int64_t n
    cdef bytes raw
    found = []
    while s.i < s.n:
        n = number(s, column)
        if n > s.n - s.i:
            raise fault(column, s.i, f"has an element of {n} bytes, {s.n - s.i} are left")
        raw = s.at[s.i:s.i + n]
        try:
            found.append(raw.decode())
        except UnicodeDecodeError as error:
            raise fault(column, s.i + error.start, f"is not UTF-8: {error.reason}") from None
        s.i += n
    return found


# --- reading --------------------------------------------------------------------------------------------------

cdef Py_ssize_t count(bytes data) noexcept:
    """How many varints there are: no memory is taken before that is known."""
    cdef const uint8_t* at = data
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    for i in range(len(data)):
        n += at[i] < 128
    return n


cdef struct Row:
    int64_t start     # index of the first event
    int64_t seq
    Py_ssize_t parents
    int32_t agent
    int32_t n_parents


cdef struct Outside:
    int64_t seq
    int32_t agent


@cython.final
cdef class History:
    """Decoded columns: operations in a log of their own, and rows of the graph that may have parents elsewhere."""
    cdef list names
    cdef OpLog log_
    cdef Row* row
    cdef Py_ssize_t n_rows, cap_rows
    cdef Ints links           # parents: indices of events, or -1 - which one of those outside
    cdef Outside* outside
    cdef Py_ssize_t n_outside, cap_outside
    cdef int64_t n
    cdef int64_t inserted

    def __dealloc__(self):
        free(self.row)
        free(self.outside)
        free(self.links.at)

    def __len__(self):
        return self.n

    cdef int read_rows(self, bytes ids, bytes lengths, bytes parents) except -1:
        cdef Source id_source, length_source, parent_source
        cdef Py_ssize_t rows = count(lengths)
        cdef Py_ssize_t n_agents = len(self.names)
        cdef Row* row
        cdef int64_t x, length, code, distance
        cdef int64_t n = 0
        cdef Ints expected
        cdef Py_ssize_t i
        source(&id_source, ids)
        source(&length_source, lengths)
        source(&parent_source, parents)
        memset(&expected, 0, sizeof(expected))
        reserve(<void**>&self.row, &self.cap_rows, rows, sizeof(Row))
        reserve(<void**>&self.links.at, &self.links.cap, count(parents), sizeof(int64_t))
        try:
            for i in range(n_agents):
                push(&expected, 0)
            while length_source.i < length_source.n:
                length = number(&length_source, "lengths")
                if not 0 < length <= MAX_NUMBER - n:
                    raise fault("lengths", length_source.i, f"has a row of {length} events")
                row = &self.row[self.n_rows]
                self.n_rows += 1
                row.start = n
                x = number(&id_source, "ids")
                if x >> 1 >= n_agents:
                    raise fault("ids", id_source.i, f"names agent {x >> 1} of {n_agents}")
                row.agent = <int32_t>(x >> 1)
                row.seq = expected.at[row.agent]
                if x & 1:
                    row.seq += unzigzag(number(&id_source, "ids"))
                if not 0 <= row.seq <= MAX_NUMBER - length:
                    raise fault("ids", id_source.i, f"has seq {row.seq}")
                expected.at[row.agent] = row.seq + length
                row.parents = self.links.n
                while True:
                    code = number(&parent_source, "parents")
                    if code == ROOT:
                        if self.links.n > row.parents:
                            raise fault("parents", parent_source.i, "has a root among several parents")
                        break
                    if code < INSIDE:
                        self.read_outside(&parent_source, row)
                        if code == OUTSIDE:
                            break
                        continue
                    distance = ((code - INSIDE) >> 1) + 1
                    if distance > n:
                        raise fault("parents", parent_source.i, f"has a parent {distance} events before event {n}")
                    push(&self.links, n - distance)
                    if not (code - INSIDE) & 1:
                        break
                row.n_parents = <int32_t>(self.links.n - row.parents)
                n += length
            check_end(&id_source, "ids")
            check_end(&parent_source, "parents")
        finally:
            free(expected.at)
        self.n = n
        return 0

    cdef int read_outside(self, Source* s, Row* row) except -1:
        cdef int64_t agent = number(s, "parents")
        cdef int64_t seq = row.seq - 1
        if agent > <int64_t>len(self.names):
            raise fault("parents", s.i, f"names agent {agent - 1} of {len(self.names)}")
        if agent:
            seq = number(s, "parents")
        else:
            agent = row.agent + 1
        if not 0 <= seq < MAX_NUMBER:
            raise fault("parents", s.i, f"has seq {seq}")
        reserve(<void**>&self.outside, &self.cap_outside, self.n_outside + 1, sizeof(Outside))
        self.outside[self.n_outside].agent = <int32_t>(agent - 1)
        self.outside[self.n_outside].seq = seq
        self.n_outside += 1
        push(&self.links, -self.n_outside)
        return 0

    cdef int read_operations(self, bytes kinds, bytes positions) except -1:
        cdef OpLog log = self.log_
        cdef Source kind_source, position_source
        cdef Ints cursor
        cdef Py_ssize_t i
        cdef Py_ssize_t row = 0
        cdef int32_t agent
        cdef int64_t x, length, pos
        cdef int64_t inserted = 0
        cdef uint8_t kind
        cdef OpRun* run
        source(&kind_source, kinds)
        source(&position_source, positions)
        memset(&cursor, 0, sizeof(cursor))
        reserve(<void**>&log.run, &log.cap_runs, count(kinds), sizeof(OpRun))
        try:
            for i in range(len(self.names)):
                push(&cursor, 0)
            while kind_source.i < kind_source.n:
                x = number(&kind_source, "kinds")
                kind = x & 3
                length = x >> 2
                if not 0 < length <= self.n - log.n:
                    raise fault("kinds", kind_source.i, f"has {length} operations, {self.n - log.n} events are left")
                while row + 1 < self.n_rows and self.row[row + 1].start <= log.n:
                    row += 1
                agent = self.row[row].agent
                pos = cursor.at[agent] + unzigzag(number(&position_source, "positions"))
                if not 0 <= pos <= C_MAX_LENGTH or length > C_MAX_LENGTH or (kind == ERASE and pos < length - 1):
                    raise fault("positions", position_source.i, f"has {length} operations at {pos}")
                cursor.at[agent] = end_of(kind, pos, length)
                run = &log.run[log.n_runs]
                log.n_runs += 1
                run.lv = log.n
                run.pos = <int32_t>pos
                run.kind = kind
                if length == 1:
                    run.kind = TYPE if kind < DELETE else DELETE
                run.pool = 0
                run.content = 0
                if kind < DELETE:
                    run.content = inserted
                    inserted += length
                log.n += length
            check_end(&position_source, "positions")
            if log.n != self.n:
                raise fault("kinds", kind_source.i, f"has {log.n} operations for {self.n} events")
        finally:
            free(cursor.at)
        self.inserted = inserted
        return 0

    cdef list unerase_items(self, list content, bytes erased):
        """`content` with None for each element that is not in it."""
        cdef Source s
        cdef int64_t n
        cdef Py_ssize_t at = 0
        cdef bint gone = False
        found = []
        source(&s, erased)
        while s.i < s.n:
            n = self.next_part(&s, len(found), gone, len(content) - at)
            if gone:
                found += [None] * n
            else:
                found += content[at:at + n]
                at += n
            gone = not gone
        self.check_parts(&s, len(found), len(content) - at)
        return found

    cdef int unerase_units(self, Bytes* units, object content, int width, bytes erased) except -1:
        """Put `content` into `units`, of `width` bytes each, with a mark for each element that is not in it."""
        cdef Source s
        cdef int64_t n, i
        cdef int64_t done = 0
        cdef int64_t at = 0
        cdef int64_t length = len(content)
        cdef bint gone = False
        cdef int kind = PyUnicode_KIND(content)
        cdef const uint8_t* text = <const uint8_t*>PyUnicode_DATA(content)
        source(&s, erased)
        reserve(<void**>&units.at, &units.cap, self.inserted * width, 1)
        while s.i < s.n:
            n = self.next_part(&s, done, gone, length - at)
            if not gone:
                copy_units(units.at + done * width, width, text + at * kind, kind, n)
                at += n
            elif width == 2:
                for i in range(done, done + n):
                    (<uint16_t*>units.at)[i] = <uint16_t>C_ERASED
            else:
                for i in range(done, done + n):
                    (<uint32_t*>units.at)[i] = C_ERASED
            done += n
            gone = not gone
        self.check_parts(&s, done, length - at)
        return 0

    cdef int64_t next_part(self, Source* s, int64_t done, bint gone, int64_t there) except -1:
        cdef int64_t n = number(s, "erased")
        if n > self.inserted - done or (not gone and n > there):
            raise fault("erased", s.i, f"counts {n} elements, {self.inserted - done} are left, {there} of content")
        return n

    cdef int check_parts(self, Source* s, int64_t done, int64_t there) except -1:
        if done < self.inserted or there:
            raise fault("erased", s.i, f"leaves {self.inserted - done} elements, and {there} of content")
        self.log_.erased = True
        return 0

    cdef int read_content(self, bytes data, bytes erased) except -1:
        cdef OpLog log = self.log_
        cdef object content
        cdef Bytes marked
        cdef Py_ssize_t i
        cdef uint32_t* numbers
        memset(&marked, 0, sizeof(marked))
        if log.values:
            content = read_items(data)
            if erased:
                content = self.unerase_items(content, erased)
            self.check_content(len(content), len(data))
            reserve(<void**>&log.pool[2].at, &log.pool[2].cap, self.inserted * 4, 1)
            numbers = <uint32_t*>log.pool[2].at
            for i in range(self.inserted):
                numbers[i] = <uint32_t>i
            log.pool[2].n = self.inserted
            log.items = content
            for i in range(log.n_runs):
                if log.run[i].kind < DELETE:
                    log.run[i].pool = 2
            return 0
        try:
            content = data.decode()
        except UnicodeDecodeError as error:
            raise fault("content", error.start, f"is not UTF-8: {error.reason}") from None
        if not erased:
            self.check_content(len(content), len(data))
            return self.fill_pools(<const uint8_t*>PyUnicode_DATA(content), PyUnicode_KIND(content))
        try:
            i = 4 if PyUnicode_KIND(content) == 4 else 2
            self.unerase_units(&marked, content, <int>i, erased)
            self.fill_pools(marked.at, <int>i)
        finally:
            free(marked.at)
        return 0

    cdef int check_content(self, int64_t length, Py_ssize_t at) except -1:
        if length != self.inserted:
            raise fault("content", at, f"has {length} elements for {self.inserted} inserts")
        return 0

    cdef int fill_pools(self, const uint8_t* units, int width) except -1:
        """Put the inserted code points, of `width` bytes each, into the pools."""
        cdef OpLog log = self.log_
        cdef Py_ssize_t i
        cdef OpRun* run
        cdef int k
        cdef int64_t at = 0
        cdef int64_t length
        cdef uint32_t bits
        if width == 1:
            reserve(<void**>&log.pool[0].at, &log.pool[0].cap, self.inserted, 1)
            narrow_units(log.pool[0].at, 1, units, 1, self.inserted)
            log.pool[0].n = self.inserted
            return 0
        for i in range(log.n_runs):
            run = &log.run[i]
            if run.kind >= DELETE:
                continue
            length = log.run_end(i) - run.lv
            bits = bits_of(units + at * width, width, length)
            k = 0 if bits < 0x100 else (1 if bits < 0x10000 else 2)
            reserve(<void**>&log.pool[k].at, &log.pool[k].cap, (log.pool[k].n + length) << k, 1)
            narrow_units(log.pool[k].at + (log.pool[k].n << k), 1 << k, units + at * width, width, length)
            run.pool = <uint8_t>k
            run.content = log.pool[k].n
            log.pool[k].n += length
            at += length
        return 0

    def items(self):
        """The values of a list that are in it, as JSON texts, in their order."""
        return [item for item in self.log_.items if item is not None]

    def log(self):
        """All of it as a log; `DecodeError` if a parent is elsewhere. Once only: the history is used up. O(rows)."""
        cdef OpLog log = self.log_
        cdef Graph graph = log.graph
        cdef Ints versions
        cdef Row* row
        cdef Py_ssize_t i, k
        cdef int64_t end, rest
        cdef int32_t agent
        memset(&versions, 0, sizeof(versions))
        if self.n_outside:
            raise fault("parents", 0, "names events outside this history, which is only a part of one")
        numbers = [graph.agent_number(name) for name in self.names]
        reserve(<void**>&graph.run, &graph.cap_runs, self.n_rows, sizeof(graph.run[0]))
        try:
            for i in range(self.n_rows):
                row = &self.row[i]
                end = self.row[i + 1].start if i + 1 < self.n_rows else self.n
                versions.n = 0
                for k in range(row.n_parents):
                    push(&versions, self.links.at[row.parents + k])
                if row.n_parents > 1:
                    graph.reduce(&versions)
                    if versions.n != row.n_parents:
                        raise fault("parents", i, f"gives row {i} a parent that precedes another")
                agent = numbers[row.agent]
                if graph.known(agent, row.seq, &rest) >= 0 or rest < end - row.start:
                    raise fault("ids", i, f"has events of {self.names[row.agent]!r} from {row.seq} on twice")
                graph.append(agent, row.seq, versions.at, versions.n, end - row.start)
        finally:
            free(versions.at)
        return log

    cdef Py_ssize_t row_of(self, int64_t index) noexcept nogil:
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t hi = self.n_rows
        cdef Py_ssize_t mid
        while hi - lo > 1:
            mid = (lo + hi) >> 1
            if self.row[mid].start <= index:
                lo = mid
            else:
                hi = mid
        return lo

    def merge(self, OpLog target not None, int64_t room=MAX_NUMBER):
        """Add the events to another log. O(rows + content).

        Returns the runs that lack parents there, `(agent, seq, parents, edits)`. Raises what `OpLog.add` does, and
        `PendingError` if those runs would take more than `room` bytes; some events may then have been added.
        """
        cdef Graph graph = target.graph
        cdef Ints versions
        cdef Row* row
        cdef Row* holder
        cdef Py_ssize_t i, k
        cdef int64_t end, link, seq, lv, rest
        cdef int32_t agent
        cdef bint complete
        memset(&versions, 0, sizeof(versions))
        waiting = []
        numbers = [graph.agent_number(name) for name in self.names]
        try:
            for i in range(self.n_rows):
                row = &self.row[i]
                end = self.row[i + 1].start if i + 1 < self.n_rows else self.n
                versions.n = 0
                complete = True
                for k in range(row.n_parents):
                    link = self.links.at[row.parents + k]
                    self.id_of(link, &agent, &seq)
                    if agent == row.agent and row.seq <= seq < row.seq + end - row.start:
                        name = self.names[agent]
                        raise CausalityError(f"event {name}:{row.seq} has {name}:{seq}, made after it, as parent")
                    lv = graph.known(numbers[agent], seq, &rest)
                    if lv < 0:
                        complete = False
                        break
                    push(&versions, lv)
                if complete:
                    if versions.n > 1:
                        graph.reduce(&versions)
                    target.take(numbers[row.agent], row.seq, &versions, self.log_, row.start, end - row.start)
                else:
                    room -= self.weight_of(i)
                    if room < 0:
                        raise PendingError(f"too much of this would wait for parents: {len(waiting)} runs and more")
                    waiting.append(self.run_of(i))
        finally:
            free(versions.at)
        return waiting

    cdef int id_of(self, int64_t link, int32_t* agent, int64_t* seq) noexcept nogil:
        cdef Row* row
        if link < 0:
            agent[0] = self.outside[-1 - link].agent
            seq[0] = self.outside[-1 - link].seq
        else:
            row = &self.row[self.row_of(link)]
            agent[0] = row.agent
            seq[0] = row.seq + (link - row.start)
        return 0

    cdef int64_t weight_of(self, Py_ssize_t i) noexcept:
        """About how many bytes a row takes as a run that waits: an edit for each event that goes backwards."""
        cdef OpLog log = self.log_
        cdef Row* row = &self.row[i]
        cdef int64_t end = self.row[i + 1].start if i + 1 < self.n_rows else self.n
        cdef int64_t lo = row.start
        cdef int64_t edits = 0
        cdef int64_t hi
        cdef Py_ssize_t k = log.find(lo)
        while lo < end:
            hi = min(log.run_end(k), end)
            edits += hi - lo if log.run[k].kind in (PREPEND, ERASE) else 1
            lo = hi
            k += 1
        return 1200 + 200 * (edits + row.n_parents)

    cdef tuple run_of(self, Py_ssize_t i):
        cdef Row* row = &self.row[i]
        cdef int64_t end = self.row[i + 1].start if i + 1 < self.n_rows else self.n
        cdef Py_ssize_t k
        cdef int32_t agent
        cdef int64_t seq
        parents = []
        for k in range(row.n_parents):
            self.id_of(self.links.at[row.parents + k], &agent, &seq)
            parents.append((self.names[agent], seq))
        return self.names[row.agent], row.seq, tuple(parents), tuple(self.log_.edits(row.start, end))

    def runs(self, int64_t room=MAX_NUMBER):
        """The runs, `(agent, seq, parents, edits)`, in their order. `LimitError` if a few bytes would become so many
        edits, one for each event that goes backwards, that they take more than `room` bytes.
        """
        cdef Py_ssize_t i
        for i in range(self.n_rows):
            room -= self.weight_of(i) - 1400
            if room < 0:
                raise LimitError(f"row {i} of the history has too many edits")
        return [self.run_of(i) for i in range(self.n_rows)]


cdef int check_end(Source* s, str column) except -1:
    if s.i < s.n:
        raise fault(column, s.i, f"has {s.n - s.i} bytes too many")
    return 0


def memory_of(columns: Columns, bint values=False):
    """How many bytes the columns may take in memory, whatever they say: to be asked before they are read. `DecodeError`. O(bytes)."""
    return (
        count(columns.lengths) * (sizeof(Row) + 72) + count(columns.parents) * 16 + count(columns.kinds) * sizeof(OpRun)
        + (items_memory(columns.content) if values else len(columns.content) * 10) + gone(columns.erased) * 16
        + len(columns.agents) * 300 + backwards(columns.kinds) * 240
    )


def items_memory(bytes data not None):
    """How many bytes a list's values may take in memory, most while the longest is checked to be one. O(values)."""
    cdef Source s
    cdef int64_t n = 0
    cdef int64_t longest = 0
    cdef int64_t length
    source(&s, data)
    while s.i < s.n:
        length = number(&s, "content")
        if length > s.n - s.i:
            break  # an error for whoever reads it
        longest = max(longest, length)
        n += 1
        s.i += length
    return len(data) + 90 * n + 45 * longest


cdef int64_t backwards(bytes kinds) except -1:
    """How many elements are inserted in runs that go backwards: each may become an item of its own in a walk."""
    cdef Source s
    cdef int64_t n = 0
    cdef int64_t x
    source(&s, kinds)
    while s.i < s.n:
        x = number(&s, "kinds")
        if x & 3 == PREPEND and n < MAX_NUMBER:
            n += min(x >> 2, MAX_NUMBER)
    return n


cdef int64_t gone(bytes erased) except -1:
    """How many elements are not there."""
    cdef Source s
    cdef int64_t n = 0
    source(&s, erased)
    while s.i < s.n:
        number(&s, "erased")
        if s.i < s.n:
            n = min(n + number(&s, "erased"), MAX_NUMBER)
    return n


def read(columns: Columns, agents=(), bint values=False):
    """The history in some columns. `agents`: names that are known, before those in the columns. O(bytes).

    `DecodeError`, with the column and the byte in it, for whatever is not as it should be. Memory is taken for what is in
    the bytes, never for what they say will be.
    """
    cdef History found = History.__new__(History)
    found.names = [*agents, *columns.agents]
    if len(set(found.names)) != len(found.names):
        raise fault("agents", 0, "names an agent twice")
    found.log_ = OpLog(values)
    found.read_rows(columns.ids, columns.lengths, columns.parents)
    found.read_operations(columns.kinds, columns.positions)
    found.read_content(columns.content, columns.erased)
    return found
