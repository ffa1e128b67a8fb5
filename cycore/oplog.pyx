"""The operation log: what each event of the graph did, in columns, run-length encoded.

An event inserts or deletes one element at a position of the document at its parents' version. Runs of events that type
on, prepend, delete on or erase backwards are one row. Inserted elements lie in three pools, of 1, 2 and 4 bytes each.
"""

cimport cython

from collections import namedtuple

from cpython.unicode cimport (
    PyUnicode_DATA, PyUnicode_FromKindAndData, PyUnicode_GET_LENGTH, PyUnicode_KIND,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from egwalker.cycore.agents cimport check_seqs
from egwalker.cycore.graph cimport Graph, GraphRun
from egwalker.cycore.mem cimport Ints, assign, push, reserve
from egwalker.cycore.rope cimport copy_units

from egwalker.cycore.errors import ConflictError, ContentError, DecodeError, HistoryError, LimitError, VersionError
from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH

Content = str | list[str]
Id = tuple[str, int]
Op = namedtuple("Op", "start kind pos length step content")

ERASED = 0xDFFF
"""Stands for a code point that is not known any more; no text holds it."""

cdef int64_t C_MAX_LENGTH = _MAX_LENGTH
cdef uint32_t C_ERASED = ERASED


cdef int join(uint8_t k, int64_t pos, int64_t length, uint8_t k2, int64_t pos2, int64_t length2) noexcept nogil:
    """The kind of the two runs as one, -1 if they do not join. A run of one event has no direction of its own."""
    if k < DELETE and k2 < DELETE:
        if pos2 == pos + length and (k == TYPE or length == 1) and (k2 == TYPE or length2 == 1):
            return TYPE
        if pos2 == pos and (k == PREPEND or length == 1) and (k2 == PREPEND or length2 == 1):
            return PREPEND
    elif k >= DELETE and k2 >= DELETE:
        if pos2 == pos and (k == DELETE or length == 1) and (k2 == DELETE or length2 == 1):
            return DELETE
        if pos2 == pos - length and (k == ERASE or length == 1) and (k2 == ERASE or length2 == 1):
            return ERASE
    return -1


def check_text(str text):
    """Raise `ContentError` if `text` holds a lone surrogate. O(1) for text within Latin-1, else O(length)."""
    cdef int kind = PyUnicode_KIND(text)
    cdef const uint8_t* units = <const uint8_t*>PyUnicode_DATA(text)
    cdef Py_ssize_t i
    cdef uint32_t u
    if kind == 1:
        return
    for i in range(PyUnicode_GET_LENGTH(text)):
        u = (<const uint16_t*>units)[i] if kind == 2 else (<const uint32_t*>units)[i]
        if 0xD800 <= u <= 0xDFFF:
            raise ContentError(f"lone surrogate U+{u:04X} at code point {i} of the text")


@cython.final
cdef class OpLog:
    """The graph of a document and the operations of its events.

    `values`: elements are JSON values, given and returned as lists of JSON texts, instead of code points.

    >>> log = OpLog()
    >>> log.add("b", 0, [], [(0, 0, "2"), (1, 0, "3")])
    2
    >>> list(log.ops())
    [Op(start=0, kind='insert', pos=0, length=2, step=1, content='23')]
    """

    def __cinit__(self, bint values=False):
        self.graph = Graph()
        self.values = values
        self.items = []

    def __dealloc__(self):
        free(self.run)
        for i in range(3):
            free(self.pool[i].at)

    def __len__(self):
        return self.n

    def begin_after(self, vector, heads, content, bint compared=False):
        """Begin, while empty, at a version of which no more is known than its events' ids, and its content.

        The content is a str or, of a list, a list of JSON texts; of a replayed document it is the JSON text of the state.

        If one of these events comes again it is taken to be the same; if such events are to be `compared`, that is a
        `HistoryError` as whatever else needs more than their ids.
        """
        self.graph.begin_after(vector, heads)
        self.compared = compared
        self.n = self.graph.n
        self.before = content
        if type(content) is list:
            self.items = list(content)
            self.base_items = len(content)

    # --- columns ----------------------------------------------------------------------------------------------

    cdef int push(self, uint8_t kind, int64_t pos, int64_t length, const uint8_t* units, int width) except -1 nogil:
        """Append a run of operations, joining it to the last one where it goes on from there."""
        cdef OpRun* last
        cdef Pool* pool
        cdef int64_t last_length
        cdef int joined = -1
        cdef int k = 0 if width == 1 else (1 if width == 2 else 2)
        if self.n_runs:
            last = &self.run[self.n_runs - 1]
            last_length = self.n - last.lv
            joined = join(last.kind, last.pos, last_length, kind, pos, length)
            if joined >= 0 and kind < DELETE:
                # A narrower element may go into a wider run; the content must go on where the run's ends.
                if last.pool < k or last.content + last_length != self.pool[last.pool].n:
                    joined = -1
                else:
                    k = last.pool
        pool = &self.pool[k]
        if kind < DELETE:
            reserve(<void**>&pool.at, &pool.cap, (pool.n + length) << k, 1)
        if joined >= 0:
            last.kind = <uint8_t>joined
        else:
            reserve(<void**>&self.run, &self.cap_runs, self.n_runs + 1, sizeof(OpRun))
            last = &self.run[self.n_runs]
            last.lv = self.n
            last.content = pool.n if kind < DELETE else 0
            last.pos = <int32_t>pos
            last.kind = kind
            if length == 1:
                last.kind = TYPE if kind < DELETE else DELETE
            last.pool = <uint8_t>k if kind < DELETE else 0
            self.n_runs += 1
        if kind < DELETE:
            copy_units(pool.at + (pool.n << k), 1 << k, units, width, length)
            pool.n += length
        self.n += length
        return 0

    cdef int push_edit(self, object pos, object deleted, object inserted) except -1:
        cdef int64_t c_pos, c_deleted
        if type(pos) is not int or type(deleted) is not int:
            raise DecodeError(f"an operation is (position, deleted, inserted), not ({pos!r}, {deleted!r}, ...)")
        if not (0 <= pos <= C_MAX_LENGTH and 0 <= deleted <= C_MAX_LENGTH):
            raise LimitError(f"position {pos} or length {deleted} is not within 0..{_MAX_LENGTH}")
        c_pos = pos
        c_deleted = deleted
        if c_deleted:
            self.push(DELETE, c_pos, c_deleted, NULL, 1)
        self.push_insert(c_pos, inserted)
        return 0

    cdef int push_insert(self, int64_t pos, object content) except -1:
        """Append the insertion of `content`: a str, or in a list document a list of JSON texts."""
        cdef Py_ssize_t i, n
        if not self.values:
            if type(content) is not str:
                raise ContentError(f"a text takes str, not {type(content).__name__}")
            n = PyUnicode_GET_LENGTH(content)
            if n > C_MAX_LENGTH:
                raise LimitError(f"an edit inserts at most {_MAX_LENGTH} elements, not {n}")
            if n:
                check_text(content)
                self.push(TYPE, pos, n, <const uint8_t*>PyUnicode_DATA(content), PyUnicode_KIND(content))
            return 0
        if content == "":
            return 0
        if type(content) is not list:
            raise ContentError(f"a list takes a list of JSON texts, not {type(content).__name__}")
        for item in content:
            if type(item) is not str:
                raise ContentError(f"a list takes a list of JSON texts, not of {type(item).__name__}")
            check_text(item)
        for i, item in enumerate(content):
            self.push_item(pos + i, item)
        return 0

    cdef int push_item(self, int64_t pos, object item) except -1:
        cdef uint32_t unit
        if len(self.items) >= 0xFFFFFFFF:
            raise LimitError("a list's history holds at most 2**32 - 1 values")
        unit = <uint32_t>len(self.items)
        self.items.append(item)
        self.push(TYPE, pos, 1, <const uint8_t*>&unit, 4)
        return 0

    cdef int push_from(self, OpLog other, int64_t start, int64_t end) except -1:
        """Append the operations `start:end` of another log."""
        cdef Py_ssize_t i
        cdef OpRun* run
        cdef int64_t lo, hi, offset, at
        if start >= end:
            return 0
        i = other.find(start)
        lo = start
        while lo < end:
            run = &other.run[i]
            hi = min(end, other.run_end(i))
            offset = lo - run.lv
            if run.kind >= DELETE:
                self.push(run.kind, run.pos + step_of(run.kind) * offset, hi - lo, NULL, 1)
            elif not self.values:
                self.push(run.kind, run.pos + step_of(run.kind) * offset, hi - lo, other.units(run, offset), 1 << run.pool)
            else:
                for at in range(lo, hi):
                    offset = at - run.lv
                    self.push_item(run.pos + step_of(run.kind) * offset, other.content_of(run, offset, 1)[0])
            lo = hi
            i += 1
        if other.erased:
            self.erased = True
        return 0

    cdef int cut(self, int64_t length) except -1 nogil:
        """Forget the operations from `length` on."""
        cdef OpRun* run
        cdef int64_t offset
        while self.n > length:
            run = &self.run[self.n_runs - 1]
            offset = length - run.lv
            if offset < 0:
                offset = 0
            if run.kind < DELETE:
                self.pool[run.pool].n = run.content + offset
            if offset == 0:
                self.n_runs -= 1
                self.n = run.lv
            else:
                self.n = length
                if offset == 1:
                    run.kind = TYPE if run.kind < DELETE else DELETE
        if self.values:
            with gil:
                del self.items[self.base_items + self.pool[2].n:]
        return 0

    # --- adding -----------------------------------------------------------------------------------------------

    def add(self, agent: str, seq: int, parents, ops):
        """Add a run of one agent's events; returns how many were new.

        `parents` are ids `(agent, seq)` of the first event's parents. `ops` are `(pos, deleted, inserted)`: `deleted`
        events that each delete the element at `pos`, then one a new element, inserting it there or behind the one before.
        Events that are held already are compared. On any error nothing changes: `VersionError` for a parent that is not
        held, `ConflictError` for an event held with something else in it, `AgentError`, `DecodeError`, `ContentError`,
        `LimitError`. O(length + log events), and O(runs between the parents) for a merge.
        """
        cdef OpLog run
        cdef Ints versions
        cdef int64_t start = self.n
        cdef int64_t c_seq, length, rest
        cdef int32_t number
        memset(&versions, 0, sizeof(versions))
        try:
            for pos, deleted, inserted in ops:
                self.push_edit(pos, deleted, inserted)
            length = self.n - start
            if length == 0:
                return 0
            if type(seq) is not int or not 0 <= seq < 1 << 62:
                check_seqs(-1, 0)
            c_seq = seq
            check_seqs(c_seq, length)
            for name, parent in parents:
                push(&versions, self.graph.lv(name, parent))
            if versions.n > 1:
                self.graph.reduce(&versions)
            number = self.graph.index.number(agent)
            if self.graph.index.known(number, c_seq, &rest) >= 0 or rest < length:
                # Some of it is held: compare that, and add the rest.
                run = OpLog(self.values)
                run.push_from(self, start, self.n)
                self.cut(start)
                return self.take(number, c_seq, &versions, run, 0, length)
            self.graph.check_reach(versions.at, versions.n)
            self.graph.append(number, c_seq, versions.at, versions.n, length)
            return length
        except BaseException:
            self.cut(start)
            raise
        finally:
            free(versions.at)

    cdef int64_t take(self, int32_t agent, int64_t seq, Ints* parents, OpLog other, int64_t start, int64_t length) except -1:
        """Take over one run of events, with operations `start : start + length` of `other`; returns how many were new.

        First all known parts are compared, as far as they are after the graph's base, then the rest is added: nothing is added
        if anything differs.
        """
        cdef int64_t done = 0
        cdef int64_t added = 0
        cdef int64_t some, lv, rest
        cdef int64_t parent = -1
        cdef int adding
        lv = self.graph.index.known(agent, seq, &rest)
        if lv < 0 or lv >= self.graph.base:
            self.graph.check_reach(parents.at, parents.n)
        for adding in range(2):
            done = 0
            while done < length:
                lv = self.graph.index.known(agent, seq + done, &some)
                if some > length - done:
                    some = length - done
                if done:
                    # `known` finds it: the event before is held by now, or is about to be compared itself.
                    parent = self.graph.index.known(agent, seq + done - 1, &rest)
                if lv >= 0 and not adding:
                    if lv < self.graph.base:
                        if self.compared:
                            self.graph.check_whole()
                    elif done:
                        self.check_known(lv, &parent, 1, other, start + done, some)
                    else:
                        self.check_known(lv, parents.at, parents.n, other, start, some)
                elif lv < 0 and not adding:
                    if parent >= 0 and done:
                        self.graph.check_reach(&parent, 1)
                elif lv < 0:
                    self.push_from(other, start + done, start + done + some)
                    if done:
                        self.graph.append(agent, seq + done, &parent, 1, some)
                    else:
                        self.graph.append(agent, seq, parents.at, parents.n, some)
                    added += some
                done += some
        return added

    cdef int check_known(self, int64_t lv, const int64_t* parents, Py_ssize_t n_parents, OpLog other, int64_t start, int64_t length) except -1:
        """Raise `ConflictError` unless the events from `lv` on have these parents and the operations `start:` of `other`."""
        cdef Graph graph = self.graph
        cdef Py_ssize_t i = graph.find(lv)
        cdef Py_ssize_t k
        cdef int64_t before = lv - 1
        cdef const int64_t* held = &before
        cdef Py_ssize_t n_held = 1
        cdef int64_t where = lv
        cdef bint equal
        if graph.run[i].lv == lv:
            held = graph.parents_of(i)
            n_held = graph.run[i].n_parents
        equal = n_held == n_parents
        if equal:
            for k in range(n_held):
                equal = equal and held[k] == parents[k]
        if equal and graph.run_end(i) < lv + length:
            equal = False
            where = graph.run_end(i)
        if not equal:
            agent, seq = graph.id(where)
            raise ConflictError(f"event {agent}:{seq} is held already, with other parents")
        where = self.same(lv, other, start, length)
        if where < length:
            agent, seq = graph.id(lv + where)
            raise ConflictError(f"event {agent}:{seq} is held already, with another operation")
        return 0

    cdef int64_t same(self, int64_t lv, OpLog other, int64_t start, int64_t length) except -1:
        """How many operations from `lv` on are the same as those of `other` from `start` on, at most `length`."""
        cdef Py_ssize_t i = self.find(lv)
        cdef Py_ssize_t k = other.find(start)
        cdef int64_t done = 0
        cdef int64_t some, a, b, offset
        cdef OpRun* x
        cdef OpRun* y
        cdef const uint8_t* xs
        cdef const uint8_t* ys
        cdef uint32_t u, v
        while done < length:
            x = &self.run[i]
            y = &other.run[k]
            a = lv + done - x.lv
            b = start + done - y.lv
            some = min(length - done, min(self.run_end(i) - x.lv - a, other.run_end(k) - y.lv - b))
            if (x.kind < DELETE) != (y.kind < DELETE) or x.pos + step_of(x.kind) * a != y.pos + step_of(y.kind) * b:
                return done
            if some > 1 and x.kind != y.kind:
                some = 1
                length = done + 2  # the next one differs
            if x.kind < DELETE:
                if self.values:
                    for offset in range(some):
                        mine = self.content_of(x, a + offset, 1)
                        theirs = other.content_of(y, b + offset, 1)
                        if mine != theirs and mine != [None] and theirs != [None]:
                            return done + offset
                else:
                    xs = self.units(x, a)
                    ys = other.units(y, b)
                    if x.pool != y.pool or memcmp(xs, ys, some << x.pool):
                        for offset in range(some):
                            u = unit_at(xs, x.pool, offset)
                            v = unit_at(ys, y.pool, offset)
                            if u != v and u != C_ERASED and v != C_ERASED:
                                return done + offset
            done += some
            if lv + done == self.run_end(i):
                i += 1
            if start + done == other.run_end(k):
                k += 1
        return done

    def merge(self, other: OpLog, start: int = 0):
        """Add what `other` holds from its local version `start` on; returns how many events were new.

        What is before `start` must have been merged before. What both hold is compared: `ConflictError`, and nothing
        is added, where an event differs. O(events of `other` from `start` on, run-length encoded).
        """
        cdef Graph theirs = other.graph
        cdef Graph ours = self.graph
        cdef Py_ssize_t i, k
        cdef GraphRun* run
        cdef GraphRun* holder
        cdef int64_t length = self.n
        cdef int64_t lo, lv, rest
        cdef int64_t added = 0
        cdef Ints parents
        cdef const int64_t* at
        cdef int64_t before
        cdef Py_ssize_t n
        if self.values != other.values:
            raise ContentError("a log of values and a log of text do not merge")
        if not 0 <= start <= other.n:
            raise VersionError(f"local version {start} is not within 0:{other.n}")
        if other is self or start == other.n:
            return 0
        memset(&parents, 0, sizeof(parents))
        numbers = [ours.index.number(name) for name in theirs.index.names]
        if start < theirs.base:
            for i in range(theirs.base_runs):
                run = &theirs.run[i]
                lo = run.seq
                while lo < run.seq + theirs.run_end(i) - run.lv:
                    if ours.index.known(numbers[run.agent], lo, &rest) < 0:
                        raise HistoryError(
                            f"event {theirs.index.names[run.agent]}:{lo} is not held, and is of the history that the other document has not fetched"
                        )
                    lo += rest
            start = theirs.base
            if start == other.n:
                return 0
        try:
            for i in range(theirs.find(start), theirs.n_runs):
                run = &theirs.run[i]
                lo = start if start > run.lv else run.lv
                at = theirs.parents_of(i)
                n = run.n_parents
                if lo > run.lv:
                    before = lo - 1
                    at = &before
                    n = 1
                parents.n = 0
                for k in range(n):
                    holder = &theirs.run[theirs.find(at[k])]
                    lv = ours.index.known(numbers[holder.agent], holder.seq + (at[k] - holder.lv), &rest)
                    if lv < 0:
                        raise VersionError(f"event {theirs.index.names[holder.agent]}:{holder.seq + (at[k] - holder.lv)} is not held")
                    push(&parents, lv)
                    rest = parents.n - 1
                    while rest and parents.at[rest - 1] > lv:
                        parents.at[rest] = parents.at[rest - 1]
                        rest -= 1
                    parents.at[rest] = lv
                added += self.take(numbers[run.agent], run.seq + (lo - run.lv), &parents, other, lo,
                                   theirs.run_end(i) - lo)
        except BaseException:
            self.truncate(length)
            raise
        finally:
            free(parents.at)
        return added

    def truncate(self, length: int):
        """Forget the events from local version `length` on, as if they had never come. O(log)."""
        if not 0 <= length <= self.n:
            raise VersionError(f"local version {length} is not within 0..{self.n}")
        self.cut(length)
        self.graph.truncate(length)

    # --- reading ----------------------------------------------------------------------------------------------

    cdef object content_of(self, const OpRun* run, int64_t offset, int64_t length):
        cdef int64_t i
        cdef const uint32_t* numbers
        if self.values:
            numbers = <const uint32_t*>self.units(run, offset)
            return [self.items[numbers[i]] for i in range(length)]
        return PyUnicode_FromKindAndData(1 << run.pool, self.units(run, offset), length)

    cdef object shown(self, object content):
        """`content` with something to look at for what is not known any more."""
        if not self.erased:
            return content
        if self.values:
            return ["null" if item is None else item for item in content]
        return content.replace(chr(C_ERASED), "\ufffd")

    def ops(self, start: int = 0, end=None):
        """The rows of the local versions `start:end`, cut to that range."""
        cdef Py_ssize_t i
        cdef int64_t lo, hi, stop, offset
        cdef OpRun* run
        if end is None:
            end = self.n
        if not 0 <= start <= end <= self.n:
            raise VersionError(f"local versions {start}:{end} are not within 0:{self.n}")
        if start == end:
            return
        if start < self.graph.base:
            self.graph.check_reach(NULL, 0)
        i = self.find(start)
        lo, stop = start, end
        while lo < stop:
            run = &self.run[i]
            hi = min(self.run_end(i), stop)
            offset = lo - run.lv
            kind = run.kind
            if kind < DELETE:
                content = self.shown(self.content_of(run, offset, hi - lo))
            else:
                content = [] if self.values else ""
            yield Op(lo, "insert" if kind < DELETE else "delete", run.pos + step_of(kind) * offset, hi - lo,
                     step_of(kind), content)
            lo = hi
            i += 1

    def edits(self, start: int, end: int):
        """The events `start:end` as `(pos, deleted, inserted)`, the form that `add` takes."""
        found = []
        for op in self.ops(start, end):
            nothing = [] if self.values else ""
            if op.kind == "insert" and op.step == 1:
                found.append((op.pos, 0, op.content))
            elif op.kind == "insert":
                found += [(op.pos, 0, op.content[i : i + 1]) for i in range(op.length)]
            elif op.step == 0:
                found.append((op.pos, op.length, nothing))
            else:
                found += [(op.pos - i, 1, nothing) for i in range(op.length)]
        return found

    # --- copying and checking ---------------------------------------------------------------------------------

    def copy(self):
        """An independent log with the same events and local versions. O(log)."""
        cdef OpLog other = OpLog(self.values)
        cdef int i
        other.graph = self.graph.copy()
        # With room to grow: the first edit should not have to move it all.
        reserve(<void**>&other.run, &other.cap_runs, self.n_runs + self.n_runs // 8 + 8, sizeof(OpRun))
        if self.n_runs:
            memcpy(other.run, self.run, self.n_runs * sizeof(OpRun))
        other.n_runs = self.n_runs
        for i in range(3):
            reserve(<void**>&other.pool[i].at, &other.pool[i].cap, (self.pool[i].n + self.pool[i].n // 8 + 8) << i, 1)
            if self.pool[i].n:
                memcpy(other.pool[i].at, self.pool[i].at, self.pool[i].n << i)
            other.pool[i].n = self.pool[i].n
        other.items = list(self.items)
        other.base_items = self.base_items
        other.before = self.before
        other.compared = self.compared
        other.erased = self.erased
        other.n = self.n
        return other

    def memory(self):
        """Bytes allocated, by part, but for agents' names and a list's values."""
        cdef Graph graph = self.graph
        return {
            "graph": graph.cap_runs * sizeof(GraphRun) + graph.pool.cap * 8 + graph.heads.critical.cap * 16
            + graph.heads.front.cap * 8,
            "ids": graph.index.memory(),
            "operations": self.cap_runs * sizeof(OpRun),
            "content": self.pool[0].cap + self.pool[1].cap + self.pool[2].cap,
        }

    def _check(self):
        """Assert every invariant, the graph's too."""
        cdef Py_ssize_t i
        cdef OpRun* run
        cdef OpRun* before
        self.graph._check()
        assert self.n == self.graph.n, f"{self.n} operations for {self.graph.n} events"
        ends = [0, 0, 0]
        lv = self.graph.base
        for i in range(self.n_runs):
            run = &self.run[i]
            length = self.run_end(i) - run.lv
            assert run.lv == lv and length > 0, f"run {i} is {run.lv}:{run.lv + length}, not from {lv} on"
            lv += length
            assert run.pos >= 0 and run.kind <= ERASE, f"run {i} has position {run.pos}, kind {run.kind}"
            assert length > 1 or run.kind in (TYPE, DELETE), f"run {i} of one event has kind {run.kind}"
            assert run.kind != ERASE or run.pos >= length - 1, f"run {i} erases past the start"
            if run.kind < DELETE:
                assert run.content == ends[run.pool], f"the content of run {i} starts at {run.content}"
                ends[run.pool] += length
        assert lv == self.n
        assert ends == [self.pool[0].n, self.pool[1].n, self.pool[2].n], f"content of {ends} elements"
        assert not self.values or len(self.items) == self.base_items + self.pool[2].n, "values and their numbers"
