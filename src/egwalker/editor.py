"""What an editor of a text does, whatever it is seen on: a caret, a selection, undoing, and others' carets.

Positions are code points, as everywhere; a *cluster* is what one sees as one character, such as a letter and
the accents on it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from egwalker.cycore.errors import EgwalkerError, VersionError
from egwalker.document import Document
from egwalker.events import Change
from egwalker.undo import Steps, Take
from egwalker.versions import Version

NAME_LENGTH = 40
"""Characters of somebody's name that are shown."""
HEADS = 16
"""Heads of the version that is told with a caret, at most."""
ROWS = 2000
"""Rows of the history that are looked at for where a told caret is now, at most."""
NEAR = 64
"""Code points that are looked at for the end of a cluster."""
WORD_LENGTH = 1000
"""And for that of a word."""
GREY = "#5a6068"

JOINER = "\u200d"
FLAGS = range(0x1F1E6, 0x1F200)
TONES = range(0x1F3FB, 0x1F400)


class Person(NamedTuple):
    """Somebody else who is here. `anchor` and `head` are None as long as it is not known where that is."""

    name: str
    color: str
    anchor: int | None
    head: int | None


class Editor:
    """Edits a document at one caret. Only what is done here is undone.

    `changed` is called after each change, with whether it was made here. The caret is a `Cursor`, so that
    what one types on stays one run until the caret is moved.
    """

    def __init__(self, document: Document, changed: Callable[[bool], None] | None = None) -> None:
        self.document = document
        self.caret = document.cursor()
        self.anchor: int | None = None
        self.people: dict[str, Person] = {}
        self.top = 0
        """Where what is seen begins: it follows the text as a caret does."""
        self._states: dict[str, Any] = {}  # of people who are not where they say yet
        self._done = Steps()
        self._undone = Steps()
        self._open = False  # whether typing goes on with the last step
        self._changed = changed
        self._subscription = document.subscribe(self._follow)

    def close(self) -> None:
        """Let go of the document."""
        self._subscription.close()
        self.caret.close()

    # --- the caret ------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self.caret.position

    @property
    def selection(self) -> tuple[int, int] | None:
        """What is selected, from where to where."""
        if self.anchor is None or self.anchor == self.position:
            return None
        return min(self.anchor, self.position), max(self.anchor, self.position)

    def move(self, to: int, select: bool = False) -> None:
        """Put the caret somewhere, by key or mouse: what is typed then follows all that one sees."""
        if not select:
            self.anchor = None
        elif self.anchor is None:
            self.anchor = self.position
        self.caret.move(max(0, min(to, len(self.document))))
        self._open = False

    def select(self, start: int, end: int) -> None:
        """Select from `start` to `end`, where the caret is then."""
        self.move(start)
        self.move(end, select=True)

    def selected(self) -> str:
        """The text that is selected."""
        found: str = self.document.slice(*self.selection) if self.selection else ""
        return found

    def after(self, pos: int) -> int:
        """Where the cluster at `pos` ends."""
        text = self.document.slice(pos, min(pos + NEAR, len(self.document)))
        return pos + cluster(text, 0) if text else pos

    def before(self, pos: int) -> int:
        """Where the cluster before `pos` begins."""
        start = max(0, pos - NEAR)
        text = self.document.slice(start, pos)
        # A line break is never within a cluster.
        at = text.rfind("\n", 0, max(len(text) - 1, 0)) + 1
        while at < len(text) and at + (length := cluster(text, at)) < len(text):
            at += length
        return start + at if text else pos

    def word_after(self, pos: int) -> int:
        """Where the word at or after `pos` ends."""
        text = self.document.slice(pos, min(pos + WORD_LENGTH, len(self.document)))
        found = re.match(r"\W*\w*", text)
        return self.after(pos) if not found or not found.end() else pos + found.end()

    def word_before(self, pos: int) -> int:
        """Where the word before `pos` begins."""
        text = self.document.slice(max(0, pos - WORD_LENGTH), pos)[::-1]
        found = re.match(r"\W*\w*", text)
        return self.before(pos) if not found or not found.end() else pos - found.end()

    # --- editing --------------------------------------------------------------------------------------------

    def insert(self, text: str) -> None:
        """Type or paste, in place of what is selected. What no text can hold becomes U+FFFD."""
        text = re.sub("[\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
        if not text:
            return
        replaces = self._erase()
        at = self.position
        # A step is a word with the space behind it, or what was pasted.
        goes_on = self._open and not replaces and at > 0 and len(text) == 1
        goes_on = goes_on and (text.isspace() or not self.document.slice(at - 1, at).isspace())
        self.caret.insert(text)
        made = Take(at, self.position - at)
        last = self._done.last()
        if replaces:
            self._done.replace([made, *last])
        elif goes_on and last and not last[0].length and last[0].pos + last[0].deleted == at:
            self._done.replace([Take(last[0].pos, self.position - last[0].pos), *last[1:]])
        else:
            self._done.push([made])
        self._open = True
        self._undone.clear()

    def erase(self, to: int) -> None:
        """Delete what is selected, else from the caret to `to`."""
        if self._erase():
            return
        at = self.position
        gone = self.document.slice(min(at, to), max(at, to))
        if not gone:
            return
        if to < at:
            self.caret.backspace(at - to)
        else:
            self.caret.delete(to - at)
        last = self._done.last() if self._open else []
        if len(last) == 1 and last[0].length and last[0].pos == at:
            self._done.replace(
                [given_back(min(at, to), gone + last[0].text if to < at else last[0].text + gone)]
            )
        else:
            self._done.push([given_back(min(at, to), gone)])
        self._open = True
        self._undone.clear()

    def _erase(self) -> bool:
        """Delete what is selected, if there is something: one step, to which typing adds."""
        if self.selection is None:
            self.anchor = None
            return False
        start, end = self.selection
        gone = self.document.slice(start, end)
        if self.position == start:
            self.caret.delete(end - start)
        else:
            self.caret.backspace(end - start)
        self.anchor = None
        self._done.push([given_back(start, gone)])
        self._open = False
        self._undone.clear()
        return True

    def undo(self) -> bool:
        """Take back the last step that was done here; whether there was one."""
        return self._take_back(self._done, self._undone)

    def redo(self) -> bool:
        """Do again what was undone last; whether there was something."""
        return self._take_back(self._undone, self._done)

    def _take_back(self, source: Steps, target: Steps) -> bool:
        self._open, self.anchor = False, None
        back: list[Take] = []
        for pos, deleted, length, text in source.pop():
            if deleted:
                back.append(given_back(pos, self.document.slice(pos, pos + deleted)))
                self.caret.move(pos)
                self.caret.delete(deleted)
            else:
                back.append(Take(pos, length))
                self.caret.move(pos)
                self.caret.insert(text)
        if back:
            target.push(back[::-1])
        return bool(back)

    def _follow(self, change: Change) -> None:
        if not change.local:
            self._done.follow(change.edits)
            self._undone.follow(change.edits)
        for pos, deleted, inserted in change.edits:
            length = len(inserted)

            def moved(place: int | None, pos: int = pos, deleted: int = deleted, length: int = length) -> Any:
                if place is None:
                    return None
                place -= min(deleted, max(place - pos, 0))
                return place + length if place > pos else place

            self.anchor = moved(self.anchor)
            self.top = moved(self.top)
            for key, who in self.people.items():
                self.people[key] = who._replace(anchor=moved(who.anchor), head=moved(who.head))
        for key in list(self._states):
            self.see(key, self._states[key])
        if self._changed is not None:
            self._changed(change.local)

    # --- others ---------------------------------------------------------------------------------------------

    def see(self, key: str, state: Any) -> None:
        """Somebody's presence has changed, as `on_presence` tells it."""
        self._states.pop(key, None)
        if not isinstance(state, dict):
            self.people.pop(key, None)
            return
        color = state.get("color")
        if not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
            color = GREY
        old = self.people.get(key)
        anchor, head = (old.anchor, old.head) if old else (None, None)
        version = told_version(state.get("version"))
        try:
            head, anchor = [self._place(state.get(end), version) for end in ("head", "anchor")]
        except VersionError:
            self._states[key] = state
        self.people[key] = Person(
            shown_name(state.get("name")), color, head if anchor is None else anchor, head
        )

    def presence(self, name: str, color: str) -> dict[str, Any]:
        """What to tell others of this caret."""
        at, version = self.position, self.document.version
        anchor = at if self.anchor is None else self.anchor
        state = {"name": name, "color": color, "anchor": anchor, "head": at}
        return {**state, "version": version} if len(version) <= HEADS else state

    def _place(self, told: object, version: Version | None) -> int | None:
        """Where it is now that somebody says to be at a version. `VersionError` if that has not come yet.

        If they tell no version, or one from so long ago that it would be much work, as if told for this one.
        """
        if not isinstance(told, int) or isinstance(told, bool):
            return None
        document, found = self.document, None
        if version is not None:
            try:
                with document._lock:
                    found = document._map_position(told, version, ROWS)
            except VersionError:
                raise
            except EgwalkerError:
                pass
        return max(0, min(told, len(document))) if found is None else found


def given_back(pos: int, text: str) -> Take:
    """What undoes the deletion of a text."""
    return Take(pos, 0, len(text), text)


def told_version(told: object) -> Version | None:
    """The version that somebody told with a caret; None for what is none."""
    if not isinstance(told, (list, tuple)) or len(told) > HEADS:
        return None
    ids = []
    for found in told:
        match found:
            case [str(agent), int(seq)]:
                ids.append((agent, seq))
            case _:
                return None
    return tuple(sorted(ids))


def extends(char: str) -> bool:
    """Whether a code point belongs to the one before it."""
    return (
        unicodedata.category(char) in ("Mn", "Me", "Mc")
        or char in (JOINER, "\u200c")
        or ord(char) in TONES
        or 0xE0020 <= ord(char) <= 0xE007F
    )


def cluster(text: str, at: int) -> int:
    """How many code points the cluster at `at` has: at least one.

    It has what extends its first one, what is joined to that, and a second letter of a flag.
    """
    end = at + 1
    if ord(text[at]) in FLAGS and end < len(text) and ord(text[end]) in FLAGS:
        end += 1
    if text[at] == "\n":
        return 1
    while end < len(text):
        joined = text[end - 1] == JOINER and text[end].isprintable() and not text[end].isalnum()
        if not (extends(text[end]) or joined) or text[end].isspace():
            break
        end += 1
    return end - at


def shown_name(name: object) -> str:
    """What somebody says their name is, fit to be shown: what cannot be seen, or turns text, is marked."""
    text = name.strip() if isinstance(name, str) else ""
    marks = ("Cc", "Cf", "Cs", "Zl", "Zp")
    text = "".join(["\ufffd" if unicodedata.category(char) in marks else char for char in text])
    return f"{text[: NAME_LENGTH - 1]}…" if len(text) > NAME_LENGTH else text or "Somebody"
