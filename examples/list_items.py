"""Items of a list that several people share: added, moved, edited and removed, by several of them at once.

An item is an element of a list document: `{"id", "text", "moved", "edited"}`. Elements cannot be moved or
changed, so to move or edit an item is to delete its element and insert another one with the same id. When two
people do that at the same time, the merged list has both of theirs: *copies* of one item. All replicas have
the same copies in the same order, so a rule that looks at nothing else shows everybody the same:

- each item is shown once: at the place of the copy that was moved most often, with the text of the one that
  was edited most often, the first in the list if there are several. So of two moves at once one holds, of two
  edits at once one holds, and of a move and an edit at once both do;
- to remove an item is to delete all its copies. One that is moved or edited while another person removes it
  stays, as a new copy that they did not know of: nobody's work is lost without having been seen.

Whoever moves, edits or removes an item next deletes all its copies, so that they do not pile up.
"""

import secrets
from typing import Any, NamedTuple

from egwalker import Document


class Item(NamedTuple):
    """What is shown of one item, at which element, and the positions of all elements that are its copies."""

    id: str
    text: str
    moved: int
    edited: int
    at: int
    copies: list[int]


def items(elements: list[Any]) -> list[Item]:
    """The items that the elements of a list make, in order. Elements that are something else are left out."""
    copies: dict[str, list[int]] = {}
    for at, element in enumerate(elements):
        match element:
            case {"id": str(which), "text": str(), "moved": int(), "edited": int()}:
                copies.setdefault(which, []).append(at)
    found = []
    for which, some in copies.items():
        at = max(some, key=lambda i: elements[i]["moved"])  # the first of the greatest
        text = max(some, key=lambda i: elements[i]["edited"])
        shown = elements[text]
        found.append(Item(which, shown["text"], elements[at]["moved"], shown["edited"], at, some))
    return sorted(found, key=lambda item: item.at)


class SharedList:
    """The items of a list document, and what can be done to them: `LookupError` for one that is gone.

    Each method is one transaction: it holds the document, so that nothing comes from others between looking
    for a position and using it.
    """

    def __init__(self, document: Document) -> None:
        self.document = document

    def items(self) -> list[Item]:
        return items(self.document.content)

    def add(self, text: str) -> str:
        """A new item at the end; its id."""
        new = secrets.token_hex(8)
        with self.document.transaction():
            self._insert(len(self.document), new, text, 0, 0)
        return new

    def edit(self, which: str, text: str) -> None:
        with self.document.transaction():
            item = self._take(which)
            self._insert(self._left(item, item.at), which, text, item.moved, item.edited + 1)

    def move(self, which: str, to: str) -> None:
        """Put an item where another one is, which makes room for it."""
        with self.document.transaction():
            other = self._find(to)
            if which != to:
                item = self._take(which)
                at = other.at + (item.at < other.at)
                self._insert(self._left(item, at), which, item.text, item.moved + 1, item.edited)

    def remove(self, which: str) -> None:
        with self.document.transaction():
            self._take(which)

    def _find(self, which: str) -> Item:
        for item in self.items():
            if item.id == which:
                return item
        raise LookupError("somebody has removed that meanwhile")

    def _take(self, which: str) -> Item:
        """Delete all copies of an item."""
        item = self._find(which)
        for at in reversed(item.copies):
            self.document.delete(at)
        return item

    def _left(self, item: Item, at: int) -> int:
        """Where a position is after the copies of an item have been deleted."""
        return at - sum([copy < at for copy in item.copies])

    def _insert(self, at: int, which: str, text: str, moved: int, edited: int) -> None:
        self.document.insert(at, [{"id": which, "text": text, "moved": moved, "edited": edited}])
