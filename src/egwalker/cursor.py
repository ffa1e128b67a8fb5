"""Places in a document that stay where they are while the text around them changes."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

from egwalker.cycore.errors import EgwalkerError, PositionError

if TYPE_CHECKING:
    from egwalker.document import Document
    from egwalker.events import Edit


class Cursor:
    """A position in a document, between two elements, as an editor's caret: made by `Document.cursor`.

    It follows the elements around it while the document changes, here or by merging. What somebody else
    inserts exactly at the cursor goes behind it; what the cursor itself inserts, in front of it. It costs
    O(edits) of each change until it is closed, by `close` or at the end of a `with` block, or forgotten.

    What is typed and erased between two moves is one run: others' events show in the document at once, but
    the run's events follow each other alone, so that it stays one group. `move` ends the run, and so does a
    change by others exactly at the cursor: what is typed then follows all that one saw (see `Document`).

    >>> from egwalker import Document
    >>> doc = Document(agent="alice")
    >>> cursor = doc.cursor()
    >>> cursor.insert("wo")
    >>> bob = doc.fork("bob")
    >>> bob.insert(0, "first ")
    >>> cursor.insert("r"); _ = doc.merge(bob); cursor.insert("d")
    >>> str(doc), cursor.position, doc.version
    ('first word', 10, (('alice', 3), ('bob', 5)))
    >>> cursor.move(10); cursor.insert("s")
    >>> doc.version
    (('alice', 4),)
    """

    def __init__(self, document: Document, at: int = 0) -> None:
        self._document = document
        self._position = 0
        self._open = True
        self._moved = True  # since it last edited
        with document._lock:
            self.move(at)
            document._feed.follow(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cursor at {self._position}{'' if self._open else ', closed'}>"

    @property
    def position(self) -> int:
        """How many elements are before the cursor; after `close`, were at that time."""
        with self._document._lock:
            return self._position

    def move(self, to: int) -> None:
        """Put the cursor at position `to`: its next edit follows all that the document holds.

        That is so even if the cursor was there. `PositionError` if the document has no such place.
        """
        document = self._document
        to = operator.index(to)
        with document._lock:
            self._check_open()
            if not 0 <= to <= len(document):
                raise PositionError(f"position {to} is not within 0..{len(document)}")
            document._replica.main.caret.leave(self._position)
            self._position = to
            self._moved = True

    def insert(self, content: Any) -> None:
        """Insert `content` in front of the cursor, as `Document.insert` does."""
        document = self._document
        with document._lock:
            self._check_open()
            self._edits()
            at = self._position
            self._position = at + document._replica.insert(document._agent, at, content)
        document._feed.deliver()

    def backspace(self, n: int = 1) -> None:
        """Delete `n` elements before the cursor. `PositionError` if there are fewer."""
        document = self._document
        n = operator.index(n)
        with document._lock:
            self._check_open()
            if not 0 <= n <= self._position:
                raise PositionError(
                    f"there are {self._position} elements before the cursor, not {n} to delete"
                )
            self._edits()
            document._replica.delete(document._agent, self._position - n, n)
        document._feed.deliver()

    def delete(self, n: int = 1) -> None:
        """Delete `n` elements behind the cursor. `PositionError` if there are fewer."""
        document = self._document
        n = operator.index(n)
        with document._lock:
            self._check_open()
            rest = len(document) - self._position
            if not 0 <= n <= rest:
                raise PositionError(f"there are {rest} elements behind the cursor, not {n} to delete")
            self._edits()
            document._replica.delete(document._agent, self._position, n)
        document._feed.deliver()

    def close(self) -> None:
        """Stop following the document. The cursor edits and moves no more; its last position stays."""
        with self._document._lock:
            self._open = False
            self._document._feed.unfollow(self)

    def _check_open(self) -> None:
        if not self._open:
            raise EgwalkerError("the cursor is closed")

    def _edits(self) -> None:
        """It is about to edit."""
        if self._moved:
            self._document._replica.main.caret.close()
            self._moved = False

    def _follow(self, edits: tuple[Edit, ...]) -> None:
        at = self._position
        for pos, deleted, inserted in edits:
            if pos < at:
                at -= min(deleted, at - pos)
                # Behind the deletion, the same question again: an edit inserts where it deleted.
                if pos < at:
                    at += len(inserted)
        self._position = at
