"""Documents and updates as bytes: writing and reading them, and how many there are."""

from __future__ import annotations

from functools import cache
from random import Random

from benchmarks import traces
from egwalker import Document
from egwalker.encoding import Link

setup_cache = traces.setup_cache

RANDOM = Random(traces.SEED)


class Writing:
    """A whole document."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.document = traces.finished(trace)

    def time_encode(self, _trace: str) -> None:
        self.document.encode()

    def time_encode_without_content(self, _trace: str) -> None:
        self.document.encode(content=False)

    def time_encode_without_deleted(self, _trace: str) -> None:
        self.document.encode(deleted=False)


class Reading:
    """A document from its bytes in memory."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.whole = encoded(trace, content=True)
        self.history = encoded(trace, content=False)

    def time_content(self, _trace: str) -> None:
        """The text from the content that came along: the history is not read."""
        str(Document.decode(self.whole, agent="reader"))

    def time_replay(self, _trace: str) -> None:
        """The text from the history alone."""
        str(Document.decode(self.history, agent="reader"))

    def time_first_edit(self, _trace: str) -> None:
        """Opened by its content, and typed into: the history is still not read."""
        Document.decode(self.whole, agent="reader").insert(0, "x")

    def time_history(self, _trace: str) -> None:
        """Opened by its content, and then the history is asked for."""
        Document.decode(self.whole, agent="reader").diff([], [])


class Sizes:
    """How many bytes."""

    params = traces.NAMES
    param_names = ("trace",)

    def setup(self, trace: str) -> None:
        self.document = traces.finished(trace)

    def track_document(self, _trace: str) -> int:
        return len(self.document.encode())

    def track_without_content(self, _trace: str) -> int:
        return len(self.document.encode(content=False))

    def track_without_deleted(self, _trace: str) -> int:
        return len(self.document.encode(deleted=False))

    track_document.unit = "bytes"  # type: ignore[attr-defined]
    track_without_content.unit = "bytes"  # type: ignore[attr-defined]
    track_without_deleted.unit = "bytes"  # type: ignore[attr-defined]


class KeystrokeUpdate:
    """One keystroke of somebody else as bytes, taken in by the finished document of S1 (779,334 events).

    Each sample is another keystroke, as in `keystroke.RemoteKeystroke`: 1.5 µs are wanted, and 32 bytes for
    an update that stands alone, 12 over a link.
    """

    params = (("typing", "random", "concurrent"), ("alone", "link"))
    param_names = ("keystroke", "update")
    number = 1
    repeat = 200
    warmup_time = 0

    def setup(self, keystroke: str, form: str) -> None:
        live = live_pair(form)
        live.type(keystroke)
        self.document, self.update, self.link = live.here, live.update, live.read

    def time_apply(self, _keystroke: str, _form: str) -> None:
        self.document.apply(self.update, link=self.link)

    def track_bytes(self, keystroke: str, form: str) -> int:
        # The first over a link names who types.
        live_pair(form).type(keystroke)
        return len(live_pair(form).update)

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]


class KeystrokeWriting:
    """One keystroke, made and written as an update, in the finished document of S1."""

    number = 1
    repeat = 200
    warmup_time = 0

    def setup(self) -> None:
        self.document = live_pair("alone").there
        self.before = self.document.version_vector
        self.pos = RANDOM.randrange(len(self.document))

    def time_edit_and_encode(self) -> None:
        self.document.insert(self.pos, "x")
        self.document.encode(since=self.before)


class Live:
    """Two replicas of S1's document, between which keystrokes travel: made there, taken in here."""

    def __init__(self, linked: bool) -> None:
        self.here = traces.finished("S1").fork("here again")
        self.there = self.here.fork("there")
        self.written = Link() if linked else None
        self.read = Link() if linked else None
        self.update = b""
        self.pos = 1000

    def type(self, keystroke: str) -> None:
        """Make the next update; the one before is taken in now, if nobody has."""
        if self.here.version_vector.get("there") != self.there.version_vector.get("there"):
            self.here.apply(self.update, link=self.read)
        self.there.merge(self.here)
        self.pos = self.pos + 1 if keystroke == "typing" else RANDOM.randrange(len(self.there))
        if keystroke == "concurrent":
            self.here.insert(RANDOM.randrange(len(self.here)), "y")
        before = self.there.version_vector
        self.there.insert(self.pos, "x")
        self.update = self.there.encode(since=before, link=self.written)


@cache
def live_pair(form: str) -> Live:
    """One a process, for all its samples."""
    return Live(linked=form == "link")


@cache
def encoded(trace: str, content: bool) -> bytes:
    """A trace's document, one a process."""
    return traces.finished(trace).encode(content=content)
