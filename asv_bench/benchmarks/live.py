"""A live session that never pauses: one keystroke from elsewhere, however long people have typed at once.

No version is critical then, and each keystroke is concurrent with the last ones made here. It has to cost the
same however many came before.
"""

from __future__ import annotations

from collections import deque

from egwalker import Document, Run

WAITING = 2
"""How many keystrokes of each side are on their way."""


class LiveKeystroke:
    """One keystroke received, after so many by `ann`, whose document it is, and by `bob` each."""

    params = (100, 1_000, 10_000, 50_000)
    param_names = ("typed",)
    number = 1
    repeat = 100
    warmup_time = 0

    def setup(self, typed: int) -> None:
        if getattr(self, "typed", None) != typed:
            self.typed = typed
            self.ann = Document(agent="ann")
            self.ann.insert(0, "." * 1000)
            self.bob = self.ann.fork("bob")
            self.to_ann: deque[Run] = deque()
            self.to_bob: deque[Run] = deque()
            self.typing = 0
            for _ in range(typed):
                self.both_type()
                self.time_receive(typed)
        self.both_type()

    def both_type(self) -> None:
        place = 200 + self.typing % 500
        self.to_bob.append(type_one(self.ann, place, "a"))
        self.to_ann.append(type_one(self.bob, place + 100, "b"))
        self.typing += 1
        while len(self.to_bob) > WAITING:
            self.bob.receive([self.to_bob.popleft()])

    def time_receive(self, _typed: int) -> None:
        if len(self.to_ann) > WAITING:
            self.ann.receive([self.to_ann.popleft()])

    def track_window(self, _typed: int) -> int:
        """What the document keeps of the window, in bytes."""
        return int(self.ann._replica.main.live.memory())

    track_window.unit = "bytes"  # type: ignore[attr-defined]


def type_one(document: Document, pos: int, what: str) -> Run:
    """Insert one code point; its event.

    Who types on follows nothing but what they typed, and means the place that it has there: the parents are
    not all that the document has then, nor is the position the one in it.
    """
    log = document._replica.whole()
    lv = len(log)
    document.insert(pos, what)
    graph = log.graph
    return Run(*graph.id(lv), graph.ids(graph.parents(lv)), tuple(log.edits(lv, lv + 1)))
