"""The live window: what a document keeps of the last walk while people type at the same time.

While they do not pause no event is critical, and a walk for each keystroke would have to begin where they started. So
after a walk its span tree stays, with a note of what each event did in it. A new event whose parents are in the window
costs what is really concurrent with it: the prepare version goes from the event applied last to the new one's parents,
and the event is applied. What was typed here in between is in the document already; it enters the tree, without an edit,
when the next event from elsewhere needs it.

A tree is kept after a merge that had to walk more of what the document has than of what is new to it. It is dropped, to be
made anew where it is needed, when:

- an event comes from before the window, or more of them at once than the walk's own order of branches is good for;
- since a version of late, the *mark*, so many events have come for which a window begun there would do, that
  beginning anew, should somebody need the old one after all, is not much work for each of them;
- an error comes, or the document and its log part.

Who types on makes events that each follow the one before alone (see `caret`), of which a branch may get long. The prepare
version does not go to and fro between two such branches: where somebody types on, and what is to the left and to the
right of there in their version, is known from what they typed last. So each event costs O(log n), however long they type.

So it takes memory while it is of use: some 100 bytes for each row of the window, where graph and log take as much.
"""

cimport cython

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memmove

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Ints, Spans, assign, heads_equal, heap_pop, heap_push, push_span, reserve
from egwalker.cycore.oplog cimport ERASE, PREPEND, TYPE, OpLog, OpRun
from egwalker.cycore.spans cimport Cursor, Item
from egwalker.cycore.walker cimport KEEP_BYTES, Piece, Walker

from egwalker.cycore.diff import diff

cdef enum:
    FEW_ROWS = 8  # so many are taken in one by one however small the window is


cdef inline bint same(const Ints* version, const int64_t* parents, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if version.n != n:
        return False
    for i in range(n):
        if version.at[i] != parents[i]:
            return False
    return True


@cython.final
cdef class LiveWindow:
    """The window of a checkout at its log's frontier, over its walker's span tree while it is `open`."""

    def __cinit__(self, Walker walker not None):
        self.walker = walker
        self.log = walker.log
        self.graph = walker.graph
        self.tree = walker.tree

    def __dealloc__(self):
        free(self.base.at)
        free(self.mark_version.at)
        free(self.done)
        free(self.prepared.at)
        free(self.heap.at)
        free(self.back.at)
        free(self.forth.at)

    def __len__(self):
        """How many events are in the window; 0: there is none."""
        return self.held - self.start if self.open else 0

    def memory(self):
        """Bytes allocated for the span tree and the notes."""
        return self.tree.allocated() + self.cap_done * sizeof(Done)

    cdef void close(self) noexcept nogil:
        """Drop the window; the next merge walks."""
        self.open = False
        self.n_done = self.n_typists = 0
        if self.tree.cap_items * sizeof(self.tree.item[0]) > KEEP_BYTES:
            self.tree.release()
        if self.cap_done * sizeof(Done) > KEEP_BYTES:
            free(self.done)
            self.done = NULL
            self.cap_done = 0

    cdef int keep(self) except -1 nogil:
        """After a walk to the log's frontier: keep the tree if the next walk would mostly do the same again."""
        cdef Piece* piece
        cdef Py_ssize_t i
        cdef int64_t before
        cdef int64_t new = 0
        if self.walker.n_pieces:
            for i in range(self.walker.n_pieces):
                if self.walker.piece[i].side == 2:
                    new += self.walker.piece[i].end - self.walker.piece[i].start
            self.start = self.walker.piece[0].start
            self.walked = self.walker.piece[self.walker.n_pieces - 1].end
            self.mark = self.held = self.graph.n
            self.open = 2 * new <= self.walked - self.start and self.held - self.walked <= self.patience()
        if not self.open:
            self.close()
            return 0
        i = self.graph.find(self.start)
        if self.graph.run[i].lv == self.start:
            assign(&self.base, self.graph.parents_of(i), self.graph.run[i].n_parents)
        else:
            before = self.start - 1
            assign(&self.base, &before, 1)
        assign(&self.mark_version, self.graph.heads.front.at, self.graph.heads.front.n)
        self.n_done = self.n_typists = 0
        for i in range(self.walker.n_pieces):
            piece = &self.walker.piece[i]
            self.note(piece.op, piece.start, piece.end, piece.touched)
        self.tree.n_touched = 0
        before = self.walker.piece[self.walker.at].end - 1
        assign(&self.prepared, &before, 1)
        return 0

    cdef int typed(self, int64_t lv, int64_t end, bint apart) except -1 nogil:
        """Events `lv:end` were made here, on top of all that the document has, or `apart` of an older one. O(heads)."""
        if self.open:
            if apart:
                self.mark = end
                assign(&self.mark_version, self.graph.heads.front.at, self.graph.heads.front.n)
            if lv != self.held or end - self.mark > self.patience():
                self.close()
            self.held = end

    # --- merging ----------------------------------------------------------------------------------------------

    cdef bint go_on(self, const int64_t* version, Py_ssize_t n) except -1 nogil:
        """Bring the document to `version`, if that is the log's frontier and the window is good for it.

        Else False: the window is closed then, and nothing else has happened. O(log n + what is concurrent) an event. On an
        error the document is left half-way.
        """
        cdef bint calm = True
        if not self.open:
            return False
        if not heads_equal(&self.graph.heads, version, n) or not self.fits(&calm):
            self.close()
            return False
        self.walker.n_out = 0
        if self.held == self.graph.n:
            return True
        self.take_all()
        self.held = self.graph.n
        if not calm:
            self.mark = self.graph.n
            assign(&self.mark_version, version, n)
        elif self.graph.n - self.mark > self.patience():
            self.close()
        return True

    cdef int take_all(self) except -1 nogil:
        """Take all events of the graph into the tree that are not in it; the document gets those it does not hold."""
        cdef Py_ssize_t k
        cdef int64_t hi, before
        if self.walked == self.graph.n:
            return 0
        k = self.graph.find_late(self.walked)
        while self.walked < self.graph.n:
            hi = self.graph.run_end(k)
            if self.walked < self.held < hi:
                hi = self.held
            if self.walked == self.graph.run[k].lv:
                self.take_in(self.walked, hi, self.graph.parents_of(k), self.graph.run[k].n_parents,
                             self.walked >= self.held)
            else:
                before = self.walked - 1
                self.take_in(self.walked, hi, &before, 1, self.walked >= self.held)
            if hi == self.graph.run_end(k):
                k += 1
        return 0

    cdef bint fits(self, bint* calm) noexcept nogil:
        """Whether the events that are not in the tree should be taken into it; `calm`: none needs more than the mark."""
        cdef Py_ssize_t k
        cdef Py_ssize_t n
        cdef Py_ssize_t rows = 0
        cdef int64_t lv = self.walked
        cdef int64_t before
        cdef const int64_t* parents
        if lv == self.graph.n:
            return True
        k = self.graph.find_late(lv)
        while lv < self.graph.n:
            if lv == self.graph.run[k].lv:
                parents = self.graph.parents_of(k)
                n = self.graph.run[k].n_parents
            else:
                before = lv - 1
                parents = &before
                n = 1
            if (n == 0 or parents[0] < self.start) and not same(&self.base, parents, n):
                return False
            if (n == 0 or parents[0] < self.mark) and not same(&self.mark_version, parents, n):
                calm[0] = False
            lv = self.graph.run_end(k)
            k += 1
            rows += lv > self.held
        # One by one, in the order in which they came, they may be moves apart.
        if rows > FEW_ROWS and rows * rows > self.n_done:
            return False
        return not calm[0] or self.graph.n - self.mark <= self.patience()

    cdef int take_in(self, int64_t lv, int64_t end, const int64_t* parents, Py_ssize_t n, bint emit) except -1 nogil:
        """Apply events `lv:end`, each but the first with the one before it as only parent."""
        cdef Typist* typist = NULL
        cdef Py_ssize_t op
        cdef int64_t before
        cdef int i
        if n == 1:
            for i in range(self.n_typists):
                if self.typist[i].last == parents[0]:
                    typist = &self.typist[i]
                    lv = self.type_on(typist, lv, end, emit)
                    if lv == end:
                        return 0
                    before = typist.last
                    parents = &before
                    break
        op = self.log.find(lv)
        if not same(&self.prepared, parents, n):
            self.compare(parents, n, ANY_NUMBER)
            self.shift(&self.back, -1)
            self.shift(&self.forth, 1)
        self.walker.apply(op, lv, end, emit)
        self.note(op, lv, end, 0)
        before = end - 1
        assign(&self.prepared, &before, 1)
        self.walked = end
        self.meet(typist, lv, end)
        self.tree.n_touched = 0
        return 0

    cdef int meet(self, Typist* typist, int64_t lv, int64_t end) except -1 nogil:
        """Note where somebody is who made events `lv:end`, which were applied just now; `typist` if they had been met."""
        cdef OpRun* run = &self.log.run[self.log.find(end - 1)]
        cdef Item* item
        if run.kind != TYPE:
            if typist != NULL:
                typist.last = -1
            return 0
        if typist == NULL and self.n_typists < TYPISTS:
            typist = &self.typist[self.n_typists]
            self.n_typists += 1
        elif typist == NULL:
            typist = &self.typist[self.oldest]
            self.oldest = (self.oldest + 1) % TYPISTS
        item = &self.tree.item[self.tree.touched[self.tree.n_touched - 1].item]
        typist.last = end - 1
        typist.pos = run.pos + (end - run.lv)
        typist.typed = item.length
        typist.left = item.end
        typist.right = item.right
        return 0

    cdef int64_t type_on(self, Typist* typist, int64_t lv, int64_t end, bint emit) except -1 nogil:
        """Apply those of events `lv:end` that go on at the caret; returns the first that does not.

        What was typed in one go lies side by side in the typist's version, each element right behind its left origin, and in
        front of the one that was erased there last, or else of what is behind them all.
        """
        cdef Py_ssize_t op = self.log.find(lv)
        cdef Py_ssize_t k
        cdef int64_t hi, length, pos, at
        cdef int32_t number
        cdef OpRun* run
        while lv < end:
            run = &self.log.run[op]
            hi = min(self.log.run_end(op), end)
            length = hi - lv
            pos = run.pos
            if run.kind == TYPE:
                pos += lv - run.lv
                if pos != typist.pos:
                    break
                at = self.tree.insert_between(typist.left, typist.right, length, lv)
                if emit:
                    self.walker.emit_insert(at, lv, length, op, False)
                typist.left = self.tree.item[self.tree.touched[0].item].end
                typist.pos += length
                typist.typed += length
            elif run.kind == PREPEND:
                break
            else:
                if run.kind == ERASE:
                    pos -= lv - run.lv + length - 1
                if pos + length != typist.pos or length > typist.typed:
                    break
                for k in range(length):
                    number = self.tree.delete_last(typist.left, &at)
                    if emit and at >= 0:
                        self.walker.emit_delete(at, 1)
                    typist.left = self.tree.item[number].left
                    typist.right = number
                # `note` takes them in the order of the text.
                for k in range(length >> 1):
                    number = self.tree.touched[k].item
                    self.tree.touched[k].item = self.tree.touched[length - 1 - k].item
                    self.tree.touched[length - 1 - k].item = number
                typist.pos -= length
                typist.typed -= length
            self.note(op, lv, hi, 0)
            self.tree.n_touched = 0
            typist.last = hi - 1
            self.walked = hi
            lv = hi
            op += 1
        return lv

    cdef bint compare(self, const int64_t* parents, Py_ssize_t n, Py_ssize_t rows) except -1 nogil:
        """What to retreat and to advance: walks back from both versions, newest first, until what is left is in both.

        O(rows as new as the oldest event that is in one of them only, times log of the branches); False, and nothing is
        known, if these are more than `rows`.
        """
        cdef Py_ssize_t i, k
        cdef Py_ssize_t open = 0  # how many in the heap are in one version only
        cdef int64_t key, lv, first, side
        cdef const int64_t* up
        # A key is four times a local version, and 1: in the old version, 2: in the new one, 3: in both.
        self.back.n = self.forth.n = self.heap.n = 0
        for k in range(self.prepared.n):
            if self.prepared.at[k] >= self.start:
                heap_push(&self.heap, 4 * self.prepared.at[k] + 1)
                open += 1
        for k in range(n):
            if parents[k] >= self.start:
                heap_push(&self.heap, 4 * parents[k] + 2)
                open += 1
        while open:
            if rows == 0:
                return False
            rows -= 1
            key = heap_pop(&self.heap)
            lv = key >> 2
            side = key & 3
            open -= side != 3
            i = self.graph.find_late(lv)
            first = max(self.graph.run[i].lv, self.start)
            while self.heap.n and self.heap.at[0] >> 2 >= first:
                key = heap_pop(&self.heap)
                open -= key & 3 != 3
                if key & 3 | side != side:
                    # Another path comes in here: what is above is not below it.
                    self.leave(side, (key >> 2) + 1, lv + 1)
                    lv = key >> 2
                    side |= key & 3
            self.leave(side, first, lv + 1)
            up = self.graph.parents_of(i)
            for k in range(self.graph.run[i].n_parents):
                if up[k] >= self.start:
                    heap_push(&self.heap, 4 * up[k] + side)
                    open += side != 3
        return True

    cdef inline int leave(self, int64_t side, int64_t start, int64_t end) except -1 nogil:
        if start < end and side != 3:
            push_span(&self.back if side == 1 else &self.forth, start, end)
        return 0

    cdef int shift(self, Spans* spans, int32_t by) except -1 nogil:
        cdef Py_ssize_t i, k, end
        cdef int64_t next
        for i in range(spans.n):
            k = self.cut(spans.at[i].start)
            end = self.cut(spans.at[i].end)
            self.moved += end - k
            while k < end:
                next = self.done[k + 1].lv if k + 1 < self.n_done else self.walked
                self.tree.shift_from(self.done[k].item, next - self.done[k].lv, by)
                k += 1
        return 0

    # --- positions --------------------------------------------------------------------------------------------

    cdef int64_t map_position(
        self, const int64_t* version, Py_ssize_t n, int64_t pos, int64_t* length, Py_ssize_t rows
    ) except -2 nogil:
        """How many elements the document has up to that before position `pos` of `version`, itself included.

        `length` is then that of the version, if `pos` is beyond it there is no answer. -1 if the window has not got the
        version or if more than `rows` rows would have to be looked at. The prepare version goes there, and stays.
        """
        cdef Cursor at
        cdef int64_t found = 0
        if not self.open or (n == 0 or version[0] < self.start) and not same(&self.base, version, n):
            return -1
        if self.walked < self.graph.n and self.graph.n_runs - self.graph.find_late(self.walked) > rows:
            return -1
        self.take_all()
        if not self.compare(version, n, rows) or self.rows_of(&self.back) + self.rows_of(&self.forth) > rows:
            return -1
        self.shift(&self.back, -1)
        self.shift(&self.forth, 1)
        length[0] = self.tree.shown
        if 0 < pos <= self.tree.shown:
            at = self.tree.find(pos - 1)
            found = at.kept
            if self.tree.leaf[at.leaf].at[at.slot].kept:
                found += at.offset + 1
        assign(&self.prepared, version, n)
        return found

    cdef Py_ssize_t rows_of(self, const Spans* spans) except -1 nogil:
        """How many rows of `done` these events have."""
        cdef Py_ssize_t i, k
        cdef Py_ssize_t n = 0
        for i in range(spans.n):
            k = self.cut(spans.at[i].start)
            n += self.cut(spans.at[i].end) - k
        return n

    # --- what the events did ----------------------------------------------------------------------------------

    cdef Py_ssize_t cut(self, int64_t lv) except -1 nogil:
        """The row of `done` that starts with `lv`, cut off if need be. O(log rows + pieces of the row + rows behind)."""
        cdef Py_ssize_t hi = self.n_done
        cdef Py_ssize_t lo, mid
        cdef Py_ssize_t step = 1
        cdef int64_t left, next
        cdef int32_t number
        cdef Done* row
        if lv == self.walked:
            return hi
        lo = hi - 1
        while self.done[lo].lv > lv:
            hi = lo
            step <<= 1
            lo = hi - step if hi > step else 0
        while hi - lo > 1:
            mid = (lo + hi) >> 1
            if self.done[mid].lv <= lv:
                lo = mid
            else:
                hi = mid
        if self.done[lo].lv == lv:
            return lo
        self.push_done(0, 0, False)
        row = &self.done[lo]
        next = self.done[lo + 1].lv if lo + 2 < self.n_done else self.walked
        memmove(row + 2, row + 1, (self.n_done - lo - 2) * sizeof(Done))
        row[1] = row[0]
        row[1].lv = lv
        left = next - lv if row.backwards else lv - row.lv
        number = row.item
        while left >= self.tree.item[number].length:
            left -= self.tree.item[number].length
            number = self.tree.item[number].next
        if left:
            number = self.tree.split_item(number, left)
        row[0 if row.backwards else 1].item = number
        return lo + 1

    cdef Py_ssize_t note(self, Py_ssize_t op, int64_t lv, int64_t end, Py_ssize_t touched) except -1 nogil:
        """Note what events `lv:end` did, from row `op` of the log and from `touched` of the tree on."""
        cdef Py_ssize_t first, k
        cdef int64_t hi, left
        while lv < end:
            hi = min(self.log.run_end(op), end)
            first = touched
            left = hi - lv
            while left > 0:
                left -= self.tree.touched[touched].length
                touched += 1
            if self.log.run[op].kind == ERASE:
                for k in range(touched - 1, first - 1, -1):
                    self.push_done(lv, self.tree.touched[k].item, True)
                    lv += self.tree.touched[k].length
            else:
                for k in range(first, touched):
                    self.push_done(lv, self.tree.touched[k].item, False)
                    lv += self.tree.touched[k].length
            op += 1
        return touched

    cdef int push_done(self, int64_t lv, int32_t item, bint backwards) except -1 nogil:
        reserve(<void**>&self.done, &self.cap_done, self.n_done + 1, sizeof(Done))
        self.done[self.n_done].lv = lv
        self.done[self.n_done].item = item
        self.done[self.n_done].backwards = backwards
        self.n_done += 1
        return 0

    # --- checking ---------------------------------------------------------------------------------------------

    def _check(self):
        """Assert that every item is in the state that the events of the window give it. O(events)."""
        cdef Item* item
        cdef Py_ssize_t i
        if not self.open:
            return
        assert self.start < self.walked <= self.held, f"{self.start}:{self.walked} is in the tree, to {self.held} held"
        assert self.held - self.mark <= self.patience(), f"kept since {self.mark} for nothing"
        assert self.done[0].lv == self.start, f"the first row starts with {self.done[0].lv}, not {self.start}"
        version = [self.prepared.at[i] for i in range(self.prepared.n)]
        prepared = {lv for part in diff(self.graph, self.graph.root, version).b_only for lv in range(*part)}
        # By item and element: how often the prepare version and how often the effect version changed it.
        states = []
        for i in range(self.tree.n_items):
            item = &self.tree.item[i]
            assert item.lv < 0 or self.start <= item.lv < self.walked, f"item {i} is {item.lv}, not of the window"
            states.append([[int(item.lv < 0)] * 2 for _ in range(item.length)])
        for i in range(self.n_done):
            next = self.done[i + 1].lv if i + 1 < self.n_done else self.walked
            lvs = range(self.done[i].lv, next)
            ops = list(self.log.ops(self.done[i].lv, next))
            assert len(ops) == 1, f"row {i} of {lvs} is {ops}"
            number = self.done[i].item
            touched = []
            while len(touched) < len(lvs):
                item = &self.tree.item[<Py_ssize_t>number]
                touched += [(number, offset) for offset in range(item.length)]
                number = item.next
            assert len(touched) == len(lvs), f"row {i} of {lvs} ends within an item"
            for (number, offset), lv in zip(touched, reversed(lvs) if self.done[i].backwards else lvs):
                states[number][offset][0] += lv in prepared
                states[number][offset][1] += 1
                assert ops[0].kind == "delete" or self.tree.item[<Py_ssize_t>number].lv + offset == lv, f"item {number}"
        for i in range(self.tree.n_items):
            item = &self.tree.item[i]
            for prepare, effect in states[i]:
                assert prepare == item.state, f"item {i} is in state {item.state}, not {prepare}"
                assert (effect > 1) == item.deleted, f"item {i} with {effect} events is deleted: {item.deleted}"
