"""How much memory a piece of work takes at its worst moment."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def peak_growth(work: Callable[[], object]) -> int | None:
    """By how many bytes the process's resident memory grows, at most, while `work` runs.

    None where the system cannot tell, which Linux can. What the process freed before has to be given back
    first, or the work would reuse it unseen; for the same reason a fresh process measures best.
    """
    gc.collect()
    # glibc only; other allocators give back what they give back.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return None
    before = resident("VmRSS")
    result = work()
    after = resident("VmHWM")
    del result
    return after - before


def resident(field: str) -> int:
    """A field of the process's status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10
