"""The transforming walk (Eg-walker, arXiv 2409.14252): from a version of a document to a later one.

To bring version `b` into a document at version `a`, `Graph.compare` finds the events that only `b` has and those that have
to be walked again because some of the new ones are concurrent with them. Of these, an event that follows all before it and
precedes all after it is *critical*: it applies to the document as it stands. What lies between two critical events is a
*window*; it is walked with a span tree of its own, over a placeholder for all the text from before the window.

Inside a window the graph's rows are cut into *pieces* wherever a version lies, so that every move of the prepare version
is over whole pieces. Branches are kept whole, small ones first: that makes few moves, as what must be retreated to
go on elsewhere is then small.
"""

cimport cython

from collections import namedtuple

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, qsort
from libc.string cimport memset

from egwalker.cycore.diff cimport Part, compare
from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport (
    Ints, Span, Spans, assign, heads_add, heap_pop, heap_push, push, reserve,
)
from egwalker.cycore.oplog cimport ERASE, PREPEND, TYPE, OpLog, OpRun
from egwalker.cycore.rope cimport Rope
from egwalker.cycore.spans cimport LEAF_SLOTS, NODE_SLOTS, SpanTree

from egwalker.cycore.errors import PositionError
from egwalker.cycore.oplog import Content
from egwalker.cycore.rope import MAX_LENGTH as _MAX_LENGTH

Edit = tuple[int, int, Content]
Step = namedtuple("Step", "start end retreated advanced emitted")

cdef int64_t UNKNOWN_LENGTH = _MAX_LENGTH
cdef enum:
    EXACT_FROM = 256      # pieces of a window, between which `weigh_pieces` counts all descendants
    EXACT_TO = 1 << 14
    MAX_WORDS = 8         # windows of up to so many times 64 pieces have versions as sets of bits

# What `counts` counts, in operations run-length encoded
cdef enum:
    PLAIN, APPLIED, RETREATED, ADVANCED, MOVES, WINDOWS

cdef extern from *:
    int lowest_bit "__builtin_ctz"(unsigned int bits) noexcept nogil
    int lowest_bit_64 "__builtin_ctzll"(unsigned long long bits) noexcept nogil

cdef int span_leaf_slots = LEAF_SLOTS
cdef int span_node_slots = NODE_SLOTS


def _node_sizes(leaf_slots: int = LEAF_SLOTS, node_slots: int = NODE_SLOTS):
    """For tests: how many items and children the nodes of span trees made from now on hold."""
    global span_leaf_slots, span_node_slots
    span_leaf_slots, span_node_slots = leaf_slots, node_slots


cdef int by_value(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const int64_t*>a)[0]
    cdef int64_t y = (<const int64_t*>b)[0]
    return (x > y) - (x < y)


cdef void sort(Ints* v) noexcept nogil:
    """Sort; quick where the values are few or nearly in order already."""
    cdef Py_ssize_t i, k
    cdef int64_t x
    cdef Py_ssize_t moved = 0
    for i in range(1, v.n):
        x = v.at[i]
        k = i
        while k and v.at[k - 1] > x:
            v.at[k] = v.at[k - 1]
            k -= 1
        v.at[k] = x
        moved += i - k
        if moved > 16 * v.n:
            qsort(v.at, v.n, sizeof(int64_t), by_value)
            return


@cython.final
cdef class Walker:

    def __cinit__(self, OpLog log not None, Rope rope):
        self.log = log
        self.graph = log.graph
        self.rope = rope
        self.tree = SpanTree(log.graph, span_leaf_slots, span_node_slots)

    def __dealloc__(self):
        free(self.parts.at)
        free(self.parts.head.at)
        free(self.heads.front.at)
        free(self.heads.critical.at)
        free(self.window)
        free(self.cuts.at)
        free(self.piece)
        free(self.links.at)
        free(self.ready.at)
        free(self.later.at)
        free(self.heap.at)
        free(self.back.at)
        free(self.forth.at)
        free(self.out)
        free(self.sets)
        free(self.weights.at)

    cdef int run(self, const int64_t* a, Py_ssize_t na, const int64_t* b, Py_ssize_t nb) except -1 nogil:
        """Bring the document from version `a` to `a` merged with `b`. On an error the rope is left half-way."""
        cdef Py_ssize_t i
        cdef Part part
        cdef const Span* critical
        cdef const Span* end
        cdef int64_t hi
        cdef bint known = False  # the window holds events that the document has already
        self.n_out = 0
        self.n_window = 0
        self.n_pieces = 0
        compare(self.graph, a, na, b, nb, &self.parts)
        self.find_critical(&critical, &end)
        for i in range(self.parts.n):
            part = self.parts.at[i]
            while part.start < part.end:
                while critical < end and critical.end <= part.start:
                    critical += 1
                hi = part.end
                if critical < end and critical.start <= part.start:
                    if self.n_window:
                        self.walk_window(known)
                        known = False
                    if critical.end < hi:
                        hi = critical.end
                    if part.side == 2:
                        self.plain(part.start, hi, 0)
                else:
                    if critical < end and critical.start < hi:
                        hi = critical.start
                    reserve(<void**>&self.window, &self.cap_window, self.n_window + 1, sizeof(Part))
                    self.window[self.n_window].start = part.start
                    self.window[self.n_window].end = hi
                    self.window[self.n_window].side = part.side
                    self.n_window += 1
                    known = known or part.side != 2
                part.start = hi
        if self.n_window:
            self.walk_window(known)
        return 0

    cdef int find_critical(self, const Span** found, const Span** end) except -1 nogil:
        """Find which events of `parts` are critical among these: ascending ranges, which may begin before the parts."""
        cdef Py_ssize_t i, k
        cdef int64_t lo, hi, before
        cdef int64_t total = 0
        cdef const Spans* known = &self.graph.heads.critical
        for i in range(self.parts.n):
            total += self.parts.at[i].end - self.parts.at[i].start
        if self.parts.n == 0 or self.parts.at[0].start == self.graph.n - total:
            # All that the graph has from there on, of which it knows that already.
            found[0] = known.at + max(self.graph.critical_below(self.graph.n - total) - 1, 0)
            end[0] = known.at + known.n
            return 0
        self.heads.critical.n = 0
        assign(&self.heads.front, self.parts.head.at, self.parts.head.n)
        for i in range(self.parts.n):
            lo = self.parts.at[i].start
            k = self.graph.find(lo)
            while lo < self.parts.at[i].end:
                hi = min(self.graph.run_end(k), self.parts.at[i].end)
                if lo == self.graph.run[k].lv:
                    heads_add(&self.heads, self.graph.parents_of(k), self.graph.run[k].n_parents, lo, hi)
                else:
                    before = lo - 1
                    heads_add(&self.heads, &before, 1, lo, hi)
                lo = hi
                k += 1
        found[0] = self.heads.critical.at
        end[0] = found[0] + self.heads.critical.n
        return 0

    cdef void release(self) noexcept nogil:
        """Give back what a large window took, but for the span tree."""
        self.n_pieces = 0
        if self.cap_pieces * sizeof(Piece) > KEEP_BYTES:
            free(self.piece)
            free(self.links.at)
            self.piece = NULL
            self.links.at = NULL
            self.cap_pieces = self.links.cap = 0
        if self.heads.critical.cap * sizeof(Span) > KEEP_BYTES:
            free(self.heads.critical.at)
            self.heads.critical.at = NULL
            self.heads.critical.cap = self.heads.critical.n = 0
        if self.parts.cap * sizeof(Part) > KEEP_BYTES:
            free(self.parts.at)
            self.parts.at = NULL
            self.parts.cap = 0

    cdef int plain(self, int64_t start, int64_t end, int64_t by) except -1 nogil:
        """Apply events whose positions, `by` added, mean the document as it stands."""
        cdef Py_ssize_t i = self.log.find(start)
        cdef OpRun* run
        cdef int64_t hi, offset, length, pos
        cdef int64_t n = self.rope.n if self.rope is not None else self.length
        if self.steps is not None:
            with gil:
                self.steps.append(Step(start, end, [], [], True))
        while start < end:
            run = &self.log.run[i]
            hi = self.log.run_end(i)
            if hi > end:
                hi = end
            offset = start - run.lv
            length = hi - start
            pos = run.pos + by
            if run.kind == TYPE:
                pos += offset
                if pos > n:
                    with gil:
                        self.outside(start, pos, n)
                self.emit_insert(pos, start, length, i, False)
                n += length
            elif run.kind == PREPEND:
                if pos > n:
                    with gil:
                        self.outside(start, pos, n)
                self.emit_insert(pos, start, length, i, True)
                n += length
            else:
                if run.kind == ERASE:
                    pos -= offset + length - 1
                if pos + length > n:
                    with gil:
                        self.outside(start, max(n, pos), n - 1)
                self.emit_delete(pos, length)
                n -= length
            self.counts[PLAIN] += 1
            start = hi
            i += 1
        return 0

    cdef int outside(self, int64_t lv, int64_t pos, int64_t last) except -1:
        agent, seq = self.graph.id(lv)
        raise PositionError(f"event {agent}:{seq} is at position {pos}, which is not within 0..{last}")

    # --- windows ----------------------------------------------------------------------------------------------

    cdef int walk_window(self, bint known) except -1 nogil:
        """Walk the ranges in `window`, first those that the document has, then the others."""
        cdef int64_t length = self.rope.n if self.rope is not None else self.length
        self.counts[WINDOWS] += 1
        self.cut_pieces()
        self.link_pieces()
        self.n_window = 0
        self.at = -1
        # How long the text was before the window is known once what the document has of the window is walked.
        self.tree.reset(UNKNOWN_LENGTH if known else length)
        if known:
            self.drain()
            self.tree.settle(length)
        for i in range(self.later.n):
            push(&self.ready, self.later.at[i])
        self.later.n = 0
        self.start_ready(0)
        self.drain()
        return 0

    cdef int cut_pieces(self) except -1 nogil:
        """Cut the window at the ends of rows and behind every parent."""
        cdef Py_ssize_t i, k, p, n_pieces
        cdef Py_ssize_t op = -1
        cdef int64_t first = self.window[0].start
        cdef int64_t start, end, stop, row_end, op_end, hi, weight
        cdef const int64_t* parents
        cdef const int64_t* cut
        cdef const int64_t* last_cut
        cdef Piece* piece
        cdef uint8_t side
        self.cuts.n = 0
        for i in range(self.n_window):
            start = self.window[i].start
            stop = self.window[i].end
            k = self.graph.find(start)
            if start != self.graph.run[k].lv:  # its parent is the event before
                start = self.graph.run_end(k)
                k += 1
            while start < stop:
                parents = self.graph.parents_of(k)
                for p in range(self.graph.run[k].n_parents):
                    if parents[p] >= first:
                        push(&self.cuts, parents[p] + 1)
                start = self.graph.run_end(k)
                k += 1
        sort(&self.cuts)
        cut = self.cuts.at
        last_cut = cut + self.cuts.n
        n_pieces = 0
        op_end = -1
        for i in range(self.n_window):
            start = self.window[i].start
            stop = self.window[i].end
            side = <uint8_t>self.window[i].side
            k = self.graph.find(start)
            row_end = self.graph.run_end(k)
            if op_end <= start:
                op = self.log.find(start)
                op_end = self.log.run_end(op)
            while start < stop:
                end = row_end if row_end < stop else stop
                while cut < last_cut and cut[0] <= start:
                    cut += 1
                hi = cut[0] if cut < last_cut and cut[0] < end else end
                if op_end <= start:
                    op += 1
                    op_end = self.log.run_end(op)
                if n_pieces == self.cap_pieces:
                    reserve(<void**>&self.piece, &self.cap_pieces, n_pieces + 1, sizeof(Piece))
                piece = &self.piece[n_pieces]
                n_pieces += 1
                piece.start = start
                piece.end = hi
                piece.side = side
                piece.mark = 0
                piece.n_kids = 0
                piece.op = op
                weight = 1
                while op_end < hi:
                    op += 1
                    op_end = self.log.run_end(op)
                    weight += 1
                piece.weight = weight
                start = hi
                if start == row_end and start < stop:
                    k += 1
                    row_end = self.graph.run_end(k)
        self.n_pieces = n_pieces
        return 0

    cdef Py_ssize_t piece_of(self, int64_t lv, Py_ssize_t hi) noexcept nogil:
        """The piece that ends with `lv`, looked for before piece `hi`, most likely not far."""
        cdef Py_ssize_t lo = 0
        cdef Py_ssize_t mid
        for mid in range(hi - 1, max(hi - 9, -1), -1):
            if self.piece[mid].end == lv + 1:
                return mid
        while hi - lo > 1:
            mid = (lo + hi) >> 1
            if self.piece[mid].start <= lv:
                lo = mid
            else:
                hi = mid
        return lo

    cdef int link_pieces(self) except -1 nogil:
        """Find parents and children of the pieces, their weights, and which can be walked at once."""
        cdef Py_ssize_t i, k, row, parent
        cdef Py_ssize_t total
        cdef int64_t first = self.piece[0].start
        cdef int64_t before
        cdef const int64_t* parents
        cdef Piece* piece
        self.links.n = 0
        row = self.graph.find(first)
        for i in range(self.n_pieces):
            piece = &self.piece[i]
            if self.graph.run_end(row) <= piece.start:
                row += 1
                if self.graph.run_end(row) <= piece.start:
                    row = self.graph.find(piece.start)
            piece.parents = self.links.n
            piece.n_parents = 0
            if piece.start == self.graph.run[row].lv:
                parents = self.graph.parents_of(row)
                total = self.graph.run[row].n_parents
            else:
                before = piece.start - 1
                parents = &before
                total = 1
            for k in range(total):
                if parents[k] < first:
                    continue
                parent = self.piece_of(parents[k], i)
                push(&self.links, parent)
                piece.n_parents += 1
                self.piece[parent].n_kids += 1
            piece.waiting = piece.n_parents
        total = self.links.n
        for i in range(self.n_pieces):
            self.piece[i].kids = total
            total += self.piece[i].n_kids
            self.piece[i].n_kids = 0
        reserve(<void**>&self.links.at, &self.links.cap, total, sizeof(int64_t))
        self.links.n = total
        for i in range(self.n_pieces):
            piece = &self.piece[i]
            for k in range(piece.n_parents):
                parent = self.links.at[piece.parents + k]
                self.links.at[self.piece[parent].kids + self.piece[parent].n_kids] = i
                self.piece[parent].n_kids += 1
        self.weigh_pieces()
        self.gather_sets()
        self.ready.n = 0
        self.later.n = 0
        for i in range(self.n_pieces - 1, -1, -1):
            piece = &self.piece[i]
            if piece.n_parents == 0:
                push(&self.later if piece.side == 2 else &self.ready, i)
        self.start_ready(0)
        return 0

    cdef int weigh_pieces(self) except -1 nogil:
        """Add to each piece's weight that of the pieces that hang on it.

        In large windows that is all its descendants, counted 64 at a time by sets of bits: O(pieces squared / 64). In small
        ones, where that is not worth it, and in huge ones, where it would take too long, it is those with no
        other way to them.
        """
        cdef Py_ssize_t i, k, block, end
        cdef uint64_t set
        cdef Piece* piece
        cdef int byte, bits
        if not EXACT_FROM <= self.n_pieces <= EXACT_TO:
            for i in range(self.n_pieces - 1, -1, -1):
                piece = &self.piece[i]
                if piece.n_parents == 1:
                    self.piece[self.links.at[piece.parents]].weight += piece.weight
            return 0
        reserve(<void**>&self.sets, &self.cap_sets, self.n_pieces, sizeof(uint64_t))
        self.weights.n = 0
        for i in range(self.n_pieces):
            push(&self.weights, self.piece[i].weight)
            self.piece[i].weight = 0
        for block in range(0, self.n_pieces, 64):
            end = min(block + 64, self.n_pieces)
            for byte in range(8):  # what each value of each byte of a set weighs
                self.table[byte][0] = 0
                for bits in range(1, 256):
                    i = block + 8 * byte + lowest_bit(bits)
                    self.table[byte][bits] = self.table[byte][bits & (bits - 1)] + (self.weights.at[i] if i < end else 0)
            for i in range(end - 1, -1, -1):
                piece = &self.piece[i]
                set = 0
                for k in range(piece.kids, piece.kids + piece.n_kids):
                    if self.links.at[k] < end:
                        set |= self.sets[self.links.at[k]]
                if i >= block:
                    set |= <uint64_t>1 << (i - block)
                self.sets[i] = set
                byte = 0
                while set:
                    piece.weight += self.table[byte][set & 255]
                    set >>= 8
                    byte += 1
        return 0

    cdef int start_ready(self, Py_ssize_t bottom) noexcept nogil:
        """Order what was put on the stack since `bottom`.

        On top, to be walked next, is what needs no move of the prepare version, or else the lightest.
        """
        cdef int64_t* at = self.ready.at + bottom
        cdef Py_ssize_t n = self.ready.n - bottom
        cdef Py_ssize_t i
        cdef int64_t last
        if n < 2:
            return 0
        # Heapsort: a peer may have made any number of branches at one place.
        for i in range(n // 2 - 1, -1, -1):
            self.sift(at, i, n)
        for i in range(n - 1, 0, -1):
            last = at[i]
            at[i] = at[0]
            at[0] = last
            self.sift(at, 0, i)
        return 0

    cdef bint sooner(self, const Piece* a, const Piece* b) noexcept nogil:
        """Whether to walk `a` before `b`, both being ready.

        Of equally heavy ones the largest id goes first: of many inserts at one place each then finds its place before
        the ones already there at the first comparison.
        """
        if (a.n_parents > 1) != (b.n_parents > 1):
            return b.n_parents > 1
        if a.weight != b.weight:
            return a.weight < b.weight
        return self.graph.order_ids(a.start, b.start) > 0

    cdef void sift(self, int64_t* at, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        """Restore the heap of `n` pieces, the first to be walked on top, below its place `i`."""
        cdef int64_t x = at[i]
        cdef Py_ssize_t child
        while True:
            child = 2 * i + 1
            if child >= n:
                break
            if child + 1 < n and self.sooner(&self.piece[at[child + 1]], &self.piece[at[child]]):
                child += 1
            if not self.sooner(&self.piece[at[child]], &self.piece[x]):
                break
            at[i] = at[child]
            i = child
        at[i] = x

    cdef int drain(self) except -1 nogil:
        """Walk what is ready and what becomes so, but for new pieces found while walking known ones."""
        cdef Py_ssize_t i, k, bottom
        cdef Piece* piece
        cdef Piece* kid
        while self.ready.n:
            self.ready.n -= 1
            i = self.ready.at[self.ready.n]
            self.visit(i)
            piece = &self.piece[i]
            bottom = self.ready.n
            for k in range(piece.n_kids):
                kid = &self.piece[self.links.at[piece.kids + k]]
                kid.waiting -= 1
                if kid.waiting == 0:
                    if kid.side == 2 and piece.side != 2:
                        push(&self.later, self.links.at[piece.kids + k])
                    else:
                        push(&self.ready, self.links.at[piece.kids + k])
            self.start_ready(bottom)
        return 0

    cdef int visit(self, Py_ssize_t i) except -1 nogil:
        cdef Piece* piece = &self.piece[i]
        self.back.n = 0
        self.forth.n = 0
        if self.at >= 0 and not (piece.n_parents == 1 and self.links.at[piece.parents] == self.at):
            self.move(i)
        if self.steps is not None:
            with gil:
                self.add_step(i)
        piece.touched = self.tree.n_touched
        self.apply(piece.op, piece.start, piece.end, piece.side == 2)
        piece.touched_end = self.tree.n_touched
        self.at = i
        return 0

    cdef int reach(self, Py_ssize_t i, uint8_t mark, Py_ssize_t* open) except -1 nogil:
        """Note that piece `i` is in the old (1), the new (2) or both prepare versions (3)."""
        cdef Piece* piece = &self.piece[i]
        if piece.mark == 0:
            heap_push(&self.heap, i)
            if mark != 3:
                open[0] += 1
        elif piece.mark != 3 and (piece.mark | mark) == 3:
            open[0] -= 1
        piece.mark |= mark
        return 0

    cdef int move(self, Py_ssize_t to) except -1 nogil:
        """Retreat and advance the prepare version from piece `at` to the parents of piece `to`."""
        cdef Py_ssize_t k
        cdef Piece* piece
        if self.words:
            self.compare_sets(to)
        else:
            self.compare_pieces(to)
        for k in range(self.back.n):
            piece = &self.piece[self.back.at[k]]
            self.tree.shift(piece.touched, piece.touched_end, -1)
            self.counts[RETREATED] += piece.touched_end - piece.touched
        for k in range(self.forth.n):
            piece = &self.piece[self.forth.at[k]]
            self.tree.shift(piece.touched, piece.touched_end, 1)
            self.counts[ADVANCED] += piece.touched_end - piece.touched
        self.counts[MOVES] += self.back.n + self.forth.n
        return 0

    cdef int gather_sets(self) except -1 nogil:
        """In a small window, note for each piece the set of pieces that it comes after, itself included."""
        cdef Py_ssize_t i, k, w
        cdef Piece* piece
        cdef uint64_t* set
        cdef uint64_t* other
        self.words = (self.n_pieces + 63) >> 6
        if self.words > MAX_WORDS:
            self.words = 0
            return 0
        reserve(<void**>&self.sets, &self.cap_sets, self.n_pieces * self.words, sizeof(uint64_t))
        for i in range(self.n_pieces):
            piece = &self.piece[i]
            set = self.sets + i * self.words
            memset(set, 0, self.words * sizeof(uint64_t))
            for k in range(piece.n_parents):
                other = self.sets + self.links.at[piece.parents + k] * self.words
                for w in range(self.words):
                    set[w] |= other[w]
            set[i >> 6] |= <uint64_t>1 << (i & 63)
        return 0

    cdef int compare_sets(self, Py_ssize_t to) except -1 nogil:
        """What to retreat and to advance, by subtraction."""
        cdef Py_ssize_t w
        cdef const uint64_t* old = self.sets + self.at * self.words
        cdef const uint64_t* new = self.sets + to * self.words
        cdef uint64_t bits
        for w in range(self.words):
            bits = old[w] & ~new[w]
            while bits:
                push(&self.back, 64 * w + lowest_bit_64(bits))
                bits &= bits - 1
            bits = new[w] & ~old[w]
            if w == to >> 6:
                bits &= ~(<uint64_t>1 << (to & 63))
            while bits:
                push(&self.forth, 64 * w + lowest_bit_64(bits))
                bits &= bits - 1
        return 0

    cdef int compare_pieces(self, Py_ssize_t to) except -1 nogil:
        """The same in a large window: walks back from both versions, newest first, until all that is left is in both."""
        cdef Py_ssize_t open = 0
        cdef Py_ssize_t i, k
        cdef Piece* piece = &self.piece[to]
        cdef uint8_t mark
        self.reach(self.at, 1, &open)
        for k in range(piece.n_parents):
            self.reach(self.links.at[piece.parents + k], 2, &open)
        while open:
            i = heap_pop(&self.heap)
            piece = &self.piece[i]
            mark = piece.mark
            piece.mark = 0
            if mark == 1:
                open -= 1
                push(&self.back, i)
            elif mark == 2:
                open -= 1
                push(&self.forth, i)
            for k in range(piece.n_parents):
                self.reach(self.links.at[piece.parents + k], mark, &open)
        for k in range(self.heap.n):
            self.piece[self.heap.at[k]].mark = 0
        self.heap.n = 0
        return 0

    cdef int apply(self, Py_ssize_t op, int64_t lv, int64_t end, bint emit) except -1 nogil:
        """Apply events `lv:end`, from row `op` of the log on, at the prepare version, which is that of their parents."""
        cdef int64_t hi, offset, length, pos, k
        cdef OpRun* run
        while lv < end:
            run = &self.log.run[op]
            hi = self.log.run_end(op)
            if hi > end:
                hi = end
            offset = lv - run.lv
            length = hi - lv
            pos = run.pos
            self.counts[APPLIED] += 1
            if run.kind == TYPE:
                pos += offset
                if pos > self.tree.shown:
                    with gil:
                        self.outside(lv, pos, self.tree.shown)
                pos = self.tree.insert(pos, length, lv)
                if emit:
                    self.emit_insert(pos, lv, length, op, False)
            elif run.kind == PREPEND:
                if pos > self.tree.shown:
                    with gil:
                        self.outside(lv, pos, self.tree.shown)
                for k in range(length):
                    pos = self.tree.insert(run.pos, 1, lv + k)
                    if emit:
                        self.emit_insert(pos, lv + k, 1, op, False)
            else:
                if run.kind == ERASE:
                    pos -= offset + length - 1
                if pos + length > self.tree.shown:
                    with gil:
                        self.outside(lv, max(pos, self.tree.shown), self.tree.shown - 1)
                self.tree.delete(pos, length)
                if emit:
                    for k in range(self.tree.gone.n):
                        self.emit_delete(self.tree.gone.at[k].start, self.tree.gone.at[k].end - self.tree.gone.at[k].start)
            lv = hi
            op += 1
        return 0

    # --- what comes out ---------------------------------------------------------------------------------------

    cdef int emit_insert(self, int64_t pos, int64_t lv, int64_t length, Py_ssize_t op, bint reverse) except -1 nogil:
        """Insert the content of events `lv : lv + length`, which are in row `op` of the log."""
        cdef OpRun* run = &self.log.run[op]
        cdef int64_t offset = lv - run.lv
        cdef int64_t i
        if self.rope is None:
            self.length += length
        elif pos > self.rope.n:
            with gil:
                self.outside(lv, pos, self.rope.n)
        elif reverse:
            for i in range(length):
                self.rope.insert_units(pos, self.log.units(run, offset + i), 1 << run.pool, 1)
        else:
            self.rope.insert_units(pos, self.log.units(run, offset), 1 << run.pool, length)
        if self.recording:
            self.record(pos, length, lv)
        return 0

    cdef int emit_delete(self, int64_t pos, int64_t length) except -1 nogil:
        if self.rope is None:
            self.length -= length
        elif pos + length > self.rope.n:
            with gil:
                raise PositionError(f"range {pos}:{pos + length} is not within 0:{self.rope.n}")
        else:
            self.rope.delete_units(pos, length)
        if self.recording:
            self.record(pos, length, -1)
        return 0

    cdef int record(self, int64_t pos, int64_t length, int64_t lv) except -1 nogil:
        reserve(<void**>&self.out, &self.cap_out, self.n_out + 1, sizeof(Out))
        self.out[self.n_out].pos = pos
        self.out[self.n_out].length = length
        self.out[self.n_out].lv = lv
        self.n_out += 1
        return 0

    cdef object spans_of(self, Ints* pieces):
        """The pieces as ascending ranges of local versions."""
        spans = []
        for start, end in sorted([(self.piece[pieces.at[i]].start, self.piece[pieces.at[i]].end) for i in range(pieces.n)]):
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans

    cdef object add_step(self, Py_ssize_t i):
        cdef Piece* piece = &self.piece[i]
        self.steps.append(
            Step(piece.start, piece.end, self.spans_of(&self.back), self.spans_of(&self.forth), piece.side == 2)
        )


def walk(OpLog log not None, a, b):
    """The moves that bring a document at version `a` to `a` merged with `b`, as a list of `Step`.

    Each applies the local versions `start:end` after retreating and advancing the ranges named; `emitted` is False for what
    the document at `a` has already.
    """
    cdef Ints va, vb
    cdef Walker before = Walker(log, None)
    cdef Walker walker = Walker(log, None)
    walker.steps = []
    memset(&va, 0, sizeof(va))
    memset(&vb, 0, sizeof(vb))
    try:
        log.graph.read_version(a, &va)
        log.graph.read_version(b, &vb)
        before.run(NULL, 0, va.at, va.n)
        walker.length = before.length
        walker.run(va.at, va.n, vb.at, vb.n)
    finally:
        free(va.at)
        free(vb.at)
    return walker.steps


def moves(OpLog log not None):
    """What replaying all of `log` costs, in operations run-length encoded: applied to the text as it stands (`plain`),
    applied, retreated and advanced in windows; and in how many windows and moves of whole pieces.
    """
    cdef Walker walker = Walker(log, None)
    cdef const int64_t* heads = log.graph.heads.front.at
    cdef Py_ssize_t n = log.graph.heads.front.n
    with nogil:
        walker.run(NULL, 0, heads, n)
    return {
        "plain": walker.counts[PLAIN],
        "applied": walker.counts[APPLIED],
        "retreated": walker.counts[RETREATED],
        "advanced": walker.counts[ADVANCED],
        "moves": walker.counts[MOVES],
        "windows": walker.counts[WINDOWS],
    }
