cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t

from egwalker.cycore.graph cimport Graph
from egwalker.cycore.mem cimport Spans

cdef enum:
    LEAF_SLOTS = 16
    NODE_SLOTS = 32


cdef struct Item:
    int64_t lv      # first event, -1 for text from before the walk
    int32_t length
    int32_t leaf
    int32_t next    # the next piece of what was inserted as one, -1 at its end
    int32_t end     # handle of its last element, which survives splits
    int32_t left    # origin: handle of the element before, -1 for the start of the document
    int32_t right   # origin: the item that starts with the element behind
    int32_t state   # in the prepare version: 0 not inserted yet, 1 there, more: deleted that many times less one
    bint deleted    # in the effect version


cdef struct Place:
    int32_t item
    int32_t shown   # elements visible in the prepare version
    int32_t kept    # elements visible in the effect version


cdef struct SpanLeaf:
    int32_t n
    int32_t up      # -1 for a root
    int32_t slot
    int32_t next    # -1 at the end
    Place at[LEAF_SLOTS]


cdef struct SpanNode:
    int32_t n
    int32_t up
    int32_t slot
    int32_t level   # 1: the children are leaves
    int32_t kid[NODE_SLOTS]
    int64_t shown[NODE_SLOTS]
    int64_t kept[NODE_SLOTS]


cdef struct Touched:
    # What one operation inserted or deleted, in elements from the start of `item` on through its later pieces.
    int32_t item
    int32_t length


cdef struct Cursor:
    int32_t leaf
    int32_t slot
    int64_t offset  # into the item there
    int64_t kept    # elements of the effect version before the item


@cython.final
cdef class SpanTree:
    cdef Graph graph
    cdef Item* item
    cdef Py_ssize_t n_items
    cdef Py_ssize_t cap_items
    cdef SpanLeaf* leaf
    cdef Py_ssize_t n_leaves
    cdef Py_ssize_t cap_leaves
    cdef SpanNode* node
    cdef Py_ssize_t n_nodes
    cdef Py_ssize_t cap_nodes
    cdef int32_t* item_of_end
    cdef Py_ssize_t n_ends
    cdef Py_ssize_t cap_ends
    cdef int32_t root      # a node, or -1: leaf 0 is the root
    cdef int64_t shown
    cdef int64_t kept
    cdef Touched* touched
    cdef Py_ssize_t n_touched
    cdef Py_ssize_t cap_touched
    cdef Spans gone        # what the last delete removed from the effect version: positions, one after the other
    cdef int32_t near      # the leaf found last, -1 once other leaves' counts have changed,
    cdef int64_t near_shown
    cdef int64_t near_kept # and how many elements are before it
    cdef int32_t leaf_slots
    cdef int32_t node_slots

    cdef int reset(self, int64_t length) except -1 nogil
    cdef void release(self) noexcept nogil
    cdef Py_ssize_t allocated(self) noexcept nogil
    cdef int settle(self, int64_t length) except -1 nogil
    cdef int64_t insert(self, int64_t pos, int64_t length, int64_t lv) except -1 nogil
    cdef int64_t insert_between(self, int32_t left, int32_t right, int64_t length, int64_t lv) except -1 nogil
    cdef int32_t delete_last(self, int32_t left, int64_t* pos) except -1 nogil
    cdef int64_t settle_in(
        self, int32_t before, int32_t left, int32_t right, Cursor ahead, int64_t kept, int64_t length, int64_t lv, bint shown
    ) except -1 nogil
    cdef int delete(self, int64_t pos, int64_t length) except -1 nogil
    cdef int note(self, int32_t item, int64_t length) except -1 nogil
    cdef void shift(self, Py_ssize_t start, Py_ssize_t end, int32_t by) noexcept nogil
    cdef void shift_from(self, int32_t item, int64_t length, int32_t by) noexcept nogil

    cdef int32_t new_item(self, int64_t lv, int64_t length, int32_t left, int32_t right) except -1 nogil
    cdef int32_t slot_of(self, int32_t item) noexcept nogil
    cdef bint step(self, Cursor* at) noexcept nogil
    cdef int32_t item_behind(self, Cursor* at) noexcept nogil
    cdef Cursor find(self, int64_t pos) noexcept nogil
    cdef int64_t shown_in(self, int32_t leaf) noexcept nogil
    cdef void approach(self, int64_t pos) noexcept nogil
    cdef Cursor find_kept(self, int64_t pos) noexcept nogil
    cdef int64_t kept_through(self, int32_t item) noexcept nogil
    cdef void add_up(self, int32_t leaf, int64_t shown, int64_t kept) noexcept nogil
    cdef int32_t split_item(self, int32_t item, int64_t at) except -1 nogil
    cdef Place* open_after(self, int32_t before, int32_t item) except NULL nogil
    cdef int place_after(self, int32_t before, int32_t item, int32_t shown, int32_t kept) except -1 nogil
    cdef int split_leaf(self, int32_t leaf, int32_t at) except -1 nogil
    cdef int split_node(self, int32_t node, int32_t at) except -1 nogil
    cdef int grow(self, int32_t kid, int32_t level) except -1 nogil
    cdef void place_kid(self, int32_t node, int32_t at, int32_t kid, int64_t shown, int64_t kept) noexcept nogil
    cdef bint precedes(self, int32_t a, int32_t b) noexcept nogil
    cdef void path(self, int32_t item, int32_t* out, int32_t* depth) noexcept nogil
