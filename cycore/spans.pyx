"""The span tree: what the transforming walk knows of the text while it walks (Eg-walker paper, section 3).

A B+ tree of *items*, runs of elements in document order, deleted ones and ones not inserted yet included. Each is
counted twice: by whether it is visible in the *prepare* version, at which the next event is to be read, and in the
*effect* version, the text as it has become. Finding a position by the one count and reading off the other turns an
event into an edit of the text.

Items never move; leaves hold their numbers. An item that is split keeps its start, and its first element stays "the
start of item i" for ever; its last element goes to the new piece, so ends have handles of their own. Origins are such
starts and ends, hence two origins are the same element if and only if their numbers are equal.
"""

cimport cython

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memmove, memset

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Span, Spans, reserve

from egwalker.cycore.errors import LimitError

cdef int64_t MAX_ITEMS = (<int64_t>1 << 31) - 1


@cython.final
cdef class SpanTree:
    """The state of one walk. `leaf_slots` and `node_slots` are there so that tests can have deep trees."""

    def __cinit__(self, Graph graph not None, int leaf_slots=LEAF_SLOTS, int node_slots=NODE_SLOTS):
        if not 4 <= leaf_slots <= LEAF_SLOTS or not 4 <= node_slots <= NODE_SLOTS:
            raise ValueError(f"slots must be within 4..{LEAF_SLOTS}, not {leaf_slots} and {node_slots}")
        self.graph = graph
        self.leaf_slots = leaf_slots
        self.node_slots = node_slots
        self.reset(0)

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept nogil:
        """Give all memory back; `reset` before the next use."""
        free(self.item)
        free(self.leaf)
        free(self.node)
        free(self.item_of_end)
        free(self.touched)
        free(self.gone.at)
        self.item = NULL
        self.leaf = NULL
        self.node = NULL
        self.item_of_end = NULL
        self.touched = NULL
        self.gone.at = NULL
        self.cap_items = self.cap_leaves = self.cap_nodes = self.cap_ends = self.cap_touched = self.gone.cap = 0

    cdef Py_ssize_t allocated(self) noexcept nogil:
        """Bytes allocated."""
        return (
            self.cap_items * sizeof(Item) + self.cap_leaves * sizeof(SpanLeaf) + self.cap_nodes * sizeof(SpanNode)
            + self.cap_ends * sizeof(int32_t) + self.cap_touched * sizeof(Touched) + self.gone.cap * sizeof(Span)
        )

    cdef int reset(self, int64_t length) except -1 nogil:
        """Start anew over `length` elements whose history is of no interest: one placeholder item."""
        cdef SpanLeaf* leaf
        self.n_items = self.n_leaves = self.n_nodes = self.n_ends = self.n_touched = 0
        self.gone.n = 0
        self.root = self.near = -1
        self.shown = self.kept = 0
        reserve(<void**>&self.leaf, &self.cap_leaves, 1, sizeof(SpanLeaf))
        leaf = &self.leaf[0]
        leaf.n = 0
        leaf.up = -1
        leaf.slot = 0
        leaf.next = -1
        self.n_leaves = 1
        self.new_item(-1, length, -1, -1)
        self.place_after(-1, 0, <int32_t>length, <int32_t>length)
        return 0

    cdef int settle(self, int64_t length) except -1 nogil:
        """Say how long the effect version really is, where the placeholder was taken too long for want of knowing."""
        cdef SpanLeaf* leaf
        cdef int32_t at = 0 if self.root < 0 else self.root
        cdef int32_t slot
        cdef int64_t surplus = self.kept - length
        if self.root >= 0:
            while True:
                slot = self.node[at].n - 1
                if self.node[at].level == 1:
                    at = self.node[at].kid[slot]
                    break
                at = self.node[at].kid[slot]
        leaf = &self.leaf[at]
        slot = leaf.n - 1
        self.item[leaf.at[slot].item].length -= <int32_t>surplus
        leaf.at[slot].shown -= <int32_t>surplus
        leaf.at[slot].kept -= <int32_t>surplus
        self.add_up(at, -surplus, -surplus)
        return 0

    # --- items ------------------------------------------------------------------------------------------------

    cdef int32_t new_item(self, int64_t lv, int64_t length, int32_t left, int32_t right) except -1 nogil:
        cdef Item* item
        if self.n_items >= MAX_ITEMS or length > MAX_ITEMS:
            with gil:
                raise LimitError(f"a walk holds at most {MAX_ITEMS} items of at most as many elements")
        reserve(<void**>&self.item, &self.cap_items, self.n_items + 1, sizeof(Item))
        reserve(<void**>&self.item_of_end, &self.cap_ends, self.n_ends + 1, sizeof(int32_t))
        item = &self.item[self.n_items]
        item.lv = lv
        item.length = <int32_t>length
        item.leaf = -1
        item.next = -1
        item.end = <int32_t>self.n_ends
        item.left = left
        item.right = right
        item.state = 1
        item.deleted = False
        self.item_of_end[self.n_ends] = <int32_t>self.n_items
        self.n_ends += 1
        self.n_items += 1
        return <int32_t>(self.n_items - 1)

    cdef int32_t split_item(self, int32_t number, int64_t at) except -1 nogil:
        """Cut an item before its element `at`; returns the number of the second piece."""
        cdef int64_t lv = self.item[number].lv
        cdef int32_t rest = <int32_t>(self.item[number].length - at)
        cdef int32_t new = self.new_item(lv + at if lv >= 0 else -1, rest, -1, self.item[number].right)
        cdef Item* left = &self.item[number]
        cdef Item* right = &self.item[new]
        cdef Place* place = self.open_after(number, new)
        cdef int32_t handle = left.end
        left.end = right.end
        right.end = handle
        self.item_of_end[left.end] = number
        self.item_of_end[right.end] = new
        right.left = left.end
        right.next = left.next
        left.next = new
        right.state = left.state
        right.deleted = left.deleted
        left.length = <int32_t>at
        place.shown = rest if place[-1].shown else 0
        place.kept = rest if place[-1].kept else 0
        place[-1].shown -= place.shown
        place[-1].kept -= place.kept
        return new

    cdef void shift(self, Py_ssize_t start, Py_ssize_t end, int32_t by) noexcept nogil:
        """Advance (`by` 1) or retreat (-1) the prepare version over `touched[start:end]`.

        An insert goes from state 0 to 1, a delete from n to n + 1: both count up, so the order does not matter.
        """
        cdef Py_ssize_t i
        for i in range(start, end):
            self.shift_from(self.touched[i].item, self.touched[i].length, by)

    cdef inline void shift_from(self, int32_t number, int64_t length, int32_t by) noexcept nogil:
        """The same for `length` elements from the start of item `number` on through its later pieces."""
        cdef int32_t slot, shown
        cdef Item* item
        cdef SpanLeaf* leaf
        while length > 0:
            item = &self.item[number]
            item.state += by
            shown = item.length if item.state == 1 else 0
            leaf = &self.leaf[item.leaf]
            slot = self.slot_of(number)
            if leaf.at[slot].shown != shown:
                self.add_up(item.leaf, shown - leaf.at[slot].shown, 0)
                leaf.at[slot].shown = shown
            length -= item.length
            number = item.next

    # --- finding ----------------------------------------------------------------------------------------------

    cdef inline int32_t slot_of(self, int32_t number) noexcept nogil:
        cdef SpanLeaf* leaf = &self.leaf[self.item[number].leaf]
        cdef int32_t i = 0
        while leaf.at[i].item != number:
            i += 1
        return i

    cdef inline bint step(self, Cursor* at) noexcept nogil:
        """Move to the next item; False at the end."""
        at.slot += 1
        if at.slot >= self.leaf[at.leaf].n:
            if self.leaf[at.leaf].next < 0:
                return False
            at.leaf = self.leaf[at.leaf].next
            at.slot = 0
        return True

    cdef inline int32_t item_behind(self, Cursor* at) noexcept nogil:
        """Move to the next item and return it; -1 at the end."""
        return self.leaf[at.leaf].at[at.slot].item if self.step(at) else -1

    cdef Cursor find(self, int64_t pos) noexcept nogil:
        """The item with element `pos` of the prepare version; `pos` is less than `shown`. O(1) in the leaf found last."""
        cdef Cursor at
        cdef SpanLeaf* leaf
        cdef int32_t i = 0
        if self.near < 0 or not 0 <= pos - self.near_shown < self.shown_in(self.near):
            self.approach(pos)
        at.leaf = self.near
        at.kept = self.near_kept
        pos -= self.near_shown
        leaf = &self.leaf[at.leaf]
        while pos >= leaf.at[i].shown:
            pos -= leaf.at[i].shown
            at.kept += leaf.at[i].kept
            i += 1
        at.slot = i
        at.offset = pos
        return at

    cdef inline int64_t shown_in(self, int32_t number) noexcept nogil:
        """How many elements of the prepare version leaf `number` has."""
        cdef int32_t up = self.leaf[number].up
        return self.shown if up < 0 else self.node[up].shown[self.leaf[number].slot]

    cdef void approach(self, int64_t pos) noexcept nogil:
        """Make the leaf with element `pos` of the prepare version the near one. O(log n)."""
        cdef SpanNode* node
        cdef int32_t i
        cdef int32_t number = self.root
        self.near = 0
        self.near_shown = pos
        self.near_kept = 0
        while number >= 0:
            node = &self.node[number]
            i = 0
            while pos >= node.shown[i]:
                pos -= node.shown[i]
                self.near_kept += node.kept[i]
                i += 1
            if node.level == 1:
                self.near = node.kid[i]
                break
            number = node.kid[i]
        self.near_shown -= pos

    cdef Cursor find_kept(self, int64_t pos) noexcept nogil:
        """The item with element `pos` of the effect version; `pos` is less than `kept`."""
        cdef Cursor at
        cdef int64_t before = pos
        cdef SpanNode* node
        cdef SpanLeaf* leaf
        cdef int32_t i
        cdef int32_t number = self.root
        at.leaf = 0
        while number >= 0:
            node = &self.node[number]
            i = 0
            while pos >= node.kept[i]:
                pos -= node.kept[i]
                i += 1
            if node.level == 1:
                at.leaf = node.kid[i]
                break
            number = node.kid[i]
        leaf = &self.leaf[at.leaf]
        i = 0
        while pos >= leaf.at[i].kept:
            pos -= leaf.at[i].kept
            i += 1
        at.slot = i
        at.offset = pos
        at.kept = before - pos
        return at

    cdef int64_t kept_through(self, int32_t number) noexcept nogil:
        """How many elements the effect version has up to item `number`, itself included. O(log n)."""
        cdef SpanLeaf* leaf = &self.leaf[self.item[number].leaf]
        cdef SpanNode* node
        cdef int32_t i
        cdef int32_t slot = leaf.slot
        cdef int32_t up = leaf.up
        cdef int64_t found = 0
        for i in range(self.slot_of(number) + 1):
            found += leaf.at[i].kept
        while up >= 0:
            node = &self.node[up]
            for i in range(slot):
                found += node.kept[i]
            slot = node.slot
            up = node.up
        return found

    cdef void path(self, int32_t number, int32_t* out, int32_t* depth) noexcept nogil:
        """The slots from an item up to the root."""
        cdef SpanLeaf* leaf = &self.leaf[self.item[number].leaf]
        cdef int32_t up = leaf.up
        out[0] = self.slot_of(number)
        depth[0] = 1
        if up < 0:
            return
        out[1] = leaf.slot
        depth[0] = 2
        while self.node[up].up >= 0:
            out[depth[0]] = self.node[up].slot
            depth[0] += 1
            up = self.node[up].up

    cdef bint precedes(self, int32_t a, int32_t b) noexcept nogil:
        """Whether item `a` stands before item `b` in the document. O(log n)."""
        cdef int32_t x[40]
        cdef int32_t y[40]
        cdef int32_t depth, i
        self.path(a, x, &depth)
        self.path(b, y, &depth)
        for i in range(depth - 1, -1, -1):
            if x[i] != y[i]:
                return x[i] < y[i]
        return False

    # --- operations -------------------------------------------------------------------------------------------

    cdef int64_t insert(self, int64_t pos, int64_t length, int64_t lv) except -1 nogil:
        """Insert at `pos` of the prepare version; returns where it stands in the effect version.

        Among items at the same place that the prepare version does not know, the place is found as FugueMax has it.
        """
        cdef Cursor at, ahead
        cdef int32_t before = -1  # the item to stand behind
        cdef int32_t left = -1
        cdef int32_t right, new
        cdef int64_t kept = 0
        if pos:
            at = self.find(pos - 1)
            before = self.leaf[at.leaf].at[at.slot].item
            kept = at.kept
            if self.leaf[at.leaf].at[at.slot].kept:
                kept += at.offset + 1
            if at.offset + 1 < self.item[before].length:
                right = self.split_item(before, at.offset + 1)
                left = self.item[before].end
                new = self.new_item(lv, length, left, right)
                self.place_after(before, new, <int32_t>length, <int32_t>length)
                self.note(new, length)
                return kept
            left = self.item[before].end
        else:
            at.leaf = 0  # leaves split to the right
            at.slot = -1
        # What follows and is not inserted yet in the prepare version is concurrent. Behind it comes the right origin.
        ahead = at
        right = self.item_behind(&at)
        while right >= 0 and self.item[right].state == 0:
            right = self.item_behind(&at)
        return self.settle_in(before, left, right, ahead, kept, length, lv, True)

    cdef int64_t insert_between(self, int32_t left, int32_t right, int64_t length, int64_t lv) except -1 nogil:
        """Insert between two origins, in the effect version alone; returns where it stands there. O(log n)."""
        cdef Cursor at
        cdef int32_t before = -1
        cdef int64_t kept = 0
        at.leaf = 0
        at.slot = -1
        if left >= 0:
            before = self.item_of_end[left]
            at.leaf = self.item[before].leaf
            at.slot = self.slot_of(before)
            kept = self.kept_through(before)
        return self.settle_in(before, left, right, at, kept, length, lv, False)

    cdef int64_t settle_in(
        self, int32_t before, int32_t left, int32_t right, Cursor ahead, int64_t kept, int64_t length, int64_t lv, bint shown
    ) except -1 nogil:
        """Make an item with these origins, behind item `before`, to which `ahead` leads, or behind some of those that follow.

        `kept` elements of the effect version are up to `before`; returns how many are before the new item. `shown`:
        whether the prepare version has it.
        """
        cdef int32_t new
        cdef int32_t other = self.item_behind(&ahead)
        cdef int64_t ahead_kept = kept
        cdef bint scanning = False
        cdef Item* item
        while other != right:
            item = &self.item[other]
            if item.left == left:
                if item.right == right:
                    if self.graph.order_ids(lv, item.lv) < 0:
                        break
                    scanning = False
                else:
                    scanning = right < 0 or (item.right >= 0 and self.precedes(item.right, right))
            elif item.left < 0 or (left >= 0 and self.precedes(self.item_of_end[item.left], self.item_of_end[left])):
                break
            ahead_kept += self.leaf[ahead.leaf].at[ahead.slot].kept
            if not scanning:
                before = other
                kept = ahead_kept
            other = self.item_behind(&ahead)
        new = self.new_item(lv, length, left, right)
        self.item[new].state = shown
        self.place_after(before, new, <int32_t>length if shown else 0, <int32_t>length)
        self.note(new, length)
        return kept

    cdef int32_t delete_last(self, int32_t left, int64_t* pos) except -1 nogil:
        """Delete the element with the end handle `left`, in the effect version alone; returns the item that it is then.

        `pos` is where it stood, -1 if it was deleted already. O(log n).
        """
        cdef int32_t number = self.item_of_end[left]
        cdef int32_t slot
        cdef SpanLeaf* leaf
        if self.item[number].length > 1:
            number = self.split_item(number, self.item[number].length - 1)
        pos[0] = -1
        if not self.item[number].deleted:
            pos[0] = self.kept_through(number) - 1
            self.item[number].deleted = True
            leaf = &self.leaf[self.item[number].leaf]
            slot = self.slot_of(number)
            leaf.at[slot].kept = 0
            self.add_up(self.item[number].leaf, 0, -1)
        self.note(number, 1)
        return number

    cdef int note(self, int32_t item, int64_t length) except -1 nogil:
        reserve(<void**>&self.touched, &self.cap_touched, self.n_touched + 1, sizeof(Touched))
        self.touched[self.n_touched].item = item
        self.touched[self.n_touched].length = <int32_t>length
        self.n_touched += 1
        return 0

    cdef int delete(self, int64_t pos, int64_t length) except -1 nogil:
        """Delete `length` elements of the prepare version from `pos` on.

        `gone` then has the ranges of the effect version to delete, one after the other.
        """
        cdef Cursor at
        cdef int32_t number
        cdef Item* item
        cdef SpanLeaf* leaf
        self.gone.n = 0
        at = self.find(pos)
        number = self.leaf[at.leaf].at[at.slot].item
        if at.offset:
            if self.leaf[at.leaf].at[at.slot].kept:
                at.kept += at.offset
            number = self.split_item(number, at.offset)
            at.leaf = self.item[number].leaf
            at.slot = self.slot_of(number)
        while True:
            leaf = &self.leaf[at.leaf]
            if leaf.at[at.slot].shown:
                number = leaf.at[at.slot].item
                if self.item[number].length > length:
                    self.split_item(number, length)
                    at.leaf = self.item[number].leaf
                    at.slot = self.slot_of(number)
                    leaf = &self.leaf[at.leaf]
                item = &self.item[number]
                self.note(number, item.length)
                item.state = 2
                length -= item.length
                if item.deleted:
                    self.add_up(at.leaf, -item.length, 0)
                else:
                    item.deleted = True
                    self.add_up(at.leaf, -item.length, -item.length)
                    leaf.at[at.slot].kept = 0
                    if self.gone.n and self.gone.at[self.gone.n - 1].start == at.kept:
                        self.gone.at[self.gone.n - 1].end += item.length
                    else:
                        reserve(<void**>&self.gone.at, &self.gone.cap, self.gone.n + 1, sizeof(Span))
                        self.gone.at[self.gone.n].start = at.kept
                        self.gone.at[self.gone.n].end = at.kept + item.length
                        self.gone.n += 1
                leaf.at[at.slot].shown = 0
                if length == 0:
                    return 0
            else:
                at.kept += leaf.at[at.slot].kept
            self.step(&at)

    # --- the tree ---------------------------------------------------------------------------------------------

    cdef inline void add_up(self, int32_t number, int64_t shown, int64_t kept) noexcept nogil:
        """Add to the counts above leaf `number`."""
        cdef int32_t slot = self.leaf[number].slot
        cdef int32_t up = self.leaf[number].up
        cdef SpanNode* node
        if number != self.near:
            self.near = -1
        self.shown += shown
        self.kept += kept
        while up >= 0:
            node = &self.node[up]
            node.shown[slot] += shown
            node.kept[slot] += kept
            slot = node.slot
            up = node.up

    cdef Place* open_after(self, int32_t before, int32_t number) except NULL nogil:
        """Make a place for an item behind another one, in the same leaf, or first of all (-1); not counted yet."""
        cdef int32_t at = 0 if before < 0 else self.item[before].leaf
        cdef int32_t slot = 0 if before < 0 else self.slot_of(before) + 1
        cdef SpanLeaf* leaf = &self.leaf[at]
        if leaf.n == self.leaf_slots:
            self.split_leaf(at, slot)
            leaf = &self.leaf[at]
            if slot > leaf.n:
                slot -= leaf.n
                at = leaf.next
                leaf = &self.leaf[at]
        if slot < leaf.n:
            memmove(leaf.at + slot + 1, leaf.at + slot, (leaf.n - slot) * sizeof(Place))
        leaf.n += 1
        leaf.at[slot].item = number
        self.item[number].leaf = at
        return leaf.at + slot

    cdef int place_after(self, int32_t before, int32_t number, int32_t shown, int32_t kept) except -1 nogil:
        """Put an item behind another, or first of all (-1)."""
        cdef Place* place = self.open_after(before, number)
        place.shown = shown
        place.kept = kept
        self.add_up(self.item[number].leaf, shown, kept)
        return 0

    cdef int split_leaf(self, int32_t number, int32_t at) except -1 nogil:
        """Move the second half of a full leaf's items to a new leaf after it."""
        cdef SpanLeaf* left
        cdef SpanLeaf* right
        cdef int32_t i, half, new
        cdef int64_t shown = 0
        cdef int64_t kept = 0
        if self.leaf[number].up < 0:
            self.grow(number, 1)
        elif self.node[self.leaf[number].up].n == self.node_slots:
            self.split_node(self.leaf[number].up, self.leaf[number].slot + 1)
        reserve(<void**>&self.leaf, &self.cap_leaves, self.n_leaves + 1, sizeof(SpanLeaf))
        new = <int32_t>self.n_leaves
        self.n_leaves += 1
        left = &self.leaf[number]
        right = &self.leaf[new]
        half = left.n >> 1
        right.n = left.n - half
        for i in range(right.n):
            right.at[i] = left.at[half + i]
            shown += right.at[i].shown
            kept += right.at[i].kept
            self.item[right.at[i].item].leaf = new
        left.n = half
        right.next = left.next
        left.next = new
        self.node[left.up].shown[left.slot] -= shown
        self.node[left.up].kept[left.slot] -= kept
        self.place_kid(left.up, left.slot + 1, new, shown, kept)
        return 0

    cdef int split_node(self, int32_t number, int32_t at) except -1 nogil:
        """Move the second half of a full node's children to a new node after it."""
        cdef SpanNode* left
        cdef SpanNode* right
        cdef int32_t i, half, new
        cdef int64_t shown = 0
        cdef int64_t kept = 0
        if self.node[number].up < 0:
            self.grow(number, self.node[number].level + 1)
        elif self.node[self.node[number].up].n == self.node_slots:
            self.split_node(self.node[number].up, self.node[number].slot + 1)
        reserve(<void**>&self.node, &self.cap_nodes, self.n_nodes + 1, sizeof(SpanNode))
        new = <int32_t>self.n_nodes
        self.n_nodes += 1
        left = &self.node[number]
        right = &self.node[new]
        right.n = 0
        right.level = left.level
        half = left.n >> 1
        for i in range(half, left.n):
            self.place_kid(new, right.n, left.kid[i], left.shown[i], left.kept[i])
            shown += left.shown[i]
            kept += left.kept[i]
        left.n = half
        self.node[left.up].shown[left.slot] -= shown
        self.node[left.up].kept[left.slot] -= kept
        self.place_kid(left.up, left.slot + 1, new, shown, kept)
        return 0

    cdef int grow(self, int32_t kid, int32_t level) except -1 nogil:
        """Put a new root above the old one."""
        reserve(<void**>&self.node, &self.cap_nodes, self.n_nodes + 1, sizeof(SpanNode))
        self.root = <int32_t>self.n_nodes
        self.n_nodes += 1
        self.node[self.root].n = 0
        self.node[self.root].up = -1
        self.node[self.root].slot = 0
        self.node[self.root].level = level
        self.place_kid(self.root, 0, kid, self.shown, self.kept)
        return 0

    cdef void place_kid(self, int32_t number, int32_t at, int32_t kid, int64_t shown, int64_t kept) noexcept nogil:
        """Make `kid` child number `at` of a node that has room."""
        cdef SpanNode* node = &self.node[number]
        cdef int32_t i
        for i in range(node.n, at, -1):
            node.kid[i] = node.kid[i - 1]
            node.shown[i] = node.shown[i - 1]
            node.kept[i] = node.kept[i - 1]
        node.n += 1
        node.kid[at] = kid
        node.shown[at] = shown
        node.kept[at] = kept
        for i in range(at, node.n):
            if node.level == 1:
                self.leaf[node.kid[i]].up = number
                self.leaf[node.kid[i]].slot = i
            else:
                self.node[node.kid[i]].up = number
                self.node[node.kid[i]].slot = i

    # --- checking ---------------------------------------------------------------------------------------------

    def _check(self):
        """Assert every invariant. O(items)."""
        cdef SpanLeaf* leaf
        cdef Item* item
        if self.leaf == NULL:
            return
        order = self._check_node(self.root, 0)
        shown = kept = 0
        seen = []
        for number in order:
            leaf = &self.leaf[<Py_ssize_t>number]
            if number == self.near:
                assert (shown, kept) == (self.near_shown, self.near_kept), f"counts {shown}, {kept} before leaf {number}"
            for i in range(leaf.n):
                item = &self.item[leaf.at[i].item]
                seen.append(leaf.at[i].item)
                assert item.leaf == number, f"item {leaf.at[i].item} is not where it says"
                assert item.length > 0 or item.lv < 0, f"item {leaf.at[i].item} is empty"
                assert leaf.at[i].shown == (item.length if item.state == 1 else 0), f"item {leaf.at[i].item} is miscounted"
                assert leaf.at[i].kept == (0 if item.deleted else item.length), f"item {leaf.at[i].item} is miscounted"
                assert self.item_of_end[item.end] == leaf.at[i].item, f"the end of item {leaf.at[i].item}"
                assert item.state >= 0 and (item.state or item.lv >= 0), f"item {leaf.at[i].item} has state {item.state}"
                assert item.state < 2 or item.deleted, f"item {leaf.at[i].item} is deleted only before"
                shown += leaf.at[i].shown
                kept += leaf.at[i].kept
        for a, b in zip(order, order[1:]):
            assert self.leaf[a].next == b, f"leaf {b} does not follow {a}"
        assert (shown, kept) == (self.shown, self.kept), f"counts {shown}, {kept}, noted {self.shown}, {self.kept}"
        assert sorted(seen) == list(range(self.n_items)), "items are lost"
        at = {number: i for i, number in enumerate(seen)}
        for number in seen:
            item = &self.item[<Py_ssize_t>number]
            if item.lv >= 0:
                assert item.left < 0 or at[self.item_of_end[item.left]] < at[number], f"item {number} and its left origin"
                assert item.right < 0 or at[item.right] > at[number], f"item {number} and its right origin"

    def _check_node(self, int32_t number, int32_t level):
        """The leaves below a node, in order."""
        cdef SpanNode* node
        if number < 0:
            return [0]
        node = &self.node[number]
        assert 1 <= node.n <= self.node_slots and level in (0, node.level), f"node {number}"
        leaves = []
        for i in range(node.n):
            kid = node.kid[i]
            if node.level == 1:
                assert self.leaf[kid].up == number and self.leaf[kid].slot == i and self.leaf[kid].n, f"leaf {kid}"
                below = [kid]
                shown = sum([self.leaf[kid].at[k].shown for k in range(self.leaf[kid].n)])
                kept = sum([self.leaf[kid].at[k].kept for k in range(self.leaf[kid].n)])
            else:
                assert self.node[kid].up == number and self.node[kid].slot == i, f"node {kid}"
                below = self._check_node(kid, node.level - 1)
                shown = sum([self.node[kid].shown[k] for k in range(self.node[kid].n)])
                kept = sum([self.node[kid].kept[k] for k in range(self.node[kid].n)])
            assert (shown, kept) == (node.shown[i], node.kept[i]), f"node {number} miscounts child {i}"
            leaves += below
        return leaves
