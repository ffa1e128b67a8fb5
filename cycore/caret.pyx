"""The deferred clock: which events know of each other while people type.

A *run* is what one agent types without moving: each edit goes on where the last one ended, at the caret. What others do
meanwhile shows in the document, but does not become a parent: a run's events each have the one before as only parent, so
that it stays one group. Only the next run knows of it all.

The run's events have positions of the run's own version. Around the caret lies a *stretch* of the document in which nobody
else has changed anything since the run began: there the two versions have the same elements, and their positions differ by
one number. A change right at the caret ends the run, and so does coming to the stretch's border while erasing. That is
not only simple but needed: a new element stands between those neighbours that its author knew. Within the stretch nothing
that the run does not know can be seen between them, so the place where it is typed is where every walk will put it; at
the border, the names of the agents would decide.
"""

cimport cython

from libc.stdint cimport int64_t

from egwalker.cycore.mem cimport Ints
from egwalker.cycore.walker cimport Out

cdef int64_t FAR = <int64_t>1 << 60  # behind every position: nothing is unknown there


@cython.final
cdef class Caret:
    """Where a document's agent types, and how that place is seen from the version that the typing goes on from."""

    cpdef void close(self) noexcept nogil:
        """End the run: the next edit follows all that the document has."""
        self.open = self.apart = False

    cdef void follow(self, const Ints* heads, const Out* out, Py_ssize_t n) noexcept nogil:
        """Others' events came into the document, which is at `heads` now, by the edits `out`. O(edits)."""
        cdef Py_ssize_t i
        cdef int64_t pos, length
        if not self.open or heads.n == 1 and heads.at[0] == self.last:
            return
        if not self.apart:
            self.apart = True
            self.start = -1
            self.end = FAR
            self.shift = 0
        for i in range(n):
            pos = out[i].pos
            length = out[i].length
            if pos > self.at:
                self.end = min(self.end, pos)
            elif out[i].lv >= 0:
                if pos == self.at:
                    self.close()
                    return
                self.at += length
                self.end += length
                self.shift -= length
                self.start = max(self.start, pos) + length
            else:
                if pos + length >= self.at:
                    self.close()
                    return
                self.at -= length
                self.end -= length
                self.shift += length
                self.start = max(self.start - length, pos)

    def leave(self, pos: int):
        """End the run if it goes on at position `pos`."""
        if self.at == pos:
            self.close()

    @property
    def state(self):
        """Everything about the run, for putting it back."""
        return self.open, self.apart, self.last, self.at, self.start, self.end, self.shift

    @state.setter
    def state(self, state):
        self.open, self.apart, self.last, self.at, self.start, self.end, self.shift = state
