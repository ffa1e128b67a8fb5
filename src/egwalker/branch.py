"""Views of a document at versions of its past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egwalker.events import Change
from egwalker.versions import Version, to_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egwalker.cycore.oplog import OpLog
    from egwalker.document import Document
    from egwalker.versions import Id


class Branch:
    """A document's content at one version, and a place to edit it there: made by `Document.branch`.

    A branch stays at its version while the document goes on. What is edited on a branch comes after its
    version alone, so that it is concurrent with whatever else the document holds, and is in the document at
    once. Its events are made by the document's agent.

    >>> from egwalker import Document
    >>> doc = Document(agent="alice")
    >>> doc.insert(0, "old")
    >>> branch = doc.branch()
    >>> doc.insert(3, "er")
    >>> branch.insert(0, "b")
    >>> str(branch), str(doc), branch.merge().edits
    ('bold', 'bolder', (Edit(pos=4, deleted=0, inserted='er'),))
    """

    def __init__(self, document: Document, version: Iterable[Id] | None = None) -> None:
        self._document = document
        with document._lock:
            log = document._known()
            if version is None:
                self._checkout: Any = document._main.copy(log)
            else:
                self._checkout = document._type.checkout(log)
                self._checkout.merge(to_local(log.graph, version))

    def _move(self, log: OpLog) -> None:
        """Go on over another log, which has older events too."""
        checkout = self._document._type.checkout(log)
        checkout.merge(to_local(log.graph, self._checkout.ids))
        self._checkout = checkout

    def __repr__(self) -> str:
        return f"<Branch of {len(self)} elements at {self.version}>"

    def __len__(self) -> int:
        """The number of elements. O(1)."""
        with self._document._lock:
            return len(self._checkout)

    def __str__(self) -> str:
        return str(self.content)

    @property
    def document(self) -> Document:
        """The document that this is a view of."""
        return self._document

    @property
    def content(self) -> Any:
        """The content at this version. O(length)."""
        with self._document._lock:
            return self._document._type.content(self._checkout)

    @property
    def version(self) -> Version:
        """The version that this is a view of."""
        with self._document._lock:
            ids: Version = self._checkout.ids
            return ids

    def insert(self, pos: int, content: Any) -> None:
        """Insert `content` at `pos` of the branch; errors as for `Document.insert`."""
        document = self._document
        with document._lock:
            self._checkout.insert(document._agent, pos, document._type.pack_inserted(content))
            document._catch_up()
        document._deliver()

    def delete(self, pos: int, length: int = 1) -> None:
        """Delete `length` elements from `pos` of the branch on; errors as for `Document.delete`."""
        document = self._document
        with document._lock:
            self._checkout.delete(document._agent, pos, length)
            document._catch_up()
        document._deliver()

    def perform(self, op: Any) -> None:
        """Perform an operation on the branch; errors as for `Document.perform`."""
        document = self._document
        with document._lock:
            log, before = document._log, self._checkout.version
            length = len(log)
            document._type.perform(self._checkout, document._agent, op)
            try:
                document._catch_up()
            except BaseException:
                # It fails where it comes among the others.
                log.truncate(length)
                self._checkout = document._type.checkout(log)
                self._checkout.merge(before)
                raise
        document._deliver()

    def merge(self, version: Iterable[Id] | None = None) -> Change:
        """Go on to this version merged with another, by default all of the document; returns the change.

        O(events that are new here or concurrent with these). `VersionError` if the document does not hold the
        version.
        """
        document = self._document
        with document._lock:
            graph = document._log.graph
            before = self._checkout.ids
            raw = self._checkout.merge(None if version is None else to_local(graph, version), edits=True)
            edits = document._unpack(raw)
            rewound = document._type.rewound(edits, self._checkout)
            return Change(edits, before, self._checkout.ids, local=False, rewound=rewound)
