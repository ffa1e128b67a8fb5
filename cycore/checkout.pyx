"""Checkouts: the content of a log at one version, local edits on top of it, and the way to later versions."""

cimport cython

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from egwalker.cycore.agents cimport check_seqs
from egwalker.cycore.caret cimport Caret
from egwalker.cycore.graph cimport Graph, Names
from egwalker.cycore.live cimport ANY_NUMBER, LiveWindow
from egwalker.cycore.mem cimport Ints, assign, heads_equal, push
from egwalker.cycore.oplog cimport DELETE, TYPE, OpLog, OpRun
from egwalker.cycore.rope cimport Rope, whole
from egwalker.cycore.walker cimport Out, Walker

from egwalker.cycore.errors import ContentError, LimitError, PositionError
from egwalker.cycore.mapping import map_position
from egwalker.cycore.oplog import ERASED as _ERASED
from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH

cdef str GONE = chr(_ERASED)
cdef int64_t MAX_LENGTH = _MAX_LENGTH


@cython.final
cdef class Checkout:
    """The elements of a document at one version of its log, and the way to later versions.

    >>> from egwalker.cycore.oplog import OpLog
    >>> log = OpLog()
    >>> log.add("a", 0, [], [(0, 0, "1")]), log.add("b", 0, [], [(0, 0, "23")])
    (1, 2)
    >>> checkout = Checkout(log)
    >>> checkout.merge([0], edits=True), checkout.merge(edits=True), checkout.content()
    ([(0, 0, '1')], [(1, 0, '23')], '123')
    """

    def __cinit__(self, OpLog log not None, bint empty=False):
        self.log = log
        self.rope = Rope()
        self.caret = Caret()
        if not empty:
            assign(&self.heads, log.graph.root_.at, log.graph.root_.n)
            self.fill()
        self.begin()

    cdef int begin(self) except -1:
        """Have a walker for the rope, and nothing to go on from."""
        self.walker = Walker(self.log, self.rope)
        self.live = LiveWindow(self.walker)
        # After an error the log may lose events that had been named.
        self.names = Names()
        return 0

    def __dealloc__(self):
        free(self.heads.at)

    def __len__(self):
        return self.rope.n

    @property
    def version(self):
        """The version's local versions, ascending. O(heads)."""
        return tuple([self.heads.at[i] for i in range(self.heads.n)])

    @property
    def ids(self):
        """The version as ids, an ascending tuple. O(heads), and O(log runs) for each that is new since the last time."""
        return self.names.of(self.log.graph, &self.heads)

    def merge(self, version=None, edits: bool = False):
        """Bring in `version`, by default all of the log; returns the edits that this made, if they are asked for.

        O(events that are new or concurrent with new ones), run-length encoded, times O(log n), and for the first ones
        after a pause or an absence O(events since it). `PositionError` if an event is at a position that its version does
        not have; the checkout is then as it was.
        """
        cdef Ints wanted
        cdef Graph graph = self.log.graph
        memset(&wanted, 0, sizeof(wanted))
        self.walker.recording = edits or self.caret.open
        try:
            if version is None:
                assign(&wanted, graph.heads.front.at, graph.heads.front.n)
            else:
                graph.read_version(version, &wanted)
            try:
                with nogil:
                    if not self.live.go_on(wanted.at, wanted.n):
                        self.walker.run(self.heads.at, self.heads.n, wanted.at, wanted.n)
                        if heads_equal(&graph.heads, wanted.at, wanted.n):
                            self.live.keep()
                        else:
                            self.live.close()
                        self.walker.release()
            except BaseException:
                self.rebuild()
                raise
            if version is None:
                assign(&self.heads, wanted.at, wanted.n)
            else:
                for i in range(wanted.n):
                    push(&self.heads, wanted.at[i])
                if self.heads.n > 1:
                    graph.reduce(&self.heads)
            self.caret.follow(&self.heads, self.walker.out, self.walker.n_out)
        finally:
            free(wanted.at)
        return self.edits() if edits else []

    cdef object edits(self):
        cdef Walker walker = self.walker
        cdef Py_ssize_t i, op
        cdef OpRun* run
        cdef Out* out
        nothing = [] if self.log.values else ""
        made = []
        for i in range(walker.n_out):
            out = &walker.out[i]
            if out.lv < 0:
                made.append((out.pos, out.length, nothing))
                continue
            op = self.log.find(out.lv)
            run = &self.log.run[op]
            content = self.log.shown(self.log.content_of(run, out.lv - run.lv, out.length))
            made.append((out.pos, 0, content if run.kind == TYPE else content[::-1]))
        return made

    cdef int rebuild(self) except -1:
        """Make the rope anew for the version that it was at when an error came."""
        self.rope.clear()
        self.fill()
        self.begin()
        with nogil:
            self.walker.run(self.log.graph.root_.at, self.log.graph.root_.n, self.heads.at, self.heads.n)
            self.live.close()
            self.walker.release()
        return 0

    cdef int fill(self) except -1:
        cdef uint32_t i
        if self.log.before is None:
            return 0
        if not self.log.values:
            self.rope.insert(0, self.log.before)
            return 0
        for i in range(self.log.base_items):
            self.rope.insert_units(i, &i, 4, 1)
        return 0

    def move(self, OpLog log not None):
        """Go on over a log of a text that has the events before this one's base, too; all others have the same local versions.

        The text stays as it is. O(heads).
        """
        cdef Graph graph = self.log.graph
        cdef Ints heads
        assert not log.values and graph.n == log.graph.n
        memset(&heads, 0, sizeof(heads))
        try:
            log.graph.read_version(
                [lv if lv >= graph.base else log.graph.lv(*graph.id(lv)) for lv in self.version], &heads
            )
            assign(&self.heads, heads.at, heads.n)
        finally:
            free(heads.at)
        self.log = log
        self.begin()

    def map_position(self, version, pos, rows=None):
        """Where position `pos` of `version`, which this one follows, is here; see `Document.map_position`.

        None if that takes looking at more than `rows` rows of the graph or the log.
        """
        cdef Ints wanted
        cdef int64_t c_pos, found
        cdef int64_t length = self.rope.n
        cdef Py_ssize_t most = ANY_NUMBER if rows is None else rows
        memset(&wanted, 0, sizeof(wanted))
        pos = whole(pos)
        c_pos = max(-1, min(pos, MAX_LENGTH + 1))
        found = c_pos
        try:
            self.log.graph.read_version(version, &wanted)
            if wanted.n != self.heads.n or memcmp(wanted.at, self.heads.at, wanted.n * sizeof(int64_t)) != 0:
                try:
                    with nogil:
                        found = self.live.map_position(wanted.at, wanted.n, c_pos, &length, most)
                except BaseException:
                    self.live.close()
                    raise
                if found < 0:
                    walked = map_position(self.log, version, self.version, c_pos, length, rows)
                    if walked is None:
                        return None
                    found, length = walked
        finally:
            free(wanted.at)
        if not 0 <= pos <= length:
            raise PositionError(f"position {pos} is not within 0..{length}")
        return found

    def restart(self):
        """Forget everything and go to the log's frontier from its beginning. O(events)."""
        assign(&self.heads, self.log.graph.root_.at, self.log.graph.root_.n)
        self.caret.close()
        self.rebuild()
        self.merge()

    def insert(self, agent: str, pos, content):
        """Append an event of `agent` for each element of `content`, on top of this version; returns the first one's
        local version. O(log n + length). `PositionError`, `ContentError`, `AgentError`: nothing changes.

        With `defer` it comes on top of the agent's last event alone, if it goes on where that ended (see `caret`).
        """
        cdef int64_t lv = self.log.n
        cdef int64_t c_pos
        cdef int64_t n
        cdef bint apart
        pos = whole(pos)
        if not 0 <= pos <= self.rope.n:
            raise PositionError(f"position {pos} is not within 0..{self.rope.n}")
        c_pos = pos
        apart = self.caret.apart and self.goes_on(agent, c_pos, 0)
        self.log.push_insert(c_pos + self.caret.shift if apart else c_pos, content)
        n = self.log.n - lv
        if n == 0:
            return lv
        self.append(agent, n, apart)
        self.walker.recording = False
        self.walker.plain(lv, lv + n, -self.caret.shift if apart else 0)
        self.caret.typed(lv + n - 1, c_pos + n, n)
        return lv

    def delete(self, agent: str, pos, length):
        """Append an event of `agent` for each element deleted from `pos` on; as `insert`."""
        cdef int64_t lv = self.log.n
        cdef int64_t c_pos, c_length
        cdef bint apart
        pos = whole(pos)
        length = whole(length)
        if length < 0 or not 0 <= pos <= self.rope.n - length:
            raise PositionError(f"range {pos}:{pos + length} is not within 0:{self.rope.n}")
        if length == 0:
            return lv
        c_pos = pos
        c_length = length
        apart = self.caret.apart and self.goes_on(agent, c_pos, c_length)
        self.log.push(DELETE, c_pos + self.caret.shift if apart else c_pos, c_length, NULL, 1)
        self.append(agent, c_length, apart)
        self.rope.delete_units(c_pos, c_length)
        self.caret.typed(lv + c_length - 1, c_pos, -c_length)
        return lv

    cdef bint goes_on(self, str agent, int64_t pos, int64_t length) except -1:
        """Whether an edit at `pos` (see `Caret.goes_on`) is part of the run that is apart from the document."""
        cdef Graph graph = self.log.graph
        cdef int32_t number
        if not self.caret.goes_on(pos, length):
            return False
        number = graph.index.number(agent)
        return graph.id(self.caret.last) == (agent, graph.index.next_seq(number) - 1)

    cdef int append(self, str agent, int64_t n, bint apart) except -1:
        """Append `n` events of `agent` to the graph, for the operations just put into the log.

        They come on top of this version or, `apart`, of the run's last event.
        """
        cdef Graph graph = self.log.graph
        cdef int32_t number
        cdef int64_t seq
        cdef Py_ssize_t i
        cdef Py_ssize_t kept = 0
        try:
            number = graph.index.number(agent)
            seq = graph.index.next_seq(number)
            check_seqs(seq, n)
            if self.rope.n + n > MAX_LENGTH:
                raise LimitError(f"a document holds at most {MAX_LENGTH} elements")
            if apart:
                graph.append(number, seq, &self.caret.last, 1, n)
            else:
                graph.append(number, seq, self.heads.at, self.heads.n, n)
        except BaseException:
            self.log.cut(graph.n)
            raise
        if apart:
            for i in range(self.heads.n):
                if self.heads.at[i] != self.caret.last:
                    self.heads.at[kept] = self.heads.at[i]
                    kept += 1
        else:
            self.caret.apart = False
        self.heads.n = kept
        push(&self.heads, graph.n - 1)
        self.live.typed(graph.n - n, graph.n, apart)
        return 0

    def content(self, start=0, end=None):
        """The elements `start:end`, all of them by default: a str, or a list of JSON texts. O(log n + length)."""
        if end is None:
            end = self.rope.n
        if self.log.values:
            items = self.log.items
            found = [items[number] for number in self.rope.numbers(start, end)]
            gone = self.log.erased and None in found
        else:
            found = self.rope.slice(start, end)
            gone = self.log.erased and GONE in found
        if gone:
            raise ContentError("this version holds what was deleted since, and it was not kept")
        return found

    def copy(self, OpLog log not None):
        """The same at another log with the same local versions: a copy of this one's. O(n)."""
        cdef Checkout other = Checkout(log, True)
        other.rope = self.rope.copy()
        other.begin()
        assign(&other.heads, self.heads.at, self.heads.n)
        return other

    def _check(self):
        """Assert every invariant: the rope's, the live window's, and that a replay from nothing gives the same."""
        cdef Checkout fresh = Checkout(self.log)
        fresh.merge(self.version)
        self.rope._check()
        self.walker.tree._check()
        self.live._check()
        if self.live:
            ends = [run.end - 1 for run in self.log.graph.runs(self.log.graph.base, self.live.held)]
            assert self.version == self.log.graph.dominators(ends), f"a live window to {self.live.held}"
        assert fresh.content() == self.content(), "the text is not what its history makes"
