"""Beginning a document in the middle: the content at a version, and what came after that.

The version is one that every event of the document is part of or follows, so that nothing that comes after it
needs what came before. Who begins so can ask for the older history later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from egwalker import encoding
from egwalker.cycore.errors import ContentError
from egwalker.messages import MAX_HEADS, MAX_MESSAGE
from egwalker.versions import joined

if TYPE_CHECKING:
    from egwalker.cycore.graph import Graph
    from egwalker.document import Document
    from egwalker.types import Packed
    from egwalker.versions import VersionVector

MOST_AFTER = 50_000
"""A version with more events after it is not begun at while one without any is at hand."""
MOST_PERFORMED = 5000
"""A version that it takes more operations to get to is not begun at: all other links wait meanwhile."""
MOST_SHARED = 1000
"""With not more events after it, one that was encoded for somebody else will do."""
MOST_KEPT = 4
"""So many that were encoded a document keeps for others who ask."""


class Start(NamedTuple):
    """A document at a version, encoded. The version is made of the local versions before `end`."""

    end: int
    blob: bytes


def latest_start(document: Document, compressed: bool) -> Start | None:
    """What an empty document should begin with, None if with nothing. The caller holds the lock.

    O(content) if the document has one head, else O(events, in runs). Soon after somebody else has begun O(1).
    """
    n = document._events()
    if not n:
        return None
    for end, how in sorted(document._replica.starts, reverse=True):
        if how == compressed and end <= n <= end + MOST_SHARED and is_start(document, end):
            break
    else:
        end = newest_start(document)
    start = encoded_start(document, end, compressed)
    return start if start.end else None


def newest_start(document: Document) -> int:
    """The newest version to begin at, by the local version after it. O(1), of many heads O(runs)."""
    n = end = document._events()
    heads = len(document.version)
    if heads > 1:
        log = document._replica.read()
        end = log.graph.last_critical(n - 1) + 1
        far = n - end > MOST_AFTER or document._type.distance(document._replica.main, end) > MOST_PERFORMED
        if (far or log.erased) and heads <= MAX_HEADS:
            end = n
    return end


def is_start(document: Document, end: int) -> bool:
    """Whether every event is one of the local versions before `end`, or follows all of them.

    That may take the history, which may not be read yet; then what had been encoded is forgotten.
    """
    return end == document._events() or document._replica.read().graph.is_critical(end - 1)


def encoded_start(document: Document, end: int, compressed: bool) -> Start:
    """The document at a version for which `is_start` holds, or at the root. The caller holds the lock.

    It is the root in any case if the version is too large for a message, or what it held was not kept.
    O(content) for the current version, else O(events, in runs).
    """
    if (end, compressed) in document._replica.starts:
        return Start(end, document._replica.starts[end, compressed])
    try:
        summary, content = at_version(document, end)
    except ContentError:
        return encoded_start(document, 0, compressed)
    doc_id, factor = bytes.fromhex(document._id), document._type.cached_factor
    blob = encoding.encode_start(doc_id, summary, content, factor, compressed=compressed)
    if len(blob) > MAX_MESSAGE - 16:
        return encoded_start(document, 0, compressed)
    if end:
        while len(document._replica.starts) >= MOST_KEPT:
            del document._replica.starts[next(iter(document._replica.starts))]
        document._replica.starts[end, compressed] = blob
    return Start(end, blob)


def at_version(document: Document, end: int) -> tuple[encoding.Summary, Packed]:
    """The summary and the content of what the local versions before `end` are. `ContentError`: not kept.

    Nor is it had if a replayed type cannot write its state, or performs too many operations to get there.
    """
    kind = document._type
    if not end:
        document._replica.whole()
        return encoding.Summary(kind.name, 0, [], {}, ()), kind.nothing
    if end == document._events():
        vector, version = document.version_vector, document.version
        content = document._replica.packed()
    else:
        log = document._replica.read()
        main = document._replica.main
        if kind.distance(main, end) > MOST_PERFORMED:
            raise ContentError("it takes too long to get there")
        checkout = kind.earlier(main, [end - 1])
        content, version = kind.cached(checkout), checkout.ids
        vector = vector_before(log.graph, end)
    if content is None:
        raise ContentError(f"a document of kind {kind.name!r} begins with all of its operations")
    return encoding.Summary(kind.name, end, list(vector), vector, version), content


def vector_before(graph: Graph, end: int) -> VersionVector:
    """The version vector of the local versions before `end`. O(runs)."""
    found: VersionVector = graph.base_vector()
    for run in graph.runs(graph.base, end):
        found.setdefault(run.agent, []).append((run.seq, run.seq + run.end - run.start))
    return joined(found, {})
