"""Which document a history is of, where nothing says so.

What is imported must be the same document wherever that is done, so that it can be merged with itself: its id
comes from what is imported.
"""

from hashlib import blake2b

from egwalker.cycore.checkout import Checkout
from egwalker.cycore.oplog import OpLog
from egwalker.document import Document
from egwalker.plugin_manager import document_type
from egwalker.replica import Replica

TEXT = "text"


def derived_id(kind: str, log: OpLog) -> str | None:
    """The id of a history that has none: it comes from its first event, which all replicas of it hold.

    Of several events without parents it is the one with the smallest agent and seq. None for an empty
    history. O(rows).
    """
    roots = [(run.agent.encode(), run.seq, run.start) for run in log.graph.runs() if not run.parents]
    if not roots:
        return None
    agent, seq, lv = min(roots)
    op = next(log.ops(lv, lv + 1))
    return digest("history", kind, agent.decode(), str(seq), op.kind, str(op.pos), *op.content)


def imported_text(text: str, agent: str | None = None) -> Document:
    """A document that begins with a plain text, to be edited by `agent`.

    The same text gives the same document: its id, and the agent and seqs of its events, come from the text.
    `ContentError` for what is no text.

    >>> a, b = imported_text("notes", "alice"), imported_text("notes", "bob")
    >>> a.insert(5, "!"); b.insert(0, "My ")
    >>> a.merge(b) and a.content
    'My notes!'
    """
    doc_id = digest("text", text)
    kind = document_type(TEXT)
    log = OpLog()
    log.add(f"import-{doc_id[:16]}", 0, (), [(0, 0, text)])
    main = Checkout(log)
    main.merge()
    return Document._of(Replica(kind, main), agent, doc_id)


def digest(*parts: str) -> str:
    """An id, another one for other parts."""
    found = blake2b(digest_size=16)
    for part in parts:
        # Lone surrogates are refused elsewhere, by an error that says so.
        encoded = part.encode(errors="surrogatepass")
        found.update(len(encoded).to_bytes(8, "little") + encoded)
    return found.hexdigest()
