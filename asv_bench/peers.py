"""Time this engine beside pycrdt (Yrs) and loro, in one run.

    python asv_bench/peers.py S1 C1 A1 A2

Takes the names of traces. Each library makes the text of each trace, in turn, round after round: pycrdt and
loro from an update in their own format, this package from its event graph in memory. Prints one JSON line a
trace and library on stdout, and what people want to know on stderr. `ratio` is our time over the library's,
in our own line over pycrdt's; `target` is the largest ratio wanted. Times differ from machine to machine,
ratios hold; on a busy machine compare `ms_min`.

With `--keystroke` it also times how one keystroke from elsewhere enters the finished document of S1.

Exit codes: 0 all texts are right, 1 some are not, 2 the engine is not built or a file is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from contest import Contestant, Keystroke
    from libraries import Inputs, Library

YARDSTICK = "pycrdt"
TARGETS = {"S1": 0.10, "C1": 1.3, "A1": 0.45, "A2": 1.6}
"""By trace, how long we may take at most, as a ratio to the yardstick's time."""

KEYSTROKE_TRACE = "S1"
KEYSTROKE_TARGET = 20.0
"""How many microseconds a keystroke from elsewhere may take at most."""
KEYSTROKE_CASES = {
    "typing": "each next to the last one and after all that is held",
    "random": "at random places, after all that is held",
    "concurrent": "at random places, concurrent with the last event that is held",
}
BLOCKS, BLOCK = 10, 30
"""So many blocks of so many keystrokes each; the libraries do a block in turn."""
SEED = 20240914


class Trace(NamedTuple):
    """A trace as it was read. `exact`: the text is known; without agents' names it may be another one."""

    name: str
    text: str
    exact: bool
    events: int
    inputs: list[tuple[Library, Inputs]]


def say(message: str) -> None:
    print(f"peers: {message}", file=sys.stderr, flush=True)


def read_trace(name: str, libraries: list[Library], folder: Path, peers: Path) -> Trace:
    """A trace and what each library has of it."""
    from benchmarks import traces  # noqa: PLC0415  (needs the engine)

    say(f"{name}: reading")
    loaded = traces.load(name, folder)
    runs = loaded.document.history()
    found = [(library, library.inputs(runs, name, peers)) for library in libraries]
    for library, inputs in found:
        if inputs is None:
            say(f"{name}: {peers} has no file for {library.name}, left out")
    return Trace(
        name,
        str(loaded.document),
        loaded.text_matches is True,
        sum(run.length for run in runs),
        [(library, inputs) for library, inputs in found if inputs is not None],
    )


@contextmanager
def contestants(trace: Trace) -> Iterator[list[Contestant]]:
    """The libraries that take part, ours first."""
    from contest import Contestant  # noqa: PLC0415  (needs the engine)

    with ExitStack() as stack:
        yield [stack.enter_context(Contestant(library, inputs)) for library, inputs in trace.inputs]


# --- whole histories ----------------------------------------------------------------------------------------


def compare(trace: Trace, rounds: int) -> bool:
    """Time all libraries on a trace and print a line for each; whether all texts were right."""
    with contestants(trace) as all_of_them:
        ours = all_of_them[0]
        merged = [contestant.first_merge() for contestant in all_of_them]
        say(f"{trace.name}: {rounds} rounds of {', '.join([each.library.name for each in all_of_them])}")
        for _ in range(rounds):
            for contestant in all_of_them:
                contestant.times.append(contestant.merge())
        right = True
        for contestant, (text, peak) in zip(all_of_them, merged, strict=True):
            right &= is_right(trace, contestant.library.name, text, contestant is ours)
            line = {
                **about(trace, contestant),
                "what": contestant.library.what,
                "ms": round(median(contestant.times), 3),
                "ms_min": round(min(contestant.times), 3),
                "bytes": contestant.size,
                "peak_mib": None if peak is None else round(peak / 2**20, 2),
                "ratio": ratio(contestant, all_of_them),
                "events": trace.events,
                "length": len(text),
            }
            if contestant is ours:
                line |= judged(line["ratio"], TARGETS.get(trace.name))
            print(json.dumps(line), flush=True)
    return right


def is_right(trace: Trace, library: str, text: str, ours: bool) -> bool:
    """Whether a library's text is the trace's, as far as the trace can tell. Says so if it is not."""
    if text == trace.text:
        return True
    what = f"{trace.name}: the text of {library} is not the one expected"
    if len(text) != len(trace.text):
        what += f": it has {len(text)} code points instead of {len(trace.text)}"
    if trace.exact or ours:
        say(what)
        return False
    # Each library orders concurrent inserts at one place in its own way. What was recorded at a position
    # after that then hits other text, and so even the length may differ.
    say(f"{what}; nobody can know it, as the trace has lost the names that break ties")
    return True


def about(trace: Trace, contestant: Contestant) -> dict[str, Any]:
    name = contestant.library.name
    return {"trace": trace.name, "library": name, "version": version(name)}


def ratio(contestant: Contestant, all_of_them: list[Contestant]) -> float | None:
    """Our median over the contestant's, for ourselves over the yardstick's; None if there is none."""
    ours = all_of_them[0]
    name = YARDSTICK if contestant is ours else contestant.library.name
    for other in all_of_them:
        if other.library.name == name:
            return round(median(ours.times) / median(other.times), 4)
    return None


def judged(value: float | None, target: float | None) -> dict[str, Any]:
    """The target, and whether it is met; None where there is nothing to compare."""
    return {"target": target, "within": None if value is None or target is None else value <= target}


# --- single keystrokes --------------------------------------------------------------------------------------


def compare_keystrokes(trace: Trace) -> bool:
    """Time keystrokes from elsewhere and print a line a case and library; whether all texts were right."""
    right = True
    for case, meaning in KEYSTROKE_CASES.items():
        say(f"{trace.name}: {BLOCKS * BLOCK} keystrokes, {meaning}")
        with contestants(trace) as all_of_them:
            blocks = keystrokes(case, len(trace.text))
            typed = sum(1 if key.here is None else 2 for block in blocks for key in block)
            for contestant in all_of_them:
                contestant.open_pair()
            sizes = []
            for block in blocks:
                results = [contestant.keystrokes(block) for contestant in all_of_them]
                for contestant, (times, _) in zip(all_of_them, results, strict=True):
                    contestant.times += times
                sizes = [size for _, size in results]
            for contestant, size in zip(all_of_them, sizes, strict=True):
                here, there = contestant.texts()
                if here != there or len(here) != len(trace.text) + typed:
                    say(f"{case}: the two replicas of {contestant.library.name} have not come together")
                    right = False
                line = {
                    **about(trace, contestant),
                    "what": f"remote keystroke, {case}",
                    "us": round(median(contestant.times), 2),
                    "us_min": round(min(contestant.times), 2),
                    "us_first": round(contestant.times[0], 2),
                    "keystrokes": len(contestant.times),
                    "bytes": size,
                    "ratio": ratio(contestant, all_of_them),
                }
                if contestant is all_of_them[0]:
                    line |= judged(line["us"], KEYSTROKE_TARGET)
                print(json.dumps(line), flush=True)
    return right


def keystrokes(case: str, length: int) -> list[list[Keystroke]]:
    """The places of all keystrokes of a case in a document of `length` code points, block by block."""
    from contest import Keystroke  # noqa: PLC0415  (needs the engine)

    random = Random(SEED)
    start = random.randrange(length)
    return [
        [
            Keystroke(
                start + block * BLOCK + i if case == "typing" else random.randrange(length),
                random.randrange(length) if case == "concurrent" else None,
            )
            for i in range(BLOCK)
        ]
        for block in range(BLOCKS)
    ]


# --- the command --------------------------------------------------------------------------------------------


def available() -> list[Library]:
    """The libraries that are installed, ours first."""
    from libraries import LIBRARIES  # noqa: PLC0415  (needs the engine)

    found: list[Library] = []
    for kind in LIBRARIES:
        try:
            found.append(kind())
        except ImportError:
            say(f"{kind.name} is not installed, left out (python3 tools/develop.py bench)")
    return found


def run(options: argparse.Namespace) -> bool:
    """Do what was asked for; whether all texts were right. `OSError` if a trace is not there."""
    from benchmarks import traces  # noqa: PLC0415  (needs the engine)

    from egwalker import DecodeError  # noqa: PLC0415

    jobs: list[tuple[str, Callable[[Trace], bool]]] = [
        (name, lambda trace: compare(trace, options.rounds)) for name in options.names
    ]
    if options.keystroke:
        jobs.append((KEYSTROKE_TRACE, compare_keystrokes))
    for name, _ in jobs:
        # Before minutes of work.
        traces.find(name, options.traces)
    libraries = available()
    peers = options.peers or options.traces.parent / "peers"
    right = True
    for name, job in jobs:
        try:
            right &= job(read_trace(name, libraries, options.traces, peers))
        except DecodeError as error:
            say(f"{name}: {error}")
            right = False
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors:
        say(f"others are at work here (load {load:.1f} on {processors} processors): compare ms_min")
    return right


def main(arguments: list[str] | None = None) -> int:
    shared = Path(os.environ.get("EGWALKER_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser = argparse.ArgumentParser(
        description="Time this engine beside other libraries on recorded histories; one JSON line each."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a trace, as S1, C1, A1, A2, friendsforever")
    parser.add_argument("--traces", type=Path, default=shared / "traces", metavar="DIR", help="(%(default)s)")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="their files (default: TRACES/../peers)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="of each trace (%(default)s)")
    parser.add_argument("--keystroke", action="store_true", help="also time single remote keystrokes")
    options = parser.parse_args(arguments)
    if not options.names and not options.keystroke:
        parser.error("name at least one trace, or give --keystroke")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        import contest  # noqa: F401, PLC0415
    except ImportError as error:
        say(f"egwalker is not importable ({error}): run `make build`, then use .venv/bin/python")
        return 2
    try:
        return 0 if run(options) else 1
    except OSError as error:
        say(str(error))
        return 2


def go_on_in_venv() -> None:
    """Started by a Python that lacks the package, go on with the one that `make build` installed it for."""
    venv = Path(__file__).resolve().parents[1] / ".venv"
    python = venv / "bin" / "python"
    if find_spec("egwalker") is None and python.exists() and Path(sys.prefix) != venv:
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    go_on_in_venv()
    sys.exit(main())
