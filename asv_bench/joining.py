"""How long somebody who has nothing waits for the text of a recorded history, and how many bytes that takes.

    python asv_bench/joining.py [--traces DIR] [--rounds N] NAME ...

An empty document is linked to the finished one, by two sessions in this process, without a network: once for
all of the history, once `shallow`, for the content alone; then it asks for the rest. Prints one JSON line a
trace and way: `bytes` of what the server said until the text was there, `ms` until then (the median;
`first_ms` for the first of those who come: later ones share what was encoded for it), and `history_bytes` and
`history_ms` for what was before. Exit codes: 0, 1 if a text was wrong, 2 if a trace is not there.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import traces

from egwalker import Document
from egwalker.session import Session


class Joined(NamedTuple):
    """How somebody began."""

    said: int
    seconds: float
    right: bool
    history_said: int = 0
    history_seconds: float = 0.0


def talk(server: Session, client: Session) -> int:
    """Let both talk until there is silence; how many bytes the server said."""
    said = 0
    silent = False
    while not silent:
        silent = True
        while (message := client.poll()) is not None:
            server.receive(message)
            silent = False
        while (message := server.poll()) is not None:
            said += len(message)
            client.receive(message)
            silent = False
    return said


def join(server: Document, shallow: bool) -> Joined:
    """Begin with nothing."""
    client = Document(server.kind)
    ends = Session(server), Session(client, shallow=shallow)
    gc.collect()
    start = time.perf_counter()
    said = talk(*ends)
    right = client.content == server.content
    seconds = time.perf_counter() - start
    if not shallow:
        return Joined(said, seconds, right)
    right = right and bool(client.start)
    start = time.perf_counter()
    ends[1].fetch()
    history_said = talk(*ends)
    history = time.perf_counter() - start
    right = right and client.version_vector == server.version_vector and not client.start
    return Joined(said, seconds, right, history_said, history)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--traces", type=Path, default=traces.FOLDER)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("names", nargs="+", metavar="NAME")
    args = parser.parse_args(arguments)
    wrong = False
    for name in args.names:
        try:
            server = traces.load(name, args.traces).document
        except OSError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for shallow in False, True:
            rounds = [join(server, shallow) for _ in range(args.rounds)]
            wrong = wrong or not all(joined.right for joined in rounds)
            line = {
                "trace": name,
                "events": server.events,
                "text": len(str(server).encode()),
                "shallow": shallow,
                "bytes": rounds[0].said,
                "ms": round(1000 * median(joined.seconds for joined in rounds), 2),
                "first_ms": round(1000 * rounds[0].seconds, 2),
            }
            if shallow:
                line["history_bytes"] = rounds[0].history_said
                line["history_ms"] = round(1000 * median(joined.history_seconds for joined in rounds), 1)
            print(json.dumps(line), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
