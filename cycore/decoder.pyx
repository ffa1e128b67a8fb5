"""Reads the columns of a history, straight into those of a log. What they say is checked before it is believed."""

cimport cython

from cpython.unicode cimport PyUnicode_DATA, PyUnicode_KIND
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from egwalker.cycore.columns cimport (
    INSIDE, MAX_RUN, OUTSIDE, OUTSIDE_MORE, ROOT, Bytes, Source, add_name, check_end, end_of, fault, items_of, number, read_name,
    source, unzigzag,
)
from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, push, reserve
from egwalker.cycore.oplog cimport DELETE, ERASE, PREPEND, TYPE, OpLog, OpRun, step_of
from egwalker.cycore.rope cimport bits_of, copy_units, narrow_units

from egwalker.cycore.columns import Columns, items_memory, read_items
from egwalker.cycore.errors import CausalityError, DecodeError, EgwalkerError, LimitError, PendingError
from egwalker.cycore.oplog import ERASED as _ERASED
from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH

cdef int64_t C_MAX_LENGTH = _MAX_LENGTH
cdef uint32_t C_ERASED = _ERASED
cdef int64_t MAX_NUMBER = <int64_t>1 << 53


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
        numbers = [graph.index.number(name) for name in self.names]
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
                if graph.index.known(agent, row.seq, &rest) >= 0 or rest < end - row.start:
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
        numbers = [graph.index.number(name) for name in self.names]
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
                    lv = graph.index.known(numbers[agent], seq, &rest)
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


def memory_of(columns: Columns, bint values=False):
    """How many bytes the columns may take in memory, whatever they say: to be asked before they are read. `DecodeError`. O(bytes)."""
    return (
        count(columns.lengths) * (sizeof(Row) + 72) + count(columns.parents) * 16 + count(columns.kinds) * sizeof(OpRun)
        + (items_memory(columns.content) if values else len(columns.content) * 10) + gone(columns.erased) * 16
        + len(columns.agents) * 300 + backwards(columns.kinds) * 240
    )


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
