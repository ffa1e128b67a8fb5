from collections.abc import Sequence
from typing import final

from egwalker.cycore.caret import Caret
from egwalker.cycore.live import LiveWindow
from egwalker.cycore.oplog import Content, OpLog
from egwalker.cycore.rope import Rope
from egwalker.cycore.walker import Edit

@final
class Checkout:
    """The document's elements at one version, to begin with that at which the log begins."""

    def __init__(self, log: OpLog, empty: bool = False) -> None:
        """`empty`: the elements are to be taken over from another one."""
    @property
    def log(self) -> OpLog: ...
    @property
    def rope(self) -> Rope: ...
    @property
    def live(self) -> LiveWindow: ...
    @property
    def caret(self) -> Caret: ...
    @property
    def version(self) -> tuple[int, ...]: ...
    @property
    def ids(self) -> tuple[tuple[str, int], ...]: ...
    def __len__(self) -> int: ...
    def merge(self, version: Sequence[int] | None = None, edits: bool = False) -> list[Edit]:
        """Bring in `version` (default: the log's frontier); the edits made, if asked for."""
    def insert(self, agent: str, pos: int, content: Content) -> int:
        """Append a local insert on top of `version`; returns its first local version."""
    def delete(self, agent: str, pos: int, length: int) -> int: ...
    def content(self, start: int = 0, end: int | None = None) -> Content: ...
    def copy(self, log: OpLog) -> Checkout: ...
    def map_position(self, version: Sequence[int], pos: int, rows: int | None = None) -> int | None:
        """Where a position of `version` is here; None if more than `rows` rows would have to be looked at."""
    def move(self, log: OpLog) -> None:
        """Go on over a log that has older events too."""
    def restart(self) -> None:
        """Make the content of the log's frontier anew."""
    def _check(self) -> None: ...
