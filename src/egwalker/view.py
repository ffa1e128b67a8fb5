"""What documents and their branches have in common: content at a version, and positions in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import KindError
from egwalker.replayed import no_positions

if TYPE_CHECKING:
    import threading

    from egwalker.cycore.rope import Rope
    from egwalker.kinds import Kind
    from egwalker.versions import Version


class View:
    """The content of a document at one version. Positions count its elements."""

    _lock: threading.RLock

    @property
    def _type(self) -> Kind:
        raise NotImplementedError

    def _shown(self) -> Any:
        """The checkout at that version."""
        raise NotImplementedError

    @property
    def version(self) -> Version:
        """The version: the ids of the events that no other event in it follows, ascending. O(heads)."""
        with self._lock:
            ids: Version = self._shown().ids
            return ids

    @property
    def content(self) -> Any:
        """The whole content, made anew: a `str`, or for a list a list of its values. O(length)."""
        with self._lock:
            return self._type.content(self._shown())

    def __str__(self) -> str:
        return str(self.content)

    def __len__(self) -> int:
        """The number of elements. O(1)."""
        with self._lock:
            return len(self._shown())

    def slice(self, start: int, end: int) -> Any:
        """The content from `start` to `end`. O(log n + end - start). `PositionError` beyond the document."""
        with self._lock:
            return self._type.unpack(self._sequence().content(start, end))

    def to_utf16(self, pos: int) -> int:
        """How many UTF-16 code units the first `pos` code points take, as JavaScript counts. O(log n).

        This and its three siblings raise `PositionError` beyond the document, `KindError` if it does not hold
        text.

        >>> from egwalker import Document
        >>> doc = Document()
        >>> doc.insert(0, "a\N{PILE OF POO}b")
        >>> doc.to_utf16(2), doc.from_utf16(3), doc.to_utf8(2), doc.from_utf8(5)
        (3, 2, 5, 2)
        """
        with self._lock:
            return self._rope().to_utf16(pos)

    def from_utf16(self, offset: int) -> int:
        """The position of a UTF-16 offset; `PositionError` also within a surrogate pair. O(log n)."""
        with self._lock:
            return self._rope().from_utf16(offset)

    def to_utf8(self, pos: int) -> int:
        """How many bytes of UTF-8 the first `pos` code points take. O(log n)."""
        with self._lock:
            return self._rope().to_utf8(pos)

    def from_utf8(self, offset: int) -> int:
        """The position of a UTF-8 offset; `PositionError` also within a code point. O(log n)."""
        with self._lock:
            return self._rope().from_utf8(offset)

    def _sequence(self) -> Checkout:
        """What has positions. `KindError` if nothing has."""
        if isinstance(checkout := self._shown(), Checkout):
            return checkout
        raise no_positions(self._type.name)

    def _rope(self) -> Rope:
        kind = self._type
        if kind.values:
            raise KindError(f"a document of kind {kind.name!r} has no code points to convert the position of")
        return self._sequence().rope
