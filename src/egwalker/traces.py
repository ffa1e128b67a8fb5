"""Recorded editing traces as JSON, which have lost the names of their agents. They are read only.

    {"kind": "concurrent", "endContent": str, "numAgents": int,
     "txns": [{"parents": [index of a txn, ...], "agent": int,
               "patches": [[pos, deleted, inserted], ...]}, ...]}

Agents get their numbers as names, with leading zeros so that names sort as numbers do: in another order of
concurrent inserts at one place, later positions may mean nothing. Seqs are counted in the order of the file.
In the older, sequential form txns have neither parents nor agents. What a trace starts with, its
`startContent`, becomes the first insert.
"""

from itertools import chain
from typing import Any

from egwalker.cycore.errors import ContentError, DecodeError
from egwalker.txns import TxnReader
from egwalker.versions import Version

ONLY_AGENT = 0
"""Who wrote a sequential trace."""


def is_trace(history: dict[str, Any]) -> bool:
    """Whether this is a trace, and not a history that keeps everything."""
    txns = history.get("txns")
    first = txns[0] if isinstance(txns, list) and txns else {}
    has_patches = isinstance(first, dict) and "patches" in first
    return history.get("kind") == "concurrent" or "startContent" in history or has_patches


def read_trace(history: dict[str, Any], reader: TxnReader) -> None:
    """Put all txns of a trace into the reader's log. `DecodeError` names the txn and the field."""
    log = reader.log
    numbers = [txn.get("agent") for txn in history["txns"] if isinstance(txn, dict)]
    digits = len(str(max([number for number in numbers if type(number) is int], default=ONLY_AGENT)))
    root: Version = ()
    start = history.get("startContent", "")
    if start != "":
        agent = f"{ONLY_AGENT:0{digits}}"
        try:
            root = ((agent, log.add(agent, 0, (), [(0, 0, start)]) - 1),)
        except ContentError as error:
            raise DecodeError(f"startContent: {error}") from error
    sequential = False
    tips: list[Version] = []  # by txn, the version after it
    for i, txn in enumerate(reader):
        if i == 0:
            sequential = "parents" not in txn
        if sequential:
            number = ONLY_AGENT
            parents = tips[-1] if tips else root
        else:
            number = reader.integer("agent")
            if number < 0:
                reader.fail("agent", f"should not be negative as {number} is")
            befores = [tips[index] for index in reader.integers("parents", i)]
            parents = tuple(dict.fromkeys(chain.from_iterable(befores))) or root
        agent = f"{number:0{digits}}"
        seq = log.graph.next_seq(agent)
        added = reader.add(agent, seq, parents, "patches", reader.ops("patches"))
        tips.append(((agent, seq + added - 1),) if added else parents)
