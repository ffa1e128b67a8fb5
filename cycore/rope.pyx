"""The text buffer: a B+ tree of small arrays of code points.

Each leaf stores its elements in 1, 2 or 4 bytes, as wide as its widest element needs, so that text takes a byte a
code point wherever it can. Edits next to the last one touch one leaf only: the counts above that leaf are brought
up to date when the next edit goes elsewhere. A list document keeps here, in place of code points, the numbers of
its values.
"""

cimport cython

from cpython.unicode cimport (
    PyUnicode_DATA, PyUnicode_FromKindAndData, PyUnicode_GET_LENGTH, PyUnicode_KIND,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from egwalker.cycore.errors import LimitError, PositionError

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, uint32_t maxchar)

MAX_LENGTH = (1 << 31) - 1
cdef int64_t C_MAX_LENGTH = MAX_LENGTH


cdef inline uint32_t unit_at(const uint8_t* units, int width, int64_t i) noexcept nogil:
    if width == 1:
        return units[i]
    if width == 2:
        return (<const uint16_t*>units)[i]
    return (<const uint32_t*>units)[i]


cdef void copy_units(uint8_t* to, int to_width, const uint8_t* source, int width, int64_t n) noexcept nogil:
    """Copy `n` elements, widening them; `to_width >= width`. From the last on, so that a leaf can be widened in place."""
    cdef int64_t i
    if to_width == width:
        memmove(to, source, n * width)
    elif to_width == 2:
        for i in range(n - 1, -1, -1):
            (<uint16_t*>to)[i] = source[i]
    elif width == 1:
        for i in range(n - 1, -1, -1):
            (<uint32_t*>to)[i] = source[i]
    else:
        for i in range(n - 1, -1, -1):
            (<uint32_t*>to)[i] = (<const uint16_t*>source)[i]


cdef void narrow_units(uint8_t* to, int to_width, const uint8_t* source, int width, int64_t n) noexcept nogil:
    """Copy `n` elements that are known to fit into `to_width` bytes each."""
    cdef int64_t i
    if to_width >= width:
        copy_units(to, to_width, source, width, n)
    elif to_width == 1 and width == 2:
        for i in range(n):
            to[i] = <uint8_t>(<const uint16_t*>source)[i]
    elif to_width == 1:
        for i in range(n):
            to[i] = <uint8_t>(<const uint32_t*>source)[i]
    else:
        for i in range(n):
            (<uint16_t*>to)[i] = <uint16_t>(<const uint32_t*>source)[i]


cdef uint32_t bits_of(const uint8_t* units, int width, int64_t n) noexcept nogil:
    """All elements or-ed together."""
    cdef int64_t i
    cdef uint32_t bits = 0
    if width == 1:
        for i in range(n):
            bits |= units[i]
    elif width == 2:
        for i in range(n):
            bits |= (<const uint16_t*>units)[i]
    else:
        for i in range(n):
            bits |= (<const uint32_t*>units)[i]
    return bits


cdef void measure(const uint8_t* units, int width, int64_t n, int64_t* wide8, int32_t* wide16) noexcept nogil:
    """How many bytes of UTF-8 and units of UTF-16 these take beyond one an element."""
    cdef int64_t i
    cdef int64_t eight = 0
    cdef int32_t sixteen = 0
    cdef uint32_t u
    if width == 1:
        for i in range(n):
            eight += units[i] >> 7
    elif width == 2:
        for i in range(n):
            u = (<const uint16_t*>units)[i]
            eight += (u >= 0x80) + (u >= 0x800)
    else:
        for i in range(n):
            u = (<const uint32_t*>units)[i]
            eight += (u >= 0x80) + (u >= 0x800) + (u >= 0x10000)
            sixteen += u >= 0x10000
    wide8[0] = eight
    wide16[0] = sixteen


cdef void free_below(Node* node) noexcept nogil:
    cdef int i
    for i in range(node.n):
        if node.level == 1:
            free(node.kid[i])
        else:
            free_below(<Node*>node.kid[i])
    free(node)


@cython.final
cdef class Rope:
    """A text buffer; positions count code points.

    `leaf_bytes` and `fanout` are there so that tests can have deep trees of small texts.

    >>> rope = Rope("hello")
    >>> rope.insert(5, " 🌍"); rope.delete(0, 1)
    >>> str(rope), len(rope), rope.utf16_len(), rope.utf8_len()
    ('ello 🌍', 6, 7, 9)
    """

    def __cinit__(self, text: str = "", *, int leaf_bytes=LEAF_BYTES, int fanout=FANOUT):
        if not 8 <= leaf_bytes <= LEAF_BYTES or leaf_bytes % 4:
            raise ValueError(f"leaf_bytes must be a multiple of 4 within 8..{LEAF_BYTES}, not {leaf_bytes}")
        if not 4 <= fanout <= FANOUT:
            raise ValueError(f"fanout must be within 4..{FANOUT}, not {fanout}")
        self.leaf_bytes = leaf_bytes
        self.fanout = fanout
        self.clear()
        if text:
            self.insert(0, text)

    def __dealloc__(self):
        if self.root != NULL:
            free_below(self.root)

    cdef int clear(self) except -1 nogil:
        if self.root != NULL:
            free_below(self.root)
        self.root = NULL
        self.last = NULL
        self.unflushed = 0
        self.touched = False
        self.n = 0
        self.root = <Node*>malloc(sizeof(Node))
        if self.root == NULL:
            with gil:
                raise MemoryError("no memory for a text buffer")
        self.root.up = NULL
        self.root.n = 0
        self.root.level = 1
        self.root.slot = 0
        self.new_leaf(NULL, 1)
        return 0

    def __len__(self):
        return self.n

    # --- the tree ---------------------------------------------------------------------------------------------

    cdef void resize(self, Node* node, int slot, int32_t change) noexcept nogil:
        """Add `change` to the size of a child and of all above it; forget what was counted there. O(log n)."""
        while node != NULL:
            node.size[slot] += change
            node.wide8[slot] = -1
            slot = node.slot
            node = node.up

    cdef void flush(self) noexcept nogil:
        if self.touched:
            self.resize(self.last.up, self.last.slot, self.unflushed)
            self.unflushed = 0
            self.touched = False

    cdef Leaf* seek(self, int64_t pos, bint insert, int32_t* offset) noexcept nogil:
        """The leaf that holds element `pos`, or, to insert, one that `pos` lies in or at an edge of."""
        cdef Node* node
        cdef int64_t rest
        cdef int i, last
        if self.last != NULL:
            rest = pos - self.last_start
            if rest >= 0 and rest < self.last.n + insert:
                offset[0] = <int32_t>rest
                return self.last
            self.flush()
        node = self.root
        rest = pos - insert  # for an insert, the leaf of the element before it
        if rest < 0:
            rest = 0
        while True:
            i = 0
            last = node.n - 1
            while i < last and rest >= node.size[i]:
                rest -= node.size[i]
                i += 1
            if node.level == 1:
                break
            node = <Node*>node.kid[i]
        if insert and pos > 0:
            rest += 1
        self.last = <Leaf*>node.kid[i]
        self.last_start = pos - rest
        offset[0] = <int32_t>rest
        return self.last

    cdef Leaf* leaf_after(self, Leaf* leaf) noexcept nogil:
        cdef Node* node = leaf.up
        cdef int slot = leaf.slot
        while slot + 1 >= node.n:
            slot = node.slot
            node = node.up
            if node == NULL:
                return NULL
        slot += 1
        while node.level > 1:
            node = <Node*>node.kid[slot]
            slot = 0
        return <Leaf*>node.kid[slot]

    cdef Leaf* new_leaf(self, Leaf* before, int width) except NULL nogil:
        """An empty leaf right after `before`, or the first of all."""
        cdef Leaf* leaf = <Leaf*>malloc(sizeof(Leaf) - LEAF_BYTES + self.leaf_bytes)
        if leaf == NULL:
            with gil:
                raise MemoryError("no memory for a leaf of the text buffer")
        leaf.n = 0
        leaf.width = <uint8_t>width
        self.add_kid(self.root if before == NULL else before.up, 0 if before == NULL else before.slot + 1, leaf)
        return leaf

    cdef int add_kid(self, Node* node, int at, void* kid) except -1 nogil:
        """Make `kid`, which is still empty, child number `at` of `node`."""
        if node.n == self.fanout:
            self.split(node, at)
            if at > node.n:
                at -= node.n
                node = <Node*>node.up.kid[node.slot + 1]
        self.place(node, at, kid, 0)
        return 0

    cdef int split(self, Node* node, int at) except -1 nogil:
        """Move the second half of a full node's children to a new node after it."""
        cdef Node* right
        cdef int32_t moved = 0
        cdef int i
        # Where children are added at the end, as when a text is written from front to back, nodes stay full.
        cdef int half = node.n - 1 if at == node.n else node.n >> 1
        if node.up == NULL:
            self.grow()
        elif node.up.n == self.fanout:
            self.split(node.up, node.slot + 1)
        right = <Node*>malloc(sizeof(Node))
        if right == NULL:
            with gil:
                raise MemoryError("no memory for a node of the text buffer")
        right.level = node.level
        right.n = 0
        for i in range(half, node.n):
            self.place(right, right.n, node.kid[i], node.size[i])
            right.wide8[right.n - 1] = node.wide8[i]
            right.wide16[right.n - 1] = node.wide16[i]
            moved += node.size[i]
        node.n = half
        self.place(node.up, node.slot + 1, right, 0)
        self.resize(node.up, node.slot, -moved)
        self.resize(node.up, node.slot + 1, moved)
        return 0

    cdef int grow(self) except -1 nogil:
        """Put a new root above the old one."""
        cdef Node* top = <Node*>malloc(sizeof(Node))
        cdef int32_t size = 0
        cdef int i
        if top == NULL:
            with gil:
                raise MemoryError("no memory for a node of the text buffer")
        top.up = NULL
        top.n = 0
        top.level = self.root.level + 1
        top.slot = 0
        for i in range(self.root.n):
            size += self.root.size[i]
        self.place(top, 0, self.root, size)
        self.root = top
        return 0

    cdef void place(self, Node* node, int at, void* kid, int32_t size) noexcept nogil:
        """Make `kid` child number `at` of `node`, which has room for it."""
        cdef int i
        for i in range(node.n, at, -1):
            node.kid[i] = node.kid[i - 1]
            node.size[i] = node.size[i - 1]
            node.wide8[i] = node.wide8[i - 1]
            node.wide16[i] = node.wide16[i - 1]
        node.n += 1
        node.kid[at] = kid
        node.size[at] = size
        node.wide8[at] = -1
        node.wide16[at] = 0
        for i in range(at, node.n):
            if node.level == 1:
                (<Leaf*>node.kid[i]).up = node
                (<Leaf*>node.kid[i]).slot = <uint8_t>i
            else:
                (<Node*>node.kid[i]).up = node
                (<Node*>node.kid[i]).slot = <uint8_t>i

    cdef void remove(self, Node* node, int at) noexcept nogil:
        """Take out child number `at`, which is empty, and every node that this empties."""
        cdef int i
        cdef Node* up
        while node.n == 1 and node.up != NULL:
            up = node.up
            at = node.slot
            free(node)
            node = up
        node.n -= 1
        for i in range(at, node.n):
            node.kid[i] = node.kid[i + 1]
            node.size[i] = node.size[i + 1]
            node.wide8[i] = node.wide8[i + 1]
            node.wide16[i] = node.wide16[i + 1]
            if node.level == 1:
                (<Leaf*>node.kid[i]).slot = <uint8_t>i
            else:
                (<Node*>node.kid[i]).slot = <uint8_t>i
        while self.root.n == 1 and self.root.level > 1:
            node = self.root
            self.root = <Node*>node.kid[0]
            self.root.up = NULL
            self.root.slot = 0
            free(node)

    cdef void drop_leaf(self, Leaf* leaf) noexcept nogil:
        """Remove an empty leaf, unless it is the only one."""
        if leaf.up.up == NULL and leaf.up.n == 1:
            return
        self.remove(leaf.up, leaf.slot)
        free(leaf)

    cdef void join(self, Leaf* leaf) noexcept nogil:
        """Move a small leaf's elements into a neighbour under the same node, if they fit with room to spare."""
        cdef Leaf* other
        cdef int side
        cdef int width
        cdef int32_t n = leaf.n
        for side in range(-1, 2, 2):
            if not 0 <= leaf.slot + side < leaf.up.n:
                continue
            other = <Leaf*>leaf.up.kid[leaf.slot + side]
            width = max(leaf.width, other.width)
            if (n + other.n) * width > self.leaf_bytes // 2:
                continue
            if other.width < width:
                copy_units(other.at, width, other.at, other.width, other.n)
                other.width = <uint8_t>width
            if side < 0:
                copy_units(other.at + other.n * width, width, leaf.at, leaf.width, n)
            else:
                memmove(other.at + n * width, other.at, other.n * width)
                copy_units(other.at, width, leaf.at, leaf.width, n)
            other.n += n
            leaf.n = 0
            self.resize(other.up, other.slot, n)
            self.resize(leaf.up, leaf.slot, -n)
            self.drop_leaf(leaf)
            return

    # --- editing ----------------------------------------------------------------------------------------------

    cdef int insert_units(self, int64_t pos, const void* units, int width, int64_t n) except -1 nogil:
        """Insert `n` elements of `width` bytes at `pos`, which is within the text."""
        cdef int32_t offset
        cdef Leaf* leaf
        cdef uint8_t* at
        if self.n + n > C_MAX_LENGTH:
            with gil:
                raise LimitError(f"a document holds at most {MAX_LENGTH} elements")
        leaf = self.seek(pos, True, &offset)
        if leaf.width >= width and (leaf.n + n) * leaf.width <= self.leaf_bytes:
            at = leaf.at + offset * leaf.width
            if offset < leaf.n:
                memmove(at + n * leaf.width, at, (leaf.n - offset) * leaf.width)
            if n == 1 and width == 1 and leaf.width == 1:
                at[0] = (<const uint8_t*>units)[0]
            else:
                copy_units(at, leaf.width, <const uint8_t*>units, width, n)
            leaf.n += <int32_t>n
            self.unflushed += <int32_t>n
            self.touched = True
        else:
            self.flush()
            self.last = NULL
            self.insert_slowly(leaf, offset, <const uint8_t*>units, width, n)
        self.n += n
        return 0

    cdef int insert_slowly(self, Leaf* leaf, int32_t offset, const uint8_t* units, int width, int64_t n) except -1 nogil:
        """Insert what does not fit into the leaf as it is."""
        cdef Leaf* right
        cdef int32_t tail = leaf.n - offset
        cdef int32_t cut = offset
        if leaf.width >= width and n * leaf.width <= self.leaf_bytes // 2:
            if tail == 0:
                right = self.leaf_after(leaf)
                if right != NULL and right.width >= width and (right.n + n) * right.width <= self.leaf_bytes:
                    memmove(right.at + n * right.width, right.at, right.n * right.width)
                    copy_units(right.at, right.width, units, width, n)
                    right.n += <int32_t>n
                    self.resize(right.up, right.slot, <int32_t>n)
                    return 0
            else:
                # Cut in halves, not at the offset, lest edits here and there leave a trail of tiny leaves.
                cut = leaf.n // 2
        right = NULL
        if cut < leaf.n:
            right = self.new_leaf(leaf, leaf.width)
            right.n = leaf.n - cut
            memcpy(right.at, leaf.at + cut * leaf.width, right.n * leaf.width)
            leaf.n = cut
            self.resize(right.up, right.slot, right.n)
            self.resize(leaf.up, leaf.slot, -right.n)
        if cut != offset:
            if offset > cut:
                leaf = right
                offset -= cut
            memmove(leaf.at + (offset + n) * leaf.width, leaf.at + offset * leaf.width, (leaf.n - offset) * leaf.width)
            copy_units(leaf.at + offset * leaf.width, leaf.width, units, width, n)
            leaf.n += <int32_t>n
            self.resize(leaf.up, leaf.slot, <int32_t>n)
            return 0
        self.append(leaf, units, width, n)
        if right != NULL:
            self.join(right)
        return 0

    cdef Leaf* append(self, Leaf* leaf, const uint8_t* units, int width, int64_t n) except NULL nogil:
        """Put elements at the end of `leaf` and into new leaves after it; returns the last of them."""
        cdef int64_t room
        while n:
            if leaf.width < width and (leaf.n + min(n, 1)) * width <= self.leaf_bytes:
                copy_units(leaf.at, width, leaf.at, leaf.width, leaf.n)
                leaf.width = <uint8_t>width
            room = self.leaf_bytes // leaf.width - leaf.n if leaf.width >= width else 0
            if room <= 0:
                leaf = self.new_leaf(leaf, width)
                continue
            if room > n:
                room = n
            copy_units(leaf.at + leaf.n * leaf.width, leaf.width, units, width, room)
            leaf.n += <int32_t>room
            self.resize(leaf.up, leaf.slot, <int32_t>room)
            units += room * width
            n -= room
        return leaf

    cdef int delete_units(self, int64_t pos, int64_t n) except -1 nogil:
        """Delete `n` elements from `pos` on, all within the text."""
        cdef int32_t offset
        cdef int64_t some
        cdef Leaf* leaf
        cdef uint8_t* at
        self.n -= n
        while n:
            leaf = self.seek(pos, False, &offset)
            some = leaf.n - offset
            if some > n:
                some = n
            at = leaf.at + offset * leaf.width
            if offset + some < leaf.n:
                memmove(at, at + some * leaf.width, (leaf.n - offset - some) * leaf.width)
            leaf.n -= <int32_t>some
            self.unflushed -= <int32_t>some
            self.touched = True
            n -= some
            if leaf.n * leaf.width < self.leaf_bytes // 4:
                self.flush()
                self.last = NULL
                if leaf.n == 0:
                    self.drop_leaf(leaf)
                else:
                    self.join(leaf)
        return 0

    cdef object slice_units(self, int64_t start, int64_t end):
        """The elements `start:end` as a `str`. O(log n + length)."""
        cdef Leaf* first
        cdef Leaf* leaf
        cdef int32_t offset, some, lead
        cdef int64_t left
        cdef uint32_t bits = 0
        cdef uint8_t* out
        cdef int kind
        if start >= end:
            return ""
        self.flush()
        self.last = NULL
        first = self.seek(start, False, &lead)
        leaf = first
        offset = lead
        left = end - start
        while left:
            some = <int32_t>min(left, leaf.n - offset)
            bits |= bits_of(leaf.at + offset * leaf.width, leaf.width, some)
            left -= some
            leaf = self.leaf_after(leaf)
            offset = 0
        # `bits` is at least the largest element and below the next power of two: the kind that a str of it has.
        text = PyUnicode_New(end - start, min(bits, <uint32_t>0x10FFFF))
        kind = PyUnicode_KIND(text)
        out = <uint8_t*>PyUnicode_DATA(text)
        leaf = first
        offset = lead
        left = end - start
        while left:
            some = <int32_t>min(left, leaf.n - offset)
            narrow_units(out, kind, leaf.at + offset * leaf.width, leaf.width, some)
            out += some * kind
            left -= some
            leaf = self.leaf_after(leaf)
            offset = 0
        return text

    # --- for Python -------------------------------------------------------------------------------------------

    def insert(self, pos, text: str):
        """Insert `text` before code point `pos`. O(log n + length). `PositionError` beyond the end."""
        pos = whole(pos)
        if not 0 <= pos <= self.n:
            raise PositionError(f"position {pos} is not within 0..{self.n}")
        self.insert_units(pos, PyUnicode_DATA(text), PyUnicode_KIND(text), PyUnicode_GET_LENGTH(text))

    def delete(self, pos, length):
        """Delete `length` code points from `pos` on. O(log n + length). `PositionError` beyond the end."""
        pos = whole(pos)
        length = whole(length)
        self.check_range(pos, pos + length)
        self.delete_units(pos, length)

    def slice(self, start, end):
        """The code points `start:end`, without copying others. O(log n + length)."""
        start = whole(start)
        end = whole(end)
        self.check_range(start, end)
        return self.slice_units(start, end)

    def numbers(self, start, end):
        """The elements `start:end` as integers. O(log n + length)."""
        cdef Leaf* leaf
        cdef int32_t offset
        cdef int64_t left
        start = whole(start)
        end = whole(end)
        self.check_range(start, end)
        left = end - start
        found = []
        if left == 0:
            return found
        leaf = self.seek(start, False, &offset)
        while True:
            found.append(unit_at(leaf.at, leaf.width, offset))
            left -= 1
            if left == 0:
                return found
            offset += 1
            if offset == leaf.n:
                leaf = self.leaf_after(leaf)
                offset = 0

    cdef int check_range(self, start, end) except -1:
        if not 0 <= start <= end <= self.n:
            raise PositionError(f"range {start}:{end} is not within 0:{self.n}")
        return 0

    def __str__(self):
        return self.slice_units(0, self.n)

    def __repr__(self):
        return f"<Rope of {self.n}>"

    # --- other units ------------------------------------------------------------------------------------------

    cdef void count(self, Node* node) noexcept nogil:
        """Count the UTF-8 bytes and UTF-16 units below `node` wherever an edit made them unknown."""
        cdef int i, k
        cdef Leaf* leaf
        cdef Node* kid
        for i in range(node.n):
            if node.wide8[i] >= 0:
                continue
            if node.level == 1:
                leaf = <Leaf*>node.kid[i]
                measure(leaf.at, leaf.width, leaf.n, &node.wide8[i], &node.wide16[i])
            else:
                kid = <Node*>node.kid[i]
                self.count(kid)
                node.wide8[i] = 0
                node.wide16[i] = 0
                for k in range(kid.n):
                    node.wide8[i] += kid.wide8[k]
                    node.wide16[i] += kid.wide16[k]

    cdef int64_t outward(self, int64_t pos, bint utf8) noexcept nogil:
        """The offset in UTF-8 or UTF-16 of code point `pos`."""
        cdef Node* node = self.root
        cdef int64_t rest = pos
        cdef int64_t extra = 0
        cdef int64_t wide8
        cdef int32_t wide16
        cdef Leaf* leaf
        cdef int i
        self.flush()
        self.count(node)
        while True:
            i = 0
            while i < node.n - 1 and rest >= node.size[i]:
                rest -= node.size[i]
                extra += node.wide8[i] if utf8 else node.wide16[i]
                i += 1
            if node.level == 1:
                break
            node = <Node*>node.kid[i]
        leaf = <Leaf*>node.kid[i]
        measure(leaf.at, leaf.width, rest, &wide8, &wide16)
        return pos + extra + (wide8 if utf8 else wide16)

    cdef int64_t inward(self, int64_t offset, bint utf8) noexcept nogil:
        """The code point that starts at an offset in UTF-8 or UTF-16; -1 if none does."""
        cdef Node* node = self.root
        cdef int64_t rest = offset
        cdef int64_t pos = 0
        cdef int64_t below
        cdef Leaf* leaf
        cdef uint32_t u
        cdef int i
        if offset < 0:
            return -1
        self.flush()
        self.count(node)
        while True:
            i = 0
            while i < node.n - 1:
                below = node.size[i] + (node.wide8[i] if utf8 else node.wide16[i])
                if rest < below:
                    break
                rest -= below
                pos += node.size[i]
                i += 1
            if node.level == 1:
                break
            node = <Node*>node.kid[i]
        leaf = <Leaf*>node.kid[i]
        for i in range(leaf.n):
            if rest <= 0:
                break
            u = unit_at(leaf.at, leaf.width, i)
            rest -= 1
            rest -= u >= 0x10000
            if utf8:
                rest -= (u >= 0x80) + (u >= 0x800)
            pos += 1
        return pos if rest == 0 else -1

    cdef object convert_out(self, pos, bint utf8):
        pos = whole(pos)
        if not 0 <= pos <= self.n:
            raise PositionError(f"position {pos} is not within 0..{self.n}")
        return self.outward(pos, utf8)

    cdef object convert_in(self, offset, bint utf8):
        cdef int64_t pos
        offset = whole(offset)
        pos = self.inward(offset, utf8) if -1 < offset < (<int64_t>1 << 40) else -1
        if pos < 0:
            unit = "UTF-8 byte" if utf8 else "UTF-16 unit"
            raise PositionError(f"no code point starts at {unit} {offset} (the text has {self.outward(self.n, utf8)})")
        return pos

    def utf16_len(self):
        """Length in UTF-16 units. O(1) but for what changed since the last such question, as all of these."""
        return self.outward(self.n, False)

    def utf8_len(self):
        """Length in bytes of UTF-8."""
        return self.outward(self.n, True)

    def to_utf16(self, pos):
        """The UTF-16 offset of code point `pos`. O(log n)."""
        return self.convert_out(pos, False)

    def from_utf16(self, offset):
        """The code point at a UTF-16 offset; `PositionError` inside a surrogate pair. O(log n)."""
        return self.convert_in(offset, False)

    def to_utf8(self, pos):
        """The UTF-8 offset of code point `pos`. O(log n)."""
        return self.convert_out(pos, True)

    def from_utf8(self, offset):
        """The code point at a UTF-8 offset; `PositionError` inside a code point. O(log n)."""
        return self.convert_in(offset, True)

    # --- copying and checking ---------------------------------------------------------------------------------

    def memory(self):
        """Bytes allocated, but for the object itself. O(n)."""
        cdef Node* node = self.root
        cdef int64_t total = 0
        cdef Leaf* leaf
        stack = [<size_t>node]
        while stack:
            node = <Node*><size_t>stack.pop()
            total += sizeof(Node)
            for i in range(node.n):
                if node.level == 1:
                    total += sizeof(Leaf) - LEAF_BYTES + self.leaf_bytes
                else:
                    stack.append(<size_t>node.kid[i])
        return total

    def copy(self):
        """An independent copy. O(n)."""
        cdef Rope other = Rope(leaf_bytes=self.leaf_bytes, fanout=self.fanout)
        cdef Leaf* leaf
        cdef Leaf* end = <Leaf*>other.root.kid[0]
        cdef int32_t offset
        self.flush()
        self.last = NULL
        leaf = self.seek(0, False, &offset)
        while leaf != NULL:
            end = other.append(end, leaf.at, leaf.width, leaf.n)
            leaf = self.leaf_after(leaf)
        other.n = self.n
        return other

    def _check(self):
        """Assert every invariant. O(n)."""
        self.flush()
        assert self.root.up == NULL
        assert self._check_node(<size_t>self.root) == self.n, "the sizes do not add up"

    def _check_node(self, size_t address):
        cdef Node* node = <Node*>address
        cdef Node* kid
        cdef Leaf* leaf
        cdef int64_t wide8
        cdef int32_t wide16
        total = 0
        assert 1 <= node.n <= self.fanout, f"a node has {node.n} children"
        for i in range(node.n):
            if node.level == 1:
                leaf = <Leaf*>node.kid[i]
                assert leaf.up == node and leaf.slot == i, "a leaf is not where it says"
                assert leaf.width in (1, 2, 4) and 0 <= leaf.n * leaf.width <= self.leaf_bytes, "a leaf overflows"
                assert leaf.n or self.n == 0, "a leaf is empty"
                size = leaf.n
                measure(leaf.at, leaf.width, leaf.n, &wide8, &wide16)
                assert node.wide8[i] in (-1, wide8), f"{node.wide8[i]} more bytes than elements, not {wide8}"
                assert node.wide8[i] < 0 or node.wide16[i] == wide16, "UTF-16 is miscounted"
            else:
                kid = <Node*>node.kid[i]
                assert kid.up == node and kid.slot == i and kid.level == node.level - 1, "a node is not where it says"
                size = self._check_node(<size_t>kid)
            assert size == node.size[i], f"{size} elements below, {node.size[i]} noted"
            total += size
        return total
