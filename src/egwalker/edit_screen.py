"""The editor on a terminal, by prompt_toolkit: rows, keys, mouse, and who else is here."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, HSplit, Layout, UIContent, UIControl, Window
from prompt_toolkit.mouse_events import MouseButton, MouseEvent, MouseEventType
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from egwalker.edit_rows import Row, Rows
from egwalker.editor import Editor

SCROLLED = 3
"""Rows that a turn of the wheel scrolls."""
COPIED = 100_000
"""Code points that are given to the terminal's clipboard at most."""
HELP = "Ctrl-Q leave  Ctrl-Z undo  Ctrl-Y redo"

STYLE = Style.from_dict({"status": "reverse", "selected": "reverse", "past": "#808080"})


def ink_on(color: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 299 * red + 587 * green + 114 * blue > 128_000 else "#ffffff"


def worn(color: str) -> str:
    """The style of what is shown in somebody's colour."""
    return f"bg:{color} fg:{ink_on(color)}"


class TextControl(UIControl):
    """Shows the rows of a document around the caret, and does what the mouse says."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.rows = Rows(editor.document, get_cwidth)
        self.height = 1
        self.follows = True  # whether what is seen goes with the caret
        self.goal: int | None = None  # the column that going up and down keeps to
        self._seen: list[Row] = []
        self._pressed = False

    def is_focusable(self) -> bool:
        return True

    def create_content(self, width: int, height: int) -> UIContent:
        editor, rows = self.editor, self.rows
        rows.width, self.height = width, height
        at = editor.position
        seen = rows.seen(editor.top, height)
        if self.follows and not any(row.holds(at) for row in seen):
            above = at < seen[0].start
            editor.top = rows.up(at, 0 if above else height - 1).start
            seen = rows.seen(editor.top, height)
        elif editor.top != seen[0].start:
            editor.top = seen[0].start
        self._seen = seen
        where = next((y for y, row in enumerate(seen) if row.holds(at)), None)
        return UIContent(
            get_line=self._line,
            line_count=len(seen),
            cursor_position=Point(0, 0) if where is None else Point(self._cell(seen[where], at), where),
            show_cursor=where is not None,
        )

    @staticmethod
    def _cell(row: Row, pos: int) -> int:
        """How many characters are shown before a place, as prompt_toolkit counts."""
        return len("".join(row.shown[: pos - row.start]))

    def _line(self, y: int) -> StyleAndTextTuples:
        row = self._seen[y]
        styles = [""] * (len(row.shown) + 1)
        start, end = self.editor.selection or (0, 0)
        for at in range(max(start, row.start), min(end, row.end + row.last)):
            styles[at - row.start] = "class:selected"
        names: StyleAndTextTuples = []
        for who in self.editor.people.values():
            if who.head is None or who.anchor is None:
                continue
            low, high = sorted((who.anchor, who.head))
            for at in range(max(low, row.start), min(high, row.end + row.last)):
                styles[at - row.start] += f" underline fg:{who.color}"
            if row.holds(who.head):
                styles[who.head - row.start] = worn(who.color)
                names += [("", " "), (worn(who.color), who.name)]
        # Behind the last one there is something to click on, and room for a caret.
        found: StyleAndTextTuples = list(zip(styles, [*row.shown, " "], strict=True))
        room = self.rows.width - 1 - get_cwidth("".join(row.shown))
        for style, text, *_ in names:
            room -= get_cwidth(text)
            if room >= 0:
                found.append((style, text))
        return found

    def mouse_handler(self, mouse_event: MouseEvent) -> object:
        kind = mouse_event.event_type
        if kind in (MouseEventType.SCROLL_UP, MouseEventType.SCROLL_DOWN):
            self.scroll(-SCROLLED if kind == MouseEventType.SCROLL_UP else SCROLLED)
            return None
        if kind == MouseEventType.MOUSE_UP:
            self._pressed = False
            return None
        drags = kind == MouseEventType.MOUSE_MOVE and self._pressed
        if not self._seen or not (
            drags or (kind == MouseEventType.MOUSE_DOWN and mouse_event.button == MouseButton.LEFT)
        ):
            return NotImplemented
        row = self._seen[min(mouse_event.position.y, len(self._seen) - 1)]
        pos, left = row.start, mouse_event.position.x
        for piece in row.shown:
            if left < len(piece) or (pos + 1 == row.end and not row.last):
                break
            left -= len(piece)
            pos += 1
        if not drags or pos != self.editor.position:
            self.editor.move(pos, select=drags)
        self._pressed, self.follows, self.goal = True, True, None
        return None

    def scroll(self, n: int) -> None:
        """Look `n` rows further down, wherever the caret is."""
        top, rows = self.editor.top, self.rows
        self.editor.top = (rows.up(top, -n) if n < 0 else rows.down(top, n)).start
        self.follows = False

    def go(self, to: int, select: bool) -> None:
        """Move the caret."""
        self.editor.move(to, select)
        self.follows, self.goal = True, None

    def go_rows(self, n: int, select: bool) -> None:
        """Move the caret `n` rows down, or up if that is negative."""
        editor, rows = self.editor, self.rows
        at = editor.position
        here = rows.row(at)
        goal = rows.column(here, at) if self.goal is None else self.goal
        there = rows.up(at, -n) if n < 0 else rows.down(at, n)
        if there.start == here.start:  # there is no other row
            there, column = here, 0 if n < 0 else rows.width
        else:
            column = goal
        self.go(rows.place(there, column), select)
        self.goal = goal


class Screen:
    """The application: `words()` is what the last row says, `leave` is called by who wants to leave."""

    def __init__(
        self,
        editor: Editor,
        words: Callable[[], str],
        leave: Callable[[], None],
        writable: Callable[[], bool],
        terminal: tuple[Input, Output] | None = None,
    ) -> None:
        self.editor = editor
        self.text = TextControl(editor)
        self._words = words
        self._clip = ""
        status = Window(FormattedTextControl(self._status), height=1, style="class:status")
        self.app: Application[None] = Application(
            Layout(HSplit([Window(self.text), status])),
            key_bindings=self._keys(leave, Condition(writable)),
            style=STYLE,
            full_screen=True,
            mouse_support=True,
            min_redraw_interval=0.01,
            input=terminal[0] if terminal else None,
            output=terminal[1] if terminal else None,
        )
        # An Escape alone is told from the start of a key's sequence by waiting.
        self.app.ttimeoutlen = 0.05

    def _status(self) -> StyleAndTextTuples:
        found: StyleAndTextTuples = [("", f" {self._words()}  ")]
        people = sorted(self.editor.people.values())
        if people:
            found.append(("", "here: "))
            for who in people:
                found += [(f"noreverse {worn(who.color)}", f" {who.name} "), ("", " ")]
        else:
            found.append(("", "nobody else is here "))
        return [*found, ("", f" {HELP}")]

    def copy(self) -> None:
        """Put what is selected on the clipboard: this editor's, and that of the terminal if it has one."""
        if text := self.editor.selected():
            self._clip = text
            if len(text) <= COPIED:
                self.app.output.write_raw(f"\x1b]52;c;{b64encode(text.encode()).decode()}\a")
                self.app.output.flush()

    def _keys(self, leave: Callable[[], None], writable: Condition) -> KeyBindings:
        found = KeyBindings()
        editor, text = self.editor, self.text

        def key(*names: str, edits: bool = False) -> Callable[[Callable[[KeyPressEvent], Any]], Any]:
            def bind(run: Callable[[KeyPressEvent], Any]) -> Any:
                def pressed(event: KeyPressEvent) -> None:
                    if edits:
                        text.follows, text.goal = True, None
                    run(event)

                for name in names:
                    found.add(name, filter=writable if edits else True)(pressed)
                return run

            return bind

        def moves(name: str, run: Callable[[bool], None]) -> None:
            key(name)(lambda _: run(False))
            shifted = name.replace("c-", "c-s-") if name.startswith("c-") else f"s-{name}"
            if name not in ("pageup", "pagedown"):
                key(shifted)(lambda _: run(True))

        moves("left", lambda select: text.go(self._side(editor.before, 0, select), select))
        moves("right", lambda select: text.go(self._side(editor.after, 1, select), select))
        moves("c-left", lambda select: text.go(editor.word_before(editor.position), select))
        moves("c-right", lambda select: text.go(editor.word_after(editor.position), select))
        moves("up", lambda select: text.go_rows(-1, select))
        moves("down", lambda select: text.go_rows(1, select))
        moves("pageup", lambda select: text.go_rows(-max(text.height - 1, 1), select))
        moves("pagedown", lambda select: text.go_rows(max(text.height - 1, 1), select))
        moves("home", lambda select: text.go(text.rows.row(editor.position).start, select))
        moves("end", lambda select: text.go(self._row_end(), select))
        moves("c-home", lambda select: text.go(0, select))
        moves("c-end", lambda select: text.go(len(editor.document), select))

        @key(Keys.Any, edits=True)
        def _(event: KeyPressEvent) -> None:
            # Keys that have a name and do nothing here come, too.
            if len(event.key_sequence[0].key) == 1:
                editor.insert(event.data)

        key(Keys.BracketedPaste, edits=True)(lambda event: editor.insert(event.data))
        key("enter", "c-j", edits=True)(lambda _: editor.insert("\n"))
        key("tab", edits=True)(lambda _: editor.insert("\t"))
        key("backspace", edits=True)(lambda _: editor.erase(editor.before(editor.position)))
        key("delete", edits=True)(lambda _: editor.erase(editor.after(editor.position)))
        key("c-w", edits=True)(lambda _: editor.erase(editor.word_before(editor.position)))
        key("c-delete", edits=True)(lambda _: editor.erase(editor.word_after(editor.position)))
        key("c-z", edits=True)(lambda _: editor.undo())
        key("c-y", edits=True)(lambda _: editor.redo())
        key("c-v", edits=True)(lambda _: editor.insert(self._clip))
        key("c-c")(lambda _: self.copy())
        key("c-a")(lambda _: editor.select(0, len(editor.document)))
        key("escape")(lambda _: text.go(editor.position, False))
        key("c-q", "<sigint>")(lambda _: leave())

        @key("c-x", edits=True)
        def _(_: KeyPressEvent) -> None:
            if editor.selection:
                self.copy()
                editor.erase(editor.position)

        return found

    def _side(self, step: Callable[[int], int], end: int, select: bool) -> int:
        """A cluster further; out of a selection, its end."""
        if self.editor.selection and not select:
            return self.editor.selection[end]
        return step(self.editor.position)

    def _row_end(self) -> int:
        row = self.text.rows.row(self.editor.position)
        return row.end if row.last else max(row.start, self.editor.before(row.end))
