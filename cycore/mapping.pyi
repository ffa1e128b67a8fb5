from collections.abc import Sequence

from egwalker.cycore.oplog import OpLog

def map_position(
    log: OpLog, version: Sequence[int], later: Sequence[int], pos: int, length: int, rows: int | None = None
) -> tuple[int, int] | None:
    """Where `pos` of `version` is in `later`, which has `length` elements, and how many `version` has.

    None if more than `rows` rows of the log would have to be walked.
    """
