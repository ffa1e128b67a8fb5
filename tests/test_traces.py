"""Every recorded trace reaches its text."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import generate
import oracle
import pytest
from deliver import runs
from oracle import Txn

from egwalker import Document, json_history

LENGTHS = {
    "automerge-paper": 104_852,
    "friendsforever": 21_362,
    "node_nodecc-raw": 38_142,
    "git-makefile-raw": 113_676,
    "S1": 314_556,
    "C1": 534_050,
    "A1": 38_142,
    "A2": 227_352,
}
EVENTS = {
    "automerge-paper": 259_778,
    "friendsforever": 26_078,
    "node_nodecc-raw": 947_337,
    "git-makefile-raw": 348_819,
    "S1": 779_334,
    "C1": 651_950,
    "A1": 947_337,
    "A2": 697_638,
}
ONLY_LENGTH = {"A2"}
"""Agents' names break its ties, and its JSON form has lost them."""


@cache
def parsed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def trace(folder: Path, name: str) -> Path:
    path = folder / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path


def events_in(doc: Document) -> int:
    return sum(end - start for spans in doc.version_vector.values() for start, end in spans)


@pytest.mark.parametrize("name", LENGTHS)
def test_trace(traces_folder: Path, name: str) -> None:
    path = trace(traces_folder, name)
    loaded = json_history.loads(path.read_bytes(), agent="reader")
    assert len(loaded.document) == LENGTHS[name]
    assert events_in(loaded.document) == EVENTS[name]
    if name not in ONLY_LENGTH:
        assert loaded.text_matches is True
        assert loaded.document.content == parsed(path)["endContent"]


def twice(txns: list[Txn], frontier: oracle.Version) -> list[Txn]:
    """A history and the same once more on top of it, in front of its text."""
    last: dict[str, int] = {}
    for txn in txns:
        last[txn.agent] = max(last.get(txn.agent, 0), txn.seq + txn.length)
    again = [
        txn._replace(
            seq=txn.seq + last[txn.agent],
            parents=tuple((agent, seq + last[agent]) for agent, seq in txn.parents) or frontier,
        )
        for txn in txns
    ]
    return txns + again


def test_a2_with_its_agents(traces_folder: Path) -> None:
    """A2 is git-makefile twice: with the names of the agents, its text can be told."""
    history = parsed(trace(traces_folder, "git-makefile-raw"))
    txns = oracle.read_history(history)
    once = Document("text", agent="reader")
    once.receive(runs(txns))
    assert once.content == history["endContent"]
    doc = Document("text", agent="reader")
    doc.receive(runs(twice(txns, once.version)))
    assert events_in(doc) == EVENTS["A2"]
    assert doc.content == history["endContent"] * 2
    assert len(doc) == len(parsed(trace(traces_folder, "A2"))["endContent"])
    assert doc.checkout(once.version) == once.content


@pytest.mark.parametrize("name", ["git-makefile-raw", "node_nodecc-raw"])
def test_pieces_in_another_order(traces_folder: Path, name: str) -> None:
    """Long-lived branches that come in another causal order, a part at a time, merged after each part."""
    history = parsed(trace(traces_folder, name))
    rng = Random(name)
    txns = generate.causal_order(rng, generate.pieces(rng, oracle.read_history(history), cut=0.1))
    doc, other = Document("text", agent="reader"), Document("text", agent="writer")
    part = len(txns) // 7 + 1
    for start in range(0, len(txns), part):
        target, source = (doc, other) if rng.random() < 0.5 else (other, doc)
        target.merge(source)
        target.receive(runs(txns[start : start + part]))
    doc.merge(other)
    assert doc.content == history["endContent"]
    assert doc.pending == 0
