"""What deferring the clock saves: a recorded session of several people, typed once more through cursors.

    python asv_bench/deferral.py [--traces DIR] [--rounds N] [NAME]

Each keystroke of the recording is made by its author in a replica of their own, which has received just
what its author had then. Where it does not go on where the last one ended the cursor is moved, as by a key or
the mouse.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import traces

from egwalker import Document, Run
from egwalker.cycore.checkout import Checkout

DOC_ID = "0" * 32


class Keystroke(NamedTuple):
    """One edit of a recording, and how many events of each agent its author had."""

    agent: int
    pos: int
    deleted: int
    inserted: str
    had: list[int]


def keystrokes(recording: dict[str, Any]) -> list[Keystroke]:
    """A recording's edits in its order. Two patches of one txn are two keystrokes."""
    agents = recording["numAgents"]
    tips: list[list[int]] = []  # by txn, how many events of each agent are in the version after it
    made = []
    for txn in recording["txns"]:
        had = [max([tips[parent][agent] for parent in txn["parents"]], default=0) for agent in range(agents)]
        for pos, deleted, inserted in txn["patches"]:
            made.append(Keystroke(txn["agent"], pos, deleted, inserted, list(had)))
            had[txn["agent"]] += deleted + len(inserted)
        tips.append(had)
    return made


def typed_again(recording: dict[str, Any], *, defer: bool) -> list[Run]:
    """The events of the recording as our cursors make them, in the order of the recording."""
    agents = recording["numAgents"]
    docs = [Document(agent=str(agent), id=DOC_ID, defer=defer) for agent in range(agents)]
    cursors = [doc.cursor() for doc in docs]
    made: list[list[Run]] = [[] for _ in range(agents)]
    given = [[0] * agents for _ in range(agents)]
    everything = []
    for agent, pos, deleted, inserted, had in keystrokes(recording):
        doc, cursor = docs[agent], cursors[agent]
        for other in range(agents):
            runs = made[other]
            first = last = given[agent][other]
            while other != agent and last < len(runs) and runs[last].seq < had[other]:
                last += 1
            if last > first:
                doc.receive(runs[first:last])
                given[agent][other] = last
        before = doc.version_vector
        if cursor.position not in (pos, pos + deleted):
            cursor.move(pos + deleted)
        if deleted and cursor.position == pos:
            cursor.delete(deleted)
        elif deleted:
            cursor.backspace(deleted)
        if inserted:
            cursor.insert(inserted)
        new = doc.history(before)
        made[agent] += new
        everything += new
    return everything


def document(runs: list[Run]) -> Document:
    doc = Document(agent="reader", id=DOC_ID)
    doc.receive(runs)
    return doc


def in_groups(doc: Document) -> list[Run]:
    """A document's events in the total order, each group as one run."""
    found = []
    for group in doc.groups():
        vector = doc.version_vector
        ranges = [(s, e) for start, end in vector[group.agent] for s, e in without(start, end, group)]
        found += doc.history({**vector, group.agent: ranges})
    return found


def without(start: int, end: int, group: Any) -> list[tuple[int, int]]:
    first, last = group.seq, group.seq + group.length
    return [(s, e) for s, e in ((start, min(end, first)), (max(start, last), end)) if s < e]


def measured(doc: Document, rounds: int) -> list[float]:
    log = doc._replica.log
    graph = log.graph
    merges = sum(
        run.parents != (graph.lv(run.agent, run.seq - 1),) if run.seq else True for run in graph.runs()
    )
    times = []
    for _ in range(rounds):
        checkout = Checkout(log)
        start = time.perf_counter()
        checkout.merge()
        times.append((time.perf_counter() - start) * 1e3)
    return [
        merges,
        len(doc.groups()),
        len(list(graph.runs())),
        len(doc.encode(content=False)),
        median(times),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What deferring the clock saves in a recorded session.")
    parser.add_argument("name", nargs="?", default="friendsforever")
    parser.add_argument("--traces", type=Path, default=traces.FOLDER)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args(arguments)
    try:
        with gzip.open(traces.find(args.name, args.traces)) as file:
            recording = json.load(file)
    except OSError as error:
        print(f"{args.name}: {error}", file=sys.stderr)
        return 2
    recorded = document(traces.load(args.name, args.traces).document.history())
    columns = {"recorded": recorded}
    for name, defer in (("typed again, not deferred", False), ("typed again, deferred", True)):
        columns[name] = doc = document(typed_again(recording, defer=defer))
        if doc.content != recording["endContent"]:
            print(f"{name}: the text is not the recording's", file=sys.stderr)
            return 1
    columns["the same, sorted"] = document(in_groups(columns["typed again, deferred"]))
    names = ("events that follow others'", "groups", "graph runs", "bytes", "merge, ms")
    table = [measured(doc, args.rounds) for doc in columns.values()]
    print(args.name.ljust(28), *[name.rjust(len(name) + 2) for name in columns])
    for i, name in enumerate(names):
        cells = [f"{row[i]:,.2f}" if isinstance(row[i], float) else f"{row[i]:,}" for row in table]
        cells = [cell.rjust(len(column) + 2) for cell, column in zip(cells, columns, strict=True)]
        print(name.ljust(28), *cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
