from collections.abc import Sequence

from egwalker.cycore.oplog import OpLog

def blame(log: OpLog, version: Sequence[int]) -> list[tuple[str, int, int]]:
    """Who inserted what there is at `version`: `(agent, start, end)` of seqs, in the document's order."""
