from typing import final

@final
class Caret:
    """Where a document's agent types, and the run that is typed there."""

    defer: bool
    """Whether what is typed on keeps the parents that it began with."""
    state: tuple[bool, bool, int, int, int, int, int]
    """Everything about the run, for putting it back."""
    @property
    def open(self) -> bool: ...
    @property
    def apart(self) -> bool:
        """Whether the document has events that the run does not know."""
    def close(self) -> None:
        """Let the next edit follow all that the document has."""
    def leave(self, pos: int) -> None:
        """The same, if the run goes on at `pos`."""
