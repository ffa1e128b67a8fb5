"""Views of a document at versions of its past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egwalker.events import Change
from egwalker.versions import to_local
from egwalker.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egwalker.cycore.oplog import OpLog
    from egwalker.document import Document
    from egwalker.kinds import Kind
    from egwalker.versions import Id


class Branch(View):
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
        self._lock = document._lock
        with self._lock:
            log = document._replica.read()
            if version is None:
                self._checkout = document._replica.main.copy(log)
            else:
                self._checkout = self._type.checkout(log)
                self._checkout.merge(to_local(log.graph, version))
            document._replica.branches.add(self)

    def _move(self, log: OpLog) -> None:
        """Go on over another log, which has older events too."""
        checkout = self._type.checkout(log)
        checkout.merge(to_local(log.graph, self._checkout.ids))
        self._checkout = checkout

    def __repr__(self) -> str:
        return f"<Branch of {len(self)} elements at {self.version}>"

    @property
    def document(self) -> Document:
        """The document that this is a view of."""
        return self._document

    @property
    def _type(self) -> Kind:
        return self._document._type

    def _shown(self) -> Any:
        return self._checkout

    def insert(self, pos: int, content: Any) -> None:
        """Insert `content` at `pos` of the branch; errors as for `Document.insert`."""
        document = self._document
        with self._lock:
            self._checkout.insert(document._agent, pos, self._type.pack_inserted(content))
            document._replica.catch_up()
        document._feed.deliver()

    def delete(self, pos: int, length: int = 1) -> None:
        """Delete `length` elements from `pos` of the branch on; errors as for `Document.delete`."""
        document = self._document
        with self._lock:
            self._checkout.delete(document._agent, pos, length)
            document._replica.catch_up()
        document._feed.deliver()

    def perform(self, op: Any) -> None:
        """Perform an operation on the branch; errors as for `Document.perform`."""
        document = self._document
        with self._lock:
            log, before = document._replica.log, self._checkout.version
            length = len(log)
            self._type.perform(self._checkout, document._agent, op)
            try:
                document._replica.catch_up()
            except BaseException:
                # It fails where it comes among the others.
                log.truncate(length)
                self._checkout = self._type.checkout(log)
                self._checkout.merge(before)
                raise
        document._feed.deliver()

    def merge(self, version: Iterable[Id] | None = None) -> Change:
        """Go on to this version merged with another, by default all of the document; returns the change.

        O(events that are new here or concurrent with these). `VersionError` if the document does not hold the
        version.
        """
        with self._lock:
            graph = self._document._replica.log.graph
            before = self._checkout.ids
            made = self._checkout.merge(None if version is None else to_local(graph, version), edits=True)
            edits = self._document._replica.edits(made)
            rewound = self._type.rewound(edits, self._checkout)
            return Change(edits, before, self._checkout.ids, local=False, rewound=rewound)
