from typing import final

from egwalker.cycore.walker import Walker

@final
class LiveWindow:
    """The part of a document's history that its next merge need not walk again."""

    def __init__(self, walker: Walker) -> None: ...
    def __len__(self) -> int: ...
    @property
    def moved(self) -> int:
        """How much has been retreated and advanced."""
    def memory(self) -> int:
        """Bytes allocated for it."""
    def _check(self) -> None: ...
