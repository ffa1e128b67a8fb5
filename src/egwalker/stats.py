"""What is in a document, in numbers."""

from typing import Any

from egwalker import encoding
from egwalker.document import Document


def stats(document: Document) -> dict[str, Any]:
    """Counts of a document's history, by name, and the bytes of memory of each part of it. O(runs).

    A *window* is a maximal stretch of events between two critical ones: the concurrency in it must be walked
    as one.

    >>> doc = Document(agent="alice")
    >>> doc.insert(0, "abc"); doc.delete(0)
    >>> found = stats(doc)
    >>> found["events"], found["inserted"], found["deleted"], found["length"], found["windows"]
    (4, 3, 1, 2, 0)
    """
    with document._lock:
        log = document._replica.read()
        graph = log.graph
        base = graph.base
        critical = [(max(start, base), end) for start, end in graph.critical() if end > base]
        edges = [base, *[edge for pair in critical for edge in pair], len(log)]
        windows = [end - start for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]
        inserted = sum([op.length for op in log.ops(base) if op.kind == "insert"])
        return {
            "kind": document.kind,
            "events": len(log),
            "inserted": inserted,
            "deleted": len(log) - base - inserted,
            **({"not_fetched": base} if base else {}),
            "runs": sum([1 for _ in graph.runs(base)]),
            "agents": len(graph.agents),
            "heads": len(graph.frontier),
            "length": len(document),
            "critical": sum([end - start for start, end in critical]),
            "windows": len(windows),
            "largest_window": max(windows, default=0),
            "memory": {**log.memory(), **document._type.memory(document._replica.main)},
        }


COLUMN = "HISTORY."


def encoded_sizes(document: Document) -> dict[str, int]:
    """How many bytes `Document.encode` takes, in all and for each part and column. O(events in runs).

    `content` is the current one, `inserted` what was inserted at any time.
    """
    data = document.encode()
    found = {"total": len(data)}
    for name, size in encoding.parse(data).sizes.items():
        if name.startswith(COLUMN):
            column = name.removeprefix(COLUMN)
            found["inserted" if column == "content" else column] = size
        elif name + "." != COLUMN:
            found[name.lower()] = size
    return found
