"""The recorded histories that the benchmarks run on, and how they get from their files to each benchmark.

They lie outside the repository, in the folder `shared` beside it or where `EGWALKER_SHARED` says.
"""

from __future__ import annotations

import functools
import os
import pickle
from pathlib import Path

from egwalker import Document, Run, formats
from egwalker.cycore.checkout import Checkout
from egwalker.cycore.oplog import OpLog
from egwalker.json_history import Loaded

SHARED = Path(os.environ.get("EGWALKER_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FOLDER = SHARED / "traces"

WHOLE = ("S1", "C1", "A1", "A2")
"""One or two authors in turn (S), two at once (C), branches of many (A)."""
NAMES = (*WHOLE, "automerge-paper", "friendsforever")
SEED = 20240914


def find(name: str, folder: Path = FOLDER) -> Path:
    """The file of a trace; `FileNotFoundError` if the folder has none of that name."""
    for suffix in (".json.gz", "-raw.json.gz"):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no trace {name} ({name}.json.gz or {name}-raw.json.gz) in {folder}")


def load(name: str, folder: Path = FOLDER) -> Loaded:
    """A trace as the package itself reads it."""
    return formats.load(find(name, folder))


def graph(runs: list[Run]) -> OpLog:
    """The event graph of runs, parents before children, that `Document.history` gave."""
    log = OpLog()
    for run in runs:
        log.add(*run)
    return log


# asv calls this once for all benchmark files that name it, in the folder that they run in afterwards. Parsing
# JSON takes much longer than most benchmarks, and each of these has a process of its own.
def setup_cache() -> None:
    """Leave the runs of every trace that is there in a file of its own, to be found by `recorded`."""
    for name in NAMES:
        try:
            loaded = load(name)
        except FileNotFoundError:
            continue
        Path(f"{name}.runs").write_bytes(pickle.dumps(loaded.document.history()))


setup_cache.timeout = 600  # type: ignore[attr-defined]  # seconds; how asv wants to be told


@functools.cache
def recorded(name: str) -> OpLog:
    """The event graph of a trace, one a process: copy it to change it.

    `NotImplementedError`, by which asv skips the benchmark, if the trace is absent.
    """
    try:
        data = Path(f"{name}.runs").read_bytes()
    except FileNotFoundError:
        raise NotImplementedError(f"there is no trace {name} in {FOLDER}") from None
    return graph(pickle.loads(data))


@functools.cache
def finished(name: str) -> Document:
    """The document of a trace, edited by "here". One a process: fork it to change it."""
    document = Document(agent="here")
    log = recorded(name)
    document.receive(
        [
            Run(
                run.agent,
                run.seq,
                tuple(map(log.graph.id, run.parents)),
                tuple(log.edits(run.start, run.end)),
            )
            for run in log.graph.runs()
        ]
    )
    return document


def checkout(log: OpLog, version: tuple[int, ...]) -> Checkout:
    """What a log holds at a version."""
    found = Checkout(log)
    found.merge(version)
    return found
